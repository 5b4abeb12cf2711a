"""What every self-supervised objective has in common."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from torch import nn

__all__ = ["PretrainingObjective", "PretrainingOutput"]


class PretrainingOutput(NamedTuple):
    """What an objective returns for a batch.

    Attributes
    ----------
    loss : torch.Tensor, shape ()
        The loss to minimise.
    terms : dict of str to torch.Tensor, shape ()
        The parts of the loss, unweighted and detached.
    """

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]


class PretrainingObjective(nn.Module):
    """Base class of the objectives: an encoder, and what trains it without labels.

    A subclass adds the heads and losses that only pre-training needs, and a ``forward``
    that maps a batch of windows to a :class:`PretrainingOutput`. After pre-training,
    ``encoder`` is the model to keep.

    Parameters
    ----------
    encoder : torch.nn.Module
        The model to pre-train.

    Attributes
    ----------
    encoder : torch.nn.Module
        The model being pre-trained.
    settings : dict of str to object
        The other arguments that the objective was built with, defaults too.
    provenance : dict or None
        What the encoder was trained on in the checkpoint that it came from; None for
        random weights.
    """

    def __new__(cls, *args, **kwargs):
        """Remember the arguments, which no subclass can forget to do."""
        self = super().__new__(cls)
        kwargs.pop("encoder", None)
        # The encoder is not kept twice.
        args = tuple(None if isinstance(arg, nn.Module) else arg for arg in args)
        self._arguments = args, kwargs
        return self

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor, but for the encoder."""
        args, kwargs = self._arguments
        # An objective of the user's may make its encoder itself.
        signature = inspect.signature(type(self).__init__)
        bound = signature.bind_partial(self, *args, **kwargs)
        bound.apply_defaults()
        _, *given = bound.arguments.items()
        return {name: value for name, value in given if name != "encoder"}

    @property
    def provenance(self) -> dict[str, Any] | None:
        """What the encoder was trained on before."""
        return getattr(self.encoder, "provenance", None)

    def prepare(self, X) -> None:
        """Get ready for the training windows. Override this if something is fitted.

        Called once with the training windows, before the first step; fits whatever must
        be fitted on training data alone; does nothing by default.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows.
        """

    def on_epoch_begin(self, epoch: int, X) -> None:
        """Follow the training. Override this if something changes between epochs.

        Called before each epoch, after :meth:`prepare`; does nothing by default.

        Parameters
        ----------
        epoch : int
            Number of epochs done.
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows.
        """
