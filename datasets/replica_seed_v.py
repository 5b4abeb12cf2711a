"""Replica of SEED-V: Neuroscan CNT files, and archives of pickled features."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from braindecode_emossl.datasets import seed_family, seed_v
from braindecode_emossl.datasets.replica_artifacts import make_blinks
from braindecode_emossl.datasets.replica_features import make_band_powers, to_entropy
from braindecode_emossl.datasets.replica_head import Head
from braindecode_emossl.datasets.replica_seed_iv import STATES, make_eye
from braindecode_emossl.datasets.replica_signals import (
    make_eeg,
    make_generator,
    make_stimulus,
    make_subject,
    make_trial,
)
from braindecode_emossl.datasets.signals import template_positions

__all__ = ["write_cnt", "write_seed_v"]

# Days in the names of the files, by session and subject.
_DATES = (
    "20180804 20180416 20180414 20180414 20180719 20180713 20180411 20180717 20180724 "
    "20180507 20180510 20180515 20180720 20180420 20180724 20180805".split(),
    "20180810 20180419 20180419 20180417 20180728 20180731 20180418 20180802 20180804 "
    "20180524 20180508 20180508 20180806 20180423 20180807 20180815".split(),
    "20180808 20180425 20180424 20180501 20180723 20180802 20180422 20180726 20180728 "
    "20180626 20180522 20180517 20180725 20180427 20180730 20180813".split(),
)

_PASSBAND = (0.1, 200.0)  # of the amplifier [inferred]
_GAP_SECONDS = 1.0  # around the trials of a miniature copy
_GAP_MICROVOLTS = 10.0
_OFFSET_MICROVOLTS = 200.0  # of electrodes of an amplifier without a filter
_FEATURE_SFREQ = 200.0
_EYES = 999  # in the place of a number of `make_generator`

# The mastoids lie between the rows of the cap, the EOG at the end.
_NAMES = [name.upper() for name in seed_family.CH_NAMES]
for _name, _before in {"M1": "TP7", "M2": "P7"}.items():
    _NAMES.insert(_NAMES.index(_before), _name)
_NAMES += ["VEO", "HEO"]

# Microvolts of a step of the samples of 32 bits.
_RESOLUTION = 0.03


def write_seed_v(folder: Path, settings: Mapping) -> None:
    """Write the release into an empty folder; ``settings`` as of `write_replica`."""
    folder = folder / "SEED-V"
    for name in ("EEG_raw", "EEG_DE_features", "Eye_movement_features"):
        (folder / name).mkdir(parents=True)
    times = _make_times(settings)
    (folder / seed_v.TIMES_FILE).write_text(_format_times(times))
    head = Head.of(seed_family.CH_NAMES, seed_family.POSITIONS)
    for subject in settings["subjects"]:
        features: dict[str, dict] = {"de": {}, "eye": {}, "label": {}}
        for session in settings["sessions"]:
            viewer = make_subject(head, settings, subject, session)
            name = f"{subject}_{session + 1}_{_DATES[session][subject - 1]}.cnt"
            starts, stops = times[str(session)]
            parts = _make_recording(
                viewer, settings, subject, session, (starts, stops), features
            )
            n_times = round((stops[-1] + _GAP_SECONDS) * seed_v.SFREQ)
            write_cnt(folder / "EEG_raw" / name, _NAMES, seed_v.SFREQ, n_times, parts)
        _write_features(folder, subject, features)


def _make_times(settings) -> dict[str, tuple[list[float], list[float]]]:
    """Return the published starts and ends by session, or those of a miniature."""
    seconds = settings["seconds"]
    if seconds is None:
        return {k: (list(rows[0]), list(rows[1])) for k, rows in seed_v.TIMES.items()}
    length = round(seconds * seed_v.SFREQ) / seed_v.SFREQ
    starts = [
        round(_GAP_SECONDS + k * (length + _GAP_SECONDS), 3)
        for k in range(seed_v.N_TRIALS)
    ]
    stops = [round(start + length, 3) for start in starts]
    return dict.fromkeys(seed_v.TIMES, (starts, stops))


def _format_times(times: Mapping) -> str:
    def row(values):
        return "[" + ", ".join(f"{value:g}" for value in values) + "]"

    blocks = [
        f"Session {int(session) + 1}:\nstart_second: {row(starts)}\n"
        f"end_second: {row(stops)}\n"
        for session, (starts, stops) in times.items()
    ]
    return "\n".join(blocks)


def _make_recording(viewer, settings, subject, session, times, features):
    """Yield the parts (n_chans, n_times) in microvolts; add features of the trials."""
    rng = make_generator(settings, subject, session + 1)
    offset = rng.normal(0, _OFFSET_MICROVOLTS, (len(_NAMES), 1))
    level = (
        0.15
        * settings["subject_variance"]
        * make_generator(settings, subject, _EYES).normal(size=len(seed_v.EYE_FEATURES))
    )
    place = 0
    for index, (start, stop) in enumerate(zip(*times, strict=True)):
        first, last = (round(t * seed_v.SFREQ) for t in (start, stop))
        yield offset + _GAP_MICROVOLTS * rng.normal(size=(len(_NAMES), first - place))
        label = seed_v.LABELS[str(session)][index]
        trial, eeg = _make_clip(viewer, settings, subject, session, index, last - first)
        key = session * seed_v.N_TRIALS + index
        features["de"][key] = _make_entropy(eeg)
        n_windows = len(features["de"][key])
        eye_rng = make_generator(settings, subject, session + 1, index, _EYES)
        eye = make_eye(level, trial, n_windows, eye_rng, seed_v.FEATURE_WINDOW)
        features["eye"][key] = eye.T
        features["label"][key] = np.full(n_windows, float(label))
        yield offset + _add_others(eeg, trial, rng)
        place = last
    n_after = round(_GAP_SECONDS * seed_v.SFREQ)
    yield offset + _GAP_MICROVOLTS * rng.normal(size=(len(_NAMES), n_after))


def _make_clip(viewer, settings, subject, session, index, n_times):
    """Return the trial of a clip and its EEG (62, n_times)."""
    emotion = seed_v.EMOTIONS[seed_v.LABELS[str(session)][index]]
    state = np.array(STATES[emotion]) * settings["effect_size"]
    seconds = n_times / seed_v.SFREQ
    stimulus = make_stimulus(settings, seconds, session + 1, index)
    rng = make_generator(settings, subject, session + 1, index)
    trial = make_trial(viewer, stimulus, state, seconds, rng)
    return trial, make_eeg(viewer, trial, seed_v.SFREQ, n_times, _PASSBAND, rng)


def _add_others(eeg, trial, rng) -> np.ndarray:
    """Return the EEG with the mastoids and the EOG, in the order of the file."""
    n_times = eeg.shape[1]
    others = dict(zip(("M1", "M2", "HEO"), rng.normal(0, 8, (3, n_times)), strict=True))
    blinks = make_blinks(trial.blinks, seed_v.SFREQ, n_times)
    others["VEO"] = 2 * blinks + rng.normal(0, 8, n_times)
    rows = dict(zip((n.upper() for n in seed_family.CH_NAMES), eeg, strict=True))
    return np.stack([(rows | others)[name] for name in _NAMES])


def _make_entropy(eeg) -> np.ndarray:
    """Return the differential entropy (n_windows, 62 channels of 5 bands)."""
    step = round(seed_v.SFREQ / _FEATURE_SFREQ)
    powers = make_band_powers(
        resample_poly(eeg, 1, step, axis=1), _FEATURE_SFREQ, seed_v.FEATURE_WINDOW
    )
    return to_entropy(powers).transpose(1, 0, 2).reshape(powers.shape[1], -1)


def _write_features(folder, subject, features) -> None:
    """Write the archives of a subject, with the trials of all sessions."""
    label = pickle.dumps(features["label"], protocol=3)
    for kind, name in {"de": "EEG_DE", "eye": "Eye_movement"}.items():
        data = pickle.dumps(features[kind], protocol=3)
        file = folder / f"{name}_features" / f"{subject}_123.npz"
        np.savez(file, data=data, label=label)


# -- Neuroscan CNT -------------------------------------------------------------


def write_cnt(
    file: Path,
    ch_names: Sequence[str],
    sfreq: float,
    n_times: int,
    parts: Iterable[np.ndarray],
) -> None:
    """Write parts (n_chans, ...) in microvolts as a continuous file of 32 bits.

    The format: a header of 900 bytes (SETUP), 75 bytes for each channel (ELECTLOC),
    samples of all channels in turn, and a table of events (TEEG), empty here.
    """
    n_chans = len(ch_names)
    table = 900 + 75 * n_chans + 4 * n_chans * n_times
    setup = bytearray(900)
    setup[:12] = b"Version 3.0\0"
    struct.pack_into("<10s12s", setup, 225, b"01/01/18\0", b"12:00:00\0")
    struct.pack_into("<H", setup, 370, n_chans)
    struct.pack_into("<H", setup, 376, round(sfreq))
    struct.pack_into("<i", setup, 864, n_times)
    struct.pack_into("<ifi", setup, 886, table, n_times / sfreq, 0)
    with file.open("wb") as stream:
        stream.write(setup)
        for name, place in zip(ch_names, _place(ch_names), strict=True):
            electrode = bytearray(75)
            struct.pack_into("<10s", electrode, 0, name.encode())
            struct.pack_into("<ff", electrode, 19, *place)
            # A step is sensitivity * calibration / 204.8 microvolts.
            struct.pack_into("<f", electrode, 59, 204.8 * _RESOLUTION)
            struct.pack_into("<f", electrode, 71, 1.0)
            stream.write(electrode)
        n_written = 0
        for part in parts:
            steps = np.rint(part.T / _RESOLUTION).astype("<i4")
            stream.write(np.ascontiguousarray(steps).tobytes())
            n_written += len(steps)
        if n_written != n_times:
            raise ValueError(f"{n_times} samples were announced, {n_written} written")
        stream.write(struct.pack("<Bii", 1, 0, 0))


def _place(ch_names: Sequence[str]) -> list[tuple[float, float]]:
    """Return the electrodes seen from above, those of no known place at the edge."""
    names = {name.upper(): name for name in seed_family.CH_NAMES}
    known = template_positions(list(names.values()), seed_family.POSITIONS)
    places = {name: known[title][:2] * 1000 for name, title in names.items()}
    return [tuple(places.get(name, (0.0, -100.0))) for name in ch_names]
