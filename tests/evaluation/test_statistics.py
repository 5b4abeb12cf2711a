"""Statistics: against SciPy, closed forms, enumeration and the distribution of p."""

from __future__ import annotations

import re
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moabb.analysis.chance_level import adjusted_chance_level
from moabb.analysis.meta_analysis import collapse_session_scores, compute_pvals_perm
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from braindecode_emossl.evaluation.statistics import (
    chance_level,
    compare_pipelines,
    score_interval,
    summarize_results,
)

FAST = settings(deadline=None, max_examples=40)


def make_results(scores, dataset="SEED", **columns):
    """Return the results of pipelines, given the scores of each over subjects."""
    return pd.DataFrame(
        [
            {"dataset": dataset, "pipeline": name, "subject": str(i), "score": value}
            for name, values in scores.items()
            for i, value in enumerate(values)
        ]
    ).assign(**columns)


def compare(first, second, **kwargs):
    """Return the one row that compares two pipelines."""
    (row,) = compare_pipelines(
        make_results({"a": first, "b": second}), **kwargs
    ).itertuples()
    return row


# -- permutation tests ---------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 6, 11])
@pytest.mark.parametrize("shift", [0.0, 0.5, -2.0])
def test_exact_p_value_is_that_of_scipy(n, shift):
    rng = np.random.default_rng(n)
    first, second = rng.normal(size=n), rng.normal(size=n) + shift
    expected = stats.permutation_test(
        (first - second,),
        np.mean,
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=False,
    )
    row = compare(first, second)
    assert_allclose(row.p_value, expected.pvalue, rtol=1e-12)
    assert_allclose(row.difference, expected.statistic, rtol=1e-12)
    assert row.n_subjects == n and row.p_corrected == row.p_value


@pytest.mark.parametrize("n", [2, 5, 12])
def test_interval_of_the_difference_is_that_of_scipy(n):
    """A comparison gave a difference without its precision."""
    rng = np.random.default_rng(n)
    first, second = rng.normal(size=n), rng.normal(size=n)
    row = compare(first, second)
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert_allclose([row.ci_low, row.ci_high], expected, rtol=1e-9)
    equal = compare([0.5] * n, [0.25] * n)
    assert equal.ci_low == equal.ci_high == equal.difference == 0.25


def test_known_p_values():
    """Of eight patterns of three differences of one sign, two are as extreme."""
    assert compare([0.9, 0.8, 0.7], [0.1, 0.1, 0.1]).p_value == 2 / 8
    row = compare([0.9, 0.8, 0.7], [0.1, 0.1, 0.1], n_permutations=8)
    assert row.p_value == 2 / 8  # all eight are taken; of eight drawn it has ninths
    assert compare([0.5, 0.6], [0.6, 0.5]).p_value == 1.0
    assert compare([0.5] * 4, [0.5] * 4).p_value == 1.0
    # Sums of +-1, +-2, +-3, -+4 at least 2 from zero: 14 of 16 (not 1-2-3+4 = 0).
    assert compare([1, 2, 3, 0], [0, 0, 0, 4]).p_value == 14 / 16


@FAST
@given(st.lists(st.integers(-12, 12), min_size=2, max_size=8))
def test_rounding_breaks_no_ties(differences):
    """MOABB keeps scores in single precision, where equal sums are so no longer."""
    sums = [
        np.dot(signs, differences)
        for signs in product([-1, 1], repeat=len(differences))
    ]
    expected = np.mean(np.abs(sums) >= abs(sum(differences)))
    second = np.full(len(differences), 13 / 24)
    first = (np.array(differences) + 13) / 24
    assert compare(first, second).p_value == expected
    assert compare(*np.float32([first, second])).p_value == expected
    assert compare(100 * first, 100 * second).p_value == expected


def test_p_value_is_uniform_exactly():
    """Under the null all sign patterns are equally likely: enumerate them."""
    sizes = np.array([1.0, 2.1, 4.3, 8.9])
    p_values = [
        compare(signs * sizes, np.zeros(4)).p_value
        for signs in product([-1, 1], repeat=4)
    ]
    assert_array_equal(np.sort(p_values), np.repeat(np.arange(1, 9) / 8, 2))


