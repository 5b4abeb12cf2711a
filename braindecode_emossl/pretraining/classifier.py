"""Pre-training and fine-tuning as one scikit-learn classifier."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from torch import nn

from braindecode_emossl.checks import check_count, is_number
from braindecode_emossl.pretraining.device_training import find_device
from braindecode_emossl.pretraining.early_stopping import (
    check_finetuner,
    finetune_model,
    pick_length,
)
from braindecode_emossl.pretraining.finetuning import check_strategy
from braindecode_emossl.pretraining.memory import PretrainingMemory
from braindecode_emossl.pretraining.model_factory import (
    build_model,
    check_heads,
    find_model_class,
    find_objective,
)
from braindecode_emossl.pretraining.pretrained import load_pretrained
from braindecode_emossl.pretraining.pretrainer import SSLPretrainer, seeded
from braindecode_emossl.pretraining.provenance import add_provenance, check_leakage
from braindecode_emossl.pretraining.signal_identity import (
    Signal,
    align_windows,
    read_model_signal,
)
from braindecode_emossl.pretraining.training_data import (
    LabeledSet,
    WindowSet,
    check_missing,
    check_weights,
    check_windows,
    concatenate,
    drop_unsampled,
    encode_labels,
    find_labeled,
    find_order,
    hold_out_subjects,
    join_metadata,
    list_subjects,
)
from braindecode_emossl.pretraining.windows import (
    find_metadata,
    find_provenance,
    join_epochs,
    read_epochs,
)

__all__ = ["SSLClassifier"]

# The parts whose arguments are written part__argument.
_PARTS = ("model", "objective", "pretrainer", "finetuner")
_DEFAULT_MODEL = "SCMM"


class SSLClassifier(ClassifierMixin, BaseEstimator):
    """Pre-train a model on the training windows without labels, then fine-tune it.

    Both happen in :meth:`fit`, so an evaluation pre-trains within each fold, on the
    windows that the fold offers for training: those of test subjects only if the
    protocol, or ``adapt`` of ``evaluate``, offers them. With ``memory``,
    identical pre-training runs are computed once and reused. With ``pretrained``, the
    weights come from a checkpoint, which is refused if it has seen a subject that may
    be tested.

    Parameters
    ----------
    model : str, type, torch.nn.Module or None
        Name or class of a model of this package or of braindecode, or a model that
        serves as a template and is copied. A model that :class:`SSLPretrainer` has
        trained is checked for leakage as ``pretrained`` is. None: the model of
        ``pretrained``, else "SCMM".
    objective : {"auto"}, str, type, torch.nn.Module or None
        The pre-training objective: that of the model; the name of one of this package;
        a class that is called with the model; or an objective whose ``encoder`` is
        replaced by the model, in a copy. None: no pre-training.
    pretrained : path, str or None
        Folder that :func:`~braindecode_emossl.pretraining.save_checkpoint` wrote, from
        whose configuration the model is built; or a folder or Hugging Face Hub
        repository that ``from_pretrained`` of ``model`` reads.
    sfreq : float or None
        Sampling rate of the windows in Hz. It is needed for arrays;
        :class:`mne.Epochs` have their own.
    chs_info : list of dict or None
        Channels of the windows, as in ``mne.Info["chs"]``. Epochs have their own.
    pretrain_steps : int or None
        Number of updates of pre-training. 0: the same network from random weights.
        None: 2000, or 0 with ``pretrained`` or a trained model.
    pretrain_epochs : int or None
        Passes over the windows, instead of ``pretrain_steps``.
    finetune : {"full", "linear-probe", "layer-decay", "gradual"}
        Which weights are fine-tuned: all; the head alone; all, but each layer at
        ``layer_decay`` times the learning rate of the next one; or the head first and
        one more layer in each epoch or round of steps. ``final_layer`` is the head; it
        is not linear in some models, such as SCMM.
    finetune_steps : int
        Number of updates of fine-tuning; the largest number with a validation.
    finetune_epochs : int or None
        Passes over the labelled windows, instead of ``finetune_steps``.
    layer_decay : float
        Used by ``finetune="layer-decay"``.
    class_weight : dict, "balanced" or None
        Weights of the classes in the loss, as in scikit-learn.
    validation : float or None
        Share of the training subjects that a first fine-tuning holds out. The number of
        steps with the lowest loss on them is that of the final fine-tuning on all
        training subjects. None: always ``finetune_steps``. Ignored if ``fit`` is given
        ``X_val``.
    memory : path or None
        Folder in which pre-trained weights are kept under a hash of everything that
        they depend on, so that pipelines and folds share identical pre-training runs.
        It needs an integer ``random_state``.
    batch_size : int
        Windows per step. An objective with a sampler of its own, such as
        ``MEMHACLPretraining``, has its own size in pre-training.
    pretrain_lr, finetune_lr : float
        Learning rates.
    device : str or torch.device
        Device to train on. "auto": a CUDA GPU if there is one, else the CPU.
    random_state : int, RandomState or None
        Seed of everything that is random. The global generator of torch is restored.
    **kwargs
        Arguments of the parts: ``model__<name>``, ``objective__<name>``,
        ``pretrainer__<name>`` (see :class:`SSLPretrainer`) and ``finetuner__<name>``
        (see :class:`~braindecode_emossl.pretraining.finetuning.FineTuner`).

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels.
    n_features_in_ : int
        Number of channels.
    signal_ : Signal
        Rate and channels of the training windows, where known.
    pretrainer_ : SSLPretrainer or None
        The fitted pre-trainer, with the objective (``module_``) and its history. None
        without pre-training.
    net_ : FineTuner
        A :class:`braindecode.EEGClassifier` with the fine-tuned model (``module_``) and
        its history.
    n_steps_ : int
        Number of updates that the final weights of fine-tuning have had.
    validation_subjects_ : DataFrame or None
        The subjects that ``validation`` held out, by corpus if it is known.
    validation_history_ : skorch.history.History or None
        History of the fine-tuning that picked the number of steps.
    pretraining_subjects_ : DataFrame or None
        The subjects that pre-training has seen, by corpus if it is known.

    Notes
    -----
    Windows have three dimensions, so scikit-learn's ``check_estimator`` skips most of
    its checks. Folds may run in parallel processes. Threads share the random generators
    of torch, so that one of them trains at a time.

    Examples
    --------
    >>> classifier = SSLClassifier("SCMM", sfreq=200, random_state=0)
    >>> classifier.fit(X_train, y_train).score(X_test, y_test)

    Arguments of the parts, which a search reaches too:

    >>> classifier = SSLClassifier(
    ...     "SCMM", model__input_domain="de", memory="cache", random_state=0
    ... )
    >>> GridSearchCV(classifier, {"model__drop_prob": [0.0, 0.3]})
    """

    # MOABB and evaluate pass these on to whoever requests them.
    __metadata_request__fit = {  # noqa: RUF012
        "metadata": True,
        "subjects": True,
        "X_unlabeled": True,
        "metadata_unlabeled": True,
        "X_target_labeled": True,
        "y_target_labeled": True,
        "X_target_unlabeled": True,
        "X_val": True,
        "y_val": True,
        "held_out": True,
    }

    def __init__(
        self,
        model=None,
        *,
        objective="auto",
        pretrained=None,
        sfreq=None,
        chs_info=None,
        pretrain_steps=None,
        pretrain_epochs=None,
        finetune="full",
        finetune_steps=500,
        finetune_epochs=None,
        layer_decay=0.75,
        class_weight=None,
        validation=None,
        memory=None,
        batch_size=64,
        pretrain_lr=5e-4,
        finetune_lr=2e-4,
        device="auto",
        random_state=None,
        **kwargs,
    ):
        self.model = model
        self.objective = objective
        self.pretrained = pretrained
        self.sfreq = sfreq
        self.chs_info = chs_info
        self.pretrain_steps = pretrain_steps
        self.pretrain_epochs = pretrain_epochs
        self.finetune = finetune
        self.finetune_steps = finetune_steps
        self.finetune_epochs = finetune_epochs
        self.layer_decay = layer_decay
        self.class_weight = class_weight
        self.validation = validation
        self.memory = memory
        self.batch_size = batch_size
        self.pretrain_lr = pretrain_lr
        self.finetune_lr = finetune_lr
        self.device = device
        self.random_state = random_state
        for name in kwargs:
            if not _is_of_part(name):
                raise TypeError(
                    f"{name} is not an argument of {type(self).__name__}. Arguments of "
                    f"its parts begin with {', '.join(f'{part}__' for part in _PARTS)}."
                )
        self._part_params = kwargs

    def get_params(self, deep=True):
        """Return the parameters, with those of the parts.

        Parameters
        ----------
        deep : bool
            Whether to include the parameters of parameters that are estimators.

        Returns
        -------
        dict
            Values by name.
        """
        return {**super().get_params(deep), **self._part_params}

    def set_params(self, **params):
        """Set parameters, also those of the parts.

        Parameters
        ----------
        **params
            Values by name, such as ``model__drop_prob=0.3``.

        Returns
        -------
        SSLClassifier
            The classifier itself.
        """
        parts = {name: value for name, value in params.items() if _is_of_part(name)}
        super().set_params(**{k: v for k, v in params.items() if k not in parts})
        self._part_params = {**self._part_params, **parts}
        return self

    def __sklearn_tags__(self):
        """Return the tags of the input that this classifier takes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.non_deterministic = self.random_state is None
        return tags

    def fit(
        self,
        X,
        y,
        *,
        metadata=None,
        subjects=None,
        X_unlabeled=None,
        metadata_unlabeled=None,
        X_target_labeled=None,
        y_target_labeled=None,
        X_target_unlabeled=None,
        X_val=None,
        y_val=None,
        held_out=None,
        sample_weight=None,
    ):
        """Pre-train on all windows, then fine-tune on those with labels.

        If windows are :class:`mne.Epochs`, or ``chs_info`` is set, all other Epochs are
        reordered to the same channels by name, and refused if they have others.

        Parameters
        ----------
        X : ndarray, shape (n_windows, n_chans, n_times), or mne.Epochs
            Training windows. Voltages of Epochs are converted to microvolts.
        y : array-like, shape (n_windows,)
            Labels; -1 marks windows without a label, as in scikit-learn.
        metadata : DataFrame, n_windows rows, or None
            One row per window, with columns such as ``corpus``, ``subject``,
            ``stimulus``. None: ``X.metadata`` of Epochs, else ``subjects``.
        subjects : array-like, shape (n_windows,), or None
            Subject of each window, as MOABB passes it.
        X_unlabeled : ndarray, shape (n_unlabeled, n_chans, n_times), Epochs or None
            Further windows for pre-training. They must not be of tested subjects.
        metadata_unlabeled : DataFrame, n_unlabeled rows, or None
            One row for each of them.
        X_target_labeled : ndarray, shape (n_target, n_chans, n_times), Epochs or None
            Windows of the test subject with known labels. They alone are fine-tuned on,
            and ``X`` is used for pre-training, as in SCMM's protocol across corpora.
        y_target_labeled : array-like, shape (n_target,), or None
            Their labels, among those in ``y``.
        X_target_unlabeled : ndarray, shape (n, n_chans, n_times), Epochs or None
            Windows of the test subject without labels, for pre-training.
        X_val : ndarray, shape (n_val, n_chans, n_times), Epochs or None
            Validation windows. The weights with the lowest loss on them are kept.
        y_val : array-like, shape (n_val,), or None
            Their labels, among those in ``y``.
        held_out : DataFrame or None
            Recordings that will be tested, with columns ``corpus``, ``subject`` and
            optionally ``session``, to compare with the training data of ``pretrained``.
        sample_weight : array-like, shape (n_windows,), or None
            Weights of the windows of ``X`` in the loss of fine-tuning.

        Returns
        -------
        SSLClassifier
            The fitted classifier.

        Raises
        ------
        LeakageError
            If the pre-trained model has seen a recording that is, or may be, tested.
        CheckpointError
            If ``pretrained`` is not a checkpoint, or is of another model.
        ValueError
            If the model or objective is unknown, windows differ in shape, channels or
            rate, are not finite, or there are fewer than two classes. NaN is accepted
            in the channels that a model names as ``missing_chans``, such as the eye
            features of MoodReader.
        FloatingPointError
            If training diverges.
        """
        self._check_settings()
        with seeded(self.random_state, self.device):
            source = self._find_source()
            train = self._read_training(source, X, y, metadata, subjects, sample_weight)
            read = partial(self._read, source)
            unlabeled = read("X_unlabeled", X_unlabeled, None, metadata_unlabeled)
            target = read("X_target_unlabeled", X_target_unlabeled)
            calibration = read("X_target_labeled", X_target_labeled, y_target_labeled)
            validation = read("X_val", X_val, y_val)
            labeled = self._choose_labeled(train, calibration)
            rows = self._hold_out(labeled, validation)
            settings = self._list_finetuner_settings(labeled)
            model = self._build_model(source)
            for part in (train, unlabeled, target, calibration, validation):
                if part is not None:
                    check_missing(part.windows, part.name, model)
            self._check_leakage(model, [train, unlabeled], held_out)
            monitored = validation is not None or rows is not None
            check_finetuner(model, settings, monitored)
            model = self._pretrain(model, [train, unlabeled, target])
            self._finetune(model, labeled, validation, rows, settings)
            for part in (labeled, validation):
                if part is not None:
                    _note_labels(self.net_.module_, part)
        return self

    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : ndarray, shape (n_windows, n_chans, n_times), or mne.Epochs
            Windows; Epochs are reordered to the training channels by name.

        Returns
        -------
        ndarray, shape (n_windows, n_classes)
            Rows sum to one; columns are in the order of ``classes_``.
        """
        check_is_fitted(self, "net_")
        array, signal = read_epochs(join_epochs(X))
        model = self.net_.module_
        windows = validate_data(self, array, reset=False, **_how_to_validate(model))
        check_windows(windows, "X", self.window_shape_)
        windows = self._align(windows, signal, "X")
        check_missing(windows, "X", model)
        with seeded(0, self.net_.device):  # a data loader draws from torch's generator
            return self.net_.predict_proba(windows)

    def predict(self, X):
        """Return the most probable class.

        Parameters
        ----------
        X : ndarray, shape (n_windows, n_chans, n_times), or mne.Epochs
            Windows; Epochs are reordered to the training channels by name.

        Returns
        -------
        ndarray, shape (n_windows,)
            Labels.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]

    # -- reading -------------------------------------------------------------------

    def _read_training(
        self, source, X, y, metadata, subjects, sample_weight
    ) -> LabeledSet:
        """Return the training windows; set the classes, the shape and the signal."""
        X = join_epochs(X)
        array, signal = read_epochs(X)
        windows, y = validate_data(self, array, y, **_how_to_validate(source))
        check_windows(windows, "X")
        self._find_classes(y)
        metadata = find_metadata(X, len(windows), metadata, subjects)
        declared = Signal(self.sfreq, self.chs_info)
        wanted, as_in = declared, "sfreq and chs_info"
        if isinstance(source, nn.Module):
            wanted, as_in = read_model_signal(source).fill_in(declared), "the model"
        found = signal.fill_in(declared)
        windows = align_windows(windows, found, wanted, "X", as_in)
        self.signal_ = wanted.fill_in(found)
        self.window_shape_ = windows.shape[1:]
        codes = encode_labels(y, self.classes_, "y")
        weights = check_weights(sample_weight, windows)
        return LabeledSet("X", windows, metadata, codes=codes, weights=weights)

    def _find_classes(self, y) -> None:
        if pd.isna(y).any():
            raise ValueError(
                f"y must have a label for each window, but {int(pd.isna(y).sum())} of "
                f"{len(y)} are missing. Mark unlabelled windows by -1."
            )
        check_classification_targets(y)
        labeled = find_labeled(y)
        self.classes_ = np.unique(y[labeled])
        if not labeled.all():
            warnings.warn(
                f"{int((~labeled).sum())} of {len(y)} labels are {y[~labeled][0]}, "
                "which marks unlabelled windows as in scikit-learn: they are used for "
                "pre-training only. Recode the labels if it is a class.",
                stacklevel=4,
            )
        if len(self.classes_) < 2:
            raise ValueError(
                "y must hold labels of at least two classes, but got "
                f"{len(self.classes_)} class: {self.classes_.tolist()} in {len(y)} "
                "windows."
            )

    def _read(self, source, name: str, X, y=None, metadata=None) -> WindowSet | None:
        """Return a further set of windows, with the channels of the training set."""
        has_labels = name in ("X_target_labeled", "X_val")
        if X is None or (not has_labels and not len(X)):
            return None
        array, signal = read_epochs(X)
        how = _how_to_validate(source)
        windows = check_array(array, input_name=name, estimator=self, **how)
        check_windows(windows, name, self.window_shape_)
        windows = self._align(windows, signal, name)
        metadata = find_metadata(X, len(windows), metadata)
        if not has_labels:
            return WindowSet(name, windows, metadata)
        if y is None:
            raise ValueError(f"{name} needs its labels, y{name[1:]}, but got None.")
        check_consistent_length(windows, y)
        codes = encode_labels(y, self.classes_, f"y{name[1:]}")
        return LabeledSet(name, windows, metadata, codes=codes).labeled

    def _align(self, windows, signal: Signal, name: str):
        """Return windows with the channels in the order of training."""
        found = signal.fill_in(Signal(self.sfreq, self.chs_info))
        return align_windows(windows, found, self.signal_, name, "the training windows")

    # -- the model -----------------------------------------------------------------

    def _find_source(self):
        """Return the source of the model: a name, a class or a module."""
        if self.pretrained is None:
            return _DEFAULT_MODEL if self.model is None else self.model
        return load_pretrained(self.pretrained, self.model, self._get_part("model"))

    def _build_model(self, source) -> nn.Module:
        loaded = self.pretrained is not None
        n_outputs = self._get_part("model").get("n_outputs", len(self.classes_))
        if n_outputs != len(self.classes_):
            raise ValueError(
                f"model__n_outputs must be {len(self.classes_)}, the number of classes "
                f"in y, or left out, but got {n_outputs!r}."
            )
        return build_model(
            source,
            n_outputs=len(self.classes_),
            shape=self.window_shape_,
            signal=self.signal_,
            settings={} if loaded else self._get_part("model"),
        )

    def _check_leakage(self, model, sets, held_out) -> None:
        provenance = getattr(model, "provenance", None)
        if self.pretrained is None and provenance is None:
            return
        training = join_metadata([part for part in sets if part is not None])
        check_leakage(provenance, training, held_out)

    # -- pre-training --------------------------------------------------------------

    def _pretrain(self, model, sets) -> nn.Module:
        """Return the model after its pre-training, if there is any."""
        sets = [part for part in sets if part is not None]
        self.pretrainer_ = None
        self.pretraining_subjects_ = None
        if not self._pretrains:
            if not self._starts_trained and hasattr(model, "fit_normalization"):
                # Random weights are to see the same input as pre-trained ones.
                model.fit_normalization(concatenate(sets))
            return model
        pretrainer = self._make_pretrainer(model)
        sets = drop_unsampled(sets, pretrainer)
        metadata, order = join_metadata(sets), find_order(sets)
        if metadata is not None and order is not None:
            metadata = metadata.iloc[order].reset_index(drop=True)
        windows = concatenate(sets, order)
        if self.memory is None:
            pretrainer.fit(windows, metadata=metadata)
        else:
            PretrainingMemory(self.memory).fit(pretrainer, windows, metadata)
        self.pretrainer_ = pretrainer
        self.pretraining_subjects_ = list_subjects(metadata)
        # A copy, so that the pre-trainer's model never sees a label.
        return copy.deepcopy(pretrainer.objective_.encoder)

    @property
    def _starts_trained(self) -> bool:
        """Whether the weights come from a checkpoint, or the model has been trained."""
        trained = getattr(self.model, "provenance", None) is not None
        return self.pretrained is not None or trained

    @property
    def _pretrains(self) -> bool:
        return self.objective is not None and max(self._length_of_pretraining) > 0

    @property
    def _length_of_pretraining(self) -> tuple[int, int]:
        """Return steps and epochs, one of which is 0."""
        settings = self._get_part("pretrainer")
        steps = settings.get("max_steps", self.pretrain_steps)
        epochs = settings.get("max_epochs", self.pretrain_epochs)
        if epochs is not None:
            return 0, epochs
        if steps is None:
            steps = 0 if self._starts_trained else 2000
        return steps, 0

    @property
    def _has_epochs(self) -> bool:
        """Whether the length of fine-tuning is set by other than ``finetune_steps``."""
        given = {"max_steps", "max_epochs"} & set(self._get_part("finetuner"))
        return self.finetune_epochs is not None or bool(given)

    def _make_pretrainer(self, model) -> SSLPretrainer:
        steps, epochs = self._length_of_pretraining
        objective = self._make_objective(model)
        settings = {
            "batch_size": self.batch_size,
            "lr": self.pretrain_lr,
            "random_state": _draw_seed(),
            "device": self.device,
            **self._get_part("pretrainer"),
            "max_steps": None if epochs else steps,
            "max_epochs": epochs or None,
        }
        own_size = getattr(objective, "default_batch_size", None) is not None
        sampled = settings.get("sampler", "auto") == "auto"
        if own_size and sampled and "batch_size" not in self._get_part("pretrainer"):
            settings["batch_size"] = "auto"
        return SSLPretrainer(objective, **settings)

    def _make_objective(self, model) -> nn.Module:
        objective = find_objective(self.objective, type(model))
        settings = self._get_part("objective")
        if not isinstance(objective, nn.Module):
            return objective(model, **settings)
        check_heads(objective, model)
        objective = copy.deepcopy(objective)
        objective.encoder = model
        return objective

    # -- fine-tuning ---------------------------------------------------------------

    def _choose_labeled(self, train: LabeledSet, calibration) -> LabeledSet:
        """Return the windows to fine-tune on."""
        if calibration is None:
            return train.labeled
        if train.weights is not None:
            raise ValueError(
                "sample_weight weights X, which is not fine-tuned on if "
                "X_target_labeled is given. Pass one of the two."
            )
        return calibration

    def _hold_out(self, labeled: LabeledSet, validation):
        """Return the rows to train on and to validate on, if a share is held out."""
        if self.validation is None or validation is not None:
            return None
        # Seeded apart, so that all else is as without validation.
        with seeded(self.random_state, self.device):
            return hold_out_subjects(labeled.metadata, self.validation, _draw_seed())

    def _list_finetuner_settings(self, labeled: LabeledSet) -> dict[str, Any]:
        given = self._get_part("finetuner")
        settings = {
            "finetune": self.finetune,
            "layer_decay": self.layer_decay,
            "max_steps": self.finetune_steps,
            "max_epochs": self.finetune_epochs,
            "lr": self.finetune_lr,
            "batch_size": self.batch_size,
            "device": self.device,
            **given,
        }
        settings["device"] = find_device(settings["device"])
        weights = self._weigh_classes(labeled)
        if weights is not None:
            settings["criterion__weight"] = weights
        if settings["max_epochs"] is None:
            settings["max_epochs"] = 0  # the steps count
        elif "max_steps" not in given:
            settings["max_steps"] = None
        return settings

    def _weigh_classes(self, labeled: LabeledSet) -> torch.Tensor | None:
        """Return the weight of each class in the loss."""
        if self.class_weight is None:
            return None
        weights = np.ones(len(self.classes_), np.float32)
        present = np.unique(labeled.codes)  # a calibration may lack some
        weights[present] = compute_class_weight(
            self.class_weight,
            classes=self.classes_[present],
            y=self.classes_[labeled.codes],
        )
        return torch.from_numpy(weights)

    def _finetune(self, model, labeled, validation, rows, settings) -> None:
        """Train with labels, for as many steps as the validation suggests."""
        self.validation_subjects_ = self.validation_history_ = None
        if rows is not None:
            train, held_out = (labeled.take(part) for part in rows)
            with seeded(self.random_state, self.device):
                length, self.validation_history_ = pick_length(
                    copy.deepcopy(model), train, held_out, settings
                )
            settings = {**settings, **length}
            self.validation_subjects_ = list_subjects(held_out.metadata)
        self.net_, self.n_steps_ = finetune_model(model, labeled, settings, validation)
        if validation is not None:
            self.validation_history_ = self.net_.history

    # -- settings ------------------------------------------------------------------

    def _get_part(self, part: str) -> dict[str, Any]:
        """Return the arguments of a part, without its prefix."""
        prefix = f"{part}__"
        return {
            name.removeprefix(prefix): value
            for name, value in self._part_params.items()
            if name.startswith(prefix)
        }

    def _check_settings(self) -> None:
        check_strategy(self.finetune, self.layer_decay)
        if self.pretrained is None:
            model_class = find_model_class(self.model or _DEFAULT_MODEL)
            if self._pretrains:
                find_objective(self.objective, model_class)
        for name in (
            "pretrain_steps",
            "pretrain_epochs",
            "finetune_steps",
            "finetune_epochs",
        ):
            value = getattr(self, name)
            if value is not None or (name == "finetune_steps" and not self._has_epochs):
                check_count(name, value, 0)
        if self.sfreq is not None and (not is_number(self.sfreq) or self.sfreq <= 0):
            raise ValueError(
                "sfreq must be a positive number in Hz or None, but got "
                f"{self.sfreq!r}."
            )
        if self.memory is not None and self.random_state is None:
            raise ValueError(
                "random_state must be an integer with memory, as results cannot be "
                "reused without a fixed seed, but got None."
            )


def _how_to_validate(model) -> dict[str, Any]:
    """Return how scikit-learn validates the windows of a model, class or name."""
    takes_missing = hasattr(find_model_class(model), "missing_chans")
    return {
        "dtype": np.float32,
        "allow_nd": True,
        # check_missing finds out whether NaN are where the model expects them.
        "ensure_all_finite": "allow-nan" if takes_missing else True,
    }


def _note_labels(model: nn.Module, part: WindowSet) -> None:
    """Add the recordings of labelled windows to those that a model has seen."""
    seen = find_provenance(part.metadata)
    if seen is None and getattr(model, "provenance", None) is not None:
        seen = {}  # which is not complete
    add_provenance(model, seen)


def _is_of_part(name: str) -> bool:
    return name.partition("__")[0] in _PARTS and "__" in name


def _draw_seed() -> int:
    return int(torch.randint(np.iinfo(np.int32).max, ()))
