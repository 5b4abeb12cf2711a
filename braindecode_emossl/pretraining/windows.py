"""Windows to pre-train on: from arrays, braindecode's data sets or corpora."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mne
import numpy as np
import pandas as pd
import torch
from braindecode.datasets import BaseConcatDataset
from braindecode.datasets.base import EEGWindowsDataset, WindowsDataset
from moabb.datasets.base import BaseDataset
from torch.utils.data import Dataset

from braindecode_emossl.pretraining.provenance import name_recording
from braindecode_emossl.pretraining.signal_identity import (
    Signal,
    align_windows,
    match_channels,
    read_signal,
)

__all__ = [
    "WindowArray",
    "WindowDataset",
    "find_metadata",
    "find_provenance",
    "gather_windows",
    "join_corpora",
    "join_epochs",
    "number_recordings",
    "read_epochs",
]


# Bytes that are copied to a device at a time.
_CHUNK = 2**28
_UNKNOWN = Signal()


class WindowArray:
    """Windows that are read lazily, as float32 tensors.

    Parameters
    ----------
    X : ndarray, Tensor or BaseConcatDataset, n_windows windows
        Source of the windows; an array may be mapped from a file.
    rows : ndarray of int, optional
        Indices of the windows to use, all by default.
    """

    def __init__(self, X, rows: np.ndarray | None = None):
        self.X = X
        self.rows = np.arange(len(X)) if rows is None else np.asarray(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all windows, (n_windows, ...)."""
        if isinstance(self.X, BaseConcatDataset):
            return len(self), *np.shape(self.X[0][0])
        return len(self), *self.X.shape[1:]

    def __getitem__(self, key) -> torch.Tensor:
        """Read windows.

        Parameters
        ----------
        key : int, slice or array of int of any shape
            Indices of the windows.

        Returns
        -------
        torch.Tensor of float32, shape (*rows of the key, ...)
            The windows.
        """
        rows = self.rows[key]
        if isinstance(self.X, BaseConcatDataset):
            windows = [self.X[int(row)][0] for row in rows.flat]
            windows = np.stack(windows).reshape(*rows.shape, *windows[0].shape)
        elif isinstance(self.X, torch.Tensor):
            # Without waiting for a GPU, as indexing by an array of NumPy would.
            rows = torch.as_tensor(rows).to(self.X.device, non_blocking=True)
            windows = self.X[rows]
        else:
            windows = np.asarray(self.X[rows], np.float32)  # of any byte order
        return torch.as_tensor(windows, dtype=torch.float32)

    def to(self, device) -> WindowArray:
        """Return the windows in the memory of a device, as float32.

        Parameters
        ----------
        device : str or torch.device
            The device.

        Returns
        -------
        WindowArray
            The same windows, with indices from 0.
        """
        windows = torch.empty(self.shape, device=device)
        step = max(1, _CHUNK // max(1, 4 * math.prod(self.shape[1:])))
        for start in range(0, len(self), step):
            windows[start : start + step] = self[start : start + step].to(device)
        return WindowArray(windows)

    def take(self, rows: np.ndarray) -> WindowArray:
        """Return a subset of the windows, without reading them.

        Parameters
        ----------
        rows : array of int
            Indices of the windows.

        Returns
        -------
        WindowArray
            The subset.
        """
        return WindowArray(self.X, self.rows[np.asarray(rows, int)])


class WindowDataset(Dataset):
    """Windows without labels for a :class:`torch.utils.data.DataLoader`.

    An index may be a number, or a tuple of numbers from a sampler of tuples; the
    windows of a tuple are stacked on an additional axis. A batch is read in one piece,
    so the data loader needs :meth:`collate`. Labels are replaced by the indices of the
    windows, so that error messages can name a window.

    Parameters
    ----------
    windows : WindowArray
        The windows.
    metadata : DataFrame, n_windows rows, optional
        One row for each window.
    """

    def __init__(self, windows: WindowArray, metadata: pd.DataFrame | None = None):
        self.windows = windows
        self.metadata = metadata

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index):
        """Return a window, or a tuple of windows, and its index.

        Parameters
        ----------
        index : int or tuple of int
            Index of the window, or indices of the tuple.

        Returns
        -------
        windows : torch.Tensor, shape (...) or (n, ...)
            The windows.
        numbers : torch.Tensor of int, shape () or (n,)
            Their indices.
        """
        windows, numbers = self.__getitems__([index])
        return windows[0], numbers[0]

    def __getitems__(self, indices):
        """Return a batch, for a data loader."""
        numbers = np.asarray(indices)  # (batch,) or (batch, n)
        return self.windows[numbers], torch.from_numpy(numbers)

    @staticmethod
    def collate(batch):
        """Return a batch unchanged."""
        return batch

    def to(self, device) -> WindowDataset:
        """Return the data set with its windows in the memory of a device.

        Parameters
        ----------
        device : str or torch.device
            The device.

        Returns
        -------
        WindowDataset
            The data set.
        """
        return WindowDataset(self.windows.to(device), self.metadata)

    def take(self, rows: np.ndarray) -> WindowDataset:
        """Return a subset of the data set, without reading it.

        Parameters
        ----------
        rows : array of int
            Indices of the windows.

        Returns
        -------
        WindowDataset
            The subset.
        """
        metadata = self.metadata
        if metadata is not None:
            metadata = metadata.iloc[rows].reset_index(drop=True)
        return WindowDataset(self.windows.take(rows), metadata)

    @property
    def provenance(self) -> dict | None:
        """Corpora, subjects and sessions of the windows; None if they are unknown."""
        return find_provenance(self.metadata)

    def describe(self, number: int) -> str:
        """Describe a window in an error message.

        Parameters
        ----------
        number : int
            Number of the window.

        Returns
        -------
        str
            Its index in the data, and its corpus, subject, session, trial and window
            as far as the metadata have them.
        """
        text = f"window {self.windows.rows[number]}"
        if self.metadata is None:
            return text
        row = self.metadata.iloc[number]
        known = [name for name in _WHERE if name in row]
        where = ", ".join(f"{name} {row[name]}" for name in known)
        return f"{text} ({where})" if known else text


