"""Replica of FACED: the BIDS release in its four kinds, or the processed pickles."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from edfio import Bdf, BdfSignal

from braindecode_emossl.datasets import faced, faced_files
from braindecode_emossl.datasets.replica_artifacts import make_blinks
from braindecode_emossl.datasets.replica_features import make_band_powers, to_entropy
from braindecode_emossl.datasets.replica_head import Head
from braindecode_emossl.datasets.replica_signals import (
    make_eeg,
    make_generator,
    make_stimulus,
    make_subject,
    make_trial,
)

__all__ = ["write_faced"]

# Valence and arousal of the emotions, from -1 to 1 [inferred].
_STATES = {
    "anger": (-0.7, 0.8),
    "disgust": (-0.9, 0.3),
    "fear": (-0.6, 1.0),
    "sadness": (-0.8, -0.4),
    "neutral": (0.0, -1.0),
    "amusement": (0.9, 0.6),
    "inspiration": (0.5, 0.3),
    "joy": (1.0, 0.2),
    "tenderness": (0.6, -0.4),
}
# Titles as in the release: four are the same, one begins with a blank.
_TITLES = {13: "Blue", 14: "Blue", 15: "Blue", 16: "Blue", 26: "\u00a0A film"}
# Seconds before and after each film.
_PAUSE = 1.0
_PRELUDE = 3.0
# Subjects with far more triggers than the others.
_MANY_TRIGGERS = (29, 45, 59, 60)
_N_MANY = 1160
# 24 bits over the range of an amplifier, in microvolts.
_RANGE = 375000
_DIGITAL = 2**23


@dataclass(frozen=True)
class _Kind:
    """One of the four kinds of recordings in the release."""

    sfreq: int
    new_names: bool
    unit: str  # of channels.tsv
    dimension: str  # of the header
    has_blocks: bool  # rows of the blocks in events.tsv

    @classmethod
    def of(cls, subject: int) -> _Kind:
        """Return the kind of a subject; that of subjects 41 to 61 is a guess."""
        label = subject - 1
        if label >= 61:
            return cls(1000, True, "\u00b5V", "uV", True)
        if label in (0, 1, 2, 3, 6, 7):
            return cls(1000, False, "\u00b5V", "uV", False)
        if 36 <= label < 58:
            return cls(250, False, "\u00b5V", "uV", False)
        # The file does not say whether it holds volts or microvolts.
        return cls(250, False, "n/a", "", True)


def write_faced(folder: Path, settings: Mapping) -> None:
    """Write the release into an empty folder; ``settings`` as of `write_replica`."""
    head = Head.of(faced_files.EEG_NAMES, {})
    if settings["variant"] == "pkl":
        folder = folder / "Processed_data"
        write = _write_pickle
    else:
        folder = folder / faced.NEMAR_ID
        write = _write_bids
    folder.mkdir()
    (folder / "README").write_text("A synthetic replica of FACED, not the corpus.\n")
    for subject in settings["subjects"]:
        write(folder, settings, subject, make_subject(head, settings, subject))
    if settings["variant"] == "bids":
        description = {"Name": "Replica of FACED", "BIDSVersion": "1.7.0"}
        (folder / "dataset_description.json").write_text(json.dumps(description))


def _write_pickle(folder, settings, subject, viewer):
    sfreq, longest = faced.PROCESSED_SFREQ, faced.PROCESSED_SECONDS
    n_eeg = len(faced_files.EEG_NAMES)
    seconds = min(settings["seconds"] or longest, longest)
    n_times = round(seconds * sfreq)
    data = np.zeros((len(faced.EMOTIONS), 32, n_times))
    for film in range(1, len(faced.EMOTIONS) + 1):
        rng = make_generator(settings, subject, film)
        data[film - 1, :n_eeg] = _make_film(
            viewer, film, settings, n_times, sfreq, (0.05, 47), rng
        )
    with (folder / f"sub{subject - 1:03d}.pkl").open("wb") as stream:
        pickle.dump(data, stream, protocol=4)
    window = faced.FEATURE_SECONDS
    powers = np.stack([make_band_powers(eeg[:n_eeg], sfreq, window) for eeg in data])
    for name, values in {"DE": to_entropy(powers), "PSD": powers}.items():
        features = np.zeros((*data.shape[:2], *values.shape[2:]))
        features[:, :n_eeg] = values
        place = folder.parent / "EEG_Features" / name
        place.mkdir(parents=True, exist_ok=True)
        with (place / f"sub{subject - 1:03d}.pkl.pkl").open("wb") as stream:
            pickle.dump(features, stream, protocol=4)


def _make_film(viewer, film, settings, n_times, sfreq, passband, rng):
    """Return the EEG of a film (30, n_times) in microvolts."""
    state = settings["effect_size"] * np.array(_STATES[faced.EMOTIONS[film - 1]])
    stimulus = make_stimulus(settings, n_times / sfreq, film)
    trial = make_trial(viewer, stimulus, state, n_times / sfreq, rng)
    return make_eeg(viewer, trial, sfreq, n_times, passband, rng)


# -- the BIDS release ----------------------------------------------------------


def _write_bids(folder, settings, subject, viewer):
    kind = _Kind.of(subject)
    stem = f"sub-{subject - 1:03d}_task-watchingVideoClips_"
    folder = folder / f"sub-{subject - 1:03d}" / "eeg"
    folder.mkdir(parents=True)
    rng = make_generator(settings, subject, 100)
    films = (rng.permutation(len(faced.EMOTIONS)) + 1).tolist()
    # Presentations last a little longer than the film, in whole samples.
    seconds = [settings["seconds"] or faced.FILM_SECONDS[k - 1] for k in films]
    lengths = [round(s * kind.sfreq) for s in seconds]
    pause, prelude = (round(s * kind.sfreq) for s in (_PAUSE, _PRELUDE))
    onsets = prelude + pause + np.cumsum([0, *lengths[:-1]]) + 2 * pause * np.arange(28)
    # Records last a second.
    n_times = -(-(onsets[-1] + lengths[-1] + pause) // kind.sfreq) * kind.sfreq
    eeg = rng.normal(0, 8, (len(faced_files.EEG_NAMES), n_times))
    for film, onset, length in zip(films, onsets, lengths, strict=True):
        part = make_generator(settings, subject, film)
        eeg[:, onset : onset + length] = _make_film(
            viewer, film, settings, length, kind.sfreq, (0.1, kind.sfreq / 2.5), part
        )
    signals = _arrange(eeg, kind, rng)
    _write_bdf(folder / f"{stem}eeg.bdf", signals, kind, subject)
    names = [f"{name}\tEEG\t{kind.unit}\t{kind.sfreq:.1f}" for name in signals]
    lines = ["name\ttype\tunits\tsampling_frequency", *names]
    _write_table(folder / f"{stem}channels.tsv", lines)
    rows = _list_triggers(kind, subject)
    rows += [
        _describe_film(film, onset, length, kind, rng)
        for film, onset, length in zip(films, onsets, lengths, strict=True)
    ]
    header = "onset duration trial_type value sample emotion_label binary_label"
    columns = [*header.split(), "video_index", *_RATING_COLUMNS]
    _write_table(folder / f"{stem}events.tsv", ["\t".join(columns), *rows])


_RATING_COLUMNS = (
    "Joy Tenderness Inspiration Amusement Anger Disgust Fear Sadness Arousal Valence "
    "Familiarity Liking"
).split()


def _arrange(eeg, kind, rng) -> dict[str, np.ndarray]:
    """Return the channels of a kind in their order, with an offset of electrodes."""
    n_times = eeg.shape[1]
    signals = dict(zip(faced_files.EEG_NAMES, eeg, strict=True))
    blinks = np.array([[1.0, 100.0]])
    sides = rng.normal(0, 15, (2, n_times)) + make_blinks(blinks, 250.0, n_times)
    if kind.new_names:
        signals |= dict(zip(("HEOR", "HEOL"), sides, strict=True))
    else:
        mastoids = iter(zip(("A1", "A2"), rng.normal(0, 4, (2, n_times)), strict=True))
        old = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
        arranged: dict[str, np.ndarray] = {}
        for name, signal in signals.items():
            if name == "CP1":  # they come after the temporal electrodes
                arranged |= dict(mastoids)
            arranged[old.get(name, name)] = signal
        signals = arranged
    offsets = rng.normal(0, 2000, len(signals))
    return {name: x + k for (name, x), k in zip(signals.items(), offsets, strict=True)}


def _write_bdf(file, signals, kind, subject):
    # Files that state no unit hold volts or microvolts.
    scale = 1e-6 if not kind.dimension and subject % 2 else 1.0
    limit = _RANGE * scale
    channels = [
        BdfSignal.from_digital(
            np.clip(
                np.round(signal * (_DIGITAL / _RANGE)), -_DIGITAL, _DIGITAL - 1
            ).astype(np.int32),
            kind.sfreq,
            label=name,
            physical_dimension=kind.dimension,
            physical_range=(-limit, limit),
            digital_range=(-_DIGITAL, _DIGITAL - 1),
        )
        for name, signal in signals.items()
    ]
    Bdf(channels, data_record_duration=1).write(file)


def _list_triggers(kind, subject) -> list[str]:
    """Return the rows of events.tsv that are not films, before the first one."""
    labels = ["Experiment start"] * 5 + ["201", "202"] * kind.has_blocks
    if subject - 1 in _MANY_TRIGGERS:
        labels += ["201"] * _N_MANY
    samples = np.linspace(0, _PRELUDE * kind.sfreq, len(labels), endpoint=False)
    nothing = ["n/a"] * (3 + len(_RATING_COLUMNS))
    return [
        "\t".join([str(s / kind.sfreq), "0.0", label, "5", str(s), *nothing])
        for s, label in zip(samples.astype(int).tolist(), labels, strict=True)
    ]


def _describe_film(film, onset, length, kind, rng) -> str:
    emotion = faced.EMOTIONS[film - 1]
    valence, arousal = _STATES[emotion]
    ratings = {name: 1.0 for name in faced_files.RATINGS}
    ratings |= {"valence": 3.5 + 2.5 * valence, "arousal": 3.5 + 2.5 * arousal}
    ratings |= {"liking": 3.5 + 1.5 * valence}
    if emotion != "neutral":
        ratings[emotion] = 6.0
    values = {k: np.clip(r + rng.normal(0, 0.7), 0, 7) for k, r in ratings.items()}
    label = "\\" if emotion == "neutral" else emotion.capitalize()
    cells = [onset / kind.sfreq, length / kind.sfreq, _TITLES.get(film, f"Film {film}")]
    cells += [film, onset, label, faced.VALENCES[emotion], film]
    cells += [values[name.lower()] for name in _RATING_COLUMNS]
    return "\t".join(str(cell) for cell in cells)


def _write_table(file, lines):
    # The release begins its tables with a byte order mark.
    file.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
