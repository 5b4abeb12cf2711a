"""The folds of a protocol: dividing windows, fitting one fold and predicting it."""

from __future__ import annotations

import hashlib
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from itertools import combinations
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object

from braindecode_emossl.errors import LeakageError, collect_warnings
from braindecode_emossl.evaluation.mapped import map_rows
from braindecode_emossl.evaluation.probes import (
    ProbeJob,
    probe_pipeline,
    read_diagnosis,
    thin_out,
)
from braindecode_emossl.evaluation.protocols import KEYS, Parts, Protocol
from braindecode_emossl.evaluation.splitters import TrialKFold, check_disjoint
from braindecode_emossl.paradigms.labels import UNLABELED

__all__ = [
    "FailedFold",
    "Fold",
    "FoldData",
    "FoldJob",
    "FoldResult",
    "Windows",
    "group_ids",
    "make_folds",
    "requested_by",
    "run_fold",
    "run_numbered_fold",
]

#: Fit parameters that are windows, which a pipeline's earlier steps must transform.
WINDOWS = ("X_unlabeled", "X_target_labeled", "X_target_unlabeled", "X_val")
#: All that :func:`evaluate` offers to a pipeline's ``fit``.
OFFERED = (
    "metadata",
    "subjects",
    *WINDOWS,
    "metadata_unlabeled",
    "y_target_labeled",
    "y_val",
    "held_out",
)
# Folds of the search for hyper-parameters, as in MOABB.
_N_INNER_SPLITS = 3
_RESPONSES = ("predict", "predict_proba", "predict_log_proba", "decision_function")
# (windows, their rows) -> windows of the same shape
Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _none() -> np.ndarray:
    return np.empty(0, int)


class Windows:
    """Windows with their labels and metadata, and the trials that they come from.

    Parameters
    ----------
    X : ndarray, shape (n_windows, ...)
        Windows.
    y : ndarray of str, shape (n_windows,)
        Labels; ``UNLABELED`` where a trial has none.
    metadata : DataFrame, n_windows rows
        One row per window.
    n_extra : int
        Number of windows, at the end, of corpora that are only used without labels.

    Attributes
    ----------
    trials : DataFrame
        One row a trial: the columns of ``KEYS``, ``label`` and ``extra``.
    """

    def __init__(self, X, y, metadata, n_extra=0):
        self.X, self.y = X, y
        self.metadata = metadata.reset_index(drop=True)
        by_trial = self.metadata.groupby(list(KEYS["trial"]), sort=False, observed=True)
        self._trial_of_window = by_trial.ngroup().to_numpy()
        _, first = np.unique(self._trial_of_window, return_index=True)
        columns = sorted({name for names in KEYS.values() for name in names})
        self.trials = self.metadata.iloc[first][columns].reset_index(drop=True)
        self.trials["label"] = y[first]
        self.trials["extra"] = first >= len(y) - n_extra

    def rows_of(self, trials: np.ndarray) -> np.ndarray:
        """Return the windows of some trials, in ascending order.

        Parameters
        ----------
        trials : ndarray of int
            Row numbers of ``trials``.

        Returns
        -------
        ndarray of int
            Row numbers of the windows.
        """
        chosen = np.zeros(len(self.trials), bool)
        chosen[trials] = True
        return np.flatnonzero(chosen[self._trial_of_window])


@dataclass(frozen=True)
class Fold:
    """The windows of one fold, as row numbers.

    Attributes
    ----------
    train : ndarray of int
        Training windows with labels.
    test : ndarray of int
        Test windows.
    calibration : ndarray of int
        Windows of the test subject whose labels are given.
    validation : ndarray of int
        Windows of the validation subjects.
    unlabeled : ndarray of int
        Further training windows whose labels are withheld or unknown.
    change : callable or None
        Changes windows before they are given to a pipeline: takes an array of windows
        and their row numbers, and returns an array of the same shape.
    part : str
        Which of several folds a control has made of this one: ``""``,
        ``"reference"``, or the number of a random draw.
    """

    train: np.ndarray
    test: np.ndarray
    calibration: np.ndarray = field(default_factory=_none)
    validation: np.ndarray = field(default_factory=_none)
    unlabeled: np.ndarray = field(default_factory=_none)
    change: Change | None = None
    part: str = ""


