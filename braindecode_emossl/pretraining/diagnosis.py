"""Comparison of the features of a model before and after pre-training."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from skorch.history import History
from torch import nn

from braindecode_emossl.features.linear_probe import NOTICEABLE, PROBED, probe
from braindecode_emossl.pretraining.windows import WindowDataset

__all__ = ["Diagnosis", "diagnose_features"]

log = logging.getLogger(__name__)

_BATCH_SIZE = 128
_MOST_WINDOWS, _MOST_OF_TRAINING = 2000, 500
_LEVELS = ("corpus", "subject", "session", "run", "trial")


class Diagnosis:
    """Mixin of a pre-trainer: compare the features before and after the training."""

    objective: nn.Module
    objective_: nn.Module
    history: History
    device: str | torch.device
    gather: Callable[..., WindowDataset]

    def diagnose(self, X, metadata=None, y=None) -> dict[str, dict[str, float]]:
        """Compare the features of windows before and after pre-training.

        :meth:`fit` does this with at most 500 of its windows, including the validation
        windows. The last epoch of the history holds the result, as ``before_rank``,
        ``after_subject`` and so on, and a warning is logged if the features identify
        the subject better than before, or have collapsed.

        Parameters
        ----------
        X : array (n_windows, n_chans, n_times), Epochs or BaseConcatDataset
            Windows, those of the training or others.
        metadata : DataFrame, n_windows rows, optional
            Columns ``subject``, ``stimulus`` and ``trial``, where known.
            By default that of ``X``.
        y : array-like, shape (n_windows,), optional
            Labels.

        Returns
        -------
        dict of str to dict
            ``"before"`` and ``"after"``, each with ``rank``, the participation ratio of
            the features, at least 1; and the balanced accuracies ``subject``,
            ``stimulus`` and ``label`` of a linear probe on at most 2,000 windows. It is
            tested on other trials than it is fitted on, and for the stimulus and the
            label on other subjects. NaN where something is not known, or there is one
            subject. Before the training, the model has its initial weights and the
            scaling of these windows.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If :meth:`fit` has not been called.
        TypeError
            If the model does not return its features.
        ValueError
            If ``y`` has another length than ``X``.
        """
        check_is_fitted(self, "module_")
        dataset = self.gather(X, metadata)
        if y is not None:
            check_consistent_length(dataset, y)
        rows = _thin_out(len(dataset), _MOST_WINDOWS)
        return self._compare(dataset, rows, y)

    def record_diagnosis(self, dataset: WindowDataset) -> None:
        """Record the diagnosis of training windows in the history."""
        is_grouped = len(dataset.windows.shape) > 3  # several windows in each row
        if (
            not self.history
            or is_grouped
            or not _gives_features(self.objective_.encoder)
        ):
            return
        rows = _thin_out(len(dataset), _MOST_OF_TRAINING)
        found = self._compare(dataset, rows)
        for stage, values in found.items():
            for name, value in values.items():
                if np.isfinite(value):
                    self.history.record(f"{stage}_{name}", value)
        _warn(**found)

    def _compare(self, dataset: WindowDataset, rows: np.ndarray, y=None) -> dict:
        windows = dataset.windows[rows]
        metadata = None if dataset.metadata is None else dataset.metadata.iloc[rows]
        labels = None if y is None else np.asarray(y)[rows]
        initial = copy.deepcopy(self.objective.encoder)
        if not _gives_features(initial):
            raise TypeError(
                f"{type(initial).__name__} cannot be diagnosed, as its forward has no "
                "argument return_features."
            )
        if hasattr(initial, "fit_normalization"):
            initial.fit_normalization(windows)
        encoders = {"before": initial, "after": self.objective_.encoder}
        return {
            stage: diagnose_features(
                _read_features(encoder, windows, self.device), metadata, labels
            )
            for stage, encoder in encoders.items()
        }


def _gives_features(encoder: nn.Module) -> bool:
    return "return_features" in inspect.signature(encoder.forward).parameters


@torch.no_grad()
def _read_features(encoder: nn.Module, windows: torch.Tensor, device) -> np.ndarray:
    """Return the features (n_windows, n_features) of a model in evaluation mode."""
    was_training = encoder.training
    encoder.to(device).eval()
    found = [
        encoder(part.to(device), return_features=True)["features"].flatten(1).cpu()
        for part in windows.split(_BATCH_SIZE)
    ]
    encoder.train(was_training)
    return torch.cat(found).float().numpy()


def diagnose_features(features: np.ndarray, metadata, y=None) -> dict[str, float]:
    """Return the rank of features and the scores of linear probes on them.

    Parameters
    ----------
    features : ndarray, shape (n_windows, n_features)
        Features.
    metadata : DataFrame, n_windows rows, or None
        Columns ``subject``, ``stimulus`` and ``trial``, where known.
    y : array-like, shape (n_windows,), or None
        Labels.

    Returns
    -------
    dict of str to float
        ``rank``, the participation ratio of the variances along the principal
        components; balanced accuracies ``subject``, ``stimulus`` and ``label`` of a
        linear probe, which is fitted and tested on different trials, and for the
        stimulus and the label on different subjects. NaN where something is not known,
        there is one subject, or features are not finite.
    """
    if not np.isfinite(features).all():
        return dict.fromkeys(("rank", "subject", "stimulus", "label"), np.nan)
    centered = features - features.mean(axis=0)
    left, scale, _ = np.linalg.svd(centered, full_matrices=False)
    variances = scale**2
    total = variances.sum()
    # Rotated: as far from each other, in fewer dimensions.
    features = left * scale if features.shape[1] > len(features) else features
    found = {"rank": float(total**2 / (variances**2).sum()) if total else 0.0}
    groups = _group(metadata, y)
    for target in ("subject", "stimulus", "label"):
        known = {target, PROBED[target]} <= set(groups)
        found[target] = (
            probe(features, groups[target], groups[PROBED[target]]).score
            if known
            else np.nan
        )
    return found


def _group(metadata, y) -> dict[str, np.ndarray]:
    """Return the subject, stimulus, trial and label of each window, if known."""
    groups = {} if y is None else {"label": np.asarray(y)}
    for name in ("subject", "stimulus", "trial"):
        if metadata is None or name not in metadata:
            continue
        # Numbers of trials and subjects are those of one recording or corpus.
        last = _LEVELS.index(name) + 1 if name in _LEVELS else 1
        columns = [c for c in (*_LEVELS[:last], name) if c in metadata]
        columns = list(dict.fromkeys(columns))
        groups[name] = metadata.groupby(columns, dropna=False).ngroup().to_numpy()
    return groups


def _thin_out(n_windows: int, most: int) -> np.ndarray:
    """Return rows of at most so many windows, in equal distances."""
    return np.unique(np.linspace(0, n_windows - 1, min(most, n_windows)).astype(int))


def _warn(before: dict, after: dict) -> None:
    """Warn if the features identify the subject better, or have collapsed."""
    if after["subject"] > before["subject"] + NOTICEABLE:
        log.warning(
            "After pre-training, a linear probe identifies the subject with a balanced "
            "accuracy of %.2f (before: %.2f): the objective may be solved by "
            'recognising the subject. Try standardize="recording" of Emotion.',
            after["subject"],
            before["subject"],
        )
    if after["rank"] < 0.1 * before["rank"] or after["rank"] < 1.5:
        log.warning(
            "After pre-training, the features vary along %.1f directions (before: "
            "%.1f): they have collapsed. Try a lower lr, a larger batch or more steps.",
            after["rank"],
            before["rank"],
        )
