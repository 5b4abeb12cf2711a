"""FACED: 123 subjects, 28 film clips of nine emotions; the only open corpus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from moabb.datasets.download import NemarDownloadError, nemar_dl
from moabb.datasets.metadata.schema import (
    AcquisitionMetadata,
    DatasetMetadata,
    DocumentationMetadata,
    ExperimentMetadata,
    ParticipantMetadata,
)
from nemar import NEMARClient, NemarError

from braindecode_emossl.datasets.base import EmotionDataset, Trial, find_files
from braindecode_emossl.datasets.deap_pickles import (
    ForbiddenPickleError,
    read_pickled_array,
)
from braindecode_emossl.datasets.faced_files import (
    EEG_NAMES,
    RATINGS,
    Film,
    Recording,
    read_films,
    sidecar,
)
from braindecode_emossl.datasets.quality import RecordingQuality
from braindecode_emossl.errors import (
    CorpusFormatError,
    CorpusFormatWarning,
    CorpusNotFoundError,
)
from braindecode_emossl.hosts import set_summary_table

__all__ = ["EMOTIONS", "FACED", "FILM_SECONDS"]

# Films 1 to 28, three of each emotion, four of the neutral one.
EMOTIONS = tuple(
    emotion
    for emotion, n_films in {
        "anger": 3,
        "disgust": 3,
        "fear": 3,
        "sadness": 3,
        "neutral": 4,
        "amusement": 3,
        "inspiration": 3,
        "joy": 3,
        "tenderness": 3,
    }.items()
    for _ in range(n_films)
)
VALENCES = {
    **dict.fromkeys(("anger", "disgust", "fear", "sadness"), "negative"),
    "neutral": "neutral",
    **dict.fromkeys(("amusement", "inspiration", "joy", "tenderness"), "positive"),
}
# Length of films 1 to 28 in seconds, to the second.
FILM_SECONDS = tuple(
    map(
        int,
        "81 64 73 79 69 91 56 60 106 45 60 82 35 44 39 43 "
        "56 70 73 129 77 76 34 37 68 63 54 77".split(),
    )
)
SCALE = (0.0, 7.0)
NEMAR_ID = "nm000112"
# One real presentation of film 22 lasts 84 s.
_LONGEST = 140.0
# Seconds that are kept before and after a film; before it, a cross is shown for 5 s.
MARGIN_SECONDS = 5.0
PROCESSED_URL = "https://www.synapse.org/#!Synapse:syn50614194"
PROCESSED_SFREQ = 250.0
# Folders of the features that the makers released, with windows of a second.
FEATURE_FOLDERS = ("de", "psd")  # in small letters
FEATURE_SECONDS = 1.0
PROCESSED_SECONDS = 30.0
_N_PROCESSED_CHANS = 32
# Unfiltered electrodes drift by more than EEG.
_IMPLAUSIBLE_VOLTS = {"bids": 0.05, "processed": 5e-3}


class FACED(EmotionDataset):
    """FACED, the film corpus of Tsinghua University, which can be downloaded.

    One hundred and twenty-three subjects watched 28 film clips of 34 to 130 s: three
    each of anger, disgust, fear, sadness, amusement, inspiration, joy and tenderness,
    and four neutral ones. They rated each on twelve scales from 0 to 7. Subject 1 is
    ``sub-000``, subject 123 ``sub-122``. There is one session, ``"0"``. A run is one
    film, ``"00"`` to ``"27"``. ``stimulus`` is the number of the film, ``"01"`` to
    ``"28"``.

    ``source="bids"`` reads the BIDS release of NEMAR (nm000112), one continuous
    recording ``sub-000_task-watchingVideoClips_eeg.bdf`` per subject with its
    ``events.tsv`` and ``channels.tsv``, at 250 or 1000 Hz, neither filtered nor
    referenced. A run holds a film and up to 5 s before and after it; runs are in the
    order of presentation. ``FACED().download(subject_list=[1])`` fetches the files of
    a subject, as MOABB's other datasets do; whatever is on disk is used without a
    network. An existing copy, such as one by ``nemar download``, is given as ``path``.

    ``source="processed"`` reads the makers' own ``Processed_data/sub000.pkl`` to
    ``sub122.pkl``: the last 30 s of each film, 250 Hz, 0.05 to 47 Hz, common average
    reference, without ratings. The order of presentation is not in these files, so
    that ``trial`` is the number of the film counted from 0. The code is
    ``FACED-processed``, so that MOABB stores its results separately. The makers'
    features, ``EEG_Features/DE/sub000.pkl.pkl`` and ``PSD``, are read by
    ``Emotion(features="released:de", window=1.0)``.

    Parameters
    ----------
    subjects : list of int or None
        Subjects to use, 1 to 123; all by default.
    sessions : list of int or None
        Sessions to use; there is only 0.
    path : str, Path or None
        Folder of the corpus. By default the MNE setting ``MNE_DATASETS_FACED_PATH``
        (configuration or environment), else ``<MNE_DATA>/MNE-faced-data``, to which
        MOABB downloads.
    source : {"bids", "processed"}
        Form of the recordings.
    on_error : {"raise", "warn"}
        Whether a broken trial or recording raises an error, or is left out with a
        `CorpusFormatWarning`.
    return_all_modalities : bool or dict
        ``False`` keeps the 30 EEG channels that all subjects have. ``True`` adds what
        the recording has besides: ``HEOR`` and ``HEOL`` (EOG), or the mastoids ``A1``
        and ``A2`` (type ``misc``). Subjects with different channels cannot be loaded
        into one array.
    mark_bads : bool
        Whether electrodes without contact, whose signal is flat, are listed in
        ``raw.info["bads"]``. A warning names them in either case.

    Raises
    ------
    CorpusNotFoundError
        If data are requested and the files are missing.
    CorpusFormatError
        If a file is not in the published layout, or if a pickle contains more than
        a NumPy array; no code in it is run.

    Notes
    -----
    Verified against the real ``events.tsv`` and ``channels.tsv`` of 16 subjects, next
    to signals of a replica; the signals of the corpus were not available.

    Ratings are ``valence``, ``arousal``, ``liking``, ``familiarity`` and those of the
    eight emotions. The class is that of the film. So is the valence, as in the
    literature: four negative emotions, the neutral films, four positive emotions;
    ``Emotion("valence", label_source="self-report")`` takes the rating instead, whose
    midpoint is 3.5.

    The release is not uniform. Most subjects have T7, T8, P7 and P8, the others the
    same sites by their old names T3, T4, T5 and T6, which are renamed. ``HEOR`` and
    ``HEOL`` are typed as EEG in the files. The sampling rate is that of the
    recording; ``Emotion`` resamples all to 200 Hz by default. Where ``channels.tsv``
    states no unit, the size of the signals decides between volts and microvolts,
    with a warning. The label of neutral films is a backslash in ``events.tsv``; films
    are identified by ``video_index``, as four have the same title; rows without it
    are triggers.

    The order of the channels of the processed files is that of public loaders: the
    30 electrodes, then the two references, which are left out [inferred: one public
    script has the references elsewhere].

    NEMAR declares the licence CC-BY-4.0; the makers' own page is less clear about it.
    Cite both [1]_ [2]_. This package redistributes nothing.

    References
    ----------
    .. [1] Chen, J., Wang, X., Huang, C., Hu, X., Shen, X., & Zhang, D. (2023). A large
       finer-grained affective computing EEG dataset. Scientific Data, 10, 740.
       https://doi.org/10.1038/s41597-023-02650-w
    .. [2] NEMAR dataset nm000112, version 1.0.1.
       https://doi.org/10.82901/nemar.nm000112
    """

    code_name = "FACED"
    path_key = "FACED"
    all_subject_numbers = tuple(range(1, 124))
    n_sessions_per_subject = 1
    n_trials_per_session = len(EMOTIONS)
    classes = {  # noqa: RUF012
        name: code for code, name in enumerate(dict.fromkeys(EMOTIONS), start=1)
    }
    common_interval = (0, min(FILM_SECONDS))
    doi_name = "10.1038/s41597-023-02650-w"
    is_open = True
    access_url = "https://doi.org/10.82901/nemar.nm000112"
    expected_files = (
        "sub-000/eeg/sub-000_task-watchingVideoClips_eeg.bdf",
        "sub-122/eeg/sub-122_task-watchingVideoClips_eeg.bdf",
    )
    ratings: tuple[str, ...] = RATINGS
    rating_midpoint = 3.5
    rating_cuts = (7 / 3, 14 / 3)
    class_source = "stimulus"
    released_channels = EEG_NAMES
    replica_variants = ("bids", "pkl")
    replica_effect = 0.12
    valence_of_class = VALENCES
    # By channels.tsv of the recordings at 250 Hz; those at 1000 Hz reach 250 Hz.
    passband = (0.0, 62.0)

    METADATA = DatasetMetadata(
        acquisition=AcquisitionMetadata(
            sampling_rate=1000.0,
            channel_types={"eeg": 30},
            sensors=list(EEG_NAMES),
        ),
        participants=ParticipantMetadata(
            n_subjects=123, gender={"male": 48, "female": 75}, age_min=17, age_max=38
        ),
        experiment=ExperimentMetadata(
            paradigm="emotion",
            events=dict(classes),
            n_classes=9,
            class_labels=list(classes),
            trials_per_class={name: EMOTIONS.count(name) for name in classes},
            stimulus_type="film clips",
            stimulus_modalities=["visual", "auditory"],
            primary_modality="multisensory",
            synchronicity="asynchronous",
            mode="offline",
        ),
        documentation=DocumentationMetadata(
            doi="10.1038/s41597-023-02650-w",
            description="EEG of film clips of nine emotions, with self-assessments.",
            investigators=["Jingjing Chen", "Xiaobin Wang", "Chen Huang"],
            senior_author="Dan Zhang",
            institution="Tsinghua University",
            country="CN",
            data_url="https://doi.org/10.82901/nemar.nm000112",
            license="CC-BY-4.0",
            publication_year=2023,
        ),
        sessions_per_subject=1,
        runs_per_session=len(EMOTIONS),
        data_processed=False,
        file_format="BDF",
    )
    summary_table = {  # noqa: RUF012
        "#Subj": 123,
        "#Chan": 30,
        "#Classes": 9,
        "#Trials / class": "3-4",
        "Trials length (s)": "34-130",
        "Freq (Hz)": 1000,
        "#Sessions": 1,
        "#Runs": 28,
        "Total_trials": 3444,
    }

    def __init__(
        self,
        subjects=None,
        sessions=None,
        *,
        path=None,
        source="bids",
        on_error="raise",
        return_all_modalities=False,
        mark_bads=True,
    ):
        if source not in ("bids", "processed"):
            raise ValueError(
                f'source must be "bids" or "processed", but got {source!r}.'
            )
        self.source = source
        if source == "processed":
            self._describe_processed()
        super().__init__(
            subjects,
            sessions,
            path=path,
            on_error=on_error,
            return_all_modalities=return_all_modalities,
            mark_bads=mark_bads,
        )

    def _describe_processed(self) -> None:
        """Set what differs in the makers' processed files."""
        # MOABB's caches and results are identified by the code.
        self.code_name = "FACED-processed"
        self.is_open = False  # to a program
        self.access_url = PROCESSED_URL
        self.access_terms = "they are open"
        self.ratings = ()
        self.released_features = dict.fromkeys(FEATURE_FOLDERS, (FEATURE_SECONDS,))
        self.passband = (0.05, 47.0)
        self.common_interval = (0, int(PROCESSED_SECONDS))
        self.expected_files = ("Processed_data/sub000.pkl", "Processed_data/sub122.pkl")
        self.METADATA = replace(
            self.METADATA,
            acquisition=replace(
                self.METADATA.acquisition,
                sampling_rate=PROCESSED_SFREQ,
                reference="common average",
                filters="0.05-47 Hz band-pass",
            ),
            data_processed=True,
            file_format="Python pickle",
        )
        self.summary_table = {
            **self.summary_table,
            "Trials length (s)": int(PROCESSED_SECONDS),
            "Freq (Hz)": int(PROCESSED_SFREQ),
        }
        set_summary_table(self)

    def data_path(
        self, subject, path=None, force_update=False, update_path=None, verbose=None
    ):
        """Return the files of a subject, after a download if they are missing.

        Only the BIDS release is downloaded, by MOABB from NEMAR. An interrupted
        download resumes with the files that are missing.

        Parameters
        ----------
        subject : int
            Number of the subject.
        path : str, Path or None
            Folder of the corpus, see the class.
        force_update : bool
            Download the files again.
        update_path : None
            Ignored; part of MOABB's interface.
        verbose : bool, str, int or None
            Passed to MOABB.

        Returns
        -------
        list of str
            The recording.

        Raises
        ------
        CorpusNotFoundError
            If the files are missing and cannot be downloaded.
        """
        if self.source == "processed":
            return super().data_path(subject, path, force_update)
        subject = self._check_subject(subject)
        if force_update or not self.is_downloaded(subject, path):
            self._download(subject, path, force_update, verbose)
        return super().data_path(subject, path)

    def is_downloaded(self, subject, path=None):
        """Return whether all files of a subject are on disk.

        Parameters
        ----------
        subject : int
            Number of the subject.
        path : str, Path or None
            Folder of the corpus, see the class.

        Returns
        -------
        bool
            True if the recording and its tables are there.
        """
        root = self._named_root(path)
        found = self._find_recordings(root, subject) if root.is_dir() else {}
        kinds = ("channels", "events") if self.source == "bids" else ()
        return bool(found) and all(
            sidecar(found["0"], kind).is_file() for kind in kinds
        )

    def download_size(self, subjects):
        """Return the download size of some subjects, in bytes.

        The provider is asked for the sizes of the files of the latest version.

        Parameters
        ----------
        subjects : list of int
            Numbers of the subjects.

        Returns
        -------
        int
            Bytes of their files.

        Raises
        ------
        CorpusNotFoundError
            If the provider cannot be reached.
        """
        folders = tuple(f"sub-{_label(subject)}/" for subject in subjects)
        try:
            with NEMARClient() as client:
                index = client.fetch_index(NEMAR_ID)
                manifest = client.fetch_manifest(index, index.resolve_version())
        except NemarError as error:
            raise CorpusNotFoundError(
                f"{self.code}: the provider cannot be asked for the files ({error}). "
                "Check the connection, or pass the folder of a copy."
            ) from error
        return sum(f.size or 0 for f in manifest if f.path.startswith(folders))

    def download_root(self):
        """Return the folder to which the corpus is downloaded.

        Returns
        -------
        Path
            That of ``path`` or of the settings; it may not exist.
        """
        return self._named_root()

    def _download(self, subject: int, path, force_update: bool, verbose) -> None:
        root = self._named_root(path)
        # MOABB adds the name of its own folder, which is the default root's.
        base = root.parent if root.name == self._default_folder() else root
        base.mkdir(parents=True, exist_ok=True)
        try:
            nemar_dl(
                NEMAR_ID,
                type(self).code_name,
                path=str(base),
                force_update=force_update,
                subject=_label(subject),
                verbose=verbose,
            )
        except NemarDownloadError as error:
            raise CorpusNotFoundError(
                f"{self.code}: subject {subject} could not be downloaded to {root} "
                f"({error.__cause__ or error}). Call again to resume, or pass a copy "
                "as path."
            ) from error

    def _default_folder(self):
        return f"MNE-{type(self).code_name.lower()}-data"

    def _how_to_get(self):
        if self.source == "processed":
            return (
                "The processed files are open, but not downloaded by this package: "
                f"see {self.access_url}."
            )
        return (
            "The corpus is open: FACED().download(subject_list=[1]) fetches subject 1 "
            f"from NEMAR ({self.access_url})."
        )

    def _find_recordings(self, root, subject):
        label = _label(subject)
        name = rf"sub-{label}_task-watchingVideoClips_eeg\.bdf"
        if self.source == "processed":
            name = rf"sub{label}\.pkl"
        # Public loaders rename the makers' features, sub000.pkl.pkl, to this name too.
        files = [
            file
            for file, _ in find_files(root, name)
            if file.parent.name.lower() not in FEATURE_FOLDERS
        ]
        if len(files) > 1:
            raise CorpusFormatError(
                f"{self.code}: {root} holds subject {subject} more than once "
                f"({', '.join(map(str, files))}). Let the path name one folder."
            )
        return {"0": files[0]} if files else {}

    def source_files(self, subject):
        """Return the files from which the signals of a subject are read.

        Parameters
        ----------
        subject : int
            Number of the subject.

        Returns
        -------
        list of str
            The recording and, of the BIDS release, its ``channels.tsv`` and
            ``events.tsv``.
        """
        names = super().source_files(subject)
        if self.source == "processed":
            return names
        tables = [sidecar(Path(names[0]), kind) for kind in ("channels", "events")]
        return [*names, *map(str, tables)]

    def _read_recording(self, file, session):
        if self.source == "processed":
            return self._read_processed(file)
        return self._read_bids(file)

    def _read_trials(self, file, session):
        if self.source == "processed":
            data = self._read_pickle(file)
            return {} if data is None else self._processed_trials(data.shape[2])
        opened = self._open(file)
        return {} if opened is None else _by_run(opened[1])

    # -- the BIDS release ------------------------------------------------------

    def _open(self, file: Path) -> tuple[Recording, list[Trial]] | None:
        """Return the recording without its signals, and its trials."""
        try:
            recording = Recording(file)
            films = read_films(sidecar(file, "events"), recording.sfreq)
        except CorpusFormatWarning:  # raised, as the user wants
            raise
        except Exception as error:  # MNE and pandas raise whatever they meet
            self._broken(f"{self.code}: {file} is not as published: {error}.", error)
            return None
        trials = []
        for number, film in enumerate(films):
            if flaw := self._find_flaw(film, recording):
                self._broken(
                    f"{self.code}: trial {number + 1} (film {film.number}) of "
                    f"{sidecar(file, 'events')} {flaw}."
                )
            else:
                trials.append(_make_trial(number, film))
        if missing := {*range(1, len(EMOTIONS) + 1)} - {film.number for film in films}:
            self._broken(
                f"{self.code}: {sidecar(file, 'events')} must have 28 films, but lacks "
                f"{sorted(missing)}."
            )
        return recording, trials

    def _find_flaw(self, film: Film, recording: Recording) -> str | None:
        """Say why a film cannot be used; labels that contradict are an error."""
        emotion = EMOTIONS[film.number - 1]
        found = film.emotion.lower()
        # The release writes a backslash for neutral films.
        labels = (emotion, "\\") if emotion == "neutral" else (emotion,)
        if found not in labels or film.valence.lower() != VALENCES[emotion]:
            raise CorpusFormatError(
                f"{self.code}: film {film.number} of {recording.file} is of {emotion} "
                f"({VALENCES[emotion]}), but its events.tsv has {film.emotion!r} "
                f"({film.valence!r}). It is not an original copy: fetch it again."
            )
        if not 1 <= film.length <= _LONGEST:
            return f"must last 1 to {_LONGEST:g} s, but lasts {film.length:g} s"
        n_times = round((film.onset + film.length) * recording.sfreq)
        if film.onset < 0 or n_times > recording.n_times:
            return (
                f"lies at {film.onset:g} to {film.onset + film.length:g} s, but the "
                f"recording lasts {recording.n_times / recording.sfreq:g} s"
            )
        low, high = SCALE
        if wrong := {k: r for k, r in film.ratings.items() if not low <= r <= high}:
            return f"must have ratings between {low:g} and {high:g}, but has {wrong}"
        return None

    def _read_bids(self, file: Path) -> Iterator:
        opened = self._open(file)
        if opened is None:
            return
        recording, trials = opened
        quality = RecordingQuality(
            f"{self.code}: {file}",
            EEG_NAMES,
            recording.sfreq,
            # The mastoids are voltages too.
            sensors=dict.fromkeys(recording.other_types, "eog"),
            implausible=_IMPLAUSIBLE_VOLTS[self.source],
        )
        for trial in trials:
            number = trial.trial + 1
            try:
                signals, n_before = recording.read(trial, MARGIN_SECONDS)
            except ValueError as error:
                self._broken(f"{self.code}: trial {number} of {file}: {error}.", error)
                continue
            n_times = round(trial.length * recording.sfreq)
            shown = signals[:, n_before : n_before + n_times]
            if flaw := quality.inspect(number, shown):
                self._broken(f"{self.code}: trial {number} of {file} {flaw}.")
                continue
            raw = self._make_raw(
                signals,
                [*EEG_NAMES, *recording.other_types],
                ["eeg"] * len(EEG_NAMES) + [*recording.other_types.values()],
                recording.sfreq,
                [replace(trial, onset=n_before / recording.sfreq)],
                bads=quality.bads(number),
            )
            yield f"{trial.trial:02d}", raw
        quality.warn(self.mark_bads)

    # -- the makers' processed files -------------------------------------------

    def _read_processed(self, file: Path) -> Iterator:
        data = self._read_pickle(file)
        if data is None:
            return
        quality = RecordingQuality(
            f"{self.code}: {file}",
            EEG_NAMES,
            PROCESSED_SFREQ,
            implausible=_IMPLAUSIBLE_VOLTS[self.source],
        )
        for run, (trial,) in self._processed_trials(data.shape[2]).items():
            signals, number = data[trial.trial, : len(EEG_NAMES)], trial.trial + 1
            if flaw := quality.inspect(number, signals, volts=1e-6):
                self._broken(f"{self.code}: trial {number} of {file} {flaw}.")
                continue
            raw = self._make_raw(
                signals * 1e-6,  # microvolts to volts
                EEG_NAMES,
                ["eeg"] * len(EEG_NAMES),
                PROCESSED_SFREQ,
                [trial],
                bads=quality.bads(number),
            )
            yield run, raw
        quality.warn(self.mark_bads)

    def _processed_trials(self, n_times: int) -> dict[str, list[Trial]]:
        length = n_times / PROCESSED_SFREQ
        return _by_run(
            Trial(k, f"{k + 1:02d}", emotion, length)
            for k, emotion in enumerate(EMOTIONS)
        )

    def _find_released(self, name, window, file, session):
        pattern = rf"{file.stem}\.pkl(\.pkl)?"
        subject = int(file.stem.removeprefix("sub")) + 1
        return self._find_one(self.find_root(), name, pattern, subject)

    def _open_released(self, source, name, session):
        data = self._read_array(source)
        if data is None:
            return None
        if data.ndim != 4 or data.shape[:2] != (len(EMOTIONS), _N_PROCESSED_CHANS):
            self._broken(
                f"{self.code}: {source} must have the shape ({len(EMOTIONS)} films, "
                f"{_N_PROCESSED_CHANS} channels, windows, bands), but has {data.shape}."
            )
            return None
        return lambda film: data[film, : len(EEG_NAMES)].transpose(1, 0, 2)

    def _read_array(self, file: Path):
        """Return the array of a pickle, None if it is broken."""
        try:
            return read_pickled_array(file)
        except ForbiddenPickleError as error:
            # An attack, or a file of something else, is never left out silently.
            raise CorpusFormatError(
                f"{self.code}: {file} is not a file of FACED: {error} Nothing in it "
                "was run. Fetch the file again from the makers."
            ) from error
        except Exception as error:  # pickletools raises whatever it meets
            self._broken(
                f"{self.code}: {file} is not a pickled array ({error}).", error
            )
            return None

    def _read_pickle(self, file: Path):
        """Return the array (28, 32, n_times) of a file, None if it is broken."""
        data = self._read_array(file)
        if data is None:
            return None
        longest = round(PROCESSED_SECONDS * PROCESSED_SFREQ)
        if (
            data.ndim != 3
            or data.shape[:2] != (len(EMOTIONS), _N_PROCESSED_CHANS)
            or not PROCESSED_SFREQ <= data.shape[2] <= longest
            or data.dtype.kind != "f"
        ):
            self._broken(
                f"{self.code}: {file} must hold floating-point numbers of the shape "
                f"({len(EMOTIONS)} films, {_N_PROCESSED_CHANS} channels, up to "
                f"{longest} samples at {PROCESSED_SFREQ:g} Hz), but holds {data.dtype} "
                f"{data.shape}."
            )
            return None
        return data


def _label(subject: int) -> str:
    return f"{subject - 1:03d}"


def _make_trial(number: int, film: Film) -> Trial:
    return Trial(
        trial=number,
        stimulus=f"{film.number:02d}",
        emotion=EMOTIONS[film.number - 1],
        length=film.length,
        onset=film.onset,
        ratings=film.ratings,
    )


def _by_run(trials) -> dict[str, list[Trial]]:
    return {f"{trial.trial:02d}": [trial] for trial in trials}
