"""SEED: 15 subjects, three sessions, the same 15 Chinese film clips in each."""

from __future__ import annotations

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

from braindecode_emossl.datasets.base import find_files
from braindecode_emossl.datasets.mat_files import read_variables
from braindecode_emossl.datasets.seed_family import (
    CH_NAMES,
    POSITIONS,
    SFREQ,
    SEEDFamilyDataset,
)
from braindecode_emossl.errors import CorpusFormatError, warn_of_format

__all__ = ["CH_NAMES", "POSITIONS", "SEED", "SFREQ"]

# Emotion of films 1 to 15: 1 positive, 0 neutral, -1 negative.
LABELS = (1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1)
EMOTIONS = {-1: "negative", 0: "neutral", 1: "positive"}

# Length of films 1 to 15 in seconds.
FILM_SECONDS = tuple(
    map(int, "235 233 206 238 185 195 237 216 265 237 235 233 235 238 206".split())
)

# Days of the recordings by subject; the rank of the day is the session.
DATES = {
    1: ("20131027", "20131030", "20131107"),
    2: ("20140404", "20140413", "20140419"),
    3: ("20140603", "20140611", "20140629"),
    4: ("20140621", "20140702", "20140705"),
    5: ("20140411", "20140418", "20140506"),
    6: ("20130712", "20131016", "20131113"),
    7: ("20131027", "20131030", "20131106"),
    8: ("20140511", "20140514", "20140521"),
    9: ("20140620", "20140627", "20140704"),
    10: ("20131130", "20131204", "20131211"),
    11: ("20140618", "20140625", "20140630"),
    12: ("20131127", "20131201", "20131207"),
    13: ("20140527", "20140603", "20140610"),
    14: ("20140601", "20140615", "20140627"),
    15: ("20130709", "20131016", "20131105"),
}


# The makers' features of 62 channels; the asymmetries are not offered.
RELEASED = ("de_LDS", "de_movingAve", "psd_LDS", "psd_movingAve")
_RELEASED_FOLDERS = {
    1.0: ("extractedfeatures_1s", "extractedfeatures", "extracted_features"),
    4.0: ("extractedfeatures_4s",),
}


