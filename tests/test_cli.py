"""The command ``emossl``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline
from typer.testing import CliRunner

from braindecode_emossl import cli, demo, evaluation, terminal
from braindecode_emossl.cli import app
from braindecode_emossl.datasets import write_replica
from braindecode_emossl.evaluation import PROTOCOLS, AuditReport, pipelines_folder
from braindecode_emossl.evaluation.controls import list_controls
from braindecode_emossl.paradigms.labels import TARGETS
from braindecode_emossl.pretraining import (
    SSLClassifier,
    SSLPretrainer,
    load_checkpoint,
)
from braindecode_emossl.pretraining.registry import OBJECTIVES
from braindecode_emossl.registration import DATASETS


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture
def quick_demo(monkeypatch):
    """A demo that does not train; test_demo.py tests the whole."""

    def run_demo(output, corpora, *, random_state, device, on_fold):
        on_fold("SEED", 1, 2)
        on_fold("SEED", 2, 2)
        output.mkdir(parents=True)
        return pd.DataFrame(
            {
                "dataset": "SEED",
                "protocol": ["leave-one-subject-out"] * 4 + ["shuffled windows"] * 2,
                "pipeline": f"{device} {random_state}",
                "subject": ["1", "2"] * 3,
                "n_labeled_trials": pd.array([1, 1, *[None] * 4], "Int64"),
                "accuracy": [0.5, 0.7, 0.7, 0.8, 0.9, 1.0],
                "score_trial": [0.6, 0.8, 0.8, 0.9, 1.0, 1.0],
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
    assert "0.600 ± 0.141" in result.output and "auto 3" in result.output
    assert "labels" in result.output and "all" in result.output
    honest, leaky = result.output.split("Accuracy, shuffled windows")
    assert "Accuracy, leave-one-subject-out" in honest and "0.950" not in honest
    assert "0.950 ± 0.071" in leaky
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


def test_paragraphs_of_the_help_are_wrapped_to_the_terminal(run, monkeypatch):
    """The lines of the docstring were kept, and broken again where they were longer."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip() for line in run("evaluate", "--help").output.splitlines()]
    assert ".json" not in lines
    text = " ".join(" ".join(lines).split())
    assert "the .json file of the same name records the settings" in text


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("emossl pre", {"pretrain"}),
        ("emossl pretrain ", set(OBJECTIVES)),
        ("emossl evaluate ", {cls.code_name for cls in DATASETS}),
        ("emossl evaluate SEED --unlabeled ", {cls.code_name for cls in DATASETS}),
        ("emossl evaluate SEED --protocol ", set(PROTOCOLS)),
        ("emossl evaluate SEED --controls ", {"all", *list_controls()}),
        ("emossl evaluate SEED --target ", set(TARGETS)),
    ],
)
def test_completion_offers_what_is_registered(run, typed, offered):
    environment = {
        "_EMOSSL_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split(" ")) - 1),
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
    """Return a folder with one pipeline, which is fast."""
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
    assert found["pipelines"]["DE + logistic regression"] == "de_logreg.yml"


def test_evaluate_prints_and_writes_its_tables(run, seed, quick, tmp_path):
    results = tmp_path / "results"
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick, "--no-baselines")
    result = run(*arguments, "--results", str(results))
    assert result.exit_code == 0, result.output
    (file,) = results.glob("scores-SEED-leave-one-subject-out-emotion-*.csv")
    name, table = file.stem, pd.read_csv(file)
    windows = f"{table['accuracy'].mean():.3f} ± {table['accuracy'].std():.3f}"
    assert windows in result.output and "DE + logistic" in result.output
    kept = pd.read_parquet(results / f"{name}.parquet")
    for suffix in ("csv", "parquet", "json"):
        assert f"Saved {results / name}.{suffix}" in result.output
    settings = json.loads((results / f"{name}.json").read_text())["settings"]
    assert settings["window"] == 1 and settings["corpora"] == {"SEED": seed[5:]}
    assert kept["score"].tolist() == pytest.approx(table["score"].tolist())
    again = run(*arguments, "--results", str(results), "--json")
    rows = json.loads(again.stdout)
    assert [row["score"] for row in rows] == pytest.approx(table["score"].tolist())


