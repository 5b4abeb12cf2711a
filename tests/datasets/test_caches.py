"""MOABB's disk caches over all corpora: what comes back is what was loaded."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from braindecode_emossl.datasets import DEAP, MAHNOB_HCI, SEED, SEED_IV, write_replica
from braindecode_emossl.errors import CorpusFormatWarning
from braindecode_emossl.paradigms import Emotion

SIGNALS = {"fmin": None, "fmax": None, "channels": ["Fz", "O1"]}
# MOABB keeps raws as 16-bit integers, spread over the range of the EEG (in unfiltered
# recordings millivolts), epochs in single precision, and arrays as they are.
TOLERANCES = {
    "raw": {"rtol": 0, "atol": 0.5},
    "epochs": {"rtol": 1e-6, "atol": 1e-6},
    "array": {"rtol": 0, "atol": 0},
}

# Class, options of the replica, options of the dataset.
CASES = {
    "SEED": (SEED, {"subjects": [2, 10], "sessions": [2]}, {"sessions": [2]}),
    "SEED-IV": (SEED_IV, {"subjects": [1], "sessions": [0, 1]}, {"sessions": [0, 1]}),
    "DEAP": (DEAP, {"subjects": [1, 2]}, {}),
    "DEAP original": (
        DEAP,
        {"subjects": [1, 2], "variant": "bdf"},
        {"source": "original"},
    ),
    "MAHNOB-HCI": (MAHNOB_HCI, {"subjects": [1, 2]}, {}),
}
# MOABB's caches are the same for all; two corpora are enough for every day.
PARAMS = [
    case
    if case in ("SEED", "MAHNOB-HCI")
    else pytest.param(case, marks=pytest.mark.slow)
    for case in CASES
]


def write(cls, root, **options):
    """Write a replica, of MAHNOB-HCI four trials of a subject alone."""
    write_replica(cls.code_name, root, **{"seconds": 2, "seed": 0} | options)
    for folder in root.rglob("Sessions/*"):
        if int(folder.name) % 130 not in (2, 4, 6, 8):
            shutil.rmtree(folder)
    return root


def write_broken(root):
    """Write two subjects of SEED, whose recordings are cut short."""
    write_replica("SEED", root, subjects=[1, 2], sessions=[0], seconds=1, seed=0)
    for file in root.rglob("[12]_*.mat"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return root


@pytest.fixture(scope="module", params=PARAMS)
def make_dataset(request, tmp_path_factory):
    """Return a function that makes the same dataset anew."""
    cls, options, kwargs = CASES[request.param]
    root = write(cls, tmp_path_factory.mktemp("corpus"), **options)
    return lambda: cls(options["subjects"][::-1], path=root, **kwargs)


@pytest.fixture(scope="module")
def fresh(make_dataset):
    """What each paradigm gives without a cache."""
    return {
        features: Emotion(features=features, **SIGNALS, window=1.0).get_data(
            make_dataset()
        )
        for features in (None, "de")
    }


def check_equal(found, expected, step="array"):
    assert_allclose(found[0], expected[0], **TOLERANCES[step])  # in microvolts
    assert_array_equal(found[1], expected[1])
    pd.testing.assert_frame_equal(found[2], expected[2])


@pytest.mark.parametrize(
    ("step", "features"),
    [("raw", None), ("epochs", None), ("array", None), ("array", "de")],
)
def test_a_cache_gives_the_same_back(
    step, features, make_dataset, fresh, tmp_path, monkeypatch
):
    paradigm = Emotion(features=features, **SIGNALS, window=1.0)
    config = {f"save_{step}": True, "use": True, "path": tmp_path}
    written = paradigm.get_data(make_dataset(), cache_config=config)
    # A call that reads the corpus again proves nothing.
    monkeypatch.setattr(type(make_dataset()), "_read_recording", None)
    read = paradigm.get_data(make_dataset(), cache_config=config)
    for found in (written, read):
        check_equal(found, fresh[features], step)
    assert fresh[None][2]["subject"].unique().tolist() == make_dataset().subject_list


def test_a_cache_serves_fewer_subjects(make_dataset, fresh, tmp_path):
    paradigm = Emotion(**SIGNALS, window=1.0)
    config = {"save_array": True, "use": True, "path": tmp_path}
    dataset = make_dataset()
    first = dataset.subject_list[:1]
    paradigm.get_data(dataset, subjects=first, cache_config=config)
    found = paradigm.get_data(dataset, cache_config=config)
    check_equal(found, fresh[None])


def test_recordings_come_back_with_their_annotations(
    make_dataset, tmp_path, monkeypatch
):
    config = {"save_raw": True, "use": True, "path": tmp_path}
    written = make_dataset().get_data(cache_config=config)
    monkeypatch.setattr(type(make_dataset()), "_read_recording", None)
    read = make_dataset().get_data(cache_config=config)
    for subject, sessions in written.items():
        assert list(read[subject]) == list(sessions)
        for session, runs in sessions.items():
            assert list(read[subject][session]) == list(runs)
            for run, raw in runs.items():
                cached = read[subject][session][run]
                assert cached.ch_names == raw.ch_names
                assert_allclose(cached.get_data(), raw.get_data(), rtol=0, atol=0.5e-6)
                old, new = raw.annotations, cached.annotations
                assert_allclose(new.onset, old.onset, atol=1e-6)
                assert_allclose(new.duration, old.duration)
                assert list(new.description) == list(old.description)


def test_raws_come_back_from_a_cache(make_dataset, tmp_path, monkeypatch):
    paradigm = Emotion(**SIGNALS)
    config = {"save_raw": True, "use": True, "path": tmp_path}
    raws, labels, metadata = paradigm.get_data(make_dataset(), return_raws=True)
    paradigm.get_data(make_dataset(), return_raws=True, cache_config=config)
    monkeypatch.setattr(type(make_dataset()), "_read_recording", None)
    found = paradigm.get_data(make_dataset(), return_raws=True, cache_config=config)
    assert_array_equal(found[1], labels)
    pd.testing.assert_frame_equal(found[2], metadata)
    for cached, raw in zip(found[0], raws, strict=True):
        assert_allclose(cached.get_data(), raw.get_data(), rtol=0, atol=5e-7)


# -- what must not share a cache -----------------------------------------------


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Two replicas of SEED that differ in their signals."""
    root = tmp_path_factory.mktemp("seeds")
    for seed in (0, 1):
        write_replica("SEED", root / str(seed), subjects=[1], seconds=1, seed=seed)
    return root


