"""Scores of pipelines: points, means, chance level and brackets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from braindecode_emossl.evaluation import compare_pipelines, summarize_results
from braindecode_emossl.visualization import plot_benchmark
from braindecode_emossl.visualization.style import style_of

PIPELINES = ("DE + SVM", "SCMM", "MoodReader")


def make_results(dataset="SEED", n_subjects=8, n_classes=3, seed=0, protocol="cross"):
    """Return scores; those of SCMM are well above those of the other two."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0.5, 0.05, n_subjects)
    rows = [
        {
            "dataset": dataset,
            "protocol": protocol,
            "pipeline": pipeline,
            "subject": str(subject),
            "session": session,
            "n_classes": n_classes,
            "score": base[subject] + 0.1 * (pipeline == "SCMM") + rng.normal(0, 0.01),
        }
        for pipeline in PIPELINES
        for subject in range(n_subjects)
        for session in "01"
    ]
    return pd.DataFrame(rows).assign(kappa=lambda table: table["score"] - 0.4)


def points_of(ax, pipeline):
    """Return the points (n_subjects, 2) of a pipeline in each data set."""
    return [line.get_xydata() for line in ax.lines if line.get_label() == pipeline]


def brackets_of(ax):
    return [line.get_xydata() for line in ax.lines if len(line.get_xdata()) == 4]


def chance_of(ax):
    return [line.get_xydata() for line in ax.lines if line.get_label() == "chance"]


def test_points_are_the_means_of_sessions():
    results = make_results()
    ax = plot_benchmark(results).axes[0]
    for i, pipeline in enumerate(PIPELINES):
        own = results[results["pipeline"] == pipeline]
        (points,) = points_of(ax, pipeline)
        np.testing.assert_allclose(points[:, 1], own.groupby("subject")["score"].mean())
        assert (np.diff(points[:, 0]) > 0).all()
        # In its own third of the data set's slot.
        assert np.abs(points[:, 0] - 0.85 * (i - 1) / 3).max() < 0.85 / 6


def test_means_and_intervals_are_those_of_the_summary():
    results = make_results()
    ax = plot_benchmark(results).axes[0]
    summary = summarize_results(results)
    assert len(ax.containers) == 3
    for bar, row in zip(ax.containers, summary.itertuples(), strict=True):
        mean, _, (interval,) = bar.lines
        np.testing.assert_allclose(mean.get_xydata()[0, 1], row.mean)
        (ends,) = interval.get_segments()
        np.testing.assert_allclose(ends[:, 1], [row.low, row.high])


def test_pixels_of_points_and_means(draw):
    results = make_results(n_subjects=3)
    figure = plot_benchmark(results)
    figure.set_dpi(200)
    picture = draw(figure)
    ax = figure.axes[0]
    for i, bar in enumerate(ax.containers):
        color = np.array(plt.matplotlib.colors.to_rgb(style_of(i)["color"]))
        place, mean = bar.lines[0].get_xydata()[0]
        width = 0.02 * np.ptp(ax.get_xlim())
        assert picture.look_for(ax, place, mean, color, radius=8) < 0.02
        (points,) = points_of(ax, PIPELINES[i])
        for point in points:
            assert picture.look_for(ax, *point, 0.6 * color + 0.4, radius=2) < 0.02
        assert points[:, 0].max() < place - width / 2


def test_brackets_are_over_the_significant_pairs(draw):
    results = make_results()
    figure = plot_benchmark(results)
    ax = figure.axes[0]
    pairs = compare_pipelines(results)
    marked = pairs[pairs["p_corrected"] < 0.05]
    assert len(marked) == 2 < len(pairs)
    brackets = brackets_of(ax)
    for bracket, pair in zip(brackets, marked.itertuples(), strict=True):
        ends = [0.85 * (PIPELINES.index(p) - 1) / 3 for p in (pair[3], pair[4])]
        np.testing.assert_allclose(bracket[[0, -1], 0], ends)
        assert bracket[:, 1].min() > results["score"].max() - 0.01
    expected = [f"p = {p:.3f}" for p in marked["p_corrected"]]
    assert [text.get_text() for text in ax.texts] == expected
    assert np.diff([bracket[1, 1] for bracket in brackets]) > 0
    picture = draw(figure)
    picture.check_layout()
    middle = brackets[0][1:3].mean(axis=0)
    assert picture.look_for(ax, *middle, "black", radius=1) < 0.2


