"""What every self-supervised objective has in common."""

from __future__ import annotations

from typing import NamedTuple

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
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

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
