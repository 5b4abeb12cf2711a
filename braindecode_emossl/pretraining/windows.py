"""Windows to pre-train on: from arrays, braindecode's data sets or corpora."""

from __future__ import annotations

from collections.abc import Sequence

import mne
import numpy as np
import pandas as pd
import torch
from braindecode.datasets import BaseConcatDataset
from braindecode.datasets.base import EEGWindowsDataset, WindowsDataset
from moabb.datasets.base import BaseDataset
from torch.utils.data import Dataset

__all__ = [
    "WindowArray",
    "WindowDataset",
    "gather_windows",
    "join_corpora",
    "read_epochs",
]


class WindowArray:
    """Windows that are read as float32 tensors when they are asked for.

    Parameters
    ----------
    X : ndarray, Tensor or BaseConcatDataset, n_windows windows
        Where the windows are; an array may be mapped from a file.
    rows : ndarray of int, optional
        Those of the windows that are meant, all by default.
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
            Which ones.

        Returns
        -------
        torch.Tensor of float32, shape (*rows of the key, ...)
            The windows.
        """
        rows = self.rows[key]
        if isinstance(self.X, BaseConcatDataset):
            windows = [self.X[int(row)][0] for row in rows.flat]
            windows = np.stack(windows).reshape(*rows.shape, *windows[0].shape)
        else:
            windows = self.X[rows]
        return torch.as_tensor(windows, dtype=torch.float32)

    def take(self, rows: np.ndarray) -> WindowArray:
        """Return some of these windows, without reading them.

        Parameters
        ----------
        rows : array of int
            Their places among these.

        Returns
        -------
        WindowArray
            The windows at these places.
        """
        return WindowArray(self.X, self.rows[np.asarray(rows, int)])


class WindowDataset(Dataset):
    """Windows without labels for a :class:`torch.utils.data.DataLoader`.

    An index may be a number, or a tuple of numbers from a sampler of tuples, which
    gives the windows of the tuple on an axis of their own. A batch is read at once and
    comes as it is: use :meth:`collate`. In the place of labels are the numbers of the
    windows, so that one that makes trouble can be named.

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
        """Return a window, or a tuple of windows, and its number.

        Parameters
        ----------
        index : int or tuple of int
            Which.

        Returns
        -------
        windows : torch.Tensor, shape (...) or (n, ...)
            The windows.
        numbers : torch.Tensor of int, shape () or (n,)
            Their numbers.
        """
        windows, numbers = self.__getitems__([index])
        return windows[0], numbers[0]

    def __getitems__(self, indices):
        """Return a batch, as a data loader asks for it."""
        numbers = np.asarray(indices)  # (batch,) or (batch, n)
        return self.windows[numbers], torch.from_numpy(numbers)

    @staticmethod
    def collate(batch):
        """Return a batch as it is."""
        return batch

    def take(self, rows: np.ndarray) -> WindowDataset:
        """Return a part of the data set, without reading it.

        Parameters
        ----------
        rows : array of int
            Places of the windows.

        Returns
        -------
        WindowDataset
            The part.
        """
        metadata = self.metadata
        if metadata is not None:
            metadata = metadata.iloc[rows].reset_index(drop=True)
        return WindowDataset(self.windows.take(rows), metadata)

    @property
    def provenance(self) -> dict | None:
        """Corpora, subjects and sessions of the windows; None if they are not told."""
        metadata = self.metadata
        if metadata is None or not {"corpus", "subject"} <= set(metadata):
            return None
        return {
            "corpora": {
                corpus: {
                    f"{name}s": part[name].unique().tolist()
                    for name in ("subject", "session")
                    if name in part
                }
                for corpus, part in metadata.groupby("corpus", observed=True)
            }
        }

    def describe(self, number: int) -> str:
        """Say which window a number is.

        Parameters
        ----------
        number : int
            Number of the window.

        Returns
        -------
        str
            Its place in what was given, and what the metadata say of it.
        """
        text = f"window {self.windows.rows[number]}"
        if self.metadata is None:
            return text
        row = self.metadata.iloc[number]
        told = [name for name in _WHERE if name in row]
        where = ", ".join(f"{name} {row[name]}" for name in told)
        return f"{text} ({where})" if told else text


_WHERE = ("corpus", "subject", "session", "trial", "window")


def gather_windows(
    X, metadata: pd.DataFrame | None = None, paradigm=None
) -> WindowDataset:
    """Make a data set of whatever holds windows.

    Parameters
    ----------
    X : array, Epochs, BaseConcatDataset, or (list of) moabb.datasets.base.BaseDataset
        Windows, (n_windows, ...); epochs of MNE; a data set of braindecode that is cut
        into windows, with its own metadata; or corpora, which the paradigm cuts.
    metadata : DataFrame, n_windows rows, optional
        One row for each window of an array.
    paradigm : Emotion, optional
        What makes windows of corpora.

    Returns
    -------
    WindowDataset
        The windows. Those of an array mapped from a file, and of a lazy data set, are
        read when they are needed.

    Raises
    ------
    TypeError
        If ``X`` is nothing of these.
    ValueError
        If corpora come without a paradigm, a data set of braindecode has no windows,
        there are no windows, or the metadata are of another number of windows.
    """
    corpora = [X] if isinstance(X, BaseDataset) else X
    if isinstance(corpora, Sequence) and corpora and _are_corpora(corpora):
        if paradigm is None:
            raise ValueError(
                "Corpora must be cut into windows: pass a paradigm beside them, such "
                "as fit(SEED(), paradigm=Emotion(window=4.0))."
            )
        X, _, metadata = join_corpora([paradigm.get_data(c) for c in corpora])
    elif isinstance(X, BaseConcatDataset):
        metadata = _metadata_of(X)
    elif isinstance(X, torch.Tensor):
        X = X.detach().cpu()
    else:
        X = _as_array(read_epochs(X)[0])
    if not len(X):
        raise ValueError("X must hold at least one window, but is empty.")
    if metadata is not None:
        if len(metadata) != len(X):
            raise ValueError(
                "metadata must have a row for each window, but have "
                f"{len(metadata)} rows for {len(X)} windows."
            )
        metadata = metadata.reset_index(drop=True)
    return WindowDataset(WindowArray(X), metadata)


def join_corpora(parts):
    """Join what was loaded of several corpora.

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
        If the windows are not all of one shape.
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
    """Return windows as an array, and what is known of their signal.

    Parameters
    ----------
    X : array or mne.Epochs
        Windows; anything but epochs is returned as it is.

    Returns
    -------
    X : array, shape (n_windows, n_chans, n_times)
        Voltages of epochs are in microvolts.
    signal : dict
        ``sfreq`` and ``chs_info`` of epochs.
    """
    if not isinstance(X, mne.BaseEpochs):
        return X, {}
    voltages = {"eeg", "eog", "emg", "ecg"} & set(X.get_channel_types())
    signal = {"sfreq": X.info["sfreq"], "chs_info": X.info["chs"]}
    return X.get_data(units=dict.fromkeys(voltages, "uV")), signal


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
