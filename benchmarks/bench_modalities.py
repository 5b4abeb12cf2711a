"""What each modality is worth to MEMHACL and MoodReader, alone and fused.

    python benchmarks/bench_modalities.py
    python benchmarks/bench_modalities.py --models MoodReader --folds 3 --seeds 0
    python benchmarks/bench_modalities.py --subjects 3 --pretrain-steps 20

The shipped pipelines are evaluated as by ``bench_learning.py``, on replicas of DEAP and
of SEED-IV with all modalities, by default with all labels: MEMHACL on EEG, GSR,
respiration and temperature, on each of them alone, and with random weights; MoodReader
on EEG and eye features, and on EEG alone. It has no branch for eye features alone: for
these, there is a logistic regression on their means over a window, with missing values
imputed.

The replicas are synthetic. What a modality is worth in them follows from how they are
made, and says nothing about emotion.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import mne
import numpy as np
import torch
from bench_learning import compare, load_shipped, make_parser
from learning_tables import open_folder
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from braindecode_emossl.evaluation import with_baselines

TYPES = ("eeg", "gsr", "resp", "temperature")
N_EYE = 31  # eye features of SEED-IV, the last channels
MODELS = ["MEMHACL, all modalities", "MoodReader"]


def main(arguments: list[str] | None = None) -> None:
    """Measure the modalities and print the tables."""
    parser = make_parser(__doc__, MODELS)
    parser.set_defaults(n_labeled=[None])
    options = parser.parse_args(arguments)
    with open_folder(options.results) as folder:
        for name in options.models:
            rows = make_rows(name, folder / "memory", options)
            pairs = [(name, other) for other in rows if other != name]
            compare(name, rows, pairs, folder, options)


def make_rows(name: str, memory: Path, options: argparse.Namespace) -> dict:
    """Return the shipped pipeline and its parts by modality."""
    fused = load_shipped(name, memory, options)

    def change(**settings):
        changes = {f"sslclassifier__{key}": value for key, value in settings.items()}
        return clone(fused).set_params(**changes)

    random = f"{name}, random weights"
    rows = {name: fused, random: with_baselines({name: fused})[random]}
    if name == "MoodReader":
        rows["MoodReader, EEG alone"] = change(model__eye_channels=[])
        rows["eye features + logistic regression"] = make_pipeline(
            FunctionTransformer(average_eye),
            SimpleImputer(keep_empty_features=True),
            StandardScaler(),
            LogisticRegression(max_iter=1000),
        )
        return rows
    for kind in TYPES:
        rows[f"MEMHACL, {kind} alone"] = change(model__channel_types=[kind])
    return rows


def average_eye(X: np.ndarray) -> np.ndarray:
    """Return the means of the eye features (n_windows, N_EYE) over each window."""
    return X[:, -N_EYE:].mean(axis=-1)


if __name__ == "__main__":
    mne.set_log_level("ERROR")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main()