def test_level_of_significance():
    results = make_results()
    assert not brackets_of(plot_benchmark(results, level=0.001).axes[0])
    assert len(brackets_of(plot_benchmark(results, level=1.1).axes[0])) == 3


def test_brackets_respect_the_number_of_pairs():
    results = make_results(n_subjects=6)
    pairs = compare_pipelines(results)
    assert pairs["p_value"].min() < 0.05 < pairs["p_corrected"].min()
    assert not brackets_of(plot_benchmark(results).axes[0])


def test_tiny_p_value():
    results = make_results(n_subjects=14)
    ax = plot_benchmark(results, random_state=0).axes[0]
    assert [text.get_text() for text in ax.texts] == ["p < 0.001"] * 2


def test_data_sets_and_protocols_stand_apart(draw):
    results = pd.concat(
        [
            make_results("SEED", protocol="leave-one-subject-out"),
            make_results("SEED", protocol="cross-session", seed=1),
            make_results("DEAP", 5, n_classes=4, seed=2, protocol="cross-session"),
        ]
    )
    figure = plot_benchmark(results)
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == [
        "SEED\nleave-one-subject-out",
        "SEED\ncross-session",
        "DEAP\ncross-session",
    ]
    groups = points_of(ax, "SCMM")
    assert [len(points) for points in groups] == [8, 8, 5]
    for i, points in enumerate(groups):
        assert np.abs(points[:, 0] - i).max() < 0.5
    np.testing.assert_allclose(
        chance_of(ax),
        [[[i - 0.5, c], [i + 0.5, c]] for i, c in enumerate([1 / 3, 1 / 3, 1 / 4])],
    )
    draw(figure).check_layout()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        *PIPELINES,
        "chance",
        "mean, 95 % interval",
    ]


def test_chance_line_is_drawn(draw):
    figure = plot_benchmark(make_results(), chance=0.42)
    ax = figure.axes[0]
    np.testing.assert_allclose(chance_of(ax)[0][:, 1], 0.42)
    picture = draw(figure)
    ink = [
        picture.look_for(ax, x, 0.42, "black", radius=1)
        for x in np.linspace(-0.45, 0.45, 100)
    ]
    assert 0.3 < np.mean(np.less(ink, 0.3)) < 1  # dashed


def test_chance_of_each_score():
    results = make_results()
    kappa = plot_benchmark(results, score="kappa").axes[0]
    assert chance_of(kappa)[0][0, 1] == 0
    assert kappa.get_ylabel() == "Kappa"
    given = plot_benchmark(results, chance={"SEED": 0.4, "DEAP": 0.6}).axes[0]
    assert chance_of(given)[0][0, 1] == 0.4
    with pytest.raises(ValueError, match="every data set, but lacks that of 'SEED'"):
        plot_benchmark(results, chance={"DEAP": 0.6})
    with pytest.raises(ValueError, match="must have the column 'n_classes'"):
        plot_benchmark(results.drop(columns="n_classes"))


@pytest.mark.parametrize(
    ("score", "level"),
    [
        ("probe_subject", 0.2),
        ("probe_subject_ratio", 1.0),
        ("recall_calm", 1 / 3),
        ("balanced_accuracy_trial", 1 / 3),
        ("time", None),
    ],
)
def test_chance_of_columns_that_are_no_accuracy(score, level):
    """Subjects were read, and seconds spent, with a chance of one over the classes."""
    results = make_results().assign(n_classes=3, probe_subject_chance=0.2)
    results[score] = results["score"]
    lines = chance_of(plot_benchmark(results, score=score).axes[0])
    assert [line[0, 1] for line in lines] == (
        [] if level is None else pytest.approx([level])
    )


def test_long_names_fit_beside_the_panel(draw):
    """The legend was cut at the right."""
    results = make_results()
    results["pipeline"] += ", pre-trained on several corpora, then frozen, " * 2
    draw(plot_benchmark(results)).check_layout()


def test_many_differences_are_counted():
    """With 17 pipelines, 71 brackets left a tenth of the panel for the scores."""
    rng = np.random.default_rng(0)
    rows = [
        {"dataset": "SEED", "pipeline": f"p{i}", "subject": str(k), "n_classes": 3}
        | {"score": i / 10 + rng.normal(0, 0.001)}
        for i in range(8)
        for k in range(15)
    ]
    ax = plot_benchmark(pd.DataFrame(rows)).axes[0]
    assert not brackets_of(ax)
    assert ax.get_title() == "28 significant differences between pipelines"


