"""``Emotion(cache_dir=...)``: the same windows, and never old ones."""

from __future__ import annotations

import pickle
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.preprocessing import FunctionTransformer

from braindecode_emossl.datasets import DEAP, SEED, write_replica
from braindecode_emossl.errors import CorpusFormatError
from braindecode_emossl.features import DifferentialEntropy
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.registration import DATASETS

CORPORA = {cls.code_name: cls for cls in DATASETS}


def copy_of(code, root, seed=0):
    path = write_replica(
        code, root / code, subjects=[1, 2], sessions=[0], seconds=2, seed=seed
    )
    return CORPORA[code]([1, 2], sessions=[0], path=path)


@pytest.fixture
def reads(monkeypatch):
    """Count the recordings that are read."""
    counts = dict.fromkeys(CORPORA, 0)

    def spy(cls, code):
        read = cls._read_recording

        def counted(self, file, session):
            counts[code] += 1
            return read(self, file, session)

        monkeypatch.setattr(cls, "_read_recording", counted)

    for code, cls in CORPORA.items():
        spy(cls, code)
    return counts


@pytest.mark.parametrize(
    "code",
    [
        code
        if code in ("SEED", "FACED")
        else pytest.param(code, marks=pytest.mark.slow)
        for code in CORPORA
    ],
)
def test_the_same_rows_without_reading_again(code, tmp_path, reads):
    dataset = copy_of(code, tmp_path)
    options = {"target": "valence", "window": 1.0, "features": "de"}
    X, y, metadata = Emotion(**options).get_data(dataset)
    paradigm = Emotion(**options, cache_dir=tmp_path / "cache")
    paradigm.get_data(dataset)
    reads[code] = 0
    for subjects in (None, [2]):
        rows = slice(None) if subjects is None else (metadata["subject"] == 2)
        found = paradigm.get_data(
            CORPORA[code]([1, 2], sessions=[0], path=dataset.path), subjects
        )
        assert reads[code] == 0
        assert_array_equal(found[0], X[rows])
        assert_array_equal(found[1], y[rows])
        expected = metadata[rows].reset_index(drop=True)
        pd.testing.assert_frame_equal(found[2], expected)


@pytest.mark.parametrize(
    "change",
    [
        {"window": 2.0},
        {"features": "psd"},
        {"features": DifferentialEntropy(200, bands={"a": (1, 4), "b": (4, 8)})},
        {"target": "emotion"},
        {"n_classes": 3},
    ],
)
def test_another_parameter_is_computed_anew(change, tmp_path, reads):
    dataset = copy_of("SEED", tmp_path)
    options = {"target": "valence", "window": 1.0, "features": "de"}
    Emotion(**options, cache_dir=tmp_path / "cache").get_data(dataset)
    reads["SEED"] = 0
    if change == {"target": "emotion"}:
        options.pop("target")
    Emotion(**(options | change), cache_dir=tmp_path / "cache").get_data(dataset)
    assert reads["SEED"] == 2


def test_bands_in_another_order_are_computed_anew(tmp_path):
    """Joblib's hash sorts a dict: the features came back in the order of before."""
    dataset = copy_of("SEED", tmp_path)
    bands = {"theta": (4.0, 8.0), "gamma": (31.0, 45.0)}
    found = []
    for names in (["theta", "gamma"], ["gamma", "theta"]):
        features = DifferentialEntropy(
            200, bands={name: bands[name] for name in names}, flatten=False
        )
        paradigm = Emotion(window=1.0, features=features, cache_dir=tmp_path / "cache")
        found.append(paradigm.get_data(dataset)[0])
    assert_array_equal(found[0], found[1][..., ::-1])


def test_changed_files_are_computed_anew(tmp_path, reads):
    """Not the name of a file counts, but what is in it."""
    dataset, other = copy_of("SEED", tmp_path / "a"), copy_of("SEED", tmp_path / "b", 1)
    paradigm = Emotion(window=1.0, features="de", cache_dir=tmp_path / "cache")
    before, _, _ = paradigm.get_data(dataset, [1])
    (ours,), (theirs,) = dataset.data_path(1), other.data_path(1)
    with open(ours, "wb") as file, open(theirs, "rb") as source:
        file.write(source.read())
    after, _, _ = paradigm.get_data(SEED([1], sessions=[0], path=dataset.path))
    assert after.shape == before.shape and (after != before).mean() > 0.99
    assert_array_equal(
        after, Emotion(window=1.0, features="de").get_data(other, [1])[0]
    )


