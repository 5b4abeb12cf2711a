"""Signals of the replicas: EEG and peripherals that know of an emotion."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from braindecode_emossl.datasets.base import template_positions

__all__ = [
    "Head",
    "LazyArrays",
    "make_eeg",
    "make_generator",
    "make_subject_gain",
    "slow_drift",
]

# Bands whose power the replicas modulate, in Hz, and the amplitude of each in
# microvolts (root mean square) before any effect.
_BANDS = {
    "delta": (1.0, 4.0, 14.0),
    "theta": (4.0, 8.0, 8.0),
    "alpha": (8.0, 14.0, 10.0),
    "beta": (14.0, 31.0, 5.0),
    "gamma": (31.0, 75.0, 3.0),
}

# Change of log amplitude (0.1 is about 1 dB) at the end of a scale, where the pattern
# over the scalp is strongest: at effect_size=1 linear classifiers of band power are
# clearly over chance on unseen subjects, and not perfect.
_EFFECT = 0.1


@dataclass(frozen=True)
class Head:
    """Scalp of a corpus: where its electrodes lie and what an emotion changes there.

    ``valence`` and ``arousal`` are the log-amplitude changes (n_chans, n_bands) at the
    ends of the two scales; ``mixing`` (n_chans, n_chans) makes neighbours alike.
    """

    valence: np.ndarray
    arousal: np.ndarray
    mixing: np.ndarray

    @classmethod
    def of(cls, ch_names: Sequence[str], positions: Mapping[str, str]) -> Head:
        """Return the scalp of these channels; see `template_positions`."""
        places = template_positions(ch_names, positions)
        xyz = np.array([places[name] for name in ch_names])
        xyz = (xyz - xyz.mean(0)) / np.abs(xyz - xyz.mean(0)).max(0)
        right, front = xyz[:, 0], xyz[:, 1]
        frontal, posterior = np.clip(front, 0, 1), np.clip(-front, 0, 1)
        temporal = np.abs(right) * (np.abs(front) < 0.6)
        midline = frontal * (1 - np.abs(right))
        zero = np.zeros(len(ch_names))
        #             delta, theta, alpha, beta, gamma
        valence = [zero, zero, frontal * right, temporal, 1.5 * temporal]
        arousal = [zero, midline, -1.2 * posterior, frontal, zero]
        distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=-1)
        mixing = np.exp(-3 * distance)
        mixing /= np.linalg.norm(mixing, axis=1, keepdims=True)
        return cls(
            _EFFECT * np.stack(valence, 1), _EFFECT * np.stack(arousal, 1), mixing
        )


def make_eeg(head, subject_gain, state, sfreq, n_times, passband, rng):
    """Return the EEG of one trial (n_chans, n_times) in microvolts.

    ``subject_gain`` (n_chans, n_bands) is the subject's own log amplitude, ``state``
    the pair of valence and arousal, each from -1 to 1, already scaled by the effect.
    """
    valence, arousal = state
    log_gain = subject_gain + valence * head.valence + arousal * head.arousal
    # What changes from trial to trial for no reason of interest.
    log_gain = log_gain + rng.normal(0, 0.08, (1, len(_BANDS)))
    frequencies = np.fft.rfftfreq(n_times, 1 / sfreq)
    eeg = np.zeros((len(log_gain), n_times))
    for index, (low, high, microvolts) in enumerate(_BANDS.values()):
        low, high = max(low, passband[0]), min(high, passband[1])
        inside = (frequencies >= low) & (frequencies < high)
        if not inside.any():
            continue
        spectrum = np.zeros((len(eeg), len(frequencies)), complex)
        shape = (len(eeg), inside.sum())
        noise = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        spectrum[:, inside] = head.mixing @ noise / np.sqrt(frequencies[inside])
        band = np.fft.irfft(spectrum, n_times)
        band *= microvolts / band.std(axis=1, keepdims=True).mean()
        eeg += np.exp(log_gain[:, [index]]) * slow_drift(n_times, sfreq, rng) * band
    return eeg + rng.normal(0, 1.0, eeg.shape)


def slow_drift(n_times, sfreq, rng):
    """Return a gain (n_times) that wanders over tens of seconds, around 1."""
    n_knots = max(2, round(n_times / sfreq / 8) + 1)
    knots = np.cumsum(rng.normal(0, 0.08, n_knots))
    grid = np.linspace(0, n_knots - 1, n_times)
    return np.exp(np.interp(grid, np.arange(n_knots), knots - knots.mean()))


def make_subject_gain(head, rng):
    """Return how one subject's head differs (n_chans, n_bands), as log amplitude."""
    n_chans, n_bands = head.valence.shape
    whole_head = rng.normal(0, 0.2)
    by_band = rng.normal(0, 0.1, (1, n_bands))
    return whole_head + by_band + rng.normal(0, 0.08, (n_chans, n_bands))


class LazyArrays(Mapping):
    """Arrays by name, each made when it is asked for, so that one is in memory."""

    def __init__(self, makers: Mapping[str, Callable[[], np.ndarray]]):
        self._makers = makers

    def __getitem__(self, name):
        return self._makers[name]()

    def __iter__(self):
        return iter(self._makers)

    def __len__(self):
        return len(self._makers)


def make_generator(settings, *numbers):
    """Return a generator of its own for each corpus, subject, session and trial."""
    corpus = zlib.crc32(settings["corpus"].encode())
    return np.random.default_rng([settings["seed"], corpus, *numbers])
