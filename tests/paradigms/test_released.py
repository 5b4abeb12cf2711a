"""Emotion(features="released:...")."""

from __future__ import annotations

import pickle
import shutil
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mne.decoding import Vectorizer
from scipy.io import loadmat, savemat
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from braindecode_emossl.datasets import (
    DEAP,
    SEED,
    SEED_IV,
    SEED_V,
    SEED_VII,
    write_replica,
)
from braindecode_emossl.errors import CorpusFormatError, CorpusFormatWarning
from braindecode_emossl.evaluation import audit, evaluate
from braindecode_emossl.evaluation.tasks import make_tasks
from braindecode_emossl.features import lds_smooth
from braindecode_emossl.paradigms import Emotion

CORPORA = {"SEED": SEED, "SEED-IV": SEED_IV, "SEED-V": SEED_V, "SEED-VII": SEED_VII}
VARIANTS = {"SEED": "features", "SEED-IV": "full"}
NAMES = {"SEED": "de_LDS", "SEED-IV": "psd_movingAve", "SEED-V": "de", "SEED-VII": "de"}
each = pytest.mark.parametrize("corpus", CORPORA)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Subject 1, the first session, trials of 9 s."""
    return {
        corpus: write_replica(
            corpus,
            tmp_path_factory.mktemp(corpus),
            subjects=[1],
            sessions=[0],
            seconds=9,
            seed=0,
            variant=VARIANTS.get(corpus),
        )
        for corpus in CORPORA
    }


@pytest.fixture
def copied(roots, tmp_path):
    """Return a function that copies the replica of a corpus and names its features."""

    def copy(corpus):
        root = shutil.copytree(roots[corpus], tmp_path / corpus)
        dataset = CORPORA[corpus]([1], [0], path=root)
        name = NAMES[corpus]
        return dataset, dataset.released_files(name, 4.0, 1)

    return copy


def load(roots, corpus, name=None, **options):
    dataset = CORPORA[corpus]([1], [0], path=roots[corpus])
    features = f"released:{name or NAMES[corpus]}"
    return Emotion(features=features, **options).get_data(dataset)


# -- reading ------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(roots):
    """Return a function: shape, labels and metadata of our features of the signals."""

    @cache
    def read(corpus, window):
        dataset = CORPORA[corpus]([1], [0], path=roots[corpus])
        X, y, metadata = Emotion(features="de", window=window).get_data(dataset)
        return X.shape, y, metadata

    return read


@pytest.mark.parametrize(
    ("corpus", "name", "window"),
    [
        (corpus, name, window)
        for corpus, cls in CORPORA.items()
        for name, windows in cls.released_features.items()
        for window in windows
    ],
)
def test_metadata_and_labels_are_those_of_signals(corpus, name, window, roots, own):
    X, y, metadata = load(roots, corpus, name, window=window)
    shape, own_y, own_metadata = own(corpus, window)
    assert X.shape == shape
    np.testing.assert_array_equal(y, own_y)
    pd.testing.assert_frame_equal(metadata, own_metadata)


def read_archive(root, session, trial):
    with np.load(root / "SEED-V" / "EEG_DE_features" / "1_123.npz") as archive:
        return pickle.loads(archive["data"].item())[15 * session + trial]


def test_values_are_those_of_the_files(roots):
    """The makers' axes differ: channels first, windows first, bands in the middle."""
    X, _, metadata = load(roots, "SEED", window=1.0)
    file = roots["SEED"] / "SEED_EEG" / "ExtractedFeatures_1s" / "1_20131027.mat"
    expected = loadmat(file)["de_LDS12"]
    assert expected.shape == (62, 9, 5)
    np.testing.assert_array_equal(X[metadata["trial"] == 11], expected.swapaxes(0, 1))
    X, _, metadata = load(roots, "SEED-IV")
    file = roots["SEED-IV"] / "SEED_IV/eeg_feature_smooth/1/1_20160518.mat"
    expected = loadmat(file)["psd_movingAve7"]
    np.testing.assert_array_equal(X[metadata["trial"] == 6], expected.swapaxes(0, 1))
    X, _, metadata = load(roots, "SEED-VII", "de_LDS")
    file = roots["SEED-VII"] / "SEED-VII/EEG_features/1.mat"
    expected = loadmat(file)["de_LDS_20"]
    assert expected.shape == (2, 5, 62)
    np.testing.assert_array_equal(X[metadata["trial"] == 19], expected.swapaxes(1, 2))
    X, _, metadata = load(roots, "SEED-V")
    expected = read_archive(roots["SEED-V"], 0, 3)
    assert expected.shape == (2, 310)
    found = X[metadata["trial"] == 3]
    np.testing.assert_array_equal(found.reshape(2, 310), expected)
    # Five bands of a channel follow one another.
    np.testing.assert_array_equal(found[0, 1], expected[0, 5:10])