@dataclass(frozen=True, kw_only=True)
class FoldData(Fold):
    """A fold together with its windows, as a control receives it.

    The attributes with row numbers are ``train`` (training windows with labels),
    ``test``, ``calibration`` (windows of the test subject whose labels are given),
    ``validation`` (windows of the validation subjects) and ``unlabeled`` (training
    windows whose labels are withheld or unknown). A fold cannot be modified: a changed
    one is made by :func:`dataclasses.replace` or :meth:`change_windows`.

    Attributes
    ----------
    X : ndarray, shape (n_windows, n_chans, n_times)
        All windows that were loaded together, in microvolts, or their features.
    y : ndarray of str, shape (n_windows,)
        Labels; ``"unlabeled"`` where a trial has none.
    metadata : DataFrame, n_windows rows
        One row per window: ``corpus``, ``subject``, ``session``, ``trial``,
        ``stimulus``, ``window`` and what the corpus adds.
    sfreq : float
        Sampling rate in Hz.
    are_features : bool
        Whether the windows are features, which have no time axis.
    """

    X: np.ndarray
    y: np.ndarray
    metadata: pd.DataFrame
    sfreq: float
    are_features: bool = False

    def change_windows(self, change: Change) -> FoldData:
        """Return a fold whose windows are changed when a pipeline receives them.

        All windows of ``X`` together may be too large for a second copy, so the change
        is applied to those that are about to be passed to ``fit`` or ``predict``, and
        of large arrays to some at a time.

        Parameters
        ----------
        change : callable
            Takes an array of windows and their row numbers, and returns an array of the
            same shape. It must be picklable.

        Returns
        -------
        FoldData
            The changed fold.
        """
        return replace(self, change=change)


@dataclass
class FoldResult:
    """The result of a fold.

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
        Number of labelled training windows, and of channels.
    target_access : str
        What the pipeline was given of the test subject: ``"none"``,
        ``"statistics"``, ``"unlabeled"`` or ``"calibration"``.
    part : str
        The part of a control, see :class:`Fold`.
    probes : dict of str to float, or None
        What linear probes read from features; None if they were not asked for.
    diagnosis : dict of str to float, or None
        Features before and after pre-training; None without pre-training.
    """

    predictions: pd.DataFrame
    scores: list[dict[str, Any]]
    seconds: float
    n_train: int
    n_chans: int
    target_access: str = "none"
    part: str = ""
    probes: dict[str, float] | None = None
    diagnosis: dict[str, float] | None = None


@dataclass
class FailedFold:
    """A fold whose pipeline failed.

    Attributes
    ----------
    error : Exception
        Why.
    """

    error: Exception

    def __reduce__(self):
        # A worker cannot send tracebacks, nor errors that pickle does not rebuild.
        error = self.error
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        error.add_note("".join(traceback.format_exception(self.error)))
        return FailedFold, (error,)


# -- dividing ------------------------------------------------------------------


