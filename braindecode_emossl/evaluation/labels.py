"""What the labels of a corpus are worth, before any signal is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import krippendorff
import numpy as np
import pandas as pd

from braindecode_emossl.errors import CorpusNotFoundError
from braindecode_emossl.paradigms.labels import LABELS, UNLABELED, find_level

__all__ = ["LabelReport", "describe_labels"]

# Default thresholds, relative to the midpoint of the scale.
_STEPS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclass(frozen=True)
class LabelReport:
    """Labels and ratings of a corpus, as :func:`describe_labels` returns them.

    Attributes
    ----------
    corpus : str
        Code of the corpus.
    settings : dict
        Settings of the paradigm that determine the labels, by name.
    counts : DataFrame
        Number of trials by subject (rows) and label (columns), as
        :meth:`Emotion.class_balance` counts them.
    majority : float
        Share of the most frequent label among all trials with a label: the accuracy
        of a constant answer.
    thresholds : DataFrame
        For each rating and threshold: numbers of low and high ratings (``n_low``,
        ``n_high``), the share of the larger one (``majority``), and number and share
        of ratings not farther than ``near`` from the threshold (``n_near``,
        ``share_near``).
    agreement : DataFrame
        Krippendorff's alpha between subjects (``alpha``) of the ``ratings`` at the
        ``level`` of measurement ``"interval"``, and of the ``classes`` at the level
        ``"nominal"``, with the numbers of stimuli and of raters.
    stimulus : DataFrame
        For each rating: in how many of the trials (``n_trials``) that have both
        labels the label of the stimulus differs from the subject's own (``n_differ``,
        ``share_differ``).
    notes : list of str
        Why a table has no rows.
    """

    corpus: str
    settings: dict[str, Any]
    counts: pd.DataFrame
    majority: float
    thresholds: pd.DataFrame
    agreement: pd.DataFrame
    stimulus: pd.DataFrame
    notes: list[str]

    def to_dict(self):
        """Return the report as a dict that JSON can hold.

        Returns
        -------
        dict
            The attributes; tables as lists of rows.
        """
        tables = {
            name: getattr(self, name).to_dict("records")
            for name in ("thresholds", "agreement", "stimulus")
        }
        return {
            "corpus": self.corpus,
            "settings": self.settings,
            "counts": self.counts.reset_index().to_dict("records"),
            "majority": self.majority,
            **tables,
            "notes": self.notes,
        }

    def __str__(self):
        settings = ", ".join(f"{k}={v}" for k, v in self.settings.items() if v)
        totals = pd.concat([self.counts, self.counts.sum().to_frame("all").T])
        sections = {
            f"{self.corpus}, trials by subject and label ({settings})": totals,
            "Majority baseline and ratings near the threshold": self.thresholds,
            "Agreement between subjects, Krippendorff's alpha": self.agreement,
            "Label of the stimulus against self-report": self.stimulus,
        }
        texts = [
            f"{title}\n{_to_text(table, with_index=table is totals)}"
            for title, table in sections.items()
            if len(table)
        ]
        texts.insert(1, f"Majority baseline of these labels: {self.majority:.3f}")
        return "\n\n".join([*texts, *self.notes])


def _to_text(table: pd.DataFrame, with_index: bool) -> str:
    return table.to_string(index=with_index, float_format="{:.3f}".format, na_rep="")


def describe_labels(
    paradigm, dataset, *, thresholds: Sequence[float] | None = None, near: float = 1.0
) -> LabelReport:
    """Describe the labels of a corpus without reading signals.

    The binary labels of the tables follow the paradigm's ``threshold``, ``ties`` and
    ``margin``; they are computed for every rating of the corpus, whatever the target.

    Parameters
    ----------
    paradigm : Emotion
        The paradigm whose labels are counted.
    dataset : EmotionDataset
        The corpus, on disk.
    thresholds : sequence of float or None
        Thresholds at which the majority baseline is computed. By default the midpoint
        of the scale, and 0.5 and 1 below and above it.
    near : float
        A rating is near a threshold if it is not farther than this from it, in units
        of the rating.

    Returns
    -------
    LabelReport
        Counts of trials, majority baselines, agreement between subjects, and the
        labels of stimuli against self-report.

    Raises
    ------
    ValueError
        If the dataset lacks the target, or if an argument is not a number.

    Notes
    -----
    Krippendorff's alpha [1]_ compares the disagreement of subjects about one stimulus
    with that of all pairs of ratings: 1 is perfect agreement, 0 what chance gives. Its
    value depends on the level of measurement, which must be named with it. A subject
    who rated a stimulus in several sessions counts as several raters. Alpha is NaN
    where it is not defined, as for ratings that are all equal.

    References
    ----------
    .. [1] Krippendorff, K. (2011). Computing Krippendorff's alpha-reliability.
       University of Pennsylvania.
       https://repository.upenn.edu/asc_papers/43

    Examples
    --------
    >>> from braindecode_emossl import DEAP, Emotion
    >>> print(describe_labels(Emotion("valence", ties="high"), DEAP()))
    """
    if not np.isfinite(near) or near < 0:
        raise ValueError(f"near must be a number of at least 0, but got {near!r}.")
    trials = paradigm.label_trials(dataset)
    names = [*paradigm.used_events(dataset), UNLABELED]
    counts = pd.crosstab(trials["subject"], trials["label"])
    counts = counts.reindex(columns=names, fill_value=0)
    counts = counts.rename_axis(columns=None)
    labelled = counts.drop(columns=UNLABELED).sum()
    midpoint = dataset.rating_midpoint
    ratings = [name for name in dataset.ratings if (name, 2) in LABELS]
    notes = []
    if not ratings:
        notes.append(
            f"{dataset.code} has no ratings: its classes are those of the stimuli."
        )
    if thresholds is None and midpoint is not None:
        thresholds = [midpoint + step for step in _STEPS]
    rule = _Rule(paradigm, midpoint)
    return LabelReport(
        corpus=dataset.code,
        settings=_list_settings(paradigm, midpoint if ratings else None),
        counts=counts,
        majority=float(labelled.max() / labelled.sum()) if labelled.sum() else np.nan,
        thresholds=_compare_thresholds(trials, ratings, thresholds or (), rule, near),
        agreement=_measure_agreement(trials, ratings, rule, dataset),
        stimulus=_compare_sources(trials, rule, dataset, notes),
        notes=notes,
    )


def _list_settings(paradigm, midpoint) -> dict[str, Any]:
    names = ("target", "n_classes", "threshold", "ties", "margin", "label_source")
    settings = {name: getattr(paradigm, name) for name in names}
    if settings["threshold"] is None:
        settings["threshold"] = midpoint
    return settings


class _Rule:
    """Binary levels of ratings by the settings of a paradigm."""

    def __init__(self, paradigm, midpoint):
        self.ties, self.margin = paradigm.ties, paradigm.margin
        self.threshold = paradigm.threshold
        if self.threshold is None:
            self.threshold = midpoint

    def label(self, trials, name: str, threshold=None) -> pd.Series:
        """Return 0, 1 or NaN of each trial; the threshold is the rule's by default."""
        cuts = self.find_cuts(trials, name) if threshold is None else threshold
        return self.apply(trials[name], cuts)

    def find_cuts(self, trials, name: str):
        """Return the threshold, or that of each trial's subject."""
        if self.threshold == "median":
            return trials.groupby("subject")[name].transform("median")
        return self.threshold

    def apply(self, ratings: pd.Series, cuts) -> pd.Series:
        """Return 0, 1 or NaN of each rating; cuts are a number or one per rating."""
        cuts = np.broadcast_to(cuts, len(ratings))
        levels = [
            find_level(rating, (cut,), self.ties, self.margin)
            for rating, cut in zip(ratings, cuts, strict=True)
        ]
        return pd.Series(levels, ratings.index, dtype=float)