class SEED(SEEDFamilyDataset):
    """SEED, the emotion corpus of Shanghai Jiao Tong University.

    Fifteen subjects watched the same 15 film clips (about four minutes each, five per
    class) in three sessions about a week apart, with 62 EEG channels. The loader
    reads the folder ``Preprocessed_EEG`` of either release tree, at any depth below
    the corpus folder: 200 Hz, 0 to 75 Hz, one MATLAB file per recording. The files
    may be sorted into folders ``1`` to ``3`` there.

    A session is the rank of the recording day (``"0"``, ``"1"``, ``"2"``), a run is
    one film (``"00"`` to ``"14"``). As every session shows the same films in the same
    order, the training and the test set of a session that is left out share all
    stimuli. ``Emotion(features="released:de_LDS", window=1.0)`` reads the makers'
    features of the folders ``ExtractedFeatures_1s`` (``ExtractedFeatures`` in the old
    release) and, with ``window=4.0``, ``ExtractedFeatures_4s``; so do ``de_movingAve``,
    ``psd_LDS`` and ``psd_movingAve``.

    Parameters
    ----------
    subjects : list of int or None
        Subjects to use, 1 to 15; all by default.
    sessions : list of int or None
        Sessions to use, 0 to 2; all by default.
    path : str, Path or None
        Folder of the corpus. By default the MNE setting ``MNE_DATASETS_SEED_PATH``
        (configuration or environment), else ``<MNE_DATA>/MNE-SEED-data``.
    on_error : {"raise", "warn"}
        Whether a broken trial or recording raises an error, or is left out with a
        `CorpusFormatWarning`.
    return_all_modalities : bool or dict
        As in MOABB. This release has only EEG.
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
    Verified on byte-format replicas, not on the licensed files. Of the real files, the
    45 names and the shape of the labels were compared.

    Voltages are in microvolts in the files (inferred: the makers name no unit, and the
    range of the values admits no other) and in volts here. The makers' cut included
    its end, so a trial has one sample more than a whole number of seconds; the last one
    is dropped. The electrodes CB1 and CB2 are placed at POO7 and POO8, as in the
    makers' own position file.

    References
    ----------
    .. [1] Zheng, W.-L., & Lu, B.-L. (2015). Investigating critical frequency bands
       and channels for EEG-based emotion recognition with deep neural networks. IEEE
       Transactions on Autonomous Mental Development, 7(3), 162-175.
       https://doi.org/10.1109/TAMD.2015.2431497
    .. [2] Duan, R.-N., Zhu, J.-Y., & Lu, B.-L. (2013). Differential entropy feature
       for EEG-based emotion classification. 6th International IEEE/EMBS Conference
       on Neural Engineering, 81-84. https://doi.org/10.1109/NER.2013.6695876
    """

    code_name = "SEED"
    path_key = "SEED"
    eeg_folder = "preprocessed_eeg"
    all_subject_numbers = tuple(range(1, 16))
    n_sessions_per_subject = 3
    n_trials_per_session = len(LABELS)
    longest = max(FILM_SECONDS)
    classes = {"negative": 1, "neutral": 2, "positive": 3}  # noqa: RUF012
    common_interval = (0, min(FILM_SECONDS))
    doi_name = "10.1109/TAMD.2015.2431497"
    access_url = "https://bcmi.sjtu.edu.cn/home/seed/"
    expected_files = (
        "Preprocessed_EEG/1_20131027.mat",
        "Preprocessed_EEG/15_20131105.mat",
    )
    class_source = "stimulus"
    replica_variants = ("new", "old", "features")
    replica_effect = 0.15
    passband = (0.0, 75.0)
    released_features = dict.fromkeys(RELEASED, (1.0, 4.0))
    valence_of_class = {name: name for name in EMOTIONS.values()}  # noqa: RUF012

    METADATA = DatasetMetadata(
        acquisition=AcquisitionMetadata(
            sampling_rate=SFREQ,
            channel_types={"eeg": 62},
            sensors=list(CH_NAMES),
            hardware="ESI NeuroScan",
            filters="0-75 Hz band-pass after downsampling from 1000 Hz",
        ),
        participants=ParticipantMetadata(
            n_subjects=15, gender={"male": 7, "female": 8}, age_mean=23.27, age_std=2.37
        ),
        experiment=ExperimentMetadata(
            paradigm="emotion",
            events={"negative": 1, "neutral": 2, "positive": 3},
            n_classes=3,
            class_labels=["negative", "neutral", "positive"],
            trials_per_class={"negative": 5, "neutral": 5, "positive": 5},
            stimulus_type="film clips",
            stimulus_modalities=["visual", "auditory"],
            primary_modality="multisensory",
            synchronicity="asynchronous",
            mode="offline",
        ),
        documentation=DocumentationMetadata(
            doi="10.1109/TAMD.2015.2431497",
            related_paper_dois=["10.1109/NER.2013.6695876"],
            description="EEG of film-induced negative, neutral and positive emotion.",
            investigators=["Wei-Long Zheng", "Bao-Liang Lu"],
            senior_author="Bao-Liang Lu",
            institution="Shanghai Jiao Tong University",
            country="CN",
            data_url="https://bcmi.sjtu.edu.cn/home/seed/",
            license="On request, academic use only, signed agreement",
            publication_year=2015,
        ),
        sessions_per_subject=3,
        runs_per_session=15,
        data_processed=True,
        file_format="MAT",
    )
    summary_table = {  # noqa: RUF012
        "#Subj": 15,
        "#Chan": 62,
        "#Classes": 3,
        "#Trials / class": 5,
        "Trials length (s)": "185-265",
        "Freq (Hz)": 200,
        "#Sessions": 3,
        "#Runs": 15,
        "Total_trials": 675,
    }

    def _find_recordings(self, root, subject):
        files: dict[str, Path] = {}
        for file, match in self._find_eeg(root, subject):
            if (other := files.setdefault(match["date"], file)) != file:
                raise CorpusFormatError(
                    f"SEED: {other} and {file} are of the same subject and day. Remove "
                    "one of them."
                )
        published = set(files) & set(DATES[subject])
        # If all days are unknown they are ranked; if only some are, one is wrong.
        if len(files) > self.n_sessions or 0 < len(published) < len(files):
            raise CorpusFormatError(
                f"SEED: subject {subject} must have one file for each of the days "
                f"{DATES[subject]}, but has {', '.join(map(str, files.values()))}. "
                "Remove the files that are not part of the release."
            )
        days = DATES[subject] if published else sorted(files)
        found = {str(days.index(day)): files[day] for day in sorted(files)}
        for session, file in found.items():
            number = str(int(session) + 1)
            if published and self._is_sorted(file) and file.parent.name != number:
                warn_of_format(
                    f"SEED: {file} lies in the folder of session {file.parent.name}, "
                    f"but by its day it is of session {number}, which counts."
                )
        return found

    def _is_sorted(self, file: Path) -> bool:
        # Holders are told to sort the recordings into a folder per session.
        return file.parent.name in map(str, range(1, self.n_sessions + 1))

    def _folder_of(self, file):
        return file.parent.parent if self._is_sorted(file) else file.parent

    def _find_released(self, name, window, file, session):
        return self._find_beside(file, _RELEASED_FOLDERS[window])

    def _describe(self, session, number):
        return f"{number:02d}", EMOTIONS[LABELS[number - 1]]

    def _published_seconds(self, session):
        return [(seconds, seconds) for seconds in FILM_SECONDS]

    def _other_checks(self, root):
        yield from super()._other_checks(root)
        for file, _ in find_files(root, r"label\.mat"):
            yield partial(self._check_label_file, file)

    def _check_labels(self, file):
        for folder in {file.parent, self._folder_of(file)}:
            if (labels := folder / "label.mat").is_file():
                self._check_label_file(labels)

    def _check_label_file(self, file: Path) -> None:
        try:
            labels = np.ravel(read_variables(file, ["label"])["label"])
        except (OSError, ValueError, MemoryError) as error:
            raise CorpusFormatError(
                f"SEED: {file} must hold the variable 'label', but cannot be read "
                f"({error}). Fetch the file again, or remove it: the labels are known "
                "without it."
            ) from error
        labels = labels.astype(float).tolist()
        if tuple(labels) != LABELS:
            raise CorpusFormatError(
                f"SEED: {file} must hold the published labels {LABELS}, but holds "
                f"{labels}. The folder is not an original copy: fetch it again."
            )
