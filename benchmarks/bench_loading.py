"""Time and memory of loading a corpus, against plain scripts and reading alone.

    OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 python benchmarks/bench_loading.py
    python benchmarks/bench_loading.py --folder /scratch/replicas --rounds 5

The script writes one session of SEED (15 films, 62 channels) and two subjects of DEAP
(40 videos each) as replicas of full size, about 0.6 GB, into ``--folder``, which is
kept and reused, or a temporary folder. Each measurement runs in a fresh interpreter;
the table has the medians of interleaved rounds. Times are of CPU. Ratios are to
reading the files alone, by SciPy or Python's unpickler. The plain
scripts load whole files and use the same filter and features. Peak memory is that of
the process minus its memory after the imports; "/ session" divides it by the float64
bytes of the largest recording session. If torcheeg is installed, its building of an
LMDB of DEAP's windows is timed too.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

# The rest is imported where it is used: Linux counts the peak memory of a process from
# that of its parent, so that this one must stay small.

WINDOW, FMIN, FMAX = 1.0, 0.5, 47.0
AS_IS = {"fmin": None, "fmax": None, "resample": None}
N_CHANS, SFREQ, FILM_SECONDS = 62, 200, 3394
N_DEAP_VALUES = 40 * 40 * 8064  # videos, channels, samples
SESSION_BYTES = {
    "SEED": 8 * N_CHANS * (SFREQ * FILM_SECONDS + 15),
    "DEAP": 8 * N_DEAP_VALUES,
}
REPLICAS = {
    "SEED": {"subjects": [1], "sessions": [0]},
    "DEAP": {"subjects": [1, 2]},
}
# The most that a row may take: what, relative to which row (None: in itself), how much.
TARGETS = {
    "SEED: DE, filter": ("seconds", "SEED: reading alone", 1.6),
    "DEAP: DE": ("seconds", None, 1.3),
    "DEAP: raw windows": ("seconds", None, 1.31),
}
PEAK_TARGET = 1.5  # sessions of SEED


def main() -> None:
    """Write the replicas, measure in interleaved rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="folder for the replicas")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, but got {options.rounds}")
    console = Console()
    with tempfile.TemporaryDirectory() as scratch, Progress(console=console) as bar:
        root = options.folder or Path(scratch)
        n_steps = options.rounds * len(MEASURES) + 1
        step = bar.add_task("writing the replicas", total=n_steps)
        _in_fresh_process(_write_replicas, root)
        found: dict[str, list] = {name: [] for name in MEASURES}
        for _ in range(options.rounds):
            for name, measure in MEASURES.items():
                bar.update(step, advance=1, description=name)
                found[name].append(_in_fresh_process(_measured, measure, root))
        bar.update(step, advance=1, description="done")
    _check_same_features(found["SEED: DE, filter"], found["SEED: plain script"])
    _check_same_features(found["DEAP: DE"], found["DEAP: plain script"])
    console.print(_make_table(found))
    for name, (what, other, most) in TARGETS.items():
        value = _median(found[name], what)
        value /= 1 if other is None else _median(found[other], what)
        unit = "s of CPU" if other is None else f"times {other}"
        verdict = "met" if value <= most else "MISSED"
        console.print(f"{name}: at most {most} {unit}: {verdict} ({value:.2f}).")
    peak = _median(found["SEED: DE, filter"], "peak") / SESSION_BYTES["SEED"]
    verdict = "met" if peak <= PEAK_TARGET else "MISSED"
    console.print(f"SEED: peak / session <= {PEAK_TARGET}: {verdict} ({peak:.2f}).")


def _write_replicas(root: Path) -> None:
    from braindecode_emossl.datasets import write_replica

    for corpus, options in REPLICAS.items():
        write_replica(corpus, root, **options, seconds=None, seed=0)


# -- what is measured ----------------------------------------------------------


def _emotion(corpus: str, options: dict, root: Path) -> Callable:
    import scipy.signal  # noqa: F401

    from braindecode_emossl import datasets
    from braindecode_emossl.paradigms import Emotion

    make = partial(getattr(datasets, corpus), path=root, **REPLICAS[corpus])
    paradigm = Emotion(window=WINDOW, **options)
    return lambda: paradigm.get_data(make())[0]


def _seed_plain(root: Path) -> Callable:
    """Load whole files, all trials in memory, then features trial by trial."""
    from scipy.io import loadmat

    to_features = _make_plain_features(SFREQ)

    def run():
        trials = []
        for file in _seed_files(root):
            arrays = loadmat(file)
            names = [name for name in arrays if "_eeg" in name]
            names.sort(key=lambda name: int(name.partition("_eeg")[2]))
            trials += [arrays[name][:, :-1] for name in names]
        return to_features(trials)

    return run


def _deap_plain(root: Path) -> Callable:
    import pickle

    import numpy as np

    to_features = _make_plain_features(128, start=3 * 128, fmin=None, fmax=None)

    def run():
        features = []
        for file in sorted(root.rglob("s*.dat")):
            with file.open("rb") as stream:
                data = pickle.load(stream, encoding="latin1")["data"]
            features.append(to_features(data[:, :32]))
        return np.concatenate(features)

    return run


