"""The base class of the self-supervised objectives."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, NamedTuple

import pandas as pd
import torch
from torch import nn

__all__ = ["PretrainingObjective", "PretrainingOutput"]


class PretrainingOutput(NamedTuple):
    """The loss of a batch.

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
    """Base class of the objectives: an encoder, heads and a loss without labels.

    A subclass adds the heads and losses that only pre-training needs, and a ``forward``
    that maps a batch of windows to a :class:`PretrainingOutput`. If ``forward`` has an
    argument ``recordings``, it gets the number of each window's recording (corpus,
    subject and session), by first appearance in the training metadata, and -1 for
    recordings that are not among them. If it has an argument ``windows``, it gets the
    indices of the training windows on the CPU, or nothing where the windows may be
    augmented when they are read. After pre-training, ``encoder`` is the model to keep.

    Parameters
    ----------
    encoder : torch.nn.Module
        The model to pre-train.

    Attributes
    ----------
    model_class : type or None
        Class attribute: the class of models that the objective is made for.
    default_sampler : type or None
        Class attribute: the sampler that the objective is meant for, which
        ``SSLPretrainer(sampler="auto")`` uses; None if windows are shuffled.
    default_batch_size : int or None
        Class attribute: number of examples of the default sampler per batch.
    encoder : torch.nn.Module
        The model being pre-trained.
    settings : dict of str to object
        The other arguments that the objective was built with, defaults too.
    sampler_settings : dict of str to object
        Arguments of the default sampler that depend on the objective.
    provenance : dict or None
        The training data of the checkpoint that the encoder came from; None for random
        weights.
    """

    model_class: ClassVar[type[nn.Module] | None] = None
    default_sampler: ClassVar[type | None] = None
    default_batch_size: ClassVar[int | None] = None

    def __new__(cls, *args, **kwargs):
        """Keep the arguments, whatever a subclass does in its constructor."""
        self = super().__new__(cls)
        kwargs.pop("encoder", None)
        # The encoder is an attribute already.
        args = tuple(None if isinstance(arg, nn.Module) else arg for arg in args)
        self._arguments = args, kwargs
        return self

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor except the encoder."""
        args, kwargs = self._arguments
        # A user's objective may build its encoder itself.
        signature = inspect.signature(type(self).__init__)
        bound = signature.bind_partial(self, *args, **kwargs)
        bound.apply_defaults()
        _, *given = bound.arguments.items()
        return {name: value for name, value in given if name != "encoder"}

    @property
    def sampler_settings(self) -> dict[str, Any]:
        """The arguments of the default sampler that depend on the objective."""
        return {}

    @property
    def provenance(self) -> dict[str, Any] | None:
        """The training data of the checkpoint that the encoder came from."""
        return getattr(self.encoder, "provenance", None)

    def prepare(self, X, metadata: pd.DataFrame | None = None) -> None:
        """Adapt to the training windows. Override this if more is fitted.

        Called once with the training windows, before the first step. By default it
        calls ``fit_normalization`` of the encoder, if there is one, so that the input
        has the scale that it has without pre-training. An override may leave out
        ``metadata``.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows.
        metadata : DataFrame, n_windows rows, or None
            One row per window, if the pre-trainer was given metadata.
        """
        if hasattr(self.encoder, "fit_normalization"):
            self.encoder.fit_normalization(X)

    def on_epoch_begin(
        self, epoch: int, X, metadata: pd.DataFrame | None = None
    ) -> None:
        """Follow the training. Override this if something changes between epochs.

        Called before each epoch, after :meth:`prepare`. Does nothing by default. An
        override may leave out ``metadata``.

        Parameters
        ----------
        epoch : int
            Number of epochs done.
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows.
        metadata : DataFrame, n_windows rows, or None
            One row per window, if the pre-trainer was given metadata.
        """

    def on_resume(self, X, metadata: pd.DataFrame | None = None) -> None:
        """Restore what is not in the state. Override this if needed.

        Called in place of :meth:`prepare` before an interrupted training is resumed,
        and before ``partial_fit`` continues a training, maybe on other windows. Does
        nothing by default. An override may leave out ``metadata``.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows.
        metadata : DataFrame, n_windows rows, or None
            One row per window, if the pre-trainer was given metadata.
        """
