"""Random masks over the patches of a window."""

from __future__ import annotations

import torch

from braindecode_emossl.checks import check_fraction

__all__ = ["sample_patch_mask"]


def sample_patch_mask(
    batch_size: int,
    n_patches: int,
    *,
    mask_ratio: float = 0.75,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Mask the same number of patches in every window, chosen at random.

    Every patch draws a number and those with the largest ones are masked, as in masked
    autoencoders [1]_. As the count is fixed, the visible patches of a batch form a
    tensor of their own.

    Parameters
    ----------
    batch_size : int
        Number of windows.
    n_patches : int
        Number of patches in a window.
    mask_ratio : float, default=0.75
        Fraction of masked patches: exactly ``round(mask_ratio * n_patches)`` of each
        window.
    generator : torch.Generator, optional
        Source of the random numbers; torch's global generator by default.
    device : torch.device or str, optional
        Where the mask is wanted; by default where it is drawn.

    Returns
    -------
    torch.Tensor of bool, shape (batch_size, n_patches)
        True where a patch is masked.

    Raises
    ------
    ValueError
        If ``mask_ratio`` is not in [0, 1].

    References
    ----------
    .. [1] He, K., Chen, X., Xie, S., Li, Y., Dollár, P., & Girshick, R. (2022). Masked
       autoencoders are scalable vision learners. In CVPR.
       https://doi.org/10.1109/CVPR52688.2022.01553
    """
    check_fraction("mask_ratio", mask_ratio)
    # A generator draws only on its own device.
    drawn_on = device if generator is None else generator.device
    noise = torch.rand((batch_size, n_patches), generator=generator, device=drawn_on)
    rank = noise.argsort(dim=1).argsort(dim=1)  # (batch, n_patches)
    n_visible = n_patches - round(mask_ratio * n_patches)
    return (rank >= n_visible).to(device=device)
