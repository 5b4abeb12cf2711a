"""Sequences of consecutive windows of a trial."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from braindecode_emossl.checks import check_count
from braindecode_emossl.samplers.base import EpochSampler
from braindecode_emossl.samplers.windows import consecutive_windows, cut_runs

__all__ = ["TrialSequenceSampler"]


class TrialSequenceSampler(EpochSampler):
    """Sample sequences of consecutive windows within trials.

    Unlike those of :class:`braindecode.samplers.SequenceSampler`, which samples within
    recordings, sequences do not cross trials or missing windows, such as windows that
    are held out. An example is a tuple of ``n_windows`` window indices; an epoch has
    all sequences in random order.

    Parameters
    ----------
    metadata : DataFrame, n_windows rows
        One row for each window, in the order of the data set, as
        :meth:`~braindecode_emossl.paradigms.Emotion.get_data` or
        ``BaseConcatDataset.get_metadata`` returns it.
    n_windows : int
        Number of windows in a sequence.
    n_windows_stride : int, default=1
        Number of windows from the start of a sequence to that of the next.
    random_state : int, RandomState or None
        Seed of the draws, in distributed training the same for all processes.
    rank, num_replicas : int, optional
        Number of this process and of all; by default those of
        :mod:`torch.distributed`. Processes share an epoch sequence by sequence.

    Raises
    ------
    ValueError
        If no trial has ``n_windows`` consecutive windows.

    Notes
    -----
    Trials shorter than a sequence contribute none.

    Examples
    --------
    >>> X, y, metadata = Emotion(window=1.0, features="de").get_data(SEED())
    >>> sampler = TrialSequenceSampler(metadata, n_windows=10, random_state=0)
    >>> for sequence in sampler:
    ...     x = X[list(sequence)]  # (n_windows, n_chans, n_bands)
    """

    required_columns = ("window",)
    yields_tuples = True

    def __init__(
        self,
        metadata: pd.DataFrame,
        n_windows: int,
        n_windows_stride: int = 1,
        random_state: int | np.random.RandomState | None = None,
        *,
        rank: int | None = None,
        num_replicas: int | None = None,
    ):
        super().__init__(metadata, random_state, rank=rank, num_replicas=num_replicas)
        numbers = {"n_windows": n_windows, "n_windows_stride": n_windows_stride}
        for name, value in numbers.items():
            check_count(name, value)
        self.n_windows = n_windows
        self.n_windows_stride = n_windows_stride
        self._order, starts, lengths = consecutive_windows(self.metadata)
        if n_windows > lengths.max():
            raise ValueError(
                f"n_windows must be at most {lengths.max()}, the largest number of "
                f"consecutive windows in a trial, but got {n_windows}."
            )
        counts = np.maximum((lengths - n_windows) // n_windows_stride + 1, 0)
        self._starts = cut_runs(starts, counts, n_windows_stride)
        self.n_units = len(self._starts)

    def _draw(self) -> np.ndarray:
        """Return the starts of all sequences in random order, shape (n_sequences,)."""
        return self.rng.permutation(self._starts)

    def _to_examples(self, units: np.ndarray) -> Iterator[tuple[int, ...]]:
        """Return the sequences of some starts."""
        sequences = self._order[units[:, None] + np.arange(self.n_windows)]
        return map(tuple, sequences.tolist())