def make_folds(
    protocol: Protocol, options: Mapping[str, Any], trials: pd.DataFrame, seed: int
) -> list[Parts]:
    """Divide trials by a protocol, and check that nothing leaks.

    Parameters
    ----------
    protocol : Protocol
        The protocol.
    options : mapping of str to object
        All its options.
    trials : DataFrame
        One row a trial, with the columns of ``KEYS`` and ``label``. Trials without a
        label are in no fold.
    seed : int
        Seed of the folds.

    Returns
    -------
    list of Parts
        Row numbers of ``trials``.

    Raises
    ------
    ValueError
        If the parts of a fold share what they must not, or a part lacks classes.
    """
    places = np.flatnonzero((trials["label"] != UNLABELED).to_numpy())
    labeled = trials.iloc[places].reset_index(drop=True)
    try:
        folds = list(protocol.split(labeled, options, seed)) if len(labeled) else []
        _check_folds(protocol, folds, labeled)
    except ValueError as error:
        raise ValueError(
            f"The protocol {protocol.name!r} cannot divide "
            f"{describe_rows(labeled if len(labeled) else trials)}: {error}"
        ) from error
    return [Parts(**{k: places[rows] for k, rows in vars(f).items()}) for f in folds]


def find_unlabeled(
    protocol: Protocol, parts: Parts, trials: pd.DataFrame
) -> np.ndarray:
    """Return the trials without labels that may join the training set of a fold.

    Parameters
    ----------
    protocol : Protocol
        The protocol.
    parts : Parts
        The fold.
    trials : DataFrame
        One row a trial.

    Returns
    -------
    ndarray of int
        Row numbers of ``trials``.
    """
    allowed = (trials["label"] == UNLABELED).to_numpy(copy=True)
    if not allowed.any():
        return _none()
    held_out = np.concatenate([parts.test, parts.validation])
    for what in protocol.unlabeled_apart:
        names = group_ids(trials, what)
        allowed &= ~np.isin(names, names[held_out])
    # Of the corpora that are only used without labels, no subject may be tested.
    subjects = group_ids(trials, "subject")
    allowed &= ~(trials["extra"].to_numpy() & np.isin(subjects, subjects[held_out]))
    if protocol.in_order:
        sessions = group_ids(trials, "session")
        first_test = (
            trials.iloc[parts.test].groupby(sessions[parts.test])["trial"].min()
        )
        limits = pd.Series(sessions).map(first_test).fillna(np.inf).to_numpy()
        allowed &= trials["trial"].to_numpy() < limits
    return np.flatnonzero(allowed)


def draw_labeled(trials: pd.DataFrame, n_trials: int | None, seed: int) -> np.ndarray:
    """Draw the trials whose labels are given: so many a class and training subject.

    The trials of a smaller number are among those of a larger one.

    Parameters
    ----------
    trials : DataFrame
        Training trials, one row a trial.
    n_trials : int or None
        Number of labelled trials of each class and subject; None for all.
    seed : int
        Seed of the draw.

    Returns
    -------
    ndarray of bool, shape (n_rows,)
        True where the label is given.
    """
    if n_trials is None:
        return np.ones(len(trials), bool)
    # A key for each trial, so that a subject has the same labelled trials in all folds.
    order = np.argsort([draw_key(name, seed) for name in group_ids(trials, "trial")])
    shuffled = trials.iloc[order]
    keys = [*KEYS["subject"], "label"]
    chosen = shuffled.groupby(keys, observed=True).cumcount().to_numpy() < n_trials
    mask = np.zeros(len(trials), bool)
    mask[order[chosen]] = True
    counts = trials[mask].groupby(keys, observed=True).size()
    if len(few := counts[counts < n_trials]):
        corpus, subject, label = few.index[0]
        warnings.warn(
            f"n_labeled_trials={n_trials}, but subject {subject} of {corpus} has only "
            f"{few.iloc[0]} training trials of the class {label!r} ({len(few)} such "
            "cases): all of them are labelled.",
            stacklevel=2,
        )
    return mask


