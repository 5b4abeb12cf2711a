"""The function that evaluates pipelines under a protocol."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import joblib
import numpy as np
import pandas as pd
from joblib.parallel import get_active_backend
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline

from braindecode_emossl.checks import is_count, is_integer
from braindecode_emossl.errors import FoldError, repeat_warnings
from braindecode_emossl.evaluation.baselines import (
    EEGBandFeatures,
    describe_mechanism,
    list_parts,
)
from braindecode_emossl.evaluation.controls import Control, find_controls
from braindecode_emossl.evaluation.folds import (
    FailedFold,
    FoldData,
    FoldJob,
    FoldResult,
    Predicted,
    Windows,
    describe_rows,
    draw_labeled,
    find_unlabeled,
    make_job,
    make_probe_job,
    recordings_of,
    requested_by,
    run_numbered_fold,
)
from braindecode_emossl.evaluation.pipelines import (
    are_entropy,
    check_needs,
    check_pipelines,
)
from braindecode_emossl.evaluation.protocols import Parts
from braindecode_emossl.evaluation.scores import CodedPredictions
from braindecode_emossl.evaluation.signal import set_signal
from braindecode_emossl.evaluation.store import FoldStore, PipelineStore, read_fold
from braindecode_emossl.evaluation.tasks import Task, make_tasks
from braindecode_emossl.pretraining.classifier import SSLClassifier
from braindecode_emossl.storage import digest_files, hash_json, hash_object

__all__ = ["evaluate"]

# Seconds that a worker takes to start, as it imports torch and the hosts.
_WORKER_START = 10.0


def evaluate(
    pipelines,
    datasets,
    paradigm,
    protocol,
    *,
    random_state=None,
    seeds=None,
    n_labeled_trials=None,
    unlabeled=None,
    on_error="raise",
    n_jobs=1,
    results_dir=None,
    resume=True,
    overwrite=False,
    shard=None,
    param_grid=None,
    controls=None,
    probes=False,
    cache_config=None,
    on_fold: Callable[[str, int, int], None] = lambda corpus, n_done, n_folds: None,
    **options,
):
    """Evaluate pipelines on emotion corpora under a protocol that cannot leak.

    Parameters
    ----------
    pipelines : dict of str to estimator
        Classifiers by name; a clone is fitted in each fold.
    datasets : list of BaseDataset
        Corpora. Each corpus is evaluated separately, except in cross-corpus protocols,
        where each is the test corpus once (see ``test_corpora``).
    paradigm : Emotion
        Defines the windows and the labels.
    protocol : str
        A name of ``PROTOCOLS``, with its options in parentheses:

        * ``"within-session"``: test on whole trials of a session, train on its others
          (``n_splits``, 5); with ``folds="official"``, the folds of the makers, which
          take trials of all sessions together (SEED-V, SEED-VII);
        * ``"chronological"``: train on the first trials of a session, test on the last
          (``train_size``, 0.6 of them, or a number of trials);
        * ``"cross-session"``: test on one session of a subject, train on the others;
        * ``"leave-one-subject-out"``: test on one subject, train on all others, who saw
          the same stimuli;
        * ``"subject-kfold"``: test on a group of subjects (``n_splits``, 5);
        * ``"subject-split"``: divide the subjects once (``train``, ``validation``,
          ``test``: counts, shares or lists of subjects; 0.8, 0.1, 0.1). Validation
          subjects are given to pipelines that ask for ``X_val``, and to no others;
        * ``"subject-calibration"``: leave one subject out, where the first trials of
          each class of the test subject are given with labels (``n_trials``, 1);
        * ``"subject-stimulus"``: test on some stimuli of one subject, train on the
          other subjects with the other stimuli (``n_stimulus_splits``, 5);
        * ``"cross-corpus"``: test on one corpus, train on the others
          (``test_corpora``, all in turn; ``channels``, ``"intersect"`` or
          ``"union"``, which fills missing channels with zeros);
        * ``"cross-corpus-finetune"``: the same, and the first trials of each recording
          of the test subject are trained on too, with labels (``train_size``, 0.6).

        With ``adapt="unlabeled"`` any protocol offers the test windows, without their
        labels, as ``X_target_unlabeled``.
    random_state : int, RandomState or None
        Seed of the folds and, without ``seeds``, of the labelled trials. The pipelines
        have seeds of their own.
    seeds : list of int or None
        Runs each pipeline once for each seed, which is set as ``random_state`` at any
        depth of it and also draws the labelled trials; estimators in ``param_grid``
        keep their own. None runs it once, as it is.
    n_labeled_trials : int, None, or list of these
        Number of labelled trials of each class and training subject; None means all.
        All other training windows are offered as ``X_unlabeled``. The pipelines are
        evaluated for each of several numbers.
    unlabeled : list of BaseDataset or None
        Further corpora, whose windows are offered as ``X_unlabeled``, with the channels
        and the rate that all corpora have in common. Test subjects are left out.
    on_error : {"raise", "warn"}
        Whether a pipeline that fails in a fold, or a subject whose trials cannot be
        divided, stops the evaluation or is left out with a warning. A later call tries
        such a fold again.
    n_jobs : int
        Folds to run at a time. With 1 a surrounding :func:`joblib.parallel_config`
        decides, so that a cluster can take the folds. Workers are started only if the
        folds take longer than starting them.
    results_dir : path or None
        Folder in which each fold is stored as soon as it is finished. If None, nothing
        is stored.
    resume : bool
        Take finished folds from ``results_dir``. If False, there must be none.
    overwrite : bool
        Delete finished folds of the same evaluations first.
    shard : tuple of int or None
        ``(k, n)``: run only the k-th of n shards of the folds, counted from 0, as one
        of n jobs on a cluster. Needs ``results_dir`` and an integer ``random_state``.
        A call without ``shard`` then gathers the table of all.
    param_grid : dict of str to dict, or None
        Hyper-parameters to search, by name of the pipeline, as for
        :class:`~sklearn.model_selection.GridSearchCV`; the search divides the training
        set by whole trials.
    controls : list, "all" or None
        Evaluations of changed folds, for each pipeline, seed and number of labelled
        trials. Names are ``"permuted-labels"``, ``"injected-signal"``,
        ``"shuffled-time"``, ``"reversed-time"``, ``"phase-randomized"`` and
        ``"stimulus-seen"``, see :mod:`braindecode_emossl.evaluation.controls`. A pair
        such as ``("injected-signal", {"snr": 0.2})`` sets options. A function
        ``f(fold, rng, **options)`` that yields changed folds (:class:`FoldData`) is
        also a control.
    probes : bool
        Whether to measure how well a linear probe reads subject, session, stimulus and
        label from the features of each pipeline and from differential entropy.
    cache_config : CacheConfig or None
        MOABB's disk cache of signals.
    on_fold : callable
        Called after each fold with the code of the corpus, the number of finished folds
        and the number of all folds of the corpus or of the shard.
    **options
        Options of the protocol; see ``protocol``.

    Returns
    -------
    DataFrame
        MOABB's columns, one row for each corpus, pipeline, subject and session:
        ``score`` (the paradigm's metric by window, averaged over folds), ``time`` (s,
        to fit a fold), ``samples`` (labelled training windows), ``samples_test``,
        ``n_classes``, ``channels``, ``n_sessions``, ``subject``, ``session``,
        ``dataset``, ``pipeline``. Further columns are ``protocol``, ``train_corpora``,
        ``n_trials_test``, ``seed``, ``n_labeled_trials`` (missing where all trials are
        labelled), ``target_access``, ``regime``, ``control`` (empty for results),
        ``control_part``, and the scores of :func:`score_predictions` over all folds
        together. Where an :class:`~braindecode_emossl.pretraining.SSLClassifier` was
        pre-trained there are ``rank_before`` and ``rank_after``, and the same of
        ``subject`` and ``stimulus``: the features of training windows before and after
        pre-training, as of :meth:`SSLPretrainer.diagnose`, averaged over folds. With
        ``probes`` there are ``probe_<target>`` and ``probe_de_<target>``
        (features of the pipeline, and differential entropy) for ``subject``,
        ``session``, ``stimulus`` and ``label``, with ``probe_<target>_chance`` and the
        ratios to it (``probe_<target>_ratio``, ``probe_de_<target>_ratio``); see Notes.

    Raises
    ------
    ValueError
        If an argument is not as described, a corpus does not suit paradigm or
        protocol, or a fold cannot be made without a leak.
    FoldError
        If a pipeline fails in a fold and ``on_error="raise"``.
    LeakageError
        If a pre-trained model has seen recordings that are tested.
    FileExistsError
        If ``resume=False`` and there are finished folds.

    Notes
    -----
    A stored fold is identified by everything that it depends on: the contents of the
    corpora, subjects and sessions, every parameter of paradigm, protocol, pipeline
    (arrays and weights included) and search, the metric, the seeds and the version of
    this package. Paths and times are not part of it.

    Signals of more than 1 GiB in all are loaded subject by subject and kept as float32
    in a temporary file, as is the training set of a fold that is running. Pipelines
    receive arrays that are mapped from these files. The environment variable ``TMPDIR``
    names the folder, which should not be in memory.

    Parameters ``sfreq`` and ``chs_info`` of pipelines, at any depth, are set where they
    are None, as arrays do not contain them.

    A pipeline is given the fit parameters that it requests by metadata routing:
    ``metadata`` (one row per training window), ``subjects``, ``X_unlabeled`` with
    ``metadata_unlabeled``, ``X_target_labeled`` with ``y_target_labeled``,
    ``X_target_unlabeled``, ``X_val`` with ``y_val``, and ``held_out`` (corpus, subject
    and session of the test recordings). Inside a :class:`~sklearn.pipeline.Pipeline`
    the windows pass through the earlier steps. A pipeline that does not request
    ``X_target_labeled`` trains on these windows as on all others.

    ``target_access`` says what a pipeline was given of the test subject: ``"none"``,
    ``"statistics"`` (a paradigm that standardises each recording), ``"unlabeled"`` or
    ``"calibration"`` (labelled trials). ``regime`` says what training set and test
    recordings share: ``"subject-dependent"`` (subject and session),
    ``"cross-session"`` (the subject), ``"subject-disjoint"`` (the corpus) or
    ``"cross-corpus"``. Results of different kinds are not comparable.

    The rows of controls are not results: :func:`summarize_results` and
    :func:`compare_pipelines` leave them out, and :func:`summarize_controls` compares
    them with the results. ``control_part`` numbers the permutations of
    ``"permuted-labels"``, and is ``"reference"`` where the test stimuli were withheld.
    Controls of time and phase change all windows that a pipeline receives, in training
    and test. They are left out, with a warning, if the windows are features.

    Probes are fitted and tested on the training and test windows of a fold, at most
    2,000 of each, and their scores are averaged over folds. Those of subject and
    session are tested on other trials, that of the stimulus on other subjects, and that
    of the label on the test windows of the fold; see :func:`probe`. A value is NaN
    where a fold has only one subject, session or stimulus, or where the pipeline offers
    no features: neither a step before the classifier, nor a network that returns them.

    Examples
    --------
    >>> results = evaluate(
    ...     {"DE + LR": make_pipeline(Vectorizer(), LogisticRegression())},
    ...     [SEED()],
    ...     Emotion(window=1.0, features="de"),
    ...     "leave-one-subject-out",
    ...     results_dir="results",
    ... )
    """
    grids = param_grid or {}
    check_pipelines(pipelines)
    _check_grids(pipelines, grids)
    _check_shard(shard, results_dir, random_state, resume, overwrite)
    if on_error not in ("raise", "warn"):
        raise ValueError(f'on_error must be "raise" or "warn", but got {on_error!r}.')
    if n_jobs is not None and (n_jobs == 0 or not is_integer(n_jobs)):
        raise ValueError(f"n_jobs must be an integer other than 0, but got {n_jobs!r}.")
    flags = {"probes": probes, "resume": resume, "overwrite": overwrite}
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, but got {value!r}.")
    seeds = _check_seeds(seeds)
    numbers = _check_numbers(n_labeled_trials)
    if unlabeled is not None:
        _check_asked(pipelines)
    seed = _draw_seed(random_state)
    with _results_folder(results_dir) as folder, _scratch_folder() as scratch:
        tables = []
        tasks = make_tasks(protocol, options, datasets, paradigm, unlabeled)
        check_needs(pipelines, paradigm)
        pipelines = _leave_out_bands(pipelines, paradigm.features)
        chosen = find_controls(
            controls, tasks[0].protocol, are_features=paradigm.features is not None
        )
        for task in tasks:
            store = FoldStore(folder, task.identify(), seed)
            n_folds = task.check_units(store.seed, on_error)
            make = _VariantMaker(task, store, grids, probes)
            variants = [
                make(name, pipeline, number, pipeline_seed, control)
                for control in (None, *chosen)
                for name, pipeline in pipelines.items()
                for number in numbers
                for pipeline_seed in seeds
            ]
            _prepare([variant.folds for variant in variants], resume, overwrite)
            run = _Run(
                task, variants, store.seed, n_folds, cache_config, on_error, scratch
            )
            run.finish(n_jobs=n_jobs, shard=shard, on_fold=on_fold)
            tables += [run.tabulate(variant) for variant in variants]
    return _join_tables(tables)


# -- arguments -----------------------------------------------------------------


def _check_grids(pipelines, grids) -> None:
    if unknown := sorted(set(grids) - set(pipelines)):
        raise ValueError(
            f"param_grid must name pipelines among {list(pipelines)}, but got "
            f"{unknown}."
        )
    for name, grid in grids.items():
        try:
            for part in [grid] if isinstance(grid, Mapping) else grid:
                clone(pipelines[name]).set_params(**ParameterGrid(part)[0])
        except (TypeError, ValueError) as error:
            raise ValueError(f"param_grid of the pipeline {name!r}: {error}") from error


def _leave_out_bands(pipelines, features) -> dict[str, BaseEstimator]:
    """Leave out pipelines that need differential entropy if the features differ."""
    if features is None or are_entropy(features):
        return pipelines
    left_out = [
        name
        for name, pipeline in pipelines.items()
        if any(isinstance(p, EEGBandFeatures) for p in list_parts(pipeline).values())
    ]
    kept = {name: pipelines[name] for name in pipelines if name not in left_out}
    if left_out:
        message = (
            f"{', '.join(left_out)} needs signals or differential entropy, but the "
            f"features of the paradigm are {features!r}."
        )
        if not kept:
            raise ValueError(message)
        warnings.warn(f"Left out: {message}", stacklevel=3)
    return kept


def _check_asked(pipelines) -> None:
    """Refuse unlabelled corpora that no pipeline asks for."""
    if not any("X_unlabeled" in requested_by(p) for p in pipelines.values()):
        raise ValueError(
            f"unlabeled needs a pipeline whose fit asks for X_unlabeled, as "
            f"SSLClassifier does, but none of {list(pipelines)} does."
        )


def _check_shard(shard, results_dir, random_state, resume, overwrite) -> None:
    if shard is None:
        return
    k, n = shard if isinstance(shard, tuple | list) and len(shard) == 2 else (None, 0)
    if not (is_count(k, 0) and is_count(n) and k < n):  # type: ignore[operator]
        raise ValueError(
            f"shard must be (k, n), integers with 0 <= k < n, but got {shard!r}."
        )
    if results_dir is None or not is_count(random_state, 0):
        raise ValueError(
            "shard needs results_dir, where the shards meet, and an integer as "
            "random_state, so that all of them divide the windows in the same way; but "
            f"got results_dir={results_dir!r} and random_state={random_state!r}."
        )
    if overwrite or not resume:
        raise ValueError(
            "shard needs resume=True and overwrite=False, or one shard would delete or "
            f"refuse the folds of another; but got resume={resume!r} and "
            f"overwrite={overwrite!r}."
        )


def _as_list(values) -> list:
    return (
        [*values] if isinstance(values, list | tuple | range | np.ndarray) else [values]
    )


def _check_seeds(seeds) -> list[int | None]:
    if seeds is None:
        return [None]
    values = _as_list(seeds)
    valid = all(is_count(s, 0) and s < 2**32 for s in values)
    if not values or not valid or len(set(values)) < len(values):
        raise ValueError(
            "seeds must be None or a list of different integers from 0 to 2**32 - 1, "
            f"but got {seeds!r}."
        )
    return [int(s) for s in values]


def _check_numbers(n_labeled_trials) -> list[int | None]:
    values = _as_list(n_labeled_trials)
    valid = all(n is None or is_count(n) for n in values)
    if not values or not valid or len(set(values)) < len(values):
        raise ValueError(
            "n_labeled_trials must be None, an integer from 1, or a list of different "
            f"ones such as [1, 2, 5, None], but got {n_labeled_trials!r}."
        )
    return [None if n is None else int(n) for n in values]


def _draw_seed(random_state) -> int | None:
    if random_state is None:
        return None
    if is_count(random_state, 0) and random_state < 2**32:
        return int(random_state)
    if not isinstance(random_state, np.random.RandomState):
        raise ValueError(
            "random_state must be None, an integer from 0 to 2**32 - 1 or a "
            f"RandomState, but got {random_state!r}."
        )
    return int(random_state.randint(np.iinfo(np.int32).max))


@contextmanager
def _results_folder(results_dir) -> Iterator[Path]:
    if results_dir is not None:
        yield Path(results_dir).expanduser().absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """Give a folder for windows that are too large for memory."""
    # A file that is still mapped cannot be removed on Windows.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _prepare(stores: Iterable[PipelineStore], resume: bool, overwrite: bool) -> None:
    for store in stores:
        if overwrite:
            store.clear()
        elif not resume and len(store):
            raise FileExistsError(
                f"{store.folder} holds {len(store)} finished folds of this "
                "evaluation: pass resume=True (--resume) to reuse them, or "
                "overwrite=True (--overwrite) to delete them."
            )


# -- variants of the pipelines -------------------------------------------------


@dataclass
class _Variant:
    """A pipeline with one seed and number of labelled trials, maybe in a control."""

    name: str
    pipeline: BaseEstimator
    grid: Any
    seed: int | None
    n_labeled_trials: int | None
    control: Control | None
    probes: bool
    folds: PipelineStore

    @property
    def label(self) -> str:
        """Name for messages."""
        parts = [f"The pipeline {self.name!r}"]
        if self.seed is not None:
            parts.append(f"seed {self.seed}")
        if self.n_labeled_trials is not None:
            parts.append(f"{self.n_labeled_trials} labelled trials")
        if self.control is not None:
            parts.append(f"control {self.control.name!r}")
        return ", ".join(parts)


@dataclass
class _VariantMaker:
    """Make the variants of pipelines for a task, each with the store of its folds."""

    task: Task
    store: FoldStore
    grids: Mapping[str, Any]
    probes: bool

    def __call__(self, name, pipeline, number, seed, control) -> _Variant:
        grid = self.grids.get(name)
        # The signal follows from corpora and paradigm: reading it here would make a
        # call that only gathers finished folds load a recording.
        estimator = pipeline if seed is None else _set_seed(pipeline, seed)
        identity = {
            **_identify(name, estimator, grid),
            "seed": seed,
            "n_labeled_trials": number,
        }
        if control is not None:
            identity["control"] = control.identify()
        probes = self.probes and control is None
        settings = {
            "repr": repr(pipeline),
            "mechanism": describe_mechanism(pipeline),
            # Shared by all seeds and numbers of labelled trials.
            "hash": hash_json(_identify(name, pipeline, grid)),
        }
        folds = self.store.open_pipeline(name, identity, settings, probes=probes)
        return _Variant(name, estimator, grid, seed, number, control, probes, folds)


def _set_seed(pipeline: BaseEstimator, seed: int) -> BaseEstimator:
    """Return a clone with the seed as its random_state, at any depth."""
    names = [
        key
        for key in pipeline.get_params()
        if key.rpartition("__")[2] == "random_state"
    ]
    return clone(pipeline).set_params(**dict.fromkeys(names, seed))


def _identify(name: str, pipeline: BaseEstimator, grid) -> dict[str, Any]:
    """Return the identity of a pipeline, with all its arrays and weights."""
    parameters = pipeline.get_params()
    owners = list_parts(pipeline)
    weights = {
        key: _identify_weights(value)
        for key, value in _named(parameters, "pretrained", owners, SSLClassifier)
    }
    memories = _named(parameters, "memory", owners, SSLClassifier | Pipeline)
    # Checkpoints count by their contents, and what is kept in a memory not at all.
    places = dict.fromkeys([*weights, *dict(memories)])
    return {
        # A fold fits a clone: fitted attributes do not count.
        "hash": hash_object(
            clone(pipeline).set_params(**places), f"The pipeline {name!r}"
        ),
        "search": hash_object(grid, f"param_grid of the pipeline {name!r}"),
        "pretrained": weights,
        "searched": [
            [key, *map(_identify_weights, values)]
            for part in ([grid] if isinstance(grid, Mapping) else grid or [])
            for key, values in _named(part, "pretrained", owners, SSLClassifier)
        ],
    }


def _named(parameters, name: str, owners, kind) -> list[tuple[str, Any]]:
    """Return the parameters of one name that are set, of estimators of a kind."""
    return [
        (key, value)
        for key, value in parameters.items()
        if key.rpartition("__")[2] == name
        and value is not None
        and isinstance(owners.get(key.removesuffix(name)), kind)
    ]


def _identify_weights(pretrained) -> dict[str, str] | str:
    """Return the digests of a checkpoint's files, or the name of a hub repository."""
    if pretrained is None:
        return ""
    folder = Path(pretrained).expanduser()
    if not folder.is_dir():
        return str(pretrained)
    files = sorted(file for file in folder.iterdir() if file.is_file())
    names = [file.name for file in files]
    return dict(zip(names, digest_files(files), strict=True))