def test_a_copy_in_another_folder_is_not_computed_again(tmp_path, reads):
    """The folder of the corpus was a part of the key."""
    dataset = copy_of("SEED", tmp_path / "a")
    shutil.copytree(dataset.path, tmp_path / "b")
    paradigm = Emotion(window=1.0, features="de", cache_dir=tmp_path / "cache")
    expected = paradigm.get_data(dataset)
    reads["SEED"] = 0
    found = paradigm.get_data(SEED([1, 2], sessions=[0], path=tmp_path / "b"))
    assert reads["SEED"] == 0
    assert_array_equal(found[0], expected[0])
    for settings in ({"on_error": "warn"}, {"mark_bads": False}):
        paradigm.get_data(SEED([1], sessions=[0], path=tmp_path / "b", **settings))
        assert reads["SEED"] == 1
        reads["SEED"] = 0


def test_warnings_come_again_from_the_cache(tmp_path, reads):
    """From the second time on, nobody learnt that a trial had been left out."""
    dataset = copy_of("DEAP", tmp_path / "a")
    (file,) = dataset.data_path(1)
    with open(file, "rb") as opened:
        content = pickle.load(opened, encoding="latin1")
    content["data"][5, 0, 100] = np.nan
    content["data"][6, 3] = 0.0  # a channel without contact
    with open(file, "wb") as opened:
        pickle.dump(content, opened, protocol=2)
    shutil.copytree(dataset.path, tmp_path / "b")
    paradigm = Emotion(
        "valence", window=1.0, features="de", cache_dir=tmp_path / "cache"
    )
    said = []
    for folder in (dataset.path, dataset.path, tmp_path / "b"):
        reads["DEAP"] = 0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            paradigm.get_data(DEAP([1], path=folder, on_error="warn"))
        texts = [str(w.message).replace(str(folder), "") for w in caught]
        assert str(folder) in str([w.message for w in caught])
        kinds = [(w.category, getattr(w.message, "left_out", None)) for w in caught]
        said.append(sorted(zip(texts, map(str, kinds), strict=True)))
    assert reads["DEAP"] == 0 and said[0] == said[1] == said[2]
    assert any("True" in kind for _, kind in said[0])
    assert any("RuntimeWarning" in kind for _, kind in said[0])
    with pytest.raises(CorpusFormatError, match="trial 6"):
        paradigm.get_data(DEAP([1], path=dataset.path))


@pytest.mark.parametrize("is_cached", [False, True])
def test_each_subject_is_loaded_once(is_cached, tmp_path):
    """With a cache, [1, 1] doubled the windows, and any subject passed."""
    dataset = copy_of("SEED", tmp_path)
    cache_dir = tmp_path / "cache" if is_cached else None
    paradigm = Emotion(window=1.0, features="de", cache_dir=cache_dir)
    _, _, metadata = paradigm.get_data(dataset)
    assert len(paradigm.get_data(dataset, [2, 2])[0]) == sum(metadata["subject"] == 2)
    only = SEED([1], sessions=[0], path=dataset.path)
    for subjects in ([2], [1, 2], [], 1):
        with pytest.raises(ValueError, match=r"^subjects must be a list"):
            paradigm.get_data(only, subjects)
        with pytest.raises(ValueError, match=r"^subjects must be a list"):
            paradigm.label_trials(only, subjects)


def test_a_subject_without_labels_is_passed_over(tmp_path):
    """As without a cache, where MOABB passes over runs that have none."""
    dataset = copy_of("DEAP", tmp_path)
    for cache_dir in (None, tmp_path / "cache"):
        paradigm = Emotion(
            "liking", threshold=9.0, features="de", window=1.0, cache_dir=cache_dir
        )
        _, y, metadata = paradigm.get_data(dataset)
        assert set(y) == {"low"} and set(metadata["subject"]) == {1, 2}


def test_epochs_are_not_cached(tmp_path, reads):
    dataset = copy_of("SEED", tmp_path)
    paradigm = Emotion(window=1.0, cache_dir=tmp_path / "cache")
    paradigm.get_data(dataset, [1], return_epochs=True)
    assert not (tmp_path / "cache").exists() and reads["SEED"] == 1


def test_evaluations_find_it(tmp_path, reads):
    from sklearn.dummy import DummyClassifier

    from braindecode_emossl.evaluation import evaluate

    dataset = copy_of("SEED", tmp_path)
    paradigm = Emotion(window=1.0, features="de", cache_dir=tmp_path / "cache")
    paradigm.get_data(dataset)
    reads["SEED"] = 0
    results = evaluate(
        {"dummy": DummyClassifier()}, [dataset], paradigm, "leave-one-subject-out"
    )
    assert len(results) == 2 and reads["SEED"] == 0


def test_transformers_by_function_are_told_apart(tmp_path):
    dataset = copy_of("SEED", tmp_path)
    found = [
        Emotion(
            window=1.0,
            features=FunctionTransformer(function),
            cache_dir=tmp_path / "cache",
        ).get_data(dataset)[0]
        for function in (np.abs, np.negative)
    ]
    assert_array_equal(found[0], np.abs(found[1]))
