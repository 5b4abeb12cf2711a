"""DEAP beyond the pickles: MATLAB files, participant_ratings, original recordings."""

from __future__ import annotations

import shutil
import struct
import sys

import mne
import numpy as np
import pandas as pd
import pytest
from edfio import Bdf, BdfSignal, read_bdf
from moabb.datasets.base import is_abbrev
from moabb.datasets.metadata.schema import validate_metadata_against_dataset
from scipy.io import loadmat, savemat

from braindecode_emossl.datasets import DEAP, deap, deap_original, write_replica
from braindecode_emossl.datasets.deap_original import OriginalRecording
from braindecode_emossl.errors import (
    CorpusFormatError,
    CorpusNotFoundError,
    EmosslError,
)
from braindecode_emossl.paradigms import Emotion

RATINGS = ["valence", "arousal", "dominance", "liking"]
TABLE = "metadata_csv/participant_ratings.csv"
RUNS = [f"{run:02d}" for run in range(40)]
# One for each way in which the codes are written.
SUBJECTS = [1, 2, 23, 24, 28, 29]
# Those who did not say how familiar the videos were.
UNFAMILIAR = {2, 23}


@pytest.fixture(scope="module")
def dat_root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dat")
    return write_replica("DEAP", folder, subjects=[1, 2], seconds=1, seed=5)


@pytest.fixture(scope="module")
def mat_root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mat")
    options = {"seconds": 1, "seed": 5, "variant": "mat"}
    return write_replica("DEAP", folder, subjects=[1, 2], **options)


@pytest.fixture(scope="module")
def bdf_root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bdf")
    options = {"seconds": 1, "seed": 5, "variant": "bdf"}
    return write_replica("DEAP", folder, subjects=SUBJECTS, **options)


@pytest.fixture
def copy(tmp_path):
    """Copy one subject and the table to a folder that a test may change."""

    def copy(root, subject=1):
        (file,) = root.rglob(f"s{subject:02d}.*")
        shutil.copy(file, tmp_path)
        shutil.copy(root / TABLE, tmp_path)
        return tmp_path / file.name, tmp_path / "participant_ratings.csv"

    return copy


def read(root, subject=1, **options):
    return DEAP(subjects=[subject], path=root, **options).get_data()[subject]["0"]


def read_original(root, subject=1, **options):
    (raw,) = read(root, subject, source="original", **options).values()
    return raw


def extras_of(raw):
    return [annotation["extras"] for annotation in raw.annotations]


def table_of(root, subject):
    table = pd.read_csv(root / TABLE)
    return table[table["Participant_id"] == subject]


def expected_of(root, subject):
    """Return the extras of the trials in order of presentation, without length."""
    expected = []
    for row in table_of(root, subject).to_dict("records"):
        levels = ["LH"[row[name] > 5] for name in ("Valence", "Arousal")]
        expected.append(
            {
                "trial": row["Trial"] - 1,
                "stimulus": f"{row['Experiment_id']:02d}",
                "emotion": f"{levels[0]}V{levels[1]}A",
                **{name: row[name.capitalize()] for name in RATINGS},
                "start": row["Start_time"],
            }
        )
        if subject not in UNFAMILIAR:
            expected[-1]["familiarity"] = row["Familiarity"]
    return expected


def check_is_refused(root, match, format_warnings, subject=1, **options):
    """Check the error, and that on_error="warn" leaves the subject out, logging."""
    with pytest.raises(CorpusFormatError, match=match) as error:
        read(root, subject, **options)
    assert 'pass on_error="warn"' in str(error.value)
    lenient = DEAP([subject], path=root, on_error="warn", **options)
    assert lenient.get_data() == {}
    assert "Left out, as on_error='warn'" in format_warnings.text


# -- MATLAB files --------------------------------------------------------------


def test_matlab_files_hold_what_the_pickles_hold(dat_root, mat_root):
    arrays = loadmat(mat_root / "data_preprocessed_matlab" / "s02.mat")
    assert arrays["data"].shape == (40, 40, 4 * 128)
    for subject in (1, 2):
        dat, mat = read(dat_root, subject), read(mat_root, subject)
        assert list(dat) == list(mat) == RUNS
        for run in RUNS:
            assert dat[run].ch_names == mat[run].ch_names
            np.testing.assert_array_equal(dat[run].get_data(), mat[run].get_data())
            assert extras_of(dat[run]) == extras_of(mat[run])


def test_the_pickle_is_taken_where_both_are(tmp_path, dat_root, mat_root):
    for root in (mat_root, dat_root):
        shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    dataset = DEAP(path=tmp_path)
    assert dataset.data_path(1)[0].endswith("s01.dat")
    (tmp_path / "data_preprocessed_python" / "s01.dat").unlink()
    assert dataset.data_path(1)[0].endswith("s01.mat")
    assert dataset.data_path(2)[0].endswith("s02.dat")


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-1000])


