from __future__ import annotations

import shutil

import mne
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from braindecode_emossl.datasets import SEED, seed
from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError

# As in the makers' label.mat.
LABELS = [1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1]
NAMES = {1: "positive", 0: "neutral", -1: "negative"}
DAYS = ("20131027", "20131030", "20131107")  # of subject 1
FILMS = range(1, 16)


def make_arrays(films=FILMS, n_times=401, prefix="djc"):
    """Return the variables of a recording, the films in the order given."""
    return {
        f"{prefix}_eeg{film}": np.random.default_rng(film).normal(0, 30, (62, n_times))
        for film in films
    }


def write(folder, arrays=None, name=f"1_{DAYS[0]}.mat", **options):
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / name, make_arrays() if arrays is None else arrays, **options)
    return folder / name


def read(root, subject=1, **options):
    return SEED(subjects=[subject], path=root, **options).get_data()[subject]


@pytest.fixture(scope="module")
def recording(seed_root):
    """Return (session "1" of subject 10 as read, the variables of its file)."""
    arrays = loadmat(seed_root / "SEED_EEG/Preprocessed_EEG/10_20131204.mat")
    return read(seed_root, 10)["1"], arrays


# -- what a recording becomes --------------------------------------------------


def test_runs_hold_the_values_of_the_file_in_volts(recording):
    runs, arrays = recording
    assert list(runs) == [f"{run:02d}" for run in range(15)]
    for run, raw in runs.items():
        expected = arrays[f"ww_eeg{int(run) + 1}"]
        assert expected.shape == (62, 801)
        np.testing.assert_array_equal(raw.get_data(), expected[:, :800] * 1e-6)
        assert raw.info["sfreq"] == 200
        assert set(raw.get_channel_types()) == {"eeg"}


def test_every_trial_is_one_annotation_with_its_extras(recording):
    runs, _ = recording
    for number, (raw, label) in enumerate(zip(runs.values(), LABELS, strict=True)):
        (annotation,) = raw.annotations
        assert annotation["onset"] == 0
        assert annotation["duration"] == 4
        assert annotation["description"] == NAMES[label]
        assert annotation["extras"] == {
            "trial": number,
            "stimulus": f"{number + 1:02d}",
            "length": 4.0,
            "emotion": NAMES[label],
        }


def test_channels_lie_where_the_template_has_them(recording):
    raw = recording[0]["00"]
    sites = {"CB1": "POO7", "CB2": "POO8"}
    known = mne.channels.get_builtin_montages()
    name = "colin27_1005" if "colin27_1005" in known else "standard_1005"
    names = [sites.get(name, name) for name in raw.ch_names]
    expected = mne.create_info(names, 200, "eeg").set_montage(name)
    for channel, template in zip(raw.info["chs"], expected["chs"], strict=True):
        np.testing.assert_allclose(channel["loc"][:3], template["loc"][:3], atol=1e-9)
        assert channel["coord_frame"] == mne.io.constants.FIFF.FIFFV_COORD_HEAD
    assert raw.ch_names[:4] == ["Fp1", "Fpz", "Fp2", "AF3"]
    assert raw.ch_names[57:] == ["CB1", "O1", "Oz", "O2", "CB2"]


@pytest.mark.parametrize(("n_times", "kept"), [(401, 401 - 1), (400, 400), (450, 450)])
def test_only_the_sample_of_an_end_inclusive_cut_is_dropped(tmp_path, n_times, kept):
    arrays = make_arrays(n_times=n_times)
    write(tmp_path, arrays)
    raw = read(tmp_path)["0"]["02"]
    np.testing.assert_array_equal(raw.get_data(), arrays["djc_eeg3"][:, :kept] * 1e-6)
    assert raw.annotations[0]["extras"]["length"] == kept / 200


