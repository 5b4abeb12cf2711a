"""Replica of SEED: MATLAB 5 files in either release tree."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import savemat

from braindecode_emossl.datasets import seed
from braindecode_emossl.datasets.replica_features import make_smoothed
from braindecode_emossl.datasets.replica_head import Head
from braindecode_emossl.datasets.replica_signals import (
    LazyArrays,
    make_eeg,
    make_generator,
    make_stimulus,
    make_subject,
    make_trial,
)

__all__ = ["count_samples", "write_seed"]

# Variable prefixes that the real SEED files bear, by subject.
_SEED_PREFIXES = "djc jl jj lqj ly mhw phl sxy wk ww wsf wyw xyl ys zjy".split()


def write_seed(folder: Path, settings: Mapping) -> None:
    """Write the release into an empty folder; ``settings`` as of `write_replica`."""
    is_old = settings["variant"] == "old"
    top = folder if is_old else folder / "SEED_EEG"
    folder = top / "Preprocessed_EEG"
    folder.mkdir(parents=True)
    labels = np.array([seed.LABELS], np.int16)
    savemat(folder / "label.mat", {"label": labels}, format="5")
    (folder / "readme.txt").write_text("A synthetic replica of SEED, not the corpus.\n")
    head = Head.of(seed.CH_NAMES, seed.POSITIONS)
    for subject in settings["subjects"]:
        for session in settings["sessions"]:
            viewer = make_subject(head, settings, subject, session)
            makers = {
                f"{_SEED_PREFIXES[subject - 1]}_eeg{film}": partial(
                    _make_film, viewer, film, settings, subject, session
                )
                for film in range(1, len(seed.LABELS) + 1)
            }
            # The real files come out in this order: eeg1, eeg10, eeg11, ..., eeg2.
            arrays = LazyArrays({name: makers[name] for name in sorted(makers)})
            name = f"{subject}_{seed.DATES[subject][session]}.mat"
            savemat(folder / name, arrays, format="5", do_compression=True)
            if settings["variant"] == "features":
                _write_features(top, name, list(makers.values()))


def _write_features(top: Path, name: str, films) -> None:
    """Write the makers' features of the films of a recording, of 62 channels."""
    for window in (1, 4):
        folder = top / f"ExtractedFeatures_{window}s"
        folder.mkdir(exist_ok=True)
        arrays: dict[str, np.ndarray] = {}
        for number, make_film in enumerate(films, start=1):
            # Without the sample over a whole number of seconds.
            eeg = make_film()
            eeg = eeg[:, : eeg.shape[1] - (eeg.shape[1] % seed.SFREQ == 1)]
            found = make_smoothed(eeg, seed.SFREQ, window)
            arrays |= {f"{kind}{number}": values for kind, values in found.items()}
        savemat(folder / name, arrays, format="5", do_compression=True)


def _make_film(viewer, film, settings, subject, session):
    """Return the EEG of one film (62, n_times)."""
    label = seed.LABELS[film - 1]
    state = settings["effect_size"] * np.array([label, 2 * abs(label) - 1])
    n_times = count_samples(settings["seconds"] or seed.FILM_SECONDS[film - 1])
    seconds = n_times / seed.SFREQ
    # The films are the same in all sessions.
    stimulus = make_stimulus(settings, seconds, film)
    rng = make_generator(settings, subject, session + 1, film)
    trial = make_trial(viewer, stimulus, state, seconds, rng)
    return make_eeg(viewer, trial, seed.SFREQ, n_times, (0.5, 75), rng)


def count_samples(seconds: float) -> int:
    """Return how many samples a trial of the SEED corpora has in the files.

    Whole seconds were cut with their end included, which the loader undoes.
    """
    n_times = round(seconds * seed.SFREQ)
    return n_times + (n_times % seed.SFREQ == 0)
