"""The folds: what they share, what they must not, and odd classes."""

from __future__ import annotations

import numpy as np
import pytest
from moabb.evaluations import CrossSubjectEvaluation
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import LeaveOneGroupOut

from braindecode_emossl.evaluation.folds import (
    Fold,
    group_ids,
    make_evaluation,
    make_folds,
    run_fold,
)
from braindecode_emossl.evaluation.protocols import KEYS, PROTOCOLS, Protocol


@pytest.fixture
def folds_of(toy, paradigm, tmp_path):
    """Return a function that divides the toy corpus by a protocol."""

    def folds_of(protocol, **options):
        options = protocol.settle(options)
        evaluation = make_evaluation(
            protocol, options, paradigm, toy, random_state=0, folder=tmp_path
        )
        _, y, metadata = paradigm.get_data(toy)
        return make_folds(protocol, options, evaluation, y, metadata), y, metadata

    return folds_of


@pytest.mark.parametrize(
    ("protocol", "n_folds"),
    [
        ("within-session", 30),
        ("chronological", 6),
        ("cross-session", 6),
        ("leave-one-subject-out", 3),
        ("subject-stimulus", 15),
    ],
)
def test_parts_of_folds(protocol, n_folds, folds_of):
    kind = PROTOCOLS[protocol]
    folds, _, metadata = folds_of(kind)
    assert len(folds) == n_folds
    tested = np.concatenate([fold.test for fold in folds])
    assert len(np.unique(tested)) == len(tested)
    if protocol != "chronological":
        assert len(tested) == len(metadata)
    for fold in folds:
        train, test = metadata.iloc[fold.train], metadata.iloc[fold.test]
        for what in kind.never_shared:
            columns = list(KEYS[what])
            keys = [set(map(tuple, part[columns].to_numpy())) for part in (train, test)]
            assert not keys[0] & keys[1]
        if kind.by_subject:
            assert len(set(train["subject"]) | set(test["subject"])) == 1
        if protocol == "chronological":
            assert set(train["session"]) == set(test["session"])
            assert train["trial"].max() < test["trial"].min()


def test_a_leak_is_never_divided(folds_of):
    """Whatever the splitter, a fold whose parts share what they must not is refused."""
    leaky = Protocol(
        name="leaky",
        summary="",
        evaluation=CrossSubjectEvaluation,
        splitter=LeaveOneGroupOut,
        groups="window",
        never_shared=("trial",),
    )
    with pytest.raises(ValueError, match=r"'leaky' cannot .* must not share a trial"):
        folds_of(leaky)
    sound = Protocol(
        name="sound",
        summary="",
        evaluation=CrossSubjectEvaluation,
        splitter=LeaveOneGroupOut,
        groups="stimulus",
        never_shared=("stimulus",),
    )
    assert len(folds_of(sound)[0]) == 12


def test_class_without_training_trial(toy, paradigm, tmp_path):
    protocol = PROTOCOLS["leave-one-subject-out"]
    evaluation = make_evaluation(
        protocol, {}, paradigm, toy, random_state=0, folder=tmp_path
    )
    _, y, metadata = paradigm.get_data(toy)
    y = np.where(metadata["subject"] == 10, "odd", y)
    with pytest.raises(ValueError, match=r"\['odd'\] .* tests Toy, subject 10\. "):
        make_folds(protocol, {}, evaluation, y, metadata)


def test_names_tell_recordings_apart(toy, paradigm):
    _, _, metadata = paradigm.get_data(toy)
    counts = {"trial": 36, "stimulus": 12, "session": 6, "subject": 3, "corpus": 1}
    for what, n_groups in counts.items():
        names = group_ids(metadata, what)
        assert len(set(names)) == n_groups
    assert group_ids(metadata, "trial")[-1] == "Toy subject 10 session 1 trial 5"


class Shuffled(ClassifierMixin, BaseEstimator):
    """Certain of class X[:, 0], its classes out of order, one of them never seen."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)[::-1].copy()
        return self

    def predict_proba(self, X):
        return (self.classes_[None] == X[:, :1]).astype(float)

    def predict(self, X):
        return X[:, 0].astype(int)


def test_classes_in_odd_order(toy, paradigm, tmp_path):
    _, _, metadata = paradigm.get_data(toy)
    metadata = metadata.iloc[:9]
    y = np.array(["c", "a", "b"] * 3)
    X = np.array([[2.0], [0.0], [1.0]] * 3)
    evaluation = make_evaluation(
        PROTOCOLS["leave-one-subject-out"],
        {},
        paradigm,
        toy,
        random_state=0,
        folder=tmp_path,
    )
    result = run_fold(
        X,
        y,
        metadata,
        fold=Fold(np.arange(6), np.arange(6, 9), np.arange(0)),
        pipeline=Shuffled(),
        grid=None,
        dataset=toy,
        config=evaluation._build_eval_config(None),
    )
    assert result.predictions["predicted"].tolist() == ["c", "a", "b"]
    proba = result.predictions[["proba_a", "proba_b", "proba_c"]].to_numpy()
    np.testing.assert_array_equal(proba, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert [score["score"] for score in result.scores] == [1.0]
    assert (result.n_train, result.n_chans) == (6, 1)