def without_labels(file):
    savemat(file, {"data": loadmat(file)["data"]})


def of_39_videos(file):
    arrays = loadmat(file)
    savemat(file, {"data": arrays["data"][:39], "labels": arrays["labels"]})


@pytest.mark.parametrize("damage", [cut_short, without_labels, of_39_videos])
def test_a_broken_matlab_file_is_an_error(damage, copy, mat_root, format_warnings):
    file, _ = copy(mat_root)
    damage(file)
    check_is_refused(file.parent, r"s01\.mat .*'data'.*'labels'", format_warnings)


def test_a_broken_trial_of_a_matlab_file_is_named_by_its_row(
    copy, mat_root, format_warnings
):
    file, _ = copy(mat_root)
    arrays = loadmat(file)
    arrays["data"][11, 3, 7] = np.nan
    savemat(file, {name: arrays[name] for name in ("data", "labels")})
    with pytest.raises(CorpusFormatError, match=r"trial 12 of .*s01\.mat"):
        read(file.parent)
    runs = read(file.parent, on_error="warn")
    assert list(runs) == [run for run in RUNS if run != "11"]
    np.testing.assert_array_equal(
        runs["12"].get_data("eeg"), arrays["data"][12, :32] * 1e-6
    )


# -- participant_ratings -------------------------------------------------------


@pytest.mark.parametrize("subject", [1, 2])
def test_the_table_gives_order_familiarity_and_start(subject, dat_root):
    runs = read(dat_root, subject)
    assert list(runs) == RUNS  # in the order of the file
    found = [extras_of(raw)[0] for raw in runs.values()]
    assert [trial["stimulus"] for trial in found] == [f"{k + 1:02d}" for k in range(40)]
    found.sort(key=lambda trial: trial["trial"])
    expected = expected_of(dat_root, subject)
    assert found == [trial | {"length": 1.0} for trial in expected]
    assert [trial["trial"] for trial in found] == list(range(40))
    assert [trial["stimulus"] for trial in found] != sorted(
        trial["stimulus"] for trial in found
    )


def test_familiarity_that_is_not_known_is_left_out(dat_root):
    first, second = (extras_of(read(dat_root, k)["00"])[0] for k in (1, 2))
    assert 1 <= first["familiarity"] <= 5
    assert "familiarity" not in second
    dataset = DEAP(path=dat_root)
    tables = [dataset.get_additional_metadata(k, "0", "00") for k in (1, 2)]
    assert list(tables[0]) == list(tables[1])
    assert tables[0]["familiarity"].item() == first["familiarity"]
    assert np.isnan(tables[1]["familiarity"].item())


def test_without_the_table_trials_are_in_the_order_of_the_file(copy, dat_root):
    file, table = copy(dat_root)
    table.unlink()
    with_table = DEAP(path=dat_root).get_additional_metadata(1, "0", "03")
    without = DEAP(path=file.parent).get_additional_metadata(1, "0", "03")
    assert list(without) == list(with_table)
    assert without["trial"].item() == 3
    assert without["stimulus"].item() == "04"
    assert without[["familiarity", "start"]].isna().all(axis=None)
    assert "start" not in extras_of(read(file.parent)["03"])[0]


def with_bom(table):
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())


def with_other_columns(table):
    cells = pd.read_csv(table)
    cells = cells.rename(columns={"Trial": "TRIAL", "Familiarity": " familiarity "})
    cells.iloc[:, ::-1].assign(more="?").to_csv(table, index=False)


def in_another_order(table):
    cells = pd.read_csv(table).sample(frac=1, random_state=0)
    cells.to_csv(table.with_name("Participant_Ratings.CSV"), index=False)
    table.unlink()


def with_semicolons(table):
    """It was no table of the release, and no trial was read."""
    pd.read_csv(table).to_csv(table, index=False, sep=";")


def with_decimal_commas(table):
    pd.read_csv(table).to_csv(table, index=False, sep=";", decimal=",")


def as_ods(table):
    pytest.importorskip("odf")
    cells = pd.read_csv(table)
    cells.to_excel(table.with_suffix(".ods"), engine="odf", index=False)
    table.unlink()


def as_xls(table):
    """Write the records of Excel 2.1, as no package at hand writes .xls."""
    pytest.importorskip("xlrd")
    cells = pd.read_csv(table)
    records = [(0x0009, struct.pack("<HH", 2, 0x10))]
    for row, values in enumerate([list(cells), *cells.to_numpy(object).tolist()]):
        for column, value in enumerate(values):
            place = struct.pack("<HH3x", row, column)
            if isinstance(value, str):
                text = bytes([len(value)]) + value.encode()
                records.append((0x0004, place + text))
            elif value == value:  # an empty cell has no record
                records.append((0x0003, place + struct.pack("<d", value)))
    records.append((0x000A, b""))
    table.with_suffix(".xls").write_bytes(
        b"".join(struct.pack("<HH", k, len(body)) + body for k, body in records)
    )
    table.unlink()


