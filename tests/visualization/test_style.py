"""Readable in print and for the colour-blind: colours and markers, and a picture."""

from __future__ import annotations

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from braindecode_emossl.visualization import plot_embeddings
from braindecode_emossl.visualization.style import (
    COLOR_MAP,
    COLORS,
    N_STYLES,
    get_axes,
    legend_beside,
    style_of,
)

# What is left of linear RGB without one kind of cones: Machado, Oliveira & Fernandes
# (2009), severity 1. https://doi.org/10.1109/TVCG.2009.113
EYES = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def to_lab(rgb, eyes="all cones"):
    """Return CIE L*a*b* (..., 3) of sRGB colours (..., 3), as some eyes see them.

    A distance of 1 is about the least that can be seen.
    """
    rgb = np.asarray(rgb, dtype=float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(EYES[eyes]).T, 0, 1)
    xyz = seen @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def least_distance(lab):
    return min(np.linalg.norm(one - other) for one, other in combinations(lab, 2))


def test_lab_of_known_colours():
    lab = to_lab([[1, 1, 1], [0, 0, 0], [1, 0, 0]])
    expected = [[100, 0, 0], [0, 0, 0], [53.2408, 80.0925, 67.2032]]
    np.testing.assert_allclose(lab, expected, atol=0.02)


@pytest.mark.parametrize("eyes", EYES)
def test_colours_differ_in_all_eyes(eyes):
    assert least_distance(to_lab([*map(mpl.colors.to_rgb, COLORS)], eyes)) > 15


def test_first_colours_differ_in_print():
    lightness = to_lab([*map(mpl.colors.to_rgb, COLORS)])[:, :1]
    assert least_distance(lightness[:4]) > 10
    assert lightness.max() < 75  # white paper has 100


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("name", [COLOR_MAP, "Blues_r"])
def test_colour_maps_go_from_dark_to_light(name, eyes):
    lightness = to_lab(mpl.colormaps[name](np.linspace(0, 1, 64))[:, :3], eyes)[:, 0]
    assert (np.diff(lightness) > 0).all()
    assert np.ptp(lightness) > 60


@pytest.mark.parametrize("eyes", EYES)
def test_groups_of_a_picture_differ_in_all_eyes(draw, eyes):
    centers = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    points = np.repeat(centers, 300, axis=0) + 0.2 * np.random.default_rng(0).random(
        (1200, 2)
    )
    labels = np.repeat(["fear", "happy", "neutral", "sad"], 300)
    figure = plot_embeddings(points, pd.DataFrame({"label": labels}), method=None)
    picture = draw(figure)
    seen = [
        np.median(picture.look(figure.axes[0], *center, radius=8), axis=0)
        for center in centers + 0.1
    ]
    lab = to_lab(seen, eyes)
    assert least_distance(lab) > 10
    assert least_distance(lab[:, :1]) > 5
    assert lab[:, 0].max() < 85


def test_styles_are_unlike_as_long_as_promised():
    styles = [tuple(style_of(i).values()) for i in range(N_STYLES)]
    assert len(set(styles)) == N_STYLES == 56
    assert tuple(style_of(N_STYLES).values()) == styles[0]


def test_axes_are_those_given():
    _, axes = plt.subplots(2, 3)
    assert get_axes(axes, 2, 3, size=(1, 1)).tolist() == axes.tolist()
    assert get_axes(axes[0, 0], size=(1, 1))[0, 0] is axes[0, 0]
    assert len(plt.get_fignums()) == 1


def test_axes_of_a_new_figure():
    axes = get_axes(None, 2, 3, size=(5, 4))
    assert axes.shape == (2, 3)
    np.testing.assert_allclose(axes[0, 0].figure.get_size_inches(), (5, 4))


def test_wrong_number_of_axes():
    _, axes = plt.subplots(1, 2)
    with pytest.raises(ValueError, match=r"hold 3 Axes \(1 rows of 3\).* but got 2"):
        get_axes(axes, 1, 3, size=(1, 1))


def test_legend_names_each_group_once(draw):
    ax = get_axes(None, size=(4, 3))[0, 0]
    for i in range(40):
        ax.plot([0, 1], [0, i], label=f"group {i % 20}")
    legend = legend_beside(ax, title="groups")
    assert [t.get_text() for t in legend.get_texts()] == [
        f"group {i}" for i in range(20)
    ]
    picture = draw(ax.figure)
    picture.check_layout()
    assert legend.get_window_extent().x0 >= ax.get_window_extent().x1
