"""Signals of the replicas: EEG and an emotional course for the other modalities.

The log amplitude of each band of each cortical region is the sum of the subject's own
level, that of the session and of the trial, a slow fluctuation, a course that all
viewers of a stimulus share, and the effect of the emotion. Sources with these
amplitudes are projected onto the electrodes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len
from scipy.signal import lfilter

from braindecode_emossl.datasets.replica_artifacts import (
    Artifacts,
    add_artifacts,
    draw_artifacts,
    draw_blinks,
)
from braindecode_emossl.datasets.replica_head import (
    BANDS,
    REGIONS,
    SOURCES,
    Head,
    draw_lead_field,
    make_pattern,
)

__all__ = [
    "LazyArrays",
    "Stimulus",
    "Subject",
    "Trial",
    "make_eeg",
    "make_generator",
    "make_stimulus",
    "make_subject",
    "make_trial",
]

# Positive films: more beta and gamma over the temporal lobes (Zheng and Lu 2015,
# doi 10.1109/TAMD.2015.2431497; Koelstra et al. 2012, doi 10.1109/T-AFFC.2011.15),
# less alpha over the left than the right frontal lobe. Negative films: more posterior
# delta and prefrontal gamma (Zheng and Lu 2015).
_VALENCE = make_pattern(
    {
        "left temporal": {"beta": 0.8, "gamma": 1.2},
        "right temporal": {"beta": 1.0, "gamma": 1.5},
        "prefrontal": {"gamma": -0.6},
        "left frontal": {"alpha": -0.7},
        "right frontal": {"alpha": 0.7},
        "parietal": {"delta": -0.5},
        "occipital": {"delta": -0.5},
    }
)
# Arousal: less posterior and central alpha (neutral films have more, Zheng and Lu
# 2015; Koelstra et al. 2012); midline theta and frontal beta [inferred].
_AROUSAL = make_pattern(
    {
        "occipital": {"alpha": -1.2},
        "parietal": {"alpha": -1.2},
        "central": {"alpha": -0.5},
        "midline": {"theta": 1.0},
        "left frontal": {"beta": 0.7},
        "right frontal": {"beta": 0.7},
        "prefrontal": {"beta": 0.7},
    }
)
_EMOTION = np.stack([_VALENCE, _AROUSAL])
_SHAPE = _VALENCE.shape  # regions, bands

# Standard deviations of log amplitudes, and time constants in seconds.
_OWN_RESPONSE = 0.04  # of a subject to an emotion, in any corpus
_STIMULUS = 0.03  # of a stimulus's own pattern, in any corpus
_TRIAL, _TRIAL_SOURCE, _TRIAL_HEAD = 0.1, 0.2, 0.05
_SESSION = 0.1
_SLOW, _SLOW_SECONDS = 0.35, 12.0
_LOCKED, _LOCKED_SECONDS = 0.17, 4.0
# Shares of the variance of a course: the whole head, a region, a band of a region.
_SHARES = (0.35, 0.3, 0.35)

# Power spectra in microvolts squared per hertz at 10 Hz: background and alpha rhythm,
# the latter in shares of that of the occipital region.
_BACKGROUND, _ALPHA = 2.5, 16.0
_ALPHA_SHARES = {"occipital": 1.0, "parietal": 0.7, "central": 0.3}
_ALPHA_ELSEWHERE = 0.15
# Width of the transition between two bands, in units of log frequency: no cliffs.
_TRANSITION = 0.2

# Standard deviation of the valence and arousal of a stimulus apart from its label's,
# in units of the scales' ends.
_FEELING = 0.3
_KNOT_SECONDS = 0.5  # between two values of a course
_STIMULI = 1000  # in the place of a subject's number


@dataclass(frozen=True)
class Stimulus:
    """What all viewers of a stimulus share; courses have a value each half second."""

    pattern: np.ndarray  # (n_regions, n_bands)
    feeling: np.ndarray  # valence and arousal, apart from those of the label
    envelope: np.ndarray  # of the emotion, with mean 1 (n_knots,)
    locked: np.ndarray  # mean 0 (n_regions, n_bands, n_knots)
    excitement: np.ndarray  # mean 0, in units of arousal (n_knots,)


@dataclass(frozen=True)
class Subject:
    """One subject in one session."""

    field: np.ndarray  # lead field (n_chans, n_sources)
    level: np.ndarray  # log amplitude (n_sources, n_bands)
    spectra: tuple[float, float, float]  # exponent, frequency and log power of alpha
    response: np.ndarray  # to valence and arousal (2, n_regions, n_bands)
    gain: float  # of the response to emotions
    locked_gain: float
    lag: float  # behind the stimulus, in seconds
    autonomic: np.ndarray  # log skin resistance, breaths, beats per s, degrees
    electrodes: np.ndarray  # power of their noise (n_chans,)
    artifacts: Artifacts
    continuity: float


@dataclass(frozen=True)
class Trial:
    """Courses of one trial, with a value each half second."""

    log_amplitude: np.ndarray  # (n_regions, n_bands, n_knots)
    source_level: np.ndarray  # (n_sources, n_bands)
    valence: np.ndarray  # (n_knots,), in units of the scales' ends
    arousal: np.ndarray
    blinks: np.ndarray  # onset in seconds and size in microvolts (n_blinks, 2)

    def sample(self, course: str, n_times: int, sfreq: float, delay: float = 0.0):
        """Return ``"valence"`` or ``"arousal"``, ``delay`` seconds late (n_times,)."""
        values = getattr(self, course)
        # In a circle, so that the mean of a course is that of its delayed form.
        return _interpolate(_delay(values, delay), n_times, sfreq)


def make_subject(
    head: Head, settings: Mapping, subject: int, session: int = 0
) -> Subject:
    """Draw a subject in one of the sessions."""
    rng = make_generator(settings, subject)
    spread = settings["subject_variance"]
    field, blink = draw_lead_field(head, spread, rng)
    n_chans, n_sources = field.shape
    level = rng.normal(0, 0.15) + rng.normal(0, 0.15, _SHAPE[1])
    level = level + rng.normal(0, 0.2, _SHAPE)[SOURCES]
    level = level + rng.normal(0, 0.15, (n_sources, _SHAPE[1]))
    exponent, frequency, alpha = spread * rng.normal(0, [0.15, 0.9, 0.25])
    own_response = spread * _OWN_RESPONSE * rng.normal(size=_EMOTION.shape)
    gain, locked_gain = np.exp(spread * rng.normal(0, 0.3, 2))
    lag = spread * rng.uniform(0, 2)
    autonomic = spread * rng.normal(0, [0.4, 0.03, 0.1, 0.8])
    noise = spread * rng.normal(0, 0.5, n_chans)
    rng_session = make_generator(settings, subject, _STIMULI + session)
    level = spread * level + rng_session.normal(0, _SESSION, _SHAPE)[SOURCES]
    contacts = np.exp(rng_session.normal(0, 0.05, (n_chans, 1)))
    electrodes = 0.08 * np.exp(noise + rng_session.normal(0, 0.2, n_chans))
    artifacts = draw_artifacts(
        head, blink, settings["artifacts"], spread, rng, rng_session
    )
    return Subject(
        field=field * contacts,
        level=level,
        spectra=(1.2 + exponent, float(np.clip(10 + frequency, 8.6, 11.6)), alpha),
        response=settings["effect"] * _EMOTION + own_response,
        gain=gain,
        locked_gain=locked_gain,
        lag=lag,
        autonomic=autonomic,
        electrodes=electrodes * artifacts.contact_noise,
        artifacts=artifacts,
        continuity=settings["continuity"],
    )


def make_stimulus(settings: Mapping, seconds: float, *numbers: int) -> Stimulus:
    """Draw a stimulus; its own pattern, as the label's effect, scales with both knobs.

    Without effect, the stimulus leaves only courses of mean 0 over a trial.
    """
    rng = make_generator(settings, _STIMULI, *numbers)
    n_knots, continuity = _count_knots(seconds), settings["continuity"]
    own = settings["isc"] * settings["effect_size"]
    pattern = own * _STIMULUS * rng.normal(size=_SHAPE)
    feeling = own * _FEELING * rng.normal(size=2)
    # An emotion takes a while to arise.
    time = np.linspace(0, 1, n_knots)
    rise = 0.5 * np.tanh(6 * (time - rng.uniform(0.1, 0.4)))
    envelope = rise + 0.2 * _draw_course(rng, (n_knots,), _SLOW_SECONDS)
    envelope = 1 + continuity * (envelope - envelope.mean())
    locked = _draw_courses(rng, n_knots, continuity * _LOCKED_SECONDS)
    # Neither mean nor variance may name the stimulus.
    locked -= locked.mean(axis=-1, keepdims=True)
    locked /= locked.std(axis=-1, keepdims=True)
    excitement = _draw_course(rng, (n_knots,), 2 * continuity * _LOCKED_SECONDS)
    excitement -= excitement.mean()
    return Stimulus(
        pattern=pattern,
        feeling=feeling,
        envelope=envelope,
        locked=_LOCKED * settings["isc"] * locked,
        excitement=0.5 * settings["isc"] * excitement,
    )


def make_trial(
    subject: Subject,
    stimulus: Stimulus | None,
    state: np.ndarray,
    seconds: float,
    rng: np.random.Generator,
) -> Trial:
    """Draw the courses of one trial, or of a pause if the stimulus is None.

    ``state`` holds valence and arousal, from -1 to 1, already scaled by the effect.
    """
    n_knots = _count_knots(seconds)
    level = rng.normal(0, _TRIAL_HEAD) + rng.normal(0, _TRIAL, _SHAPE)
    slow = _draw_courses(rng, n_knots, _SLOW_SECONDS)
    log_amplitude = level[..., None] + subject.continuity * _SLOW * slow
    source_level = rng.normal(0, _TRIAL_SOURCE, subject.level.shape)
    feelings = 0.3 * subject.continuity * _draw_course(rng, (2, n_knots), 15.0)
    if stimulus is not None:
        effect = np.tensordot(state, subject.response, 1) + stimulus.pattern
        envelope = subject.gain * stimulus.envelope
        log_amplitude += effect[..., None] * envelope
        log_amplitude += subject.locked_gain * _delay(stimulus.locked, subject.lag)
        feelings += (state + stimulus.feeling)[:, None] * envelope
        feelings[1] += subject.locked_gain * _delay(stimulus.excitement, subject.lag)
    return Trial(
        log_amplitude=log_amplitude,
        source_level=source_level,
        valence=feelings[0],
        arousal=feelings[1],
        blinks=draw_blinks(subject.artifacts, seconds, rng),
    )


def make_eeg(
    subject: Subject,
    trial: Trial,
    sfreq: float,
    n_times: int,
    passband: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the EEG of a trial (n_chans, n_times) in microvolts, average reference."""
    n_fast = next_fast_len(n_times, real=True)
    frequencies = np.maximum(np.fft.rfftfreq(n_fast, 1 / sfreq), sfreq / n_fast)
    low, high = passband
    blocked = (1 + (low / frequencies) ** 8) * (1 + (frequencies / high) ** 16)
    # A coefficient has the variance of a power spectrum times this.
    scale = np.sqrt(sfreq * n_fast / 4 / blocked)
    noise = _draw_spectra(rng, len(SOURCES), len(frequencies))
    spectra = np.sqrt(_make_spectra(subject.spectra, frequencies)) * scale
    for region, spectrum in enumerate(spectra.astype(np.float32)):
        noise[_rows(region)] *= spectrum
    level = np.exp(subject.level + trial.source_level).astype(np.float32)
    sources = np.zeros((len(SOURCES), n_times), np.float32)
    for band, weights in enumerate(_split_into_bands(frequencies)):
        first, last = np.flatnonzero(weights)[[0, -1]]
        part = slice(first, last + 1)
        spectrum = np.zeros_like(noise)
        spectrum[:, part] = noise[:, part] * weights[part] * level[:, [band]]
        signals = irfft(spectrum, n_fast, axis=1, overwrite_x=True)[:, :n_times]
        gain = _interpolate(np.exp(trial.log_amplitude[:, band]), n_times, sfreq)
        for region, course in enumerate(gain.astype(np.float32)):
            signals[_rows(region)] *= course
        sources += signals
    eeg = subject.field @ sources
    # Noise of the electrodes, white and drifting.
    noise = _draw_spectra(rng, len(eeg), len(frequencies))
    noise *= (scale * np.sqrt(1 + 1 / frequencies**2)).astype(np.float32)
    noise = irfft(noise, n_fast, axis=1, overwrite_x=True)[:, :n_times]
    eeg += np.sqrt(subject.electrodes)[:, None] * noise
    add_artifacts(eeg, subject.artifacts, trial.blinks, sfreq, passband, rng)
    return eeg