# -- running the folds ---------------------------------------------------------


@dataclass
class _PendingFold:
    """A fold of a variant that is not finished.

    ``index`` counts all folds of the variant in its unit, of which there are
    ``n_folds``; ``number`` counts those that its control makes of ``parts``.
    """

    variant: _Variant
    index: int
    n_folds: int
    parts: Parts
    number: int


class _Run:
    """Run those folds of a task that are not finished, and tabulate all."""

    def __init__(self, task, variants, seed, n_folds, cache_config, on_error, scratch):
        self.task: Task = task
        self.variants: Sequence[_Variant] = variants
        self.seed = seed
        self.n_folds: dict[str, int] = n_folds
        self.cache_config = cache_config
        self.on_error = on_error
        self.scratch: Path = scratch
        self._unlabeled = any(
            "X_unlabeled" in requested_by(v.pipeline) for v in variants
        )

    def finish(self, *, n_jobs, shard, on_fold) -> None:
        """Run the folds of all units, or the caller's shard of them."""
        units = self.task.units
        if shard is not None and self.task.protocol.by_subject:
            k, n = shard
            units, shard = units[k::n], None  # shards of whole subjects
        workers = _Workers(n_jobs)
        stores = {v.folds.folder: v for v in self.variants}
        n_done = 0
        n_finished = {
            unit: sum(len(v.folds.find(unit)) for v in stores.values())
            for unit in units
        }
        for number, unit in enumerate(units):
            if all(v.folds.is_complete(unit) for v in stores.values()):
                continue
            self._set_signals()
            # A surrounding cluster takes the folds, not each step of loading.
            with joblib.parallel_config("sequential", n_jobs=1):
                windows = self.task.load(
                    unit,
                    unlabeled=self._unlabeled,
                    scratch=self.scratch,
                    cache_config=self.cache_config,
                )
            if windows is None:
                continue
            try:
                folds = self.task.divide(unit, windows.trials, self.seed)
            except ValueError as error:  # of corpora whose trials were not known before
                if self.on_error == "raise" or not self.task.protocol.by_subject:
                    raise
                warnings.warn(f"Left out: {error}", stacklevel=4)
                continue
            counts = self._count_folds(folds, windows, stores.values())
            todo = self._list_unfinished(unit, folds, counts, shard, stores.values())
            later = units[number + 1 :]
            n_later = sum(self.n_folds.get(other, len(folds)) for other in later)
            n_later = n_later * sum(map(sum, counts)) // len(folds)
            n_later -= sum(n_finished[other] for other in later)
            n_all = n_done + len(todo) + n_later
            for fold, data, job, found in self._run(todo, windows, workers, n_later):
                self._keep(unit, fold, data, job, found)
                n_done += 1
                on_fold(self.task.test_corpus_of(unit).code, n_done, n_all)

    def _set_signals(self) -> None:
        """Set the sampling rate and the channels of all pipelines."""
        for variant in self.variants:
            variant.pipeline = set_signal(
                variant.name, variant.pipeline, lambda: self._signal
            )

    def _count_folds(self, folds, windows, variants) -> list[list[int]]:
        """Return how many folds each variant makes of each fold of the protocol."""
        known: dict[tuple, list[int]] = {}
        counts = []
        for variant in variants:
            # Pipelines share the folds of a control.
            key = variant.control, variant.seed, variant.n_labeled_trials
            if variant.control is None:
                known[key] = [1] * len(folds)
            elif key not in known:
                known[key] = [
                    sum(1 for _ in self._change(variant, parts, windows))
                    for parts in folds
                ]
            counts.append(known[key])
        return counts

    def _list_unfinished(self, unit, folds, counts, shard, variants):
        """Return the folds to run, those of one variant together.

        Where there are several folds, workers do not wait for one another, as they
        would in a fold of variants that share a pre-training.
        """
        first = self.task.units.index(unit)
        todo = []
        for variant, n_made in zip(variants, counts, strict=True):
            finished = variant.folds.find(unit)
            for number, parts in enumerate(folds):
                for part in range(n_made[number]):
                    index = sum(n_made[:number]) + part
                    # Where units have one fold each, shards still get different ones.
                    is_ours = shard is None or (first + index) % shard[1] == shard[0]
                    if is_ours and index not in finished:
                        n_folds = sum(n_made)
                        todo.append(_PendingFold(variant, index, n_folds, parts, part))
        return todo

    def _run(self, todo, windows: Windows, workers: _Workers, n_later) -> Iterator:
        """Yield each fold with its data, job and result, as soon as it is finished."""
        jobs: dict[int, tuple[FoldData, FoldJob]] = {}

        def make_calls():
            # One after the other: metadata of all folds together would fill the memory.
            for number, data in enumerate(self._change_all(todo, windows)):
                jobs[number] = data, self._make_job(data, todo[number].variant)
                yield joblib.delayed(run_numbered_fold)(
                    number, os.getpid(), data.X, jobs[number][1]
                )

        told: set = set()  # what several folds share is told once
        for number, found, caught in workers.run(make_calls(), len(todo), n_later):
            try:
                repeat_warnings(caught, told)
            except Warning as error:  # a filter of the caller's made it an error
                found = FailedFold(error)
            yield todo[number], *jobs.pop(number), found

    def _change_all(self, todo, windows) -> Iterator[FoldData]:
        """Yield the data of each fold, those of one control from a single call."""
        same = groupby(todo, key=lambda fold: (id(fold.variant), id(fold.parts)))
        for _, group in same:
            wanted = list(group)
            numbers = {fold.number for fold in wanted}
            made = self._change(wanted[0].variant, wanted[0].parts, windows)
            for number, data in enumerate(islice(made, max(numbers) + 1)):
                if number in numbers:
                    yield data

    def _change(self, variant, parts: Parts, windows: Windows) -> Iterator[FoldData]:
        """Yield the data of a fold, or what the control of the variant makes of it."""
        data = self._make_data(variant, parts, windows)
        if variant.control is None:
            yield data
        else:
            yield from variant.control.change(data, self.seed)

    def _make_data(self, variant, parts: Parts, windows: Windows) -> FoldData:
        """Return a fold with the labels that its variant is given."""
        seed = self.seed if variant.seed is None else variant.seed
        trials = windows.trials
        labeled = draw_labeled(trials.iloc[parts.train], variant.n_labeled_trials, seed)
        unlabeled = find_unlabeled(self.task.protocol, parts, trials)
        return FoldData(
            train=windows.rows_of(parts.train[labeled]),
            test=windows.rows_of(parts.test),
            calibration=windows.rows_of(parts.calibration),
            validation=windows.rows_of(parts.validation),
            unlabeled=windows.rows_of(
                np.concatenate([parts.train[~labeled], unlabeled])
            ),
            X=windows.X,
            y=windows.y,
            metadata=windows.metadata,
            sfreq=self._signal["sfreq"] if variant.control else np.nan,
            are_features=self.task.paradigm.features is not None,
        )

    @cached_property
    def _signal(self) -> dict[str, Any]:
        return self.task.describe_signal()

    def _make_job(self, data: FoldData, variant: _Variant) -> FoldJob:
        """Return a fold with the fit parameters that its pipeline asks for."""
        job = make_job(
            data,
            data,
            variant.pipeline,
            grid=variant.grid,
            scoring=self.task.paradigm.scoring,
            random_state=self.seed,
            adapt=self.task.options["adapt"],
        )
        if variant.probes:
            job.probe = make_probe_job(data, job.train, self._reference)
        return job

    @cached_property
    def _reference(self) -> BaseEstimator | None:
        """What computes the differential entropy of windows, if anything does."""
        features = self.task.paradigm.features
        if features not in (None, "de") and "released:de" not in str(features):
            return None
        return EEGBandFeatures(**self._signal)

    def _keep(self, unit, fold: _PendingFold, data: FoldData, job, found) -> None:
        """Store a finished fold, or report one that failed."""
        if isinstance(found, FailedFold):
            where = describe_rows(data.metadata.iloc[data.test])
            message = (
                f"{fold.variant.label} failed in fold {fold.index} of {fold.n_folds}, "
                f"which tests {where}: {type(found.error).__name__}: {found.error}"
            )
            if self.on_error == "raise":
                raise FoldError(message) from found.error
            warnings.warn(f"{message.rstrip('.')}. It is left out.", stacklevel=4)
            return
        result = _make_result(data, job, found)
        standardized = getattr(self.task.paradigm, "standardize", None) is not None
        if standardized and result.target_access == "none":
            result.target_access = "statistics"
        fold.variant.folds.write(unit, fold.index, fold.n_folds, result)

    def tabulate(self, variant: _Variant) -> pd.DataFrame:
        """Return the rows of one variant, of all its finished folds."""
        results = [
            read_fold(file)
            for unit in self.task.units
            for file in variant.folds.find(unit).values()
        ]
        rows = []
        for part in dict.fromkeys(result.part for result in results):
            folds = [result for result in results if result.part == part]
            rows += self._tabulate_part(variant, part, folds)
        return pd.DataFrame(rows)

    def _tabulate_part(self, variant, part: str, results) -> list[dict[str, Any]]:
        """Return the rows of a result, or of one part of a control."""
        corpora = {dataset.code: dataset for dataset in self.task.corpora}
        tables = [result.predictions for result in results]
        predictions = pd.concat(tables, ignore_index=True)
        # A class that a fold did not train on had no probability there.
        names = predictions.columns[predictions.columns.str.startswith("proba_")]
        predictions[names] = predictions[names].fillna(0.0)
        fold_of_row = np.repeat(np.arange(len(tables)), [*map(len, tables)])
        recordings = recordings_of(predictions, np.arange(len(predictions)))
        coded = CodedPredictions.from_table(predictions)
        rows = []
        for (code, subject, session), at in recordings:
            folds = [results[number] for number in np.unique(fold_of_row[at])]
            rows.append(
                {
                    **_score_recording(folds, coded.take(at), subject, session),
                    "subject": str(subject),
                    "session": str(session),
                    "channels": folds[0].n_chans,
                    "n_sessions": corpora[code].n_sessions,
                    "dataset": code,
                    "pipeline": variant.name,
                    "protocol": self.task.protocol.name,
                    "regime": self.task.protocol.regime,
                    "train_corpora": "+".join(self._train_corpora(code)),
                    "seed": variant.seed,
                    "n_labeled_trials": variant.n_labeled_trials,
                    "target_access": folds[0].target_access,
                    "control": variant.control.name if variant.control else "",
                    "control_part": part,
                    **_average(result.diagnosis for result in folds),
                    **(_average(f.probes for f in folds) if variant.probes else {}),
                }
            )
        return rows

    def _train_corpora(self, test_code: str) -> list[str]:
        if not self.task.protocol.across_corpora:
            return [test_code]
        return [code for code in self.task.codes if code != test_code]


