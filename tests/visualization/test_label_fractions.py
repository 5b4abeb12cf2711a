"""Scores over the number of labelled trials: lines, bands and the axis."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from braindecode_emossl.evaluation import summarize_results
from braindecode_emossl.visualization import plot_label_fractions

PIPELINES = ("SCMM", "SCMM, random weights", "DE + logistic regression", "MEMHACL")


def make_results(numbers=(1, 2, 5, None), pipelines=PIPELINES, **columns):
    rng = np.random.default_rng(0)
    rows = [
        {
            "dataset": "SEED",
            "protocol": "leave-one-subject-out",
            "pipeline": pipeline,
            "subject": str(subject),
            "seed": seed,
            "n_classes": 3,
            "n_labeled_trials": n,
            "balanced_accuracy": 0.4 + 0.1 * i - 0.04 * j + rng.normal(0, 0.02),
        }
        for i, n in enumerate(numbers)
        for j, pipeline in enumerate(pipelines)
        for subject in range(6)
        for seed in (0, 1)
    ]
    table = pd.DataFrame(rows).astype({"n_labeled_trials": "Int64"})
    return table.assign(**columns)


def line_of(ax, pipeline):
    (line,) = [line for line in ax.lines if line.get_label() == pipeline]
    return line


def test_long_names_leave_the_panel_its_width(draw):
    """The legend took the width of the panel, or was cut."""
    results = make_results()
    results["pipeline"] += ", pre-trained on several corpora, then frozen, " * 2
    figure = plot_label_fractions(results)
    draw(figure).check_layout()
    assert figure.axes[0].get_position().width * figure.get_figwidth() > 2.5


def test_lines_are_the_means_over_a_logarithmic_axis(draw):
    results = make_results()
    figure = plot_label_fractions(results)
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "5", "all"]
    places = [0, 1, np.log2(5), np.log2(5) + 1]
    summary = summarize_results(results, "balanced_accuracy")
    for pipeline in PIPELINES:
        x, y = line_of(ax, pipeline).get_data()
        np.testing.assert_allclose(x, places)
        own = summary[summary["pipeline"] == pipeline]
        np.testing.assert_allclose(y, own["mean"])
    assert ax.get_ylabel() == "Balanced accuracy"
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == [*PIPELINES, "chance"]
    draw(figure).check_layout()


def test_bands_are_the_intervals_over_subjects():
    results = make_results(pipelines=PIPELINES[:1])
    (band,) = plot_label_fractions(results).axes[0].collections
    summary = summarize_results(results, "balanced_accuracy")
    vertices = band.get_paths()[0].vertices
    for place, row in zip((0, 1, np.log2(5)), summary.itertuples(), strict=False):
        ends = vertices[np.isclose(vertices[:, 0], place), 1]
        np.testing.assert_allclose([ends.min(), ends.max()], [row.low, row.high])


def test_pixels_of_the_points(draw):
    figure = plot_label_fractions(make_results())
    figure.set_dpi(200)
    picture = draw(figure)
    ax = figure.axes[0]
    for pipeline in PIPELINES:
        line = line_of(ax, pipeline)
        for point in line.get_xydata():
            assert picture.look_for(ax, *point, line.get_color(), radius=1) < 0.05


def test_lines_differ_without_colour():
    ax = plot_label_fractions(make_results()).axes[0]
    lines = [line_of(ax, pipeline) for pipeline in PIPELINES]
    assert len({str(line.get_linestyle()) for line in lines}) == len(PIPELINES)
    assert len({line.get_marker() for line in lines}) == len(PIPELINES)
    lightness = [mpl.colors.to_rgb(line.get_color()) for line in lines]
    lightness = np.sort(np.array(lightness) @ [0.2126, 0.7152, 0.0722])
    assert np.diff(lightness).min() > 0.05


def test_target_access_is_never_in_one_panel(draw):
    results = make_results()
    adapts = results["pipeline"] == "MEMHACL"
    results["target_access"] = np.where(adapts, "calibration", "none")
    figure = plot_label_fractions(results)
    none, calibration = figure.axes
    titles = ["Target access: none", "Target access: calibration"]
    assert [ax.get_title() for ax in figure.axes] == titles
    assert line_of(calibration, "MEMHACL") and line_of(none, "SCMM")
    assert "MEMHACL" not in [line.get_label() for line in none.lines]
    draw(figure).check_layout()


def test_data_sets_have_a_panel_each(draw):
    results = pd.concat([make_results(), make_results(dataset="DEAP", n_classes=2)])
    figure = plot_label_fractions(results)
    assert [ax.get_title() for ax in figure.axes] == ["SEED", "DEAP"]
    levels = [line_of(ax, "chance").get_ydata()[0] for ax in figure.axes]
    np.testing.assert_allclose(levels, [1 / 3, 1 / 2])
    draw(figure).check_layout()


def test_a_pipeline_with_a_single_number():
    """A fully supervised baseline has an interval, but no line."""
    results = make_results(pipelines=PIPELINES[:2])
    kept = (results["pipeline"] == "SCMM") | results["n_labeled_trials"].isna()
    ax = plot_label_fractions(results[kept]).axes[0]
    assert len(line_of(ax, PIPELINES[1]).get_xdata()) == 1
    row = summarize_results(results[kept], "balanced_accuracy").iloc[-1]
    (segment,) = ax.collections[-1].get_segments()
    np.testing.assert_allclose(segment[:, 1], [row["low"], row["high"]])


@pytest.mark.parametrize("numbers", [(1, 2, 5), (None,)])
def test_with_or_without_all_labels(draw, numbers):
    figure = plot_label_fractions(make_results(numbers))
    names = ["all" if n is None else str(n) for n in numbers]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == names
    draw(figure).check_layout()


def test_one_subject_has_no_band():
    results = make_results()
    ax = plot_label_fractions(results[results["subject"] == "0"], chance=0.4).axes[0]
    assert np.isfinite(line_of(ax, "SCMM").get_ydata()).all()
    assert line_of(ax, "chance").get_ydata()[0] == 0.4


def test_the_axes_given():
    figure, axes = plt.subplots(1, 2)
    assert plot_label_fractions(make_results(), ax=axes[0]) is figure
    assert not axes[1].lines
    with pytest.raises(ValueError, match="Pass n_labeled_trials to evaluate"):
        plot_label_fractions(make_results().drop(columns="n_labeled_trials"))
