"""Odd signals load with a warning and are reported by check; broken ones do not."""

from __future__ import annotations

import pickle
import shutil
import warnings

import numpy as np
import pytest
from moabb.datasets.bids_interface import StepType
from moabb.datasets.preprocessing import FixedPipeline
from scipy.io import loadmat, savemat

from braindecode_emossl.datasets import DEAP, SEED
from braindecode_emossl.datasets.base import check_numbers
from braindecode_emossl.datasets.deap import PERIPHERAL_TYPES
from braindecode_emossl.datasets.inspection import inspect_corpus
from braindecode_emossl.datasets.quality import RecordingQuality
from braindecode_emossl.errors import CorpusFormatError, CorpusFormatWarning
from braindecode_emossl.paradigms import Emotion


@pytest.fixture
def seed_copy(seed_root, tmp_path):
    """Return a function that changes the trials of one recording of SEED."""
    source = next(seed_root.rglob("1_20131027.mat"))
    file = tmp_path / "Preprocessed_EEG" / source.name

    def rewrite(change, trials=range(1, 16)):
        file.parent.mkdir(exist_ok=True)
        content = {k: v for k, v in loadmat(source).items() if not k.startswith("__")}
        for name, values in content.items():
            if int(name.rpartition("eeg")[2]) in trials:
                content[name] = change(values.copy())
        savemat(file, content)
        return tmp_path

    return rewrite


def read(root, **options):
    return SEED([1], sessions=[0], path=root, **options).get_data()[1]["0"]


def set_rows(rows):
    def change(values):
        for row, value in rows.items():
            values[row] = value
        return values

    return change


def set_part(rows, part, value):
    def change(values):
        values[rows, part] = value
        return values

    return change


STILL = slice(200, 500)

