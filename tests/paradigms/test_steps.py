"""The steps of the paradigm, one by one."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from braindecode_emossl.datasets.signals import Channels, Signals
from braindecode_emossl.paradigms.steps import (
    CutTrials,
    CutWindows,
    EventsToLabels,
    FilterEEG,
    Pick,
    Resample,
    UsedTrials,
)


def make_raw(n_times, trial=0):
    info = mne.create_info(["Fz", "Cz"], 200.0, "eeg")
    raw = mne.io.RawArray(np.zeros((2, n_times)), info, verbose=False)
    length = n_times / 200
    extras = {"trial": trial, "stimulus": "a", "length": length, "emotion": "x"}
    raw.set_annotations(mne.Annotations([0.0], [length], ["x"], extras=[extras]))
    return raw


USED = UsedTrials({"x": 1}, lambda trial, subject: "x")


def test_a_long_trial_has_more_windows_than_two_bytes_count():
    """The 65,537th window of a trial was an error."""
    raw = make_raw(66_000, trial=1023)
    epochs = CutWindows(USED, window=0.01, stride=0.005).transform(raw)
    assert len(epochs) == 65_999
    assert epochs.events.max() < 2**31  # what MNE's files keep
    labels = EventsToLabels({"x": 1}).transform(epochs.events)
    np.testing.assert_array_equal(labels["window"], np.arange(65_999))
    assert set(labels["trial"]) == {1023}


@pytest.mark.parametrize("trial", [1024, -1])
def test_a_number_of_a_trial_that_events_cannot_keep_is_refused(trial):
    """Such events were cut to 31 bits in MNE's files."""
    with pytest.raises(ValueError, match=f"from 0 to 1023, but one is {trial}"):
        CutTrials(USED).transform(make_raw(200, trial))


@pytest.mark.parametrize("step", [CutTrials, lambda u: CutWindows(u, 0.1, 0.1)])
def test_a_start_beyond_a_trial_is_named(step):
    """The error offered -7 s and blamed the window."""
    used = UsedTrials({"x": 1}, lambda trial, subject: "x", tmin=10.0)
    message = r"Trial 0 .* lasts 3 s: nothing of it is selected by tmin=10"
    cut = step(used)
    with pytest.raises(ValueError, match=message):
        (cut.crop if step is CutTrials else cut.transform)(make_raw(600))


@pytest.mark.parametrize("of_mne", [True, False])
def test_a_filter_beyond_half_the_rate_is_named(of_mne):
    """The error named MNE's argument h_freq."""
    raw = make_raw(400)
    if not of_mne:
        channels = Channels(("Fz", "Cz"), ("eeg", "eeg"), 200.0)
        raw = Signals(raw.get_data(), channels, ())
    message = (
        "less than half the sampling rate of 200 Hz, but got fmin=0.5 and fmax=100"
    )
    with pytest.raises(ValueError, match=message):
        FilterEEG(0.5, 100.0).transform(raw)


@pytest.mark.parametrize(
    ("channels", "picks"), [(None, None), (["Cz"], None), (None, "eeg")]
)
def test_bad_channels_are_picked(channels, picks):
    """MNE passes over them, so that recordings had different channels."""
    raw = make_raw(200)
    raw.info["bads"] = ["Cz"]
    found = Pick("", channels, picks, False, False).transform(raw)
    assert "Cz" in found.ch_names and not found.info["bads"]


@pytest.mark.parametrize("as_raw", [False, True])
def test_missing_values_do_not_spread_over_a_resampled_recording(as_raw):
    """One NaN in a channel of eye features turned the whole channel into NaN."""
    data = np.random.default_rng(0).normal(size=(3, 2000))
    data[2] = np.repeat([1.0, 2.0, np.nan, 3.0, 4.0], 400)
    channels = Channels(("Fz", "Cz", "pupil"), ("eeg", "eeg", "misc"), 200.0)
    signals = Signals(data, channels, ())
    whole = Signals(data[:2], channels.select(["Fz", "Cz"]), ())
    resampled = Resample(80.0).transform(signals.to_raw() if as_raw else signals)
    values = resampled.get_data() if as_raw else resampled.data
    np.testing.assert_array_equal(values[:2], whole.resample(80.0).data)
    expected = np.repeat([1.0, 2.0, np.nan, 3.0, 4.0], 160)
    np.testing.assert_array_equal(values[2], expected)


def test_eeg_with_missing_values_is_not_resampled_without_a_low_pass():
    """Each value of such a channel was that of a sample before, with aliases."""
    data = np.random.default_rng(0).normal(size=(2, 2000))
    data[0, 7] = np.nan
    signals = Signals(data, Channels(("Fz", "Cz"), ("eeg", "eeg"), 200.0), ())
    assert np.isnan(Resample(80.0).transform(signals).data[0]).all()
