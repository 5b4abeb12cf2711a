"""SEED-IV: 15 subjects, three sessions of 24 film clips, all 72 of them different."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
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

from braindecode_emossl.datasets.base import find_files
from braindecode_emossl.datasets.eye_features import (
    add_eye_features,
    are_requested,
)
from braindecode_emossl.datasets.mat_files import list_variables
from braindecode_emossl.datasets.seed import RELEASED
from braindecode_emossl.datasets.seed_family import (
    CH_NAMES,
    SFREQ,
    SEEDFamilyDataset,
)
from braindecode_emossl.errors import CorpusFormatError, warn_of_format

__all__ = ["EYE_FEATURES", "SEED_IV"]

# Emotions by the makers' label, 0 to 3.
EMOTIONS = ("neutral", "sad", "fear", "happy")

# Labels of trials 1 to 24, by session.
LABELS = {
    session: tuple(map(int, labels.split()))
    for session, labels in {
        "0": "1 2 3 0 2 0 0 1 0 1 2 1 1 1 2 3 2 2 3 3 0 3 0 3",
        "1": "2 1 3 0 0 2 0 2 3 3 2 3 2 0 1 1 2 1 0 3 0 1 3 1",
        "2": "1 2 2 1 3 3 3 1 1 2 1 0 2 3 3 0 2 3 0 0 2 0 1 0",
    }.items()
}

# Lengths in seconds of trials 1 to 24 of the first session, on the makers' page.
FIRST_SESSION_SECONDS = tuple(
    map(
        int,
        "168 95 199 130 88 162 153 209 145 169 50 110 217 169 259 141 68 179 140 48 "
        "112 112 175 137".split(),
    )
)

# Characters of ReadMe.txt to search for labels; the makers' is one page.
_MAX_README = 2**16

# Seconds of the windows of the smoothed eye features.
EYE_WINDOW = 4
_EYE_FOLDER = "eye_feature_smooth"
_FEATURE_FOLDER = "eeg_feature_smooth"

# Windows in the makers' features of trials 1 to 24, the same for all subjects. Of the
# second and third session, they are all that is known of the lengths.
N_WINDOWS = {
    "0": tuple(seconds // EYE_WINDOW for seconds in FIRST_SESSION_SECONDS),
    **{
        session: tuple(map(int, counts.split()))
        for session, counts in {
            "1": "55 25 34 36 53 27 34 46 34 20 60 12 36 27 44 15 46 49 45 10 37 44 24 "
            "19",
            "2": "42 32 23 45 48 26 64 23 26 16 51 41 39 19 28 44 14 17 45 22 39 38 41 "
            "39",
        }.items()
    },
}
# A recording belongs to the session with whose numbers of windows so many agree.
_ENOUGH_TRIALS = 12

# Rows of the eye features, by names that fit the 16 characters of the EDF format.
_BANDS = {"0-.2": "0-0.2", ".2-.4": "0.2-0.4", ".4-.6": "0.4-0.6", ".6-1": "0.6-1"}
EYE_FEATURES = {
    **{
        f"pupil_{axis}_{short}": f"pupil diameter {axis.upper()}, {long}"
        for axis in "xy"
        for short, long in {
            "mean": "mean",
            "std": "standard deviation",
            **{
                f"de_{band}": f"differential entropy in {hertz} Hz"
                for band, hertz in _BANDS.items()
            },
        }.items()
    },
    "disp_x_mean": "dispersion X, mean",
    "disp_x_std": "dispersion X, standard deviation",
    "disp_y_mean": "dispersion Y, mean",
    "disp_y_std": "dispersion Y, standard deviation",
    "fix_dur_mean": "fixation duration (ms), mean",
    "fix_dur_std": "fixation duration (ms), standard deviation",
    "sacc_dur_mean": "saccade duration (ms), mean",
    "sacc_amp_mean": "saccade amplitude (degrees), mean",
    "sacc_dur_std": "saccade duration (ms), standard deviation",
    "sacc_amp_std": "saccade amplitude (degrees), standard deviation",
    "ev_blink_freq": "events: blink frequency",
    "ev_fix_freq": "events: fixation frequency",
    "ev_fix_dur_max": "events: longest fixation",
    "ev_fix_disp_sum": "events: total dispersion of fixations",
    "ev_fix_disp_max": "events: largest dispersion of a fixation",
    "ev_sacc_freq": "events: saccade frequency",
    "ev_sacc_dur": "events: average saccade duration",
    "ev_sacc_amp": "events: average saccade amplitude",
    "ev_sacc_latency": "events: average saccade latency",
}


class SEED_IV(SEEDFamilyDataset):
    """SEED-IV, four emotions with EEG and eye tracking (EmotionMeter).

    Fifteen subjects watched 24 film clips (about two minutes each, six per class) in
    each of three sessions, with 62 EEG channels and eye-tracking glasses. The loader
    reads the folder ``eeg_raw_data`` with its folders ``1``, ``2`` and ``3``, at any
    depth below the corpus folder: 200 Hz, 1 to 75 Hz, one MATLAB file per recording.

    A session is the folder (``"0"`` for ``1`` to ``"2"`` for ``3``), a run is one clip
    (``"00"`` to ``"23"``). No clip is shown twice: ``stimulus`` is the number of the
    session and of the trial from 1, ``"1-01"`` to ``"3-24"``, 72 in all. Leaving out a
    session therefore leaves out its stimuli. All subjects saw the same clips.
    ``Emotion(features="released:de_LDS")`` reads the makers' features of the folder
    ``eeg_feature_smooth``, of windows of 4 s; so do ``de_movingAve``, ``psd_LDS`` and
    ``psd_movingAve``.

    Parameters
    ----------
    subjects : list of int or None
        Subjects to use, 1 to 15; all by default.
    sessions : list of int or None
        Sessions to use, 0 to 2; all by default.
    path : str, Path or None
        Folder of the corpus. By default the MNE setting ``MNE_DATASETS_SEEDIV_PATH``
        (configuration or environment), else ``<MNE_DATA>/MNE-SEED-IV-data``.
    on_error : {"raise", "warn"}
        Whether a broken trial or recording raises an error, or is left out with a
        `CorpusFormatWarning`.
    return_all_modalities : bool or dict
        ``False`` keeps the EEG; ``True``, or a dict with ``misc`` channels, adds the
        31 eye features, see Notes. Their files are required and read only then.
    mark_bads : bool
        Whether electrodes without contact, whose signal is flat, are listed in
        ``raw.info["bads"]``. A warning names them in either case.

    Raises
    ------
    CorpusNotFoundError
        If data are requested and the files are missing.
    CorpusFormatError
        If a file is not in the published layout, or lies in the folder of another
        session.

    Notes
    -----
    Verified on byte-format replicas, not on the licensed files. Of the real files, the
    readme, the order of the channels and the numbers of windows in the makers' features
    were compared.

    The labels are those that the makers publish in ``ReadMe.txt``. If this file is
    next to ``eeg_raw_data`` and contains labels, they are compared. A file in the
    folder of another session is recognised by the lengths of its trials.

    Voltages are in microvolts in the files (inferred: the makers name no unit, and the
    range of the values admits no other) and in volts here. A trial has one sample more
    than a whole number of seconds, which is dropped (inferred from the lengths of the
    first session, which the makers' page shows). The electrodes CB1 and CB2 are placed
    at POO7 and POO8, as in the makers' own position file. ``interval`` ends at 40 s.
    Of the clips of the second and third session, only the numbers of windows of 4 s in
    the makers' features are known: the shortest clip of all has 10 of them.

    The eye features are those of ``eye_feature_smooth``, smoothed by the makers, one
    value for each whole window of 4 s of a trial. They may lie at any depth, in a
    folder of the session below one of that name. Here each value is repeated for its
    4 s at the rate of the EEG, the last one to the end of the trial. The smoothing
    uses the neighbouring windows of the trial. The values keep the makers' units
    (pixels, milliseconds, degrees), although MNE treats ``misc`` channels as volts. The
    files may contain NaN if a window had no such event. It is kept as a missing value,
    and a warning gives the number for each recording. An infinite value is an error.

    The channels are, in the order of the rows: ``pupil_x_mean``, ``pupil_x_std``, its
    differential entropy (``pupil_x_de_0-.2`` to ``pupil_x_de_.6-1``, in Hz), the same
    six of ``pupil_y``; mean and deviation of the dispersion (``disp_x_*``,
    ``disp_y_*``), of the duration of fixations (``fix_dur_*``), of the duration and
    amplitude of saccades (``sacc_*``); and nine statistics of the events (``ev_*``).
    ``EYE_FEATURES`` of this module describes each. The makers name the groups of rows
    and their contents; the order, X before Y, each with all its statistics, is
    inferred.

    References
    ----------
    .. [1] Zheng, W.-L., Liu, W., Lu, Y., Lu, B.-L., & Cichocki, A. (2019).
       EmotionMeter: A multimodal framework for recognizing human emotions. IEEE
       Transactions on Cybernetics, 49(3), 1110-1122.
       https://doi.org/10.1109/TCYB.2018.2797176
    """

    code_name = "SEED-IV"
    path_key = "SEEDIV"
    eeg_folder = "eeg_raw_data"
    session_folders = ("1", "2", "3")
    all_subject_numbers = tuple(range(1, 16))
    n_sessions_per_subject = 3
    n_trials_per_session = 24
    longest = EYE_WINDOW * (max(map(max, N_WINDOWS.values())) + 1)
    # Lengths are known of one subject; of the others, that the windows are as many.
    length_tolerance = 4.0
    classes = {"neutral": 1, "sad": 2, "fear": 3, "happy": 4}  # noqa: RUF012
    common_interval = (0, 40)
    doi_name = "10.1109/TCYB.2018.2797176"
    access_url = "https://bcmi.sjtu.edu.cn/home/seed/"
    expected_files = (
        "eeg_raw_data/1/1_20160518.mat",
        "eeg_raw_data/3/15_20150527.mat",
    )
    class_source = "stimulus"
    replica_variants = ("mat", "full")
    replica_effect = 0.13
    passband = (1.0, 75.0)
    released_features = dict.fromkeys(RELEASED, (float(EYE_WINDOW),))
    valence_of_class = {  # noqa: RUF012
        "neutral": "neutral",
        "sad": "negative",
        "fear": "negative",
        "happy": "positive",
    }

    METADATA = DatasetMetadata(
        acquisition=AcquisitionMetadata(
            sampling_rate=SFREQ,
            channel_types={"eeg": len(CH_NAMES), "misc": len(EYE_FEATURES)},
            sensors=[*CH_NAMES, *EYE_FEATURES],
            hardware="ESI NeuroScan",
            filters="1-75 Hz band-pass after downsampling to 200 Hz",
            auxiliary_channels=AuxiliaryChannelsMetadata(
                other_physiological=["eye tracking (SMI glasses)"]
            ),
        ),
        participants=ParticipantMetadata(n_subjects=15),
        experiment=ExperimentMetadata(
            paradigm="emotion",
            events={"neutral": 1, "sad": 2, "fear": 3, "happy": 4},
            n_classes=4,
            class_labels=["neutral", "sad", "fear", "happy"],
            trials_per_class={"neutral": 6, "sad": 6, "fear": 6, "happy": 6},
            stimulus_type="film clips",
            stimulus_modalities=["visual", "auditory"],
            primary_modality="multisensory",
            synchronicity="asynchronous",
            mode="offline",
        ),
        documentation=DocumentationMetadata(
            doi="10.1109/TCYB.2018.2797176",
            description="EEG and eye features of film-induced neutral, sad, fearful "
            "and happy emotion.",
            investigators=[
                "Wei-Long Zheng",
                "Wei Liu",
                "Yifei Lu",
                "Bao-Liang Lu",
                "Andrzej Cichocki",
            ],
            senior_author="Bao-Liang Lu",
            institution="Shanghai Jiao Tong University",
            country="CN",
            data_url="https://bcmi.sjtu.edu.cn/home/seed/",
            license="On request, academic use only, signed agreement",
            publication_year=2019,
        ),
        sessions_per_subject=3,
        runs_per_session=24,
        data_processed=True,
        file_format="MAT",
    )
    summary_table = {  # noqa: RUF012
        "#Subj": 15,
        "#Chan": 62,
        "#Classes": 4,
        "#Trials / class": 6,
        "Trials length (s)": "40-259",
        "Freq (Hz)": 200,
        "#Sessions": 3,
        "#Runs": 24,
        "Total_trials": 1080,
    }

    def _find_recordings(self, root, subject):
        recordings: dict[str, Path] = {}
        for file, _ in self._find_eeg(root, subject):
            session = str(self.session_folders.index(file.parent.name))
            if session in recordings:
                raise CorpusFormatError(
                    f"SEED-IV: subject {subject} must have one file a session, but "
                    f"has {recordings[session].name} and {file.name} in {file.parent}. "
                    "Remove the one that is not part of the release."
                )
            same_day = [
                other for other in recordings.values() if other.name == file.name
            ]
            if same_day:
                raise CorpusFormatError(
                    f"SEED-IV: {file} and {same_day[0]} are of the same day, but must "
                    "be of two sessions, which have labels of their own. Fetch both "
                    "again."
                )
            recordings[session] = file
        return dict(sorted(recordings.items()))

    def _find_released(self, name, window, file, session):
        return self._find_beside(file, (_FEATURE_FOLDER,))

    def _describe(self, session, number):
        stimulus = f"{int(session) + 1}-{number:02d}"
        return stimulus, EMOTIONS[LABELS[session][number - 1]]

    def _published_seconds(self, session):
        if session == "0":
            return [(seconds, seconds) for seconds in FIRST_SESSION_SECONDS]
        return [(EYE_WINDOW * n, EYE_WINDOW * (n + 1)) for n in N_WINDOWS[session]]

    def _check_session(self, shapes, file, session):
        found = {
            k: int(shape[1] / SFREQ / EYE_WINDOW)
            for k, shape in shapes.items()
            if len(shape) == 2
        }
        differing = {
            other: [k for k in found if found[k] != counts[k - 1]]
            for other, counts in N_WINDOWS.items()
        }
        likely = min(differing, key=lambda other: len(differing[other]))
        if len(found) - len(differing[likely]) < _ENOUGH_TRIALS:
            return  # a miniature copy
        if likely != session and len(found) - len(differing[session]) < _ENOUGH_TRIALS:
            raise CorpusFormatError(
                f"SEED-IV: {file} lies in the folder of session {int(session) + 1}, "
                f"but its trials have the lengths of session {int(likely) + 1}, which "
                "has other labels. Put it into the folder of its session, or fetch it "
                "again."
            )
        if trials := differing[session]:
            warn_of_format(
                f"SEED-IV: the trials {trials} of {file} have "
                f"{[found[k] for k in trials]} windows of {EYE_WINDOW} s, but "
                f"{[N_WINDOWS[session][k - 1] for k in trials]} are published."
            )

    def _check_labels(self, file):
        folder = self._folder_of(file)
        readmes = [_child(place, "readme.txt") for place in (folder.parent, folder)]
        for readme in filter(Path.is_file, readmes):
            self._check_readme(readme)

    def _check_readme(self, file: Path) -> None:
        with file.open(encoding="utf-8", errors="replace") as stream:
            text = stream.read(_MAX_README)
        for number, found in re.findall(
            r"session\s*(\d{1,9})\s*_label\s*=\s*\[([^][]*)\]", text
        ):
            expected = LABELS.get(str(int(number) - 1), ())
            if found.replace(",", " ").split() != list(map(str, expected)):
                raise CorpusFormatError(
                    f"SEED-IV: session{number}_label in {file} must be the "
                    f"published labels {expected}, but is [{found}]. The folder "
                    "is not an original copy of SEED-IV: fetch it again."
                )

    def _other_checks(self, root):
        yield from super()._other_checks(root)
        for file, _ in find_files(root, r"(?i)readme\.txt"):
            yield partial(self._check_readme, file)
        yield partial(self._check_all_eye_features, root)
        for file, _ in find_files(root, r"\d{1,2}_\d{8}_[A-Za-z]+\.mat"):
            yield partial(self._check_readable, file)

    def _check_all_eye_features(self, root: Path) -> None:
        """Check the eye features of all recordings, and say which have none."""
        files = [f for k in self.all_subjects for f, _ in self._find_eeg(root, k)]
        missing = [file for file in files if not self._find_beside(file, [_EYE_FOLDER])]
        if files and len(missing) == len(files):
            warn_of_format(
                f"SEED-IV: {root} holds no eye features ({_EYE_FOLDER}), which "
                "return_all_modalities=True needs."
            )
            return
        for file in missing:
            warn_of_format(
                f"SEED-IV: the eye features of {file} are missing "
                f"({self._expected_eye_file(file)})."
            )
        for file in files:
            if file not in missing:
                session = str(self.session_folders.index(file.parent.name))
                runs = self._read_trials(file, session).items()
                trials = ((k, round(t.length * SFREQ), None) for k, (t,) in runs)
                deque(self._pair_with_eye(trials, file), maxlen=0)

    def _check_readable(self, file: Path) -> None:
        try:
            list_variables(file)
        except (OSError, ValueError) as error:
            self._broken(
                f"SEED-IV: {file} is not a readable MATLAB 5 file ({error}).", error
            )

    def _read_recording(self, file, session):
        recording = super()._read_recording(file, session)
        return self._add_eye_features(recording, file) if self._wants_eye else recording

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
            Those of :meth:`data_path`, and those of the eye features if they are
            requested.
        """
        files = super().source_files(subject)
        if not self._wants_eye:
            return files
        eye_files = [self._find_beside(Path(file), [_EYE_FOLDER]) for file in files]
        return files + [str(file) for file in eye_files if file is not None]

    # -- eye features ----------------------------------------------------------

    def _add_eye_features(self, recording, file: Path) -> Iterator:
        """Yield (run key, signals) with the eye features of each trial added."""
        runs = ((run, found.n_times, found) for run, found in recording)
        for run, found, values in self._pair_with_eye(runs, file):
            yield run, add_eye_features(found, values, list(EYE_FEATURES), EYE_WINDOW)

    def _pair_with_eye(self, runs, file: Path) -> Iterator:
        """Yield (run key, item, eye features) of (run key, n_times, item)."""
        eye_file = self._find_beside(file, [_EYE_FOLDER])
        if eye_file is None:
            self._broken(
                f"SEED-IV: the eye features of {file} must lie in "
                f"{self._expected_eye_file(file)}, or in another folder "
                f"{_EYE_FOLDER}/{file.parent.name} of the corpus, but do not. Pass "
                "return_all_modalities=False for the EEG alone."
            )
            return
        variables = self._find_variables(eye_file, ending="eye_")
        missing = {}
        for run, n_times, item in runs if variables else ():
            number = int(run) + 1
            values = self._read_eye_features(variables, eye_file, number, n_times)
            if values is None:
                continue
            if n_missing := int(np.isnan(values).sum()):
                missing[number] = n_missing
            yield run, item, values
        if missing:
            warn_of_format(
                f"SEED-IV: {sum(missing.values())} values of {eye_file} are missing "
                f"(number by trial: {missing}), and are NaN in the signals. MoodReader "
                "masks them; other estimators need an imputer or the EEG alone."
            )

    def _expected_eye_file(self, file: Path) -> Path:
        folder = _child(self._folder_of(file).parent, _EYE_FOLDER)
        return folder / file.parent.name / file.name

    def _read_eye_features(self, variables, file, number, n_times):
        """Return the eye features (31, n_windows) of a trial, None if broken."""
        name, shape = variables.get(number, (None, None))
        n_windows = max(1, n_times // round(EYE_WINDOW * SFREQ))
        expected = (len(EYE_FEATURES), n_windows)
        if shape != expected:
            self._broken(
                f"SEED-IV: eye_{number} of {file} must have the shape {expected}, a "
                f"column for each {EYE_WINDOW} s of the EEG, but "
                f"{'is not there' if shape is None else f'has {shape}'}. Pass "
                "return_all_modalities=False for the EEG alone."
            )
            return None
        values = self._read_variable(file, name)
        if values is None:
            return None
        if values.dtype.kind != "f" or np.isinf(values).any():
            self._broken(
                f"SEED-IV: eye_{number} of {file} holds values that are neither "
                f"finite numbers nor NaN (dtype {values.dtype})."
            )
            return None
        return values


def _child(folder: Path, name: str) -> Path:
    """Return the entry of a folder with a name, ignoring case."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    by_name = (entry for entry in entries if entry.name.lower() == name)
    return next(by_name, folder / name)
