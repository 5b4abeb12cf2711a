"""Maps of embeddings in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.utils import check_consistent_length

from braindecode_emossl.visualization.style import (
    N_STYLES,
    get_axes,
    legend_beside,
    style_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_embeddings"]


def plot_embeddings(
    features,
    metadata: pd.DataFrame,
    *,
    color: str = "label",
    method: str | None = "pca",
    random_state=None,
    ax=None,
) -> Figure:
    """Plot windows in two dimensions, by emotion, subject or corpus.

    Parameters
    ----------
    features : array-like, shape (n_windows, ...)
        Embeddings or other features; all axes but the first are flattened.
    metadata : pandas.DataFrame
        One row a window, as of :meth:`Emotion.get_data
        <braindecode_emossl.paradigms.Emotion.get_data>`. Labels join it by
        ``metadata.assign(label=y)``.
    color : str, default="label"
        Column of ``metadata`` that tells the groups, such as ``subject`` or ``corpus``.
        Subjects of several corpora are told apart by ``corpus`` too, if there is such a
        column.
    method : {"pca", "tsne"} or None, default="pca"
        How two dimensions are found: by principal components; by t-SNE with
        scikit-learn's defaults, save that the perplexity is at most a third of the
        windows; or not, as ``features`` are of shape ``(n_windows, 2)`` already.
    random_state : int, RandomState instance or None, default=None
        Seeds t-SNE, and PCA where it is randomised.
    ax : matplotlib.axes.Axes, optional
        Where to draw. None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        One collection of points a group, in sorted order, with a legend beside.

    Raises
    ------
    ValueError
        If ``metadata`` lacks the column or a value in it, has more groups than can be
        told apart, or does not fit ``features``.

    Examples
    --------
    >>> metadata = metadata.assign(label=y)
    >>> figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    >>> points = TSNE(random_state=0).fit_transform(features)
    >>> for color, ax in zip(["label", "subject", "corpus"], axes):
    ...     plot_embeddings(points, metadata, color=color, method=None, ax=ax)
    """
    features = np.asarray(features)
    check_consistent_length(features, metadata)
    groups = _find_groups(metadata, color)
    points, labels = _project(
        features.reshape(len(features), -1), method, random_state
    )  # (n_windows, 2)
    ax = get_axes(ax, size=(5.5, 4.0))[0, 0]
    for i, (name, rows) in enumerate(groups.items()):
        style = style_of(i)
        ax.scatter(
            *points[rows].T,
            s=18,
            c=style["color"],
            marker=style["marker"],
            alpha=0.7,
            linewidths=0,
            label=name,
        )
    ax.set(xlabel=labels[0], ylabel=labels[1], xticks=[], yticks=[])
    legend_beside(ax, title=color)
    return ax.figure


def _find_groups(metadata: pd.DataFrame, color: str) -> dict[str, np.ndarray]:
    """Return the rows of each group by its name."""
    if color not in metadata:
        raise ValueError(
            f"color must be a column of metadata, one of {list(metadata)}, but got "
            f"{color!r}. Labels join it by metadata.assign(label=y)."
        )
    columns = [color]
    if color == "subject" and "corpus" in metadata and metadata["corpus"].nunique() > 1:
        columns = ["corpus", "subject"]
    if (lacking := metadata[columns].isna().any(axis=1)).any():
        raise ValueError(
            f"Every row of metadata must have {' and '.join(columns)}, but "
            f"{lacking.sum()} of {len(metadata)} have not."
        )
    rows = metadata.groupby(columns, observed=True).indices
    if len(rows) > N_STYLES:
        raise ValueError(
            f"color must be a column of at most {N_STYLES} groups, as more cannot be "
            f"told apart, but {color!r} has {len(rows)}. Take fewer of them, or cut "
            "numbers into ranges, as pandas.cut does."
        )
    return {
        " ".join(map(str, name)) if isinstance(name, tuple) else str(name): part
        for name, part in rows.items()
    }


def _project(
    features: np.ndarray, method: str | None, random_state
) -> tuple[np.ndarray, list[str]]:
    """Return points (n_windows, 2) and the names of both axes."""
    if method == "pca":
        from sklearn.decomposition import PCA

        pca = PCA(2, random_state=random_state)
        points = pca.fit_transform(features)
        shares = pca.explained_variance_ratio_
        return points, [
            f"PC {i} ({share:.0%} of variance)" for i, share in enumerate(shares, 1)
        ]
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, len(features) / 3)
        tsne = TSNE(perplexity=perplexity, random_state=random_state)
        return tsne.fit_transform(features), ["t-SNE 1", "t-SNE 2"]
    if method is not None:
        raise ValueError(f"method must be 'pca', 'tsne' or None, but got {method!r}.")
    if features.shape[1] != 2:
        raise ValueError(
            "features must be of shape (n_windows, 2) with method=None, but got "
            f"{features.shape}."
        )
    return features, ["Dimension 1", "Dimension 2"]
