"""Speed and memory of pre-training, and of reading the windows for it.

    python benchmarks/bench_pretraining.py
    python benchmarks/bench_pretraining.py --device cuda --parts objectives side-by-side
    python benchmarks/bench_pretraining.py --parts leave-one-out --jobs 2

Five parts, each a table:

* ``reading``: an epoch of shuffled windows of 32 channels and 128 samples, in batches
  of 256, from a memory-mapped array, compared with an LMDB of one pickle per window,
  read and stacked one at a time as a data loader does it (``pip install lmdb``);
* ``step``: a training step of SCMM on 256 windows of 62 channels and 5 bands, with the
  optimizer, compared with the same step with one (rows, rows, features) tensor for the
  distances of all pairs;
* ``objectives``: for each objective, with its model in full size, time of a step, the
  share of it that the GPU is idle (no kernel runs), and peak memory; on a GPU also in
  bfloat16, and compiled with CUDA graphs;
* ``side-by-side``: steps per second of SCMM in one and in two processes at once;
* ``leave-one-out``: total time of pre-training and fine-tuning SCMM within each of 15
  folds, with as many windows as SEED has in DE form (15 subjects, 3 sessions).

Times are medians of interleaved rounds. Memory is that of a fresh process: on the CPU
the peak resident memory minus that before the first step (only on Linux), on a GPU the
memory that torch has allocated. The windows are noise, which does not affect the cost.
``--smoke`` uses tiny sizes: it shows that the script runs, and measures nothing.
"""

from __future__ import annotations

import argparse
import math
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import mne
import numpy as np
import torch
from bench_losses import MIB, expanded
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader, Dataset

from braindecode_emossl.models import (
    MEMHACL,
    SCMM,
    MaskedClusterTransformer,
    MoodReader,
)
from braindecode_emossl.pretraining import (
    MaskedClusterPretraining,
    MEMHACLPretraining,
    MoodReaderPretraining,
    SCMMPretraining,
    SSLClassifier,
    SSLPretrainer,
)
from braindecode_emossl.pretraining.windows import WindowDataset, gather_windows

BATCH_SIZE = 256
#: Windows of SEED in DE form: seconds of the 15 films, of each session and subject.
N_SUBJECTS, N_SESSIONS, N_SECONDS = 15, 3, 3394
WAYS = {
    "float32": {},
    "bf16": {"precision": "bf16"},
    "float32, compiled": {"compile": True, "compile__mode": "reduce-overhead"},
}
#: Batches that a GPU is given; of MEMHACL in items of four windows.
LARGE_BATCHES = {
    "SCMM": 256,
    "MEMHACL": 32,
    "MaskedClusterTransformer": 128,
    "MoodReader": 128,
}
OBJECTIVES = tuple(LARGE_BATCHES)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parts = {
        "reading": measure_reading,
        "step": measure_step,
        "objectives": measure_objectives,
        "side-by-side": measure_side_by_side,
        "leave-one-out": measure_leave_one_out,
    }
    parser.add_argument("--parts", nargs="+", choices=parts, default=[*parts])
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument(
        "--steps",
        type=int,
        nargs=2,
        default=(2000, 500),
        metavar=("PRETRAIN", "FINETUNE"),
        help="steps of each fold (default 2000 500)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="folds at once (default 1)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.steps = 1, (4, 2)
    for part in options.parts:
        Console(width=130).print(parts[part](options))


def measure_reading(options) -> Table:
    """Return windows per second of a memory-mapped file and of an LMDB of pickles."""
    import lmdb

    table = Table(*("reader", "windows/s", "ratio"), title="reading", box=MARKDOWN)
    X = np.random.default_rng(0).normal(size=(20_000, 32, 128)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "X.npy"), X)
        mapped = gather_windows(np.load(Path(folder, "X.npy"), mmap_mode="r"))
        with lmdb.open(f"{folder}/lmdb", map_size=2**32) as store:
            with store.begin(write=True) as transaction:
                for i, window in enumerate(X.astype(np.float64)):
                    transaction.put(str(i).encode(), pickle.dumps(window))
            loaders = {
                "LMDB, one pickle per window": DataLoader(
                    _Pickles(store, len(X)), BATCH_SIZE, shuffle=True
                ),
                "memory-mapped file": DataLoader(
                    mapped, BATCH_SIZE, shuffle=True, collate_fn=WindowDataset.collate
                ),
            }
            rates = {name: [] for name in loaders}
            for _ in range(options.rounds):
                for name, loader in loaders.items():
                    start = time.perf_counter()
                    n_read = sum(len(windows) for windows, _ in loader)
                    rates[name].append(n_read / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    slow = medians["LMDB, one pickle per window"]
    for name, rate in medians.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / slow:.1f}")
    return table


