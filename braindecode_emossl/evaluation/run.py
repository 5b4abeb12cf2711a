"""The function that evaluates pipelines under a protocol."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from joblib.parallel import get_active_backend
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state

from braindecode_emossl.datasets.base import EmotionDataset
from braindecode_emossl.errors import CorpusFormatError
from braindecode_emossl.evaluation.folds import (
    FoldResult,
    make_evaluation,
    make_folds,
    run_fold,
)
from braindecode_emossl.evaluation.scores import score_predictions
from braindecode_emossl.evaluation.signal import tell_signal
from braindecode_emossl.evaluation.store import (
    FoldStore,
    PipelineStore,
    hash_object,
    read_fold,
)
from braindecode_emossl.evaluation.tasks import make_tasks
from braindecode_emossl.pretraining.checkpoints import identify_checkpoint
from braindecode_emossl.pretraining.windows import join_corpora

__all__ = ["evaluate"]


def evaluate(
    pipelines,
    datasets,
    paradigm,
    protocol,
    *,
    random_state=None,
    n_jobs=1,
    results_dir=None,
    resume=True,
    overwrite=False,
    param_grid=None,
    share=None,
    cache_config=None,
    on_fold: Callable[[str, int, int], None] = lambda corpus, n_done, n_folds: None,
    **options,
):
    """Evaluate pipelines on emotion corpora under a protocol that cannot leak.

    Parameters
    ----------
    pipelines : dict of str to estimator
        Classifiers by name; each fold fits a clone of its own.
    datasets : list of BaseDataset
        Corpora. Each is evaluated by itself, save under the protocols over corpora,
        where each is the test corpus once (see ``test_corpora``).
    paradigm : Emotion
        What the windows and labels are.
    protocol : str
        One of ``PROTOCOLS``:

        * ``"within-session"``: whole trials of a session test, its other trials train
          (option ``n_splits``, 5);
        * ``"chronological"``: the first trials of a session train, the last test
          (``train_size``, 0.6 of them, or a number of trials);
        * ``"cross-session"``: one session of a subject tests, the others train;
        * ``"leave-one-subject-out"``: one subject tests, all others train; they saw
          the same stimuli;
        * ``"subject-stimulus"``: a subject and some stimuli test; the others train, on
          the other stimuli (``n_stimulus_splits``, 5);
        * ``"cross-corpus"``: one corpus tests, the others train
          (``test_corpora``, all in turn; ``channels``, ``"intersect"`` or
          ``"union"``, which fills what a corpus lacks with zeros);
        * ``"cross-corpus-finetune"``: the same, and the first trials of each recording
          of the test subject train too, with their labels (``train_size``, 0.6).
    random_state : int, RandomState or None
        Seed of the folds; the pipelines have seeds of their own.
    n_jobs : int
        Folds to run at a time. With 1 a surrounding :func:`joblib.parallel_config`
        decides, so that a cluster can take the folds.
    results_dir : path or None
        Folder that keeps each fold as soon as it is finished. None keeps nothing.
    resume : bool
        Take finished folds from ``results_dir``. If False, there must be none.
    overwrite : bool
        Delete finished folds of these very evaluations first.
    param_grid : dict of str to dict, or None
        Hyper-parameters to search, by name of the pipeline, as for
        :class:`~sklearn.model_selection.GridSearchCV`; the search divides the training
        part by whole trials.
    share : tuple of int or None
        ``(k, n)``: run only the k-th of n shares of the folds, counted from 0, as one
        of n jobs on a cluster. Needs ``results_dir`` and an integer ``random_state``.
        A call without ``share`` then gathers the table of all.
    cache_config : CacheConfig or None
        MOABB's disk cache of signals.
    on_fold : callable
        Called with corpus, finished folds and all folds of the corpus, or of the share
        of it, as far as they are known, after each fold.
    **options
        Options of the protocol, see there.

    Returns
    -------
    DataFrame
        MOABB's columns, one row a corpus, pipeline, subject and session: ``score``
        (the paradigm's metric by window, averaged over folds), ``time`` (s, to fit a
        fold), ``samples`` (training windows), ``samples_test``, ``n_classes``,
        ``channels``, ``n_sessions``, ``subject``, ``session``, ``dataset``,
        ``pipeline``. Beside them ``protocol``, ``train_corpora``, ``n_trials_test``
        and what :func:`score_predictions` finds of all folds together:
        ``score_trial``, ``accuracy``, ``balanced_accuracy``, ``f1_macro``, ``kappa``
        and the last three by trial.

    Raises
    ------
    ValueError
        If an argument is not as described, a corpus does not suit paradigm or
        protocol, or a fold cannot be made without a leak.
    FileExistsError
        If ``resume=False`` and there are finished folds.

    Notes
    -----
    The result of a fold is found again by all that it depends on: the corpora (folder,
    subjects, sessions, size and time of the files of signals), every parameter of
    paradigm, protocol, pipeline (arrays and weights included) and search, the metric,
    the seed and the version of this package.

    Parameters ``sfreq`` and ``chs_info`` of pipelines, and ``corpus`` beside a
    ``checkpoint``, at any depth, are set where they are None, as arrays do not tell
    them.

    A pipeline whose ``fit`` asks for them by metadata routing is given ``subjects``
    and, under ``"cross-corpus-finetune"``, ``X_target_labeled`` and
    ``y_target_labeled``, as in MOABB; other pipelines train on these trials too.

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
    _check_pipelines(pipelines, grids)
    _check_share(share, results_dir, random_state, resume, overwrite)
    seed = _settle_seed(random_state)
    with _results_folder(results_dir) as folder:
        tables = []
        for task in make_tasks(protocol, options, datasets, paradigm):
            told = {
                name: tell_signal(name, pipeline, task.describe_signal)
                for name, pipeline in pipelines.items()
            }
            store = FoldStore(folder, task.identify(), seed)
            folds = {
                name: store.open_pipeline(
                    name, _identify(name, pipeline, grids.get(name)), repr(pipeline)
                )
                for name, pipeline in told.items()
            }
            _prepare(folds.values(), resume, overwrite)
            run = _Run(task, told, grids, folds, store.seed, cache_config)
            run.finish(n_jobs=n_jobs, share=share, on_fold=on_fold)
            tables += [run.tabulate(name) for name in pipelines]
    return pd.concat(tables, ignore_index=True)


