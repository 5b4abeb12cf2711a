"""Scores by window and by trial: against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from braindecode_emossl.evaluation import score_predictions, vote

FAST = settings(deadline=None, max_examples=40)


def predictions(rows, **changes):
    """Return two-class predictions from (trial, label, probability of "b")."""
    trial, label, proba = zip(*rows, strict=True)
    proba = np.array(proba)
    table = {
        "corpus": "Toy",
        "subject": 1,
        "session": "0",
        "trial": trial,
        "label": label,
        "predicted": np.where(proba > 0.5, "b", "a"),
        "proba_a": 1 - proba,
        "proba_b": proba,
    }
    return pd.DataFrame(table | changes)


ROWS = [
    (0, "a", 0.6),  # outvoted by one certain window
    (0, "a", 0.6),
    (0, "a", 0.0),
    (1, "b", 0.9),
    (1, "b", 0.2),
    (2, "b", 0.1),
]


def test_vote():
    """A mean of probabilities, not a majority of windows."""
    trials = vote(predictions(ROWS))
    assert trials["trial"].tolist() == [0, 1, 2]
    assert trials["label"].tolist() == ["a", "b", "b"]
    assert trials["predicted"].tolist() == ["a", "b", "a"]
    np.testing.assert_allclose(trials["proba_b"], [0.4, 0.55, 0.1])


@pytest.mark.parametrize("column", ["corpus", "subject", "session"])
def test_trials_of_two_recordings_do_not_vote_together(column):
    rows = predictions([(0, "a", 0.1), (0, "a", 0.7)], **{column: ["x", "y"]})
    assert vote(rows)["predicted"].tolist() == ["a", "b"]


def test_class_that_a_fold_lacks():
    """Its probability is missing, not zero, in the windows of that fold."""
    rows = predictions([(0, "a", 0.4), (1, "b", 0.9)])
    rows["proba_c"] = [np.nan, 0.05]
    assert vote(rows)["predicted"].tolist() == ["a", "b"]
    scores = score_predictions(rows)
    assert np.isnan(scores["recall_c"])
    assert scores["recall_a"] == scores["recall_b"] == scores["roc_auc"] == 1.0
    # Squares of 0.4 twice; of 0.1 twice and of 0.05.
    assert scores["brier"] == pytest.approx((2 * 0.16 + 2 * 0.01 + 0.0025) / 2)


def test_scores_by_hand():
    scores = score_predictions(predictions(ROWS))
    # Windows: of 3 a 1 is right, of 3 b 1 is right.
    assert scores["accuracy"] == pytest.approx(2 / 6)
    assert scores["balanced_accuracy"] == pytest.approx(1 / 3)
    assert scores["f1_macro"] == pytest.approx(1 / 3)
    assert scores["kappa"] == pytest.approx((2 / 6 - 0.5) / 0.5)
    # Trials: a right; of 2 b 1 is right.
    assert scores["score_trial"] == pytest.approx(2 / 3)
    assert scores["balanced_accuracy_trial"] == pytest.approx(3 / 4)
    assert scores["f1_macro_trial"] == pytest.approx(2 / 3)
    assert scores["kappa_trial"] == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))


def test_predicted_class_that_does_not_occur():
    """It lowers the F1 score, but does not count for the balanced accuracy."""
    scores = score_predictions(predictions([(0, "a", 0.1), (1, "a", 0.9)]))
    assert scores["accuracy"] == scores["balanced_accuracy"] == 0.5
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores["kappa"] == 0.0


def test_kappa_of_one_class():
    scores = score_predictions(predictions([(0, "a", 0.1), (1, "a", 0.2)]))
    assert scores["accuracy"] == 1.0
    assert np.isnan(scores["kappa"]) and np.isnan(scores["kappa_trial"])
    assert scores["recall_a"] == 1.0
    assert np.isnan(scores["recall_b"]) and np.isnan(scores["roc_auc"])


# -- against scikit-learn --------------------------------------------------------


def draw_predictions(seed, n_classes, n=60, present=None):
    """Return predictions of random labels, and the probabilities (n, n_classes)."""
    rng = np.random.default_rng(seed)
    names = np.array(["neg", "neu", "pos", "sad"][:n_classes])
    # Coarse, so that probabilities tie.
    proba = rng.multinomial(8, np.full(n_classes, 1 / n_classes), size=n) / 8
    table = {
        "corpus": "Toy",
        "subject": 1,
        "session": "0",
        "trial": np.arange(n),
        "label": names[rng.integers(present or n_classes, size=n)],
        "predicted": names[proba.argmax(axis=1)],
        **{f"proba_{name}": proba[:, i] for i, name in enumerate(names)},
    }
    return pd.DataFrame(table), proba


@FAST
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_scores_are_those_of_scikit_learn(seed, n_classes):
    rows, _ = draw_predictions(seed, n_classes, n=12)
    truth, predicted = rows["label"], rows["predicted"]
    scores = score_predictions(rows)
    names = sorted(truth.unique())
    recalls = metrics.recall_score(truth, predicted, labels=names, average=None)
    expected = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": recalls.mean(),
        "f1_macro": metrics.f1_score(
            truth, predicted, average="macro", zero_division=0.0
        ),
        **{f"recall_{name}": r for name, r in zip(names, recalls, strict=True)},
    }
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value)
    if len(names) > 1:
        kappa = metrics.cohen_kappa_score(truth, predicted)
        assert scores["kappa"] == pytest.approx(kappa)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_roc_auc_and_brier_score_are_those_of_scikit_learn(n_classes):
    rows, proba = draw_predictions(0, n_classes)
    scores = score_predictions(rows)
    names = sorted(rows["label"].unique())
    auc = metrics.roc_auc_score(
        rows["label"] == names[1] if n_classes == 2 else rows["label"],
        proba[:, 1] if n_classes == 2 else proba,
        multi_class="ovr",
        labels=None if n_classes == 2 else names,
    )
    assert scores["roc_auc"] == pytest.approx(auc)
    brier = metrics.brier_score_loss(
        rows["label"], proba, labels=names, scale_by_half=False
    )
    assert scores["brier"] == pytest.approx(brier)


def test_roc_auc_without_one_of_three_classes():
    """scikit-learn raises an error; the classes that occur have a curve each."""
    rows, proba = draw_predictions(1, 3, present=2)
    areas = [
        metrics.roc_auc_score(rows["label"] == name, proba[:, i])
        for i, name in enumerate(["neg", "neu"])
    ]
    scores = score_predictions(rows)
    assert scores["roc_auc"] == pytest.approx(np.mean(areas))
    assert np.isnan(scores["recall_pos"])


def test_roc_auc_by_hand():
    """Of six pairs of an a and a b, five are in order."""
    rows = [(0, "a", 0.1), (1, "a", 0.5), (2, "a", 0.6), (3, "b", 0.55), (4, "b", 0.9)]
    scores = score_predictions(predictions(rows))
    assert scores["roc_auc"] == pytest.approx(5 / 6)
    tied = score_predictions(predictions([(0, "a", 0.5), (1, "b", 0.5)]))
    assert tied["roc_auc"] == 0.5


# -- calibration -----------------------------------------------------------------


def test_calibration_error_by_hand():
    """Two windows of the bin (0.6, 0.7], of which one is right, and one of (0.9, 1]."""
    rows = predictions([(0, "b", 0.7), (1, "a", 0.65), (2, "b", 1.0)])
    expected = 2 / 3 * abs(0.5 - 0.675) + 1 / 3 * 0
    assert score_predictions(rows)["ece"] == pytest.approx(expected)


def test_calibrated_probabilities_have_no_calibration_error():
    """Of ten windows at 0.8, eight are right."""
    rows = predictions([(i, "b" if i < 8 else "a", 0.8) for i in range(10)])
    scores = score_predictions(rows)
    assert scores["ece"] == pytest.approx(0, abs=1e-12)
    assert scores["brier"] == pytest.approx(2 * 0.8 * 0.2)


def test_certain_votes():
    """A classifier without probabilities: its calibration error is its error rate."""
    rows = predictions([(0, "a", 0.0), (1, "a", 1.0), (2, "b", 1.0), (3, "b", 1.0)])
    scores = score_predictions(rows)
    assert scores["ece"] == 1 / 4 and scores["brier"] == 2 / 4
    assert scores["roc_auc"] == scores["balanced_accuracy"] == 3 / 4


# -- kinds of tables -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["category", object])
def test_kinds_of_columns(kind):
    rows, _ = draw_predictions(2, 3)
    other = rows.astype({"label": kind, "predicted": kind, "corpus": kind})
    assert score_predictions(other) == score_predictions(rows)


def test_integer_classes():
    rows = predictions(ROWS)
    numbered = rows.assign(
        label=rows["label"].map({"a": 0, "b": 1}),
        predicted=rows["predicted"].map({"a": 0, "b": 1}),
    ).rename(columns={"proba_a": "proba_0", "proba_b": "proba_1"})
    scores, expected = score_predictions(numbered), score_predictions(rows)
    assert scores["recall_0"] == expected["recall_a"]
    assert scores["roc_auc"] == expected["roc_auc"]
