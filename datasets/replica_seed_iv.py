"""Replica of SEED-IV: MATLAB 5 files of EEG, eye tracking and features of both."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import savemat

from braindecode_emossl.datasets import seed_family, seed_iv
from braindecode_emossl.datasets.replica_features import make_smoothed
from braindecode_emossl.datasets.replica_head import Head
from braindecode_emossl.datasets.replica_seed import count_samples
from braindecode_emossl.datasets.replica_signals import (
    LazyArrays,
    make_eeg,
    make_generator,
    make_stimulus,
    make_subject,
    make_trial,
)

__all__ = ["STATES", "make_eye", "write_seed_iv"]

# Variable prefixes that the real files bear, and the days in their names, by subject.
_PREFIXES = "cz ha hql ldy ly mhw mz qyt rx tyc whh wll wq zjd zjy".split()
_DATES = {
    0: "20160518 20150915 20150919 20151111 20160406 20150507 20150715 20151103 "
    "20151028 20151014 20150916 20150725 20151115 20151205 20150508".split(),
    1: "20161125 20150920 20151018 20151118 20160413 20150511 20150717 20151110 "
    "20151119 20151021 20150921 20150804 20151125 20151208 20150514".split(),
    2: "20161126 20151012 20151101 20151123 20160420 20150512 20150721 20151117 "
    "20151209 20151023 20151011 20150807 20161130 20151215 20150527".split(),
}

# Valence and arousal of each emotion of the SEED corpora.
STATES = {
    "neutral": (0.0, -1.0),
    "sad": (-1.0, -0.5),
    "fear": (-1.0, 1.0),
    "happy": (1.0, 0.5),
    "disgust": (-1.0, 0.3),
    "anger": (-0.7, 0.8),
    "surprise": (0.3, 1.0),
}

# Usual size of each eye feature, in the makers' units.
_EYE_LEVELS = np.array(
    [45, 3, 2.0, 1.2, 0.8, 0.6] * 2  # pupil: pixels, then differential entropy
    + [9, 5, 8, 5]  # dispersion
    + [280, 160]  # fixation, ms
    + [40, 3.5, 18, 3]  # saccade, ms and degrees
    + [0.3, 2.6, 700, 60, 25, 2.4, 40, 3.5, 210]  # events
)

_EYE_NAMES = list(seed_iv.EYE_FEATURES)
_EYE_DELAY = 1.0  # behind the course of arousal, in seconds
_EYES = 999  # in the place of a number of `make_generator`

# Raw eye tracking: the variable of each kind of file, and its number of columns.
_EYE_RAW = {
    "blink": ("Eye_Blink", 1),
    "event": ("Eye_Event", 28),
    "fixation": ("Eye_Fixation", 1),
    "pupil": ("Eye_Pupil", 4),
    "saccade": ("Eye_Saccade", 2),
    "PD": ("Eye_PD", 2),  # on disk, but not documented
}

_README = """\
A synthetic replica of SEED-IV, not the corpus.
The eye features are those of windows of 4 seconds.

Label:
The labels of the three sessions for the same subjects are as follows,
{labels}
The labels 0, 1, 2 and 3 denote the emotions neutral, sad, fear and happy.
"""


def write_seed_iv(folder: Path, settings: Mapping) -> None:
    """Write the release into an empty folder; ``settings`` as of `write_replica`."""
    folder = folder / "SEED_IV"
    folder.mkdir(parents=True)
    labels = [
        f"session{int(session) + 1}_label = [{','.join(map(str, row))}];"
        for session, row in seed_iv.LABELS.items()
    ]
    (folder / "ReadMe.txt").write_text(_README.format(labels="\n".join(labels)))
    head = Head.of(seed_family.CH_NAMES, seed_family.POSITIONS)
    for subject in settings["subjects"]:
        for session in settings["sessions"]:
            viewer = make_subject(head, settings, subject, session)
            _write_recording(folder, settings, subject, session, viewer)
            if settings["variant"] == "full":
                _write_features(folder, settings, subject, session, viewer)
                _write_unread(folder, settings, subject, session)


def _write_recording(folder, settings, subject, session, viewer):
    """Write EEG and eye features of one subject in one session."""
    rng = make_generator(settings, subject, _EYES)
    spread = 0.15 * settings["subject_variance"]
    level = spread * rng.normal(size=len(_EYE_LEVELS))
    eeg, eye = {}, {}
    for trial in range(1, len(seed_iv.LABELS[str(session)]) + 1):
        clip = partial(_make_clip, viewer, trial, settings, subject, session)
        eeg[f"{_PREFIXES[subject - 1]}_eeg{trial}"] = partial(_make_eeg, viewer, clip)
        rng = make_generator(settings, subject, session + 1, trial, _EYES)
        n_windows = _n_windows(settings, session, trial)
        eye[f"eye_{trial}"] = make_eye(level, clip()[0], n_windows, rng)
    if (subject, session) == (1, 0):
        # The real files have NaN where a window had no such event.
        eye["eye_5"][_EYE_NAMES.index("fix_dur_mean"), -1] = np.nan
    rng = make_generator(settings, subject, session + 1)
    # In no order that a reader could go by.
    eeg, eye = (
        {key: values[key] for key in rng.permutation(list(values)).tolist()}
        for values in (eeg, eye)
    )
    place = f"{session + 1}"
    _save(folder / "eeg_raw_data" / place, subject, session, LazyArrays(eeg))
    _save(folder / "eye_feature_smooth" / place, subject, session, eye)


def _write_features(folder, settings, subject, session, viewer):
    """Write the makers' features of the EEG of one subject in one session."""
    features: dict[str, np.ndarray] = {}
    for trial in range(1, len(seed_iv.LABELS[str(session)]) + 1):
        clip = partial(_make_clip, viewer, trial, settings, subject, session)
        eeg = _make_eeg(viewer, clip)
        eeg = eeg[:, : eeg.shape[1] - (eeg.shape[1] % seed_family.SFREQ == 1)]
        found = make_smoothed(eeg, seed_family.SFREQ, seed_iv.EYE_WINDOW)
        features |= {f"{kind}{trial}": values for kind, values in found.items()}
    place = folder / "eeg_feature_smooth" / str(session + 1)
    _save(place, subject, session, features)


