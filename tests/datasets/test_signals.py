"""Signals as arrays: the same as raws of MNE give, by value."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from moabb.datasets.preprocessing import get_filter_pipeline
from numpy.testing import assert_array_equal

from braindecode_emossl.datasets import DEAP, SEED, deap, write_replica
from braindecode_emossl.datasets.base import Trial
from braindecode_emossl.datasets.signals import Channels, Signals, Windows, scale
from braindecode_emossl.paradigms import Emotion


def make_signals(n_times=2000, sfreq=200.0):
    names = ("Fz", "Cz", "GSR", *(f"E{k}" for k in range(9)))
    types = ("eeg", "eeg", "gsr", *["eeg"] * 9)
    data = np.random.default_rng(0).normal(1e-4, 1e-5, (len(names), n_times))
    trials = [Trial(0, "film", "calm", n_times / sfreq)]
    return Signals(data, Channels(names, types, sfreq), trials, bads=["Cz"])


def copy_to_raw(signals):
    raw = signals.to_raw().copy()
    raw.info["bads"] = []
    return raw


@pytest.mark.parametrize("n_times", [50, 300, 2000])
@pytest.mark.parametrize(("fmin", "fmax"), [(0.5, 47.0), (1.0, None), (None, 30.0)])
def test_the_filter_is_that_of_moabb_bit_by_bit(fmin, fmax, n_times):
    """At the ends too, and in recordings shorter than the padding."""
    signals = make_signals(n_times)
    raw = get_filter_pipeline(fmin, fmax).transform(copy_to_raw(signals))
    found = signals.filter(fmin, fmax)
    assert_array_equal(found.data, raw.get_data())
    assert_array_equal(found.data[2], signals.data[2])  # only the EEG is filtered


@pytest.mark.parametrize("sfreq", [128.0, 250.0, 100.0])
def test_resampling_is_that_of_a_raw(sfreq):
    signals = make_signals(1999)
    raw = copy_to_raw(signals).resample(sfreq, verbose=False)
    found = signals.resample(sfreq)
    assert_array_equal(found.data, raw.get_data())
    assert found.info["sfreq"] == sfreq


def test_a_raw_shares_no_description_with_the_signals():
    """The description is shared by all runs of a recording."""
    signals = make_signals()
    raw = signals.to_raw()
    assert raw.info["bads"] == ["Cz"] and signals.info["bads"] == []
    raw.rename_channels({"Fz": "other"})
    assert signals.info["ch_names"] == list(signals.channels.names)


def test_windows_are_cut_at_their_events():
    data = np.arange(20.0).reshape(2, 10)
    signals = Signals(data, Channels(("a", "b"), ("eeg", "misc"), 1.0), [])
    X = Windows(signals, np.array([[0, 0, 1], [7, 1, 1], [3, 2, 1]]), 3).get_data()
    assert X[:, 0].tolist() == [[0, 1, 2], [7, 8, 9], [3, 4, 5]]
    assert X[:, 1].tolist() == [[10, 11, 12], [17, 18, 19], [13, 14, 15]]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n_times", [1, 2048, 5000])
def test_scaled_arrays_lie_channel_by_channel(order, n_times):
    data = np.asarray(np.random.default_rng(0).normal(size=(3, n_times)), order=order)
    found = scale(data, 1e-6)
    assert_array_equal(found, data * 1e-6)
    assert found.flags.c_contiguous


@pytest.mark.parametrize(("cls", "options"), [(DEAP, {}), (SEED, {"sessions": [0]})])
def test_arrays_take_no_objects_of_mne_for_each_trial(
    cls, options, tmp_path, monkeypatch
):
    """An Epochs, two raws and an Info per trial took 69 % of the time for DEAP."""
    write_replica(cls.code_name, tmp_path, subjects=[1], seconds=2, seed=0, **options)
    made = []
    for name in ("RawArray", "Epochs", "EpochsArray"):
        owner = mne.io if name == "RawArray" else mne
        original = getattr(owner, name)

        def spy(*args, original=original, **kwargs):
            made.append(original)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, spy)
    dataset = cls([1], path=tmp_path, **options)
    X, _, metadata = Emotion(window=1.0, resample=100.0).get_data(dataset)
    assert metadata["run"].nunique() == cls.n_trials_per_session
    assert X.shape[2] == 100
    assert len(made) == 1  # by which MNE picks the channels


def test_labels_of_deap_are_read_once(tmp_path, monkeypatch):
    """Medians of ratings and stamps of caches read 100 MB for each trial."""
    write_replica("DEAP", tmp_path, subjects=[1], seconds=1, seed=0)
    n_reads = []
    read = deap.read_preprocessed

    def spy(file):
        n_reads.append(file)
        return read(file)

    monkeypatch.setattr(deap, "read_preprocessed", spy)
    dataset = DEAP([1], path=tmp_path)
    dataset.trial_table(1)
    dataset.fingerprint()
    paradigm = Emotion("valence", threshold="median", window=1.0)
    paradigm.class_balance(dataset)
    assert len(n_reads) == 1
    paradigm.get_data(dataset)
    assert len(n_reads) == 2  # with the signals


def test_a_file_of_deap_that_changes_is_read_again(tmp_path):
    write_replica("DEAP", tmp_path, subjects=[1], seconds=1, seed=0)
    (table,) = tmp_path.rglob("participant_ratings.csv")
    table.unlink()  # with which the files must agree
    dataset = DEAP([1], path=tmp_path)
    before = dataset.trial_table(1)["valence"].tolist()
    (file,) = tmp_path.rglob("s01.dat")
    _, labels = deap.read_preprocessed(file)
    content, reverse = labels.tobytes(), labels[::-1].tobytes()
    file.write_bytes(file.read_bytes().replace(content, reverse) + b" ")
    assert dataset.trial_table(1)["valence"].tolist() == before[::-1]
