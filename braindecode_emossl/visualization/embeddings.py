"""Scatter plots of embeddings."""

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
        One row per window, as returned by :meth:`Emotion.get_data
        <braindecode_emossl.paradigms.Emotion.get_data>`. Add labels by
        ``metadata.assign(label=y)``.
    color : str, default="label"
        Column of ``metadata`` with the groups, such as ``subject`` or ``corpus``.
        Subjects with the same number in several corpora are different groups, if there
        is a column ``corpus``.
    method : {"pca", "tsne"} or None, default="pca"
        Method of dimensionality reduction: principal components; t-SNE with
        scikit-learn's defaults, but a perplexity of at most a third of the number of
        windows; or none, if ``features`` already has the shape ``(n_windows, 2)``.
    random_state : int, RandomState instance or None, default=None
        Seed of t-SNE, and of PCA where it is randomised.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into. By default, a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        One collection of points per group, in sorted order, with a legend at the right.

    Raises
    ------
    ValueError
        If a feature is not finite, there are too few of them for principal components,
        or ``metadata`` lacks the column or a value in it, has more groups than there
        are styles, or does not match ``features``.

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
    if not (finite := np.isfinite(features)).all():
        raise ValueError(
            f"features must be finite, but {(~finite).sum()} of {features.size} values "
            f"are not, the first in window {np.argwhere(~finite)[0, 0]}."
        )
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
            f"{color!r}. Add labels by metadata.assign(label=y)."
        )
    columns = [color]
    if color == "subject" and "corpus" in metadata and metadata["corpus"].nunique() > 1:
        columns = ["corpus", "subject"]
    if (lacking := metadata[columns].isna().any(axis=1)).any():
        raise ValueError(
            f"Every row of metadata must have {' and '.join(columns)}, but "
            f"{lacking.sum()} of {len(metadata)} do not."
        )
    rows = metadata.groupby(columns, observed=True).indices
    if len(rows) > N_STYLES:
        raise ValueError(
            f"color must be a column of at most {N_STYLES} groups, as there are no "
            f"more styles, but {color!r} has {len(rows)}. Select some of them, or bin "
            "numbers with pandas.cut."
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

        if min(features.shape) < 2:
            raise ValueError(
                "features must have at least two windows and two values in each for "
                f"method='pca', but got {features.shape}."
            )
        pca = PCA(2, random_state=random_state)
        with np.errstate(invalid="ignore"):  # equal windows have no variance
            points = pca.fit_transform(features)
        shares = pca.explained_variance_ratio_
        return points, [
            f"PC {i} ({share:.0%} of variance)"
            for i, share in enumerate(np.nan_to_num(shares), 1)
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
