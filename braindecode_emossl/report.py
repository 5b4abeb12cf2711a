"""A page and a reporting card of the evaluations in a folder of results."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from braindecode_emossl.evaluation.store import read_evaluations
from braindecode_emossl.report_card import describe_card, render_card
from braindecode_emossl.report_content import describe_evaluation, to_text
from braindecode_emossl.report_page import render_page
from braindecode_emossl.storage import read_json, write_file, write_json

__all__ = ["save_scores", "write_report"]

_CARD = ("card.md", "card.json")
_PACKAGES = (
    "braindecode-emossl",
    "braindecode",
    "moabb",
    "mne",
    "torch",
    "scikit-learn",
    "numpy",
)


def write_report(
    results_dir,
    output,
    *,
    on_evaluation: Callable[[str, int, int], None] = lambda name, n_done, n_all: None,
) -> list[Path]:
    """Write one HTML page with all evaluations in a folder of results, and their card.

    For each evaluation, the page shows its settings, a summary with confidence
    intervals and chance levels, figures, paired comparisons and the scores of each
    subject, followed by the commands and the environment. Pipelines with different
    access to the test subjects are in separate tables. Scores are computed from the
    stored predictions. The page contains its figures and needs no network.

    The reporting card states the choices on which the numbers depend: eight axes from
    preprocessing to code and data [1]_, and regime, mechanism and access to the test
    subject [2]_. It begins with the majority baseline, the scores under permuted
    labels, the protocol and the target access. Lines without data in the folder
    are ``"unknown"``.

    Parameters
    ----------
    results_dir : path
        Folder that was passed to :func:`~braindecode_emossl.evaluation.evaluate` as
        ``results_dir``, or to ``emossl evaluate`` as ``--results``.
    output : path
        File of the page. The card is written next to it, as ``card.md`` and
        ``card.json``. Each file appears complete or not at all.
    on_evaluation : callable
        Called with the name of an evaluation, the number of those done and the number
        of all.

    Returns
    -------
    list of Path
        The page, ``card.md`` and ``card.json``.

    Raises
    ------
    FileNotFoundError
        If the folder has no finished fold.
    ValueError
        If a file in the folder is damaged, or ``output`` is a folder or called like
        the card.
    FileExistsError
        If there is a file called like the card that no report has written.
    OSError
        If a file cannot be written.

    References
    ----------
    .. [1] https://github.com/eeg-emotion-audit/eeg-emotion-audit-toolkit
    .. [2] https://github.com/blaxe05/leakage-aware-eeg-emotion
    """
    page_file = Path(output).expanduser()
    files = [page_file, *(page_file.with_name(name) for name in _CARD)]
    if page_file.name in _CARD:
        raise ValueError(
            f"output must not be called {page_file.name}, as the card is, but got "
            f"{output}. Choose another name for the page."
        )
    if page_file.is_dir():
        raise ValueError(
            f"output must be a file, but {output} is a folder. Name a file in it, such "
            f"as {page_file / 'report.html'}."
        )
    _check_card(*files[1:])
    root = Path(results_dir).expanduser().absolute()
    stored = read_evaluations(root)
    if not stored:
        raise FileNotFoundError(
            f"There is no finished fold below {root}: name the folder that was passed "
            "to emossl evaluate as --results, or to evaluate as results_dir."
        )
    evaluations, cards = [], []
    for n_done, evaluation in enumerate(stored):
        on_evaluation(evaluation.folder.name, n_done, len(stored))
        evaluations.append(describe_evaluation(evaluation))
        cards.append(describe_card(evaluation, evaluations[-1]))
    made, records = _now(), _read_records(root)
    page = render_page(
        title=f"Results in {root.name}",
        folder=str(root),
        made=made,
        evaluations=evaluations,
        records=records,
        environment=_describe_environment(),
    )
    card = {
        "folder": root.name,
        "made": made,
        "version": version("braindecode-emossl"),
        "evaluations": cards,
        "commands": [{k: r[k] for k in ("command", "environment")} for r in records],
    }
    _write_text(files[0], page)
    # Before its text: by the data the next report knows the card as one.
    write_json(files[2], card)
    _write_text(files[1], render_card(card))
    return files


def _write_text(file: Path, text: str) -> None:
    write_file(file, partial(Path.write_text, data=text, encoding="utf-8"))


def _check_card(text: Path, data: Path) -> None:
    """Raise if files called like the card are not one: the user names only the page."""
    for file in filter(Path.exists, (text, data)):
        try:
            is_card = "evaluations" in json.loads(data.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            is_card = False
        if not is_card:
            raise FileExistsError(
                f"{file} would be replaced by the card, but is not one that a report "
                "has written. Choose another folder for output (--output)."
            )


def save_scores(scores: pd.DataFrame, stem: Path, record: dict[str, Any]) -> list[Path]:
    """Write a table of scores, together with the command and the environment.

    Parameters
    ----------
    scores : DataFrame
        Scores, as returned by :func:`~braindecode_emossl.evaluation.evaluate`.
    stem : Path
        Path of the files without the suffix; the name begins with ``scores-``.
    record : dict of str to object
        ``command`` and ``settings``; the time and the environment are added.

    Returns
    -------
    list of Path
        The ``.csv``, the ``.parquet`` and the ``.json`` file.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    files = [stem.with_name(f"{stem.name}.{s}") for s in ("csv", "parquet", "json")]
    write_file(files[0], lambda scratch: scores.to_csv(scratch, index=False))
    write_file(files[1], scores.to_parquet)
    record = {**record, "finished": _now(), "environment": _describe_environment()}
    write_json(files[2], record)
    return files


def _read_records(root: Path) -> list[dict[str, Any]]:
    """Return the commands that wrote the tables of scores in a folder."""
    kinds: dict[str, type] = {
        "command": str,
        "settings": dict,
        "environment": dict,
        "finished": str,
    }
    records = []
    for file in sorted(root.glob("scores-*.json")):
        remedy = "Delete it, or repeat the command emossl evaluate that wrote it."
        record = {"file": file.name, **read_json(file, kinds, remedy=remedy)}
        record["settings"] = {k: to_text(v) for k, v in record["settings"].items()}
        records.append(record)
    return records


def _describe_environment() -> dict[str, str]:
    """Return the versions of Python, the platform and the main packages."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in _PACKAGES},
    }


def _now() -> str:
    return datetime.now().astimezone().isoformat(" ", "seconds")
