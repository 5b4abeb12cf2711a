"""Auditing protocols for leaks, on label-free signals."""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from moabb.evaluations import (
    CrossSessionEvaluation,
    CrossSubjectEvaluation,
    WithinSessionEvaluation,
    WithinSubjectEvaluation,
)
from moabb.evaluations.base import BaseEvaluation
from moabb.evaluations.splitters import (
    CrossSessionSplitter,
    CrossSubjectSplitter,
    WithinSessionSplitter,
    WithinSubjectSplitter,
)
from moabb.paradigms.base import BaseParadigm
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from braindecode_emossl.datasets.base import EmotionDataset
from braindecode_emossl.evaluation.folds import Windows, group_ids
from braindecode_emossl.evaluation.protocols import KEYS
from braindecode_emossl.evaluation.tasks import Task, make_tasks
from braindecode_emossl.pretraining.windows import join_corpora

__all__ = ["AuditReport", "audit"]

# Spread of the log-gains of the channels by which subjects, stimuli and trials differ,
# and by which a trial drifts within seconds.
_SPREAD = 0.5
_DRIFT_SPREAD = 0.2
_SECONDS_PER_DRIFT = 4.0
# Volts; near that of real EEG, so that nothing is clipped or overflows.
_SCALE = 2e-5
# Gain of the trials that are changed to see whether others change with them.
_CHANGE = 10.0
# A window counts as changed with them beyond this part of the spread of features.
_TOLERANCE = 0.02
# Draws of labels.
_N_DRAWS = 1000
# Splitters of MOABB's evaluations as they come.
_STOCK_SPLITTERS = {
    WithinSessionEvaluation: WithinSessionSplitter,
    WithinSubjectEvaluation: WithinSubjectSplitter,
    CrossSessionEvaluation: CrossSessionSplitter,
    CrossSubjectEvaluation: CrossSubjectSplitter,
}
# Shared by the parts of a fold, these are leaks under any protocol.
_ALWAYS_LEAKS = ("window overlap", "trial", "scaler statistics")


