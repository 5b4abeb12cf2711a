"""Auditing protocols for leaks, on label-free signals."""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass
from functools import partial

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
from braindecode_emossl.datasets.signals import Channels, Signals
from braindecode_emossl.evaluation.folds import Windows, group_ids
from braindecode_emossl.evaluation.protocols import KEYS
from braindecode_emossl.evaluation.tasks import Task, make_tasks
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.paradigms.labels import UNLABELED
from braindecode_emossl.paradigms.released import find_name
from braindecode_emossl.pretraining.windows import join_corpora

__all__ = ["AuditReport", "audit"]

# Spread of the log-gains of the channels by which subjects, stimuli and trials differ,
# and by which a trial drifts within seconds.
_SPREAD = 0.5
_DRIFT_SPREAD = 0.2
_SECONDS_PER_DRIFT = 4.0
_STEPS_PER_SECOND = 4
# Volts; near that of real EEG, so that nothing is clipped or overflows.
_SCALE = 2e-5
# Gain of the trials that are changed to see whether others change with them.
_CHANGE = 10.0
# A window counts as changed with them beyond this part of the spread of features.
_TOLERANCE = 0.02
# Trials of either kind, changed and unchanged, by which this is seen.
_N_CHANGED = 2
# Windows of a trial, and of a training set, among which neighbours are looked for.
_N_OF_TRIAL = 20
_N_NEIGHBOURS = 4000
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

    Only the table of trials and one recording of each corpus are read: the recordings
    of noise have the channels and the rate of the first one, and end with their last
    trial. Neighbours are looked for among at most 20 windows of a trial and 4,000 of a
    training set, so that the cost is proportional to the number of windows.

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
        If the protocol or an option is unknown, several corpora are given where the
        protocol takes one, or the features are those that the makers released.

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
    if find_name(getattr(paradigm, "features", None)) is not None:
        raise ValueError(
            f"features={paradigm.features!r} are read from the makers' files, but the "
            'audit computes features from noise. Use features="de".'
        )
    corpora = [_LabelFree(dataset, seed) for dataset in task.corpora]
    features, y, metadata = _load_features(task.paradigm, corpora)
    windows = Windows(features, y, metadata)
    if isinstance(task, Task):
        folds = _folds_of(task, windows, seed)
    else:
        folds = _stock_folds(protocol, windows, seed, **options)
    ids = {
        what: metadata.groupby(list(KEYS[what]), observed=True).ngroup().to_numpy()
        for what in ("trial", "stimulus", "session", "subject")
    }
    shared = _find_shared(ids, metadata["window"].to_numpy(), folds, _span(paradigm))
    if fraction := _fraction_changed(task.paradigm, corpora, windows.trials):
        standardized = getattr(paradigm, "standardize", None) is not None
        shared["recording statistics" if standardized else "scaler statistics"] = (
            fraction
        )
    pairs = _find_neighbours(features, ids["trial"], folds)
    score, interval, chance = _score(pairs, y, ids["trial"], rng)
    stimulus_score, _, _ = _score(pairs, y, ids["stimulus"], rng)
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


