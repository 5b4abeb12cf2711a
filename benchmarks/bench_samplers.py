"""Samplers against loops that draw one example at a time.

    python benchmarks/bench_samplers.py
    python benchmarks/bench_samplers.py --rounds 9

The metadata are those of SEED in 1-s windows (15 subjects, 3 sessions of 15 films), and
for the balance of corpora also those of DEAP (32 subjects, 40 videos of 60 s). An epoch
is drawn and collected in batches of 256 examples by torch's ``BatchSampler``, as in a
``DataLoader``, or as batches of 256 windows. Times are medians of interleaved rounds.

The loops use precomputed tables, and draw from numpy's ``RandomState`` as the samplers
of braindecode do. braindecode's ``SequenceSampler`` gives the same sequences if each
trial is a run; it only draws their order.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from braindecode.samplers import SequenceSampler
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch.utils.data import BatchSampler

from braindecode_emossl.samplers import (
    ContinuityBatchSampler,
    CorpusBalancedSampler,
    StimulusGroupSampler,
    TrialSequenceSampler,
)

BATCH_SIZE = 256
FILMS = [235, 233, 206, 238, 185, 195, 237, 216, 265, 237, 235, 233, 235, 238, 206]  # s
GROUP_SIZE, N_WINDOWS, STRETCH, TEMPERATURE = 2, 10, 8, 0.5


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, but got {options.rounds}")

    seed = make_metadata("SEED", 15, 3, FILMS)
    both = pd.concat([seed, make_metadata("DEAP", 32, 1, [60] * 40)])
    table = Table("sampler", "loop", "ours", "ratio", box=MARKDOWN)
    for name, loop, ours in (
        ("StimulusGroupSampler", *group_samplers(seed)),
        ("TrialSequenceSampler", *sequence_samplers(seed)),
        ("... against SequenceSampler", *braindecode_samplers(seed)),
        ("ContinuityBatchSampler", *continuity_samplers(seed)),
        ("CorpusBalancedSampler", *balanced_samplers(both)),
    ):
        slow, fast = interleaved(loop, ours, options.rounds)
        table.add_row(name, f"{slow:.1f}", f"{fast:.1f}", f"{slow / fast:.1f}")
    console = Console(width=100)
    console.print(f"{len(seed)} windows, {len(both)} with DEAP; microseconds a batch")
    console.print(table)


def make_metadata(corpus, n_subjects, n_sessions, seconds) -> pd.DataFrame:
    """Return metadata as Emotion gives them."""
    rows = [
        (subject, str(session), f"{trial:02d}", trial, window, f"{trial:02d}", corpus)
        for subject in range(1, n_subjects + 1)
        for session in range(n_sessions)
        for trial, length in enumerate(seconds)
        for window in range(length)
    ]
    columns = "subject session run trial window stimulus corpus".split()
    return pd.DataFrame(rows, columns=columns)


def interleaved(loop: Callable, ours: Callable, n_rounds: int) -> tuple[float, float]:
    """Return medians of the time of a batch, in microseconds."""
    times = {loop: [], ours: []}
    for _ in range(n_rounds):
        for function, seconds in times.items():
            start = time.perf_counter()
            n_batches = sum(1 for _ in function())
            seconds.append((time.perf_counter() - start) / n_batches)
    return tuple(1e6 * statistics.median(seconds) for seconds in times.values())


def batched(sampler) -> BatchSampler:
    """Collect examples as a DataLoader does."""
    return BatchSampler(sampler, BATCH_SIZE, drop_last=True)


# -- one example at a time, and ours -------------------------------------------


def group_samplers(metadata) -> tuple[Callable, Callable]:
    """Draw groups of subjects at one second of a stimulus."""
    rng = np.random.RandomState(0)
    rows = {}  # second of a stimulus -> subject -> windows
    columns = (metadata[name] for name in ("stimulus", "window", "subject"))
    for row, (stimulus, window, subject) in enumerate(zip(*columns, strict=True)):
        of_second = rows.setdefault((stimulus, window), {})
        of_second.setdefault(subject, []).append(row)
    seconds = [list(of_second.values()) for of_second in rows.values()]

    def loop() -> Iterator[tuple[int, ...]]:
        for number in rng.permutation(len(seconds)):
            subjects = seconds[number]
            drawn = rng.choice(len(subjects), 2 * GROUP_SIZE, replace=False)
            windows = [subjects[subject] for subject in drawn]
            yield tuple(of_one[rng.randint(len(of_one))] for of_one in windows)

    ours = StimulusGroupSampler(metadata, BATCH_SIZE, GROUP_SIZE, random_state=0)
    return lambda: batched(loop()), lambda: batched(ours)


def sequence_samplers(metadata) -> tuple[Callable, Callable]:
    """Draw sequences of consecutive windows of a trial."""
    rng = np.random.RandomState(0)
    trials = list(metadata.groupby(["subject", "session", "trial"]).indices.values())
    ours = TrialSequenceSampler(metadata, N_WINDOWS, random_state=0)

    def loop() -> Iterator[tuple[int, ...]]:
        for _ in range(len(ours)):
            trial = trials[rng.randint(len(trials))]
            start = rng.randint(len(trial) - N_WINDOWS + 1)
            yield tuple(trial[start : start + N_WINDOWS].tolist())

    return lambda: batched(loop()), lambda: batched(ours)


def braindecode_samplers(metadata) -> tuple[Callable, Callable]:
    """Draw the sequences of runs, which are trials here, in random order."""
    theirs = SequenceSampler(
        metadata.assign(i_start_in_trial=metadata["window"]),
        N_WINDOWS,
        1,
        randomize=True,
        random_state=0,
    )
    ours = TrialSequenceSampler(metadata, N_WINDOWS, random_state=0)
    return lambda: batched(theirs), lambda: batched(ours)


def continuity_samplers(metadata) -> tuple[Callable, Callable]:
    """Draw batches of stretches of consecutive windows."""
    rng = np.random.RandomState(0)
    trials = list(metadata.groupby(["subject", "session", "trial"]).indices.values())
    ours = ContinuityBatchSampler(metadata, BATCH_SIZE, STRETCH, random_state=0)

    def loop() -> Iterator[list[int]]:
        for _ in range(len(ours)):
            batch = []
            while len(batch) < BATCH_SIZE:
                trial = trials[rng.randint(len(trials))]
                start = rng.randint(len(trial) - STRETCH + 1)
                batch.extend(trial[start : start + STRETCH].tolist())
            yield batch

    return loop, lambda: ours


def balanced_samplers(metadata) -> tuple[Callable, Callable]:
    """Draw windows of corpora in balance."""
    rng = np.random.RandomState(0)
    corpora = list(metadata.reset_index().groupby("corpus").indices.values())
    shares = np.array([len(windows) for windows in corpora]) ** TEMPERATURE
    shares /= shares.sum()

    def loop() -> Iterator[int]:
        for _ in range(len(metadata)):
            windows = corpora[rng.choice(len(corpora), p=shares)]
            yield int(windows[rng.randint(len(windows))])

    ours = CorpusBalancedSampler(metadata, TEMPERATURE, random_state=0)
    return lambda: batched(loop()), lambda: batched(ours)


if __name__ == "__main__":
    main()