# -- what is asked for ---------------------------------------------------------


def _check_pipelines(pipelines, grids) -> None:
    if not isinstance(pipelines, Mapping) or not pipelines:
        raise ValueError(
            "pipelines must be a dict of at least one classifier by name, but got "
            f"{pipelines!r}."
        )
    for name, pipeline in pipelines.items():
        if not (isinstance(pipeline, BaseEstimator) and hasattr(pipeline, "predict")):
            raise ValueError(
                f"The pipeline {name!r} must be a classifier of scikit-learn's kind, "
                f"but got {pipeline!r}."
            )
    if unknown := sorted(set(grids) - set(pipelines)):
        raise ValueError(
            f"param_grid must name pipelines among {list(pipelines)}, but got "
            f"{unknown}."
        )


def _check_share(share, results_dir, random_state, resume, overwrite) -> None:
    if share is None:
        return
    k, n = share if isinstance(share, tuple | list) and len(share) == 2 else (None, 0)
    if not (isinstance(k, Integral) and isinstance(n, Integral) and 0 <= k < n):  # type: ignore[operator]
        raise ValueError(
            f"share must be (k, n), integers with 0 <= k < n, but got {share!r}."
        )
    if results_dir is None or not isinstance(random_state, Integral):
        raise ValueError(
            "share needs results_dir, where the shares meet, and an integer as "
            "random_state, so that all of them divide the windows alike; but got "
            f"results_dir={results_dir!r} and random_state={random_state!r}."
        )
    if overwrite or not resume:
        raise ValueError(
            "share needs resume=True and overwrite=False, or one share would delete or "
            f"refuse the folds of another; but got resume={resume!r} and "
            f"overwrite={overwrite!r}."
        )


