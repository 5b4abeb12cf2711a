"""``Emotion(standardize="recording")``, and windows of trials without a label."""

from __future__ import annotations

import mne
import numpy as np
import pandas as pd
import pytest
from moabb.evaluations import CrossSubjectEvaluation
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import FunctionTransformer

from braindecode_emossl.datasets import DEAP, SEED
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.paradigms.labels import UNLABELED
from braindecode_emossl.paradigms.recordings import Part, standardize_recordings

# Two channels of SEED without filter, four windows per trial.
FAST = {"fmin": None, "fmax": None, "resample": None, "window": 1.0}
TWO = {**FAST, "channels": ["Fz", "O1"]}


@pytest.fixture(scope="module")
def seed(seed_root):
    """Two subjects with two sessions of 15 runs, one per trial."""
    return SEED([1, 10], [0, 2], path=seed_root)


@pytest.fixture(scope="module")
def whole(seed):
    """All windows as they are: no film is without a label in three classes."""
    return Emotion("valence", 3, **TWO).get_data(seed)


def expected_of(X, metadata, axes):
    X = X.copy()
    for _, rows in metadata.groupby(["subject", "session"]).indices.items():
        part = X[rows]
        mean, deviation = part.mean(axes, keepdims=True), part.std(axes, keepdims=True)
        X[rows] = (part - mean) / deviation
    return X


def check_same(found, expected, rtol=1e-9):
    assert_allclose(found[0], expected[0], rtol=rtol, atol=rtol)
    assert_array_equal(found[1], expected[1])
    pd.testing.assert_frame_equal(found[2], expected[2])


# -- standardisation -----------------------------------------------------------


def test_channels_of_each_recording(seed, whole):
    """Over 15 runs: the mean of a single run is not 0."""
    X, y, metadata = whole
    found = Emotion("valence", 3, standardize="recording", **TWO).get_data(seed)
    check_same(found, (expected_of(X, metadata, (0, 2)), y, metadata))
    one_run = found[0][: metadata["window"].nunique()]
    assert abs(one_run.mean()) > 1e-6


def test_features_of_each_recording(seed):
    options = {"target": "valence", "n_classes": 3, "features": "de", **TWO}
    X, y, metadata = Emotion(**options).get_data(seed)
    found = Emotion(**options, standardize="recording").get_data(seed)
    assert found[0].shape == (240, 2, 5)
    check_same(found, (expected_of(X, metadata, (0,)), y, metadata))


def test_windows_without_a_label_count(seed, whole):
    """The neutral third is part of the recording, whether or not it is returned."""
    X, _, metadata = whole
    expected = expected_of(X, metadata, (0, 2))
    labelled = (metadata["emotion"] != "neutral").to_numpy()
    paradigm = Emotion("valence", standardize="recording", **TWO)
    found, y, rows = paradigm.get_data(seed)
    assert_allclose(found, expected[labelled], rtol=1e-9, atol=1e-9)
    assert set(y) == {"negative", "positive"} and len(rows) == labelled.sum()
    found, y, rows = paradigm.get_data(seed, unlabeled=True)
    assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert_array_equal(y == UNLABELED, ~labelled)


def test_no_label_and_no_other_recording_is_used(seed_root):
    paradigm = Emotion("valence", standardize="recording", **TWO)
    both, _, metadata = paradigm.get_data(SEED([1, 10], [0, 2], path=seed_root))
    alone, _, _ = paradigm.get_data(SEED([10], [2], path=seed_root))
    rows = (metadata["subject"] == 10) & (metadata["session"] == "2")
    assert_array_equal(both[rows], alone)
    other, _, three = Emotion("valence", 3, standardize="recording", **TWO).get_data(
        SEED([10], [2], path=seed_root)
    )
    assert_array_equal(other[three["emotion"] != "neutral"], alone)


@pytest.mark.parametrize(("step", "unlabeled"), [("epochs", False), ("array", True)])
def test_with_caches_of_moabb(step, unlabeled, seed_root, tmp_path, monkeypatch):
    """What is in the cache is not standardised, so that subjects may be added."""
    seed = SEED([1, 10], [2], path=seed_root)
    paradigm = Emotion("valence", standardize="recording", **TWO)
    expected = paradigm.get_data(seed, unlabeled=unlabeled)
    config = {f"save_{step}": True, "use": True, "path": tmp_path}
    paradigm.get_data(seed, [1], cache_config=config, unlabeled=unlabeled)
    paradigm.get_data(seed, cache_config=config, unlabeled=unlabeled)
    monkeypatch.setattr(SEED, "_read_recording", None)
    found = paradigm.get_data(seed, cache_config=config, unlabeled=unlabeled)
    check_same(found, expected, rtol=1e-5 if step == "epochs" else 1e-9)


