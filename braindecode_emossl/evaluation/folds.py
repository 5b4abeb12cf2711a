"""The folds of a protocol: dividing windows, and fitting and predicting one fold."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from moabb.datasets.base import BaseDataset
from moabb.evaluations.base import BaseEvaluation, _evaluate_fold
from moabb.evaluations.utils import _create_scorer, _update_result_with_scores
from moabb.paradigms.base import BaseParadigm
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.metadata_routing import get_routing_for_object

from braindecode_emossl.evaluation.protocols import KEYS, Protocol
from braindecode_emossl.evaluation.splitters import (
    ChronologicalSplit,
    TrialKFold,
    check_disjoint,
)

__all__ = [
    "Fold",
    "FoldResult",
    "group_ids",
    "make_evaluation",
    "make_folds",
    "run_fold",
]

# Options that are no argument of the protocol's cross-validator.
_NOT_OF_SPLITTER = ("channels",)
# Folds of the search for hyper-parameters, as in MOABB.
_N_INNER_SPLITS = 3


@dataclass(frozen=True)
class Fold:
    """The rows of one fold.

    Attributes
    ----------
    train, test : ndarray of int
        Rows of the windows that train and that test.
    calibration : ndarray of int
        Rows of the test subject whose labels are given; mostly none.
    """

    train: np.ndarray
    test: np.ndarray
    calibration: np.ndarray


@dataclass
class FoldResult:
    """What came out of a fold.

    Attributes
    ----------
    predictions : DataFrame
        One row a test window: its metadata, ``label``, ``predicted`` and
        ``proba_<class>`` for each class.
    scores : list of dict
        The paradigm's score by ``subject`` and ``session``.
    seconds : float
        Time to fit.
    n_train, n_chans : int
        Windows that trained; channels.
    """

    predictions: pd.DataFrame
    scores: list[dict[str, Any]]
    seconds: float
    n_train: int
    n_chans: int


def make_evaluation(
    protocol: Protocol,
    options: Mapping[str, Any],
    paradigm: BaseParadigm,
    dataset: BaseDataset,
    *,
    random_state: int,
    folder,
    cache_config=None,
) -> BaseEvaluation:
    """Return MOABB's evaluation of a protocol.

    Parameters
    ----------
    protocol : Protocol
        The protocol.
    options : mapping of str to object
        All its options.
    paradigm : BaseParadigm
        The paradigm.
    dataset : BaseDataset
        The corpus that tests.
    random_state : int
        Seed of the folds.
    folder : path
        Where MOABB opens its own store of results, which is not used.
    cache_config : CacheConfig or None
        MOABB's disk cache of signals.

    Returns
    -------
    BaseEvaluation
        It loads and splits; the folds are run by :func:`run_fold`.
    """
    left_out = (*_NOT_OF_SPLITTER, *(["train_size"] if protocol.calibrated else []))
    with warnings.catch_warnings():
        # MOABB 1.7 creates its result files in a way that h5py is about to drop.
        warnings.filterwarnings("ignore", module=r"moabb\.analysis\.results")
        return protocol.evaluation(
            paradigm=paradigm,
            datasets=[dataset],
            random_state=random_state,
            cv_class=protocol.splitter,
            cv_kwargs={k: v for k, v in options.items() if k not in left_out},
            groups=protocol.groups,
            hdf5_path=folder,
            cache_config=cache_config,
        )


def make_folds(
    protocol: Protocol,
    options: Mapping[str, Any],
    evaluation: BaseEvaluation,
    y: np.ndarray,
    metadata: pd.DataFrame,
) -> list[Fold]:
    """Divide windows by a protocol, and check that nothing leaks.

    Parameters
    ----------
    protocol : Protocol
        The protocol.
    options : mapping of str to object
        All its options.
    evaluation : BaseEvaluation
        What :func:`make_evaluation` made.
    y : ndarray of str, shape (n_windows,)
        Labels.
    metadata : DataFrame
        One row a window, numbered from 0.

    Returns
    -------
    list of Fold
        The folds.

    Raises
    ------
    ValueError
        If the parts of a fold share what they must not, or a part is not sound.
    """
    folds = []
    try:
        for train, test in evaluation._create_splitter().split(y, metadata):
            if protocol.calibrated:
                folds += _calibrate(train, test, metadata, options["train_size"])
            else:
                folds.append(Fold(train, test, train[:0]))
        _check_folds(protocol, folds, y, metadata)
    except ValueError as error:
        raise ValueError(
            f"The protocol {protocol.name!r} cannot divide {_name_rows(metadata)}: "
            f"{error}"
        ) from error
    return folds


def group_ids(metadata: pd.DataFrame, what: str) -> np.ndarray:
    """Return the name of each row's trial, stimulus, session, subject or corpus.

    Parameters
    ----------
    metadata : DataFrame
        One row a window.
    what : str
        A key of ``KEYS``.

    Returns
    -------
    ndarray of str, shape (n_windows,)
        Names such as ``"SEED subject 1 session 0 trial 3"``, unique over corpora.
    """
    corpus, *rest = KEYS[what]
    names = metadata[corpus].astype(str)
    for column in rest:
        names = names + f" {column} " + metadata[column].astype(str)
    return names.to_numpy(str)


def run_fold(
    X,
    y: np.ndarray,
    metadata: pd.DataFrame,
    *,
    fold: Fold,
    pipeline: BaseEstimator,
    grid: Mapping[str, Sequence] | None,
    dataset: BaseDataset,
    config: Mapping[str, Any],
) -> FoldResult:
    """Fit a copy of a pipeline on the training windows and predict the test windows.

    MOABB fits and scores; the predictions are kept beside.

    Parameters
    ----------
    X : ndarray, shape (n_windows, ...), or mne.Epochs
        Windows.
    y : ndarray of str, shape (n_windows,)
        Labels.
    metadata : DataFrame
        One row a window.
    fold : Fold
        Which windows train and test.
    pipeline : BaseEstimator
        A classifier.
    grid : mapping of str to sequence, or None
        Values of hyper-parameters to choose from, by cross-validation on whole trials
        of the training part.
    dataset : BaseDataset
        The corpus that tests.
    config : mapping of str to object
        MOABB's settings of a fold.

    Returns
    -------
    FoldResult
        Predictions and scores.
    """
    train, calibration = fold.train, fold.calibration
    if len(calibration) and not _asks_for_calibration(pipeline):
        train, calibration = np.concatenate([train, calibration]), calibration[:0]
    classes, encoded = np.unique(y[train], return_inverse=True)
    if grid:
        groups = group_ids(metadata.iloc[train], "trial")
        inner = TrialKFold(_N_INNER_SPLITS, random_state=config["random_state"])
        pipeline = GridSearchCV(
            clone(pipeline),
            grid,
            scoring=config["scoring"],
            cv=list(inner.split(groups, encoded, groups)),
            refit=_first_metric(config["scoring"]),
        )
    scorer = _RecordingScorer(config["scoring"], classes, metadata.iloc[fold.test])
    if metadata["corpus"].nunique() > 1:
        # Each corpus counts its subjects from 1.
        metadata = metadata.assign(subject=group_ids(metadata, "subject"))
    (result,) = _evaluate_fold(
        X,
        y,
        metadata,
        config={**config, "scoring": scorer, "score_per_session": False},
        dataset=dataset,
        pipeline_name="",
        pipeline=pipeline,
        train_idx=train,
        test_idx=fold.test,
        subject=None,
        session=None,
        cv_ind=0,
        # With these MOABB offers `subjects` and the calibration to those who ask.
        split_metadata={
            "calibration_size": len(calibration),
            "calibration_labeled": bool(len(calibration)),
        },
        calib_idx=calibration,
    )
    return FoldResult(
        predictions=scorer.predictions,
        scores=scorer.scores,
        seconds=float(result["time"]),
        n_train=len(train) + len(calibration),
        n_chans=int(result["n_channels"]),
    )


class _RecordingScorer:
    """Score by subject and session, and remember what was predicted."""

    def __init__(self, scoring, classes: np.ndarray, metadata: pd.DataFrame):
        self.scoring = scoring
        self.classes = classes
        self.metadata = metadata.reset_index(drop=True)

    def __call__(self, estimator, X, y):
        by_recording = self.metadata.groupby(["subject", "session"]).indices
        proba, predicted = np.empty((len(y), len(self.classes))), np.empty(len(y), int)
        # One at a time, as a pipeline may scale what it is given together.
        for rows in by_recording.values():
            proba[rows] = _predict_proba(estimator, X[rows], len(self.classes))
            # Not the largest probability: an estimator may have its own threshold.
            predicted[rows] = estimator.predict(X[rows])
        self.predictions = self.metadata.assign(
            label=self.classes[y],
            predicted=self.classes[predicted],
            **{
                f"proba_{name}": column
                for name, column in zip(self.classes, proba.T, strict=True)
            },
        )
        score = _create_scorer(estimator, self.scoring)
        self.scores = [
            _update_result_with_scores(
                {"subject": str(subject), "session": str(session)},
                {k: float(v) for k, v in score(estimator, X[rows], y[rows]).items()},
            )
            for (subject, session), rows in by_recording.items()
        ]
        return 0.0  # what MOABB asks for; the scores are kept in `scores`


def _predict_proba(estimator, X, n_classes: int) -> np.ndarray:
    """Return (n_windows, n_classes), of certain votes where there are none."""
    labels = np.asarray(getattr(estimator, "classes_", np.arange(n_classes)))
    proba = np.zeros((len(X), n_classes))
    if hasattr(estimator, "predict_proba"):
        proba[:, labels] = estimator.predict_proba(X)
    else:
        proba[np.arange(len(X)), estimator.predict(X)] = 1.0
    if not np.isfinite(proba).all():
        raise ValueError(
            f"The probabilities that {estimator!r} predicts must be finite numbers. "
            "Did its training diverge?"
        )
    return proba


def _calibrate(train, test, metadata, train_size) -> list[Fold]:
    """Part the test corpus by subject, each recording into first and last trials."""
    folds = []
    rows_of = metadata.iloc[test].groupby(["corpus", "subject"]).indices
    for rows in rows_of.values():
        rows = test[rows]
        trials = metadata.iloc[rows][["session", "trial"]].to_numpy()
        ((first, last),) = ChronologicalSplit(train_size).split(rows, None, trials)
        folds.append(Fold(train, rows[last], rows[first]))
    return folds


def _check_folds(protocol, folds, y, metadata) -> None:
    if not folds:
        raise ValueError("there is nothing to hold out, such as a second session.")
    of_row = {
        what: np.unique(group_ids(metadata, what), return_inverse=True)
        for what in protocol.never_shared
    }
    for fold in folds:
        given = np.concatenate([fold.train, fold.calibration])
        for what, (names, codes) in of_row.items():
            train, test = (names[np.unique(codes[rows])] for rows in (given, fold.test))
            check_disjoint(train, test, what)
        if missing := sorted(set(y[fold.test].tolist()) - set(y[given].tolist())):
            raise ValueError(
                f"no training trial of the classes {missing} is left for the fold that "
                f"tests {_name_rows(metadata.iloc[fold.test])}. Choose other options, "
                "more subjects or fewer classes."
            )


def _name_rows(metadata) -> str:
    """Name the corpora, and the subject and the session if there is but one."""
    names = [", ".join(map(str, metadata["corpus"].unique()))]
    for column in ("subject", "session"):
        values = metadata[column].unique()
        if len(values) == 1:
            names.append(f"{column} {values[0]}")
    return ", ".join(names)


def _asks_for_calibration(pipeline) -> bool:
    with config_context(enable_metadata_routing=True):
        asked = get_routing_for_object(pipeline).consumes("fit", ["X_target_labeled"])
    return bool(asked)


def _first_metric(scoring):
    """Return what GridSearchCV refits by."""
    return next(iter(scoring)) if isinstance(scoring, list | dict) else True
