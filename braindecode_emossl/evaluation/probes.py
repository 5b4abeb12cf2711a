"""Linear probes: what can be read from features besides the label."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["ProbeScore", "probe"]

#: Targets of the probes, and the groups that a split keeps together.
TARGETS = {
    "subject": "trial",
    "session": "trial",
    "stimulus": "subject",
    "label": "trial",
}
_N_SPLITS = 5
# Training windows and test windows whose features are probed.
_MOST_WINDOWS = 2000
_BATCH_SIZE = 256


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


# -- the probes of an evaluation -------------------------------------------------


@dataclass
class ProbeJob:
    """The windows of a fold whose features are probed.

    Attributes
    ----------
    rows : ndarray of int
        Training windows, then test windows.
    n_train : int
        Number of training windows.
    table : DataFrame
        ``subject``, ``session``, ``stimulus``, ``label`` and ``trial`` of each row.
    reference : estimator or None
        Transforms windows into differential entropy.
    """

    rows: np.ndarray
    n_train: int
    table: pd.DataFrame
    reference: Any


def thin_out(rows: np.ndarray) -> np.ndarray:
    """Return evenly spaced rows, so many that probing them takes seconds.

    Parameters
    ----------
    rows : ndarray of int
        Row numbers.

    Returns
    -------
    ndarray of int
        All of them, or a part.
    """
    if len(rows) <= _MOST_WINDOWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, _MOST_WINDOWS).astype(int)]


def probe_pipeline(estimator, X, job: ProbeJob) -> dict[str, float]:
    """Probe the features of a fitted pipeline, and differential entropy.

    Parameters
    ----------
    estimator : estimator
        The fitted pipeline.
    X : ndarray, shape (n_windows, ...)
        All windows.
    job : ProbeJob
        Which windows to probe.

    Returns
    -------
    dict of str to float
        ``probe_<target>``, ``probe_de_<target>``, the ratios of both to chance, and
        ``probe_<target>_chance``.
    """
    windows = X[job.rows]
    features = {"probe": extract_features(estimator, windows), "probe_de": None}
    if job.reference is not None:
        features["probe_de"] = job.reference.fit_transform(windows)
    found: dict[str, float] = {}
    for target in TARGETS:
        chance = np.nan
        for prefix, values in features.items():
            name = f"{prefix}_{target}"
            score = _probe_target(values, target, job)
            found |= {name: score.score, f"{name}_ratio": score.ratio}
            chance = score.chance if np.isnan(chance) else chance
        found[f"probe_{target}_chance"] = chance
    return found


def _probe_target(features, target: str, job: ProbeJob) -> ProbeScore:
    """Probe one target: the label in the way of the protocol, others by groups."""
    if features is None:
        return ProbeScore(np.nan, np.nan)
    splits = None
    if target == "label":
        splits = [np.split(np.arange(len(job.rows)), [job.n_train])]
    return probe(features, job.table[target], job.table[TARGETS[target]], splits=splits)


def extract_features(estimator, X) -> np.ndarray | None:
    """Return the features that a fitted pipeline classifies.

    These are the output of a network with ``return_features=True``, else of the steps
    before the classifier, else of its own ``transform``.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier or pipeline, or a search that refitted one.
    X : ndarray, shape (n_windows, ...)
        Windows.

    Returns
    -------
    ndarray or None
        One row a window; None if the pipeline offers no features.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    is_changed = False
    while isinstance(estimator, Pipeline):
        *steps, (_, last) = estimator.steps
        for _, step in steps:
            if step not in (None, "passthrough"):
                X, is_changed = step.transform(X), True
        estimator = last
    network = getattr(getattr(estimator, "net_", estimator), "module_", None)
    if network is not None:
        arguments = inspect.signature(network.forward).parameters
        return _run_network(network, X) if "return_features" in arguments else None
    if is_changed:
        return np.asarray(X)
    return (
        np.asarray(estimator.transform(X)) if hasattr(estimator, "transform") else None
    )


def _run_network(network, X) -> np.ndarray:
    """Return the features of a network, batch by batch."""
    import torch

    device = next(network.parameters()).device
    network.eval()
    outputs = []
    with torch.inference_mode():
        for first in range(0, len(X), _BATCH_SIZE):
            batch = np.ascontiguousarray(X[first : first + _BATCH_SIZE])
            found = network(
                torch.from_numpy(batch).to(device, torch.float32), return_features=True
            )
            outputs.append(found["features"].flatten(1).cpu().numpy())
    return np.concatenate(outputs)
