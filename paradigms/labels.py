"""The labels of trials, for one corpus and for several."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LABELS", "TARGETS", "UNLABELED", "Labeller", "check_target"]

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

# Ratings from 1 to 9 in three classes: up to 3, up to 6, above.
THREE_CLASS_CUTS = (3.0, 6.0)


def check_target(target: str, n_classes: int | None) -> int | None:
    """Return the number of classes, after a check that the target has it."""
    if target not in TARGETS:
        raise ValueError(f"target must be one of {TARGETS}, but got {target!r}.")
    possible = [n for name, n in LABELS if name == target]
    if n_classes is None:
        return possible[0] if possible else None
    if n_classes not in possible:
        raise ValueError(
            f"n_classes of the target {target!r} must be "
            f"{' or '.join(map(str, possible)) or 'left at None'}, but got {n_classes}."
        )
    return n_classes


class Labeller:
    """Name the label of a trial.

    Parameters
    ----------
    target : str
        One of ``TARGETS``.
    n_classes : int or None
        As :func:`check_target` returns it.
    threshold : float or "median"
        What a high rating exceeds, where there are two classes.
    valence_of_class : dict of str to str
        Valence of the corpus's own classes, where it has no rating of it.
    dataset : EmotionDataset
        The corpus, for the medians of its subjects.
    """

    def __init__(self, target, n_classes, threshold, valence_of_class, dataset):
        self.target = target
        self.n_classes = n_classes
        self.threshold = threshold
        self.valence_of_class = valence_of_class
        self.dataset = dataset

    def __repr__(self):
        return (
            f"Labeller({self.target}, n_classes={self.n_classes}, "
            f"threshold={self.threshold}, valence_of_class={self.valence_of_class})"
        )

    def __call__(self, trial: Mapping, subject: int | None) -> str | None:
        """Return the label of a trial, None where it has none."""
        if self.target == "emotion":
            return trial["emotion"]
        if self.target == "quadrant":
            valence, arousal = (
                self._level(trial, rating, subject) for rating in ("valence", "arousal")
            )
            return f"{'LH'[valence]}V{'LH'[arousal]}A"
        names = LABELS[self.target, self.n_classes]
        if self.target in trial:
            return names[self._level(trial, self.target, subject)]
        label = self.valence_of_class[trial["emotion"]]
        return label if label in names else None

    def _level(self, trial: Mapping, rating: str, subject: int | None) -> int:
        cuts = THREE_CLASS_CUTS if self.n_classes == 3 else (self.threshold,)
        if cuts == ("median",):
            cuts = (self.dataset.trial_table(subject)[rating].median(),)
        return sum(trial[rating] > cut for cut in cuts)