@each
def test_they_agree_with_ours(corpus, roots):
    """Unsmoothed entropies are ours in other units: channels and bands are in place."""
    name = {"SEED": "de_LDS", "SEED-IV": "de_LDS"}.get(corpus, "de")
    X, _, _ = load(roots, corpus, name, window=4.0)
    dataset = CORPORA[corpus]([1], [0], path=roots[corpus])
    own, _, _ = Emotion(features="de", fmin=None, fmax=None).get_data(dataset)
    means = [values.mean(axis=0) - values.mean() for values in (X, own)]
    for band in range(1, 5):
        a, b = (mean[:, band] for mean in means)
        assert np.corrcoef(a, b)[0, 1] > 0.95


def test_channels_by_name_in_order(roots):
    X, *_ = load(roots, "SEED", window=4.0)
    chosen, *_ = load(roots, "SEED", window=4.0, channels=["Oz", "Fp1"])
    np.testing.assert_array_equal(chosen, X[:, [59, 0]])
    plain, *_ = load(roots, "SEED", window=4.0, picks="eeg")
    np.testing.assert_array_equal(plain, X)
    with pytest.raises(ValueError, match=r"\['Fp9'\] are not"):
        load(roots, "SEED", window=4.0, channels=["Oz", "Fp9"])


def test_trials_without_a_label(roots):
    dataset = SEED([1], [0], path=roots["SEED"])
    paradigm = Emotion("valence", features="released:de_LDS")
    X, y, _ = paradigm.get_data(dataset)
    assert set(y) == {"negative", "positive"}
    everything, labels, _ = paradigm.get_data(dataset, unlabeled=True)
    assert (len(X), len(everything)) == (20, 30)
    np.testing.assert_array_equal(everything[labels != "unlabeled"], X)


def test_standardised_within_the_recording(roots):
    X, *_ = load(roots, "SEED", window=1.0, standardize="recording")
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(X.std(axis=0), 1)


# -- what is refused -----------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "released:"}, "features must be None, one of"),
        ({"features": "made"}, "released:<name>"),
        ({"stride": 2.0}, "stride cannot be combined"),
        ({"tmin": 1.0}, "tmin cannot be combined"),
        ({"tmax": 9.0}, "tmax cannot be combined"),
        ({"last": 4.0}, "last cannot be combined"),
        ({"baseline": (-3, 0)}, "baseline cannot be combined"),
        ({"picks": ["eeg", "misc"]}, "picks cannot be combined"),
    ],
)
def test_settings_that_only_signals_have(options, message):
    with pytest.raises(ValueError, match=message):
        Emotion(**{"features": "released:de_LDS"} | options)


def test_what_a_corpus_does_not_offer(roots, tmp_path):
    with pytest.raises(ValueError, match=r"SEED-V that can be read are \['de'\]"):
        load(roots, "SEED-V", "de_LDS")
    with pytest.raises(ValueError, match="have windows of 1 or 4 s, but window=2"):
        load(roots, "SEED", window=2.0)
    root = write_replica("DEAP", tmp_path, subjects=[1], seconds=1, seed=0)
    with pytest.raises(ValueError, match="DEAP that can be read are none"):
        Emotion(features="released:de").get_data(DEAP([1], path=root))


def test_neither_epochs_nor_changed_signals(roots):
    dataset = SEED([1], [0], path=roots["SEED"])
    paradigm = Emotion(features="released:de_LDS")
    with pytest.raises(ValueError, match="ask for neither epochs nor raws"):
        paradigm.get_data(dataset, return_epochs=True)
    with pytest.raises(ValueError, match="cannot be computed from changed signals"):
        paradigm.get_data(dataset.map_raws(lambda raw, *_: raw))
    with pytest.raises(ValueError, match="computes features from noise"):
        audit(paradigm, dataset, "within-session")


# -- damaged files -------------------------------------------------------------


@each
def test_missing_features_are_an_error(corpus, copied):
    dataset, (file,) = copied(corpus)
    paradigm = Emotion(features=f"released:{NAMES[corpus]}")
    shutil.move(file, f"{file}.away")
    message = (
        f"the features '{NAMES[corpus]}' of .* are not below .*Add the makers' folder"
    )
    with pytest.raises(CorpusFormatError, match=message):
        paradigm.get_data(dataset)


