"""Pre-training and fine-tuning as one scikit-learn classifier."""

from __future__ import annotations

import copy
import logging

import mne
import numpy as np
import pandas as pd
import torch
from braindecode.models.util import models_dict
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupShuffleSplit
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from skorch.dataset import Dataset
from skorch.helper import predefined_split

from braindecode_emossl.pretraining.checkpoints import load_encoder
from braindecode_emossl.pretraining.finetuning import FineTuner, check_strategy
from braindecode_emossl.pretraining.pretrainer import SSLPretrainer, seeded
from braindecode_emossl.pretraining.provenance import check_leakage
from braindecode_emossl.pretraining.registry import OBJECTIVES
from braindecode_emossl.pretraining.store import PretrainingStore
from braindecode_emossl.pretraining.windows import read_epochs

__all__ = ["SSLClassifier"]

log = logging.getLogger(__name__)

# What scikit-learn's validation is told of windows.
_WINDOWS = {"dtype": np.float32, "allow_nd": True}


class SSLClassifier(ClassifierMixin, BaseEstimator):
    """Pre-train a model on the training windows without labels, then fine-tune it.

    As both happen in :meth:`fit`, an evaluation of MOABB or scikit-learn pre-trains
    anew within each fold, on the training part of the fold alone: no test subject is
    ever seen. With ``store``, what is equal in several folds or pipelines is
    pre-trained once. With ``checkpoint``, the model comes from elsewhere, and is
    refused if it has seen a subject that does not train.

    Parameters
    ----------
    model : str
        Name of the model: one that this package pre-trains, or any classifier of
        braindecode with ``pretrain_epochs=0``, trained with labels alone.
    checkpoint : path or None
        Folder that :func:`~braindecode_emossl.pretraining.save_checkpoint` wrote. The
        model takes the weights in it, all but those of the head. It must be of the same
        ``model``, channels and window length.
    corpus : str, list of str, dict or None
        Code of the corpus, such as "SEED", or of all corpora, that train and test, or
        their subjects by code, where others take no part, as in {"SEED": [1, 2]}: to
        tell whether ``checkpoint`` has seen a subject that does not train.
    sfreq : float or None
        Sampling rate of the windows in Hz. Arrays do not tell it; :class:`mne.Epochs`
        do.
    chs_info : list of dict or None
        Channels as in ``mne.Info["chs"]``, for models that need more than their number.
    model_params : dict or None
        Further arguments of the model, such as ``{"input_domain": "de"}``.
    objective_params : dict or None
        Arguments of the pre-training objective.
    pretrainer_params : dict or None
        Further arguments of :class:`~braindecode_emossl.pretraining.SSLPretrainer`.
    pretrain_epochs : int or None
        Passes over the windows without labels; 0 gives the same network from random
        weights. None: 50, or none at all after a ``checkpoint``. A checkpoint's model
        is pre-trained further if a number is given.
    unlabelled : array, shape (n, n_chans, n_times), mne.Epochs, list of these, or None
        Windows for pre-training beside those that ``fit`` is given, such as other
        corpora. They must be in the form in which this classifier sees windows, after
        all other steps of a pipeline. **No window of a subject that is tested may be
        among them**, in any fold: this cannot be checked.
    store : path or None
        Folder that keeps what is pre-trained, by a hash of all that it depends on:
        pipelines that differ in fine-tuning alone, and folds of the same training
        windows, share their pre-training. The result is the same as without, if
        ``random_state`` is an integer; otherwise nothing is shared.
    finetune : {"full", "linear-probe", "layer-decay", "gradual"}
        What learns from labels: all weights; the head alone; all, but each layer at
        ``layer_decay`` times the learning rate of the one after it; or the head first
        and one more layer each epoch. ``final_layer`` is the head; for some models, as
        SCMM, it is not linear.
    finetune_epochs : int
        Passes over the windows with labels; the most of them, with ``validation``.
    layer_decay : float
        For ``finetune="layer-decay"``.
    class_weight : dict, "balanced" or None
        Weights of the classes in the loss, as in scikit-learn.
    validation : float or None
        Share of the training *subjects* to hold out from a first fine-tuning; the
        number of epochs with the least loss on them, up to ``finetune_epochs``, is the
        number for the final fine-tuning, on all training subjects, and after the same
        pre-training on all of them. Test data have no part in it. ``fit`` needs
        ``subjects``. None: always ``finetune_epochs``.
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
    n_features_in_ : int
        Number of channels.
    pretrainer_ : SSLPretrainer or None
        With the objective after pre-training (``module_``) and its history; None if
        there was no pre-training.
    net_ : FineTuner
        A :class:`braindecode.EEGClassifier` with the fine-tuned model (``module_``) and
        its history.
    n_epochs_ : int
        Passes of the final fine-tuning.
    validation_subjects_ : ndarray or None
        The subjects that were held out to pick it, None without ``validation``.
    validation_history_ : skorch.history.History or None
        History of the first fine-tuning, with the loss on them.
    pretraining_subjects_ : ndarray or None
        The subjects seen, None if the caller did not name them.

    Notes
    -----
    Windows have three dimensions, so scikit-learn's ``check_estimator`` runs next to
    nothing on it. Given the tables of these checks as windows of one sample, it passes
    them all but one: windows without channels are refused in other words.

    Folds may run in parallel processes, not in threads, which share torch's generator.

    Examples
    --------
    >>> classifier = SSLClassifier("SCMM", sfreq=200, random_state=0)
    >>> classifier.fit(X_train, y_train).score(X_test, y_test)

    Two ways to fine-tune, pre-trained once for each fold:

    >>> pipelines = {
    ...     finetune: SSLClassifier(
    ...         "SCMM", finetune=finetune, store="pretrained", random_state=0
    ...     )
    ...     for finetune in ("full", "linear-probe")
    ... }
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
        checkpoint=None,
        corpus=None,
        sfreq=None,
        chs_info=None,
        model_params=None,
        objective_params=None,
        pretrainer_params=None,
        pretrain_epochs=None,
        unlabelled=None,
        store=None,
        finetune="full",
        finetune_epochs=30,
        layer_decay=0.75,
        class_weight=None,
        validation=None,
        batch_size=128,
        pretrain_lr=5e-4,
        finetune_lr=1e-3,
        device="cpu",
        random_state=None,
    ):
        self.model = model
        self.checkpoint = checkpoint
        self.corpus = corpus
        self.sfreq = sfreq
        self.chs_info = chs_info
        self.model_params = model_params
        self.objective_params = objective_params
        self.pretrainer_params = pretrainer_params
        self.pretrain_epochs = pretrain_epochs
        self.unlabelled = unlabelled
        self.store = store
        self.finetune = finetune
        self.finetune_epochs = finetune_epochs
        self.layer_decay = layer_decay
        self.class_weight = class_weight
        self.validation = validation
        self.batch_size = batch_size
        self.pretrain_lr = pretrain_lr
        self.finetune_lr = finetune_lr
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self):
        """Say what this classifier takes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.non_deterministic = self.random_state is None
        return tags

    def fit(self, X, y, subjects=None, X_target_labeled=None, y_target_labeled=None):
        """Pre-train on the windows, then fine-tune with their labels.

        Parameters
        ----------
        X : ndarray, shape (n_windows, n_chans, n_times), or mne.Epochs
            Training windows.
        y : array-like, shape (n_windows,)
            Labels.
        subjects : array-like, shape (n_windows,), or None
            Subject of each window, as the corpus counts them; where several corpora
            train, with the corpus in front, as in "SEED subject 1".
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
        LeakageError
            If the checkpoint has seen a subject of ``corpus`` that is not among
            ``subjects``.
        CheckpointError
            If the checkpoint is of another model.
        ValueError
            If the model is unknown or cannot be pre-trained, the windows are not finite
            or have not three dimensions, there are fewer than two classes, or an
            argument does not fit the model or the data.
        FloatingPointError
            If the training diverges.
        """
        self._check_settings()
        X, signal = read_epochs(X)
        windows, y = validate_data(self, X, y, **_WINDOWS)
        _check_windows(windows, "X")
        self._fit_labels(y)
        if subjects is not None:
            check_consistent_length(windows, subjects)
            subjects = np.asarray(subjects)
        self.pretraining_subjects_ = None if subjects is None else np.unique(subjects)
        labelled, of_labelled = windows, subjects
        if X_target_labeled is not None:
            labelled = self._read_more(X_target_labeled, windows, "X_target_labeled")
            check_consistent_length(labelled, y_target_labeled)
            y, of_labelled = np.asarray(y_target_labeled), None
        codes = LabelEncoder().fit(self.classes_).transform(y)
        weights = self._weigh_classes(y)
        self._check_validation(of_labelled)
        with seeded(self.random_state, self.device):
            model = self._make_model(windows, signal)
            if self.checkpoint is not None:
                load_encoder(self.checkpoint, model)
                check_leakage(model.provenance, self.corpus, subjects)
            model = self._pretrain(model, windows, subjects)
            self._fine_tune(model, labelled, codes, of_labelled, weights)
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
        check_is_fitted(self, "net_")
        windows = validate_data(self, read_epochs(X)[0], reset=False, **_WINDOWS)
        model = self.net_.module_
        _check_windows(windows, "X", (model.n_chans, model.n_times))
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
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]

    def _check_settings(self) -> None:
        check_strategy(self.finetune, self.layer_decay)
        if self.model not in models_dict:
            raise ValueError(
                "model must be the name of a model of braindecode, such as "
                f"{sorted(OBJECTIVES)}, but got {self.model!r}."
            )
        if self.model not in OBJECTIVES and self.pretrain_epochs != 0:
            raise ValueError(
                f"{self.model} has no pre-training objective, as {sorted(OBJECTIVES)} "
                "have: set pretrain_epochs=0 to train it with labels alone."
            )
        if self.store is not None and self.random_state is None:
            raise ValueError(
                "random_state must be set with store, as what starts from an unknown "
                "seed is never pre-trained again, but got None."
            )

    def _fit_labels(self, y) -> None:
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(
                "y must hold labels of at least two classes, but got 1 class: "
                f"{self.classes_[0]!r} for all {len(y)} windows."
            )

    def _pretrain(self, model, windows, subjects):
        """Return the model after its pre-training, if it has any."""
        self.pretrainer_ = None
        loaded = self.checkpoint is not None
        n_epochs = self.pretrain_epochs
        if n_epochs is None:
            n_epochs = 0 if loaded else 50
        # Preparing an objective would set anew what the checkpoint brings.
        if self.model not in OBJECTIVES or (loaded and not n_epochs):
            return model
        settings = {
            "max_epochs": n_epochs,
            "batch_size": self.batch_size,
            "lr": self.pretrain_lr,
            "random_state": _draw_seed(),
            "device": self.device,
            **(self.pretrainer_params or {}),
        }
        objective = OBJECTIVES[self.model](model, **(self.objective_params or {}))
        pretrainer = SSLPretrainer(objective, **settings)
        windows, metadata = self._add_unlabelled(windows, subjects)
        if self.store is None:
            pretrainer.fit(windows, metadata=metadata)
        else:
            PretrainingStore(self.store).fit(pretrainer, windows, metadata)
        self.pretrainer_ = pretrainer
        # A copy: what the pretrainer holds stays free of labels.
        return copy.deepcopy(pretrainer.objective_.encoder)

    def _add_unlabelled(self, windows, subjects):
        """Return what to pre-train on, and whose it is if that is known."""
        extra = [] if self.unlabelled is None else self.unlabelled
        if not isinstance(extra, list | tuple):
            extra = [extra]
        extra = [self._read_more(X, windows, "unlabelled") for X in extra]
        if extra:
            windows = np.concatenate([windows, *extra])
        if subjects is None:
            return windows, None
        names = [np.full(len(X), f"unlabelled {i}") for i, X in enumerate(extra)]
        return windows, pd.DataFrame({"subject": np.concatenate([subjects, *names])})

    def _fine_tune(self, model, windows, y, subjects, weights) -> None:
        """Train with labels, for the number of epochs that is picked first."""
        settings = {
            "finetune": self.finetune,
            "layer_decay": self.layer_decay,
            "lr": self.finetune_lr,
            "batch_size": self.batch_size,
            "criterion__weight": weights,
            "device": self.device,
        }
        self.n_epochs_ = self.finetune_epochs
        self.validation_subjects_ = self.validation_history_ = None
        if self.validation is not None and self.finetune_epochs:
            # With generators of its own: the rest is as if the number had been given.
            with seeded(self.random_state, self.device):
                train, valid = self._hold_out(subjects)
                net = FineTuner(
                    copy.deepcopy(model),
                    max_epochs=self.finetune_epochs,
                    train_split=predefined_split(Dataset(windows[valid], y[valid])),
                    **settings,
                ).fit(windows[train], y[train])
            self.validation_subjects_ = np.unique(subjects[valid])
            self.validation_history_ = net.history
            self.n_epochs_ = 1 + int(np.nanargmin(net.history[:, "valid_loss"]))
        net = FineTuner(model, max_epochs=self.n_epochs_, **settings).fit(windows, y)
        if not all(weight.isfinite().all() for weight in model.parameters()):
            raise FloatingPointError(
                "The fine-tuning has diverged, as weights of the model are not finite. "
                f"Lower finetune_lr, which is {self.finetune_lr}."
            )
        self.net_ = net

    def _check_validation(self, subjects) -> None:
        if self.validation is None:
            return
        n_subjects = 0 if subjects is None else len(np.unique(subjects))
        if not 0 < self._n_held_out(n_subjects) < n_subjects:
            raise ValueError(
                "validation must be a share of the training subjects that leaves some "
                "to train and some to hold out, so fit needs the subjects of the "
                f"windows with labels, at least two; but got {self.validation} of "
                f"{n_subjects or 'no'} subjects. Set validation=None where there is "
                "but one, as in calibration, or none is named."
            )

    def _n_held_out(self, n_subjects: int) -> int:
        return int(np.ceil(self.validation * n_subjects))

    def _hold_out(self, subjects):
        """Return the rows of the subjects that train, and of those held out."""
        n_held_out = self._n_held_out(len(np.unique(subjects)))
        split = GroupShuffleSplit(1, test_size=n_held_out, random_state=_draw_seed())
        return next(split.split(subjects, groups=subjects))

    def _weigh_classes(self, y) -> torch.Tensor | None:
        """Return the weight of each class in the loss."""
        if self.class_weight is None:
            return None
        weights = np.ones(len(self.classes_), np.float32)
        present = np.isin(self.classes_, y)  # a calibration may lack some
        weights[present] = compute_class_weight(
            self.class_weight, classes=self.classes_[present], y=y
        )
        return torch.from_numpy(weights)

    def _make_model(self, windows, signal):
        _, n_chans, n_times = windows.shape
        arguments = {
            "n_outputs": len(self.classes_),
            "n_chans": n_chans,
            "n_times": n_times,
            "sfreq": self.sfreq,
            "chs_info": self.chs_info,
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

    def _read_more(self, X, windows, name: str):
        """Return further windows, of the shape of those that train."""
        more = check_array(
            read_epochs(X)[0], input_name=name, estimator=self, **_WINDOWS
        )
        _check_windows(more, name, windows.shape[1:])
        return more


def _check_windows(windows, name: str, shape=None) -> None:
    if windows.ndim != 3 or not windows.size:
        raise ValueError(
            f"{name} must be windows of shape (n_windows, n_chans, n_times), but got "
            f"the shape {windows.shape}."
        )
    if shape is not None and windows.shape[1:] != tuple(shape):
        raise ValueError(
            f"{name} must be windows of {shape[0]} channels and {shape[1]} samples, as "
            f"those that train, but got the shape {windows.shape}."
        )


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
