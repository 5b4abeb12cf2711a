"""The folds: what they share, what they must not, and odd classes."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from skorch import NeuralNetClassifier

from braindecode_emossl.evaluation.folds import (
    FailedFold,
    Fold,
    Windows,
    _Responses,
    draw_labeled,
    find_unlabeled,
    group_ids,
    make_folds,
    make_job,
    run_fold,
)
from braindecode_emossl.evaluation.protocols import KEYS, PROTOCOLS, Parts, Protocol
from braindecode_emossl.paradigms.labels import UNLABELED


@pytest.fixture
def windows(toy, paradigm):
    return Windows(*paradigm.get_data(toy))


@pytest.mark.parametrize(
    ("protocol", "n_folds"),
    [
        ("within-session", 18),
        ("chronological", 6),
        ("cross-session", 6),
        ("leave-one-subject-out", 3),
        ("subject-kfold", 3),
        ("subject-split", 1),
        ("subject-calibration", 3),
        ("subject-stimulus", 9),
    ],
)
def test_parts_of_folds(protocol, n_folds, windows, options_of):
    kind = PROTOCOLS[protocol]
    folds = make_folds(kind, kind.complete(options_of(protocol)), windows.trials, 0)
    assert len(folds) == n_folds
    tested = np.concatenate([windows.rows_of(fold.test) for fold in folds])
    assert len(np.unique(tested)) == len(tested)
    if protocol not in ("chronological", "subject-split", "subject-calibration"):
        assert len(tested) == len(windows.metadata)
    for fold in folds:
        given, test = windows.trials.iloc[fold.train], windows.trials.iloc[fold.test]
        for what in kind.never_shared:
            columns = list(KEYS[what])
            keys = [set(map(tuple, p[columns].to_numpy())) for p in (given, test)]
            assert not keys[0] & keys[1]
        if kind.by_subject:
            assert len(set(given["subject"]) | set(test["subject"])) == 1
        if kind.in_order:
            assert set(given["session"]) == set(test["session"])
            assert given["trial"].max() < test["trial"].min()


def test_windows_of_a_trial_stay_together(windows):
    assert windows.X.shape[0] == 3 * len(windows.trials) == 108
    for number, trial in windows.trials.iterrows():
        rows = windows.metadata.iloc[windows.rows_of(np.array([number]))]
        assert rows["window"].tolist() == [0, 1, 2]
        columns = ["subject", "session", "trial", "stimulus"]
        assert (rows[columns] == trial[columns]).all(axis=None)


def test_a_subject_is_calibrated_with_its_first_trials(windows):
    kind = PROTOCOLS["subject-calibration"]
    for fold in make_folds(kind, kind.complete({"n_trials": 2}), windows.trials, 0):
        first = windows.trials.iloc[fold.calibration]
        test = windows.trials.iloc[fold.test]
        assert set(first["subject"]) == set(test["subject"])
        assert first["label"].value_counts().to_dict() == {"calm": 2, "wild": 2}
        assert set(first["session"]) == {"0"}
        assert first["trial"].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="leaves none of the 12 trials"):
        make_folds(kind, kind.complete({"n_trials": 6}), windows.trials, 0)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"train": 1, "validation": 1, "test": 1}, (1, 1, 1)),
        ({"train": 2, "validation": 0, "test": 1}, (2, 0, 1)),
        ({"train": 0.6, "validation": 0.2, "test": 0.2}, (1, 1, 1)),
        ({"train": None, "validation": 0, "test": 1}, (2, 0, 1)),
        # None took a subject that the rounding of two halves had left.
        ({"train": 0.5, "validation": None, "test": 0.5}, (1, 0, 2)),
        ({"train": None, "validation": 0.0, "test": 0.3}, (2, 0, 1)),
        ({"train": [1, 10], "validation": [], "test": [2]}, (2, 0, 1)),
    ],
)
def test_subjects_are_divided_once(options, sizes, windows):
    kind = PROTOCOLS["subject-split"]
    (fold,) = make_folds(kind, kind.complete(options), windows.trials, 0)
    parts = [fold.train, fold.validation, fold.test]
    subjects = [set(windows.trials["subject"].iloc[rows]) for rows in parts]
    assert tuple(map(len, subjects)) == sizes
    assert set.union(*subjects) == {1, 2, 10}
    if isinstance(options["test"], list):
        assert subjects == [{1, 10}, set(), {2}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 8, "validation": 1, "test": 1}, "counts, or shares .* must add up"),
        ({"train": 0.0, "validation": 0.5, "test": 0.5}, "cannot be divided"),
        ({"train": None, "validation": 0.5, "test": 0.5}, "cannot be divided"),
        ({"train": 0.8, "validation": 0.3, "test": 0.1}, "must add up to 1"),
        ({"train": [1], "validation": [1], "test": [2]}, "in one set, but got"),
        ({"train": "1", "validation": "1", "test": "1"}, "all counts, all shares"),
        ({"train": float("nan"), "validation": 0.1, "test": 0.1}, "must add up to 1"),
        ({"train": [1], "validation": [], "test": [2]}, "10 are not: choose"),
        ({"train": [1, 2], "validation": 0.1, "test": [10]}, "all counts, all shares"),
        ({"train": [1, 2], "validation": None, "test": [3]}, "but got 3"),
        ({"train": 3, "validation": 0, "test": 0}, "test set must have a subject"),
    ],
)
def test_subjects_that_cannot_be_divided(options, message, windows):
    kind = PROTOCOLS["subject-split"]
    with pytest.raises(ValueError, match=message):
        make_folds(kind, kind.complete(options), windows.trials, 0)


def leaky_split(column):
    def split(trials, options, seed):
        groups = trials[column].to_numpy()
        for train, test in LeaveOneGroupOut().split(trials, groups=groups):
            yield Parts(train, test)

    return split


def test_a_leak_is_never_divided(windows):
    """Whatever the splitter, a fold whose parts share what they must not is refused."""
    leaky = Protocol("leaky", "", leaky_split("stimulus"), ("subject",), ("subject",))
    with pytest.raises(ValueError, match=r"'leaky' cannot .* must not share a subject"):
        make_folds(leaky, {}, windows.trials, 0)
    sound = Protocol("sound", "", leaky_split("stimulus"), ("stimulus",), ("trial",))
    assert len(make_folds(sound, {}, windows.trials, 0)) == 12


def test_class_without_training_trial(windows):
    trials = windows.trials
    trials["label"] = np.where(trials["subject"] == 10, "odd", trials["label"])
    with pytest.raises(ValueError, match=r"\['odd'\] .* tests Toy, subject 10\. "):
        make_folds(PROTOCOLS["leave-one-subject-out"], {}, trials, 0)


def test_names_tell_recordings_apart(windows):
    counts = {"trial": 36, "stimulus": 12, "session": 6, "subject": 3, "corpus": 1}
    for what, n_groups in counts.items():
        names = group_ids(windows.metadata, what)
        assert len(set(names)) == n_groups
    names = group_ids(windows.metadata, "trial")
    assert names[-1] == "Toy subject 10 session 1 trial 5"


# -- which labels are given ----------------------------------------------------


def make_trials(n_subjects, n_sessions, n_trials, n_classes, unlabeled=0.0, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        ("Toy", subject, str(session), trial, f"clip{trial}", f"c{trial % n_classes}")
        for subject in range(n_subjects)
        for session in range(n_sessions)
        for trial in range(n_trials)
    ]
    columns = ["corpus", "subject", "session", "trial", "stimulus", "label"]
    trials = pd.DataFrame(rows, columns=columns)
    hidden = rng.random(len(trials)) < unlabeled
    trials.loc[hidden, "label"] = UNLABELED
    return trials.assign(extra=False)


@settings(max_examples=60, deadline=None)
@given(
    n_subjects=st.integers(1, 5),
    n_sessions=st.integers(1, 3),
    n_trials=st.integers(2, 12),
    k=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_labels_of_exactly_k_trials(n_subjects, n_sessions, n_trials, k, seed):
    trials = make_trials(n_subjects, n_sessions, n_trials, 2)
    if n_sessions * (n_trials // 2) < k:
        with pytest.warns(UserWarning, match="all of them are labelled"):
            draw_labeled(trials, k, seed)
        return
    mask = draw_labeled(trials, k, seed)
    counts = trials[mask].groupby(["subject", "label"]).size()
    assert (counts == k).all() and len(counts) == 2 * n_subjects
    if k > 1:  # the trials of a smaller number are among those of a larger one
        assert (mask | ~draw_labeled(trials, k - 1, seed)).all()
    order = np.random.default_rng(seed).permutation(len(trials))
    assert (draw_labeled(trials.iloc[order], k, seed) == mask[order]).all()


@settings(max_examples=60, deadline=None)
@given(
    protocol=st.sampled_from(
        [name for name, p in PROTOCOLS.items() if not p.across_corpora]
    ),
    n_subjects=st.integers(3, 6),
    unlabeled=st.floats(0.0, 0.5),
    seed=st.integers(0, 2**31),
)
def test_unlabeled_trials_stay_apart(protocol, n_subjects, unlabeled, seed):
    """No trial without a label that shares what is held out joins the training set."""
    kind = PROTOCOLS[protocol]
    trials = make_trials(n_subjects, 2, 20, 2, unlabeled, seed)
    chosen = {
        "subject-kfold": {"n_splits": 3},
        "within-session": {"n_splits": 2},
        "subject-stimulus": {"n_stimulus_splits": 2},
    }.get(protocol, {})
    try:
        folds = make_folds(kind, kind.complete(chosen), trials, seed % 1000)
    except ValueError:
        return  # too few trials of a class are left
    for fold in folds:
        joined = find_unlabeled(kind, fold, trials)
        assert (trials["label"].iloc[joined] == UNLABELED).all()
        held_out = np.concatenate([fold.test, fold.validation])
        for what in kind.unlabeled_apart:
            names = group_ids(trials, what)
            assert not set(names[joined]) & set(names[held_out])
        if kind.in_order:
            sessions = group_ids(trials, "session")
            (session,) = set(sessions[fold.test])
            later = trials["trial"].iloc[fold.test].min()
            mine = sessions[joined] == session
            assert (trials["trial"].iloc[joined][mine] < later).all()


# -- fitting and predicting ----------------------------------------------------


class Shuffled(ClassifierMixin, BaseEstimator):
    """Certain of class X[:, 0], its classes out of order, one of them never seen."""

    n_calls: list = []  # noqa: RUF012

    def fit(self, X, y):
        self.classes_ = np.unique(y)[::-1].copy()
        return self

    def predict_proba(self, X):
        self.n_calls.append("predict_proba")
        return (self.classes_[None] == X[:, :1]).astype(float)

    def predict(self, X):
        self.n_calls.append("predict")
        return X[:, 0].astype(int)


def test_classes_in_odd_order(windows):
    """Each response was computed two or three times."""
    Shuffled.n_calls.clear()
    toy = Windows(
        np.array([[2.0], [0.0], [1.0]] * 3),
        np.array(["c", "a", "b"] * 3),
        windows.metadata.iloc[:9],
    )
    fold = Fold(np.arange(6), np.arange(6, 9))
    job = make_job(toy, fold, Shuffled(), scoring=["accuracy", "neg_log_loss"])
    found = run_fold(toy.X, job)
    assert job.classes[found.codes].tolist() == ["c", "a", "b"]
    np.testing.assert_array_equal(found.proba, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    (scores,) = found.scores
    assert scores["score"] == scores["score_accuracy"] == 1.0
    assert sorted(Shuffled.n_calls) == ["predict", "predict_proba"]


class Counting(TransformerMixin, BaseEstimator):
    """Return the windows, and count how often they come."""

    n_windows: list = []  # noqa: RUF012

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        self.n_windows.append(len(X))
        return X


@pytest.mark.parametrize("grid", [None, {"shuffled": [Shuffled()]}])
def test_features_of_a_recording_are_computed_once(grid, windows):
    """A pipeline computed its features for probabilities, and again for labels."""
    toy = Windows(
        np.array([[2.0], [0.0], [1.0]] * 6),
        np.array(["c", "a", "b"] * 6),
        windows.metadata.iloc[:18].assign(trial=np.arange(18)),
    )
    fold = Fold(np.arange(9), np.arange(9, 18))
    pipeline = make_pipeline(Counting(), Shuffled())
    job = make_job(toy, fold, pipeline, scoring=["accuracy", "neg_log_loss"], grid=grid)
    n_recordings = len(job.recordings)
    Counting.n_windows.clear()
    found = run_fold(toy.X, job)
    assert [s["score_accuracy"] for s in found.scores] == [1.0] * n_recordings
    sizes = [len(rows) for rows, _ in job.recordings]
    assert Counting.n_windows[-n_recordings:] == sizes
    assert grid or Counting.n_windows == [len(job.train), *sizes]


class Wrong(Shuffled):
    """Return a label that fit was not given."""

    label = -1

    def predict(self, X):
        return np.full(len(X), self.label)


@pytest.mark.parametrize("label", [-1, 3, 0.5])
def test_predictions_that_are_no_labels(label, windows, monkeypatch):
    """-1 was taken for the last class, 0.5 for the first."""
    monkeypatch.setattr(Wrong, "label", label)
    toy = Windows(
        np.array([[2.0], [0.0], [1.0]] * 3),
        np.array(["c", "a", "b"] * 3),
        windows.metadata.iloc[:9],
    )
    job = make_job(toy, Fold(np.arange(6), np.arange(6, 9)), Wrong())
    assert "labels that fit was given, 0 to 2" in str(run_fold(toy.X, job).error)


class Zeros(NeuralNetClassifier):
    """Predict the first class, whatever is most probable."""

    def predict(self, X):
        return np.zeros(len(X), int)


def test_predict_of_a_network_of_the_users_is_called():
    """It was taken for the most probable class, as in skorch."""
    net = Zeros(torch.nn.Linear, module__in_features=2, module__out_features=2)
    X = np.random.default_rng(0).normal(scale=10, size=(20, 2)).astype(np.float32)
    net.set_params(criterion=torch.nn.CrossEntropyLoss, max_epochs=1, verbose=0)
    net.fit(X, np.arange(20) % 2)
    assert net.predict_proba(X).argmax(axis=1).any()
    assert not _Responses(net, X).predict(X).any()


class Odd(Exception):
    """An error that pickle cannot rebuild."""

    def __init__(self, reason, place):
        super().__init__(f"{reason} in {place}")


def test_errors_come_back_from_workers():
    """Errors with arguments of their own broke the pool, and their cause was lost."""
    try:
        raise Odd("No memory", "cuda:0")
    except Odd as error:
        failed = pickle.loads(pickle.dumps(FailedFold(error)))
    assert str(failed.error) == "Odd: No memory in cuda:0"
    assert "test_errors_come_back_from_workers" in failed.error.__notes__[0]
