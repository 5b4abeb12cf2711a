from __future__ import annotations

import pickle

import numpy as np
import pytest
import sklearn
from moabb.evaluations import CrossSubjectEvaluation
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from braindecode_emossl.datasets import SEED
from braindecode_emossl.features import (
    DifferentialEntropy,
    SubjectScaler,
    TransductiveSubjectScaler,
)
from braindecode_emossl.paradigms import Emotion

SUBJECTS = np.repeat(["a", "b", "c"], [20, 30, 10])


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    shift = np.repeat([0.0, 10.0, -5.0], [20, 30, 10])[:, None]
    return rng.standard_normal((60, 4)) * (1 + abs(shift)) + shift


def zscore(x):
    return (x - x.mean(0)) / x.std(0)


def test_training_subjects_by_themselves_and_others_by_all(X):
    train = SUBJECTS != "c"
    scaler = SubjectScaler().fit(X[train], subjects=SUBJECTS[train])
    found = scaler.transform(X, subjects=SUBJECTS)
    np.testing.assert_allclose(found[:20], zscore(X[:20]))
    np.testing.assert_allclose(found[20:50], zscore(X[20:50]))
    mean, std = X[train].mean(0), X[train].std(0)
    np.testing.assert_allclose(found[~train], (X[~train] - mean) / std)
    np.testing.assert_allclose(scaler.transform(X), (X - mean) / std)


def test_no_window_depends_on_others_of_the_test(X):
    train = SUBJECTS != "c"
    scaler = SubjectScaler().fit(X[train], subjects=SUBJECTS[train])
    together = scaler.transform(X[~train], subjects=SUBJECTS[~train])
    alone = [scaler.transform(x[None], subjects=["c"])[0] for x in X[~train]]
    np.testing.assert_allclose(together, alone)


def test_transductive_scales_every_subject_by_itself(X):
    train = SUBJECTS != "c"
    scaler = TransductiveSubjectScaler()
    found = scaler.fit_transform(X[train], subjects=SUBJECTS[train])
    np.testing.assert_allclose(found[:20], zscore(X[:20]))
    np.testing.assert_allclose(found[20:], zscore(X[20:50]))
    np.testing.assert_allclose(
        scaler.transform(X, subjects=SUBJECTS)[50:], zscore(X[50:])
    )
    np.testing.assert_allclose(scaler.transform(X[50:]), zscore(X[50:]))


@pytest.mark.parametrize("kind", [SubjectScaler, TransductiveSubjectScaler])
def test_windows_keep_their_shape_and_dtype(X, kind):
    X = X.reshape(60, 2, 2).astype(np.float32)
    X[:, 0, 0] = 7.0
    found = kind().fit_transform(X, subjects=SUBJECTS)
    assert found.shape == X.shape
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0, 0], 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [SubjectScaler, TransductiveSubjectScaler])
def test_a_constant_stays_one_whatever_its_rounding_error(kind, dtype):
    """The deviation of ten times 0.1 is 1e-17: another value became 7e15."""
    X = np.full((100_000, 2), 0.1, dtype)
    X[:, 1] = np.arange(100_000) % 7
    scaler = kind().fit(X)
    np.testing.assert_allclose(scaler.transform(X)[:, 0], 0, atol=1e-12)
    if kind is SubjectScaler:
        found = scaler.transform(np.array([[0.2, 1.0]], dtype))
        np.testing.assert_allclose(found[0, 0], 0.1, rtol=1e-6)


@pytest.mark.parametrize("kind", [SubjectScaler, TransductiveSubjectScaler])
def test_subjects_are_routed_in_a_pipeline(X, kind):
    """TransformerMixin.fit_transform keeps metadata from transform."""
    pipeline = make_pipeline(kind(), LogisticRegression())
    y = np.arange(60) % 2
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline.fit(X, y, subjects=SUBJECTS)
    expected = LogisticRegression().fit(kind().fit_transform(X, None, SUBJECTS), y)
    np.testing.assert_allclose(pipeline[-1].coef_, expected.coef_)
    assert pipeline.predict(X).shape == (60,)


def test_moabb_routes_subjects(seed_root, tmp_path):
    seen = []

    class Spy(SubjectScaler):
        def fit(self, X, y=None, subjects=None):
            seen.append(None if subjects is None else set(subjects))
            return super().fit(X, y, subjects=subjects)

    paradigm = Emotion(window=1.0)
    evaluation = CrossSubjectEvaluation(
        paradigm,
        [SEED([1, 2, 10], sessions=[0], path=seed_root)],
        hdf5_path=tmp_path,
        error_score="raise",
    )
    pipeline = make_pipeline(DifferentialEntropy(200), Spy(), LogisticRegression())
    results = evaluation.process({"de": pipeline})
    assert len(results) == 3
    assert sorted(map(sorted, seen)) == [[1, 2], [1, 10], [2, 10]]


@pytest.mark.parametrize("kind", [SubjectScaler, TransductiveSubjectScaler])
def test_contract(X, kind):
    scaler = kind().fit(X, subjects=SUBJECTS)
    expected = scaler.transform(X)
    restored = pickle.loads(pickle.dumps(scaler))
    np.testing.assert_array_equal(restored.transform(X), expected)
    assert not hasattr(clone(scaler), "n_features_in_")
    table = clone(scaler).set_output(transform="pandas").fit(X).transform(X)
    assert list(table.columns) == ["x0", "x1", "x2", "x3"]
    for wrong in (X[:0], X[:, 0]):
        with pytest.raises(ValueError, match="X must have shape"):
            kind().fit(wrong)
    with pytest.raises(ValueError, match=r"subjects must have shape \(n_windows=60,\)"):
        kind().fit_transform(X, subjects=SUBJECTS[:5])
