"""Eye features with one value for each window of a trial, as channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import mne
import numpy as np

__all__ = ["add_eye_features", "are_requested", "fill_missing"]


def add_eye_features(
    raw: mne.io.BaseRaw, values: np.ndarray, names: Iterable[str], window: float
) -> mne.io.BaseRaw:
    """Add features (n_features, n_windows) to a trial, held for ``window`` seconds.

    The last value lasts to the end of the trial.
    """
    sfreq = raw.info["sfreq"]
    places = np.arange(raw.n_times) // round(window * sfreq)
    held = values[:, np.minimum(places, values.shape[1] - 1)]
    info = mne.create_info(list(names), sfreq, "misc")
    bads = raw.info["bads"]
    eye = mne.io.RawArray(held, info, verbose=False)
    raw = raw.add_channels([eye], force_update_info=True)
    raw.info["bads"] = bads
    return raw


def fill_missing(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Fill NaN in features (n_features, n_windows) with medians; return their number.

    The median is that of the feature over the trial, or 0 where it has no value.
    """
    values, missing = values.copy(), np.isnan(values)
    for row in np.flatnonzero(missing.any(axis=1)):
        known = values[row, ~missing[row]]
        values[row, missing[row]] = np.median(known) if len(known) else 0.0
    return values, int(missing.sum())


def are_requested(names: Iterable[str], modalities: bool | Mapping) -> bool:
    """Return whether ``return_all_modalities`` requests any of the eye features."""
    if not isinstance(modalities, Mapping):
        return bool(modalities)
    included = set(modalities.get("include", ()))
    return bool(modalities.get("misc")) or bool(included & set(names))
