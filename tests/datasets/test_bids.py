"""BIDS copies: what `convert_to_bids` wrote is read by MOABB's own reader."""

from __future__ import annotations

from copy import copy

import numpy as np
import pandas as pd
import pytest
from moabb.datasets.base import LocalBIDSDataset
from numpy.testing import assert_allclose, assert_array_equal

from braindecode_emossl.datasets import DEAP, MAHNOB_HCI, SEED, SEED_IV, write_replica
from braindecode_emossl.paradigms import Emotion

# As the files have it: no filter, the corpus's own rate.
AS_IS = {"fmin": None, "fmax": None, "resample": None, "window": 1.0}
EVERYTHING = {"return_all_modalities": True}

# Class, options of the replica, options of the dataset. Subject 2 of DEAP did not say
# how familiar the videos were.
CASES = {
    "SEED": (SEED, {"subjects": [1, 10], "sessions": [1]}, {"sessions": [1]}),
    "SEED-IV": (
        SEED_IV,
        {"subjects": [1], "sessions": [0, 2], "seconds": 5},
        {"sessions": [0, 2]} | EVERYTHING,
    ),
    "DEAP": (DEAP, {"subjects": [1]}, EVERYTHING),
    "DEAP original": (
        DEAP,
        {"subjects": [1, 2], "variant": "bdf", "seconds": 1},
        {"source": "original"},
    ),
    "MAHNOB-HCI": (MAHNOB_HCI, {"subjects": [1]}, EVERYTHING),
}
# Of each format, one corpus is enough for every day.
PARAMS = [
    pytest.param(case, marks=pytest.mark.slow)
    if case in ("SEED-IV", "DEAP original")
    else case
    for case in CASES
]


class Copied:
    """A corpus and its BIDS copy."""

    def __init__(self, case, folder):
        self.cls, options, kwargs = CASES[case]
        options = {"seconds": 2, "seed": 0} | options
        write_replica(self.cls.code_name, folder / "corpus", **options)
        self.dataset = self.cls(options["subjects"], path=folder / "corpus", **kwargs)
        # EDF cannot hold the missing eye features of SEED-IV.
        how = {"format": "BrainVision"} if case == "SEED-IV" else {}
        self.root = self.dataset.convert_to_bids(path=folder, **how)
        self.runs = runs_of(self.dataset)
        if not self.dataset.return_all_modalities:
            for raw in self.runs.values():
                raw.pick("eeg")
        self.copy = LocalBIDSDataset(
            self.root,
            subjects=options["subjects"],
            events=self.dataset.event_id,
            interval=self.dataset.interval,
            paradigm="emotion",
            code=f"LocalBIDSDataset-{self.cls.code_name}",
            return_all_modalities=self.dataset.return_all_modalities,
        )


@pytest.fixture(scope="module", params=PARAMS)
def copied(request, tmp_path_factory):
    return Copied(request.param, tmp_path_factory.mktemp("bids"))


def runs_of(dataset):
    return {
        (subject, session, run): raw
        for subject, sessions in dataset.get_data().items()
        for session, runs in sessions.items()
        for run, raw in runs.items()
    }


def steps_of(raw):
    """Return the step of EDF's 16 bits for each channel.

    They spread over the range that the channels of a type have together in the file.
    """
    data, types = np.nan_to_num(raw.get_data()), np.array(raw.get_channel_types())
    return np.array([np.ptp(data[types == t]) / (2**16 - 1) for t in types])[:, None]


def without_leading_zeros(metadata):
    """Return the metadata as a BIDS copy gives them: mne-bids makes 1 of "01"."""
    return metadata.assign(
        stimulus=[name.lstrip("0") for name in metadata["stimulus"]]
    ).drop(columns="corpus")


def check_is_the_same(original, found):
    """Compare the labels and metadata of a corpus with those of its copy."""
    assert_array_equal(found[1], original[1])
    corpora = found[2].pop("corpus").unique()
    assert [code.startswith("LocalBIDSDataset-") for code in corpora] == [True]
    pd.testing.assert_frame_equal(  # mne-bids leaves the order of columns to chance
        found[2], without_leading_zeros(original[2]), check_like=True, check_dtype=False
    )


