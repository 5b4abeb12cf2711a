"""The Emotion paradigm: windows, labels, metadata, features and caches, by value."""

from __future__ import annotations

import inspect
import json
import re

import mne
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moabb.analysis.results import get_pipeline_digest
from moabb.datasets import BNCI2014_001
from moabb.evaluations import CrossSubjectEvaluation
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from braindecode_emossl.datasets import (
    DEAP,
    MAHNOB_HCI,
    SEED,
    SEED_IV,
    EmotionDataset,
    write_replica,
)
from braindecode_emossl.datasets.base import Trial
from braindecode_emossl.features import DifferentialEntropy
from braindecode_emossl.paradigms import Emotion

# As the files have it: no filter, the corpus's own rate.
AS_IS = {"fmin": None, "fmax": None, "resample": None}


class Coded(EmotionDataset):
    """A corpus whose signals say where they come from.

    ``runs`` are the trials of each run. ``Fz`` is the sample's number in its run,
    ``Cz`` the trial's number (-1 between trials), ``Pz`` noise; all in microvolts.
    ``GSR`` is the sample's number as well, in a unit of its own.
    """

    code_name = "Coded"
    path_key = "CODED"
    all_subject_numbers = (1, 2)
    n_sessions_per_subject = 1
    classes = {"calm": 1, "wild": 2}  # noqa: RUF012
    common_interval = (0, 1)
    doi_name = ""
    access_url = "https://example.org"
    expected_files = ("a", "b")
    ratings = ("valence", "arousal", "dominance", "liking")
    rating_midpoint = 5.0

    def __init__(self, *runs, sfreq=100.0, tail=0, **kwargs):
        self.runs = runs
        self.sfreq = sfreq
        self.tail = tail
        super().__init__(subjects=[1], path=".", **kwargs)

    def _find_recordings(self, root, subject):
        return {"0": root}

    def _read_trials(self, file, session):
        return {f"{number:02d}": list(run) for number, run in enumerate(self.runs)}

    def _read_recording(self, file, session):
        for run, trials in self._read_trials(file, session).items():
            yield (
                run,
                self._make_raw(
                    self.signals(trials) * np.array([1e-6, 1e-6, 1e-6, 1])[:, None],
                    ["Fz", "Cz", "Pz", "GSR"],
                    ["eeg", "eeg", "eeg", "gsr"],
                    self.sfreq,
                    trials,
                ),
            )

    def signals(self, trials):
        n_times = max(self.samples(trial)[1] for trial in trials) + self.tail
        code = np.full(n_times, -1.0)
        for trial in trials:
            code[slice(*self.samples(trial))] = trial.trial
        index = np.arange(n_times, dtype=float)
        noise = np.random.default_rng(0).normal(size=n_times)
        return np.stack([index, code, noise, index])

    def samples(self, trial):
        onset, stop = trial.onset, trial.onset + trial.length
        return round(onset * self.sfreq), round(stop * self.sfreq)


def make_trial(number=0, length=2.0, onset=0.0, emotion="calm", rating=5.0, **ratings):
    ratings = dict.fromkeys(Coded.ratings, rating) | ratings
    return Trial(number, f"clip{number}", emotion, length, onset, ratings)


def lay_out(gaps_and_lengths, sfreq):
    """Put trials one after another into a run; gaps and lengths in samples."""
    trials, stop = [], 0
    for number, (gap, length) in enumerate(gaps_and_lengths):
        onset = stop + gap
        stop = onset + length
        trials.append(make_trial(number, length / sfreq, onset / sfreq))
    return trials


# -- windows -------------------------------------------------------------------

layouts = st.lists(
    st.tuples(st.integers(0, 50), st.integers(20, 400)), min_size=1, max_size=4
)
rates = st.sampled_from([100.0, 128.0, 200.0, 250.0, 62.5])


@settings(deadline=None, max_examples=60)
@given(
    layouts,
    rates,
    st.integers(2, 150),
    st.integers(1, 100),
    st.integers(0, 60),
    st.none() | st.integers(61, 400),
    st.integers(0, 30),
)
def test_windows_fill_their_own_trial(
    layout, sfreq, n_window, n_stride, first, last, tail
):
    corpus = Coded(lay_out(layout, sfreq), sfreq=sfreq, tail=tail)
    paradigm = Emotion(
        window=n_window / sfreq,
        stride=n_stride / sfreq,
        tmin=first / sfreq,
        tmax=None if last is None else last / sfreq,
        **AS_IS,
    )
    stops = [min(last or length, length) for _, length in layout]
    expected, onset = [], 0
    for number, ((gap, length), stop) in enumerate(zip(layout, stops, strict=True)):
        onset += gap
        starts = range(first, stop - n_window + 1, n_stride)
        expected += [(number, k, onset + start) for k, start in enumerate(starts)]
        if not starts:
            with pytest.raises(
                ValueError, match=rf"run \d+: Trial {number} \(stimulus"
            ):
                paradigm.get_data(corpus)
            return
        assert len(starts) == (stop - first - n_window) // n_stride + 1
        onset += length
    X, y, metadata = paradigm.get_data(corpus)

    assert X.shape == (len(expected), 3, n_window)
    assert len(y) == len(metadata) == len(expected)
    trials, windows, starts = np.array(expected).T
    assert_array_equal(metadata["trial"], trials)
    assert_array_equal(metadata["window"], windows)
    # Every sample is the next one of the run, and belongs to the trial that is named.
    assert_array_equal(X[:, 0].round(6), starts[:, None] + np.arange(n_window))
    assert_array_equal(X[:, 1].round(6), np.repeat(trials[:, None], n_window, 1))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(1.0, 3.0), min_size=1, max_size=3),
    rates,
    st.floats(0.1, 1.0),
    st.floats(0.05, 1.0),
    st.floats(0.0, 0.8),
)
def test_times_between_samples(lengths, sfreq, window, stride, tmin):
    """Windows keep their step and fill the trial, to one sample of rounding."""
    runs = [[make_trial(number, length)] for number, length in enumerate(lengths)]
    paradigm = Emotion(window=window, stride=stride, tmin=tmin, **AS_IS)
    if any(length - tmin - window < 2 / sfreq for length in lengths):
        return
    X, _, metadata = paradigm.get_data(Coded(*runs, sfreq=sfreq))
    n_window = round(window * sfreq)
    assert X.shape[2] == n_window
    for number, length in enumerate(lengths):
        starts = X[metadata["trial"] == number, 0, 0].round(6)
        steps = [round(k * stride * sfreq) for k in range(len(starts))]
        assert_array_equal(starts, round(tmin * sfreq) + np.array(steps))
        unused = round(length * sfreq) - (starts[-1] + n_window)
        assert 0 <= unused <= stride * sfreq + 1  # one sample of rounding


