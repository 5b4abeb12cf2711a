"""The command ``emossl``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from braindecode_emossl import demo, evaluation, terminal
from braindecode_emossl.cli import app
from braindecode_emossl.datasets import write_replica
from braindecode_emossl.evaluation import AuditReport, pipelines_folder
from braindecode_emossl.pretraining import SSLPretrainer, load_checkpoint

PROTOCOLS = {"cross-session", "cross-corpus", "cross-corpus-finetune"}


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
    assert f"Saved {tmp_path / 'out' / 'scores.csv'}" in result.output


def test_bars_are_for_terminals_alone(run, quick_demo, tmp_path, monkeypatch):
    """The log of a cluster's job held the last state of every bar."""
    assert not run("demo", "--output", str(tmp_path / "quiet")).stderr
    monkeypatch.setattr(
        terminal, "Console", lambda **how: Console(force_terminal=True, **how)
    )
    assert "2/2" in run("demo", "--output", str(tmp_path / "out")).stderr


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


def test_ctrl_c_ends_any_command_with_130(run, monkeypatch):
    def run_demo(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", run_demo)
    result = run("demo")
    assert result.exit_code == 130 and result.stderr.split() == ["Stopped."]


def test_help_of_every_command_has_an_example(run):
    names = [command.callback.__name__ for command in app.registered_commands]
    assert {"pretrain", "evaluate", "report"} <= set(names)
    for name in names:
        assert "Example: " in run(name, "--help").output


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("emossl pre", {"pretrain"}),
        ("emossl pretrain S", {"SCMM"}),
        ("emossl pretrain SCMM SEED", {"SEED", "SEED-IV"}),
        ("emossl evaluate SEED --protocol cross-", PROTOCOLS),
    ],
)
def test_completion(run, typed, offered):
    environment = {
        "_EMOSSL_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    result = CliRunner().invoke(app, [], prog_name="emossl", env=environment)
    assert set(result.output.split()) == offered


def test_numbers_that_are_none_are_null_in_json(capsys):
    terminal.print_json([{"kappa": float("nan")}, (float("inf"), 1.5)])
    assert json.loads(capsys.readouterr().out) == [{"kappa": None}, [None, 1.5]]


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
    found = json.loads(run("pipelines", "--features", "de", "--json").output)
    assert found["folder"] == str(folder)
    assert found["pipelines"]["DE + LogReg"] == "de_logreg.yml"


def test_evaluate_prints_and_writes_its_tables(run, seed, quick, tmp_path):
    results = tmp_path / "results"
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick)
    result = run(*arguments, "--results", str(results))
    assert result.exit_code == 0, result.output
    (file,) = results.glob("scores-SEED-leave-one-subject-out-emotion-*.csv")
    name, table = file.stem, pd.read_csv(file)
    windows = f"{table['accuracy'].mean():.3f} ± {table['accuracy'].std():.3f}"
    assert windows in result.output and "DE + LogReg" in result.output
    kept = pd.read_parquet(results / f"{name}.parquet")
    for suffix in ("csv", "parquet", "json"):
        assert f"Saved {results / name}.{suffix}" in result.output
    settings = json.loads((results / f"{name}.json").read_text())["settings"]
    assert settings["window"] == 1 and settings["corpora"] == {"SEED": seed[5:]}
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
    tables = [
        pd.read_csv(file) for f in (whole, parts) for file in Path(f).glob("*.csv")
    ]
    pd.testing.assert_frame_equal(*(t.drop(columns="time") for t in tables))


def test_options_of_the_protocol(run, seed, quick, tmp_path):
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick)
    arguments += ("--protocol", "within-session", "--results", str(tmp_path))
    assert run(*arguments, "--option", "n_splits=3").exit_code == 0
    assert len(list(tmp_path.glob("SEED_*/*/1_*of0003.parquet"))) == 3
    result = run(*arguments, "--option", "n_folds=3")
    assert result.exit_code == 2 and "n_folds" in result.stderr


