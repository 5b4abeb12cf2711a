"""Which settings make the pre-training of a model worth it: an ablation.

    python benchmarks/bench_settings.py SCMM
    python benchmarks/bench_settings.py MaskedClusterTransformer --seeds 100

Each row changes one setting of the shipped pipeline. ``evaluate`` trains on half of the
subjects of a replica and tests on the other half, and the reverse, with the labels of
one trial per class and of all trials. The features are frozen, so that the difference
from random weights is what pre-training has added to them. Replica and seeds are not
those of ``bench_learning.py``, whose results these settings are chosen for.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import mne
import torch
from bench_learning import BEDS, load_shipped, open_replica
from learning_tables import (
    add_options,
    describe_updates,
    open_folder,
    run_folds,
    tabulate_differences,
    tabulate_scores,
)
from rich.console import Console
from sklearn.base import clone

from braindecode_emossl.paradigms import Emotion
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
}


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the tables."""
    options = parse(arguments)
    bed = BEDS[options.model]
    console = Console(width=140)
    with open_folder(options.results) as folder:
        results = run_folds(
            make_rows(folder / "memory", options),
            open_replica(bed, folder, options),
            Emotion(**bed.paradigm),
            folder,
            options,
            protocol="subject-kfold",
            n_splits=2,
        )
    console.print(describe_updates(options), highlight=False)
    console.print(tabulate_scores(results))
    pairs = [(name, f"{name}, random") for name in options.variants]
    console.print(tabulate_differences(results, pairs))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=VARIANTS)
    parser.add_argument(
        "--variants", nargs="+", metavar="NAME", help="rows (default: all of the model)"
    )
    add_options(parser)
    parser.set_defaults(
        seeds=[100, 101],
        n_labeled=[1, None],
        subjects=8,
        seconds=24.0,
        effect_size=2.0,
        replica_seed=100,
        pretrain_steps=1000,
        finetune_steps=500,
    )
    options = parser.parse_args(arguments)
    known = VARIANTS[options.model]
    options.variants = options.variants or [*known]
    if unknown := set(options.variants) - set(known):
        parser.error(f"--variants must be among {[*known]}, but got {unknown}")
    return options


def make_rows(memory: Path, options: argparse.Namespace) -> dict:
    """Return frozen probes of each variant, pre-trained and of random weights."""
    shipped = load_shipped(options.model, BEDS[options.model], memory, options)
    rows = {}
    for name in options.variants:
        changes = {"finetune": "linear-probe", **VARIANTS[options.model][name]}
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