_WHERE = ("corpus", "subject", "session", "trial", "window")


def gather_windows(
    X, metadata: pd.DataFrame | None = None, paradigm=None, signal=_UNKNOWN
) -> WindowDataset:
    """Return a data set of the windows in an array, epochs, data set or corpora.

    Parameters
    ----------
    X : array, Epochs, BaseConcatDataset, or (list of) moabb.datasets.base.BaseDataset
        Windows, (n_windows, ...); epochs of MNE; a windowed data set of braindecode,
        with its own metadata; or corpora, which the paradigm cuts into windows.
    metadata : DataFrame, n_windows rows, optional
        One row for each window. By default that of epochs or of a data set of
        braindecode. Corpora bring their own.
    paradigm : Emotion, optional
        Cuts corpora into windows.
    signal : Signal, optional
        Rate and channels of the model. Epochs, and the windows of corpora, are
        reordered to its channels by name; those of a data set must be in their order.

    Returns
    -------
    WindowDataset
        The windows. Windows of an array mapped from a file, and of a lazy data set, are
        read when they are needed.

    Raises
    ------
    TypeError
        If ``X`` is of another type.
    ValueError
        If ``X`` is empty, is a data set of braindecode that is not cut into windows,
        or holds corpora and there is no ``paradigm`` or there are ``metadata``. If
        ``metadata`` does not have one row per window. If epochs, a data set or corpora
        have other channels or another rate than the model.
    """
    corpora = [X] if isinstance(X, BaseDataset) else X
    if isinstance(corpora, Sequence) and corpora and _are_corpora(corpora):
        if paradigm is None:
            raise ValueError(
                "Corpora must be cut into windows: pass a paradigm too, as in "
                "fit(SEED(), paradigm=Emotion(window=4.0))."
            )
        if metadata is not None:
            raise ValueError(
                "Corpora bring the metadata of their windows: leave out metadata."
            )
        X, _, metadata = join_corpora([paradigm.get_data(c) for c in corpora])
        is_known = (signal.sfreq, signal.chs_info) != (None, None)
        if is_known and hasattr(paradigm, "get_info"):
            found = _read_corpus(corpora[0], paradigm)
            X = align_windows(X, found, signal, "X", "the model")
    elif isinstance(X, BaseConcatDataset):
        own = _metadata_of(X)
        _check_signals(X, signal)
        metadata = own if metadata is None else metadata
    elif isinstance(X, torch.Tensor):
        X = X.detach().cpu()
    else:
        X = join_epochs(X)
        array, found = read_epochs(X)
        metadata = find_metadata(X, len(array), metadata)
        X = align_windows(_as_array(array), found, signal, "X", "the model")
    if not len(X):
        raise ValueError("X must hold at least one window, but is empty.")
    if metadata is not None:
        metadata = _check_rows(metadata, len(X))
    return WindowDataset(WindowArray(X), metadata)


