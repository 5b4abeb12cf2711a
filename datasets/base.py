"""The base class of the emotion corpora: finding files, trials and raws."""

from __future__ import annotations

import copy
import operator
import os
import re
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from itertools import chain
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar

import mne
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from moabb.datasets.base import BaseDataset, CacheConfig, apply_step
from moabb.datasets.bids_interface import StepType
from moabb.datasets.metadata.schema import DatasetMetadata
from moabb.datasets.preprocessing import FixedPipeline, FixedTransformer

from braindecode_emossl.checks import is_integer
from braindecode_emossl.datasets.signals import Channels, Signals
from braindecode_emossl.errors import (
    CorpusFormatError,
    CorpusFormatWarning,
    CorpusNotFoundError,
    collect_warnings,
    repeat_warnings,
    warn_of_format,
)
from braindecode_emossl.hosts import set_summary_table
from braindecode_emossl.storage import digest_files, hash_json

__all__ = ["RATING_NAMES", "EmotionDataset", "SubjectPart", "Trial"]

RATING_NAMES = (
    "valence",
    "arousal",
    "dominance",
    "liking",
    "predictability",
    "familiarity",
    "anger",
    "disgust",
    "fear",
    "sadness",
    "amusement",
    "inspiration",
    "joy",
    "tenderness",
)

# Names of unfinished downloads and of archives.
_REMAINS = r"(?i).+\.(zip|rar|7z|tar|t?gz|zip\.\d+|part|partial|crdownload|html?)"


@dataclass(frozen=True)
class SubjectPart:
    """The part of one subject in a file of several."""

    file: Path
    subject: int


# One file, several where each trial of a session has its own, or a part of a file.
Recording = Path | tuple[Path, ...] | SubjectPart


@dataclass(frozen=True)
class Trial:
    """One trial of a recording: its stimulus, position and ratings.

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
        Further columns of the corpus, named in the dataset's ``details``.
    """

    trial: int
    stimulus: str
    emotion: str
    length: float
    onset: float = 0.0
    ratings: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, int | float | str] = field(default_factory=dict)

    def to_extras(self) -> dict:
        """Return the extras of the trial's MNE annotation."""
        return {
            "trial": self.trial,
            "stimulus": self.stimulus,
            "length": self.length,
            "emotion": self.emotion,
            **self.ratings,
            **self.details,
        }


