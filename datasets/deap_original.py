"""Reading DEAP's original recordings, BioSemi files of two sites."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import mne
import numpy as np

__all__ = ["SFREQ", "OriginalRecording"]

log = logging.getLogger(__name__)

SFREQ = 512.0
VIDEO_SECONDS = 60.0

# An earlier code after the start of a video belongs to the start.
_SHORTEST_VIDEO = 1.0
_VIDEO_STARTS = 4

# Pairs of leads whose difference is one channel of the preprocessed files.
BIPOLAR = {
    "hEOG": ("EXG1", "EXG2"),
    "vEOG": ("EXG3", "EXG4"),
    "zEMG": ("EXG5", "EXG6"),
    "tEMG": ("EXG7", "EXG8"),
}
SINGLE = {"GSR": "GSR1", "Resp": "Resp", "Plet": "Plet", "Temp": "Temp"}
_VOLTAGES = ("Resp", "Plet", *(lead for pair in BIPOLAR.values() for lead in pair))

# Subjects recorded in Twente, where the GSR is conductance in nanosiemens.
_TWENTE = range(1, 23)

# The factor by which MNE converts a channel to volts, by the unit in the file; the
# micro sign and the Greek letter are both in use.
_MNE_FACTORS = {"\u00b5V": 1e-6, "\u03bcV": 1e-6, "uV": 1e-6, "mV": 1e-3}

_SECONDS_AT_ONCE = 60


class OriginalRecording:
    """One BDF file: the onsets of its videos, and its signals, read on request.

    Parameters
    ----------
    file : Path
        The file.
    eeg_names : sequence of str
        Electrodes by name, in the order of the signals to return.
    n_videos : int
        Number of videos that the file must have.

    Raises
    ------
    ValueError
        If it differs from the published files; MNE raises other errors if it is not
        a BDF file.
    """

    def __init__(self, file: Path, eeg_names, n_videos: int):
        self.file = file
        self.n_videos = n_videos
        _check_size(file)
        self._units = _read_units(file)
        with warnings.catch_warnings():
            # MNE infers the number of records if the header does not give it.
            warnings.filterwarnings("ignore", "Number of records from the header")
            # In s24 to s32 the last channel has no name.
            self._raw = mne.io.read_raw_bdf(
                file, stim_channel=[-1], preload=False, verbose="ERROR"
            )
        if self._raw.info["sfreq"] != SFREQ:
            raise ValueError(
                f"it must be sampled at {SFREQ:g} Hz, but is at "
                f"{self._raw.info['sfreq']:g} Hz"
            )
        leads = [lead for pair in BIPOLAR.values() for lead in pair]
        self._sources = [*eeg_names, *leads, *SINGLE.values()]
        self._voltages = {*eeg_names, *_VOLTAGES}
        # The last channel holds the codes, whatever it is called. The two sites have
        # the electrodes in different orders.
        found = [name.strip().lower() for name in self._raw.ch_names[:-1]]
        wanted = [name.lower() for name in self._sources]
        if missing := sorted(set(wanted) - set(found)):
            raise ValueError(f"it has no channels {missing}, but {found}")
        self._picks = [found.index(name) for name in wanted]
        self.videos = self._find_videos()

    def _find_videos(self) -> list[tuple[float, float]]:
        """Return (onset, length) of the videos, in seconds."""
        status = self._raw.get_data(picks=[len(self._raw.ch_names) - 1])[0]
        # Above the codes lie the amplifier's own bits: an offset from s24 on, the
        # warning of a low battery in s28.
        codes = status.astype(np.int64) & 0xFF
        changes = np.flatnonzero(np.diff(codes)) + 1
        changes = changes[codes[changes] != 0]
        starts = changes[codes[changes] == _VIDEO_STARTS]
        if len(starts) != self.n_videos:
            raise ValueError(
                f"it must have {self.n_videos} starts of a video (code "
                f"{_VIDEO_STARTS} of the status channel), but has {len(starts)}"
            )
        return [(start / SFREQ, self._length(start, changes)) for start in starts]

    def _length(self, start: int, changes: np.ndarray) -> float:
        later = changes[changes >= start + round(_SHORTEST_VIDEO * SFREQ)]
        stop = later[0] if len(later) else self._raw.n_times
        return min(VIDEO_SECONDS, (int(stop) - int(start)) / SFREQ)

    def read_signals(self, subject: int) -> np.ndarray:
        """Return EEG and peripheral channels (40, n_times) in the units of the class.

        In the order of the preprocessed files.
        """
        factors = np.array([self._factor(pick) for pick in self._picks])[:, None]
        n_eeg = len(self._picks) - 2 * len(BIPOLAR) - len(SINGLE)
        n_leads = n_eeg + 2 * len(BIPOLAR)
        n_times = self._raw.n_times
        data = np.empty((n_eeg + len(BIPOLAR) + len(SINGLE), n_times))
        step = round(_SECONDS_AT_ONCE * SFREQ)
        for start in range(0, n_times, step):
            part = slice(start, min(start + step, n_times))
            block = factors * self._raw.get_data(self._picks, part.start, part.stop)
            data[:n_eeg, part] = block[:n_eeg]
            data[n_eeg : n_eeg + len(BIPOLAR), part] = (
                block[n_eeg:n_leads:2] - block[n_eeg + 1 : n_leads : 2]
            )
            data[n_eeg + len(BIPOLAR) :, part] = block[n_leads:]
        if subject in _TWENTE:
            gsr = data[n_eeg + len(BIPOLAR) + list(SINGLE).index("GSR")]
            gsr[:] = self._to_ohm(gsr)
        return data

    def _factor(self, pick: int) -> float:
        """Return the factor from MNE's values to volts, or to the file's values."""
        done = _MNE_FACTORS.get(self._units[pick], 1.0)
        if self._sources[self._picks.index(pick)] in self._voltages:
            return 1.0 if done != 1.0 else 1e-6
        return 1 / done

    def _to_ohm(self, nanosiemens: np.ndarray) -> np.ndarray:
        if n_open := int((nanosiemens < 1).sum()):
            log.warning(
                "DEAP: %s samples of the skin conductance of %s are below 1 nS (no "
                "contact) and are given as 1e9 ohm.",
                n_open,
                self.file,
            )
        return 1e9 / np.maximum(nanosiemens, 1.0)


def _read_units(file: Path) -> list[str]:
    """Return the unit of each channel as the header gives it."""
    with file.open("rb") as stream:
        stream.seek(252)
        n_chans = int(stream.read(4))
        stream.seek(256 + n_chans * 96)
        return [stream.read(8).decode("latin-1").strip() for _ in range(n_chans)]


def _check_size(file: Path) -> None:
    """Raise if a file is shorter than its header states, or has several rates."""
    with file.open("rb") as stream:
        if stream.read(8) != b"\xffBIOSEMI":
            raise ValueError("it does not start as one")
        stream.seek(184)
        n_header = int(stream.read(8))
        stream.seek(236)
        n_records, _, n_chans = (int(float(stream.read(n))) for n in (8, 8, 4))
        stream.seek(256 + n_chans * 216)
        n_samples = [int(stream.read(8)) for _ in range(n_chans)]
    if len(set(n_samples)) > 1:  # MNE would bring them to the highest rate
        raise ValueError(
            f"all its channels must be sampled at one rate, but have {set(n_samples)} "
            "samples a record"
        )
    expected = n_header + 3 * sum(n_samples) * n_records
    if file.stat().st_size < expected:
        raise ValueError(
            f"it is cut short: {expected} bytes by its header, but it has "
            f"{file.stat().st_size}"
        )
