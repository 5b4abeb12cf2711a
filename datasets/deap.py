"""DEAP: 32 subjects, 40 one-minute music videos, self-assessed on four scales."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from moabb.datasets.metadata.schema import (
    AcquisitionMetadata,
    DatasetMetadata,
    DocumentationMetadata,
    ExperimentMetadata,
    ParticipantMetadata,
)

from braindecode_emossl.datasets.base import EmotionDataset, Trial, find_files
from braindecode_emossl.datasets.deap_files import (
    N_VIDEOS,
    RATINGS,
    STIMULUS_RATINGS,
    MissingReaderError,
    Presentation,
    find_impossible,
    find_tables,
    read_online_ratings,
    read_preprocessed,
    read_presentations,
    read_table,
)
from braindecode_emossl.datasets.deap_original import SFREQ as ORIGINAL_SFREQ
from braindecode_emossl.datasets.deap_original import OriginalRecording
from braindecode_emossl.datasets.deap_pickles import ForbiddenPickleError
from braindecode_emossl.datasets.quality import VOLTAGE_TYPES, RecordingQuality
from braindecode_emossl.errors import (
    CorpusFormatError,
    CorpusFormatWarning,
    CorpusNotFoundError,
    warn_of_format,
)
from braindecode_emossl.hosts import set_summary_table

__all__ = ["DEAP"]

SFREQ = 128.0
# The files keep three seconds before each video of a minute.
BASELINE_SECONDS = 3.0
VIDEO_SECONDS = 60.0

# Channels in the order of the preprocessed files ("Geneva" order), by MNE's names.
EEG_NAMES = (
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 "
    "FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
).split()
PERIPHERAL_TYPES = {
    "hEOG": "eog",
    "vEOG": "eog",
    "zEMG": "emg",
    "tEMG": "emg",
    "GSR": "gsr",
    "Resp": "resp",
    "Plet": "bio",
    "Temp": "temperature",
}
CH_NAMES = (*EEG_NAMES, *PERIPHERAL_TYPES)
CH_TYPES = ("eeg",) * len(EEG_NAMES) + tuple(PERIPHERAL_TYPES.values())
THRESHOLD = 5.0

# The table has two decimals.
_RATING_TOLERANCE = 0.01 + 1e-9
# A copy of the files circulates in which valence and arousal of the trials that the
# table has high in both are this number minus the rating.
_ALTERED_SUM = 9.0
_ALTERED = ("valence", "arousal")

# Without a filter or a reference, electrodes drift by more than EEG.
_IMPLAUSIBLE_VOLTS = {"preprocessed": 5e-3, "original": 0.05}

_WITHOUT_TABLE = (
    "Without a table that can be read, trials are numbered by the Experiment_id."
)


class DEAP(EmotionDataset):
    """DEAP, the music-video corpus of Queen Mary University of London and partners.

    Thirty-two subjects watched 40 one-minute music videos and rated each for valence,
    arousal, dominance and liking (1 to 9, continuous). All files may lie at any depth
    below the corpus folder. There is one session, ``"0"``.

    ``source="preprocessed"`` reads ``s01.dat`` to ``s32.dat`` of the folder
    ``data_preprocessed_python`` or, for subjects without one, ``s01.mat`` to
    ``s32.mat`` of ``data_preprocessed_matlab``: 128 Hz, EEG at 4 to 45 Hz with the
    common average as reference. A run is one video, ``"00"`` to ``"39"``, in the order
    of the Experiment_id, as in the files. The three seconds before the video are kept,
    so that ``Emotion(baseline=(-3, 0))`` can use them: a trial starts at 3 s.

    ``source="original"`` reads ``s01.bdf`` to ``s32.bdf`` of the folder
    ``data_original``: 512 Hz, neither filtered nor referenced, one continuous run
    ``"00"`` with 40 trials. Its code is ``DEAP-original``, so that MOABB stores its
    results separately from those of the preprocessed files.

    ``stimulus`` is the Experiment_id, ``"01"`` to ``"40"``. The table
    ``participant_ratings`` of the release, as ``.csv``, ``.xls`` or ``.ods`` (these two
    with ``pip install "braindecode-emossl[spreadsheets]"``), gives the order in which a
    subject saw the videos, so that ``trial`` is the number of the presentation, from 0;
    their familiarity (``familiarity``, 1 to 5, unknown for subjects 2, 15 and 23);
    and ``start``, the table's time of the start of the video in units of 0.1 ms. Its
    ratings are compared with those of the preprocessed files. The original recordings
    require it; the intervals between their videos are compared with its ``start``.
    Without it, or if it cannot be read, which a warning says, ``trial`` of the
    preprocessed files is the Experiment_id counted from 0. ``video_list``, in the same
    forms, has the means of the online ratings of the videos, for
    ``Emotion(label_source="stimulus")``.

    Parameters
    ----------
    subjects : list of int or None
        Subjects to use, 1 to 32; all by default.
    sessions : list of int or None
        Sessions to use; there is only 0.
    path : str, Path or None
        Folder of the corpus. By default the MNE setting ``MNE_DATASETS_DEAP_PATH``
        (configuration or environment), else ``<MNE_DATA>/MNE-DEAP-data``.
    source : {"preprocessed", "original"}
        Form of the recordings.
    on_error : {"raise", "warn"}
        Whether a broken trial or recording raises an error, or is left out with a
        `CorpusFormatWarning`.
    return_all_modalities : bool or dict
        ``False`` keeps the 32 EEG channels; ``True`` adds horizontal and vertical
        EOG, zygomaticus and trapezius EMG (V), skin resistance, respiration,
        plethysmograph and skin temperature.
    mark_bads : bool
        Whether channels without contact, whose signal is flat, and electrodes that a
        file lacks, which are filled with zeros, are listed in ``raw.info["bads"]``. A
        warning names them in either case.
    rating_source : {"files", "table"}
        Which ratings to use if the preprocessed files are those of a known copy with
        altered ratings: valence and arousal are 9 minus the rating in every trial for
        which both ratings exceed 5 in the table. ``"files"``
        raises an error then, ``"table"`` uses the ratings of the table with a
        warning. Any other difference is an error.

    Raises
    ------
    CorpusNotFoundError
        If data are requested and the files are missing.
    CorpusFormatError
        If a file is not in the published layout, or if a pickle contains more than
        NumPy arrays; no code in it is run.

    Notes
    -----
    Verified on byte-format replicas, not on the licensed files. Of the real files, the
    codes and channels of all 32 original recordings, and the table of ratings, were
    compared.

    The classes are the quadrants of the rating plane, low or high valence then low or
    high arousal; high is ``> 5``. ``GSR`` is skin resistance in ohm (the makers'
    Geneva unit), although MNE's type ``gsr`` means siemens; ``Temp`` is in degrees
    Celsius, as in the files. In the preprocessed files, the mean of the three seconds
    before the video was subtracted from the temperature, and very likely from the
    other three (inferred): they are changes, of which a resistance may be negative.
    ``Resp`` and ``Plet`` are in units of the amplifier,
    which are assumed to be microvolts (inferred) and converted to volts.

    In the original recordings electrodes are selected by name, as their order differs
    between the two sites (Twente, subjects 1 to 22; Geneva, 23 to 32). ``hEOG``
    is EXG1 - EXG2, ``vEOG`` EXG3 - EXG4, ``zEMG`` EXG5 - EXG6, ``tEMG`` EXG7 - EXG8;
    GSR2, Erg1 and Erg2 were not used and are left out. Twente recorded skin conductance
    in nanosiemens, which is converted to resistance; less than 1 nS means no contact
    and becomes 1e9 ohm, with a warning. The codes are the lowest eight bits of the last
    channel, whatever its name. A trial starts at a code 4 (there must be 40)
    and lasts up to the next code 5 (else 3, 4 or 7), 60 s at most; other codes are
    ignored. Eight real trials end early, the shortest after 56.3 s (``interval`` ends
    at 56 s), although the preprocessed files have 60 s of these too. Such ends, and
    interruptions of a recording between two videos (13 and 28 have one), are warned
    of.

    References
    ----------
    .. [1] Koelstra, S., Muehl, C., Soleymani, M., Lee, J.-S., Yazdani, A., Ebrahimi,
       T., Pun, T., Nijholt, A., & Patras, I. (2012). DEAP: A database for emotion
       analysis using physiological signals. IEEE Transactions on Affective Computing,
       3(1), 18-31. https://doi.org/10.1109/T-AFFC.2011.15
    """

    code_name = "DEAP"
    path_key = "DEAP"
    all_subject_numbers = tuple(range(1, 33))
    n_sessions_per_subject = 1
    n_trials_per_session = N_VIDEOS
    classes = {"LVLA": 1, "LVHA": 2, "HVLA": 3, "HVHA": 4}  # noqa: RUF012
    common_interval = (0, 60)
    doi_name = "10.1109/T-AFFC.2011.15"
    access_url = "https://www.eecs.qmul.ac.uk/mmv/datasets/deap/download.html"
    expected_files = (
        "data_preprocessed_python/s01.dat",
        "data_preprocessed_python/s32.dat",
    )
    ratings = (*RATINGS, "familiarity")
    rating_midpoint = THRESHOLD
    class_source = "self-report"
    replica_variants = ("dat", "mat", "bdf")
    replica_effect = 0.027
    stimulus_ratings = STIMULUS_RATINGS
    passband = (4.0, 45.0)
    details = ("start",)

    METADATA = DatasetMetadata(
        acquisition=AcquisitionMetadata(
            sampling_rate=SFREQ,
            channel_types={"eeg": 32, "eog": 2, "emg": 2, "gsr": 1, "resp": 1}
            | {"bio": 1, "temperature": 1},
            sensors=list(CH_NAMES),
            hardware="BioSemi ActiveTwo",
            reference="common average",
            filters="4-45 Hz band-pass after downsampling from 512 Hz",
        ),
        participants=ParticipantMetadata(n_subjects=32),
        experiment=ExperimentMetadata(
            paradigm="emotion",
            events={"LVLA": 1, "LVHA": 2, "HVLA": 3, "HVHA": 4},
            n_classes=4,
            class_labels=["LVLA", "LVHA", "HVLA", "HVHA"],
            trial_duration=60.0,
            stimulus_type="music videos",
            stimulus_modalities=["visual", "auditory"],
            primary_modality="multisensory",
            synchronicity="asynchronous",
            mode="offline",
        ),
        documentation=DocumentationMetadata(
            doi="10.1109/T-AFFC.2011.15",
            description="EEG and peripheral signals during self-assessed music videos.",
            investigators=["Sander Koelstra", "Christian Muehl", "Mohammad Soleymani"],
            senior_author="Ioannis Patras",
            institution="Queen Mary University of London",
            country="GB",
            data_url="https://www.eecs.qmul.ac.uk/mmv/datasets/deap/",
            license="On request, academic use only, signed agreement",
            publication_year=2012,
        ),
        sessions_per_subject=1,
        runs_per_session=N_VIDEOS,
        data_processed=True,
        file_format="Python pickle",
    )
    summary_table = {  # noqa: RUF012
        "#Subj": 32,
        "#Chan": 32,
        "#Classes": 4,
        "#Trials / class": "varies",
        "Trials length (s)": 60,
        "Freq (Hz)": 128,
        "#Sessions": 1,
        "#Runs": 40,
        "Total_trials": 1280,
    }

    def __init__(
        self,
        subjects=None,
        sessions=None,
        *,
        path=None,
        source="preprocessed",
        on_error="raise",
        return_all_modalities=False,
        mark_bads=True,
        rating_source="files",
    ):
        if rating_source not in ("files", "table"):
            raise ValueError(
                f'rating_source must be "files" or "table", but got {rating_source!r}.'
            )
        if source not in ("preprocessed", "original"):
            raise ValueError(
                f'source must be "preprocessed" or "original", but got {source!r}.'
            )
        self.source = source
        self.rating_source = rating_source
        self._tables: dict[Path, tuple | None] = {}
        # Labels and number of samples of the files that were read, by their stamp.
        self._labels: dict[tuple, tuple[np.ndarray, int]] = {}
        if source == "original":
            # MOABB's caches and results are identified by the code.
            self.code_name = "DEAP-original"
            self.passband = (0.0, ORIGINAL_SFREQ / 2)  # not filtered
            self.common_interval = (0, 56)
            self.expected_files = ("data_original/s01.bdf", "data_original/s32.bdf")
            self.METADATA = replace(
                self.METADATA,
                acquisition=replace(
                    self.METADATA.acquisition,
                    sampling_rate=ORIGINAL_SFREQ,
                    reference=None,
                    filters=None,
                ),
                runs_per_session=1,
                data_processed=False,
                file_format="BDF",
            )
            self.summary_table = {
                **self.summary_table,
                "Freq (Hz)": int(ORIGINAL_SFREQ),
                "#Runs": 1,
            }
            set_summary_table(self)
        super().__init__(
            subjects,
            sessions,
            path=path,
            on_error=on_error,
            return_all_modalities=return_all_modalities,
            mark_bads=mark_bads,
        )

    def _cache_key(self):
        return f"{super()._cache_key()}, rating_source={self.rating_source}"

    def _find_recordings(self, root, subject):
        suffixes = ("bdf",) if self.source == "original" else ("dat", "mat")
        for suffix in suffixes:
            name = rf"(?i)s{subject:02d}\.{suffix}"
            files = [file for file, _ in find_files(root, name)]
            if len(files) > 1:
                raise CorpusFormatError(
                    f"{self.code}: {root} holds subject {subject} more than once "
                    f"({', '.join(map(str, files))}). Let the path name one folder."
                )
            if files:
                return {"0": files[0]}
        return {}

    def _read_recording(self, file, session):
        if self.source == "original":
            return self._read_original(file)
        return self._read_preprocessed(file)

    def _read_trials(self, file, session):
        if self.source == "original":
            recording = self._open_original(file)
            return {} if recording is None else {"00": recording[1]}
        known = self._labels.get(_stamp(file))
        if known is None:
            content = self._read_dat(file)
            if content is None:
                return {}
            known = content[1], content[0].shape[2]
        labels, n_times = known
        return self._trials_of(labels, n_times, file)

    def _make_trial(self, shown: Presentation, onset: float, length: float) -> Trial:
        return Trial(
            trial=shown.trial,
            stimulus=f"{shown.video:02d}",
            emotion=_quadrant(shown.ratings),
            length=length,
            onset=onset,
            ratings=shown.ratings,
            details={} if shown.start is None else {"start": shown.start},
        )

    # -- preprocessed ----------------------------------------------------------

    def _read_preprocessed(self, file: Path) -> Iterator:
        content = self._read_dat(file)
        if content is None:
            return
        data, labels = content
        quality = self._make_quality(file, SFREQ)
        for run, (trial,) in self._trials_of(labels, data.shape[2], file).items():
            signals, number = data[int(run)], int(run) + 1  # (n_chans, n_times)
            flaw = quality.inspect(
                number, signals, volts=1e-6, n_before=round(BASELINE_SECONDS * SFREQ)
            )
            if flaw := flaw or find_impossible(signals[len(EEG_NAMES) :]):
                self._broken(f"DEAP: trial {number} of {file} {flaw}.")
                continue
            signals = signals * _to_volts(CH_TYPES)[:, None]
            bads = quality.bads(number)
            raw = self._make_raw(signals, CH_NAMES, CH_TYPES, SFREQ, [trial], bads=bads)
            yield run, raw
        quality.warn(self.mark_bads)

    def _make_quality(self, file: Path, sfreq: float) -> RecordingQuality:
        limit = _IMPLAUSIBLE_VOLTS[self.source]
        return RecordingQuality(
            f"{self.code}: {file}",
            EEG_NAMES,
            sfreq,
            sensors=PERIPHERAL_TYPES,
            implausible=limit,
        )

    def _trials_of(self, labels: np.ndarray, n_times: int, file: Path):
        """Return the trials by run key; ``labels`` (n_trials, 4)."""
        by_video = {shown.video: shown for shown in self._presentations(file) or ()}
        labels = self._undo_alteration(labels, by_video, file)
        trials = {}
        for video, row in enumerate(labels.tolist(), start=1):
            if not _in_range(row):
                self._broken(
                    f"DEAP: the ratings of trial {video} of {file} must lie "
                    f"between 1 and 9, but are {row}."
                )
                continue
            ratings = dict(zip(RATINGS, row, strict=True))
            shown = by_video.get(video, Presentation(video - 1, video, ratings, None))
            listed = [shown.ratings[name] for name in RATINGS]
            if not np.allclose(row, listed, rtol=0, atol=_RATING_TOLERANCE):
                self._broken(
                    f"DEAP: the ratings of subject {_subject_of(file)} for the video "
                    f"with Experiment_id {video} must be the same in {file} and in "
                    f"participant_ratings, but are {row} and {listed}: one of the two "
                    "is of another subject or not an original copy."
                )
                continue
            shown = replace(shown, ratings=dict(shown.ratings) | ratings)
            length = n_times / SFREQ - BASELINE_SECONDS
            trials[f"{video - 1:02d}"] = [
                self._make_trial(shown, BASELINE_SECONDS, length)
            ]
        return trials

    def _undo_alteration(self, labels: np.ndarray, by_video, file: Path) -> np.ndarray:
        """Return the labels (n_trials, 4), by the table if both are altered."""
        if len(by_video) < len(labels):
            return labels
        videos = range(1, len(labels) + 1)
        listed = np.array([[by_video[k].ratings[r] for r in RATINGS] for k in videos])
        columns = np.array([RATINGS.index(name) for name in _ALTERED])
        altered = listed.copy()
        high = (listed[:, columns] > THRESHOLD).all(axis=1)
        rows = np.ix_(high, columns)
        altered[rows] = _ALTERED_SUM - listed[rows]
        if not high.any() or not np.allclose(
            labels, altered, rtol=0, atol=_RATING_TOLERANCE
        ):
            return labels
        message = (
            f"DEAP: in {file}, the valence and the arousal of {high.sum()} trials are "
            "9 minus those of participant_ratings: all trials that the table has high "
            "(> 5) in both. All other ratings agree. A copy of DEAP with this "
            "alteration circulates."
        )
        if self.rating_source == "files":
            raise CorpusFormatError(
                f'{message} Pass rating_source="table" to use the ratings of the '
                "table, or fetch the files again from the makers."
            )
        warn_of_format(f"{message} The ratings of the table are used.")
        return listed

    def _read_dat(self, file: Path) -> tuple[np.ndarray, np.ndarray] | None:
        """Return data (40, 40, n_times) and labels (40, 4) of a .dat or .mat file."""
        stamp = _stamp(file)
        try:
            data, labels = read_preprocessed(file)
        except ForbiddenPickleError as error:
            # An attack, or a file of something else, is never left out silently.
            raise CorpusFormatError(
                f"DEAP: {file} is not a file of DEAP: {error} Nothing in it was run. "
                "Fetch the file again from the makers."
            ) from error
        except Exception as error:  # the readers raise whatever they stumble over
            kind = (
                "MATLAB 5 file"
                if file.suffix.lower() == ".mat"
                else "pickled dictionary"
            )
            self._broken(
                f"DEAP: {file} is not a {kind} with the arrays 'data' and "
                f"'labels' ({type(error).__name__}: {error}).",
                error,
            )
            return None
        shortest = round((BASELINE_SECONDS + 1) * SFREQ)
        longest = round((BASELINE_SECONDS + VIDEO_SECONDS) * SFREQ)
        if (
            data.ndim != 3
            or data.shape[:2] != (N_VIDEOS, len(CH_NAMES))
            or not shortest <= data.shape[2] <= longest
            or labels.shape != (N_VIDEOS, len(RATINGS))
            or data.dtype.kind != "f"
            or labels.dtype.kind != "f"
        ):
            self._broken(
                f"DEAP: {file} must hold floating-point 'data' ({N_VIDEOS} videos, "
                f"{len(CH_NAMES)} channels, {shortest} to {longest} samples at "
                f"{SFREQ:g} Hz) and 'labels' ({N_VIDEOS}, {len(RATINGS)}), but holds "
                f"{data.dtype} {data.shape} and {labels.dtype} {labels.shape}."
            )
            return None
        # A copy, as the labels may be a view of the whole file.
        self._labels[stamp] = labels.copy(), data.shape[2]
        return data, labels

    # -- original --------------------------------------------------------------

    def _read_original(self, file: Path) -> Iterator:
        opened = self._open_original(file)
        if opened is None:
            return
        recording, trials = opened
        signals = recording.read_signals(_subject_of(file))
        quality = self._make_quality(file, ORIGINAL_SFREQ)
        sound = []
        for trial in trials:
            start, stop = (
                round(seconds * ORIGINAL_SFREQ)
                for seconds in (trial.onset, trial.onset + trial.length)
            )
            shown = signals[:, start:stop]
            if flaw := quality.inspect(trial.trial + 1, shown, absent=recording.absent):
                self._broken(f"{self.code}: trial {trial.trial + 1} of {file} {flaw}.")
            else:
                sound.append(trial)
        bads = quality.bads()
        yield (
            "00",
            self._make_raw(
                signals, CH_NAMES, CH_TYPES, ORIGINAL_SFREQ, sound, bads=bads
            ),
        )
        quality.warn(self.mark_bads)

    def _open_original(self, file: Path) -> tuple[OriginalRecording, list] | None:
        """Return the recording without its signals, and its trials."""
        presentations = self._presentations(file)
        if presentations is None:
            self._broken(
                f"{self.code}: the videos of subject {_subject_of(file)} and their "
                "ratings are only in participant_ratings (.csv, .xls or .ods) of the "
                f"release. {file} cannot be used without it, and none below "
                f"{self.find_root()} can be read. Put it there."
            )
            return None
        try:
            recording = OriginalRecording(file, EEG_NAMES, N_VIDEOS)
            recording.check_starts([shown.start for shown in presentations])
        except CorpusFormatWarning:  # raised, as the user wants
            raise
        except Exception as error:  # MNE raises whatever its parser meets
            self._broken(
                f"{self.code}: {file} is not a BDF file of DEAP ({error}).", error
            )
            return None
        trials = []
        for shown, video in zip(presentations, recording.videos, strict=True):
            if not _in_range(shown.ratings[name] for name in RATINGS):
                self._broken(
                    f"{self.code}: the ratings of subject {_subject_of(file)} for the "
                    f"video with Experiment_id {shown.video} in participant_ratings "
                    f"must lie between 1 and 9, but are {dict(shown.ratings)}."
                )
            elif video[1] < 1:
                self._broken(
                    f"{self.code}: trial {shown.trial + 1} of {file} must last a "
                    f"second or more, but the recording ends after {video[1]:g} s."
                )
            else:
                trials.append(self._make_trial(shown, *video))
        return recording, trials

    # -- files that are not read for the trials --------------------------------

    def _other_checks(self, root):
        for file in find_tables(root):
            yield partial(self._check_table, file)
        original = DEAP(path=root, source="original", on_error=self.on_error)
        used = {self._find_recordings(root, k).get("0") for k in self.all_subjects}
        for file, match in find_files(root, r"(?i)s(\d\d)\.(dat|mat|bdf)"):
            if int(match[1]) not in self.all_subjects:
                yield partial(
                    warn_of_format,
                    f"{self.code}: there is no subject {match[1]}, so {file} is of "
                    "another corpus.",
                )
            elif match[2].lower() == "bdf":
                yield partial(original._read_trials, file, "0")
            elif file not in used:
                yield partial(deque, self._read_preprocessed(file), maxlen=0)

    def _check_table(self, file: Path) -> None:
        try:
            table = read_table(file)
        except MissingReaderError as error:
            warn_of_format(str(error))
            return
        except Exception as error:  # pandas raises whatever its parsers meet
            self._broken(
                f"DEAP: {file} is not a table of the release ({error}).", error
            )
            return
        listed = set(table["participant_id"])
        if listed != set(self.all_subjects):
            missing = sorted(set(self.all_subjects) - listed)
            unknown = sorted(listed - set(self.all_subjects))
            faults = [f"does not list {missing}"] * bool(missing)
            faults += [f"lists {unknown}"] * bool(unknown)
            warn_of_format(
                f"DEAP: {file} must list participants 1 to 32, but "
                f"{' and '.join(faults)}."
            )
        for subject in sorted(listed & set(self.all_subjects)):
            self._check_rows(file, table, subject)

    def _check_rows(self, file: Path, table: pd.DataFrame, subject: int) -> None:
        try:
            rows = read_presentations(table, subject)
        except ValueError as error:
            self._broken(f"DEAP: {file} is not as published: {error}.", error)
            return
        for row in rows:
            if not _in_range(row.ratings[name] for name in RATINGS):
                self._broken(
                    f"DEAP: the ratings of subject {subject} for the video with "
                    f"Experiment_id {row.video} in {file} must lie between 1 and 9, "
                    f"but are {dict(row.ratings)}."
                )

    # -- participant_ratings ---------------------------------------------------

    def _presentations(self, file: Path) -> list[Presentation] | None:
        """Return the presentations to the subject of a file, None without a table."""
        root = self.find_root()
        if root not in self._tables:
            self._tables[root] = self._find_table(root)
        if (found := self._tables[root]) is None:
            return None
        source, table = found
        try:
            return read_presentations(table, _subject_of(file))
        except ValueError as error:
            self._report_table(f"DEAP: {source} is not as published: {error}.", error)
            return None

    def _find_table(self, root: Path) -> tuple[Path, pd.DataFrame] | None:
        """Return the first readable table below the root, with its file."""
        for file in find_tables(root):
            try:
                return file, read_table(file)
            except MissingReaderError as error:
                if self.source == "original":
                    raise
                warn_of_format(f"{error} {_WITHOUT_TABLE}")
            except Exception as error:  # pandas raises whatever its parsers meet
                self._report_table(
                    f"DEAP: {file} is not a table of the release ({error}).", error
                )
        return None

    # -- video_list ------------------------------------------------------------

    def stimulus_table(self):
        """Return the means of the makers' online ratings of the videos.

        Returns
        -------
        DataFrame
            One row per video, ``"01"`` to ``"40"``, with ``valence`` and ``arousal``.

        Raises
        ------
        CorpusNotFoundError
            If ``video_list`` (``.csv``, ``.xls`` or ``.ods``) of the release is
            missing.
        CorpusFormatError
            If it is not as published.
        """
        root = self.find_root()
        files = self._find_stimulus_files(root)
        if not files:
            raise CorpusNotFoundError(
                "DEAP: the online ratings of the videos are in video_list (.csv, .xls "
                f"or .ods) of the release, but none lies below {root}. Put it there."
            )
        try:
            table = read_online_ratings(files[0])
        except MissingReaderError:
            raise
        except Exception as error:  # pandas raises whatever its parsers meet
            raise CorpusFormatError(
                f"DEAP: {files[0]} is not video_list as published ({error}). Fetch the "
                "file again from the makers."
            ) from error
        return table.set_axis([f"{video:02.0f}" for video in table.index])

    def _find_stimulus_files(self, root):
        return find_tables(root, "video_list")

    def _report_table(self, message: str, cause: Exception) -> None:
        """Report a defect of the table, which the original recordings require."""
        if self.source == "original":
            self._broken(message, cause)
        else:
            warn_of_format(f"{message} Fetch the file again. {_WITHOUT_TABLE}")


def _stamp(file: Path) -> tuple:
    """Return a file with its size and its time of change."""
    if not file.exists():
        return (file,)
    stat = file.stat()
    return file, stat.st_size, stat.st_mtime_ns


def _subject_of(file: Path) -> int:
    return int(file.stem[1:])


def _in_range(ratings) -> bool:
    return all(1 <= rating <= 9 for rating in ratings)


def _quadrant(ratings) -> str:
    valence, arousal = (
        "H" if ratings[name] > THRESHOLD else "L" for name in ("valence", "arousal")
    )
    return f"{valence}V{arousal}A"


def _to_volts(ch_types: Sequence[str]) -> np.ndarray:
    # Respiration and plethysmograph are in units of the amplifier, which are assumed
    # to be microvolts as well.
    return np.array([1e-6 if kind in VOLTAGE_TYPES else 1.0 for kind in ch_types])
