"""Cost of evaluate() against a bare scikit-learn loop, on SEED-sized features.

    python benchmarks/bench_evaluation.py
    python benchmarks/bench_evaluation.py --rounds 5 --parts time
    python benchmarks/bench_evaluation.py --parts jobs load

Tables, each from one run:

* time and memory: leave-one-subject-out of evaluate() and of a loop over the same
  folds that fits the same pipeline and predicts each test subject, on 152,730 windows
  of differential entropy (15 subjects, 3 sessions of 15 films, 62 channels, 5 bands).
  Each run has a fresh interpreter. Time is CPU time and wall-clock time, medians of
  interleaved rounds; memory is the peak beyond the loaded array, as a fraction of it;
* jobs: wall-clock time of ``n_jobs=2`` against 1, with folds that take about ten
  seconds (they wait, so that other work on the machine does not count) and with folds
  that take less than a worker's start;
* load: peak memory of loading full-length replicas of SEED. What a further subject
  adds is extrapolated to all 15. Replicas take about 0.6 GB a subject.
* resume: CPU time of a call that only gathers 15 finished folds of 152,730 windows;
* audit: CPU time of audit() on one subject of SEED at full length, with the
  differential entropy of 1-s windows, and of loading the same windows once;
* raw: peak of anonymous memory, which the system cannot drop as it can pages of files,
  of one fold of SCMM, and of differential entropy with logistic regression, on raw
  signals of ``--subjects`` subjects (at least 3), as a multiple of one subject's
  windows in float32. The signals are mapped from files, or all in memory.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import mne
import numpy as np
from mne.decoding import Vectorizer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_emossl.datasets import SEED, write_replica
from braindecode_emossl.evaluation import audit, evaluate, mapped, with_baselines
from braindecode_emossl.evaluation.baselines import DE_BASELINE
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import SSLClassifier

N_SUBJECTS = 15
# Seconds of the 15 films, cut to the 3,394 windows that a session of SEED has.
SECONDS = [235, 233, 206, 238, 185, 195, 237, 216, 265, 237, 235, 233, 235, 238, 206]
MIB = 2**20


class Stored(Emotion):
    """Windows of one second whose features are in memory already."""

    windows: tuple = ()

    def get_data(self, dataset, subjects=None, **kwargs):
        """Return the stored windows of all subjects."""
        return Stored.windows


def make_windows(corpus: SEED) -> tuple:
    """Return random features with the trials of a corpus, at SEED's real length."""
    paradigm = Emotion(window=1.0, features="de")
    trials = paradigm.label_trials(corpus)
    n_windows = np.resize(SECONDS, len(trials))
    rows = np.repeat(np.arange(len(trials)), n_windows)
    metadata = trials.iloc[rows].reset_index(drop=True)
    metadata["window"] = np.concatenate([np.arange(n) for n in n_windows])
    y = metadata.pop("label").to_numpy(str)
    X = np.random.default_rng(0).normal(size=(len(rows), 62, 5))
    return X, y, metadata


def make_pipeline_() -> BaseEstimator:
    """Return a pipeline that costs little, so that all else shows."""
    return make_pipeline(Vectorizer(), StandardScaler(), GaussianNB())


def run_evaluate(root: Path) -> tuple[float, ...]:
    """Evaluate, and return CPU time, wall-clock time and peak in arrays."""
    corpus = SEED(path=root)
    Stored.windows = make_windows(corpus)
    paradigm = Stored(window=1.0, features="de")
    with measure(Stored.windows[0]) as found:
        evaluate({"NB": make_pipeline_()}, [corpus], paradigm, "leave-one-subject-out")
    return tuple(found)


def run_loop(root: Path) -> tuple[float, ...]:
    """Run the bare loop, and return CPU time, wall-clock time and peak in arrays."""
    X, y, metadata = make_windows(SEED(path=root))
    subjects, sessions = (metadata[k].to_numpy() for k in ("subject", "session"))
    with measure(X) as found:
        for subject in np.unique(subjects):
            train = subjects != subject
            pipeline = clone(make_pipeline_()).fit(X[train], y[train])
            for session in np.unique(sessions):
                test = ~train & (sessions == session)
                pipeline.predict_proba(X[test])
                pipeline.score(X[test], y[test])
    return tuple(found)


class measure:
    """Measure a block: CPU time, wall-clock time, peak beyond now in arrays like X."""

    def __init__(self, X):
        self.size = X.nbytes

    def __enter__(self) -> list[float]:
        """Start."""
        self.found: list[float] = []
        self.before = peak()
        self.start = time.process_time(), time.perf_counter()
        return self.found

    def __exit__(self, *error):
        """Stop."""
        cpu, wall = self.start
        self.found += [time.process_time() - cpu, time.perf_counter() - wall]
        self.found.append((peak() - self.before) / self.size)


