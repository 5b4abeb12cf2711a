"""The signals of a run as an array, and as a raw of MNE where one is requested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import mne
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import sosfiltfilt

if TYPE_CHECKING:
    from braindecode_emossl.datasets.base import Trial

__all__ = [
    "Channels",
    "Signals",
    "Windows",
    "find_missing",
    "hold",
    "scale",
    "template_positions",
]

# MNE 1.14 drops the old name of its 10-05 template; both carry the same positions.
_MONTAGE_NAMES = ("colin27_1005", "standard_1005")
# Samples, and channels, of a recording at a time, so that they stay in the cache.
_BLOCK = 2048
_CHANNELS = 8


@dataclass(frozen=True)
class Channels:
    """The channels of a recording: names, MNE's types, and the sampling rate in Hz.

    ``sites`` gives the 10-05 sites of electrodes that the template does not know by
    name.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    sfreq: float
    sites: tuple[tuple[str, str], ...] = ()

    @property
    def info(self) -> mne.Info:
        """The description by MNE, one object for all uses; do not change it."""
        return _make_info(self)

    def find(self, kind: str) -> list[int]:
        """Return the places of the channels of a type."""
        return [k for k, other in enumerate(self.types) if other == kind]

    def select(self, names: Iterable[str]) -> Channels:
        """Return some of the channels, in the order of the names."""
        names = tuple(names)
        types = dict(zip(self.names, self.types, strict=True))
        return replace(self, names=names, types=tuple(types[n] for n in names))


@dataclass(frozen=True)
class Signals:
    """The signals of one run (n_chans, n_times), in volts where they are voltages.

    Corpora are loaded as arrays with these, without an object of MNE for each run.
    """

    data: np.ndarray
    channels: Channels
    trials: Sequence[Trial]
    bads: Sequence[str] = ()
    subject: int | None = None

    @property
    def n_times(self) -> int:
        """Number of samples."""
        return self.data.shape[1]

    @property
    def info(self) -> mne.Info:
        """The description of the channels by MNE, which must not be changed."""
        return self.channels.info

    def get_channel_types(self) -> list[str]:
        """Return the type of each channel."""
        return list(self.channels.types)

    def get_data(self, picks: str | None = None) -> np.ndarray:
        """Return the signals of all channels, or a copy of those of one type."""
        return self.data if picks is None else self.data[self.channels.find(picks)]

    def pick(self, names: Sequence[str]) -> Signals:
        """Return some of the channels, in the order of the names."""
        if tuple(names) == self.channels.names:
            return self
        rows = [self.channels.names.index(name) for name in names]
        bads = [name for name in self.bads if name in names]
        first, last = rows[0], rows[-1] + 1
        in_order = rows == list(range(first, last))
        data = self.data[first:last] if in_order else self.data[rows]
        return replace(self, data=data, channels=self.channels.select(names), bads=bads)

    def add(self, values: np.ndarray, names: Sequence[str], kind: str) -> Signals:
        """Return the signals with further channels (n_others, n_times) of one type."""
        channels = replace(
            self.channels,
            names=(*self.channels.names, *names),
            types=(*self.channels.types, *[kind] * len(names)),
        )
        return replace(
            self, data=np.concatenate([self.data, values]), channels=channels
        )

    def replace_eeg(self, eeg: np.ndarray) -> Signals:
        """Return the signals with another EEG (n_eeg, n_times)."""
        rows = self.channels.find("eeg")
        if len(rows) == len(self.data):
            return replace(self, data=eeg)
        data = self.data.copy()
        data[rows] = eeg
        return replace(self, data=data)

    def filter(self, fmin: float | None, fmax: float | None) -> Signals:
        """Return the signals with the EEG filtered as by MOABB, on a raw of MNE."""
        design = _design_filter(self.channels.sfreq, fmin, fmax)
        n_pad = min(design["padlen"], self.n_times - 1)
        eeg = self.get_data("eeg")
        for start in range(0, len(eeg), _CHANNELS):
            x = eeg[start : start + _CHANNELS]
            before = 2 * x[:, :1] - x[:, n_pad:0:-1]
            after = 2 * x[:, -1:] - x[:, -2 : -n_pad - 2 : -1]
            padded = np.concatenate([before, x, after], axis=1)
            filtered = sosfiltfilt(design["sos"], padded, padlen=0)
            x[:] = filtered[:, n_pad : n_pad + self.n_times]
        return self.replace_eeg(eeg)

    def resample(self, sfreq: float) -> Signals:
        """Return the signals at another rate, resampled as a raw of MNE is."""
        data = mne.filter.resample(
            self.data, sfreq, self.channels.sfreq, npad="auto", verbose=False
        )
        rows = find_missing(self.data, self.channels.types)
        data[rows] = hold(self.data[rows], data.shape[1])
        return replace(self, data=data, channels=replace(self.channels, sfreq=sfreq))

    def to_raw(self) -> mne.io.RawArray:
        """Return a raw with the trials as annotations."""
        raw = mne.io.RawArray(self.data, self.channels.info, verbose=False)
        raw.info["bads"] = list(self.bads)
        if self.subject is not None:  # by which a paradigm recognises the subject
            raw.info["subject_info"] = {"his_id": str(self.subject)}
        return raw.set_annotations(
            mne.Annotations(
                onset=[trial.onset for trial in self.trials],
                duration=[trial.length for trial in self.trials],
                description=[trial.emotion for trial in self.trials],
                extras=[trial.to_extras() for trial in self.trials],
            )
        )


