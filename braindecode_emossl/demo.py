"""The main job on miniature corpora: load, pre-train, evaluate, tabulate."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path

import mne
import pandas as pd
import torch
from matplotlib.figure import Figure
from mne.decoding import Vectorizer
from moabb.evaluations import CrossSubjectEvaluation
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_emossl.datasets import DEAP, SEED, write_replica
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import SSLClassifier

__all__ = ["CHANCE", "plot_scores", "run_demo", "summarize"]

CHANCE = "Most frequent class"
TARGETS = {"SEED": "emotion", "DEAP": "valence"}

# What is kept of MOABB's rows: all but what differs from run to run.
_COLUMNS = ["dataset", "target", "subject", "session", "pipeline", "score"]


def run_demo(
    output,
    corpora=None,
    *,
    random_state=0,
    device="cpu",
    n_subjects=5,
    seconds=8,
    effect_size=1.0,
    pretrain_epochs=20,
    finetune_epochs=20,
    on_step: Callable[[str, int], None] = lambda what, n_steps: None,
):
    """Write replicas of SEED and DEAP and evaluate leave-one-subject-out on them.

    Four pipelines see the differential entropy of 1-s windows: :class:`SSLClassifier`
    with SCMM, the same network from random weights, logistic regression, and the most
    frequent class.

    Parameters
    ----------
    output : str or Path
        Folder for ``scores.csv`` and ``scores.png``.
    corpora : str, Path or None
        Folder for the replicas, kept; by default one that is removed at the end.
    random_state : int
        Same seed, same numbers.
    device : str
        Where the networks are trained.
    n_subjects : int
        Subjects of each replica, at least 2.
    seconds : float
        Length of a trial.
    effect_size : float
        Strength of the replicas' class effects; at 0 all pipelines are at chance.
    pretrain_epochs, finetune_epochs : int
        Passes over the training windows.
    on_step : callable
        Called before each step with what it does and how many steps there are.

    Returns
    -------
    DataFrame
        Accuracy by corpus, pipeline and test subject.
    """
    _check_device(device)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    pipelines = _pipelines(random_state, device, pretrain_epochs, finetune_epochs)
    n_steps = len(TARGETS) * (1 + len(pipelines))
    subjects = list(range(1, n_subjects + 1))
    folder = nullcontext(corpora) if corpora else tempfile.TemporaryDirectory()
    scores = []
    with (
        folder as root,
        tempfile.TemporaryDirectory() as results_dir,
        _quiet(),
        _one_thread(),
    ):
        for name, dataset_class in (("SEED", SEED), ("DEAP", DEAP)):
            on_step(f"{name}: writing a replica of {n_subjects} subjects", n_steps)
            path = write_replica(
                name,
                Path(root) / name,
                subjects=subjects,
                seconds=seconds,
                seed=random_state,
                sessions=[0],
                effect_size=effect_size,
            )
            dataset = dataset_class(subjects=subjects, sessions=[0], path=path)
            for title, pipeline in pipelines.items():
                on_step(f"{name}: {title}, {n_subjects} folds", n_steps)
                scores.append(_evaluate(dataset, title, pipeline, results_dir))
    scores = pd.concat(scores, ignore_index=True)
    scores.to_csv(output / "scores.csv", index=False)
    plot_scores(scores).savefig(output / "scores.png", dpi=150)
    return scores


def summarize(scores: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over subjects, by corpus and pipeline.

    Parameters
    ----------
    scores : DataFrame
        What :func:`run_demo` returned.

    Returns
    -------
    DataFrame
        Columns ``dataset``, ``target``, ``pipeline``, ``mean``, ``std``, in the order
        in which they were evaluated.
    """
    keys = ["dataset", "target", "pipeline"]
    return scores.groupby(keys, sort=False)["score"].agg(["mean", "std"]).reset_index()


def plot_scores(scores: pd.DataFrame) -> Figure:
    """Plot the accuracy of each pipeline: mean and subjects, with the chance level.

    Parameters
    ----------
    scores : DataFrame
        What :func:`run_demo` returned.

    Returns
    -------
    matplotlib.figure.Figure
        One panel a corpus.
    """
    corpora = scores["dataset"].unique()
    figure = Figure(figsize=(4.5 * len(corpora), 3.2), layout="constrained")
    axes = figure.subplots(1, len(corpora), sharey=True, squeeze=False)[0]
    for ax, corpus in zip(axes, corpora, strict=True):
        rows = scores[scores["dataset"] == corpus]
        chance = rows.loc[rows["pipeline"] == CHANCE, "score"].mean()
        shown = rows[rows["pipeline"] != CHANCE]
        names = list(shown["pipeline"].unique())
        means = shown.groupby("pipeline")["score"].mean().loc[names]
        ax.barh(names, means, color="#0072b2", alpha=0.35)
        ax.plot(shown["score"], shown["pipeline"], "o", color="#0072b2", alpha=0.8)
        ax.axvline(chance, color="k", ls="--", lw=1)
        title = f"{corpus}: {rows['target'].iloc[0]} (dashed: chance, {chance:.2f})"
        ax.set(xlim=(0, 1), xlabel="accuracy", title=title)
    axes[0].invert_yaxis()
    figure.suptitle(
        "Leave one subject out, synthetic replicas; a dot is a test subject"
    )
    return figure


def _check_device(device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} is not to be had here: {error}") from error


def _pipelines(random_state, device, pretrain_epochs, finetune_epochs) -> dict:
    settings = {
        "model": "SCMM",
        "model_params": {"input_domain": "de"},
        "finetune_epochs": finetune_epochs,
        "batch_size": 64,
        "device": device,
        "random_state": random_state,
    }
    return {
        "SCMM, pre-trained": SSLClassifier(**settings, pretrain_epochs=pretrain_epochs),
        "SCMM, random weights": SSLClassifier(**settings, pretrain_epochs=0),
        "DE + logistic regression": make_pipeline(
            Vectorizer(), StandardScaler(), LogisticRegression(max_iter=1000)
        ),
        CHANCE: DummyClassifier(),
    }


def _evaluate(dataset, title, pipeline, results_dir) -> pd.DataFrame:
    """Leave out one subject after the other, through MOABB."""
    target = TARGETS[dataset.code]
    evaluation = CrossSubjectEvaluation(
        paradigm=Emotion(target=target, window=1.0, features="de"),
        datasets=[dataset],
        hdf5_path=results_dir,
        overwrite=True,
    )
    results = evaluation.process({title: pipeline})
    results["target"] = target
    return results[_COLUMNS].sort_values(
        "subject", key=lambda column: column.astype(int)
    )


@contextmanager
def _quiet():
    """Keep MNE's and MOABB's remarks from the progress bar."""
    moabb_log = logging.getLogger("moabb")
    level = moabb_log.level
    with mne.utils.use_log_level("ERROR"), warnings.catch_warnings():
        # MOABB 1.7 creates its result files in a way that h5py is about to drop.
        warnings.filterwarnings("ignore", module=r"moabb\.analysis\.results")
        moabb_log.setLevel("WARNING")
        try:
            yield
        finally:
            moabb_log.setLevel(level)


@contextmanager
def _one_thread():
    """Let torch work alone: such small networks gain nothing from more threads.

    On a busy machine they lose much, as each step waits for the slowest thread.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