def _read_corpus(corpus, paradigm) -> Signal:
    """Return the signal of the windows of a corpus; features have no rate."""
    info = paradigm.get_info(corpus)
    are_features = getattr(paradigm, "features", None) is not None
    return Signal(None if are_features else info["sfreq"], list(info["chs"]))


def join_corpora(parts):
    """Join the windows of several corpora.

    Parameters
    ----------
    parts : list of tuple
        Windows, labels and metadata of each corpus.

    Returns
    -------
    X : ndarray, shape (n_windows, ...)
        All windows.
    y : ndarray, shape (n_windows,)
        All labels.
    metadata : DataFrame
        Rows numbered from 0.

    Raises
    ------
    ValueError
        If the windows differ in shape.
    """
    if len(parts) == 1:
        return parts[0]
    X, y, metadata = zip(*parts, strict=True)
    shapes = sorted({x.shape[1:] for x in X})
    if len(shapes) > 1:
        raise ValueError(
            f"The windows of the corpora must have one shape, but have {shapes}. Set "
            "channels and resample of the paradigm, or call its match_all with the "
            "corpora first."
        )
    return np.concatenate(X), np.concatenate(y), pd.concat(metadata, ignore_index=True)


def read_epochs(X):
    """Return windows as an array, and the signal they are of.

    Parameters
    ----------
    X : array or mne.Epochs
        Windows; anything but epochs is returned unchanged.

    Returns
    -------
    X : array, shape (n_windows, n_chans, n_times)
        Voltages of epochs are in microvolts.
    signal : Signal
        Rate and channels of epochs; unknown for anything else.

    Raises
    ------
    TypeError
        If ``X`` is a data set of braindecode.
    """
    if isinstance(X, BaseConcatDataset):
        raise TypeError(
            "X must be an array or Epochs here, but got a data set of braindecode. "
            "SSLPretrainer trains on it without labels; to train with labels, pass its "
            "windows as an array."
        )
    if not isinstance(X, mne.BaseEpochs):
        return X, Signal()
    voltages = {"eeg", "eog", "emg", "ecg"} & set(X.get_channel_types())
    return X.get_data(units=dict.fromkeys(voltages, "uV")), read_signal(X)


def join_epochs(X):
    """Return one Epochs for the list that scikit-learn's splits make of it.

    Parameters
    ----------
    X : list of mne.Epochs, or any windows
        Anything but a list of epochs is returned unchanged.

    Returns
    -------
    mne.Epochs or any windows
        All epochs, with their metadata if all have them.

    Raises
    ------
    ValueError
        If the epochs differ in channels, rate or times.
    """
    if not isinstance(X, list) or not X:
        return X
    if not all(isinstance(part, mne.BaseEpochs) for part in X):
        return X
    first, *others = X
    known = _describe_epochs(first)
    for part in others:
        if (found := _describe_epochs(part)) != known:
            raise ValueError(
                "The Epochs of a list must have the same channels, rate and times, but "
                f"got {known} and {found}."
            )
    metadata = [part.metadata for part in X]
    return mne.EpochsArray(
        np.concatenate([part.get_data(copy=False) for part in X]),
        first.info,
        tmin=first.tmin,
        proj=False,
        metadata=None
        if any(rows is None for rows in metadata)
        else pd.concat(metadata, ignore_index=True),
        verbose=False,
    )


def _describe_epochs(epochs) -> str:
    """Return channels, rate and times of epochs for a comparison and a message."""
    channels = list(zip(epochs.ch_names, epochs.get_channel_types(), strict=True))
    start, stop = epochs.times[[0, -1]]
    return f"{channels} at {epochs.info['sfreq']:g} Hz from {start:g} to {stop:g} s"