def test_no_tick_stands_beside_the_brackets(draw):
    figure = plot_benchmark(make_results(), level=1.1)
    draw(figure)
    ax = figure.axes[0]
    lowest = min(bracket[:, 1].min() for bracket in brackets_of(ax))
    assert max(ax.get_yticks()) <= lowest


@pytest.mark.parametrize(("score", "level"), [("roc_auc", 0.5), ("brier", None)])
def test_chance_does_not_depend_on_the_classes(score, level):
    """One over the number of classes is not the chance level of an area or an error."""
    results = make_results().rename(columns={"score": score})
    lines = chance_of(plot_benchmark(results, score=score).axes[0])
    assert [line[0, 1] for line in lines] == ([] if level is None else [level])


def test_subject_who_lacks_a_class_does_not_raise_chance():
    """DEAP's quadrants: some subjects have trials of three only."""
    results = make_results(n_classes=4)
    results.loc[results["subject"] == "2", "n_classes"] = 3
    assert chance_of(plot_benchmark(results).axes[0])[0][0, 1] == 1 / 4


def test_one_pipeline_or_one_subject_has_nothing_to_compare(draw):
    results = make_results()
    alone = plot_benchmark(results[results["pipeline"] == "SCMM"])
    single = plot_benchmark(results[results["subject"] == "3"])
    for figure in (alone, single):
        assert not brackets_of(figure.axes[0])
        draw(figure).check_layout()
    assert len(points_of(single.axes[0], "SCMM")[0]) == 1


def test_results_without_protocol_and_the_axes_given():
    results = make_results().drop(columns=["protocol", "session"])
    results = results.drop_duplicates(["pipeline", "subject"])
    figure, axes = plt.subplots(1, 2)
    assert plot_benchmark(results, ax=axes[0]) is figure
    assert [t.get_text() for t in axes[0].get_xticklabels()] == ["SEED"]
    assert not axes[1].lines


def test_target_access_is_never_in_one_panel(draw):
    """A method that adapts to the test subject looked like the best of all."""
    results = make_results()
    adapts = results["pipeline"] == "SCMM"
    results["target_access"] = np.where(adapts, "unlabeled", "none")
    figure = plot_benchmark(results)
    none, unlabeled = figure.axes
    assert none.get_title() == "Target access: none"
    assert unlabeled.get_title() == "Target access: unlabeled"
    assert not points_of(none, "SCMM") and points_of(unlabeled, "SCMM")
    assert not brackets_of(none) and not brackets_of(unlabeled)
    assert none.get_ylim() == unlabeled.get_ylim()
    names = [t.get_text() for t in unlabeled.get_legend().get_texts()]
    assert names == [*PIPELINES, "chance", "mean, 95 % interval"]
    draw(figure).check_layout()
    with pytest.raises(ValueError, match="axes must hold 2 Axes"):
        plot_benchmark(results, ax=plt.subplots()[1])


def test_numbers_of_labelled_trials_stand_apart(draw):
    results = pd.concat(
        [make_results(seed=i).assign(n_labeled_trials=n) for i, n in enumerate([1, 5])]
        + [make_results(seed=2).assign(n_labeled_trials=pd.NA)]
    ).astype({"n_labeled_trials": "Int64"})
    figure = plot_benchmark(results.drop(columns="protocol"))
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == [
        "SEED\n1 labelled",
        "SEED\n5 labelled",
        "SEED\nall labels",
    ]
    assert [len(points) for points in points_of(ax, "SCMM")] == [8, 8, 8]
    draw(figure).check_layout()


def test_results_that_do_not_fit():
    results = make_results()
    with pytest.raises(ValueError, match=r"lacks \['pipeline'\]"):
        plot_benchmark(results.drop(columns="pipeline"))
    with pytest.raises(ValueError, match=r"lacks \['f1_macro'\]"):
        plot_benchmark(results, score="f1_macro")
    with pytest.raises(ValueError, match="scored on the same subjects"):
        plot_benchmark(results.iloc[2:])


def test_equal_scores_are_drawn():
    """Their mean differs from each of them by rounding: the error bar was negative."""
    table = pd.DataFrame({"subject": map(str, range(15)), "score": 1 / 3})
    plot_benchmark(table.assign(dataset="SEED", pipeline="a", n_classes=3))
