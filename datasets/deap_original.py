"""Reading DEAP's original recordings, BioSemi files of two sites."""

from __future__ import annotations

import warnings
from pathlib import Path

import mne
import numpy as np

from braindecode_emossl.datasets.bdf_files import (
    MNE_UNITS,
    BdfHeader,
    read_bdf_header,
)
from braindecode_emossl.errors import warn_of_format

__all__ = ["SFREQ", "OriginalRecording"]

SFREQ = 512.0
VIDEO_SECONDS = 60.0

# Codes of the status channel. A video ends with the fixation cross after it; if that
# is missing, before the next cross, the next video or the end of the experiment. Real
# recordings have others in between (s26, a code 1 in the 24th video).
_VIDEO_STARTS = 4
_VIDEO_ENDS = 5
_NEXT_BEGINS = (3, 4, 7)
# An earlier code after the start of a video belongs to the start.
_SHORTEST_VIDEO = 1.0

# A video that is shorter than the others by more than this ended early.
_EARLY_SECONDS = 0.04

# Start_time of the table is in units of 0.1 ms; it deviates by up to 63 ms from the
# recordings. In two of them the recording was interrupted between two videos.
_START_UNIT = 1e-4
_START_TOLERANCE = 0.1
_MOST_INTERRUPTIONS = 3

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

# Electrodes in the order of Twente, and the channels after them at either site.
_TWENTE_NAMES = (
    "Fp1 AF3 F7 F3 FC1 FC5 T7 C3 CP1 CP5 P7 P3 Pz PO3 O1 Oz O2 PO4 P4 P8 CP6 CP2 C4 "
    "T8 FC6 FC2 F4 F8 AF4 Fp2 Fz Cz"
).split()
_OTHER_NAMES = (
    *(f"EXG{number}" for number in range(1, 9)),
    *("GSR1", "GSR2", "Erg1", "Erg2", "Resp", "Plet", "Temp"),
)

_SECONDS_AT_ONCE = 60


