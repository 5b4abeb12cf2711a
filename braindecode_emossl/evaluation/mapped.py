"""Windows of signals that are too large for memory, in files that are mapped into it.

Signals of many subjects are written subject by subject into one temporary file, as
float32, and the training set of a fold into another one. Both appear as NumPy
arrays, so estimators need no special code.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from braindecode_emossl.storage import map_blocks

__all__ = ["LARGE", "has_room", "map_arrays", "map_rows"]

#: Signals of so many bytes are mapped. Features of any corpus are smaller.
LARGE = 2**30
# Bytes that are copied at a time.
_BLOCK = 2**26


def has_room(folder: Path, n_bytes: int) -> bool:
    """Return whether a folder can take windows and the training set of a fold.

    Parameters
    ----------
    folder : Path
        Temporary folder.
    n_bytes : int
        Size of all windows.

    Returns
    -------
    bool
        False, with a warning, if there is too little space.
    """
    free = shutil.disk_usage(folder).free
    if free > 3 * n_bytes:  # with the sets of a fold, and these joined
        return True
    warnings.warn(
        f"The windows take {n_bytes / 2**30:.0f} GiB, and a fold up to twice as much "
        f"more, but only {free / 2**30:.0f} GiB are free in the temporary folder "
        f"{tempfile.gettempdir()}: they are loaded into memory instead. Set "
        "the environment variable TMPDIR to a folder on a larger disk.",
        stacklevel=5,
    )
    return False


def map_arrays(arrays: Iterable[np.ndarray], folder: Path) -> np.memmap:
    """Write arrays one after another into a file, and map it.

    Parameters
    ----------
    arrays : iterable of ndarray, shape (n, ...)
        Windows; each array is read when those before it are written.
    folder : Path
        Folder of the file, which the caller removes.

    Returns
    -------
    memmap of float32, shape (n_windows, ...)
        All windows, read-only.

    Raises
    ------
    ValueError
        If the windows of two arrays differ in shape, or there are none.
    """
    shape = None
    n_windows = 0
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        for X in arrays:
            shape = X.shape[1:] if shape is None else shape
            if X.shape[1:] != shape:
                raise ValueError(
                    "The windows of all subjects must have one shape, but have the "
                    f"shapes {shape} and {X.shape[1:]}. Set channels, picks or "
                    "resample of the paradigm."
                )
            file.write(np.ascontiguousarray(X, np.float32).data)
            n_windows += len(X)
    if shape is None or not n_windows:
        raise ValueError("There must be at least one window, but there is none.")
    return np.memmap(file.name, np.float32, "r", shape=(n_windows, *shape))


def map_rows(
    X: np.ndarray,
    rows: np.ndarray,
    take: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.memmap:
    """Copy some windows into a file without a name, and map it.

    Parameters
    ----------
    X : ndarray, shape (n_windows, ...)
        All windows.
    rows : ndarray of int
        Row numbers.
    take : callable
        Takes all windows and some of the row numbers, and returns these windows.

    Returns
    -------
    memmap, shape (n_rows, ...)
        The windows; they may be changed. The file goes with the array.
    """
    step = max(1, _BLOCK // max(1, X.itemsize * math.prod(X.shape[1:])))
    starts = range(0, len(rows), step)
    blocks = (take(X, rows[start : start + step]) for start in starts)
    return map_blocks(blocks, X.dtype, (len(rows), *X.shape[1:]))
