"""Features of the makers against ours, and how far their smoothing reaches.

    python benchmarks/bench_released.py
    python benchmarks/bench_released.py --subjects 15 --seconds 185 --effect 2

The script writes a replica of SEED with the features that its makers release, computed
from the same signals, and prints three tables.

The first gives the weights of a smoothed window, for the variances of the makers' code
for SEED-VII. The second is the correlation of windows of one trial by their distance.

The third is the balanced accuracy of logistic regression on features of windows of 1 s:
with windows divided at random (leaky), and by ``evaluate`` under two protocols. "Ours,
smoothed" is the differential entropy with ``lds_smooth`` run by run, which in SEED is
trial by trial. "Across trials" smooths a whole recording as if it were one trial, and
then holds out whole trials: the split cannot undo it.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import mne
import numpy as np
from mne.decoding import Vectorizer
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import (
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from braindecode_emossl.datasets import SEED, write_replica
from braindecode_emossl.evaluation import evaluate
from braindecode_emossl.features import DifferentialEntropy, lds_smooth
from braindecode_emossl.paradigms import Emotion

RATIO = 1e-3  # of the variances in the makers' code for SEED-VII
LAGS = (1, 5, 10, 20, 30)
PROTOCOLS = ("within-session", "leave-one-subject-out")


def main() -> None:
    """Write the replica, measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--subjects", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--effect", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    mne.set_log_level("ERROR")
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(options, Path(folder))
        paradigms = make_paradigms()
        sets = {name: p.get_data(dataset) for name, p in paradigms.items()}
        scores = {
            name: [evaluate_one(dataset, p, protocol) for protocol in PROTOCOLS]
            for name, p in paradigms.items()
        }
    X, y, metadata = sets["ours"]
    recordings = metadata[["subject", "session"]]
    sets["ours, across trials"] = smooth(X, recordings), y, metadata
    console.print(tabulate_weights())
    console.print(tabulate_reach(sets))
    console.print(tabulate_scores(sets, scores, options.seed))


def make_dataset(options, folder: Path) -> SEED:
    """Write the replica of one session with the makers' features."""
    root = write_replica(
        "SEED",
        folder,
        subjects=range(1, options.subjects + 1),
        sessions=[0],
        seconds=options.seconds,
        seed=options.seed,
        effect_size=options.effect,
        variant="features",
    )
    return SEED(range(1, options.subjects + 1), [0], path=root)


def smooth(X, trials=None):
    """Smooth features as the makers do, within trials."""
    return lds_smooth(X, trials, variance_ratio=RATIO)


def make_paradigms() -> dict[str, Emotion]:
    """Return the paradigm of each kind of features, windows of 1 s."""
    smoothed = make_pipeline(
        DifferentialEntropy(200.0, flatten=False), FunctionTransformer(smooth)
    )
    make = partial(Emotion, window=1.0, fmin=None, fmax=None)
    return {
        "ours": make(features="de"),
        "ours, smoothed": make(features=smoothed),
        "released: de_movingAve": make(features="released:de_movingAve"),
        "released: de_LDS": make(features="released:de_LDS"),
    }


def tabulate_weights() -> Table:
    """Return where the weights of a smoothed window lie, from the impulse response."""
    impulse = np.zeros((2001, 1))
    impulse[1000] = 1.0
    weights = smooth(impulse)[:, 0]
    table = Table("a smoothed window", "")
    table.add_row("weight of the window itself", f"{weights[1000]:.3f}")
    for reach in (5, 10, 22, 50, 100):
        share = weights[1000 - reach : 1001 + reach].sum()
        table.add_row(f"weight of windows up to {reach} away", f"{share:.2f}")
    return table


def tabulate_reach(sets) -> Table:
    """Return the autocorrelation of features within trials by the lag in windows."""
    table = Table("correlation within a trial at a lag of", *map(str, LAGS))
    for name, (X, _, metadata) in sets.items():
        courses = [
            X[rows] - X[rows].mean(axis=0)
            for rows in metadata.groupby(["subject", "trial"]).indices.values()
        ]
        cells = [f"{correlate(courses, lag):.2f}" for lag in LAGS]
        table.add_row(name, *cells)
    return table


def correlate(courses, lag: int) -> float:
    """Return the mean correlation of features with themselves ``lag`` windows later."""
    found = []
    for course in courses:
        a, b = course[:-lag], course[lag:]
        norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
        found.append(((a * b).sum(axis=0) / norm).mean())
    return float(np.mean(found))


def tabulate_scores(sets, scores, seed: int) -> Table:
    """Return balanced accuracies, mean and standard deviation over subjects."""
    table = Table("balanced accuracy", "windows at random", *PROTOCOLS)
    at_random = StratifiedKFold(5, shuffle=True, random_state=seed)
    for name, data in sets.items():
        honest = scores.get(name)
        if honest is None:  # whole trials are held out, but were smoothed together
            by_trial = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
            honest = [score_split(*data, by_trial, grouped=True), []]
        cells = [score_split(*data, at_random, grouped=False), *honest]
        table.add_row(name, *map(describe, cells))
    return table


def describe(scores) -> str:
    """Return mean and standard deviation of scores by subject."""
    return f"{np.mean(scores):.3f} ± {np.std(scores):.3f}" if len(scores) else ""


def evaluate_one(dataset, paradigm, protocol) -> np.ndarray:
    """Return the balanced accuracy of each subject."""
    pipelines = {"LR": make_classifier()}
    table = evaluate(pipelines, [dataset], paradigm, protocol, random_state=0)
    return table.groupby("subject")["balanced_accuracy"].mean().to_numpy()


def score_split(X, y, metadata, cv, *, grouped: bool) -> list[float]:
    """Return the balanced accuracy of each subject with a splitter of scikit-learn."""
    found = []
    for rows in metadata.groupby("subject").indices.values():
        groups = metadata["trial"].to_numpy()[rows] if grouped else None
        predicted = cross_val_predict(
            make_classifier(), X[rows], y[rows], groups=groups, cv=cv
        )
        found.append(balanced_accuracy_score(y[rows], predicted))
    return found


def make_classifier():
    """Return standardisation and logistic regression."""
    return make_pipeline(
        Vectorizer(), StandardScaler(), LogisticRegression(max_iter=1000, C=0.01)
    )


if __name__ == "__main__":
    main()
