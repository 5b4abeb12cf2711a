"""Which settings make the pre-training of SCMM worth it: an ablation.

    python benchmarks/bench_scmm_settings.py

Each row changes one setting of the default. ``evaluate`` trains on half of the subjects
of a replica of SEED and tests on the other half, and the reverse, with the labels of
one trial per class and of all trials. The features are frozen, so that the difference
from random weights is what pre-training has added to them. Replica and seeds are not
those of ``bench_learning.py``, whose results these settings are chosen for.
"""

from __future__ import annotations

import argparse
import logging
import warnings

import mne
import torch
from bench_learning import BEDS, open_replica
from learning_tables import (
    add_options,
    describe_updates,
    open_folder,
    run_folds,
    tabulate_differences,
    tabulate_scores,
)
from rich.console import Console

from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import SSLClassifier
from braindecode_emossl.samplers import ContinuityBatchSampler

#: Changes of the default, as arguments of SSLClassifier.
VARIANTS = {
    "default": {},
    "minmax": {"model__normalization": "minmax"},
    "temperature 0.2": {"objective__temperature": 0.2},
    "temperature 0.5": {"objective__temperature": 0.5},
    "not normalised": {"objective__normalize": False, "objective__temperature": 0.5},
    "stretches of 8 windows": {"pretrainer__sampler": ContinuityBatchSampler},
    "batch 128": {"batch_size": 128},
    "official": {"objective__preset": "official", "model__normalization": "minmax"},
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
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
    options = parser.parse_args()
    console = Console(width=140)
    with open_folder(options.results) as folder:
        dataset = open_replica(BEDS["SCMM"], folder, options)
        results = run_folds(
            make_pipelines(options, folder / "memory"),
            dataset,
            Emotion(**BEDS["SCMM"].paradigm),
            folder,
            options,
            protocol="subject-kfold",
            n_splits=2,
        )
    console.print(describe_updates(options), highlight=False)
    console.print(tabulate_scores(results))
    pairs = [(name, f"{name}, random") for name in options.variants]
    console.print(tabulate_differences(results, pairs))


def make_pipelines(options: argparse.Namespace, memory) -> dict:
    """Return frozen probes of each variant, pre-trained and of random weights."""
    pipelines = {}
    for name in options.variants:
        settings = {
            "model__input_domain": "de",
            "finetune": "linear-probe",
            "finetune_steps": options.finetune_steps,
            "batch_size": 64,
            "memory": memory,
            "random_state": 0,
            **VARIANTS[name],
        }
        for suffix, length in (("", options.pretrain_steps), (", random", 0)):
            pipelines[name + suffix] = SSLClassifier(
                "SCMM", pretrain_steps=length, **settings
            )
    return pipelines


if __name__ == "__main__":
    mne.set_log_level("ERROR")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main()