# Changes of the trials, the trials, and the words of the one warning.
ODDITIES = {
    "dead and stuck": (
        set_rows({10: 0.0, 11: 37.5}),
        range(1, 16),
        "2 EEG channels are flat.* F2 (trials 1-15, first 0 microvolts), "
        "F4 (trials 1-15, first 37.5 microvolts). .* raw.info['bads']",
    ),
    "one trial": (set_rows({10: 0.0}), [3], "F2 (trial 3, 0 microvolts)"),
    "volts": (
        lambda values: values * 1e-6,
        range(1, 16),
        "unit of the EEG is in doubt.* as if in volts (trials 1-15, first ",
    ),
    "millivolts": (lambda values: values * 1e-3, [2], "as if in millivolts (trial 2"),
    "nanovolts": (lambda values: values * 1e3, [2], "as if in nanovolts (trial 2"),
    "still": (set_part([4], STILL, 3.0), [7], "AF4 (trial 7, 1.5 s in all, from 1 s"),
    "still in all": (
        set_part(slice(None), STILL, 0.0),
        [7],
        "all channels (trial 7, 1 s in all, from 1 s on)",
    ),
    "saturated": (
        set_part([5], slice(300, 360), 500.0),
        [7, 9],
        "1 EEG channels are saturated.* F7 (trials 7, 9, first 0.3 s in all, from 1.5",
    ),
    "large": (
        set_part([6], 300, 2e5),  # 0.2 V
        [1],
        "implausible amplitudes: F5 (trial 1, 200 mV)",
    ),
    "whole numbers": (
        lambda values: np.round(values).astype("i2"),
        range(1, 16),
        "trials 1-15 is stored as whole numbers",
    ),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_an_odd_recording_loads_with_a_warning(name, seed_copy, format_warnings):
    """It loaded in silence, or was refused."""
    change, trials, words = ODDITIES[name]
    root = seed_copy(change, trials)
    runs = read(root)
    assert len(runs) == 15
    (message, *others) = format_warnings.messages
    assert len(others) == (name == "nanovolts")  # whose amplitudes are implausible too
    message = next(m for m in format_warnings.messages if words.split(".* ")[0] in m)
    assert str(root) in message
    position = 0
    for part in words.split(".* "):
        position = message.index(part, position)
    found = inspect_corpus(
        SEED([1], sessions=[0], path=root, on_error="warn"), read_signals=True
    )
    assert message in found.remarks and not found.problems


def test_flat_channels_are_bads_unless_the_user_decides(seed_copy):
    root = seed_copy(set_rows({10: 0.0}), [3])
    with pytest.warns(CorpusFormatWarning, match=r"listed in raw\.info"):
        runs = read(root)
    bads = {run: raw.info["bads"] for run, raw in runs.items() if raw.info["bads"]}
    assert bads == {"02": ["F2"]}
    with pytest.warns(CorpusFormatWarning, match="mark_bads=False"):
        unmarked = read(root, mark_bads=False)
    assert not any(raw.info["bads"] for raw in unmarked.values())
    for run, raw in runs.items():
        np.testing.assert_array_equal(raw.get_data(), unmarked[run].get_data())


@pytest.mark.parametrize("features", [None, "de", "psd"])
def test_windows_of_a_recording_with_bads_have_all_channels(features, seed_copy):
    """Bad channels are neither left out nor left unfiltered; no DE is -352."""
    root = seed_copy(set_rows({10: 0.0, 11: 37.5}))
    paradigm = Emotion(window=1.0, features=features)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        X, _, _ = paradigm.get_data(SEED([1], sessions=[0], path=root))
    assert X.shape[1] == 62 and np.isfinite(X).all()
    texts = [str(warning.message) for warning in caught]
    assert any("F2" in text and "F4" in text for text in texts)
    if features is None:
        assert np.abs(X[:, [10, 11]]).max() < 1e-9
        return
    assert any("[10, 11] (by number, from 0) are flat" in text for text in texts)
    others = np.delete(X, [10, 11], axis=1)
    expected = others.mean(axis=1) if features == "de" else np.zeros_like(X[:, 0])
    for channel in (10, 11):
        np.testing.assert_allclose(X[:, channel], expected, rtol=1e-6)


def test_epochs_of_recordings_with_different_bads_are_joined(seed_copy):
    root = seed_copy(set_rows({10: 0.0}), [3])
    with pytest.warns(CorpusFormatWarning):
        epochs, _, _ = Emotion(window=1.0).get_data(
            SEED([1], sessions=[0], path=root), return_epochs=True
        )
    assert len(epochs.ch_names) == 62 and not epochs.info["bads"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_part(slice(None), slice(100, None), 0.0), "still for 3 of 4 s, from 1 s"),
        (set_part([7], 100, 1e12), "no electrode can have: F3 reaches 9.99e+05 V"),
        (set_part([7], 100, 1e300), "no electrode can have"),
        (set_part([7], 100, np.nan), "not finite numbers"),
    ],
)
def test_a_broken_trial_is_refused(change, words, seed_copy):
    root = seed_copy(change, [7])
    with pytest.raises(CorpusFormatError) as error:
        read(root)
    assert words in str(error.value) and "trial 7" in str(error.value)
    with pytest.warns(CorpusFormatWarning, match="Left out, as on_error='warn'"):
        assert len(read(root, on_error="warn")) == 14


def test_steps_warn_once_per_recording(seed_copy):
    """A flat channel was warned of once per run, with no word of which."""
    root = seed_copy(set_rows({10: 0.0, 11: 37.5}), range(1, 15))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Emotion(window=1.0, features="de").get_data(SEED([1], sessions=[0], path=root))
    texts = [str(w.message) for w in caught if w.category is RuntimeWarning]
    (text,) = (text for text in texts if "differential entropy" in text)
    assert text.startswith("SEED, subject 1, session 0, 14 runs (00, 13): The channels")