@pytest.mark.parametrize(
    "change",
    [
        with_bom,
        with_other_columns,
        in_another_order,
        with_semicolons,
        with_decimal_commas,
        as_ods,
        as_xls,
    ],
)
def test_all_forms_of_the_table_are_read(change, copy, dat_root):
    file, table = copy(dat_root)
    change(table)
    for run in ("00", "39"):
        expected = DEAP(path=dat_root).get_additional_metadata(1, "0", run)
        found = DEAP(path=file.parent).get_additional_metadata(1, "0", run)
        pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("form", ["xls", "ods"])
def test_a_spreadsheet_may_have_a_line_before_the_header(
    form, copy, dat_root, monkeypatch
):
    file, table = copy(dat_root)
    cells = pd.read_csv(table)
    rows = [["DEAP", *[None] * 8], list(cells), *cells.to_numpy(object).tolist()]
    monkeypatch.setattr(pd, "read_excel", lambda *_, **__: pd.DataFrame(rows))
    table.rename(table.with_suffix(f".{form}"))
    expected = DEAP(path=dat_root).get_additional_metadata(1, "0", "07")
    found = DEAP(path=file.parent).get_additional_metadata(1, "0", "07")
    pd.testing.assert_frame_equal(found, expected)


def check_is_numbered_by_experiment_id(
    root, table, format_warnings, *reasons, **options
):
    """Check that all trials are there, and one warning of the table."""
    runs = read(root, **options)
    numbers = [trial["trial"] for raw in runs.values() for trial in extras_of(raw)]
    assert numbers == list(range(40))
    (message,) = format_warnings.messages
    for words in (str(table), "numbered by the Experiment_id", *reasons):
        assert words in message


@pytest.mark.parametrize("on_error", ["raise", "warn"])
@pytest.mark.parametrize(("form", "module"), [("xls", "xlrd"), ("ods", "odf")])
def test_a_missing_package_is_a_warning_that_names_the_extra(
    form, module, on_error, copy, dat_root, monkeypatch, format_warnings
):
    """It stopped all of DEAP, whose own files say all but the order."""
    monkeypatch.setitem(sys.modules, module, None)
    file, table = copy(dat_root)
    table = table.rename(table.with_suffix(f".{form}"))
    check_is_numbered_by_experiment_id(
        file.parent, table, format_warnings, "emossl[spreadsheets]", on_error=on_error
    )


@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_a_missing_package_is_an_error_for_an_original(
    on_error, copy, bdf_root, monkeypatch
):
    """Without the table nothing is known of the trials."""
    monkeypatch.setitem(sys.modules, "xlrd", None)
    file, table = copy(bdf_root)
    table = table.rename(table.with_suffix(".xls"))
    with pytest.raises(ImportError, match=r"emossl\[spreadsheets\]") as error:
        read_original(file.parent, on_error=on_error)
    assert isinstance(error.value, EmosslError)
    assert str(table) in str(error.value)


def test_csv_is_preferred(copy, dat_root):
    file, table = copy(dat_root)
    for suffix in (".xls", ".ods"):
        table.with_suffix(suffix).write_bytes(b"no table")
    assert "start" in extras_of(read(file.parent)["00"])[0]


def other_rating(cells):
    cells.loc[cells["Experiment_id"] == 12, "Arousal"] += 0.02


def no_rating(cells):
    cells.loc[cells["Experiment_id"] == 12, "Liking"] = np.nan


@pytest.mark.parametrize("damage", [other_rating, no_rating])
def test_ratings_must_be_the_same_in_table_and_file(
    damage, copy, dat_root, format_warnings
):
    file, table = copy(dat_root)
    cells = pd.read_csv(table)
    damage(cells)
    cells.to_csv(table, index=False)
    match = rf"subject 1 .* Experiment_id 12 must be the same in {file}"
    with pytest.raises(CorpusFormatError, match=match):
        read(file.parent)
    with pytest.raises(CorpusFormatError, match=match):
        DEAP(path=file.parent).get_additional_metadata(1, "0", "00")
    runs = read(file.parent, on_error="warn")
    assert list(runs) == [run for run in RUNS if run != "11"]
    assert "Experiment_id 12" in format_warnings.text


