"""Finished folds: found again by all they depend on, and never half written."""

from __future__ import annotations

import importlib.util
import json
import linecache
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from mne.decoding import Vectorizer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import fbeta_score, make_scorer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from braindecode_emossl.datasets import DEAP, SEED, write_replica
from braindecode_emossl.evaluation import evaluate, read_predictions
from braindecode_emossl.evaluation.folds import FoldResult
from braindecode_emossl.evaluation.store import FoldStore, hash_object, read_fold
from braindecode_emossl.paradigms import Emotion


class Counting(GaussianNB):
    """Count the fits; ``module`` and ``table`` are there to be told apart."""

    n_fits = 0
    stop_at = None

    def __init__(self, var_smoothing=1e-9, module=None, table=None):
        super().__init__(var_smoothing=var_smoothing)
        self.module = module
        self.table = table

    def fit(self, X, y, sample_weight=None):
        if Counting.n_fits == Counting.stop_at:
            raise KeyboardInterrupt
        Counting.n_fits += 1
        return super().fit(X, y)


class Metric:
    """A metric that is no function."""

    def __init__(self, value):
        self.value = value

    def __call__(self, estimator, X, y):
        return self.value


@pytest.fixture(autouse=True)
def forget():
    Counting.n_fits, Counting.stop_at = 0, None


@pytest.fixture
def run(toy, paradigm, tmp_path):
    """Return a function that evaluates and says how many folds were fitted."""

    def run(counting=None, *, name="a", **changes):
        arguments = {
            "datasets": [toy],
            "paradigm": paradigm,
            "protocol": "leave-one-subject-out",
            "random_state": 0,
            "results_dir": tmp_path / "results",
        } | changes
        pipeline = make_pipeline(Vectorizer(), counting or Counting())
        before = Counting.n_fits
        run.table = evaluate({name: pipeline}, **arguments)
        return Counting.n_fits - before

    return run


def linear(seed):
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in module.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator))
    return module


def frozen(seed):
    return linear(seed).requires_grad_(False)


# -- never stale ---------------------------------------------------------------


def test_second_call_fits_nothing(run):
    assert run() == 3
    first = run.table
    assert run() == 0
    pd.testing.assert_frame_equal(run.table, first)


def test_changed_files_count(run, seed_root, tmp_path):
    """A replica written anew into its folder came back with the scores of the old."""
    root = shutil.copytree(seed_root, tmp_path / "SEED")
    subjects = {"datasets": [SEED([1, 2], path=root, sessions=[0])]}
    paradigm = Emotion(window=1.0, features="de")
    n_fits = run(paradigm=paradigm, **subjects)
    assert n_fits and run(paradigm=paradigm, **subjects) == 0
    (file,) = SEED([2], sessions=[0], path=root).data_path(2)
    os.utime(file, ns=(0, 0))
    assert run(paradigm=paradigm, **subjects) == n_fits


def test_changed_labels_count(run, tmp_path):
    """Only the files of signals counted: changed ratings came back with old scores."""
    root = write_replica("DEAP", tmp_path / "DEAP", subjects=[1, 2], seconds=4, seed=0)
    arguments = {
        "datasets": [DEAP([1, 2], path=root)],
        "paradigm": Emotion("valence", window=1.0, features="de"),
    }
    n_fits = run(**arguments)
    (table,) = root.rglob("participant_ratings.csv")
    table.unlink()  # trials are then numbered in another order
    arguments["datasets"] = [DEAP([1, 2], path=root)]
    assert n_fits and run(**arguments) == n_fits


