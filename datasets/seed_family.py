"""What the SEED corpora share: a cap of 62 electrodes, MATLAB files at 200 Hz."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from braindecode_emossl.datasets.base import EmotionDataset, Trial, find_files
from braindecode_emossl.datasets.mat_files import list_variables, read_variables
from braindecode_emossl.datasets.quality import RecordingQuality
from braindecode_emossl.datasets.signals import scale
from braindecode_emossl.errors import CorpusFormatError, warn_of_format

__all__ = ["CH_NAMES", "POSITIONS", "SFREQ", "SEEDFamilyDataset"]

SFREQ = 200.0

# Electrodes in the makers' order, in MNE's case.
CH_NAMES = (
    "Fp1 Fpz Fp2 AF3 AF4 F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 "
    "FT8 T7 C5 C3 C1 Cz C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 P7 P5 P3 P1 "
    "Pz P2 P4 P6 P8 PO7 PO5 PO3 POz PO4 PO6 PO8 CB1 O1 Oz O2 CB2"
).split()

# No template knows CB1 and CB2; the makers' own position file has them on the ring
# half-way between PO7 and O1, which is the 10-05 site POO7.
POSITIONS = {"CB1": "POO7", "CB2": "POO8"}

# No amplifier of the makers exceeds a volt. A channel of a real recording comes near
# the 0.3 V that are impossible elsewhere.
_IMPOSSIBLE_VOLTS = 1.0

_RECORDING_NAME = r"(?i)(?P<subject>\d{1,2})_(?P<date>\d{8})\.mat"

# Folders whose files bear the names of EEG files; the corpus's own is none of them.
_OTHER_FOLDERS = re.compile(
    "extracted_?features|preprocessed_eeg|eeg_raw_data|eye_raw_data|feature_smooth"
)


class SEEDFamilyDataset(EmotionDataset):
    """Base class of the SEED corpora with MATLAB files, one a recording.

    A subclass says in which folder they lie, what trial ``n`` shows, and with what
    its labels are to be compared. Parameters are those of `EmotionDataset`.
    """

    # No film is longer than this many seconds.
    longest: ClassVar[float]
    # Seconds by which a trial may differ from the length that is known of its film.
    length_tolerance: ClassVar[float] = 1.0
    # Folder of the EEG, in small letters, and whether it has a folder a session.
    eeg_folder: ClassVar[str]
    session_folders: ClassVar[tuple[str, ...]] = ()
    # What precedes the number in the names of the variables, as a pattern, and how many
    # variables a file has if not one for each trial of a session.
    eeg_ending: ClassVar[str] = "_eeg"
    n_variables: ClassVar[int | None] = None

    @abstractmethod
    def _check_labels(self, file: Path) -> None:
        """Compare the labels that lie beside a recording with the published ones."""

    @abstractmethod
    def _describe(self, session: str, number: int) -> tuple[str, str]:
        """Return (stimulus, emotion) of a trial by its number, from 1."""

    @abstractmethod
    def _published_seconds(self, session: str) -> Sequence[tuple[float, float]]:
        """Return the shortest and longest length that each film of a session has."""

    def _find_trials(self, file: Path, session: str) -> dict[int, tuple[str, tuple]]:
        """Return (name, shape) of the variables of a session by trial number."""
        return self._find_variables(file)

    def _name_variable(self, session: str, number: int) -> str:
        """Return the name of a trial's variable for messages."""
        return f"that ends in {self.eeg_ending}{number}"

    def _details_of(self, file: Path, session: str) -> Mapping[int, Mapping]:
        """Return further columns of the trials by number."""
        return {}

    def _read_recording(self, file, session):
        names = self._find_trials(file, session)
        quality = RecordingQuality(
            f"{self.code}: {file}", CH_NAMES, SFREQ, impossible=_IMPOSSIBLE_VOLTS
        )
        for run, (trial,) in self._trials_of(names, file, session).items():
            name, _ = names[trial.trial + 1]
            data = self._read_variable(file, name)
            if data is None:
                continue
            number = trial.trial + 1
            if flaw := quality.inspect(number, data, volts=1e-6):
                self._broken(f"{self.code}: trial {number} of {file} {flaw}.")
                continue
            n_times = round(trial.length * SFREQ)
            raw = self._make_raw(
                scale(data[:, :n_times], 1e-6),  # microvolts to volts
                CH_NAMES,
                ["eeg"] * len(CH_NAMES),
                SFREQ,
                [trial],
                POSITIONS,
                quality.bads(number),
            )
            yield run, raw
        quality.warn(self.mark_bads)

    def _read_trials(self, file, session):
        return self._trials_of(self._find_trials(file, session), file, session)

    def _trials_of(
        self, variables: Mapping[int, tuple[str, tuple]], file: Path, session: str
    ) -> dict[str, list[Trial]]:
        """Return the trials by run key, from (name, shape) by trial number."""
        self._check_labels(file)
        trials = {}
        shapes = {number: shape for number, (_, shape) in variables.items()}
        self._check_session(shapes, file, session)
        wrong_lengths = self._find_wrong_lengths(shapes, session)
        details = self._details_of(file, session)
        for number in range(1, self.n_trials_per_session + 1) if variables else ():
            shape = shapes.get(number)
            if shape is None:
                self._broken(
                    f"{self.code}: {file} has no variable "
                    f"{self._name_variable(session, number)}; it may be cut short."
                )
                continue
            if len(shape) != 2 or shape[0] != len(CH_NAMES) or shape[1] < SFREQ:
                self._broken(
                    f"{self.code}: trial {number} of {file} must have the shape "
                    f"({len(CH_NAMES)} channels, samples at {SFREQ:g} Hz), but has "
                    f"{shape}."
                )
                continue
            if number in wrong_lengths:
                self._broken(
                    f"{self.code}: trial {number} of {file} must be the whole film at "
                    f"{SFREQ:g} Hz, but {wrong_lengths[number]}."
                )
                continue
            # The cut included its end: 200 n + 1 samples for n seconds.
            n_times = shape[1] - (shape[1] % SFREQ == 1)
            stimulus, emotion = self._describe(session, number)
            trials[f"{number - 1:02d}"] = [
                Trial(
                    number - 1,
                    stimulus,
                    emotion,
                    n_times / SFREQ,
                    details=details.get(number, {}),
                )
            ]
        return trials

    def _check_session(self, shapes: Mapping, file: Path, session: str) -> None:
        """Compare the lengths of all trials, by number, with those of a session."""

    def _find_wrong_lengths(self, shapes: Mapping, session: str) -> dict[int, str]:
        """Say of which trials the length cannot be; ``shapes`` by trial number.

        Miniature copies, all of whose trials are shorter than the films, are sound.
        """
        found = {k: shape[1] / SFREQ for k, shape in shapes.items() if len(shape) == 2}
        wrong = {
            k: f"has {seconds:g} s, more than the longest film ({self.longest} s)"
            for k, seconds in found.items()
            if seconds > self.longest + 1
        }
        published = dict(enumerate(self._published_seconds(session), start=1))
        known = [k for k in found if k in published]
        if len(known) < 2:
            return wrong
        ratio = np.median([found[k] / np.mean(published[k]) for k in known])
        if abs(ratio - 1) < 0.02:
            return wrong | {
                k: f"has {found[k]:g} s, the film {_join_range(*published[k])} s"
                for k in known
                if not _is_within(found[k], published[k], self.length_tolerance)
            }
        if all(_is_within(found[k] / ratio, published[k], 0.01) for k in known):
            rate = (
                f"has the length of {ratio * SFREQ:.0f} Hz, as all trials of the file"
            )
            return wrong | dict.fromkeys(known, rate)
        return wrong

    # -- MATLAB files ----------------------------------------------------------

    def _find_variables(
        self, file: Path, ending: str | None = None
    ) -> dict[int, tuple[str, tuple]]:
        """Return (name, shape) by trial number, whatever the names' prefix.

        Nothing where the file cannot be read and the user lets that pass.
        """
        ending = self.eeg_ending if ending is None else ending
        n_variables = self.n_variables or self.n_trials_per_session
        if _is_hdf5(file):
            self._broken(
                f"{self.code}: {file} is a MATLAB 7.3 file (HDF5), but the makers' "
                "files are of MATLAB 5.",
                remedy="Load it in MATLAB and save it with the option -v7",
            )
            return {}
        try:
            variables = [(found.name, found.shape) for found in list_variables(file)]
        except (OSError, ValueError) as error:
            self._broken(
                f"{self.code}: {file} is not a readable MATLAB 5 file ({error}).", error
            )
            return {}
        if not variables:
            self._broken(f"{self.code}: {file} has no variables; it may be cut short.")
            return {}
        matches = [re.search(rf"{ending}(\d+)$", name) for name, _ in variables]
        numbers = [int(match[1]) for match in matches if match]
        if (
            not numbers
            or len(set(numbers)) < len(numbers)
            or not set(numbers) <= set(range(1, n_variables + 1))
        ):
            shown = ending.removeprefix("^")
            raise CorpusFormatError(
                f"{self.code}: {file} must have one variable a trial, named ..."
                f"{shown}1 to ...{shown}{n_variables}, but has "
                f"{sorted(name for name, _ in variables)}. Let the path name a folder "
                f"with files such as {self.expected_files[0]}, or fetch the file again."
            )
        matched = zip(matches, variables, strict=True)
        return {int(match[1]): variable for match, variable in matched if match}

    def _read_variable(self, file: Path, name: str) -> np.ndarray | None:
        """Return one variable of a file, None if it is broken and that may pass."""
        try:
            return read_variables(file, [name])[name]
        except (OSError, ValueError, MemoryError) as error:
            self._broken(
                f"{self.code}: {name} of {file} cannot be read ({error}).", error
            )
            return None

    # -- files that are not read for the trials --------------------------------

    def _other_checks(self, root: Path) -> Iterator[Callable[[], object]]:
        for file, match in find_files(root, _RECORDING_NAME):
            folders = "/".join(file.parts[len(root.parts) : -1]).lower()
            if int(match["subject"]) not in self.all_subjects:
                yield partial(
                    warn_of_format,
                    f"{self.code}: there is no subject {match['subject']}, so {file} "
                    "is of another corpus.",
                )
            elif re.search("extracted_?features|eeg_feature", folders):
                yield partial(self._check_features, file)

    def _check_features(self, file: Path) -> None:
        """Check the differential entropy of a file of the makers' EEG features."""
        variables = self._find_variables(file, ending="de_LDS")
        for number in range(1, self.n_trials_per_session + 1) if variables else ():
            _, shape = variables.get(number, (None, ()))
            if len(shape) != 3 or (shape[0], shape[2]) != (len(CH_NAMES), 5):
                self._broken(
                    f"{self.code}: de_LDS{number} of {file} must have the shape "
                    f"({len(CH_NAMES)} channels, windows, 5 bands), but has {shape}."
                )

    # -- features of the makers ------------------------------------------------

    released_channels = CH_NAMES
    # Axes of the features in the files: those of windows, channels and bands.
    released_axes: ClassVar[tuple[int, int, int]] = (1, 0, 2)

    def _name_released(self, name: str, session: str, number: int) -> str:
        """Return the variable of released features of a trial, by number from 1."""
        return f"{name}{number}"

    def _open_released(self, source, name, session):
        try:
            variables = {found.name: found for found in list_variables(source)}
        except (OSError, ValueError) as error:
            self._broken(
                f"{self.code}: {source} is not a readable MATLAB 5 file ({error}).",
                error,
            )
            return None

        def read(trial: int) -> np.ndarray | None:
            key = self._name_released(name, session, trial + 1)
            values = self._read_variable(source, key) if key in variables else None
            if values is None or values.ndim != 3:
                return values
            return values.transpose(self.released_axes)

        return read

    def _find_beside(self, file: Path, folders: Sequence[str]) -> Path | None:
        """Return the file of a recording's name below one of these folders."""
        # The path may name the folder of the EEG, beside which the features lie.
        places = {self._folder_of(file).parent, self.find_root()}
        found = {
            other
            for place in places
            for other, _ in find_files(place, re.escape(file.name))
            if set(folders) & {k.lower() for k in other.parts[len(place.parts) : -1]}
            and (not self.session_folders or other.parent.name == file.parent.name)
        }
        if len(found) > 1:
            raise CorpusFormatError(
                f"{self.code}: the features of {file} are there more than once "
                f"({', '.join(map(str, sorted(found)))}). Remove all but one."
            )
        return next(iter(found), None)

    # -- where they lie --------------------------------------------------------

    def _find_eeg(self, root: Path, subject: int) -> list[tuple[Path, re.Match]]:
        """Return (file, match with the ``date``) of a subject's recordings.

        All recordings of the corpus must lie in one folder, or in one with a folder
        for each session.
        """
        found = [
            (file, match)
            for file, match in find_files(root, _RECORDING_NAME)
            if not any(map(self._is_other_folder, file.parts[len(root.parts) : -1]))
            and self._is_session_folder(file.parent)
        ]
        folders = sorted({self._folder_of(file) for file, _ in found})
        named = [folder for folder in folders if folder.name.lower() == self.eeg_folder]
        folders = named or folders
        if len(folders) > 1:
            raise CorpusFormatError(
                f"{self.code}: {root} holds the EEG in more than one folder "
                f"({', '.join(map(str, folders))}). Let the path name one of them."
            )
        return [
            (file, match)
            for file, match in found
            if self._folder_of(file) in folders and int(match["subject"]) == subject
        ]

    def _folder_of(self, file: Path) -> Path:
        return file.parent.parent if self.session_folders else file.parent

    def _is_session_folder(self, folder: Path) -> bool:
        return not self.session_folders or folder.name in self.session_folders

    def _is_other_folder(self, name: str) -> bool:
        name = name.lower()
        return bool(_OTHER_FOLDERS.search(name)) and self.eeg_folder not in name


def _is_hdf5(file: Path) -> bool:
    """Say whether a file is in MATLAB's format 7.3, which SciPy does not read."""
    try:
        with file.open("rb") as stream:
            start = stream.read(520)
    except OSError:  # which the reader reports
        return False
    return start.startswith(b"MATLAB 7.3") or b"\x89HDF\r\n" in (
        start[:6],
        start[512:518],
    )


def _is_within(value: float, limits: tuple[float, float], tolerance: float) -> bool:
    low, high = limits
    return low - tolerance <= value <= high + tolerance


def _join_range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
