"""Scores of pipelines by subject, with chance level and significance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from braindecode_emossl.evaluation.statistics import (
    compare_pipelines,
    leave_out_controls,
    summarize_results,
)
from braindecode_emossl.visualization.style import (
    find_legend_width,
    get_axes,
    legend_beside,
    name_score,
    style_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["find_chance", "plot_benchmark", "split_by_access"]

# Proportion of a group's width for its pipelines, and of theirs for points and mean.
_GROUP_WIDTH = 0.85
_POINTS_WIDTH = 0.55
_MEAN_WIDTH = 0.25
_CHANCE = {"color": "black", "linestyle": "--", "linewidth": 1, "marker": ""}
_INTERVAL = "mean, 95 % interval"
# Chance levels that do not depend on the data.
_CHANCES = {"kappa": 0.0, "kappa_trial": 0.0, "roc_auc": 0.5}
# Scores, also of trials, whose chance level is one over the number of classes.
_SHARES = ("score", "accuracy", "balanced_accuracy", "f1_macro")
# More brackets than these would leave no room for the scores.
_MAX_BRACKETS = 10


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
        Scores, as returned by :func:`~braindecode_emossl.evaluation.evaluate`: the
        columns ``dataset``, ``pipeline``, ``subject`` and ``score``, and optionally
        ``protocol``, ``session``, ``seed``, ``n_labeled_trials`` and
        ``target_access``.
    score : str, default="score"
        The column to plot.
    chance : float, mapping of str to float, or None, default=None
        Chance level, of all data sets or by data set. By default, the expected score
        of guessing all classes equally often: 0 for kappa, 0.5 for ``roc_auc``, one
        over the largest ``n_classes`` of the data set for accuracies, F1 scores and
        recalls, the mean of ``<score>_chance`` for probes and 1 for their ratios. Other
        columns have no chance level. Guessing can reach more where classes differ in
        frequency, see :func:`~braindecode_emossl.evaluation.chance_level`.
    level : float, default=0.05
        Pairs of pipelines with a smaller corrected p-value are marked.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations where they are drawn.
    ax : matplotlib.axes.Axes or array of them, shape (n_panels,), optional
        Axes to draw into, one for each kind of ``target_access``. By default, a new
        figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each kind of ``target_access``, as scores of different kinds must
        not be ranked together. In a panel, for each data set, protocol and number of
        labelled trials, in order of appearance, and each pipeline: one point per
        subject (the mean over seeds and sessions; subjects are in the same order from
        left to right), the mean over subjects and its 95 % confidence interval, see
        :func:`~braindecode_emossl.evaluation.summarize_results`. A dashed line marks
        the chance level, a bracket a significant difference, see
        :func:`~braindecode_emossl.evaluation.compare_pipelines`. If a panel has more
        than ten of these, it states their number instead.

    Raises
    ------
    ValueError
        If a column or the chance level of a data set is missing, or pipelines were not
        scored on the same subjects and sessions.
    """
    results = leave_out_controls(results)
    summarize_results(results, score)  # it checks the table
    styles = {name: style_of(i) for i, name in enumerate(results["pipeline"].unique())}
    panels = [
        _Panel(title, rows, score, level, random_state)
        for title, rows in split_by_access(results)
    ]
    width = sum(panel.width for panel in panels)
    height = 4.0 + 0.25 * max(panel.n_levels for panel in panels)
    width += 0.7 + find_legend_width([*styles, _INTERVAL])
    axes = get_axes(ax, 1, len(panels), size=(width, height))[0]
    for panel, panel_ax in zip(panels, axes, strict=True):
        panel.draw_scores(panel_ax, styles, chance)
    bottoms, tops = zip(*(panel_ax.get_ylim() for panel_ax in axes), strict=True)
    bottom, top = min(bottoms), max(tops)
    for panel, panel_ax in zip(panels, axes, strict=True):
        panel.draw_brackets(panel_ax, base=top, gap=0.04 * (top - bottom))
    top = max(panel_ax.get_ylim()[1] for panel_ax in axes)
    for panel_ax in axes:
        ticks = panel_ax.get_yticks()
        panel_ax.set_yticks(ticks[ticks <= max(tops)])  # none beside the brackets
        panel_ax.set_ylim(bottom, top)
    axes[0].set_ylabel(name_score(score))
    legend_beside(axes, first=styles)
    return axes[0].figure


