"""Miniature copies of the corpora, in the byte format of the real releases."""

from __future__ import annotations

import json
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import savemat

from braindecode_emossl.datasets import deap
from braindecode_emossl.datasets import seed as seed_corpus
from braindecode_emossl.datasets.base import template_positions

__all__ = ["write_replica"]

# Bands whose power the replicas modulate, in Hz, and the amplitude of each in
# microvolts (root mean square) before any effect.
_BANDS = {
    "delta": (1.0, 4.0, 14.0),
    "theta": (4.0, 8.0, 8.0),
    "alpha": (8.0, 14.0, 10.0),
    "beta": (14.0, 31.0, 5.0),
    "gamma": (31.0, 75.0, 3.0),
}

# Change of log amplitude (0.1 is about 1 dB) at the end of a scale, where the pattern
# over the scalp is strongest: at effect_size=1 linear classifiers of band power are
# clearly over chance on unseen subjects, and not perfect.
_EFFECT = 0.1

# Variable prefixes that the real SEED files bear, by subject.
_SEED_PREFIXES = "djc jl jj lqj ly mhw phl sxy wk ww wsf wyw xyl ys zjy".split()


def write_replica(
    corpus,
    root,
    *,
    subjects,
    seconds,
    seed,
    effect_size=1.0,
    sessions=None,
    release="new",
):
    """Write a miniature copy of a corpus in its real on-disk format.

    The signals are synthetic: band power over plausible scalp regions follows the
    label (frontal alpha asymmetry and temporal gamma the valence; posterior alpha,
    beta and frontal theta the arousal), with the gain, the noise and the electrode
    differences of each subject and a slow drift within a trial. They show that a
    pipeline works; they say nothing about emotion.

    Parameters
    ----------
    corpus : {"SEED", "DEAP"}
        Code of the corpus.
    root : str or Path
        Folder to write to; made where missing. Nothing that is there is overwritten.
    subjects : sequence of int
        Subjects to write, by their numbers in the corpus.
    seconds : float
        Length of every trial, in seconds, at least 1.
    seed : int
        Same seed, same bytes, whatever other subjects are written.
    effect_size : float
        Strength of the class effects; 0 writes signals that know nothing of the
        labels, on which every honest protocol scores chance.
    sessions : sequence of int or None
        Recording sessions to write, from 0; all by default.
    release : {"new", "old"}
        Which release tree of SEED.

    Returns
    -------
    Path
        The folder ``root``, ready for the dataset's ``path``.

    Raises
    ------
    ValueError
        If an argument is not as described.
    FileExistsError
        If the folder holds such files already, other than this very replica.

    Examples
    --------
    >>> root = write_replica("DEAP", "deap-replica", subjects=[1], seconds=4, seed=0)
    >>> raw = DEAP(subjects=[1], path=root).get_data()[1]["0"]["00"]
    """
    if corpus not in _WRITERS:
        raise ValueError(
            f"corpus must be one of {sorted(_WRITERS)}, but got {corpus!r}."
        )
    writer = _WRITERS[corpus]
    sessions = writer.sessions if sessions is None else tuple(sessions)
    _check_arguments(writer, subjects, seconds, effect_size, sessions, release)
    settings = {
        "corpus": corpus,
        "subjects": [int(subject) for subject in subjects],
        "seconds": float(seconds),
        "seed": int(seed),
        "effect_size": float(effect_size),
        "sessions": list(sessions),
        "release": release,
    }
    root = Path(root).expanduser().absolute()
    receipt = root / f"replica-{corpus}.json"
    if receipt.is_file():
        if json.loads(receipt.read_text()) == settings:
            return root
        raise FileExistsError(
            f"{root} already holds a replica of {corpus} with other settings (see "
            f"{receipt.name}): name an empty folder."
        )
    root.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: an interrupted call leaves nothing that looks like a corpus.
    with tempfile.TemporaryDirectory(dir=root, prefix=".replica-") as scratch:
        writer.write(Path(scratch), settings)
        _move_into(root, Path(scratch))
    receipt.write_text(json.dumps(settings, indent=2) + "\n")
    return root


def _check_arguments(writer, subjects, seconds, effect_size, sessions, release):
    allowed = {
        "subjects": (subjects, writer.subjects),
        "sessions": (sessions, writer.sessions),
        "release": ([release], ("new", "old")),
    }
    for name, (values, known) in allowed.items():
        if not len(values) or not set(values) <= set(known):
            raise ValueError(f"{name} must be among {known}, but got {values}.")
    if seconds < 1:
        raise ValueError(f"seconds must be at least 1, but got {seconds}.")
    if effect_size < 0:
        raise ValueError(f"effect_size must not be negative, but got {effect_size}.")