def test_ratings_that_were_rounded_are_the_same(copy, dat_root):
    """The trial keeps the rating of the recording's own file."""
    file, table = copy(dat_root)
    cells = pd.read_csv(table)
    cells["Valence"] = (cells["Valence"] - 0.01).clip(lower=1)
    cells.to_csv(table, index=False)
    runs, expected = read(file.parent), read(dat_root)
    assert [extras_of(runs[run]) for run in RUNS] == [
        extras_of(expected[run]) for run in RUNS
    ]


def one_row_less(cells):
    return cells.drop(index=cells.index[cells["Experiment_id"] == 12])


def one_video_twice(cells):
    return cells.replace({"Experiment_id": {12: 13}})


def trial_without_number(cells):
    return cells.replace({"Trial": {40: np.nan}})


def another_subject(cells):
    return cells.replace({"Participant_id": {1: 3}})


@pytest.mark.parametrize(
    "damage", [one_row_less, one_video_twice, trial_without_number, another_subject]
)
def test_a_table_without_each_video_once_is_a_warning(
    damage, copy, dat_root, format_warnings
):
    """A table of other subjects stopped the loading of sound recordings."""
    file, table = copy(dat_root)
    damage(pd.read_csv(table)).to_csv(table, index=False)
    check_is_numbered_by_experiment_id(
        file.parent,
        table,
        format_warnings,
        "rows of subject 1 must have",
        "Fetch the file",
    )


@pytest.mark.parametrize("damage", [one_row_less, another_subject])
def test_a_table_without_each_video_once_is_an_error_for_an_original(
    damage, copy, bdf_root
):
    file, table = copy(bdf_root)
    damage(pd.read_csv(table)).to_csv(table, index=False)
    with pytest.raises(CorpusFormatError, match="rows of subject 1 must have") as error:
        read_original(file.parent)
    assert str(table) in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"Trial,Liking\n1,2\n", b"\xff\xfe\x00\x01", b'a,b\n"1,2,3\n4,5']
)
def test_a_table_that_is_none_is_a_warning(
    content, copy, dat_root, bdf_root, format_warnings
):
    """It stopped the loading of sound recordings, but for an original it must."""
    file, table = copy(dat_root)
    table.write_bytes(content)
    check_is_numbered_by_experiment_id(
        file.parent,
        table,
        format_warnings,
        "is not a table of the release",
        "Fetch the file",
    )
    file, table = copy(bdf_root)
    table.write_bytes(content)
    with pytest.raises(
        CorpusFormatError, match="is not a table of the release"
    ) as error:
        read_original(file.parent)
    assert str(table) in str(error.value)


def test_a_broken_spreadsheet_is_a_warning(copy, dat_root, format_warnings):
    pytest.importorskip("xlrd")
    file, table = copy(dat_root)
    table.unlink()
    table = table.with_suffix(".xls")
    table.write_bytes(b"<html>Please log in</html>")
    check_is_numbered_by_experiment_id(
        file.parent, table, format_warnings, "is not a table"
    )


# -- original recordings: trials -----------------------------------------------


@pytest.mark.parametrize("subject", SUBJECTS)
def test_original_trials_are_found_whatever_the_status(
    subject, bdf_root, format_warnings
):
    raw = read_original(bdf_root, subject)
    assert not format_warnings.messages
    assert raw.info["sfreq"] == 512
    expected = expected_of(bdf_root, subject)
    assert extras_of(raw) == [trial | {"length": 1.0} for trial in expected]
    onsets = raw.annotations.onset
    np.testing.assert_array_equal(onsets, 5.0 + 3.0 * np.arange(40))
    np.testing.assert_array_equal(raw.annotations.duration, np.ones(40))
    assert list(raw.annotations.description) == [row["emotion"] for row in expected]


def test_status_is_written_as_in_the_release(bdf_root):
    """What is found above is hidden in the ways that are known of the files."""
    files = {
        k: read_bdf(bdf_root / "data_original" / f"s{k:02d}.bdf") for k in SUBJECTS
    }
    labels = {k: [signal.label for signal in files[k].signals] for k in SUBJECTS}
    status = {k: files[k].signals[-1].digital for k in SUBJECTS}
    assert [len(labels[k]) for k in SUBJECTS] == [48, 48, 48, 48, 48, 49]
    assert [labels[k][-1] for k in SUBJECTS] == ["Status"] * 3 + [""] * 3
    assert labels[29].count("") == 2
    assert labels[1][:6] == ["Fp1", "AF3", "F7", "F3", "FC1", "FC5"]  # Twente
    assert labels[23][:6] == ["Fp1", "AF3", "F3", "F7", "FC5", "FC1"]  # Geneva
    assert set(status[1]) == set(status[23]) == {0, 1, 2, 3, 4, 5, 7}
    assert min(status[24]) == 0x18FF01
    assert status[24][0] == status[29][0] == 0x19FF00
    assert {0x18FF04, 0x58FF04} < set(status[28])
    starts = np.flatnonzero(np.diff(status[28] == 0x18FF04, prepend=False))[::2]
    assert len(starts) == 37
    before = status[23][: np.flatnonzero(status[23] == 4)[0]]
    assert [code for code in before[np.diff(before, prepend=0) != 0]] == [1, 2, 3, 5, 3]


