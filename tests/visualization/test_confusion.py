"""Confusion matrices: numbers, colours and names of the cells."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from braindecode_emossl.visualization import plot_confusion_matrix

# Rows are true classes; windows of each pair.
COUNTS = {
    ("neg", "neg"): 3,
    ("neg", "neu"): 1,
    ("neu", "neu"): 10,
    ("pos", "neg"): 1,
    ("pos", "pos"): 1,
}
Y_TRUE = [pair[0] for pair, n in COUNTS.items() for _ in range(n)]
Y_PRED = [pair[1] for pair, n in COUNTS.items() for _ in range(n)]


def cells_of(ax):
    """Return the texts (n_classes, n_classes) of the cells."""
    n = len(ax.get_yticks())
    cells = np.empty((n, n), dtype=object)
    for text in ax.texts:
        column, row = text.get_position()
        cells[row, column] = text.get_text()
    return cells.tolist()


def test_cells_show_proportion_and_count():
    ax = plot_confusion_matrix(Y_TRUE, Y_PRED).axes[0]
    assert cells_of(ax) == [
        ["75%\n3", "25%\n1", "0%\n0"],
        ["0%\n0", "100%\n10", "0%\n0"],
        ["50%\n1", "0%\n0", "50%\n1"],
    ]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["neg", "neu", "pos"]
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "neg\n(n = 4)",
        "neu\n(n = 10)",
        "pos\n(n = 2)",
    ]
    assert ax.get_xlabel() == "Predicted class"
    assert ax.get_ylabel() == "True class"


def test_pixels_darken_with_the_proportion_not_the_count(draw):
    figure = plot_confusion_matrix(Y_TRUE, Y_PRED)
    picture = draw(figure)
    picture.check_layout()
    ax = figure.axes[0]
    blues = mpl.colormaps["Blues"]
    for (row, column), share in np.ndenumerate(
        [[0.75, 0.25, 0], [0, 1, 0], [0.5, 0, 0.5]]
    ):
        corner = (column - 0.4, row + 0.4)  # next to the text
        assert picture.look_for(ax, *corner, blues(share)) < 0.02


@pytest.mark.parametrize("share", np.linspace(0, 1, 21))
def test_text_stands_out_from_its_cell(share):
    hits = round(share * 20)
    y_pred = ["a"] * hits + ["b"] * (20 - hits)
    figure = plot_confusion_matrix(["a"] * 20, y_pred, labels=["a", "b"])
    text = figure.axes[0].texts[0]
    assert text.get_text() == f"{share:.0%}\n{hits}"

    def luminance(color):
        rgb = np.array(mpl.colors.to_rgb(color))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    lights = sorted(
        [luminance(mpl.colormaps["Blues"](share)), luminance(text.get_color())]
    )
    assert (lights[1] + 0.05) / (lights[0] + 0.05) > 4.5  # as WCAG asks for


def test_order_and_classes_that_do_not_occur(draw):
    labels = ["pos", "calm", "neg", "neu"]
    figure = plot_confusion_matrix(Y_TRUE, Y_PRED, labels=labels)
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == labels
    cells = cells_of(ax)
    assert cells[0] == ["50%\n1", "0%\n0", "50%\n1", "0%\n0"]
    assert cells[1] == ["-"] * 4  # no windows: no proportions
    draw(figure).check_layout()


def test_integer_classes_and_the_axes_given():
    figure, axes = plt.subplots(1, 2)
    assert plot_confusion_matrix([0, 1, 1], [0, 1, 0], ax=axes[1]) is figure
    assert cells_of(axes[1]) == [["100%\n1", "0%\n0"], ["50%\n1", "50%\n1"]]
    assert not axes[0].images


def test_errors():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        plot_confusion_matrix(Y_TRUE, Y_PRED[1:])
    with pytest.raises(ValueError, match=r"lacks \['neu'\]; got \['neg', 'pos'\]"):
        plot_confusion_matrix(Y_TRUE, Y_PRED, labels=["neg", "pos"])