class EmotionDataset(BaseDataset):
    """Base class of the emotion corpora, which are read from a folder on disk.

    A subclass sets the class attributes, finds its files in :meth:`_find_recordings`,
    reads them in :meth:`_read_recording`, and reads the trials without the signals in
    :meth:`_read_trials`.

    Parameters
    ----------
    subjects : list of int or None
        Subjects to use, all by default.
    sessions : list of int or None
        Recording sessions to use, all by default.
    path : str, Path or None
        Folder of the corpus. By default the MNE setting
        ``MNE_DATASETS_<KEY>_PATH`` (configuration or environment), else the folder
        ``MNE-<code>-data`` below the setting ``MNE_DATA``, which defaults to
        ``~/mne_data``. The files may be at any depth below it.
    on_error : {"raise", "warn"}
        Whether a broken trial or recording raises an error, or is left out with a
        `CorpusFormatWarning`. Labels that contradict the published ones, duplicated
        recordings, files of another corpus and hostile files always raise an error.
    return_all_modalities : bool or dict
        As in MOABB: ``False`` keeps only the EEG, ``True`` all channels; a dict is
        passed to :func:`mne.pick_types`.
    mark_bads : bool
        Whether channels without contact, whose signal is flat, and electrodes that a
        BioSemi file lacks, which are filled with zeros, are listed in
        ``raw.info["bads"]``. A warning names them in either case.

    Attributes
    ----------
    sessions : list or None
        The selected sessions, None for all.

    Notes
    -----
    MOABB's disk cache (``cache_config``) does not notice changed files: it returns
    what it stored. Pass ``overwrite_raw=True`` and the like after replacing files;
    :meth:`fingerprint` shows whether they have changed.
    """

    # Set by each subclass.
    all_subject_numbers: ClassVar[Sequence[int]]
    n_sessions_per_subject: ClassVar[int]
    n_trials_per_session: ClassVar[int]
    # Subjects without a recording in the release, or in some copies of it.
    unreleased_subjects: ClassVar[Sequence[int]] = ()
    classes: ClassVar[Mapping[str, int]]
    code_name: str
    path_key: ClassVar[str]
    # [start, stop] in seconds that every trial of the release contains.
    common_interval: Sequence[float]
    doi_name: ClassVar[str]
    access_url: str
    # Whether the corpus can be downloaded, else the condition of its makers.
    is_open: bool = False
    access_terms: str = "a signed licence is needed"
    expected_files: tuple[str, str]
    # The RATING_NAMES of the corpus, and the valence of its classes ("negative",
    # "neutral" or "positive"), which comes before a rating of valence.
    ratings: tuple[str, ...] = ()
    valence_of_class: ClassVar[Mapping[str, str]] = {}
    # Midpoint of the scale of the ratings, their cuts in three classes, and whether
    # the classes are "self-report" or those of the "stimulus".
    rating_midpoint: ClassVar[float | None] = None
    rating_cuts: ClassVar[tuple[float, float]] = (3.0, 6.0)  # from 1 to 9
    class_source: ClassVar[str | None] = None
    # The ratings that `stimulus_table` has.
    stimulus_ratings: ClassVar[tuple[str, ...]] = ()
    # The fold of the makers that tests a trial, by (session key, trial number).
    official_folds: ClassVar[Mapping[tuple[str, int], int]] = {}
    # Lengths of the windows, in seconds, of the features that the makers released, by
    # name, and their channels.
    released_features: Mapping[str, tuple[float, ...]] = {}
    released_channels: ClassVar[Sequence[str]] = ()
    # Band in Hz that the filter of the release has left in the EEG, None if unknown.
    passband: tuple[float, float] | None = None
    # Forms in which `write_replica` writes the corpus, the default first, and the
    # change of log amplitude at the end of a scale in its signals.
    replica_variants: ClassVar[tuple[str, ...]]
    replica_effect: ClassVar[float]
    # Further columns of the metadata.
    details: ClassVar[tuple[str, ...]] = ()
    METADATA: DatasetMetadata | None = None
    # The row of MOABB's summary tables, by MOABB's column names.
    summary_table: Mapping[str, Any]

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "summary_table" in vars(cls):
            set_summary_table(cls)

    def __init__(
        self,
        subjects=None,
        sessions=None,
        *,
        path=None,
        on_error="raise",
        return_all_modalities=False,
        mark_bads=True,
    ):
        subjects = check_numbers("subjects", subjects)
        if on_error not in ("raise", "warn"):
            raise ValueError(
                f'on_error must be "raise" or "warn", but got {on_error!r}.'
            )
        # The working directory may be another one when data are read.
        self.path = None if path is None else _as_folder(path)
        self.on_error = on_error
        self.mark_bads = mark_bads
        self.sessions = check_numbers("sessions", _from_keys(sessions))
        known = list(range(self.n_sessions_per_subject))
        if self.sessions is not None and not set(self.sessions) <= {*known}:
            raise ValueError(
                f"sessions must be a list of some of {known}, but got {sessions!r}."
            )
        for name, chosen in {"subjects": subjects, "sessions": self.sessions}.items():
            if chosen is not None and not chosen:
                raise ValueError(f"{name} is empty. Pass None for all of the corpus.")
        self._trials: dict[int, pd.DataFrame] = {}
        self._offered: dict[Path, list[int]] = {}
        self.raw_map: Callable | None = None
        self.signal_maker: Callable | None = None
        super().__init__(
            subjects=self.all_subject_numbers,
            sessions_per_subject=self.n_sessions_per_subject,
            events=dict(self.classes),
            code=self.code_name,
            interval=list(self.common_interval),
            paradigm="emotion",
            doi=self.doi_name,
            selected_subjects=subjects,
            selected_sessions=self.sessions,
            return_all_modalities=return_all_modalities,
        )
        self._has_selection = subjects is not None

    @property
    def subject_list(self):
        """The subjects in use.

        If none were selected, those of the corpus, without the `unreleased_subjects`
        that have no files below the corpus folder.
        """
        if self._has_selection or not self.unreleased_subjects:
            return self._subject_list
        root = self._named_root()
        if not root.is_dir():
            return list(self._subject_list)
        if root not in self._offered:
            self._offered[root] = [k for k in self._subject_list if self._is_offered(k)]
        return list(self._offered[root])

    @subject_list.setter
    def subject_list(self, subjects):
        self._subject_list = list(subjects)
        self._has_selection = True

    def _is_offered(self, subject: int) -> bool:
        """Return whether a subject is in the release, or in this copy of it."""
        if subject not in self.unreleased_subjects:
            return True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CorpusFormatWarning)
            try:
                return bool(self._recordings(subject))
            except CorpusNotFoundError:
                return False
            except CorpusFormatError:
                return True  # which the user must see

    # -- where the files are ---------------------------------------------------

    def find_root(self, path=None) -> Path:
        """Return the folder of the corpus.

        Parameters
        ----------
        path : str, Path or None
            Overrides the constructor's ``path`` and the settings.

        Returns
        -------
        Path
            Absolute folder.

        Raises
        ------
        CorpusNotFoundError
            If the folder does not exist.
        """
        root = self._named_root(path)
        if not root.is_dir():
            reason = "There is no such folder."
            if root.is_file():
                reason = "It is a file, not the folder that the files lie in."
            raise self._not_found(root, reason)
        return root

    def _named_root(self, path=None) -> Path:
        """Return the folder named by argument or settings; it may not exist."""
        setting = f"MNE_DATASETS_{self.path_key}_PATH"
        if path is None:
            path = self.path or mne.get_config(setting)  # which may be empty
        if path in (None, ""):
            mne_data = mne.get_config("MNE_DATA") or Path.home() / "mne_data"
            path = Path(mne_data) / self._default_folder()
        return _as_folder(path)

    def _default_folder(self) -> str:
        """Return the name of the corpus's folder below ``MNE_DATA``."""
        # The sources of a corpus have different codes but share one folder.
        return f"MNE-{type(self).code_name}-data"

    def data_path(
        self, subject, path=None, force_update=False, update_path=None, verbose=None
    ):
        """Return the files of a subject without downloading or writing anything.

        Parameters
        ----------
        subject : int
            Number of the subject.
        path : str, Path or None
            Folder of the corpus, see the class.
        force_update : bool
            Must be False: the files are not downloaded by this method.
        update_path, verbose : None
            Ignored; part of MOABB's interface.

        Returns
        -------
        list of str
            Files of the recordings, ordered by session.

        Raises
        ------
        CorpusNotFoundError
            If the corpus or the subject's files are missing.
        """
        if force_update:
            raise ValueError(
                f"{self.code} cannot be downloaded again: its files come from its "
                f"makers ({self.access_url}; {self.access_terms})."
            )
        return _names_of(self._recordings(subject, path))

    def _recordings(self, subject: int, path=None) -> dict[str, Recording]:
        """Return the subject's files by session key."""
        subject = self._check_subject(subject)
        root = self.find_root(path)
        found = self._find_recordings(root, subject)
        recordings = {key: found[key] for key in found if self._is_selected(key)}
        if not recordings:
            asked = f" (sessions {self.sessions})" if found else ""
            reason = f"No file of subject {subject}{asked} lies below it."
            if len(self.subject_list) > 1:
                reason += " If others are there, name them by subjects= or --subjects."
            raise self._not_found(root, reason)
        expected = filter(self._is_selected, map(str, range(self.n_sessions)))
        if missing := [key for key in expected if key not in recordings]:
            reason = f"Sessions {missing} of subject {subject} are missing below it."
            if self.sessions is not None and self.on_error == "raise":
                raise self._not_found(root, reason)  # it was requested by number
            reason += _hint_at_remains(root)
            warn_of_format(f"{self.code} was looked for in {root}. {reason}")
        return recordings

    def _check_subject(self, subject) -> int:
        number = as_number(subject)
        if not is_integer(number) or number not in self.all_subjects:
            raise ValueError(
                f"subject must be one of {self.all_subjects}, but got {subject!r}."
            )
        return number

    def _not_found(self, root: Path, reason: str) -> CorpusNotFoundError:
        examples = " and ".join(dict.fromkeys(self.expected_files))
        return CorpusNotFoundError(
            f"{self.code} was looked for in {root}. {reason}{_hint_at_remains(root)} "
            f"Expected are files such as {examples}, at any depth below "
            f"that folder. {self._how_to_get()} If you have it, say where: "
            f"{type(self).__name__}(path=...), or set "
            f"MNE_DATASETS_{self.path_key}_PATH."
        )

    def _how_to_get(self) -> str:
        """Return how the files are obtained, as a sentence."""
        return (
            "The corpus cannot be downloaded by a program: ask its makers for it at "
            f"{self.access_url} ({self.access_terms})."
        )

    def _broken(
        self,
        message: str,
        cause: Exception | None = None,
        *,
        remedy: str = "Fetch the file again",
    ) -> None:
        """Raise an error for a broken file, or warn of it with on_error="warn"."""
        if isinstance(cause, OSError) and cause.errno is not None and cause.filename:
            # Such as a link without a target: nothing is known of its contents.
            message = f"{self.code}: {cause.filename} cannot be read: {cause.strerror}."
            remedy = "Check its permissions, its disk and, if it is a link, its target"
        if self.on_error == "warn":
            warn_of_format(f"{message} Left out, as on_error='warn'.", left_out=True)
            return
        raise CorpusFormatError(
            f'{message} {remedy}, or pass on_error="warn" to leave out what is broken.'
        ) from cause

    # -- implemented by subclasses ---------------------------------------------

    @abstractmethod
    def _find_recordings(self, root: Path, subject: int) -> dict[str, Recording]:
        """Return the subject's files below ``root`` by session key, in order."""

    @abstractmethod
    def _read_recording(
        self, file: Recording, session: str
    ) -> Iterator[tuple[str, Signals]]:
        """Yield (run key, signals of `_make_raw`) of one file, one run at a time."""

    def _find_one(
        self, root: Path, folder: str, name: str, subject: int
    ) -> Path | None:
        """Return the one file of a subject in a folder of a name, at any depth.

        ``folder`` is in small letters, ``name`` is the pattern of the file.
        """
        found = [
            file
            for file, _ in find_files(root, name)
            if file.parent.name.lower() == folder
        ]
        if len(found) > 1:
            raise CorpusFormatError(
                f"{self.code}: {root} holds files of subject {subject} more than once "
                f"({', '.join(map(str, found))}). Remove all but one, or let the path "
                "name one copy."
            )
        return next(iter(found), None)

    @abstractmethod
    def _read_trials(self, file: Recording, session: str) -> dict[str, list[Trial]]:
        """Return the trials of one file by run key, reading as little as possible."""
        # MOABB's disk cache loses the types of the annotations' extras, or the
        # annotations themselves, so that the metadata come from here.

    def _count_published_trials(self, subject: int) -> int:
        """Return the number of trials per session of a subject in the release."""
        return self.n_trials_per_session

    def _other_checks(self, root: Path) -> Iterator[Callable[[], object]]:
        """Yield a check for each file that `_read_trials` does not read."""
        # A check raises or warns as reading a recording does.
        yield from ()

    def _make_raw(
        self,
        data: np.ndarray,
        ch_names: Sequence[str],
        ch_types: Sequence[str],
        sfreq: float,
        trials: Sequence[Trial],
        positions: Mapping[str, str] | None = None,
        bads: Sequence[str] = (),
    ) -> Signals:
        """Return data (n_chans, n_times) with its channels and its trials."""
        # `data` is in volts if the channel type is a voltage. `positions` gives the
        # 10-05 sites of electrodes that the template does not know by name.
        sites = tuple((positions or {}).items())
        channels = Channels(tuple(ch_names), tuple(ch_types), float(sfreq), sites)
        data = np.ascontiguousarray(data, float)
        return Signals(data, channels, trials, bads if self.mark_bads else ())

    # -- MOABB's interface -----------------------------------------------------

    def get_data(
        self, subjects=None, cache_config=None, process_pipeline=None, n_jobs=1
    ):
        """Return the recordings of some subjects, or the output of a pipeline on them.

        Without a cache, each run is read and processed before the next one is read, so
        that the signals of a subject are never in memory together.

        Parameters
        ----------
        subjects : list of int or None
            Subjects to load, all of the dataset by default.
        cache_config : dict, CacheConfig or None
            MOABB's disk cache. Ignored after :meth:`map_raws`.
        process_pipeline : FixedPipeline or None
            Steps to apply to each raw, such as a paradigm's
            ``make_process_pipelines`` returns; none by default.
        n_jobs : int
            Number of subjects to load in parallel.

        Returns
        -------
        dict
            ``{subject: {session: {run: raw}}}``, or the pipeline's output for each
            run. With ``on_error="warn"``, subjects, sessions and runs without
            an intact trial are left out.

        Raises
        ------
        ValueError
            If a subject is not one of ``subject_list``.
        """
        subjects = check_numbers("subjects", subjects)
        if subjects is None:
            subjects = self.subject_list
        if process_pipeline is None:
            # MOABB would give each trial the one duration of `interval`.
            keep = _KeepAnnotations(self._cache_key())
            process_pipeline = FixedPipeline([(StepType.RAW, keep)])
        if not set(subjects) <= {*self.subject_list}:
            raise ValueError(
                f"subjects must be a list of some of {self.subject_list}, but got "
                f"{subjects!r}."
            )
        if CacheConfig.make(cache_config) != CacheConfig() and not self.is_mapped:
            options: tuple = cache_config, process_pipeline
            read = self._read_cached
        else:
            process = partial(reduce, _apply, [s for _, s in process_pipeline.steps])
            options = process, not getattr(process_pipeline, "takes_signals", False)
            read = self._read_subject
        found = Parallel(n_jobs=n_jobs)(
            delayed(collect_warnings)(
                os.getpid(), self._read_apart, read, subject, *options
            )
            for subject in subjects
        )
        told: set = set()  # what several subjects share is told once
        data = {}
        for subject, ((result, trials), caught) in zip(subjects, found, strict=True):
            repeat_warnings(caught, told)
            data[subject] = result
            if trials is not None:
                self._trials[subject] = trials
        return _without_empty(data)

    def _read_apart(self, read: Callable, subject: int, *options) -> tuple:
        """Read a subject by a function, and return the table of its trials too."""
        return read(subject, *options), self._trials.get(subject)

    def convert_to_bids(
        self, path=None, subjects=None, overwrite=False, format="EDF", **kwargs
    ):
        """Write the recordings as a BIDS data set, as every data set of MOABB does.

        Parameters
        ----------
        path : path or None
            Folder of the data set, by default that of MNE's data.
        subjects : list of int or None
            Subjects to convert, by default all.
        overwrite : bool, default=False
            Whether to replace the files of a subject.
        format : str, default="EDF"
            Format of the recordings. Missing values of a peripheral signal, such as eye
            features, need ``"BrainVision"``.
        **kwargs
            As in :class:`moabb.datasets.base.BaseDataset`.

        Returns
        -------
        Path
            Folder of the data set.

        Raises
        ------
        ValueError
            If a format cannot hold a value of the recordings.
        """
        try:
            return super().convert_to_bids(path, subjects, overwrite, format, **kwargs)
        except ValueError as error:
            if "NaN" not in str(error):
                raise
            raise ValueError(
                f"The format {format} cannot hold the missing values (NaN) of "
                f"{self.code}. Pass format='BrainVision', or convert the EEG alone "
                "(return_all_modalities=False)."
            ) from error

    def map_raws(self, process):
        """Return a copy of the dataset whose raws pass through a function.

        The caches of MOABB and of ``Emotion(cache_dir=...)`` are not used for the copy,
        as its signals are not those of the corpus.

        Parameters
        ----------
        process : callable
            Called as ``process(raw, subject, session, run)`` for each run that is
            loaded; returns the raw to use. It may change its argument in place.

        Returns
        -------
        EmotionDataset
            The copy; its labels and metadata are those of the corpus.
        """
        mapped = copy.copy(self)
        mapped._trials = {}
        mapped.raw_map = process
        return mapped

    def replace_signals(self, make):
        """Return a copy of the dataset whose signals a function makes.

        The files are read for their trials only. Caches are not used for the copy.

        Parameters
        ----------
        make : callable
            Called as ``make(trials, subject, session, run)`` for each run; returns the
            ``Signals`` of these trials or of some of them, or None to leave out the
            run.

        Returns
        -------
        EmotionDataset
            The copy; a function of :meth:`map_raws` is not applied.
        """
        replaced = copy.copy(self)
        replaced._trials, replaced.raw_map = {}, None
        replaced.signal_maker = make
        return replaced

    def _iterate_runs(self, subject: int) -> Iterator[tuple[str, str, Signals]]:
        """Yield (session key, run key, signals) of a subject, read or made."""
        if self.signal_maker is None:
            return self._read_runs(subject)
        return self._make_runs(self.signal_maker, subject)

    def _make_runs(
        self, make: Callable, subject: int
    ) -> Iterator[tuple[str, str, Signals]]:
        """Yield (session key, run key, signals) with signals of `signal_maker`."""
        for session, file in self._recordings(subject).items():
            for run, trials in self._read_trials(file, session).items():
                signals = make(trials, subject, session, run)
                if signals is not None:
                    yield session, run, signals

    @property
    def is_mapped(self):
        """Whether :meth:`map_raws` or :meth:`replace_signals` made the dataset."""
        return self.raw_map is not None or self.signal_maker is not None

    def _read_cached(self, subject: int, *options) -> dict:
        """Return the output of a pipeline on a subject, through MOABB's cache."""
        data = super().get_data([subject], *options)[subject]
        for runs in data.values():
            for found in runs.values():
                if isinstance(found, mne.BaseEpochs):
                    found.load_data()  # a worker cannot send an open file
        return data

    def _get_single_subject_data(self, subject):
        return self._read_subject(subject, lambda raw: raw)

    def _read_subject(
        self, subject: int, process: Callable, as_raws: bool = True
    ) -> dict:
        """Return ``process`` of each raw or its signals, by session and run key."""
        data: dict[str, dict] = {}
        trials = []
        with _Repetitions(f"{self.code}, subject {subject}") as repetitions:
            for session, run, found in self._iterate_runs(subject):
                keys = {"subject": subject, "session": session, "run": run}
                trials += [keys | trial.to_extras() for trial in found.trials]
                try:
                    with repetitions.collect(session, run):
                        found = self._finish(found, keys, as_raws)
                        data.setdefault(session, {})[run] = process(found)
                except ValueError as error:
                    raise ValueError(
                        f"{self.code}, subject {subject}, session {session}, "
                        f"run {run}: {error}"
                    ) from error
        self._trials[subject] = self._make_trial_table(trials)
        return data

    def _read_runs(self, subject: int) -> Iterator[tuple[str, str, Signals]]:
        """Yield (session key, run key, signals) of a subject, one run at a time."""
        recordings = self._recordings(subject)
        n_runs = 0
        for session, file in recordings.items():
            for run, signals in self._read_recording(file, session):
                n_runs += 1
                yield session, run, signals
        if recordings and not n_runs:  # all of it was broken, and on_error is "warn"
            warn_of_format(f"{self.code}: subject {subject} is left out.")

    def _finish(self, signals: Signals, keys: dict, as_raws: bool):
        """Return signals of a subject, or a raw after the function of `map_raws`."""
        sfreq = signals.channels.sfreq
        n_seconds = signals.n_times / sfreq
        for trial in signals.trials:
            stop = trial.onset + trial.length
            if stop > n_seconds + 1 / sfreq:  # both are rounded
                raise ValueError(
                    f"trial {trial.trial} (stimulus {trial.stimulus}) ends at {stop:g} "
                    f"s, but its recording lasts {n_seconds:g} s. Correct its onset or "
                    "length."
                )
        # Labels may depend on the subject.
        signals = replace(signals, subject=keys["subject"])
        if self.raw_map is None and not as_raws:
            return signals
        raw = signals.to_raw()
        if self.METADATA is not None and self.METADATA.acquisition is not None:
            raw.info["line_freq"] = self.METADATA.acquisition.line_freq
        return raw if self.raw_map is None else self.raw_map(raw, *keys.values())

    def _is_selected(self, session: str) -> bool:
        # MOABB filters sessions after loading; here only selected ones are read.
        return self.sessions is None or session in {str(k) for k in self.sessions}

    def _cache_key(self) -> str:
        """Return the settings that MOABB's caches must distinguish."""
        # MOABB itself goes by the code: it would return a replica for the corpus, and
        # one session for all of them.
        return (
            f"root={self._named_root()}, sessions={self.sessions}, "
            f"on_error={self.on_error}, modalities={self.return_all_modalities}, "
            f"mark_bads={self.mark_bads}"
        )

    def get_additional_metadata(self, subject, session, run):
        """Return the table of the trials of one run.

        Parameters
        ----------
        subject : int
            Number of the subject.
        session, run : str
            Keys of the session and of the run.

        Returns
        -------
        DataFrame
            One row per trial, with ``subject``, ``session``, ``run``, ``trial``,
            ``stimulus``, ``length`` (s), ``emotion``, the ratings and the corpus's own
            columns.
        """
        subject = as_number(subject)
        if subject not in self._trials:
            self._trials[subject] = self.trial_table(subject)
        table = self._trials[subject]
        rows = (table["session"] == session) & (table["run"] == run)
        return table[rows].reset_index(drop=True)

    def trial_table(self, subject):
        """Return the table of all trials of a subject, without reading signals.

        Parameters
        ----------
        subject : int
            Number of the subject.

        Returns
        -------
        DataFrame
            One row per trial, as in :meth:`get_additional_metadata`.
        """
        subject = as_number(subject)
        return self._make_trial_table(
            {"subject": subject, "session": session, "run": run} | trial.to_extras()
            for session, file in self._recordings(subject).items()
            for run, trials in self._read_trials(file, session).items()
            for trial in trials
        )

    def describe_windows(self, windows):
        """Return columns whose values differ between the windows of a trial.

        Parameters
        ----------
        windows : DataFrame
            One row per window, with ``subject``, ``session``, ``trial`` (from 0), and
            the ``start`` and ``stop`` of the window in seconds of its trial.

        Returns
        -------
        DataFrame
            With the index of ``windows``; without columns if the corpus has none.
        """
        return pd.DataFrame(index=windows.index)

    def stimulus_table(self):
        """Return ratings of the stimuli by others than the subjects.

        Returns
        -------
        DataFrame
            One row per stimulus, by its name, with the columns ``stimulus_ratings``.

        Raises
        ------
        ValueError
            If the corpus has none.
        CorpusNotFoundError
            If the file that holds them is missing.
        """
        raise ValueError(f"{self.code} has no ratings of its stimuli.")

    def _find_stimulus_files(self, root: Path) -> list[Path]:
        """Return the files below the root that `stimulus_table` may read."""
        return []

    def source_files(self, subject):
        """Return the files from which the signals of a subject are read.

        Parameters
        ----------
        subject : int
            Number of the subject.

        Returns
        -------
        list of str
            Those of :meth:`data_path` and the files that are read along with them.
        """
        return _names_of(self._recordings(subject))

    # -- features of the makers ------------------------------------------------

    def released_files(self, name, window, subject):
        """Return the files of the features that the makers released of a subject.

        Parameters
        ----------
        name : str
            One of ``released_features``.
        window : float
            Length of the windows in seconds.
        subject : int
            Number of the subject.

        Returns
        -------
        list of str
            Those that exist.
        """
        found = {
            session: source
            for session, file in self._recordings(subject).items()
            if (source := self._find_released(name, window, file, session))
        }
        return _names_of(found)

    def read_released(self, name, window, subject):
        """Read the features that the makers released of a subject, trial by trial.

        Parameters
        ----------
        name : str
            One of ``released_features``.
        window : float
            Length of the windows in seconds, one of those of ``released_features``.
        subject : int
            Number of the subject.

        Yields
        ------
        session, run : str
            Keys of the session and the run.
        features : ndarray, shape (n_windows, n_chans, n_bands)
            All windows of the trial, channels as in ``released_channels``.

        Raises
        ------
        CorpusFormatError
            If files are missing or broken, unless ``on_error="warn"``.
        """
        for session, file in self._recordings(subject).items():
            source = self._find_released(name, window, file, session)
            if source is None:
                self._broken(
                    f"{self.code}: the features {name!r} of {file}, of windows of "
                    f"{window:g} s, are not below {self.find_root()}.",
                    remedy="Add the makers' folder of features",
                )
                continue
            read = self._open_released(source, name, session)
            if read is None:
                continue
            for run, (trial,) in self._read_trials(file, session).items():
                values = read(trial.trial)
                if flaw := self._find_released_flaw(values, trial.length / window):
                    self._broken(
                        f"{self.code}: the features {name!r} of trial "
                        f"{trial.trial + 1} in {source} {flaw}."
                    )
                    continue
                yield session, run, values

    def _find_released_flaw(self, values, n_windows: float) -> str | None:
        """Say what is wrong with the features of a trial."""
        if values is None:
            return "are missing"
        # A length in samples that is whole windows may be a rounding error less.
        expected = (int(n_windows + 1e-6), len(self.released_channels))
        if values.ndim != 3 or values.shape[:2] != expected or not values.size:
            return (
                f"must have the shape {expected} and bands, one for each whole window "
                f"of the EEG, but have {values.shape}"
            )
        if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            return "hold values that are not finite numbers"
        return None

    def _find_released(
        self, name: str, window: float, file: Recording, session: str
    ) -> Path | None:
        """Return the file of released features that goes with a recording."""
        raise NotImplementedError

    def _open_released(
        self, source: Path, name: str, session: str
    ) -> Callable[[int], np.ndarray | None] | None:
        """Return a function from trials to features (n_windows, n_chans, n_bands).

        None if the file is broken and that may pass.
        """
        raise NotImplementedError

    def fingerprint(self):
        """Return a hash of the contents of the corpus.

        It covers the contents of the :meth:`source_files` and the
        :meth:`trial_table` of each subject in use, whose labels may come from other
        files, and the files of the :meth:`stimulus_table`. Paths, times and the order
        of the subjects do not count, so that a copy has the same fingerprint. Subjects
        without files are left out.

        The first call reads each file once. The digests of large files are remembered
        by path, size and time of change in the user's cache folder (environment
        variable ``EMOSSL_CACHE_DIR``), so that later calls are fast. A change that
        keeps the size and the time of a file is not detected.

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        files, trials = {}, {}
        for subject in sorted(self.subject_list):
            try:
                names = self.source_files(subject)
                trials[subject] = self.trial_table(subject).to_json()
            except CorpusNotFoundError:
                continue
            files[subject] = [name for name in names if os.path.exists(name)]
        digests = iter(digest_files(chain.from_iterable(files.values())))
        contents = [
            (int(subject), [next(digests) for _ in names], trials[subject])
            for subject, names in files.items()
        ]
        tables = self._find_stimulus_files(self._named_root()) if files else []
        return hash_json(contents + digest_files(tables))

    def first_raw(self):
        """Return the first readable recording, for its channels and sampling rate.

        Returns
        -------
        mne.io.BaseRaw
            One run of the first subject with a recording, after the function of
            :meth:`map_raws` or :meth:`replace_signals`, if any.
        """
        for subject in self.subject_list:
            for session, run, signals in self._iterate_runs(subject):
                keys = {"subject": subject, "session": session, "run": run}
                return self._finish(signals, keys, as_raws=True)
        raise self._not_found(self.find_root(), "No recording in it can be read.")

    def _make_trial_table(self, rows) -> pd.DataFrame:
        fields = ("trial", "stimulus", "length", "emotion", *self.ratings)
        columns = ["subject", "session", "run", *fields, *self.details]
        found = list(rows)
        numbers = set()
        for row in found:
            number = row["session"], row["trial"]
            if row["emotion"] not in self.classes:
                flaw = f"emotion={row['emotion']!r}, none of {[*self.classes]}"
            elif unknown := sorted({*row} - {*columns}):
                flaw = f"{unknown}, named in neither ratings nor details of the corpus"
            elif number in numbers:
                flaw = "the number of another trial of its session"
            else:
                numbers.add(number)
                continue
            raise ValueError(
                f"{self.code}, subject {row['subject']}, session {row['session']}, run "
                f"{row['run']}: trial {row['trial']} (stimulus {row['stimulus']}) has "
                f"{flaw}. Correct _read_trials or the attributes of the class."
            )
        return pd.DataFrame(found, columns=columns)


def _without_empty(data: Mapping[int, dict]) -> dict[int, dict]:
    """Leave out subjects whose recordings are all broken, as a warning has said."""
    return {subject: sessions for subject, sessions in data.items() if sessions}


class _Repetitions:
    """Warnings of the steps on the runs, each issued once per recording.

    A flat channel, for one, would be warned of for each run.
    """

    def __init__(self, where: str):
        self._where = where
        self._found: dict[tuple, tuple[Warning | str, list[str]]] = {}

    def __enter__(self):
        return self

    @contextmanager
    def collect(self, session: str, run: str) -> Iterator[None]:
        """Collect the warnings of one run."""
        with warnings.catch_warnings(record=True) as caught:
            yield
        for one in caught:
            key = session, one.category, one.filename, one.lineno, str(one.message)
            self._found.setdefault(key, (one.message, []))[1].append(run)

    def __exit__(self, *error):
        for (session, category, *place, _), (message, runs) in self._found.items():
            if category is RuntimeWarning:
                named = ", ".join(dict.fromkeys((runs[0], runs[-1])))
                named = f"{len(runs)} runs ({named})" if runs[1:] else f"run {named}"
                message = f"{self._where}, session {session}, {named}: {message}"
            warnings.warn_explicit(message, category, *place)


def _as_folder(path) -> Path:
    """Return an absolute path, with the home of the user for "~"."""
    if not isinstance(path, str | os.PathLike) or not str(path).strip():
        raise ValueError(
            f"path must be the folder of the corpus, or None, but got {path!r}."
        )
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:  # the user is unknown
        raise ValueError(f"path={str(path)!r} names no folder: {error}") from error


def _from_keys(sessions):
    """Return session keys such as "0" as numbers, anything else unchanged."""
    if not isinstance(sessions, list | tuple):
        return sessions
    return [
        int(k) if isinstance(k, str) and re.fullmatch("[0-9]+", k) else k
        for k in sessions
    ]


def as_number(value):
    """Return 2, np.int64(2) and 2.0 as 2, what is not a whole number unchanged."""
    if isinstance(value, bool | np.bool):
        return value
    if isinstance(value, Real) and not isinstance(value, Integral):
        return int(float(value)) if float(value).is_integer() else value
    try:
        return operator.index(value)
    except TypeError:
        return value


def check_numbers(name: str, values) -> list[int] | None:
    """Return a list, a range or an array of whole numbers as a list of Python's."""
    if values is None:
        return None
    is_text = isinstance(values, str | bytes | os.PathLike)
    if is_text or np.ndim(values) > 1 or not isinstance(values, Iterable):
        raise ValueError(
            f"{name} must be a list of numbers or None, but got {values!r}."
        )
    numbers = [as_number(value) for value in values]
    if wrong := [number for number in numbers if not is_integer(number)]:
        raise ValueError(f"Invalid {name}: {wrong} are not whole numbers.")
    return numbers


def _names_of(recordings: Mapping[str, Recording]) -> list[str]:
    files: list[Path] = []
    for one in recordings.values():
        one = one.file if isinstance(one, SubjectPart) else one
        files += [one] if isinstance(one, Path) else one
    # All sessions of a subject may be in one file.
    return list(dict.fromkeys(map(str, files)))


def _apply(raw, step):
    return apply_step(step, raw)


class _KeepAnnotations(FixedTransformer):
    """Return the raw as the corpus made it."""

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
        root, followlinks=True, onerror=_warn_of_unreadable
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


def _warn_of_unreadable(error: OSError) -> None:
    warn_of_format(f"A folder cannot be read, so it is left out: {error}")


def find_remains(root: Path) -> list[Path]:
    """Return the files whose names are those of archives or unfinished downloads."""
    return [file for file, _ in find_files(root, _REMAINS)]


def _hint_at_remains(root: Path) -> str:
    remains = find_remains(root) if root.is_dir() else []
    if not remains:
        return ""
    return (
        f" But it contains {remains[0]} ({len(remains)} archives, web pages or "
        "unfinished downloads in all): unpack it, or fetch it again."
    )