def test_changed_functions_count(tmp_path):
    """A function counted by its name: edited, it came back with its old scores."""
    hashes = []
    for power in (1, 2):
        file = tmp_path / "edited.py"
        file.write_text(f"def function(x):\n    return x ** {power}\n")
        spec = importlib.util.spec_from_file_location("edited", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        linecache.checkcache()
        sys.modules["edited"] = module
        hashes.append(hash_object(FunctionTransformer(module.function), "it"))
    del sys.modules["edited"]
    assert hashes[0] != hashes[1]


def test_the_order_of_any_dict_counts():
    """Of an OrderedDict it did not: features in another order were found."""
    a, b = (OrderedDict(pairs) for pairs in ([(1, 2), (3, 4)], [(3, 4), (1, 2)]))
    assert hash_object(a, "a") != hash_object(b, "b")
    assert hash_object(a, "a") == hash_object(OrderedDict(a), "a")


def test_the_name_of_a_pipeline_does_not_count(run, tmp_path):
    assert run() == 3
    assert run(name="b") == 0
    assert set(run.table["pipeline"]) == {"b"}
    assert set(read_predictions(tmp_path / "results")["pipeline"]) == {"b"}


def test_what_a_pipeline_learnt_before_does_not_count(run):
    """Each fold fits a clone, but a fitted pipeline was taken for another one."""
    assert run() == 3
    fitted = Counting().fit(np.eye(4), [0, 1, 0, 1])
    assert run(fitted) == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Counting(var_smoothing=0.1), Counting(var_smoothing=0.2)),
        (Counting(table=np.zeros(2000)), Counting(table=np.arange(2000) // 1999)),
        (Counting(module=linear(0)), Counting(module=linear(1))),
        # Frozen weights were taken for those that train.
        (Counting(module=linear(0)), Counting(module=frozen(0))),
        (Counting(module=linear(0)), Counting(module=linear(0).double())),
    ],
)
def test_changed_pipeline(before, after, run):
    assert run(before) == 3
    assert run(after) == 3
    assert run(before) == 0


@pytest.mark.slow
def test_changed_setting(run, make_toy, toy, fast, tmp_path):
    """MOABB gives the old score after most of these changes."""
    other = tmp_path / "other"
    other.mkdir()
    within = {"protocol": "within-session", "n_splits": 3}
    all_of = [
        ({}, 3),
        ({"random_state": 1}, 3),
        ({"random_state": None}, 3),
        ({"protocol": "subject-stimulus"}, 15),
        ({"protocol": "subject-stimulus", "n_stimulus_splits": 2}, 6),
        ({**within}, 18),
        ({**within, "n_splits": 2}, 12),
        ({"protocol": "chronological"}, 6),
        ({"protocol": "chronological", "train_size": 3}, 6),
        ({"paradigm": Emotion(**fast | {"window": 1.5})}, 3),
        ({"paradigm": Emotion(**fast, stride=0.5)}, 3),
        ({"paradigm": Emotion("valence", **fast)}, 3),
        ({"paradigm": Emotion("valence", threshold=6.8, **fast)}, 3),
        ({"paradigm": Emotion(**fast, scorer="f1_macro")}, 3),
        ({"paradigm": Emotion(**fast, scorer=["f1_macro", "accuracy"])}, 3),
        ({"datasets": [make_toy(path=other)]}, 3),
        ({"datasets": [make_toy(subjects=[1, 2])]}, 2),
        ({"datasets": [make_toy(sessions=[0])]}, 3),
        ({"param_grid": {"a": {"counting__var_smoothing": [0.1, 0.2]}}}, 21),
        ({"param_grid": {"a": {"counting__var_smoothing": [0.1, 0.3]}}}, 21),
    ]
    for changes, n_fits in all_of:
        assert run(**changes) == n_fits, changes
    for changes, _ in all_of:
        assert run(**changes) == 0, changes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Metric(0.25), Metric(0.75)),
        (
            make_scorer(fbeta_score, beta=1.0, pos_label=0),
            make_scorer(fbeta_score, beta=2.0, pos_label=0),
        ),
    ],
)
def test_changed_metric(before, after, run, fast):
    """An object as metric was known by its class: another came with the old score."""
    assert run(paradigm=Emotion(**fast, scorer=before)) == 3
    score = run.table["score"]
    assert run(paradigm=Emotion(**fast, scorer=after)) == 3
    assert (run.table["score"] != score).any()