def peak() -> int:
    """Return the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_fresh_process(function, *arguments):
    """Call a function where nothing has been in memory before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def compare(folder: Path, n_rounds: int) -> Table:
    """Return medians of interleaved rounds."""
    root = write_short(folder, N_SUBJECTS)
    runs: dict = {"bare loop": [], "evaluate()": []}
    for _ in range(n_rounds):
        for name, function in zip(runs, (run_loop, run_evaluate), strict=True):
            runs[name].append(in_fresh_process(function, root))
    medians = {
        name: [statistics.median(values) for values in zip(*found, strict=True)]
        for name, found in runs.items()
    }
    table = Table(
        "152,730 windows, 15 folds", "CPU s", "wall s", "peak / array", box=MARKDOWN
    )
    for name, (cpu, wall, memory) in medians.items():
        table.add_row(name, f"{cpu:.1f}", f"{wall:.1f}", f"{memory:.2f}")
    ours, bare = medians["evaluate()"], medians["bare loop"]
    table.add_row(
        "ratio; difference of peaks",
        *(f"{ours[i] / bare[i]:.2f}" for i in (0, 1)),
        f"{ours[2] - bare[2]:+.2f}",
    )
    return table


def write_short(folder: Path, n_subjects: int) -> Path:
    """Write a replica with the trials of SEED, each of one second."""
    subjects = list(range(1, n_subjects + 1))
    return write_replica("SEED", folder, subjects=subjects, seconds=1, seed=0)


class Waits(ClassifierMixin, BaseEstimator):
    """A classifier whose fit takes a given time."""

    def __init__(self, seconds=1.0):
        self.seconds = seconds

    def fit(self, X, y):
        """Wait."""
        time.sleep(self.seconds)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        """Predict the first class."""
        return np.full(len(X), self.classes_[0])


def compare_jobs(folder: Path) -> Table:
    """Return wall-clock times of leave-one-subject-out with one and two jobs."""
    corpus = SEED(path=write_short(folder, N_SUBJECTS))
    paradigm = Emotion(window=1.0, features="de")
    table = Table("15 folds", "n_jobs=1", "n_jobs=2", "ratio", box=MARKDOWN)
    for seconds in (10.0, 0.1):
        found = []
        for n_jobs in (1, 2):
            start = time.perf_counter()
            evaluate(
                {"waits": Waits(seconds)},
                [corpus],
                paradigm,
                "leave-one-subject-out",
                n_jobs=n_jobs,
            )
            found.append(time.perf_counter() - start)
        table.add_row(
            f"of {seconds:g} s",
            *(f"{value:.1f}" for value in found),
            f"{found[0] / found[1]:.2f}",
        )
    return table


def measure_loading(folder: Path, counts: list[int]) -> Table:
    """Return the peak memory of loading, measured and extrapolated."""
    numbers = list(range(1, max(counts) + 1))
    write_replica("SEED", folder, subjects=numbers, seconds=None, seed=0)
    table = Table("subjects", "X (MiB)", "peak beyond imports (MiB)", box=MARKDOWN)
    loaded = [in_fresh_process(load, folder, n) for n in counts]
    sizes, peaks = zip(*loaded, strict=True)
    for count, size, most in zip(counts, sizes, peaks, strict=True):
        table.add_row(str(count), f"{size:.0f}", f"{most:.0f}")
    step = (peaks[1] - peaks[0]) / (counts[1] - counts[0])
    size = sizes[1] / counts[1] * N_SUBJECTS
    most = peaks[1] + step * (N_SUBJECTS - counts[1])
    table.add_row(f"{N_SUBJECTS}, extrapolated", f"{size:.0f}", f"{most:.0f}")
    return table


def load(folder: Path, n_subjects: int) -> tuple[float, float]:
    """Return size of X and peak of memory beyond what the imports took, in MiB."""
    before = peak()
    corpus = SEED(list(range(1, n_subjects + 1)), path=folder)
    X, _, _ = Emotion(window=1.0, features="de").get_data(corpus)
    return X.nbytes / MIB, (peak() - before) / MIB


def run_resume(root: Path, folder: Path) -> float:
    """Return the CPU time of gathering finished folds."""
    corpus = SEED(path=root)
    paradigm = Stored(window=1.0, features="de")
    arguments = [{"NB": make_pipeline_()}, [corpus], paradigm, "leave-one-subject-out"]
    how = {"results_dir": folder, "random_state": 0}
    if not folder.exists():
        Stored.windows = make_windows(corpus)
        evaluate(*arguments, **how)
    evaluate(*arguments, **how)  # imports what is needed
    start = time.process_time()
    evaluate(*arguments, **how)
    return time.process_time() - start


def measure_resume(folder: Path, n_rounds: int) -> Table:
    """Return the median time of gathering finished folds."""
    root = write_short(folder / "SEED", N_SUBJECTS)
    found = [
        in_fresh_process(run_resume, root, folder / "results") for _ in range(n_rounds)
    ]
    table = Table("15 finished folds, 152,730 windows", "CPU s", box=MARKDOWN)
    table.add_row("gather", f"{statistics.median(found):.2f}")
    return table


