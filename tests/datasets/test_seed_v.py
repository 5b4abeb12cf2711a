from __future__ import annotations

import pickle
import shutil
import struct
import zipfile

import numpy as np
import pytest
from moabb.datasets.metadata.schema import validate_metadata_against_dataset

from braindecode_emossl.datasets import SEED_V, cnt_files, seed_v, write_replica
from braindecode_emossl.datasets.inspection import inspect_corpus
from braindecode_emossl.datasets.npz_files import read_pickled_trials
from braindecode_emossl.datasets.replica_seed_v import write_cnt
from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError

RUNS = [f"{run:02d}" for run in range(15)]
FIRST = "SEED-V/EEG_raw/1_1_20180804.cnt"
TIMES = "SEED-V/trial_start_end_timestamp.txt"
EYE = "SEED-V/Eye_movement_features/1_123.npz"
N_CHANS = 66


def read(root, **options):
    return SEED_V([1], path=root, **options).get_data()[1]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Subject 1, all sessions, trials of 9 s: two windows of the eyes and a second."""
    folder = tmp_path_factory.mktemp("seed-v")
    return write_replica("SEED-V", folder, subjects=[1], seconds=9, seed=0)


@pytest.fixture(scope="module")
def data(root):
    return read(root)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    options = {"subjects": [1], "sessions": [0], "seconds": 1, "seed": 0}
    return write_replica("SEED-V", tmp_path_factory.mktemp("small"), **options)


@pytest.fixture
def copied(small, tmp_path):
    """A replica of the first session that may be changed."""
    return shutil.copytree(small, tmp_path / "copy")


# -- what a recording becomes --------------------------------------------------


def read_samples(file):
    """Return names and microvolts (n_chans, n_times), from the format alone."""
    content = file.read_bytes()
    (table,) = struct.unpack_from("<i", content, 886)
    starts = [900 + 75 * k for k in range(N_CHANS)]
    names = [content[k : k + 10].rstrip(b"\0").decode() for k in starts]
    scales = [
        np.prod(struct.unpack_from("<f", content, k + 59)) / 204.8 for k in starts
    ]
    samples = np.frombuffer(content[900 + 75 * N_CHANS : table], "<i4")
    return names, samples.reshape(-1, N_CHANS).T * np.array(scales)[:, None]


def test_runs_hold_the_values_of_the_file_in_volts(root, data):
    assert list(data) == ["0", "1", "2"]
    assert list(data["0"]) == RUNS
    names, samples = read_samples(root / FIRST)
    for index in (0, 7, 14):
        raw = data["0"][RUNS[index]]
        start = 1000 * (1 + 10 * index)
        expected = samples[:, start : start + 9000]
        for name in ("Fp1", "Oz", "CB2", "VEO"):
            row = expected[names.index(name.upper())]
            found = raw.get_data(name)[0] * 1e6
            np.testing.assert_allclose(found, row, rtol=1e-6)
    assert raw.info["sfreq"] == 1000
    assert raw.get_channel_types() == ["eeg"] * 62 + ["eog"] * 2
    assert "M1" not in raw.ch_names


def test_every_trial_is_one_annotation_with_its_extras(data):
    stimuli = []
    for session, runs in data.items():
        for number, raw in enumerate(runs.values()):
            (annotation,) = raw.annotations
            emotion = seed_v.EMOTIONS[seed_v.LABELS[session][number]]
            assert (annotation["onset"], annotation["duration"]) == (0, 9)
            assert annotation["description"] == emotion
            assert annotation["extras"] == {
                "trial": number,
                "stimulus": f"{int(session) + 1}-{number + 1:02d}",
                "length": 9.0,
                "emotion": emotion,
            }
            stimuli.append(annotation["extras"]["stimulus"])
    assert len(set(stimuli)) == 45


def test_published_labels_and_times():
    """The lengths are those of the windows of 4 s in the makers' features."""
    n_windows = []
    for session, (starts, stops) in seed_v.TIMES.items():
        assert [seed_v.LABELS[session].count(k) for k in range(5)] == [3] * 5
        assert len(starts) == len(stops) == 15
        lengths = [b - a for a, b in zip(starts, stops, strict=True)]
        n_windows.append(sum(int(length // 4) for length in lengths))
        assert min(lengths) >= SEED_V().interval[1]
    assert n_windows == [681, 541, 601]


def test_official_folds_are_fives_of_all_sessions():
    folds = SEED_V.official_folds
    assert len(folds) == 45
    assert {k for k, fold in folds.items() if fold == 1} == {
        (session, trial) for session in "012" for trial in range(5, 10)
    }


def test_metadata_are_valid(root):
    dataset = SEED_V([1], path=root, return_all_modalities=True)
    assert validate_metadata_against_dataset(dataset, SEED_V.METADATA) == []
    raw = dataset.get_data()[1]["0"]["00"]
    assert SEED_V.METADATA.acquisition.sensors == raw.ch_names
    assert SEED_V.METADATA.experiment.events == dataset.event_id


def test_trial_tables_need_no_signals(root, monkeypatch):
    monkeypatch.delattr(cnt_files, "read_signals")
    table = SEED_V([1], path=root).trial_table(1)
    assert len(table) == 45
    assert set(table["length"]) == {9.0}


# -- files ---------------------------------------------------------------------


def test_a_repaired_recording_is_preferred(copied):
    file = copied / FIRST
    repaired = file.with_name("1_1_20180804_repaired.cnt")
    shutil.copy(file, repaired)
    assert SEED_V([1], [0], path=copied).data_path(1) == [str(repaired)]
    file.with_name("1_1_20180805.cnt").write_bytes(b"")
    assert SEED_V([1], [0], path=copied).data_path(1) == [str(repaired)]
    repaired.unlink()
    with pytest.raises(CorpusFormatError, match=r"20180804.*20180805"):
        SEED_V([1], [0], path=copied).data_path(1)


def test_sessions_are_those_of_the_names(copied, format_warnings):
    file = copied / FIRST
    file.rename(file.with_name("1_3_20170101.cnt"))
    (file.with_name("1_4_20170101.cnt")).write_bytes(b"")
    (file.with_name("1_20221001_1.cnt")).write_bytes(b"of SEED-VII")
    assert list(SEED_V([1], path=copied)._recordings(1)) == ["2"]
    assert "Sessions ['0', '1'] of subject 1 are missing" in format_warnings.text
    with pytest.raises(CorpusNotFoundError, match=r"sessions \[0\]"):
        SEED_V([1], [0], path=copied).get_data()


# -- times ---------------------------------------------------------------------


def test_without_a_table_the_published_times_count(copied):
    (copied / TIMES).unlink()
    message = r"trial 1 of .* must last from 30 to 102 s.* ends at 31 s"
    with pytest.raises(CorpusFormatError, match=message):
        SEED_V([1], [0], path=copied).trial_table(1)


def test_other_times_on_a_whole_recording_are_an_error(copied, monkeypatch):
    """An edited table would cut other trials than those that the labels are of."""
    starts, stops = (tuple(float(2 * k + i) for k in range(15)) for i in (0, 1))
    published = dict.fromkeys(seed_v.TIMES, (starts, stops))
    monkeypatch.setattr(seed_v, "TIMES", published)
    with pytest.raises(CorpusFormatError, match="must be the published ones"):
        SEED_V([1], [0], path=copied).trial_table(1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Session 1", "Session 7"),
        ("start_second", "begin"),
        ("[1, 3,", "[1,"),
        ("[1, 3,", "[1, x,"),
        ("[1, 3,", "[3, 1,"),
        ("[1, 3,", "[1, 3e9,"),
        ("[1, 3,", "[2, 3,"),
        ("[", "[" * 30_000),
        ("start", "\xff\0"),
    ],
)
def test_a_damaged_table_of_times_is_an_error(copied, old, new):
    file = copied / TIMES
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(CorpusFormatError, match="must have, for session 1"):
        SEED_V([1], [0], path=copied).trial_table(1)


# -- damaged recordings --------------------------------------------------------


def patch(file, place, *values, kind="<i"):
    content = bytearray(file.read_bytes())
    for value in values:
        struct.pack_into(kind, content, place, value)
    file.write_bytes(content)


HEADERS = {
    "no channels": (370, 0, "<H", "names 0 channels"),
    "many channels": (370, 60_000, "<H", "names 60000 channels"),
    "a channel more": (370, 67, "<H", "cannot fill"),
    "another rate": (376, 500, "<H", "has 500 Hz"),
    "events in the header": (886, 100, "<i", "must begin between"),
    "events after the end": (886, 2**31 - 1, "<i", "cut short"),
    "negative place of events": (886, -1, "<i", "must begin between"),
    "out of step": (886, 900 + 75 * 66 + 1000, "<i", "cannot fill"),
    "huge blocks": (894, 2**30, "<i", "blocks of"),
    "odd blocks": (894, 7, "<i", "blocks of 7"),
    "no resolution": (900 + 59, 0.0, "<f", "FP1 has the resolution 0"),
    "negative resolution": (900 + 71, -1.0, "<f", "resolution -"),
    "undefined resolution": (900 + 75 + 59, np.nan, "<f", "FPZ has the resolution nan"),
    "another resolution": (900 + 71, 50.0, "<f", "50 times the resolution"),
    "a name twice": (900, ord("C"), "<B", "must have different names"),
    "a name of nobody": (900 + 1, ord("X"), "<B", r"lacks \['FP1'\]"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_damaged_header_is_an_error(case, copied, format_warnings):
    place, value, kind, message = HEADERS[case]
    patch(copied / FIRST, place, value, kind=kind)
    with pytest.raises(CorpusFormatError, match=message) as error:
        SEED_V([1], [0], path=copied).get_data()
    assert str(copied / FIRST) in str(error.value)
    assert SEED_V([1], [0], path=copied, on_error="warn").get_data() == {}


def test_a_damaged_table_of_events_is_an_error(copied):
    """MNE made events of whatever the bytes were, or failed inside its parser."""
    file = copied / FIRST
    for head in ((9, 0, 0), (1, 7, 0), (1, 80, 0), (2, -19, 0)):
        content = file.read_bytes()[:-9]
        file.write_bytes(content + struct.pack("<Bii", *head))
        with pytest.raises(CorpusFormatError, match="table of events has"):
            SEED_V([1], [0], path=copied).trial_table(1)


@pytest.mark.parametrize("n_samples", [0, 12, -5])
def test_a_wrong_number_of_samples_is_replaced(n_samples, copied, format_warnings):
    """As in a file of subject 7, whose header is damaged in the release."""
    expected = SEED_V([1], [0], path=copied).get_data()[1]["0"]["14"].get_data()
    patch(copied / FIRST, 864, n_samples)
    raw = SEED_V([1], [0], path=copied).get_data()[1]["0"]["14"]
    np.testing.assert_array_equal(raw.get_data(), expected)
    assert "another number of samples than the file has, which is 31000" in (
        format_warnings.text
    )


@pytest.mark.parametrize(
    ("place", "value", "kind"),
    [(900 + 59, 7.0, "<f"), (900 + 47, 9, "<h"), (894, 8, "<i")],
)
def test_channels_of_other_resolutions_are_reported(
    place, value, kind, copied, format_warnings
):
    """One byte of the header rescaled, shifted or mixed channels in silence."""
    patch(copied / FIRST, place, value, kind=kind)
    SEED_V([1], [0], path=copied).get_data()
    assert "several resolutions or baselines" in format_warnings.text


def test_samples_of_16_bits_are_refused(tmp_path, copied):
    file = copied / FIRST
    patch(file, 864, 2 * 31_000)
    with pytest.raises(CorpusFormatError, match=r"62000 samples, .*16 bits each, but"):
        SEED_V([1], [0], path=copied).trial_table(1)


@pytest.mark.parametrize(("bits", "is_read"), [(32, True), (16, False)])
def test_a_file_that_says_the_size_of_its_samples_is_believed(
    bits, is_read, copied, format_warnings
):
    """Twice the number of samples was taken for 16 bits, though the file said 32."""
    expected = SEED_V([1], [0], path=copied).get_data()[1]["0"]["14"].get_data()
    file = copied / FIRST
    place = file.stat().st_size
    with file.open("ab") as stream:
        stream.write(bytes(52) + bytes([bits == 32]))
    patch(file, 12, place)
    patch(file, 864, 2 * 31_000)
    dataset = SEED_V([1], [0], path=copied)
    if is_read:
        raw = dataset.get_data()[1]["0"]["14"]
        np.testing.assert_array_equal(raw.get_data(), expected)
        assert "the file has, which is 31000" in format_warnings.text
    else:
        with pytest.raises(CorpusFormatError, match="16 bits each, but"):
            dataset.get_data()


def test_files_cut_short_are_an_error(copied):
    file = copied / FIRST
    content = file.read_bytes()
    for size in (0, 500, 2000, 10_000, len(content) - 4):
        file.write_bytes(content[:size])
        with pytest.raises(CorpusFormatError, match="not a readable CNT file"):
            SEED_V([1], [0], path=copied).get_data()


def test_the_writer_and_mne_agree_on_a_ramp(tmp_path):
    """Samples, their order and their unit, in closed form."""
    file = tmp_path / "ramp.cnt"
    values = np.arange(20).reshape(2, 10) * 3.0
    write_cnt(file, ["FP1", "VEO"], 1000, 10, [values[:, :4], values[:, 4:]])
    header = cnt_files.read_header(file)
    assert header == cnt_files.CntHeader(("FP1", "VEO"), 1000.0, 10, True, True)
    found = cnt_files.read_signals(file, header, ["VEO", "FP1"], 2, 9)
    np.testing.assert_allclose(found * 1e6, values[::-1, 2:9], rtol=1e-6)


# -- eye features --------------------------------------------------------------


def change_archive(file, change):
    """Apply a function to the dictionary of features in an archive."""
    with np.load(file) as archive:
        data, label = (archive[name].item() for name in ("data", "label"))
    values = pickle.loads(data)
    change(values)
    np.savez(file, data=pickle.dumps(values, protocol=3), label=label)


def test_eye_features_are_aligned_with_the_eeg(root, data):
    with np.load(root / EYE) as archive:
        features = pickle.loads(archive["data"].item())
    both = read(root, return_all_modalities=True)
    for session, runs in both.items():
        for run, raw in runs.items():
            assert raw.ch_names[-33:] == list(seed_v.EYE_FEATURES)
            plain = data[session][run].get_data()
            np.testing.assert_array_equal(raw.get_data()[:64], plain)
            values = features[15 * int(session) + int(run)]
            assert values.shape == (2, 33)
            held = raw.get_data("misc")
            for sample in (0, 3999, 4000, 7999, 8000, 8999):
                expected = values[min(sample // 4000, 1)]
                np.testing.assert_array_equal(held[:, sample], expected)


def test_missing_eye_values_stay_missing(copied, format_warnings):
    def change(values):
        values[3][0, 5] = np.nan

    change_archive(copied / EYE, change)
    raw = read(copied, sessions=[0], return_all_modalities=True)["0"]["03"]
    assert np.isnan(raw.get_data("eye_06")).all()
    assert np.isfinite(raw.get_data("eye_07")).all()
    assert "1 values of session 1" in format_warnings.text
    assert "(number by trial: {4: 1})" in format_warnings.text


BROKEN_EYES = {
    "missing": (lambda v: v.pop(3), "trial 3 .* is missing"),
    "31 columns": (lambda v: v.update({3: v[3][:, :31]}), r"\(1, 33\).*has \(1, 31\)"),
    "a window more": (lambda v: v.update({3: np.zeros((2, 33))}), r"has \(2, 33\)"),
    "infinite": (lambda v: v.update({3: v[3] * np.inf}), "neither finite"),
    "a trial too many": (lambda v: v.update({45: v[3]}), "must be from 0 to 44"),
    "text": (lambda v: v.update({3: "x"}), "no array 3"),
}


@pytest.mark.parametrize("case", BROKEN_EYES)
def test_broken_eye_features_are_an_error(case, copied):
    change, message = BROKEN_EYES[case]
    change_archive(copied / EYE, change)
    with pytest.raises(CorpusFormatError, match=message):
        read(copied, sessions=[0], return_all_modalities=True)
    assert len(read(copied, sessions=[0])["0"]) == 15


def test_an_archive_that_would_run_code_is_an_error(copied, tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    np.savez(copied / EYE, data=pickle.dumps({0: Attack()}), label=b"")
    with pytest.raises(CorpusFormatError, match=r"asks for .*open.*It was not run"):
        read(copied, sessions=[0], return_all_modalities=True, on_error="warn")
    assert not (tmp_path / "harm").exists()


def write_member(file, header, content=b"", name="data.npy", **options):
    with zipfile.ZipFile(file, "w", **options) as archive:
        size = len(header).to_bytes(2, "little")
        archive.writestr(name, b"\x93NUMPY\x01\x00" + size + header + content)


@pytest.mark.parametrize(
    ("header", "content", "message"),
    [
        (b"{'descr': '|S99', 'fortran_order': False, 'shape': (), }\n", b".", "99 byt"),
        (b"{'descr': '|S1', 'fortran_order': False, 'shape': (9,), }", b".", "one str"),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (), }", b".", "one string"),
        (b"__import__('os').getpid()", b".", "one string"),
        (b"{'descr': '|S3', 'fortran_order': False, 'shape': (), }", b"}q\0", "pickle"),
    ],
)
def test_a_damaged_archive_is_an_error(header, content, message, tmp_path):
    file = tmp_path / "1_123.npz"
    write_member(file, header, content)
    with pytest.raises(ValueError, match=message):
        read_pickled_trials(file, "data", 45)


@pytest.mark.parametrize("method", [9, 12, 14, 99])
def test_a_method_that_numpy_does_not_use_is_an_error(method, copied):
    """An unknown one ended the program by a NotImplementedError of zipfile."""
    file = copied / EYE
    content = bytearray(file.read_bytes())
    place = content.rindex(b"PK\x01\x02")  # the entry of a member in the directory
    while place >= 0:
        content[place + 10 : place + 12] = method.to_bytes(2, "little")
        place = content.rfind(b"PK\x01\x02", 0, place)
    file.write_bytes(content)
    with pytest.raises(CorpusFormatError, match=f"compressed by method {method}"):
        read(copied, sessions=[0], return_all_modalities=True)


def test_a_bomb_is_not_inflated(tmp_path):
    file = tmp_path / "1_123.npz"
    zeros = bytes(2**27)
    write_member(file, b"", zeros, compression=zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 2**18
    with pytest.raises(ValueError, match="has 134"):
        read_pickled_trials(file, "data", 45)
    with pytest.raises(KeyError):
        read_pickled_trials(file, "label", 45)


def test_arrays_in_either_order_are_read(tmp_path):
    """NumPy pickles a transposed array in Fortran's order."""
    file = tmp_path / "1_123.npz"
    values = np.arange(66.0).reshape(33, 2).T
    np.savez(file, data=pickle.dumps({0: values, 1: values.copy("C")}))
    found = read_pickled_trials(file, "data", 45)
    np.testing.assert_array_equal(found[0], values)
    np.testing.assert_array_equal(found[1], values)


# -- the check of a folder -----------------------------------------------------


def test_a_check_says_what_is_missing(copied):
    report = inspect_corpus(SEED_V(path=copied, on_error="warn"), read_signals=True)
    assert (report.n_subjects, report.n_sessions, report.n_trials) == (1, 1, 15)
    assert not report.problems
    (copied / EYE).unlink()
    report = inspect_corpus(SEED_V(path=copied, on_error="warn"), read_signals=True)
    assert any("eye features of subject 1 are missing" in r for r in report.remarks)
