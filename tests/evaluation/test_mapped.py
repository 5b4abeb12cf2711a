"""Signals that are too large for memory: mapped from a file, with the same results."""

from __future__ import annotations

import shutil
import tempfile
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from braindecode_emossl.evaluation import evaluate, mapped
from braindecode_emossl.paradigms import Emotion

from .conftest import Toy


def flatten(X):
    return X.reshape(len(X), -1).astype(np.float32)


class Records(LogisticRegression):
    """Keep all that ``fit`` is given, and whether it was mapped."""

    given: list = []  # noqa: RUF012
    __metadata_request__fit = dict.fromkeys(
        ("X_unlabeled", "metadata_unlabeled", "metadata"), True
    )

    def fit(self, X, y, *, X_unlabeled=None, metadata_unlabeled=None, metadata=None):
        rows = [metadata, metadata_unlabeled]
        self.given.append([y, *(m.to_csv() for m in rows if m is not None)])
        for windows in (X, X_unlabeled):
            if windows is not None:
                self.given[-1] += [flatten(windows), isinstance(windows, np.memmap)]
        return super().fit(flatten(X), y)

    def predict_proba(self, X):
        return super().predict_proba(flatten(X))

    def predict(self, X):
        return super().predict(flatten(X))


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The temporary folder."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def signals(fast):
    """The paradigm without features."""
    return Emotion(**fast | {"features": None})


def run(pipeline, corpora, paradigm, **changes):
    arguments = {"protocol": "leave-one-subject-out", "random_state": 0} | changes
    table = evaluate({"a": pipeline}, corpora, paradigm, **arguments)
    return table.drop(columns="time")


@pytest.mark.parametrize("standardize", [None, "recording"])
def test_same_results(standardize, toy, fast, scratch, monkeypatch):
    """15 subjects of SEED needed 32 GiB of memory, and 13 GiB more for a fold."""
    paradigm = Emotion(**fast | {"features": None}, standardize=standardize)
    pipeline = make_pipeline(FunctionTransformer(flatten), LogisticRegression())
    expected = run(pipeline, [toy], paradigm)
    monkeypatch.setattr(mapped, "LARGE", 0)
    pd.testing.assert_frame_equal(run(pipeline, [toy], paradigm), expected)
    assert not [*scratch.iterdir()]


def test_all_that_fit_is_given_is_mapped(make_toy, toy_b, signals, monkeypatch):
    """Labels, unlabelled windows and further corpora are those of arrays in memory."""
    corpus = make_toy(Toy, subjects=[1, 2])
    corpus.ch_names = toy_b.ch_names = ("Oz", "Pz")
    signals.resample = 128.0
    changes = {"unlabeled": [toy_b], "n_labeled_trials": 2}
    found = {}
    for limit in (mapped.LARGE, 0):
        monkeypatch.setattr(mapped, "LARGE", limit)
        Records.given = []
        table = run(Records(max_iter=300), [corpus], signals, **changes)
        found[limit] = table, Records.given
    (expected, in_memory), (table, in_files) = found.values()
    pd.testing.assert_frame_equal(table, expected)
    assert len(in_files) == len(in_memory) == 2
    for one, other in zip(in_files, in_memory, strict=True):
        y, metadata, of_unlabeled, X, is_mapped, X_unlabeled, also_mapped = one
        assert is_mapped and also_mapped and not other[4] and not other[6]
        assert "ToyB" in of_unlabeled
        assert (metadata, of_unlabeled) == (other[1], other[2])
        for mine, theirs in ((y, other[0]), (X, other[3]), (X_unlabeled, other[5])):
            np.testing.assert_array_equal(mine, theirs)


def test_training_sets_may_be_changed():
    """A step that works in place must not change the windows of other folds."""
    X = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
    found = mapped.map_rows(X, np.array([4, 1, 1]), lambda X, rows: X[rows])
    assert isinstance(found, np.memmap) and found.flags.writeable
    np.testing.assert_array_equal(found, X[[4, 1, 1]])
    found *= 2
    assert X[1, 0, 0] == 4.0


class Swapped(Toy):
    """The channels of one subject come in another order."""

    def _read_recording(self, file, session):
        if file.name.startswith("2_"):
            self.ch_names = self.ch_names[::-1]
        yield from super()._read_recording(file, session)
        self.ch_names = Toy.ch_names


def test_channels_must_be_the_same(make_toy, signals, monkeypatch):
    """Subjects that are loaded one by one are compared, as those loaded together."""
    pipeline = make_pipeline(FunctionTransformer(flatten), LogisticRegression())
    for limit in (mapped.LARGE, 0):
        monkeypatch.setattr(mapped, "LARGE", limit)
        with pytest.raises(ValueError, match=r"must have the same channels.*'Oz'"):
            run(pipeline, [make_toy(Swapped)], signals)


def test_a_full_disk(toy, signals, scratch, monkeypatch):
    """The windows are loaded into memory, with a warning that says what to do."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1, 1, 0))
    monkeypatch.setattr(mapped, "LARGE", 0)
    Records.given = []
    with pytest.warns(UserWarning, match="TMPDIR"):
        run(Records(max_iter=300), [toy], signals)
    assert not any(given[3] for given in Records.given)