def split_by_access(results: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the results of each kind of target access, with a title if several."""
    if "target_access" not in results:
        return [("", results)]
    parts = results.groupby("target_access", sort=False, observed=True, dropna=False)
    parts = [(f"Target access: {kind}", rows) for kind, rows in parts]
    return parts if len(parts) > 1 else [("", results)]


def find_chance(rows: pd.DataFrame, dataset: str, score: str, chance) -> float | None:
    """Return the chance level of a data set, None if the score has none."""
    if isinstance(chance, Mapping):
        if dataset not in chance:
            raise ValueError(
                "chance must have the level of every data set, but lacks that of "
                f"{dataset!r}; got {dict(chance)}."
            )
        return chance[dataset]
    if chance is not None:
        return chance
    if score in _CHANCES:
        return _CHANCES[score]
    if f"{score}_chance" in rows:
        return rows[f"{score}_chance"].mean()
    if score.endswith("_ratio"):
        return 1.0
    if score.removesuffix("_trial") not in _SHARES and not score.startswith("recall_"):
        return None
    if "n_classes" not in rows:
        raise ValueError(
            "results must have the column 'n_classes' to find the chance level of "
            f"{score!r}, but has {list(rows)}. Otherwise pass chance."
        )
    # A subject may lack a class that others have.
    return 1 / rows["n_classes"].max()


class _Panel:
    """The results of one kind of target access, in groups along the x axis."""

    def __init__(self, title, rows, score, level, random_state):
        self.title, self.score = title, score
        by = ["dataset", "protocol", "n_labeled_trials"]
        by = [name for name in by if name in rows and rows[name].notna().any()]
        groups = rows.groupby(by, sort=False, observed=True, dropna=False)
        self.parts = dict(list(groups))
        self.labels = ["\n".join(_name_group(by, key)) for key in self.parts]
        pipelines = rows["pipeline"].unique()
        n = len(pipelines)
        slots = _GROUP_WIDTH * ((np.arange(n) + 0.5) / n - 0.5)
        self.places = [
            dict(zip(pipelines, i + slots, strict=True)) for i in range(len(groups))
        ]
        self.pairs = [
            _find_pairs(part, score, level, random_state)
            for part in self.parts.values()
        ]
        self.n_pairs = sum(map(len, self.pairs))
        self.is_marked = max(map(len, self.pairs)) <= _MAX_BRACKETS
        self.n_levels = max(map(len, self.pairs)) if self.is_marked else 1
        self.width = max(2.0, 0.8 * n) * len(groups)

    def draw_scores(self, ax, styles: dict, chance) -> None:
        """Draw points, means and chance levels."""
        for i, (key, part) in enumerate(self.parts.items()):
            places = self.places[i]
            _draw_subjects(ax, part, self.score, places, styles)
            _draw_means(ax, summarize_results(part, self.score), places, styles)
            level = find_chance(part, key[0], self.score, chance)
            if level is not None:
                ax.plot((i - 0.5, i + 0.5), 2 * (level,), **_CHANCE, label="chance")
        ax.set_xticks(range(len(self.parts)), self.labels)
        ax.set(xlim=(-0.5, len(self.parts) - 0.5), title=self.title)
        ax.spines[["top", "right"]].set_visible(False)

    def draw_brackets(self, ax, base: float, gap: float) -> None:
        """Draw a bracket over each significant pair, one above the other."""
        if not self.is_marked:
            text = f"{self.n_pairs} significant differences between pipelines"
            ax.set_title("\n".join(filter(None, (self.title, text))), fontsize="medium")
            return
        style: dict = {"ha": "center", "va": "bottom", "fontsize": "small"}
        for pairs, places in zip(self.pairs, self.places, strict=True):
            for i, pair in enumerate(pairs.itertuples()):
                ends = [places[pair.pipeline_1], places[pair.pipeline_2]]
                height = base + 2 * i * gap
                legs = height - gap * np.array([0.4, 0, 0, 0.4])
                ax.plot(np.repeat(ends, 2), legs, color="black", linewidth=1)
                p = pair.p_corrected
                text = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
                ax.text(np.mean(ends), height + 0.1 * gap, text, **style)


def _name_group(by: list[str], key: tuple) -> list[str]:
    """Return the lines that name a group on the x axis."""
    lines = [str(part) for part in key]
    if "n_labeled_trials" in by:
        lines[-1] = "all labels" if pd.isna(key[-1]) else f"{key[-1]:.0f} labelled"
    return lines


def _find_pairs(rows: pd.DataFrame, score: str, level: float, random_state):
    """Return the pairs of pipelines that differ significantly."""
    if min(rows["pipeline"].nunique(), rows["subject"].nunique()) < 2:
        return pd.DataFrame()
    pairs = compare_pipelines(rows, score=score, random_state=random_state)
    return pairs[pairs["p_corrected"] < level]


def _draw_subjects(ax, rows, score: str, places: dict, styles: dict) -> None:
    """Draw the mean score of each subject, in the left part of a pipeline's slot."""
    slot = _GROUP_WIDTH / len(places)
    scores = rows.groupby(["pipeline", "subject"], sort=False, observed=True)[score]
    scores = scores.mean().unstack("pipeline")  # (n_subjects, n_pipelines)
    shifts = (np.arange(len(scores)) + 0.5) / len(scores) - 0.5
    for pipeline, place in places.items():
        if pipeline in scores:
            ax.plot(
                place + slot * (_POINTS_WIDTH * shifts - _MEAN_WIDTH / 2),
                scores[pipeline],
                linestyle="none",
                **styles[pipeline],
                markersize=5,
                alpha=0.6,
                markeredgewidth=0,
                label=pipeline,
            )


def _draw_means(ax, summary: pd.DataFrame, places: dict, styles: dict) -> None:
    """Draw means with their intervals, in the right part of a pipeline's slot."""
    slot = _GROUP_WIDTH / len(places)
    for row in summary.itertuples():
        ax.errorbar(
            places[row.pipeline] + slot * _POINTS_WIDTH / 2,
            row.mean,
            # The bounds of equal scores may differ from their mean by rounding.
            yerr=[[max(row.mean - row.low, 0)], [max(row.high - row.mean, 0)]],
            **styles[row.pipeline],
            linestyle="none",
            markersize=7,
            markeredgecolor="black",
            ecolor="black",
            elinewidth=1.2,
            capsize=3,
            label=_INTERVAL,
        )
