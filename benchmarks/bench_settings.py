"""Which settings make the pre-training of a model worth it: an ablation.

    python benchmarks/bench_settings.py --models SCMM
    python benchmarks/bench_settings.py --models SCMM --variants default minmax

Each row changes one setting of the shipped pipeline, or two that belong together.
``evaluate`` trains on half of the subjects of a replica and tests on the other half,
and the reverse, with the labels of one trial per class and of all trials, after 1,000
updates of pre-training. The features are frozen unless the row changes that, so that
the difference from random weights is what pre-training has added to them. Replica and
seeds are not those of ``bench_learning.py``, whose results these settings are chosen
for.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import mne
import torch
from bench_learning import compare, load_shipped, make_parser
from learning_tables import open_folder
from sklearn.base import clone

from braindecode_emossl.samplers import ContinuityBatchSampler

#: Changes of the shipped pipelines, as arguments of SSLClassifier.
VARIANTS = {
    "SCMM": {
        "default": {},
        "minmax": {"model__normalization": "minmax"},
        "temperature 0.2": {"objective__temperature": 0.2},
        "temperature 0.5": {"objective__temperature": 0.5},
        "not normalised": {
            "objective__normalize": False,
            "objective__temperature": 0.5,
        },
        "stretches of 8 windows": {"pretrainer__sampler": ContinuityBatchSampler},
        "batch 128": {"batch_size": 128},
        "official": {
            "objective__preset": "official",
            "model__normalization": "minmax",
        },
    },
    "MaskedClusterTransformer": {
        "default": {},
        "plateau": {"objective__recluster_every": "plateau"},
        "half as many clusters": {"objective__n_clusters": (25, 50, 100)},
        "twice as many clusters": {"objective__n_clusters": (100, 200, 400)},
        "intermediate loss": {"objective__intermediate_weight": 1.0},
    },
    "MEMHACL": {
        "default": {},
        "l2": {"model__normalization": "l2"},
        "instant": {"model__normalization": "instant"},
        "paper": {"model__preset": "paper"},  # 25 times as slow without a GPU
    },
    "MoodReader": {
        "default": {},
        "no mixing": {"objective__recording_mixing": 0.0},
        "neither": {
            "objective__recording_mixing": 0.0,
            "objective__normalize_targets": None,
        },
        "all weights fine-tuned": {"finetune": "full"},
        "three quarters of the features": {"objective__feature_mask_ratio": 0.75},
        "patches alone": {
            "objective__entropy_weight": 0.0,
            "objective__eye_weight": 0.0,
        },
        "samples": {"model__patch_domain": "signal"},
    },
}


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the tables."""
    options = parse(arguments)
    with open_folder(options.results) as folder:
        for model in options.models:
            names = [*(options.variants or VARIANTS[model])]
            rows = make_rows(model, names, folder / "memory", options)
            pairs = [(name, f"{name}, random") for name in names]
            compare(model, rows, pairs, folder, options)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = make_parser(__doc__, [*VARIANTS])
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="NAME",
        help="rows of one model (default: all of each model)",
    )
    parser.set_defaults(
        seeds=[100, 101],
        n_labeled=[1, None],
        subjects=8,
        replica_seed=100,
        folds=2,
        pretrain_steps=1000,
        finetune_steps=500,
    )
    options = parser.parse_args(arguments)
    for model in options.models:
        known = [*VARIANTS[model]]
        if unknown := set(options.variants or []) - set(known):
            parser.error(
                f"--variants of {model} must be among {known}, but got {unknown}"
            )
    return options


def make_rows(
    model: str, names: list[str], memory: Path, options: argparse.Namespace
) -> dict:
    """Return each variant, pre-trained and from random weights."""
    shipped = load_shipped(model, memory, options)
    rows = {}
    for name in names:
        changes = {"finetune": "linear-probe", **VARIANTS[model][name]}
        for suffix, length in (("", options.pretrain_steps), (", random", 0)):
            rows[name + suffix] = clone(shipped).set_params(
                **{f"sslclassifier__{key}": value for key, value in changes.items()},
                sslclassifier__pretrain_steps=length,
            )
    return rows


if __name__ == "__main__":
    mne.set_log_level("ERROR")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main()
