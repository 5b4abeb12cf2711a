"""Replica of DEAP: pickles as Python 2 wrote them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from braindecode_emossl.datasets import deap
from braindecode_emossl.datasets.replica_signals import (
    Head,
    make_eeg,
    make_generator,
    make_subject_gain,
    slow_drift,
)

__all__ = ["write_deap", "write_python2_pickle"]


def write_deap(folder: Path, settings: Mapping) -> None:
    """Write the release into an empty folder; ``settings`` as of `write_replica`."""
    folder = folder / "data_preprocessed_python"
    folder.mkdir(parents=True)
    head = Head.of(deap.EEG_NAMES, {})
    # What the videos were chosen for: ten of each quadrant, in an order of their own.
    corners = np.repeat(
        [[-1, -1], [-1, 1], [1, -1], [1, 1]], deap.N_VIDEOS // 4, axis=0
    )
    targets = make_generator(settings).permutation(corners)
    for subject in settings["subjects"]:
        rng = make_generator(settings, subject)
        gain = make_subject_gain(head, rng)
        mood = np.hstack([targets, rng.normal(size=targets.shape)])
        ratings = np.clip(5 + 2 * mood + rng.normal(0, 0.7, mood.shape), 1, 9).round(2)
        data = np.stack(
            [
                _deap_trial(
                    head, gain, row, settings, make_generator(settings, subject, k)
                )
                for k, row in enumerate(ratings, start=1)
            ]
        )
        write_python2_pickle(
            folder / f"s{subject:02d}.dat", {"labels": ratings, "data": data}
        )


def _deap_trial(head, gain, ratings, settings, rng):
    """Return baseline and trial of one video, (40 channels, n_times)."""
    n_baseline = round(deap.BASELINE_SECONDS * deap.SFREQ)
    n_trial = round(settings["seconds"] * deap.SFREQ)
    state = settings["effect_size"] * np.clip((ratings[:2] - 5) / 2, -1, 1)
    parts = []
    for n_times, felt in ((n_baseline, np.zeros(2)), (n_trial, state)):
        eeg = make_eeg(head, gain, felt, deap.SFREQ, n_times, (4, 45), rng)
        eeg -= eeg.mean(axis=0)  # the common average is the reference
        parts.append(np.vstack([eeg, _peripherals(felt, n_times, rng)]))
    return np.hstack(parts)


def _peripherals(state, n_times, rng):
    """Return DEAP's eight peripheral channels (8, n_times) in the files' units."""
    valence, arousal = state
    time = np.arange(n_times) / deap.SFREQ
    eog = rng.normal(0, 20, (2, n_times)) * slow_drift(n_times, deap.SFREQ, rng)
    smile = np.exp(0.4 * np.array([[valence], [arousal]]))
    emg = rng.normal(0, 8, (2, n_times)) * smile
    # Sweating lowers the resistance of the skin, in ohm.
    skin = 2e5 * np.exp(-0.2 * arousal) * slow_drift(n_times, deap.SFREQ, rng)
    breath = 500 * np.sin(
        2 * np.pi * (0.25 + 0.05 * arousal) * time + rng.uniform(0, 6)
    )
    pulse = 800 * np.sin(2 * np.pi * (1.15 + 0.1 * arousal) * time + rng.uniform(0, 6))
    warmth = 33 + 0.5 * valence + 0.1 * np.log(slow_drift(n_times, deap.SFREQ, rng))
    slow = np.stack([skin, breath, pulse, warmth])
    return np.vstack([eog, emg, slow * (1 + rng.normal(0, 1e-3, slow.shape))])


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
