"""Output of the command line: progress bars, tables, JSON and errors."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import warnings
from contextlib import contextmanager

import typer
from rich.console import Console, OverflowMethod
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

__all__ = [
    "calm",
    "inspection_to_dict",
    "make_progress",
    "make_stopping_text",
    "print_error",
    "print_json",
    "print_problems",
    "print_text",
    "tabulate_controls",
    "tabulate_inspections",
    "tabulate_scores",
]

# Signs in our own texts, and how to write them where the encoding lacks them.
_PLAIN = {"±": "+/-", "…": "..."}


def make_progress() -> Progress:
    """Return a progress bar on the error stream, nothing if it is not a terminal."""
    console = Console(stderr=True)
    spinner = "dots" if console.encoding.startswith("utf") else "line"
    return Progress(
        SpinnerColumn(spinner),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def calm():
    """Suppress messages of the hosts, which would interrupt the progress bar."""
    import mne

    with mne.utils.use_log_level("ERROR"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"moabb\.|sklearn\.")
        warnings.showwarning = _show_warning
        yield


def _show_warning(message, *details, **more) -> None:
    """Print a warning as one line, without the line of code that issued it."""
    print_error(f"Warning: {message}")


def make_stopping_text(unit: str, *, without: str = "") -> str:
    """Return how to resume a command from the last unit after Ctrl-C."""
    option = f" without {without}" if without else ""
    return (
        f"Stopped. Run the same command again{option} to resume from the last "
        f"completed {unit}."
    )


def print_error(text: str) -> None:
    """Print a line to the error stream, in red if it supports colours."""
    console = Console(stderr=True)
    text = _fit(text, sys.stderr)
    console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def print_text(text: str) -> None:
    """Print a line to the output as it is: names of folders may contain brackets."""
    Console().print(_fit(text, sys.stdout), markup=False, soft_wrap=True)


def print_json(content) -> None:
    """Print JSON, with null for numbers that are not finite."""
    typer.echo(json.dumps(_replace_nan(content), indent=2, allow_nan=False))


def _replace_nan(content):
    """Return JSON content with None for missing and infinite numbers."""
    if isinstance(content, dict):
        return {key: _replace_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_replace_nan(value) for value in content]
    if type(content).__name__ == "NAType":  # a missing integer in a table of pandas
        return None
    is_number = not isinstance(content, float) or math.isfinite(content)
    return content if is_number else None


def _fit(text: str, stream) -> str:
    """Return a text that a stream can encode, such as that of an ASCII locale."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for sign, plain in _PLAIN.items():
            text = text.replace(sign, plain)
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def tabulate_scores(scores, protocol: str) -> Table:
    """Return a table of the accuracies that an evaluation returned.

    Numbers of labelled trials and target access have columns only if they vary. Rows
    with different target access are separated, as they must not be ranked together.
    """
    from braindecode_emossl.evaluation import summarize_results

    summary = summarize_results(scores, "accuracy")
    trials = summarize_results(scores, "score_trial")
    summary = summary.assign(mean_trial=trials["mean"], sd_trial=trials["sd"])
    varying = {
        name: column
        for name, column in {
            "n_labeled_trials": "labels",
            "target_access": "access",
        }.items()
        if name in summary and summary[name].nunique(dropna=False) > 1
    }
    title = f"Accuracy, {protocol}, mean ± sd over n subjects"
    numbers = (*varying.values(), "n", "windows", "trials (vote)")
    table = _make_table(title, ("corpus", "pipeline"), numbers)
    parts = [summary]
    if "target_access" in varying:
        parts = [rows for _, rows in summary.groupby("target_access", sort=False)]
    for rows in parts:
        for row in rows.to_dict("records"):
            _add_row(
                table,
                row["dataset"],
                row["pipeline"],
                *(_format_group(row[name]) for name in varying),
                str(row["n_subjects"]),
                _format_score(row["mean"], row["sd"]),
                _format_score(row["mean_trial"], row["sd_trial"]),
            )
        table.add_section()
    return table


