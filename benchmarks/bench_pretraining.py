"""Speed and memory of pre-training, and of reading the windows for it.

    python benchmarks/bench_pretraining.py
    python benchmarks/bench_pretraining.py --parts objectives --device cuda
    python benchmarks/bench_pretraining.py --parts leave-one-out --epochs 10

Four parts, each a table:

* ``reading``: an epoch of shuffled windows of 32 channels and 128 samples, in batches
  of 256, from a memory-mapped array, compared with an LMDB of one pickle per window,
  read and stacked one at a time as a data loader does it (``pip install lmdb``);
* ``step``: a training step of SCMM on 256 windows of 62 channels and 5 bands, with the
  optimiser, compared with the same step with one (rows, rows, features) tensor for the
  distances of all pairs;
* ``objectives``: for each objective, with its model in full size, windows per second
  and peak memory of training, and the share of time spent waiting for windows, which
  are read from a memory-mapped file; on a GPU also in bfloat16 and compiled;
* ``leave-one-out``: total time of pre-training and fine-tuning SCMM within each of 15
  folds, with as many windows as SEED has in DE form (15 subjects, 3 sessions).

Times are medians of interleaved rounds. Memory is that of a fresh process: on the CPU
the peak resident memory minus that before the first step (only on Linux), on a GPU the
memory that torch has allocated. The windows are noise, which does not affect the cost.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

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
OBJECTIVES = ("SCMM", "MEMHACL", "MaskedClusterTransformer", "MoodReader")


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parts = {
        "reading": measure_reading,
        "step": measure_step,
        "objectives": measure_objectives,
        "leave-one-out": measure_leave_one_out,
    }
    parser.add_argument("--parts", nargs="+", choices=parts, default=[*parts])
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument(
        "--epochs",
        type=int,
        default=1,
        help="epochs of each part of a fold (default 1)",
    )
    options = parser.parse_args()
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
        *("windows/s", "waiting for windows", "peak MiB"),
        title=f"objectives on {options.device}",
        box=MARKDOWN,
    )
    ways = [(None, False)]
    if options.device != "cpu":
        ways += [("bf16", False), (None, True), ("bf16", True)]
    for name in OBJECTIVES:
        for precision, compiled in ways:
            context = get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                row = pool.submit(
                    train, name, options.device, precision, compiled, options.rounds
                ).result()
            numbers = f"{precision or 'float32'}{', compiled' if compiled else ''}"
            shape, batch, size, rate, waiting, peak = row
            table.add_row(
                name,
                shape,
                str(batch),
                f"{size / 1e6:.1f}",
                numbers,
                f"{rate:,.0f}",
                f"{waiting:.1%}",
                f"{peak / MIB:,.0f}",
            )
    return table


def make_objective(name: str):
    """Return an objective of full size, the shape of its windows and a batch size."""
    montage = mne.channels.make_standard_montage("standard_1005")
    names = [*montage.ch_names[:32]]
    info = mne.create_info(names, 128.0, "eeg").set_montage(montage)
    if name == "SCMM":
        model = SCMM(n_outputs=3, n_chans=62, n_times=5, input_domain="de")
        return SCMMPretraining(model), (62, 5), 256
    if name == "MEMHACL":
        # Items of four windows.
        model = MEMHACL(n_outputs=4, chs_info=info["chs"], n_times=128, sfreq=128)
        return MEMHACLPretraining(model), (4, 32, 128), 8
    if name == "MaskedClusterTransformer":
        model = MaskedClusterTransformer(
            n_outputs=4, n_chans=32, n_times=512, sfreq=128
        )
        return MaskedClusterPretraining(model), (32, 512), 32
    model = MoodReader(n_outputs=4, chs_info=info["chs"], n_times=512, sfreq=128)
    return MoodReaderPretraining(model), (32, 512), 32


def train(name: str, device: str, precision, compiled: bool, n_rounds: int):
    """Measure the values of one row of the table in this process."""
    torch.manual_seed(0)
    objective, shape, batch_size = make_objective(name)
    n_batches = 4 if device == "cpu" else 30
    n_windows = n_batches * batch_size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "X.npy")
        np.save(
            path,
            np.random.default_rng(0)
            .normal(size=(n_windows, *shape))
            .astype(np.float32),
        )
        X = np.load(path, mmap_mode="r")
        n_of_epoch = X.size // np.prod(shape[-2:])  # each window of a group counts
        pretrainer = _Timed(
            objective,
            sampler=None,  # the windows of MEMHACL are grouped already
            max_epochs=1 + n_rounds,
            batch_size=batch_size,
            device=device,
            precision=precision,
            compile=compiled,
            random_state=0,
        )
        before = _start_memory(device)
        pretrainer.fit(X)
        peak = _peak_memory(device) - before
    # The first epoch warms up.
    total = statistics.median(pretrainer.history[1:, "dur"])
    waiting = statistics.median(pretrainer.waiting_[1:])
    size = sum(p.numel() for p in objective.parameters())
    text = " x ".join(map(str, shape))
    return text, batch_size, size, n_of_epoch / total, waiting / total, peak


def measure_leave_one_out(options) -> Table:
    """Return the time of 15 folds that pre-train and fine-tune."""
    rng = np.random.default_rng(0)
    n_of_subject = N_SESSIONS * N_SECONDS
    X = rng.normal(size=(N_SUBJECTS * n_of_subject, 62, 5)).astype(np.float32)
    y = rng.integers(0, 3, len(X))
    subjects = np.repeat(np.arange(N_SUBJECTS), n_of_subject)
    classifier = SSLClassifier(
        "SCMM",
        model__input_domain="de",
        pretrain_epochs=options.epochs,
        finetune_epochs=options.epochs,
        batch_size=BATCH_SIZE,
        device=options.device,
        random_state=0,
    )
    start = time.perf_counter()
    for subject in range(N_SUBJECTS):
        train, test = subjects != subject, subjects == subject
        classifier.fit(X[train], y[train]).predict(X[test])
    minutes = (time.perf_counter() - start) / 60
    table = Table(
        *("folds", "windows", "epochs of pre-training and fine-tuning", "minutes"),
        title=f"leave one subject out, SCMM on {options.device}",
        box=MARKDOWN,
    )
    epochs = f"{options.epochs} + {options.epochs}"
    table.add_row(str(N_SUBJECTS), f"{len(X):,}", epochs, f"{minutes:.1f}")
    return table


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