@pytest.mark.parametrize("n_permutations", [64, 63])
def test_p_value_is_calibrated(n_permutations):
    """Over null data sets, exact (64 = 2 ** 6) or drawn."""
    rng = np.random.default_rng(0)
    results = pd.concat(
        make_results(dict(zip("ab", rng.normal(size=(2, 6)), strict=True)), str(i))
        for i in range(300)
    )
    p_values = compare_pipelines(
        results, n_permutations=n_permutations, random_state=0
    )["p_value"]
    assert len(p_values) == 300
    for p in np.arange(1, 33) / 32:
        assert abs(np.mean(p_values <= p + 1e-9) - p) < 0.09


def test_drawn_p_values():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.2, 1, size=(2, 14))
    exact = compare(first, second, n_permutations=2**14).p_value
    drawn = compare(first, second, n_permutations=2**14 - 1, random_state=0).p_value
    assert drawn != exact and abs(drawn - exact) < 0.02
    again = compare(first, second, n_permutations=2**14 - 1, random_state=0).p_value
    assert drawn == again
    assert compare(np.arange(1, 21), np.zeros(20), n_permutations=99).p_value == 0.01


def test_is_twice_the_one_sided_p_value_of_moabb():
    """Where that is below one half and no rounding decides."""
    rng = np.random.default_rng(2)
    table = pd.DataFrame(rng.normal([0.5, 0], size=(9, 2)), columns=["a", "b"])
    row = compare(table["a"], table["b"])
    one_sided = compute_pvals_perm(table)[0, 1]
    assert 0 < one_sided < 0.5
    assert_allclose(row.p_value, 2 * one_sided)


@FAST
@given(st.integers(0, 1000), st.integers(2, 7))
def test_swapping_pipelines(seed, n):
    first, second = np.random.default_rng(seed).normal(size=(2, n))
    row, other = compare(first, second), compare(second, first)
    assert row.p_value == other.p_value
    assert_allclose(row.difference, -other.difference)
    assert_allclose(row.effect_size, -other.effect_size)
    assert (row.pipeline_1, row.pipeline_2) == ("a", "b")


# -- correction ----------------------------------------------------------------


def test_holm():
    scores = np.random.default_rng(3).normal(size=(4, 8)) + np.array(
        [[0], [0.3], [1], [2]]
    )
    results = make_results(dict(zip("abcd", scores, strict=True)))
    table = compare_pipelines(results)
    pairs = list(zip(table["pipeline_1"], table["pipeline_2"], strict=True))
    assert pairs == list(combinations("abcd", 2))
    ordered = table.sort_values("p_value")
    p, corrected = ordered["p_value"].to_numpy(), ordered["p_corrected"].to_numpy()
    expected = [max((6 - j) * p[j] for j in range(i + 1)) for i in range(6)]
    assert_allclose(corrected, np.minimum(expected, 1))
    assert (np.diff(corrected) >= 0).all() and (corrected >= p).all()
    assert len(np.unique(p)) > 3 and corrected[0] == 6 * p[0]
    plain = compare_pipelines(results, correction=None)
    assert_array_equal(plain["p_corrected"], table["p_value"])


def test_holm_holds_the_family():
    """Of null data sets with three pairs at most a share of 10 % has a finding."""
    rng = np.random.default_rng(4)
    results = pd.concat(
        make_results(dict(zip("abc", rng.normal(size=(3, 8)), strict=True)), str(i))
        for i in range(150)
    )
    table = compare_pipelines(results)
    found = table.groupby("dataset")[["p_value", "p_corrected"]].min() < 0.1
    assert found["p_corrected"].mean() < 0.13 < found["p_value"].mean()


def test_each_data_set_and_protocol_is_a_family():
    scores = dict(zip("abc", np.random.default_rng(5).normal(size=(3, 5)), strict=True))
    alone = compare_pipelines(make_results(scores))
    parts = [
        make_results(scores, dataset, protocol=protocol)
        for dataset in ("SEED", "DEAP")
        for protocol in ("within-session", "chronological")
    ]
    parts[3]["score"] *= -1
    table = compare_pipelines(pd.concat(parts))
    assert list(table)[:2] == ["dataset", "protocol"] and len(table) == 4 * 3
    assert table["dataset"].tolist() == ["SEED"] * 6 + ["DEAP"] * 6
    for start in range(0, 12, 3):
        part = table[start : start + 3].reset_index(drop=True)
        sign = -1 if start == 9 else 1
        assert_allclose(part["difference"], sign * alone["difference"])
        assert_array_equal(part["p_corrected"], alone["p_corrected"])