def find_metadata(
    X, n_windows: int, metadata=None, subjects=None
) -> pd.DataFrame | None:
    """Return one row per window: as given, else of Epochs, else made of subjects.

    Parameters
    ----------
    X : array or mne.Epochs
        Windows.
    n_windows : int
        Their number.
    metadata : DataFrame, n_windows rows, or None
        As given by the caller.
    subjects : array-like, shape (n_windows,), or None
        Used if there is nothing else, or if the metadata have no subject.

    Returns
    -------
    DataFrame or None
        Rows numbered from 0; None if nothing is known.

    Raises
    ------
    ValueError
        If the number of rows is not that of the windows.
    """
    if metadata is None and isinstance(X, mne.BaseEpochs):
        metadata = X.metadata
    if metadata is not None:
        metadata = _check_rows(metadata, n_windows)
    if subjects is None or (metadata is not None and "subject" in metadata):
        return metadata
    subjects = np.asarray(subjects)
    if subjects.size != n_windows:
        raise ValueError(
            f"subjects must name the subject of each of the {n_windows} windows, but "
            f"has {subjects.size} entries."
        )
    column = {"subject": subjects.ravel()}
    return pd.DataFrame(column) if metadata is None else metadata.assign(**column)


def find_provenance(metadata: pd.DataFrame | None) -> dict | None:
    """Return corpora, subjects and sessions of windows; None if they are unknown."""
    if metadata is None or not {"corpus", "subject"} <= set(metadata):
        return None
    known = metadata.dropna(subset=["corpus", "subject"])
    corpora = {
        corpus: {
            f"{name}s": list(map(name_recording, part[name].unique()))
            for name in ("subject", "session")
            if name in part and part[name].notna().all()
        }
        for corpus, part in known.groupby("corpus", observed=True)
    }
    if len(known) < len(metadata):
        return {"corpora": corpora, "complete": False}
    return {"corpora": corpora}


def number_recordings(metadata, known=None) -> np.ndarray | None:
    """Return the number of each window's recording, by first appearance.

    Parameters
    ----------
    metadata : DataFrame or None
        A recording is one combination of corpus, subject and session, using the columns
        that exist.
    known : DataFrame or None
        Metadata whose recordings are numbered; by default the same.

    Returns
    -------
    ndarray of int, shape (n_windows,), or None
        Numbers from 0, and -1 for recordings that are not known. None if there are no
        such columns.
    """
    columns = [c for c in _RECORDING if metadata is not None and c in metadata]
    if not columns:
        return None
    known = metadata if known is None else known
    names = pd.MultiIndex.from_frame(known[columns].astype(str)).unique()
    return names.get_indexer(pd.MultiIndex.from_frame(metadata[columns].astype(str)))


_RECORDING = ("corpus", "subject", "session")


def _check_rows(metadata, n_windows: int) -> pd.DataFrame:
    if not isinstance(metadata, pd.DataFrame):
        raise ValueError(
            "metadata must be a DataFrame with a row for each window, but got "
            f"{type(metadata).__name__}."
        )
    if len(metadata) != n_windows:
        raise ValueError(
            "metadata must have a row for each window, but has "
            f"{len(metadata)} rows for {n_windows} windows."
        )
    return metadata.reset_index(drop=True)


def _as_array(X) -> np.ndarray:
    array = X if isinstance(X, np.ndarray) else np.asarray(X)
    if array.ndim < 2 or array.dtype.kind not in "fiu":
        raise TypeError(
            "X must be an array of windows, a data set of braindecode or corpora of "
            f"MOABB, but got {type(X).__name__} of shape {array.shape} and type "
            f"{array.dtype}."
        )
    return array


def _are_corpora(X) -> bool:
    return all(isinstance(item, BaseDataset) for item in X)


def _metadata_of(dataset: BaseConcatDataset) -> pd.DataFrame:
    for part in dataset.datasets:
        if not isinstance(part, (WindowsDataset, EEGWindowsDataset)):
            raise ValueError(
                f"A data set of braindecode must be cut into windows, but holds a "
                f"{type(part).__name__}. Use create_windows_from_events or "
                "create_fixed_length_windows of braindecode.preprocessing."
            )
    return dataset.get_metadata()


def _check_signals(dataset: BaseConcatDataset, wanted: Signal) -> None:
    """Refuse windows of braindecode whose rate or channels are not the model's."""
    for part in dataset.datasets:
        info = (part.windows if isinstance(part, WindowsDataset) else part.raw).info
        chs = list(info["chs"])
        # A transform, or targets that are channels, may have dropped some.
        is_whole = len(part) and len(part[0][0]) == len(chs)
        found = Signal(float(info["sfreq"]), chs if is_whole else None)
        if match_channels(found, wanted, "X", "the model") is not None:
            raise ValueError(
                "X must have its channels in the order of the model, "
                f"{wanted.names}, but has {found.names}. Reorder them by "
                'Preprocessor("reorder_channels", ch_names=...) of braindecode before '
                "the windows are cut."
            )
