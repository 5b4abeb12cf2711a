"""What the emotion corpora have in common: finding them on disk, trials, raws."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from pathlib import Path
from typing import ClassVar

import mne
import numpy as np
import pandas as pd
from moabb.datasets.base import (
    BaseDataset,
    CacheConfig,
    _enrich_raw_info_from_metadata,
    apply_step,
)
from moabb.datasets.bids_interface import StepType
from moabb.datasets.metadata.schema import DatasetMetadata
from moabb.datasets.preprocessing import FixedPipeline, FixedTransformer

from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError

__all__ = ["RATING_NAMES", "EmotionDataset", "Trial"]

log = logging.getLogger(__name__)

RATING_NAMES = (
    "valence",
    "arousal",
    "dominance",
    "liking",
    "predictability",
    "familiarity",
)

# MNE 1.14 drops the old name of its 10-05 template; both carry the same positions.
_MONTAGE_NAMES = ("colin27_1005", "standard_1005")

# What unfinished downloads and archives are called.
_REMAINS = r"(?i).+\.(zip|rar|7z|tar|t?gz|zip\.\d+|part|partial|crdownload|html?)"

# One file, or those of a session whose trials lie in files of their own.
Recording = Path | tuple[Path, ...]


@dataclass(frozen=True)
class Trial:
    """One trial of a recording: what was shown, where it lies, how it was rated.

    Parameters
    ----------
    trial : int
        Number of the trial in presentation order within its session, from 0.
    stimulus : str
        Name of the stimulus, unique within the corpus.
    emotion : str
        The corpus's own class, a key of the dataset's ``event_id``.
    length : float
        True duration of the trial, in seconds.
    onset : float
        Start of the trial within its run, in seconds.
    ratings : mapping of str to float
        Self-assessment by dimension (see ``RATING_NAMES``), empty where the corpus
        has none.
    details : mapping of str to int, float or str
        What else the corpus says of the trial, by the dataset's ``details``.
    """

    trial: int
    stimulus: str
    emotion: str
    length: float
    onset: float = 0.0
    ratings: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, int | float | str] = field(default_factory=dict)

    def to_extras(self) -> dict:
        """Return what an MNE annotation carries of the trial beside its times."""
        return {
            "trial": self.trial,
            "stimulus": self.stimulus,
            "length": self.length,
            "emotion": self.emotion,
            **self.ratings,
            **self.details,
        }


class EmotionDataset(BaseDataset):
    """Base class of the emotion corpora, which their users hold on disk.

    A subclass names itself in the class attributes, finds its files in
    :meth:`_find_recordings` and reads them in :meth:`_read_recording` and, without
    the signals, in :meth:`_read_trials`.

    Parameters
    ----------
    subjects : list of int or None
        Subjects to use, all by default.
    sessions : list of int or None
        Recording sessions to use, all by default.
    path : str, Path or None
        Folder of the corpus. By default the MNE setting
        ``MNE_DATASETS_<KEY>_PATH`` (configuration or environment), else the folder
        ``MNE-<code>-data`` below the setting ``MNE_DATA``, which is ``~/mne_data``
        where it was never set. The files may lie at any depth below it.
    on_error : {"raise", "warn"}
        What a broken trial or recording does: stop with an error, or be logged and
        left out. Labels that contradict the published ones, recordings that are
        there twice, files of another corpus and hostile files are always an error.
    return_all_modalities : bool or dict
        As in MOABB: ``False`` keeps the EEG alone, ``True`` all channels, a dict
        what :func:`mne.pick_types` makes of it.

    Notes
    -----
    MOABB's disk cache (``cache_config``) does not notice that files have changed: it
    gives back what it kept of them. Pass ``overwrite_raw=True`` and the like after
    files were fetched again; :meth:`file_stamp` tells whether they were.
    """

    # What a subclass states.
    all_subject_numbers: ClassVar[Sequence[int]]
    n_sessions_per_subject: ClassVar[int]
    n_trials_per_session: ClassVar[int]
    # Subjects of whom the release, or some copy of it, has no recording.
    unreleased_subjects: ClassVar[Sequence[int]] = ()
    classes: ClassVar[Mapping[str, int]]
    code_name: str
    path_key: ClassVar[str]
    # [start, stop] in seconds that every trial of the release contains.
    common_interval: ClassVar[Sequence[float]]
    doi_name: ClassVar[str]
    access_url: ClassVar[str]
    expected_files: tuple[str, str]
    # Which of RATING_NAMES the corpus has, and what its classes say of valence
    # ("negative", "neutral" or "positive") where it has no rating of it.
    ratings: ClassVar[tuple[str, ...]] = ()
    valence_of_class: ClassVar[Mapping[str, str]] = {}
    # What else the corpus says of its trials: further columns of the metadata.
    details: ClassVar[tuple[str, ...]] = ()
    METADATA: DatasetMetadata | None = None

    def __init__(
        self,
        subjects=None,
        sessions=None,
        *,
        path=None,
        on_error="raise",
        return_all_modalities=False,
    ):
        for name, value in (("subjects", subjects), ("sessions", sessions)):
            if isinstance(value, int | str | Path):
                raise ValueError(
                    f"{name} must be a list of numbers or None, but got {value!r}."
                )
        if on_error not in ("raise", "warn"):
            raise ValueError(
                f'on_error must be "raise" or "warn", but got {on_error!r}.'
            )
        self.path = path
        self.on_error = on_error
        self._trials: dict[int, pd.DataFrame] = {}
        super().__init__(
            subjects=self.all_subject_numbers,
            sessions_per_subject=self.n_sessions_per_subject,
            events=dict(self.classes),
            code=self.code_name,
            interval=list(self.common_interval),
            paradigm="emotion",
            doi=self.doi_name,
            selected_subjects=subjects,
            selected_sessions=sessions,
            return_all_modalities=return_all_modalities,
        )

    # -- where the files are ---------------------------------------------------

    def find_root(self, path=None) -> Path:
        """Return the folder in which the corpus is looked for.

        Parameters
        ----------
        path : str, Path or None
            Overrules the constructor's ``path`` and the settings.

        Returns
        -------
        Path
            Absolute folder.

        Raises
        ------
        CorpusNotFoundError
            If there is no such folder.
        """
        root = self._named_root(path)
        if not root.is_dir():
            reason = "There is no such folder."
            if root.is_file():
                reason = "It is a file, not the folder that the files lie in."
            raise self._not_found(root, reason)
        return root

    def _named_root(self, path=None) -> Path:
        """Return the folder that argument or settings name, be it there or not."""
        setting = f"MNE_DATASETS_{self.path_key}_PATH"
        path = path or self.path or mne.get_config(setting)
        if path is None:
            mne_data = mne.get_config("MNE_DATA") or Path.home() / "mne_data"
            # Sources of one corpus have codes of their own, but one folder.
            path = Path(mne_data) / f"MNE-{type(self).code_name}-data"
        return Path(path).expanduser().absolute()

    def data_path(
        self, subject, path=None, force_update=False, update_path=None, verbose=None
    ):
        """Return the files of a subject; nothing is downloaded or written.

        Parameters
        ----------
        subject : int
            Number of the subject.
        path : str, Path or None
            Folder of the corpus, see the class.
        force_update : bool
            Must be false: the corpus is behind a licence form and is never
            downloaded.
        update_path, verbose : None
            Part of MOABB's interface, without effect here.

        Returns
        -------
        list of str
            The files of the recordings, in the order of the sessions.

        Raises
        ------
        CorpusNotFoundError
            If the corpus or the subject's files are not there.
        """
        if force_update:
            raise ValueError(
                f"{self.code} cannot be downloaded again: its files come from its "
                f"makers, who ask for a signed licence ({self.access_url})."
            )
        return _names_of(self._recordings(subject, path))

    def _recordings(self, subject: int, path=None) -> dict[str, Recording]:
        """Return the subject's files by session key."""
        if subject not in self.all_subjects:
            raise ValueError(
                f"subject must be one of {self.all_subjects}, but got {subject!r}."
            )
        root = self.find_root(path)
        found = self._find_recordings(root, subject)
        recordings = {key: found[key] for key in found if self._is_selected(key)}
        if not recordings:
            asked = f" (sessions {self._selected_sessions})" if found else ""
            raise self._not_found(
                root, f"No file of subject {subject}{asked} lies below it."
            )
        expected = filter(self._is_selected, map(str, range(self.n_sessions)))
        if missing := [key for key in expected if key not in recordings]:
            reason = f"Sessions {missing} of subject {subject} are missing below it."
            if self._selected_sessions is not None and self.on_error == "raise":
                raise self._not_found(root, reason)  # it was asked for by number
            reason += _hint_at_remains(root)
            log.warning("%s was looked for in %s. %s", self.code, root, reason)
        return recordings

    def _recordings_but_gaps(self, subject: int) -> dict[str, Recording]:
        """Return the same, nothing of a known gap where all subjects are asked for.

        Nobody has all of them, so that by default no call could go through.
        """
        self.find_root()
        try:
            return self._recordings(subject)
        except CorpusNotFoundError as error:
            everybody = self.subject_list == self.all_subjects
            if subject not in self.unreleased_subjects or not everybody:
                raise
            log.warning("%s: subject %s is left out. %s", self.code, subject, error)
            return {}

    def _not_found(self, root: Path, reason: str) -> CorpusNotFoundError:
        first, second = self.expected_files
        return CorpusNotFoundError(
            f"{self.code} was looked for in {root}. {reason}{_hint_at_remains(root)} "
            f"Expected are files such as {first} and {second}, at any depth below "
            f"that folder. The corpus cannot be downloaded by a program: ask its "
            f"makers for it at {self.access_url} (a signed licence is needed). If you "
            f"have it, say where: {type(self).__name__}(path=...), or set "
            f"MNE_DATASETS_{self.path_key}_PATH."
        )

    def _broken(self, message: str, cause: Exception | None = None) -> None:
        """Raise for a broken file, or log it if the user asked for that."""
        if self.on_error == "warn":
            text = "%s Left out, as on_error='warn'."
            log.warning(text, message, extra={"left_out": True})
            return
        raise CorpusFormatError(
            f'{message} Fetch the file again, or pass on_error="warn" to leave out '
            "what is broken."
        ) from cause

    # -- what a subclass reads -------------------------------------------------

    @abstractmethod
    def _find_recordings(self, root: Path, subject: int) -> dict[str, Recording]:
        """Return the subject's files below ``root`` by session key, in order."""

    @abstractmethod
    def _read_recording(
        self, file: Recording, session: str
    ) -> Iterator[tuple[str, mne.io.BaseRaw]]:
        """Yield (run key, raw) of one file, raws made by :meth:`_make_raw`.

        One after the other, so that they need not be in memory together.
        """

    @abstractmethod
    def _read_trials(self, file: Recording, session: str) -> dict[str, list[Trial]]:
        """Return the trials of one file by run key, with as little reading as it takes.

        MOABB's disk cache gives signals back without the types of the annotations'
        extras, or without annotations; the metadata come from here.
        """

    def _count_published_trials(self, subject: int) -> int:
        """Return how many trials a session of a subject has in the release."""
        return self.n_trials_per_session

    def _other_checks(self, root: Path) -> Iterator[Callable[[], object]]:
        """Yield a check for each file that reading the trials does not look at.

        A check raises, or logs, as reading a recording does.
        """
        yield from ()

    def _make_raw(
        self,
        data: np.ndarray,
        ch_names: Sequence[str],
        ch_types: Sequence[str],
        sfreq: float,
        trials: Sequence[Trial],
        positions: Mapping[str, str] | None = None,
    ) -> mne.io.RawArray:
        """Build a raw with its trials as annotations.

        ``data`` (n_chans, n_times) is in volts where the type has volts.
        ``positions`` names the 10-05 site of electrodes that the template does not
        know by name.
        """
        info = mne.create_info(list(ch_names), sfreq, list(ch_types))
        raw = mne.io.RawArray(data, info, verbose=False)
        raw.set_montage(_montage(ch_names, positions or {}), on_missing="ignore")
        raw.set_annotations(
            mne.Annotations(
                onset=[trial.onset for trial in trials],
                duration=[trial.length for trial in trials],
                description=[trial.emotion for trial in trials],
                extras=[trial.to_extras() for trial in trials],
            )
        )
        return raw

    # -- MOABB's interface -----------------------------------------------------

    def _get_single_subject_data(self, subject):
        return self._read_subject(subject, lambda raw: raw)

    def _get_single_subject_data_using_cache(
        self, subject, cache_config, process_pipeline
    ):
        if cache_config != CacheConfig():
            return super()._get_single_subject_data_using_cache(
                subject, cache_config, process_pipeline
            )
        # MOABB takes all raws of a subject through one step, then through the next.
        # With nothing to cache, each run is finished before the next one is read.
        steps = [step for _, step in process_pipeline.steps]
        return self._read_subject(subject, lambda raw: reduce(_apply, steps, raw))

    def _read_subject(self, subject: int, process: Callable) -> dict:
        """Return what ``process`` makes of each raw, by session and run key."""
        data, trials = {}, []
        recordings = self._recordings_but_gaps(subject)
        for session, file in recordings.items():
            runs = {}
            for run, raw in self._read_recording(file, session):
                if self.METADATA is not None:
                    _enrich_raw_info_from_metadata(raw, self.METADATA, subject)
                # Labels may depend on the subject, of whom a paradigm knows by this.
                known = raw.info["subject_info"] or {}
                raw.info["subject_info"] = {**known, "his_id": str(subject)}
                keys = {"subject": subject, "session": session, "run": run}
                extras = filter(None, raw.annotations.extras)
                trials += [keys | trial for trial in extras]
                try:
                    runs[run] = process(raw)
                except ValueError as error:
                    raise ValueError(
                        f"{self.code}, subject {subject}, session {session}, "
                        f"run {run}: {error}"
                    ) from error
            if runs:
                data[session] = runs
        if recordings and not data:  # all of it was broken, and on_error is "warn"
            log.warning("%s: subject %s is left out.", self.code, subject)
        self._trials[subject] = self._make_trial_table(trials)
        return data

    def _is_selected(self, session: str) -> bool:
        # MOABB filters sessions after loading; a session not asked for is not read.
        selected = self._selected_sessions
        return selected is None or session in {str(number) for number in selected}

    def _create_process_pipeline(self):
        # MOABB would give every trial the one duration of `interval`; ours are true.
        return FixedPipeline([(StepType.RAW, _KeepAnnotations(self._cache_key()))])

    def _cache_key(self) -> str:
        """Name what recordings depend on, as MOABB's caches know the code alone.

        A replica would come back for the corpus itself, one session for all of them.
        """
        return (
            f"root={self._named_root()}, sessions={self._selected_sessions}, "
            f"on_error={self.on_error}, modalities={self.return_all_modalities}"
        )

    def get_additional_metadata(self, subject, session, run):
        """Return what is known of the trials of one run.

        Parameters
        ----------
        subject : int
            Number of the subject.
        session, run : str
            Keys of the session and of the run.

        Returns
        -------
        DataFrame
            One row a trial, with ``subject``, ``session``, ``run``, ``trial``,
            ``stimulus``, ``length`` (s), ``emotion``, the ratings and what else the
            corpus says of its trials.
        """
        if subject not in self._trials:
            self._trials[subject] = self.trial_table(subject)
        table = self._trials[subject]
        rows = (table["session"] == session) & (table["run"] == run)
        return table[rows].reset_index(drop=True)

    def trial_table(self, subject):
        """Return what is known of all trials of a subject, without their signals.

        Parameters
        ----------
        subject : int
            Number of the subject.

        Returns
        -------
        DataFrame
            One row a trial, as in :meth:`get_additional_metadata`. None of a subject
            whom the release lacks, where all subjects are asked for.
        """
        return self._make_trial_table(
            {"subject": subject, "session": session, "run": run} | trial.to_extras()
            for session, file in self._recordings_but_gaps(subject).items()
            for run, trials in self._read_trials(file, session).items()
            for trial in trials
        )

    def source_files(self, subject):
        """Return the files that the signals of a subject are read from.

        Parameters
        ----------
        subject : int
            Number of the subject.

        Returns
        -------
        list of str
            Those of :meth:`data_path`, and what is read beside them. None of a subject
            whom the release lacks, where all subjects are asked for.
        """
        return _names_of(self._recordings_but_gaps(subject))

    def file_stamp(self):
        """Return a hash that changes with the files of the corpus.

        It is of name, size and time of change of the :meth:`source_files` of all
        subjects in use, and of their trials, as labels may lie in other files.
        It takes as long as all of :meth:`trial_table`. Subjects whose files are not
        there are passed over.

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        parts = []
        for subject in self.subject_list:
            try:
                files = map(Path, self.source_files(subject))
                trials = self.trial_table(subject).to_json()
            except CorpusNotFoundError:
                continue
            stats = [(file.name, file.stat()) for file in files if file.exists()]
            stamps = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
            parts.append((subject, stamps, trials))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def first_raw(self):
        """Return the first recording that can be read, for what it says of channels.

        Returns
        -------
        mne.io.BaseRaw
            One run of the first subject that has one.
        """
        for subject in self.subject_list:
            for session, file in self._recordings_but_gaps(subject).items():
                for _, raw in self._read_recording(file, session):
                    return raw
        raise self._not_found(self.find_root(), "No recording in it can be read.")

    def _make_trial_table(self, rows) -> pd.DataFrame:
        fields = ("trial", "stimulus", "length", "emotion", *self.ratings)
        columns = ["subject", "session", "run", *fields, *self.details]
        return pd.DataFrame(list(rows), columns=columns)


def _names_of(recordings: Mapping[str, Recording]) -> list[str]:
    several = [[one] if isinstance(one, Path) else one for one in recordings.values()]
    return [str(file) for files in several for file in files]


def _apply(raw, step):
    return apply_step(step, raw)


class _KeepAnnotations(FixedTransformer):
    """Hand on the raw as the corpus made it."""

    def __init__(self, source: str):
        self.source = source

    def __repr__(self):
        return f"KeepAnnotations({self.source})"

    def transform(self, raw, y=None):
        return raw


def find_files(
    root: Path, pattern: str | re.Pattern
) -> Iterator[tuple[Path, re.Match]]:
    """Yield (file, match) of the names below ``root`` that match, in sorted order."""
    seen = set()
    for folder, subfolders, names in os.walk(
        root, followlinks=True, onerror=_log_unreadable
    ):
        # Corpora are often links to a shared disk; a link upwards must not loop.
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if match := re.fullmatch(pattern, name):
                yield Path(folder, name), match


def _log_unreadable(error: OSError) -> None:
    log.warning("A folder cannot be read, so it is left out: %s", error)


def find_remains(root: Path) -> list[Path]:
    """Return what looks like archives and unfinished downloads, by its name."""
    return [file for file, _ in find_files(root, _REMAINS)]


def _hint_at_remains(root: Path) -> str:
    remains = find_remains(root) if root.is_dir() else []
    if not remains:
        return ""
    return (
        f" But {remains[0]} lies there ({len(remains)} archives, web pages or "
        "unfinished downloads in all): unpack it, or fetch it again."
    )


def find_flaw(data: np.ndarray, sfreq: float, n_eeg: int) -> str | None:
    """Say what shows that signals are damaged, None where nothing does.

    ``data`` (n_chans, n_times) are those of one trial, the first ``n_eeg`` channels
    EEG.
    """
    if data.dtype.kind != "f":
        return f"holds no floating-point numbers, but {data.dtype}"
    if not np.isfinite(data).all():
        return "holds values that are no finite numbers"
    second = round(sfreq)
    whole = data[:n_eeg, : data.shape[1] // second * second]
    seconds = whole.reshape(n_eeg, -1, second)
    # As in files whose rest was never written, be there room for it on the disk.
    still = (np.ptp(seconds, axis=2) == 0).all(axis=0)
    if still.any():
        return f"holds EEG that stands still for a second, {np.argmax(still)} s in"
    return None


def template_positions(
    ch_names: Sequence[str], sites: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Return where MNE's 10-05 template has the channels, those that it knows.

    ``sites`` names the 10-05 site of a channel whose own name is unknown there.
    """
    known = _template().get_positions()["ch_pos"]
    by_channel = {name: sites.get(name, name) for name in ch_names}
    return {name: known[site] for name, site in by_channel.items() if site in known}


@cache
def _template() -> mne.channels.DigMontage:
    known = mne.channels.get_builtin_montages()
    name = next(name for name in _MONTAGE_NAMES if name in known)
    return mne.channels.make_standard_montage(name)


def _montage(
    ch_names: Sequence[str], sites: Mapping[str, str]
) -> mne.channels.DigMontage:
    """Return the template positions of the channels, in the head's coordinates."""
    template = _template().get_positions()
    template["ch_pos"] = template_positions(ch_names, sites)
    return mne.channels.make_dig_montage(**template)