def draw_key(name: str, seed: int) -> int:
    """Return a number that is random, but the same for the same name and seed.

    Parameters
    ----------
    name : str
        Such as the name of a trial.
    seed : int
        Seed of the draw.

    Returns
    -------
    int
        From 0 to 2**63 - 1.
    """
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def group_ids(metadata: pd.DataFrame, what: str) -> np.ndarray:
    """Return a name of each row's trial, stimulus, session, subject or corpus.

    Parameters
    ----------
    metadata : DataFrame
        One row per window or trial.
    what : str
        A key of ``KEYS``.

    Returns
    -------
    ndarray of str, shape (n_rows,)
        Names such as ``"SEED subject 1 session 0 trial 3"``, unique over corpora.
    """
    corpus, *rest = KEYS[what]
    names = metadata[corpus].astype(str)
    for column in rest:
        names = names + f" {column} " + metadata[column].astype(str)
    return names.to_numpy(str)


def describe_rows(metadata: pd.DataFrame) -> str:
    """Name the corpora of some rows, and subject and session if there is only one.

    Parameters
    ----------
    metadata : DataFrame
        One row per window or trial.

    Returns
    -------
    str
        Such as ``"SEED, subject 1"``.
    """
    names = [", ".join(map(str, metadata["corpus"].unique()))]
    for column in ("subject", "session"):
        values = metadata[column].unique()
        if len(values) == 1:
            names.append(f"{column} {values[0]}")
    return ", ".join(names)


def _check_folds(protocol: Protocol, folds: Sequence[Parts], trials) -> None:
    """Refuse folds that leak, and folds without training trials of a test class."""
    if not folds:
        raise ValueError("there is nothing to hold out, such as a second session.")
    names_of = {
        what: (group_ids(trials, what), trials.groupby(list(KEYS[what])).ngroup())
        for what in protocol.never_shared
    }
    labels = trials["label"].to_numpy(str)
    for fold in folds:
        given = np.concatenate([fold.train, fold.calibration])
        parts = given, fold.test, fold.validation
        for what, (names, codes) in names_of.items():
            for first, second in combinations(parts, 2):
                if np.isin(codes.iloc[first], codes.iloc[second]).any():
                    check_disjoint(names[first], names[second], what)
        if len(known := sorted(set(labels[given].tolist()))) < 2:
            where = describe_rows(trials.iloc[fold.test])
            raise ValueError(
                "the training set must have at least two classes, but for the test "
                f"set of {where} it has only {known}."
            )
        held_out = np.concatenate([fold.test, fold.validation])
        if missing := sorted(set(labels[held_out]) - set(labels[given])):
            where = describe_rows(trials.iloc[fold.test])
            raise ValueError(
                f"no training trial of the classes {list(map(str, missing))} is left "
                f"for the fold that tests {where}. Choose other options, more subjects "
                "or fewer classes."
            )


# -- fitting and predicting ----------------------------------------------------


def requested_by(pipeline: BaseEstimator, names=OFFERED) -> set[str]:
    """Return which fit parameters a pipeline asks for by metadata routing.

    Parameters
    ----------
    pipeline : BaseEstimator
        A classifier, or a pipeline of scikit-learn.
    names : sequence of str
        The parameters that are offered.

    Returns
    -------
    set of str
        Those that ``fit`` can be given.
    """
    with config_context(enable_metadata_routing=True):
        try:
            return set(get_routing_for_object(pipeline).consumes("fit", list(names)))
        except NotImplementedError:  # such as AdaBoost, which routes nothing
            return set()


