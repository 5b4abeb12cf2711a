"""Options and tables of the benchmarks of learning."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from braindecode_emossl.evaluation import (
    compare_pipelines,
    evaluate,
    summarize_results,
)
from braindecode_emossl.pretraining import SSLClassifier

SCORE = "balanced_accuracy"
DE_BASELINE = "DE + logistic regression"  # of with_baselines


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the benchmarks share."""
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0],
        help="seeds of weights and of labelled trials (default: %(default)s)",
    )
    for name, what in (("pretrain", "pre-training"), ("finetune", "fine-tuning")):
        parser.add_argument(
            f"--{name}-steps",
            type=int,
            metavar="N",
            help=f"number of updates in {what}, to try the script out (default: "
            "%(default)s; None stands for that of the package, whose methods other "
            "numbers do not represent)",
        )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="folder that keeps finished folds and pre-trained weights, so that the "
        "same command resumes an interrupted run (default: nothing is kept)",
    )
    parser.add_argument(
        "--n-jobs", type=int, default=1, help="folds to run at a time (default: 1)"
    )


def add_folds(parser: argparse.ArgumentParser) -> None:
    """Add the option to leave out groups of subjects."""
    parser.add_argument(
        "--folds",
        type=parse_folds,
        metavar="K",
        help="groups of subjects, each of which is left out in turn (default: "
        "%(default)s; None stands for leaving out one subject at a time)",
    )


def parse_folds(text: str) -> int:
    """Return a number of groups of subjects, at least two."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2, but got {text}")
    return int(text)


def choose_protocol(options: argparse.Namespace) -> tuple[str, dict]:
    """Return the protocol that the options ask for, and its settings."""
    if options.folds is None:
        return "leave-one-subject-out", {}
    return "subject-kfold", {"n_splits": options.folds}


def describe_protocol(options: argparse.Namespace) -> str:
    """Describe which subjects are left out."""
    left_out = f"{options.folds} groups" if options.folds else "one subject at a time"
    return f"left out: {left_out}"


def parse_number(text: str) -> int | None:
    """Return a number of labelled trials, None for all."""
    return None if text == "all" else int(text)


@contextmanager
def open_folder(folder: Path | None) -> Iterator[Path]:
    """Yield the folder of results, or a temporary one."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def set_lengths(pipeline, options: argparse.Namespace, memory: Path) -> None:
    """Set the memory and, if they are given, the updates of a shipped pipeline."""
    changes = {
        "memory": memory,  # shared by the numbers of labels and the frozen probe
        "pretrain_steps": options.pretrain_steps,
        "finetune_steps": options.finetune_steps,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    for step in pipeline.named_steps.values():
        if isinstance(step, SSLClassifier):
            step.set_params(**changes)


def run_folds(
    pipelines: dict,
    dataset,
    paradigm,
    folder: Path,
    options: argparse.Namespace,
    protocol: str = "leave-one-subject-out",
    **kwargs,
) -> pd.DataFrame:
    """Evaluate the pipelines with a progress bar."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        update = partial(progress.update, progress.add_task("folds", total=None))
        return evaluate(
            pipelines,
            [dataset],
            paradigm,
            protocol,
            random_state=0,
            seeds=options.seeds,
            n_labeled_trials=options.n_labeled,
            n_jobs=options.n_jobs,
            results_dir=folder / "folds",
            on_fold=lambda _, done, n_folds: update(completed=done, total=n_folds),
            **kwargs,
        )


def describe_updates(options: argparse.Namespace) -> str:
    """Return the seeds and the lengths of the trainings in words."""
    steps = {
        "pre-training": options.pretrain_steps,
        "fine-tuning": options.finetune_steps,
    }
    updates = [f"{k} {'as shipped' if n is None else n}" for k, n in steps.items()]
    return f"seeds {options.seeds}; updates of {', of '.join(updates)}"


def tabulate_scores(results: pd.DataFrame) -> Table:
    """Return the mean scores over subjects of each pipeline and number of labels."""
    table = Table(
        *("pipeline", "labelled trials", "balanced accuracy", "95 % interval"),
        *("AUC", "fit (s)"),
        box=MARKDOWN,
    )
    scores = summarize_results(results, SCORE)
    areas = summarize_results(results, "roc_auc")
    for (_, row), area in zip(scores.iterrows(), areas["mean"], strict=True):
        same = results[results["pipeline"] == row["pipeline"]]
        same = same[is_number(same, row["n_labeled_trials"])]
        table.add_row(
            row["pipeline"],
            name_number(row["n_labeled_trials"]),
            f"{row['mean']:.3f} ± {row['sd']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            f"{area:.3f}",
            f"{same['time'].mean():.1f}",
        )
    return table


def tabulate_differences(results: pd.DataFrame, pairs: list[tuple[str, str]]) -> Table:
    """Return the paired differences of pipelines, with intervals over subjects."""
    table = Table(
        *("pipeline", "minus", "labelled trials", "difference", "95 % interval", "p"),
        box=MARKDOWN,
    )
    for name, other in pairs:
        pair = results[results["pipeline"].isin([name, other])]
        compared = compare_pipelines(pair, score=SCORE, random_state=0)
        for _, row in compared.iterrows():
            sign = 1 if row["pipeline_1"] == name else -1
            low, high = sorted((sign * row["ci_low"], sign * row["ci_high"]))
            table.add_row(
                name,
                other,
                name_number(row["n_labeled_trials"]),
                f"{sign * row['difference']:+.3f}",
                f"{low:+.3f} to {high:+.3f}",
                f"{row['p_value']:.3f}",
            )
    return table


def is_number(results: pd.DataFrame, number) -> pd.Series:
    """Return the rows with a number of labelled trials, which is missing for all."""
    column = results["n_labeled_trials"]
    return column.isna() if pd.isna(number) else column.eq(number).fillna(False)


def name_number(number) -> str:
    """Return a number of labelled trials as text."""
    return "all" if pd.isna(number) else str(number)
