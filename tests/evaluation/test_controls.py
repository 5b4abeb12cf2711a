"""Controls: what each changes and keeps, and how they are compared with results."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mne.decoding import Vectorizer
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from braindecode_emossl.evaluation import (
    PROTOCOLS,
    FoldData,
    compare_pipelines,
    controls,
    evaluate,
    read_evaluations,
    read_predictions,
    summarize_controls,
    summarize_results,
    with_baselines,
)
from braindecode_emossl.evaluation.controls import find_controls, list_controls
from braindecode_emossl.evaluation.folds import group_ids
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.report import write_report
from braindecode_emossl.visualization import plot_benchmark

SFREQ = 128.0
LOSO = PROTOCOLS["leave-one-subject-out"]
DE = "DE + logistic regression"


class Counting(ClassifierMixin, BaseEstimator):
    """Count the fits; predict the first class."""

    n_fits = 0

    def fit(self, X, y):
        type(self).n_fits += 1
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


@pytest.fixture(autouse=True)
def forget():
    Counting.n_fits = 0


def make_fold(seed=0, *, n_times=64, dtype="float64", test=3, same_labels=True):
    """Return a fold of three subjects, six stimuli, and one to four windows a trial."""
    rng = np.random.default_rng(seed)
    rows = []
    for subject in (1, 2, 3):
        labels = np.array(["calm", "wild"])[np.arange(6) % 2]
        labels = labels if same_labels else rng.permutation(labels)
        for trial in range(6):
            for window in range(rng.integers(1, 5)):
                rows.append((subject, trial, f"clip{trial}", window, labels[trial]))
    columns = ["subject", "trial", "stimulus", "window", "label"]
    table = pd.DataFrame(rows, columns=columns).assign(corpus="Toy", session="0")
    is_test = (table["subject"] == test).to_numpy()
    return FoldData(
        train=np.flatnonzero(~is_test),
        test=np.flatnonzero(is_test),
        X=rng.standard_normal((len(table), 4, n_times)).astype(dtype),
        y=table.pop("label").to_numpy(str),
        metadata=table,
        sfreq=SFREQ,
    )


def run(control, fold, **options):
    """Return the folds of a control with a fixed generator."""
    return list(control(fold, np.random.default_rng(0), **options))


def windows_of(fold, rows=None):
    """Return the windows that a pipeline receives."""
    rows = np.arange(len(fold.X)) if rows is None else rows
    return fold.change(fold.X[rows], rows)


def spectra_of(X):
    """Return the auto-spectra and cross-spectra of each window."""
    Z = np.fft.rfft(X.astype(np.float64), axis=-1)
    return np.einsum("nct,ndt->ncdt", Z, Z.conj())


# -- permuted labels -----------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), same_labels=st.booleans())
def test_permuted_labels_keep_trials_and_class_counts(seed, same_labels):
    fold = make_fold(seed, same_labels=same_labels)
    made = run(controls.permuted_labels, fold, n_permutations=3)
    assert [changed.part for changed in made] == ["0", "1", "2"]
    for changed in made:
        assert_array_equal(changed.y[fold.test], fold.y[fold.test])
        before, after = (
            fold.metadata.assign(y=y).groupby(["subject", "trial"])["y"]
            for y in (fold.y, changed.y)
        )
        assert (after.nunique() == 1).all()
        counts = [
            labels.first().groupby("subject").value_counts().sort_index()
            for labels in (before, after)
        ]
        pd.testing.assert_series_equal(*counts)


def test_permutations_differ_and_are_the_same_in_all_folds():
    """Folds of one permutation must lean the same way, or the null is too narrow."""
    first, second = make_fold(test=3), make_fold(test=1)
    made = [run(controls.permuted_labels, fold) for fold in (first, second)]
    assert len({tuple(changed.y) for changed in made[0]}) > 10
    both = (first.metadata["subject"] == 2).to_numpy()
    for one, other in zip(*made, strict=True):
        assert_array_equal(one.y[both], other.y[both])


def test_calibration_and_validation_labels_are_permuted():
    """Real labels of the test subject would tell the classes of the test set."""
    fold = make_fold()
    tested = fold.metadata.iloc[fold.test]["trial"].to_numpy() < 2
    validated = fold.metadata.iloc[fold.train]["subject"].to_numpy() == 1
    fold = replace(
        fold,
        calibration=fold.test[tested],
        test=fold.test[~tested],
        validation=fold.train[validated],
        train=fold.train[~validated],
    )
    made = run(controls.permuted_labels, fold)
    for rows in (fold.calibration, fold.validation):
        assert any((changed.y[rows] != fold.y[rows]).any() for changed in made)
    assert all((c.y[fold.test] == fold.y[fold.test]).all() for c in made)


def test_more_permutations_begin_with_the_same():
    fold = make_fold()
    few, many = (
        find_controls([("permuted-labels", {"n_permutations": n})], LOSO, False)[0]
        for n in (2, 4)
    )
    for one, other in zip(few.change(fold, 7), many.change(fold, 7), strict=False):
        assert_array_equal(one.y, other.y)


# -- an injected signal --------------------------------------------------------


@pytest.mark.parametrize("snr", [0.2, 2.0])
def test_injected_oscillation_has_the_stated_snr_and_frequency(snr):
    fold = make_fold(n_times=1280)
    (changed,) = run(controls.injected_signal, fold, snr=snr)
    added = windows_of(changed) - fold.X
    noise = fold.X.std(axis=-1)
    ratio = added.std(axis=-1) / noise
    # The root mean square over channels, up to the last incomplete period.
    assert_allclose(np.sqrt((ratio**2).mean(axis=1)), snr, rtol=0.01)
    peaks = np.abs(np.fft.rfft(added[:, 0])).argmax(axis=1) * SFREQ / 1280
    expected = np.where(fold.y == "calm", 6.0, 30.0)
    assert_allclose(peaks, expected, atol=SFREQ / 1280)


def test_injected_signal_leaves_unlabeled_windows():
    fold = make_fold()
    fold = replace(fold, y=np.where(np.arange(len(fold.y)) < 5, "unlabeled", fold.y))
    for are_features in (False, True):
        (changed,) = run(
            controls.injected_signal, replace(fold, are_features=are_features)
        )
        is_same = (windows_of(changed) == fold.X).all(axis=(1, 2))
        assert_array_equal(np.flatnonzero(is_same), np.arange(5))


def test_injected_pattern_of_features_has_the_stated_size():
    fold = replace(make_fold(), are_features=True)
    (changed,) = run(controls.injected_signal, fold, snr=0.5)
    added = (windows_of(changed) - fold.X) / fold.X[fold.train].std(axis=0)
    assert_allclose(np.sqrt((added**2).mean(axis=(1, 2))), 0.5)
    for label in ("calm", "wild"):
        assert np.ptp(added[fold.y == label], axis=0).max() < 1e-12


# -- time and phase ------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(n_times=st.integers(2, 65), dtype=st.sampled_from(["float32", "float64"]))
def test_phase_randomization_keeps_auto_and_cross_spectra(n_times, dtype):
    fold = make_fold(n_times=n_times, dtype=dtype)
    (changed,) = run(controls.phase_randomized, fold)
    windows = windows_of(changed)
    assert windows.dtype == fold.X.dtype
    before, after = spectra_of(fold.X), spectra_of(windows)
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    assert np.abs(after - before).max() < tolerance * np.abs(before).max()
    assert_allclose(windows.mean(axis=-1), fold.X.mean(axis=-1), atol=1e-6)
    if n_times > 2:
        assert (np.abs(windows - fold.X).max(axis=(1, 2)) > 1e-3).all()


def test_phases_differ_between_windows():
    fold = make_fold()
    fold.X[:] = fold.X[0]
    (changed,) = run(controls.phase_randomized, fold)
    assert len(np.unique(windows_of(changed).round(6), axis=0)) == len(fold.X)


def test_shuffled_time_keeps_covariance_and_flattens_spectra():
    fold = make_fold(n_times=512)
    fold.X[:] = np.sin(np.arange(512) * 2 * np.pi * 16 / 512) + 0.1 * fold.X
    (changed,) = run(controls.shuffled_time, fold)
    windows = windows_of(changed)
    for before, after in zip(fold.X, windows, strict=True):
        assert_allclose(np.cov(after), np.cov(before))
    power = np.abs(np.fft.rfft(windows, axis=-1)) ** 2
    assert power[..., 16].mean() < 0.05 * power.sum(axis=-1).mean()


def test_reversed_time():
    fold = make_fold()
    (changed,) = run(controls.reversed_time, fold)
    assert_array_equal(windows_of(changed), fold.X[..., ::-1])


@pytest.mark.parametrize("name", list_controls())
def test_changes_depend_on_the_window_alone(name):
    """Rows differ with the corpora that are loaded, and parts come in any order."""
    fold = make_fold()
    later = replace(
        fold,
        X=fold.X[3:],
        y=fold.y[3:],
        metadata=fold.metadata[3:].reset_index(drop=True),
        train=fold.train[3:] - 3,
        test=fold.test - 3,
    )
    (control,) = find_controls([name], LOSO, False)
    for one, other in zip(
        control.change(fold, 0), control.change(later, 0), strict=False
    ):
        if one.change is None:
            continue
        windows = windows_of(one)
        rows = np.array([9, 4, 20])
        assert_array_equal(windows_of(one, rows), windows[rows])
        assert_allclose(windows_of(other), windows[3:])
        again = pickle.loads(pickle.dumps(one.change))
        assert_array_equal(again(fold.X[rows], rows), windows[rows])


# -- stimuli seen --------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), n_splits=st.integers(2, 3))
@example(seed=11017655, n_splits=2)  # both training sets lacked the test stimuli
def test_training_sets_are_matched_to_the_window(seed, n_splits):
    fold = make_fold(seed, same_labels=seed % 2 == 0)
    extra = fold.train[::4]
    fold = replace(fold, train=np.setdiff1d(fold.train, extra), unlabeled=extra)
    try:
        made = run(controls.stimulus_seen, fold, n_stimulus_splits=n_splits)
    except ValueError as error:  # subjects who rated all but these in one class
        assert "leaves no training windows" in str(error)
        return
    stimuli = group_ids(fold.metadata, "stimulus")
    subjects = fold.metadata["subject"].to_numpy()
    for seen, withheld in zip(made[::2], made[1::2], strict=True):
        assert (seen.part, withheld.part) == ("", "reference")
        assert_array_equal(seen.test, withheld.test)
        for role in ("train", "unlabeled"):
            rows, others = getattr(seen, role), getattr(withheld, role)
            assert len(np.unique(rows)) == len(rows)
            assert {*rows} <= {*getattr(fold, role)} >= {*others}
            kinds, counts = zip(
                *(
                    np.unique(
                        np.char.add(subjects[r].astype(str), fold.y[r]),
                        return_counts=True,
                    )
                    for r in (rows, others)
                ),
                strict=True,
            )
            assert_array_equal(*kinds)
            assert_array_equal(*counts)
        tested = stimuli[seen.test]
        assert not np.isin(stimuli[withheld.train], tested).any()
        assert not np.isin(stimuli[withheld.unlabeled], tested).any()
        assert np.isin(stimuli[seen.train], tested).any()
    assert_array_equal(np.sort(np.concatenate([m.test for m in made[::2]])), fold.test)


@pytest.mark.parametrize(
    ("also", "message"),
    [(None, "cannot divide the stimuli"), (3, r"leaves no training .* \['wild'\]")],
)
def test_a_stimulus_that_alone_has_a_class_cannot_be_withheld(also, message):
    """If the test subject has the class elsewhere, the training set still lacks it."""
    fold = make_fold()
    trial, subject = (fold.metadata[name] for name in ("trial", "subject"))
    is_wild = (trial == 0) | ((subject == 3) & (trial == also))
    fold = replace(fold, y=np.where(is_wild, "wild", "calm"))
    with pytest.raises(ValueError, match=message):
        run(controls.stimulus_seen, fold, n_stimulus_splits=3)


# -- finding controls ----------------------------------------------------------


def half_the_trials(fold, rng, *, which=0):
    """Keep the training trials with even numbers, or with odd ones."""
    kept = fold.metadata["trial"].to_numpy()[fold.train] % 2 == which
    yield replace(fold, train=fold.train[kept])


def no_folds(fold, rng):
    yield fold.X


def needs_option(fold, rng, *, size):
    yield fold


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("permuted-labels", 'must be None, "all" or a list'),
        (["permuted labels"], "must be one of .*'permuted-labels'"),
        ([3], "must be one of"),
        ([("shuffled-time", {"snr": 1})], r"options .* are \[\], but got \['snr'\]"),
        ([needs_option], r"options .* are \['size'\], but got \[\]"),
        ([("permuted-labels", {"n_permutations": 0})], "an integer from 1, but got 0"),
        ([("injected-signal", {"snr": -1.0})], "a positive number, but got -1.0"),
        ([("stimulus-seen", {"n_stimulus_splits": 1})], "an integer from 2"),
        (["shuffled-time", "shuffled-time"], "must not be repeated, but got"),
    ],
)
def test_refuses(asked, message, toy, paradigm):
    with pytest.raises(ValueError, match=message):
        evaluate({"a": Counting()}, [toy], Emotion(), LOSO.name, controls=asked)
    assert not Counting.n_fits


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if p != LOSO.name])
def test_stimulus_seen_needs_held_out_subjects(protocol):
    kind = PROTOCOLS[protocol]
    suits = protocol in ("subject-kfold", "subject-split")
    if suits:
        assert find_controls(["stimulus-seen"], kind, False)
        return
    with pytest.raises(ValueError, match=f"holds out subjects .* is '{protocol}'"):
        find_controls(["stimulus-seen"], kind, False)
    with pytest.warns(UserWarning, match="Left out: The control 'stimulus-seen'"):
        found = find_controls("all", kind, False)
    assert "stimulus-seen" not in [control.name for control in found]


def test_features_have_no_time():
    with pytest.warns(UserWarning, match="not applicable to features") as warned:
        found = find_controls("all", LOSO, True)
    assert len(warned) == 3
    names = ["injected-signal", "permuted-labels", "stimulus-seen"]
    assert [control.name for control in found] == names


# -- in an evaluation ----------------------------------------------------------


@pytest.fixture
def make_crowd(toy, make_toy):
    """Return a function: six subjects in one session, with an effect or without."""

    def make(effect):
        numbers = tuple(range(1, 7))
        attributes = {"all_subject_numbers": numbers, "n_sessions_per_subject": 1}
        return make_toy(type("Crowd", (type(toy),), {**attributes, "effect": effect}))

    return make


@pytest.fixture
def signals(fast):
    return Emotion(**{**fast, "features": None})


def evaluate_de(corpus, paradigm, asked, **kwargs):
    return evaluate(
        {DE: with_baselines({})[DE]},
        [corpus],
        paradigm,
        LOSO.name,
        random_state=0,
        controls=asked,
        **kwargs,
    )


def test_without_an_effect_every_control_says_chance(make_crowd, signals):
    asked = [
        ("permuted-labels", {"n_permutations": 9}),
        "injected-signal",
        "shuffled-time",
        "reversed-time",
        "phase-randomized",
        ("stimulus-seen", {"n_stimulus_splits": 3}),
    ]
    results = evaluate_de(make_crowd(0.0), signals, asked)
    found = summarize_controls(results).set_index("control")
    assert found.loc["permuted-labels(n_permutations=9)", "p_value"] > 0.1
    assert found.loc["injected-signal", "mean"] > 0.95
    assert found.loc["injected-signal", "p_value"] == 2 / 2**6
    for name in ("shuffled-time", "reversed-time", "phase-randomized"):
        assert abs(found.loc[name, "mean"] - 0.5) < 0.15
        assert found.loc[name, "p_value"] > 0.05
    assert found.loc["stimulus-seen(n_stimulus_splits=3)", "p_value"] > 0.05


@pytest.mark.parametrize("features", [None, "de"])
def test_an_effect_exceeds_permuted_labels(features, make_crowd, fast):
    paradigm = Emotion(**{**fast, "features": features})
    asked = [("permuted-labels", {"n_permutations": 9}), "injected-signal"]
    found = summarize_controls(evaluate_de(make_crowd(1.0), paradigm, asked))
    permuted, injected = found.to_dict("records")
    assert permuted["reference"] > 0.65 and abs(permuted["mean"] - 0.5) < 0.1
    assert permuted["p_value"] == 1 / 10 and permuted["n_draws"] == 9
    assert injected["mean"] > 0.95


def test_controls_resume_and_leave_the_result(toy, paradigm, tmp_path):
    """The results are those without controls, from the same files."""

    def call(asked=None, **kwargs):
        before = Counting.n_fits
        table = evaluate(
            {"a": Counting()},
            [toy],
            paradigm,
            LOSO.name,
            random_state=0,
            results_dir=tmp_path,
            seeds=[3],
            controls=asked,
            **kwargs,
        )
        return table, Counting.n_fits - before

    plain, n_fits = call()
    assert n_fits == 3 and set(plain["control"]) == set(plain["control_part"]) == {""}
    asked = [
        ("permuted-labels", {"n_permutations": 2}),
        ("stimulus-seen", {"n_stimulus_splits": 2}),
        half_the_trials,
    ]
    both, n_fits = call(asked)
    assert n_fits == 3 * (2 + 4 + 1)
    pd.testing.assert_frame_equal(both[both["control"] == ""], plain)
    _, n_fits = call(asked)
    assert n_fits == 0
    folders = [p.folder for e in read_evaluations(tmp_path) for p in e.controls]
    assert len(folders) == 3
    next(folders[0].glob("*.parquet")).unlink()
    again, n_fits = call(asked)
    assert n_fits == 1
    columns = both.columns.drop("time")
    pd.testing.assert_frame_equal(again[columns], both[columns])
    _, n_fits = call([(half_the_trials, {"which": 1})])
    assert n_fits == 3
    assert len(read_predictions(tmp_path)) == plain["samples_test"].sum()


def test_shards_of_controls_meet(toy, paradigm, tmp_path):
    how = {"random_state": 0, "results_dir": tmp_path, "controls": [half_the_trials]}
    counts = []
    for k in (0, 1, None):
        shard = None if k is None else (k, 2)
        before = Counting.n_fits
        pipelines = {"a": Counting()}
        evaluate(pipelines, [toy], paradigm, LOSO.name, shard=shard, **how)
        counts.append(Counting.n_fits - before)
    assert counts == [4, 2, 0]


def test_a_function_must_yield_folds(toy, paradigm):
    with pytest.raises(ValueError, match="'no-folds' must yield folds"):
        evaluate({"a": Counting()}, [toy], paradigm, LOSO.name, controls=[no_folds])
    assert not Counting.n_fits


class AsksForWindows(Counting):
    """Remember all windows that fit and predict are given."""

    seen: list = []  # noqa: RUF012
    __metadata_request__fit = dict.fromkeys(
        ("X_unlabeled", "X_target_unlabeled", "X_target_labeled", "X_val"), True
    )

    def fit(self, X, y, **windows):
        self.seen.append({"X": X} | windows)
        return super().fit(X, y)

    def predict(self, X):
        self.seen.append({"test": X})
        return super().predict(X)


@pytest.mark.parametrize(
    ("protocol", "options", "given"),
    [
        (
            "subject-split",
            {"train": 1, "validation": 1, "test": 1},
            {"X_val", "X_unlabeled", "X_target_unlabeled"},
        ),
        (
            "subject-calibration",
            {},
            {"X_target_labeled", "X_unlabeled", "X_target_unlabeled"},
        ),
    ],
)
def test_all_windows_of_a_pipeline_are_changed(protocol, options, given, toy, signals):
    AsksForWindows.seen.clear()
    evaluate(
        {"a": AsksForWindows()},
        [toy],
        signals,
        protocol,
        random_state=0,
        adapt="unlabeled",
        n_labeled_trials=1,
        controls=["reversed-time"],
        **options,
    )
    seen = [windows for windows in AsksForWindows.seen if "X" in windows]
    plain, changed = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert set(plain[0]) == {"X"} | given
    for before, after in zip(plain, changed, strict=True):
        for name, windows in before.items():
            assert_array_equal(after[name], windows[..., ::-1])
    tests = [windows["test"] for windows in AsksForWindows.seen if "test" in windows]
    tested = {windows.tobytes() for windows in tests}
    assert all(windows[..., ::-1].tobytes() in tested for windows in tests)


def shorter(windows, rows):
    return windows[..., :-1]


def shorten(fold, rng):
    yield fold.change_windows(shorter)


def test_a_change_must_keep_the_shape(toy, paradigm):
    with pytest.raises(Exception, match=r"control 'shorten'.* must return windows"):
        evaluate({"a": Counting()}, [toy], paradigm, LOSO.name, controls=[shorten])


def drop_a_class(fold, rng):
    yield replace(fold, train=fold.train[fold.y[fold.train] != "calm"])


def test_a_control_must_keep_the_classes(toy, paradigm):
    """Windows of a class that the training set lacked got the label of another one."""
    with pytest.raises(ValueError, match=r"lacks \['calm'\]. A control"):
        evaluate({"a": Counting()}, [toy], paradigm, LOSO.name, controls=[drop_a_class])


def test_the_report_keeps_controls_apart(toy, fast, tmp_path):
    lr = make_pipeline(Vectorizer(), LogisticRegression())
    evaluate(
        {"LR": lr, "a": Counting()},
        [toy],
        Emotion(**fast),
        LOSO.name,
        random_state=0,
        results_dir=tmp_path,
        controls=[("permuted-labels", {"n_permutations": 2}), half_the_trials],
    )
    write_report(tmp_path, tmp_path / "with.html")
    page = (tmp_path / "with.html").read_text()
    before, after = page.split("<h3>Controls</h3>")
    assert "half-the-trials" not in before and "permuted-labels" not in before
    assert after.count("<td>half-the-trials</td><td>LR</td>") == 2
    assert "subject-disjoint" in before
    # Without the controls, the rest of the page is the same.
    for pipeline in read_evaluations(tmp_path)[0].controls:
        for file in pipeline.folder.glob("*.parquet"):
            file.unlink()
    write_report(tmp_path, tmp_path / "without.html")
    text = (tmp_path / "without.html").read_text()
    assert "Controls" not in text
    assert (
        text.split("<h3>Chance</h3>")[0].split("<h3>Summary")[1]
        == (before.split("<h3>Chance</h3>")[0].split("<h3>Summary")[1])
    )


# -- statistics ----------------------------------------------------------------


def make_table(result, **parts):
    """Return a table of scores by subject, of a result and of controls."""
    tables = [
        pd.DataFrame({"subject": range(len(scores)), "score": scores}).assign(
            control=name, control_part=part
        )
        for name, part, scores in [
            ("", "", result),
            *((n, p, s) for n, of in parts.items() for p, s in of.items()),
        ]
    ]
    return pd.concat(tables, ignore_index=True).assign(dataset="Toy", pipeline="a")


def test_p_value_of_whole_permutations():
    """Two of four permutations reach the mean, though no subject decides that."""
    null = {"0": [0.9, 0.7], "1": [0.5, 0.5], "2": [0.8, 0.8], "3": [0.9, 0.1]}
    (row,) = summarize_controls(make_table([0.7, 0.9], null=null)).to_dict("records")
    assert row["p_value"] == 3 / 5 and row["n_draws"] == 4
    assert_allclose(row["mean"], 0.65)
    assert_allclose(row["difference"], -0.15)


def test_p_value_and_interval_over_subjects():
    """Five differences with one sign: 2 of the 32 patterns of signs are as extreme."""
    result = np.array([0.5, 0.6, 0.7, 0.6, 0.5])
    steps = np.array([0.05, 0.1, 0.15, 0.2, 0.25])
    table = make_table(result, up={"": result + steps}, same={"": result})
    up, same = summarize_controls(table).to_dict("records")
    assert_allclose(up["p_value"], 2 / 32)
    assert_allclose(up["difference"], 0.15)
    # 0.15 -+ t(0.975, 4) * sd / sqrt(5)
    assert_allclose([up["ci_low"], up["ci_high"]], [0.05185, 0.24815], atol=1e-4)
    assert same["p_value"] == 1 and same["ci_low"] == same["ci_high"] == 0


def test_a_control_with_a_reference_is_compared_with_that():
    seen = {"": [0.6, 0.7, 0.8], "reference": [0.5, 0.6, 0.6]}
    (row,) = summarize_controls(make_table([0.0] * 3, seen=seen)).to_dict("records")
    assert_allclose([row["mean"], row["reference"]], [0.7, 0.5666667])
    assert_allclose(row["difference"], 0.4 / 3)


def test_holm_counts_the_pipelines_of_a_control():
    one = make_table([0.9, 0.9], null={str(i): [0.5, 0.5] for i in range(19)})
    two = one.assign(pipeline="b")
    without = one[one["control"] != ""].assign(pipeline="without a result")
    found = summarize_controls(pd.concat([one, two, without], ignore_index=True))
    assert_allclose(found["p_value"], [0.05, 0.05, np.nan])
    assert_allclose(found["p_corrected"], [0.1, 0.1, np.nan])


@pytest.mark.parametrize("kinds", [["draws"], ["draws", "seen"]])
def test_controls_of_a_saved_table(kinds, tmp_path):
    """Empty text comes back as NaN: all statistics were NaN, without a word."""
    null = {str(i): [0.5, 0.6, 0.4] for i in range(3)}
    seen = {"": [0.6, 0.7, 0.8], "reference": [0.5, 0.6, 0.6]}
    parts = {"draws": null, "seen": seen}
    table = make_table([0.7, 0.8, 0.9], **{kind: parts[kind] for kind in kinds})
    table.to_csv(tmp_path / "scores.csv", index=False)
    saved = pd.read_csv(tmp_path / "scores.csv")
    pd.testing.assert_frame_equal(summarize_controls(saved), summarize_controls(table))
    with pytest.raises(ValueError, match="must have rows of controls"):
        summarize_controls(saved[saved["control"].isna()])


def test_a_missing_subject_is_left_out():
    table = make_table([0.9, 0.8, 0.7], fast={"": [0.8, 0.8]})
    (row,) = summarize_controls(table).to_dict("records")
    assert row["n_subjects"] == 2
    assert_allclose(row["difference"], -0.05)


@pytest.mark.parametrize("subjects", [range(2), range(7, 9)])
def test_a_control_without_a_result_has_no_p_value(subjects):
    """It was 1 over the number of permutations, of no subject at all."""
    control = make_table([0.0], null={str(i): [0.5, 0.5] for i in range(19)})[1:]
    result = make_table([0.9, 0.9]).assign(subject=subjects)
    result["pipeline"] = "b" if subjects == range(2) else "a"
    table = pd.concat([result, control], ignore_index=True)
    (row,) = summarize_controls(table).to_dict("records")
    assert row["n_subjects"] == 0
    assert np.isnan([row["p_value"], row["p_corrected"]]).all()


def test_summaries_leave_controls_out():
    table = make_table([0.9, 0.8], null={"0": [0.1, 0.1]})
    table = pd.concat([table, table.assign(pipeline="b")], ignore_index=True)
    assert_allclose(summarize_results(table)["mean"], 0.85)
    assert compare_pipelines(table)["difference"].tolist() == [0.0]
    without = table[table["control"] == ""]
    with pytest.raises(ValueError, match="pass controls to evaluate"):
        summarize_controls(without)
    with pytest.raises(ValueError, match="columns"):
        summarize_controls(without.drop(columns="control"))


def test_the_benchmark_plot_leaves_controls_out():
    """Subjects had a point for each row of a control, too."""
    table = make_table([0.9, 0.8], null={"0": [0.1, 0.1]}).assign(n_classes=2)
    plots = [plot_benchmark(rows) for rows in (table, table[table["control"] == ""])]
    drawn = [
        [line.get_ydata().tolist() for line in plot.axes[0].lines] for plot in plots
    ]
    assert drawn[0] == drawn[1]
    points = [[c.get_offsets().tolist() for c in p.axes[0].collections] for p in plots]
    assert points[0] == points[1]


# -- regimes -------------------------------------------------------------------


def test_regime_of_each_protocol():
    assert {name: protocol.regime for name, protocol in PROTOCOLS.items()} == {
        "within-session": "subject-dependent",
        "chronological": "subject-dependent",
        "cross-session": "cross-session",
        "leave-one-subject-out": "subject-disjoint",
        "subject-kfold": "subject-disjoint",
        "subject-split": "subject-disjoint",
        "subject-calibration": "subject-disjoint",
        "subject-stimulus": "subject-disjoint",
        "cross-corpus": "cross-corpus",
        "cross-corpus-finetune": "cross-corpus",
    }


@pytest.mark.parametrize("column", ["regime", "target_access"])
def test_other_regimes_and_access_are_not_ranked(column):
    first = make_table([0.9, 0.8]).assign(**{column: "one"})
    second = first.assign(score=first["score"] - 0.4, **{column: "other"})
    table = pd.concat([first, second], ignore_index=True)
    table = pd.concat([table, table.assign(pipeline="b")], ignore_index=True)
    pairs = compare_pipelines(table)
    assert pairs[column].tolist() == ["one", "other"]
    assert_allclose(pairs["difference"], 0.0)
    assert_allclose(summarize_results(table)["mean"], [0.85, 0.45, 0.85, 0.45])