@dataclass
class FoldJob:
    """One pipeline in one fold: all that a worker needs besides the windows.

    Attributes
    ----------
    pipeline : BaseEstimator
        A classifier.
    grid : mapping, sequence or None
        Values of hyper-parameters to choose from.
    scoring : str, callable, list or dict
        The paradigm's metric.
    random_state : int
        Seed of the search for hyper-parameters.
    classes : ndarray of str
        Labels of the training set, sorted.
    train : ndarray of int
        Rows to fit on.
    labels : ndarray of int
        Their labels, as numbers of ``classes``.
    recordings : list of tuple of ndarray
        Rows and labels of each test recording.
    fit_rows : dict of str to ndarray of int
        Windows that ``fit`` is given besides, by parameter.
    fit_params : dict of str to object
        All other fit parameters.
    groups : ndarray or None
        Trial of each training window, for the search.
    target_access : str
        ``"calibration"``, ``"unlabeled"`` or ``"none"``, as ``fit`` is given labelled
        windows, windows without labels, or nothing of the test subject.
    change : callable or None
        Changes windows before the pipeline receives them, see :class:`Fold`.
    probe : ProbeJob or None
        The windows whose features are probed.
    is_mapped : bool
        Whether the windows are mapped from a file, as those passed to ``fit`` must then
        also be.
    """

    pipeline: BaseEstimator
    grid: Any
    scoring: Any
    random_state: int
    classes: np.ndarray
    train: np.ndarray
    labels: np.ndarray
    recordings: list[tuple[np.ndarray, np.ndarray]]
    fit_rows: dict[str, np.ndarray]
    fit_params: dict[str, Any]
    groups: np.ndarray | None = None
    target_access: str = "none"
    change: Change | None = None
    probe: ProbeJob | None = None
    is_mapped: bool = False

    def take_all(self, X, rows: np.ndarray) -> np.ndarray:
        """Return the same as :meth:`take` for ``fit``, mapped where ``X`` is.

        Parameters
        ----------
        X : ndarray, shape (n_windows, ...)
            All windows.
        rows : ndarray of int
            Row numbers.

        Returns
        -------
        ndarray, shape (n_rows, ...)
            The windows.
        """
        return map_rows(X, rows, self.take) if self.is_mapped else self.take(X, rows)

    def take(self, X, rows: np.ndarray) -> np.ndarray:
        """Return the windows of some rows as the pipeline receives them.

        Parameters
        ----------
        X : ndarray, shape (n_windows, ...)
            All windows.
        rows : ndarray of int
            Row numbers.

        Returns
        -------
        ndarray, shape (n_rows, ...)
            The windows.

        Raises
        ------
        ValueError
            If the change returns another shape.
        """
        windows = X[rows]
        if self.change is None:
            return windows
        changed = np.asarray(self.change(windows, rows))
        if changed.shape != windows.shape:
            raise ValueError(
                "The change of a control must return windows of the shape that it is "
                f"given, {windows.shape}, but returned {changed.shape}."
            )
        return changed


@dataclass
class Predicted:
    """The output of :func:`run_fold`, in the order of the test recordings.

    Attributes
    ----------
    proba : ndarray, shape (n_test, n_classes)
        Probabilities.
    codes : ndarray of int, shape (n_test,)
        Predicted classes.
    scores : list of dict
        The paradigm's metric of each recording.
    seconds : float
        Time to fit.
    probes : dict of str to float, or None
        What linear probes read from the features.
    diagnosis : dict of str to float, or None
        Features before and after pre-training.
    """

    proba: np.ndarray
    codes: np.ndarray
    scores: list[dict[str, float]]
    seconds: float
    probes: dict[str, float] | None = None
    diagnosis: dict[str, float] | None = None