def _make_result(data: FoldData, job, predicted: Predicted) -> FoldResult:
    """Join the predictions of a fold with the metadata of its test windows."""
    rows = np.concatenate([rows for rows, _ in job.recordings])
    labels = np.concatenate([labels for _, labels in job.recordings])
    metadata = data.metadata.iloc[rows].reset_index(drop=True)
    proba = {
        f"proba_{name}": column
        for name, column in zip(job.classes, predicted.proba.T, strict=True)
    }
    recordings = metadata[["subject", "session"]].drop_duplicates()
    return FoldResult(
        predictions=metadata.assign(
            label=job.classes[labels], predicted=job.classes[predicted.codes], **proba
        ),
        scores=[
            {"subject": str(subject), "session": str(session), **scores}
            for (subject, session), scores in zip(
                recordings.itertuples(index=False, name=None),
                predicted.scores,
                strict=True,
            )
        ],
        seconds=predicted.seconds,
        n_train=len(job.train) + len(job.fit_rows.get("X_target_labeled", ())),
        n_chans=int(data.X.shape[1]),
        target_access=job.target_access,
        part=data.part,
        probes=predicted.probes,
        diagnosis=predicted.diagnosis,
    )


class _Workers:
    """Run the jobs of folds, in new processes only if that is worth their start."""

    def __init__(self, n_jobs):
        self.n_jobs = None if n_jobs == 1 else n_jobs
        # Processes of joblib's own; None leaves all to a joblib.parallel_config.
        backend, _ = get_active_backend()
        self.starts_processes = (
            self.n_jobs is not None and type(backend).__name__ == "LokyBackend"
        )
        self.is_started = False

    def run(self, calls: Iterator, n_calls: int, n_later: int) -> Iterator[tuple]:
        """Yield the results of calls, after which ``n_later`` more are expected."""
        seconds: list[float] = []
        while n_calls and self._stays_here(seconds, n_calls + n_later):
            start = perf_counter()
            function, arguments, keywords = next(calls)
            yield function(*arguments, **keywords)
            seconds.append(perf_counter() - start)
            n_calls -= 1
        if n_calls:
            self.is_started = True
            yield from self._run_parallel(calls)

    def _stays_here(self, seconds: list[float], n_left: int) -> bool:
        """Return whether the next fold is run by this process."""
        if not self.starts_processes or self.is_started:
            return False
        if not seconds:
            return True
        left = n_left * sum(seconds) / len(seconds)
        n_workers = min(joblib.effective_n_jobs(self.n_jobs), n_left)
        return left <= _WORKER_START + left / n_workers

    def _run_parallel(self, calls) -> Iterator[tuple]:
        backend, _ = get_active_backend()
        yields = getattr(backend, "supports_return_generator", False)
        parallel = joblib.Parallel(
            n_jobs=self.n_jobs,
            # After many fast folds joblib would hand out slow ones in batches, none of
            # which is kept before the last has finished.
            batch_size=1,
            return_as="generator_unordered" if yields else "list",
        )
        try:
            yield from parallel(calls)
        except BrokenProcessPool as error:
            raise FoldError(
                "A worker process died while it ran a fold, most often for lack of "
                "memory. The folds that were finished are kept in results_dir: repeat "
                "the call, with a smaller n_jobs if it happens again."
            ) from error


# -- the table -----------------------------------------------------------------


def _score_recording(
    folds, predictions: CodedPredictions, subject, session
) -> dict[str, float]:
    """Return the scores of one recording over its folds, in MOABB's columns."""
    scores = pd.DataFrame(
        score
        for result in folds
        for score in result.scores
        if (score["subject"], score["session"]) == (str(subject), str(session))
    ).drop(columns=["subject", "session"])
    return {
        **scores.mean().to_dict(),
        "time": float(np.mean([result.seconds for result in folds])),
        "samples": float(np.mean([result.n_train for result in folds])),
        "samples_test": len(predictions) / len(folds),
        "n_classes": len(np.unique(predictions.truth)),
        "n_trials_test": predictions.n_trials,
        **predictions.score(),
    }


def _average(values_of_folds: Iterable[dict[str, float] | None]) -> dict[str, float]:
    """Return the mean of each value over folds, without those that are undefined."""
    values = [values for values in values_of_folds if values is not None]
    return pd.DataFrame(values, dtype=float).mean().to_dict()


def _join_tables(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return one table, whose seeds and numbers may be missing."""
    tables = [table for table in tables if len(table)]
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)
    whole = {"seed": "Int64", "n_labeled_trials": "Int64"}
    return table.astype(whole)
