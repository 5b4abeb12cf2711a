"""The audit: leaking splits are caught by name, all protocols pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from moabb.evaluations import (
    CrossSubjectEvaluation,
    WithinSessionEvaluation,
    WithinSubjectEvaluation,
)
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from braindecode_emossl.datasets import DEAP, SEED, write_replica
from braindecode_emossl.evaluation import PROTOCOLS, audit
from braindecode_emossl.evaluation.audit import _sample
from braindecode_emossl.paradigms import Emotion
from tests.evaluation.conftest import Toy

ONE_CORPUS = [name for name, p in PROTOCOLS.items() if not p.across_corpora]


class ScaleByRun(TransformerMixin, BaseEstimator):
    """Log-power of the windows, standardised over the run they come from."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        power = X.std(axis=-1)
        return (power - power.mean(axis=0)) / power.std(axis=0)


class Power(ScaleByRun):
    """The same without a scaler."""

    def transform(self, X):
        return X.std(axis=-1)


@pytest.mark.parametrize("protocol", ONE_CORPUS)
def test_protocols_pass(protocol, toy, paradigm, options_of):
    report = audit(paradigm, toy, protocol, random_state=0, **options_of(protocol))
    assert report.passed and not report.leaks, report
    assert report.chance == 0.5
    assert abs(report.score - 0.5) < 0.02
    shared = {
        "within-session": {"session", "subject"},
        "chronological": {"session", "subject"},
        "cross-session": {"subject"},  # the sessions have films of their own
        "leave-one-subject-out": {"stimulus"},
        "subject-kfold": {"stimulus"},
        "subject-split": {"stimulus"},
        "subject-calibration": {"stimulus", "session", "subject"},
        "subject-stimulus": set(),
    }[protocol]
    fractions = dict.fromkeys(shared, 1.0)
    if protocol == "subject-calibration":  # 4 of 10 trials are of the first session
        fractions["session"] = 0.4
    assert report.shared == pytest.approx(fractions)


@pytest.mark.parametrize("protocol", ["cross-corpus", "cross-corpus-finetune"])
def test_protocols_over_corpora_pass(protocol, toy, toy_b, paradigm):
    report = audit(paradigm, [toy, toy_b], protocol, random_state=0)
    assert report.passed, report
    calibrated = protocol == "cross-corpus-finetune"
    assert set(report.shared) == ({"session", "subject"} if calibrated else set())


@pytest.mark.parametrize("protocol", ["leave-one-subject-out", "within-session"])
def test_seed(protocol, seed_root):
    corpus = SEED([1, 2], sessions=[0], path=seed_root)
    report = audit(Emotion(window=1.0, features="de"), corpus, protocol, random_state=0)
    assert report.passed, report


def test_stock_evaluation_on_seed(seed_root):
    corpus = SEED([1], sessions=[0], path=seed_root)
    paradigm = Emotion(window=1.0, features="de")
    report = audit(paradigm, corpus, WithinSessionEvaluation, random_state=0)
    assert not report.passed and "trial" in report.leaks
    assert report.score > 0.9 and report.interval[0] > report.chance


@pytest.mark.parametrize(
    "protocol",
    [
        WithinSessionEvaluation,
        WithinSubjectEvaluation,
        StratifiedKFold(3, shuffle=True, random_state=0),
    ],
)
def test_shuffled_windows_are_caught(protocol, toy, paradigm):
    report = audit(paradigm, toy, protocol, random_state=0)
    assert not report.passed
    assert report.leaks == ("trial",)
    assert report.score > 0.8 and report.interval[0] > report.chance
    assert "LEAKS trial" in str(report)


@pytest.mark.parametrize("features", ["de", None])
def test_overlapping_windows_are_caught(features, toy, fast):
    paradigm = Emotion(**fast | {"features": features}, stride=0.5)
    windows = KFold(4, shuffle=True, random_state=0)
    report = audit(paradigm, toy, windows, random_state=0)
    assert report.leaks == ("window overlap", "trial")
    assert report.score > 0.9
    whole = audit(paradigm, toy, GroupKFold(4), random_state=0, groups="trial")
    assert whole.passed and whole.shared.keys() == {"session", "subject"}


def test_scalers_are_caught(toy, fast):
    """Neither the split nor the score shows that trials of one run share a scaler."""
    leaky = Emotion(**fast | {"features": ScaleByRun()})
    report = audit(leaky, toy, "chronological", random_state=0)
    assert report.leaks == ("scaler statistics",)
    assert not report.passed
    assert report.shared["scaler statistics"] > 0.9
    sound = Emotion(**fast | {"features": Power()})
    assert audit(sound, toy, "chronological", random_state=0).passed


def test_standardised_recordings_are_reported(toy, fast):
    """Trials of a recording share its mean and variance; no label is involved."""
    paradigm = Emotion(**fast, standardize="recording")
    report = audit(paradigm, toy, "leave-one-subject-out", random_state=0)
    assert report.shared["recording statistics"] == 1.0
    assert "scaler statistics" not in report.shared
    assert report.passed


def test_interval_holds_chance(toy, paradigm):
    """Of a sound protocol, over many seeds; the score itself hardly leaves chance."""
    reports = [
        audit(paradigm, toy, CrossSubjectEvaluation, random_state=seed)
        for seed in range(8)
    ]
    assert all(report.passed for report in reports)
    assert len({report.score for report in reports}) == len(reports)
    for report in reports:
        low, high = report.interval
        assert low < report.score < high
        assert abs(report.score - report.chance) < 0.02