def find_missing(data: np.ndarray, types: Sequence[str]) -> np.ndarray:
    """Return the rows of signals (n_chans, n_times) with missing features, as NaN."""
    rows = [k for k, kind in enumerate(types) if kind == "misc"]
    return np.array([k for k in rows if np.isnan(data[k]).any()], dtype=int)


def hold(values: np.ndarray, n_times: int) -> np.ndarray:
    """Return rows at another rate, each value that of the nearest sample before.

    A Fourier transform would turn a row with one NaN into NaN throughout.
    """
    return values[:, np.arange(n_times) * values.shape[1] // n_times]


def scale(data: np.ndarray, factor: float) -> np.ndarray:
    """Return ``factor`` times an array (n_chans, n_times), channel by channel."""
    # MATLAB's arrays are in the other order.
    scaled = np.empty(data.shape)
    for start in range(0, data.shape[1], _BLOCK):
        part = np.s_[:, start : start + _BLOCK]
        np.multiply(data[part], factor, out=scaled[part])
    return scaled


@dataclass(frozen=True)
class Windows:
    """Windows of ``length`` samples of signals, with events as those of epochs."""

    signals: Signals
    events: np.ndarray  # (n_windows, 3): first sample, free column, code
    length: int

    @property
    def info(self) -> mne.Info:
        """The description of the channels by MNE, which must not be changed."""
        return self.signals.info

    @property
    def ch_names(self) -> list[str]:
        """The names of the channels."""
        return list(self.signals.channels.names)

    def get_channel_types(self) -> list[str]:
        """Return the type of each channel."""
        return self.signals.get_channel_types()

    def get_data(self, copy: bool = True) -> np.ndarray:
        """Return a new array (n_windows, n_chans, length)."""
        views = sliding_window_view(self.signals.data, self.length, axis=1)
        X = np.empty((len(self.events), len(self.signals.data), self.length))
        for x, start in zip(X, self.events[:, 0], strict=True):
            x[:] = views[:, start]
        return X


@lru_cache(maxsize=64)
def _design_filter(sfreq: float, fmin: float | None, fmax: float | None) -> dict:
    """Return the coefficients and the padding of MNE's default IIR filter."""
    return mne.filter.create_filter(
        None, sfreq, fmin, fmax, method="iir", verbose=False
    )


@lru_cache(maxsize=64)
def _make_info(channels: Channels) -> mne.Info:
    info = mne.create_info(list(channels.names), channels.sfreq, list(channels.types))
    electrodes = [channels.names[k] for k in channels.find("eeg")]
    template = _template().get_positions()
    template["ch_pos"] = template_positions(electrodes, dict(channels.sites))
    montage = mne.channels.make_dig_montage(**template)
    return info.set_montage(montage, on_missing="ignore")


def template_positions(
    ch_names: Sequence[str], sites: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Return the positions of the channels that MNE's 10-05 template knows."""
    # `sites` gives the 10-05 site of a channel whose own name is unknown there.
    known = _template().get_positions()["ch_pos"]
    by_channel = {name: sites.get(name, name) for name in ch_names}
    return {name: known[site] for name, site in by_channel.items() if site in known}


@cache
def _template() -> mne.channels.DigMontage:
    known = mne.channels.get_builtin_montages()
    name = next(name for name in _MONTAGE_NAMES if name in known)
    return mne.channels.make_standard_montage(name)
