"""The protocols: how trials are divided, and what the parts must not share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    # (trials, options, seed) -> parts of each fold
    _Split = Callable[[pd.DataFrame, Mapping[str, Any], int], Iterator["Parts"]]

__all__ = ["KEYS", "PROTOCOLS", "Parts", "Protocol"]

#: Columns of the metadata that identify what the parts of a fold may share.
KEYS = {
    "trial": ("corpus", "subject", "session", "trial"),
    "stimulus": ("corpus", "stimulus"),
    "session": ("corpus", "subject", "session"),
    "subject": ("corpus", "subject"),
    "corpus": ("corpus",),
}

# Regime of a protocol by what its training set and its test set do not share.
_REGIMES = {"subject": "subject-disjoint", "session": "cross-session"}
# Options of every protocol.
_COMMON = {"adapt": None}
# Options that replace a splitter.
_NOT_FOR_SPLITTERS = {*_COMMON, "folds"}


def _none() -> np.ndarray:
    return np.empty(0, int)


@dataclass(frozen=True)
class Parts:
    """The trials of one fold, as row numbers of the table of trials.

    Attributes
    ----------
    train, test : ndarray of int
        Trials of the training set and of the test set.
    calibration : ndarray of int
        Trials of the test subject that are given with their labels.
    validation : ndarray of int
        Trials of the validation subjects.
    """

    train: np.ndarray
    test: np.ndarray
    calibration: np.ndarray = field(default_factory=_none)
    validation: np.ndarray = field(default_factory=_none)


@dataclass(frozen=True)
class Protocol:
    """One way to divide the trials of a corpus, or of several corpora.

    Attributes
    ----------
    name : str
        The name that :func:`evaluate` takes.
    summary : str
        One sentence on the training set and the test set.
    split : callable
        Called with the table of labelled trials (one row a trial, with the columns of
        ``KEYS`` and ``label``), the options and the seed; yields :class:`Parts`.
    never_shared : tuple of str
        Keys of ``KEYS`` that the training set and the test set must not share.
    unlabeled_apart : tuple of str
        Keys that trials without labels must not share with the test set in order to
        join the training set.
    options : mapping of str to object
        Options of the protocol, with their defaults.
    by_subject : bool
        Whether a fold needs the windows of one subject alone.
    across_corpora : bool
        Whether a fold needs several corpora.
    in_order : bool
        Whether all training trials of a recording precede its test trials.
    """

    name: str
    summary: str
    split: _Split
    never_shared: tuple[str, ...]
    unlabeled_apart: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    by_subject: bool = False
    across_corpora: bool = False
    in_order: bool = False

    @property
    def regime(self) -> str:
        """What the training set and the tested recordings have in common.

        ``"subject-dependent"``, ``"cross-session"``, ``"subject-disjoint"`` or
        ``"cross-corpus"``. Labelled trials that are given of a test subject are the
        concern of ``target_access``.
        """
        if self.across_corpora:
            return "cross-corpus"
        for key, regime in _REGIMES.items():
            if key in self.unlabeled_apart:
                return regime
        return "subject-dependent"

    def complete(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options: the given ones and the defaults of the others.

        Parameters
        ----------
        options : mapping of str to object
            Options that the caller set.

        Returns
        -------
        dict of str to object
            In the order of the protocol.

        Raises
        ------
        ValueError
            If the protocol has no such option, or ``adapt`` is unknown.
        """
        defaults = {**self.options, **_COMMON}
        if unknown := sorted(set(options) - set(defaults)):
            raise ValueError(
                f"The options of the protocol {self.name!r} must be among "
                f"{sorted(defaults)}, but got {unknown}."
            )
        chosen = {name: _plain(v) for name, v in {**defaults, **options}.items()}
        if chosen["adapt"] not in (None, "unlabeled"):
            raise ValueError(
                f'adapt must be None or "unlabeled", but got {chosen["adapt"]!r}.'
            )
        _check_folds(chosen, options)
        return chosen


