"""Baselines that a claim about pre-training needs."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted

from braindecode_emossl.evaluation.folds import requested_by
from braindecode_emossl.evaluation.pipelines import check_pipelines
from braindecode_emossl.evaluation.signal import EEGChannels
from braindecode_emossl.features import BANDS, DifferentialEntropy
from braindecode_emossl.hosts import get_init_arguments
from braindecode_emossl.pretraining.classifier import SSLClassifier
from braindecode_emossl.pretraining.pretrained import load_pretrained

__all__ = [
    "DE_BASELINE",
    "EEGBandFeatures",
    "describe_mechanism",
    "list_parts",
    "with_baselines",
]

#: Name of the row of differential entropy with logistic regression.
DE_BASELINE = "DE + logistic regression"
# Fit parameters with which a pipeline may adapt in ways of its own.
_FURTHER_WINDOWS = {"X_unlabeled", "X_target_labeled", "X_target_unlabeled"}
# Arguments with this prefix replace those of SSLClassifier.
_OVERRIDE = "finetuner__"
# Arguments of a model that follow from the windows.
_SIGNAL = {
    "n_outputs",
    "n_chans",
    "n_times",
    "sfreq",
    "chs_info",
    "input_window_seconds",
}


def with_baselines(pipelines):
    """Add the baselines that a claim about pre-training needs.

    Parameters
    ----------
    pipelines : dict of str to estimator
        Classifiers by name. Self-supervised ones are or contain an
        :class:`~braindecode_emossl.pretraining.SSLClassifier` that is pre-trained.

    Returns
    -------
    dict of str to estimator
        The pipelines and, for each self-supervised pipeline, ``"<name>, random
        weights"`` (the same network and fine-tuning, without pre-training) and
        ``"<name>, frozen"`` (a probe on frozen features); then ``"DE + logistic
        regression"``, ``"most frequent"`` and ``"stratified"``. The last one guesses
        each class as often as it occurs in the training set; its guesses differ between
        training sets and between test recordings, and follow from its ``random_state``,
        which is 0 and which ``seeds`` of :func:`evaluate` sets. A pipeline of yours
        that has one of these names is kept. :func:`evaluate` leaves out ``"DE +
        logistic regression"`` if the paradigm's features are not differential entropy.

    Raises
    ------
    ValueError
        If ``pipelines`` is not a dict of classifiers by name.

    Examples
    --------
    >>> pipelines = with_baselines({"SCMM": SSLClassifier("SCMM", random_state=0)})
    >>> list(pipelines)
    ['SCMM', 'SCMM, random weights', 'SCMM, frozen', 'DE + logistic regression',
    'most frequent', 'stratified']
    """
    if pipelines != {}:  # else the general ones alone
        check_pipelines(pipelines)
    rows = {}
    for name, pipeline in pipelines.items():
        rows[name] = pipeline
        if prefixes := _find_pretrained(pipeline):
            names = [f"{p}{part}finetune" for p in prefixes for part in ("", _OVERRIDE)]
            names = [name for name in names if name in pipeline.get_params()]
            frozen = dict.fromkeys(names, "linear-probe")
            for kind, row in {
                "random weights": _without_pretraining(pipeline, prefixes),
                "frozen": clone(pipeline).set_params(**frozen),
            }.items():
                rows.setdefault(f"{name}, {kind}", row)
                # A clone loses what load_pipelines has set.
                row.requires_paradigm = getattr(pipeline, "requires_paradigm", {})
    general = {
        DE_BASELINE: make_pipeline(
            EEGBandFeatures(), StandardScaler(), LogisticRegression(max_iter=1000)
        ),
        "most frequent": DummyClassifier(strategy="most_frequent"),
        "stratified": _StratifiedGuess(random_state=0),
    }
    return rows | {name: row for name, row in general.items() if name not in pipelines}


class EEGBandFeatures(TransformerMixin, BaseEstimator):
    """Differential entropy of the EEG channels of windows, as a flat table.

    Windows that hold one value for each of the five bands, as those of
    ``Emotion(features="de")`` do, are taken to be differential entropy already.

    Parameters
    ----------
    sfreq : float or None
        Sampling rate in Hz; :func:`evaluate` sets it.
    chs_info : list of dict or None
        Channels as in ``mne.Info["chs"]``; :func:`evaluate` sets it. Channels of other
        types than EEG are left out. None: all channels are EEG.
    """

    def __init__(self, sfreq=None, chs_info=None):
        self.sfreq = sfreq
        self.chs_info = chs_info

    def __sklearn_tags__(self):
        """Return the tags: windows have three dimensions, and nothing is fitted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.requires_fit = False
        return tags

    def fit(self, X, y=None):
        """Do nothing.

        Parameters
        ----------
        X : array, shape (n_windows, n_chans, n_times)
            Ignored.
        y : object
            Ignored.

        Returns
        -------
        EEGBandFeatures
            Itself.
        """
        return self

    def transform(self, X):
        """Return the features.

        Parameters
        ----------
        X : array, shape (n_windows, n_chans, n_times) or (n_windows, n_chans, 5)
            Windows in microvolts, or their differential entropy.

        Returns
        -------
        ndarray, shape (n_windows, n_eeg_chans * 5)
            Channel by channel.

        Raises
        ------
        ValueError
            If the windows are signals and ``sfreq`` is None, or there is no EEG.
        """
        X = check_array(X, allow_nd=True, ensure_all_finite=False)
        X = EEGChannels(self.chs_info).transform(X)
        if X.shape[-1] == len(BANDS):
            return X.reshape(len(X), -1)
        if self.sfreq is None:
            raise ValueError(
                "sfreq must be the sampling rate of the windows in Hz, but is None. "
                "evaluate sets it; elsewhere pass it."
            )
        return DifferentialEntropy(self.sfreq).fit_transform(X)


