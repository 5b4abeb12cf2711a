"""Groups of subjects at the same second of the same stimulus."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd

from braindecode_emossl.checks import check_count
from braindecode_emossl.samplers.base import EpochSampler
from braindecode_emossl.samplers.windows import encode, find_runs, window_column

__all__ = ["StimulusGroupSampler"]

#: Stimuli that a warning names.
_N_SHOWN = 10


class StimulusGroupSampler(EpochSampler):
    """Sample groups of subjects at the same second of a stimulus.

    The sampler of SGMC [1]_ and ME-MHACL [2]_. An example is a tuple of
    ``2 * group_size`` window indices: windows with the same number in their trials,
    from trials with the same stimulus of the same corpus, each from another subject, in
    random order. Subjects are drawn independently for each example. If a subject saw
    the stimulus in several recordings, one of the windows is drawn.

    ``n_stimuli`` examples form a batch, in which no second of a stimulus is repeated.
    With a data set that takes tuples of indices, such as braindecode's, and the batch
    size ``n_stimuli``, a batch is ``(n_stimuli, 2 * group_size, n_chans, n_times)``.

    Parameters
    ----------
    metadata : DataFrame, n_windows rows
        One row for each window, in the order of the data set, as
        :meth:`~braindecode_emossl.paradigms.Emotion.get_data` returns it. Required
        columns are ``subject``, ``stimulus`` and ``window`` (or braindecode's
        ``i_window_in_trial``); ``corpus`` is used if it is there.
    n_stimuli : int, default=8
        Number of examples in a batch. [official code] of SGMC for DEAP; 16 for SEED
    group_size : int, default=2
        Half the number of subjects in an example, the size of each of the two groups
        that meiosis forms. [official code] of SGMC
    n_batches : int, optional
        Number of batches per epoch, for all processes together. By default as many as
        possible without repeating a second of a stimulus.
    random_state : int, RandomState or None
        Seed of the draws, in distributed training the same for all processes.
    rank, num_replicas : int, optional
        Number of this process and of all; by default those of
        :mod:`torch.distributed`. Processes share an epoch batch by batch.

    Attributes
    ----------
    n_stimuli, group_size : int
        As given, or the lower numbers that the metadata allow.

    Raises
    ------
    ValueError
        If no second of a stimulus has two subjects.

    Warns
    -----
    UserWarning
        If stimuli are left out, or ``n_stimuli`` or ``group_size`` is lowered.

    Notes
    -----
    A second that fewer than ``2 * group_size`` subjects have is left out, such as the
    last one of a stimulus where recordings differ in length. A stimulus without any
    other second is left out with a warning that names it.

    Small training sets lower the arguments, with a warning: ``group_size`` to half the
    largest number of subjects at a second if none has ``2 * group_size``, and then
    ``n_stimuli`` to the number of seconds.

    The official code draws the subjects once for a whole batch.

    References
    ----------
    .. [1] Kan et al. (2023). Self-supervised group meiosis contrastive learning
       for EEG-based emotion recognition. Applied Intelligence, 53(22), 27207-27225.
       https://doi.org/10.1007/s10489-023-04971-0
    .. [2] Guo, Zhang, & Huang (2023). ME-MHACL. https://arxiv.org/abs/2308.01919

    Examples
    --------
    >>> X, y, metadata = Emotion(window=1.0).get_data(DEAP())
    >>> sampler = StimulusGroupSampler(metadata, n_stimuli=8, random_state=0)
    >>> for group in sampler:
    ...     x = X[list(group)]  # (2 * group_size, n_chans, n_times)
    """

    required_columns = ("subject", "stimulus", "window")
    yields_tuples = True

    def __init__(
        self,
        metadata: pd.DataFrame,
        n_stimuli: int = 8,
        group_size: int = 2,
        n_batches: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        *,
        rank: int | None = None,
        num_replicas: int | None = None,
    ):
        super().__init__(metadata, random_state, rank=rank, num_replicas=num_replicas)
        numbers = {"n_stimuli": n_stimuli, "group_size": group_size}
        numbers["n_batches"] = 1 if n_batches is None else n_batches
        for name, value in numbers.items():
            check_count(name, value)
        self._index_windows(group_size)
        n_seconds = len(self._n_subjects)
        self.n_stimuli = min(n_stimuli, n_seconds)
        if self.n_stimuli < n_stimuli:
            warnings.warn(
                f"n_stimuli is lowered from {n_stimuli} to {n_seconds}, the number of "
                f"seconds of stimuli that {2 * self.group_size} subjects have.",
                stacklevel=2,
            )
        self._n_batches_of_pass = n_seconds // self.n_stimuli
        self.n_units = self._n_batches_of_pass if n_batches is None else n_batches

    def __len__(self) -> int:
        return self._n_units_each * self.n_stimuli

    def _index_windows(self, group_size: int) -> None:
        """Find the windows of each subject in each second; set the group size."""
        window = window_column(self.metadata)
        seconds = encode(self.metadata, "stimulus", window)
        subjects = encode(self.metadata, "subject")
        # Windows sorted by second, then by subject: the windows of a subject are a run
        # of `_order`, and the subjects of a second are a run of those runs.
        self._order = np.lexsort((subjects, seconds))
        seconds, subjects = seconds[self._order], subjects[self._order]
        self._first_window, self._n_windows = find_runs(seconds, subjects)
        first_subject, n_subjects = find_runs(seconds[self._first_window])

        self.group_size = self._limit_group_size(group_size, n_subjects.max())
        self._warn_of_stimuli(
            self._order[self._first_window[first_subject]], n_subjects
        )
        is_enough = n_subjects >= 2 * self.group_size
        self._first_subject = first_subject[is_enough]
        self._n_subjects = n_subjects[is_enough]

    def _limit_group_size(self, group_size: int, n_most: int) -> int:
        """Return the group size, at most half the most subjects of a second."""
        if n_most < 2:
            raise ValueError(
                "metadata must have at least two subjects at one second of a stimulus, "
                "but each second has one: add subjects who saw the same stimuli, or "
                "train on shuffled windows without this sampler."
            )
        if n_most < 2 * group_size:
            warnings.warn(
                f"group_size is lowered from {group_size} to {n_most // 2}, as a group "
                f"needs 2 * group_size subjects at one second of a stimulus, but at "
                f"most {n_most} have the same one.",
                stacklevel=4,
            )
        return min(group_size, int(n_most) // 2)

    def _warn_of_stimuli(self, rows: np.ndarray, n_subjects: np.ndarray) -> None:
        """Warn of stimuli without a second that enough subjects have."""
        columns = [name for name in ("corpus", "stimulus") if name in self.metadata]
        seconds = self.metadata.iloc[rows][columns].assign(n_subjects=n_subjects)
        seen = seconds.groupby(columns, observed=True)["n_subjects"].max()
        few = seen[seen < 2 * self.group_size]
        if not len(few):
            return
        shown = few.iloc[:_N_SHOWN].items()
        named = ", ".join(f"{_name(key)} ({count})" for key, count in shown)
        more = len(few) - _N_SHOWN
        warnings.warn(
            f"{len(few)} of {len(seen)} stimuli are left out, as fewer than "
            f"2 * group_size = {2 * self.group_size} subjects have the same second of "
            f"them: {named}{f' and {more} more' if more > 0 else ''}, with the largest "
            "number of subjects in parentheses.",
            stacklevel=4,
        )

    def _draw(self) -> np.ndarray:
        """Return windows of an epoch, shape (n_batches, n_stimuli, 2 * group_size)."""
        seconds = self._draw_seconds()[..., None]  # (n_batches, n_stimuli, 1)
        # The subjects with the smallest keys are drawn; absent ones have infinite keys.
        n_subjects = self._n_subjects[seconds]
        n_most = n_subjects.max()
        keys = self.rng.random_sample((*seconds.shape[:2], n_most))
        keys[np.arange(n_most) >= n_subjects] = np.inf
        drawn = keys.argsort(axis=-1)[..., : 2 * self.group_size]
        subjects = self._first_subject[seconds] + drawn
        n_windows = self._n_windows[subjects]
        drawn = (self.rng.random_sample(subjects.shape) * n_windows).astype(int)
        # (n_batches, n_stimuli, 2 * group_size)
        return self._order[self._first_window[subjects] + drawn]

    def _draw_seconds(self) -> np.ndarray:
        """Return seconds of stimuli, different in a batch, (n_batches, n_stimuli)."""
        n_passes = -(-self.n_units // self._n_batches_of_pass)
        keys = self.rng.random_sample((n_passes, len(self._n_subjects)))
        # No batch lies in two passes.
        n_of_pass = self._n_batches_of_pass * self.n_stimuli
        seconds = keys.argsort(axis=1)[:, :n_of_pass]
        return seconds.reshape(-1, self.n_stimuli)[: self.n_units]

    def _to_examples(self, units: np.ndarray) -> Iterator[tuple[int, ...]]:
        """Return one tuple of windows for each second."""
        return map(tuple, units.reshape(-1, 2 * self.group_size).tolist())


def _name(key) -> str:
    """Return the name of a stimulus, or of its corpus and itself."""
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