def measure_step(options) -> Table:
    """Return the time of a step of SCMM and of one with the expanded loss."""
    torch.manual_seed(0)
    model = SCMM(n_outputs=3, n_chans=62, n_times=5, input_domain="de")
    objectives = {"ours": SCMMPretraining(model), "expanded": SCMMPretraining(model)}
    objectives["expanded"].contrastive_loss = _Expanded()
    x = torch.rand(BATCH_SIZE, 62, 5)
    seconds = {name: [] for name in objectives}
    optimizers = {
        name: torch.optim.AdamW(objective.parameters())
        for name, objective in objectives.items()
    }
    for _ in range(options.rounds + 1):
        for name, objective in objectives.items():
            start = time.perf_counter()
            optimizers[name].zero_grad()
            objective(x).loss.backward()
            optimizers[name].step()
            seconds[name].append(time.perf_counter() - start)
    # The first round warms up.
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    table = Table(*("step", "ms", "ratio"), title="step of SCMM", box=MARKDOWN)
    for name, value in medians.items():
        ratio = medians["expanded"] / value
        table.add_row(name, f"{1000 * value:.1f}", f"{ratio:.1f}")
    return table


def measure_objectives(options) -> Table:
    """Return speed and memory of each objective."""
    table = Table(
        *("objective", "windows", "batch", "parameters (M)", "numbers"),
        *("ms/step", "windows/s", "waiting for windows", "GPU idle", "peak MiB"),
        title=f"objectives on {name_device(options.device)}",
        box=MARKDOWN,
    )
    for name in OBJECTIVES:
        for numbers in WAYS if options.device == "cuda" else ("float32",):
            with make_pool(1, options) as pool:
                run = pool.submit(train, name, numbers, options).result()
            # The table comes last, and compilation takes long.
            print(f"{name}, {numbers}: {run}", file=sys.stderr)
            table.add_row(
                name,
                " x ".join(map(str, run.shape)),
                str(run.batch_size),
                f"{run.n_parameters / 1e6:.1f}",
                numbers,
                f"{1000 * run.seconds:.2f}",
                f"{run.windows_per_second:,.0f}",
                f"{run.waiting:.1%}",
                "" if run.busy is None else f"{1 - run.busy / run.seconds:.0%}",
                f"{run.peak / MIB:,.0f}",
            )
    return table


def measure_side_by_side(options) -> Table:
    """Return the steps per second of SCMM in one process and in two."""
    table = Table(
        *("processes", "steps/s", "GPU idle"),
        title=f"SCMM side by side on {name_device(options.device)}",
        box=MARKDOWN,
    )
    for n_jobs in (1, 2):
        with make_barrier(n_jobs, options) as start, make_pool(n_jobs, options) as pool:
            runs = [
                pool.submit(train, "SCMM", "float32", options, start)
                for _ in range(n_jobs)
            ]
            runs = [run.result() for run in runs]
        rate = sum(1 / run.seconds for run in runs)
        busy = runs[0].busy
        if n_jobs == 1:
            busy_alone = busy
        idle = "" if busy is None else f"{1 - busy_alone * rate:.0%}"
        table.add_row(str(n_jobs), f"{rate:,.0f}", idle)
    return table