def make_job(
    windows: Windows | FoldData,
    fold: Fold,
    pipeline: BaseEstimator,
    *,
    grid=None,
    scoring="accuracy",
    random_state=0,
    adapt=None,
) -> FoldJob:
    """Return one pipeline in one fold, with the fit parameters that it asks for.

    Parameters
    ----------
    windows : Windows or FoldData
        Labels and metadata of all windows.
    fold : Fold
        The fold.
    pipeline : BaseEstimator
        A classifier.
    grid : mapping, sequence or None
        Values of hyper-parameters to choose from, by cross-validation on whole trials
        of the training set.
    scoring : str, callable, list or dict
        The paradigm's metric.
    random_state : int
        Seed of the search.
    adapt : {"unlabeled"} or None
        Whether the test windows are offered without their labels.

    Returns
    -------
    FoldJob
        Ready to be pickled.
    """
    metadata, y = windows.metadata, windows.y
    asked = requested_by(pipeline)
    train, calibration = fold.train, fold.calibration
    if "X_target_labeled" not in asked:  # then these windows train like the others
        train, calibration = np.concatenate([train, calibration]), _none()
    classes = np.unique(y[np.concatenate([train, calibration])])
    used = np.unique(y[np.concatenate([fold.test, fold.validation])])
    if len(missing := np.setdiff1d(used, classes)):
        raise ValueError(
            "The training set of a fold must have the classes of its test and "
            f"validation sets, but lacks {missing.tolist()}. A control that changes "
            "folds must keep the classes."
        )
    fit_rows = {
        "X_unlabeled": fold.unlabeled,
        "X_target_labeled": calibration,
        "X_target_unlabeled": fold.test if adapt == "unlabeled" else _none(),
        "X_val": fold.validation,
    }
    fit_rows = {k: rows for k, rows in fit_rows.items() if k in asked and len(rows)}
    if grid or _divides_windows(pipeline):
        # In its inner folds scikit-learn divides whatever is as long as X, like X.
        fit_rows = {k: rows[len(rows) == len(train) :] for k, rows in fit_rows.items()}
    fit_params = _take_metadata(metadata, train, fold.test, fit_rows, asked)
    for name in ("target_labeled", "val"):
        if f"X_{name}" in fit_rows and f"y_{name}" in asked:
            labels = y[fit_rows[f"X_{name}"]]
            fit_params[f"y_{name}"] = np.searchsorted(classes, labels)
    return FoldJob(
        pipeline=pipeline,
        grid=grid,
        scoring=scoring,
        random_state=random_state,
        classes=classes,
        train=train,
        labels=np.searchsorted(classes, y[train]),
        recordings=[
            (rows, np.searchsorted(classes, y[rows]))
            for _, rows in recordings_of(metadata, fold.test)
        ],
        fit_rows=fit_rows,
        fit_params=fit_params,
        groups=group_ids(metadata.iloc[train], "trial") if grid else None,
        target_access="calibration"
        if len(fold.calibration)
        else "unlabeled"
        if "X_target_unlabeled" in fit_rows
        else "none",
        change=fold.change,
        is_mapped=isinstance(windows.X, np.memmap),
    )


def _take_metadata(metadata: pd.DataFrame, train, test, fit_rows, asked) -> dict:
    """Return the fit parameters that are made from metadata, as far as asked for."""

    def take(rows):
        return metadata.iloc[rows].reset_index(drop=True)

    makers: dict[str, Callable[[], Any]] = {
        "metadata": lambda: take(train),
        "subjects": lambda: _name_subjects(metadata.iloc[train]),
        "held_out": lambda: take(test)[list(KEYS["session"])].drop_duplicates(
            ignore_index=True
        ),
    }
    if "X_unlabeled" in fit_rows:
        makers["metadata_unlabeled"] = lambda: take(fit_rows["X_unlabeled"])
    return {name: make() for name, make in makers.items() if name in asked}


def make_probe_job(data: FoldData, train: np.ndarray, reference) -> ProbeJob:
    """Return which windows of a fold are probed, and for what.

    Parameters
    ----------
    data : FoldData
        The fold.
    train : ndarray of int
        Rows that the pipeline is fitted on.
    reference : estimator or None
        Transforms windows into differential entropy.

    Returns
    -------
    ProbeJob
        Ready to be pickled.
    """
    train, test = thin_out(train), thin_out(data.test)
    rows = np.concatenate([train, test])
    metadata = data.metadata.iloc[rows]
    names = {k: group_ids(metadata, k) for k in ("subject", "stimulus", "trial")}
    session = metadata["session"].to_numpy(str)
    table = pd.DataFrame({**names, "session": session, "label": data.y[rows]})
    return ProbeJob(rows, len(train), table, reference)


def _divides_windows(pipeline: BaseEstimator) -> bool:
    """Return whether some part fits by cross-validation."""
    return any(key.rpartition("__")[2] == "cv" for key in pipeline.get_params())


