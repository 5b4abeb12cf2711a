"""Finished folds: found again by everything they depend on, and never half written."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mne.decoding import Vectorizer
from sklearn.metrics import fbeta_score, make_scorer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from braindecode_emossl import storage
from braindecode_emossl.datasets import DEAP, SEED, EmotionDataset, write_replica
from braindecode_emossl.evaluation import (
    EEGBandFeatures,
    evaluate,
    read_predictions,
)
from braindecode_emossl.evaluation.folds import FoldResult
from braindecode_emossl.evaluation.store import (
    FoldStore,
    read_evaluations,
    read_fold,
)
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.report_content import _name_pipelines

from .conftest import Toy


class Bayes(GaussianNB):
    """A classifier with parameters of any kind, which change nothing."""

    def __init__(self, var_smoothing=1e-9, module=None, table=None):
        super().__init__(var_smoothing=var_smoothing)
        self.module = module
        self.table = table


class Remembers(GaussianNB):
    """A classifier whose parameters have the names of others' places."""

    def __init__(self, memory=5, pretrained=None):
        super().__init__()
        self.memory = memory
        self.pretrained = pretrained


class Scaled(Emotion):
    def get_data(self, *args, **kwargs):
        X, y, metadata = super().get_data(*args, **kwargs)
        return 2 * X, y, metadata


class Louder(Toy):
    effect = 2.0


class Metric:
    """A metric that is no function."""

    def __init__(self, value):
        self.value = value

    def __call__(self, estimator, X, y):
        return self.value


def test_gathering_finished_folds_reads_no_signal(toy, paradigm, tmp_path, monkeypatch):
    """A recording was read for the rate, once for each pipeline that asked for it."""
    pipelines = {
        name: make_pipeline(EEGBandFeatures(), GaussianNB(var_smoothing=smoothing))
        for name, smoothing in (("a", 1e-9), ("b", 1e-8))
    }
    arguments = {
        "datasets": [toy],
        "paradigm": paradigm,
        "protocol": "leave-one-subject-out",
        "random_state": 0,
        "results_dir": tmp_path,
    }
    table = evaluate(pipelines, **arguments)

    def refuse(*arguments, **keywords):
        raise AssertionError("A signal is read.")

    monkeypatch.setattr(EmotionDataset, "_make_raw", refuse)
    with pytest.raises(AssertionError):
        toy.first_raw()
    pd.testing.assert_frame_equal(evaluate(pipelines, **arguments), table)


@pytest.fixture
def run(toy, paradigm, tmp_path):
    """Return a function that evaluates and returns the number of folds computed."""

    def run(classifier=None, *, name="a", stop_after=None, **changes):
        done = []

        def count(corpus, n_done, n_folds):
            done.append(n_done)
            if n_done == stop_after:
                raise KeyboardInterrupt

        arguments = {
            "datasets": [toy],
            "paradigm": paradigm,
            "protocol": "leave-one-subject-out",
            "random_state": 0,
            "results_dir": tmp_path / "results",
            "on_fold": count,
        } | changes
        pipeline = make_pipeline(Vectorizer(), classifier or Bayes())
        run.table = evaluate({name: pipeline}, **arguments)
        return len(done)

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


def test_only_contents_of_files_count(run, seed_root, tmp_path):
    """A copy of the corpus found nothing, and one with other contents old results."""
    root = shutil.copytree(seed_root, tmp_path / "SEED", copy_function=shutil.copyfile)
    paradigm = Emotion(window=1.0, features="de")

    def run_on(path, subjects=(1, 2)):
        corpus = SEED(list(subjects), path=path, sessions=[0])
        return run(paradigm=paradigm, datasets=[corpus])

    assert run_on(root) == 2
    assert run_on(seed_root, (2, 1)) == 0
    (file,) = SEED([2], sessions=[0], path=root).data_path(2)
    os.utime(file, ns=(0, 0))
    assert run_on(root) == 0
    other = tmp_path / "other"
    write_replica("SEED", other, subjects=[2], seconds=4, seed=1, sessions=[0])
    shutil.copyfile(*SEED([2], sessions=[0], path=other).data_path(2), file)
    assert run_on(root) == 2