def test_other_settings_keep_the_tables_of_the_first(run, seed, quick, tmp_path):
    """All wrote scores.csv, later all of one protocol the same file."""
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick)
    arguments += ("--results", str(tmp_path))
    others = (
        (),
        ("--protocol", "within-session"),
        ("--target", "valence"),
    )
    for other in others:
        assert run(*arguments, *other).exit_code == 0
    assert run(*arguments).exit_code == 0  # the first again
    assert len(list(tmp_path.glob("scores*.csv"))) == len(others)


@pytest.mark.parametrize(
    ("option", "without"),
    [
        ((), ""),
        (("--overwrite",), " without --overwrite"),
        (("--no-resume",), " without --no-resume"),
    ],
)
def test_ctrl_c_says_how_to_resume(run, seed, quick, monkeypatch, option, without):
    """It ended in "Aborted."; then it said to repeat what deletes all folds."""

    def evaluate(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    result = run("evaluate", seed, *OPTIONS, "--pipelines", quick, *option)
    assert result.exit_code == 130
    advice = f"again{without} to resume from the last completed fold."
    assert result.stderr.splitlines() == [f"Stopped. Run the same command {advice}"]


def test_a_name_with_brackets_is_no_markup(run, seed, quick, tmp_path):
    """[/b] in the name of a pipeline was a closing tag without an opening one."""
    file = Path(quick, "de_logreg.yml")
    file.write_text(file.read_text().replace("DE + LogReg", '"LogReg [/b]"'))
    results = str(tmp_path / "[results]")
    result = run("evaluate", seed, *OPTIONS, "--pipelines", quick, "--results", results)
    assert result.exit_code == 0, result.output
    assert "LogReg [/b]" in result.output and f"Saved {results}" in result.output


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
        (("evaluate", "SEED", "--device", "gpu"), "--device gpu is not to be had"),
        (("pretrain", "SCM", "SEED"), "MODEL must be one of"),
        (("pretrain", "SCMM", "SEED", "--features", "psd"), "left out or de for SCMM"),
        (("pretrain", "MEMHACL", "SEED", "--features", "de"), "left out for MEMHACL"),
        (("pretrain", "SCMM", "SEED", "--leave-out", "1-15"), "leaves nobody of SEED"),
        (("pretrain", "SCMM", "SEED", "--leave-out", "16"), "but got [16]"),
        (("pretrain", "SCMM", "SEED", "--leave-out", "x"), "--leave-out must be such"),
        (("report", "nowhere"), "There is no finished fold below"),
        (("audit", "SEED", "--protocol", "loso"), "'leave-one-subject-out'"),
    ],
)
def test_bad_input_is_one_sentence(run, arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split()), result.stderr


# -- pretrain, report ----------------------------------------------------------

QUICK = ("--features", "de", "--window", "1", "--epochs", "2", "--batch-size", "16")


def test_pretrain_saves_a_checkpoint_that_knows_its_subjects(run, seed, tmp_path):
    arguments = ("pretrain", "SCMM", seed, "--subjects", "1-2", "--leave-out", "2")
    arguments += (*QUICK, "--output", str(tmp_path))
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert f"Saved {tmp_path / 'trained'}" in result.output
    objective = load_checkpoint(tmp_path / "trained")
    assert objective.encoder.input_domain == "de"
    assert objective.provenance["corpora"]["SEED"]["subjects"] == [1]
    again = json.loads(run(*arguments, "--json").stdout)
    assert again["checkpoint"] == str(tmp_path / "trained")
    assert again["epochs"] == 2 and again["corpora"]["SEED"]["subjects"] == [1]
    assert f"loss {again['losses']['loss']:.4g}" in result.output
    other = run(*arguments, "--lr", "0.1")
    assert other.exit_code == 2 and "lr = 0.0005, but it is now 0.1" in other.stderr