class _LabelFree:
    """A corpus whose recordings hold noise with signatures, and no label."""

    def __init__(self, dataset: EmotionDataset, seed: int):
        if not isinstance(dataset, EmotionDataset):
            raise ValueError(
                f"dataset must be a corpus of this package, but got {dataset!r}."
            )
        self.dataset = dataset
        self.seed = seed
        # The only signals of the corpus that are read.
        self.first = dataset.first_raw()

    def make(self, *, only=None, changed: bool = False) -> EmotionDataset:
        """Return it with all trials, or with only some, every other one changed."""
        return self.dataset.replace_signals(
            partial(self._make_signals, only=only, changed=changed)
        )

    def _make_signals(
        self, trials, subject: int, session: str, run: str, *, only, changed: bool
    ) -> Signals | None:
        """Return the noise of a run, None if none of its trials is asked for."""
        kept = [
            trial
            for trial in trials
            if only is None or (subject, session, trial.trial) in only
        ]
        if not kept:
            return None
        names, types = self.first.ch_names, self.first.get_channel_types()
        channels = Channels(tuple(names), tuple(types), self.first.info["sfreq"])
        data = self._draw_noise(kept, subject, f"{session} {run}", changed)
        return Signals(data, channels, kept)

    def _draw_noise(self, trials, subject: int, recording: str, changed: bool):
        """Return noise (n_chans, n_times) that ends with the last trial."""
        sfreq, n_chans = self.first.info["sfreq"], len(self.first.ch_names)
        person = f"{self.dataset.code} {subject}"
        # A gain for each step: an exponential of each sample takes seconds.
        step = max(1, round(sfreq / _STEPS_PER_SECOND))
        stops = [round((trial.onset + trial.length) * sfreq) for trial in trials]
        noise = self._draw("noise", f"{person} {recording}").standard_normal(
            (n_chans, max(stops)), dtype=np.float32
        )
        log_gain = np.log(_SCALE) + self._signature("subject", person)
        noise *= np.exp(log_gain, dtype=np.float32)[:, None]
        for trial, stop in zip(trials, stops, strict=True):
            first = round(trial.onset * sfreq)
            name = f"{person} {recording} {trial.trial}"
            log_gain = self._signature("trial", name)
            log_gain += self._signature("stimulus", trial.stimulus)
            if changed and trial.trial % 2:
                log_gain += np.log(_CHANGE)
            log_gain = log_gain[:, None] + self._drift(name, stop - first, step)
            gain = np.exp(log_gain).astype(np.float32)
            noise[:, first:stop] *= np.repeat(gain, step, axis=1)[:, : stop - first]
        return noise.astype(float)

    def _signature(self, kind: str, name: str) -> np.ndarray:
        n_chans = len(self.first.ch_names)
        return self._draw(kind, name).normal(0.0, _SPREAD, n_chans)

    def _drift(self, name: str, n_times: int, step: int) -> np.ndarray:
        """Return smooth log-gains (n_chans, n_steps): close moments are alike."""
        places = np.arange(0, n_times, step) / self.first.info["sfreq"]
        places /= _SECONDS_PER_DRIFT
        size = len(self.first.ch_names), int(places[-1]) + 2
        knots = self._draw("drift", name).normal(0.0, _DRIFT_SPREAD, size)
        return np.stack([np.interp(places, np.arange(size[1]), row) for row in knots])

    def _draw(self, kind: str, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(f"{kind} {name}".encode())])


def _load_features(paradigm, corpora):
    """Return features of all windows, labels and metadata, subject by subject."""
    paradigm = copy.copy(paradigm)
    paradigm.cache_dir = None  # these are not the signals of the corpus
    parts = []
    for corpus in corpora:
        stand_in = corpus.make()
        for subjects in _list_labeled(paradigm, corpus.dataset):
            X, y, metadata = paradigm.get_data(stand_in, subjects=subjects)
            parts.append((_reduce(X, paradigm), y, metadata))
    return join_corpora(parts)


def _list_labeled(paradigm, dataset) -> list:
    """Return the subjects with a labelled trial, each in a list."""
    if not isinstance(paradigm, Emotion):
        return [None]
    trials = paradigm.label_trials(dataset)
    labeled = trials.loc[trials["label"] != UNLABELED, "subject"].unique()
    return [[subject] for subject in labeled.tolist()] or [None]


def _reduce(X, paradigm) -> np.ndarray:
    """Return (n_windows, n_features): the log-power of signals, or the features."""
    if getattr(paradigm, "features", None) is None:
        return np.log(X.std(axis=-1) + np.finfo(float).tiny).astype(np.float32)
    return X.reshape(len(X), -1).astype(np.float32)


def _fraction_changed(paradigm, corpora, trials: pd.DataFrame) -> float:
    """Return the fraction of trials that change when other trials do."""
    paradigm = copy.copy(paradigm)
    paradigm.cache_dir = None
    changes = [
        _find_changes(paradigm, corpus, only)
        for corpus in corpora
        if (only := _choose_trials(trials[trials["corpus"] == corpus.dataset.code]))
    ]
    return float((np.concatenate(changes) > _TOLERANCE).mean()) if changes else 0.0