def test_original_metadata_need_no_signals(bdf_root, monkeypatch):
    expected = DEAP([1], path=bdf_root, source="original")
    (raw,) = expected.get_data()[1]["0"].values()

    def refuse(*args, **kwargs):
        raise AssertionError("signals were read")

    monkeypatch.setattr(OriginalRecording, "read_signals", refuse)
    dataset = DEAP(path=bdf_root, source="original")
    table = dataset.get_additional_metadata(1, "0", "00")
    keys = {"subject": 1, "session": "0", "run": "00"}
    assert table.to_dict("records") == [keys | trial for trial in extras_of(raw)]


def test_original_and_preprocessed_agree_on_the_trials(bdf_root, dat_root):
    """Same seed, same labels in every variant."""
    original = DEAP(path=bdf_root, source="original")
    for subject in (1, 2):
        table = original.get_additional_metadata(subject, "0", "00")
        table = table.sort_values("stimulus").drop(columns="run")
        rows = [
            DEAP(path=dat_root).get_additional_metadata(subject, "0", run)
            for run in ("00", "17", "39")
        ]
        found = pd.concat(rows).drop(columns="run").reset_index(drop=True)
        expected = table.iloc[[0, 17, 39]].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected)


# -- original recordings: signals ----------------------------------------------


def channels_of(file):
    """Return (label, digital values, unit, physical range) of all channels."""
    return [
        (s.label, s.digital.copy(), s.physical_dimension, tuple(s.physical_range))
        for s in read_bdf(file).signals
    ]


def write_bdf(file, channels, sfreq=512.0):
    signals = [
        BdfSignal.from_digital(
            digital.astype(np.int32),
            sfreq,
            label=label,
            physical_dimension=unit,
            physical_range=limits,
            digital_range=(-(2**23), 2**23 - 1),
        )
        for label, digital, unit, limits in channels
    ]
    Bdf(signals, data_record_duration=1).write(file)


def values_of(file):
    """Return the physical values of the channels by label."""
    return {signal.label: signal.data for signal in read_bdf(file).signals}


