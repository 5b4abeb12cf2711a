"""The command ``emossl``."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from braindecode_emossl import demo, evaluation
from braindecode_emossl.cli import app
from braindecode_emossl.datasets import write_replica
from braindecode_emossl.evaluation import AuditReport, pipelines_folder


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture
def quick_demo(monkeypatch):
    """A demo without its half minute of training; test_demo.py tests the whole."""

    def run_demo(output, corpora, *, random_state, device, on_step):
        on_step("writing", 2)
        on_step("training", 2)
        output.mkdir(parents=True)
        return pd.DataFrame(
            {
                "dataset": ["SEED"] * 2,
                "target": ["emotion"] * 2,
                "pipeline": [f"{device} {random_state}"] * 2,
                "score": [0.5, 0.7],
            }
        )

    monkeypatch.setattr(demo, "run_demo", run_demo)


def test_without_a_command_the_help_is_shown(run):
    assert "demo" in run().output


def test_the_help_has_an_example(run):
    result = run("demo", "--help")
    assert result.exit_code == 0
    assert "Example: emossl demo" in result.output


def test_the_demo_prints_its_table_and_where_it_saved(run, quick_demo, tmp_path):
    result = run("demo", "--output", str(tmp_path / "out"), "--seed", "3")
    assert result.exit_code == 0, result.output
    assert "0.600 ± 0.141" in result.output and "cpu 3" in result.output
    assert "2/2" in result.output
    assert f"Saved {tmp_path / 'out' / 'scores.csv'}" in result.output


def test_bad_input_is_one_sentence_and_exit_code_2(run, tmp_path):
    (tmp_path / "file").touch()
    result = run("demo", "--output", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and "Traceback" not in result.stderr
    assert str(tmp_path / "file") in result.stderr.replace("\n", "")


def test_debug_shows_the_error_itself(run, tmp_path):
    (tmp_path / "file").touch()
    result = run("--debug", "demo", "--output", str(tmp_path / "file"))
    assert isinstance(result.exception, FileExistsError)


def test_a_foreign_corpus_is_never_overwritten(run, tmp_path):
    folder = tmp_path / "SEED" / "SEED_EEG" / "Preprocessed_EEG"
    folder.mkdir(parents=True)
    (folder / "label.mat").write_bytes(b"licensed")
    out = tmp_path / "out"
    result = run("demo", "--output", str(out), "--corpora", str(tmp_path))
    assert result.exit_code == 2 and "never overwrites" in result.stderr
    assert (folder / "label.mat").read_bytes() == b"licensed"


# -- evaluate, audit, pipelines ------------------------------------------------


@pytest.fixture(scope="module")
def seed(tmp_path_factory):
    """``SEED=<folder>`` of a replica of two subjects."""
    root = write_replica(
        "SEED",
        tmp_path_factory.mktemp("seed"),
        subjects=[1, 2],
        sessions=[0],
        seconds=4,
        seed=0,
    )
    return f"SEED={root}"


@pytest.fixture
def quick(tmp_path):
    """A folder with one pipeline that takes no time."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    name = "de_logreg.yml"
    (folder / name).write_text((pipelines_folder("de") / name).read_text())
    return str(folder)


OPTIONS = ("--features", "de", "--window", "1", "--subjects", "1-2")


def test_pipelines_prints_a_folder(run):
    assert Path(run("pipelines").output.strip(), "scmm.yml").is_file()
    folder = Path(run("pipelines", "--features", "de").output.strip())
    assert folder == pipelines_folder("de")


def test_evaluate_prints_and_writes_its_tables(run, seed, quick, tmp_path):
    results = tmp_path / "results"
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick)
    result = run(*arguments, "--results", str(results))
    assert result.exit_code == 0, result.output
    name = "scores-SEED-leave-one-subject-out"
    table = pd.read_csv(results / f"{name}.csv")
    windows = f"{table['accuracy'].mean():.3f} ± {table['accuracy'].std():.3f}"
    assert windows in result.output and "DE + LogReg" in result.output
    kept = pd.read_parquet(results / f"{name}.parquet")
    for suffix in ("csv", "parquet"):
        assert f"Saved {results / name}.{suffix}" in result.output
    assert kept["score"].tolist() == pytest.approx(table["score"].tolist())
    again = run(*arguments, "--results", str(results), "--json")
    rows = json.loads(again.stdout)
    assert [row["score"] for row in rows] == pytest.approx(table["score"].tolist())


