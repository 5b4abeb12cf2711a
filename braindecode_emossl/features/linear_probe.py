"""A linear probe: how well something can be read from features."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["NOTICEABLE", "PROBED", "ProbeScore", "probe"]

#: What is probed, and the groups that a split keeps together. With other trials of the
#: same subjects, features that identify the subject alone would score below chance on
#: labels: a subject has fewer training trials of the class of a held-out one.
PROBED = {
    "subject": "trial",
    "session": "trial",
    "stimulus": "subject",
    "label": "subject",
}
#: Difference of two balanced accuracies from which a warning is due.
NOTICEABLE = 0.05
_N_SPLITS = 5


class ProbeScore(NamedTuple):
    """How well a linear probe reads a target from features.

    Attributes
    ----------
    score : float
        Balanced accuracy on held-out groups; NaN if the target cannot be probed.
    chance : float
        One over the number of classes.
    """

    score: float
    chance: float

    @property
    def ratio(self) -> float:
        """The score divided by chance."""
        return self.score / self.chance


def probe(features, target, groups, *, splits=None) -> ProbeScore:
    """Measure how well a linear probe reads a target from features.

    The probe is a linear discriminant analysis of standardised features, whose
    covariance is shrunk as Ledoit and Wolf propose [1]_. It is fitted and scored on
    different groups, such as trials: windows of one trial resemble each other, so that
    a probe could otherwise recognise the trial.

    Parameters
    ----------
    features : array-like, shape (n_windows, ...)
        Features of each window; they are flattened.
    target : array-like, shape (n_windows,)
        What is to be read, such as the subject of each window.
    groups : array-like, shape (n_windows,)
        Group of each window, such as its trial.
    splits : iterable of (ndarray of int, ndarray of int), optional
        Windows that the probe is fitted on and tested on. By default, the groups are
        divided into at most five folds, stratified by the target. A class that occurs
        in one group only cannot be tested then, and is left out.

    Returns
    -------
    ProbeScore
        Balanced accuracy over all tested windows, and chance. Both are NaN if there are
        fewer than two classes or groups, no class occurs in two groups, or the probe
        has no more windows than classes.

    Raises
    ------
    ValueError
        If a group is on both sides of a split, or the arrays differ in length.

    References
    ----------
    .. [1] Ledoit, O., & Wolf, M. (2004). A well-conditioned estimator for
       large-dimensional covariance matrices. Journal of Multivariate Analysis, 88(2),
       365-411. https://doi.org/10.1016/S0047-259X(03)00096-4

    Examples
    --------
    >>> probe(features, metadata["subject"], trial_of_window)
    ProbeScore(score=0.98, chance=0.0667)
    """
    features = np.asarray(features, dtype=np.float64)
    features = features.reshape(len(features), -1)
    target, groups = (pd.factorize(np.asarray(v))[0] for v in (target, groups))
    if not len(features) == len(target) == len(groups):
        raise ValueError(
            "features, target and groups must have one entry for each window, but have "
            f"{len(features)}, {len(target)} and {len(groups)}."
        )
    if splits is None:
        kept = _find_testable(target, groups)
        features, target, groups = features[kept], target[kept], groups[kept]
        splits = _split(target, groups)
    true, predicted = _predict(features, target, groups, splits)
    if not len(true):
        return ProbeScore(np.nan, np.nan)
    with warnings.catch_warnings():
        # A class that is predicted need not occur in the test windows.
        warnings.filterwarnings("ignore", message="y_pred contains classes")
        score = balanced_accuracy_score(true, predicted)
    return ProbeScore(float(score), 1 / len(np.unique(target)))


def _find_testable(target, groups) -> np.ndarray:
    """Return which windows are of a class that occurs in several groups."""
    n_groups = pd.Series(groups).groupby(target).nunique()
    return (n_groups >= 2).to_numpy()[target] if len(target) else np.zeros(0, bool)


def _split(target, groups) -> Iterable:
    """Return splits in which no group is on both sides."""
    if len(np.unique(target)) < 2 or len(np.unique(groups)) < 2:
        return []
    n_groups = pd.Series(groups).groupby(target).nunique().min()
    folds = StratifiedGroupKFold(min(_N_SPLITS, n_groups), shuffle=True, random_state=0)
    return folds.split(target, target, groups)


def _predict(features, target, groups, splits) -> tuple[np.ndarray, np.ndarray]:
    """Return the true and the predicted classes of all tested windows."""
    true, predicted = [np.empty(0, int)], [np.empty(0, int)]
    for train, test in splits:
        if shared := set(groups[train].tolist()) & set(groups[test].tolist()):
            raise ValueError(
                "No group may be on both sides of a split of a probe, but "
                f"{len(shared)} are."
            )
        n_classes = len(np.unique(target[train]))
        if n_classes < 2 or len(train) <= n_classes or not len(test):
            continue
        model = make_pipeline(
            StandardScaler(),
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        )
        model.fit(features[train], target[train])
        true.append(target[test])
        predicted.append(model.predict(features[test]))
    return np.concatenate(true), np.concatenate(predicted)