def _move_into(root: Path, scratch: Path) -> None:
    """Move the finished folders; one that is there may be of a real corpus."""
    folders = list(scratch.iterdir())
    for folder in folders:
        if (root / folder.name).exists():
            raise FileExistsError(
                f"{root} already holds {folder.name} and is not this very replica. A "
                "replica never overwrites or joins files, which may be a real corpus: "
                "name an empty folder."
            )
    for folder in folders:
        folder.replace(root / folder.name)


# -- signals -------------------------------------------------------------------


@dataclass(frozen=True)
class _Head:
    """Scalp of a corpus: where its electrodes lie and what an emotion changes there.

    ``valence`` and ``arousal`` are the log-amplitude changes (n_chans, n_bands) at the
    ends of the two scales; ``mixing`` (n_chans, n_chans) makes neighbours alike.
    """

    valence: np.ndarray
    arousal: np.ndarray
    mixing: np.ndarray

    @classmethod
    def of(cls, ch_names: Sequence[str], positions: Mapping[str, str]) -> _Head:
        places = template_positions(ch_names, positions)
        xyz = np.array([places[name] for name in ch_names])
        xyz = (xyz - xyz.mean(0)) / np.abs(xyz - xyz.mean(0)).max(0)
        right, front = xyz[:, 0], xyz[:, 1]
        frontal, posterior = np.clip(front, 0, 1), np.clip(-front, 0, 1)
        temporal = np.abs(right) * (np.abs(front) < 0.6)
        midline = frontal * (1 - np.abs(right))
        zero = np.zeros(len(ch_names))
        #             delta, theta, alpha, beta, gamma
        valence = [zero, zero, frontal * right, temporal, 1.5 * temporal]
        arousal = [zero, midline, -1.2 * posterior, frontal, zero]
        distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=-1)
        mixing = np.exp(-3 * distance)
        mixing /= np.linalg.norm(mixing, axis=1, keepdims=True)
        return cls(
            _EFFECT * np.stack(valence, 1), _EFFECT * np.stack(arousal, 1), mixing
        )


def _eeg(head, subject_gain, state, sfreq, n_times, passband, rng):
    """Return the EEG of one trial (n_chans, n_times) in microvolts.

    ``subject_gain`` (n_chans, n_bands) is the subject's own log amplitude, ``state``
    the pair of valence and arousal, each from -1 to 1, already scaled by the effect.
    """
    valence, arousal = state
    log_gain = subject_gain + valence * head.valence + arousal * head.arousal
    # What changes from trial to trial for no reason of interest.
    log_gain = log_gain + rng.normal(0, 0.08, (1, len(_BANDS)))
    frequencies = np.fft.rfftfreq(n_times, 1 / sfreq)
    eeg = np.zeros((len(log_gain), n_times))
    for index, (low, high, microvolts) in enumerate(_BANDS.values()):
        low, high = max(low, passband[0]), min(high, passband[1])
        inside = (frequencies >= low) & (frequencies < high)
        if not inside.any():
            continue
        spectrum = np.zeros((len(eeg), len(frequencies)), complex)
        shape = (len(eeg), inside.sum())
        noise = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        spectrum[:, inside] = head.mixing @ noise / np.sqrt(frequencies[inside])
        band = np.fft.irfft(spectrum, n_times)
        band *= microvolts / band.std(axis=1, keepdims=True).mean()
        eeg += np.exp(log_gain[:, [index]]) * _slow_drift(n_times, sfreq, rng) * band
    return eeg + rng.normal(0, 1.0, eeg.shape)


def _slow_drift(n_times, sfreq, rng):
    """Return a gain (n_times) that wanders over tens of seconds, around 1."""
    n_knots = max(2, round(n_times / sfreq / 8) + 1)
    knots = np.cumsum(rng.normal(0, 0.08, n_knots))
    grid = np.linspace(0, n_knots - 1, n_times)
    return np.exp(np.interp(grid, np.arange(n_knots), knots - knots.mean()))


def _subject_gain(head, rng):
    """Return how one subject's head differs (n_chans, n_bands), as log amplitude."""
    n_chans, n_bands = head.valence.shape
    whole_head = rng.normal(0, 0.2)
    by_band = rng.normal(0, 0.1, (1, n_bands))
    return whole_head + by_band + rng.normal(0, 0.08, (n_chans, n_bands))


