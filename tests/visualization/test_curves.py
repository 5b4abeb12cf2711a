"""Training curves: lines, and the positions of their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt
from skorch.history import History

from braindecode_emossl.visualization import plot_history
from braindecode_emossl.visualization.style import COLORS


def make_history(n_epochs=12, valid=True):
    """Return a history as skorch and RecordTerms write it."""
    history = History()
    for epoch in range(1, n_epochs + 1):
        history.new_epoch()
        history.new_batch()
        history.record("epoch", epoch)
        for i, part in enumerate(["train", "valid"][: 1 + valid]):
            history.record(f"{part}_reconstruction", 0.01 / epoch + i / 100)
            history.record(f"{part}_contrastive", np.float32(4 / epoch + i))
            history.record(f"{part}_loss", 5 / epoch + i)
            history.record(f"{part}_loss_best", epoch == 1)
            history.record(f"{part}_batch_count", 7)
        history.record("dur", 1.5)
    return history


def lines_of(ax):
    return {line.get_label(): np.array(line.get_data()) for line in ax.lines}


def test_one_panel_for_the_loss_and_each_term():
    axes = plot_history(make_history()).axes
    assert [ax.get_title() for ax in axes] == ["loss", "reconstruction", "contrastive"]
    epochs = np.arange(1, 13)
    for ax, first in zip(axes, (5, 0.01, 4), strict=True):
        offset = 0.01 if first == 0.01 else 1
        lines = lines_of(ax)
        assert list(lines) == ["training", "validation"]
        np.testing.assert_allclose(
            lines["training"], [epochs, first / epochs], rtol=1e-6
        )
        np.testing.assert_allclose(lines["validation"][1], first / epochs + offset)
        assert ax.get_xlabel() == "Epoch"


def test_lines_are_where_the_values_are(draw):
    figure = plot_history(make_history())
    picture = draw(figure)
    picture.check_layout()
    for ax in figure.axes:
        for line, color in zip(ax.lines, COLORS, strict=False):
            for point in line.get_xydata()[::3]:
                assert picture.look_for(ax, *point, color, radius=1) < 0.1


def test_training_and_validation_differ_without_colour():
    train, valid = plot_history(make_history()).axes[0].lines
    assert train.get_linestyle() != valid.get_linestyle()
    assert train.get_marker() != valid.get_marker()


def test_training_without_validation():
    axes = plot_history(make_history(valid=False)).axes
    assert [list(lines_of(ax)) for ax in axes] == [["training"]] * 3
    assert [t.get_text() for t in axes[0].get_legend().get_texts()] == ["training"]


def test_missing_epoch_is_a_gap():
    history = [{"train_loss": 3.0}, {"dur": 1.0}, {"train_loss": 1.0}]
    epochs, values = lines_of(plot_history(history).axes[0])["training"]
    np.testing.assert_array_equal(epochs, [1, 2, 3])
    np.testing.assert_array_equal(values, [3, np.nan, 1])


def test_a_single_epoch_can_be_seen(draw):
    figure = plot_history([{"epoch": 1, "train_loss": 3.0}])
    assert draw(figure).look_for(figure.axes[0], 1, 3.0, COLORS[0]) < 0.05


def test_draws_into_the_axes_given():
    figure, axes = plt.subplots(3, 1)
    assert plot_history(make_history(), axes=axes) is figure
    assert [len(ax.lines) for ax in axes] == [2, 2, 2]
    with pytest.raises(ValueError, match="axes must hold 3 Axes"):
        plot_history(make_history(), axes=axes[:2])


@pytest.mark.parametrize("history", [[], [{"epoch": 1, "dur": 1.0}]])
def test_nothing_to_draw(history):
    with pytest.raises(ValueError, match=f"at least one epoch .* {len(history)} epoch"):
        plot_history(history)


def test_a_term_that_is_the_whole_loss_is_drawn_once():
    """Objectives with a single term had two equal panels."""
    history = [
        {"epoch": i, "train_loss": 1.0 / i, "train_contrastive": 1.0 / i}
        for i in (1, 2, 3)
    ]
    assert [ax.get_title() for ax in plot_history(history).axes] == ["loss"]
    history[2]["train_contrastive"] = 9.0
    titles = [ax.get_title() for ax in plot_history(history).axes]
    assert titles == ["loss", "contrastive"]


def test_the_features_fit_below_a_single_curve():
    """The text was cut on both sides."""
    history = History()
    history.new_epoch()
    history.record("train_loss", 1.0)
    for when in ("before", "after"):
        for name in ("rank", "subject", "stimulus"):
            history.record(f"{when}_{name}", 12.34)
    figure = plot_history(history)
    figure.canvas.draw()
    (text,) = figure.texts
    extent = text.get_window_extent()
    assert 0 < extent.x0 < extent.x1 < figure.bbox.width


def test_the_features_before_and_after_are_below_the_curves():
    history = make_history()
    assert not plot_history(history).get_supxlabel()
    history[-1] |= {"before_rank": 6.1, "after_rank": 2.3}
    history[-1] |= {"before_subject": 0.88, "after_subject": 0.9}
    text = "Features, before → after: rank 6.10 → 2.30, subject 0.88 → 0.90"
    assert plot_history(history).get_supxlabel() == text