def _settle_seed(random_state) -> int | None:
    if random_state is None or isinstance(random_state, Integral):
        return None if random_state is None else int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


@contextmanager
def _results_folder(results_dir) -> Iterator[Path]:
    if results_dir is not None:
        yield Path(results_dir).expanduser().absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _prepare(stores: Iterable[PipelineStore], resume: bool, overwrite: bool) -> None:
    for store in stores:
        if overwrite:
            store.clear()
        elif not resume and len(store):
            raise FileExistsError(
                f"{store.folder} holds {len(store)} finished folds of this very "
                "evaluation: pass resume=True to take them, or overwrite=True to "
                "delete them."
            )


def _identify(name: str, pipeline: BaseEstimator, grid) -> dict[str, Any]:
    """Return what tells a pipeline, with all its arrays and weights, from others."""
    # A fold fits a clone: what was learnt before does not count.
    return {
        "hash": hash_object(clone(pipeline), f"The pipeline {name!r}"),
        "search": hash_object(grid, f"param_grid of the pipeline {name!r}"),
        # Another training may have filled the same folder.
        "checkpoints": {
            key: identify_checkpoint(value)
            for key, value in pipeline.get_params().items()
            if key.rpartition("__")[2] == "checkpoint" and value is not None
        },
    }


# -- running it ----------------------------------------------------------------


class _Run:
    """Run those folds of a task that are not finished, and tabulate all."""

    def __init__(self, task, pipelines, grids, folds, seed, cache_config):
        self.task = task
        self.pipelines = pipelines
        self.grids = grids
        self.folds: dict[str, PipelineStore] = folds
        self.seed = seed
        self.cache_config = cache_config
        self._loaded = None

    def finish(self, *, n_jobs, share, on_fold) -> None:
        """Run the folds of all units, or the caller's share of them."""
        units = self.task.units
        if share is not None and self.task.protocol.by_subject:
            k, n = share
            units, share = units[k::n], None  # whole subjects are shared out
        n_done = 0
        for n_left, unit in zip(range(len(units) - 1, -1, -1), units, strict=True):
            if all(folds.is_complete(unit) for folds in self.folds.values()):
                continue
            with (
                tempfile.TemporaryDirectory() as scratch,
                # A surrounding cluster takes the folds, not each step of loading.
                joblib.parallel_config("sequential", n_jobs=1),
            ):
                jobs, n_folds = self._make_jobs(unit, share, scratch)
            n_all = n_done + len(jobs) + n_left * n_folds * len(self.pipelines)
            for name, index, result in _run_parallel(jobs, n_jobs):
                self.folds[name].write(unit, index, n_folds, result)
                n_done += 1
                on_fold(self.task.test_corpus_of(unit).code, n_done, n_all)

    def _make_jobs(self, unit, share, scratch) -> tuple[list, int]:
        """Return the calls that finish a unit, and how many folds it has."""
        task = self.task
        dataset, options = task.test_corpus_of(unit), task.options_of(unit)
        evaluation = make_evaluation(
            task.protocol,
            options,
            task.paradigm,
            dataset,
            random_state=self.seed,
            folder=scratch,
            cache_config=self.cache_config,
        )
        loaded = self._load(evaluation, unit)
        if loaded is None:
            return [], 0
        X, y, metadata = loaded
        folds = make_folds(task.protocol, options, evaluation, y, metadata)
        config = evaluation._build_eval_config(None)
        # Where units have one fold each, the shares still get different ones.
        first = task.units.index(unit)
        jobs = [
            joblib.delayed(_run_job)(
                name,
                index,
                X,
                y,
                metadata,
                fold=fold,
                pipeline=pipeline,
                grid=self.grids.get(name),
                dataset=dataset,
                config=config,
            )
            for index, fold in enumerate(folds)
            if share is None or (first + index) % share[1] == share[0]
            for name, pipeline in self.pipelines.items()
            if index not in self.folds[name].find(unit)
        ]
        return jobs, len(folds)

    def _load(self, evaluation, unit):
        """Return windows, labels and metadata of a unit, None if it is left out."""
        subjects = self.task.subjects_of(unit)
        if subjects is None and self._loaded is not None:
            return self._loaded  # all units divide the same windows
        parts = []
        for dataset in self.task.corpora:
            process = self.task.paradigm.make_process_pipelines(dataset)[0]
            try:
                part = evaluation._load_data(
                    dataset, self.pipelines, process, None, subjects=subjects
                )
            except CorpusFormatError:
                raise
            except ValueError:
                if subjects is None or not _all_left_out(dataset, subjects):
                    raise
                return None
            parts.append(part)
        loaded = join_corpora(parts)
        if subjects is None:
            self._loaded = loaded
        return loaded

    def tabulate(self, name: str) -> pd.DataFrame:
        """Return the rows of one pipeline, of all its finished folds."""
        results = [
            read_fold(file)
            for unit in self.task.units
            for file in self.folds[name].find(unit).values()
        ]
        corpora = {dataset.code: dataset for dataset in self.task.corpora}
        rows = []
        for (code, subject, session), part in sorted(_by_recording(results).items()):
            rows.append(
                {
                    **_score_recording(part, subject, session),
                    "subject": str(subject),
                    "session": str(session),
                    "channels": part[0][0].n_chans,
                    "n_sessions": corpora[code].n_sessions,
                    "dataset": code,
                    "pipeline": name,
                    "protocol": self.task.protocol.name,
                    "train_corpora": "+".join(self._train_corpora(code)),
                }
            )
        return pd.DataFrame(rows)

    def _train_corpora(self, test_code: str) -> list[str]:
        if not self.task.protocol.across_corpora:
            return [test_code]
        return [code for code in self.task.codes if code != test_code]