def _generator(settings, *numbers):
    """Return a generator of its own for each corpus, subject, session and trial."""
    corpus = zlib.crc32(settings["corpus"].encode())
    return np.random.default_rng([settings["seed"], corpus, *numbers])


# -- SEED ----------------------------------------------------------------------


def _write_seed(folder: Path, settings: Mapping) -> None:
    tree = {"new": "SEED_EEG/Preprocessed_EEG", "old": "Preprocessed_EEG"}
    folder = folder / tree[settings["release"]]
    folder.mkdir(parents=True)
    labels = np.array([seed_corpus.LABELS], np.int16)
    savemat(folder / "label.mat", {"label": labels}, format="5")
    (folder / "readme.txt").write_text("A synthetic replica of SEED, not the corpus.\n")
    head = _Head.of(seed_corpus.CH_NAMES, seed_corpus.POSITIONS)
    # Cut with its end included, as the makers did: one sample over n seconds.
    n_times = round(settings["seconds"] * seed_corpus.SFREQ) + 1
    for subject in settings["subjects"]:
        gain = _subject_gain(head, _generator(settings, subject))
        for session in settings["sessions"]:
            arrays = {}
            for film, label in enumerate(seed_corpus.LABELS, start=1):
                state = settings["effect_size"] * np.array([label, 2 * abs(label) - 1])
                rng = _generator(settings, subject, session + 1, film)
                arrays[f"{_SEED_PREFIXES[subject - 1]}_eeg{film}"] = _eeg(
                    head, gain, state, seed_corpus.SFREQ, n_times, (0.5, 75), rng
                )
            # The real files come out in this order: eeg1, eeg10, eeg11, ..., eeg2.
            arrays = {name: arrays[name] for name in sorted(arrays)}
            name = f"{subject}_{seed_corpus.DATES[subject][session]}.mat"
            savemat(folder / name, arrays, format="5", do_compression=True)


# -- DEAP ----------------------------------------------------------------------


def _write_deap(folder: Path, settings: Mapping) -> None:
    folder = folder / "data_preprocessed_python"
    folder.mkdir(parents=True)
    head = _Head.of(deap.EEG_NAMES, {})
    # What the videos were chosen for: ten of each quadrant, in an order of their own.
    corners = np.repeat(
        [[-1, -1], [-1, 1], [1, -1], [1, 1]], deap.N_VIDEOS // 4, axis=0
    )
    targets = _generator(settings).permutation(corners)
    for subject in settings["subjects"]:
        rng = _generator(settings, subject)
        gain = _subject_gain(head, rng)
        mood = np.hstack([targets, rng.normal(size=targets.shape)])
        ratings = np.clip(5 + 2 * mood + rng.normal(0, 0.7, mood.shape), 1, 9).round(2)
        data = np.stack(
            [
                _deap_trial(head, gain, row, settings, _generator(settings, subject, k))
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
        eeg = _eeg(head, gain, felt, deap.SFREQ, n_times, (4, 45), rng)
        eeg -= eeg.mean(axis=0)  # the common average is the reference
        parts.append(np.vstack([eeg, _peripherals(felt, n_times, rng)]))
    return np.hstack(parts)


def _peripherals(state, n_times, rng):
    """Return DEAP's eight peripheral channels (8, n_times) in the files' units."""
    valence, arousal = state
    time = np.arange(n_times) / deap.SFREQ
    eog = rng.normal(0, 20, (2, n_times)) * _slow_drift(n_times, deap.SFREQ, rng)
    smile = np.exp(0.4 * np.array([[valence], [arousal]]))
    emg = rng.normal(0, 8, (2, n_times)) * smile
    # Sweating lowers the resistance of the skin, in ohm.
    skin = 2e5 * np.exp(-0.2 * arousal) * _slow_drift(n_times, deap.SFREQ, rng)
    breath = 500 * np.sin(
        2 * np.pi * (0.25 + 0.05 * arousal) * time + rng.uniform(0, 6)
    )
    pulse = 800 * np.sin(2 * np.pi * (1.15 + 0.1 * arousal) * time + rng.uniform(0, 6))
    warmth = 33 + 0.5 * valence + 0.1 * np.log(_slow_drift(n_times, deap.SFREQ, rng))
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


@dataclass(frozen=True)
class _Writer:
    subjects: tuple[int, ...]
    sessions: tuple[int, ...]
    write: Callable[[Path, Mapping], None]


_WRITERS = {
    "SEED": _Writer(seed_corpus.SEED.all_subject_numbers, (0, 1, 2), _write_seed),
    "DEAP": _Writer(deap.DEAP.all_subject_numbers, (0,), _write_deap),
}
