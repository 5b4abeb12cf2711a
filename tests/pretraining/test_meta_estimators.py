"""SSLClassifier inside pipelines, searches and ensembles of scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from mne.decoding import Vectorizer
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    LeaveOneGroupOut,
    cross_val_predict,
    cross_val_score,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from braindecode_emossl.pretraining import SSLClassifier, SSLPretrainer

# A small network on windows in DE form.
NETWORK = {
    "model__input_domain": "de",
    "model__n_filters": (16,),
    "model__n_hidden": 16,
    "model__kernel_size": 2,
}


@pytest.fixture(scope="module")
def data():
    """Windows (60, 4, 5) in DE form, labels and subjects; the level is the class."""
    rng = np.random.default_rng(0)
    y = np.array(["calm", "tense"])[np.arange(60) % 2]
    X = rng.normal(size=(60, 4, 5)) + 2 * (y == "calm")[:, np.newaxis, np.newaxis]
    return X, y, np.arange(60) // 20


@pytest.fixture
def classifier():
    return SSLClassifier(
        "SCMM",
        **NETWORK,
        pretrain_steps=1,
        finetune_steps=20,
        finetune_lr=0.03,
        batch_size=16,
        random_state=0,
    )


@pytest.fixture
def validating(classifier):
    """A classifier that cannot be fitted without subjects."""
    return clone(classifier).set_params(validation=0.5)


def test_a_search_over_arguments_of_the_model(data, classifier):
    """They were in a dictionary, which no search could enter."""
    X, y, groups = data
    grid = {"model__drop_prob": [0.0, 0.3], "finetuner__optimizer__weight_decay": [0.1]}
    search = GridSearchCV(classifier, grid, cv=GroupKFold(3), error_score="raise")
    search.fit(X, y, groups=groups)
    assert search.best_score_ > 0.8
    best = search.best_estimator_
    dropout = best.net_.module_.final_layer[2].p
    assert dropout == search.best_params_["model__drop_prob"]
    assert best.net_.optimizer_.param_groups[0]["weight_decay"] == 0.1


def test_groups_and_subjects_without_routing(data, classifier, validating):
    X, y, groups = data
    cv = LeaveOneGroupOut()
    assert cross_val_score(classifier, X, y, groups=groups, cv=cv).mean() > 0.8
    found = cross_val_score(
        validating, X, y, groups=groups, cv=cv, params={"subjects": groups}
    )
    assert len(found) == 3
    probabilities = cross_val_predict(
        classifier,
        X,
        y,
        groups=groups,
        cv=cv,
        method="predict_proba",
    )
    assert probabilities.shape == (60, 2)


def test_metadata_are_routed_through_pipelines_and_searches(data, validating):
    X, y, groups = data
    metadata = pd.DataFrame({"corpus": "SEED", "subject": groups})
    pipeline = make_pipeline(FunctionTransformer(), validating)
    grid = {"sslclassifier__finetune_lr": [0.01, 0.03]}
    with config_context(enable_metadata_routing=True):
        pipeline.fit(X, y, metadata=metadata)
        assert len(pipeline[-1].validation_subjects_) == 2
        search = GridSearchCV(pipeline, grid, cv=GroupKFold(3), error_score="raise")
        search.fit(X, y, groups=groups, subjects=groups)
        calibrated = CalibratedClassifierCV(validating, cv=GroupKFold(3))
        calibrated.fit(X, y, groups=groups, subjects=groups)
    assert search.best_score_ > 0.7
    assert calibrated.predict_proba(X).shape == (60, 2)


class Shift(TransformerMixin, BaseEstimator):
    """Add one to all windows, and count the windows of fit."""

    def fit(self, X, y=None):
        self.n_windows_ = len(X)
        return self

    def transform(self, X):
        return X + 1


def test_unlabeled_windows_pass_through_the_steps_of_a_pipeline(
    data, classifier, monkeypatch
):
    """They must be transformed as the training windows, and fit no transformer."""
    seen = []

    def fit(self, X, y=None, *, metadata=None):
        seen.append(X)
        return original(self, X, y, metadata=metadata)

    original = SSLPretrainer.fit
    monkeypatch.setattr(SSLPretrainer, "fit", fit)
    X, y, _ = data
    steps = [("shift", Shift()), ("ssl", classifier)]
    with config_context(enable_metadata_routing=True):
        pipeline = Pipeline(steps, transform_input=["X_unlabeled"])
        pipeline.fit(X[:40], y[:40], X_unlabeled=X[40:])
    np.testing.assert_allclose(seen[0], X + 1, rtol=1e-6)
    assert pipeline[0].n_windows_ == 40


def test_calibration_of_a_fitted_classifier(data, classifier):
    X, y, _ = data
    frozen = FrozenEstimator(classifier.fit(X, y))
    calibrated = CalibratedClassifierCV(frozen, method="isotonic").fit(X, y)
    assert calibrated.score(X, y) > 0.8


def test_ensembles(data, classifier):
    X, y, _ = data
    linear = make_pipeline(Vectorizer(), LogisticRegression())
    for ensemble in (
        VotingClassifier([("ssl", classifier), ("lr", linear)], voting="soft"),
        StackingClassifier([("ssl", classifier), ("lr", linear)], cv=2),
        OneVsRestClassifier(classifier),
    ):
        assert ensemble.fit(X, y).score(X, y) > 0.8


def test_bagging_of_flat_windows(data, classifier):
    """Scikit-learn's bagging takes tables only."""
    X, y, _ = data
    unfold = FunctionTransformer(lambda X: X.reshape(len(X), 4, 5))
    bagging = BaggingClassifier(make_pipeline(unfold, classifier), n_estimators=2)
    assert bagging.fit(X.reshape(60, 20), y).score(X.reshape(60, 20), y) > 0.8


def test_representations(classifier):
    pipeline = make_pipeline(FunctionTransformer(), classifier)
    assert "model__n_hidden=16" in repr(classifier)
    assert "SSLClassifier" in repr(GridSearchCV(pipeline, {}))
    assert "SSLClassifier" in pipeline._repr_html_()


# -- scikit-learn's own checks ---------------------------------------------------


class FlatClassifier(SSLClassifier):
    """The classifier for tables, (n, n_chans), as scikit-learn's checks pass them."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = True, False
        return tags

    def fit(self, X, y, sample_weight=None):
        return super().fit(_unfold(X), y, sample_weight=sample_weight)

    def predict_proba(self, X):
        return super().predict_proba(_unfold(X))


def _unfold(X):
    if issparse(X):
        return X
    X = np.asarray(X)
    return X[..., np.newaxis] if X.ndim == 2 else X


EXCEPTIONS = {
    "check_do_not_raise_errors_in_init_or_set_params": (
        "the check passes the name kwargs itself, which is refused as any unknown name"
    ),
    "check_estimators_empty_data_messages": (
        "windows without channels are refused with their three-dimensional shape, "
        "where the check expects that of a table"
    ),
    "check_sample_weight_equivalence_on_dense_data": (
        "batches of a stochastic training differ if a window is repeated"
    ),
    "check_classifiers_classes": (
        "-1 marks unlabeled windows, as in LabelSpreading and SelfTrainingClassifier, "
        "which the check exempts by name"
    ),
}


@parametrize_with_checks(
    [
        FlatClassifier(
            **NETWORK,
            pretrain_steps=1,
            finetune_steps=30,
            finetune_lr=0.05,
            batch_size=32,
            random_state=0,
        )
    ],
    expected_failed_checks=lambda estimator: EXCEPTIONS,
    xfail_strict=True,
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)