def _compare_thresholds(trials, ratings, thresholds, rule, near) -> pd.DataFrame:
    """Return one row for each rating and threshold."""
    rows = []
    for name in ratings:
        for threshold in thresholds:
            levels = rule.label(trials, name, threshold)
            n_low, n_high = int((levels == 0).sum()), int((levels == 1).sum())
            distance = (trials[name] - threshold).abs()
            n_near = int((distance <= near + 1e-9).sum())
            rows.append(
                {
                    "rating": name,
                    "threshold": float(threshold),
                    "n_low": n_low,
                    "n_high": n_high,
                    "majority": _divide(max(n_low, n_high), n_low + n_high),
                    "n_near": n_near,
                    "share_near": _divide(n_near, int(trials[name].notna().sum())),
                }
            )
    return pd.DataFrame(rows)


def _measure_agreement(trials, ratings, rule, dataset) -> pd.DataFrame:
    """Return alpha of the ratings, of their classes, and of the corpus's classes."""
    rows = []
    for name in ratings:
        rows.append(_measure_alpha(trials, name, trials[name], "interval"))
        if rule.threshold is not None:
            levels = rule.label(trials, name)
            rows.append(_measure_alpha(trials, name, levels, "nominal"))
    if dataset.class_source == "self-report":
        codes = trials["emotion"].map(dataset.event_id).astype(float)
        rows.append(_measure_alpha(trials, "emotion", codes, "nominal"))
    return pd.DataFrame(rows)


def _measure_alpha(
    trials, name: str, values: pd.Series, level: Literal["interval", "nominal"]
) -> dict[str, Any]:
    """Return Krippendorff's alpha between raters, with its level of measurement."""
    raters = [trials["subject"].astype(str), trials["session"].astype(str)]
    table = values.groupby([*raters, trials["stimulus"]]).mean().unstack()
    table = table.dropna(how="all").dropna(axis=1, how="all")
    shared = table.loc[:, table.notna().sum() > 1].to_numpy()
    alpha = np.nan
    if len(np.unique(shared[~np.isnan(shared)])) > 1:
        alpha = float(krippendorff.alpha(shared, level_of_measurement=level))
    return {
        "rating": name,
        "of": "ratings" if level == "interval" else "classes",
        "level": level,
        "alpha": alpha,
        "n_stimuli": table.shape[1],
        "n_raters": table.shape[0],
    }


def _compare_sources(trials, rule, dataset, notes: list[str]) -> pd.DataFrame:
    """Return how often the label of the stimulus differs from the subject's own."""
    if not dataset.stimulus_ratings:
        return pd.DataFrame()
    try:
        table = dataset.stimulus_table()
    except CorpusNotFoundError as error:
        notes.append(str(error))
        return pd.DataFrame()
    rows = []
    for name in dataset.stimulus_ratings:
        own = rule.label(trials, name)
        of_stimulus = rule.apply(
            trials["stimulus"].map(table[name]), rule.find_cuts(trials, name)
        )
        both = own.notna() & of_stimulus.notna()
        n_differ = int((own != of_stimulus)[both].sum())
        rows.append(
            {
                "rating": name,
                "n_trials": int(both.sum()),
                "n_differ": n_differ,
                "share_differ": _divide(n_differ, int(both.sum())),
            }
        )
    return pd.DataFrame(rows)


def _divide(part: int, whole: int) -> float:
    return part / whole if whole else np.nan