def test_changed_labels_count(run, tmp_path):
    """Only the files of signals counted: changed ratings gave the old scores."""
    root = write_replica("DEAP", tmp_path / "DEAP", subjects=[1, 2], seconds=4, seed=0)
    arguments = {
        "datasets": [DEAP([1, 2], path=root)],
        "paradigm": Emotion("valence", window=1.0, features="de"),
    }
    assert run(**arguments) == 2
    (table,) = root.rglob("participant_ratings.csv")
    table.unlink()  # trials are then numbered in another order
    arguments["datasets"] = [DEAP([1, 2], path=root)]
    assert run(**arguments) == 2


def test_the_name_of_a_pipeline_does_not_count(run, tmp_path):
    assert run() == 3
    assert run(name="b") == 0
    assert set(run.table["pipeline"]) == {"b"}
    assert set(read_predictions(tmp_path / "results")["pipeline"]) == {"b"}


def test_the_fitted_state_of_a_pipeline_does_not_count(run):
    """Each fold fits a clone, but a fitted pipeline was taken for another one."""
    assert run() == 3
    fitted = Bayes().fit(np.eye(4), [0, 1, 0, 1])
    assert run(fitted) == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Bayes(var_smoothing=0.1), Bayes(var_smoothing=0.2)),
        (Bayes(table=np.zeros(2000)), Bayes(table=np.arange(2000) // 1999)),
        (Bayes(module=linear(0)), Bayes(module=linear(1))),
        # Frozen weights were taken for those that train.
        (Bayes(module=linear(0)), Bayes(module=frozen(0))),
        (Bayes(module=linear(0)), Bayes(module=linear(0).double())),
    ],
)
def test_changed_pipeline(before, after, run):
    assert run(before) == 3
    assert run(after) == 3
    assert run(before) == 0


def test_parameters_with_the_names_of_places_count(run):
    """Any ``memory`` was left out, and any ``pretrained`` taken for a folder."""
    for settings in ({}, {"memory": 500}, {"pretrained": True}):
        assert run(Remembers(**settings)) == 3
    assert run(Remembers(memory=500)) == 0


@pytest.mark.parametrize(
    ("name", "values", "n_folds"),
    [
        ("rating_cuts", [(3.0, 6.0), (2.0, 6.0)], 3),
        (
            "official_folds",
            [
                {(session, t): t // 2 // step for session in "01" for t in range(6)}
                for step in (1, 2)
            ],
            9,
        ),
        ("event_id", [{"calm": 1, "wild": 2}, {"calm": 2, "wild": 1}], 3),
    ],
)
def test_what_the_caller_sets_of_a_corpus_counts(
    name, values, n_folds, run, make_toy, fast
):
    """Messages tell to set such attributes, but old scores were found after it."""
    changes: dict = {"paradigm": Emotion(**fast)}
    if name == "rating_cuts":
        changes = {"paradigm": Emotion("valence", n_classes=3, **fast)}
    elif name == "official_folds":
        changes |= {"protocol": "within-session", "folds": "official"}
    counts = []
    for value in (*values, values[0]):
        corpus = make_toy()
        setattr(corpus, name, value)
        counts.append(run(datasets=[corpus], **changes))
    assert counts[0] == n_folds and counts[1] > 0 and counts[2] == 0


def test_code_of_corpus_and_paradigm_counts(run, make_toy, fast):
    """Subclasses were known by the code and the settings of what they change."""
    assert run() == 3
    assert run(paradigm=Scaled(**fast)) == 3
    assert run(datasets=[make_toy(Louder)]) == 3
    assert run(paradigm=Scaled(**fast)) == 0


@pytest.mark.slow
def test_changed_setting(run, make_toy, fast):
    """MOABB gives the old score after most of these changes."""
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
        ({"datasets": [make_toy(subjects=[1, 2])]}, 2),
        ({"datasets": [make_toy(sessions=[0])]}, 3),
        ({"param_grid": {"a": {"bayes__var_smoothing": [0.1, 0.2]}}}, 3),
        ({"param_grid": {"a": {"bayes__var_smoothing": [0.1, 0.3]}}}, 3),
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


@pytest.mark.parametrize("has_links", [True, False])
def test_two_processes_draw_one_seed(has_links, tmp_path, monkeypatch):
    """The second to start replaced the seed of the first.

    On a file system without hard links ``evaluate`` stopped.
    """

    def refuse(*args, **kwargs):
        raise OSError(errno.ENOSYS, "Function not implemented")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    for folder in map(str, range(20)):
        with ThreadPoolExecutor(8) as pool:
            stores = pool.map(
                lambda _, folder=folder: FoldStore(tmp_path / folder, IDENTITY, None),
                range(8),
            )
            assert len({store.seed for store in stores}) == 1
    assert not list(tmp_path.rglob("*.tmp"))


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
    with pytest.raises(KeyboardInterrupt):
        run(stop_after=2)
    assert len(list((tmp_path / "results").glob("*/*/*.parquet"))) == 2
    assert not list((tmp_path / "results").rglob(".*"))
    assert run() == 1


def test_a_full_disk_leaves_no_fold_and_names_it(run, tmp_path, monkeypatch):
    """The error said only that there was no space left."""

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    run(stop_after=None, shard=(0, 2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=rf"No space left .*{tmp_path}.*parquet"):
            run()
    assert not list(tmp_path.rglob("*.tmp"))
    assert run() == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "copied"])