@pytest.mark.parametrize("prefix", ["djc", "", "some_one_eeg1"])
def test_variables_are_matched_by_their_number(tmp_path, prefix):
    order = [10, 1, 15, 2, 3, 14, 4, 5, 13, 6, 7, 12, 8, 9, 11]
    arrays = {f"x{k}": v for k, v in make_arrays(order, prefix=prefix).items()}
    write(tmp_path, arrays)
    runs = read(tmp_path)["0"]
    for film in FILMS:
        np.testing.assert_array_equal(
            runs[f"{film - 1:02d}"].get_data(),
            arrays[f"x{prefix}_eeg{film}"][:, :-1] * 1e-6,
        )


def test_published_lengths_of_the_films_and_balance_of_the_labels():
    assert [200 * n + 1 for n in seed.FILM_SECONDS] == [
        *(47001, 46601, 41201, 47601, 37001, 39001, 47401, 43201),
        *(53001, 47401, 47001, 46601, 47001, 47601, 41201),
    ]
    assert list(seed.LABELS) == LABELS
    assert [LABELS.count(label) for label in (-1, 0, 1)] == [5, 5, 5]


# -- where it is found ---------------------------------------------------------


@pytest.mark.parametrize(
    "tree",
    [
        "Preprocessed_EEG",
        "SEED_EEG/Preprocessed_EEG",
        "SEED/SEED/SEED_EEG/Preprocessed_EEG",
        "copy/preprocessed_eeg",
        "renamed by a user",
        ".",
    ],
)
def test_any_tree_is_searched_and_junk_ignored(tmp_path, tree):
    file = write(tmp_path / tree)
    features = tmp_path / tree / ".." / "ExtractedFeatures_1s"
    for junk in (
        file.parent / ".DS_Store",
        file.parent / f"._1_{DAYS[0]}.mat",
        file.parent / "label.mat.bak",
        file.parent / "readme.txt",
        file.parent / f"1_{DAYS[0]}.mat.part",
        file.parent / f"1_{DAYS[0]} (1).mat",
        tmp_path / ".trash" / f"1_{DAYS[1]}.mat",
        tmp_path / "ExtractedFeatures" / f"1_{DAYS[0]}.mat",
        features / f"1_{DAYS[1]}.mat",
        tmp_path / "Extracted_Features" / "old" / f"1_{DAYS[1]}.mat",
    ):
        junk.parent.mkdir(parents=True, exist_ok=True)
        junk.write_bytes(b"junk")
    (found,) = SEED(path=tmp_path).data_path(1)
    assert found == str(file)


def test_a_corpus_below_a_folder_named_after_features_is_found(tmp_path):
    root = tmp_path / "extracted_features" / "SEED"
    file = write(root / "Preprocessed_EEG")
    assert SEED(path=root).data_path(1) == [str(file)]


def test_the_named_folder_wins_over_other_copies(tmp_path):
    file = write(tmp_path / "SEED_EEG" / "Preprocessed_EEG")
    write(tmp_path / "old copy")
    assert SEED(path=tmp_path).data_path(1) == [str(file)]


@pytest.mark.parametrize(
    "trees", [("a", "b"), ("a/Preprocessed_EEG", "b/Preprocessed_EEG")]
)
def test_two_candidate_folders_are_an_error_that_names_both(tmp_path, trees):
    folders = [write(tmp_path / tree).parent for tree in trees]
    with pytest.raises(CorpusFormatError, match="more than one folder") as error:
        read(tmp_path)
    assert all(str(folder) in str(error.value) for folder in folders)
    assert read(folders[0])["0"]


