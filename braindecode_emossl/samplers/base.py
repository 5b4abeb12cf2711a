"""The base of the samplers: draws a whole epoch and deals it out to processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import ClassVar

import numpy as np
import pandas as pd
import torch.distributed as dist
from braindecode.samplers import RecordingSampler

__all__ = ["EpochSampler"]

#: Units made into Python objects at a time, so few that they fit the CPU caches.
_CHUNK = 64


class EpochSampler(RecordingSampler):
    """Base of samplers that draw a whole epoch at once.

    Each iteration draws another epoch, and the same seed gives the same sequence of
    epochs. In distributed training all processes draw the same epoch and each takes its
    own part of it. A subclass sets ``required_columns`` and ``n_units``, the number of
    units that are dealt out to processes, and draws them in ``_draw``.

    Parameters
    ----------
    metadata : DataFrame, n_windows rows
        One row for each window, in the order of the data set, as
        :meth:`~braindecode_emossl.paradigms.Emotion.get_data` or
        ``BaseConcatDataset.get_metadata`` returns it.
    random_state : int, RandomState or None
        Seed of the draws, in distributed training the same for all processes.
    rank : int, optional
        Number of this process; by default that of :mod:`torch.distributed`, or 0.
    num_replicas : int, optional
        Number of processes; by default that of :mod:`torch.distributed`, or 1. Pass 1,
        and ``rank=0``, if the batches are dealt out by other means, such as accelerate.

    Attributes
    ----------
    required_columns : tuple of str
        Class attribute: the columns of the metadata that the sampler cannot do
        without.
    yields_tuples : bool
        Class attribute: whether an example is a tuple of windows.
    info : DataFrame
        Positions of the windows of each recording, see
        :class:`braindecode.samplers.RecordingSampler`. A recording is identified by
        those of the columns corpus, subject, session and run that the metadata have.

    Raises
    ------
    TypeError
        If ``metadata`` are not a DataFrame.
    ValueError
        If the metadata are empty or lack a column, ``rank`` is not less than
        ``num_replicas``, or several processes have no seed in common.
    """

    required_columns: ClassVar[tuple[str, ...]] = ()
    yields_tuples: ClassVar[bool] = False

    def __init__(
        self,
        metadata: pd.DataFrame,
        random_state: int | np.random.RandomState | None = None,
        *,
        rank: int | None = None,
        num_replicas: int | None = None,
    ):
        if not isinstance(metadata, pd.DataFrame):
            raise TypeError(
                "metadata must be a DataFrame with a row for each window, as "
                f"Emotion.get_data returns it, but got {type(metadata).__name__}."
            )
        if not len(metadata):
            raise ValueError("metadata must have a row for each window, but are empty.")
        if missing := self.find_missing_columns(metadata):
            raise ValueError(
                f"metadata must have the columns {list(self.required_columns)} for "
                f"{type(self).__name__}, but lack {missing}; their columns are "
                f"{list(metadata.columns)}."
            )
        metadata = metadata.reset_index(drop=True)  # its names may be those of columns
        recordings, names = _number_recordings(metadata)
        super().__init__(recordings, random_state)
        self.metadata = metadata
        self.info.index = names
        is_distributed = dist.is_available() and dist.is_initialized()
        if num_replicas is None:
            num_replicas = dist.get_world_size() if is_distributed else 1
        if rank is None:
            rank = dist.get_rank() if is_distributed else 0
        if not 0 <= rank < num_replicas:
            raise ValueError(
                f"rank must be at least 0 and less than num_replicas={num_replicas}, "
                f"but got {rank}."
            )
        if num_replicas > 1 and random_state is None:
            raise ValueError(
                "random_state must be the same seed in all processes, so that they "
                "share one epoch, but got None."
            )
        self.rank = rank
        self.num_replicas = num_replicas

    @classmethod
    def find_missing_columns(cls, metadata: pd.DataFrame | None) -> list[str]:
        """Return the required columns that metadata lack.

        Parameters
        ----------
        metadata : DataFrame or None
            Metadata of windows. braindecode's ``i_window_in_trial`` counts as
            ``window``.

        Returns
        -------
        list of str
            The missing columns; all required ones if there are no metadata.
        """
        known = set() if metadata is None else set(metadata)
        if "i_window_in_trial" in known:
            known.add("window")
        return [name for name in cls.required_columns if name not in known]

    @property
    def _n_units_each(self) -> int:
        """Number of units that each process takes."""
        return -(-self.n_units // self.num_replicas)

    def __len__(self) -> int:
        return self._n_units_each

    def __iter__(self) -> Iterator:
        # Drawn with the first example: a loader with workers asks for the iterator
        # of its batches twice.
        yield from self.examples if hasattr(self, "examples") else self._draw_part()

    def presample(self) -> EpochSampler:
        """Draw the epoch that all further iterations return.

        Returns
        -------
        EpochSampler
            Itself.
        """
        self.examples = list(self._draw_part())
        return self

    def _draw_part(self) -> Iterator:
        """Draw an epoch and return the examples of this process."""
        # As in torch's DistributedSampler, the first units fill up the last round:
        # the others would wait for a process with fewer units.
        n_dealt = self._n_units_each * self.num_replicas
        dealt = np.arange(self.rank, n_dealt, self.num_replicas) % self.n_units
        units = self._draw()[dealt]
        chunks = (units[i : i + _CHUNK] for i in range(0, len(units), _CHUNK))
        return chain.from_iterable(map(self._to_examples, chunks))

    def _draw(self) -> np.ndarray:
        """Return the units of an epoch, shape (n_units, ...)."""
        raise NotImplementedError

    def _to_examples(self, units: np.ndarray) -> Iterable:
        """Return the examples of some units."""
        return units.tolist()


def _number_recordings(metadata: pd.DataFrame) -> tuple[pd.DataFrame, pd.Index]:
    """Return columns that braindecode groups recordings by, and names of the groups."""
    columns = [n for n in ("corpus", "subject", "session", "run") if n in metadata]
    numbers = np.zeros(len(metadata), int)
    names = pd.Index([0])
    if columns:
        groups = metadata.groupby(columns, dropna=False, observed=True)
        numbers = groups.ngroup().to_numpy()
        names = groups.size().index
    # braindecode wants the start of each window too, which no sampler of ours uses.
    starts = metadata.get("i_start_in_trial", pd.Series(np.arange(len(metadata))))
    return pd.DataFrame({"run": numbers, "i_start_in_trial": np.asarray(starts)}), names
