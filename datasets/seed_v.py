"""SEED-V: 16 subjects, three sessions of 15 film clips, five emotions."""

from __future__ import annotations

import pickle
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from moabb.datasets.metadata.schema import (
    AcquisitionMetadata,
    AuxiliaryChannelsMetadata,
    DatasetMetadata,
    DocumentationMetadata,
    ExperimentMetadata,
    ParticipantMetadata,
)

from braindecode_emossl.datasets import cnt_files, npz_files
from braindecode_emossl.datasets.base import EmotionDataset, Trial, find_files
from braindecode_emossl.datasets.eye_features import (
    add_eye_features,
    are_requested,
)
from braindecode_emossl.datasets.quality import RecordingQuality
from braindecode_emossl.datasets.seed_family import CH_NAMES, POSITIONS
from braindecode_emossl.errors import CorpusFormatError, warn_of_format

__all__ = ["EMOTIONS", "EYE_FEATURES", "LABELS", "SEED_V", "SFREQ", "TIMES"]

SFREQ = 1000.0

# Emotions by the makers' label, 0 to 4.
EMOTIONS = ("disgust", "fear", "sad", "neutral", "happy")

# Labels of trials 1 to 15, by session.
LABELS = {
    "0": (4, 1, 3, 2, 0) * 3,
    "1": (2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0),
    "2": (2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0),
}

# Starts and ends of trials 1 to 15 in seconds of the recording, by session.
TIMES = {
    session: tuple(tuple(map(float, row.split())) for row in rows)
    for session, rows in {
        "0": (
            "30 132 287 555 773 982 1271 1628 1730 2025 2227 2435 2667 2932 3204",
            "102 228 524 742 920 1240 1568 1697 1994 2166 2401 2607 2901 3172 3359",
        ),
        "1": (
            "30 299 548 646 836 1000 1091 1392 1657 1809 1966 2186 2333 2490 2741",
            "267 488 614 773 967 1059 1331 1622 1777 1908 2153 2302 2428 2709 2817",
        ),
        "2": (
            "30 353 478 674 825 908 1200 1346 1451 1711 2055 2307 2457 2726 2888",
            "321 418 643 764 877 1147 1284 1418 1679 1996 2275 2425 2664 2857 3066",
        ),
    }.items()
}
TIMES_FILE = "trial_start_end_timestamp.txt"
_MAX_TIMES = 2**16  # characters; the makers' is one page

N_TRIALS = 15
# Trials of a session that a fold of the makers tests.
_FOLD_TRIALS = 5

# The electrodes in the files, in capitals, and the channels beside them. The mastoids
# M1 and M2 are left out, as the makers do.
_FILE_NAMES = tuple(name.upper() for name in CH_NAMES)
_OTHERS = ("VEO", "HEO")

# Seconds of the windows of the makers' features.
FEATURE_WINDOW = 4
EYE_FEATURES = tuple(f"eye_{number:02d}" for number in range(1, 34))
_EYE_FOLDER = "eye_movement_features"
_DE_FOLDER = "eeg_de_features"

# Recordings of unfiltered EEG drift; no amplifier exceeds a volt.
_IMPLAUSIBLE_VOLTS, _IMPOSSIBLE_VOLTS = 0.05, 1.0

_RECORDING_NAME = (
    r"(?i)(?P<subject>\d{1,2})_(?P<session>\d)_\d{8}(?P<fix>_repaired)?\.cnt"
)


@dataclass(frozen=True)
class _Place:
    """Where a trial lies in its recording, in samples."""

    start: int
    stop: int