def _make_spectra(parameters, frequencies):
    """Return the power spectra of the regions' sources (n_regions, n_frequencies)."""
    exponent, peak, log_alpha = parameters
    background = _BACKGROUND * (10 / np.maximum(frequencies, 0.3)) ** exponent
    alpha = _ALPHA * np.exp(log_alpha - (frequencies - peak) ** 2 / 2)
    shares = [_ALPHA_SHARES.get(region, _ALPHA_ELSEWHERE) for region in REGIONS]
    return background + np.array(shares)[:, None] * alpha


def _split_into_bands(frequencies):
    """Return smooth weights of the bands (n_bands, n_frequencies) that sum to 1."""
    edges = np.array([low for low, _ in BANDS.values()][1:])[:, None]
    steps = np.log(frequencies / edges) / _TRANSITION + 0.5
    steps = 0.5 - 0.5 * np.cos(np.pi * np.clip(steps, 0, 1))
    ones, zeros = np.ones_like(frequencies), np.zeros_like(frequencies)
    return (np.vstack([ones, steps]) - np.vstack([steps, zeros])).astype(np.float32)


def _draw_spectra(rng, n_rows, n_frequencies):
    """Draw complex white noise (n_rows, n_frequencies); E|z|^2 = 2."""
    parts = rng.standard_normal((n_rows, n_frequencies, 2), np.float32)
    return parts.view(np.complex64)[..., 0]


