"""Memory of a SEED-sized corpus in DE form, and what evaluate() costs beside MOABB.

    python benchmarks/bench_evaluation.py
    python benchmarks/bench_evaluation.py --subjects 1 3 --jobs 2

Two tables:

* peak memory of loading full-length replicas of SEED (3 sessions of 15 films, 62
  channels, 1-s windows, 5 bands) of one and of two subjects, each in a fresh
  interpreter. What a further subject adds is extrapolated to all 15; the size of X of
  all 15 follows from its shape;
* wall-clock time of leave-one-subject-out of evaluate() and of MOABB's
  ``CrossSubjectEvaluation`` on one short replica, interleaved, with their ratio.

Replicas are written to a temporary folder: about 0.6 GB a subject.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import mne
from mne.decoding import Vectorizer
from moabb.evaluations import CrossSubjectEvaluation
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from braindecode_emossl.datasets import SEED, write_replica
from braindecode_emossl.evaluation import evaluate
from braindecode_emossl.paradigms import Emotion

N_SUBJECTS = 15
PARADIGM = Emotion(window=1.0, features="de")
MIB = 2**20


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--subjects", type=int, nargs=2, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--jobs", type=int, default=1, help="folds at a time")
    options = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        console.print(measure_memory(Path(folder, "long"), options.subjects))
        console.print(measure_time(Path(folder, "short"), options.rounds, options.jobs))


def measure_memory(root: Path, counts: list[int]) -> Table:
    """Return the peak memory of loading, measured and extrapolated."""
    numbers = list(range(1, max(counts) + 1))
    write_replica("SEED", root, subjects=numbers, seconds=None, seed=0)
    table = Table("subjects", "X (MiB)", "peak beyond imports (MiB)", box=MARKDOWN)
    sizes, peaks = zip(*(in_fresh_process(load, root, n) for n in counts), strict=True)
    for count, size, peak in zip(counts, sizes, peaks, strict=True):
        table.add_row(str(count), f"{size:.0f}", f"{peak:.0f}")
    step = (peaks[1] - peaks[0]) / (counts[1] - counts[0])
    size = sizes[1] / counts[1] * N_SUBJECTS
    peak = peaks[1] + step * (N_SUBJECTS - counts[1])
    table.add_row(f"{N_SUBJECTS}, extrapolated", f"{size:.0f}", f"{peak:.0f}")
    return table


def load(root: Path, n_subjects: int) -> tuple[float, float]:
    """Return size of X and peak of memory beyond what the imports took, in MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    corpus = SEED(list(range(1, n_subjects + 1)), path=root)
    X, _, _ = PARADIGM.get_data(corpus)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return X.nbytes / MIB, (after - before) * 1024 / MIB


def in_fresh_process(function, *arguments):
    """Call a function where nothing has been in memory before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure_time(root: Path, n_rounds: int, n_jobs: int) -> Table:
    """Return medians of interleaved rounds."""
    write_replica("SEED", root, subjects=[1, 2, 3], seconds=20, seed=0)
    corpus = SEED([1, 2, 3], path=root)
    pipelines = {"LR": make_pipeline(Vectorizer(), LogisticRegression(max_iter=200))}
    seconds = {"MOABB": [], "evaluate()": []}
    for number in range(n_rounds):
        start = time.perf_counter()
        CrossSubjectEvaluation(
            paradigm=PARADIGM,
            datasets=[corpus],
            n_jobs=n_jobs,
            hdf5_path=str(root / f"moabb{number}"),
        ).process(pipelines)
        seconds["MOABB"].append(time.perf_counter() - start)
        start = time.perf_counter()
        evaluate(
            pipelines,
            [corpus],
            PARADIGM,
            "leave-one-subject-out",
            n_jobs=n_jobs,
            results_dir=root / f"ours{number}",
        )
        seconds["evaluate()"].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    table = Table("leave-one-subject-out", "seconds", "ratio", box=MARKDOWN)
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{median / medians['MOABB']:.2f}")
    return table


if __name__ == "__main__":
    mne.set_log_level("ERROR")
    warnings.simplefilter("ignore")
    main()