def test_one_window_as_long_as_the_trial():
    """A start and a duration that both rounded up lost the trial without a word."""
    corpus = Coded([make_trial(length=1.01)], [make_trial(1, length=1.02)])
    paradigm = Emotion(window=0.995, tmin=0.015, **AS_IS)
    with pytest.raises(ValueError, match="Trial 0"):
        paradigm.get_data(corpus)


@pytest.mark.parametrize("tmax", [None, 100.0])
def test_tmin_and_tmax(tmax):
    corpus = Coded([make_trial(length=3.0, onset=0.5)])
    X, _, _ = Emotion(window=0.5, tmin=1.0, tmax=tmax, **AS_IS).get_data(corpus)
    assert_array_equal(X[:, 0, 0].round(6), [150, 200, 250, 300])
    X, _, _ = Emotion(window=0.5, tmin=1.0, tmax=2.2, **AS_IS).get_data(corpus)
    assert_array_equal(X[:, 0, 0].round(6), [150, 200])


def test_overlapping_windows_stay_inside():
    corpus = Coded(lay_out([(7, 130), (0, 110)], 100))
    X, _, metadata = Emotion(window=1.0, stride=0.1, **AS_IS).get_data(corpus)
    assert metadata["trial"].tolist() == [0] * 4 + [1] * 2
    assert_array_equal(X[:, 0, 0].round(6), [7, 17, 27, 37, 137, 147])
    assert_array_equal(X[:, 1, -1].round(6), metadata["trial"])


def test_windows_start_at_the_nearest_sample():
    """A stride of 12.5 samples was rounded to 12, so that windows drifted."""
    corpus = Coded([make_trial(length=1.0)])
    X, _, metadata = Emotion(window=0.2, stride=0.125, **AS_IS).get_data(corpus)
    starts = [round(12.5 * k) for k in range(7)]
    assert starts == [0, 12, 25, 38, 50, 62, 75]
    assert_array_equal(X[:, 0, 0].round(6), starts)
    assert metadata["window"].tolist() == list(range(7))


@pytest.mark.parametrize(
    ("kwargs", "starts"),
    [
        ({"last": 2.0}, {0: [200, 300], 1: [0], 2: [100, 200]}),
        ({"last": 2.0, "tmin": 2.5}, {0: [250], 2: []}),
        ({"last": 1.1, "tmin": 0.2}, {0: [290], 1: [40], 2: [190]}),
    ],
)
def test_last_seconds_of_each_trial(kwargs, starts):
    """A trial shorter than ``last`` is used whole; tmin counts from its start."""
    lengths = {0: 4.0, 1: 1.5, 2: 3.0}
    runs = [[make_trial(k, lengths[k])] for k in starts if starts[k]]
    paradigm = Emotion(window=1.0, **kwargs, **AS_IS)
    X, _, metadata = paradigm.get_data(Coded(*runs))
    for number, expected in starts.items():
        rows = (metadata["trial"] == number).to_numpy()
        assert_array_equal(X[rows, 0, 0].round(6), expected)
    raws, _, _ = paradigm.get_data(Coded(*runs), return_raws=True)
    for raw, (run,) in zip(raws, runs, strict=True):
        first = max(kwargs.get("tmin", 0), run.length - kwargs["last"])
        assert raw.get_data()[0, 0] == pytest.approx(1e-6 * round(100 * first))
        assert raw.n_times == round(100 * (run.length - first))