@dataclass(frozen=True)
class AuditReport:
    """The result of :func:`audit`.

    Attributes
    ----------
    protocol : str
        The protocol that was audited.
    score : float
        Accuracy of a nearest neighbour on label-free signals, over draws of labels.
    chance : float
        Expected accuracy of guessing.
    interval : tuple of float
        Interval that holds the score in 95 % of the draws of labels.
    stimulus_score : float
        Accuracy of the same nearest neighbour if labels belong to stimuli, as those of
        SEED's films do. It measures how much a classifier gains by recognising the
        stimulus.
    shared : dict of str to float
        Properties that the training set and the test set have in common, with the
        fraction of test windows concerned: ``"window overlap"``, ``"trial"``,
        ``"stimulus"``, ``"session"``, ``"subject"``, ``"scaler statistics"``, and
        ``"recording statistics"`` where the paradigm standardises each recording.
        Only shared properties are listed.
    leaks : tuple of str
        Those of ``shared`` that let a classifier score without knowledge of emotion:
        overlapping windows, trials and scaler statistics always; the others where the
        protocol holds them out.
    """

    protocol: str
    score: float
    chance: float
    interval: tuple[float, float]
    stimulus_score: float
    shared: dict[str, float]
    leaks: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing leaks and the score is at chance."""
        low, high = self.interval
        return not self.leaks and low <= self.chance <= high

    def __str__(self) -> str:
        shared = ", ".join(f"{k} ({v:.0%})" for k, v in self.shared.items())
        verdict = "passed" if self.passed else f"LEAKS {', '.join(self.leaks)}"
        return (
            f"{self.protocol}: {verdict}. A nearest neighbour on label-free signals "
            f"scores {self.score:.3f} (95 % interval {self.interval[0]:.3f} to "
            f"{self.interval[1]:.3f}), chance is {self.chance:.3f}; for labels of "
            f"stimuli, it scores {self.stimulus_score:.3f}. Shared between training "
            f"and test windows: {shared or 'nothing'}."
        )


def audit(paradigm, dataset, protocol, *, random_state=None, **options):
    """Audit whether a protocol lets a classifier score without knowing emotion.

    The signals of the corpus are replaced by noise that is independent of the labels,
    but in which every subject, every stimulus and every trial has a signature and
    neighbouring moments are alike. The paradigm and the protocol process this noise,
    and a nearest neighbour classifies it. Labels are drawn at random, trial by trial.
    The score exceeds chance if the training set holds other windows of a test trial,
    or is scaled together with them.

    Shared subjects and stimuli are listed in ``shared``. Where the labels belong to the
    stimuli, as in SEED, a classifier can recognise the stimulus instead of the emotion;
    ``stimulus_score`` measures that.

    Parameters
    ----------
    paradigm : Emotion
        Defines the windows.
    dataset : EmotionDataset, or list of them for cross-corpus protocols
        Corpus whose trials, subjects and stimuli are divided. It must be on disk.
    protocol : str, cross-validator or MOABB evaluation class
        A name of ``PROTOCOLS``; or a splitter of scikit-learn, which divides all
        windows; or an evaluation class of MOABB, with its default splitter.
    random_state : int, RandomState or None
        Seed of signals, labels and folds.
    **options
        Options of the protocol. A splitter has the option ``groups``, a key of
        ``braindecode_emossl.evaluation.protocols.KEYS`` such as ``"trial"``.

    Returns
    -------
    AuditReport
        Its ``passed`` is True if nothing leaks.

    Raises
    ------
    ValueError
        If the protocol or an option is unknown, or several corpora are given where the
        protocol takes one.

    Examples
    --------
    >>> print(audit(Emotion(), SEED(), "leave-one-subject-out", random_state=0))
    """
    rng = check_random_state(random_state)
    seed = int(rng.randint(np.iinfo(np.int32).max))
    task: Task | _Stock
    if isinstance(protocol, str):
        (task, *more) = make_tasks(protocol, options, dataset, paradigm)
        if more:
            raise ValueError("Audit one corpus at a time, but got several.")
        name, held_out = protocol, task.protocol.never_shared
    else:
        task, name, held_out = _Stock(paradigm, dataset), _name_of(protocol), ()
    X, y, metadata = _load(task, seed, changed=False)
    windows = Windows(X, y, metadata)
    if isinstance(task, Task):
        folds = _folds_of(task, windows, seed)
    else:
        folds = _stock_folds(protocol, windows, seed, **options)
    pairs, shared = _compare(X, metadata, folds, paradigm)
    if fraction := _fraction_changed(X, metadata, task, seed):
        standardized = getattr(paradigm, "standardize", None) is not None
        shared["recording statistics" if standardized else "scaler statistics"] = (
            fraction
        )
    score, interval, chance = _score(pairs, y, group_ids(metadata, "trial"), rng)
    stimulus_score, _, _ = _score(pairs, y, group_ids(metadata, "stimulus"), rng)
    return AuditReport(
        protocol=name,
        score=score,
        chance=chance,
        interval=interval,
        stimulus_score=stimulus_score,
        shared=shared,
        leaks=tuple(k for k in shared if k in (*_ALWAYS_LEAKS, *held_out)),
    )


@dataclass(frozen=True)
class _Stock:
    """A corpus whose windows are divided by a splitter instead of a protocol."""

    paradigm: BaseParadigm
    dataset: EmotionDataset

    @property
    def corpora(self):
        return [self.dataset]


# -- signals -------------------------------------------------------------------


def _load(task: Task | _Stock, seed: int, *, changed: bool):
    """Return windows of label-free signals, labels and metadata."""
    paradigm = copy.copy(task.paradigm)
    paradigm.cache_dir = None  # these are not the signals of the corpus
    return join_corpora(
        [
            paradigm.get_data(_Signer(seed, changed).stand_in(dataset))
            for dataset in task.corpora
        ]
    )


class _Signer:
    """Write label-free signals over those of a corpus."""

    def __init__(self, seed: int, changed: bool):
        self.seed = seed
        self.changed = changed

    def stand_in(self, dataset) -> EmotionDataset:
        """Return a copy of the corpus with label-free signals."""
        if not isinstance(dataset, EmotionDataset):
            raise ValueError(
                f"dataset must be a corpus of this package, but got {dataset!r}."
            )
        return dataset.map_raws(
            lambda raw, subject, session, run: self._sign(
                raw, f"{dataset.code} {subject}", f"{session} {run}"
            )
        )

    def _sign(self, raw, subject: str, recording: str):
        sfreq, n_chans = raw.info["sfreq"], len(raw.ch_names)
        noise = self._draw("noise", f"{subject} {recording}").standard_normal(
            (n_chans, raw.n_times)
        )
        log_gain = np.repeat(
            self._signature("subject", subject, n_chans)[:, None], raw.n_times, axis=1
        )
        for annotation in raw.annotations:
            trial = annotation["extras"]
            first = round(annotation["onset"] * sfreq)
            last = round((annotation["onset"] + trial["length"]) * sfreq)
            name = f"{subject} {recording} {trial['trial']}"
            gain = self._signature("trial", name, n_chans)
            gain += self._signature("stimulus", trial["stimulus"], n_chans)
            if self.changed and trial["trial"] % 2:
                gain += np.log(_CHANGE)
            n_times = log_gain[:, first:last].shape[1]
            log_gain[:, first:last] += gain[:, None]
            log_gain[:, first:last] += self._drift(name, n_chans, n_times, sfreq)
        signed = _SCALE * np.exp(log_gain) * noise
        return raw.load_data(verbose=False).apply_function(
            lambda _: signed, picks="all", channel_wise=False, verbose=False
        )

    def _signature(self, kind, name, n_chans: int) -> np.ndarray:
        return self._draw(kind, name).normal(0.0, _SPREAD, n_chans)

    def _drift(self, name, n_chans: int, n_times: int, sfreq: float) -> np.ndarray:
        """Return smooth log-gains (n_chans, n_times): close moments are alike."""
        knots = np.arange(int(n_times / sfreq / _SECONDS_PER_DRIFT) + 2)
        knots = knots * _SECONDS_PER_DRIFT
        values = self._draw("drift", name).normal(
            0.0, _DRIFT_SPREAD, (n_chans, len(knots))
        )
        times = np.arange(n_times) / sfreq
        return np.stack([np.interp(times, knots, row) for row in values])

    def _draw(self, kind: str, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(f"{kind} {name}".encode())])


def _fraction_changed(X, metadata, task, seed) -> float:
    """Return the fraction of trials that change when other trials do."""
    louder, _, _ = _load(task, seed, changed=True)
    same = (metadata["trial"] % 2 == 0).to_numpy()
    if not same.any() or same.all():
        return 0.0
    spread = X.std(axis=0).mean()
    axes = tuple(range(1, X.ndim))
    change = np.abs(louder[same] - X[same]).mean(axis=axes) / spread
    # The filter carries neighbours into the ends of a trial; shared statistics change
    # all of it.
    by_trial = pd.Series(change).groupby(group_ids(metadata[same], "trial")).median()
    return float((by_trial > _TOLERANCE).mean())


# -- folds ---------------------------------------------------------------------


def _folds_of(task: Task, windows: Windows, seed) -> list[tuple]:
    """Return training and test rows, the labelled trials of test subjects included."""
    return [
        (
            windows.rows_of(np.concatenate([parts.train, parts.calibration])),
            windows.rows_of(parts.test),
        )
        for unit in _units_of(task)
        for parts in task.divide(unit, windows.trials, seed)
    ]


def _units_of(task: Task) -> list[str]:
    # All subjects are loaded at once, so that one call divides them.
    return task.units if task.protocol.across_corpora else ["all"]


def _stock_folds(protocol, windows: Windows, seed, groups=None, **more) -> list[tuple]:
    """Return the folds of a splitter, or of an evaluation class of MOABB."""
    y, metadata = windows.y, windows.metadata
    if more:
        raise ValueError(
            f"{_name_of(protocol)} has no option but groups, but got {sorted(more)}."
        )
    if groups not in (None, *KEYS):
        raise ValueError(f"groups must be among {list(KEYS)}, but got {groups!r}.")
    if isinstance(protocol, type) and issubclass(protocol, BaseEvaluation):
        for evaluation, splitter in _STOCK_SPLITTERS.items():
            if issubclass(protocol, evaluation):
                return list(splitter(random_state=seed).split(y, metadata))
    elif hasattr(protocol, "split"):
        ids = None if groups is None else group_ids(metadata, groups)
        return list(protocol.split(np.zeros(len(y)), y, ids))
    raise ValueError(
        "protocol must be the name of a protocol, a cross-validator or an evaluation "
        f"class of MOABB, but got {protocol!r}."
    )


def _name_of(protocol) -> str:
    return protocol.__name__ if isinstance(protocol, type) else repr(protocol)


# -- shared properties ---------------------------------------------------------


def _compare(X, metadata, folds, paradigm):
    """Return (nearest training row, test row) of all folds, and shared properties."""
    features = _features(X, paradigm)
    ids = {
        what: group_ids(metadata, what)
        for what in ("trial", "stimulus", "session", "subject")
    }
    span = _span(paradigm)
    pairs = []
    shared: dict[str, list] = {"window overlap": [], **{what: [] for what in ids}}
    for train, test in folds:
        scaler = StandardScaler().fit(features[train])
        nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(
            scaler.transform(features[train])
        )
        found = nearest.kneighbors(scaler.transform(features[test]))[1][:, 0]
        pairs.append(np.stack([train[found], test], axis=1))
        for what, names in ids.items():
            shared[what].append(np.isin(names[test], names[train]))
        shared["window overlap"].append(
            _overlaps(ids["trial"], metadata["window"].to_numpy(), train, test, span)
        )
    fractions = {what: np.concatenate(parts).mean() for what, parts in shared.items()}
    return np.concatenate(pairs), {k: float(v) for k, v in fractions.items() if v}


def _features(X, paradigm) -> np.ndarray:
    """Return (n_windows, n_features): the log-power of signals, or the features."""
    if getattr(paradigm, "features", None) is None:
        return np.log(X.std(axis=-1) + np.finfo(float).tiny).astype(np.float32)
    return X.reshape(len(X), -1).astype(np.float32)


def _span(paradigm) -> int:
    """Return over how many windows a window still shares samples."""
    return int(np.ceil(round(paradigm.window / paradigm.stride, 9))) - 1


def _overlaps(trials, windows, train, test, span) -> np.ndarray:
    known = set(zip(trials[train], windows[train], strict=True))
    return np.array(
        [
            any((trial, window + step) in known for step in range(-span, span + 1))
            for trial, window in zip(trials[test], windows[test], strict=True)
        ]
    )


def _score(pairs, y, units, rng):
    """Return mean, 95 % interval and chance of the accuracy over draws of labels.

    Each of the ``units``, the trial or the stimulus of each row, has one label.
    """
    names, of_row = np.unique(units, return_inverse=True)
    label_of_unit = pd.Series(y).groupby(of_row).first()
    frequencies = label_of_unit.value_counts(normalize=True).to_numpy()
    matches, counts = np.unique(of_row[pairs], axis=0, return_counts=True)
    scores = np.empty(_N_DRAWS)
    for i in range(_N_DRAWS):
        labels = rng.choice(len(frequencies), size=len(names), p=frequencies)
        scores[i] = np.average(
            labels[matches[:, 0]] == labels[matches[:, 1]], weights=counts
        )
    low, high = np.quantile(scores, [0.025, 0.975])
    chance = float(np.sum(frequencies**2))
    return float(scores.mean()), (float(low), float(high)), chance
