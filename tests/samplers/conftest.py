"""Metadata of made-up corpora, as Emotion gives them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def make_metadata():
    """Return a function, as hypothesis wants other arguments each time."""

    def make(
        lengths, n_subjects=3, n_sessions=1, corpus="SEED", missing=0.0, shuffle=None
    ):
        """Make metadata where each session plays the same stimuli.

        ``lengths`` are the windows of each stimulus; ``missing`` is the fraction of
        windows left out, ``shuffle`` a seed for that and for the order of the rows.
        """
        rows = [
            {
                "subject": subject,
                "session": str(session),
                "run": f"{trial:02d}",
                "trial": trial,
                "window": window,
                "stimulus": f"{trial + 1:02d}",
                "length": float(length),
                "emotion": ("negative", "neutral", "positive")[trial % 3],
                "corpus": corpus,
            }
            for subject in range(1, n_subjects + 1)
            for session in range(n_sessions)
            for trial, length in enumerate(lengths)
            for window in range(length)
        ]
        metadata = pd.DataFrame(rows)
        if shuffle is not None:
            keep = np.random.default_rng(shuffle).permutation(len(metadata))
            keep = keep[: max(1, round((1 - missing) * len(metadata)))]
            metadata = metadata.iloc[keep].reset_index(drop=True)
        return metadata

    return make
