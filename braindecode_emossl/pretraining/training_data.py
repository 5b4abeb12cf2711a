"""The sets of windows that a fit is given, checked and with codes for labels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils.validation import check_array, check_consistent_length

from braindecode_emossl.checks import is_number
from braindecode_emossl.storage import is_mapped, map_blocks

__all__ = [
    "LabeledSet",
    "WindowSet",
    "check_missing",
    "check_weights",
    "check_windows",
    "concatenate",
    "drop_unsampled",
    "encode_labels",
    "find_labeled",
    "find_order",
    "hold_out_subjects",
    "join_metadata",
    "list_subjects",
]


@dataclass
class WindowSet:
    """Windows with what is known of each of them.

    Attributes
    ----------
    name : str
        The argument of ``fit`` that they come from.
    windows : ndarray, shape (n_windows, n_chans, n_times)
        The windows.
    metadata : DataFrame or None
        One row per window.
    """

    name: str
    windows: np.ndarray
    metadata: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.windows)

    def take(self, rows: np.ndarray) -> Self:
        """Return a subset."""
        metadata = None if self.metadata is None else self.metadata.iloc[rows]
        return replace(self, windows=self.windows[rows], metadata=metadata)


@dataclass(kw_only=True)
class LabeledSet(WindowSet):
    """Windows with codes for their labels.

    Attributes
    ----------
    codes : ndarray of int, shape (n_windows,)
        Classes, from 0; -1 without a label.
    weights : ndarray, shape (n_windows,), or None
        Weights in the loss.
    """

    codes: np.ndarray
    weights: np.ndarray | None = None

    @property
    def labeled(self) -> LabeledSet:
        """The windows with a label."""
        if (self.codes >= 0).all():
            return self
        return self.take(np.flatnonzero(self.codes >= 0))

    def take(self, rows: np.ndarray) -> Self:
        """Return a subset."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(super().take(rows), codes=self.codes[rows], weights=weights)


def find_labeled(y: np.ndarray) -> np.ndarray:
    """Return which of the labels are not -1 (or "unlabeled", if they are strings)."""
    marker = -1 if y.dtype.kind in "iuf" else "unlabeled"
    return np.asarray(y != marker, bool)


def encode_labels(y, classes: np.ndarray, name: str) -> np.ndarray:
    """Return the index of each label among the classes; -1 without a label."""
    y = np.asarray(y)
    labeled = np.isin(y, classes)
    unknown = y[~labeled & find_labeled(y)]
    if len(unknown):
        raise ValueError(
            f"{name} must hold the labels of y, {classes.tolist()}, but contains "
            f"previously unseen labels: {np.unique(unknown).tolist()}."
        )
    codes = np.full(len(y), -1)
    codes[labeled] = np.searchsorted(classes, y[labeled])
    return codes


def join_metadata(sets: list[WindowSet]) -> pd.DataFrame | None:
    """Return the metadata of all sets; an unknown set counts as one subject."""
    if all(part.metadata is None for part in sets):
        return None
    known = [
        pd.DataFrame({"subject": [part.name] * len(part)})
        if part.metadata is None
        else part.metadata
        for part in sets
    ]
    return known[0] if len(known) == 1 else pd.concat(known, ignore_index=True)