# -- effect size ---------------------------------------------------------------


def test_effect_size():
    """By Hedges' table of factors, for 2, 4 and 10 degrees of freedom."""
    for n, factor in [(3, 0.5642), (5, 0.7979), (11, 0.9228)]:
        differences = np.random.default_rng(n).normal(1, 2, size=n)
        expected = factor * differences.mean() / differences.std(ddof=1)
        assert_allclose(
            compare(differences, np.zeros(n)).effect_size, expected, rtol=1e-4
        )


def test_effect_size_is_unbiased():
    rng = np.random.default_rng(6)
    results = pd.concat(
        make_results({"a": rng.normal(0.8, 1, size=4), "b": np.zeros(4)}, str(i))
        for i in range(300)
    )
    effects = compare_pipelines(results)["effect_size"]
    assert abs(effects.mean() - 0.8) < 3 * effects.sem()
    assert effects.sem() < 0.07


def test_effect_size_of_equal_differences():
    """A constant difference had the effect 1e16, by rounding."""
    second = np.array([0.1, 0.2, 0.3, 0.7])
    for first, expected in [
        (second, 0),
        (second + 0.1, np.inf),
        (second - 0.1, -np.inf),
    ]:
        assert compare(first, second).effect_size == expected
        assert compare(*np.float32([first, second])).effect_size == expected
    assert np.isnan(compare([0.5, 0.7], [0.1, 0.2]).effect_size)


# -- subjects and sessions -----------------------------------------------------


def make_sessions():
    """Return scores of two pipelines, three subjects, one to three sessions of each."""
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        [
            ("SEED", pipeline, subject, str(session), rng.uniform())
            for pipeline in "ab"
            for subject in (1, 2, 10)
            for session in range(1 + subject % 3)
        ],
        columns=["dataset", "pipeline", "subject", "session", "score"],
    ).sample(frac=1, random_state=0)


def test_sessions_are_averaged_first():
    results = make_sessions()
    collapsed = collapse_session_scores(results)
    expected = collapsed.groupby("pipeline", sort=False)["score"]
    summary = summarize_results(results).set_index("pipeline")
    assert summary["n_subjects"].tolist() == [3, 3]
    assert_allclose(summary["mean"], expected.mean()[summary.index])
    assert_allclose(summary["sd"], expected.std()[summary.index])
    (row,) = compare_pipelines(results).itertuples()
    assert row.n_subjects == 3
    difference = summary["mean"][row.pipeline_1] - summary["mean"][row.pipeline_2]
    assert_allclose(row.difference, difference)


def test_does_not_see_the_order_of_rows():
    results = make_sessions().sort_values(["pipeline", "subject"])
    table = compare_pipelines(results)
    subjects_reversed = results.sort_values(["pipeline", "subject"], ascending=[1, 0])
    pd.testing.assert_frame_equal(compare_pipelines(subjects_reversed), table)


