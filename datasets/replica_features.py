"""Features that the makers of the SEED corpora release, computed from a replica."""

from __future__ import annotations

import numpy as np

from braindecode_emossl.features import BANDS, lds_smooth, moving_average

__all__ = ["make_band_powers", "make_smoothed", "smooth_as_makers", "to_entropy"]

# The variance of a step over that of the noise in the makers' code for SEED-VII.
_LDS_RATIO = 1e-3


def make_band_powers(eeg: np.ndarray, sfreq: float, window: float) -> np.ndarray:
    """Return mean powers (n_chans, n_windows, n_bands) of windows with a Hann taper.

    As in the makers' code for SEED-VII, but with all samples of a window, of which
    that code transforms the first 256. A shorter signal has one window.
    """
    n_window = min(round(window * sfreq), eeg.shape[1])
    n_windows = max(1, eeg.shape[1] // n_window)
    windows = eeg[:, : n_windows * n_window].reshape(len(eeg), n_windows, n_window)
    spectra = np.abs(np.fft.rfft(windows * np.hanning(n_window))) ** 2
    frequencies = np.fft.rfftfreq(n_window, 1 / sfreq)
    masks = [
        (frequencies >= low) & (frequencies < high) for low, high in BANDS.values()
    ]
    return np.stack([spectra[..., mask].mean(axis=-1) for mask in masks], axis=-1)


def to_entropy(powers: np.ndarray) -> np.ndarray:
    """Return the differential entropy as the makers' code for SEED-VII has it."""
    return np.log2(100 * powers)


def make_smoothed(eeg: np.ndarray, sfreq: float, window: float) -> dict:
    """Return the features (n_chans, n_windows, n_bands) of SEED and SEED-IV by name."""
    powers = make_band_powers(eeg, sfreq, window)
    found = {}
    for kind, values in {"de": to_entropy(powers), "psd": powers}.items():
        averages = moving_average(values.transpose(1, 0, 2))
        found[f"{kind}_movingAve"] = averages.transpose(1, 0, 2)
        found[f"{kind}_LDS"] = smooth_as_makers(values)
    return found


def smooth_as_makers(features: np.ndarray) -> np.ndarray:
    """Smooth features (n_chans, n_windows, n_bands) of a trial by the makers' LDS."""
    by_window = features.transpose(1, 0, 2)
    return lds_smooth(by_window, variance_ratio=_LDS_RATIO).transpose(1, 0, 2)
