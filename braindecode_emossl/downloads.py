"""Downloads of open corpora on the command line: first the size, then the files."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout

import typer
from rich.console import Console

__all__ = ["download_missing"]


def download_missing(datasets: Iterable, yes: bool) -> None:
    """Download the subjects of open corpora that are not on disk.

    The size is printed, and the user must confirm unless ``yes`` is set. Files that are
    on disk are kept, so that an interrupted download resumes.

    Parameters
    ----------
    datasets : iterable of EmotionDataset
        The corpora; those that are not open are passed over.
    yes : bool
        Whether to download without asking.

    Raises
    ------
    ValueError
        If the user declines or cannot be asked, or the disk is too small.
    """
    for dataset in datasets:
        if not dataset.is_open:
            continue
        subjects = dataset.subject_list
        missing = [s for s in subjects if not dataset.is_downloaded(s)]
        if not missing:
            continue
        # The client prints to the standard output, where --json belongs.
        with redirect_stdout(sys.stderr):
            size = dataset.download_size(missing)
        text = (
            f"{dataset.code}: {len(missing)} of {len(subjects)} subjects are not in "
            f"{dataset.download_root()}. They take {format_size(size)}."
        )
        _check_disk(dataset, size, text)
        _ask(text, yes)
        for number, subject in enumerate(missing, start=1):
            _say(f"Downloading subject {subject} ({number} of {len(missing)})")
            with redirect_stdout(sys.stderr):
                dataset.data_path(subject)


def _ask(text: str, yes: bool) -> None:
    if yes:
        _say(text)
        return
    if not sys.stdin.isatty():
        raise ValueError(f"{text} Pass --yes to download them.")
    if not typer.confirm(f"{text} Download them?", err=True):
        raise ValueError(
            "Nothing was downloaded. Choose --subjects that are on disk, or name the "
            "folder of a copy, as in FACED=FOLDER."
        )


def _check_disk(dataset, size: int, text: str) -> None:
    folder = dataset.download_root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ValueError(
            f"{text} Only {format_size(free)} are free there. Choose fewer --subjects, "
            f"or another disk with MNE_DATASETS_{dataset.path_key}_PATH."
        )


def format_size(n_bytes: int) -> str:
    """Return a size as text, such as "1.2 GB"."""
    unit, divisor = ("GB", 1e9) if n_bytes >= 1e9 else ("MB", 1e6)
    return f"{n_bytes / divisor:.1f} {unit}"


def _say(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
