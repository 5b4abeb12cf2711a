"""Replica of DREAMER: one MATLAB 5 file of nested structures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.io import savemat
from scipy.signal import resample_poly

from braindecode_emossl.datasets import dreamer, dreamer_files
from braindecode_emossl.datasets.replica_head import Head
from braindecode_emossl.datasets.replica_peripherals import make_peripherals
from braindecode_emossl.datasets.replica_signals import (
    make_eeg,
    make_generator,
    make_stimulus,
    make_subject,
    make_trial,
)

__all__ = ["write_dreamer"]

_N_FILMS = dreamer_files.N_FILMS
_BASELINE_SECONDS = 61.0
# Within the range that the makers state; only the mean, 199 s, is known [inferred].
FILM_SECONDS = tuple(
    map(
        int,
        "199 181 102 206 65 158 393 140 249 "
        "118 227 178 302 173 215 230 289 157".split(),
    )
)
# Valence and arousal of the emotions that films were chosen for [inferred].
_STATES = {
    "calmness": (0.5, -0.8),
    "surprise": (0.2, 0.6),
    "amusement": (0.8, 0.4),
    "fear": (-0.7, 0.8),
    "excitement": (0.5, 0.8),
    "disgust": (-0.8, 0.4),
    "happiness": (0.9, 0.2),
    "anger": (-0.8, 0.6),
    "sadness": (-0.8, -0.4),
}
_EEG_OFFSET, _ECG_OFFSET = 4200.0, 2000.0


def write_dreamer(folder: Path, settings: Mapping) -> None:
    """Write the release into an empty folder; ``settings`` as of `write_replica`."""
    head = Head.of(dreamer.EEG_NAMES, {})
    people = np.empty((1, len(dreamer.DREAMER.all_subject_numbers)), object)
    for subject in range(1, people.size + 1):
        chosen = subject in settings["subjects"]
        person = _make_person(head, settings, subject) if chosen else np.zeros((0, 0))
        people[0, subject - 1] = person
    content = {
        "Data": people,
        "EEG_SamplingRate": float(dreamer_files.EEG_SFREQ),
        "ECG_SamplingRate": float(dreamer_files.ECG_SFREQ),
        "EEG_Electrodes": np.array(dreamer.EEG_NAMES, object)[np.newaxis],
        "noOfSubjects": float(people.size),
        "noOfVideoSequences": float(_N_FILMS),
        "Disclaimer": "A synthetic replica of DREAMER, not the corpus.",
    }
    folder = folder / "DREAMER"
    folder.mkdir()
    savemat(folder / "DREAMER.mat", {"DREAMER": content}, do_compression=True)


def _make_person(head, settings, subject) -> dict:
    viewer = make_subject(head, settings, subject)
    ratings = _draw_ratings(settings, subject)
    parts = {
        (modality, part): np.empty((_N_FILMS, 1), object)
        for modality in ("EEG", "ECG")
        for part in ("baseline", "stimuli")
    }
    for film in range(_N_FILMS):
        rng = make_generator(settings, subject, film + 1)
        seconds = settings["seconds"] or FILM_SECONDS[film]
        # A miniature has a miniature of the neutral clip.
        before = _BASELINE_SECONDS if settings["seconds"] is None else 1.0
        state = settings["effect_size"] * np.clip((ratings[film, :2] - 3) / 2, -1, 1)
        stimulus = make_stimulus(settings, seconds, film + 1)
        shown = {
            "baseline": (None, np.zeros(2), before),
            "stimuli": (stimulus, state, seconds),
        }
        for part, arguments in shown.items():
            eeg, ecg = _make_part(viewer, *arguments, rng)
            parts["EEG", part][film, 0], parts["ECG", part][film, 0] = eeg, ecg
    signals = {
        modality: {part: parts[modality, part] for part in ("baseline", "stimuli")}
        for modality in ("EEG", "ECG")
    }
    scores = zip(("Valence", "Arousal", "Dominance"), ratings.T, strict=True)
    return {
        "Age": str(20 + subject % 12),
        "Gender": "female" if subject % 3 else "male",
        **signals,
        **{f"Score{name}": values[:, np.newaxis] for name, values in scores},
    }


def _draw_ratings(settings, subject) -> np.ndarray:
    """Draw whole ratings (18, 3) around those of the film's emotion."""
    rng = make_generator(settings, subject, _N_FILMS + 1)
    states = np.array([_STATES[emotion] for emotion in dreamer.FILM_EMOTIONS])
    own = np.hstack([3 + 1.8 * states, np.full((_N_FILMS, 1), 3.0)])
    return np.clip(np.round(own + rng.normal(0, 0.7, own.shape)), 1, 5)


def _make_part(viewer, stimulus, state, seconds, rng):
    """Return EEG (n_times, 14) and ECG (2 n_times, 2) of a film or a neutral clip."""
    sfreq = dreamer.SFREQ
    n_times = round(seconds * sfreq)
    trial = make_trial(viewer, stimulus, state, n_times / sfreq, rng)
    eeg = make_eeg(viewer, trial, sfreq, n_times, (0.2, 43), rng)
    heart = make_peripherals(viewer, trial, n_times, sfreq, rng)["heart"]
    beat = np.exp(-(((heart % 1) - 0.5) ** 2) / 0.002)
    ecg = resample_poly(300 * beat, 2, 1)[:, np.newaxis] * (1.0, 0.6)
    ecg += _ECG_OFFSET + rng.normal(0, 5, ecg.shape)
    return _EEG_OFFSET + eeg.T, ecg
