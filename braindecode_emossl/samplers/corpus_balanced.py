"""Windows of several corpora in balanced proportions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from braindecode_emossl.checks import check_count, check_fraction
from braindecode_emossl.samplers.base import EpochSampler
from braindecode_emossl.samplers.windows import encode

__all__ = ["CorpusBalancedSampler"]


class CorpusBalancedSampler(EpochSampler):
    r"""Sample windows so that large corpora do not dominate.

    A corpus :math:`c` of :math:`n_c` windows contributes the fraction
    :math:`n_c^\alpha / \sum_k n_k^\alpha` of an epoch: in proportion to its size for a
    temperature :math:`\alpha` of 1, equally for 0. Within a corpus, no window is
    repeated before all have been drawn equally often. An epoch thus repeats windows of
    a small corpus and leaves out a random part of a large one.

    Parameters
    ----------
    metadata : DataFrame, n_windows rows
        One row for each window, in the order of the data set: what
        :meth:`~braindecode_emossl.paradigms.Emotion.get_data` returns for several
        corpora, one below the other. It must have the column ``corpus``.
    temperature : float, default=0.5
        :math:`\alpha`, between 0 and 1. [inferred]
    n_samples : int, optional
        Number of windows of an epoch, for all processes together; ``n_windows`` by
        default.
    random_state : int, RandomState or None
        Seed of the draws, in distributed training the same for all processes.
    rank, num_replicas : int, optional
        Number of this process and of all; by default those of
        :mod:`torch.distributed`. Processes share an epoch window by window.

    Attributes
    ----------
    n_samples_of_corpus : dict of str to int
        Number of windows of each corpus in an epoch.

    Raises
    ------
    ValueError
        If a setting is outside its range, or the metadata do not name corpora.

    Examples
    --------
    >>> metadata = pd.concat([metadata_seed, metadata_deap])
    >>> sampler = CorpusBalancedSampler(metadata, random_state=0)
    >>> loader = DataLoader(windows, batch_size=256, sampler=sampler)
    """

    required_columns = ("corpus",)

    def __init__(
        self,
        metadata: pd.DataFrame,
        temperature: float = 0.5,
        n_samples: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        *,
        rank: int | None = None,
        num_replicas: int | None = None,
    ):
        super().__init__(metadata, random_state, rank=rank, num_replicas=num_replicas)
        check_fraction("temperature", temperature)
        if n_samples is not None:
            check_count("n_samples", n_samples)
        self.temperature = temperature
        self.n_units = len(metadata) if n_samples is None else n_samples
        codes = encode(self.metadata, "corpus")
        sizes = np.bincount(codes)
        order = np.argsort(codes, kind="stable")
        self._windows = np.split(order, np.cumsum(sizes)[:-1])
        shares = sizes**temperature
        # Rounded so that they add up: each is less than one window off.
        ends = np.round(np.cumsum(shares) / shares.sum() * self.n_units).astype(int)
        self._counts = np.diff(ends, prepend=0)
        names = metadata["corpus"].unique()
        self.n_samples_of_corpus = dict(zip(names, self._counts.tolist(), strict=True))

    def _draw(self) -> np.ndarray:
        """Return windows of an epoch in random order, shape (n_samples,)."""
        drawn = [
            windows[self._draw_evenly(len(windows), count)]
            for windows, count in zip(self._windows, self._counts, strict=True)
        ]
        return self.rng.permutation(np.concatenate(drawn))

    def _draw_evenly(self, n_windows: int, count: int) -> np.ndarray:
        """Draw numbers below ``n_windows``, none twice more often than another."""
        keys = self.rng.random_sample((-(-count // n_windows), n_windows))
        return keys.argsort(axis=1).ravel()[:count]
