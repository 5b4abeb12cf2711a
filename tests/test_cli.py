"""The command ``emossl``."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from braindecode_emossl import demo
from braindecode_emossl.cli import app


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
