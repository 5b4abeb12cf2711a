"""Kill evaluate() at random instants, and check that nothing is lost.

    python benchmarks/bench_kills.py
    python benchmarks/bench_kills.py --kills 20 --seed 1

A forked process evaluates a replica of DEAP and is killed with SIGKILL after a random
time, again and again. After each kill, every fold that was finished before must still
exist with the same contents. The last call finishes the evaluation; its table must
equal that of an uninterrupted one. The exit code is 1 if anything is lost or differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from mne.decoding import Vectorizer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from braindecode_emossl.datasets import DEAP, write_replica
from braindecode_emossl.evaluation import evaluate
from braindecode_emossl.paradigms import Emotion


def run(root: Path, results_dir: Path) -> pd.DataFrame:
    """Evaluate, within sessions: 5 folds for each of 4 subjects, twice."""
    pipelines = {
        f"NB {value:g}": make_pipeline(Vectorizer(), GaussianNB(var_smoothing=value))
        for value in (1e-9, 1e-3)
    }
    return evaluate(
        pipelines,
        [DEAP([1, 2, 3, 4], path=root)],
        Emotion("valence", window=1.0, features="de", fmin=None, fmax=None),
        "within-session",
        random_state=0,
        results_dir=results_dir,
        on_error="warn",
    ).drop(columns="time")


def digests(folder: Path) -> dict[Path, str]:
    """Return the contents of all finished folds."""
    return {
        file: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*.parquet")
        if not file.name.startswith(".")
    }


def kill_once(root: Path, results_dir: Path, delay: float) -> bool:
    """Return whether a run was killed before it finished."""
    child = os.fork()
    if not child:
        warnings.simplefilter("ignore")
        run(root, results_dir)
        os._exit(0)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main() -> int:
    """Kill, check, and compare the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = write_replica(
            "DEAP", Path(folder, "DEAP"), subjects=[1, 2, 3, 4], seconds=2, seed=0
        )
        start = time.perf_counter()
        whole = run(root, Path(folder, "whole"))
        seconds = time.perf_counter() - start
        n_killed = n_lost = n_rounds = 0
        finished: list[int] = []
        while n_killed < options.kills:
            # A new folder from time to time, so that all instants are met.
            results_dir = Path(folder, f"killed{n_rounds}")
            before: dict[Path, str] = {}
            for _ in range(10):
                n_killed += kill_once(root, results_dir, rng.uniform(0, seconds))
                after = digests(results_dir)
                n_lost += sum(after.get(file) != text for file, text in before.items())
                before = after
                if n_killed == options.kills:
                    break
            finished.append(len(before))
            table = run(root, results_dir)
            if not table.equals(whole):
                print(f"Round {n_rounds}: the table differs.")
                return 1
            n_rounds += 1
    print(
        f"{n_killed} kills in {n_rounds} folders, each finished by a last call: "
        f"{n_lost} finished folds lost or changed, all tables equal. Folds that were "
        f"finished before the last call: {finished}."
    )
    return int(n_lost > 0)


if __name__ == "__main__":
    mne.set_log_level("ERROR")
    warnings.simplefilter("ignore")
    sys.exit(main())