def load_both(one, two, folder):
    """Return what two datasets give with one folder of caches, and without it."""
    paradigm = Emotion(fmin=None, fmax=None, window=1.0)
    config = {"save_array": True, "use": True, "path": folder}
    pairs = []
    for dataset in (one, two):
        expected = paradigm.get_data(dataset)
        pairs.append((paradigm.get_data(dataset, cache_config=config), expected))
    return pairs


def test_two_folders_do_not_share_a_cache(seeds, tmp_path):
    one, two = (SEED([1], [0], path=seeds / seed) for seed in "01")
    pairs = load_both(one, two, tmp_path)
    for found, expected in pairs:
        check_equal(found, expected)
    assert not np.allclose(pairs[0][0][0], pairs[1][0][0])


def test_fewer_sessions_are_not_taken_for_all(seeds, tmp_path):
    """One session in the cache came back for all three, without a word."""
    one, two = (SEED([1], which, path=seeds / "0") for which in ([1], None))
    pairs = load_both(one, two, tmp_path)
    for (found, expected), n_sessions in zip(pairs, (1, 3), strict=True):
        check_equal(found, expected)
        assert found[2]["session"].nunique() == n_sessions


@pytest.mark.slow
def test_sources_do_not_share_a_cache(tmp_path):
    one, two = tmp_path / "dat", tmp_path / "bdf"
    for folder in (one, two):
        options = {"subjects": [1], "seconds": 1, "seed": 0, "variant": folder.name}
        write_replica("DEAP", folder, **options)
    one, two = DEAP([1], path=one), DEAP([1], path=two, source="original")
    for found, expected in load_both(one, two, tmp_path):
        check_equal(found, expected)