def test_same_seed_same_report(toy, paradigm):
    first, second, other = (
        audit(paradigm, toy, "chronological", random_state=seed) for seed in (1, 1, 2)
    )
    assert first == second != other


def test_the_corpus_itself_stays(toy, paradigm):
    X = paradigm.get_data(toy)[0]
    audit(paradigm, toy, "chronological", random_state=0)
    assert (paradigm.get_data(toy)[0] == X).all()


def test_one_recording_is_read(toy, paradigm, monkeypatch):
    """All signals of the corpus were read twice, only to be overwritten."""
    sessions = []
    read = type(toy)._read_recording

    def count(self, file, session):
        sessions.append(file.name)
        return read(self, file, session)

    monkeypatch.setattr(type(toy), "_read_recording", count)
    assert audit(paradigm, toy, "leave-one-subject-out", random_state=0).passed
    assert set(sessions) == {"1_0.eeg"}


def test_neighbours_are_sampled_by_trial():
    """Neighbours among all windows cost the square of their number."""
    trials = np.repeat([0, 1, 2], [100, 7, 45])
    rows = np.setdiff1d(np.arange(152), [0, 3])
    kept = _sample(rows, trials)
    assert set(kept) <= set(rows)
    assert np.bincount(trials[kept]).tolist() == [20, 7, 20]
    assert np.diff(kept[:20]).max() <= 6  # spread over the trial


def test_released_features_are_refused(seed_root):
    paradigm = Emotion(window=1.0, features="released:de_LDS")
    with pytest.raises(ValueError, match="computes features from noise"):
        audit(paradigm, SEED([1, 2], path=seed_root), "leave-one-subject-out")


class Undecided(Toy):
    """The ratings of subject 10 lie on the midpoint."""

    def _read_trials(self, file, session):
        runs = super()._read_trials(file, session)
        if not file.name.startswith("10_"):
            return runs
        ratings = dict.fromkeys(self.ratings, self.rating_midpoint)
        return {k: [replace(t, ratings=ratings) for t in v] for k, v in runs.items()}


def test_subjects_without_a_label(make_toy, fast):
    """Loading such a subject by itself is an error, but the others can be audited."""
    paradigm, corpus = Emotion("valence", **fast, ties="drop"), make_toy(Undecided)
    with pytest.raises(ValueError, match="has a label"):
        paradigm.get_data(corpus, subjects=[10])
    report = audit(paradigm, corpus, "leave-one-subject-out", random_state=0)
    assert report.passed and report.shared == {"stimulus": 1.0}


def test_readable(toy, paradigm):
    text = str(audit(paradigm, toy, "chronological", random_state=0))
    assert text.startswith("chronological: passed. A nearest neighbour")
    assert "chance is 0.500" in text and "session (100%), subject (100%)" in text


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("loso", {}, "protocol must be one of"),
        (3, {}, "name of a protocol, a cross-validator or an evaluation .*got 3"),
        (KFold(2), {"groups": "film"}, "groups must be among .*'film'"),
        (KFold(2), {"n_splits": 2}, r"no option but groups.*n_splits"),
        (
            "chronological",
            {"n_splits": 2},
            r"among \['adapt', 'train_size'\].*n_splits",
        ),
    ],
)
def test_refused(protocol, options, message, toy, paradigm):
    """The message was KeyError: 'film'."""
    with pytest.raises(ValueError, match=message):
        audit(paradigm, toy, protocol, **options)


def test_several_corpora(toy, toy_b, paradigm):
    with pytest.raises(ValueError, match="one corpus at a time"):
        audit(paradigm, [toy, toy_b], "chronological")
    with pytest.raises(ValueError, match="corpus of this package"):
        audit(paradigm, [toy], KFold(2))


def test_the_cache_of_features_is_left_alone(seed_root, tmp_path):
    """The noise of the audit was cached as the corpus's own features, and read back."""
    paradigm = Emotion(window=1.0, features="de", cache_dir=tmp_path / "cache")
    dataset = SEED([1, 2], sessions=[0], path=seed_root)
    report = audit(paradigm, dataset, "leave-one-subject-out", random_state=0)
    assert not (tmp_path / "cache").exists()
    X, _, _ = paradigm.get_data(dataset)
    again = audit(paradigm, dataset, "leave-one-subject-out", random_state=0)
    assert again == report
    assert_array_equal(X, Emotion(window=1.0, features="de").get_data(dataset)[0])


def test_what_recognising_the_stimulus_is_worth(seed_root):
    """Leaving out subjects, all saw the same films: chance by trial, not by film."""
    paradigm = Emotion(window=1.0, features="de")
    dataset = SEED([1, 2], sessions=[0], path=seed_root)
    shared = audit(paradigm, dataset, "leave-one-subject-out", random_state=0)
    assert shared.passed and shared.stimulus_score > shared.chance + 0.2
    apart = audit(paradigm, dataset, "subject-stimulus", random_state=0)
    assert apart.stimulus_score == pytest.approx(apart.chance, abs=0.03)
    assert f"{shared.stimulus_score:.3f}" in str(shared)


def test_filters_that_ring_are_no_shared_statistics(tmp_path):
    """Close trials of one recording hear each other at their ends: it said LEAKS."""
    root = write_replica(
        "DEAP", tmp_path, subjects=[1], seconds=4, seed=0, variant="bdf"
    )
    dataset = DEAP([1], path=root, source="original")
    paradigm = Emotion("valence", window=1.0, features="de")
    assert audit(paradigm, dataset, "within-session", random_state=0).passed
