"""Codes, runs and consecutive windows from the metadata of windows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from braindecode_emossl.checks import is_number

__all__ = ["consecutive_windows", "cut_runs", "encode", "find_runs", "window_column"]

#: Columns that identify a trial; those of Emotion and of braindecode differ.
_TRIAL = ("corpus", "subject", "session", "run", "trial", "i_trial_in_dataset")


def window_column(metadata: pd.DataFrame) -> str:
    """Return the name of the column with the number of a window in its trial.

    Parameters
    ----------
    metadata : DataFrame, n_windows rows
        Metadata of Emotion or of braindecode.

    Returns
    -------
    str
        ``"window"`` or ``"i_window_in_trial"``.

    Raises
    ------
    ValueError
        If it has neither, or the values are not integers.
    """
    for name in ("window", "i_window_in_trial"):
        if name in metadata:
            _check_integers(metadata[name])
            return name
    raise ValueError(
        "metadata must have the number of each window in its trial in a column "
        "'window' or, as in braindecode, 'i_window_in_trial', but its columns are "
        f"{list(metadata.columns)}."
    )


def _check_integers(column: pd.Series) -> None:
    """Refuse numbers of windows that are text, fractions or missing."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
        return
    for row, value in enumerate(column):
        if not is_number(value) or value % 1:
            raise ValueError(
                f"metadata must have an integer in the column {column.name!r} for "
                f"every window, but row {row}, counted from 0, has {value!r}."
            )


def encode(metadata: pd.DataFrame, *columns: str) -> np.ndarray:
    """Give each different value of some columns a number, corpus by corpus.

    Parameters
    ----------
    metadata : DataFrame, n_windows rows
        Metadata of the windows. Where there is a column ``"corpus"``, the same value in
        two corpora counts as two.
    *columns : str
        Columns whose values count together.

    Returns
    -------
    ndarray of int, shape (n_windows,)
        Equal where all columns are equal.

    Raises
    ------
    ValueError
        If a column, or a value in it, is missing.
    """
    names = list(columns)
    if "corpus" in metadata and "corpus" not in names:
        names.insert(0, "corpus")
    if not names:
        return np.zeros(len(metadata), int)
    if lacking := [name for name in names if name not in metadata]:
        raise ValueError(
            f"metadata must have the columns {names}, but lacks {lacking}; its columns "
            f"are {list(metadata.columns)}."
        )
    if len(missing := np.flatnonzero(metadata[names].isna().any(axis=1))):
        raise ValueError(
            f"metadata must have a value of {names} for every window, but row "
            f"{missing[0]}, counted from 0, lacks one. Leave such windows out."
        )
    return metadata.groupby(names, sort=False, observed=True).ngroup().to_numpy()


def find_runs(*codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the runs in which nothing changes.

    Parameters
    ----------
    *codes : ndarray of int, shape (n,)
        A change in one of them ends a run.

    Returns
    -------
    starts, lengths : ndarray of int, shape (n_runs,)
        The runs in their order.
    """
    is_new = np.ones(len(codes[0]), bool)
    is_new[1:] = np.any([code[1:] != code[:-1] for code in codes], axis=0)
    starts = np.flatnonzero(is_new)
    return starts, np.diff(starts, append=len(is_new))


def cut_runs(starts: np.ndarray, counts: np.ndarray, step: int) -> np.ndarray:
    """Return ``count`` numbers for each run: ``start, start + step, ...``.

    Parameters
    ----------
    starts, counts : ndarray of int, shape (n_runs,)
        First number of each run, and how many.
    step : int
        From number to number.

    Returns
    -------
    ndarray of int, shape (counts.sum(),)
        The numbers, run by run.
    """
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(starts, counts) + step * number


def consecutive_windows(
    metadata: pd.DataFrame,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the stretches of trials from which no window is missing.

    Parameters
    ----------
    metadata : DataFrame, n_windows rows
        Metadata of the windows, in any order.

    Returns
    -------
    order : ndarray of int, shape (n_windows,)
        Positions of the windows, sorted by trial and time.
    starts, lengths : ndarray of int, shape (n_stretches,)
        Where each stretch lies in ``order``.

    Raises
    ------
    ValueError
        If a window of a trial is repeated.
    """
    window = window_column(metadata)
    columns = [name for name in _TRIAL if name in metadata]
    trials = encode(metadata, *columns)
    numbers = metadata[window].to_numpy(int)
    if len(twice := np.flatnonzero(metadata.duplicated([*columns, window]))):
        repeated = metadata[[*columns, window]].iloc[twice[0]].to_dict()
        raise ValueError(
            "metadata must hold each window of a trial once, but row "
            f"{twice[0]}, counted from 0, repeats {repeated}. If these are two trials, "
            "number them in a column 'trial'."
        )
    order = np.lexsort((numbers, trials))
    # Consecutive numbers are those that keep step with a count.
    starts, lengths = find_runs(trials[order], numbers[order] - np.arange(len(order)))
    return order, starts, lengths