def test_subjects_are_integers_and_sessions_ranks_of_the_day(seed_root):
    folder = seed_root / "SEED_EEG" / "Preprocessed_EEG"
    dataset = SEED(path=seed_root)
    assert dataset.subject_list == list(range(1, 16))
    for subject in (1, 2, 10):
        assert dataset.data_path(subject) == [
            str(folder / f"{subject}_{day}.mat") for day in seed.DATES[subject]
        ]
    # Each session of each subject is its own file.
    data = SEED(subjects=[2, 10], path=seed_root).get_data()
    assert {s: list(sessions) for s, sessions in data.items()} == {
        2: ["0", "1", "2"],
        10: ["0", "1", "2"],
    }
    assert all(list(days) == sorted(days) for days in seed.DATES.values())


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_sessions_keep_their_number_when_a_file_is_missing(
    tmp_path, missing, format_warnings
):
    for day in DAYS:
        write(tmp_path, {}, f"1_{day}.mat")
    (tmp_path / f"1_{DAYS[missing]}.mat").unlink()
    files = SEED(path=tmp_path)._recordings(1)
    assert list(files) == [key for key in "012" if key != str(missing)]
    for key, file in files.items():
        assert file.name == f"1_{DAYS[int(key)]}.mat"
    (message,) = format_warnings.messages
    assert f"Sessions ['{missing}'] of subject 1 are missing" in message


def test_unknown_days_are_ranked(tmp_path):
    for day in ("20200101", "20191231"):
        write(tmp_path, {}, f"1_{day}.mat")
    names = {k: f.name for k, f in SEED(path=tmp_path)._recordings(1).items()}
    assert names == {"0": "1_20191231.mat", "1": "1_20200101.mat"}


def test_a_session_not_asked_for_is_not_read(tmp_path, seed_root, format_warnings):
    kept = tmp_path / "1_20131030.mat"
    shutil.copy(seed_root / "SEED_EEG" / "Preprocessed_EEG" / kept.name, kept)
    dataset = SEED(subjects=[1], sessions=[1], path=tmp_path)
    data = dataset.get_data()
    assert {1: {k: len(runs) for k, runs in data[1].items()}} == {1: {"1": 15}}
    assert dataset.data_path(1) == [str(kept)]
    assert not format_warnings.messages


def test_an_asked_session_without_file_is_not_found(tmp_path):
    """It was reported as a file in the wrong layout, though no file was there."""
    write(tmp_path)
    dataset = SEED(subjects=[1], sessions=[2], path=tmp_path)
    for ask in (dataset.get_data, lambda: dataset.data_path(1)):
        with pytest.raises(CorpusNotFoundError, match=r"subject 1.*sessions \[2\]"):
            ask()


# -- label.mat -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int16", "int8", "float64"])
@pytest.mark.parametrize("shape", [(1, 15), (15, 1)])
def test_labels_of_any_number_type_are_accepted(tmp_path, dtype, shape):
    write(tmp_path)
    savemat(tmp_path / "label.mat", {"label": np.reshape(LABELS, shape).astype(dtype)})
    assert len(read(tmp_path)["0"]) == 15


@pytest.mark.parametrize(
    "content",
    [
        {"label": [LABELS[::-1]]},
        {"label": [LABELS[:14]]},
        {"label": [[label + 1 for label in LABELS]]},
        {"labels": [LABELS]},
        b"",
        b"no MATLAB file" * 20,
    ],
)
def test_a_wrong_label_file_is_an_error(tmp_path, content):
    write(tmp_path)
    file = tmp_path / "label.mat"
    file.write_bytes(content) if isinstance(content, bytes) else savemat(file, content)
    with pytest.raises(CorpusFormatError, match=r"label\.mat must hold") as error:
        read(tmp_path)
    assert str(file) in str(error.value)


# -- broken files --------------------------------------------------------------


def with_trial(film, value):
    return make_arrays() | {f"djc_eeg{film}": value}


def nan_trial():
    trial = make_arrays([7])["djc_eeg7"]
    trial[61, 200] = np.nan
    return trial