def test_shares_of_a_cluster_give_the_same_table(run, seed, quick, tmp_path):
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick, "--results")
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    assert run(*arguments, whole).exit_code == 0
    for k in ("0", "1"):
        result = run(*arguments, parts, "--fold", k, "--of", "2")
        assert f"Share {k} of 2 is finished" in result.output
        assert not list(Path(parts).glob("scores*"))
    assert run(*arguments, parts).exit_code == 0
    name = "scores-SEED-leave-one-subject-out.csv"
    tables = [pd.read_csv(Path(f, name)) for f in (whole, parts)]
    pd.testing.assert_frame_equal(*(t.drop(columns="time") for t in tables))


def test_options_of_the_protocol(run, seed, quick, tmp_path):
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick)
    arguments += ("--protocol", "within-session", "--results", str(tmp_path))
    assert run(*arguments, "--option", "n_splits=3").exit_code == 0
    assert len(list(tmp_path.glob("SEED_*/*/1_*of0003.parquet"))) == 3
    result = run(*arguments, "--option", "n_folds=3")
    assert result.exit_code == 2 and "n_folds" in result.stderr


def test_another_corpus_or_protocol_keeps_the_tables_of_the_first(
    run, seed, quick, tmp_path
):
    """All wrote scores.csv, so that the second evaluation took the first's place."""
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick)
    arguments += ("--results", str(tmp_path))
    names = {"scores-SEED-leave-one-subject-out.csv", "scores-SEED-within-session.csv"}
    assert run(*arguments).exit_code == 0
    assert run(*arguments, "--protocol", "within-session").exit_code == 0
    assert {file.name for file in tmp_path.glob("scores*.csv")} == names


def test_ctrl_c_is_one_line_that_says_how_to_go_on(run, seed, quick, monkeypatch):
    """It ended in "Aborted." alone, as if all had been lost."""

    def evaluate(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    result = run("evaluate", seed, *OPTIONS, "--pipelines", quick)
    assert result.exit_code == 130
    said = "Stopped. The same command goes on after the last finished fold."
    assert said in result.stderr.splitlines()
    assert "Abort" not in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("text", ["3-1", "1-", "-1", "1,,2", "", "1-2-3", "²"])
def test_subjects_that_name_nobody_are_refused(run, text):
    """3-1 was an empty list, of which all that was said came from deep below."""
    result = run("evaluate", "SEED", f"--subjects={text}")
    assert result.exit_code == 2
    message = f"--subjects must be such as 1-3,7, but got {text!r}."
    assert message in " ".join(result.stderr.split())


def test_audit_passes_or_fails_by_its_exit_code(run, seed, monkeypatch):
    arguments = ("audit", seed, *OPTIONS, "--protocol", "chronological")
    result = run(*arguments, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["passed"]
    monkeypatch.setattr(AuditReport, "passed", False)
    assert run(*arguments).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "SEED", "--fold", "1"), "--fold and --of go together"),
        (("evaluate", "SED"), "A corpus must be one of"),
        (("evaluate", "SEED=nowhere"), "There is no such folder"),
        (("evaluate", "SEED", "--subjects", "one"), "such as 1-3,7, but got 'one'"),
        (("evaluate", "SEED", "--option", "n_splits"), "must be NAME=VALUE"),
        (("evaluate", "SEED", "--pipelines", "nowhere"), "No .yml pipeline"),
        (("evaluate", "SEED", "--protocol", "loso"), "'leave-one-subject-out'"),
        (("evaluate", "SEED", "--features", "psd"), "name a folder of your own"),
        (("audit", "SEED", "--protocol", "loso"), "'leave-one-subject-out'"),
    ],
)
def test_bad_input_is_one_sentence(run, arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split()), result.stderr
