"""Scores of pipelines, with chance level and significance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from braindecode_emossl.evaluation.statistics import (
    compare_pipelines,
    summarize_results,
)
from braindecode_emossl.visualization.style import get_axes, legend_beside, style_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_benchmark"]

# Share of a data set's place for its pipelines, and of theirs for points and mean.
_GROUP_WIDTH = 0.85
_POINTS_WIDTH = 0.55
_MEAN_WIDTH = 0.25
_CHANCE = {"color": "black", "linestyle": "--", "linewidth": 1, "marker": ""}


def plot_benchmark(
    results: pd.DataFrame,
    *,
    score: str = "score",
    chance: float | Mapping[str, float] | None = None,
    level: float = 0.05,
    random_state=None,
    ax=None,
) -> Figure:
    """Plot the scores of pipelines by subject, with means, chance and significance.

    Parameters
    ----------
    results : pandas.DataFrame
        Scores, as of :func:`~braindecode_emossl.evaluation.evaluate`: the columns
        ``dataset``, ``pipeline``, ``subject``, that of the score and, if there are
        several, ``session`` and ``protocol``.
    score : str, default="score"
        The column to draw.
    chance : float, mapping of str to float, or None, default=None
        Chance level, of all data sets or of each. None takes what guessing all classes
        equally often is expected to reach: 0 for kappa, else one over the largest
        ``n_classes`` of the data set. Guessing can reach more where classes differ in
        frequency, see :func:`~braindecode_emossl.evaluation.chance_level`.
    level : float, default=0.05
        Pairs of pipelines with a corrected p-value below it are marked.
    random_state : int, RandomState instance or None, default=None
        Draws the permutations where not all are taken.
    ax : matplotlib.axes.Axes, optional
        Where to draw. None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        For each data set and protocol, in order of appearance, and each pipeline: a
        point a subject (the mean of its sessions; subjects from left to right in the
        same order), the mean over subjects and its 95 % confidence interval, see
        :func:`~braindecode_emossl.evaluation.summarize_results`. A dashed line marks
        chance, a bracket a difference that is significant by
        :func:`~braindecode_emossl.evaluation.compare_pipelines`.

    Raises
    ------
    ValueError
        If a column or the chance level of a data set is missing, or pipelines were not
        scored on the same subjects and sessions.
    """
    summary = summarize_results(results, score)
    by = [name for name in ("dataset", "protocol") if name in summary]
    pipelines = summary["pipeline"].unique()
    parts = [*results.groupby(by, sort=False, observed=True)]
    pairs = [_find_pairs(part, score, level, random_state) for _, part in parts]

    width = max(2.0, 0.8 * len(pipelines)) * len(parts)
    size = (2.5 + width, 4.0 + 0.25 * max(map(len, pairs)))
    ax = get_axes(ax, size=size)[0, 0]
    slots = _GROUP_WIDTH * ((np.arange(len(pipelines)) + 0.5) / len(pipelines) - 0.5)
    places = [dict(zip(pipelines, i + slots, strict=True)) for i in range(len(parts))]
    for i, (key, part) in enumerate(parts):
        _draw_subjects(ax, part, score, places[i])
        _draw_means(ax, summarize_results(part, score), places[i])
        chance_level = _find_chance(part, key[0], score, chance)
        ax.plot((i - 0.5, i + 0.5), 2 * (chance_level,), **_CHANCE, label="chance")
    bottom, top = ax.get_ylim()
    for i in range(len(parts)):
        _draw_brackets(ax, pairs[i], places[i], top, gap=0.04 * (top - bottom))
    ax.set_xticks(range(len(parts)), ["\n".join(key) for key, _ in parts])
    ax.set(xlim=(-0.5, len(parts) - 0.5), ylabel=score.replace("_", " ").capitalize())
    ax.spines[["top", "right"]].set_visible(False)
    legend_beside(ax)
    return ax.figure


def _find_pairs(rows: pd.DataFrame, score: str, level: float, random_state):
    """Return the pairs of pipelines that differ significantly."""
    if min(rows["pipeline"].nunique(), rows["subject"].nunique()) < 2:
        return pd.DataFrame()
    pairs = compare_pipelines(rows, score=score, random_state=random_state)
    return pairs[pairs["p_corrected"] < level]


def _draw_subjects(ax, rows: pd.DataFrame, score: str, places: dict) -> None:
    """Draw the mean score of each subject, in the left part of a pipeline's slot."""
    slot = _GROUP_WIDTH / len(places)
    scores = rows.groupby(["pipeline", "subject"], sort=False, observed=True)[score]
    scores = scores.mean().unstack("pipeline")  # (n_subjects, n_pipelines)
    shifts = (np.arange(len(scores)) + 0.5) / len(scores) - 0.5
    for i, (pipeline, place) in enumerate(places.items()):
        if pipeline in scores:
            ax.plot(
                place + slot * (_POINTS_WIDTH * shifts - _MEAN_WIDTH / 2),
                scores[pipeline],
                linestyle="none",
                **style_of(i),
                markersize=5,
                alpha=0.6,
                markeredgewidth=0,
                label=pipeline,
            )


def _draw_means(ax, summary: pd.DataFrame, places: dict) -> None:
    """Draw means with their intervals, in the right part of a pipeline's slot."""
    slot = _GROUP_WIDTH / len(places)
    styles = {pipeline: style_of(i) for i, pipeline in enumerate(places)}
    for row in summary.itertuples():
        ax.errorbar(
            places[row.pipeline] + slot * _POINTS_WIDTH / 2,
            row.mean,
            yerr=[[row.mean - row.low], [row.high - row.mean]],
            **styles[row.pipeline],
            linestyle="none",
            markersize=7,
            markeredgecolor="black",
            ecolor="black",
            elinewidth=1.2,
            capsize=3,
            label="mean, 95 % interval",
        )


def _find_chance(rows: pd.DataFrame, dataset: str, score: str, chance) -> float:
    """Return the chance level of a data set."""
    if isinstance(chance, Mapping):
        if dataset not in chance:
            raise ValueError(
                "chance must have the level of every data set, but lacks that of "
                f"{dataset!r}; got {dict(chance)}."
            )
        return chance[dataset]
    if chance is not None:
        return chance
    if score.startswith("kappa"):
        return 0.0
    if "n_classes" not in rows:
        raise ValueError(
            "results must have the column 'n_classes' to tell the chance level of "
            f"{score!r}, but has {list(rows)}. Else pass chance."
        )
    # A subject may lack a class that the others have.
    return 1 / rows["n_classes"].max()


def _draw_brackets(ax, pairs: pd.DataFrame, places: dict, base: float, gap: float):
    """Draw a bracket over each pair of pipelines, one above the other."""
    for i, pair in enumerate(pairs.itertuples()):
        ends = [places[pair.pipeline_1], places[pair.pipeline_2]]
        height = base + 2 * i * gap
        legs = height - gap * np.array([0.4, 0, 0, 0.4])
        ax.plot(np.repeat(ends, 2), legs, color="black", linewidth=1)
        p_value = pair.p_corrected
        text = f"p = {p_value:.3f}" if p_value >= 0.001 else "p < 0.001"
        ax.text(np.mean(ends), height, text, ha="center", va="bottom", fontsize="small")
