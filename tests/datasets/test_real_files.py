"""Situations of the real files, which replicas as they are written do not have."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from edfio import Bdf, BdfSignal, read_bdf
from scipy.io import loadmat, savemat

from braindecode_emossl.datasets import DEAP, SEED, SEED_IV, deap, seed_iv
from braindecode_emossl.datasets import write_replica as write
from braindecode_emossl.datasets.deap_original import OriginalRecording
from braindecode_emossl.datasets.inspection import inspect_corpus
from braindecode_emossl.errors import CorpusFormatError, CorpusFormatWarning

SFREQ = 512


def find(root, pattern):
    return sorted(root.rglob(pattern))[0]


@pytest.fixture(scope="module")
def bdf_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bdf")
    root = write("DEAP", folder, subjects=[1], seconds=1, seed=5, variant="bdf")
    return find(root, "s01.bdf")


@pytest.fixture
def original(bdf_file, tmp_path):
    """Return a function that writes a recording, changed, beside its table."""
    shutil.copytree(bdf_file.parents[1] / "metadata_csv", tmp_path / "metadata_csv")

    def rewrite(change):
        channels = read_bdf(bdf_file).signals
        digital = [signal.digital.copy() for signal in channels]
        digital = change(digital)
        signals = [
            BdfSignal.from_digital(
                values.astype(np.int32),
                SFREQ,
                label=signal.label,
                physical_dimension=signal.physical_dimension,
                physical_range=tuple(signal.physical_range),
                digital_range=(-(2**23), 2**23 - 1),
            )
            for signal, values in zip(channels, digital, strict=True)
        ]
        Bdf(signals, data_record_duration=1).write(tmp_path / "s01.bdf")
        return tmp_path

    return rewrite


def read_original(root, **options):
    return DEAP([1], path=root, source="original", **options).get_data()[1]["0"]["00"]


# -- DEAP: the codes of the original recordings --------------------------------


@pytest.mark.parametrize(
    ("codes", "length"),
    [
        ({21.146: 1, 60.045: 5}, 60.0),  # subject 26, trial 24
        ({3.0: 6, 4.0: 6, 5.0: 2, 56.297: 5}, 56.297),
        ({10.0: 1, 20.0: 3, 30.0: 5}, 20.0),  # no code 5, else the next video's
        ({10.0: 7}, 10.0),
        ({10.0: 1}, 60.0),
    ],
)
def test_only_code_5_ends_a_video(codes, length, original):
    """Any code ended it: of a video of 60 s, 21 s were used."""

    def one_video(digital):
        status = np.zeros(70 * SFREQ)
        for onset, code in ({0: 4} | codes).items():
            start = SFREQ + round(onset * SFREQ)
            status[start : start + 8] = code
        return [*(np.resize(values, len(status)) for values in digital[:-1]), status]

    file = original(one_video) / "s01.bdf"
    ((onset, found),) = OriginalRecording(file, deap.EEG_NAMES, 1).videos
    assert (onset, found) == (1.0, pytest.approx(length, abs=1e-3))


def test_codes_in_the_break_and_the_bit_of_the_battery_change_nothing(original):
    """Subject 1 has 13,475 codes 6 in the break, 28 a further bit from trial 38 on."""
    expected = read_original(original(lambda digital: digital))

    def change(digital):
        status = digital[-1]
        starts = np.flatnonzero(np.diff((status == 4).astype(int)) == 1) + 1
        cross = starts[20] - SFREQ // 2  # between trials 20 and 21
        status[cross - 100 : cross - 20 : 2] = 6
        status[starts[37] - 100 :] += 0x400000
        return digital

    found = read_original(original(change))
    np.testing.assert_array_equal(found.annotations.onset, expected.annotations.onset)
    np.testing.assert_array_equal(
        found.annotations.duration, expected.annotations.duration
    )


def test_a_video_that_ends_early_is_warned_of(original):
    """Eight real ones do, by up to 3.7 s, and the preprocessed files do not say so."""

    def change(digital):
        status = digital[-1]
        ends = np.flatnonzero(np.diff((status == 5).astype(int)) == 1) + 1
        # An end at 1.0 s cannot come earlier: let all but one come later.
        for k, end in enumerate(ends):
            if k != 13:
                status[end : end + 8] = 0
                status[end + 100 : end + 108] = 5
        return digital

    with pytest.warns(CorpusFormatWarning, match=r"end early.* trials 14 \(1.000 s\)"):
        raw = read_original(original(change))
    assert raw.annotations.duration[13] == 1
    assert raw.annotations.duration[12] == pytest.approx(1 + 100 / SFREQ)
    assert DEAP(source="original").interval == [0, 56]
    assert DEAP().interval == [0, 60]


def change_table(root, change):
    table = find(root, "participant_ratings.csv")
    cells = pd.read_csv(table)
    change(cells)
    cells.to_csv(table, index=False)


def test_an_interruption_between_two_videos_is_warned_of(original):
    """Subjects 13 and 28 have one, of 117.28 and 64.84 s."""
    root = original(lambda digital: digital)

    def pause(cells):
        cells.loc[cells["Trial"] > 20, "Start_time"] += 1_172_800

    change_table(root, pause)
    with pytest.warns(CorpusFormatWarning, match=r"trials 20 and 21 \(-117\.\d+ s\)"):
        raw = read_original(root)
    assert len(raw.annotations) == 40


def test_a_table_of_another_recording_is_refused(original):
    """Its ratings would have been those of other videos."""
    root = original(lambda digital: digital)
    rng = np.random.default_rng(0)

    def other_subject(cells):
        cells["Start_time"] += np.cumsum(rng.integers(-20_000, 20_000, len(cells)))

    change_table(root, other_subject)
    with pytest.raises(CorpusFormatError, match=r"Start_time.*another subject"):
        read_original(root)
    found = inspect_corpus(DEAP(path=root, on_error="warn"), read_signals=True)
    assert any("Start_time" in problem for problem in found.problems)


def test_a_table_without_start_times_is_not_compared(original):
    root = original(lambda digital: digital)
    change_table(root, lambda cells: cells.__setitem__("Start_time", np.nan))
    assert len(read_original(root).annotations) == 40


# -- DEAP: the copy with 9 - r -------------------------------------------------


@pytest.fixture
def altered(deap_root, tmp_path):
    """The copy that circulates: 9 - r where valence and arousal are high."""
    root = tmp_path / "altered"
    shutil.copytree(deap_root, root)
    file = find(root, "s01.dat")
    data, labels = deap.read_preprocessed(file)
    high = (labels[:, :2] > 5).all(axis=1)
    assert 0 < high.sum() < 40
    expected = labels.copy()
    labels = labels.copy()
    labels[high, :2] = 9 - labels[high, :2]
    from braindecode_emossl.datasets.replica_deap import write_python2_pickle

    write_python2_pickle(file, {"labels": labels, "data": data})
    return root, expected, labels


@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_the_altered_copy_is_named(altered, on_error):
    root, _, _ = altered
    with pytest.raises(CorpusFormatError, match=r"9 minus.*rating_source=\"table\""):
        DEAP([1], path=root, on_error=on_error).get_data()
    found = inspect_corpus(DEAP([1], path=root, on_error="warn"), read_signals=False)
    assert found.verdict == "broken"
    assert any("copy of DEAP with this alteration" in p for p in found.problems)


def test_the_table_wins_by_an_argument(altered):
    root, expected, _ = altered
    with pytest.warns(CorpusFormatWarning, match="ratings of the table are used"):
        table = DEAP([1], path=root, rating_source="table").trial_table(1)
    table = table.sort_values("stimulus")
    found = table[["valence", "arousal", "dominance", "liking"]].to_numpy()
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("rating_source", ["files", "table"])
def test_another_difference_is_no_such_copy(altered, rating_source):
    root, _, labels = altered
    video = int(np.flatnonzero((labels[:, :2] <= 5).all(axis=1))[0]) + 1

    def change(cells):
        mine = (cells["Participant_id"] == 1) & (cells["Experiment_id"] == video)
        cells.loc[mine, "Liking"] += 1.0 if labels[video - 1, 3] < 5 else -1.0

    change_table(root, change)
    with pytest.raises(CorpusFormatError, match="must be the same in"):
        DEAP([1], path=root, rating_source=rating_source).get_data()


def test_a_wrong_rating_source_is_refused():
    with pytest.raises(ValueError, match=r'must be "files" or "table".*\'both\''):
        DEAP(rating_source="both")


# -- SEED-IV: windows, eye features, folders -----------------------------------


def test_the_numbers_of_windows_are_the_published_ones():
    sums = {session: sum(counts) for session, counts in seed_iv.N_WINDOWS.items()}
    assert sums == {"0": 851, "1": 832, "2": 822}
    assert SEED_IV().interval[1] <= 4 * min(map(min, seed_iv.N_WINDOWS.values()))


def write_full_length(root, folder, counts, changes=()):
    """Write a recording of whole length, of one byte per value."""
    file = root / "eeg_raw_data" / folder / "1_20160518.mat"
    file.parent.mkdir(parents=True)
    lengths = {k: 200 * (4 * n + 2) + 1 for k, n in enumerate(counts, start=1)}
    lengths |= dict(changes)
    arrays = {f"cz_eeg{k}": np.zeros((62, n), "i1") for k, n in lengths.items()}
    savemat(file, arrays, do_compression=True)
    return file


@pytest.fixture
def shapes_only(monkeypatch):
    """Let SEED-IV find trials of some lengths, in windows, without writing them."""

    def set_windows(counts, changes=()):
        seconds = {k: 4 * n + 2 for k, n in enumerate(counts, start=1)} | dict(changes)
        variables = {
            k: (f"cz_eeg{k}", (62, round(200 * s) + 1)) for k, s in seconds.items()
        }
        monkeypatch.setattr(
            SEED_IV, "_find_variables", lambda self, file, ending="_eeg": variables
        )

    return set_windows


@pytest.fixture
def iv_root(tmp_path):
    for folder in "123":
        file = tmp_path / "eeg_raw_data" / folder / f"1_2016051{folder}.mat"
        file.parent.mkdir(parents=True)
        file.touch()
    return tmp_path


@pytest.mark.parametrize("session", ["0", "1", "2"])
def test_a_recording_of_full_length_in_its_folder_is_sound(
    session, shapes_only, iv_root, format_warnings
):
    shapes_only(seed_iv.N_WINDOWS[session])
    dataset = SEED_IV([1], sessions=[int(session)], path=iv_root)
    assert len(dataset.trial_table(1)) == 24
    assert not format_warnings.messages


@pytest.mark.parametrize(("folder", "session"), [("0", "1"), ("1", "0"), ("2", "1")])
def test_a_recording_in_the_folder_of_another_session_is_refused(
    folder, session, shapes_only, iv_root
):
    """It loaded with the labels of the other session."""
    shapes_only(seed_iv.N_WINDOWS[session])
    dataset = SEED_IV([1], sessions=[int(folder)], path=iv_root, on_error="warn")
    match = rf"folder of session {int(folder) + 1}.* lengths of session "
    with pytest.raises(CorpusFormatError, match=match + str(int(session) + 1)):
        dataset.trial_table(1)


def test_a_trial_with_another_number_of_windows_is_warned_of(shapes_only, iv_root):
    counts = seed_iv.N_WINDOWS["1"]
    shapes_only(counts, {3: 4 * counts[2] - 1})
    with pytest.warns(CorpusFormatWarning, match=r"trials \[3\] .* \[33\].*\[34\]"):
        table = SEED_IV([1], sessions=[1], path=iv_root).trial_table(1)
    assert len(table) == 24


def test_a_trial_that_lacks_much_of_its_clip_is_broken(shapes_only, iv_root):
    """Of the second and third session no length was known."""
    shapes_only(seed_iv.N_WINDOWS["2"], {3: 30})
    with pytest.raises(CorpusFormatError, match=r"trial 3 .* has 30\.005 s, the film"):
        SEED_IV([1], sessions=[2], path=iv_root).trial_table(1)


@pytest.fixture
def iv_copy(tmp_path):
    return write("SEED-IV", tmp_path, subjects=[1], seconds=1, seed=0, sessions=[0, 1])


def read_iv(root, **options):
    return SEED_IV([1], sessions=[0], path=root, **options).get_data()[1]["0"]


def test_eye_features_in_a_doubled_folder_are_found(iv_copy):
    """Archives are unpacked into a folder of their own name: they were not found."""
    expected = read_iv(iv_copy, return_all_modalities=True)
    eye = find(iv_copy, "eye_feature_smooth")
    eye.rename(eye.with_name("eye"))
    eye.mkdir()
    eye.with_name("eye").rename(eye / "eye_feature_smooth")
    found = read_iv(iv_copy, return_all_modalities=True)
    for run, raw in expected.items():
        np.testing.assert_array_equal(found[run].get_data(), raw.get_data())
    dataset = SEED_IV([1], path=iv_copy, return_all_modalities=True)
    assert sum("smooth/eye_feature" in name for name in dataset.source_files(1)) == 2


def test_eye_features_that_are_there_twice_are_refused(iv_copy):
    eye = find(iv_copy, "eye_feature_smooth")
    shutil.copytree(eye, eye.parent / "backup" / "eye_feature_smooth")
    with pytest.raises(CorpusFormatError, match="more than once"):
        read_iv(iv_copy, return_all_modalities=True)


def check(dataset, root):
    return inspect_corpus(dataset(path=root, on_error="warn"), read_signals=True)


def test_check_says_which_eye_features_are_missing(iv_copy):
    find(iv_copy, "eye_feature_smooth/2/*.mat").unlink()
    found = check(SEED_IV, iv_copy)
    (missing,) = [r for r in found.remarks if "the eye features of" in r]
    assert "eeg_raw_data/2/1_20161125.mat" in missing
    shutil.rmtree(find(iv_copy, "eye_feature_smooth"))
    found = check(SEED_IV, iv_copy)
    assert "holds no eye features (eye_feature_smooth)" in "".join(found.remarks)
    assert not found.problems


# -- SEED: sorted by session ---------------------------------------------------


@pytest.fixture
def sorted_root(seed_root, tmp_path):
    """SEED as holders are told to sort it, a folder per session."""
    folder = tmp_path / "Preprocessed_EEG"
    for session, day in enumerate(("20131027", "20131030", "20131107"), start=1):
        (folder / str(session)).mkdir(parents=True)
        shutil.copy(find(seed_root, f"P*/1_{day}.mat"), folder / str(session))
    shutil.copy(find(seed_root, "P*/label.mat"), folder)
    return tmp_path


def test_recordings_sorted_by_session_are_found(sorted_root, seed_root):
    """They were refused as EEG in more than one folder."""
    sorted_, flat = SEED([1], path=sorted_root), SEED([1], path=seed_root)
    assert list(sorted_.get_data()[1]) == ["0", "1", "2"]
    pd.testing.assert_frame_equal(sorted_.trial_table(1), flat.trial_table(1))
    savemat(sorted_root / "Preprocessed_EEG" / "label.mat", {"label": np.ones((1, 15))})
    with pytest.raises(CorpusFormatError, match="published labels"):
        sorted_.trial_table(1)


def test_a_recording_sorted_into_another_session_counts_by_its_day(sorted_root):
    folder = sorted_root / "Preprocessed_EEG"
    (folder / "2" / "1_20131030.mat").rename(folder / "3" / "1_20131030.mat")
    with pytest.warns(CorpusFormatWarning, match=r"folder of session 3.*session 2"):
        files = SEED([1], path=sorted_root).data_path(1)
    assert [name[-12:-4] for name in files] == ["20131027", "20131030", "20131107"]


def test_a_recording_that_is_also_unsorted_is_refused(sorted_root):
    folder = sorted_root / "Preprocessed_EEG"
    shutil.copy(folder / "2" / "1_20131030.mat", folder)
    with pytest.raises(CorpusFormatError, match="same subject and day"):
        SEED([1], path=sorted_root).data_path(1)


# -- MAHNOB-HCI: participants without physiology -------------------------------


def test_check_names_sessions_with_eye_tracking_alone(tmp_path):
    """Participant 12 has 20 of them, and nothing was said."""
    from braindecode_emossl.datasets import MAHNOB_HCI

    root = write("MAHNOB-HCI", tmp_path, subjects=[12], seconds=1, seed=0)
    dataset = MAHNOB_HCI(path=root, on_error="warn")
    assert 12 not in dataset.subject_list and 15 not in dataset.subject_list
    found = inspect_corpus(dataset, read_signals=True)
    (remark,) = [r for r in found.remarks if "participant 12" in r]
    assert "1432 (eye tracking alone)" in remark
    assert found.n_subjects == 0 and 12 not in found.missing_subjects


def test_loadmat_of_the_copies_agrees(sorted_root):
    """The test above compares tables only: the signals are those of the files."""
    raw = SEED([1], sessions=[0], path=sorted_root).get_data()[1]["0"]["03"]
    content = loadmat(find(sorted_root, "1_20131027.mat"))
    (name,) = [key for key in content if key.endswith("_eeg4")]
    np.testing.assert_array_equal(
        raw.get_data(), (content[name] * 1e-6)[:, : raw.n_times]
    )