class _StratifiedGuess(ClassifierMixin, BaseEstimator):
    """Guess each class as often as it occurs in the training set."""

    # A DummyClassifier with a seed repeats the same guesses for every test recording.

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        self.classes_, counts = np.unique(y, return_counts=True)
        self.class_prior_ = counts / counts.sum()
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        self.seeds_ = [seed, _checksum(np.asarray(y, dtype=str))]
        return self

    def predict_proba(self, X):
        check_is_fitted(self)
        rng = np.random.default_rng([*self.seeds_, _checksum(X)])
        n_classes = len(self.classes_)
        return np.eye(n_classes)[rng.choice(n_classes, len(X), p=self.class_prior_)]

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def _checksum(values) -> int:
    return zlib.crc32(np.ascontiguousarray(values).data)


def describe_mechanism(pipeline) -> str:
    """Return how a pipeline learns from the training set, in words.

    Parameters
    ----------
    pipeline : estimator
        A classifier.

    Returns
    -------
    str
        Empty if an estimator of the caller's own asks for windows without labels or
        of the test subject, as nothing is known of what it does with them.
    """
    parts = [
        part
        for part in list_parts(pipeline).values()
        if isinstance(part, SSLClassifier)
    ]
    if not parts:
        asks = requested_by(pipeline) & _FURTHER_WINDOWS
        return "" if asks else "supervised on the training set"
    pretrained = [part for part in parts if _is_pretrained(part)]
    if not pretrained:
        return "supervised from random weights"
    sources = {
        "pre-training on other data (a checkpoint)": [
            p._starts_trained for p in pretrained
        ],
        "self-supervised pre-training in each fold": [p._pretrains for p in pretrained],
    }
    source = ", then ".join(source for source, uses in sources.items() if any(uses))
    settings = pretrained[-1].get_params(deep=False)
    finetune = settings.get(f"{_OVERRIDE}finetune", settings["finetune"])
    return f"{source}, then fine-tuning ({finetune})"


def _find_pretrained(pipeline) -> list[str]:
    """Return the prefixes of the parameters of each classifier that is pre-trained."""
    return [p for p, part in list_parts(pipeline).items() if _is_pretrained(part)]


def list_parts(pipeline) -> dict[str, Any]:
    """Return an estimator and its parts, by the prefix of their parameters.

    Parameters
    ----------
    pipeline : estimator
        An estimator.

    Returns
    -------
    dict of str to object
        The prefix of the estimator itself is empty. Parameters that are not estimators
        are included.
    """
    return {"": pipeline} | {f"{k}__": v for k, v in pipeline.get_params().items()}


def _is_pretrained(part) -> bool:
    if not isinstance(part, SSLClassifier):
        return False
    return part._starts_trained or part._pretrains


def _without_pretraining(pipeline, prefixes):
    """Return a clone whose networks start from random weights."""
    pipeline = clone(pipeline)
    for prefix in prefixes:
        part = list_parts(pipeline)[prefix]
        changes: dict[str, Any] = {"objective": None, "pretrained": None}
        if part._starts_trained:  # then the weights come with their architecture
            model = part.model
            if part.pretrained is not None:
                model = load_pretrained(part.pretrained, part.model)
            arguments = get_init_arguments(model)
            changes["model"] = type(model)
            changes |= {
                f"model__{k}": v for k, v in arguments.items() if k not in _SIGNAL
            }
        pipeline.set_params(**{f"{prefix}{k}": v for k, v in changes.items()})
    return pipeline