def test_folders_may_begin_with_the_home_of_the_user(
    run, seed, quick, tmp_path, monkeypatch
):
    """A shell leaves --results=~/out as it is: folds and tables were in two places."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(tmp_path)
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick, "--no-baselines")
    result = run(*arguments, "--results=~/out")
    assert result.exit_code == 0, result.stderr
    assert len(list((home / "out").glob("scores-*.csv"))) == 1
    assert run("report", "~/out").exit_code == 0
    assert (home / "out" / "report.html").is_file()
    assert not (tmp_path / "~").exists()


def test_shards_of_a_cluster_give_the_same_table(run, seed, quick, tmp_path):
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick, "--results-dir")
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    assert run(*arguments, whole).exit_code == 0
    assert "Shard 0/2 is finished" in run(*arguments, parts, "--shard", "0/2").output
    result = run(*arguments, parts, "--shard", "1/2", "--json")
    assert json.loads(result.stdout) == {"shard": [1, 2]}
    assert not list(Path(parts).glob("scores*"))
    assert run(*arguments, parts).exit_code == 0
    tables = [
        pd.read_csv(file) for f in (whole, parts) for file in Path(f).glob("*.csv")
    ]
    pd.testing.assert_frame_equal(*(t.drop(columns="time") for t in tables))


def test_baselines_seeds_and_numbers_of_labels(run, seed, quick, tmp_path):
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick)
    arguments += ("--n-labeled", "1,all", "--seeds", "0,1", "--results", str(tmp_path))
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    (file,) = tmp_path.glob("scores*.parquet")
    table = pd.read_parquet(file)
    assert set(table["pipeline"]) == {
        "DE + logistic regression",
        "most frequent",
        "stratified",
    }
    assert set(table["seed"]) == {0, 1}
    few = table["n_labeled_trials"].notna()
    assert set(table.loc[few, "n_labeled_trials"]) == {1} and few.mean() == 0.5
    assert (table.loc[few, "samples"] < table.loc[~few, "samples"].min()).all()
    settings = json.loads(file.with_suffix(".json").read_text())["settings"]
    assert settings["seeds"] == [0, 1] and settings["baselines"] is True
    assert settings["n_labeled_trials"] == [1, None]


@pytest.fixture
def spied(monkeypatch):
    """Record the arguments of evaluate, which is not run."""
    calls = []

    def evaluate(pipelines, datasets, paradigm, protocol, **options):
        calls.append({"pipelines": pipelines, "paradigm": paradigm, **options})
        return pd.DataFrame()

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    return calls


def test_options_reach_evaluate(run, seed, quick, spied):
    arguments = ("--unlabeled", f"SEED-IV={seed[5:]}", "--unlabeled-subjects", "2-3")
    arguments += ("--on-error", "warn", "--n-jobs", "2", "--random-state", "7")
    arguments += ("--last", "30", "--standardize", "recording")
    arguments += ("--option", "adapt=unlabeled", "--option", "test-corpora=[SEED]")
    arguments += ("--protocol", "cross-corpus")
    run("evaluate", seed, *OPTIONS, "--pipelines", quick, *arguments)
    (call,) = spied
    assert call["on_error"] == "warn" and call["n_jobs"] == 2
    assert call["random_state"] == 7 and call["adapt"] == "unlabeled"
    assert call["test_corpora"] == ["SEED"]
    assert call["paradigm"].last == 30 and call["paradigm"].standardize == "recording"
    (corpus,) = call["unlabeled"]
    assert corpus.code == "SEED-IV" and list(corpus.subject_list) == [2, 3]
    assert call["seeds"] is None and call["n_labeled_trials"] is None


LABELS = ("--threshold", "4.5", "--ties", "high", "--margin", "0.5")


def test_label_options_reach_evaluate(run, quick, spied):
    """Ratings could only be cut at the midpoint from the command line."""
    arguments = (*LABELS, "--label-source", "stimulus", "--pipelines", quick)
    run("evaluate", "DEAP", *OPTIONS, "--target", "valence", *arguments)
    settings = spied[0]["paradigm"].settings
    names = ("threshold", "ties", "margin", "label_source")
    assert [settings[n] for n in names] == [4.5, "high", 0.5, "stimulus"]


@pytest.mark.parametrize("command", [("evaluate",), ("audit",), ("pretrain", "SCMM")])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--threshold", "mean", "threshold must be"),
        ("--ties", "up", "ties must be"),
        ("--margin", "-1", "margin must not be negative"),
        ("--label-source", "film", "label_source must be"),
    ],
)
def test_label_options_are_those_of_the_paradigm(run, command, option, value, message):
    result = run(*command, "DEAP", "--target", "valence", option, value)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split()), result.stderr


def test_controls_have_a_table_of_their_own(run, seed, quick, tmp_path):
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick, "--no-baselines")
    arguments += ("--controls", "permuted-labels:n_permutations=2", "--probes")
    result = run(*arguments, "--results", str(tmp_path))
    assert result.exit_code == 0, result.output
    scores, controls = result.output.split("Controls and their reference")
    assert "permuted-labels" not in scores and "permuted-labels" in controls
    (file,) = tmp_path.glob("scores*.parquet")
    table = pd.read_parquet(file)
    assert table["control_part"].value_counts().to_dict() == {"": 2, "0": 2, "1": 2}
    assert "probe_label" in table
    page = tmp_path / "report.html"
    assert run("report", str(tmp_path), "--output", str(page)).exit_code == 0
    assert "What a linear probe reads" in page.read_text()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), None),
        (("all",), "all"),
        (
            ("reversed-time", "injected-signal:snr=0.2"),
            ["reversed-time", ("injected-signal", {"snr": 0.2})],
        ),
    ],
)
def test_controls_reach_evaluate(run, seed, quick, spied, given, expected):
    arguments = [part for name in given for part in ("--controls", name)]
    run("evaluate", seed, *OPTIONS, "--pipelines", quick, *arguments)
    assert spied[0]["controls"] == expected and spied[0]["probes"] is False


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("all", "reversed-time"), "stands alone"),
        (("injected-signal:0.2",), "--controls injected-signal: must be NAME=VALUE"),
        (("nothing",), "A control must be one of"),
    ],
)
def test_wrong_controls_are_one_sentence(run, seed, quick, given, message):
    arguments = [part for name in given for part in ("--controls", name)]
    result = run("evaluate", seed, *OPTIONS, "--pipelines", quick, *arguments)
    assert result.exit_code == 2 and message in " ".join(result.stderr.split())


def test_shipped_pipelines_follow_the_rate_of_the_windows(run, seed, quick, spied):
    """SEED with DEAP is at 128 Hz, where the 200 Hz of the files were refused."""
    window = ("--window", "1")
    assert run("evaluate", seed, *window, "--device", "cpu").exit_code == 2  # no table
    folder = str(pipelines_folder())
    assert run("evaluate", seed, *window, "--pipelines", folder).exit_code == 2
    ours, named = (call["pipelines"]["SCMM"][-1] for call in spied)
    assert (ours.sfreq, ours.device) == (None, "cpu")
    assert (named.sfreq, named.device) == (200, "auto")
    assert {"SCMM, frozen", "SCMM, random weights"} <= set(spied[0]["pipelines"])


def test_pipelines_that_need_another_window_are_left_out_or_refused(run, seed, spied):
    """MEMHACL is a method of 1-s windows, and was trained on those of 4 s."""
    says = "'MEMHACL' needs window=1.0 of the paradigm, but it is 4.0: pass --window 1"
    result = run("evaluate", seed)
    assert f"Warning: left out: The pipeline {says}" in " ".join(result.stderr.split())
    run("evaluate", seed, "--window", "1")
    assert ["MEMHACL" in call["pipelines"] for call in spied] == [False, True]
    file = str(pipelines_folder() / "memhacl.yml")
    result = run("evaluate", seed, "--pipelines", file)
    assert result.exit_code == 2 and len(spied) == 2
    assert result.stderr.startswith("Error:")
    assert says in " ".join(result.stderr.split())
    result = run("evaluate", seed, "--features", "de", "--pipelines", file)
    assert "needs window=1.0" in " ".join(result.stderr.split())


def test_grids_of_baselines_keep_what_makes_them():
    """A grid undid the frozen and the random row, or reached another pipeline."""
    scmm = make_pipeline(SSLClassifier("SCMM", random_state=0))
    grid = {
        "sslclassifier__finetune": ["full", "linear-probe"],
        "sslclassifier__objective": ["auto"],
        "sslclassifier__lr": [0.1, 0.2],
    }
    pipelines = {"SCMM": scmm, "SCMM, tuned": DummyClassifier()}
    _, grids = cli._add_baselines(pipelines, {"SCMM": grid})
    assert grids["SCMM"] == grid
    frozen, random = (grids[f"SCMM, {kind}"] for kind in ("frozen", "random weights"))
    assert set(grid) - set(frozen) == {"sslclassifier__finetune"}
    assert set(grid) - set(random) == {"sslclassifier__objective"}
    assert len(grids) == 3
    _, grids = cli._add_baselines(pipelines, {"SCMM": [grid, {}]})
    assert grids["SCMM, frozen"] == [frozen, {}]


def test_without_any_finished_fold_there_is_no_table(run, seed, quick, spied):
    result = run("evaluate", seed, *OPTIONS, "--pipelines", quick)
    assert result.exit_code == 2 and "No fold was finished" in result.stderr


def test_a_copy_of_the_corpus_has_the_same_table(run, seed, quick, tmp_path):
    """The name of the table depended on where the corpus was."""
    copy = shutil.copytree(seed[5:], tmp_path / "copy")
    pipelines = shutil.copytree(quick, tmp_path / "other")
    results = ("--results", str(tmp_path / "results"))
    for corpus, folder in ((seed, quick), (f"SEED={copy}", str(pipelines))):
        arguments = ("evaluate", corpus, *OPTIONS, "--pipelines", folder, *results)
        assert run(*arguments).exit_code == 0
    assert len(list((tmp_path / "results").glob("scores*.csv"))) == 1


def test_options_of_the_protocol(run, seed, quick, tmp_path):
    arguments = ("evaluate", seed, *OPTIONS, "--pipelines", quick)
    arguments += ("--protocol", "within-session", "--results", str(tmp_path))
    arguments += ("--no-baselines",)
    assert run(*arguments, "--option", "n_splits=3").exit_code == 0
    assert len(list(tmp_path.glob("SEED_*/*/1_*of0003.parquet"))) == 3
    result = run(*arguments, "--option", "n_folds=3")
    assert result.exit_code == 2 and "n_folds" in result.stderr


def test_other_settings_keep_the_tables_of_the_first(run, seed, quick, tmp_path):
    """All evaluations wrote scores.csv, later all of one protocol the same file."""
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


def test_a_name_with_brackets_is_not_markup(run, seed, quick, tmp_path):
    """[/b] in the name of a pipeline was a closing tag without an opening one."""
    file = Path(quick, "de_logreg.yml")
    name = "DE + logistic regression"
    file.write_text(file.read_text().replace(name, '"LogReg [/b]"'))
    results = str(tmp_path / "[results]")
    result = run("evaluate", seed, *OPTIONS, "--pipelines", quick, "--results", results)
    assert result.exit_code == 0, result.output
    assert "LogReg [/b]" in result.output and f"Saved {results}" in result.output


@pytest.mark.parametrize("text", ["3-1", "1-", "-1", "1,,2", "", "1-2-3", "²"])
def test_ranges_without_a_subject_are_refused(run, text):
    """3-1 was an empty list, and the message came from an inner function."""
    result = run("evaluate", "SEED", f"--subjects={text}")
    assert result.exit_code == 2
    message = f"--subjects must be such as 1-3,7, but got {text!r}."
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("text", "hint"), [("seed", "Did you mean SEED?"), ("x", "but got 'x'.")]
)
def test_a_corpus_that_is_misspelt_is_suggested(run, text, hint):
    """The hint was to write CODE=FOLDER, which this command does not read."""
    result = run("replica", text, "folder")
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert hint in message and "CODE=FOLDER" not in message


def test_audit_passes_or_fails_by_its_exit_code(run, seed, monkeypatch):
    arguments = ("audit", seed, *OPTIONS, "--protocol", "chronological")
    result = run(*arguments, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["passed"]
    monkeypatch.setattr(AuditReport, "passed", False)
    assert run(*arguments).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "SEED", "--shard", "1"), "--shard must be K/N"),
        (("evaluate", "SEED", "--shard", "2/2"), "but got '2/2'"),
        (("evaluate", "SEED", "--n-labeled", "1,0"), "--n-labeled must be such as"),
        (("evaluate", "SEED", "--n-labeled", "1,1"), "a list of different ones"),
        (("evaluate", "SEED", "--seeds", "a"), "--seeds must be such as"),
        (("evaluate", "SEED", "--seeds", "0,0"), "a list of different integers"),
        (("evaluate", "SEED", "--unlabeled", "DEP"), "A corpus must be one of"),
        (
            ("evaluate", "SEED", "--unlabeled", "DEAP", "--unlabeled-subjects", "x"),
            "--unlabeled-subjects must be such as",
        ),
        (("evaluate", "SEED", "--unlabeled-subjects", "1"), "Pass --unlabeled, or"),
        (("evaluate", "SEED", "--on-error", "stop"), 'must be "raise" or "warn"'),
        (("evaluate", "SEED", "--standardize", "trial"), 'None or "recording"'),
        (("evaluate", "SEED", "--last", "0"), "last must be a positive number"),
        (("evaluate", "SEED", "--option", "adapt=x"), 'adapt must be None or "unlab'),
        (("evaluate", "SEED", "--option", "n=[1"), "--option must be NAME=VALUE with"),
        # These were taken for arguments of evaluate and audit.
        (("evaluate", "SEED", "--option", "random_state=3"), "got ['random_state']"),
        (("evaluate", "SEED", "--option", "cache_config=3"), "got ['cache_config']"),
        (("audit", "SEED", "--option", "random_state=3"), "got ['random_state']"),
        (("evaluate", "SED"), "A corpus must be one of"),
        (("evaluate", "SEED=nowhere"), "There is no such folder"),
        (("evaluate", "SEED", "--subjects", "one"), "such as 1-3,7, but got 'one'"),
        (("evaluate", "SEED", "--option", "n_splits"), "must be NAME=VALUE"),
        (("evaluate", "SEED", "--pipelines", "nowhere"), "no pipeline file or folder"),
        (("evaluate", "SEED", "--protocol", "loso"), "'leave-one-subject-out'"),
        (("evaluate", "SEED", "--features", "psd"), "name a folder of your own"),
        (("evaluate", "SEED", "--device", "gpu"), "--device gpu is not available"),
        (("pretrain", "SCM", "SEED"), "MODEL must be one of"),
        (
            ("pretrain", "SCMM", "SEED", "--features", "psd"),
            "de, released:de... or left",
        ),
        (
            ("pretrain", "SCMM", "SEED", "--features", "released:psd_LDS"),
            "de, released:de... or left out for SCMM",
        ),
        (("pretrain", "MEMHACL", "SEED", "--features", "de"), "left out for MEMHACL"),
        (
            ("pretrain", "SCMM", "SEED", "--leave-out", "1-15"),
            "leaves no subject of SEED",
        ),
        (("pretrain", "SCMM", "SEED", "--leave-out", "16"), "but got [16]"),
        (("pretrain", "SCMM", "SEED", "--leave-out", "x"), "--leave-out must be such"),
        (
            ("pretrain", "SCMM", "SEED", "--steps", "1", "--epochs", "1"),
            "--steps and --epochs exclude each other",
        ),
        (("replica", "SED", "x"), "A corpus must be one of"),
        (("replica", "SEED", "x", "--n-subjects", "16"), "must be at most 15 for SEED"),
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


def test_replica_writes_so_many_subjects(run, tmp_path):
    arguments = ("replica", "DEAP", str(tmp_path), "--n-subjects", "2")
    result = run(*arguments, "--seconds", "1", "--random-state", "3")
    assert result.exit_code == 0, result.output
    assert len(list(tmp_path.rglob("s*.dat"))) == 2


def test_pretrain_counts_steps(run, seed, tmp_path, monkeypatch):
    arguments = ("pretrain", "SCMM", seed, "--subjects", "1", *QUICK[:4])
    arguments += ("--batch-size", "16", "--output", str(tmp_path), "--json")
    found = json.loads(run(*arguments, "--steps", "5").stdout)
    assert (found["steps"], found["epochs"]) == (5, 2)  # 60 windows, 3 full batches
    settings = {}
    monkeypatch.setattr(
        cli, "_make_pretrainer", lambda objective, **given: settings.update(given)
    )
    run(*arguments[:9])
    assert settings["max_steps"] is settings["max_epochs"] is None  # 2000
    assert settings["batch_size"] == "auto" and settings["device"] == "auto"


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
    assert other.exit_code == 2 and "lr was 0.0005, but is now 0.1" in other.stderr


def test_pretrain_resumes(run, seed, tmp_path, monkeypatch):
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
    """Shuffled batches would contrast groups of unrelated windows."""
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
    *warned, error = result.stderr.splitlines()
    assert error == "Error: seen enough"
    # Of the sessions that the replica lacks, without a line of code.
    assert warned and all(line.startswith("Warning: SEED was ") for line in warned)
    assert shapes == [(16, 4, 62, 200)]  # of 30 seconds that all four have


def test_all_modalities_reach_the_model(run, tmp_path):
    """From a shell, multimodal models could be given EEG only."""
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
    for name in ("report.html", "card.md", "card.json"):
        assert f"Saved {results / name}" in result.output
    page = (results / "report.html").read_text()
    assert (
        "DE + logistic regression" in page
        and "scores-SEED-leave-one-subject-out" in page
    )
    other = tmp_path / "new" / "page.html"
    assert run("report", str(results), "--output", str(other)).exit_code == 0
    names = {"page.html", "card.md", "card.json"}
    assert {file.name for file in other.parent.iterdir()} == names
