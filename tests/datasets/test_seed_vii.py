from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from moabb.datasets.metadata.schema import validate_metadata_against_dataset
from scipy.io import loadmat, savemat

from braindecode_emossl.datasets import SEED, SEED_VII, seed_vii, write_replica
from braindecode_emossl.datasets.inspection import inspect_corpus
from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError
from braindecode_emossl.evaluation.folds import make_folds
from braindecode_emossl.evaluation.protocols import PROTOCOLS
from braindecode_emossl.paradigms import Emotion

RUNS = [f"{run:02d}" for run in range(20)]


def make_arrays(numbers=range(1, 81), n_times=400):
    return {
        str(k): np.random.default_rng(k).normal(0, 30, (62, n_times)) for k in numbers
    }


def write(root, arrays, folder="EEG_preprocessed", subject=1):
    file = root / folder / f"{subject}.mat"
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, arrays)
    return file


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Subject 1, all sessions, trials of 9 s: two whole windows of the labels."""
    folder = tmp_path_factory.mktemp("seed-vii")
    return write_replica("SEED-VII", folder, subjects=[1], seconds=9, seed=0)


# -- what a file becomes -------------------------------------------------------


def test_runs_hold_the_values_of_the_file_in_volts(root):
    arrays = loadmat(root / "SEED-VII" / "EEG_preprocessed" / "1.mat")
    data = SEED_VII([1], path=root).get_data()[1]
    assert list(data) == ["0", "1", "2", "3"]
    stimuli = []
    for session, runs in data.items():
        assert list(runs) == RUNS
        for number, raw in enumerate(runs.values()):
            key = str(20 * int(session) + number + 1)
            np.testing.assert_array_equal(raw.get_data(), arrays[key] * 1e-6)
            (extras,) = [a["extras"] for a in raw.annotations]
            assert extras["trial"] == number
            assert extras["emotion"] == seed_vii.LABELS[session][number]
            stimuli.append(extras["stimulus"])
    assert stimuli == [f"{k:02d}" for k in range(1, 81)]
    assert raw.info["sfreq"] == 200
    assert raw.ch_names[:3] == ["Fp1", "Fpz", "Fp2"]


def test_published_labels():
    """Twelve clips of each emotion and eight neutral ones, as the makers say.

    One public loader has other labels in the first session, which do not add up.
    """
    rows = seed_vii.LABELS
    counts = Counter(name for row in rows.values() for name in row)
    assert counts == dict.fromkeys(seed_vii.EMOTIONS, 12) | {"neutral": 8}
    assert all(len(set(row)) == 5 for row in rows.values())
    assert rows["0"][9:12] == ("happy", "happy", "neutral")


def test_a_fold_of_the_makers_has_five_clips_of_each_session():
    """All folds have equal numbers of each emotion, as the makers say."""
    trials = pd.DataFrame(
        [
            {"corpus": "SEED-VII", "subject": 1, "session": session, "trial": trial}
            | {"stimulus": f"{session}-{trial}", "label": row[trial], "extra": False}
            for session, row in seed_vii.LABELS.items()
            for trial in range(20)
        ]
    )
    options = {"folds": SEED_VII.official_folds, "n_splits": 5, "adapt": None}
    folds = make_folds(PROTOCOLS["within-session"], options, trials, 0)
    assert len(folds) == 4
    for fold in folds:
        tested = trials.iloc[fold.test]
        assert set(tested.groupby("session").size()) == {5}
        expected = dict.fromkeys(seed_vii.EMOTIONS, 3) | {"neutral": 2}
        assert tested["label"].value_counts().to_dict() == expected


def test_metadata_are_valid(root):
    dataset = SEED_VII([1], path=root)
    assert validate_metadata_against_dataset(dataset, SEED_VII.METADATA) == []
    assert SEED_VII.METADATA.experiment.events == dataset.event_id


def test_valence_leaves_surprise_without_a_label(root):
    balance = Emotion("valence", n_classes=3).class_balance(SEED_VII([1], path=root))
    assert balance.loc[1].to_dict() == {
        **{"negative": 48, "neutral": 8, "positive": 12, "unlabeled": 12}
    }


# -- continuous labels ---------------------------------------------------------


def test_intensity_is_the_mean_of_the_label_within_the_window(tmp_path):
    """In closed form, for windows that lie on, off and beyond the steps of 4 s."""
    write(tmp_path, make_arrays(range(1, 21), 200 * 12))
    courses = {str(k): np.array([[1.0, 2.0, 5.0]]) + k for k in range(1, 21)}
    write(tmp_path, courses, "continuous_labels")
    dataset = SEED_VII([1], [0], path=tmp_path)
    table = dataset.trial_table(1)
    np.testing.assert_allclose(table["intensity"], 8 / 3 + np.arange(1, 21))
    how = {"fmin": None, "fmax": None, "features": "psd", "resample": None}
    for options, expected in {
        (("window", 4.0),): [1, 2, 5],
        (("window", 2.0), ("stride", 4.0)): [1, 2, 5],
        (("window", 4.0), ("stride", 2.0)): [1, 1.5, 2, 3.5, 5],
        (("window", 4.0), ("tmin", 3.0)): [1.75, 4.25],
        (("window", 2.0), ("last", 5.0)): [3.5, 5],
        (("window", 12.0),): [8 / 3],
    }.items():
        _, _, metadata = Emotion(**dict(options), **how).get_data(dataset)
        third = metadata[metadata["trial"] == 2]
        np.testing.assert_allclose(third["intensity"], np.array(expected) + 3)
    raws = Emotion(**how | {"features": None}).get_data(dataset, return_raws=True)
    np.testing.assert_allclose(raws[2]["intensity"], table["intensity"])


def test_the_last_value_lasts_to_the_end_of_the_trial(tmp_path):
    write(tmp_path, make_arrays(range(1, 21), 200 * 7))
    write(tmp_path, {str(k): [[3.0]] for k in range(1, 21)}, "continuous_labels")
    paradigm = Emotion(window=1.0, features="psd")
    _, _, metadata = paradigm.get_data(SEED_VII([1], [0], path=tmp_path))
    assert (metadata["intensity"] == 3.0).all()


def test_without_continuous_labels_intensity_is_nan(tmp_path, format_warnings):
    write(tmp_path, make_arrays(range(1, 21)))
    dataset = SEED_VII([1], [0], path=tmp_path)
    assert dataset.trial_table(1)["intensity"].isna().all()
    _, _, metadata = Emotion(window=1.0, features="psd").get_data(dataset)
    assert metadata["intensity"].isna().all()
    report = inspect_corpus(SEED_VII(path=tmp_path, on_error="warn"), read_signals=True)
    assert any(
        "continuous labels of subject 1 are missing" in r for r in report.remarks
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([[np.nan, 1.0]]), "continuous label 3 .* must have finite numbers"),
        (np.zeros((1, 0)), "continuous label 3 .* must have finite numbers"),
        (np.array([["x"]], object), "cannot be read"),
    ],
)
def test_broken_continuous_labels_are_an_error(value, message, tmp_path):
    write(tmp_path, make_arrays(range(1, 21)))
    labels = {str(k): [[0.5]] for k in range(1, 21)} | {"3": value}
    write(tmp_path, labels, "continuous_labels")
    with pytest.raises(CorpusFormatError, match=message):
        SEED_VII([1], [0], path=tmp_path).trial_table(1)


def test_the_labels_are_part_of_the_fingerprint(tmp_path):
    """Windows differ although the means of the trials are the same."""
    write(tmp_path, make_arrays(range(1, 21)))
    write(tmp_path, {str(k): [[0.0, 1.0]] for k in range(1, 21)}, "continuous_labels")
    before = SEED_VII([1], [0], path=tmp_path).fingerprint()
    write(tmp_path, {str(k): [[1.0, 0.0]] for k in range(1, 21)}, "continuous_labels")
    assert SEED_VII([1], [0], path=tmp_path).fingerprint() != before


# -- files ---------------------------------------------------------------------


@pytest.mark.parametrize("tree", ["", "SEED-VII", "data/SEED-VII/SEED-VII"])
def test_any_tree_is_searched_and_other_folders_pass(tmp_path, tree):
    file = write(tmp_path / tree, {str(k): [[0.0]] for k in range(1, 81)})
    for folder in ("EEG_features", "EYE_features", "Preprocessed_EEG", "."):
        junk = tmp_path / tree / folder / "1.mat"
        junk.parent.mkdir(exist_ok=True)
        junk.write_bytes(b"junk")
    assert SEED_VII(path=tmp_path).data_path(1) == [str(file)]
    assert SEED_VII(path=file.parent).data_path(1) == [str(file)]
    with pytest.raises(CorpusNotFoundError):
        SEED(path=tmp_path).data_path(1)


def test_two_copies_are_an_error(tmp_path):
    write(tmp_path / "a", make_arrays([1]))
    write(tmp_path / "b", make_arrays([1]))
    with pytest.raises(CorpusFormatError, match="more than once"):
        SEED_VII(path=tmp_path).data_path(1)


def test_a_file_holds_the_sessions_of_its_numbers(tmp_path, format_warnings):
    write(tmp_path, make_arrays(range(21, 61)))
    data = SEED_VII([1], path=tmp_path).get_data()[1]
    assert list(data) == ["1", "2"]
    assert "Sessions ['0', '3'] of subject 1 are missing" in format_warnings.text


BROKEN = {
    "a clip missing": ({k: v for k, v in make_arrays().items() if k != "47"}, "le 47;"),
    "clip 81": (make_arrays(range(1, 82)), "named ...1 to ...80"),
    "61 channels": (
        make_arrays() | {"47": np.zeros((61, 400))},
        r"trial 7 .*\(61, 400\)",
    ),
    "other names": ({"eeg1": np.zeros((62, 400))}, "one variable a trial"),
    "at 1000 Hz": (
        make_arrays() | {"47": np.zeros((62, 200 * 700), "i1")},
        "more than the longest film",
    ),
    "undefined": (make_arrays() | {"47": np.full((62, 400), np.nan)}, "not finite"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_an_error(case, tmp_path):
    arrays, message = BROKEN[case]
    file = write(tmp_path, arrays)
    with pytest.raises(CorpusFormatError, match=message) as error:
        SEED_VII([1], path=tmp_path).get_data()
    assert str(file) in str(error.value)


def test_a_file_cut_short_is_an_error(tmp_path):
    file = write(tmp_path, make_arrays())
    content = file.read_bytes()
    for size in (0, 100, 200, len(content) // 2):
        file.write_bytes(content[:size])
        with pytest.raises(CorpusFormatError):
            SEED_VII([1], path=tmp_path).get_data()