def make_pool(n_jobs: int, options) -> Executor:
    """Return fresh processes, or threads to try the script."""
    if options.smoke:
        return ThreadPoolExecutor(n_jobs)
    return ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn"))


@contextmanager
def make_barrier(n_jobs: int, options) -> Iterator:
    """Yield what lets the processes, or threads, of a pool wait for each other."""
    if options.smoke:
        yield Barrier(n_jobs)
    else:
        with get_context("spawn").Manager() as manager:
            yield manager.Barrier(n_jobs)


def make_objective(name: str):
    """Return an objective of full size, the shape of its windows and a batch size."""
    montage = mne.channels.make_standard_montage("colin27_1005")
    names = [*montage.ch_names[:32]]
    info = mne.create_info(names, 128.0, "eeg").set_montage(montage)
    if name == "SCMM":
        model = SCMM(n_outputs=3, n_chans=62, n_times=5, input_domain="de")
        return SCMMPretraining(model), (62, 5), 256
    if name == "MEMHACL":
        # Items of four windows.
        sizes = {"preset": "paper", "n_times": 128, "sfreq": 128}
        model = MEMHACL(n_outputs=4, chs_info=info["chs"], **sizes)
        return MEMHACLPretraining(model), (4, 32, 128), 8
    if name == "MaskedClusterTransformer":
        model = MaskedClusterTransformer(
            n_outputs=4, n_chans=32, n_times=512, sfreq=128
        )
        return MaskedClusterPretraining(model), (32, 512), 32
    model = MoodReader(n_outputs=4, chs_info=info["chs"], n_times=512, sfreq=128)
    return MoodReaderPretraining(model), (32, 512), 32


@dataclass
class Run:
    """What was measured of a training."""

    shape: tuple[int, ...]
    batch_size: int
    n_parameters: int
    seconds: float  # of a step
    windows_per_second: float
    waiting: float  # share of the time
    busy: float | None  # seconds of a step in which a kernel of the GPU runs
    peak: float  # bytes


def train(name: str, numbers: str, options, start=None) -> Run:
    """Train an objective in this process, and measure it."""
    torch.manual_seed(0)
    objective, shape, batch_size = make_objective(name)
    if options.smoke:
        batch_size = 2
    elif options.device != "cpu":
        batch_size = LARGE_BATCHES[name]
    n_batches = 4 if options.smoke or options.device == "cpu" else 60
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "X.npy")
        size = (n_batches * batch_size, *shape)
        X = np.random.default_rng(0).standard_normal(size, np.float32)
        np.save(path, X)
        pretrainer = _Timed(
            objective,
            sampler=None,  # the windows of MEMHACL are grouped already
            max_epochs=1 + options.rounds,
            batch_size=batch_size,
            device=options.device,
            random_state=0,
            **WAYS[numbers],
        )
        pretrainer.start = start
        before = _start_memory(options.device)
        pretrainer.fit(np.load(path, mmap_mode="r"))
        peak = _peak_memory(options.device) - before
    # The first epoch warms up.
    total = statistics.median(pretrainer.history[1:, "dur"])
    waiting = statistics.median(pretrainer.waiting_[1:])
    busy = None if options.device == "cpu" else _measure_busy(pretrainer, X)
    return Run(
        shape,
        batch_size,
        sum(p.numel() for p in objective.parameters()),
        total / n_batches,
        n_batches * batch_size * math.prod(shape[:-2]) / total,
        waiting / total,
        busy,
        peak,
    )


def _measure_busy(pretrainer, X) -> float:
    """Return the seconds of a step in which a kernel runs on the GPU."""
    pretrainer.set_params(max_epochs=1)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CUDA]
    ) as profile:
        pretrainer.partial_fit(X)
        torch.cuda.synchronize()
    total = sum(event.self_device_time_total for event in profile.key_averages())
    return 1e-6 * total / pretrainer.n_batches_


def name_device(device: str) -> str:
    """Return the name of the processor or of the card."""
    return device if device == "cpu" else torch.cuda.get_device_name()