def test_unpaired_subjects():
    results = make_results({"a": [1, 2, 3], "b": [1, 2, 3]})
    message = (
        "in {'dataset': 'SEED'} pipeline 'b' lacks scores of subject '1' (1 in all)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_pipelines(results.drop(index=4))
    message = (
        "'b' lacks scores of subject '0'; 'a' lacks scores of subject '2' (2 in all)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_pipelines(results.drop(index=[2, 3]))


def test_unpaired_sessions():
    """A killed run leaves some sessions out, whose mean is another one."""
    results = make_sessions()
    kept = results.query("not (pipeline == 'a' and subject == 2 and session == '1')")
    message = "pipeline 'a' lacks scores of subject 2, session '1' (1 in all)"
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_pipelines(kept)
    fold = results.query("pipeline == 'b' and subject == 1 and session == '0'")
    message = "pipeline 'a' lacks scores of subject 1, session '0' (1 in all)"
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_pipelines(pd.concat([results, fold]))


def test_too_few():
    results = make_results({"a": [1, 2], "b": [1, 2]})
    only = results[results["pipeline"] == "a"]
    for part in (only, pd.concat([results, only.assign(dataset="DEAP")])):
        with pytest.raises(
            ValueError, match=r"two pipelines .* has only \[{'pipeline': 'a'"
        ):
            compare_pipelines(part)
    with pytest.raises(ValueError, match="two subjects are needed"):
        compare_pipelines(results[results["subject"] == "0"])


# -- seeds, labelled trials and target access ----------------------------------


def make_seeds(shifts=(-0.1, 0.0, 0.1), pipelines="ab", subjects=4):
    """Return scores that each seed shifts for all subjects alike."""
    rng = np.random.default_rng(10)
    rows = []
    for pipeline in pipelines:
        base = rng.uniform(0.4, 0.6, size=subjects)
        rows += [
            ("SEED", pipeline, subject, session, seed, base[subject] + shift)
            for subject in range(subjects)
            for session in "01"
            for seed, shift in enumerate(shifts)
        ]
    columns = ["dataset", "pipeline", "subject", "session", "seed", "score"]
    return pd.DataFrame(rows, columns=columns)


def test_seeds_of_a_subject_are_averaged_first():
    """Three seeds are not three times as many subjects."""
    table = summarize_results(make_seeds())
    alone = summarize_results(make_seeds(shifts=[0.0]))
    for name in ("mean", "sd", "n_subjects", "low", "high"):
        assert_allclose(table[name], alone[name])
    assert_allclose(table["sd_seeds"], 0.1)
    assert alone["sd_seeds"].isna().all()
    pairs = compare_pipelines(make_seeds())
    pd.testing.assert_frame_equal(pairs, compare_pipelines(make_seeds(shifts=[0.0])))


def test_sd_seeds_is_that_of_the_means_by_seed():
    results = make_seeds()
    results["score"] += np.random.default_rng(11).normal(size=len(results))
    means = results.groupby(["pipeline", "seed"])["score"].mean()
    expected = means.groupby("pipeline").std()
    assert_allclose(summarize_results(results)["sd_seeds"], expected)


def test_subject_without_a_seed_does_not_shift_it():
    """Seeds with other subjects differ by these, not by chance."""
    results = make_seeds(shifts=[0.0, 0.0])
    kept = results[(results["subject"] > 0) | (results["seed"] == 0)]
    assert_allclose(summarize_results(kept)["sd_seeds"], 0, atol=1e-12)


def test_pipelines_of_other_seeds_are_compared():
    """A deterministic baseline has one seed, its rival three."""
    results = make_seeds()
    kept = results[(results["pipeline"] == "a") | (results["seed"] == 1)]
    pairs = compare_pipelines(kept)
    assert_allclose(pairs["difference"], compare_pipelines(results)["difference"])
    killed = kept.drop(index=kept.index[3])  # subject 0, session '1', seed 0
    message = "pipeline 'a' lacks scores of subject 0, session '1' (1 in all)"
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_pipelines(killed)


def make_curve(numbers=(1, 5, None)):
    """Return scores of two pipelines that rise with the number of labelled trials."""
    parts = [
        make_results(
            {"a": [0.5, 0.6, 0.7], "b": [0.4, 0.6, 0.8]}, n_labeled_trials=n
        ).eval(f"score = score + {i / 10}")
        for i, n in enumerate(numbers)
    ]
    return pd.concat(parts).astype({"n_labeled_trials": "Int64"})


def test_numbers_of_labelled_trials_are_not_mixed():
    """All labels, <NA>, are a group of their own."""
    results = make_curve()
    table = summarize_results(results)
    assert list(table)[:3] == ["dataset", "pipeline", "n_labeled_trials"]
    assert table["n_labeled_trials"].dtype == "Int64"
    assert table["n_labeled_trials"].tolist() == [1, 1, 5, 5, pd.NA, pd.NA]
    assert_allclose(table["mean"], np.repeat([0.6, 0.7, 0.8], 2))
    pairs = compare_pipelines(results)
    assert pairs["n_labeled_trials"].tolist() == [1, 5, pd.NA]
    assert_allclose(pairs["difference"], 0, atol=1e-12)
    assert_array_equal(pairs["p_corrected"], pairs["p_value"])  # families of one pair


def test_target_access_is_never_compared():
    """A method that adapts to the test subject is not a rival of one that does not."""
    scores = dict(
        zip("abc", np.random.default_rng(12).uniform(size=(3, 5)), strict=True)
    )
    results = make_results(scores)
    access = {"a": "none", "b": "none", "c": "unlabeled"}
    results["target_access"] = results["pipeline"].map(access)
    table = summarize_results(results)
    assert table["target_access"].tolist() == ["none", "none", "unlabeled"]
    (pair,) = compare_pipelines(results).itertuples()
    assert (pair.target_access, pair.pipeline_1, pair.pipeline_2) == ("none", "a", "b")
    assert pair.p_corrected == pair.p_value
    message = r"same target_access are needed .* 'target_access': 'unlabeled'}\]"
    with pytest.raises(ValueError, match=message):
        compare_pipelines(results[results["pipeline"] != "b"])


@pytest.mark.parametrize("function", [compare_pipelines, summarize_results])
def test_training_corpora_are_not_averaged(function):
    """Two evaluations that trained on different corpora were averaged if joined."""
    scores = {"a": [0.5, 0.6, 0.8], "b": [0.4, 0.7, 0.7]}
    first = make_results(scores, train_corpora="DEAP")
    second = make_results(scores, train_corpora="DEAP+SEEDIV")
    message = r"'pipeline': 'a'} come from \['DEAP', 'DEAP\+SEEDIV'\]. Select one"
    with pytest.raises(ValueError, match=message):
        function(pd.concat([first, second], ignore_index=True))
    swapped = second.assign(train_corpora="SEEDIV+DEAP")
    function(pd.concat([second, swapped], ignore_index=True))
    renamed = second.assign(pipeline=second["pipeline"] + ", two corpora")
    joined = pd.concat([first, renamed], ignore_index=True)
    assert len(function(joined)) == (6 if function is compare_pipelines else 4)


@pytest.mark.parametrize("function", [compare_pipelines, summarize_results])
def test_incomplete_results(function):
    results = make_results({"a": [1, 2, 3.0], "b": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"lacks \['subject', 'kappa'\]"):
        function(results.drop(columns="subject"), score="kappa")
    with pytest.raises(ValueError, match="is empty"):
        function(results[:0])
    for column, value in [("score", np.nan), ("score", np.inf), ("subject", None)]:
        broken = results.copy()
        broken.loc[[1, 4], column] = value
        message = r"but 2 of 6 do not; the first is {'dataset': 'SEED', 'pipeline': 'a'"
        with pytest.raises(ValueError, match=message):
            function(broken)


def test_settings_of_the_comparison():
    results = make_results({"a": [1, 2], "b": [1, 2]})
    with pytest.raises(ValueError, match="must be 'holm' or None, but got 'fdr'"):
        compare_pipelines(results, correction="fdr")
    for n in (0, 10.0):
        with pytest.raises(ValueError, match=f"integer from 1, but got {n}"):
            compare_pipelines(results, n_permutations=n)


# -- summary and intervals -----------------------------------------------------


def test_summary():
    parts = [
        make_results({"b": [0.5, 0.7, 0.9], "a": [0.2, 0.2, 0.2]}, protocol="first"),
        make_results({"b": [0.4]}, "DEAP", protocol="second"),
    ]
    results = pd.concat(parts).rename(columns={"score": "kappa"})
    table = summarize_results(results, "kappa")
    assert table["dataset"].tolist() == ["SEED", "SEED", "DEAP"]
    assert table["protocol"].tolist() == ["first", "first", "second"]
    assert table["pipeline"].tolist() == ["b", "a", "b"]
    assert table["n_subjects"].tolist() == [3, 3, 1]
    assert_allclose(table["mean"], [0.7, 0.2, 0.4])
    assert_allclose(table["sd"], [0.2, 0, np.nan], atol=1e-12)
    # Student's quantile for two degrees of freedom is 4.3027.
    width = 4.302653 * 0.2 / np.sqrt(3)
    assert_allclose(table["low"], [0.7 - width, 0.2, np.nan], rtol=1e-6)
    assert_allclose(table["high"], [0.7 + width, 0.2, np.nan], rtol=1e-6)
    no_protocol = summarize_results(parts[0].drop(columns="protocol"))
    assert_allclose(no_protocol["high"], table["high"][:2])


@pytest.mark.parametrize("method", ["t", "bootstrap"])
def test_interval_covers_the_mean(method):
    rng, random_state = np.random.default_rng(8), np.random.RandomState(8)
    covered = []
    for _ in range(150):
        low, high = score_interval(
            rng.normal(0.5, 0.1, size=20),
            level=0.8,
            method=method,
            random_state=random_state,
        )
        covered.append(low <= 0.5 <= high)
    assert 0.7 < np.mean(covered) < 0.9


def test_intervals_are_alike():
    scores = np.random.default_rng(9).uniform(size=60)
    by_t = score_interval(scores)
    bootstrap = score_interval(scores, method="bootstrap", random_state=0)
    assert_allclose(bootstrap, by_t, atol=0.01)
    assert bootstrap == score_interval(scores, method="bootstrap", random_state=0)
    assert bootstrap != by_t
    wide = score_interval(scores, level=0.99)
    assert wide[0] < by_t[0] < scores.mean() < by_t[1] < wide[1]


def test_interval_by_hand():
    """From 1, 2, 3: 2 -+ 2.91999 / sqrt(3) at 90 %."""
    half = 2.919986 / np.sqrt(3)
    assert_allclose(
        score_interval([1, 2, 3], level=0.9), (2 - half, 2 + half), rtol=1e-6
    )
    for method in ("t", "bootstrap"):
        assert score_interval([0.3, 0.3, 0.3], method=method) == (0.3, 0.3)


def test_refused_intervals():
    for scores in ([0.5], [], [0.5, np.nan], [[0.5, 0.6], [0.7, 0.8]]):
        with pytest.raises(ValueError, match="finite numbers of at least two subjects"):
            score_interval(scores)
    with pytest.raises(ValueError, match="between 0 and 1, but got 95"):
        score_interval([0.1, 0.2], level=95)
    with pytest.raises(ValueError, match="'t' or 'bootstrap', but got 'normal'"):
        score_interval([0.1, 0.2], method="normal")


# -- chance --------------------------------------------------------------------


def test_chance_of_unequal_classes():
    """Six, three and one of ten trials, windows at will."""
    y = np.repeat(["a", "b", "c"], [6, 3, 1])
    chance = chance_level(y, np.arange(10))
    assert chance[:2] == (10, 0.6)
    assert_allclose(chance.proportional, 0.36 + 0.09 + 0.01)
    # P(X > 8) = 0.0464 and P(X > 7) = 0.167 of a binomial with 10 and 0.6.
    assert chance.threshold == 0.8
    assert chance_level(y, np.arange(10), level=0.17).threshold == 0.7
    windows = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 30))
    assert chance_level(y[windows], windows) == chance


def test_chance_of_moabb():
    """For balanced classes it is MOABB's, of trials instead of windows."""
    trial = np.repeat(np.arange(45), 20)
    chance = chance_level(trial % 3, trial)
    assert_allclose(chance[1:3], 1 / 3)
    assert chance.threshold == adjusted_chance_level(3, 45)
    # Taken as nine hundred independent answers, far less would have sufficed.
    assert adjusted_chance_level(3, 900) < chance.threshold - 0.08


@FAST
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    level=st.floats(0.001, 0.5),
)
def test_threshold_is_the_least_one(counts, level):
    y = np.repeat(np.arange(len(counts)), counts)
    chance = chance_level(y, np.arange(len(y)), level=level)
    n, p = chance.n_trials, chance.most_frequent
    hits = round(chance.threshold * n)
    assert stats.binom.sf(hits, n, p) <= level
    assert hits == 0 or stats.binom.sf(hits - 1, n, p) > level
    assert chance.proportional <= p