def test_a_damaged_fold_is_unfinished(damage, run, tmp_path):
    """An empty file counted for ever, an altered or copied one gave its scores."""
    assert run() == 3
    first = run.table
    other, file, _ = sorted(tmp_path.rglob("*.parquet"))
    good = file.read_bytes()
    middle = len(good) // 2
    bad = {"cut": good[:100], "empty": b"", "copied": other.read_bytes()}
    bad["flipped"] = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
    file.write_bytes(bad[damage])
    with pytest.raises(ValueError, match=str(file)):
        read_fold(file)
    assert len(read_predictions(tmp_path / "results")) == 72  # of two folds
    (evaluation,) = read_evaluations(tmp_path / "results")
    assert not evaluation.pipelines[0].complete
    assert run() == 1
    pd.testing.assert_frame_equal(
        run.table.drop(columns="time"), first.drop(columns="time")
    )


def test_an_empty_description_is_named(run, tmp_path):
    """A JSONDecodeError named no file."""
    run()
    (file,) = tmp_path.rglob("run.json")
    good = file.read_text()
    for text in ("", good[:30], "[]"):
        file.write_text(text)
        with pytest.raises(ValueError, match=rf"{file} .*delete the folder"):
            run()
        with pytest.raises(ValueError, match=rf"{file} .*delete the folder"):
            read_evaluations(tmp_path / "results")
    file.write_text(good)
    (file,) = tmp_path.rglob("pipeline.json")
    file.write_text("{")
    with pytest.raises(ValueError, match=rf"{file} .*Repeat the call"):
        read_predictions(tmp_path / "results")
    assert run() == 0
    assert len(read_predictions(tmp_path / "results")) == 108


