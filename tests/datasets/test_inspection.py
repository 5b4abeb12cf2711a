"""inspect_corpus, and the commands that show what it found."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from typer.testing import CliRunner

from braindecode_emossl.cli import app
from braindecode_emossl.datasets import (
    DEAP,
    MAHNOB_HCI,
    SEED,
    SEED_IV,
    write_replica,
)
from braindecode_emossl.datasets.inspection import Inspection, inspect_corpus
from braindecode_emossl.errors import CorpusNotFoundError


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
        ({"n_subjects": 1, "n_trials": 40, "remarks": ["a zip"]}, "complete"),
        ({"n_subjects": 1, "n_trials": 40, "missing_trials": ["1"]}, "incomplete"),
    ],
)
def test_verdict(found, verdict):
    inspection = Inspection("DEAP", "/", "url", expected_trials=40, **found)
    assert inspection.verdict == verdict


def test_what_is_broken_and_what_is_missing_is_told_apart(broken_root, format_warnings):
    found = inspect_corpus(SEED(path=broken_root, on_error="warn"), read_signals=True)
    assert found.verdict == "broken"
    assert all("1_20131030.mat" in problem for problem in found.problems)
    (missing,) = found.missing_sessions
    assert "['1'] of subject 2" in missing
    assert found.n_sessions == 8 and 105 <= found.n_trials < 120
    assert not format_warnings.messages  # nothing is shown twice


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
    assert "3 of 15" in table and "request it at" in table


def test_replica_can_be_checked(run, tmp_path):
    written = run("replica", "DEAP", tmp_path, "--n-subjects", 1, "--seconds", 1)
    assert written.exit_code == 0, written.output
    assert run("check", "DEAP", tmp_path).exit_code == 0


# -- files that are not read for the trials ------------------------------------


@pytest.fixture
def copy(tmp_path):
    """Write one subject of a corpus, to be damaged."""

    def copy(corpus, **options):
        options = {"subjects": [1], "seconds": 1, "seed": 0} | options
        return write_replica(corpus, tmp_path / "corpus", **options)

    return copy


def check(dataset, root):
    return inspect_corpus(dataset(path=root, on_error="warn"), read_signals=True)


def find(root, pattern):
    return sorted(root.rglob(pattern))[0]


@pytest.mark.slow
def test_a_whole_miniature_is_complete(run, tmp_path):
    root = write_replica(
        "SEED", tmp_path, subjects=list(range(1, 16)), seconds=1, seed=0
    )
    result = run("check", "SEED", root, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["verdict"]) == (0, "complete")
    for name in ("subjects", "sessions", "trials"):
        assert found[f"n_{name}"] == found[f"expected_{name}"]
    lists = [value for value in found.values() if isinstance(value, list)]
    assert lists == [[]] * 5


def fake_release(monkeypatch, n_trials):
    """Let MAHNOB-HCI find so many trials of each participant, without files."""

    def find_recordings(self, subject):
        if not n_trials.get(subject):
            raise CorpusNotFoundError(f"nothing of {subject}")
        return {"0": subject}

    def read_trials(self, file, session):
        return {str(run): [None] for run in range(n_trials[file])}

    monkeypatch.setattr(MAHNOB_HCI, "_recordings", find_recordings)
    monkeypatch.setattr(MAHNOB_HCI, "_read_trials", read_trials)


PUBLISHED = {k: 20 for k in range(1, 31) if k not in (12, 15)}
PUBLISHED |= {3: 17, 9: 14, 16: 16}


@pytest.mark.parametrize(
    ("changes", "verdict", "missing", "gaps"),
    [
        ({}, "complete", [], 0),
        ({26: 0}, "complete", [], 0),
        ({9: 0}, "incomplete", [9], 0),
        ({4: 19}, "incomplete", [], 1),
        ({4: 19, 26: 0}, "incomplete", [], 1),
    ],
)
def test_mahnob_is_complete_without_those_of_whom_there_is_no_physiology(
    changes, verdict, missing, gaps, monkeypatch, tmp_path
):
    """Participants 12 and 15 were said to be missing from every copy."""
    fake_release(monkeypatch, PUBLISHED | changes)
    found = inspect_corpus(
        MAHNOB_HCI(path=tmp_path, on_error="warn"), read_signals=False
    )
    n_subjects = 28 if changes.get(26, 20) else 27
    assert found.expected_subjects == found.expected_sessions == n_subjects
    assert found.expected_trials == 527 + 20 * (n_subjects - 27)
    assert found.missing_subjects == missing
    assert len(found.missing_trials) == gaps
    assert found.verdict == verdict


def test_more_trials_than_published_are_remarked_on(monkeypatch, tmp_path):
    fake_release(monkeypatch, {3: 20})
    dataset = MAHNOB_HCI(path=tmp_path, on_error="warn")
    found = inspect_corpus(dataset, read_signals=False)
    assert "subject 3 has 20 trials, 17 are published" in found.remarks[0]


def test_what_downloads_leave_behind_is_remarked_on_and_no_problem(run, copy):
    root = copy("SEED", sessions=[0])
    folder = find(root, "Preprocessed_EEG")
    names = ["2_20140404.mat.part", "x.crdownload", "login.html", "SEED.zip", "note"]
    for name in names:
        (folder / name).touch()
    (folder / "._1_20131027.mat").touch()
    (folder / "99_20131027.mat").write_bytes(b"nobody")
    found = check(SEED, root)
    assert found.problems == []
    stranger, leftovers = found.remarks
    assert "no subject 99" in stranger and "99_20131027.mat" in stranger
    assert all(name in leftovers for name in names) and "._" not in leftovers
    result = run("check", "SEED", root)
    assert result.exit_code == 0 and "Remark: " in result.stdout


def test_a_broken_only_file_is_a_problem_and_not_missing(copy):
    """A trial without its number was listed among the missing sessions."""
    root = copy("MAHNOB-HCI")
    for folder in root.rglob("Sessions/*"):
        if folder.name != "4":
            shutil.rmtree(folder)
    find(root, "*.bdf").rename(find(root, "4") / "Part_1_S_Trial21_emotion.bdf")
    found = check(MAHNOB_HCI, root)
    assert found.verdict == "broken" and len(found.problems) == 1
    assert "Trial21" in found.problems[0]
    assert 1 not in found.missing_subjects and not found.missing_sessions


def damage(content):
    return lambda file: file.write_bytes(content)


def text(old, new):
    return lambda file: file.write_text(file.read_text().replace(old, new))


def to_folder_of_features(file):
    features = file.parents[1] / "ExtractedFeatures_1s"
    features.mkdir(exist_ok=True)
    shutil.copy(file, features / "label.mat")


OTHERS = {
    "labels beside the features": (SEED, "label.mat", to_folder_of_features),
    "readme deeper down": (
        SEED_IV,
        "ReadMe.txt",
        lambda file: (file.parent / "eye_feature_smooth" / "ReadMe.txt").write_text(
            "session1_label = [0];"
        ),
    ),
    "eye features": (SEED_IV, "eye_feature_smooth/1/*.mat", damage(b"<html>")),
    "table not preferred": (
        DEAP,
        "participant_ratings.csv",
        lambda file: file.with_suffix(".ods").write_bytes(b"<html>"),
    ),
    "rating of who has no file": (
        DEAP,
        "participant_ratings.csv",
        lambda file: file.write_text(file.read_text().replace("\n1,1,", "\n2,1,", 1)),
    ),
    "original recording": (
        DEAP,
        "s01.dat",
        lambda file: (file.parent / "s07.bdf").write_bytes(b"<html>"),
    ),
    "MATLAB file beside the pickle": (
        DEAP,
        "s01.dat",
        lambda file: (file.parent / "s01.mat").write_bytes(b"<html>"),
    ),
    "neutral clip": (MAHNOB_HCI, "*_N_*.bdf", damage(b"<html>")),
    "neutral session": (MAHNOB_HCI, "Sessions/1/session.xml", damage(b"<html>")),
    "subject": (MAHNOB_HCI, "Subjects/subject1.xml", damage(b"<a")),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_beside_the_recordings_are_checked(name, copy):
    dataset, pattern, change = OTHERS[name]
    options = {"sessions": [0]} if dataset in (SEED, SEED_IV) else {}
    root = copy(dataset.code_name, **options)
    if dataset is MAHNOB_HCI:  # two of the trials are enough
        for folder in root.rglob("Sessions/*"):
            if int(folder.name) not in (1, 2, 4):
                shutil.rmtree(folder)
    if name == "labels beside the features":
        to_folder_of_features(find(root, pattern))
        file = find(root, "ExtractedFeatures_1s/label.mat")
        damage(b"<html>")(file)
    else:
        change(find(root, pattern))
    found = check(dataset, root)
    assert found.verdict == "broken" and found.problems
    assert found.n_subjects == 1


def test_a_table_that_needs_a_missing_package_is_a_remark(copy, monkeypatch):
    monkeypatch.setitem(sys.modules, "odf", None)
    root = copy("DEAP")
    find(root, "participant_ratings.csv").with_suffix(".ods").write_bytes(b"PK")
    found = check(DEAP, root)
    assert not found.problems
    assert any("emossl[spreadsheets]" in remark for remark in found.remarks)
