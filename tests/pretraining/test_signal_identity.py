"""Channels of a second set of windows: reordered by name, or refused."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from braindecode_emossl.models import SCMM
from braindecode_emossl.pretraining.signal_identity import (
    Signal,
    align_windows,
    read_model_signal,
    read_signal,
)


def make_signal(names, types="eeg", sfreq=100.0):
    return Signal(sfreq, mne.create_info(list(names), sfreq, types)["chs"])


WANTED = make_signal(["Fz", "Cz", "GSR"], ["eeg", "eeg", "gsr"])


@pytest.fixture
def X():
    return np.arange(2 * 3 * 4.0).reshape(2, 3, 4)


def test_channels_are_reordered_by_name(X):
    found = make_signal(["GSR", "fz", "CZ"], ["gsr", "eeg", "eeg"])
    aligned = align_windows(X, found, WANTED, "X", "training")
    np.testing.assert_array_equal(aligned, X[:, [1, 2, 0]])


def test_windows_in_order_are_not_copied(X):
    assert align_windows(X, WANTED, WANTED, "X", "training") is X


@pytest.mark.parametrize("found", [Signal(), Signal(100.0), Signal(None, None)])
def test_unknown_properties_are_not_compared(X, found):
    assert align_windows(X, found, WANTED, "X", "training") is X
    assert align_windows(X, WANTED, found, "X", "training") is X


def test_names_that_differ_in_case_alone_are_different_channels(X):
    both = make_signal(["a", "A", "b"])
    found = make_signal(["A", "b", "a"])
    aligned = align_windows(X, found, both, "X", "training")
    np.testing.assert_array_equal(aligned, X[:, [2, 0, 1]])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            make_signal(["Fz", "Cz", "GSR"], ["eeg", "eeg", "gsr"], 50.0),
            "100 Hz, but h",
        ),
        (make_signal(["Fz", "Pz", "GSR"]), "Cz is missing from Fz, Pz, GSR"),
        (make_signal(["Fz", "Cz", "GSR"]), "GSR is 'eeg', not 'gsr'"),
        (
            make_signal(["Fz", "Cz", "GSR", "Pz"], ["eeg", "eeg", "gsr", "eeg"]),
            "Pz is not among them. Drop it",
        ),
        (Signal(100.0, [{"ch_name": "Fz"}] * 3), "Fz occurs twice"),
    ],
)
def test_the_first_difference_is_named(X, found, message):
    with pytest.raises(ValueError, match=f"^X_unlabeled must have .*{message}"):
        align_windows(X, found, WANTED, "X_unlabeled", "the training windows")


def test_signals_of_epochs_and_models(X):
    info = mne.create_info(["Fz", "Cz", "GSR"], 100.0, ["eeg", "eeg", "gsr"])
    signal = read_signal(mne.EpochsArray(X, info, verbose="error"))
    assert signal.sfreq == 100 and signal.names == ["Fz", "Cz", "GSR"]
    assert read_signal(X) == Signal()
    model = SCMM(n_outputs=2, chs_info=WANTED.chs_info, n_times=100, sfreq=200.0)
    assert read_model_signal(model).names == WANTED.names
    bare = SCMM(n_outputs=2, n_chans=3, n_times=5, input_domain="de")
    assert read_model_signal(bare) == Signal()
    assert Signal().fill_in(signal) == signal
    assert Signal(7.0).fill_in(signal).sfreq == 7
