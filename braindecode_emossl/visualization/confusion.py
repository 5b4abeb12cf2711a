"""Confusion matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.utils.multiclass import unique_labels

from braindecode_emossl.visualization.style import get_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_confusion_matrix"]

# Proportion above which white is easier to read on a cell than black.
_DARK = 0.7


def plot_confusion_matrix(y_true, y_pred, *, labels=None, ax=None) -> Figure:
    """Plot a confusion matrix with proportions and counts.

    Parameters
    ----------
    y_true : array-like, shape (n_windows,)
        True classes of windows or trials.
    y_pred : array-like, shape (n_windows,)
        Predicted classes.
    labels : sequence, optional
        All classes, in the order to draw them. By default, the classes that occur,
        sorted.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into. By default, a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        One row per true class. A cell is coloured by its proportion of the row, and
        shows the proportion and the number of windows. A class without windows has a
        dash instead of proportions.

    Raises
    ------
    ValueError
        If lengths differ, or a class that occurs is not in ``labels``.
    """
    occurring = unique_labels(y_true, y_pred)
    labels = list(occurring if labels is None else labels)
    if unknown := [label for label in occurring.tolist() if label not in labels]:
        raise ValueError(
            f"labels must contain every class that occurs, but lacks {unknown}; got "
            f"{labels}."
        )
    counts = confusion_matrix(y_true, y_pred, labels=labels)
    sizes = counts.sum(axis=1)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, sizes[:, None], out=shares, where=sizes[:, None] > 0)

    side = 2.2 + 0.8 * len(labels)
    ax = get_axes(ax, size=(side + 0.8, side))[0, 0]
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        ax.text(
            column,
            row,
            f"{share:.0%}\n{counts[row, column]}" if np.isfinite(share) else "-",
            ha="center",
            va="center",
            color="white" if share > _DARK else "black",
        )
    names = [f"{name}\n(n = {n})" for name, n in zip(labels, sizes, strict=True)]
    ticks = range(len(labels))
    ax.set_yticks(ticks, names)
    ax.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor")
    ax.set(xlabel="Predicted class", ylabel="True class")
    ax.figure.colorbar(image, ax=ax, label="Proportion of the true class", shrink=0.8)
    return ax.figure
