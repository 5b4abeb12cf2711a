"""What of a corpus is on disk, and whether it is sound."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from braindecode_emossl.datasets.base import EmotionDataset
from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError

__all__ = ["Inspection", "inspect_corpus"]


@dataclass
class Inspection:
    """What was found of a corpus.

    Attributes
    ----------
    corpus : str
        Code of the corpus.
    root : str or None
        Folder that was searched, None where there is none.
    access_url : str
        Where the licence is asked for.
    n_subjects, n_sessions, n_trials : int
        What was found.
    expected_subjects, expected_sessions, expected_trials : int
        What the whole release holds.
    missing_subjects : list of int
        Subjects without a file.
    missing_sessions : list of str
        One sentence for each subject some of whose sessions are not there.
    problems : list of str
        One sentence for each thing that is not as published.
    """

    corpus: str
    root: str | None
    access_url: str
    n_subjects: int = 0
    n_sessions: int = 0
    n_trials: int = 0
    expected_subjects: int = 0
    expected_sessions: int = 0
    expected_trials: int = 0
    missing_subjects: list[int] = field(default_factory=list)
    missing_sessions: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Return "not found", "broken", "incomplete" or "complete"."""
        if self.problems:
            return "broken"
        if not self.n_subjects:
            return "not found"
        whole = self.n_trials >= self.expected_trials
        return "complete" if whole else "incomplete"


def inspect_corpus(
    dataset: EmotionDataset,
    *,
    read_signals: bool,
    on_subject: Callable[[int], None] = lambda subject: None,
) -> Inspection:
    """Walk through a corpus and report all that is there and all that is wrong.

    Parameters
    ----------
    dataset : EmotionDataset
        The corpus; made with ``on_error="warn"``, so that the walk goes on.
    read_signals : bool
        Whether to read the signals too, not only what tells of the trials.
    on_subject : callable
        Called before each subject with its number.

    Returns
    -------
    Inspection
        What was found.
    """
    expected = dataset.METADATA
    report = Inspection(
        corpus=dataset.code,
        root=None,
        access_url=dataset.access_url,
        expected_subjects=expected.participants.n_subjects,
        expected_sessions=expected.participants.n_subjects
        * expected.sessions_per_subject,
        expected_trials=dataset._summary_table["Total_trials"],
    )
    try:
        report.root = str(dataset.find_root())
    except CorpusNotFoundError:
        report.missing_subjects = list(dataset.subject_list)
        return report
    for subject in dataset.subject_list:
        on_subject(subject)
        _inspect_subject(dataset, subject, read_signals, report)
    return report


def _inspect_subject(dataset, subject, read_signals, report) -> None:
    try:
        with _collect_warnings(report.missing_sessions):
            recordings = dataset._recordings(subject)
    except CorpusNotFoundError:
        report.missing_subjects.append(subject)
        return
    except CorpusFormatError as error:
        report.problems.append(str(error))
        return
    report.n_subjects += 1
    for session, file in recordings.items():
        report.n_sessions += 1
        try:
            with _collect_warnings(report.problems):
                report.n_trials += _count_trials(dataset, file, session, read_signals)
        except CorpusFormatError as error:
            report.problems.append(str(error))


def _count_trials(dataset, file, session, read_signals) -> int:
    if not read_signals:
        return sum(map(len, dataset._read_trials(file, session).values()))
    return sum(
        "trial" in extras
        for _, raw in dataset._read_recording(file, session)
        for extras in raw.annotations.extras
    )


@contextmanager
def _collect_warnings(messages: list[str]) -> Iterator[None]:
    """Append what the loaders log of broken or missing files, not to show it."""
    log = logging.getLogger("braindecode_emossl.datasets")  # parent of all loaders'
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    log.addHandler(handler)
    propagate, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