def change_mat(file, key, change):
    arrays = {k: v for k, v in loadmat(file).items() if not k.startswith("__")}
    arrays[key] = change(arrays[key])
    savemat(file, {k: v for k, v in arrays.items() if v is not None})


DAMAGE = {
    "missing": (lambda v: None, "trial 3 .* are missing"),
    "a window less": (lambda v: v[:, :1], r"\(2, 62\) and bands"),
    "a channel less": (lambda v: v[:61], r"\(2, 62\) and bands"),
    "transposed": (lambda v: v.T, r"\(2, 62\) and bands"),
    "two axes": (lambda v: v[..., 0], r"\(2, 62\) and bands"),
    "not finite": (lambda v: v * np.nan, "not finite numbers"),
    "cells": (lambda v: np.array([["x"]], object), "cannot be read"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_features_are_an_error(case, copied):
    change, message = DAMAGE[case]
    dataset, (file,) = copied("SEED")
    change_mat(file, "de_LDS3", change)
    paradigm = Emotion(features="released:de_LDS")
    with pytest.raises(CorpusFormatError, match=message) as error:
        paradigm.get_data(dataset)
    assert str(file) in str(error.value)
    forgiving = SEED([1], [0], path=dataset.path, on_error="warn")
    with pytest.warns(CorpusFormatWarning, match=message):
        _, _, metadata = paradigm.get_data(forgiving)
    assert set(metadata["trial"]) == set(range(15)) - {2}


def test_files_that_are_no_matlab_files_are_an_error(copied):
    dataset, (file,) = copied("SEED-VII")
    Path(file).write_bytes(b"<html>" * 100)
    with pytest.raises(CorpusFormatError, match="not a readable MATLAB 5 file"):
        Emotion(features="released:de").get_data(dataset)


def test_two_copies_of_the_features_are_an_error(copied):
    dataset, (file,) = copied("SEED")
    other = dataset.path / "copy" / "ExtractedFeatures_4s"
    other.mkdir(parents=True)
    shutil.copy(file, other)
    with pytest.raises(CorpusFormatError, match="more than once"):
        Emotion(features="released:de_LDS").get_data(dataset)


def test_labels_beside_the_features_are_compared(copied):
    """Features of other trials than the published ones would get wrong labels."""
    dataset, (file,) = copied("SEED-V")
    with np.load(file) as archive:
        data, label = (archive[name].item() for name in ("data", "label"))
    labels = pickle.loads(label)
    labels[4][:] = 3
    np.savez(file, data=data, label=pickle.dumps(labels, protocol=3))
    with pytest.raises(CorpusFormatError, match=r"trial 5 .* must be 0, but is \[3"):
        Emotion(features="released:de").get_data(dataset)


# -- evaluation ----------------------------------------------------------------


def test_evaluate_and_the_identity_of_a_result(copied, tmp_path):
    """Results that were stored for other features were found again."""
    dataset, (file,) = copied("SEED")
    paradigm = Emotion(features="released:de_LDS")

    def identify():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (task,) = make_tasks("within-session", {}, [dataset], paradigm)
            return task.identify()["released"]

    before = identify()
    assert list(before) == ["SEED"]
    pipelines = {"lr": make_pipeline(Vectorizer(), LogisticRegression(max_iter=200))}
    scores = evaluate(pipelines, [dataset], paradigm, "within-session", random_state=0)
    assert len(scores) == 1
    change_mat(file, "de_LDS3", lambda values: values + 1)
    assert identify() != before


# -- smoothing -----------------------------------------------------------------


def test_how_far_the_smoothing_reaches():
    """An impulse spreads as 0.969^|k| over the trial: 32 windows on either side.

    The figure of docs/released.md, for the variances of the makers' code.
    """
    impulse = np.zeros((401, 1))
    impulse[200] = 1.0
    response = lds_smooth(impulse, variance_ratio=1e-3)[:, 0]
    ratio = 1e-3
    gain = (-ratio + np.sqrt(ratio**2 + 4 * ratio)) / 2
    np.testing.assert_allclose(
        response[201:240] / response[200:239], 1 - gain, rtol=1e-4
    )
    np.testing.assert_allclose(response.sum(), 1, rtol=1e-2)
    assert 1 - gain == pytest.approx(0.9689, abs=1e-4)
    assert -1 / np.log(1 - gain) == pytest.approx(31.6, abs=0.1)
    assert response[200] == pytest.approx(0.0158, abs=2e-4)
    # The mean of so many windows has the variance of a smoothed one.
    assert 1 / (response**2).sum() == pytest.approx(126.5, abs=0.5)