def measure_leave_one_out(options) -> Table:
    """Return the time of 15 folds that pre-train and fine-tune."""
    n_subjects, n_seconds = (2, 8) if options.smoke else (N_SUBJECTS, N_SECONDS)
    n_of_subject = N_SESSIONS * n_seconds
    rng = np.random.default_rng(0)
    size = (n_subjects * n_of_subject, 62, 5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "X.npy")
        np.save(path, rng.standard_normal(size, np.float32))
        start = time.perf_counter()
        with make_pool(options.jobs, options) as pool:
            folds = [
                pool.submit(run_fold, path, subject, n_of_subject, options)
                for subject in range(n_subjects)
            ]
            for fold in folds:
                fold.result()
        minutes = (time.perf_counter() - start) / 60
    table = Table(
        *("folds", "at once", "windows", "steps", "minutes"),
        title=f"leave one subject out, SCMM on {name_device(options.device)}",
        box=MARKDOWN,
    )
    steps = " + ".join(map(str, options.steps))
    table.add_row(
        str(n_subjects), str(options.jobs), f"{size[0]:,}", steps, f"{minutes:.1f}"
    )
    return table


def run_fold(path: Path, subject: int, n_of_subject: int, options) -> None:
    """Pre-train and fine-tune without a subject, and predict its windows."""
    X = np.load(path)
    y = np.random.default_rng(0).integers(0, 3, len(X))
    test = np.arange(len(X)) // n_of_subject == subject
    pretrain_steps, finetune_steps = options.steps
    classifier = SSLClassifier(
        "SCMM",
        model__input_domain="de",
        pretrain_steps=pretrain_steps,
        finetune_steps=finetune_steps,
        device=options.device,
        random_state=0,
    )
    classifier.fit(X[~test], y[~test]).predict(X[test])


class _Pickles(Dataset):
    """Windows of an LMDB, read as in other toolboxes."""

    def __init__(self, store, n_windows: int):
        self.store = store
        self.n_windows = n_windows

    def __len__(self):
        return self.n_windows

    def __getitem__(self, index):
        with self.store.begin() as transaction:
            window = pickle.loads(transaction.get(str(index).encode()))
        return torch.tensor(window, dtype=torch.float32), index


class _Expanded(nn.Module):
    """The soft contrastive loss through one (rows, rows, features) tensor."""

    temperature = 0.5

    def forward(self, embeddings, inputs, n_views):
        """Return the loss, and the weights of rows in the reconstruction."""
        loss = expanded("cosine", embeddings, inputs.flatten(1))
        return loss, embeddings @ embeddings.T


class _Timed(SSLPretrainer):
    """Measure the time spent waiting for windows in each epoch."""

    def on_epoch_end(self, net, **kwargs):
        """After the first epoch, wait for the other processes that are measured."""
        super().on_epoch_end(net, **kwargs)
        if self.start is not None and len(self.history) == 1:
            self.start.wait()

    def get_iterator(self, dataset, training=False):
        """Return batches with timing."""
        self.waiting_ = []
        return _TimedBatches(super().get_iterator(dataset, training), self.waiting_)


class _TimedBatches:
    def __init__(self, batches, waiting: list[float]):
        self.batches = batches
        self.waiting = waiting

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        waited, start = 0.0, time.perf_counter()
        try:
            for batch in self.batches:
                waited += time.perf_counter() - start
                yield batch
                start = time.perf_counter()
        finally:  # an epoch may end before the loader does
            self.waiting.append(waited)


def _start_memory(device: str) -> float:
    """Reset the peak memory, and return the present memory in bytes."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return 0.0
    Path("/proc/self/clear_refs").write_text("5")
    return _read_status("VmRSS")


def _peak_memory(device: str) -> float:
    return (
        _read_status("VmHWM") if device == "cpu" else torch.cuda.max_memory_allocated()
    )


def _read_status(entry: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(entry):
            return 1024.0 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {entry}.")


if __name__ == "__main__":
    main()
