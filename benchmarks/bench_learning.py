"""What pre-training without labels is worth, as a user of ``evaluate`` gets it.

    python benchmarks/bench_learning.py
    python benchmarks/bench_learning.py --models SCMM --seeds 0 1 2 --results learning
    python benchmarks/bench_learning.py --models SCMM --replica-seed 100 --seeds 100 101
    python benchmarks/bench_learning.py --models SCMM --subjects 3 --pretrain-steps 20
    python benchmarks/bench_learning.py --models MEMHACL --folds 3 --seeds 0

Each model has a replica of one corpus, and its pipeline is the shipped one.
``evaluate`` leaves out one subject in turn, or with --folds a group of them. Each
training subject has a given number of labelled trials per class; all other training
windows are given without labels. The rows are those of ``with_baselines``, and two
more: a frozen probe of random weights, and SimCLR [1]_ as the pre-training of the same
network, for the same number of updates.

The differences are means over subjects after averaging the seeds, with Student's
interval over subjects. The replicas are synthetic and say nothing about emotion.

The seeds from 0, of replica and of weights, are for the report. Settings must be chosen
on other replicas and seeds, such as those from 100.

.. [1] Chen, T., Kornblith, S., Norouzi, M., & Hinton, G. (2020). A Simple Framework for
   Contrastive Learning of Visual Representations. ICML.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from typing import NamedTuple

import mne
import torch
import torch.nn.functional as F
from learning_tables import (
    DE_BASELINE,
    add_folds,
    add_options,
    choose_protocol,
    describe_protocol,
    describe_updates,
    open_folder,
    parse_number,
    run_folds,
    set_lengths,
    tabulate_differences,
    tabulate_scores,
)
from rich.console import Console
from sklearn.base import clone
from torch import nn

from braindecode_emossl.datasets import DEAP, SEED, SEED_IV, write_replica
from braindecode_emossl.evaluation import (
    load_pipelines,
    pipelines_folder,
    with_baselines,
)
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import PretrainingObjective, PretrainingOutput


class Bed(NamedTuple):
    """The corpus on which a shipped pipeline is measured."""

    corpus: type
    folder: str  # of its pipeline, below that of the shipped ones
    paradigm: dict


BEDS = {
    "SCMM": Bed(SEED, "de", {"features": "de", "window": 1.0}),
    "MaskedClusterTransformer": Bed(SEED, "", {}),
    "MEMHACL": Bed(SEED, "", {"window": 1.0}),
    "MEMHACL, all modalities": Bed(
        DEAP, "all_modalities", {"window": 1.0, "target": "valence"}
    ),
    "MoodReader": Bed(SEED_IV, "", {}),
}
WITH_MODALITIES = (DEAP, SEED_IV)


class SimCLR(PretrainingObjective):
    """Contrast of two augmented copies of each window [1]_, temperature 0.5.

    A copy has noise of a tenth of each channel's standard deviation over the batch, and
    a fifth of its channels are set to their mean.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__(encoder)
        window = torch.zeros(1, encoder.n_chans, encoder.n_times)
        with torch.no_grad():
            n_features = extract(encoder.eval(), window).shape[1]
        self.projector = nn.Sequential(
            nn.Linear(n_features, 256), nn.ReLU(), nn.Linear(256, 128)
        )

    def forward(self, x: torch.Tensor) -> PretrainingOutput:
        """Return the loss of windows ``x (batch, n_chans, n_times)``."""
        features = extract(self.encoder, torch.cat([augment(x), augment(x)]))
        z = F.normalize(self.projector(features), dim=1)  # (2 * batch, 128)
        similarity = z @ z.T / 0.5  # (2 * batch, 2 * batch)
        similarity.fill_diagonal_(-torch.inf)
        positives = torch.arange(len(z), device=z.device).roll(len(x))
        loss = F.cross_entropy(similarity, positives)
        return PretrainingOutput(loss, {"contrastive": loss.detach()})


