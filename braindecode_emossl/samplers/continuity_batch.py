"""Batches of stretches of consecutive windows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from braindecode_emossl.checks import is_count
from braindecode_emossl.samplers.base import EpochSampler
from braindecode_emossl.samplers.windows import consecutive_windows, cut_runs

__all__ = ["ContinuityBatchSampler"]


class ContinuityBatchSampler(EpochSampler):
    """Sample batches made of stretches of consecutive windows.

    Emotions last longer than a window, so that consecutive windows are similar. A
    shuffled batch of a large corpus holds few of them for an objective that compares
    the windows of a batch, such as the soft contrast of
    :class:`~braindecode_emossl.pretraining.SCMMPretraining`. Here a batch has
    ``batch_size // n_windows`` stretches of ``n_windows`` consecutive windows, each
    from one trial, drawn at random from all trials. The sampler is a ``batch_sampler``
    of a :class:`torch.utils.data.DataLoader`.

    Parameters
    ----------
    metadata : DataFrame, n_windows rows
        One row for each window, in the order of the data set, as
        :meth:`~braindecode_emossl.paradigms.Emotion.get_data` or
        ``BaseConcatDataset.get_metadata`` returns it.
    batch_size : int
        Number of windows in a batch, a multiple of ``n_windows``.
    n_windows : int, default=8
        Number of windows in a stretch. [inferred]
    random_state : int, RandomState or None
        Seed of the draws, in distributed training the same for all processes.
    rank, num_replicas : int, optional
        Number of this process and of all; by default those of
        :mod:`torch.distributed`. Processes share an epoch batch by batch.

    Raises
    ------
    ValueError
        If ``batch_size`` is not a multiple of ``n_windows``, or the trials do not have
        enough stretches for one batch.

    Notes
    -----
    In each epoch a trial is cut into stretches from another offset, so that all its
    windows are used in the course of training. No window is repeated within an epoch;
    incomplete stretches and incomplete batches are left out.

    Examples
    --------
    >>> X, y, metadata = Emotion(window=1.0, features="de").get_data(SEED())
    >>> sampler = ContinuityBatchSampler(metadata, batch_size=256, random_state=0)
    >>> for batch in sampler:
    ...     x = X[batch]  # (256, n_chans, n_bands)
    """

    required_columns = ("window",)

    def __init__(
        self,
        metadata: pd.DataFrame,
        batch_size: int,
        n_windows: int = 8,
        random_state: int | np.random.RandomState | None = None,
        *,
        rank: int | None = None,
        num_replicas: int | None = None,
    ):
        super().__init__(metadata, random_state, rank=rank, num_replicas=num_replicas)
        sizes = batch_size, n_windows
        if not all(map(is_count, sizes)) or batch_size % n_windows:
            raise ValueError(
                "batch_size must be a multiple of n_windows, and both at least 1, but "
                f"got batch_size={batch_size} and n_windows={n_windows}."
            )
        self.batch_size = batch_size
        self.n_windows = n_windows
        self._order, self._starts, lengths = consecutive_windows(self.metadata)
        self._counts, self._rests = np.divmod(lengths, n_windows)
        n_stretches = self._counts.sum()
        self.n_units = int(n_stretches * n_windows // batch_size)
        if not self.n_units:
            raise ValueError(
                f"A batch needs {batch_size // n_windows} stretches of {n_windows} "
                f"consecutive windows, but the trials have {n_stretches}. Lower "
                "n_windows or batch_size."
            )

    def _draw(self) -> np.ndarray:
        """Return the starts of stretches, shape (n_batches, n_stretches)."""
        offsets = self.rng.randint(self._rests + 1)  # one for each stretch of a trial
        starts = cut_runs(self._starts + offsets, self._counts, self.n_windows)
        starts = self.rng.permutation(starts)
        n_of_batch = self.batch_size // self.n_windows
        return starts[: self.n_units * n_of_batch].reshape(-1, n_of_batch)

    def _to_examples(self, units: np.ndarray) -> list[list[int]]:
        """Return the windows of the stretches of some batches."""
        windows = self._order[units[..., None] + np.arange(self.n_windows)]
        return windows.reshape(-1, self.batch_size).tolist()