def test_trials_of_several_columns():
    trials = [("s1", 0), ("s1", 0), ("s1", 1), ("s2", 0), ("s2", 1)]
    y = ["calm", "calm", "wild", "wild", "calm"]
    for ids in (trials, pd.DataFrame(trials, columns=["subject", "trial"])):
        assert chance_level(y, ids)[:3] == (4, 0.5, 0.5)
    message = r"one label, but trial \[0\] has \['calm', 'wild'\]\. .* name subject and"
    with pytest.raises(ValueError, match=message):
        chance_level(y, [trial for _, trial in trials])


def test_refused_chance():
    with pytest.raises(TypeError):
        chance_level([0, 1])  # the trials of the rows are not optional
    with pytest.raises(ValueError, match="inconsistent numbers"):
        chance_level([0, 1], [0])
    with pytest.raises(ValueError, match="1 of 2 rows lack one"):
        chance_level(["calm", None], [0, 1])
    with pytest.raises(ValueError, match="1 of 2 rows lack one"):
        chance_level(["calm", "wild"], [0, np.nan])
    with pytest.raises(ValueError, match="0 of 0 rows"):
        chance_level([], [])
    with pytest.raises(ValueError, match=r"between 0 and 1, but got 5"):
        chance_level([0, 1], [0, 1], level=5)
