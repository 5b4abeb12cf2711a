"""Windows of features that the makers of a corpus release."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from braindecode_emossl.datasets.base import EmotionDataset
from braindecode_emossl.paradigms.labels import UNLABELED, Labeller
from braindecode_emossl.paradigms.recordings import Part

__all__ = ["PREFIX", "arrange_channels", "find_name", "load_released"]

PREFIX = "released:"


def find_name(features) -> str | None:
    """Return the name of released features, None if the setting is another."""
    if isinstance(features, str) and features.startswith(PREFIX):
        return features.removeprefix(PREFIX)
    return None


def load_released(
    dataset: EmotionDataset,
    subjects: Sequence[int],
    name: str,
    window: float,
    labeller: Labeller,
    unlabeled: bool,
) -> Iterator[Part]:
    """Yield the windows (n_windows, n_chans, n_bands) of each trial that is used."""
    for subject in subjects:
        for session, run, values in dataset.read_released(name, window, subject):
            table = dataset.get_additional_metadata(subject, session, run)
            (trial,) = table.to_dict("records")
            label = labeller(trial, subject)
            if label is None and not unlabeled:
                continue
            labels = np.empty(
                len(values), [("label", "U64"), ("trial", int), ("window", int)]
            )
            labels["label"] = UNLABELED if label is None else label
            labels["trial"] = trial["trial"]
            labels["window"] = np.arange(len(values))
            keys = {"subject": subject, "session": session, "run": run}
            rows = pd.DataFrame(keys, index=range(len(values)))
            rows["trial"], rows["window"] = labels["trial"], labels["window"]
            yield Part(values, labels, rows)


def arrange_channels(
    parts: Sequence[Part],
    known: Sequence[str],
    channels: Sequence[str] | None,
    fill_missing: bool,
) -> None:
    """Select channels by name in order; those that are missing may become zero."""
    if channels is None:
        return
    missing = [name for name in channels if name not in known]
    if missing and not (fill_missing and len(missing) < len(channels)):
        raise ValueError(
            f"channels must be among {list(known)}, but {missing} are not."
        )
    places = [(k, known.index(n)) for k, n in enumerate(channels) if n in known]
    to, of = map(list, zip(*places, strict=True))
    for part in parts:
        values = np.asarray(part.X)
        arranged = np.zeros((len(values), len(channels), *values.shape[2:]))
        arranged[:, to] = values[:, of]
        part.X = arranged