@pytest.mark.parametrize("unlabeled", [False, True])
def test_with_cache_dir(unlabeled, seed_root, tmp_path, monkeypatch):
    seed = SEED([1, 10], [2], path=seed_root)
    options = {"standardize": "recording", "features": "de", **TWO}
    paradigm = Emotion("valence", **options)
    expected = paradigm.get_data(seed, unlabeled=unlabeled)
    cached = Emotion("valence", **options, cache_dir=tmp_path)
    check_same(cached.get_data(seed, unlabeled=unlabeled), expected)
    monkeypatch.setattr(SEED, "_read_recording", None)
    check_same(cached.get_data(seed, unlabeled=unlabeled), expected)
    # The entries hold all trials: the labels alone decide which are returned.
    check_same(
        cached.get_data(seed, unlabeled=not unlabeled),
        Emotion("valence", **options, cache_dir=tmp_path).get_data(
            seed, unlabeled=not unlabeled
        ),
    )


def test_a_mapped_corpus_neither_fills_nor_reads_cache_dir(seed, tmp_path):
    """Signals of an audit must never be returned for those of the corpus."""
    paradigm = Emotion("valence", **TWO, cache_dir=tmp_path)
    double = seed.map_raws(lambda raw, *_: raw.apply_function(lambda x: 2 * x))
    expected, _, _ = paradigm.get_data(seed)
    assert_allclose(paradigm.get_data(double)[0], 2 * expected)


def test_epochs_and_raws(deap_root):
    """In volts, voltages have a deviation of 1 microvolt, as SSLClassifier reads it."""
    dataset = DEAP([1], path=deap_root)
    options = {**FAST, "picks": ["Fz", "GSR"], "standardize": "recording"}
    X, _, metadata = Emotion(**options).get_data(dataset)
    epochs, _, _ = Emotion(**options).get_data(dataset, return_epochs=True)
    assert isinstance(epochs, mne.BaseEpochs)
    assert_allclose(epochs.get_data() * [[1e6], [1.0]], X, rtol=1e-9, atol=1e-12)
    pd.testing.assert_frame_equal(epochs.metadata, metadata, check_dtype=False)
    raws, _, _ = Emotion(**options).get_data(dataset, return_raws=True)
    joined = np.concatenate([raw.get_data() for raw in raws], axis=1)
    assert_allclose(joined.mean(axis=1), 0, atol=1e-9)
    assert_allclose(joined.std(axis=1), [1e-6, 1.0])
    assert [len(raw.annotations) for raw in raws] == [1] * 40