def test_short_trial_is_named():
    corpus = Coded([make_trial(4, length=2.0)], [make_trial(5, length=0.5)])
    message = r"Trial 5 \(stimulus clip5\) offers 0.5 s .* window of 1 s"
    with pytest.raises(ValueError, match=message):
        Emotion(window=1.0, **AS_IS).get_data(corpus)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"window": 0}, "window must be a positive number, but got 0"),
        ({"stride": -1.0}, "stride must be a positive number, but got -1"),
        ({"tmin": -0.5}, "tmin must not lie before the trial, but got -0.5"),
        ({"target": "joy"}, r"target must be one of \('emotion', .* but got 'joy'"),
        (
            {"target": "valence", "n_classes": 4},
            "n_classes of the target 'valence' must be 2 or 3, but got 4",
        ),
        ({"fmin": 8, "fmax": 8}, "fmin must be less than fmax, but got fmin=8 and"),
        ({"tmin": 3, "tmax": 2}, "tmin must be less than tmax, but got tmin=3 and"),
        ({"window": "1"}, "window must be a positive number, but got '1'"),
        ({"window": True}, "window must be a positive number, but got True"),
        ({"resample": np.nan}, "resample must be a positive number, but got nan"),
        ({"threshold": "mean"}, 'threshold must be a number or "median", but got'),
        ({"last": 0}, "last must be a positive number, but got 0"),
        ({"last": 30, "tmax": 60}, "last and tmax cannot be combined, but got last=30"),
        ({"baseline": (0, -3)}, r"baseline\[0\] must be less than baseline\[1\]"),
        ({"baseline": 3}, r"baseline must be \(start, stop\) in s, but got 3"),
        ({"channels": "Fz"}, "channels must be a list of names, but got 'Fz'"),
        ({"channels": ["Fz", "Fz"]}, r"channels must be different, but got \['Fz'"),
        ({"picks": []}, r"picks must be a list of names, but got \[\]"),
        ({"picks": "eeg", "channels": ["Fz"]}, "channels and picks cannot be combined"),
        ({"standardize": True}, 'standardize must be None or "recording", but got'),
        (
            {"target": "quadrant", "n_classes": 2},
            "n_classes of the target 'quadrant' must be 4, but got 2",
        ),
        (
            {"n_classes": 3},
            "n_classes of the target 'emotion' must be left at None, but got 3",
        ),
        (
            {"features": "dfa"},
            r"features must be None, one of \['de', 'psd'\] or .*dfa",
        ),
        (
            {"features": 3},
            "features must have the methods transform and get_params .*, but got 3",
        ),
    ],
)
def test_constructor_rejects(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Emotion(**kwargs)


@pytest.mark.parametrize(
    ("sfreq", "n_times", "resample", "window", "shape"),
    [
        (128.0, 512, 200.0, 4.0, (1, 800)),
        (128.0, 512, 200.0, 1.0, (4, 200)),
        (200.0, 800, 128.0, 1.0, (4, 128)),
        (200.0, 801, 128.0, 1.0, (4, 128)),
        (250.0, 1000, 200.0, 0.5, (8, 100)),
    ],
)
def test_resample_gives_exact_counts(sfreq, n_times, resample, window, shape):
    corpus = Coded([make_trial(length=n_times / sfreq)], sfreq=sfreq)
    paradigm = Emotion(fmin=None, fmax=None, resample=resample, window=window)
    X, _, _ = paradigm.get_data(corpus)
    assert (X.shape[0], X.shape[2]) == shape


def test_resample_keeps_the_time_of_the_trial():
    corpus = Coded([make_trial(length=4.0, onset=3.0)], sfreq=128.0, tail=128)
    X, _, _ = Emotion(fmin=None, fmax=None, window=1.0).get_data(corpus)
    # The number of the sample grows by 128 a second, whatever the rate.
    middle = X[1:3, 0, 100]
    assert_allclose(middle, 128 * (3.0 + np.array([1.5, 2.5])), atol=1.0)


def test_seed_equals_its_files(seed_root):
    dataset = SEED(subjects=[2], sessions=[1], path=seed_root)
    X, _, metadata = Emotion(window=1.0, **AS_IS).get_data(dataset)
    runs = dataset.get_data()[2]["1"]
    assert X.shape == (15 * 4, 62, 200)
    for row, x in zip(metadata.itertuples(), X, strict=True):
        inside = slice(200 * row.window, 200 * row.window + 200)
        assert_allclose(x, 1e6 * runs[row.run].get_data()[:, inside], rtol=1e-12)
    assert 1 < X.std() < 1000  # microvolts


def test_deap_peripherals_keep_their_unit(deap_root):
    kwargs = {"subjects": [1], "path": deap_root}
    everything = DEAP(**kwargs, return_all_modalities=True)
    X, _, metadata = Emotion(window=4.0, **AS_IS).get_data(everything)
    assert X.shape == (40, 40, 512)
    raws = everything.get_data()[1]["0"]
    factor = np.array([1e6] * 36 + [1.0] * 4)[:, None]  # EEG, EOG and EMG in volts
    for run, x in zip(metadata["run"], X, strict=True):
        # The video starts after three seconds of baseline.
        assert_allclose(x, factor * raws[run].get_data()[:, 384:], rtol=1e-12)
    gsr = raws["00"].ch_names.index("GSR")
    # Changes in ohm, neither scaled nor filtered.
    assert np.abs(X[:, gsr]).max() > 1e3

    eeg, _, _ = Emotion(window=4.0, **AS_IS).get_data(DEAP(**kwargs))
    assert_array_equal(eeg, X[:, :32])
    filtered, _, _ = Emotion(window=4.0, resample=None).get_data(everything)
    assert_array_equal(filtered[:, 36:], X[:, 36:])
    assert not np.allclose(filtered[:, :32], X[:, :32])


@pytest.mark.parametrize("names", [["Cz", "Fz"], ["GSR", "Pz", "Cz"]])
def test_channels_by_name_in_order(names):
    corpus = Coded([make_trial()])
    X, _, _ = Emotion(window=1.0, channels=names, **AS_IS).get_data(corpus)
    signals = dict(
        zip(["Fz", "Cz", "Pz", "GSR"], corpus.signals(corpus.runs[0]), strict=True)
    )
    for position, name in enumerate(names):
        assert_allclose(X[:, position].ravel(), signals[name], rtol=1e-9, atol=1e-9)


def test_unknown_channel():
    paradigm = Emotion(window=1.0, channels=["Fz", "Foo"], **AS_IS)
    message = r"channels must be among \['Fz', .*, but \['Foo'\] are not"
    with pytest.raises(ValueError, match=message):
        paradigm.get_data(Coded([make_trial()]))


@pytest.mark.parametrize(
    ("picks", "names"),
    [
        ("eeg", ["Fz", "Cz", "Pz"]),
        (["gsr", "eeg"], ["Fz", "Cz", "Pz", "GSR"]),
        (["Pz", "GSR"], ["Pz", "GSR"]),
        ("gsr", ["GSR"]),
    ],
)
def test_picks_are_those_of_mne(picks, names):
    corpus = Coded([make_trial()])
    epochs, _, _ = Emotion(window=1.0, picks=picks, **AS_IS).get_data(
        corpus, return_epochs=True
    )
    assert epochs.ch_names == names
    assert Emotion(picks=picks, **AS_IS).get_info(Coded([make_trial()])).ch_names == (
        names
    )


def test_a_type_that_the_corpus_lacks_is_refused():
    """MNE silently leaves out a type that is missing among several."""
    message = r"picks must be among the channel types \['eeg', 'gsr'\] .*\['ecg'\] are"
    with pytest.raises(ValueError, match=message):
        Emotion(window=1.0, picks=["eeg", "ecg"], **AS_IS).get_data(
            Coded([make_trial()])
        )


@pytest.mark.parametrize("name", ["window", "stride", "tmin", "last", "resample"])
def test_an_integer_is_the_same_number(name):
    """One second and 1.0 seconds had two entries in the caches."""
    whole, real, numpy = (digest(**{name: kind(2)}) for kind in (int, float, np.int64))
    assert whole == real == numpy
    assert Emotion(**{name: np.float32(2)}).settings == Emotion(**{name: 2}).settings


def test_settings_make_the_same_paradigm():
    kwargs = {
        "target": "valence",
        "n_classes": np.int64(3),
        "last": 30,
        "picks": ("eeg", "gsr"),
        "baseline": [-3, 0],
        "standardize": "recording",
        "features": "de",
    }
    settings = Emotion(**kwargs, cache_dir="somewhere").settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings["last"] == 30.0 and settings["picks"] == ["eeg", "gsr"]
    again = Emotion(**settings)
    assert again.settings == settings
    corpus = DEAP()
    first, second = (
        repr(paradigm.make_process_pipelines(corpus)[0].get_params())
        for paradigm in (Emotion(**kwargs), again)
    )
    assert first == second


def test_baseline_subtracts_the_mean_of_the_interval(deap_root):
    dataset = DEAP(subjects=[1], path=deap_root, return_all_modalities=True)
    X, _, _ = Emotion(window=1.0, **AS_IS).get_data(dataset)
    Z, _, metadata = Emotion(window=1.0, baseline=(-3, 0), **AS_IS).get_data(dataset)
    raws = dataset.get_data()[1]["0"]
    for run, x, z in zip(metadata["run"], X, Z, strict=True):
        mean = 1e6 * raws[run].get_data()[:32, :384].mean(1, keepdims=True)
        assert_allclose(z[:32], x[:32] - mean, rtol=1e-9, atol=1e-9)
        assert_array_equal(z[32:], x[32:])


def test_baseline_of_neighbouring_trials():
    """The second trial's baseline was taken from what the first had subtracted."""
    corpus = Coded(lay_out([(100, 200), (20, 300), (0, 200)], 100))
    X, _, metadata = Emotion(window=1.0, **AS_IS).get_data(corpus)
    Z, _, _ = Emotion(window=1.0, baseline=(-1, -0.5), **AS_IS).get_data(corpus)
    signals = corpus.signals(corpus.runs[0])[:3]
    for trial, x, z in zip(metadata["trial"], X, Z, strict=True):
        onset = round(100 * corpus.runs[0][trial].onset)
        mean = signals[:, onset - 100 : onset - 50].mean(1, keepdims=True)
        assert_allclose(z, x - mean, atol=1e-6)


def test_baseline_outside_the_recording(seed_root):
    dataset = SEED(subjects=[1], sessions=[0], path=seed_root)
    message = r"baseline \(-3.0, 0.0\) s of trial 0 \(starts at 0 s\) leaves its rec"
    with pytest.raises(ValueError, match=message):
        Emotion(baseline=(-3, 0)).get_data(dataset)


# -- labels --------------------------------------------------------------------

SEED_VALENCE = [1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1]
NAMES = {1: "positive", 0: "neutral", -1: "negative"}


@pytest.mark.parametrize("target", ["emotion", "valence"])
def test_seed_labels(seed_root, target):
    dataset = SEED(subjects=[1], sessions=[0, 2], path=seed_root)
    n_classes = 3 if target == "valence" else None
    paradigm = Emotion(target, n_classes, **AS_IS)
    _, y, metadata = paradigm.get_data(dataset)
    expected = [NAMES[label] for label in SEED_VALENCE]
    assert y.tolist() == expected * 2 == metadata["emotion"].tolist()
    assert metadata["trial"].tolist() == list(range(15)) * 2
    codes = {"negative": 1, "neutral": 2, "positive": 3}
    assert paradigm.used_events(dataset) == codes


def test_seed_two_classes_leave_neutral_out(seed_root):
    dataset = SEED(subjects=[1], sessions=[0], path=seed_root)
    paradigm = Emotion("valence", **AS_IS)
    X, y, metadata = paradigm.get_data(dataset)
    kept = [trial for trial, label in enumerate(SEED_VALENCE) if label]
    assert metadata["trial"].tolist() == kept
    assert y.tolist() == [NAMES[SEED_VALENCE[trial]] for trial in kept]
    everything, _, _ = Emotion("valence", 3, **AS_IS).get_data(dataset)
    assert_array_equal(X, everything[kept])


def expected_label(target, n_classes, threshold, ratings):
    def level(name):
        cuts = (3, 6) if n_classes == 3 else (threshold,)
        return sum(ratings[name] > cut for cut in cuts)

    if target == "quadrant":
        return f"{'LH'[level('valence')]}V{'LH'[level('arousal')]}A"
    names = ["low", "high"] if n_classes == 2 else ["low", "medium", "high"]
    if target == "valence":
        middle = ["neutral"] * (n_classes == 3)
        names = ["negative", *middle, "positive"]
    return names[level(target)]


ALL_TARGETS = [
    (target, n_classes)
    for target in ("valence", "arousal", "dominance", "liking")
    for n_classes in (2, 3)
] + [("quadrant", 4)]


@pytest.mark.parametrize(("target", "n_classes"), ALL_TARGETS)
def test_deap_labels(deap_root, target, n_classes):
    dataset = DEAP(subjects=[2], path=deap_root)
    threshold = None if n_classes == 3 else 4.5
    paradigm = Emotion(target, n_classes, threshold=threshold, **AS_IS)
    _, y, metadata = paradigm.get_data(dataset)
    assert len(y) == 40
    for label, ratings in zip(y, metadata.to_dict("records"), strict=True):
        assert label == expected_label(target, n_classes, 4.5, ratings)
    assert set(y) <= set(paradigm.used_events(dataset))
    assert list(paradigm.used_events(dataset).values()) == [1, 2, 3, 4][:n_classes]


def test_deap_classes_are_the_quadrants(deap_root):
    dataset = DEAP(subjects=[1], path=deap_root)
    _, classes, metadata = Emotion(**AS_IS).get_data(dataset)
    _, quadrants, _ = Emotion("quadrant", **AS_IS).get_data(dataset)
    assert_array_equal(classes, quadrants)
    assert_array_equal(classes, metadata["emotion"])


@pytest.mark.parametrize("target", ["valence", "arousal", "dominance", "liking"])
def test_rating_at_a_cut_is_the_lower_class(target):
    ratings = [3.0, 3.01, 5.0, 5.01, 6.0, 6.01]
    trials = [[make_trial(i, rating=rating)] for i, rating in enumerate(ratings)]
    low, medium, high = (
        ("negative", "neutral", "positive")
        if target == "valence"
        else ("low", "medium", "high")
    )

    def labels(**kwargs):
        paradigm = Emotion(target, window=2.0, **kwargs, **AS_IS)
        return paradigm.get_data(Coded(*trials))[1]

    assert labels().tolist() == [low] * 3 + [high] * 3
    assert labels(threshold=3).tolist() == [low] + [high] * 5
    assert labels(n_classes=3).tolist() == [low] + [medium] * 4 + [high]


def test_quadrant_at_the_threshold():
    pairs = [(5, 5), (5, 5.1), (5.1, 5), (5.1, 5.1)]
    trials = [[make_trial(i, valence=v, arousal=a)] for i, (v, a) in enumerate(pairs)]
    _, y, _ = Emotion("quadrant", window=2.0, **AS_IS).get_data(Coded(*trials))
    assert y.tolist() == ["LVLA", "LVHA", "HVLA", "HVHA"]


def test_is_valid():
    seed, deap, imagery = SEED(), DEAP(), BNCI2014_001()
    valid = {target: (True, True) for target in ("emotion", "valence")}
    for target in ("arousal", "dominance", "liking", "quadrant"):
        valid[target] = (False, True)
    for target, expected in valid.items():
        paradigm = Emotion(target)
        assert (paradigm.is_valid(seed), paradigm.is_valid(deap)) == expected
        assert not paradigm.is_valid(imagery)
        codes = {dataset.code for dataset in paradigm.datasets}
        assert ("SEED" in codes, "DEAP" in codes) == expected


def test_refuses_a_corpus_without_the_target():
    with pytest.raises(ValueError, match="SEED has no target 'arousal'"):
        Emotion("arousal").get_data(SEED())


def test_no_labelled_trial(seed_root):
    class NeutralOnly(Coded):
        ratings = ()
        valence_of_class = {"calm": "neutral", "wild": "positive"}  # noqa: RUF012

    trial = Trial(0, "clip0", "calm", 2.0)
    message = r"No trial of subjects \[1\] of Coded has a label .* 'valence' with 2"
    with pytest.raises(ValueError, match=message):
        Emotion("valence", window=1.0, **AS_IS).get_data(NeutralOnly([trial]))
    _, y, _ = Emotion("valence", 3, window=1.0, **AS_IS).get_data(NeutralOnly([trial]))
    assert y.tolist() == ["neutral"] * 2


def test_scoring():
    assert Emotion().scoring == "accuracy"
    assert Emotion(scorer="balanced_accuracy").scoring == "balanced_accuracy"


# -- metadata ------------------------------------------------------------------

KEYS = ["subject", "session", "run", "trial", "window", "stimulus"]


def test_metadata_of_seed(seed_root):
    dataset = SEED(subjects=[1, 10], path=seed_root)
    X, y, metadata = Emotion(window=2.0, stride=1.0, **AS_IS).get_data(dataset)
    assert set(metadata) == {*KEYS, "corpus", "length", "emotion"}
    assert len(X) == len(y) == len(metadata) == 2 * 3 * 15 * 3
    assert_array_equal(metadata.index, np.arange(len(metadata)))
    assert set(metadata["corpus"]) == {"SEED"} and set(metadata["length"]) == {4.0}
    assert_array_equal(metadata["run"], [f"{t:02d}" for t in metadata["trial"]])
    assert_array_equal(
        metadata["stimulus"], [f"{t + 1:02d}" for t in metadata["trial"]]
    )
    assert not metadata.duplicated(["subject", "session", "trial", "window"]).any()
    data = dataset.get_data()
    for row, x in zip(metadata.itertuples(), X, strict=True):
        raw = data[row.subject][row.session][row.run]
        inside = slice(200 * row.window, 200 * row.window + 400)
        assert_allclose(x[::20], 1e6 * raw.get_data()[::20, inside], rtol=1e-12)


def test_metadata_of_deap(deap_root):
    dataset = DEAP(subjects=[1, 2], path=deap_root)
    X, y, metadata = Emotion("arousal", window=2.0, **AS_IS).get_data(dataset)
    ratings = ["valence", "arousal", "dominance", "liking"]
    details = ["familiarity", "start"]
    assert set(metadata) == {*KEYS, "corpus", "length", "emotion", *ratings, *details}
    assert len(X) == len(y) == len(metadata) == 2 * 40 * 2
    assert set(metadata[ratings].dtypes) == {np.dtype(float)}
    assert_array_equal(y == "high", metadata["arousal"] > 5)
    for (subject, run), rows in metadata.groupby(["subject", "run"]):
        assert rows["window"].tolist() == [0, 1]
        extras = dataset.get_data([subject])[subject]["0"][run].annotations.extras
        (trial,) = [extra for extra in extras if extra]
        for name, value in trial.items():
            assert (rows[name] == value).all()
        if run == "03":
            break


def test_metadata_of_a_run_with_several_trials():
    trials = lay_out([(5, 250), (30, 120), (0, 300)], 100)
    X, _, metadata = Emotion(window=1.0, **AS_IS).get_data(Coded(trials))
    assert metadata["trial"].tolist() == [0, 0, 1, 2, 2, 2]
    assert metadata["window"].tolist() == [0, 1, 0, 0, 1, 2]
    assert metadata["length"].tolist() == [2.5, 2.5, 1.2, 3.0, 3.0, 3.0]
    assert_array_equal(metadata["stimulus"], [f"clip{t}" for t in metadata["trial"]])
    assert_array_equal(X[:, 1, 0].round(6), metadata["trial"])


def test_epochs(seed_root):
    dataset = SEED(subjects=[1], sessions=[0, 1], path=seed_root)
    paradigm = Emotion(window=1.0, channels=["Cz", "Fz"], features="de", **AS_IS)
    epochs, y, metadata = paradigm.get_data(dataset, return_epochs=True)
    array = Emotion(window=1.0, channels=["Cz", "Fz"], **AS_IS).get_data(dataset)
    assert isinstance(epochs, mne.BaseEpochs)
    assert epochs.ch_names == ["Cz", "Fz"] and epochs.info["sfreq"] == 200
    assert_allclose(epochs.get_data() * 1e6, array[0], rtol=1e-12)
    assert_array_equal(y, array[1])
    pd.testing.assert_frame_equal(metadata, array[2])
    pd.testing.assert_frame_equal(epochs.metadata, metadata, check_dtype=False)
    codes = {code: name for name, code in dataset.event_id.items()}
    assert [codes[code] for code in epochs.events[:, 2]] == y.tolist()


def test_raws(seed_root):
    dataset = SEED(subjects=[1], sessions=[0], path=seed_root)
    raws, y, metadata = Emotion("valence").get_data(dataset, return_raws=True)
    kept = [trial for trial, label in enumerate(SEED_VALENCE) if label]
    assert len(raws) == len(y) == 10 and metadata["trial"].tolist() == kept
    assert y.tolist() == metadata["emotion"].tolist()
    assert "window" not in metadata
    for raw, row in zip(raws, metadata.itertuples(), strict=True):
        assert isinstance(raw, mne.io.BaseRaw) and raw.info["highpass"] == 0.5
        assert raw.annotations.extras[0]["stimulus"] == row.stimulus
    with pytest.raises(ValueError, match="not for both"):
        Emotion().get_data(dataset, return_raws=True, return_epochs=True)


def test_additional_metadata(deap_root):
    dataset = DEAP(subjects=[1], path=deap_root)
    paradigm = Emotion(**AS_IS)
    _, _, everything = paradigm.get_data(dataset)
    _, _, metadata = paradigm.get_data(dataset, additional_metadata="all")
    pd.testing.assert_frame_equal(metadata, everything)
    _, _, metadata = paradigm.get_data(dataset, additional_metadata=["trial", "liking"])
    assert list(metadata) == ["subject", "session", "run", "trial", "liking"]
    pd.testing.assert_frame_equal(metadata, everything[list(metadata)])


def test_subjects(seed_root):
    dataset = SEED(sessions=[0], path=seed_root)
    _, _, metadata = Emotion(**AS_IS).get_data(dataset, subjects=(10, 2))
    assert metadata["subject"].unique().tolist() == [10, 2]


# -- features ------------------------------------------------------------------


class Spy(TransformerMixin, BaseEstimator):
    """Remember what was seen at a time."""

    seen = ()

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit(self, X, y=None):
        raise AssertionError("features must not be fitted")

    def transform(self, X):
        Spy.seen = (*Spy.seen, X)
        return self.factor * X.mean(axis=-1)


def test_features_are_differential_entropy(seed_root):
    dataset = SEED(subjects=[1], sessions=[0], path=seed_root)
    X, y, metadata = Emotion(window=2.0).get_data(dataset)
    features, labels, rows = Emotion(window=2.0, features="de").get_data(dataset)
    expected = DifferentialEntropy(200.0, flatten=False).transform(X)
    assert_allclose(features, expected, rtol=1e-12)
    assert features.shape == (30, 62, 5)
    assert_array_equal(labels, y)
    pd.testing.assert_frame_equal(rows, metadata)


def test_features_do_not_depend_on_the_output_of_scikit_learn(seed_root):
    """Under transform_output="pandas" the message was "not fitted yet"."""
    paradigm = Emotion(window=2.0, features="de")
    with config_context(transform_output="pandas"):
        X, _, _ = paradigm.get_data(SEED([1], [0], path=seed_root))
    assert_array_equal(X, paradigm.get_data(SEED([1], [0], path=seed_root))[0])


def test_features_know_the_sampling_rate(deap_root):
    dataset = DEAP(subjects=[1], path=deap_root)
    X, _, _ = Emotion(window=4.0, **AS_IS).get_data(dataset)
    features, _, _ = Emotion(window=4.0, features="de", **AS_IS).get_data(dataset)
    expected = DifferentialEntropy(128.0, flatten=False).transform(X)
    assert_allclose(features, expected, rtol=1e-12)


def test_features_run_by_run(monkeypatch):
    monkeypatch.setattr(Spy, "seen", ())
    runs = [lay_out([(0, 250), (10, 100)], 100), [make_trial(2, length=3.0)]]
    paradigm = Emotion(window=1.0, features=Spy(factor=2.0), **AS_IS)
    features, _, metadata = paradigm.get_data(Coded(*runs))
    assert [len(X) for X in Spy.seen] == [3, 3]
    X, _, _ = Emotion(window=1.0, **AS_IS).get_data(Coded(*runs))
    assert_array_equal(np.concatenate(Spy.seen), X)
    assert_allclose(features, 2 * X.mean(-1))
    assert metadata["trial"].tolist() == [0, 0, 1, 2, 2, 2]


def test_postprocess_pipeline_follows_the_features():
    corpus = Coded([make_trial()], [make_trial(1)])
    negate = FunctionTransformer(np.negative)
    paradigm = Emotion(window=1.0, features=Spy(), **AS_IS)
    X, _, _ = paradigm.get_data(corpus)
    Z, _, _ = paradigm.get_data(corpus, postprocess_pipeline=negate)
    assert_array_equal(Z, -X)


# -- caches --------------------------------------------------------------------


def digest(dataset=None, return_epochs=False, **kwargs):
    paradigm = Emotion(**{"target": "valence", **kwargs})
    (process,) = paradigm.make_process_pipelines(
        DEAP() if dataset is None else dataset, return_epochs=return_epochs
    )
    return get_pipeline_digest(process, LogisticRegression())


CHANGES = {
    "target": {"target": "arousal"},
    "n_classes": {"n_classes": 3},
    "threshold": {"threshold": 4.999},
    "ties": {"ties": "high"},
    "dropped ties": {"ties": "drop"},
    "margin": {"margin": 0.5},
    "label_source": {"label_source": "self-report"},
    "fmin": {"fmin": 0.6},
    "fmax": {"fmax": 50.0},
    "no filter": {"fmin": None, "fmax": None},
    "window": {"window": 4.001},
    "stride": {"stride": 3.0},
    "tmin": {"tmin": 0.01},
    "tmax": {"tmax": 55.0},
    "last": {"last": 30.0},
    "shorter last": {"last": 29.0},
    "baseline": {"baseline": (-3, 0)},
    "baseline end": {"baseline": (-3, -1)},
    "channels": {"channels": ["Fz", "Cz"]},
    "channel order": {"channels": ["Cz", "Fz"]},
    "picks": {"picks": "eog"},
    "several picks": {"picks": ["eeg", "eog"]},
    "resample": {"resample": 128.0},
    "no resample": {"resample": None},
    "features": {"features": "de"},
    "transformer": {"features": Spy()},
    "its parameter": {"features": Spy(2.0)},
    "standardize": {"standardize": "recording"},
    "scorer": {"scorer": "balanced_accuracy"},
    "dataset": {"dataset": SEED()},
    "modalities": {"dataset": DEAP(return_all_modalities=True)},
}
OF_ARRAYS = {"features", "transformer", "its parameter"}


@pytest.mark.parametrize("return_epochs", [False, True])
def test_every_parameter_is_in_the_digest(return_epochs):
    """The scorer was not, so that a metric returned the scores of another one."""
    changes = {
        name: kwargs
        for name, kwargs in CHANGES.items()
        if not (return_epochs and name in OF_ARRAYS)
    }
    digests = {
        name: digest(return_epochs=return_epochs, **kwargs)
        for name, kwargs in {"default": {}, **changes}.items()
    }
    names = list(digests)
    for position, name in enumerate(names):
        for other in names[:position]:
            assert digests[name] != digests[other], (name, other)


def test_changes_name_every_parameter():
    names = [*inspect.signature(Emotion).parameters]
    assert set(names) - {"cache_dir"} <= set(CHANGES)
    assert set(Emotion().settings) == set(names) - {"cache_dir"}


def test_another_copy_of_a_corpus_has_another_digest(tmp_path):
    """The scores of a replica came back as those of the corpus itself."""
    subjects = [1, 2]
    digests = {
        digest(DEAP(subjects, path=tmp_path / "replica")),
        digest(DEAP(subjects, path=tmp_path / "corpus")),
        digest(DEAP([1, 2, 3], path=tmp_path / "corpus")),
        digest(DEAP(subjects, [0], path=tmp_path / "corpus")),
    }
    assert len(digests) == 4


def test_scores_of_one_copy_are_not_returned_for_another(deap_root, tmp_path):
    other = write_replica("DEAP", tmp_path, subjects=[1, 2], seconds=2, seed=1)
    n_windows = []
    for root in (deap_root, other):
        evaluation = CrossSubjectEvaluation(
            Emotion("valence", window=1.0, features="de"),
            [DEAP([1, 2], path=root)],
            hdf5_path=tmp_path,
        )
        results = evaluation.process({"dummy": DummyClassifier()})
        n_windows += results["samples_test"].tolist()
    # Two classes of 40 trials, of four seconds in one copy, of two in the other.
    assert n_windows == [160, 160, 80, 80]


def test_large_arrays_of_a_transformer_are_in_the_digest():
    """Numpy shortens what it prints of an array, and MOABB looks at what is printed."""
    weights = np.zeros((62, 62))
    first = digest(features=FunctionTransformer(np.dot, kw_args={"b": weights}))
    changed = weights.copy()
    changed[30, 30] = 1
    other = digest(features=FunctionTransformer(np.dot, kw_args={"b": changed}))
    assert first != other
    with pytest.raises(ValueError, match="instead of a lambda"):
        digest(features=FunctionTransformer(lambda x: x))


def test_long_parameters_are_not_cut_short():
    names = [f"channel number {number}" for number in range(64)]
    other = [*names[:32], "another one", *names[33:]]
    assert digest(channels=names) != digest(channels=other)


@pytest.mark.parametrize("name", CHANGES)
def test_equal_parameters_give_an_equal_digest(name):
    kwargs = dict(CHANGES[name])
    first = digest(**kwargs)
    if isinstance(kwargs.get("features"), Spy):
        kwargs["features"] = Spy(kwargs["features"].factor)
    assert first == digest(**kwargs)


def test_no_memory_address_in_the_representation():
    features = FunctionTransformer(np.log)
    paradigm = Emotion(features=features, scorer=np.mean)
    (process,) = paradigm.make_process_pipelines(DEAP(), postprocess_pipeline=Spy())
    assert not re.search(r"0x[0-9a-f]{6}", repr(process.get_params()["steps"]))


@pytest.mark.parametrize("step", ["raw", "epochs", "array"])
@pytest.mark.parametrize("corpus", ["SEED", "DEAP"])
def test_disk_cache(corpus, step, seed_root, deap_root, tmp_path, monkeypatch):
    cls, root = {"SEED": (SEED, seed_root), "DEAP": (DEAP, deap_root)}[corpus]
    kwargs = {"subjects": [1], "sessions": [0], "path": root}
    paradigm = Emotion(
        "valence", window=1.0, fmin=None, fmax=None, channels=["Fz", "O1"]
    )
    config = {f"save_{step}": True, "use": True, "path": tmp_path}
    X, y, metadata = paradigm.get_data(cls(**kwargs))
    fresh = paradigm.get_data(cls(**kwargs), cache_config=config)
    monkeypatch.setattr(cls, "_read_recording", None)  # a cached call must not read
    cached = paradigm.get_data(cls(**kwargs), cache_config=config)
    # MOABB keeps raws as 16-bit integers, epochs in single precision.
    atol = {"raw": 0.01, "epochs": 1e-4, "array": 0}[step]
    for other in (fresh, cached):
        assert_allclose(other[0], X, rtol=0, atol=atol)
        assert_array_equal(other[1], y)
        pd.testing.assert_frame_equal(other[2], metadata)


# -- raws ----------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0, 30])
def test_each_labelled_trial_is_a_raw_of_its_own(gap):
    """Runs of several trials gave one raw, but the labels and rows of all trials."""
    runs = [lay_out([(gap, 250), (gap, 120), (gap, 300)], 100), [make_trial(3)]]
    paradigm = Emotion(tmin=0.2, tmax=2.0, **AS_IS)
    raws, y, metadata = paradigm.get_data(Coded(*runs, tail=50), return_raws=True)
    assert len(raws) == len(y) == len(metadata) == 4
    assert metadata["trial"].tolist() == [0, 1, 2, 3]
    assert metadata["run"].tolist() == ["00", "00", "00", "01"]
    starts = [gap, 2 * gap + 250, 3 * gap + 370, 0]
    stops = [200, 120, 200, 200]
    for number, (raw, start, stop) in enumerate(zip(raws, starts, stops, strict=True)):
        index, code, _ = 1e6 * raw.get_data()
        assert_array_equal(index.round(6), np.arange(start + 20, start + stop))
        assert_array_equal(code.round(6), number)
        (annotation,) = raw.annotations
        assert annotation["onset"] == 0
        assert annotation["duration"] == pytest.approx((stop - 20) / 100)
        assert annotation["extras"]["stimulus"] == f"clip{number}"
    with pytest.raises(ValueError, match=r"Trial 1 .* is selected by tmin=1.5"):
        Emotion(tmin=1.5, **AS_IS).get_data(Coded(*runs), return_raws=True)


RAW_CASES = {
    "SEED": (SEED, {"sessions": [0, 1]}, {"sessions": [0, 1]}),
    "SEED-IV": (SEED_IV, {"sessions": [1]}, {"sessions": [1]}),
    "DEAP": (DEAP, {}, {}),
    "DEAP original": (DEAP, {"variant": "bdf"}, {"source": "original"}),
    "MAHNOB-HCI": (MAHNOB_HCI, {}, {}),
}


@pytest.mark.parametrize("case", RAW_CASES)
def test_raws_are_what_windows_are_cut_from(case, tmp_path):
    cls, options, kwargs = RAW_CASES[case]
    write_replica(cls.code_name, tmp_path, subjects=[1], seconds=1, seed=0, **options)
    dataset = cls([1], path=tmp_path, **kwargs)
    paradigm = Emotion("valence", window=1.0)
    X, y, metadata = paradigm.get_data(dataset)
    raws, labels, rows = paradigm.get_data(dataset, return_raws=True)
    assert set(metadata["window"]) == {0}  # one window is the whole trial
    assert_array_equal(labels, y)
    pd.testing.assert_frame_equal(rows, metadata.drop(columns="window"))
    for raw, x in zip(raws, X, strict=True):
        assert_allclose(1e6 * raw.get_data(), x, rtol=1e-9)