def _check_folds(chosen: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Check that the makers' folds are asked for without a number of folds."""
    folds = chosen.get("folds")
    if folds not in (None, "official"):
        raise ValueError(f'folds must be None or "official", but got {folds!r}.')
    if folds and "n_splits" in given:
        raise ValueError(
            'n_splits cannot be combined with folds="official": the makers of the '
            "corpus have chosen how many there are."
        )


def _plain(value):
    """Return an option as JSON has it, so that stored results are found again."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple | range):
        return [_plain(item) for item in value]
    return value


# -- how trials are divided ----------------------------------------------------
# Splitters are imported where they are used: MOABB's take seconds, and the names of the
# protocols complete commands.


def _within_session(trials, options, seed):
    if options["folds"] is not None:
        yield from _official(trials, options["folds"])
        return
    from moabb.evaluations.splitters import WithinSessionSplitter

    from braindecode_emossl.evaluation.splitters import TrialKFold

    splitter = WithinSessionSplitter(
        cv_class=TrialKFold, groups="trial", random_state=seed, **_only(options)
    )
    yield from _pairs(splitter, trials)


def _official(trials, fold_of) -> Iterator[Parts]:
    """Yield the folds of the makers, from the fold by session and trial."""
    keys = zip(trials["session"], trials["trial"], strict=True)
    folds = np.array([fold_of[key] for key in keys])
    for fold in np.unique(folds):
        yield Parts(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold))


def _chronological(trials, options, seed):
    from moabb.evaluations.splitters import WithinSessionSplitter

    from braindecode_emossl.evaluation.splitters import ChronologicalSplit

    splitter = WithinSessionSplitter(
        cv_class=ChronologicalSplit, groups="trial", random_state=seed, **_only(options)
    )
    return _pairs(splitter, trials)


def _cross_session(trials, options, seed):
    from moabb.evaluations.splitters import CrossSessionSplitter

    return _pairs(CrossSessionSplitter(), trials)


def _leave_one_subject_out(trials, options, seed):
    from moabb.evaluations.splitters import CrossSubjectSplitter

    return _pairs(CrossSubjectSplitter(), trials)


def _subject_stimulus(trials, options, seed):
    from moabb.evaluations.splitters import CrossSubjectSplitter

    from braindecode_emossl.evaluation.splitters import SubjectStimulusKFold

    splitter = CrossSubjectSplitter(
        cv_class=SubjectStimulusKFold,
        groups=lambda metadata: metadata[["subject", "stimulus"]].astype(str),
        random_state=seed,
        **_only(options),
    )
    return _pairs(splitter, trials)


def _subject_kfold(trials, options, seed):
    from moabb.evaluations.splitters import CrossSubjectSplitter
    from sklearn.model_selection import GroupKFold

    splitter = CrossSubjectSplitter(
        cv_class=GroupKFold, shuffle=True, random_state=seed, **_only(options)
    )
    return _pairs(splitter, trials)


def _subject_split(trials, options, seed):
    from braindecode_emossl.evaluation.splitters import SubjectSplit

    splitter = SubjectSplit(**_only(options), random_state=seed)
    yield Parts(**splitter.divide(trials["subject"].to_numpy()))


def _subject_calibration(trials, options, seed):
    from braindecode_emossl.evaluation.splitters import first_trials

    for parts in _leave_one_subject_out(trials, options, seed):
        rows = parts.test
        first = first_trials(trials.iloc[rows], options["n_trials"])
        yield Parts(parts.train, rows[~first], calibration=rows[first])


def _cross_corpus(trials, options, seed):
    from braindecode_emossl.evaluation.splitters import LeaveOneCorpusOut

    corpora, labels = trials["corpus"].to_numpy(), trials["label"].to_numpy()
    splitter = LeaveOneCorpusOut(options["test_corpora"])
    for train, test in splitter.split(trials, labels, corpora):
        yield Parts(train, test)


def _cross_corpus_finetune(trials, options, seed):
    from braindecode_emossl.evaluation.splitters import ChronologicalSplit

    splitter = ChronologicalSplit(options["train_size"])
    for parts in _cross_corpus(trials, options, seed):
        tested = trials.iloc[parts.test]
        for rows in tested.groupby(["corpus", "subject"]).indices.values():
            groups = tested.iloc[rows][["session", "trial"]].to_numpy()
            ((first, last),) = splitter.split(rows, None, groups)
            rows = parts.test[rows]
            yield Parts(parts.train, rows[last], calibration=rows[first])


def _pairs(splitter, trials) -> Iterator[Parts]:
    """Yield the folds of a splitter of MOABB."""
    for train, test in splitter.split(trials["label"].to_numpy(), trials):
        yield Parts(train, test)


def _only(options) -> dict[str, Any]:
    """Return the options that a splitter takes."""
    return {k: v for k, v in options.items() if k not in _NOT_FOR_SPLITTERS}


#: The protocols of :func:`evaluate` by name.
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Protocol(
                name="within-session",
                summary="Test on whole trials of a session, train on its other trials.",
                split=_within_session,
                never_shared=("trial",),
                unlabeled_apart=("trial",),
                options={"n_splits": 5, "folds": None},
                by_subject=True,
            ),
            Protocol(
                name="chronological",
                summary="Train on the first trials of a session, test on the last.",
                split=_chronological,
                never_shared=("trial",),
                unlabeled_apart=("trial",),
                options={"train_size": 0.6},  # 9 of the 15 trials of SEED
                by_subject=True,
                in_order=True,
            ),
            Protocol(
                name="cross-session",
                summary="Test on one session of a subject, train on the others.",
                split=_cross_session,
                never_shared=("session",),
                unlabeled_apart=("session",),
                by_subject=True,
            ),
            Protocol(
                name="leave-one-subject-out",
                summary="Test on one subject, train on all others; stimuli are shared.",
                split=_leave_one_subject_out,
                never_shared=("subject",),
                unlabeled_apart=("subject",),
            ),
            Protocol(
                name="subject-kfold",
                summary="Test on a group of subjects, train on all others.",
                split=_subject_kfold,
                never_shared=("subject",),
                unlabeled_apart=("subject",),
                options={"n_splits": 5},
            ),
            Protocol(
                name="subject-split",
                summary=(
                    "Divide the subjects once into a training, a validation and a "
                    "test set."
                ),
                split=_subject_split,
                never_shared=("subject",),
                unlabeled_apart=("subject",),
                options={"train": 0.8, "validation": 0.1, "test": 0.1},
            ),
            Protocol(
                name="subject-calibration",
                summary=(
                    "Test on one subject, train on all others and on the first trials "
                    "of each class of the test subject, with their labels."
                ),
                split=_subject_calibration,
                never_shared=("trial",),
                unlabeled_apart=("subject",),
                options={"n_trials": 1},
            ),
            Protocol(
                name="subject-stimulus",
                summary=(
                    "Test on some stimuli of one subject, train on the other subjects "
                    "with the other stimuli."
                ),
                split=_subject_stimulus,
                never_shared=("subject", "stimulus"),
                unlabeled_apart=("subject", "stimulus"),
                options={"n_stimulus_splits": 5},
            ),
            Protocol(
                name="cross-corpus",
                summary="Test on one corpus, which is never seen; train on the others.",
                split=_cross_corpus,
                never_shared=("corpus",),
                unlabeled_apart=("corpus",),
                options={"test_corpora": None, "channels": "intersect"},
                across_corpora=True,
            ),
            Protocol(
                name="cross-corpus-finetune",
                summary=(
                    "Test on one corpus, train on the others and on the first trials "
                    "of each recording of the test subject, with their labels."
                ),
                split=_cross_corpus_finetune,
                never_shared=("trial",),
                unlabeled_apart=("corpus",),
                options={
                    "test_corpora": None,
                    "channels": "intersect",
                    "train_size": 0.6,
                },
                across_corpora=True,
            ),
        )
    }
)
