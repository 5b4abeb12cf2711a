"""Backends, shards for a cluster's jobs, and one call: the same table."""

from __future__ import annotations

import os
import warnings

import joblib
import pandas as pd
import pytest
from mne.decoding import Vectorizer
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from braindecode_emossl.datasets import DEAP
from braindecode_emossl.errors import FoldError, LeakageWarning
from braindecode_emossl.evaluation import PROTOCOLS, evaluate
from braindecode_emossl.evaluation.run import _Workers
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import SSLClassifier

VALENCE = Emotion("valence", window=2.0, features="de", fmin=None, fmax=None)


def assert_same(first, second):
    pd.testing.assert_frame_equal(
        first.drop(columns="time"), second.drop(columns="time")
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shards_merge(protocol, toy, toy_b, paradigm, tmp_path, options_of):
    cross = PROTOCOLS[protocol].across_corpora
    arguments = {
        "pipelines": {"a": make_pipeline(Vectorizer(), GaussianNB())},
        "datasets": [toy, toy_b] if cross else [toy],
        "paradigm": paradigm,
        "protocol": protocol,
        "random_state": 0,
        **options_of(protocol),
    }
    whole = evaluate(**arguments)
    folds = tmp_path / "shards"
    seen = set()
    for k in range(3):
        evaluate(**arguments, results_dir=folds, shard=(k, 3))
        files = set(folds.rglob("*.parquet"))
        seen.add(len(files))
        assert len(files) >= max(seen)
    # They did share the work, if there is more than one fold.
    assert len(seen) > 1 or protocol == "subject-split"
    times = {file: file.stat().st_mtime_ns for file in files}
    merged = evaluate(**arguments, results_dir=folds)
    assert {f: f.stat().st_mtime_ns for f in folds.rglob("*.parquet")} == times
    assert_same(merged, whole)


@pytest.fixture(scope="module")
def arguments(deap_root):
    return {
        "pipelines": {
            "a": make_pipeline(Vectorizer(), LogisticRegression(max_iter=50)),
            "b": make_pipeline(Vectorizer(), LogisticRegression(C=0.1, max_iter=50)),
        },
        "datasets": [DEAP([1, 2], path=deap_root)],
        "paradigm": VALENCE,
        "protocol": "leave-one-subject-out",
        "random_state": 0,
    }


@pytest.fixture(scope="module")
def sequential(arguments):
    return evaluate(**arguments)


@pytest.mark.slow
def test_loky(arguments, sequential, tmp_path):
    assert_same(evaluate(**arguments, n_jobs=2, results_dir=tmp_path), sequential)
    assert len(list(tmp_path.rglob("*.parquet"))) == 4


class Records(LogisticRegression):
    """Notes the labelled training windows of each fit."""

    seen: list = []  # noqa: RUF012

    def fit(self, X, y):
        self.seen.append(len(y))
        return super().fit(X, y)


def test_folds_of_one_variant_are_run_together(arguments):
    """Variants that share a pre-training ran side by side, and one had to wait."""
    Records.seen.clear()
    pipelines = {"a": make_pipeline(Vectorizer(), Records(max_iter=5))}
    evaluate(**{**arguments, "pipelines": pipelines}, n_labeled_trials=[1, None])
    few, both_few, many, both_many = Records.seen
    assert few == both_few < many == both_many


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_surrounding_config(backend, arguments, sequential, monkeypatch):
    """It decides on backend and number of jobs where ``n_jobs`` is left at 1.

    It also took each step of MNE's filters, which not every backend can.
    """
    used = []
    start = joblib.Parallel._initialize_backend

    def note(parallel):
        n_jobs = start(parallel)
        used.append((type(parallel._backend).__name__.lower(), n_jobs))
        return n_jobs

    monkeypatch.setattr(joblib.Parallel, "_initialize_backend", note)
    with joblib.parallel_config(backend, n_jobs=2):
        assert_same(evaluate(**arguments), sequential)
    assert (f"{backend}backend", 2) in used
    assert len([n_jobs for _, n_jobs in used if n_jobs == 2]) == 1  # the folds


def test_networks_in_threads_are_trained_one_by_one(deap_root):
    """Threads share torch's generator: each run gave other scores, silently."""
    classifier = SSLClassifier(
        model__input_domain="de", pretrain_steps=20, finetune_steps=20, random_state=0
    )
    arguments = {
        "pipelines": {
            "a": classifier,
            "b": clone(classifier).set_params(batch_size=32),
        },
        "datasets": [DEAP([1, 2], path=deap_root)],
        "paradigm": VALENCE,
        "protocol": "leave-one-subject-out",
        "random_state": 0,
    }
    expected = evaluate(**arguments)
    with joblib.parallel_config("threading", n_jobs=4):
        assert_same(evaluate(**arguments), expected)


class LeaksAWord(LogisticRegression):
    """Warn in each fit, once in a way that cannot be sent to another process."""

    def fit(self, X, y):
        class Local(UserWarning):
            pass

        warnings.warn("a leak", LeakageWarning, stacklevel=1)
        warnings.warn(Local("of the user"), stacklevel=1)
        return super().fit(X, y)


@pytest.mark.slow
def test_warnings_of_workers_reach_the_caller(arguments, monkeypatch):
    """With n_jobs=2 they were lost, whatever the caller's filters."""
    monkeypatch.setattr(_Workers, "_stays_here", lambda *_: False)
    pipeline = make_pipeline(Vectorizer(), LeaksAWord(max_iter=50))
    arguments = {**arguments, "pipelines": {"a": pipeline}}
    for n_jobs in (1, 2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            evaluate(**arguments, n_jobs=n_jobs)
        words = {str(w.message) for w in caught if w.category is LeakageWarning}
        assert words == {"a leak"}
        assert any("of the user" in str(w.message) for w in caught)
        with warnings.catch_warnings():
            warnings.simplefilter("error", LeakageWarning)
            with pytest.raises(FoldError, match=r"'a' failed .*a leak"):
                evaluate(**arguments, n_jobs=n_jobs)


@pytest.mark.slow
def test_dask(arguments, sequential, tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            local_directory=tmp_path,
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        table = evaluate(**arguments, results_dir=tmp_path / "results")
    assert_same(table, sequential)
    assert len(list((tmp_path / "results").rglob("*.parquet"))) == 4


class FailsLater(LogisticRegression):
    """Fail from the second fit on, for as long as it ``fails``."""

    n_fits = 0
    fails = True

    def fit(self, X, y, sample_weight=None):
        FailsLater.n_fits += 1
        if FailsLater.fails and FailsLater.n_fits >= 2:
            raise OSError("The disk is full.")
        return super().fit(X, y)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_fold_that_fails(n_jobs, toy, paradigm, tmp_path):
    """Its error comes through; one after the other, the folds before it stay."""
    FailsLater.n_fits, FailsLater.fails = 0, True
    pipeline = make_pipeline(Vectorizer(), FailsLater())
    arguments = ({"a": pipeline}, [toy], paradigm, "leave-one-subject-out")
    with (
        joblib.parallel_config("threading"),
        pytest.raises(FoldError, match=r"'a' failed .*: The disk is full\.") as caught,
    ):
        evaluate(*arguments, random_state=0, n_jobs=n_jobs, results_dir=tmp_path)
    assert isinstance(caught.value.__cause__, OSError)
    if n_jobs == 1:
        assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert not list(tmp_path.rglob(".*"))
    FailsLater.fails = False
    table = evaluate(*arguments, random_state=0, results_dir=tmp_path)
    assert len(table) == 6


def test_a_worker_that_dies():
    """Joblib's error names neither the evaluation nor a remedy."""
    workers = _Workers(2)
    workers.is_started = True
    calls = iter([joblib.delayed(os._exit)(3)] * 2)
    with pytest.raises(FoldError, match=r"worker process died .* smaller n_jobs"):
        list(workers.run(calls, 2, 0))
