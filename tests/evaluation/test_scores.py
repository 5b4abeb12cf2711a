"""Scores by window and by trial, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from braindecode_emossl.evaluation import score_predictions, vote


def predictions(rows, **changes):
    """Return predictions of (trial, label, probability of "b") of two classes."""
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


def test_class_that_a_fold_did_not_know():
    """It has no probability in the windows of that fold, which is none."""
    rows = predictions([(0, "a", 0.4), (1, "b", 0.9)])
    rows["proba_c"] = [np.nan, 0.05]
    assert vote(rows)["predicted"].tolist() == ["a", "b"]


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
    """It lowers the F1, and is no class of the balanced accuracy."""
    scores = score_predictions(predictions([(0, "a", 0.1), (1, "a", 0.9)]))
    assert scores["accuracy"] == scores["balanced_accuracy"] == 0.5
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores["kappa"] == 0.0


def test_kappa_of_one_class():
    scores = score_predictions(predictions([(0, "a", 0.1), (1, "a", 0.2)]))
    assert scores["accuracy"] == 1.0
    assert np.isnan(scores["kappa"]) and np.isnan(scores["kappa_trial"])
