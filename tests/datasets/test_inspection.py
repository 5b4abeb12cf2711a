"""inspect_corpus, and the commands that show what it found."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from braindecode_emossl.cli import app
from braindecode_emossl.datasets import SEED
from braindecode_emossl.datasets.inspection import Inspection, inspect_corpus


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def broken_root(seed_root, tmp_path):
    """SEED with one recording cut short, one file missing and a foreign file."""
    shutil.copytree(seed_root, tmp_path / "corpus")
    folder = next((tmp_path / "corpus").rglob("Preprocessed_EEG"))
    file = folder / "1_20131030.mat"
    file.write_bytes(file.read_bytes()[:20_000])
    (folder / "2_20140413.mat").unlink()
    (folder / ".DS_Store").touch()
    return tmp_path / "corpus"


@pytest.mark.parametrize("read_signals", [False, True])
def test_a_sound_part_is_incomplete(seed_root, read_signals):
    seen = []
    found = inspect_corpus(
        SEED(path=seed_root, on_error="warn"),
        read_signals=read_signals,
        on_subject=seen.append,
    )
    assert (found.n_subjects, found.n_sessions, found.n_trials) == (3, 9, 135)
    assert found.expected_trials == 675 and found.verdict == "incomplete"
    assert found.missing_subjects == [3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15]
    assert not found.problems and not found.missing_sessions
    assert seen == list(range(1, 16))


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({}, "not found"),
        ({"n_subjects": 1, "n_trials": 39}, "incomplete"),
        ({"n_subjects": 1, "n_trials": 40}, "complete"),
        ({"n_subjects": 1, "n_trials": 40, "problems": ["a bad file"]}, "broken"),
        ({"problems": ["a bad file"]}, "broken"),
    ],
)
def test_verdict(found, verdict):
    inspection = Inspection("DEAP", "/", "url", expected_trials=40, **found)
    assert inspection.verdict == verdict


def test_what_is_broken_and_what_is_missing_is_told_apart(broken_root, caplog):
    found = inspect_corpus(SEED(path=broken_root, on_error="warn"), read_signals=True)
    assert found.verdict == "broken"
    assert all("1_20131030.mat" in problem for problem in found.problems)
    (missing,) = found.missing_sessions
    assert "['1'] of subject 2" in missing
    assert found.n_sessions == 8 and 105 <= found.n_trials < 120
    assert not caplog.records  # nothing is shown twice


def test_no_corpus_is_not_found(tmp_path):
    found = inspect_corpus(SEED(path=tmp_path / "no"), read_signals=True)
    assert (found.verdict, found.root) == ("not found", None)


def test_check_ends_in_a_verdict_and_an_exit_code(run, seed_root, broken_root):
    sound = run("check", "SEED", seed_root)
    assert sound.exit_code == 0 and "Verdict: incomplete." in sound.stdout
    broken = run("check", "SEED", broken_root)
    assert broken.exit_code == 1 and "Verdict: broken." in broken.stdout
    assert "1_20131030.mat" in broken.stdout
    nothing = run("check", "SEED", seed_root / "nothing")
    assert nothing.exit_code == 2 and "Verdict: not found." in nothing.stdout
    assert str(seed_root / "nothing") in nothing.stderr.replace("\n", "")


def test_check_gives_json_alone_to_a_script(run, broken_root):
    result = run("check", "SEED", broken_root, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["verdict"] == "broken" and found["n_subjects"] == 3


def test_check_of_an_unknown_corpus(run, tmp_path):
    result = run("check", "SEEED", tmp_path)
    assert result.exit_code == 2 and "'SEEED'" in result.stderr


def test_datasets_says_what_is_where(run, seed_root, monkeypatch, tmp_path):
    monkeypatch.setenv("MNE_DATASETS_SEED_PATH", str(seed_root))
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    result = run("datasets", "--json")
    found = {row["corpus"]: row for row in json.loads(result.stdout)}
    assert found["SEED"]["n_trials"] == 135
    assert found["DEAP"]["verdict"] == "not found"
    table = run("datasets").stdout
    assert "3 of 15" in table and "ask for it at" in table


def test_replica_can_be_checked(run, tmp_path):
    written = run("replica", "DEAP", tmp_path, "--subjects", 1, "--seconds", 1)
    assert written.exit_code == 0, written.output
    assert run("check", "DEAP", tmp_path).exit_code == 0
