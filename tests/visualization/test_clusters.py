"""Use of clusters over clusterings: evenness, maps and labels."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from braindecode_emossl.pretraining.clustering import ClusterReport
from braindecode_emossl.visualization import plot_cluster_usage


def make_report(*counts, features="layer 2"):
    """Return the report of a clustering, given the tokens of each cluster."""
    counts = tuple(np.array(c) for c in counts)
    none = (0,) * len(counts)
    return ClusterReport(
        features=features,
        n_tokens=int(counts[0].sum()),
        n_clusters=tuple(map(len, counts)),
        counts=counts,
        n_reseeded=none,
        silhouettes=({},) * len(counts),
    )


REPORTS = [
    make_report([8, 0, 0, 0], [6, 2], features="band_power"),
    make_report([1, 5, 0, 2], [4, 4]),
    make_report([2, 2, 2, 2], [4, 4]),
]
# Relative to equal use, the most used cluster first.
USAGE = [[[4, 2.5, 1], [0, 1, 1], [0, 0.5, 1], [0, 0, 1]], [[1.5, 1, 1], [0.5, 1, 1]]]


def test_evenness_is_perplexity_over_clusters():
    ax = plot_cluster_usage(REPORTS).axes[0]
    first, second = (line.get_ydata() for line in ax.lines)
    p = np.array([1, 5, 2]) / 8
    middle = np.exp(-(p * np.log(p)).sum()) / 4
    np.testing.assert_allclose(first, [1 / 4, middle, 1])
    assert 0.5 < second[0] < 1
    np.testing.assert_allclose(second[1:], 1)
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == ["codebook 1", "codebook 2"]
    assert len({line.get_linestyle() for line in ax.lines}) == 2


def test_pixels_of_the_maps_follow_the_use(draw):
    figure = plot_cluster_usage(REPORTS)
    picture = draw(figure)
    picture.check_layout()
    cividis = mpl.colormaps["cividis"]
    for ax, usage in zip(figure.axes[1:3], USAGE, strict=True):
        np.testing.assert_allclose(ax.images[0].get_array(), usage)
        for (row, column), value in np.ndenumerate(usage):
            color = cividis(np.sqrt(value / 4))
            assert picture.look_for(ax, column, row + 1, color) < 0.02


def test_names(draw):
    figure = plot_cluster_usage(REPORTS)
    evenness, first, second, color_bar = figure.axes
    clusterings = ["1: band power", "2: layer 2", "3: layer 2"]
    for ax in (evenness, first, second):
        assert [t.get_text() for t in ax.get_xticklabels()] == clusterings
        assert ax.get_xlim() == (-0.5, 2.5)
    assert first.get_title() == "Codebook 1\n4 clusters"
    assert second.get_title() == "Codebook 2\n2 clusters"
    assert color_bar.get_ylabel() == "Tokens (1 = equal use)"


def test_missing_clusters_are_blank(draw):
    """An unused cluster is dark; a cluster that a clustering lacks is white."""
    reports = [make_report([6, 2]), make_report([5, 3, 0, 0])]
    figure = plot_cluster_usage(reports)
    picture = draw(figure)
    ax = figure.axes[1]
    assert picture.look_for(ax, 0, 4, "white") == 0
    assert picture.look_for(ax, 1, 4, mpl.colormaps["cividis"](0.0)) < 0.02


def test_many_clusterings(draw):
    figure = plot_cluster_usage(REPORTS * 10)
    assert len(figure.axes[0].get_xticks()) <= 8
    draw(figure).check_layout()


def test_one_clustering_into_the_axes_given(draw):
    figure, axes = plt.subplots(1, 3, layout="constrained", figsize=(8, 3))
    assert plot_cluster_usage(REPORTS[:1], axes=axes) is figure
    point = axes[0].lines[0].get_xydata()[0]
    np.testing.assert_allclose(point, [0, 0.25])
    color = axes[0].lines[0].get_color()
    assert draw(figure).look_for(axes[0], *point, color, radius=1) < 0.05
    with pytest.raises(ValueError, match="axes must hold 3 Axes"):
        plot_cluster_usage(REPORTS, axes=axes[:2])


def test_reports_that_do_not_fit():
    with pytest.raises(ValueError, match=r"got 0 with \[\] codebooks"):
        plot_cluster_usage([])
    with pytest.raises(ValueError, match=r"got 2 with \[1, 2\] codebooks"):
        plot_cluster_usage([REPORTS[0], make_report([1, 2])])
