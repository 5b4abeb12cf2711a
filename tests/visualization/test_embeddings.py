"""Scatter plots of embeddings: points, styles and labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA

from braindecode_emossl.visualization import plot_embeddings
from braindecode_emossl.visualization.style import style_of


def make_windows(n=60, seed=0):
    rng = np.random.default_rng(seed)
    metadata = pd.DataFrame(
        {
            "label": np.resize(["neutral", "sad", "fear"], n),
            "subject": np.resize([1, 2, 10, 1], n),
            "corpus": np.resize(["SEED-IV", "SEED-IV", "SEED-IV", "DEAP"], n),
        }
    )
    return rng.normal(size=(n, 4, 3)) * [3, 2, 1], metadata


def points_of(ax):
    """Return the points (n, 2) of each group by its name."""
    return {c.get_label(): np.asarray(c.get_offsets()) for c in ax.collections}


def test_points_are_the_principal_components():
    features, metadata = make_windows()
    ax = plot_embeddings(features, metadata).axes[0]
    pca = PCA(2)
    expected = pca.fit_transform(features.reshape(60, 12))
    points = points_of(ax)
    assert list(points) == ["fear", "neutral", "sad"]
    for name, group in points.items():
        rows = (metadata["label"] == name).to_numpy()
        np.testing.assert_allclose(group, expected[rows], atol=1e-9)
    share = pca.explained_variance_ratio_
    assert ax.get_xlabel() == f"PC 1 ({share[0]:.0%} of variance)"
    assert ax.get_ylabel() == f"PC 2 ({share[1]:.0%} of variance)"


def test_pixels_have_the_colour_of_their_group(draw):
    points = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    metadata = pd.DataFrame({"label": list("bcda")})
    figure = plot_embeddings(points, metadata, method=None)
    figure.set_dpi(200)
    picture = draw(figure)
    for point, group in zip(points, (1, 2, 3, 0), strict=True):
        color = np.array(plt.matplotlib.colors.to_rgb(style_of(group)["color"]))
        blended = 0.7 * color + 0.3  # on white
        assert picture.look_for(figure.axes[0], *point, blended) < 0.02
    assert picture.look_for(figure.axes[0], 0.5, 0.5, "white") == 0


def test_legend_and_layout(draw):
    features, metadata = make_windows()
    figure = plot_embeddings(features, metadata)
    picture = draw(figure)
    picture.check_layout()
    legend = figure.axes[0].get_legend()
    assert legend.get_title().get_text() == "label"
    assert [t.get_text() for t in legend.get_texts()] == ["fear", "neutral", "sad"]
    markers = {c.get_paths()[0].vertices.shape for c in figure.axes[0].collections}
    assert len(markers) > 1


def test_subjects_of_two_corpora_are_different_people():
    features, metadata = make_windows()
    both = points_of(plot_embeddings(features, metadata, color="subject").axes[0])
    assert list(both) == ["DEAP 1", "SEED-IV 1", "SEED-IV 2", "SEED-IV 10"]
    one = metadata["corpus"] == "SEED-IV"
    alone = plot_embeddings(features[one], metadata[one], color="subject")
    assert list(points_of(alone.axes[0])) == ["1", "2", "10"]
    corpora = plot_embeddings(features, metadata, color="corpus")
    assert {k: len(v) for k, v in points_of(corpora.axes[0]).items()} == {
        "DEAP": 15,
        "SEED-IV": 45,
    }


def test_many_subjects(draw):
    rng = np.random.default_rng(0)
    metadata = pd.DataFrame({"subject": np.arange(56)})
    figure = plot_embeddings(rng.normal(size=(56, 3)), metadata, color="subject")
    draw(figure).check_layout()
    looks = {
        (tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes())
        for c in figure.axes[0].collections
    }
    assert len(looks) == 56


def test_tsne_keeps_what_is_close():
    rng = np.random.default_rng(0)
    metadata = pd.DataFrame({"label": np.repeat(["a", "b"], 25)})
    features = rng.normal(size=(50, 8))
    features[25:] += 20
    ax = plot_embeddings(features, metadata, method="tsne", random_state=0).axes[0]
    a, b = points_of(ax).values()
    between = np.linalg.norm(a.mean(axis=0) - b.mean(axis=0))
    assert between > 2 * max(a.std(axis=0).max(), b.std(axis=0).max())
    assert ax.get_xlabel() == "t-SNE 1"
    again = plot_embeddings(features, metadata, method="tsne", random_state=0).axes[0]
    np.testing.assert_array_equal(points_of(again)["a"], a)


def test_tsne_of_few_windows():
    features, metadata = make_windows(6)
    ax = plot_embeddings(features, metadata, method="tsne", random_state=0).axes[0]
    assert sum(map(len, points_of(ax).values())) == 6


def test_draws_into_the_axes_given():
    features, metadata = make_windows()
    figure, axes = plt.subplots(1, 2)
    assert plot_embeddings(features, metadata, ax=axes[1]) is figure
    assert not axes[0].collections
    assert len(axes[1].collections) == 3


@pytest.mark.filterwarnings("error")
def test_collapsed_features():
    """The axes were those of "nan% of variance"."""
    features, metadata = make_windows()
    ax = plot_embeddings(np.ones_like(features), metadata).axes[0]
    assert ax.get_xlabel() == "PC 1 (0% of variance)"


def test_errors():
    features, metadata = make_windows()
    with pytest.raises(
        ValueError, match=r"'corpus'\], but got 'emotion'.*assign\(label=y\)"
    ):
        plot_embeddings(features, metadata, color="emotion")
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        plot_embeddings(features[1:], metadata)
    broken = features.copy()
    broken[3, 0] = np.nan
    with pytest.raises(ValueError, match=r"must be finite, but 3 of .* in window 3"):
        plot_embeddings(broken, metadata)
    with pytest.raises(ValueError, match=r"at least two windows .* got \(1, 12\)"):
        plot_embeddings(features[:1], metadata[:1])
    with pytest.raises(ValueError, match="'pca', 'tsne' or None, but got 'umap'"):
        plot_embeddings(features, metadata, method="umap")
    with pytest.raises(ValueError, match=r"\(n_windows, 2\) .* got \(60, 12\)"):
        plot_embeddings(features, metadata, method=None)
    with pytest.raises(ValueError, match="must have label, but 20 of 60 do not"):
        plot_embeddings(features, metadata.replace("sad", None))
    ratings = metadata.assign(valence=np.linspace(1, 9, 60))
    with pytest.raises(ValueError, match=r"at most 56 groups.* 'valence' has 60"):
        plot_embeddings(features, ratings, color="valence")