def test_pretrain_goes_on_where_it_was_stopped(run, seed, tmp_path, monkeypatch):
    arguments = ("pretrain", "SCMM", seed, "--subjects", "1", *QUICK, "--output")
    assert run(*arguments, str(tmp_path / "whole")).exit_code == 0
    on_epoch_begin = SSLPretrainer.on_epoch_begin

    def stop(self, *args, **kwargs):
        if len(self.history) == 1:
            raise KeyboardInterrupt
        on_epoch_begin(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(SSLPretrainer, "on_epoch_begin", stop)
        stopped = run(*arguments, str(tmp_path / "parts"))
    assert stopped.exit_code == 130
    advice = "again to resume from the last completed epoch."
    assert f"Stopped. Run the same command {advice}" in stopped.stderr.splitlines()
    refused = run(*arguments, str(tmp_path / "parts"), "--no-resume")
    assert refused.exit_code == 2 and "earlier training" in refused.stderr
    assert run(*arguments, str(tmp_path / "parts")).exit_code == 0
    weights = [
        Path(tmp_path, part, "trained", "objective.safetensors").read_bytes()
        for part in ("whole", "parts")
    ]
    assert weights[0] == weights[1]


def test_pretrain_takes_corpora_of_other_channels_together(run, seed, tmp_path):
    deap = write_replica("DEAP", tmp_path / "deap", subjects=[1, 2], seconds=4, seed=0)
    arguments = ("pretrain", "SCMM", seed, f"DEAP={deap}", "--subjects", "1-2")
    result = run(*arguments, *QUICK, "--output", str(tmp_path), "--json")
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)["corpora"]) == {"SEED", "DEAP"}
    assert load_checkpoint(tmp_path / "trained").encoder.n_chans == 32


def test_memhacl_contrasts_groups_of_subjects(run, monkeypatch, tmp_path):
    """A shuffled batch would give groups of any windows, without a word."""
    root = write_replica(
        "SEED", tmp_path, subjects=[1, 2, 3, 4], sessions=[0], seconds=2, seed=0
    )
    shapes = []

    def fit_loop(self, X, *args, **kwargs):
        batches = self.get_iterator(X, training=True)
        shapes.extend(windows.shape for windows, _ in batches)
        raise ValueError("seen enough")

    monkeypatch.setattr(SSLPretrainer, "fit_loop", fit_loop)
    arguments = ("pretrain", "MEMHACL", f"SEED={root}", "--subjects", "1-4")
    result = run(*arguments, "--window", "1", "--output", str(tmp_path / "out"))
    assert result.stderr == "Error: seen enough\n"
    assert shapes == [(16, 4, 62, 200)]  # of 30 seconds that all four have


def test_all_modalities_reach_the_model(run, tmp_path):
    """Only EEG could be given from a shell to models that are made for more."""
    root = write_replica("DEAP", tmp_path, subjects=[1, 2, 3, 4], seconds=2, seed=0)
    arguments = ["pretrain", "MEMHACL", f"DEAP={root}", "--subjects", "1-4"]
    arguments += ["--window", "1", "--epochs", "0"]
    result = run(*arguments, "--all-modalities", "--output", str(tmp_path / "out"))
    assert result.exit_code == 0, result.stderr
    config = json.loads((tmp_path / "out" / "trained" / "config.json").read_text())
    assert config["n_chans"] == 40  # 32 of them EEG


@pytest.mark.slow
def test_several_processes_train_together(seed, tmp_path):
    pytest.importorskip("accelerate")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["-m", "braindecode_emossl.cli", "pretrain", "SCMM", seed, *QUICK]
    command += ["--subjects", "1-2", "--output", str(tmp_path), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert json.loads(result.stdout)["epochs"] == 2  # one of them prints
    assert load_checkpoint(tmp_path / "trained").provenance["complete"]


def test_report_writes_a_page(run, seed, quick, tmp_path):
    results = tmp_path / "results"
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick)
    assert run(*arguments, "--results", str(results)).exit_code == 0
    result = run("report", str(results))
    assert result.exit_code == 0, result.output
    assert f"Saved {results / 'report.html'}" in result.output
    page = (results / "report.html").read_text()
    assert "DE + LogReg" in page and "scores-SEED-leave-one-subject-out" in page
    other = tmp_path / "new" / "page.html"
    assert run("report", str(results), "--output", str(other)).exit_code == 0
    assert other.is_file()
