"""The style of all figures: colours, markers, axes and legends."""

from __future__ import annotations

import numpy as np

__all__ = [
    "COLORS",
    "COLOR_MAP",
    "MARKERS",
    "N_STYLES",
    "find_legend_width",
    "get_axes",
    "legend_beside",
    "name_score",
    "style_of",
]

#: Colours that the colour-blind can distinguish [1]_, without the yellow, which is too
#: pale for lines. The first four also differ in lightness, and hence in greyscale.
#:
#: References
#: ----------
#: .. [1] Okabe, M., & Ito, K. (2008). Color universal design (CUD): How to make
#:    figures and presentations that are friendly to colorblind people.
#:    https://jfly.uni-koeln.de/color/
COLORS = ("#0072B2", "#E69F00", "#000000", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")

#: Markers, as lightness alone does not suffice. There is one more than colours: the two
#: numbers share no factor, so that a pair of both repeats only after ``N_STYLES``.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

#: Number of groups with distinct styles.
N_STYLES = len(COLORS) * len(MARKERS)

#: Colour map of topographic and other maps: even steps from dark blue to light yellow,
#: the same for all kinds of colour vision.
COLOR_MAP = "cividis"


# Rows of a legend before it has another column.
_LEGEND_ROWS = 16


def style_of(i: int) -> dict[str, str]:
    """Return colour and marker of the i-th group, for matplotlib."""
    return {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]}


def get_axes(axes, n_rows: int = 1, n_cols: int = 1, *, size: tuple[float, float]):
    """Return the given axes, or those of a new figure, as (n_rows, n_cols)."""
    if axes is None:
        from matplotlib import pyplot as plt

        _, axes = plt.subplots(
            n_rows, n_cols, figsize=size, layout="compressed", squeeze=False
        )
    axes = np.asarray(axes, dtype=object)
    if axes.size != n_rows * n_cols:
        raise ValueError(
            f"axes must hold {n_rows * n_cols} Axes ({n_rows} rows of {n_cols}), one "
            f"per panel, but got {axes.size}."
        )
    return axes.reshape(n_rows, n_cols)


def legend_beside(axes, title: str | None = None, *, first=()):
    """Add a legend of all axes, some labels first, to the right of the last one."""
    axes = np.ravel(np.asarray(axes, dtype=object))
    entries = dict.fromkeys(first)
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries[label] = handle
    entries = {label: handle for label, handle in entries.items() if handle}
    return axes[-1].legend(
        entries.values(),
        entries.keys(),
        title=title,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        ncols=-(-len(entries) // _LEGEND_ROWS),
        fontsize="small",
        title_fontsize="small",
        markerscale=1.3,
        handlelength=2.6,
        frameon=False,
    )


def find_legend_width(labels) -> float:
    """Return the width, in inches, of the legend that `legend_beside` draws."""
    n_columns = -(-len(labels) // _LEGEND_ROWS)
    return n_columns * (0.6 + 0.08 * max(map(len, labels)))


def name_score(score: str) -> str:
    """Return the name of a column of scores, for an axis."""
    return _SCORES.get(score) or score.replace("_", " ").capitalize()


_SCORES = {
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "f1_macro": "Macro F1",
    "f1_macro_trial": "Macro F1 of trials",
    "roc_auc": "ROC-AUC",
    "score_trial": "Accuracy of trials",
}
