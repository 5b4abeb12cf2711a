"""What is fuzzed: sound files, and how each is loaded and compared."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.io import savemat

from braindecode_emossl.datasets import (
    DEAP,
    DREAMER,
    FACED,
    MAHNOB_HCI,
    SEED,
    SEED_IV,
    SEED_V,
    SEED_VII,
    npz_files,
    write_replica,
)
from braindecode_emossl.datasets.deap_pickles import read_pickle
from braindecode_emossl.datasets.mat_files import list_variables, read_variable
from braindecode_emossl.datasets.npz_files import read_pickled_trials
from braindecode_emossl.datasets.replica_deap import write_python2_pickle
from braindecode_emossl.datasets.seed_v import TIMES_FILE
from braindecode_emossl.errors import EmosslError

from .mutators import MUTATORS

__all__ = ["Target", "make_targets"]

JUNK = (b"", b"PK\x03\x04" + bytes(1000), b"<!DOCTYPE html><html></html>", bytes(5000))


@dataclass
class Target:
    """Files in a folder, and a function that loads them.

    ``load`` returns a dict of (description, array). ``expected`` are the errors that
    it may raise, ``weight`` is the share of mutations. ``is_whole`` says that what
    loads without a warning must be as before but for the values that were changed.
    """

    name: str
    folder: Path
    files: list[Path]
    load: Callable[[Path], dict]
    expected: tuple[type[Exception], ...]
    weight: float
    is_whole: bool = True
    sound: dict = field(default_factory=dict)

    def prepare(self, place: Path) -> None:
        """Copy the sound files to a place of this process."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder, place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.sound = self.load(place)

    def mutate(self, rng, place: Path) -> tuple[str, int, Callable[[], None]]:
        """Mutate a file; return what was done, the bytes touched, and an undo."""
        name = rng.choice(self.files)
        file, others = place / name, [other for other in self.files if other != name]
        content = file.read_bytes()

        def undo():
            for path, sound in saved.items():
                if path.is_dir():
                    path.rmdir()
                path.write_bytes(sound)

        saved = {file: content}
        draw = rng.random()
        if self.is_whole and draw < 0.03:
            file.write_bytes(rng.choice(JUNK))
            return f"{name}: junk", 0, undo
        if self.is_whole and draw < 0.04:
            file.unlink()
            file.mkdir()
            return f"{name}: a folder", 0, undo
        if self.is_whole and others and draw < 0.1:
            other = rng.choice(others)
            saved[place / other] = (place / other).read_bytes()
            file.write_bytes(saved[place / other])
            if rng.random() < 0.5:
                (place / other).write_bytes(content)
            return f"{name}: as {other}", 0, undo
        mutated = MUTATORS[file.suffix](rng, content)
        file.write_bytes(mutated)
        return f"{name}: {file.suffix[1:]}", _count_touched(content, mutated), undo


def _count_touched(old: bytes, new: bytes) -> int:
    """Return how many bytes differ, if the sizes are the same, else 0."""
    if len(old) != len(new):
        return 0
    here, there = np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8)
    return int(np.count_nonzero(here != there))


def make_targets(root: Path, names: Collection[str] = ()) -> list[Target]:
    """Write the sound files below a folder, of these targets or of all."""
    targets = [
        make(name, root) for name, make in _MAKERS.items() if not names or name in names
    ]
    for target in targets:
        target.files = sorted(
            file.relative_to(target.folder)
            for file in target.folder.rglob("*")
            if file.suffix in MUTATORS
            and "Subjects" not in file.parts
            # Other times of a miniature copy are as good as those that were written.
            and file.name != TIMES_FILE
        )
    return targets


# -- readers -------------------------------------------------------------------


def _make_pickles(name: str, root: Path) -> Target:
    rng = np.random.default_rng(0)
    arrays = {"labels": rng.uniform(1, 9, (4, 4)), "data": rng.normal(size=(4, 4, 9))}
    folder = root / "pickles"
    folder.mkdir()
    write_python2_pickle(folder / "python2.dat", arrays)
    for protocol in (2, 4, 5):
        file = folder / f"protocol{protocol}.dat"
        file.write_bytes(pickle.dumps(arrays, protocol))

    def load_pickles(place):
        return {
            (file.name, name): ("", array)
            for file in place.glob("*.dat")
            for name, array in read_pickle(file).items()
        }

    expected = (ValueError, pickle.UnpicklingError)
    return Target(name, folder, [], load_pickles, expected, 3, is_whole=False)


def _make_mat(name: str, root: Path) -> Target:
    rng = np.random.default_rng(0)
    folder = root / "mat"
    folder.mkdir()
    arrays = {
        "x_eeg1": rng.normal(0, 30, (62, 21)),
        "x_eeg2": rng.normal(0, 30, (62, 20)).astype("f4"),
        "label": np.array([[-1, 0, 1]], "i2"),
        "cells": np.array([[1.0], ["x"]], object),
        "empty": np.zeros((0, 3)),
    }
    for number in range(2):
        file = folder / f"{number}.mat"
        savemat(file, arrays, do_compression=bool(number))

    def load_mats(place):
        return {
            (file.name, variable.name): (variable.kind, read_variable(file, variable))
            for file in place.glob("*.mat")
            for variable in list_variables(file)
            if variable.kind not in ("cell", "char", "struct", "complex")
        }

    return Target(name, folder, [], load_mats, (ValueError,), 3, is_whole=False)