def _all_left_out(dataset, subjects) -> bool:
    """Say whether the subjects were left out: not in the release, or broken and logged.

    A corpus that is read with ``on_error="raise"`` leaves out the former alone.
    """
    if not isinstance(dataset, EmotionDataset):
        return False
    read = dataset._trials
    tables = [read[s] if s in read else dataset.trial_table(s) for s in subjects]
    return not any(map(len, tables))


def _by_recording(results):
    """Return the (fold, its predictions) by corpus, subject and session."""
    found: dict[tuple, list] = {}
    for result in results:
        keys = ["corpus", "subject", "session"]
        for key, rows in result.predictions.groupby(keys, sort=False):
            found.setdefault(key, []).append((result, rows))
    return found


def _score_recording(part, subject, session) -> dict[str, float]:
    """Return the scores of one recording over its folds, in MOABB's columns."""
    scores = pd.DataFrame(
        score
        for result, _ in part
        for score in result.scores
        if (score["subject"], score["session"]) == (str(subject), str(session))
    ).drop(columns=["subject", "session"])
    predictions = pd.concat([rows for _, rows in part], ignore_index=True)
    trials = predictions[["subject", "session", "trial"]].drop_duplicates()
    return {
        **scores.mean().to_dict(),
        "time": float(np.mean([result.seconds for result, _ in part])),
        "samples": float(np.mean([result.n_train for result, _ in part])),
        "samples_test": float(np.mean([len(rows) for _, rows in part])),
        "n_classes": predictions["label"].nunique(),
        "n_trials_test": len(trials),
        **score_predictions(predictions),
    }


def _run_job(name, index, X, y, metadata, **job):
    return name, index, run_fold(X, y, metadata, **job)


def _run_parallel(jobs, n_jobs) -> Iterator[tuple[str, int, FoldResult]]:
    """Yield what the jobs return, each as soon as the backend can hand it over."""
    backend, _ = get_active_backend()
    yields = getattr(backend, "supports_return_generator", False)
    parallel = joblib.Parallel(
        # None leaves the number to a surrounding joblib.parallel_config.
        n_jobs=None if n_jobs == 1 else n_jobs,
        return_as="generator_unordered" if yields else "list",
    )
    yield from parallel(jobs)
