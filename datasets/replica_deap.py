"""Replica of DEAP: pickles as Python 2 wrote them, MATLAB 5 files, BioSemi files."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from edfio import Bdf, BdfSignal
from scipy.io import savemat

from braindecode_emossl.datasets import deap, deap_original
from braindecode_emossl.datasets.replica_artifacts import make_blinks
from braindecode_emossl.datasets.replica_head import Head
from braindecode_emossl.datasets.replica_peripherals import make_peripherals
from braindecode_emossl.datasets.replica_signals import (
    Stimulus,
    make_eeg,
    make_generator,
    make_stimulus,
    make_subject,
    make_trial,
)

__all__ = ["write_deap", "write_python2_pickle"]


_FOLDERS = {
    "dat": "data_preprocessed_python",
    "mat": "data_preprocessed_matlab",
    "bdf": "data_original",
}
_N_VIDEOS = deap.N_VIDEOS

# Electrodes in the order of the recordings of Twente, subjects 1 to 22.
_TWENTE_NAMES = (
    "Fp1 AF3 F7 F3 FC1 FC5 T7 C3 CP1 CP5 P7 P3 Pz PO3 O1 Oz O2 PO4 P4 P8 CP6 CP2 C4 "
    "T8 FC6 FC2 F4 F8 AF4 Fp2 Fz Cz"
).split()
_LAST_OF_TWENTE = 22
# Who did not say how familiar the videos were.
_UNFAMILIAR = (2, 15, 23)

# Seconds of an original recording before its first trial; in a trial, from the
# fixation cross (code 3) to the video (4), from its end (5) to the rating screen (1)
# and from there to the next cross.
_PRELUDE = 4.0
_CROSS, _AFTER, _RATING = 1.0, 0.5, 0.5

# Skin, respiration, plethysmograph and temperature.
_SLOW = slice(len(deap.CH_NAMES) - 4, len(deap.CH_NAMES))

# Physical range of the original recordings, in microvolts; ohm need more room.
_RANGE = 262144
_GSR_RANGE = 1048576
_DIGITAL = 2**23


def write_deap(folder: Path, settings: Mapping) -> None:
    """Write the release into an empty folder; ``settings`` as of `write_replica`."""
    recordings = folder / _FOLDERS[settings["variant"]]
    for place in (recordings, folder / "metadata_csv"):
        place.mkdir(parents=True)
    head = Head.of(deap.EEG_NAMES, {})
    # What the videos were chosen for: ten of each quadrant, in an order of their own.
    corners = np.repeat([[-1, -1], [-1, 1], [1, -1], [1, 1]], _N_VIDEOS // 4, axis=0)
    targets = make_generator(settings).permutation(corners)
    table = []
    for subject in settings["subjects"]:
        rng = make_generator(settings, subject, _N_VIDEOS + 3)
        viewer = make_subject(head, settings, subject)
        mood = np.hstack([targets, rng.normal(size=targets.shape)])
        ratings = np.clip(5 + 2 * mood + rng.normal(0, 0.7, mood.shape), 1, 9).round(2)
        rows = _make_rows(settings, subject, ratings)
        table.append(rows)
        file = recordings / f"s{subject:02d}.{settings['variant']}"
        if settings["variant"] == "bdf":
            _write_bdf(file, settings, subject, viewer, rows)
            continue
        data = np.empty((_N_VIDEOS, len(deap.CH_NAMES), _count_samples(settings)))
        for video, row in enumerate(ratings, start=1):
            rng = make_generator(settings, subject, video)
            data[video - 1] = _make_video(viewer, video, row, settings, rng)
        arrays = {"labels": ratings, "data": data}
        if settings["variant"] == "mat":
            savemat(file, arrays, format="5", do_compression=True)
        else:
            write_python2_pickle(file, arrays)
    pd.concat(table).to_csv(
        folder / "metadata_csv" / "participant_ratings.csv", index=False
    )


def _make_rows(settings, subject, ratings):
    """Return the subject's rows of participant_ratings, in order of presentation."""
    rng = make_generator(settings, subject, _N_VIDEOS + 1)
    videos = rng.permutation(_N_VIDEOS) + 1
    familiarity = rng.integers(1, 6, _N_VIDEOS)
    # As the original recordings have them, in 0.1 ms and not exactly.
    length = _CROSS + _seconds(settings) + _AFTER + _RATING
    seconds = _PRELUDE + _CROSS + length * np.arange(_N_VIDEOS)
    starts = np.round(seconds * 1e4).astype(int) + rng.integers(-300, 300, _N_VIDEOS)
    columns = ("Valence", "Arousal", "Dominance", "Liking")
    return pd.DataFrame(
        {
            "Participant_id": subject,
            "Trial": np.arange(_N_VIDEOS) + 1,
            "Experiment_id": videos,
            "Start_time": starts,
            **dict(zip(columns, ratings[videos - 1].T, strict=True)),
            "Familiarity": "" if subject in _UNFAMILIAR else familiarity,
        }
    )