def _make_npz(name: str, root: Path) -> Target:
    rng = np.random.default_rng(0)
    folder = root / "npz"
    folder.mkdir()
    for protocol in (3, 4, 5):
        arrays = {k: rng.normal(size=(3, 33)) for k in range(3)}
        content = pickle.dumps(arrays, protocol)
        np.savez(folder / f"{protocol}.npz", data=content, label=content)

    def load_archives(place):
        return {
            (file.name, name, trial): ("", array)
            for file in place.glob("*.npz")
            for name in ("data", "label")
            for trial, array in read_pickled_trials(file, name, 45).items()
        }

    expected = (OSError, pickle.UnpicklingError, *npz_files.READING_ERRORS)
    return Target(name, folder, [], load_archives, expected, 2, is_whole=False)


# -- corpora -------------------------------------------------------------------


class _Arrays:
    """Load trials as arrays, as making raws takes most of the time."""

    def _make_raw(self, data, ch_names, ch_types, sfreq, trials, *args, **kwargs):
        return (str([(t.onset, t.length, t.to_extras()) for t in trials]), data)


def _make_loader(cls, subjects, n_times=None, **options):
    fast = type(cls.__name__, (_Arrays, cls), {}) if cls is not SEED_IV else cls

    def load(place):
        dataset = fast(subjects, path=place, **options)
        found = {}
        for subject in subjects:
            for session, file in dataset._recordings(subject).items():
                for run, raw in dataset._read_recording(file, session):
                    if not isinstance(raw, tuple):
                        raw = (str([t.to_extras() for t in raw.trials]), raw.get_data())
                    found[subject, session, run] = raw[0], raw[1][:, :n_times]
        return found

    return load


def _make_corpus(corpus, load, weight, subjects=(1,), **options):
    def make(name: str, root: Path) -> Target:
        folder = root / name
        settings = {"seed": 0, "seconds": 1, **options}
        write_replica(corpus, folder, subjects=list(subjects), **settings)
        # Two stimuli, the neutral clip and the tagging of MAHNOB-HCI are enough.
        for session in folder.rglob("Sessions/*"):
            if session.name not in ("1", "2", "4", "42"):
                shutil.rmtree(session)
        # A target of their own, and features that are read like the signals.
        for file in [*folder.rglob("*.npz"), *folder.rglob("*.pkl.pkl")]:
            file.unlink()
        return Target(name, folder, [], load, (EmosslError,), weight)

    return make


_load_seed = _make_loader(SEED, [1], sessions=[0])
_load_seed_iv = _make_loader(SEED_IV, [1], sessions=[0], return_all_modalities=True)
_load_seed_v = _make_loader(SEED_V, [1], sessions=[0])
_load_seed_vii = _make_loader(SEED_VII, [1], sessions=[0])
_load_deap = _make_loader(DEAP, [1])
_load_original = _make_loader(DEAP, [1], source="original")
_load_mahnob = _make_loader(MAHNOB_HCI, [1])
# One whose files state the unit, at 250 Hz. The length of a film is in one place only,
# so that no loader notices another one.
_load_faced = _make_loader(FACED, [38], n_times=2000)
_load_processed = _make_loader(FACED, [38], source="processed")
_load_dreamer = _make_loader(DREAMER, [1])

_MAKERS = {
    "pickles": _make_pickles,
    "mat": _make_mat,
    "npz": _make_npz,
    "SEED": _make_corpus("SEED", _load_seed, 1, sessions=[0]),
    "SEED-IV": _make_corpus("SEED-IV", _load_seed_iv, 0.2, sessions=[0]),
    "SEED-V": _make_corpus("SEED-V", _load_seed_v, 0.4, sessions=[0]),
    "SEED-VII": _make_corpus("SEED-VII", _load_seed_vii, 0.4, sessions=[0]),
    "DEAP dat": _make_corpus("DEAP", _load_deap, 0.4, (1, 2), variant="dat"),
    "DEAP mat": _make_corpus("DEAP", _load_deap, 0.4, (1, 2), variant="mat"),
    "DEAP bdf": _make_corpus("DEAP", _load_original, 0.2, variant="bdf"),
    "MAHNOB-HCI": _make_corpus("MAHNOB-HCI", _load_mahnob, 2),
    "FACED bids": _make_corpus("FACED", _load_faced, 0.4, [38]),
    "FACED pkl": _make_corpus("FACED", _load_processed, 0.4, [38], variant="pkl"),
    "DREAMER": _make_corpus("DREAMER", _load_dreamer, 0.4),
}