BROKEN_TRIALS = {
    "not there": ({k: v for k, v in make_arrays().items() if k != "djc_eeg7"}, "_eeg7"),
    "transposed": (with_trial(7, np.zeros((401, 62))), r"\(401, 62\)"),
    "one channel less": (with_trial(7, np.zeros((61, 401))), r"\(61, 401\)"),
    "no second long": (with_trial(7, np.zeros((62, 150))), r"\(62, 150\)"),
    "three axes": (with_trial(7, np.zeros((62, 401, 2))), r"\(62, 401, 2\)"),
    "not finite": (with_trial(7, nan_trial()), "trial 7 .* not finite numbers"),
    "still": (with_trial(7, np.ones((62, 401))), "trial 7 .* still for 2 of 2 s"),
    "text": (with_trial(7, "EEG"), "trial 7"),
}


@pytest.mark.parametrize("kind", BROKEN_TRIALS)
def test_a_broken_trial_is_an_error_or_left_out_by_name(
    tmp_path, kind, format_warnings
):
    arrays, message = BROKEN_TRIALS[kind]
    file = write(tmp_path, arrays)
    with pytest.raises(CorpusFormatError, match=message) as error:
        read(tmp_path)
    assert str(file) in str(error.value)
    assert 'Fetch the file again, or pass on_error="warn"' in str(error.value)
    runs = read(tmp_path, on_error="warn")["0"]
    assert list(runs) == [f"{run:02d}" for run in range(15) if run != 6]
    assert [runs[run].annotations[0]["extras"]["stimulus"] for run in ("05", "07")] == [
        "06",
        "08",
    ]
    messages = [m for m in format_warnings.messages if "on_error" in m]
    assert len(messages) == 1
    assert str(file) in messages[0]


def truncated(data):
    return data[: len(data) // 2]


def hdf5(data):
    """Return the head of a MATLAB 7.3 file: its 128 bytes, then HDF5."""
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    return head.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + bytes(64)


def empty(data):
    return b""


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("damage", [truncated, hdf5, empty])
def test_an_unreadable_file_is_an_error_or_left_out(
    tmp_path, damage, compressed, format_warnings
):
    write(tmp_path, name=f"1_{DAYS[1]}.mat")
    file = write(tmp_path, do_compression=compressed)
    file.write_bytes(damage(file.read_bytes()))
    message = {truncated: "cut short", hdf5: "MATLAB 7.3 .* option -v7"}.get(
        damage, "not a readable MATLAB 5 file"
    )
    with pytest.raises(CorpusFormatError, match=message) as error:
        read(tmp_path)
    assert str(file) in str(error.value)
    # Another copy of a file that somebody has converted would be no better.
    assert ("Fetch the file again" in str(error.value)) == (damage is not hdf5)
    sessions = read(tmp_path, on_error="warn")
    # Of a file that was cut short, the trials before the cut are whole.
    assert list(sessions) == (["0", "1"] if damage is truncated else ["1"])
    assert damage is not truncated or len(sessions["0"]) < 15
    assert str(file) in format_warnings.text


def test_features_in_place_of_the_eeg_are_named(tmp_path):
    file = write(tmp_path, {"de_LDS1": np.zeros((62, 3, 5))})
    with pytest.raises(CorpusFormatError, match=r"de_LDS1.*Preprocessed_EEG") as error:
        read(tmp_path)
    assert str(file) in str(error.value)


def test_a_subject_of_whom_nothing_is_left_is_left_out(tmp_path, format_warnings):
    """It was an error whatever ``on_error`` said."""
    write(tmp_path).write_bytes(b"")
    assert not SEED(subjects=[1], path=tmp_path, on_error="warn").get_data()
    assert "subject 1 is left out" in format_warnings.text


def test_a_session_asked_for_by_number_must_be_there(tmp_path):
    """It was only logged, and results were those of fewer sessions."""
    write(tmp_path)
    with pytest.raises(CorpusNotFoundError, match=r"Sessions \['1'\] of subject 1"):
        SEED(subjects=[1], sessions=[0, 1], path=tmp_path).get_data()
