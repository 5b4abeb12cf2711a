"""Replica of SEED-VII: MATLAB 5 files of EEG, features and continuous labels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import savemat

from braindecode_emossl.datasets import seed_family, seed_vii
from braindecode_emossl.datasets.replica_features import (
    make_band_powers,
    smooth_as_makers,
    to_entropy,
)
from braindecode_emossl.datasets.replica_head import Head
from braindecode_emossl.datasets.replica_seed_iv import STATES
from braindecode_emossl.datasets.replica_signals import (
    LazyArrays,
    make_eeg,
    make_generator,
    make_stimulus,
    make_subject,
    make_trial,
)

__all__ = ["write_seed_vii"]

_PASSBAND = (0.1, 70.0)
_SECONDS = (120, 300)  # of the clips, by the makers' page
_LENGTHS = 998  # in the place of a number of `make_generator`
_SHARPNESS = 1.5  # of the label between no and full intensity


def write_seed_vii(folder: Path, settings: Mapping) -> None:
    """Write the release into an empty folder; ``settings`` as of `write_replica`."""
    folder = folder / "SEED-VII"
    for name in ("EEG_preprocessed", "EEG_features", "continuous_labels"):
        (folder / name).mkdir(parents=True)
    head = Head.of(seed_family.CH_NAMES, seed_family.POSITIONS)
    for subject in settings["subjects"]:
        features: dict[str, np.ndarray] = {}
        labels: dict[str, np.ndarray] = {}
        makers = {}
        for session in settings["sessions"]:
            viewer = make_subject(head, settings, subject, session)
            for index in range(seed_vii.N_TRIALS):
                key = str(session * seed_vii.N_TRIALS + index + 1)
                makers[key] = partial(
                    _make_clip,
                    viewer,
                    settings,
                    (subject, session, index),
                    key,
                    features,
                    labels,
                )
        # The makers' files, which SciPy wrote, are not compressed.
        name = f"{subject}.mat"
        savemat(folder / "EEG_preprocessed" / name, LazyArrays(makers), format="5")
        savemat(folder / "EEG_features" / name, features, format="5")
        savemat(folder / "continuous_labels" / name, labels, format="5")


def _make_clip(viewer, settings, place, key, features, labels):
    """Return the EEG of a clip (62, n_times); add its features and its label."""
    subject, session, index = place
    emotion = seed_vii.LABELS[str(session)][index]
    state = np.array(STATES[emotion])
    n_times = _count_samples(settings, session, index)
    seconds = n_times / seed_family.SFREQ
    stimulus = make_stimulus(settings, seconds, session + 1, index)
    rng = make_generator(settings, subject, session + 1, index)
    effect = settings["effect_size"]
    trial = make_trial(viewer, stimulus, effect * state, seconds, rng)
    eeg = make_eeg(viewer, trial, seed_family.SFREQ, n_times, _PASSBAND, rng)
    powers = make_band_powers(eeg, seed_family.SFREQ, seed_vii.FEATURE_WINDOW)
    entropy = to_entropy(powers)
    kinds = {"psd": powers, "de": entropy, "de_LDS": smooth_as_makers(entropy)}
    for kind, values in kinds.items():
        features[f"{kind}_{key}"] = values.transpose(1, 2, 0)
    labels[key] = _make_label(trial, state, powers.shape[1])[None]
    return eeg


def _make_label(trial, state, n_windows) -> np.ndarray:
    """Return the intensity of the emotion, from 0 to 1 (n_windows,)."""
    courses = [
        trial.sample(name, n_windows, 1 / seed_vii.FEATURE_WINDOW)
        for name in ("valence", "arousal")
    ]
    felt = state @ np.stack(courses) / np.linalg.norm(state)
    return 1 / (1 + np.exp(-_SHARPNESS * felt))


def _count_samples(settings, session, index) -> int:
    """Return the samples of a clip; the makers cut to whole seconds."""
    if settings["seconds"] is not None:
        return round(settings["seconds"] * seed_family.SFREQ)
    rng = make_generator(settings, _LENGTHS, session, index)
    return int(rng.integers(*_SECONDS)) * round(seed_family.SFREQ)
