"""Check which files of a corpus are present and intact."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from braindecode_emossl.datasets.base import EmotionDataset, find_files, find_remains
from braindecode_emossl.errors import (
    CorpusFormatWarning,
    CorpusNotFoundError,
    EmosslError,
)

__all__ = ["Inspection", "inspect_corpus"]


@dataclass
class Inspection:
    """Result of the inspection of a corpus.

    Attributes
    ----------
    corpus : str
        Code of the corpus.
    root : str or None
        Folder that was searched, None if it does not exist.
    access_url : str
        Page of the licence.
    is_open : bool
        Whether the corpus can be downloaded.
    n_subjects, n_sessions, n_trials : int
        Numbers found.
    expected_subjects, expected_sessions, expected_trials : int
        Numbers in the whole release. Subjects that only some copies have count if they
        were found.
    missing_subjects : list of int
        Subjects of the release without a file.
    missing_sessions : list of str
        One sentence for each subject with missing sessions.
    missing_trials : list of str
        One sentence for each session with fewer trials than the release has.
    problems : list of str
        One sentence for each deviation from the published files.
    remarks : list of str
        One sentence for each oddity that does no harm.
    """

    corpus: str
    root: str | None
    access_url: str
    is_open: bool = False
    n_subjects: int = 0
    n_sessions: int = 0
    n_trials: int = 0
    expected_subjects: int = 0
    expected_sessions: int = 0
    expected_trials: int = 0
    missing_subjects: list[int] = field(default_factory=list)
    missing_sessions: list[str] = field(default_factory=list)
    missing_trials: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Return "not found", "broken", "incomplete" or "complete"."""
        if self.problems:
            return "broken"
        if not self.n_subjects:
            return "not found"
        whole = self.n_trials >= self.expected_trials and not self.missing_trials
        return "complete" if whole else "incomplete"


def inspect_corpus(
    dataset: EmotionDataset,
    *,
    read_signals: bool,
    on_subject: Callable[[int], None] = lambda subject: None,
) -> Inspection:
    """Report what is present, missing and broken in a corpus.

    Parameters
    ----------
    dataset : EmotionDataset
        The corpus, made with ``on_error="warn"`` so that the inspection continues
        after an error.
    read_signals : bool
        Whether to read the signals and the files alongside the recordings, not only
        the trials.
    on_subject : callable
        Called before each subject with its number.

    Returns
    -------
    Inspection
        The result.
    """
    released = {*dataset.all_subjects} - {*dataset.unreleased_subjects}
    n_sessions = dataset.n_sessions_per_subject
    report = Inspection(
        corpus=dataset.code,
        root=None,
        access_url=dataset.access_url,
        is_open=dataset.is_open,
        expected_subjects=len(released),
        expected_sessions=len(released) * n_sessions,
        expected_trials=n_sessions
        * sum(map(dataset._count_published_trials, released)),
    )
    try:
        root = dataset.find_root()
    except CorpusNotFoundError:
        report.missing_subjects = _released(dataset)
        return report
    report.root = str(root)
    for subject in dataset.subject_list:
        on_subject(subject)
        _inspect_subject(dataset, subject, read_signals, report)
    if read_signals:
        for check in _other_checks(dataset, root, report):
            with _collect_messages(report, report.remarks):
                check()
        report.remarks += _find_leftovers(root)
    # Problems of shared files were met once per subject.
    report.problems = list(dict.fromkeys(report.problems))
    report.remarks = list(dict.fromkeys(report.remarks))
    return report


def _released(dataset) -> list[int]:
    return [
        subject
        for subject in dataset.subject_list
        if subject not in dataset.unreleased_subjects
    ]


def _inspect_subject(dataset, subject, read_signals, report) -> None:
    recordings = {}
    n_problems = len(report.problems)
    with (
        _collect_messages(report, report.missing_sessions),
        suppress(CorpusNotFoundError),
    ):
        recordings = dataset._recordings(subject)
    if not recordings:
        # A subject whose only file is broken is not missing.
        if subject in _released(dataset) and len(report.problems) == n_problems:
            report.missing_subjects.append(subject)
        return
    report.n_subjects += 1
    if subject in dataset.unreleased_subjects:  # this copy has it
        report.expected_subjects += 1
        report.expected_sessions += dataset.n_sessions
        report.expected_trials += dataset._count_published_trials(subject)
    for session, file in recordings.items():
        report.n_sessions += 1
        n_trials = 0
        with _collect_messages(report, report.remarks):
            n_trials = _count_trials(dataset, file, session, read_signals)
        report.n_trials += n_trials
        expected = dataset._count_published_trials(subject)
        if n_trials < expected:
            report.missing_trials.append(
                f"{dataset.code}: session {session} of subject {subject} has "
                f"{n_trials} intact trials of {expected}."
            )
        elif n_trials > expected:
            report.remarks.append(
                f"{dataset.code}: session {session} of subject {subject} has "
                f"{n_trials} trials, {expected} are published."
            )


def _count_trials(dataset, file, session, read_signals) -> int:
    if not read_signals:
        return sum(map(len, dataset._read_trials(file, session).values()))
    return sum(
        len(signals.trials) for _, signals in dataset._read_recording(file, session)
    )


def _other_checks(dataset, root, report) -> list[Callable[[], object]]:
    checks = []
    with _collect_messages(report, report.remarks):
        checks.extend(dataset._other_checks(root))
    return checks


def _find_leftovers(root: Path) -> Iterator[str]:
    """Yield one sentence per folder with remains of downloads."""
    empty = [
        file
        for file, _ in find_files(root, r"[^.].*")
        if file.is_file() and file.stat().st_size == 0
    ]
    files = sorted({*find_remains(root), *empty})
    for folder, names in groupby(files, key=lambda file: file.parent):
        yield (
            f"{folder} holds empty files, archives, web pages or unfinished downloads: "
            f"{', '.join(file.name for file in names)}."
        )


@contextmanager
def _collect_messages(report: Inspection, others: list[str]) -> Iterator[None]:
    """Collect warnings of what was left out as problems, other warnings apart."""
    problem = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CorpusFormatWarning)
        try:
            yield
        except EmosslError as error:
            problem = str(error)
    for warning in caught:
        message = warning.message
        if isinstance(message, CorpusFormatWarning):
            (report.problems if message.left_out else others).append(str(message))
        else:  # of a host
            warnings.warn_explicit(
                message, warning.category, warning.filename, warning.lineno
            )
    if problem is not None:
        report.problems.append(problem)
