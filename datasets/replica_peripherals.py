"""Peripheral signals of the replicas, which follow the course of arousal."""

from __future__ import annotations

import numpy as np

from braindecode_emossl.datasets.replica_signals import Subject, Trial

__all__ = ["make_peripherals"]

# Standard deviations over trials: log resistance, breaths and beats per s, degrees.
_TRIAL = (0.1, 0.02, 0.04, 0.2)
# How late a signal follows arousal or valence, in seconds.
_SKIN_DELAY, _BREATH_DELAY, _HEART_DELAY, _WARMTH_DELAY = 3.0, 1.0, 2.0, 8.0


def make_peripherals(
    subject: Subject, trial: Trial, n_times: int, sfreq: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return signals (n_times,) of one trial.

    ``skin`` resistance in ohm, which sweating lowers; ``breath``, the phase of
    respiration, and ``heart``, that of the heart, in cycles; ``warmth`` of the skin in
    degrees Celsius.
    """

    def arousal(delay):
        return trial.sample("arousal", n_times, sfreq, delay)

    skin, breath, heart, warmth = subject.autonomic + rng.normal(0, _TRIAL)
    first_breath, first_beat = rng.uniform(0, 1, 2)
    breath = 0.25 + breath + 0.006 * arousal(_BREATH_DELAY)
    heart = 1.15 + heart + 0.012 * arousal(_HEART_DELAY)
    skin_noise, warmth_noise = rng.normal(1, 1e-3, (2, n_times))
    valence = trial.sample("valence", n_times, sfreq, _WARMTH_DELAY)
    return {
        "skin": 2e5 * np.exp(skin - 0.03 * arousal(_SKIN_DELAY)) * skin_noise,
        "breath": first_breath + np.cumsum(breath) / sfreq,
        "heart": first_beat + np.cumsum(heart) / sfreq,
        "warmth": (33 + warmth + 0.05 * valence) * warmth_noise,
    }
