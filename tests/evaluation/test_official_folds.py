"""evaluate(..., "within-session", folds="official")."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from braindecode_emossl.datasets import SEED_V
from braindecode_emossl.evaluation import PROTOCOLS, audit, evaluate
from braindecode_emossl.evaluation.folds import make_folds

from .conftest import Toy


class Official(Toy):
    """Three folds, each of two trials in a row of both sessions."""

    official_folds = {  # noqa: RUF012
        (session, trial): trial // 2 for session in "01" for trial in range(6)
    }


class Remembers(ClassifierMixin, BaseEstimator):
    """Keep the trials of the training set, and predict the first class."""

    seen: list = []  # noqa: RUF012
    __metadata_request__fit = {"metadata": True}  # noqa: RUF012

    def fit(self, X, y, metadata=None):
        self.classes_ = np.unique(y)
        trials = metadata[["subject", "session", "trial"]].drop_duplicates()
        self.seen.append(set(trials.itertuples(index=False, name=None)))
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_the_folds_of_the_makers_join_the_sessions(make_toy, paradigm, monkeypatch):
    monkeypatch.setattr(Remembers, "seen", [])
    corpus = make_toy(Official, subjects=[1, 2])
    how = {"folds": "official", "random_state": 0}
    scores = evaluate(
        {"first": Remembers()}, [corpus], paradigm, "within-session", **how
    )
    expected = [
        {(s, session, t) for session in "01" for t in range(6) if t // 2 != fold}
        for s in (1, 2)
        for fold in range(3)
    ]
    assert sorted(map(sorted, Remembers.seen)) == sorted(map(sorted, expected))
    assert set(scores["subject"].astype(int)) == {1, 2}
    assert set(scores["session"]) == {"0", "1"}


def test_an_audit_takes_them_too(make_toy, paradigm):
    corpus = make_toy(Official)
    assert audit(
        paradigm, corpus, "within-session", folds="official", random_state=0
    ).passed


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Official, {"folds": "mine"}, 'folds must be None or "official", but got'),
        (Official, {"folds": "official", "n_splits": 3}, "n_splits cannot be combined"),
        (Toy, {"folds": "official"}, "Toy has no folds of its makers"),
    ],
)
def test_refused(cls, options, message, make_toy, paradigm):
    with pytest.raises(ValueError, match=message):
        evaluate(
            {"first": Remembers()},
            [make_toy(cls)],
            paradigm,
            "within-session",
            **options,
        )


def test_other_protocols_have_no_such_option(make_toy, paradigm):
    with pytest.raises(ValueError, match="must be among"):
        audit(paradigm, make_toy(Official), "cross-session", folds="official")


def test_seed_v_is_divided_into_fives():
    """5:5:5 trials a session, as the makers divide them."""
    dataset = SEED_V()
    rows = [
        {
            **{"corpus": "SEED-V", "subject": 1, "session": session, "trial": trial},
            **{"stimulus": f"{session}{trial}", "label": k, "extra": False},
        }
        for (session, trial), k in zip(
            dataset.official_folds, np.resize(range(5), 45), strict=True
        )
    ]
    trials = pd.DataFrame(rows)
    options = {"folds": dataset.official_folds, "n_splits": 5, "adapt": None}
    folds = make_folds(PROTOCOLS["within-session"], options, trials, 0)
    assert [sorted(set(trials["trial"].iloc[f.test])) for f in folds] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
        [10, 11, 12, 13, 14],
    ]
    assert [(len(f.train), len(f.test)) for f in folds] == [(30, 15)] * 3
