"""Figures as the reader sees them: pixels, texts and their positions."""

from __future__ import annotations

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def no_windows():
    """Draw off screen, close all figures, and check that no setting was changed.

    MOABB sets a style of its own for the whole process, whenever a test imports its
    plots.
    """
    plt.switch_backend("agg")
    with plt.style.context("default"):
        before = dict(mpl.rcParams)
        yield
        plt.close("all")
        assert dict(mpl.rcParams) == before


class Picture:
    """A figure that is drawn."""

    def __init__(self, figure):
        figure.canvas.draw()
        self.figure = figure
        # (height, width, 3), from 0 to 1, with the origin at the top left
        self.pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255

    def look(self, ax, x, y, radius=0):
        """Return the pixels (n_pixels, 3) around a point of the axes."""
        column, row = ax.transData.transform((x, y))
        column, row = int(column), int(self.pixels.shape[0] - row)
        part = self.pixels[
            row - radius : row + radius + 1, column - radius : column + radius + 1
        ]
        return part.reshape(-1, 3)

    def look_for(self, ax, x, y, color, radius=0):
        """Return how far the nearest pixel around a point is from a colour."""
        distances = np.abs(self.look(ax, x, y, radius) - mpl.colors.to_rgb(color))
        return distances.max(axis=1).min()

    def texts(self):
        """Return all texts that are drawn."""
        return [
            text
            for ax in self.figure.axes
            for text in _texts_of(ax)
            if text.get_visible() and text.get_text()
        ]

    def check_layout(self):
        """Check that no text is cut off, tiny, or drawn over another one."""
        boxes = {}
        for text in self.texts():
            box = text.get_window_extent()
            name = text.get_text()
            assert box.x0 >= -1 and box.y0 >= -1, name
            assert box.x1 <= self.figure.bbox.x1 + 1, name
            assert box.y1 <= self.figure.bbox.y1 + 1, name
            assert text.get_fontsize() >= 7, name
            if text.get_rotation() in (0, 90):
                boxes[text] = box.padded(-1)
        assert boxes
        for (one, box), (other, other_box) in combinations(boxes.items(), 2):
            assert not box.overlaps(other_box), (one.get_text(), other.get_text())


def _texts_of(ax):
    yield from (ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts)
    for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        for tick in axis.get_major_ticks():
            if min(limits) <= tick.get_loc() <= max(limits):
                yield from (tick.label1, tick.label2)
    if legend := ax.get_legend():
        yield from (legend.get_title(), *legend.get_texts())


@pytest.fixture
def draw():
    """Return the function that draws a figure."""
    return Picture