def test_events_have_true_durations_and_all_that_is_known(copied):
    files = sorted(copied.root.rglob("*_events.tsv"))
    assert len(files) == len(copied.runs) > 0
    for (subject, session, run), raw in copied.runs.items():
        name = f"sub-{subject}_ses-{session}_task-emotion_run-{run}_events.tsv"
        (file,) = [file for file in files if file.name == name]
        text = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)
        trials = [a for a in raw.annotations if a["extras"]]
        assert len(text) == len(trials) > 0
        for row, trial in zip(text.to_dict("records"), trials, strict=True):
            assert float(row.pop("onset")) == pytest.approx(trial["onset"], abs=1e-6)
            assert float(row.pop("duration")) == trial["duration"]
            assert row.pop("trial_type") == trial["description"]
            assert int(row.pop("sample")) == round(trial["onset"] * raw.info["sfreq"])
            row.pop("value")
            said = {key: row.pop(key) for key in trial["extras"]}
            assert set(row.values()) <= {"n/a"}  # known of other trials of the run
            for key, value in trial["extras"].items():
                assert type(value)(said[key]) == value


def test_moabb_reads_the_recordings_back(copied):
    found = runs_of(copied.copy)
    assert list(found) == list(copied.runs)
    for key, raw in copied.runs.items():
        assert found[key].ch_names == raw.ch_names
        assert found[key].info["sfreq"] == raw.info["sfreq"]
        assert found[key].n_times == raw.n_times
        differences, missing = (
            abs(found[key].get_data() - raw.get_data()),
            np.isnan(raw.get_data()),
        )
        assert_array_equal(np.isnan(differences), missing)
        assert ((differences <= steps_of(raw)) | missing).all()


def test_windows_of_the_copy_are_those_of_the_corpus(copied):
    paradigm = Emotion(**AS_IS)
    assert paradigm.is_valid(copied.copy)
    original, found = map(paradigm.get_data, (copied.dataset, copied.copy))
    assert len(original[0]) > 0
    check_is_the_same(original, found)
    keys = list(original[2][["subject", "session", "run"]].itertuples(index=False))
    for key in set(keys):
        raw = copied.runs[key]
        volts = np.isin(raw.get_channel_types(), ["eeg", "eog", "emg", "ecg"])
        atol = steps_of(raw) * np.where(volts, 1e6, 1)[:, None]
        inside = [other == key for other in keys]
        differences = abs(found[0][inside] - original[0][inside])
        missing = np.isnan(original[0][inside])
        assert_array_equal(np.isnan(differences), missing)
        assert ((differences <= atol) | missing).all()


def test_other_targets_need_to_be_told_what_the_corpus_has(copied):
    (raw, *_) = copied.runs.values()
    eeg = raw.copy().pick("eeg").ch_names
    valence = Emotion("valence", n_classes=3, channels=eeg, features="de", **AS_IS)
    other = copy(copied.copy)
    assert not valence.is_valid(other)
    other.ratings = copied.cls.ratings
    other.valence_of_class = copied.cls.valence_of_class
    assert valence.is_valid(other)
    original, found = map(valence.get_data, (copied.dataset, other))
    check_is_the_same(original, found)
    # Rounding to 16 bits is noise far below any band of the EEG.
    assert_allclose(found[0], original[0], atol=0.05)


def test_two_copies_do_not_share_a_cache(copied, tmp_path):
    other = copy(copied.copy)
    other.bids_root = tmp_path
    (one,), (two,) = map(Emotion(**AS_IS).make_process_pipelines, (copied.copy, other))
    assert repr(one.get_params()) != repr(two.get_params())


def test_a_format_that_cannot_hold_missing_values_is_named(tmp_path):
    """MNE said that it cannot convert NaN to an integer."""
    options = {"subjects": [1], "sessions": [0], "seconds": 5, "seed": 0}
    folder = write_replica("SEED-IV", tmp_path / "corpus", **options)
    dataset = SEED_IV([1], sessions=[0], path=folder, return_all_modalities=True)
    with pytest.raises(ValueError, match="EDF cannot hold the missing values"):
        dataset.convert_to_bids(path=tmp_path)