def recordings_of(metadata: pd.DataFrame, rows: np.ndarray) -> list[tuple]:
    """Return the rows of each recording among some rows.

    Parameters
    ----------
    metadata : DataFrame
        One row per window.
    rows : ndarray of int
        Rows to divide.

    Returns
    -------
    list of (tuple, ndarray of int)
        ``(corpus, subject, session)`` and rows, sorted.
    """
    by = metadata.iloc[rows].groupby(list(KEYS["session"]), observed=True)
    return [(key, rows[places]) for key, places in by.indices.items()]


def run_fold(X, job: FoldJob) -> Predicted | FailedFold:
    """Fit a clone of a pipeline and predict each test recording once.

    Parameters
    ----------
    X : ndarray, shape (n_windows, ...)
        All windows.
    job : FoldJob
        Pipeline and rows.

    Returns
    -------
    Predicted or FailedFold
        A leak is always raised.
    """
    try:
        estimator = _prepare(job)
        fit_params = {k: job.take_all(X, rows) for k, rows in job.fit_rows.items()}
        fit_params |= job.fit_params
        train = job.take_all(X, job.train)
        start = perf_counter()
        with config_context(enable_metadata_routing=bool(fit_params)):
            estimator.fit(train, job.labels, **fit_params)
        seconds = perf_counter() - start
        del train, fit_params
        predicted = _predict(estimator, X, job, seconds)
        predicted.diagnosis = read_diagnosis(estimator)
        if job.probe is not None:
            predicted.probes = probe_pipeline(estimator, X, job.probe)
        return predicted
    except LeakageError:
        raise
    except Exception as error:  # the caller names the pipeline and the fold
        return FailedFold(error)


def run_numbered_fold(number: int, caller: int, X, job: FoldJob):
    """Run a fold in a worker, which imports this module and what the fold needs."""
    return number, *collect_warnings(caller, run_fold, X, job)


def _prepare(job: FoldJob) -> BaseEstimator:
    """Return a clone of the pipeline, in a search if there is a grid."""
    estimator = clone(job.pipeline)
    if job.fit_rows:
        for part in (estimator, *estimator.get_params().values()):
            if isinstance(part, Pipeline):
                known = part.transform_input or []
                part.set_params(
                    transform_input=list(dict.fromkeys([*known, *job.fit_rows]))
                )
    if not job.grid:
        return estimator
    inner = TrialKFold(_N_INNER_SPLITS, random_state=job.random_state)
    several = isinstance(job.scoring, list | dict)
    return GridSearchCV(
        estimator,
        job.grid,
        scoring=job.scoring,
        cv=list(inner.split(job.groups, job.labels, job.groups)),
        refit=next(iter(job.scoring)) if several else True,
    )


def _predict(estimator, X, job: FoldJob, seconds: float) -> Predicted:
    """Predict and score the test recordings one by one."""
    scorers = _make_scorers(estimator, job.scoring)
    probas, codes, scores = [], [], []
    # One at a time, as a pipeline may scale the windows that it is given together.
    for rows, labels in job.recordings:
        windows = job.take(X, rows)
        known = _Responses(estimator, windows)
        probas.append(_probabilities(known, windows, len(job.classes)))
        codes.append(_check_codes(known.predict(windows), len(job.classes)))
        values = {}
        for name, score in scorers.items():
            try:
                values[name] = float(score(known, windows, labels))
            except ValueError as error:  # such as ROC-AUC of a recording of one class
                warnings.warn(
                    f"A score is not defined, and NaN: {name}: {error}", stacklevel=2
                )
                values[name] = np.nan
        # Of several metrics, the first is the score.
        scores.append({"score": next(iter(values.values())), **values})
    return Predicted(np.concatenate(probas), np.concatenate(codes), scores, seconds)


