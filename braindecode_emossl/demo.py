"""The main job on miniature corpora: pre-train and evaluate with few and all labels."""

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

from braindecode_emossl.datasets import DEAP, SEED, write_replica
from braindecode_emossl.evaluation import evaluate, with_baselines
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import SSLClassifier
from braindecode_emossl.visualization import plot_label_fractions

__all__ = ["PROTOCOL", "run_demo"]

PROTOCOL = "leave-one-subject-out"
_TARGETS = {SEED: "emotion", DEAP: "valence"}


def run_demo(
    output,
    corpora=None,
    *,
    random_state=0,
    device="auto",
    n_subjects=4,
    seconds=6,
    effect_size=1.0,
    n_labeled_trials=(1, None),
    pretrain_steps=80,
    finetune_steps=60,
    on_fold: Callable[[str, int, int], None] = lambda corpus, n_done, n_folds: None,
):
    """Write replicas of SEED and DEAP and evaluate SCMM on them, subject by subject.

    The pipelines see the differential entropy of windows of 1 s. The rows are
    pre-trained SCMM and the baselines of
    :func:`~braindecode_emossl.evaluation.with_baselines`, each with few and with all
    labelled trials.

    Parameters
    ----------
    output : str or Path
        Folder for ``scores.csv`` and ``scores.png``.
    corpora : str, Path or None
        Folder for the replicas, which are kept. None: a temporary folder.
    random_state : int
        Seed of the replicas, the folds and the networks.
    device : str
        Device that the networks are trained on.
    n_subjects : int
        Number of subjects of each replica, at least 2.
    seconds : float
        Length of a trial.
    effect_size : float
        Strength of the class effects of the replicas; with 0, all pipelines score
        chance.
    n_labeled_trials : list of int or None
        Numbers of labelled trials per class and training subject; None means all.
    pretrain_steps, finetune_steps : int
        Numbers of updates of the networks.
    on_fold : callable
        Called with the code of the corpus, the number of finished folds and the number
        of all its folds.

    Returns
    -------
    DataFrame
        The table of :func:`~braindecode_emossl.evaluation.evaluate`, with a column
        ``target``.

    Raises
    ------
    OSError
        If a folder cannot be written, or holds a corpus that is not a replica.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    folder = nullcontext(corpora) if corpora else tempfile.TemporaryDirectory()
    subjects = list(range(1, n_subjects + 1))
    tables = []
    with folder as root, tempfile.TemporaryDirectory() as memory, _quiet():
        classifier = SSLClassifier(
            "SCMM",
            model__input_domain="de",
            pretrain_steps=pretrain_steps,
            finetune_steps=finetune_steps,
            batch_size=64,
            memory=memory,  # the frozen probe reuses the pre-trained weights
            device=device,
            random_state=random_state,
        )
        for corpus, target in _TARGETS.items():
            on_fold(f"{corpus.code_name}: writing a replica", 0, 1)
            path = write_replica(
                corpus.code_name,
                Path(root) / corpus.code_name,
                subjects=subjects,
                seconds=seconds,
                seed=random_state,
                sessions=[0],
                effect_size=effect_size,
            )
            table = evaluate(
                with_baselines({"SCMM": classifier}),
                [corpus(subjects, [0], path=path)],
                Emotion(target, window=1.0, features="de"),
                PROTOCOL,
                random_state=random_state,
                n_labeled_trials=list(n_labeled_trials),
                on_fold=on_fold,
            )
            tables.append(table.assign(target=target))
    scores = pd.concat(tables, ignore_index=True)
    scores.to_csv(output / "scores.csv", index=False)
    plot_label_fractions(scores).savefig(output / "scores.png", dpi=150)
    return scores


@contextmanager
def _quiet():
    """Suppress messages of MNE and MOABB, and let torch work on one thread.

    Such small networks gain nothing from more threads. On a busy machine they lose
    much, as each step waits for the slowest thread.
    """
    moabb_log = logging.getLogger("moabb")
    level, n_threads = moabb_log.level, torch.get_num_threads()
    with mne.utils.use_log_level("ERROR"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"moabb\.|sklearn\.")
        moabb_log.setLevel("WARNING")
        torch.set_num_threads(1)
        try:
            yield
        finally:
            moabb_log.setLevel(level)
            torch.set_num_threads(n_threads)
