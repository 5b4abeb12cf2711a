"""The benchmark on PhysioNet's EEGMAT, on small files of the same format."""

from __future__ import annotations

import importlib
import re

import edfio
import numpy as np
import pytest

from braindecode_emossl.paradigms import Emotion

SECONDS = {1: 66, 2: 24}  # at rest and in arithmetic


@pytest.fixture(scope="module")
def bench():
    return importlib.import_module("bench_real_eeg")


@pytest.fixture
def folder(tmp_path, bench):
    """Subjects 0, 1 and 7, whose noise is stronger in arithmetic at some channels."""
    for subject in (0, 1, 7):
        for condition, seconds in SECONDS.items():
            write(tmp_path, bench, subject, condition, seconds)
    return tmp_path


def write(folder, bench, subject, condition, seconds, *, sfreq=500, drop=()):
    """Write a recording as PhysioNet does, its last second constant."""
    rng = np.random.default_rng([subject, condition])
    names = [*bench.CH_NAMES, "A2-A1"]
    data = 10 * rng.normal(size=(len(names), seconds * sfreq))
    data[:4] *= condition  # of the 19, so that the average reference keeps it
    data[:, -sfreq:] = data[:, [-sfreq - 1]]
    signals = [
        edfio.EdfSignal(x, sfreq, label=f"EEG {name}", physical_dimension="uV")
        for name, x in zip(names, data, strict=True)
        if name not in drop
    ]
    file = folder / f"Subject{subject:02d}_{condition}.edf"
    edfio.Edf(signals).write(file)
    return file


def refuse(bench, capsys, *arguments) -> str:
    """Return the message of a run that stops with exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        bench.main([*map(str, arguments)])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("Error: ")
    return lines[-1]


# -- the data set --------------------------------------------------------------


def test_blocks_are_the_trials(bench, folder):
    dataset = bench.EEGMAT([7], path=folder)
    trials = dataset.trial_table(7)
    # 65 s and 23 s are left without the constant second: whole blocks of 20 s, of which
    # the last one takes the remainder.
    assert trials["trial"].tolist() == [0, 1, 2, 3]
    assert trials["emotion"].tolist() == ["rest"] * 3 + ["arithmetic"]
    assert trials["length"].tolist() == [20, 20, 25, 23]
    # No two subjects share a stimulus, which would give the labels away.
    other = bench.EEGMAT([1], path=folder).trial_table(1)
    assert not set(trials["stimulus"]) & set(other["stimulus"])


def test_signals_are_in_volts_and_average_reference(bench, folder):
    runs = bench.EEGMAT([0], path=folder).get_data()[0]["0"]
    assert list(runs) == ["0", "1"]
    assert runs["0"].ch_names == bench.CH_NAMES
    (rest, arithmetic) = (raw.get_data() for raw in runs.values())
    np.testing.assert_allclose(rest.mean(axis=0), 0, atol=1e-12)
    # White noise of 10 uV, 20 uV in four of 19 channels, less the mean of all.
    power = 1e-10 * np.where(np.arange(19) < 4, 4, 1)
    expected = power * (1 - 2 / 19) + power.sum() / 19**2
    np.testing.assert_allclose(arithmetic.var(axis=1), expected, rtol=0.05)


def test_windows_cover_the_recordings(bench, folder):
    dataset = bench.EEGMAT([0, 1, 7], path=folder)
    _, y, metadata = Emotion().get_data(dataset)
    # 16 windows of 4 s in 65 s, 5 in 23 s.
    assert (y == "rest").sum() == 3 * 16
    assert (y == "arithmetic").sum() == 3 * 5
    assert metadata.groupby(["subject", "trial"]).ngroups == 12


def test_a_short_recording_is_one_block(bench, tmp_path):
    write(tmp_path, bench, 0, 1, 12)
    write(tmp_path, bench, 0, 2, 12)
    trials = bench.EEGMAT([0], path=tmp_path).trial_table(0)
    assert trials["emotion"].tolist() == ["rest", "arithmetic"]
    assert trials["length"].tolist() == [11, 11]


# -- the script ----------------------------------------------------------------


def test_main_prints_the_tables(bench, folder, capsys):
    bench.main([str(folder), "--n-labeled", "1", "all"])
    output = capsys.readouterr().out
    assert "3 subjects [0, 1, 7]" in output
    assert "63 windows of 4 s" in output
    assert "rest: 195 s in 9 blocks" in output
    assert "arithmetic: 69 s in 3 blocks" in output
    assert "trials are blocks of 20 s or more" in output
    rows = re.findall(
        r"\| (DE \+ logistic regression|most frequent) +\| (1|all) +\| ([\d.]+) ±",
        output,
    )
    # Twice the power in four channels is easily read.
    assert [(n, float(score)) for _, n, score in rows] == [
        ("1", 1.0),
        ("all", 1.0),
        ("1", 0.5),
        ("all", 0.5),
    ]


def test_groups_of_subjects_are_left_out(bench, folder, capsys):
    bench.main([str(folder), "--folds", "2"])
    assert "3 subjects [0, 1, 7], left out: 2 groups" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bench.main([str(folder), "--folds", "x"])
    assert "must be at least 2, but got x" in capsys.readouterr().err


@pytest.mark.slow
def test_self_supervised_pipelines_are_compared(bench, folder, capsys):
    steps = ["--pretrain-steps", "2", "--finetune-steps", "2"]
    bench.main([str(folder), "--pipelines", "SCMM", "--n-labeled", "1", *steps])
    output = " ".join(capsys.readouterr().out.split())
    assert "updates of pre-training 2, of fine-tuning 2" in output
    for other in ("SCMM, random weights", bench.DE_BASELINE, bench.REGULARIZED):
        assert re.search(rf"\| SCMM \| {re.escape(other)} \| 1 \| [+-]", output)


def test_bad_input_is_one_sentence(bench, folder, tmp_path, capsys):
    assert "no folder" in refuse(bench, capsys, tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    assert "has no files such as" in refuse(bench, capsys, tmp_path / "empty")
    (folder / "Subject01_2.edf").unlink()
    assert "lacks Subject01_2.edf" in refuse(bench, capsys, folder)
    message = refuse(bench, capsys, folder, "--subjects", 0, 8)
    assert "lacks Subject08_1.edf" in message
    message = refuse(bench, capsys, folder, "--subjects", 0, 7, "--pipelines", "X")
    assert "['X']" in message
    message = refuse(
        bench, capsys, folder, "--subjects", 0, 7, "--pipelines", "MEMHACL"
    )
    assert "same stimuli" in message


def test_a_truncated_file_is_refused(bench, folder, capsys):
    """MNE reads the first half of a truncated file without a word."""
    file = folder / "Subject07_1.edf"
    file.write_bytes(file.read_bytes()[:-1000])
    assert f"{file} cannot be read" in refuse(bench, capsys, folder)


def test_other_files_are_refused(bench, folder, capsys):
    (folder / "copy").mkdir()
    copy = folder / "copy" / "Subject00_1.edf"
    copy.write_bytes((folder / copy.name).read_bytes())
    assert "have the same name" in refuse(bench, capsys, folder)
    copy.unlink()
    write(folder, bench, 1, 1, 24, drop=["Pz"])
    assert "lacks ['Pz']" in refuse(bench, capsys, folder)
    write(folder, bench, 1, 1, 24, sfreq=250)
    assert "500 Hz in uV" in refuse(bench, capsys, folder)