def test_numpy_numbers_are_numbers(run):
    """An option of NumPy's type was no JSON: ``n_splits=np.int64(3)`` failed."""
    assert run(protocol="within-session", n_splits=np.int64(3)) == 18
    assert run(protocol="within-session", n_splits=3, random_state=np.int32(0)) == 0


def test_drawn_seed_is_found_again(run):
    assert run(protocol="within-session", n_splits=3, random_state=None) == 18
    first = run.table
    assert run(protocol="within-session", n_splits=3, random_state=None) == 0
    pd.testing.assert_frame_equal(run.table, first)


def test_two_processes_draw_one_seed(tmp_path):
    """The second to start wrote its own seed over that of the first."""
    identity = {"corpora": ["Toy"], "protocol": "chronological"}
    for folder in map(str, range(20)):
        with ThreadPoolExecutor(8) as pool:
            stores = pool.map(
                lambda _, folder=folder: FoldStore(tmp_path / folder, identity, None),
                range(8),
            )
            assert len({store.seed for store in stores}) == 1
    assert not list(tmp_path.rglob(".*"))


# -- hashes --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64])
def test_hash_of_any_tensor(dtype):
    """NumPy has no bfloat16: such weights were called not picklable."""
    values = torch.arange(6.0).reshape(2, 3).to(dtype)
    assert hash_object(values, "") == hash_object(values.clone(), "")
    assert hash_object(values, "") != hash_object(values + 1, "")
    assert hash_object(values, "") != hash_object(values.reshape(3, 2), "")
    assert hash_object(torch.tensor(1.0), "") != hash_object(torch.tensor(2.0), "")


# -- interruptions -------------------------------------------------------------

SCRIPT = """
    import os, signal, sys
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    from braindecode_emossl.datasets import DEAP
    from braindecode_emossl.evaluation import evaluate
    from braindecode_emossl.paradigms import Emotion


    class Mortal(LogisticRegression):
        def __init__(self, log=None, module=None, max_iter=100):
            super().__init__(max_iter=max_iter)
            self.log = log
            self.module = module

        def fit(self, X, y, sample_weight=None):
            with open(self.log, "a") as file:
                file.write("x")
            if os.path.getsize(self.log) == int(os.environ["KILL_AT"]):
                os.kill(os.getpid(), signal.SIGKILL)
            return super().fit(X, y)


    def flatten(X):
        return X.reshape(len(X), -1)


    def run(corpus, results, log):
        torch.manual_seed(0)
        module = torch.nn.Linear(2, 2)
        mortal = Mortal(log, module)
        pipeline = make_pipeline(FunctionTransformer(flatten), mortal)
        return evaluate(
            {"a": pipeline},
            [DEAP([1, 2], path=corpus)],
            Emotion("valence", window=1.0, features="de"),
            "within-session",
            n_splits=3,
            random_state=0,
            results_dir=results,
        )
"""