def test_read_only_results_are_read(run, monkeypatch):
    """Even with all folds finished, the call stopped where nothing can be written."""

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EROFS, "Read-only file system")

    run()
    first = run.table
    for name in ("mkdir", "write_bytes", "write_text", "replace", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    assert run(name="b") == 0
    pd.testing.assert_frame_equal(
        run.table.drop(columns="pipeline"), first.drop(columns="pipeline")
    )


def test_leftovers_of_a_killed_process_are_deleted(run, tmp_path):
    """Half-written folds stayed for ever."""
    run()
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (fold, *_) = tmp_path.rglob("*.parquet")
    scratch = storage._scratch_of(fold).name
    fold.with_name(scratch.replace(f"-{os.getpid()}-", f"-{process.pid}-")).touch()
    fold.with_name(scratch).touch()  # of a process that is still writing
    run()
    assert [file.name for file in tmp_path.rglob("*.tmp")] == [scratch]


def test_resume_and_overwrite(run, tmp_path):
    assert run(resume=False) == 3
    with pytest.raises(FileExistsError, match=r"3 finished folds .*overwrite=True"):
        run(resume=False)
    assert run(Bayes(var_smoothing=0.2), resume=False) == 3
    assert run(overwrite=True) == 3
    assert run(Bayes(var_smoothing=0.2)) == 0  # others' folds stay


# -- files ---------------------------------------------------------------------

IDENTITY = {"corpora": ["Toy"], "protocol": "chronological", "options": {"a": (1,)}}


def test_a_fold_is_read_as_it_was_written(tmp_path):
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
    result = FoldResult(predictions, scores, 1.5, np.int64(7), 4, "statistics")
    store = FoldStore(tmp_path, IDENTITY, 0).open_pipeline("a", {"hash": "b"}, {})
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
    others = asdict(back)
    assert (others["seconds"], others["n_train"], others["n_chans"]) == (1.5, 7, 4)
    assert others["target_access"] == "statistics"
    store.clear()
    assert len(store) == 0


def test_any_altered_byte_of_a_fold_is_noticed(tmp_path):
    """Of 1,500 altered files 137 were read as if nothing had happened."""
    table = pd.DataFrame({"subject": [1] * 50, "proba_x": np.linspace(0, 1, 50)})
    result = FoldResult(table, [{"score": 0.5}], 1.0, 7, 4)
    store = FoldStore(tmp_path, IDENTITY, 0).open_pipeline("a", {"hash": "b"}, {})
    store.write("1", 0, 1, result)
    (file,) = store.find("1").values()
    good, rng = file.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(len(good), size=300):
        bad = bytearray(good)
        bad[place] ^= rng.integers(1, 256)
        file.write_bytes(bad)
        with pytest.raises(ValueError, match="damaged"):
            read_fold(file)
    file.write_bytes(good)
    assert read_fold(file).scores == result.scores


def test_evaluations_are_described_as_data(tmp_path):
    """Settings had to be parsed out of a repr."""
    table = pd.DataFrame({"subject": [1, 2], "label": "a", "predicted": "a"})
    store = FoldStore(tmp_path, IDENTITY, 3, notes={"units": 2})
    for name, seed, number, access in (("b", 0, 2, "none"), ("a", None, None, "x")):
        identity = {"hash": name, "seed": seed, "n_labeled_trials": number}
        pipeline = store.open_pipeline(name, identity, {"C": np.float64(0.1)})
        access = "unlabeled" if access == "x" else access
        for index in range(1 + (name == "b")):
            result = FoldResult(table, [], 1.0, 7, 4, access)
            pipeline.write("1", index, 2, result)
    (found,) = read_evaluations(tmp_path)
    assert found.folder == store.folder
    options = {"options": {"a": [1]}, "random_state": 3, "notes": {"units": 2}}
    assert found.run == {**IDENTITY, **options}
    a, b = found.pipelines
    assert (a.name, a.complete, a.target_access) == ("a", False, "unlabeled")
    assert (b.name, b.complete, b.target_access) == ("b", True, "none")
    assert b.content["settings"] == {"C": 0.1} and b.content["seed"] == 0
    assert len(b.predictions) == 4
    # Notes do not change what is found again.
    assert FoldStore(tmp_path, IDENTITY, 3).folder == store.folder
    predictions = read_predictions(tmp_path)
    numbers = predictions[["pipeline", "seed", "n_labeled_trials"]].drop_duplicates()
    assert numbers.astype(object).fillna(-1).to_numpy().tolist() == [
        ["a", -1, -1],
        ["b", 0, 2],
    ]


def test_two_names_of_one_estimator(toy, paradigm, tmp_path):
    """One of them was missing in the report."""
    pipelines = {name: make_pipeline(Vectorizer(), Bayes()) for name in "ab"}
    protocol = "leave-one-subject-out"
    evaluate(pipelines, [toy], paradigm, protocol, results_dir=tmp_path)
    (found,) = read_evaluations(tmp_path)
    assert [pipeline.name for pipeline in found.pipelines] == ["a", "b"]
    counts = read_predictions(tmp_path)["pipeline"].value_counts()
    assert counts["a"] == counts["b"]


def test_numbers_of_one_pipeline_stay_together(run, tmp_path):
    """Those with a grid and those without were mixed, as their repr is the same."""
    grid = {"a": {"bayes__var_smoothing": [0.1, 0.2]}}
    for changes in ({}, {"param_grid": grid}):
        run(n_labeled_trials=[3, None], seeds=[0, 1], **changes)
    (found,) = read_evaluations(tmp_path / "results")
    searches: dict = {}
    for name, pipeline in zip(
        _name_pipelines(found.pipelines), found.pipelines, strict=True
    ):
        searches.setdefault(name, []).append(pipeline.content["search"])
    assert len(searches) == 2
    assert all(len(s) == 4 and len(set(s)) == 1 for s in searches.values())


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