def _rows(region):
    """Return the slice of the region's sources."""
    return slice(*np.searchsorted(SOURCES, [region, region + 1]))


def _count_knots(seconds):
    return int(np.ceil(seconds / _KNOT_SECONDS)) + 1


def _draw_courses(rng, n_knots, tau):
    """Draw partly shared courses of unit variance (n_regions, n_bands, n_knots)."""
    shapes = [(1, 1, n_knots), (_SHAPE[0], 1, n_knots), (*_SHAPE, n_knots)]
    return sum(
        np.sqrt(share) * _draw_course(rng, shape, tau)
        for share, shape in zip(_SHARES, shapes, strict=True)
    )


def _draw_course(rng, shape, tau):
    """Draw courses of unit variance whose autocorrelation decays with ``tau`` s."""
    decay = np.exp(-_KNOT_SECONDS / tau) if tau else 0.0
    steps = rng.normal(size=shape)
    steps[..., 1:] *= np.sqrt(1 - decay**2)
    return lfilter([1], [1, -decay], steps)


def _delay(course, seconds):
    """Return a course (..., n_knots) late by some seconds, closed to a circle."""
    n_knots = course.shape[-1]
    places = (np.arange(n_knots) - seconds / _KNOT_SECONDS) % n_knots
    before = np.floor(places).astype(int) % n_knots
    share = places % 1
    after = (before + 1) % n_knots
    return course[..., before] * (1 - share) + course[..., after] * share


def _interpolate(course, n_times, sfreq):
    """Return a course (..., n_knots) at each sample (..., n_times)."""
    places = np.arange(n_times) / (sfreq * _KNOT_SECONDS)
    before = np.minimum(places.astype(int), course.shape[-1] - 2)
    share = places - before
    return course[..., before] * (1 - share) + course[..., before + 1] * share


class LazyArrays(Mapping):
    """Arrays by name, each made when it is asked for, so that one is in memory."""

    def __init__(self, makers: Mapping[str, Callable[[], np.ndarray]]):
        self._makers = makers

    def __getitem__(self, name):
        return self._makers[name]()

    def __iter__(self):
        return iter(self._makers)

    def __len__(self):
        return len(self._makers)


def make_generator(settings, *numbers):
    """Return a generator of its own for each corpus, subject, session and trial."""
    corpus = zlib.crc32(settings["corpus"].encode())
    return np.random.default_rng([settings["seed"], corpus, *numbers])
