"""The main job on miniature corpora: few and all labels, honest and leaky splits."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import KFold, cross_val_predict

from braindecode_emossl.datasets import DEAP, SEED, write_replica
from braindecode_emossl.evaluation import evaluate, score_predictions, with_baselines
from braindecode_emossl.evaluation.baselines import DE_BASELINE
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import SSLClassifier
from braindecode_emossl.visualization import plot_label_fractions

__all__ = ["LEAKY_SPLIT", "PROTOCOL", "run_demo"]

PROTOCOL = "leave-one-subject-out"
LEAKY_SPLIT = "shuffled windows"
_TARGETS = {SEED: "emotion", DEAP: "valence"}


def run_demo(
    output,
    corpora=None,
    *,
    random_state=0,
    device="auto",
    n_subjects=4,
    seconds=6,
    effect_size=2.0,
    n_labeled_trials=(1, None),
    pretrain_steps=80,
    finetune_steps=60,
    on_fold: Callable[[str, int, int], None] = lambda corpus, n_done, n_folds: None,
):
    """Write replicas of SEED and DEAP and evaluate SCMM on them, subject by subject.

    The pipelines see the differential entropy of windows of 1 s. The rows are
    pre-trained SCMM and the baselines of
    :func:`~braindecode_emossl.evaluation.with_baselines`, each with few and with all
    labelled trials. For comparison, differential entropy with logistic regression is
    also evaluated with a split that leaks: in as many folds as there are subjects, but
    with shuffled windows, so that windows of a trial are in both the training and the
    test set.

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
        Strength of the class effects of the replicas. At 1, they are as hard as the
        real corpora. At 0, all pipelines score chance if no window of a test trial is
        in the training set.
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
        ``target``. The rows of the leaky split have the protocol
        ``"shuffled windows"``.

    Raises
    ------
    OSError
        If a folder cannot be written, or holds a corpus that is not a replica.
    """
    output = Path(output).expanduser()
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
            dataset = corpus(subjects, [0], path=path)
            paradigm = Emotion(target, window=1.0, features="de")
            table = evaluate(
                with_baselines({"SCMM": classifier}),
                [dataset],
                paradigm,
                PROTOCOL,
                random_state=random_state,
                n_labeled_trials=list(n_labeled_trials),
                on_fold=on_fold,
            )
            leaky = _evaluate_leaky(dataset, paradigm, random_state)
            tables += [table.assign(target=target), leaky.assign(target=target)]
    scores = pd.concat(tables, ignore_index=True)
    scores.to_csv(output / "scores.csv", index=False)
    honest = scores[scores["protocol"] == PROTOCOL]
    plot_label_fractions(honest).savefig(output / "scores.png", dpi=150)
    return scores


def _evaluate_leaky(dataset, paradigm, random_state) -> pd.DataFrame:
    """Score the baseline on shuffled windows: neighbours of each are in training."""
    X, y, metadata = paradigm.get_data(dataset)
    # As many folds as under the honest protocol: training sets of the same size.
    folds = KFold(len(dataset.subject_list), shuffle=True, random_state=random_state)
    pipeline = with_baselines({})[DE_BASELINE]
    proba = cross_val_predict(pipeline, X, y, cv=folds, method="predict_proba")
    classes = np.unique(y)
    predictions = metadata.assign(
        label=y,
        predicted=classes[proba.argmax(axis=1)],
        **{f"proba_{name}": proba[:, k] for k, name in enumerate(classes)},
    )
    rows = []
    for (subject, session), part in predictions.groupby(["subject", "session"]):
        scores = score_predictions(part)
        where = {"subject": str(subject), "session": str(session)}
        rows.append({**where, **scores, "score": scores["accuracy"]})
    return pd.DataFrame(rows).assign(
        dataset=dataset.code,
        pipeline=DE_BASELINE,
        protocol=LEAKY_SPLIT,
        regime="subject-dependent",
        n_labeled_trials=pd.array([pd.NA] * len(rows), "Int64"),
        target_access="none",
        control="",
    )


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
        # The replica of DEAP lacks delta, as the release does. All pipelines see that.
        warnings.filterwarnings("ignore", message="delta.* cut-off of the DEAP")
        moabb_log.setLevel("WARNING")
        torch.set_num_threads(1)
        try:
            yield
        finally:
            moabb_log.setLevel(level)
            torch.set_num_threads(n_threads)