def _seconds(settings):
    return settings["seconds"] or deap_original.VIDEO_SECONDS


def _count_samples(settings):
    """Return the samples of baseline and trial of a preprocessed file."""
    n_baseline = round(deap.BASELINE_SECONDS * deap.SFREQ)
    return n_baseline + round(_seconds(settings) * deap.SFREQ)


def _make_video(viewer, video, ratings, settings, rng):
    """Return baseline and trial of one video, (40 channels, n_times)."""
    n_baseline = round(deap.BASELINE_SECONDS * deap.SFREQ)
    n_trial = _count_samples(settings) - n_baseline
    stimulus = make_stimulus(settings, n_trial / deap.SFREQ, video)
    state = _state(ratings, settings)
    make_part = partial(_make_part, viewer, sfreq=deap.SFREQ, passband=(4, 45), rng=rng)
    baseline = make_part(None, np.zeros(2), n_times=n_baseline)
    signals = np.hstack([baseline, make_part(stimulus, state, n_times=n_trial)])
    # The release has the mean of the baseline taken off these signals.
    signals[_SLOW] -= signals[_SLOW, :n_baseline].mean(axis=1, keepdims=True)
    return signals


def _state(ratings, settings):
    return settings["effect_size"] * np.clip((ratings[:2] - 5) / 2, -1, 1)


def _make_part(viewer, stimulus, state, n_times, sfreq, passband, rng):
    """Return EEG and peripherals of a trial or a pause (40, n_times)."""
    trial = make_trial(viewer, stimulus, state, n_times / sfreq, rng)
    eeg = make_eeg(viewer, trial, sfreq, n_times, passband, rng)
    return np.vstack([eeg, _make_peripherals(viewer, trial, n_times, sfreq, rng)])


def _make_peripherals(viewer, trial, n_times, sfreq, rng):
    """Return DEAP's eight peripheral channels (8, n_times) in the files' units."""
    eog = rng.normal(0, 20, (2, n_times))
    eog[1] += 2 * make_blinks(trial.blinks, sfreq, n_times)
    smile = np.exp(0.1 * trial.sample("valence", n_times, sfreq))
    emg = rng.normal(0, 8, (2, n_times)) * smile
    slow = make_peripherals(viewer, trial, n_times, sfreq, rng)
    breath, pulse = (np.sin(2 * np.pi * slow[name]) for name in ("breath", "heart"))
    return np.vstack(
        [eog, emg, slow["skin"], 500 * breath, 800 * pulse, slow["warmth"]]
    )


# -- original recordings -------------------------------------------------------


def _write_bdf(file, settings, subject, viewer, rows):
    """Write one recording; ``rows`` are its trials in the order of presentation."""
    sfreq = deap_original.SFREQ
    # Whole samples, or else some trials would have one more than others.
    seconds = round(_seconds(settings) * sfreq) / sfreq
    parts: list[tuple[float, Stimulus | None, np.ndarray]]
    parts = [(_PRELUDE, None, np.zeros(2))]
    codes = [(0.5, 1), (1.0, 1), (1.5, 2)]
    if subject > _LAST_OF_TWENTE:
        codes += [(2.0, 3), (2.5, 5)]  # practice
    onset = _PRELUDE
    ratings = rows[["Valence", "Arousal"]].to_numpy()
    for video, row in zip(rows["Experiment_id"], ratings, strict=True):
        start, stop = onset + _CROSS, onset + _CROSS + seconds
        codes += [(onset, 3), (start, 4), (stop, 5), (stop + _AFTER, 1)]
        onset = stop + _AFTER + _RATING
        stimulus = make_stimulus(settings, seconds, video)
        parts.append((_CROSS, None, np.zeros(2)))
        parts.append((seconds, stimulus, _state(row, settings)))
        parts.append((_AFTER + _RATING, None, np.zeros(2)))
    codes.append((onset, 7))
    # Records last a second.
    parts.append((np.ceil(onset) + 1 - onset, None, np.zeros(2)))
    edges = np.cumsum([0, *(length for length, _, _ in parts)]) * sfreq
    edges = np.round(edges).astype(int)
    rng = make_generator(settings, subject, _N_VIDEOS + 2)
    signals = np.empty((len(deap.CH_NAMES), edges[-1]))
    for (_, stimulus, state), start, stop in zip(
        parts, edges[:-1], edges[1:], strict=True
    ):
        n_times = stop - start
        signals[:, start:stop] = _make_part(
            viewer, stimulus, state, n_times, sfreq, (0.5, 100), rng
        )
    samples = [(round(time * sfreq), code) for time, code in codes]
    status = _make_status(samples, int(edges[-1]), subject)
    channels = _make_channels(signals, status, subject, rng)
    Bdf(channels, data_record_duration=1).write(file)