@pytest.mark.parametrize("subject", [1, 23, 29])
def test_original_channels_are_picked_by_name(subject, bdf_root, tmp_path):
    """Each channel gets a tone of its own; those of no use, and codes, the rest."""
    shutil.copytree(bdf_root, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "data_original" / f"s{subject:02d}.bdf"
    *channels, status = channels_of(file)
    hertz = {name: 2.0 * (k + 1) for k, name in enumerate(sorted(deap.EEG_NAMES))}
    hertz |= {f"EXG{k}": 80.0 + 2 * (k + k % 2) for k in range(1, 9)}  # pairs alike
    time = np.arange(len(status[1])) / 512
    tones = []
    for label, digital, *header in channels:
        tone = np.sin(2 * np.pi * hertz.get(label, 0.0) * time)
        sign = -1 if label in ("EXG2", "EXG4", "EXG6", "EXG8") else 1
        tones.append((label, digital * 0 + np.round(sign * 32000 * tone), *header))
    write_bdf(file, [*tones, status])
    raw = read_original(tmp_path, subject)
    assert raw.ch_names == list(deap.CH_NAMES)
    assert raw.get_channel_types() == list(deap.CH_TYPES)
    frequencies = np.fft.rfftfreq(raw.n_times, 1 / 512)
    power = np.abs(np.fft.rfft(raw.get_data())) ** 2
    power[:, 0] = 0
    expected = [hertz[name] for name in deap.EEG_NAMES] + [84.0, 88.0, 92.0, 96.0]
    np.testing.assert_allclose(frequencies[power[:36].argmax(axis=1)], expected)
    # 32000 steps of 1/32 microvolt; a difference of opposite tones is twice as large.
    amplitude = np.abs(raw.get_data()[:36]).max(axis=1)
    np.testing.assert_allclose(amplitude, [1e-3] * 32 + [2e-3] * 4, rtol=0.01)
    places = {c["ch_name"]: c["loc"][:3] for c in raw.info["chs"]}
    assert places["F7"][0] < 0 < places["F8"][0]


@pytest.mark.parametrize("subject", [2, 24])
def test_original_values_have_the_documented_units(subject, bdf_root):
    values = values_of(bdf_root / "data_original" / f"s{subject:02d}.bdf")
    raw = read_original(bdf_root, subject)

    def check(name, expected):
        np.testing.assert_allclose(raw.get_data(name)[0], expected, rtol=1e-9)

    for name in deap.EEG_NAMES:
        check(name, 1e-6 * values[name])
    for k, name in enumerate(("hEOG", "vEOG", "zEMG", "tEMG")):
        difference = values[f"EXG{2 * k + 1}"] - values[f"EXG{2 * k + 2}"]
        np.testing.assert_allclose(
            raw.get_data(name)[0], 1e-6 * difference, rtol=0, atol=1e-15
        )
    check("Resp", 1e-6 * values["Resp"])
    check("Plet", 1e-6 * values["Plet"])
    check("Temp", values["Temp"])
    gsr = values["GSR1"]  # nanosiemens in Twente, ohm in Geneva
    check("GSR", 1e9 / gsr if subject == 2 else gsr)
    assert 5e4 < np.median(raw.get_data("GSR")) < 8e5
    assert "Status" not in raw.ch_names


@pytest.mark.parametrize(
    ("unit", "factor"), [("", 1e-6), ("uV", 1e-6), ("mV", 1e-3), ("\x83\xcaV", 1e-6)]
)
def test_what_mne_makes_of_a_unit_is_known(unit, factor, copy, bdf_root):
    """MNE scales what is in uV and mV alone, and takes all else for volts.

    Microvolts in Shift JIS were scaled twice.
    """
    file, _ = copy(bdf_root)
    values = values_of(file)
    *channels, status = channels_of(file)
    written = unit if unit.isascii() else "unit"
    channels = [
        (label, digital, written, limits) for label, digital, _, limits in channels
    ]
    write_bdf(file, [*channels, status])
    if written != unit:
        data = file.read_bytes()
        unit_field = unit.encode("latin-1").ljust(8)
        file.write_bytes(data.replace(written.encode().ljust(8), unit_field))
    raw = read_original(file.parent)
    for name in ("Oz", "Resp"):
        np.testing.assert_allclose(raw.get_data(name)[0], factor * values[name])
    np.testing.assert_allclose(raw.get_data("Temp")[0], values["Temp"])
    np.testing.assert_allclose(raw.get_data("GSR")[0], 1e9 / values["GSR1"])


def test_conductance_without_contact_is_logged(copy, bdf_root, format_warnings):
    file, _ = copy(bdf_root)
    channels = channels_of(file)
    (gsr,) = (digital for label, digital, *_ in channels if label == "GSR1")
    gsr[:100] = 0
    write_bdf(file, channels)
    raw = read_original(file.parent)
    assert (raw.get_data("GSR")[0, :100] == 1e9).all()
    assert "100 samples of the skin conductance" in format_warnings.text
    assert str(file) in format_warnings.text


def test_blocks_are_joined_without_a_seam(bdf_root, monkeypatch):
    expected = read_original(bdf_root, 23).get_data()
    monkeypatch.setattr(deap_original, "_SECONDS_AT_ONCE", 7.3)
    np.testing.assert_array_equal(read_original(bdf_root, 23).get_data(), expected)


@pytest.mark.parametrize(
    ("next_code", "n_seconds", "length"),
    [
        (None, 70, 60.0),  # as in the release, whatever comes after
        (61.5, 70, 60.0),
        (60.0, 70, 60.0),
        (12.5, 70, 12.5),
        (None, 31, 30.0),  # the recording ends
        (0.5, 70, 60.0),  # too soon for an end: a flicker of the parallel port
    ],
)
def test_a_trial_lasts_a_minute_or_to_the_next_code(
    next_code, n_seconds, length, bdf_root, tmp_path
):
    channels = channels_of(bdf_root / "data_original" / "s23.bdf")
    status = np.zeros(n_seconds * 512)
    if next_code is None:
        status[512:] = 4
    else:
        stop = 512 + round(next_code * 512)
        status[512:stop] = 4
        status[stop : stop + 8] = 5
    channels = [(c[0], np.resize(c[1], len(status)), *c[2:]) for c in channels]
    channels[-1] = (channels[-1][0], status, *channels[-1][2:])
    write_bdf(tmp_path / "s23.bdf", channels)
    recording = OriginalRecording(tmp_path / "s23.bdf", deap.EEG_NAMES, 1)
    assert recording.videos == [(1.0, length)]


# -- original recordings: what is broken ---------------------------------------


def one_start_less(file):
    channels = channels_of(file)
    status = channels[-1][1]
    starts = np.flatnonzero((status[1:] == 4) & (status[:-1] != 4)) + 1
    status[starts[20] : starts[20] + 8] = 0
    write_bdf(file, channels)


def one_start_more(file):
    channels = channels_of(file)
    channels[-1][1][:8] = 0
    channels[-1][1][20] = 4
    write_bdf(file, channels)


def other_rate(file):
    channels = [
        (c[0], c[1][: 256 * (len(c[1]) // 512)], *c[2:]) for c in channels_of(file)
    ]
    write_bdf(file, channels, sfreq=256.0)


def without_a_channel(file):
    write_bdf(file, [c for c in channels_of(file) if c[0] not in ("Oz", "EXG4")])


def cut_in_a_record(file):
    file.write_bytes(file.read_bytes()[:-100_000])


def cut_in_the_header(file):
    file.write_bytes(file.read_bytes()[:300])


def empty(file):
    file.write_bytes(b"")


def zip_remains(file):
    file.write_bytes(b"PK\x03\x04" + bytes(10_000))


DAMAGES = {
    one_start_less: r"must have 40 starts of a video \(code 4 .*\), but has 39",
    one_start_more: r"must have 40 starts of a video .* but has 41",
    other_rate: "must be sampled at 512 Hz, but is at 256 Hz",
    without_a_channel: r"has no channels EXG4",
    cut_in_a_record: "is cut short",
    cut_in_the_header: "is not a BDF file of DEAP",
    empty: "is not a BDF file of DEAP",
    zip_remains: "the header starts differently",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_original_is_an_error(damage, copy, bdf_root, format_warnings):
    file, _ = copy(bdf_root)
    damage(file)
    match = DAMAGES[damage]
    check_is_refused(file.parent, match, format_warnings, source="original")
    assert str(file) in format_warnings.text
    with pytest.raises(CorpusFormatError, match=DAMAGES[damage]):
        DEAP(path=file.parent, source="original").get_additional_metadata(1, "0", "00")


def test_an_original_without_ratings_is_an_error(copy, bdf_root, format_warnings):
    file, table = copy(bdf_root)
    table.unlink()
    match = "only in participant_ratings .* none below .* can be read"
    check_is_refused(file.parent, match, format_warnings, source="original")


def test_a_trial_with_a_wrong_rating_is_left_out_of_the_original(
    copy, bdf_root, format_warnings
):
    file, table = copy(bdf_root)
    cells = pd.read_csv(table)
    cells.loc[(cells["Participant_id"] == 1) & (cells["Trial"] == 5), "Liking"] = 0.0
    cells.to_csv(table, index=False)
    video = cells["Experiment_id"][4]
    match = f"subject 1 for the video with Experiment_id {video} .* between 1 and 9"
    with pytest.raises(CorpusFormatError, match=match):
        read_original(file.parent)
    raw = read_original(file.parent, on_error="warn")
    numbers = [trial["trial"] for trial in extras_of(raw)]
    assert numbers == [k for k in range(40) if k != 4]
    assert f"Experiment_id {video}" in format_warnings.text


def test_an_original_may_say_how_long_it_is_by_its_size(copy, bdf_root):
    """A recording that was not stopped properly has -1 records."""
    file, _ = copy(bdf_root)
    content = bytearray(file.read_bytes())
    content[236:244] = b"-1      "
    file.write_bytes(content)
    assert len(extras_of(read_original(file.parent))) == 40


def test_an_original_in_two_folders_is_an_error(copy, bdf_root, tmp_path):
    file, _ = copy(bdf_root)
    (tmp_path / "again").mkdir()
    shutil.copy(file, tmp_path / "again")
    with pytest.raises(CorpusFormatError, match=r"DEAP-original: .*more than once"):
        read_original(tmp_path)


# -- the sources in MOABB ------------------------------------------------------


def test_sources_have_codes_of_their_own_and_one_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    for source, code in (("preprocessed", "DEAP"), ("original", "DEAP-original")):
        dataset = DEAP(source=source)
        assert dataset.code == code
        assert is_abbrev("DEAP", code)
        assert dataset._named_root() == tmp_path / "MNE-DEAP-data"
    assert DEAP().code == "DEAP"
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    monkeypatch.setenv("MNE_DATASETS_DEAP_PATH", str(corpus))
    assert DEAP(source="original").find_root() == corpus
    with pytest.raises(CorpusNotFoundError, match=r"data_original/s01\.bdf"):
        DEAP(source="original").data_path(1)
    with pytest.raises(CorpusNotFoundError, match=r"s01\.dat"):
        DEAP().data_path(1)


def test_a_wrong_source_is_refused():
    with pytest.raises(ValueError, match=r"source must be .* got 'raw'"):
        DEAP(source="raw")


def test_metadata_of_the_original_agree_with_the_files(bdf_root):
    dataset = DEAP([1], path=bdf_root, source="original")
    assert validate_metadata_against_dataset(dataset, dataset.METADATA) == []
    raw = read_original(bdf_root)
    assert dataset.METADATA.acquisition.sampling_rate == raw.info["sfreq"]
    assert dataset.METADATA.acquisition.sensors == raw.ch_names
    assert dataset.METADATA.runs_per_session == 1
    assert DEAP.METADATA.acquisition.sampling_rate == 128


def test_windows_of_the_original_with_a_baseline(bdf_root):
    as_is = {"fmin": None, "fmax": None, "resample": None}
    dataset = DEAP([1], path=bdf_root, source="original")
    paradigm = Emotion(target="valence", window=0.5, baseline=(-1, 0), **as_is)
    X, y, metadata = paradigm.get_data(dataset)
    assert X.shape == (80, 32, 256)
    assert (metadata["corpus"] == "DEAP-original").all()
    assert metadata["trial"].tolist() == np.repeat(range(40), 2).tolist()
    high = metadata["valence"] > 5
    assert (y == np.where(high, "positive", "negative")).all()
    raw = read_original(bdf_root)
    signals = raw.get_data("eeg") * 1e6
    for k, onset in enumerate(raw.annotations.onset):
        first = round(onset * 512)
        expected = signals[:, first : first + 512] - signals[
            :, first - 512 : first
        ].mean(axis=1, keepdims=True)
        found = np.hstack(X[2 * k : 2 * k + 2])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_moabb_picks_the_modalities_of_the_original(bdf_root):
    dataset = DEAP([1], path=bdf_root, source="original", return_all_modalities=True)
    X, _, _ = Emotion(window=1.0).get_data(dataset)
    assert X.shape == (40, 40, 200)


def test_the_disk_cache_keeps_the_sources_apart(bdf_root, dat_root, tmp_path):
    shutil.copytree(bdf_root, tmp_path / "deap")
    shutil.copytree(dat_root / "data_preprocessed_python", tmp_path / "deap" / "dat")
    config = {"save_raw": True, "use": True, "path": tmp_path}
    for source, sfreq, n_runs in (("original", 512, 1), ("preprocessed", 128, 40)):
        dataset = DEAP([1], path=tmp_path / "deap", source=source)
        for _ in range(2):  # the second time from the cache
            runs = dataset.get_data(cache_config=config)[1]["0"]
            assert {raw.info["sfreq"] for raw in runs.values()} == {sfreq}
            assert len(runs) == n_runs
    assert sum(len(raw.annotations) for raw in runs.values()) == 40


# -- the replica ---------------------------------------------------------------


def test_the_replica_has_the_table_in_every_variant(dat_root, mat_root, bdf_root):
    header = (
        "Participant_id,Trial,Experiment_id,Start_time,Valence,Arousal,Dominance,"
        "Liking,Familiarity"
    )
    lines = [(root / TABLE).read_text().splitlines() for root in (dat_root, mat_root)]
    assert lines[0] == lines[1]
    assert lines[0][0] == header
    assert lines[0] == (bdf_root / TABLE).read_text().splitlines()[:81]
    table = pd.read_csv(bdf_root / TABLE)
    for _, rows in table.groupby("Participant_id"):
        assert rows["Trial"].tolist() == list(range(1, 41))
        assert sorted(rows["Experiment_id"]) == list(range(1, 41))
        assert rows["Experiment_id"].tolist() != rows["Trial"].tolist()
    unknown = table[table["Familiarity"].isna()]
    assert set(unknown["Participant_id"]) == UNFAMILIAR
    assert len(unknown) == 80
    orders = table.groupby("Participant_id")["Experiment_id"].apply(tuple)
    assert orders.nunique() == len(SUBJECTS)


def test_an_original_has_the_same_bytes_in_any_company(bdf_root, tmp_path):
    options = {"seconds": 1, "seed": 5, "variant": "bdf"}
    write_replica("DEAP", tmp_path, subjects=[23], **options)
    a, b = (root / "data_original" / "s23.bdf" for root in (bdf_root, tmp_path))
    assert a.read_bytes() == b.read_bytes()


def test_original_signals_know_of_the_ratings(bdf_root):
    """The zygomaticus, the muscle of the smile, follows the valence."""
    for subject in SUBJECTS:
        raw = read_original(bdf_root, subject)
        smile = [
            raw.get_data("zEMG", tmin=a["onset"], tmax=a["onset"] + 1).std()
            for a in raw.annotations
        ]
        valence = [trial["valence"] for trial in extras_of(raw)]
        assert np.corrcoef(smile, valence)[0, 1] > 0.5


def test_mne_reads_the_replica_by_itself(bdf_root):
    file = bdf_root / "data_original" / "s24.bdf"
    raw = mne.io.read_raw_bdf(file, stim_channel=[-1], verbose="ERROR")
    events = mne.find_events(
        raw, "", mask=0xFF, mask_type="and", initial_event=False, shortest_event=1
    )
    assert (events[:, 2] == 4).sum() == 40
