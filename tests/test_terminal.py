"""Output of the command line: tables, and locales that lack characters."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pandas as pd
import pytest
from rich.console import Console

from braindecode_emossl import terminal


def make_scores(pipelines=("a", "b"), numbers=(None,), access=("none", "none")):
    rows = [
        {
            "dataset": "SEED",
            "pipeline": pipeline,
            "subject": str(subject),
            "n_labeled_trials": number,
            "target_access": kind,
            "accuracy": 0.5 + subject / 10,
            "score_trial": 0.6 + subject / 10,
        }
        for pipeline, kind in zip(pipelines, access, strict=True)
        for number in numbers
        for subject in (0, 1)
    ]
    return pd.DataFrame(rows).astype({"n_labeled_trials": "Int64"})


def render(table, width=100):
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return file.getvalue()


def test_scores():
    text = render(terminal.tabulate_scores(make_scores(), "cross-session"))
    assert "Accuracy, cross-session, mean ± sd over n subjects" in text
    row = next(line for line in text.splitlines() if " a " in line)
    assert row.strip("│ ").split("│")[-2:] == [" 0.550 ± 0.071 ", " 0.650 ± 0.071"]
    assert "labels" not in text and "access" not in text


def test_columns_for_what_varies():
    scores = make_scores(numbers=(1, None), access=("none", "calibration"))
    text = render(terminal.tabulate_scores(scores, "cross-session"))
    rows = [line.split("│")[2:5] for line in text.splitlines() if "SEED" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["a", "1", "none"],
        ["a", "all", "none"],
        ["b", "1", "calibration"],
        ["b", "all", "calibration"],
    ]


def test_target_access_is_separated():
    """A pipeline that adapts to the test subject stood among those that do not."""
    pipelines, access = ("a", "b", "c"), ("none", "unlabeled", "none")
    scores = make_scores(pipelines, access=access)
    lines = render(terminal.tabulate_scores(scores, "x")).splitlines()
    rows = [line.split("│")[2].strip() if "SEED" in line else line[0] for line in lines]
    assert "".join(rows).endswith("ac├b└")


@contextmanager
def ascii_output():
    """Redirect the output to a file of an ASCII locale; yield its bytes."""
    file = io.BytesIO()
    stream = io.TextIOWrapper(file, encoding="ascii", write_through=True)
    with redirect_stdout(stream), redirect_stderr(stream):
        yield file
    stream.detach()


def test_output_in_an_ascii_locale():
    """The table failed on its plus-minus sign, after hours of evaluation."""
    scores = make_scores(pipelines=("modèle", "模型"))
    with ascii_output() as file:
        Console(width=80).print(terminal.tabulate_scores(scores, "x"))
        terminal.print_text("Saved /tmp/é … ± 1")
        terminal.print_error("/tmp/é is missing.")
    text = file.getvalue().decode("ascii")
    assert "0.550 +/- 0.071" in text and "mod\\xe8le" in text
    assert "Saved /tmp/\\xe9 ... +/- 1" in text and "/tmp/\\xe9 is missing." in text


@pytest.mark.parametrize("width", [30, 50])
def test_narrow_table_in_an_ascii_locale(width):
    """The ellipsis of a shortened cell is not an ASCII character either."""
    with ascii_output() as file:
        table = terminal.tabulate_scores(make_scores(("long " * 9, "b")), "x")
        Console(width=width).print(table)
    assert file.getvalue().decode("ascii")


def test_missing_numbers_are_null_in_json(capsys):
    content = [{"kappa": float("nan"), "seed": pd.NA}, (float("inf"), 1.5)]
    terminal.print_json(content)
    output = json.loads(capsys.readouterr().out)
    assert output == [{"kappa": None, "seed": None}, [None, 1.5]]


def test_controls_are_readable_in_80_columns():
    """Names and numbers were cut or broken after a few letters."""
    names = ("MaskedClusterTransformer, random weights", "DE + logistic regression")
    scores = make_scores(names, numbers=(1, 5)).assign(control="", control_part="")
    controlled = scores.assign(
        control="injected-signal(snr=0.2)", accuracy=scores["accuracy"] + 0.25
    )
    table = terminal.tabulate_controls(pd.concat([scores, controlled]))
    lines = [
        [cell.strip() for cell in line.strip("│\n").split("│")]
        for line in render(table, width=80).splitlines()
        if line.startswith("│")
    ]
    assert lines == [
        ["SEED:", "", "", "", "", "", ""],
        ["injected-signal(snr=0.2)", "", "", "", "", "", ""],
        ["MaskedClusterTransformer,", "1", "2", "0.800", "0.550", "+0.250", "1.0000"],
        ["random weights", "", "", "", "", "", ""],
        ["", "5", "2", "0.800", "0.550", "+0.250", "1.0000"],
        ["DE + logistic regression", "1", "2", "0.800", "0.550", "+0.250", "1.0000"],
        ["", "5", "2", "0.800", "0.550", "+0.250", "1.0000"],
    ]
