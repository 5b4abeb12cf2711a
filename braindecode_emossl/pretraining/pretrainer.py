"""Pre-training of any objective, as a skorch net."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state
from skorch import NeuralNet
from torch import nn
from torch.utils.data import Subset

from braindecode_emossl.pretraining.callbacks import RecordTerms

__all__ = ["RaiseInterrupt", "SSLPretrainer", "seeded"]


class RaiseInterrupt:
    """Mixin of a skorch net: let Ctrl-C end the program, not only the training.

    skorch goes on with what is trained so far, so that an evaluation would score a
    model that was hardly trained, without a word.
    """

    def fit_loop(self, *args, **kwargs):
        """Train, and remember an interrupt."""
        try:
            return super().fit_loop(*args, **kwargs)
        except KeyboardInterrupt:
            self.interrupted_ = True
            raise

    def partial_fit(self, *args, **kwargs):
        """Train, and raise the interrupt that skorch has swallowed."""
        self.interrupted_ = False
        super().partial_fit(*args, **kwargs)
        if self.interrupted_:
            raise KeyboardInterrupt
        return self


class SSLPretrainer(RaiseInterrupt, NeuralNet):
    """Train a self-supervised objective on windows without labels.

    A :class:`skorch.NeuralNet` whose module is the objective: everything that skorch
    offers (callbacks, history, ``set_params``, learning-rate schedules) works here. The
    terms of the loss are in the history beside the loss itself.

    The objective is copied, so that the one given stays as it was and each call of
    :meth:`fit` starts from it; ``fit`` first lets it adapt to the training windows
    (:meth:`~braindecode_emossl.pretraining.PretrainingObjective.prepare`).

    Parameters
    ----------
    objective : PretrainingObjective
        Encoder, heads and loss.
    max_epochs : int
        Passes over the windows; 0 only prepares the objective.
    batch_size : int
        Windows a step. A last batch that is not full is left out, as its windows would
        have fewer negatives than the others, unless it is the only one.
    lr : float
        Learning rate.
    optimizer : type of torch.optim.Optimizer
        Its other arguments as ``optimizer__<name>``.
    random_state : int, RandomState or None
        Seeds shuffling, masks and dropout; torch's own generator is left as it was.
    device : str or torch.device
        Where to train.
    verbose : int
        1 prints a line an epoch.
    **kwargs
        Further arguments of :class:`skorch.NeuralNet`.

    Attributes
    ----------
    module_ : PretrainingObjective
        The trained objective; its ``encoder`` is the pre-trained model.
    history_ : skorch.history.History
        Loss and terms by epoch and batch.

    Examples
    --------
    >>> model = SCMM(n_outputs=3, n_chans=62, n_times=800, sfreq=200)
    >>> pretrainer = SSLPretrainer(SCMMPretraining(model), max_epochs=5).fit(X)
    >>> encoder = pretrainer.module_.encoder
    """

    def __init__(
        self,
        objective,
        *,
        max_epochs=100,
        batch_size=256,
        lr=5e-4,
        optimizer=torch.optim.AdamW,
        random_state=None,
        device="cpu",
        verbose=0,
        **kwargs,
    ):
        # skorch takes no torch module as an attribute once it is set up.
        self.objective = objective
        settings = {"criterion": nn.Identity, "train_split": None, **kwargs}
        super().__init__(
            module=objective,
            max_epochs=max_epochs,
            batch_size=batch_size,
            lr=lr,
            optimizer=optimizer,
            device=device,
            verbose=verbose,
            **settings,
        )
        # It takes each attribute for a constructor argument of the same name.
        del self.module
        self.random_state = random_state

    @property
    def _default_callbacks(self):
        # Before the log, which prints what is recorded by then.
        *others, log = super()._default_callbacks
        return [*others, ("terms", RecordTerms()), log]

    def initialize_module(self):
        """Copy the objective, which is thus left as it was."""
        self.module_ = copy.deepcopy(self.objective)
        return self

    def fit(self, X, y=None, **fit_params):
        """Pre-train from the objective as it was given.

        Parameters
        ----------
        X : ndarray or Tensor, shape (n_windows, n_chans, n_times)
            Windows; nothing else of the corpus is seen.
        y : None
            Ignored: part of scikit-learn's interface.
        **fit_params
            Handed on to skorch.

        Returns
        -------
        SSLPretrainer
            Itself.
        """
        X = torch.as_tensor(np.asarray(X, np.float32))
        with seeded(self.random_state, self.device):
            return super().fit(X, None, **fit_params)

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Let the objective adapt to the training windows."""
        self.module_.prepare(X)
        super().on_train_begin(net, X=X, y=y, **kwargs)

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Tell the objective that an epoch begins."""
        super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)
        self.module_.on_epoch_begin(len(self.history) - 1, _windows_of(dataset_train))

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        """Return the loss that the objective has computed already."""
        return y_pred.loss

    def get_iterator(self, dataset, training=False):
        """Return the batches of a dataset, shuffled for training."""
        if not training:
            return super().get_iterator(dataset)
        defaults = {
            "batch_size": self.batch_size,
            "shuffle": True,
            "drop_last": len(dataset) >= self.batch_size,
        }
        return self.iterator_train(
            dataset, **{**defaults, **self.get_params_for("iterator_train")}
        )


def _windows_of(dataset):
    """Return the windows of skorch's dataset, or of the part of it that trains."""
    if isinstance(dataset, Subset):
        return dataset.dataset.X[dataset.indices]
    return dataset.X


@contextmanager
def seeded(random_state, device) -> Iterator[None]:
    """Seed torch for a block, and give its generators back as they were.

    Parameters
    ----------
    random_state : int, RandomState or None
        As in scikit-learn.
    device : str or torch.device
        Device whose generator is seeded beside the CPU's.
    """
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    device = torch.device(device)
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices=devices, device_type=device.type):
        torch.manual_seed(seed)
        yield
