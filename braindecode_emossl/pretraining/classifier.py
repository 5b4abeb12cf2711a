"""Pre-training and fine-tuning as one scikit-learn classifier."""

from __future__ import annotations

import copy

import mne
import numpy as np
import torch
from braindecode import EEGClassifier
from braindecode.models.util import models_dict
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.validation import check_is_fitted

from braindecode_emossl.pretraining.pretrainer import (
    RaiseInterrupt,
    SSLPretrainer,
    seeded,
)
from braindecode_emossl.pretraining.scmm import SCMMPretraining

__all__ = ["SSLClassifier"]

# Objective of each model, by the model's name in braindecode.
OBJECTIVES = {"SCMM": SCMMPretraining}


class SSLClassifier(ClassifierMixin, BaseEstimator):
    """Pre-train a model on the training windows without labels, then fine-tune it.

    As both happen in :meth:`fit`, an evaluation of MOABB or scikit-learn pre-trains
    anew within each fold, on the training part of the fold alone: no test subject is
    ever seen.

    Parameters
    ----------
    model : {"SCMM"}
        Name of the model.
    sfreq : float or None
        Sampling rate of the windows in Hz. Arrays do not tell it; :class:`mne.Epochs`
        do.
    chs_info : list of dict or None
        Channels as in ``mne.Info["chs"]``, for models that need more than their number.
    model_params : dict or None
        Further arguments of the model, such as ``{"input_domain": "de"}``.
    objective_params : dict or None
        Arguments of the pre-training objective.
    pretrain_epochs : int
        Passes over the windows without labels; 0 gives the same network from random
        weights.
    finetune_epochs : int
        Passes over the windows with labels. All weights are trained.
    batch_size : int
        Windows a step, in both parts.
    pretrain_lr, finetune_lr : float
        Learning rates.
    device : str or torch.device
        Where to train.
    random_state : int, RandomState or None
        Same seed, same result; torch's own generator is left as it was.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels.
    pretrainer_ : SSLPretrainer
        With the objective after pre-training (``module_``) and its history.
    net_ : braindecode.EEGClassifier
        With the fine-tuned model (``module_``) and its history.
    pretraining_subjects_ : ndarray or None
        The subjects seen, None if the caller did not name them.

    Examples
    --------
    >>> classifier = SSLClassifier("SCMM", sfreq=200, random_state=0)
    >>> classifier.fit(X_train, y_train).score(X_test, y_test)
    """

    # MOABB hands on the subjects of the training windows to whoever asks for them.
    __metadata_request__fit = {"subjects": True}  # noqa: RUF012

    def __init__(
        self,
        model="SCMM",
        *,
        sfreq=None,
        chs_info=None,
        model_params=None,
        objective_params=None,
        pretrain_epochs=50,
        finetune_epochs=30,
        batch_size=128,
        pretrain_lr=5e-4,
        finetune_lr=1e-3,
        device="cpu",
        random_state=None,
    ):
        self.model = model
        self.sfreq = sfreq
        self.chs_info = chs_info
        self.model_params = model_params
        self.objective_params = objective_params
        self.pretrain_epochs = pretrain_epochs
        self.finetune_epochs = finetune_epochs
        self.batch_size = batch_size
        self.pretrain_lr = pretrain_lr
        self.finetune_lr = finetune_lr
        self.device = device
        self.random_state = random_state

    def fit(self, X, y, subjects=None):
        """Pre-train on the windows, then fine-tune with their labels.

        Parameters
        ----------
        X : ndarray, shape (n_windows, n_chans, n_times), or mne.Epochs
            Training windows.
        y : array-like, shape (n_windows,)
            Labels.
        subjects : array-like, shape (n_windows,), or None
            Subject of each window, remembered in ``pretraining_subjects_``.

        Returns
        -------
        SSLClassifier
            Itself.

        Raises
        ------
        ValueError
            If the model is unknown, the windows are not finite or have not three
            dimensions, there are fewer than two classes, or an argument does not fit
            the model.
        """
        if self.model not in OBJECTIVES:
            raise ValueError(
                f"model must be one of {sorted(OBJECTIVES)}, but got {self.model!r}."
            )
        windows, signal = self._check_windows(X)
        encoder = LabelEncoder().fit(y)
        if len(y) != len(windows) or len(encoder.classes_) < 2:
            raise ValueError(
                "y must hold one label a window, of at least two classes, but got "
                f"{len(y)} labels of {len(encoder.classes_)} classes for "
                f"{len(windows)} windows."
            )
        self.classes_ = encoder.classes_
        self.pretraining_subjects_ = None if subjects is None else np.unique(subjects)
        with seeded(self.random_state, self.device):
            objective = self._make_objective(windows, signal)
            self.pretrainer_ = SSLPretrainer(
                objective,
                max_epochs=self.pretrain_epochs,
                batch_size=self.batch_size,
                lr=self.pretrain_lr,
                random_state=_draw_seed(),
                device=self.device,
            ).fit(windows)
            self.net_ = _FineTuner(
                # A copy: what the pretrainer holds stays free of labels.
                copy.deepcopy(self.pretrainer_.module_.encoder),
                optimizer=torch.optim.AdamW,
                lr=self.finetune_lr,
                max_epochs=self.finetune_epochs,
                batch_size=self.batch_size,
                train_split=None,
                iterator_train__drop_last=False,
                device=self.device,
                verbose=0,
            ).fit(windows, encoder.transform(y))
        return self

    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : ndarray, shape (n_windows, n_chans, n_times), or mne.Epochs
            Windows.

        Returns
        -------
        ndarray, shape (n_windows, n_classes)
            Rows sum to one; columns are in the order of ``classes_``.
        """
        check_is_fitted(self)
        windows, _ = self._check_windows(X)
        return self.net_.predict_proba(windows)

    def predict(self, X):
        """Return the most probable class.

        Parameters
        ----------
        X : ndarray, shape (n_windows, n_chans, n_times), or mne.Epochs
            Windows.

        Returns
        -------
        ndarray, shape (n_windows,)
            Labels.
        """
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _make_objective(self, windows, signal):
        _, n_chans, n_times = windows.shape
        model = models_dict[self.model](
            n_outputs=len(self.classes_),
            n_chans=n_chans,
            n_times=n_times,
            **signal,
            **(self.model_params or {}),
        )
        return OBJECTIVES[self.model](model, **(self.objective_params or {}))

    def _check_windows(self, X):
        """Return the windows as float32 and what is known of their signal."""
        signal = {"sfreq": self.sfreq, "chs_info": self.chs_info}
        if isinstance(X, mne.BaseEpochs):
            signal = {"sfreq": X.info["sfreq"], "chs_info": X.info["chs"]}
            voltages = {"eeg", "eog", "emg", "ecg"} & set(X.get_channel_types())
            X = X.get_data(units=dict.fromkeys(voltages, "uV"))
        windows = np.asarray(X, np.float32)
        if windows.ndim != 3 or not len(windows) or not np.isfinite(windows).all():
            raise ValueError(
                "X must be finite windows of shape (n_windows, n_chans, n_times), but "
                f"has the shape {windows.shape}"
                + ("." if windows.ndim != 3 else " or values that are not finite.")
            )
        return windows, signal


class _FineTuner(RaiseInterrupt, EEGClassifier):
    """Train with labels."""


def _draw_seed() -> int:
    return int(torch.randint(np.iinfo(np.int32).max, ()))
