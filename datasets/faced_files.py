"""Reading FACED's BIDS release: events, channels and recordings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mne
import numpy as np
import pandas as pd

from braindecode_emossl.datasets.base import Trial
from braindecode_emossl.datasets.bdf_files import (
    MNE_UNITS,
    BdfHeader,
    read_bdf_header,
)
from braindecode_emossl.errors import warn_of_format

__all__ = ["EEG_NAMES", "RATINGS", "Film", "Recording", "read_films", "sidecar"]

# The electrodes that all subjects have, in the order of the recordings.
EEG_NAMES = (
    "Fp1 Fp2 Fz F3 F4 F7 F8 FC1 FC2 FC5 FC6 Cz C3 C4 T7 T8 CP1 CP2 CP5 CP6 Pz P3 P4 "
    "P7 P8 PO3 PO4 Oz O1 O2"
).split()
# The old names of four of them.
_OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
# Typed as EEG in channels.tsv.
_OTHER_TYPES = {"HEOR": "eog", "HEOL": "eog", "A1": "misc", "A2": "misc"}

# Names of the metadata; events.tsv has them with a capital.
RATINGS = (
    *("valence", "arousal", "liking", "familiarity"),
    *("anger", "disgust", "fear", "sadness"),
    *("amusement", "inspiration", "joy", "tenderness"),
)
_COLUMNS = ("onset", "duration", "sample", "video_index", "emotion_label")
_MISSING = "n/a"

# Volts per unit of channels.tsv or of a header.
_UNITS = {**MNE_UNITS, "V": 1.0}
# Standard deviation of the median channel, in volts, that EEG can have.
_PLAUSIBLE_DEVIATION = (2e-7, 5e-3)
# Samples per channel that are enough to estimate it.
_N_ESTIMATE = 20_000


@dataclass(frozen=True)
class Film:
    """A row of events.tsv with a film; onset and length in seconds."""

    number: int
    onset: float
    length: float
    emotion: str
    valence: str
    ratings: Mapping[str, float]


def sidecar(file: Path, kind: str) -> Path:
    """Return the table next to a recording, of "events" or "channels"."""
    return file.with_name(file.name.removesuffix("eeg.bdf") + f"{kind}.tsv")


def _read_table(file: Path, columns) -> pd.DataFrame:
    """Return a table of text; the release writes a byte order mark before it."""
    table = pd.read_csv(
        file, sep="\t", encoding="utf-8-sig", dtype=str, keep_default_na=False
    )
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"{file.name} has no columns {', '.join(missing)}")
    return table


def read_films(file: Path, sfreq: float) -> list[Film]:
    """Return the films in the order of presentation; other rows are triggers."""
    names = {name.capitalize(): name for name in RATINGS}
    table = _read_table(file, (*_COLUMNS, "binary_label", *names))
    rows = table[table["video_index"] != _MISSING].to_dict("records")
    films = sorted((_read_film(row, names, file) for row in rows), key=_by_onset)
    numbers = [film.number for film in films]
    if len(set(numbers)) < len(numbers) or not set(numbers) <= {*range(1, 29)}:
        raise ValueError(
            f"the video_index of {file.name} must be 1 to 28, once each, but is "
            f"{numbers}"
        )
    for row in rows:
        if abs(float(row["onset"]) * sfreq - float(row["sample"])) > 1:
            raise ValueError(
                f"the events of {file.name} are not at the {sfreq:g} Hz of the "
                f"recording: sample {row['sample']} is at {row['onset']} s"
            )
    unrated = [f.number for f in films if len(f.ratings) < len(RATINGS)]
    if unrated:
        warn_of_format(f"{file} lacks ratings of the films {unrated}.")
    return films


def _by_onset(film: Film) -> float:
    return film.onset


def _read_film(row: Mapping[str, str], names: Mapping[str, str], file: Path) -> Film:
    ratings = {name: float(row[k]) for k, name in names.items() if row[k] != _MISSING}
    film = Film(
        number=int(row["video_index"]),
        onset=float(row["onset"]),
        length=float(row["duration"]),
        emotion=row["emotion_label"].strip(),
        valence=row["binary_label"].strip(),
        ratings=ratings,
    )
    numbers = (film.onset, film.length, *ratings.values())
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"film {film.number} of {file.name} has infinite numbers")
    return film


class Recording:
    """A BDF file with its channels.tsv, whose signals are read trial by trial.

    Raises ValueError where the file is damaged or is not as the table says.
    """

    def __init__(self, file: Path):
        self.file = file
        header = read_bdf_header(file)
        header.check_length()
        table = _read_table(sidecar(file, "channels"), ("name", "units"))
        self._picks = self._find_picks(header, table)
        self._check_header(header, table)
        self._unit = self._find_unit(header, table)
        self._mne_unit = MNE_UNITS.get(header.dimensions[self._picks[0]], 1.0)
        self._raw = mne.io.read_raw_bdf(file, stim_channel=None, verbose="error")
        self.sfreq = float(self._raw.info["sfreq"])
        self.n_times = self._raw.n_times

    def _find_picks(self, header: BdfHeader, table: pd.DataFrame) -> list[int]:
        """Return the place of the EEG, then of the other channels, in the file."""
        names = [_OLD_NAMES.get(name, name) for name in table["name"].str.strip()]
        others = [name for name in names if name in _OTHER_TYPES]
        self.other_types = {name: _OTHER_TYPES[name] for name in others}
        if sorted(names) != sorted([*EEG_NAMES, *self.other_types]):
            raise ValueError(
                "channels.tsv must have the 30 electrodes, HEOR, HEOL, A1 and A2 at "
                f"most, each once, but has {', '.join(names):.300}"
            )
        labels = [_OLD_NAMES.get(label, label) for label in header.labels]
        # Channels of annotations are in no table.
        labels = [label for label in labels if "annotations" not in label.lower()]
        places = {label.lower(): k for k, label in enumerate(labels)}
        if {name.lower() for name in names} - places.keys():
            if len(labels) != len(names):
                raise ValueError(
                    f"it has the channels {', '.join(labels):.300}, but channels.tsv "
                    f"{', '.join(names):.300}"
                )
            warn_of_format(
                f"{self.file}: the channels have other names than in channels.tsv, "
                "whose order is used."
            )
            places = {name.lower(): k for k, name in enumerate(names)}
        elif [label.lower() for label in labels] != [name.lower() for name in names]:
            warn_of_format(
                f"{self.file}: the channels are in another order than in channels.tsv. "
                "The names in the file are used."
            )
        return [places[name.lower()] for name in (*EEG_NAMES, *self.other_types)]

    def _check_header(self, header: BdfHeader, table: pd.DataFrame) -> None:
        for pick in self._picks:
            ranges = header.physical[pick], header.digital[pick]
            for kind, (low, high) in zip(("physical", "digital"), ranges, strict=True):
                if not -math.inf < low < high < math.inf:
                    raise ValueError(
                        f"the {kind} minimum of {header.labels[pick]} must be below "
                        f"its maximum, but they are {low:g} and {high:g}"
                    )
        for name in ("n_samples", "dimensions"):
            found = {getattr(header, name)[pick] for pick in self._picks}
            if len(found) > 1:
                raise ValueError(f"its channels differ in {name}: {sorted(found)}")
        for name in ("physical", "digital"):
            found = {getattr(header, name)[pick] for pick in self._picks}
            if len(found) > 1:
                warn_of_format(
                    f"{self.file}: the channels of one amplifier differ in their "
                    f"{name} range, {sorted(found)}, so that their signals may differ "
                    "in scale."
                )
        rate = header.n_samples[self._picks[0]] / header.duration
        listed = set(table.get("sampling_frequency", pd.Series(dtype=str)))
        if any(abs(float(k) - rate) > 0.01 for k in listed - {_MISSING}):
            raise ValueError(
                f"it is at {rate:g} Hz, but by channels.tsv at {', '.join(listed)} Hz"
            )

    def _find_unit(self, header: BdfHeader, table: pd.DataFrame) -> float | None:
        """Return the volts per unit of the file, None if it is stated nowhere."""
        listed = set(table["units"].str.strip())
        stated = header.dimensions[self._picks[0]]
        if len(listed) > 1 or not listed <= {*_UNITS, _MISSING}:
            raise ValueError(f"channels.tsv has the units {sorted(listed)}")
        if listed == {_MISSING}:
            return None
        # The header states what its own numbers mean.
        return _UNITS.get(stated, _UNITS[listed.pop()])

    @cached_property
    def _volts(self) -> float:
        """Return the volts per unit, by the size of the signals if it is not stated."""
        if self._unit is not None:
            return self._unit
        middle = self.n_times // 2
        signals = self._read_numbers(
            max(0, middle - _N_ESTIMATE // 2),
            min(self.n_times, middle + _N_ESTIMATE // 2),
        )[: len(EEG_NAMES)]
        deviation = float(np.median(signals.std(axis=1)))
        low, high = _PLAUSIBLE_DEVIATION
        for name, unit in (("microvolts", 1e-6), ("volts", 1.0)):
            if low <= deviation * unit <= high:
                warn_of_format(
                    f"{self.file}: channels.tsv states no unit. The signals are taken "
                    f"as {name}, as their standard deviation (of the median channel) "
                    f"is {deviation:.3g}."
                )
                return unit
        raise ValueError(
            "channels.tsv states no unit, and the standard deviation of the signals, "
            f"{deviation:.3g}, is neither that of EEG in volts nor in microvolts"
        )

    def _read_numbers(self, start: int, stop: int) -> np.ndarray:
        """Return the numbers of the file (n_chans, n_times), in its own unit."""
        return self._raw.get_data(self._picks, start, stop) / self._mne_unit

    def read(self, trial: Trial, margin: float) -> tuple[np.ndarray, int]:
        """Return the signals (n_chans, n_times) in volts, and the samples before it.

        ``margin`` seconds before and after the trial are included as far as recorded.
        """
        first = round(trial.onset * self.sfreq)
        last = first + round(trial.length * self.sfreq)
        start = max(0, first - round(margin * self.sfreq))
        stop = min(self.n_times, last + round(margin * self.sfreq))
        return self._read_numbers(start, stop) * self._volts, first - start
