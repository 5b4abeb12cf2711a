"""What the command line prints: bars, tables, JSON and errors."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from contextlib import contextmanager

import typer
from rich.console import Console
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
    "tabulate_demo",
    "tabulate_inspections",
    "tabulate_scores",
]


def make_progress() -> Progress:
    """Return a bar on the error stream, so that a script can read the output.

    Nothing is shown where the error stream is not a terminal.

    Returns
    -------
    Progress
        A context; its tasks may have no total.
    """
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def calm():
    """Keep the remarks of the hosts from the progress bar."""
    import mne

    with mne.utils.use_log_level("ERROR"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"moabb\.|sklearn\.")
        yield


def make_stopping_text(unit: str, *, without: str = "") -> str:
    """Return what Ctrl-C says of a command that goes on where it was stopped.

    Parameters
    ----------
    unit : str
        What is kept as soon as it is finished.
    without : str
        Option that would delete or refuse what is kept.

    Returns
    -------
    str
        One or two sentences.
    """
    same = f"Without {without} the same" if without else "The same"
    return f"Stopped. {same} command goes on after the last finished {unit}."


def print_error(text: str) -> None:
    """Print a line to the error stream, red where there are colours.

    Parameters
    ----------
    text : str
        What went wrong.
    """
    console = Console(stderr=True)
    console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def print_text(text: str) -> None:
    """Print a line to the output, as it is: folders may have brackets in their names.

    Parameters
    ----------
    text : str
        What to say.
    """
    Console().print(text, markup=False, soft_wrap=True)


def print_json(content) -> None:
    """Print JSON, with null for what is not a finite number.

    Parameters
    ----------
    content : object
        Dicts, lists, numbers, strings and None.
    """
    typer.echo(json.dumps(_replace_nan(content), indent=2, allow_nan=False))


def _replace_nan(content):
    if isinstance(content, dict):
        return {key: _replace_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_replace_nan(value) for value in content]
    is_number = not isinstance(content, float) or math.isfinite(content)
    return content if is_number else None


def tabulate_scores(scores, protocol: str) -> Table:
    """Return the accuracies of an evaluation.

    Parameters
    ----------
    scores : DataFrame
        What :func:`~braindecode_emossl.evaluation.evaluate` returned.
    protocol : str
        For the title.

    Returns
    -------
    Table
        One row a corpus and pipeline.
    """
    from braindecode_emossl.evaluation import summarize_results

    table = Table(title=f"Accuracy, {protocol}, mean ± sd over subjects")
    for name in ("corpus", "pipeline", "subjects"):
        table.add_column(name)
    for name in ("windows", "trials (vote)"):
        table.add_column(name, justify="right", no_wrap=True)
    windows = summarize_results(scores, "accuracy")
    trials = summarize_results(scores, "score_trial")
    for row, voted in zip(windows.itertuples(), trials.itertuples(), strict=True):
        numbers = [_format_score(part.mean, part.sd) for part in (row, voted)]
        _add_row(table, row.dataset, row.pipeline, str(row.n_subjects), *numbers)
    return table


def tabulate_demo(summary) -> Table:
    """Return the accuracies of the demo.

    Parameters
    ----------
    summary : DataFrame
        What :func:`~braindecode_emossl.demo.summarize` returned.

    Returns
    -------
    Table
        One row a corpus and pipeline.
    """
    table = Table(title="Accuracy, leave one subject out")
    for name in ("corpus", "target", "pipeline"):
        table.add_column(name)
    table.add_column("mean ± sd over subjects", justify="right")
    for row in summary.itertuples():
        score = _format_score(row.mean, row.std)
        _add_row(table, row.dataset, row.target, row.pipeline, score)
    return table


def tabulate_inspections(inspections) -> Table:
    """Return what was found of corpora.

    Parameters
    ----------
    inspections : list of Inspection
        One a corpus.

    Returns
    -------
    Table
        One row a corpus.
    """
    table = Table(title="Corpora")
    for name in ("corpus", "subjects", "sessions", "trials", "verdict", "where"):
        table.add_column(name, overflow="fold")
    for found in inspections:
        counts = [
            f"{getattr(found, f'n_{name}')} of {getattr(found, f'expected_{name}')}"
            for name in ("subjects", "sessions", "trials")
        ]
        where = found.root or f"ask for it at {found.access_url}"
        _add_row(table, found.corpus, *counts, found.verdict, where)
    return table


def _add_row(table: Table, *cells: str) -> None:
    """Add texts as they are: a name with brackets is no markup."""
    table.add_row(*map(Text, cells))


def _format_score(mean: float, sd: float) -> str:
    return f"{mean:.3f}" if math.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"


def print_problems(inspection) -> None:
    """Print what is missing or wrong of a corpus.

    Parameters
    ----------
    inspection : Inspection
        What was found.
    """
    lines = [*inspection.missing_sessions, *inspection.missing_trials]
    if inspection.n_subjects and inspection.missing_subjects:
        subjects = inspection.missing_subjects
        lines.insert(0, f"{inspection.corpus}: no files of subjects {subjects}.")
    lines += [f"Remark: {remark}" for remark in inspection.remarks]
    for line in lines:
        print_text(line)
    for problem in inspection.problems:
        Console().print(problem, style="red", markup=False, soft_wrap=True)


def inspection_to_dict(inspection) -> dict:
    """Return what was found of a corpus, for JSON.

    Parameters
    ----------
    inspection : Inspection
        What was found.

    Returns
    -------
    dict
        Its attributes, with ``verdict``.
    """
    return {**dataclasses.asdict(inspection), "verdict": inspection.verdict}
