"""How all pictures look: colours, markers, axes and legends."""

from __future__ import annotations

import numpy as np

__all__ = [
    "COLORS",
    "COLOR_MAP",
    "MARKERS",
    "N_STYLES",
    "get_axes",
    "legend_beside",
    "style_of",
]

#: Colours that the colour-blind can tell apart [1]_, without the yellow, which is too
#: pale for lines. The first four differ in lightness too, so that they do in print.
#:
#: References
#: ----------
#: .. [1] Okabe, M., & Ito, K. (2008). Color universal design (CUD): How to make
#:    figures and presentations that are friendly to colorblind people.
#:    https://jfly.uni-koeln.de/color/
COLORS = ("#0072B2", "#E69F00", "#000000", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")

#: Markers, for where lightness is not enough. One more than colours: as the two numbers
#: share no factor, a pair of both comes again only after ``N_STYLES``.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

#: How many groups have a look of their own.
N_STYLES = len(COLORS) * len(MARKERS)

#: Colour map of topographic and other maps: even steps from dark blue to light yellow,
#: alike for all kinds of colour vision.
COLOR_MAP = "cividis"


def style_of(i: int) -> dict[str, str]:
    """Return colour and marker of the i-th group, for matplotlib."""
    return {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]}


def get_axes(axes, n_rows: int = 1, n_cols: int = 1, *, size: tuple[float, float]):
    """Return axes to draw into, those given or those of a new figure.

    Parameters
    ----------
    axes : matplotlib.axes.Axes, array of Axes, or None
        What the user gave. None makes a figure.
    n_rows, n_cols : int
        Number of panels.
    size : (float, float)
        Width and height of a new figure in inches.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes, shape (n_rows, n_cols)
        The axes.
    """
    if axes is None:
        from matplotlib import pyplot as plt

        _, axes = plt.subplots(
            n_rows, n_cols, figsize=size, layout="compressed", squeeze=False
        )
    axes = np.asarray(axes, dtype=object)
    if axes.size != n_rows * n_cols:
        raise ValueError(
            f"axes must hold {n_rows * n_cols} Axes ({n_rows} rows of {n_cols}), one a "
            f"panel, but got {axes.size}."
        )
    return axes.reshape(n_rows, n_cols)


def legend_beside(ax, title: str | None = None):
    """Add a legend to the right of the axes, where it hides nothing."""
    handles, labels = ax.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    return ax.legend(
        entries.values(),
        entries.keys(),
        title=title,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        ncols=-(-len(entries) // 16),
        fontsize="small",
        title_fontsize="small",
        markerscale=1.3,
        frameon=False,
    )