def extract(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the representation (batch, n_features) of windows."""
    return encoder(x, return_features=True)["features"].flatten(1)


def augment(x: torch.Tensor) -> torch.Tensor:
    """Return a copy of windows with noise, in which some channels are constant."""
    # Eye features may be missing, which is NaN.
    mean = x.nanmean(dim=(0, 2), keepdim=True)  # (1, n_chans, 1)
    std = (x - mean).square().nanmean(dim=(0, 2), keepdim=True).sqrt()
    noise = 0.1 * std * torch.randn_like(x)
    dropped = torch.rand(len(x), x.shape[1], 1, device=x.device) < 0.2
    return torch.where(dropped, mean, x + noise)


def main(arguments: list[str] | None = None) -> None:
    """Measure the models and print the tables."""
    parser = make_parser(__doc__, [*BEDS])
    parser.add_argument(
        "--without-simclr",
        action="store_true",
        help="leave out the row of SimCLR, the longest one",
    )
    options = parser.parse_args(arguments)
    with open_folder(options.results) as folder:
        for name in options.models:
            rows = make_rows(name, folder / "memory", options)
            compare(name, rows, make_pairs(name, rows), folder, options)


def compare(
    name: str,
    rows: dict,
    pairs: list[tuple[str, str]],
    folder: Path,
    options: argparse.Namespace,
) -> None:
    """Evaluate pipelines on the corpus of a model, and print the tables."""
    bed = BEDS[name]
    dataset = open_replica(bed, folder, options)
    paradigm = Emotion(**bed.paradigm)
    protocol, settings = choose_protocol(options)
    results = run_folds(rows, dataset, paradigm, folder, options, protocol, **settings)
    console = Console(width=140)
    console.print(describe(name, bed, dataset, options), highlight=False)
    console.print(tabulate_scores(results))
    console.print(tabulate_differences(results, pairs))


def make_parser(description: str, models: list[str]) -> argparse.ArgumentParser:
    """Return the parser of the options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=models, default=models)
    parser.add_argument(
        "--n-labeled",
        nargs="+",
        metavar="K",
        type=parse_number,
        default=[1, 2, 5, None],
        help="numbers of labelled trials of each class and training subject, or all, "
        "which is None (default: %(default)s)",
    )
    parser.add_argument(
        "--effect-size",
        type=float,
        default=2.0,
        help="difference of the classes in the replica; 1 is as hard as the real "
        "corpora (default: %(default)s)",
    )
    parser.add_argument(
        "--subjects",
        type=int,
        metavar="N",
        help="number of subjects (default: %(default)s; None stands for all)",
    )
    parser.add_argument(
        "--seconds", type=float, default=24.0, help="length of a trial (default: 24)"
    )
    parser.add_argument(
        "--replica-seed",
        type=int,
        default=0,
        help="seed of the signals (default: %(default)s)",
    )
    add_folds(parser)
    add_options(parser)
    parser.set_defaults(seeds=[0, 1, 2])
    return parser


def open_replica(bed: Bed, folder: Path, options: argparse.Namespace):
    """Write a replica of one session, unless it is there, and return its data set."""
    corpus = bed.corpus
    subjects = corpus.all_subject_numbers[: options.subjects]
    settings = f"{options.effect_size}-{options.seconds}-{options.replica_seed}"
    root = folder / f"{corpus.code_name}-{settings}-{len(subjects)}"
    write_replica(
        corpus.code_name,
        root,
        subjects=subjects,
        sessions=[0],
        seconds=options.seconds,
        seed=options.replica_seed,
        effect_size=options.effect_size,
    )
    everything = corpus in WITH_MODALITIES
    return corpus(list(subjects), path=root, return_all_modalities=everything)


def load_shipped(name: str, memory: Path, options: argparse.Namespace):
    """Return a shipped pipeline with the lengths that the options ask for."""
    folder = pipelines_folder() / BEDS[name].folder
    shipped, _ = load_pipelines(folder, keep_sfreq=False)
    set_lengths(shipped[name], options, memory)
    return shipped[name]


def make_rows(name: str, memory: Path, options: argparse.Namespace) -> dict:
    """Return the pipeline of a model with the rows that it is compared with."""
    pipeline = load_shipped(name, memory, options)
    rows = with_baselines({name: pipeline})
    (step,) = (key for key in pipeline.named_steps if key == "sslclassifier")
    frozen = clone(rows[f"{name}, frozen"])
    rows[f"{name}, random weights, frozen"] = frozen.set_params(
        **{f"{step}__pretrain_steps": 0}
    )
    if not options.without_simclr:
        rows[f"{name}, SimCLR"] = clone(pipeline).set_params(
            **{f"{step}__objective": SimCLR}
        )
    return rows


def make_pairs(name: str, pipelines: dict) -> list[tuple[str, str]]:
    """Return the pairs of rows whose difference answers a question."""
    others = [f"{name}, random weights", DE_BASELINE, f"{name}, SimCLR"]
    pairs = [(name, other) for other in others]
    pairs.append((f"{name}, frozen", f"{name}, random weights, frozen"))
    return [pair for pair in pairs if {*pair} <= set(pipelines)]


def describe(name: str, bed: Bed, dataset, options: argparse.Namespace) -> str:
    """Return the data and the settings in words."""
    return "\n".join(
        [
            f"{name} on a replica of {dataset.code}, effect size "
            f"{options.effect_size:g}, seed {options.replica_seed}",
            f"{len(dataset.subject_list)} subjects, one session, trials of "
            f"{options.seconds:g} s, Emotion with {bed.paradigm or 'its defaults'}",
            describe_protocol(options),
            describe_updates(options),
        ]
    )


if __name__ == "__main__":
    mne.set_log_level("ERROR")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main()
