"""Eye features with one value for each window of a trial, as channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from braindecode_emossl.datasets.signals import Signals

__all__ = ["add_eye_features", "are_requested"]


def add_eye_features(
    signals: Signals, values: np.ndarray, names: Sequence[str], window: float
) -> Signals:
    """Add features (n_features, n_windows) to a trial, held for ``window`` seconds.

    The last value lasts to the end of the trial.
    """
    n_held = round(window * signals.channels.sfreq)
    places = np.arange(signals.n_times) // n_held
    held = values[:, np.minimum(places, values.shape[1] - 1)]
    return signals.add(held, names, "misc")


def are_requested(names: Iterable[str], modalities: bool | Mapping) -> bool:
    """Return whether ``return_all_modalities`` requests any of the eye features."""
    if not isinstance(modalities, Mapping):
        return bool(modalities)
    included = set(modalities.get("include", ()))
    return bool(modalities.get("misc")) or bool(included & set(names))
