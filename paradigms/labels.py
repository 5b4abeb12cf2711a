"""The labels of trials, for one corpus and for several."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import cache

from braindecode_emossl.checks import check_choice

__all__ = [
    "LABELS",
    "TARGETS",
    "UNLABELED",
    "Labeller",
    "check_target",
    "find_level",
    "warn_of_ignored_rules",
    "warn_of_threshold",
]

#: The label of windows whose trial has none for the target.
UNLABELED = "unlabeled"

# Labels by target and number of classes, in the order of their event codes.
LABELS: dict[tuple[str, int | None], tuple[str, ...]] = {
    ("valence", 2): ("negative", "positive"),
    ("valence", 3): ("negative", "neutral", "positive"),
    **{
        (rating, n_classes): names
        for rating in ("arousal", "dominance", "liking")
        for n_classes, names in (
            (2, ("low", "high")),
            (3, ("low", "medium", "high")),
        )
    },
    ("quadrant", 4): ("LVLA", "LVHA", "HVLA", "HVHA"),
}
TARGETS = ("emotion", *dict.fromkeys(target for target, _ in LABELS))

# A rating of 3.4 is 0.1 from 3.3, but 3.4 - 3.3 > 0.1 in floating point.
_ROUNDING = 1e-9


def check_target(target: str, n_classes: int | None) -> int | None:
    """Return the number of classes, after a check that the target has it."""
    check_choice("target", target, TARGETS)
    possible = [n for name, n in LABELS if name == target]
    if n_classes is None:
        return possible[0] if possible else None
    if n_classes not in possible:
        raise ValueError(
            f"n_classes of the target {target!r} must be "
            f"{' or '.join(map(str, possible)) or 'left at None'}, but got {n_classes}."
        )
    return n_classes


def find_level(
    rating: float, cuts: Sequence[float], ties: str, margin: float
) -> int | None:
    """Return how many cuts a rating exceeds, None if it gets no label."""
    if math.isnan(rating):
        return None
    level = 0
    for cut in cuts:
        if abs(rating - cut) > margin + _ROUNDING:
            level += rating > cut
        elif margin > 0 or ties == "drop":
            return None
        else:
            level += ties == "high"
    return level


@cache  # an evaluation asks for the labels of each subject
def warn_of_ignored_rules(code: str, threshold, ties: str, margin: float) -> None:
    """Warn of rules for ratings where the classes of a corpus have the valence."""
    rules = {"threshold": threshold, "ties": ties, "margin": margin}
    unset = {"threshold": None, "ties": "low", "margin": 0.0}
    ignored = [f"{k}={value!r}" for k, value in rules.items() if value != unset[k]]
    if ignored:
        verb = "have" if len(ignored) > 1 else "has"
        warnings.warn(
            f"{' and '.join(ignored)} of Emotion {verb} no effect on {code}, whose "
            "valence is the class of the stimulus: only ratings are cut. If the corpus "
            'has ratings, pass label_source="self-report" to use them.',
            stacklevel=4,
        )


@cache
def warn_of_threshold(
    code: str, threshold: float, midpoint: float, reach: float
) -> None:
    """Warn of a threshold that is farther from the midpoint than the scale reaches."""
    if abs(threshold - midpoint) > reach + _ROUNDING:
        warnings.warn(
            f"threshold={threshold:g} of Emotion lies outside the scale of the ratings "
            f"of {code}, which is from {midpoint - reach:g} to {midpoint + reach:g}: "
            "all trials get the same label.",
            stacklevel=5,
        )


class Labeller:
    """Name the label of a trial.

    Parameters
    ----------
    target : str
        One of ``TARGETS``.
    n_classes : int or None
        As :func:`check_target` returns it.
    cuts : tuple of float, ("median",) or None
        What a high rating exceeds, or a medium and a high one with three classes. None
        only where no label depends on it.
    ties : {"low", "high", "drop"}
        Label of a rating equal to a cut.
    margin : float
        Ratings that are not farther than this from a cut have no label, if positive.
    label_source : {None, "self-report", "stimulus"}
        Whose labels are used, a part of the identity.
    valence_of_class : dict of str to str
        Valence of the corpus's own classes, where it has no rating of it.
    dataset : EmotionDataset
        The corpus, for the medians of its subjects.
    stimulus_ratings : dict of str to dict, or None
        Ratings by stimulus that replace those of the subject.
    """

    def __init__(
        self,
        target,
        n_classes,
        cuts,
        ties,
        margin,
        label_source,
        valence_of_class,
        dataset,
        stimulus_ratings,
    ):
        self.target = target
        self.n_classes = n_classes
        self.cuts = cuts
        self.ties = ties
        self.margin = margin
        self.label_source = label_source
        self.valence_of_class = valence_of_class
        self.dataset = dataset
        self.stimulus_ratings = stimulus_ratings and {
            _strip(name): ratings for name, ratings in stimulus_ratings.items()
        }
        self._medians = {}  # by rating and subject

    def __repr__(self):
        hidden = ("dataset", "_medians")
        settings = {k: v for k, v in vars(self).items() if k not in hidden}
        return f"Labeller({', '.join(f'{k}={v}' for k, v in settings.items())})"

    def __call__(self, trial: Mapping, subject: int | None) -> str | None:
        """Return the label of a trial, None where it has none."""
        if self.target == "emotion":
            return trial["emotion"]
        if self.target == "quadrant":
            valence, arousal = (
                self._level(trial, rating, subject) for rating in ("valence", "arousal")
            )
            if valence is None or arousal is None:
                return None
            return f"{'LH'[valence]}V{'LH'[arousal]}A"
        names = LABELS[self.target, self.n_classes]
        if self.target == "valence" and self.valence_of_class:
            label = self.valence_of_class.get(trial["emotion"])
            return label if label in names else None
        level = self._level(trial, self.target, subject)
        return None if level is None else names[level]

    def _level(self, trial: Mapping, rating: str, subject: int | None) -> int | None:
        cuts = self.cuts
        if cuts == ("median",):
            cuts = (self._find_median(rating, subject),)
        rated = trial
        if self.stimulus_ratings is not None:
            rated = self.stimulus_ratings[_strip(trial["stimulus"])]
        return find_level(
            float(rated.get(rating, math.nan)), cuts, self.ties, self.margin
        )

    def _find_median(self, rating: str, subject: int | None) -> float:
        """Return the median of a subject's ratings, whose table is read once."""
        key = rating, subject
        if key not in self._medians:
            ratings = self.dataset.trial_table(subject)[rating]
            self._medians[key] = ratings.median()
        return self._medians[key]


def _strip(stimulus) -> str:
    """Return a name without zeros before it: MOABB's disk cache makes 1 of "01"."""
    return str(stimulus).lstrip("0")