def _write_unread(folder, settings, subject, session):
    """Write raw eye tracking, which the dataset passes over."""
    trials = range(1, len(seed_iv.LABELS[str(session)]) + 1)
    rng = make_generator(settings, subject, session + 1, len(trials) + 1)
    for kind, (name, n_columns) in _EYE_RAW.items():
        cells = np.empty((len(trials), 1), object)
        for trial in trials:
            n_rows = 1 if kind == "event" else int(rng.integers(2, 6))
            cells[trial - 1, 0] = rng.gamma(4, 50, (n_rows, n_columns))
        _save(folder / "eye_raw_data", subject, session, {name: cells}, f"_{kind}")


def _save(folder, subject, session, arrays, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{subject}_{_DATES[session][subject - 1]}{suffix}.mat"
    savemat(folder / name, arrays, format="5", do_compression=True)


def _n_samples(settings, session, trial):
    seconds = seed_iv.FIRST_SESSION_SECONDS[trial - 1]
    if session:  # of whose lengths only the whole windows are known
        seconds = seed_iv.EYE_WINDOW * (
            seed_iv.N_WINDOWS[str(session)][trial - 1] + 0.5
        )
    return count_samples(settings["seconds"] or seconds)


def _n_windows(settings, session, trial):
    """Return how many whole windows of the smoothed features a trial has."""
    n_window = round(seed_iv.EYE_WINDOW * seed_family.SFREQ)
    return max(1, _n_samples(settings, session, trial) // n_window)


def _make_clip(viewer, number, settings, subject, session):
    """Return the trial of a clip, its samples and the generator of its EEG."""
    emotion = seed_iv.EMOTIONS[seed_iv.LABELS[str(session)][number - 1]]
    state = np.array(STATES[emotion]) * settings["effect_size"]
    n_times = _n_samples(settings, session, number)
    seconds = n_times / seed_family.SFREQ
    stimulus = make_stimulus(settings, seconds, session + 1, number)
    rng = make_generator(settings, subject, session + 1, number)
    return make_trial(viewer, stimulus, state, seconds, rng), n_times, rng


def _make_eeg(viewer, clip):
    """Return the EEG of one trial (62, n_times)."""
    trial, n_times, rng = clip()
    eeg = make_eeg(viewer, trial, seed_family.SFREQ, n_times, (1, 75), rng)
    return eeg


def make_eye(level, trial, n_windows, rng, window=seed_iv.EYE_WINDOW):
    """Return the eye features of one trial (31, or 33 with blinks, n_windows)."""
    # The eyes follow within a second; a value stands for a window.
    valence, arousal = (
        trial.sample(course, n_windows, 1 / window, _EYE_DELAY)
        for course in ("valence", "arousal")
    )
    effect = np.zeros((len(level), n_windows))
    # Pupils widen with arousal; one blinks less when alert or displeased.
    for name in ("pupil_x_mean", "pupil_y_mean"):
        effect[_EYE_NAMES.index(name)] = 0.04 * arousal
    blinks = _EYE_NAMES.index("ev_blink_freq") - len(_EYE_NAMES)  # from the end
    effect[blinks] = 0.04 * (valence - arousal)
    log_value = level[:, None] + effect + rng.normal(0, 0.08, (len(level), 1))
    steps = np.cumsum(rng.normal(0, 0.03, (len(level), n_windows)), axis=1)
    return _eye_levels(len(level))[:, None] * np.exp(log_value + steps)


def _eye_levels(n_features: int) -> np.ndarray:
    """Return the usual sizes; SEED-V has the duration of blinks, in ms, as well."""
    if n_features == len(_EYE_LEVELS):
        return _EYE_LEVELS
    return np.insert(_EYE_LEVELS, _EYE_NAMES.index("sacc_dur_mean"), [180, 60])
