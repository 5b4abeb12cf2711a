"""DEAP: 32 subjects, 40 one-minute music videos, self-assessed on four scales."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
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

from braindecode_emossl.datasets.base import EmotionDataset, Trial, find_files
from braindecode_emossl.errors import CorpusFormatError

__all__ = ["DEAP"]

SFREQ = 128.0
N_VIDEOS = 40
# The files keep three seconds before each video.
BASELINE_SECONDS = 3.0

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
# What the files give in microvolts, or in units of the amplifier that are its
# microvolts (resp, bio); the other signals keep the makers' units.
VOLTAGE_TYPES = ("eeg", "eog", "emg", "resp", "bio")

# Columns of the labels.
RATINGS = ("valence", "arousal", "dominance", "liking")
THRESHOLD = 5.0


class DEAP(EmotionDataset):
    """DEAP, the music-video corpus of Queen Mary University of London and partners.

    Thirty-two subjects watched 40 one-minute music videos and rated each for valence,
    arousal, dominance and liking (1 to 9, continuous). The loader takes the folder
    ``data_preprocessed_python`` (``s01.dat`` to ``s32.dat``), at any depth below the
    corpus folder: 128 Hz, EEG at 4 to 45 Hz with the common average as reference.

    There is one session, ``"0"``; a run is one video, ``"00"`` to ``"39"``. The rows
    of the files are in the order of the Experiment_id, so ``trial`` counts in that
    order and ``stimulus`` is the Experiment_id. The three seconds before the video are
    kept, so that ``Emotion(baseline=(-3, 0))`` can use them: a trial starts at 3 s.

    Parameters
    ----------
    subjects : list of int or None
        Subjects to use, 1 to 32; all by default.
    sessions : list of int or None
        Sessions to use; there is only 0.
    path : str, Path or None
        Folder of the corpus. By default the MNE setting ``MNE_DATASETS_DEAP_PATH``
        (configuration or environment), else ``<MNE_DATA>/MNE-DEAP-data``.
    on_error : {"raise", "warn"}
        What a broken trial or recording does: stop with an error, or be logged and
        left out.
    return_all_modalities : bool or dict
        ``False`` keeps the 32 EEG channels; ``True`` adds horizontal and vertical
        EOG, zygomaticus and trapezius EMG (V), skin resistance, respiration,
        plethysmograph and skin temperature.

    Raises
    ------
    CorpusNotFoundError
        When data are asked for and the files are not there.
    CorpusFormatError
        When a file is not in the published layout, or when a pickle asks for more
        than numpy arrays: nothing in it is run.

    Notes
    -----
    Verified on byte-format replicas, not on the licensed files.

    The classes are the quadrants of the rating plane, low or high valence then low or
    high arousal; high is ``> 5``. ``GSR`` is skin resistance in ohm (the makers'
    Geneva unit), although MNE's type ``gsr`` means siemens; ``Temp`` is in degrees
    Celsius, as in the files. ``Resp`` and ``Plet`` come in units of the amplifier,
    which are taken for its microvolts (inferred) and so given in volts.

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
    classes = {"LVLA": 1, "LVHA": 2, "HVLA": 3, "HVHA": 4}  # noqa: RUF012
    common_interval = (0, 60)
    doi_name = "10.1109/T-AFFC.2011.15"
    access_url = "https://www.eecs.qmul.ac.uk/mmv/datasets/deap/download.html"
    expected_files = (
        "data_preprocessed_python/s01.dat",
        "data_preprocessed_python/s32.dat",
    )
    ratings = RATINGS

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
    _summary_table = {  # noqa: RUF012
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

    def _find_recordings(self, root, subject):
        files = [file for file, _ in find_files(root, rf"s{subject:02d}\.dat")]
        if len(files) > 1:
            raise CorpusFormatError(
                f"DEAP: {root} holds subject {subject} more than once "
                f"({', '.join(map(str, files))}). Let the path name one folder."
            )
        return {"0": files[0]} if files else {}

    def _read_recording(self, file, session):
        content = self._read_dat(file)
        if content is None:
            return
        data, labels = content
        for run, (trial,) in self._trials_of(labels, data.shape[2], file).items():
            signals = data[trial.trial]  # (n_chans, n_times)
            if not np.isfinite(signals).all():
                self._broken(
                    f"DEAP: trial {trial.trial + 1} of {file} holds values that are no "
                    "finite numbers."
                )
                continue
            signals = signals * _to_volts(CH_TYPES)[:, None]
            yield run, self._make_raw(signals, CH_NAMES, CH_TYPES, SFREQ, [trial])

    def _read_trials(self, file, session):
        content = self._read_dat(file)
        if content is None:
            return {}
        data, labels = content
        return self._trials_of(labels, data.shape[2], file)

    def _trials_of(self, labels: np.ndarray, n_times: int, file: Path):
        """Return the trials by run key; ``labels`` (n_trials, 4)."""
        trials = {}
        for number, row in enumerate(labels):
            if not ((row >= 1) & (row <= 9)).all():
                self._broken(
                    f"DEAP: the ratings of trial {number + 1} of {file} must lie "
                    f"between 1 and 9, but are {row.tolist()}."
                )
                continue
            ratings = dict(zip(RATINGS, row.tolist(), strict=True))
            trials[f"{number:02d}"] = [
                Trial(
                    trial=number,
                    stimulus=f"{number + 1:02d}",
                    emotion=_quadrant(ratings),
                    length=n_times / SFREQ - BASELINE_SECONDS,
                    onset=BASELINE_SECONDS,
                    ratings=ratings,
                )
            ]
        return trials

    def _read_dat(self, file: Path) -> tuple[np.ndarray, np.ndarray] | None:
        """Return data (40, 40, n_times) and labels (40, 4) of a .dat file."""
        try:
            content = _read_pickle(file)
            data, labels = (np.asarray(content[key]) for key in ("data", "labels"))
        except _ForbiddenPickleError as error:
            # No broken copy but an attack, or no DEAP at all: never left out silently.
            raise CorpusFormatError(
                f"DEAP: {file} is no file of DEAP: {error} Nothing in it was run. "
                "Fetch the file again from the makers."
            ) from error
        except Exception as error:  # the unpickler raises whatever it stumbles over
            self._broken(
                f"DEAP: {file} is no pickled dictionary with the arrays 'data' and "
                f"'labels' ({type(error).__name__}: {error}).",
                error,
            )
            return None
        shortest = round((BASELINE_SECONDS + 1) * SFREQ)
        if (
            data.ndim != 3
            or data.shape[:2] != (N_VIDEOS, len(CH_NAMES))
            or data.shape[2] < shortest
            or labels.shape != (N_VIDEOS, len(RATINGS))
            or data.dtype.kind != "f"
            or labels.dtype.kind != "f"
        ):
            self._broken(
                f"DEAP: {file} must hold floating-point 'data' ({N_VIDEOS} videos, "
                f"{len(CH_NAMES)} channels, at least {shortest} samples) and 'labels' "
                f"({N_VIDEOS}, {len(RATINGS)}), but holds {data.dtype} {data.shape} "
                f"and {labels.dtype} {labels.shape}."
            )
            return None
        return data, labels


class _ForbiddenPickleError(pickle.UnpicklingError):
    """A pickle asks for something that no array needs."""


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickle numpy arrays and nothing else, so that a file can run no code."""

    allowed = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module, name):
        if (module, name) not in self.allowed:
            raise _ForbiddenPickleError(f"its pickle asks for {module}.{name}.")
        found = super().find_class(module.replace("numpy.core", "numpy._core"), name)
        # A pickle can set attributes of what it is given: of a function, hand out a
        # stand-in. Those of a built-in type cannot be set.
        return found if isinstance(found, type) else partial(found)


def _read_pickle(file: Path):
    with file.open("rb") as stream:
        # Python 2 wrote the files, so its byte strings hold the arrays.
        return _ArrayUnpickler(stream, encoding="latin1").load()


def _quadrant(ratings) -> str:
    valence, arousal = (
        "H" if ratings[name] > THRESHOLD else "L" for name in ("valence", "arousal")
    )
    return f"{valence}V{arousal}A"


def _to_volts(ch_types: Sequence[str]) -> np.ndarray:
    return np.array([1e-6 if kind in VOLTAGE_TYPES else 1.0 for kind in ch_types])