@pytest.mark.parametrize("are_features", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_constant_becomes_zero_and_gaps_stay(are_features, dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(3.0, 2.0, (50, 4, 20)).astype(dtype)
    X[:, 0] = 0.1  # has no exact mean in floating point
    X[:, 1] = 0.0
    X[10, 2] = np.nan
    X[:, 3] = np.inf
    rows = pd.DataFrame({"subject": 1, "session": "0"}, index=range(50))
    parts = [
        Part(X[:20].copy(), np.zeros(20), rows[:20].reset_index(drop=True)),
        Part(X[20:].copy(), np.zeros(30), rows[20:].reset_index(drop=True)),
    ]
    standardize_recordings(parts, are_features=are_features)
    found = np.concatenate([part.X for part in parts])
    assert found.dtype == dtype
    assert_allclose(found[:, :2], 0, atol=1e-4)
    axes = (0,) if are_features else (0, 2)
    kept = np.delete(found[:, 2:3], 10, axis=0)
    assert_allclose(kept.mean(axes), 0, atol=1e-5)
    assert_allclose(kept.std(axes), 1, atol=1e-5)
    assert np.isnan(found[10, 2]).all()


def test_a_flat_electrode_stays_finite(seed):
    """Through the filter and the logarithm of the features too."""

    def flatten(raw, *_):
        return raw.apply_function(lambda x: 0 * x + 5e-3, picks=["Fz"])

    options = {"standardize": "recording", "window": 1.0, "channels": ["Fz", "O1"]}
    for features in (None, "de"):
        paradigm = Emotion("valence", features=features, **options)
        X, _, _ = paradigm.get_data(seed.map_raws(flatten), [1])
        assert np.isfinite(X).all() and np.abs(X).max() < 100
    signals, _, _ = Emotion("valence", **options).get_data(seed.map_raws(flatten), [1])
    assert_array_equal(signals[:, 0].std(), 0)


def test_postprocessing_cannot_come_first(seed):
    with pytest.raises(ValueError, match="cannot be combined with a postprocess_pi"):
        Emotion(standardize="recording").get_data(
            seed, postprocess_pipeline=FunctionTransformer(np.abs)
        )


# -- trials without a label ----------------------------------------------------


def test_unlabeled_windows_are_returned_in_their_place(seed, whole):
    X, y, metadata = whole
    paradigm = Emotion("valence", **TWO)
    found = paradigm.get_data(seed, unlabeled=True)
    check_same(found, (X, np.where(y == "neutral", UNLABELED, y), metadata))
    kept = y != "neutral"
    expected = X[kept], y[kept], metadata[kept].reset_index(drop=True)
    check_same(paradigm.get_data(seed), expected)


@pytest.mark.parametrize("how", ["return_epochs", "return_raws"])
def test_unlabeled_epochs_and_raws(how, seed):
    paradigm = Emotion("valence", **TWO)
    _, y, metadata = paradigm.get_data(seed, **{how: True}, unlabeled=True)
    assert_array_equal(y == UNLABELED, metadata["emotion"] == "neutral")
    X, y, metadata = paradigm.get_data(seed, **{how: True})
    assert len(X) == len(y) == (metadata["emotion"] != "neutral").sum() == len(metadata)


def test_pipelines_must_keep_what_is_asked_for(seed):
    paradigm = Emotion("valence", **TWO)
    with pytest.raises(ValueError, match="pass unlabeled=True to make_process_pipel"):
        paradigm.get_data(
            seed,
            process_pipelines=paradigm.make_process_pipelines(seed),
            unlabeled=True,
        )
    pipelines = paradigm.make_process_pipelines(seed, unlabeled=True)
    _, y, _ = paradigm.get_data(seed, process_pipelines=pipelines)
    assert UNLABELED not in y


def test_label_trials_equals_the_windows(seed):
    paradigm = Emotion("valence", **TWO)
    trials = paradigm.label_trials(seed)
    _, y, metadata = paradigm.get_data(seed, unlabeled=True)
    first = (metadata["window"] == 0).to_numpy()
    assert_array_equal(trials["label"], y[first])
    rows = metadata[first].drop(columns="window").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        trials.drop(columns="label"), rows[[*trials.drop(columns="label")]]
    )
    assert len(paradigm.label_trials(seed, [10])) == 30
    balance = paradigm.class_balance(seed)
    assert balance.loc[10].to_dict() == {"negative": 10, "positive": 10, UNLABELED: 10}


def test_label_trials_reads_no_signals(seed, monkeypatch):
    monkeypatch.setattr(SEED, "_read_recording", None)
    assert len(Emotion().label_trials(seed)) == 60
    with pytest.raises(ValueError, match="SEED has no target 'arousal'"):
        Emotion("arousal").label_trials(seed)


# -- MOABB's evaluations -------------------------------------------------------


class Recorder(ClassifierMixin, BaseEstimator):
    """Remember the windows of each fit."""

    fits: list = []  # noqa: RUF012

    def fit(self, X, y):
        Recorder.fits.append((X, np.asarray(y)))
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


@pytest.mark.parametrize("return_epochs", [False, True])
def test_stock_evaluation(return_epochs, seed, tmp_path, monkeypatch):
    """Standardised, without unlabelled windows, and with all columns in X.metadata."""
    monkeypatch.setattr(Recorder, "fits", [])
    paradigm = Emotion("valence", standardize="recording", **TWO)
    X, y, metadata = paradigm.get_data(seed)
    evaluation = CrossSubjectEvaluation(
        paradigm, [seed], return_epochs=return_epochs, hdf5_path=tmp_path
    )
    results = evaluation.process({"recorder": Recorder()})
    assert len(results) == 4
    assert len(Recorder.fits) == 2
    for subject, (found, labels) in zip([10, 1], Recorder.fits, strict=True):
        rows = (metadata["subject"] == subject).to_numpy()
        expected = X[rows]
        if return_epochs:
            pd.testing.assert_frame_equal(
                found.metadata.reset_index(drop=True),
                metadata[rows].reset_index(drop=True),
                check_dtype=False,
            )
            found = 1e6 * found.get_data()
        assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        assert_array_equal(labels, np.unique(y[rows], return_inverse=True)[1])


def test_stored_results_are_not_those_without(seed, tmp_path):
    """MOABB identifies results by the pipeline, which does not standardise."""
    for standardize in (None, "recording"):
        paradigm = Emotion("valence", standardize=standardize, **TWO)
        evaluation = CrossSubjectEvaluation(paradigm, [seed], hdf5_path=tmp_path)
        before = len(Recorder.fits)
        evaluation.process({"recorder": Recorder()})
        assert len(Recorder.fits) == before + 2