def _check_codes(predicted, n_classes: int) -> np.ndarray:
    """Return predicted classes as integers."""
    codes = np.asarray(predicted, int)
    wrong = (codes != predicted) | (codes < 0) | (codes >= n_classes)
    if wrong.any():
        raise ValueError(
            f"predict must return the labels that fit was given, 0 to {n_classes - 1}, "
            f"but returned {np.asarray(predicted)[wrong][0]!r}."
        )
    return codes


def _make_scorers(estimator, scoring) -> dict[str, Callable[..., float]]:
    """Return the metrics by MOABB's names of their scores."""
    if isinstance(scoring, list):
        scoring = {name: name for name in scoring}
    named = (
        {f"score_{name}": metric for name, metric in scoring.items()}
        if isinstance(scoring, dict)
        else {"score": scoring}
    )
    return {k: check_scoring(estimator, scoring=v) for k, v in named.items()}


class _Responses:
    """A fitted estimator that passes some windows through each of its parts once."""

    def __init__(self, estimator, windows):
        self._estimator = estimator
        self._windows = windows
        self._known: dict[str, np.ndarray] = {}
        self._features = None  # output of a pipeline's steps before the last

    @property  # type: ignore[misc]  # typeshed has a setter, too
    def __class__(self):
        """The class of the estimator, which scorers name in their errors."""
        return type(self._estimator)

    def __getattr__(self, name: str):
        method = getattr(self._estimator, name)
        if name not in _RESPONSES:
            return method

        @wraps(method)  # scikit-learn looks at the name
        def respond(X, **params):
            if X is not self._windows or params:
                return method(X, **params)
            if name not in self._known:
                self._known[name] = self._compute(name, method)
            return self._known[name]

        return respond

    def _compute(self, name: str, method) -> np.ndarray:
        if name == "predict" and _predicts_most_probable(self._estimator):
            proba = self.predict_proba(self._windows)
            return np.asarray(self._estimator.classes_)[proba.argmax(axis=1)]
        estimator = getattr(self._estimator, "best_estimator_", self._estimator)
        # Pipelines of others may have steps that only fit, such as samplers.
        if type(estimator) is not Pipeline or len(estimator) < 2:
            return method(self._windows)
        if self._features is None:
            self._features = self._windows
            for _, step in estimator.steps[:-1]:
                if step not in (None, "passthrough"):
                    self._features = step.transform(self._features)
        return getattr(estimator[-1], name)(self._features)


def _predicts_most_probable(estimator) -> bool:
    """Return whether predicting again would only repeat a network's forward pass."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    if "skorch" not in sys.modules:  # so it is none of these, which take long to import
        return False
    from skorch import NeuralNetClassifier

    from braindecode_emossl.pretraining.classifier import SSLClassifier

    if not isinstance(estimator, SSLClassifier | NeuralNetClassifier):
        return False
    # A subclass of the user's may predict something else.
    owner = type(estimator).predict.__module__.partition(".")[0]
    return owner in ("braindecode_emossl", "braindecode", "skorch")


def _probabilities(estimator, windows, n_classes: int) -> np.ndarray:
    """Return (n_windows, n_classes), of certain votes where there are none."""
    labels = np.asarray(getattr(estimator, "classes_", np.arange(n_classes)))
    proba = np.zeros((len(windows), n_classes))
    if hasattr(estimator, "predict_proba"):
        proba[:, labels] = estimator.predict_proba(windows)
    else:
        proba[np.arange(len(windows)), estimator.predict(windows)] = 1.0
    if not np.isfinite(proba).all():
        raise ValueError(
            "The predicted probabilities must be finite numbers. Did the training "
            "diverge?"
        )
    return proba


def _name_subjects(metadata: pd.DataFrame) -> np.ndarray:
    """Return the subject of each window, with the corpus where there are several."""
    if metadata["corpus"].nunique() == 1:
        return metadata["subject"].to_numpy()
    return group_ids(metadata, "subject")