def test_other_warnings_of_steps_are_kept(seed_root):
    class Warn:
        def transform(self, raw):
            warnings.warn("old", FutureWarning, stacklevel=1)
            warnings.warn("empty", RuntimeWarning, stacklevel=1)
            return raw

    dataset = SEED([1, 2], sessions=[0], path=seed_root)
    pipeline = FixedPipeline([(StepType.RAW, Warn())])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset.get_data(process_pipeline=pipeline)
    assert [(w.category, str(w.message)) for w in caught] == [
        (FutureWarning, "old"),
        (RuntimeWarning, "SEED, subject 1, session 0, 15 runs (00, 14): empty"),
        (FutureWarning, "old"),
        (RuntimeWarning, "SEED, subject 2, session 0, 15 runs (00, 14): empty"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(RuntimeWarning, match=r"^empty"):
            dataset.get_data(process_pipeline=pipeline)


def test_a_subject_without_an_intact_recording_is_left_out(seed_copy, seed_root):
    """It was in the result, so that code for any subject met KeyError: '0'."""
    root = seed_copy(set_rows({}))
    (root / "Preprocessed_EEG" / "2_20140404.mat").write_bytes(b"\x00\x05\x16\x07")
    dataset = SEED([1, 2], sessions=[0], path=root, on_error="warn")
    with pytest.warns(CorpusFormatWarning, match="subject 2 is left out"):
        data = dataset.get_data()
    assert list(data) == [1] and len(data[1]["0"]) == 15
    with pytest.warns(CorpusFormatWarning, match="subject 2 is left out"):
        X, _, metadata = Emotion(window=1.0).get_data(dataset)
    assert len(X) and set(metadata["subject"]) == {1}
    with (
        pytest.warns(CorpusFormatWarning, match="subject 2 is left out"),
        pytest.raises(ValueError, match=r"No trial of subjects \[2\]"),
    ):
        Emotion(window=1.0).get_data(dataset, subjects=[2])


# -- sensors other than EEG ----------------------------------------------------


@pytest.fixture
def deap_copy(deap_root, tmp_path):
    """Return a function that changes the peripheral channels of a subject of DEAP."""

    def rewrite(change, trials):
        source = next(deap_root.rglob("s01.dat"))
        content = pickle.loads(source.read_bytes(), encoding="latin1")
        for trial in trials:
            change(
                dict(
                    zip(PERIPHERAL_TYPES, content["data"][trial - 1, 32:], strict=True)
                )
            )
        (tmp_path / "s01.dat").write_bytes(pickle.dumps(content, protocol=2))
        return tmp_path

    return rewrite


def test_sensors_without_contact_or_saturated_are_reported(deap_copy, format_warnings):
    """Only the EEG was looked at: a dead GSR or belt loaded in silence."""

    def change(sensors):
        sensors["GSR"][:] = 0
        sensors["Temp"][:] = 33.2
        sensors["Resp"][500:700] = sensors["Resp"].max() + 1
        sensors["Plet"][500:600] = sensors["Plet"].max() + 1  # less than 1 s
        sensors["hEOG"][400:] = 12.5  # still, but not at an extreme
        sensors["hEOG"][390:392] = -1000, 1000

    root = deap_copy(change, [3, 4, 5])
    data = DEAP([1], path=root).get_data()[1]["0"]
    bads = {run: raw.info["bads"] for run, raw in data.items() if raw.info["bads"]}
    assert bads == {run: ["GSR", "Temp"] for run in ("02", "03", "04")}
    flat, saturated = format_warnings.messages
    assert "s01.dat: 2 channels other than EEG are flat" in flat
    assert "GSR (trials 3-5), Temp (trials 3-5). They are listed" in flat
    assert "1 channels other than EEG are saturated" in saturated
    assert saturated.endswith(
        "Resp (trials 3-5, first 1.56 s in all, from 0.9062 s on)"
    )
    found = inspect_corpus(DEAP([1], path=root, on_error="warn"), read_signals=True)
    assert {flat, saturated} <= set(found.remarks) and not found.problems


def test_a_large_but_real_amplitude_is_not_refused(seed_copy):
    """In a real file of SEED-IV a channel has a DE of 45 where 20 is usual."""
    root = seed_copy(lambda v: set_rows({7: v[7] * 3000})(v))
    with pytest.warns(CorpusFormatWarning, match="implausible amplitudes: F3"):
        assert len(read(root)) == 15


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f8"])
def test_order_and_width_of_numbers_change_no_more_than_rounding(dtype):
    rng = np.random.default_rng(0)
    data = rng.normal(0, 30e-6, (3, 2000))
    quality = RecordingQuality("x", ["a", "b", "c"], 200.0)
    assert quality.inspect(1, data.astype(dtype)) is None
    assert not list(quality._messages(True))


def test_flat_channels_of_most_trials_are_those_of_a_continuous_run():
    rng = np.random.default_rng(0)
    quality = RecordingQuality("x", ["a", "b", "c", "d"], 200.0)
    for trial in range(1, 6):
        data = rng.normal(0, 30e-6, (4, 2000))
        data[0] = 0
        data[1] *= trial > 2
        quality.inspect(trial, data)
    assert quality.bads() == ["a"]
    assert quality.bads(2) == ["a", "b"]


def test_the_replicas_are_not_odd(seed_root, deap_root, format_warnings):
    SEED([1], path=seed_root).get_data()
    DEAP([1], path=deap_root).get_data()
    assert not format_warnings.messages


# -- check and the loader ------------------------------------------------------


def test_check_warns_of_what_the_loader_warns_of(seed_root, tmp_path, format_warnings):
    """Of some findings only one of the two said something."""
    shutil.copytree(seed_root, tmp_path / "corpus")
    root = tmp_path / "corpus"
    folder = next(root.rglob("Preprocessed_EEG"))
    (folder / "2_20140413.mat").unlink()
    file = folder / "1_20131030.mat"
    file.write_bytes(file.read_bytes()[: -file.stat().st_size // 2])
    file = folder / "1_20131107.mat"
    content = {k: v for k, v in loadmat(file).items() if not k.startswith("__")}
    names = list(content)
    content[names[0]][3] = 0.0
    content[names[1]] = content[names[1]][:61]
    savemat(file, content)
    dataset = SEED([1, 2, 10], path=root, on_error="warn")
    dataset.get_data()
    loaded = set(format_warnings.messages)
    found = inspect_corpus(dataset, read_signals=True)
    checked = {*found.problems, *found.remarks, *found.missing_sessions}
    assert loaded == checked
    assert len(found.missing_sessions) == 1 and len(found.remarks) == 1


# -- arguments -----------------------------------------------------------------


@pytest.mark.parametrize(
    "subjects",
    [
        np.array([1, 2]),
        np.array([1, 2], ">i2"),
        np.array([1.0, 2.0]),
        (np.int64(1), np.uint8(2)),
        range(1, 3),
        {1: "a", 2: "b"}.keys(),
    ],
)
def test_subjects_of_any_kind_are_whole_numbers(subjects, deap_root):
    """NumPy's numbers ended in the keys, in JSON and in the names of files."""
    dataset = DEAP(subjects, path=deap_root)
    assert dataset.subject_list == [1, 2]
    assert all(type(subject) is int for subject in dataset.subject_list)
    data = DEAP(path=deap_root).get_data(subjects, process_pipeline=None)
    assert all(type(subject) is int for subject in data) and list(data) == [1, 2]
    assert dataset.fingerprint() == DEAP([1, 2], path=deap_root).fingerprint()


@pytest.mark.parametrize("sessions", [np.array([0]), [np.int64(0)], ["0"], range(1)])
def test_sessions_of_any_kind_are_whole_numbers(sessions, deap_root):
    dataset = DEAP([1], sessions=sessions, path=deap_root)
    assert dataset.sessions == [0] and type(dataset.sessions[0]) is int
    assert list(dataset.get_data()[1]) == ["0"]


@pytest.mark.parametrize("subject", [np.int64(1), np.uint8(1), np.array(1)])
def test_one_subject_of_any_kind_is_a_number(subject, deap_root):
    dataset = DEAP(path=deap_root)
    table = dataset.trial_table(subject)
    assert set(table["subject"]) == {1} and table["subject"].dtype == int
    assert dataset.data_path(subject) == dataset.data_path(1)
    assert len(dataset.get_additional_metadata(subject, "0", "00")) == 1


@pytest.mark.parametrize("wrong", [[1.5], [True], ["a"], [None], [np.nan]])
def test_other_values_are_refused(wrong):
    with pytest.raises(ValueError, match=r"Invalid subjects: .* not whole numbers"):
        check_numbers("subjects", wrong)
    with pytest.raises(ValueError, match="must be a list"):
        check_numbers("subjects", np.int64(1))