def _seed_read(root: Path) -> Callable:
    from scipy.io import loadmat

    files = _seed_files(root)
    return lambda: [loadmat(file) for file in files]


def _deap_read(root: Path) -> Callable:
    import pickle

    def run():
        for file in sorted(root.rglob("s*.dat")):
            with file.open("rb") as stream:
                pickle.load(stream, encoding="latin1")

    return run


def _deap_torcheeg(root: Path) -> Callable:
    from torcheeg import transforms
    from torcheeg.datasets import DEAPDataset

    folder = next(root.rglob("s01.dat")).parent

    def run():
        with tempfile.TemporaryDirectory() as scratch:
            DEAPDataset(
                root_path=str(folder),
                io_path=scratch,
                chunk_size=128,
                offline_transform=transforms.BandDifferentialEntropyV1(
                    sampling_rate=128
                ),
                num_worker=0,
                verbose=False,
            )

    return run


MEASURES = {
    "SEED: DE, filter": partial(
        _emotion, "SEED", {"fmin": FMIN, "fmax": FMAX, "features": "de"}
    ),
    "SEED: DE": partial(_emotion, "SEED", {**AS_IS, "features": "de"}),
    "SEED: raw windows": partial(_emotion, "SEED", AS_IS),
    "SEED: plain script": _seed_plain,
    "SEED: reading alone": _seed_read,
    "DEAP: DE": partial(_emotion, "DEAP", {**AS_IS, "features": "de"}),
    "DEAP: raw windows": partial(_emotion, "DEAP", AS_IS),
    "DEAP: plain script": _deap_plain,
    "DEAP: reading alone": _deap_read,
}
if find_spec("torcheeg"):
    MEASURES["DEAP: torcheeg"] = _deap_torcheeg


def _seed_files(root: Path) -> list[Path]:
    return sorted(root.rglob("Preprocessed_EEG/1_*.mat"))


def _make_plain_features(sfreq, start=0, fmin=FMIN, fmax=FMAX):
    """Return a function from trials in microvolts to features.

    Written without the package's loaders, but with the same filter and features
    ``(n_windows, n_chans, n_bands)``.
    """
    import numpy as np
    from mne.filter import filter_data

    from braindecode_emossl.features import DifferentialEntropy

    extractor = DifferentialEntropy(sfreq, flatten=False)
    n_window = round(WINDOW * sfreq)

    def run(trials):
        features = []
        for trial in trials:
            if (fmin, fmax) != (None, None):
                trial = filter_data(
                    trial, sfreq, fmin, fmax, method="iir", verbose=False
                )
            n_windows = (trial.shape[1] - start) // n_window
            trial = trial[:, start : start + n_windows * n_window]
            windows = trial.reshape(len(trial), n_windows, n_window).swapaxes(0, 1)
            features.append(extractor.transform(windows))
        return np.concatenate(features)

    return run


# -- how it is measured --------------------------------------------------------


def _in_fresh_process(function, *arguments):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _measured(measure: Callable, root: Path) -> dict:
    """Return seconds, peak bytes over the imports and a summary of the result."""
    import logging

    import numpy as np

    logging.disable(logging.WARNING)
    run = measure(root)  # imports all it needs
    before = _peak_bytes()
    start = time.process_time()
    result = run()
    seconds = time.process_time() - start
    peak = _peak_bytes() - before
    is_array = isinstance(result, np.ndarray)
    means = np.mean(result, axis=(0, 1)).tolist() if is_array else []
    return {"seconds": seconds, "peak": peak, "means": means}


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _check_same_features(ours: list, plain: list) -> None:
    """Raise if the two ways do not give the same features, band by band."""
    for a, b in zip(ours[0]["means"], plain[0]["means"], strict=True):
        if not math.isclose(a, b, rel_tol=1e-6):
            raise RuntimeError(f"The features must be the same, but got {a} and {b}.")


def _median(found: list, what: str) -> float:
    return statistics.median(one[what] for one in found)


def _make_table(found: dict[str, list]) -> Table:
    n_rounds = len(next(iter(found.values())))
    table = Table(
        title=f"Loading corpora of full size, {n_rounds} rounds, "
        f"braindecode-emossl {version('braindecode-emossl')}"
    )
    table.add_column("what", no_wrap=True)
    for name in ("CPU (s)", "peak (MB)", "/ session", "time ratio"):
        table.add_column(name, justify="right")
    for corpus in SESSION_BYTES:
        reading = _median(found[f"{corpus}: reading alone"], "seconds")
        for name in (name for name in found if name.startswith(corpus)):
            seconds, peak = (_median(found[name], k) for k in ("seconds", "peak"))
            table.add_row(
                name,
                f"{seconds:.2f}",
                f"{peak / 1e6:.0f}",
                f"{peak / SESSION_BYTES[corpus]:.2f}",
                f"{seconds / reading:.2f}",
            )
        table.add_section()
    return table


if __name__ == "__main__":
    main()
