"""Scores of predictions, by window and by trial."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, recall_score

__all__ = ["score_predictions", "vote"]

_TRIAL = ["corpus", "subject", "session", "trial"]


def vote(predictions):
    """Let the windows of a trial vote by their mean probabilities.

    Parameters
    ----------
    predictions : DataFrame
        One row a window, with ``corpus``, ``subject``, ``session``, ``trial``,
        ``label`` and ``proba_<class>`` for each class.

    Returns
    -------
    DataFrame
        One row a trial, with the same columns and ``predicted``, the class of the
        largest mean probability.
    """
    proba = [name for name in predictions if name.startswith("proba_")]
    by_trial = predictions.groupby(_TRIAL, sort=False)
    trials = by_trial["label"].first().to_frame().join(by_trial[proba].mean())
    classes = np.array([name.removeprefix("proba_") for name in proba])
    # A class that a fold's training part lacked has no probability there.
    best = trials[proba].fillna(0.0).to_numpy().argmax(axis=1)
    return trials.assign(predicted=classes[best]).reset_index()


def score_predictions(predictions):
    """Score predictions by window, and by trial after a vote of its windows.

    Parameters
    ----------
    predictions : DataFrame
        As for :func:`vote`, with ``predicted`` too.

    Returns
    -------
    dict of str to float
        ``accuracy``, ``balanced_accuracy`` (mean recall of the classes that occur),
        ``f1_macro`` and ``kappa`` (Cohen's) of the windows; ``score_trial`` (accuracy),
        ``balanced_accuracy_trial``, ``f1_macro_trial`` and ``kappa_trial`` of the
        trials.

    Notes
    -----
    The vote averages probabilities, which a classifier without ``predict_proba``
    replaces by ones and zeros: a majority vote.

    Cohen's kappa is not defined, and NaN, where truth and prediction are of one and
    the same class throughout.
    """
    windows = _score(predictions)
    trials = {
        f"{name}_trial": value for name, value in _score(vote(predictions)).items()
    }
    trials["score_trial"] = trials.pop("accuracy_trial")
    return windows | trials


def _score(rows: pd.DataFrame) -> dict[str, float]:
    truth = rows["label"].to_numpy(str)
    predicted = rows["predicted"].to_numpy(str)
    classes = np.unique(truth)
    constant = len(np.union1d(classes, predicted)) == 1
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": float(
            recall_score(truth, predicted, labels=classes, average="macro")
        ),
        "f1_macro": float(
            f1_score(truth, predicted, average="macro", zero_division=0.0)
        ),
        "kappa": np.nan if constant else float(cohen_kappa_score(truth, predicted)),
    }