def tabulate_controls(scores) -> Table:
    """Return a table of the accuracies of controls, compared with the results.

    Corpus and control are rows of their own, and the name of a pipeline is in its first
    row, so that the table fits 80 columns.
    """
    from pandas import isna

    from braindecode_emossl.evaluation import summarize_controls

    summary = summarize_controls(scores, "accuracy")
    title = "Controls and their reference: accuracy of windows, mean over n subjects"
    numbers = ("n", "control", "ref.", "diff.", "p Holm")
    has_labels = summary["n_labeled_trials"].nunique(dropna=False) > 1
    table = _make_table(title, ("pipeline",), ("labels",) * has_labels + numbers)
    by = ["target_access", "dataset", "control"]
    for (_, corpus, control), rows in summary.groupby(by, sort=False):
        table.add_row(Text(_fit(f"{corpus}: {control}", sys.stdout), style="bold"))
        is_first = ~rows["pipeline"].duplicated()
        for row in rows.assign(is_first=is_first).to_dict("records"):
            p_value = row["p_corrected"]
            _add_row(
                table,
                row["pipeline"] if row["is_first"] else "",
                *(_format_group(row["n_labeled_trials"]),) * has_labels,
                str(row["n_subjects"]),
                f"{row['mean']:.3f}",
                f"{row['reference']:.3f}",
                f"{row['difference']:+.3f}",
                "" if isna(p_value) else f"{p_value:.4f}",
            )
        table.add_section()
    return table


def tabulate_inspections(inspections) -> Table:
    """Return a table with one row for each inspected corpus."""
    texts = ("corpus", "subjects", "sessions", "trials", "verdict", "where")
    table = _make_table("Corpora", texts)
    for found in inspections:
        counts = [
            f"{getattr(found, f'n_{name}')} of {getattr(found, f'expected_{name}')}"
            for name in ("subjects", "sessions", "trials")
        ]
        how = "download it from" if found.is_open else "request it at"
        where = found.root or f"{how} {found.access_url}"
        _add_row(table, found.corpus, *counts, found.verdict, where)
    return table


def _make_table(title: str, texts, numbers=()) -> Table:
    """Return an empty table with columns of texts, which wrap, and of numbers."""
    table = Table(title=_fit(title, sys.stdout))
    for name in texts:
        table.add_column(_fit(name, sys.stdout), overflow="fold")
    # The ellipsis is a character of its own, which ASCII lacks.
    overflow: OverflowMethod = "fold" if _fit("…", sys.stdout) != "…" else "ellipsis"
    for name in numbers:
        heading = _fit(name, sys.stdout)
        table.add_column(heading, justify="right", no_wrap=True, overflow=overflow)
    return table


def _add_row(table: Table, *cells: str) -> None:
    """Add texts as they are: a name in brackets is not markup."""
    table.add_row(*(Text(_fit(cell, sys.stdout)) for cell in cells))


def _format_group(value) -> str:
    """Return a kind of target access or a number of labelled trials as text."""
    from pandas import isna

    return "all" if isna(value) else str(value)


def _format_score(mean: float, sd: float) -> str:
    return f"{mean:.3f}" if math.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"


def print_problems(inspection) -> None:
    """Print the missing and damaged parts of an inspected corpus."""
    lines = [*inspection.missing_sessions, *inspection.missing_trials]
    if inspection.n_subjects and inspection.missing_subjects:
        subjects = inspection.missing_subjects
        lines.insert(0, f"{inspection.corpus}: no files of subjects {subjects}.")
    lines += [f"Remark: {remark}" for remark in inspection.remarks]
    for line in lines:
        print_text(line)
    for problem in inspection.problems:
        problem = _fit(problem, sys.stdout)
        Console().print(problem, style="red", markup=False, soft_wrap=True)


def inspection_to_dict(inspection) -> dict:
    """Return the attributes of an inspection and its verdict, for JSON."""
    return {**dataclasses.asdict(inspection), "verdict": inspection.verdict}
