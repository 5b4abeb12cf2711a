"""Artifacts of the replicas: blinks, muscle, line noise and bad electrodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, sosfilt

__all__ = [
    "Artifacts",
    "add_artifacts",
    "draw_artifacts",
    "draw_blinks",
    "make_blinks",
]

_BLINKS_PER_MINUTE = 12
_BLINK_SECONDS, _BLINK_MICROVOLTS = 0.4, 90
_BURSTS_PER_MINUTE = 2
_BURST_SECONDS = (0.5, 2.5)
_BURST_MICROVOLTS = (5, 30)
_MUSCLE_METRES = 0.03
_LINE_HERTZ, _LINE_MICROVOLTS = 50, 1.0
# Share of the recordings with an electrode of poor contact, and its noise power.
_BAD_SHARE, _BAD_POWER = 0.3, 30


@dataclass(frozen=True)
class Artifacts:
    """What disturbs one recording."""

    amount: float  # the knob
    blink: np.ndarray  # topography (n_chans,)
    muscles: np.ndarray  # one topography for each (n_muscles, n_chans)
    blinks_per_minute: float
    line: np.ndarray  # microvolts (n_chans,)
    contact_noise: np.ndarray  # factor of the noise power (n_chans,)


def draw_artifacts(head, blink, amount, spread, rng, rng_session) -> Artifacts:
    """Draw the artifacts of a subject (``rng``) in one of the recordings."""
    rate = _BLINKS_PER_MINUTE * np.exp(spread * rng.normal(0, 0.4))
    contact_noise = np.ones(len(blink))
    is_bad = rng_session.random() < _BAD_SHARE * amount
    contact_noise[rng_session.integers(len(blink))] = _BAD_POWER if is_bad else 1
    return Artifacts(
        amount=amount,
        blink=blink,
        muscles=_place_muscles(head),
        blinks_per_minute=amount * rate,
        line=amount * _LINE_MICROVOLTS * np.abs(rng_session.normal(size=len(blink))),
        contact_noise=contact_noise,
    )


def _place_muscles(head):
    """Return topographies of muscles under the lower half of the electrodes."""
    places = np.array([channel["loc"][:3] for channel in head.info["chs"]])
    lower = places[places[:, 2] <= np.median(places[:, 2])]
    distances = np.linalg.norm(lower[:, None] - places, axis=-1)
    return np.exp(-((distances / _MUSCLE_METRES) ** 2))


def draw_blinks(artifacts, seconds, rng):
    """Return onsets in seconds and sizes in microvolts (n_blinks, 2)."""
    n_blinks = rng.poisson(artifacts.blinks_per_minute * seconds / 60)
    sizes = _BLINK_MICROVOLTS * rng.lognormal(0, 0.3, n_blinks)
    return np.stack([rng.uniform(0, seconds, n_blinks), sizes], axis=1)


def make_blinks(blinks, sfreq, n_times):
    """Return the course of blinks (n_times,) in microvolts."""
    shape = np.hanning(round(_BLINK_SECONDS * sfreq)) ** 2
    course = np.zeros(n_times + len(shape))
    for onset, size in blinks:
        start = min(int(onset * sfreq), n_times)
        course[start : start + len(shape)] += size * shape
    return course[:n_times]


def add_artifacts(eeg, artifacts, blinks, sfreq, passband, rng):
    """Add artifacts to the EEG of a trial (n_chans, n_times) in place."""
    n_times = eeg.shape[1]
    if len(blinks):
        course = _filter(make_blinks(blinks, sfreq, n_times), sfreq, passband)
        eeg += np.outer(artifacts.blink, course)
    if artifacts.amount and passband[1] > _LINE_HERTZ:
        phase = rng.uniform(0, 2 * np.pi)
        hum = np.sin(2 * np.pi * _LINE_HERTZ * np.arange(n_times) / sfreq + phase)
        eeg += np.outer(artifacts.line, hum)
    rate = artifacts.amount * _BURSTS_PER_MINUTE * n_times / sfreq / 60
    for _ in range(rng.poisson(rate)):
        start = rng.integers(n_times)
        n_burst = round(rng.uniform(*_BURST_SECONDS) * sfreq)
        n_burst = min(n_burst, n_times - start)
        burst = np.diff(rng.normal(size=n_burst + 1)) * np.hanning(n_burst)
        burst *= rng.uniform(*_BURST_MICROVOLTS)
        muscle = rng.choice(artifacts.muscles)
        part = eeg[:, start : start + n_burst]
        part += np.outer(muscle, burst)


def _filter(course, sfreq, passband):
    """Return a course (n_times,) as the amplifier and the release pass it."""
    high = min(passband[1], 0.45 * sfreq)
    return sosfilt(
        butter(2, (passband[0], high), "bandpass", fs=sfreq, output="sos"), course
    )