class OriginalRecording:
    """One BDF file: the onsets of its videos, and its signals, read on request.

    Electrodes that the file lacks are in ``absent``.

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
        header = _read_header(file)
        self._units = header.dimensions
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
        self.absent = self._check_site(header, eeg_names)
        present = [name for name in eeg_names if name not in self.absent]
        self._n_eeg = len(eeg_names)
        self._rows = [eeg_names.index(name) for name in present]
        self._sources = [*present, *leads, *SINGLE.values()]
        self._voltages = {*present, *_VOLTAGES}
        # The last channel holds the codes, whatever it is called. The two sites have
        # the electrodes in different orders.
        found = [name.strip().lower() for name in self._raw.ch_names[:-1]]
        self._picks = [found.index(name.lower()) for name in self._sources]
        header.check_ranges((*present, *leads))
        self.videos = self._find_videos()

    def _check_site(self, header: BdfHeader, eeg_names) -> list[str]:
        """Return absent electrodes; raise ValueError if it is of the other site."""
        in_twente = int(self.file.stem[1:]) in _TWENTE
        site, other = ("Twente", "ohm") if in_twente else ("Geneva", "ns")
        order = (*(_TWENTE_NAMES if in_twente else eeg_names), *_OTHER_NAMES)
        try:
            absent = header.find_absent(order, eeg_names)
        except ValueError as error:
            raise ValueError(f"{error} ({site}, where the subject was)") from error
        labels = [label.lower() for label in header.labels]
        if (unit := header.dimensions[labels.index("gsr1")]).lower() == other:
            raise ValueError(
                f"the unit of GSR1 is {unit}, which {site} did not use: the file is of "
                "another subject"
            )
        return absent

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
        ends = changes[codes[changes] == _VIDEO_ENDS]
        others = changes[np.isin(codes[changes], _NEXT_BEGINS)]
        stops = [self._find_stop(start, ends, others) for start in starts]
        lengths = np.minimum(VIDEO_SECONDS, (np.array(stops) - starts) / SFREQ)
        self._warn_of_early_ends(lengths)
        return list(zip((starts / SFREQ).tolist(), lengths.tolist(), strict=True))

    def _find_stop(self, start: int, ends: np.ndarray, others: np.ndarray) -> int:
        """Return the sample at which a video ends."""
        earliest = start + round(_SHORTEST_VIDEO * SFREQ)
        after = others[others >= earliest]
        following = int(after[0]) if len(after) else self._raw.n_times
        inside = ends[(ends >= earliest) & (ends < following)]
        return int(inside[0]) if len(inside) else following

    def _warn_of_early_ends(self, lengths: np.ndarray) -> None:
        # Miniature copies are shorter as a whole.
        early = np.flatnonzero(lengths < np.median(lengths) - _EARLY_SECONDS)
        if len(early):
            ends = ", ".join(f"{k + 1} ({lengths[k]:.3f} s)" for k in early)
            warn_of_format(
                f"DEAP: videos of {self.file} end early, by the codes of its status "
                f"channel: trials {ends}. The preprocessed files have "
                f"{VIDEO_SECONDS:g} s of these too."
            )

    def check_starts(self, starts) -> None:
        """Compare the onsets with Start_time of the table, None where unknown.

        Raises ValueError if the table is of another recording.
        """
        known = [k for k, start in enumerate(starts) if start is not None]
        if len(known) < 2:
            return
        listed = np.diff([starts[k] * _START_UNIT for k in known])
        deviations = np.diff([self.videos[k][0] for k in known]) - listed
        wrong = np.flatnonzero(np.abs(deviations) > _START_TOLERANCE)
        if len(wrong) > _MOST_INTERRUPTIONS:
            raise ValueError(
                f"between {len(wrong)} of {len(deviations)} pairs of videos, more or "
                "less time passes than by the Start_time of participant_ratings (first "
                f"after trial {known[wrong[0]] + 1}, {deviations[wrong[0]]:+.2f} s): "
                "the recording or the table is of another subject, or altered"
            )
        if len(wrong):
            places = ", ".join(
                f"{known[k] + 1} and {known[k + 1] + 1} ({deviations[k]:+.2f} s)"
                for k in wrong
            )
            warn_of_format(
                f"DEAP: {self.file} and the Start_time of participant_ratings differ "
                f"between the trials {places}: the recording was interrupted there."
            )

    def read_signals(self, subject: int) -> np.ndarray:
        """Return EEG and peripheral channels (40, n_times) in the units of the class.

        In the order of the preprocessed files. Absent electrodes are zeros.
        """
        factors = np.array([self._factor(pick) for pick in self._picks])[:, None]
        n_eeg, n_present = self._n_eeg, len(self._rows)
        n_leads = n_present + 2 * len(BIPOLAR)
        n_times = self._raw.n_times
        data = np.zeros((n_eeg + len(BIPOLAR) + len(SINGLE), n_times))
        step = round(_SECONDS_AT_ONCE * SFREQ)
        for start in range(0, n_times, step):
            part = slice(start, min(start + step, n_times))
            block = factors * self._raw.get_data(self._picks, part.start, part.stop)
            data[self._rows, part] = block[:n_present]
            data[n_eeg : n_eeg + len(BIPOLAR), part] = (
                block[n_present:n_leads:2] - block[n_present + 1 : n_leads : 2]
            )
            data[n_eeg + len(BIPOLAR) :, part] = block[n_leads:]
        if subject in _TWENTE:
            gsr = data[n_eeg + len(BIPOLAR) + list(SINGLE).index("GSR")]
            gsr[:] = self._to_ohm(gsr)
        return data

    def _factor(self, pick: int) -> float:
        """Return the factor from MNE's values to volts, or to the file's values."""
        done = MNE_UNITS.get(self._units[pick], 1.0)
        if self._sources[self._picks.index(pick)] in self._voltages:
            return 1.0 if done != 1.0 else 1e-6
        return 1 / done

    def _to_ohm(self, nanosiemens: np.ndarray) -> np.ndarray:
        if n_open := int((nanosiemens < 1).sum()):
            warn_of_format(
                f"DEAP: {n_open} samples of the skin conductance of {self.file} are "
                "below 1 nS (no contact) and are given as 1e9 ohm."
            )
        return 1e9 / np.maximum(nanosiemens, 1.0)


def _read_header(file: Path) -> BdfHeader:
    """Return the header of a file that is whole, with one rate and one range."""
    header = read_bdf_header(file)
    if len(set(header.n_samples)) > 1:  # MNE would bring them to the highest rate
        raise ValueError(
            "all its channels must be sampled at one rate, but have "
            f"{set(header.n_samples)} samples a record"
        )
    header.check_length()
    return header
