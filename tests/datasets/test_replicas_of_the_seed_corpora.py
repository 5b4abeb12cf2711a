"""Replicas of SEED-V and SEED-VII: formats, knobs and effects."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from braindecode_emossl.datasets import (
    SEED,
    SEED_IV,
    SEED_V,
    SEED_VII,
    seed_v,
    write_replica,
)
from braindecode_emossl.datasets.replica_features import make_band_powers, to_entropy
from braindecode_emossl.paradigms import Emotion

CLASSES = {"SEED-V": SEED_V, "SEED-VII": SEED_VII}
SMALL = {"subjects": [1], "sessions": [0], "seconds": 1, "seed": 3}
CORPORA = pytest.mark.parametrize("corpus", CLASSES)


def digests(root):
    """Return the hash of the contents by name, without the time in MATLAB's header."""
    return {
        str(file.relative_to(root)): hashlib.sha256(
            file.read_bytes()[128 if file.suffix == ".mat" else 0 :]
        ).hexdigest()
        for file in root.rglob("*.*")
        if file.suffix in (".cnt", ".npz", ".mat", ".txt")
    }


@CORPORA
def test_same_seed_same_bytes_whatever_else_is_written(corpus, tmp_path):
    first = digests(write_replica(corpus, tmp_path / "a", **SMALL))
    more = SMALL | {"subjects": [2, 1]}
    again = digests(write_replica(corpus, tmp_path / "b", **more))
    assert first.items() <= again.items() and len(again) > len(first)
    other = digests(write_replica(corpus, tmp_path / "c", **SMALL | {"seed": 4}))
    assert not set(first.values()) & {v for k, v in other.items() if "txt" not in k}


KNOBS = ("isc", "continuity", "subject_variance", "artifacts", "effect_size")


@pytest.mark.parametrize("knob", KNOBS)
@CORPORA
def test_each_knob_changes_the_signals(corpus, knob, tmp_path):
    options = SMALL | {"seconds": 2}

    def read(place, **change):
        root = write_replica(corpus, tmp_path / place, **options | change)
        dataset = CLASSES[corpus]([1], [0], path=root)
        runs = dataset.get_data()[1]["0"].values()
        return np.stack([raw.get_data("eeg") for raw in runs])

    plain, changed = read("a"), read("b", **{knob: 0.0})
    assert plain.shape == changed.shape
    assert not np.allclose(plain, changed, rtol=1e-3)


@CORPORA
def test_effects_of_the_classes(corpus, effect_alone, tmp_path):
    """Positive clips have more temporal gamma than negative ones; without effect none.

    Measured in standard errors over 45 or 80 trials.
    """

    def contrast(effect):
        root = write_replica(
            corpus,
            tmp_path / str(effect),
            subjects=[1],
            seconds=2,
            seed=1,
            effect_size=effect,
            **effect_alone,
        )
        X, y, _ = Emotion(
            "valence", n_classes=2, window=2.0, features="de", fmin=1, fmax=50
        ).get_data(CLASSES[corpus]([1], path=root))
        names = CLASSES[corpus].METADATA.acquisition.sensors
        sites = [names.index(name) for name in ("FT7", "T7", "FT8", "T8", "TP8")]
        # The power of a trial varies: compare with the back of the head.
        back = [names.index(name) for name in ("O1", "Oz", "O2", "POz")]
        values = X[:, sites, 4].mean(axis=1) - X[:, back, 4].mean(axis=1)
        a, b = values[y == "positive"], values[y == "negative"]
        return (a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b))

    assert contrast(3.0) > 4
    assert abs(contrast(0.0)) < 3


def test_all_corpora_of_the_family_may_share_a_folder(tmp_path):
    classes = {"SEED": SEED, "SEED-IV": SEED_IV, **CLASSES}
    for corpus in classes:
        write_replica(corpus, tmp_path, **SMALL)
    for corpus, cls in classes.items():
        (file,) = cls([1], [0], path=tmp_path).data_path(1)
        folder = file.removeprefix(str(tmp_path)).strip("/").partition("/")[0]
        assert folder.replace("_", "-") in (corpus, "SEED-EEG")


def test_full_lengths_are_the_published_times(tmp_path, monkeypatch):
    """Only the header is written, as the recordings are large."""
    written = {}

    def write_cnt(file, ch_names, sfreq, n_times, parts):
        written[file.name] = n_times, next(iter(parts)).shape

    monkeypatch.setattr(
        "braindecode_emossl.datasets.replica_seed_v.write_cnt", write_cnt
    )
    root = write_replica("SEED-V", tmp_path, **SMALL | {"seconds": None})
    assert written == {"1_1_20180804.cnt": (3_360_000, (66, 30_000))}
    table = root / "SEED-V" / seed_v.TIMES_FILE
    assert seed_v._parse_times(table) == seed_v.TIMES


def test_band_powers_and_entropies_in_closed_form():
    """A sine of 10 Hz and amplitude 2 has all its power in the alpha band."""
    n_times, sfreq = 1600, 200.0
    sine = 2 * np.sin(2 * np.pi * 10 * np.arange(n_times) / sfreq)[None]
    powers = make_band_powers(sine, sfreq, 4.0)
    assert powers.shape == (1, 2, 5)
    assert powers[..., 2].min() > 1e4 * powers[..., [0, 1, 3, 4]].max()
    # Twice the amplitude has four times the power: 2 more on the scale of log2.
    difference = to_entropy(make_band_powers(2 * sine, sfreq, 4.0)) - to_entropy(powers)
    np.testing.assert_allclose(difference, 2.0)