def measure_audit(folder: Path) -> Table:
    """Return the times of an audit and of loading."""
    write_replica("SEED", folder, subjects=[1], seconds=None, seed=0)
    corpus = SEED([1], path=folder)
    paradigm = Emotion(window=1.0, features="de")
    table = Table("one subject of SEED, 10,182 windows", "CPU s", box=MARKDOWN)
    for name, function in (
        ("load", lambda: paradigm.get_data(corpus)),
        ("audit", lambda: audit(paradigm, corpus, "within-session", random_state=0)),
    ):
        start = time.process_time()
        function()
        table.add_row(name, f"{time.process_time() - start:.1f}")
    return table


class AnonymousPeak(threading.Thread):
    """Look every few milliseconds how much memory cannot be dropped."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.before = self.most = self.read()

    @staticmethod
    def read() -> int:
        """Return the anonymous memory of this process in bytes."""
        status = Path("/proc/self/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) * 1024

    def run(self):
        """Look."""
        while not self.stopped.wait(0.003):
            self.most = max(self.most, self.read())


def run_raw(
    folder: Path, n_subjects: int, name: str, limit: float, n_labeled: int | None = None
) -> tuple[int, float]:
    """Return the peak of anonymous memory of one fold, and a subject's windows."""
    mapped.LARGE = limit
    corpus = SEED(list(range(1, n_subjects + 1)), path=folder)
    ssl = SSLClassifier("SCMM", pretrain_steps=2, finetune_steps=2, random_state=0)
    pipelines = {"SCMM": ssl, DE_BASELINE: with_baselines({"SCMM": ssl})[DE_BASELINE]}
    paradigm = Emotion(fmin=None, fmax=None, window=1.0)
    n_train = n_subjects - 2
    peak = AnonymousPeak()
    peak.start()
    evaluate(
        {name: pipelines[name]},
        [corpus],
        paradigm,
        "subject-split",
        train=n_train,
        validation=1,
        test=1,
        random_state=0,
        n_labeled_trials=n_labeled,
    )
    peak.stopped.set()
    lengths = paradigm.label_trials(corpus, [1])["length"]
    return peak.most - peak.before, lengths.sum() * 200 * 62 * 4


def measure_raw(folder: Path, counts: list[int], seconds: float) -> Table:
    """Return peaks of folds on raw signals, mapped and in memory."""
    numbers = list(range(1, max(counts) + 1))
    write_replica("SEED", folder, subjects=numbers, seconds=seconds, seed=0)
    columns = [f"{count} subjects" for count in counts]
    table = Table("peak / windows of a subject", *columns, "a subject", box=MARKDOWN)
    for name in ("SCMM", DE_BASELINE):
        for where, limit in (("mapped", 0), ("in memory", np.inf)):
            peaks = [
                in_fresh_process(run_raw, folder, count, name, limit)
                for count in counts
            ]
            found = [peak / subject for peak, subject in peaks]
            step = (found[-1] - found[0]) / (counts[-1] - counts[0])
            cells = [f"{value:.1f}" for value in found]
            table.add_row(f"{name}, {where}", *cells, f"{step:+.2f}")
    return table


def measure_whole_raw(folder: Path, n_subjects: int) -> Table:
    """Return peaks of folds on raw signals of full length, as they are by default."""
    numbers = list(range(1, n_subjects + 1))
    write_replica("SEED", folder, subjects=numbers, seconds=None, seed=0)
    columns = ("all labelled (GiB)", "a trial per class labelled (GiB)")
    table = Table(f"raw signals of {n_subjects} subjects", *columns, box=MARKDOWN)
    for name in (DE_BASELINE, "SCMM"):
        peaks = [
            in_fresh_process(run_raw, folder, n_subjects, name, mapped.LARGE, n_labeled)
            for n_labeled in (None, 1)
        ]
        table.add_row(name, *(f"{peak / 2**30:.1f}" for peak, _ in peaks))
    return table


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument(
        "--parts",
        nargs="+",
        default=["time", "jobs"],
        choices=["time", "jobs", "load", "resume", "audit", "raw", "raw-whole"],
    )
    parser.add_argument("--subjects", type=int, nargs=2, default=[1, 2])
    parser.add_argument(
        "--seconds", type=float, default=20, help="of each film for raw (default 20)"
    )
    options = parser.parse_args()
    parts = {
        "time": lambda folder: compare(folder, options.rounds),
        "jobs": compare_jobs,
        "load": lambda folder: measure_loading(folder, options.subjects),
        "resume": lambda folder: measure_resume(folder, options.rounds),
        "audit": measure_audit,
        "raw": lambda folder: measure_raw(folder, options.subjects, options.seconds),
        "raw-whole": lambda folder: measure_whole_raw(folder, options.subjects[-1]),
    }
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            console.print(parts[part](Path(folder, part)))


if __name__ == "__main__":
    mne.set_log_level("ERROR")
    warnings.simplefilter("ignore")
    main()
