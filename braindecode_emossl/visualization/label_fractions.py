"""Scores by number of labelled trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from braindecode_emossl.evaluation.statistics import summarize_results
from braindecode_emossl.visualization.benchmarks import find_chance
from braindecode_emossl.visualization.style import (
    find_legend_width,
    get_axes,
    legend_beside,
    name_score,
    style_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_label_fractions"]

# Dashes alone separate six lines in greyscale; with colour and marker many more.
_LINE_STYLES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 2, 6, 2)))
# Distance of "all" from the largest number, in doublings.
_GAP = 1.0


def plot_label_fractions(
    results: pd.DataFrame,
    *,
    score: str = "balanced_accuracy",
    chance: float | Mapping[str, float] | None = None,
    ax=None,
) -> Figure:
    """Plot the scores of pipelines over the number of labelled training trials.

    Parameters
    ----------
    results : pandas.DataFrame
        Scores, as returned by :func:`~braindecode_emossl.evaluation.evaluate` with
        ``n_labeled_trials``: the columns ``dataset``, ``pipeline``, ``subject``,
        ``n_labeled_trials`` (missing where all trials have labels) and ``score``, and
        optionally ``protocol``, ``session``, ``seed`` and ``target_access``.
    score : str, default="balanced_accuracy"
        The column to plot.
    chance : float, mapping of str to float, or None, default=None
        Chance level, of all data sets or by data set. By default, that of
        :func:`plot_benchmark`.
    ax : matplotlib.axes.Axes or array of them, shape (n_panels,), optional
        Axes to draw into. By default, a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each data set, protocol and target access, in order of
        appearance, as scores of these must not be ranked together. In a panel, each
        pipeline has a line with the mean over subjects and a band with its 95 %
        confidence interval, see
        :func:`~braindecode_emossl.evaluation.summarize_results`. The x axis is
        logarithmic, with "all" at the right. A dashed line marks the chance level.

    Raises
    ------
    ValueError
        If a column or the chance level of a data set is missing.

    Examples
    --------
    >>> results = evaluate(
    ...     pipelines, [SEED()], Emotion(), "leave-one-subject-out",
    ...     n_labeled_trials=[1, 2, 5, None],
    ... )
    >>> plot_label_fractions(results)
    """
    if "n_labeled_trials" not in results:
        raise ValueError(
            "results must have the column 'n_labeled_trials', but has "
            f"{list(results)}. Pass n_labeled_trials to evaluate."
        )
    summary = summarize_results(results, score)
    by = ["dataset", "protocol", "target_access"]
    by = [name for name in by if name in summary]
    groups = dict(list(results.groupby(by, sort=False, observed=True, dropna=False)))
    places = _find_places(results["n_labeled_trials"])
    styles = {
        name: {**style_of(i), "linestyle": _LINE_STYLES[i % len(_LINE_STYLES)]}
        for i, name in enumerate(results["pipeline"].unique())
    }
    width = max(3.2, 0.8 * len(places)) * len(groups)
    width += 0.7 + find_legend_width([*styles, "chance"])
    axes = get_axes(ax, 1, len(groups), size=(width, 3.8))[0]
    varying = [name for name in by if results[name].nunique(dropna=False) > 1]
    for panel_ax, (key, rows) in zip(axes, groups.items(), strict=True):
        level = find_chance(rows, key[0], score, chance)
        if level is not None:
            style = {"color": "black", "linestyle": (0, (4, 4)), "linewidth": 0.8}
            panel_ax.axhline(level, **style, label="chance", zorder=1)
        _draw_curves(panel_ax, summarize_results(rows, score), places, styles)
        where = dict(zip(by, key, strict=True))
        panel_ax.set_title("\n".join(_name(name, where[name]) for name in varying))
    _share_scale(axes)
    axes[0].set_ylabel(name_score(score))
    legend_beside(axes, first=styles)
    return axes[0].figure


def _find_places(numbers: pd.Series) -> dict[int | None, float]:
    """Return the place on the x axis of each number, None for all, from left."""
    known = sorted({int(n) for n in numbers.dropna()})
    places: dict[int | None, float] = {n: float(np.log2(n)) for n in known}
    if numbers.isna().any():
        places[None] = max(places.values(), default=-_GAP) + _GAP
    return places


def _draw_curves(ax, summary: pd.DataFrame, places: dict, styles: dict) -> None:
    """Draw the line and the band of each pipeline."""
    for pipeline, rows in summary.groupby("pipeline", sort=False, observed=True):
        style = styles[pipeline]
        numbers = [None if pd.isna(n) else int(n) for n in rows["n_labeled_trials"]]
        rows = rows.assign(place=[places[n] for n in numbers]).sort_values("place")
        place = rows["place"].to_numpy()
        low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
        color = style["color"]
        if len(rows) > 1:
            ax.fill_between(place, low, high, color=color, alpha=0.09, linewidth=0)
            for edge in (low, high):  # bands overlap; their edges stay visible
                edge_style = {"color": color, "linestyle": style["linestyle"]}
                ax.plot(place, edge, **edge_style, alpha=0.5, linewidth=0.7, zorder=1.5)
        else:
            ax.vlines(place, low, high, color=color, linewidth=1)
        ax.plot(place, rows["mean"], **style, markersize=5, label=pipeline)
    if None in places and len(places) > 1:
        _break_axis(ax, places[None] - _GAP / 2)
    ax.set_xticks(list(places.values()), ["all" if n is None else n for n in places])
    ax.set(
        xlabel="Labelled trials per class and subject",
        xlim=(min(places.values()) - 0.3, max(places.values()) + 0.3),
    )
    ax.spines[["top", "right"]].set_visible(False)


def _break_axis(ax, place: float) -> None:
    """Mark that the x axis is not to scale from here on."""
    for shift in (-0.04, 0.04):
        ax.plot(
            place + shift,
            0,
            transform=ax.get_xaxis_transform(),
            marker=[(-0.6, -1), (0.6, 1)],
            markersize=9,
            color="black",
            linestyle="none",
            markeredgewidth=0.8,
            clip_on=False,
        )


def _name(column: str, value) -> str:
    """Return the line of a title that names a group."""
    return f"Target access: {value}" if column == "target_access" else str(value)


def _share_scale(axes) -> None:
    """Give all panels the same y axis."""
    bottoms, tops = zip(*(ax.get_ylim() for ax in axes), strict=True)
    for ax in axes:
        ax.set_ylim(min(bottoms), max(tops))