@pytest.mark.slow
def test_kill(deap_root, tmp_path, monkeypatch):
    """A step with a function was another one in each process, by its address.

    Nothing was ever found again.
    """
    (tmp_path / "mortal.py").write_text(textwrap.dedent(SCRIPT))
    results, log = tmp_path / "results", tmp_path / "log"
    arguments = [str(deap_root), str(results), str(log)]
    killed = subprocess.run(
        [sys.executable, "-c", f"import mortal; mortal.run(*{arguments})"],
        cwd=tmp_path,
        env={**os.environ, "KILL_AT": "5"},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    finished = sorted(results.glob("*/*/*.parquet"))
    assert len(finished) == log.stat().st_size - 1 == 4
    times = [file.stat().st_mtime_ns for file in finished]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("KILL_AT", "-1")
    import mortal

    table = mortal.run(*arguments)
    assert log.stat().st_size == 5 + 2  # of the six folds, four were finished
    assert [file.stat().st_mtime_ns for file in finished] == times
    log.unlink()
    whole = mortal.run(arguments[0], str(tmp_path / "whole"), arguments[2])
    assert log.stat().st_size == 6
    pd.testing.assert_frame_equal(
        table.drop(columns="time"), whole.drop(columns="time")
    )


def test_interrupt(run, tmp_path):
    Counting.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(list((tmp_path / "results").glob("*/*/*.parquet"))) == 2
    assert not list((tmp_path / "results").rglob(".*"))
    Counting.stop_at = None
    assert run() == 1


def test_a_fold_is_whole_or_not_there(run, tmp_path, monkeypatch):
    def write_half(table, file):
        file.write_bytes(b"PAR1")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", write_half)
        with pytest.raises(OSError, match="No space"):
            run()
    assert not [f for f in tmp_path.rglob("*") if "parquet" in f.name]
    assert run() == 3


def test_resume_and_overwrite(run, tmp_path):
    assert run(resume=False) == 3
    with pytest.raises(FileExistsError, match=r"3 finished folds .*overwrite=True"):
        run(resume=False)
    assert run(Counting(var_smoothing=0.2), resume=False) == 3
    assert run(overwrite=True) == 3
    assert run(Counting(var_smoothing=0.2)) == 0  # others' folds stay


# -- files ---------------------------------------------------------------------


def test_fold_survives_its_file(tmp_path):
    predictions = pd.DataFrame(
        {
            "subject": [1, 1],
            "session": ["0", "0"],
            "stimulus": ["a", None],
            "rating": [np.nan, 3.0],
            "proba_x": [0.1, 0.9],
        }
    )
    scores = [{"subject": "1", "session": "0", "score": 0.1 + 0.2, "score_auc": np.nan}]
    result = FoldResult(predictions, scores, 1.5, 7, 4)
    identity = {"corpora": ["Toy"], "protocol": "chronological"}
    store = FoldStore(tmp_path, identity, 0).open_pipeline("a", {"hash": "b"}, "repr")
    assert not store.is_complete("1") and len(store) == 0
    store.write("1", 1, 2, result)
    assert list(store.find("1")) == [1] and not store.is_complete("1")
    assert not store.find("11")
    store.write("1", 0, 2, result)
    assert store.is_complete("1") and list(store.find("1")) == [0, 1]
    back = read_fold(store.find("1")[1])
    pd.testing.assert_frame_equal(back.predictions, predictions)
    assert back.scores[0]["score"] == scores[0]["score"]
    assert np.isnan(back.scores[0]["score_auc"])
    assert (back.seconds, back.n_train, back.n_chans) == (1.5, 7, 4)


def test_read_predictions(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished fold below"):
        read_predictions(tmp_path)
    run()
    run(protocol="chronological")
    predictions = read_predictions(tmp_path / "results")
    assert predictions["protocol"].value_counts().to_dict() == {
        "leave-one-subject-out": 108,
        "chronological": 36,
    }
    assert predictions["evaluation"].nunique() == 2
    described = [
        json.loads(file.read_text()) for file in tmp_path.rglob("pipeline.json")
    ]
    assert all("Counting()" in content["pipeline"] for content in described)


def test_steps_that_take_functions(run):
    """What a representation shortens or names by address does not tell pipelines."""
    steps = [
        FunctionTransformer(np.log1p),
        FunctionTransformer(np.sqrt),
        StandardScaler(),
        RandomForestClassifier(random_state=np.random.RandomState(0)),
        RandomForestClassifier(random_state=np.random.RandomState(1)),
    ]
    hashes = [hash_object(step, "") for step in steps]
    assert len(set(hashes)) == len(hashes)
    again = RandomForestClassifier(random_state=np.random.RandomState(0))
    assert hash_object(again, "") == hashes[3]