def list_subjects(metadata: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the subjects in the metadata, by corpus if it is known."""
    if metadata is None or "subject" not in metadata:
        return None
    columns = [name for name in ("corpus", "subject") if name in metadata]
    return metadata[columns].drop_duplicates().reset_index(drop=True)


def hold_out_subjects(metadata: pd.DataFrame | None, share: float, seed: int):
    """Return the rows to train on, and those of a random share of the subjects."""
    subjects = list_subjects(metadata)
    n_subjects = 0 if subjects is None else len(subjects)
    n_held_out = int(np.ceil(share * n_subjects)) if is_number(share) else 0
    if metadata is None or subjects is None or not 0 < n_held_out < n_subjects:
        raise ValueError(
            "validation must be a share of the training subjects that leaves some to "
            "train on and some to hold out, so fit needs the subjects of the labelled "
            f"windows, at least two; but got {share!r} of {n_subjects or 'no'} "
            "subjects. Pass metadata with a column subject, or set validation=None if "
            "there is a single subject, as in calibration."
        )
    groups = metadata.groupby(list(subjects), observed=True, dropna=False).ngroup()
    splitter = GroupShuffleSplit(1, test_size=n_held_out, random_state=seed)
    return next(splitter.split(groups, groups=groups))


def find_order(sets: list[WindowSet]) -> np.ndarray | None:
    """Return the rows of the joined sets by recording, trial and window.

    The same windows are then in the same order whichever of them have labels. Sets
    whose metadata do not tell come last. None if the windows are in this order.
    """
    ends = np.cumsum([len(part) for part in sets])
    rows = [
        np.arange(end - len(part), end) for part, end in zip(sets, ends, strict=True)
    ]
    is_known = [
        part.metadata is not None
        and part.metadata.columns.is_unique
        and {*_PLACE} <= {*part.metadata}
        for part in sets
    ]
    if not any(is_known) or (metadata := join_metadata(sets)) is None:
        return None
    known = np.concatenate(
        [r for r, is_in in zip(rows, is_known, strict=True) if is_in]
    )
    others = [r for r, is_in in zip(rows, is_known, strict=True) if not is_in]
    joined = metadata.iloc[known]
    keys = [
        key for c in (*_RECORDING, *_PLACE) if c in joined for key in _rank(joined[c])
    ]
    # The last key of lexsort is the first to sort by.
    order = np.concatenate([known[np.lexsort(keys[::-1])], *others])
    return None if (order == np.arange(len(order))).all() else order


_RECORDING, _PLACE = ("corpus", "subject", "session", "run"), ("trial", "window")


def _rank(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranks of values as numbers, with run "10" after "2", and as text."""
    numbers = pd.to_numeric(column, errors="coerce")
    return tuple(
        pd.factorize(values, sort=True)[0] for values in (numbers, column.astype(str))
    )


def concatenate(sets: list[WindowSet], order: np.ndarray | None = None) -> np.ndarray:
    """Return the windows of all sets, without a copy if there is one set in order.

    Windows that are mapped from files are too large for memory: a file joins them.
    """
    arrays = [part.windows for part in sets]
    if len(arrays) == 1 and order is None:
        return arrays[0]
    is_in_file = any(is_mapped(array) for array in arrays)
    if order is None and not is_in_file:
        return np.concatenate(arrays)
    shape = sum(map(len, arrays)), *arrays[0].shape[1:]
    dtype = np.result_type(*arrays)
    if order is None:
        return map_blocks(arrays, dtype, shape)
    blocks = (_take(arrays, rows) for rows in _split(order))
    if is_in_file:
        return map_blocks(blocks, dtype, shape)
    joined = np.empty(shape, dtype)
    for part, block in zip(_split(joined), blocks, strict=True):
        part[:] = block
    return joined


_BLOCK = 1024  # windows that are copied at a time


def _split(array: np.ndarray) -> list[np.ndarray]:
    """Return views of parts of an array."""
    return np.array_split(array, max(1, len(array) // _BLOCK))


def _take(arrays: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Return rows of the joined arrays."""
    taken = np.empty((len(rows), *arrays[0].shape[1:]), np.result_type(*arrays))
    start = 0
    for array in arrays:
        here = (start <= rows) & (rows < start + len(array))
        taken[here] = array[rows[here] - start]
        start += len(array)
    return taken


def drop_unsampled(sets: list[WindowSet], pretrainer) -> list[WindowSet]:
    """Return the sets that the sampler of a pre-trainer can use."""
    sampler = pretrainer.sampler
    if sampler == "auto":
        sampler = getattr(pretrainer.objective, "default_sampler", None)
    if sampler is None or sets[0].metadata is None:
        return sets
    kept = sets[:1]
    for part in sets[1:]:
        missing = _find_missing_columns(sampler, part.metadata)
        if not missing:
            kept.append(part)
        elif part.name == "X_target_unlabeled":
            warnings.warn(
                f"X_target_unlabeled is not used: {sampler.__name__} groups windows by "
                f"{missing} of the metadata. Pass Epochs with such metadata.",
                stacklevel=4,
            )
        else:
            raise ValueError(
                f"{part.name} needs metadata, as {sampler.__name__} groups windows by "
                f"{missing}. Pass metadata_unlabeled, or Epochs with metadata."
            )
    return kept


def _find_missing_columns(sampler: type, metadata: pd.DataFrame | None):
    """Return the columns of the metadata that a sampler needs but does not find."""
    if hasattr(sampler, "find_missing_columns"):
        return sampler.find_missing_columns(metadata)
    return ["the columns"] if metadata is None else []


def check_windows(windows, name: str, shape=None) -> None:
    """Raise ValueError for windows that are not three-dimensional or of a shape."""
    if windows.ndim != 3 or not windows.size:
        raise ValueError(
            f"{name} must be windows of shape (n_windows, n_chans, n_times), but got "
            f"the shape {windows.shape}."
        )
    if shape is not None and windows.shape[1:] != tuple(shape):
        raise ValueError(
            f"{name} must be windows of {shape[0]} channels and {shape[1]} samples, as "
            f"in training, but got the shape {windows.shape}."
        )


def check_missing(windows: np.ndarray, name: str, model) -> None:
    """Raise ValueError for NaN in a channel where a model does not expect it."""
    allowed = getattr(model, "missing_chans", None)
    if allowed is None or not np.isnan(windows.sum(dtype=float)):
        return  # without the attribute scikit-learn has refused all of them
    for channel in range(windows.shape[1]):
        if channel not in allowed and np.isnan(windows[:, channel].sum(dtype=float)):
            accepted = f"only in the channels {allowed}" if allowed else "in no channel"
            raise ValueError(
                f"Input {name} contains NaN in channel {channel}. "
                f"{type(model).__name__} accepts missing values {accepted}: repair or "
                "drop these windows, or leave the channel out, for example by "
                "picks='eeg' of Emotion."
            )


def check_weights(sample_weight, windows) -> np.ndarray | None:
    """Return the weights of the windows as an array."""
    if sample_weight is None:
        return None
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=np.float32, input_name="sample_weight"
    )
    check_consistent_length(windows, weights)
    if weights.ndim != 1 or (weights < 0).any() or not weights.any():
        raise ValueError(
            "sample_weight must be a number of at least zero for each window, not all "
            f"zero, but got the shape {weights.shape} and values from {weights.min()} "
            f"to {weights.max()}."
        )
    return weights
