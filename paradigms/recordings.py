"""Windows as they are loaded, and their standardisation within each recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mne
import numpy as np
import pandas as pd

__all__ = ["VOLTAGE_TYPES", "Part", "standardize_recordings"]

# Channel types that are voltages; MOABB returns voltages in microvolts.
VOLTAGE_TYPES = ("eeg", "eog", "emg", "ecg")

# A smaller standard deviation is the rounding error of a constant: relative to the
# mean, in steps of the floating-point format, and absolute, for signals. A filter
# leaves about 1e-13 of a constant; a skin conductance in siemens varies by 1e-8.
_ROUNDING_STEPS = 100
_LEAST_DEVIATION = 1e-10


@dataclass
class Part:
    """Windows of a run or of a subject, or one raw per trial, with a row for each."""

    X: np.ndarray | mne.BaseEpochs | list[mne.io.BaseRaw]
    labels: np.ndarray  # structured: label, trial, window
    metadata: pd.DataFrame

    def __len__(self):
        return len(self.labels)

    def keep(self, rows: np.ndarray) -> Part:
        """Return the rows of a boolean mask."""
        if rows.all():
            return self
        if isinstance(self.X, list):
            X = [x for x, kept in zip(self.X, rows, strict=True) if kept]
        else:
            X = self.X[rows]
        metadata = self.metadata[rows].reset_index(drop=True)
        return Part(X, self.labels[rows], metadata)


def standardize_recordings(parts: Sequence[Part], *, are_features: bool) -> None:
    """Give each channel or feature mean 0 and variance 1 within each recording."""
    # A recording is a subject's session. Voltages of epochs and raws, which are in
    # volts, get the standard deviation of those of arrays: 1 microvolt.
    recordings: dict[tuple, list[np.ndarray]] = {}
    arrays = [_to_arrays(part.X) for part in parts]
    for part, of_part in zip(parts, arrays, strict=True):
        by_recording = part.metadata.groupby(["subject", "session"], sort=False)
        for key, rows in by_recording.indices.items():
            # Rows of a recording follow one another: these are views.
            span = slice(rows[0], rows[-1] + 1)
            blocks = of_part[span] if isinstance(part.X, list) else [of_part[0][span]]
            recordings.setdefault(key, []).extend(blocks)
    for blocks in recordings.values():
        _standardize(blocks, are_features)
    for part, of_part in zip(parts, arrays, strict=True):
        part.X = _from_arrays(of_part, part.X)


def _standardize(blocks: list[np.ndarray], are_features: bool) -> None:
    """Standardise arrays (n_windows, ...) together and in place; skip non-finite."""
    axes: tuple[int, ...] = (0,) if are_features else (0, -1)
    finite = [np.isfinite(block) for block in blocks]
    n_values = np.maximum(_add_up(finite, axes), 1)
    values = (np.where(k, b, 0.0) for b, k in zip(blocks, finite, strict=True))
    mean = _add_up(values, axes) / n_values
    squares = (
        np.where(known, block - mean, 0.0) ** 2
        for block, known in zip(blocks, finite, strict=True)
    )
    deviation = np.sqrt(_add_up(squares, axes) / n_values)
    step = _ROUNDING_STEPS * np.finfo(blocks[0].dtype).eps
    least = np.maximum(step * np.abs(mean), 0.0 if are_features else _LEAST_DEVIATION)
    deviation = np.where(deviation > least, deviation, np.inf)  # a constant becomes 0
    with np.errstate(invalid="ignore"):  # of values that are not finite
        for block in blocks:
            block -= mean
            block /= deviation


def _add_up(arrays, axes) -> np.ndarray:
    """Return the sum of all arrays along some axes, which keep their place."""
    return sum(array.sum(axis=axes, keepdims=True, dtype=float) for array in arrays)


def _to_arrays(X) -> list[np.ndarray]:
    """Return writable arrays (n_windows, ...): one, or one per raw."""
    if isinstance(X, list):
        return [(raw.get_data() * _factors(raw))[np.newaxis] for raw in X]
    if isinstance(X, mne.BaseEpochs):
        return [X.get_data(copy=True) * _factors(X)]
    floats = X if X.dtype.kind == "f" else X.astype(float)
    return [floats if floats.flags.writeable else floats.copy()]


def _from_arrays(arrays, X):
    """Return new values in the form and the units of the old ones."""
    if isinstance(X, list):
        return [
            mne.io.RawArray(
                array[0] / _factors(raw), raw.info, verbose=False
            ).set_annotations(raw.annotations)
            for array, raw in zip(arrays, X, strict=True)
        ]
    if isinstance(X, mne.BaseEpochs):
        return mne.EpochsArray(
            arrays[0] / _factors(X),
            X.info,
            X.events,
            tmin=X.tmin,
            event_id=X.event_id,
            proj=False,
            verbose=False,
        )
    return arrays[0]


def _factors(inst) -> np.ndarray:
    """Return the factors (n_chans, 1) from volts to microvolts, 1 for other units."""
    types = inst.get_channel_types()
    return np.array([1e6 if kind in VOLTAGE_TYPES else 1.0 for kind in types])[:, None]