def _choose_trials(trials: pd.DataFrame) -> set[tuple]:
    """Return trials of even and of odd number of one recording, if one has both."""
    for (subject, session), part in trials.groupby(["subject", "session"], sort=False):
        numbers = np.sort(part["trial"].to_numpy())
        kinds = [numbers[numbers % 2 == k][:_N_CHANGED] for k in (0, 1)]
        if all(map(len, kinds)):
            return {(subject, session, int(n)) for kind in kinds for n in kind}
    return set()


def _find_changes(paradigm, corpus: _LabelFree, only) -> np.ndarray:
    """Return the change of each trial of even number as those of odd number do."""
    subjects = [next(iter(only))[0]]
    (X, _, metadata), (louder, _, _) = (
        paradigm.get_data(corpus.make(only=only, changed=changed), subjects=subjects)
        for changed in (False, True)
    )
    same = (metadata["trial"] % 2 == 0).to_numpy()
    spread = X.std(axis=0).mean()
    axes = tuple(range(1, X.ndim))
    change = np.abs(louder[same] - X[same]).mean(axis=axes) / spread
    # The filter carries neighbours into the ends of a trial; shared statistics change
    # all of it.
    return pd.Series(change).groupby(metadata["trial"][same].to_numpy()).median()


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


def _find_shared(ids, numbers, folds, span: int) -> dict[str, float]:
    """Return the fraction of test windows by what they share with training windows.

    ``ids`` are numbers of trial, stimulus, session and subject, ``numbers`` those of
    the windows within their trials.
    """
    # A number for each window whose neighbours within the span stay in its trial.
    places = ids["trial"] * (int(numbers.max()) + 1 + 2 * span) + numbers + span
    steps = range(-span, span + 1)
    n_shared = dict.fromkeys(("window overlap", *ids), 0)
    for train, test in folds:
        known = _flag(places[train], int(places.max()) + span + 1)
        overlaps = [known[places[test] + step] for step in steps]
        n_shared["window overlap"] += int(np.any(overlaps, axis=0).sum())
        for what, codes in ids.items():
            known = _flag(codes[train], int(codes.max()) + 1)
            n_shared[what] += int(known[codes[test]].sum())
    n_test = sum(len(test) for _, test in folds)
    return {what: n / n_test for what, n in n_shared.items() if n}


def _flag(values: np.ndarray, n: int) -> np.ndarray:
    """Return which of the numbers below n are among the values."""
    found = np.zeros(n, bool)
    found[values] = True
    return found


def _find_neighbours(features, trials, folds) -> np.ndarray:
    """Return (nearest training row, test row) of test windows of all folds."""
    pairs = []
    for train, test in folds:
        train, test = (_sample(rows, trials) for rows in (train, test))
        if len(train) > _N_NEIGHBOURS:
            train = train[np.linspace(0, len(train) - 1, _N_NEIGHBOURS).astype(int)]
        scaler = StandardScaler().fit(features[train])
        nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(
            scaler.transform(features[train])
        )
        found = nearest.kneighbors(scaler.transform(features[test]))[1][:, 0]
        pairs.append(np.stack([train[found], test], axis=1))
    return np.concatenate(pairs)


def _sample(rows: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Return evenly spaced rows of each trial, not more of any than a limit."""
    by_trial = pd.Series(rows).groupby(trials[rows])
    number = by_trial.cumcount().to_numpy()
    wanted = np.minimum(by_trial.transform("size").to_numpy(), _N_OF_TRIAL)
    share = wanted / by_trial.transform("size").to_numpy()
    return rows[np.floor((number + 1) * share + 1e-9) > np.floor(number * share + 1e-9)]


def _span(paradigm) -> int:
    """Return over how many windows a window still shares samples."""
    return int(np.ceil(round(paradigm.window / paradigm.stride, 9))) - 1


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