class SEED_V(EmotionDataset):
    """SEED-V, five emotions with EEG and eye tracking.

    Sixteen subjects watched 15 film clips (one to five minutes each, three per class)
    in each of three sessions, with 62 EEG channels and eye-tracking glasses. The loader
    reads the Neuroscan recordings of the folder ``EEG_raw``, at any depth below the
    corpus folder, with MNE: 1000 Hz, unfiltered.

    A session is the number in the name of the file (``"0"`` for ``1_1_20180804.cnt``),
    which follows the clips and not the day; a run is one clip (``"00"`` to ``"14"``).
    No clip is shown twice: ``stimulus`` is the number of the session and of the trial
    from 1, ``"1-01"`` to ``"3-15"``, 45 in all. All subjects saw the same clips.
    ``Emotion(features="released:de")`` reads the makers' differential entropy of
    windows of 4 s, which is not smoothed, from ``EEG_DE_features``.

    Parameters
    ----------
    subjects : list of int or None
        Subjects to use, 1 to 16; all by default.
    sessions : list of int or None
        Sessions to use, 0 to 2; all by default.
    path : str, Path or None
        Folder of the corpus. By default the MNE setting ``MNE_DATASETS_SEEDV_PATH``
        (configuration or environment), else ``<MNE_DATA>/MNE-SEED-V-data``.
    on_error : {"raise", "warn"}
        Whether a broken trial or recording raises an error, or is left out with a
        `CorpusFormatWarning`.
    return_all_modalities : bool or dict
        ``False`` keeps the EEG; ``True`` adds the two EOG channels and the 33 eye
        features, see Notes; a dict with ``misc`` channels adds the latter. The files of
        the eye features are required and read only then.
    mark_bads : bool
        Whether electrodes without contact, whose signal is flat, are listed in
        ``raw.info["bads"]``. A warning names them in either case.

    Raises
    ------
    CorpusNotFoundError
        If data are requested and the files are missing.
    CorpusFormatError
        If a file is not in the published layout.

    Notes
    -----
    Verified on byte-format replicas; nothing was compared with real files.

    *Sources.* Names and folders: the makers' readme. Labels and the starts and ends of
    the clips: the makers' tables ``emotion_label_and_stimuli_order.xlsx`` and
    ``trial_start_end_timestamp.txt`` as three independent loaders quote them (LibEER,
    EEG-FM-Bench, NeuroAtom). By these times a subject has 1823 whole windows of 4 s,
    681, 541 and 601 by session. Channels that are dropped: the makers' notebook, as its
    users quote it.

    ``trial_start_end_timestamp.txt`` is read if it lies in the folder of the recordings
    or in the one above. It must be the published table, unless the recording is too
    short for that, as those of a replica are. ``official_folds`` are the three of
    the makers [1]_: the first, the middle and the last five trials of each session.

    Samples have 32 bits [inferred: 66 channels at 1000 Hz take 0.9 GB a session]. Volts
    follow from the resolution in the header, through MNE. The electrodes CB1 and CB2
    are placed at POO7 and POO8, as in the makers' position file. Holders report that
    the header of ``7_1_20180411.cnt`` is damaged: a file
    ``7_1_20180411_repaired.cnt`` is preferred, and a wrong number of samples is
    replaced by that of the file, with a warning.

    The eye features are those of ``Eye_movement_features``, 33 values for each whole
    window of 4 s, here repeated for these 4 s. They are named ``eye_01`` to ``eye_33``,
    by column: the makers list pupil diameter (12), dispersion (4), the durations of
    fixations (2) and blinks (2), saccades (4) and statistics of events (9), but not the
    order of the columns [unsure]. NaN is kept as a missing value, with a warning.

    References
    ----------
    .. [1] Liu, W., Qiu, J.-L., Zheng, W.-L., & Lu, B.-L. (2022). Comparing recognition
       performance and robustness of multimodal deep learning models for multimodal
       emotion recognition. IEEE Transactions on Cognitive and Developmental Systems,
       14(2), 715-729. https://doi.org/10.1109/TCDS.2021.3071170
    """

    code_name = "SEED-V"
    path_key = "SEEDV"
    all_subject_numbers = tuple(range(1, 17))
    n_sessions_per_subject = 3
    n_trials_per_session = N_TRIALS
    classes = {name: k for k, name in enumerate(EMOTIONS, start=1)}  # noqa: RUF012
    common_interval = (0, 52)
    doi_name = "10.1109/TCDS.2021.3071170"
    access_url = "https://bcmi.sjtu.edu.cn/home/seed/seed-v.html"
    expected_files = ("EEG_raw/1_1_20180804.cnt", "EEG_raw/16_3_20180813.cnt")
    class_source = "stimulus"
    replica_variants = ("cnt",)
    replica_effect = 0.15
    passband = (0.0, 500.0)
    released_features = {"de": (float(FEATURE_WINDOW),)}  # noqa: RUF012
    released_channels = CH_NAMES
    valence_of_class = {  # noqa: RUF012
        "disgust": "negative",
        "fear": "negative",
        "sad": "negative",
        "neutral": "neutral",
        "happy": "positive",
    }
    official_folds = {  # noqa: RUF012
        (session, trial): trial // _FOLD_TRIALS
        for session in LABELS
        for trial in range(N_TRIALS)
    }

    METADATA = DatasetMetadata(
        acquisition=AcquisitionMetadata(
            sampling_rate=SFREQ,
            channel_types={
                "eeg": len(CH_NAMES),
                "eog": len(_OTHERS),
                "misc": len(EYE_FEATURES),
            },
            sensors=[*CH_NAMES, *_OTHERS, *EYE_FEATURES],
            hardware="ESI NeuroScan",
            auxiliary_channels=AuxiliaryChannelsMetadata(
                has_eog=True,
                eog_channels=2,
                other_physiological=["eye tracking (SMI glasses)"],
            ),
        ),
        participants=ParticipantMetadata(
            n_subjects=16, gender={"male": 6, "female": 10}
        ),
        experiment=ExperimentMetadata(
            paradigm="emotion",
            events={name: k for k, name in enumerate(EMOTIONS, start=1)},
            n_classes=5,
            class_labels=list(EMOTIONS),
            trials_per_class=dict.fromkeys(EMOTIONS, 3),
            stimulus_type="film clips",
            stimulus_modalities=["visual", "auditory"],
            primary_modality="multisensory",
            synchronicity="asynchronous",
            mode="offline",
        ),
        documentation=DocumentationMetadata(
            doi="10.1109/TCDS.2021.3071170",
            description="EEG and eye features of film-induced disgust, fear, sadness, "
            "neutral state and happiness.",
            investigators=[
                "Wei Liu",
                "Jie-Lin Qiu",
                "Wei-Long Zheng",
                "Bao-Liang Lu",
            ],
            senior_author="Bao-Liang Lu",
            institution="Shanghai Jiao Tong University",
            country="CN",
            data_url="https://bcmi.sjtu.edu.cn/home/seed/seed-v.html",
            license="On request, academic use only, signed agreement",
            publication_year=2022,
        ),
        sessions_per_subject=3,
        runs_per_session=N_TRIALS,
        data_processed=False,
        file_format="CNT",
    )
    summary_table = {  # noqa: RUF012
        "#Subj": 16,
        "#Chan": 62,
        "#Classes": 5,
        "#Trials / class": 3,
        "Trials length (s)": "52-297",
        "Freq (Hz)": 1000,
        "#Sessions": 3,
        "#Runs": 15,
        "Total_trials": 720,
    }

    # -- files -----------------------------------------------------------------

    def _find_recordings(self, root, subject):
        found: dict[str, list[tuple[bool, Path]]] = {}
        for file, match in find_files(root, _RECORDING_NAME):
            session = str(int(match["session"]) - 1)
            if int(match["subject"]) == subject and session in LABELS:
                found.setdefault(session, []).append((not match["fix"], file))
        recordings = {}
        for session, files in sorted(found.items()):
            is_original, _ = min(files)  # a repaired one comes first
            same = [file for k, file in files if k == is_original]
            if len(same) > 1:
                raise CorpusFormatError(
                    f"SEED-V: subject {subject} must have one file a session, but has "
                    f"{', '.join(map(str, same))}. Let the path name one copy, or "
                    "remove the one that is not part of the release."
                )
            recordings[session] = same[0]
        return recordings

    def _read_header(self, file: Path) -> cnt_files.CntHeader | None:
        """Return the header of a recording, None if it is broken and that may pass."""
        try:
            header = cnt_files.read_header(file)
        except (OSError, ValueError) as error:
            self._broken(
                f"{self.code}: {file} is not a readable CNT file ({error}).",
                error,
            )
            return None
        missing = [n for n in (*_FILE_NAMES, *_OTHERS) if n not in header.ch_names]
        if missing or header.sfreq != SFREQ:
            self._broken(
                f"{self.code}: {file} must have the 62 electrodes, VEO and HEO at "
                f"{SFREQ:g} Hz, but has {header.sfreq:g} Hz and lacks {missing}."
            )
            return None
        return header

    # -- trials ----------------------------------------------------------------

    def _read_trials(self, file, session):
        header = self._read_header(file)
        return {} if header is None else self._trials_of(header, file, session)[0]

    def _trials_of(
        self, header, file: Path, session: str
    ) -> tuple[dict[str, list[Trial]], dict[str, _Place]]:
        """Return the trials by run key, and where they lie."""
        trials, places = {}, {}
        starts, stops = self._read_times(header, file, session)
        for index, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            place = _Place(round(start * SFREQ), round(stop * SFREQ))
            if place.stop > header.n_times or place.stop - place.start < SFREQ:
                self._broken(
                    f"{self.code}: trial {index + 1} of {file} must last from "
                    f"{start:g} to {stop:g} s, a second at least, but the recording "
                    f"ends at {header.n_times / SFREQ:g} s."
                )
                continue
            run = f"{index:02d}"
            length = (place.stop - place.start) / SFREQ
            stimulus = f"{int(session) + 1}-{index + 1:02d}"
            emotion = EMOTIONS[LABELS[session][index]]
            trials[run] = [Trial(index, stimulus, emotion, length)]
            places[run] = place
        return trials, places

    def _read_times(
        self, header, file: Path, session: str
    ) -> tuple[tuple[float, ...], ...]:
        """Return starts and ends: those of the file beside it, if it is a miniature."""
        published = TIMES[session]
        table = next(filter(Path.is_file, _places_of_times(file)), None)
        if table is None:
            return published
        times = _parse_times(table)[session]
        if times != published and header.n_times >= published[1][-1] * SFREQ:
            raise CorpusFormatError(
                f"SEED-V: the times of session {int(session) + 1} in {table} must be "
                f"the published ones, {published}, but are {times}. Fetch the file "
                "again, or remove it: the times are known without it."
            )
        return times

    # -- signals ---------------------------------------------------------------

    def _read_recording(self, file, session):
        header = self._read_header(file)
        if header is None:
            return
        if not header.is_consistent:
            warn_of_format(
                f"{self.code}: the header of {file} names another number of samples "
                f"than the file has, which is {header.n_times}."
            )
        if not header.is_uniform:
            warn_of_format(
                f"{self.code}: the header of {file} names several resolutions or "
                "baselines of its channels, or blocks of samples, which are used."
            )
        trials, places = self._trials_of(header, file, session)
        quality = RecordingQuality(
            f"{self.code}: {file}",
            CH_NAMES,
            SFREQ,
            dict.fromkeys(_OTHERS, "eog"),
            implausible=_IMPLAUSIBLE_VOLTS,
            impossible=_IMPOSSIBLE_VOLTS,
        )
        recording = self._read_all(file, header, trials, places, quality)
        yield from (
            self._add_eye(recording, file, session) if self._wants_eye else recording
        )
        quality.warn(self.mark_bads)

    def _read_all(self, file, header, trials, places, quality) -> Iterator:
        """Yield (run key, raw) of the trials whose signals are intact."""
        for run, (trial,) in trials.items():
            place, number = places[run], trial.trial + 1
            picks = (*_FILE_NAMES, *_OTHERS)
            try:
                data = cnt_files.read_signals(
                    file, header, picks, place.start, place.stop
                )
            except (OSError, MemoryError, *cnt_files.READING_ERRORS) as error:
                self._broken(
                    f"{self.code}: trial {number} of {file} cannot be read ({error}).",
                    error,
                )
                continue
            if flaw := quality.inspect(number, data):
                self._broken(f"{self.code}: trial {number} of {file} {flaw}.")
                continue
            raw = self._make_raw(
                data,
                [*CH_NAMES, *_OTHERS],
                ["eeg"] * len(CH_NAMES) + ["eog"] * len(_OTHERS),
                SFREQ,
                [trial],
                POSITIONS,
                quality.bads(number),
            )
            yield run, raw

    # -- eye features ----------------------------------------------------------

    @property
    def _wants_eye(self) -> bool:
        return are_requested(EYE_FEATURES, self.return_all_modalities)

    def source_files(self, subject):
        """Return the files that the signals of a subject are read from.

        Parameters
        ----------
        subject : int
            Number of the subject.

        Returns
        -------
        list of str
            Those of :meth:`data_path`, and that of the eye features if they are
            requested.
        """
        files = super().source_files(subject)
        if self._wants_eye and (eye := self._find_features(_EYE_FOLDER, subject)):
            files.append(str(eye))
        return files

    def _find_features(self, folder: str, subject: int) -> Path | None:
        """Return the file of a subject in a folder of features, at any depth."""
        name = rf"{subject}_123\.npz"
        return self._find_one(self.find_root(), folder, name, subject)

    def _read_features(self, file: Path, name: str = "data") -> Mapping | None:
        """Return the arrays by trial of all sessions, None if broken."""
        try:
            return npz_files.read_pickled_trials(file, name, 3 * N_TRIALS)
        except (OSError, pickle.UnpicklingError, *npz_files.READING_ERRORS) as error:
            if isinstance(error, pickle.UnpicklingError):
                raise CorpusFormatError(
                    f"SEED-V: {file} is not a file of the makers: {error} It was not "
                    "run. Fetch the file again."
                ) from error
            self._broken(f"SEED-V: {file} cannot be read ({error}).", error)
            return None

    def _add_eye(self, recording, file: Path, session: str) -> Iterator:
        """Yield (run key, signals) with the eye features of each trial added."""
        runs = ((run, found.n_times / SFREQ, found) for run, found in recording)
        for run, found, values in self._pair_with_eye(runs, file, session):
            yield run, add_eye_features(found, values, EYE_FEATURES, FEATURE_WINDOW)

    def _pair_with_eye(self, runs, file: Path, session: str) -> Iterator:
        """Yield (run key, item, values) of (run key, seconds, item)."""
        subject = _subject_of(file)
        eye_file = self._find_features(_EYE_FOLDER, subject)
        if eye_file is None:
            self._broken(
                f"SEED-V: the eye features of {file} must lie in "
                f"Eye_movement_features/{subject}_123.npz, but do not. Pass "
                "return_all_modalities=False for the EEG alone."
            )
            return
        arrays = self._read_features(eye_file)
        if arrays is None:
            return
        missing = {}
        for run, seconds, item in runs:
            number = int(session) * N_TRIALS + int(run)
            values = arrays.get(number)
            expected = (max(1, int(seconds // FEATURE_WINDOW)), len(EYE_FEATURES))
            if flaw := _find_flaw(values, expected):
                self._broken(f"SEED-V: trial {number} (from 0) of {eye_file} {flaw}.")
                continue
            values = np.asarray(values, float).T
            if n_missing := int(np.isnan(values).sum()):
                missing[int(run) + 1] = n_missing
            yield run, item, values
        if missing:
            warn_of_format(
                f"SEED-V: {sum(missing.values())} values of session "
                f"{int(session) + 1} in {eye_file} are missing (number by trial: "
                f"{missing}), and are NaN in the signals. MoodReader masks them; other "
                "estimators need an imputer or the EEG alone."
            )

    # -- features of the makers ------------------------------------------------

    def _find_released(self, name, window, file, session):
        return self._find_features(_DE_FOLDER, _subject_of(file))

    def _open_released(self, source, name, session):
        arrays = self._read_features(source)
        labels = self._read_features(source, "label")
        if arrays is None or labels is None:
            return None
        first = int(session) * N_TRIALS

        def read(trial: int) -> np.ndarray | None:
            values = arrays.get(first + trial)
            self._compare_label(source, labels.get(first + trial), session, trial)
            if values is None or values.ndim != 2 or values.shape[1] % len(CH_NAMES):
                return values
            # Channel by channel, each with its bands.
            return values.reshape(len(values), len(CH_NAMES), -1)

        return read

    def _compare_label(self, source: Path, found, session: str, trial: int) -> None:
        """Compare the label that lies beside the features with the published one."""
        expected = LABELS[session][trial]
        if found is not None and not (found == expected).all():
            raise CorpusFormatError(
                f"SEED-V: the label of trial {trial + 1} of session "
                f"{int(session) + 1} in {source} must be {expected}, but is "
                f"{np.unique(found).tolist()[:5]}. Fetch the file again."
            )

    # -- files that are not read for the trials --------------------------------

    def _other_checks(self, root):
        for file, _ in find_files(root, rf"(?i){re.escape(TIMES_FILE)}"):
            yield partial(_parse_times, file)
        for subject in self.all_subjects:
            for session, file in self._find_recordings(root, subject).items():
                yield partial(self._check_eye, file, session, subject)

    def _check_eye(self, file: Path, session: str, subject: int) -> None:
        if self._find_features(_EYE_FOLDER, subject) is None:
            warn_of_format(
                f"SEED-V: the eye features of subject {subject} are missing, which "
                "return_all_modalities=True needs."
            )
            return
        runs = self._read_trials(file, session).items()
        trials = ((run, trial.length, None) for run, (trial,) in runs)
        deque(self._pair_with_eye(trials, file, session), maxlen=0)


def _subject_of(file: Path) -> int:
    """Return the subject of a recording by its name."""
    return int(file.name.partition("_")[0])


def _find_flaw(values: np.ndarray | None, expected: tuple[int, int]) -> str | None:
    """Say what is wrong with the features of a trial (n_windows, n_features)."""
    if values is None:
        return "is missing"
    if values.shape != expected:
        return f"must have the shape {expected}, but has {values.shape}"
    if values.dtype.kind not in "fiu" or np.isinf(values).any():
        return "holds values that are neither finite numbers nor NaN"
    return None


def _places_of_times(file: Path) -> Iterator[Path]:
    """Yield where the table of times of a recording may lie."""
    for folder in (file.parent, file.parent.parent):
        yield folder / TIMES_FILE


def _parse_times(file: Path) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Return starts and ends in seconds by session."""
    with file.open(encoding="utf-8", errors="replace") as stream:
        text = stream.read(_MAX_TIMES)
    times = {}
    for session in LABELS:
        number = int(session) + 1
        pattern = rf"Session\s+{number}\s*:\s*start_second:\s*\[([^][]*)\]"
        match = re.search(rf"{pattern},?\s*end_second:\s*\[([^][]*)\]", text)
        rows = [_parse_numbers(row) for row in match.groups()] if match else []
        if not rows or not _are_in_order(*rows):
            raise CorpusFormatError(
                f"SEED-V: {file} must have, for session {number}, the start_second and "
                f"the end_second of {N_TRIALS} trials one after another, but has not. "
                "Fetch the file again, or remove it: the times are known without it."
            )
        times[session] = tuple(rows)
    return times


def _parse_numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of a list, none if one of them is not a number of seconds."""
    parts = text.replace(",", " ").split()
    if not all(re.fullmatch(r"\d{1,5}(\.\d{1,6})?", part) for part in parts):
        return ()
    return tuple(map(float, parts))


def _are_in_order(starts: Sequence[float], stops: Sequence[float]) -> bool:
    if not len(starts) == len(stops) == N_TRIALS:
        return False
    times = [t for pair in zip(starts, stops, strict=True) for t in pair]
    return all(a < b for a, b in zip(times[::2], times[1::2], strict=True)) and all(
        a <= b for a, b in zip(times[1::2], times[2::2], strict=False)
    )
