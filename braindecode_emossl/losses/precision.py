"""The precision in which losses are computed."""

from __future__ import annotations

import torch

__all__ = ["at_least_single_precision"]


def at_least_single_precision(x: torch.Tensor) -> torch.Tensor:
    """Return a tensor in single precision or, if it has it, in double precision.

    Parameters
    ----------
    x : torch.Tensor
        Of any shape, in half precision under autocast.

    Returns
    -------
    torch.Tensor
        Of the same shape.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))
