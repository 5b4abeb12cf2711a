"""Scores of predictions, by window and by trial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

__all__ = ["CodedPredictions", "score_predictions", "vote"]

_TRIAL = ["corpus", "subject", "session", "trial"]
_N_BINS = 10


def vote(predictions):
    """Predict each trial from the mean probabilities of its windows.

    Parameters
    ----------
    predictions : DataFrame
        Predictions of one pipeline, one row per window: ``corpus``, ``subject``,
        ``session``, ``trial``, ``label`` and ``proba_<class>`` for each class.

    Returns
    -------
    DataFrame
        One row per trial, with the same columns and ``predicted``, the class with the
        largest mean probability.
    """
    trial, first = _number_trials(predictions)
    trials = predictions.iloc[first][[*_TRIAL, "label"]].reset_index(drop=True)
    names = _list_probabilities(predictions)
    proba = predictions[names].to_numpy(dtype=float)
    means, best = _average(proba, trial, len(first))
    classes = np.array([name.removeprefix("proba_") for name in names])
    return trials.assign(
        **dict(zip(names, means.T, strict=True)), predicted=classes[best]
    )


def score_predictions(predictions):
    r"""Score predictions by window and, after a vote of its windows, by trial.

    Parameters
    ----------
    predictions : DataFrame
        Predictions as for :func:`vote`, with the column ``predicted``.

    Returns
    -------
    dict of str to float
        Scores of the windows:

        * ``accuracy``;
        * ``balanced_accuracy``, the mean recall of the classes that occur;
        * ``f1_macro``;
        * ``kappa``, Cohen's kappa; NaN if only a single class occurs among labels and
          predictions;
        * ``recall_<class>`` for each class; NaN if the class does not occur;
        * ``roc_auc``, the area under the ROC curve; with more than two classes the
          mean over the classes that occur, each against the rest; NaN if fewer than
          two classes occur;
        * ``ece``, the expected calibration error [1]_;
        * ``brier``, the Brier score [2]_.

        Scores of the trials: ``score_trial`` (the accuracy),
        ``balanced_accuracy_trial``, ``f1_macro_trial`` and ``kappa_trial``.

    Notes
    -----
    The calibration error is that of the most probable class. Windows are sorted by the
    probability of that class into ten bins of equal width; the error is
    :math:`\sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b|`, with the accuracy
    and the mean probability in bin :math:`b`. It is biased upwards where windows are
    few.

    The Brier score is Brier's own, :math:`\frac{1}{n} \sum_i \sum_c (p_{ic} -
    y_{ic})^2`, from 0 to 2. For two classes it is twice the score that
    :func:`sklearn.metrics.brier_score_loss` returns by default.

    A class that was missing from a fold's training set has the probability 0 in that
    fold. A classifier without ``predict_proba`` has probabilities of 1 and 0: its vote
    is a majority vote, and its calibration error is its error rate.

    References
    ----------
    .. [1] Guo, C., Pleiss, G., Sun, Y., & Weinberger, K. Q. (2017). On calibration of
       modern neural networks. Proceedings of the 34th International Conference on
       Machine Learning, PMLR 70, 1321-1330.
       https://proceedings.mlr.press/v70/guo17a.html
    .. [2] Brier, G. W. (1950). Verification of forecasts expressed in terms of
       probability. Monthly Weather Review, 78(1), 1-3.
    """
    return CodedPredictions.from_table(predictions).score()


@dataclass(frozen=True)
class CodedPredictions:
    """Predictions as integers, of which parts are scored without any string.

    Attributes
    ----------
    classes : ndarray of str, shape (n_classes,)
        All classes, sorted.
    truth, predicted : ndarray of int, shape (n_windows,)
        Numbers of ``classes``.
    trial : ndarray of int, shape (n_windows,)
        Number of each window's trial.
    proba : ndarray, shape (n_windows, n_columns)
        Probabilities; NaN for a class that was missing from a fold's training set.
    columns : ndarray of int, shape (n_columns,)
        Class of each column of ``proba``.
    """

    classes: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    trial: np.ndarray
    proba: np.ndarray
    columns: np.ndarray

    @classmethod
    def from_table(cls, predictions: pd.DataFrame) -> CodedPredictions:
        """Return the predictions of a table.

        Parameters
        ----------
        predictions : DataFrame
            As for :func:`score_predictions`.

        Returns
        -------
        CodedPredictions
            One entry a row.
        """
        known = _list_probabilities(predictions)
        names = np.array([name.removeprefix("proba_") for name in known], dtype=str)
        classes, truth, predicted = _encode(predictions, names)
        return cls(
            classes,
            truth,
            predicted,
            trial=_number_trials(predictions)[0],
            proba=predictions[known].to_numpy(dtype=float),
            columns=np.searchsorted(classes, names),
        )

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return len(np.unique(self.trial))

    def take(self, rows: np.ndarray) -> CodedPredictions:
        """Return some of the predictions.

        Parameters
        ----------
        rows : ndarray of int
            Their row numbers.

        Returns
        -------
        CodedPredictions
            The same classes, also those that do not occur.
        """
        return CodedPredictions(
            self.classes,
            self.truth[rows],
            self.predicted[rows],
            self.trial[rows],
            self.proba[rows],
            self.columns,
        )

    def score(self) -> dict[str, float]:
        """Return the scores of :func:`score_predictions`.

        Returns
        -------
        dict of str to float
            Scores by name.
        """
        n_classes = len(self.classes)
        confusion = _count_confusions(self.truth, self.predicted, n_classes)
        windows = _score(confusion)
        recalls = _compute_recalls(confusion)
        for name, recall in zip(self.classes, recalls, strict=True):
            windows[f"recall_{name}"] = float(recall)
        proba = np.zeros((len(self), n_classes))
        proba[:, self.columns] = np.nan_to_num(self.proba)
        windows["roc_auc"] = _compute_roc_auc(self.truth, proba)
        windows["ece"] = _compute_calibration_error(self.truth, proba)
        windows["brier"] = _compute_brier_score(self.truth, proba)

        _, first, trial = np.unique(self.trial, return_index=True, return_inverse=True)
        best = _average(self.proba, trial, len(first))[1]
        confusion = _count_confusions(self.truth[first], self.columns[best], n_classes)
        trials = {f"{name}_trial": value for name, value in _score(confusion).items()}
        trials["score_trial"] = trials.pop("accuracy_trial")
        return windows | trials


def _number_trials(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each window's trial and the first window of each trial."""
    codes = np.zeros(len(rows), dtype=np.int64)
    for name in _TRIAL:
        of_column, values = pd.factorize(rows[name], use_na_sentinel=False)
        codes = codes * len(values) + of_column
    trial, ids = pd.factorize(codes)
    first = np.empty(len(ids), dtype=np.int64)
    first[trial[::-1]] = np.arange(len(rows))[::-1]
    return trial, first


def _list_probabilities(predictions: pd.DataFrame) -> list[str]:
    """Return the names of the probability columns."""
    return [name for name in predictions if str(name).startswith("proba_")]


def _average(proba, trial, n_trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean probabilities (n_trials, n_columns) and the column of the largest."""
    means = np.full((n_trials, proba.shape[1]), np.nan)
    for i, values in enumerate(proba.T):
        known = ~np.isnan(values)
        counts = np.bincount(trial[known], minlength=n_trials)
        sums = np.bincount(trial[known], values[known], minlength=n_trials)
        np.divide(sums, counts, out=means[:, i], where=counts > 0)
    # A class that was missing from a fold's training set has no probability there.
    return means, np.nan_to_num(means).argmax(axis=1)


def _encode(rows: pd.DataFrame, known: np.ndarray):
    """Return all classes, sorted, and the codes of true and predicted classes."""
    # Codes rather than strings: comparing 150,000 strings takes most of the time.
    columns = [
        pd.factorize(rows[name], use_na_sentinel=False)
        for name in ("label", "predicted")
    ]
    names = [np.asarray(values, dtype=str) for _, values in columns]
    classes = np.unique(np.concatenate([*names, known]))
    truth, predicted = (
        np.searchsorted(classes, values)[codes]
        for values, (codes, _) in zip(names, columns, strict=True)
    )
    return classes, truth, predicted


def _count_confusions(truth, predicted, n_classes: int) -> np.ndarray:
    """Return the confusion matrix, one row per true class."""
    counts = np.bincount(truth * n_classes + predicted, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes)


def _compute_recalls(confusion: np.ndarray) -> np.ndarray:
    """Return the recall of each class, NaN for a class that does not occur."""
    sizes = confusion.sum(axis=1)
    recalls = np.full(len(confusion), np.nan)
    return np.divide(confusion.diagonal(), sizes, out=recalls, where=sizes > 0)


def _score(confusion: np.ndarray) -> dict[str, float]:
    """Return the scores that follow from a confusion matrix."""
    n = confusion.sum()
    hits, true, guessed = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    occurs = true + guessed > 0
    accuracy = hits.sum() / n
    by_chance = (true / n) @ (guessed / n)
    kappa = (accuracy - by_chance) / (1 - by_chance) if occurs.sum() > 1 else np.nan
    return {
        "accuracy": float(accuracy),
        "balanced_accuracy": float(np.nanmean(_compute_recalls(confusion))),
        "f1_macro": float(np.mean(2 * hits[occurs] / (true + guessed)[occurs])),
        "kappa": float(kappa),
    }


def _compute_roc_auc(truth: np.ndarray, proba: np.ndarray) -> float:
    """Return the mean area under the ROC curves of the classes that occur."""
    n_classes = proba.shape[1]
    sizes = np.bincount(truth, minlength=n_classes)
    present = np.flatnonzero(sizes)
    if len(present) < 2:
        return np.nan
    # Of two classes, both curves have the same area.
    areas = []
    for i in present[1:] if n_classes == 2 else present:
        # The area is the share of pairs that are in order (Mann-Whitney's U).
        n_rest = len(truth) - sizes[i]
        ranks = rankdata(proba[:, i])[truth == i].sum()
        pairs = ranks - sizes[i] * (sizes[i] + 1) / 2
        areas.append(pairs / (sizes[i] * n_rest))
    return float(np.mean(areas))


def _compute_calibration_error(truth: np.ndarray, proba: np.ndarray) -> float:
    """Return the expected calibration error of the most probable class."""
    confidence = proba.max(axis=1)
    gap = (proba.argmax(axis=1) == truth) - confidence
    edges = np.linspace(0, 1, _N_BINS + 1)[1:-1]
    bins = np.digitize(confidence, edges, right=True)
    return float(np.abs(np.bincount(bins, weights=gap)).sum() / len(truth))


def _compute_brier_score(truth: np.ndarray, proba: np.ndarray) -> float:
    """Return the mean, over windows, of the squared errors summed over classes."""
    of_truth = proba[np.arange(len(truth)), truth]
    return float(np.mean((proba**2).sum(axis=1) - 2 * of_truth + 1))
