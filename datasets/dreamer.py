"""DREAMER: 23 subjects, 18 film clips, EEG and ECG of wireless devices."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from moabb.datasets.metadata.schema import (
    AcquisitionMetadata,
    DatasetMetadata,
    DocumentationMetadata,
    ExperimentMetadata,
    ParticipantMetadata,
)
from scipy.signal import resample_poly

from braindecode_emossl.datasets.base import (
    EmotionDataset,
    SubjectPart,
    Trial,
    find_files,
)
from braindecode_emossl.datasets.dreamer_files import (
    EEG_SFREQ,
    N_ECG,
    N_EEG,
    N_FILMS,
    RATINGS,
    SCALE,
    Index,
    Person,
    read_index,
    read_signals,
)
from braindecode_emossl.datasets.quality import RecordingQuality
from braindecode_emossl.errors import CorpusFormatError

__all__ = ["DREAMER"]

EEG_NAMES = "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4".split()
ECG_NAMES = ("ECG1", "ECG2")
SFREQ = float(EEG_SFREQ)
THRESHOLD = 3.0
# The emotion that each film was chosen for.
FILM_EMOTIONS = (
    "calmness surprise amusement fear excitement disgust happiness anger sadness "
    "disgust calmness amusement happiness anger fear excitement sadness surprise"
).split()
# The makers state 65 to 393 s.
_LONGEST = 400.0


class DREAMER(EmotionDataset):
    """DREAMER, the film corpus of the University of the West of Scotland.

    Twenty-three subjects watched 18 film clips of 65 to 393 s and rated each for
    valence, arousal and dominance (1 to 5, whole numbers). EEG of an Emotiv EPOC (14
    channels, 128 Hz) and ECG of a Shimmer2 (two channels, 256 Hz) were recorded during
    the films and during a neutral clip of 61 s before each. All is in one file,
    ``DREAMER.mat``, at any depth below the corpus folder. There is one session,
    ``"0"``.

    A run is one film, ``"00"`` to ``"17"``, in the order of the file: the neutral
    clip, then the film, so that ``Emotion(baseline=(-61, 0))`` can use the former. A
    trial starts where the film does. ``stimulus`` is the number of the film, ``"01"``
    to ``"18"``; ``film_emotion`` the emotion that it was chosen for.

    Parameters
    ----------
    subjects : list of int or None
        Subjects to use, 1 to 23; all by default.
    sessions : list of int or None
        Sessions to use; there is only 0.
    path : str, Path or None
        Folder of the corpus. By default the MNE setting ``MNE_DATASETS_DREAMER_PATH``
        (configuration or environment), else ``<MNE_DATA>/MNE-DREAMER-data``.
    on_error : {"raise", "warn"}
        Whether a broken trial or recording raises an error, or is left out with a
        `CorpusFormatWarning`.
    return_all_modalities : bool or dict
        ``False`` keeps the 14 EEG channels; ``True`` adds two ECG channels.
    mark_bads : bool
        Whether channels without contact, whose signal is flat, are listed in
        ``raw.info["bads"]``. A warning names them in either case.

    Raises
    ------
    CorpusNotFoundError
        If data are requested and the file is missing.
    CorpusFormatError
        If the file is not in the published layout.

    Notes
    -----
    Verified on byte-format replicas, not on the real file. The layout is that of the
    makers' readme and of public loaders.

    The classes are the quadrants of the rating plane, low or high valence then low or
    high arousal; high is ``> 3``. The midpoint is common: ``Emotion(ties="drop")``
    leaves it out.

    EEG is in microvolts in the file (inferred from its size: an offset near 4200) and
    in volts here. The unit of the ECG is unknown; its numbers are taken as microvolts.
    The ECG is brought to 128 Hz by a polyphase filter. The makers did not filter the
    EEG. The neutral clip and the film are separate recordings: a filter of the whole
    run passes over the seam. The order in which a subject saw the films is not in
    the file; ``trial`` is the number of the film counted from 0.

    The file is one compressed variable of 2 GB. The first access reads all of it, in
    about ten seconds, and remembers where each subject begins.

    References
    ----------
    .. [1] Katsigiannis, S., & Ramzan, N. (2018). DREAMER: A database for emotion
       recognition through EEG and ECG signals from wireless low-cost off-the-shelf
       devices. IEEE Journal of Biomedical and Health Informatics, 22(1), 98-107.
       https://doi.org/10.1109/JBHI.2017.2688239
    """

    code_name = "DREAMER"
    path_key = "DREAMER"
    all_subject_numbers = tuple(range(1, 24))
    n_sessions_per_subject = 1
    n_trials_per_session = N_FILMS
    classes = {"LVLA": 1, "LVHA": 2, "HVLA": 3, "HVHA": 4}  # noqa: RUF012
    common_interval = (0, 65)
    doi_name = "10.1109/JBHI.2017.2688239"
    access_url = "https://doi.org/10.5281/zenodo.546113"
    access_terms = "access is granted on request"
    expected_files = ("DREAMER.mat", "DREAMER.mat")
    ratings = RATINGS
    rating_midpoint = THRESHOLD
    rating_cuts = (7 / 3, 11 / 3)
    class_source = "self-report"
    replica_variants = ("mat",)
    replica_effect = 0.05
    passband = (0.0, SFREQ / 2)  # not filtered
    details = ("film_emotion",)

    METADATA = DatasetMetadata(
        acquisition=AcquisitionMetadata(
            sampling_rate=SFREQ,
            channel_types={"eeg": N_EEG, "ecg": N_ECG},
            sensors=[*EEG_NAMES, *ECG_NAMES],
            hardware="Emotiv EPOC, Shimmer2",
        ),
        participants=ParticipantMetadata(
            n_subjects=23, gender={"male": 14, "female": 9}
        ),
        experiment=ExperimentMetadata(
            paradigm="emotion",
            events={"LVLA": 1, "LVHA": 2, "HVLA": 3, "HVHA": 4},
            n_classes=4,
            class_labels=["LVLA", "LVHA", "HVLA", "HVHA"],
            stimulus_type="film clips",
            stimulus_modalities=["visual", "auditory"],
            primary_modality="multisensory",
            synchronicity="asynchronous",
            mode="offline",
        ),
        documentation=DocumentationMetadata(
            doi="10.1109/JBHI.2017.2688239",
            description="EEG and ECG of wireless devices during self-assessed films.",
            investigators=["Stamos Katsigiannis", "Naeem Ramzan"],
            senior_author="Naeem Ramzan",
            institution="University of the West of Scotland",
            country="GB",
            data_url="https://doi.org/10.5281/zenodo.546113",
            license="On request",
            publication_year=2018,
        ),
        sessions_per_subject=1,
        runs_per_session=N_FILMS,
        data_processed=False,
        file_format="MAT",
    )
    summary_table = {  # noqa: RUF012
        "#Subj": 23,
        "#Chan": 14,
        "#Classes": 4,
        "#Trials / class": "varies",
        "Trials length (s)": "65-393",
        "Freq (Hz)": 128,
        "#Sessions": 1,
        "#Runs": 18,
        "Total_trials": 414,
    }

    def _find_recordings(self, root, subject):
        files = [file for file, _ in find_files(root, r"DREAMER\.mat")]
        if len(files) > 1:
            raise CorpusFormatError(
                f"DREAMER: {root} holds the corpus more than once "
                f"({', '.join(map(str, files))}). Let the path name one folder."
            )
        if not files:
            return {}
        index = self._read_index(files[0])
        if index is not None and subject not in index.people:
            return {}
        return {"0": SubjectPart(files[0], subject)}

    def _read_index(self, file: Path) -> Index | None:
        """Return the contents of the file, or None if it is broken."""
        try:
            index = read_index(file)
        except Exception as error:  # zlib and the file system raise their own
            self._broken(
                f"DREAMER: {file} is not the MATLAB 5 file of the makers ({error}).",
                error,
            )
            return None
        if index.electrodes != EEG_NAMES or max(index.people) > 23:
            raise CorpusFormatError(
                f"DREAMER: {file} must have the electrodes {', '.join(EEG_NAMES)} and "
                f"23 subjects, but has {', '.join(index.electrodes):.200} and "
                f"{max(index.people)}. It is not an original copy: fetch it again."
            )
        return index

    def _read_trials(self, file, session):
        index = self._read_index(file.file)
        if index is None:
            return {}
        return self._trials_of(index.people[file.subject], file)

    def _trials_of(self, person: Person, part: SubjectPart) -> dict[str, list[Trial]]:
        trials = {}
        for film in range(N_FILMS):
            if flaw := self._find_flaw(person, film):
                self._broken(
                    f"DREAMER: film {film + 1} of subject {part.subject} in "
                    f"{part.file} {flaw}."
                )
                continue
            ratings = dict(zip(RATINGS, person.ratings[film].tolist(), strict=True))
            trials[f"{film:02d}"] = [
                Trial(
                    trial=film,
                    stimulus=f"{film + 1:02d}",
                    emotion=_quadrant(ratings),
                    length=person.shapes["EEG", "stimuli"][film][0] / SFREQ,
                    onset=person.shapes["EEG", "baseline"][film][0] / SFREQ,
                    ratings=ratings,
                    details={"film_emotion": FILM_EMOTIONS[film]},
                )
            ]
        return trials

    def _find_flaw(self, person: Person, film: int) -> str | None:
        """Say why a film of a subject cannot be used."""
        low, high = SCALE
        ratings = person.ratings[film]
        if not ((ratings >= low) & (ratings <= high) & (ratings % 1 == 0)).all():
            return (
                f"must have whole ratings of {low} to {high}, but has "
                f"{ratings.tolist()}"
            )
        for (modality, part), shapes in person.shapes.items():
            n_chans, rate = {"EEG": (N_EEG, 1), "ECG": (N_ECG, 2)}[modality]
            shape, rate = shapes[film], rate * SFREQ
            if len(shape) != 2 or shape[1] != n_chans:
                return (
                    f"must have {part} {modality} (samples, {n_chans} channels), but "
                    f"has {shape}"
                )
            if not 1 <= shape[0] / rate <= _LONGEST:
                return (
                    f"must have {part} {modality} of 1 to {_LONGEST:g} s at {rate:g} "
                    f"Hz, but has {shape[0] / rate:g} s"
                )
        return None

    def _read_recording(self, file, session) -> Iterator:
        index = self._read_index(file.file)
        if index is None:
            return
        person = index.people[file.subject]
        trials = self._trials_of(person, file)
        quality = RecordingQuality(
            f"DREAMER: {file.file}, subject {file.subject}",
            EEG_NAMES,
            SFREQ,
            sensors=dict.fromkeys(ECG_NAMES, "ecg"),
        )
        try:
            films = list(read_signals(person))
        except Exception as error:  # zlib and the file system raise their own
            self._broken(f"DREAMER: {file.file} cannot be read ({error}).", error)
            return
        for run, (trial,) in trials.items():
            number = trial.trial + 1
            signals = _join(films[trial.trial])
            if flaw := quality.inspect(
                number, signals, volts=1e-6, n_before=round(trial.onset * SFREQ)
            ):
                self._broken(
                    f"DREAMER: film {number} of subject {file.subject} in {file.file} "
                    f"{flaw}."
                )
                continue
            raw = self._make_raw(
                signals * 1e-6,  # microvolts to volts
                [*EEG_NAMES, *ECG_NAMES],
                ["eeg"] * N_EEG + ["ecg"] * N_ECG,
                SFREQ,
                [trial],
                bads=quality.bads(number),
            )
            yield run, raw
        quality.warn(self.mark_bads)

    def _other_checks(self, root):
        for file, _ in find_files(root, r"DREAMER\.mat"):
            yield partial(self._read_index, file)


def _join(film) -> np.ndarray:
    """Return neutral clip and film (16 channels, n_times) at the rate of the EEG."""
    parts = []
    for part in ("baseline", "stimuli"):
        eeg = film["EEG", part].astype(float)
        # The two devices end at different times.
        ecg = resample_poly(film["ECG", part].astype(float), 1, 2, padtype="line")
        ecg = ecg[: len(eeg)]
        missing = len(eeg) - len(ecg)
        ecg = np.pad(ecg, ((0, missing), (0, 0)), mode="edge")
        parts.append(np.hstack([eeg, ecg]))
    return np.vstack(parts).T


def _quadrant(ratings) -> str:
    valence, arousal = (
        "H" if ratings[name] > THRESHOLD else "L" for name in ("valence", "arousal")
    )
    return f"{valence}V{arousal}A"