def test_modalities_do_not_share_a_cache(tmp_path):
    """All channels were asked for, and the EEG alone came back."""
    root = write(MAHNOB_HCI, tmp_path / "corpus", subjects=[1])
    one, two = (
        MAHNOB_HCI([1], path=root, return_all_modalities=which)
        for which in (False, True)
    )
    for found, expected in load_both(one, two, tmp_path):
        check_equal(found, expected)
    config = {"save_raw": True, "use": True, "path": tmp_path}
    for dataset in (one, two):
        n_chans = 39 if dataset.return_all_modalities else 32
        for _ in range(2):  # written, then read
            (runs,) = dataset.get_data(cache_config=config)[1].values()
            assert {len(raw.ch_names) for raw in runs.values()} == {n_chans}


@pytest.mark.parametrize("cached", [False, True])
def test_warnings_of_workers_reach_the_caller(cached, tmp_path):
    """With n_jobs=2, nothing said that a recording was left out."""
    root = write_broken(tmp_path / "corpus")
    told = []
    for n_jobs in (1, 2):
        dataset = SEED([1, 2], [0], path=root, on_error="warn")
        config = {"save_raw": True, "path": tmp_path / str(n_jobs)} if cached else None
        with pytest.warns(CorpusFormatWarning) as caught:
            dataset.get_data(cache_config=config, n_jobs=n_jobs)
        found = [w.message for w in caught if w.category is CorpusFormatWarning]
        told.append([(str(message), message.left_out) for message in found])
    assert told[0] == told[1]
    assert len(told[0]) == len({*told[0]})
    for name in ("1_20131027.mat", "2_20140404.mat"):
        assert any(name in text for text, left_out in told[0] if left_out)


def test_trials_that_workers_leave_out_are_told_once(tmp_path):
    """The trials of a subject were read again for their table, with all warnings."""
    root = write_broken(tmp_path / "corpus")
    told = []
    for n_jobs in (1, 2):
        dataset = SEED([1, 2], path=root, on_error="warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Emotion(window=1.0).get_data(dataset, n_jobs=n_jobs)
        found = [w.message for w in caught if w.category is CorpusFormatWarning]
        told.append(sorted(map(str, found)))
    assert told[0] == told[1]


def test_workers_read_cached_epochs(tmp_path):
    """From the second call on, they could not send the open file."""
    root = tmp_path / "corpus"
    write_replica("SEED", root, subjects=[1, 2], sessions=[0], seconds=1, seed=0)
    config = {"save_epochs": True, "use": True, "path": tmp_path}
    paradigm = Emotion(window=1.0)
    for n_jobs in (1, 2):
        epochs, _, _ = paradigm.get_data(
            SEED([1, 2], [0], path=root),
            return_epochs=True,
            n_jobs=n_jobs,
            cache_config=config,
        )
        assert len(epochs) == 2 * 15


def test_what_was_left_out_is_not_hidden_by_a_cache(tmp_path):
    """A broken recording, left out once, was missing later without an error."""
    root = tmp_path / "corpus"
    write_replica("SEED", root, subjects=[1], seconds=1, seed=0)
    (file,) = root.rglob("1_20131030.mat")
    file.write_bytes(file.read_bytes()[:1000])
    paradigm = Emotion(fmin=None, fmax=None, window=1.0)
    config = {"save_array": True, "use": True, "path": tmp_path}
    lenient = SEED([1], path=root, on_error="warn")
    _, _, metadata = paradigm.get_data(lenient, cache_config=config)
    assert metadata["session"].nunique() == 2
    with pytest.raises(ValueError, match=r"1_20131030\.mat"):
        paradigm.get_data(SEED([1], path=root), cache_config=config)