def _make_status(codes, n_times, subject):
    """Return the status channel (n_times); ``codes`` are pairs of sample and code."""
    status = np.zeros(n_times, np.int32)
    stops = [*(sample for sample, _ in codes[1:]), n_times]
    for (start, code), stop in zip(codes, stops, strict=True):
        # A code may be held up to the next one or be short: both must be understood.
        held = stop - start if subject > _LAST_OF_TWENTE else 8
        status[start : start + held] = code
    if subject < 24:
        return status
    status += 0x18FF00
    status[: codes[0][0]] = 0x19FF00
    if subject == 28:  # the battery is low from the end of the 37th video on
        ends = [sample for sample, code in codes if code == 5]
        status[ends[-4] :] += 0x400000
    return status


def _make_channels(signals, status, subject, rng):
    """Return the channels of a file; ``signals`` (40, n_times) as preprocessed."""
    n_times = signals.shape[1]
    n_eeg = len(deap.EEG_NAMES)
    heog, veog, zemg, temg, gsr, resp, plet, temp = signals[n_eeg:]
    twente = subject <= _LAST_OF_TWENTE
    # Without a reference, all leads share what the whole body carries, and electrodes
    # have offsets of millivolts.
    common = 50 * np.sin(2 * np.pi * 0.05 * np.arange(n_times) / deap_original.SFREQ)
    eeg = signals[:n_eeg] + common + rng.normal(0, 2000, (n_eeg, 1))
    unused = np.zeros(n_times)
    leads = {
        name: (eeg[deap.EEG_NAMES.index(name)], "uV")
        for name in (_TWENTE_NAMES if twente else deap.EEG_NAMES)
    }
    for number, difference in enumerate((heog, veog, zemg, temg)):
        leads[f"EXG{2 * number + 1}"] = (common + difference / 2, "uV")
        leads[f"EXG{2 * number + 2}"] = (common - difference / 2, "uV")
    leads["GSR1"] = (1e9 / gsr, "nS") if twente else (gsr, "Ohm")
    leads |= {"GSR2": (unused, "nS" if twente else "Ohm")}
    leads |= {"Erg1": (unused, "uV"), "Erg2": (unused, "uV")}
    leads |= {"Resp": (resp, "uV"), "Plet": (plet, "uV"), "Temp": (temp, "Degree")}
    if subject >= 29:
        leads[""] = (unused, "uV")
    channels = []
    for label, (values, unit) in leads.items():
        limit = _GSR_RANGE if label.startswith("GSR") else _RANGE
        digital = (values + limit) * (2 * _DIGITAL - 1) / (2 * limit) - _DIGITAL
        digital = np.clip(np.round(digital), -_DIGITAL, _DIGITAL - 1)
        digital = digital.astype(np.int32)
        channels.append(_make_channel(digital, label, unit, (-limit, limit)))
    name = "Status" if subject < 24 else ""
    return [
        *channels,
        _make_channel(status, name, "Boolean", (-_DIGITAL, _DIGITAL - 1)),
    ]


def _make_channel(digital, label, unit, limits):
    return BdfSignal.from_digital(
        digital,
        deap_original.SFREQ,
        label=label,
        physical_dimension=unit,
        physical_range=limits,
        digital_range=(-_DIGITAL, _DIGITAL - 1),
    )


# -- pickles -------------------------------------------------------------------


def write_python2_pickle(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Pickle a dictionary of float64 arrays with the opcodes that Python 2 used.

    Python 3 marks its byte strings as such, so that its pickles load without the
    ``encoding="latin1"`` that the real files need; hence the opcodes by hand.
    """
    with file.open("wb") as stream:
        stream.write(b"\x80\x02}(")  # protocol 2, empty dictionary, mark
        for key, array in arrays.items():
            stream.write(_string(key.encode()))
            _write_array(stream, np.ascontiguousarray(array, "<f8"))
        stream.write(b"u.")  # set the items, stop


def _write_array(stream, array: np.ndarray) -> None:
    integers = b"".join(b"J" + struct.pack("<i", size) for size in array.shape)
    stream.write(
        # _reconstruct(ndarray, (0,), "b")
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        # its state: (1, shape, dtype("f8", 0, 1) in little-endian, False, data)
        + (b"(K\x01(" + integers + b"t")
        + b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
        + b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + (b"T" + struct.pack("<i", array.nbytes))
    )
    stream.write(array.data)
    stream.write(b"tb")


def _string(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text
