"""SEED-VII: 20 subjects, four sessions of 20 film clips, seven emotions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

from braindecode_emossl.datasets.mat_files import list_variables, read_variable
from braindecode_emossl.datasets.seed_family import (
    CH_NAMES,
    SFREQ,
    SEEDFamilyDataset,
)
from braindecode_emossl.errors import warn_of_format

__all__ = ["EMOTIONS", "FEATURE_WINDOW", "LABELS", "N_TRIALS", "SEED_VII"]

# Emotions in the order of the makers' label, from 0.
EMOTIONS = ("disgust", "fear", "sad", "neutral", "happy", "anger", "surprise")

# A session repeats the order of its first ten clips, which goes there and back.
_FIRST_FIVES = {
    "0": "happy neutral disgust sad anger",
    "1": "anger sad fear neutral surprise",
    "2": "happy surprise disgust fear anger",
    "3": "disgust sad fear surprise happy",
}
# Emotions of trials 1 to 20, by session.
LABELS = {
    session: tuple(2 * (names.split() + names.split()[::-1]))
    for session, names in _FIRST_FIVES.items()
}
N_TRIALS = 20
_N_VIDEOS = N_TRIALS * len(LABELS)
# Trials of a session that a fold of the makers tests.
_FOLD_TRIALS = 5

# Seconds of the windows of the makers' features and of the continuous labels.
FEATURE_WINDOW = 4
_LABEL_FOLDER = "continuous_labels"
_FEATURE_FOLDER = "eeg_features"


class SEED_VII(SEEDFamilyDataset):
    """SEED-VII, six basic emotions and a neutral state, with continuous labels.

    Twenty subjects watched 20 film clips (two to five minutes each) in each of four
    sessions, with 62 EEG channels; a session shows five of the seven emotions. The
    loader reads the folder ``EEG_preprocessed``, at any depth below the corpus folder:
    200 Hz, 0.1 to 70 Hz without the line's 50 Hz, one MATLAB file per subject.

    A session is a block of 20 clips (``"0"`` for clips 1 to 20), a run is one clip
    (``"00"`` to ``"19"``). No clip is shown twice: ``stimulus`` is its number in the
    corpus, ``"01"`` to ``"80"``. All subjects saw the same clips.
    ``Emotion(features="released:de_LDS")`` reads the makers' features of windows of 4 s
    from ``EEG_features``; so do ``de`` and ``psd``.

    Parameters
    ----------
    subjects : list of int or None
        Subjects to use, 1 to 20; all by default.
    sessions : list of int or None
        Sessions to use, 0 to 3; all by default.
    path : str, Path or None
        Folder of the corpus. By default the MNE setting ``MNE_DATASETS_SEEDVII_PATH``
        (configuration or environment), else ``<MNE_DATA>/MNE-SEED-VII-data``.
    on_error : {"raise", "warn"}
        Whether a broken trial or recording raises an error, or is left out with a
        `CorpusFormatWarning`.
    return_all_modalities : bool or dict
        As in MOABB. This loader reads only the EEG.
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

    *Sources.* Experiment, filters and numbers of clips: the makers' page. Names,
    shapes, the cut to whole seconds and the unit, microvolts: the makers' code that
    extracts the features (MAET, ``extract_EEG_features.py``). Emotions: a public loader
    of the real files (M-STARNet); they are the only quoted table with 12 clips of each
    emotion and 8 neutral ones, as the makers' page says. EEG-FM-Bench has other labels
    for clips 12 and following of the first session, with which these numbers differ.

    The metadata have the column ``intensity``: the mean of the continuous label, with
    which the subject rated the intensity of the emotion when reviewing the session; of
    windows, that within the window, of trials, that of the trial. The files of the
    folder ``continuous_labels`` have one value for each 4 s [two public loaders pair
    them with the windows of the features]; the range is not documented [unsure]. It is
    NaN if the file is missing. The label is not a ``target`` of the paradigm.

    ``official_folds`` are four. The makers say that a fold has five clips of each
    session, equal numbers of each emotion [1]_; that these are five in a row, each of
    which has the five emotions of its session, is inferred. The lengths of the clips
    are not published: they are not compared, and ``interval`` ends at 60 s [inferred].
    The electrodes CB1 and CB2 are placed at POO7 and POO8, as in the makers' position
    file. The makers have interpolated bad channels.

    References
    ----------
    .. [1] Jiang, W.-B., Liu, X.-H., Zheng, W.-L., & Lu, B.-L. (2025). SEED-VII: A
       multimodal dataset of six basic emotions with continuous labels for emotion
       recognition. IEEE Transactions on Affective Computing, 16(2), 969-985.
       https://doi.org/10.1109/TAFFC.2024.3485057
    """

    code_name = "SEED-VII"
    path_key = "SEEDVII"
    eeg_folder = "eeg_preprocessed"
    eeg_ending = "^"
    n_variables = _N_VIDEOS
    all_subject_numbers = tuple(range(1, 21))
    n_sessions_per_subject = 4
    n_trials_per_session = N_TRIALS
    longest = 599.0  # clips last up to five minutes, at 1000 Hz more than ten
    classes = {name: k for k, name in enumerate(EMOTIONS, start=1)}  # noqa: RUF012
    common_interval = (0, 60)
    doi_name = "10.1109/TAFFC.2024.3485057"
    access_url = "https://bcmi.sjtu.edu.cn/home/seed/seed-vii.html"
    expected_files = ("EEG_preprocessed/1.mat", "EEG_preprocessed/20.mat")
    class_source = "stimulus"
    replica_variants = ("mat",)
    replica_effect = 0.15
    passband = (0.1, 70.0)
    details = ("intensity",)
    released_features = dict.fromkeys(("de", "de_LDS", "psd"), (float(FEATURE_WINDOW),))
    released_axes = (0, 2, 1)
    # Surprise has no valence.
    valence_of_class = {  # noqa: RUF012
        **dict.fromkeys(("disgust", "fear", "sad", "anger"), "negative"),
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
            channel_types={"eeg": len(CH_NAMES)},
            sensors=list(CH_NAMES),
            hardware="ESI NeuroScan",
            filters="0.1-70 Hz band-pass and 50 Hz notch before downsampling to 200 Hz",
        ),
        participants=ParticipantMetadata(
            n_subjects=20,
            gender={"male": 10, "female": 10},
            age_mean=22.5,
            age_std=1.8,
        ),
        experiment=ExperimentMetadata(
            paradigm="emotion",
            events={name: k for k, name in enumerate(EMOTIONS, start=1)},
            n_classes=7,
            class_labels=list(EMOTIONS),
            trials_per_class={
                name: sum(row.count(name) for row in LABELS.values())
                for name in EMOTIONS
            },
            stimulus_type="film clips",
            stimulus_modalities=["visual", "auditory"],
            primary_modality="multisensory",
            synchronicity="asynchronous",
            mode="offline",
        ),
        documentation=DocumentationMetadata(
            doi="10.1109/TAFFC.2024.3485057",
            description="EEG of six film-induced emotions and a neutral state, with "
            "continuous labels of their intensity.",
            investigators=[
                "Wei-Bang Jiang",
                "Xuan-Hao Liu",
                "Wei-Long Zheng",
                "Bao-Liang Lu",
            ],
            senior_author="Bao-Liang Lu",
            institution="Shanghai Jiao Tong University",
            country="CN",
            data_url="https://bcmi.sjtu.edu.cn/home/seed/seed-vii.html",
            license="On request, academic use only, signed agreement",
            publication_year=2025,
        ),
        sessions_per_subject=4,
        runs_per_session=N_TRIALS,
        data_processed=True,
        file_format="MAT",
    )
    summary_table = {  # noqa: RUF012
        "#Subj": 20,
        "#Chan": 62,
        "#Classes": 7,
        "#Trials / class": 12,
        "Trials length (s)": "120-300",
        "Freq (Hz)": 200,
        "#Sessions": 4,
        "#Runs": 20,
        "Total_trials": 1600,
    }

    # -- files and trials ------------------------------------------------------

    def _find_recordings(self, root, subject):
        file = self._find_in(root, self.eeg_folder, subject)
        if file is None:
            return {}
        try:
            names = {variable.name for variable in list_variables(file)}
        except (OSError, ValueError):
            return dict.fromkeys(LABELS, file)  # which the reader reports
        present = [
            session
            for session in LABELS
            if names & {_number(session, k) for k in range(1, N_TRIALS + 1)}
        ]
        return dict.fromkeys(present or LABELS, file)

    def _find_in(self, root: Path, folder: str, subject: int) -> Path | None:
        """Return the file of a subject in a folder of this name, at any depth."""
        return self._find_one(root, folder, rf"(?i){subject}\.mat", subject)

    def _find_trials(self, file, session):
        first = N_TRIALS * int(session)
        return {
            number - first: variable
            for number, variable in self._find_variables(file).items()
            if first < number <= first + N_TRIALS
        }

    def _name_variable(self, session, number):
        return _number(session, number)

    def _check_labels(self, file):
        """Do nothing: the table of labels is a spreadsheet, which is not read."""

    def _published_seconds(self, session):
        return []

    def _describe(self, session, number):
        stimulus = f"{int(_number(session, number)):02d}"
        return stimulus, LABELS[session][number - 1]

    def _details_of(self, file, session):
        courses = self._read_courses(file, session)
        return {
            number: {"intensity": float(np.mean(courses.get(number, np.nan)))}
            for number in range(1, N_TRIALS + 1)
        }

    def _find_released(self, name, window, file, session):
        return self._find_in(self.find_root(), _FEATURE_FOLDER, int(file.stem))

    def _name_released(self, name, session, number):
        return f"{name}_{_number(session, number)}"

    # -- continuous labels -----------------------------------------------------

    def _find_courses(self, file: Path) -> Path | None:
        """Return the continuous labels beside the folder of a recording, or below."""
        subject = int(file.stem)
        beside = [
            folder / file.name
            for folder in sorted(file.parent.parent.iterdir())
            if folder.name.lower() == _LABEL_FOLDER
        ]
        found = next(filter(Path.is_file, beside), None)
        return found or self._find_in(self.find_root(), _LABEL_FOLDER, subject)

    def _read_courses(self, file: Path, session: str) -> Mapping[int, np.ndarray]:
        """Return the continuous labels (n_windows,) by trial, from 1."""
        labels = self._find_courses(file)
        if labels is None:
            return {}
        wanted = {_number(session, k): k for k in range(1, N_TRIALS + 1)}
        try:
            courses = {
                wanted[variable.name]: np.ravel(read_variable(labels, variable))
                for variable in list_variables(labels)
                if variable.name in wanted
            }
        except (OSError, ValueError, MemoryError) as error:
            self._broken(f"SEED-VII: {labels} cannot be read ({error}).", error)
            return {}
        for number, course in courses.items():
            if not course.size or not np.isfinite(course.astype(float)).all():
                self._broken(
                    f"SEED-VII: the continuous label {_number(session, number)} of "
                    f"{labels} must have finite numbers, but has not."
                )
                courses[number] = np.array([np.nan])
        return courses

    def describe_windows(self, windows):
        """Return the mean of the continuous label within windows.

        Parameters
        ----------
        windows : DataFrame
            One row per window, with ``subject``, ``session``, ``trial`` (from 0), and
            the ``start`` and ``stop`` of the window in seconds of its trial.

        Returns
        -------
        DataFrame
            The column ``intensity``, with the index of ``windows``. The last value of
            a label lasts to the end of the trial.
        """
        found = pd.Series(np.nan, index=windows.index, name="intensity")
        for (subject, session), rows in windows.groupby(["subject", "session"]):
            file = self._recordings(subject).get(session)
            courses: Mapping[int, np.ndarray] = {}
            if isinstance(file, Path):
                courses = self._read_courses(file, session)
            for row in rows.itertuples():
                course = courses.get(row.trial + 1)
                if course is not None:
                    found[row.Index] = _average(course, row.start, row.stop)
        return found.to_frame()

    def source_files(self, subject):
        """Return the files that the signals and metadata of a subject are read from.

        Parameters
        ----------
        subject : int
            Number of the subject.

        Returns
        -------
        list of str
            That of :meth:`data_path`, and that of the continuous labels if it exists.
        """
        files = super().source_files(subject)
        labels = (self._find_courses(Path(file)) for file in files)
        return files + [str(file) for file in labels if file is not None]

    # -- files that are not read for the trials --------------------------------

    def _other_checks(self, root) -> Iterator:
        for subject in self.all_subjects:
            file = self._find_in(root, self.eeg_folder, subject)
            if file is not None:
                yield partial(self._check_courses, file, subject)

    def _check_courses(self, file: Path, subject: int) -> None:
        """Say whether the continuous labels of a subject are there, and whole."""
        if self._find_courses(file) is None:
            warn_of_format(
                f"SEED-VII: the continuous labels of subject {subject} are missing "
                f"({_LABEL_FOLDER}/{file.name}), so that intensity is NaN."
            )
            return
        for session in self._find_recordings(self.find_root(), subject):
            missing = N_TRIALS - len(self._read_courses(file, session))
            if missing:
                warn_of_format(
                    f"SEED-VII: {missing} continuous labels of subject {subject}, "
                    f"session {session}, are missing."
                )


def _number(session: str, number: int) -> str:
    """Return the number of a clip in the corpus, from that in its session."""
    return str(N_TRIALS * int(session) + number)


def _average(course: np.ndarray, start: float, stop: float) -> float:
    """Return the mean from start to stop, in seconds, of a course in steps of 4 s."""
    edges = FEATURE_WINDOW * np.arange(len(course) + 1, dtype=float)
    edges[-1] = np.inf
    overlaps = np.minimum(stop, edges[1:]) - np.maximum(start, edges[:-1])
    return float(np.average(course, weights=np.maximum(overlaps, 0.0)))
