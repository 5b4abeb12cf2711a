"""Time and memory from the files of a corpus to features, against a plain script.

    python benchmarks/bench_loading.py
    python benchmarks/bench_loading.py --folder /scratch/replicas --rounds 5

The script writes one subject of SEED (three sessions of 15 films, 62 channels) and one
of DEAP (40 videos) as replicas of full size, about 1.2 GB, into ``--folder``, which is
kept and reused, or a temporary folder. Each measurement runs in a fresh interpreter.
Peak memory is that of the process minus its memory after the imports; "/ session"
divides it by the float64 bytes of the largest recording session. The ratios are to the
second row of each pair: a plain script with the same filter and features that loads
whole files, or reading all films of a file instead of one. The table has the medians of
interleaved rounds.
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
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

# The rest is imported where it is used: Linux counts the peak memory of a process from
# that of its parent, so that this one must stay small.

WINDOW, FMIN, FMAX = 1.0, 0.5, 47.0
N_CHANS, SFREQ, FILM_SECONDS = 62, 200, 3394
N_DEAP_VALUES = 40 * 40 * 8064  # videos, channels, samples
SESSION_BYTES = {
    "SEED": 8 * N_CHANS * (SFREQ * FILM_SECONDS + 15),
    "DEAP": 8 * N_DEAP_VALUES,
}
TARGET = 1.5


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
    for corpus in SESSION_BYTES:
        _check_same_features(found[f"{corpus}: Emotion"], found[f"{corpus}: plain"])
    console.print(_make_table(found))
    peak = _median(found["SEED: Emotion"], "peak") / SESSION_BYTES["SEED"]
    verdict = "met" if peak <= TARGET else "MISSED"
    console.print(
        f"Target for SEED, peak / session <= {TARGET}: {verdict} ({peak:.2f})."
    )


def _write_replicas(root: Path) -> None:
    from braindecode_emossl.datasets import write_replica

    for corpus in SESSION_BYTES:
        write_replica(corpus, root, subjects=[1], seconds=None, seed=0)


# -- what is measured ----------------------------------------------------------


def _seed_emotion(root: Path) -> Callable:
    from braindecode_emossl.datasets import SEED
    from braindecode_emossl.paradigms import Emotion

    paradigm = Emotion(window=WINDOW, fmin=FMIN, fmax=FMAX, features="de")
    return lambda: paradigm.get_data(SEED(subjects=[1], path=root))[0]


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


def _deap_emotion(root: Path) -> Callable:
    from braindecode_emossl.datasets import DEAP
    from braindecode_emossl.paradigms import Emotion

    paradigm = Emotion(
        window=WINDOW, fmin=FMIN, fmax=FMAX, resample=None, features="de"
    )
    return lambda: paradigm.get_data(DEAP(subjects=[1], path=root))[0]


def _deap_plain(root: Path) -> Callable:
    import pickle

    to_features = _make_plain_features(128, start=3 * 128)
    (file,) = root.rglob("s01.dat")

    def run():
        with file.open("rb") as stream:
            data = pickle.load(stream, encoding="latin1")["data"]
        return to_features(data[:, :32])

    return run


def _one_trial(root: Path) -> Callable:
    """Read film 15 as the loader does: find the variable, read only it."""
    from braindecode_emossl.datasets import SEED

    dataset, file = SEED(path=root), _seed_files(root)[0]
    return lambda: dataset._read_variable(file, dataset._find_variables(file)[15][0])


def _whole_file(root: Path) -> Callable:
    from scipy.io import loadmat

    file = _seed_files(root)[0]
    return lambda: loadmat(file)


MEASURES = {
    "SEED: Emotion": _seed_emotion,
    "SEED: plain": _seed_plain,
    "DEAP: Emotion": _deap_emotion,
    "DEAP: plain": _deap_plain,
    "SEED file: one film": _one_trial,
    "SEED file: all films": _whole_file,
}


def _seed_files(root: Path) -> list[Path]:
    return sorted(root.rglob("Preprocessed_EEG/1_*.mat"))


def _make_plain_features(sfreq, start=0):
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
            trial = filter_data(trial, sfreq, FMIN, FMAX, method="iir", verbose=False)
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
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    peak = _peak_bytes() - before
    means = np.mean(result, axis=(0, 1)).tolist() if np.ndim(result) == 3 else []
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
        title=f"Loading one subject at full size, {n_rounds} rounds, "
        f"braindecode-emossl {version('braindecode-emossl')}"
    )
    table.add_column("what", no_wrap=True)
    for name in ("time (s)", "peak (MB)", "/ session", "time ratio", "peak ratio"):
        table.add_column(name, justify="right")
    names = list(found)
    for ours, plain in zip(names[::2], names[1::2], strict=True):
        base = {what: _median(found[plain], what) for what in ("seconds", "peak")}
        for name in (ours, plain):
            seconds, peak = (_median(found[name], what) for what in base)
            session = SESSION_BYTES[name[:4]]
            table.add_row(
                name,
                f"{seconds:.2f}",
                f"{peak / 1e6:.0f}",
                f"{peak / session:.2f}",
                f"{seconds / base['seconds']:.2f}",
                f"{peak / base['peak']:.2f}",
            )
        table.add_section()
    return table


if __name__ == "__main__":
    main()
