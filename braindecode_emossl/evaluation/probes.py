"""Linear probes: what can be read from features besides the label."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from braindecode_emossl.features.linear_probe import PROBED, ProbeScore, probe

__all__ = ["DIAGNOSED", "ProbeScore", "probe", "read_diagnosis"]

#: Properties of features that a pre-training records before and after it.
DIAGNOSED = ("rank", "subject", "stimulus")

# Training windows and test windows whose features are probed.
_MOST_WINDOWS = 2000
_BATCH_SIZE = 256


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
    for target in PROBED:
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
    groups, splits = PROBED[target], None
    if target == "label":
        groups, splits = "trial", [np.split(np.arange(len(job.rows)), [job.n_train])]
    return probe(features, job.table[target], job.table[groups], splits=splits)


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
        One row per window; None if the pipeline offers no features.
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


def read_diagnosis(estimator) -> dict[str, float] | None:
    """Return the diagnosis of features from the pre-training of a fitted pipeline.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier or pipeline, or a search that refitted one.

    Returns
    -------
    dict of str to float, or None
        ``<property>_before`` and ``<property>_after`` for each property of
        ``DIAGNOSED``, NaN where it is not known; None if nothing was pre-trained.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    history = getattr(getattr(estimator, "pretrainer_", None), "history", None)
    if not history or "after_rank" not in history[-1]:
        return None
    return {
        f"{name}_{stage}": float(history[-1].get(f"{stage}_{name}", np.nan))
        for name in DIAGNOSED
        for stage in ("before", "after")
    }
