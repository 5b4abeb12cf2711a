"""Pre-training and fine-tuning as one scikit-learn classifier."""

from __future__ import annotations

import copy
import logging

import mne
import numpy as np
import torch
from braindecode import EEGClassifier
from braindecode.models.util import models_dict
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.validation import check_is_fitted

from braindecode_emossl.pretraining.masked_cluster import MaskedClusterPretraining
from braindecode_emossl.pretraining.memhacl import MEMHACLPretraining
from braindecode_emossl.pretraining.mood_reader import MoodReaderPretraining
from braindecode_emossl.pretraining.pretrainer import (
    RaiseInterrupt,
    SSLPretrainer,
    seeded,
)
from braindecode_emossl.pretraining.scmm import SCMMPretraining

__all__ = ["SSLClassifier"]

log = logging.getLogger(__name__)

# Objective of each model, by the model's name in braindecode.
OBJECTIVES = {
    "MaskedClusterTransformer": MaskedClusterPretraining,
    "MEMHACL": MEMHACLPretraining,
    "MoodReader": MoodReaderPretraining,
    "SCMM": SCMMPretraining,
}


class SSLClassifier(ClassifierMixin, BaseEstimator):
    """Pre-train a model on the training windows without labels, then fine-tune it.

    As both happen in :meth:`fit`, an evaluation of MOABB or scikit-learn pre-trains
    anew within each fold, on the training part of the fold alone: no test subject is
    ever seen.

    Parameters
    ----------
    model : str
        Name of the model: one that this package pre-trains, or any classifier of
        braindecode with ``pretrain_epochs=0``, trained with labels alone.
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

    # MOABB hands these on to whoever asks for them.
    __metadata_request__fit = {  # noqa: RUF012
        "subjects": True,
        "X_target_labeled": True,
        "y_target_labeled": True,
    }

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

    def fit(self, X, y, subjects=None, X_target_labeled=None, y_target_labeled=None):
        """Pre-train on the windows, then fine-tune with their labels.

        Parameters
        ----------
        X : ndarray, shape (n_windows, n_chans, n_times), or mne.Epochs
            Training windows.
        y : array-like, shape (n_windows,)
            Labels.
        subjects : array-like, shape (n_windows,), or None
            Subject of each window, remembered in ``pretraining_subjects_``.
        X_target_labeled : ndarray, shape (n_target, n_chans, n_times), or None
            Windows of the test subject whose labels are known. If there are some, only
            they fine-tune, and ``X`` is for pre-training alone: the protocol of SCMM
            across corpora.
        y_target_labeled : array-like, shape (n_target,), or None
            Their labels, of the classes in ``y``.

        Returns
        -------
        SSLClassifier
            Itself.

        Raises
        ------
        ValueError
            If the model is unknown or cannot be pre-trained, the windows are not finite
            or have not three dimensions, there are fewer than two classes, or an
            argument does not fit the model.
        """
        self._check_model()
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
            model = self._pretrain(self._make_model(windows, signal), windows)
            if X_target_labeled is not None:
                windows, _ = self._check_windows(X_target_labeled)
                y = y_target_labeled
            self.net_ = _FineTuner(
                model,
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

    def _check_model(self) -> None:
        if self.model not in models_dict:
            raise ValueError(
                "model must be the name of a model of braindecode, such as "
                f"{sorted(OBJECTIVES)}, but got {self.model!r}."
            )
        if self.model not in OBJECTIVES and self.pretrain_epochs:
            raise ValueError(
                f"{self.model} has no pre-training objective, as {sorted(OBJECTIVES)} "
                "have: set pretrain_epochs=0 to train it with labels alone."
            )

    def _pretrain(self, model, windows):
        """Return the model after its pre-training, if it has any."""
        if self.model not in OBJECTIVES:
            return model
        self.pretrainer_ = SSLPretrainer(
            OBJECTIVES[self.model](model, **(self.objective_params or {})),
            max_epochs=self.pretrain_epochs,
            batch_size=self.batch_size,
            lr=self.pretrain_lr,
            random_state=_draw_seed(),
            device=self.device,
        ).fit(windows)
        # A copy: what the pretrainer holds stays free of labels.
        return copy.deepcopy(self.pretrainer_.module_.encoder)

    def _make_model(self, windows, signal):
        _, n_chans, n_times = windows.shape
        arguments = {
            "n_outputs": len(self.classes_),
            "n_chans": n_chans,
            "n_times": n_times,
            **signal,
            **(self.model_params or {}),
        }
        try:
            return models_dict[self.model](**arguments)
        except ValueError as error:
            if "chs_info not specified" not in str(error):
                raise
            log.warning(
                "%s wants to know where the electrodes are; they are taken to be "
                "spread evenly. Pass chs_info to say it.",
                self.model,
            )
            return models_dict[self.model](
                **{**arguments, "chs_info": _spread_channels(n_chans)}
            )

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


def _spread_channels(n_chans: int) -> list[dict]:
    """Return channels evenly spread over the upper half of a head, on a spiral."""
    info = mne.create_info([f"EEG{i}" for i in range(n_chans)], 1.0, "eeg")
    height = (np.arange(n_chans) + 0.5) / n_chans
    angle = np.arange(n_chans) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    places = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
    for channel, place in zip(info["chs"], places, strict=True):
        channel["loc"][:3] = 0.095 * place  # m
    return info["chs"]


def _draw_seed() -> int:
    return int(torch.randint(np.iinfo(np.int32).max, ()))
