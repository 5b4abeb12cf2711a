"""Reading DEAP's preprocessed files and its table of who rated what, and when."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from braindecode_emossl.datasets.base import find_files

__all__ = [
    "N_VIDEOS",
    "RATINGS",
    "ForbiddenPickleError",
    "Presentation",
    "find_tables",
    "read_preprocessed",
    "read_presentations",
    "read_table",
]

log = logging.getLogger(__name__)

N_VIDEOS = 40

# Columns of the labels.
RATINGS = ("valence", "arousal", "dominance", "liking")

# Forms of the table, the first one is preferred, and what pandas needs to read them.
_TABLE_FORMS = {".csv": None, ".xls": "xlrd", ".ods": "odfpy"}
_TABLE_COLUMNS = ("participant_id", "trial", "experiment_id", "start_time", *RATINGS)


# -- the preprocessed files ----------------------------------------------------


def read_preprocessed(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays ``data`` and ``labels`` of a .dat or .mat file, unchecked."""
    if file.suffix == ".mat":
        content = loadmat(file, variable_names=["data", "labels"])
    else:
        with file.open("rb") as stream:
            # Python 2 wrote the files, so its byte strings hold the arrays.
            content = _ArrayUnpickler(stream, encoding="latin1").load()
    return tuple(np.asarray(content[key]) for key in ("data", "labels"))


class ForbiddenPickleError(pickle.UnpicklingError):
    """A pickle asks for something that no array needs."""


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickle numpy arrays and nothing else, so that a file can run no code."""

    allowed = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module, name):
        if (module, name) not in self.allowed:
            raise ForbiddenPickleError(f"its pickle asks for {module}.{name}.")
        found = super().find_class(module.replace("numpy.core", "numpy._core"), name)
        # A pickle can set attributes of what it is given: of a function, hand out a
        # stand-in. Those of a built-in type cannot be set.
        return found if isinstance(found, type) else partial(found)


# -- participant_ratings -------------------------------------------------------


@dataclass(frozen=True)
class Presentation:
    """One row of the table: a video as one subject saw and rated it.

    ``trial`` counts from 0 in the order of presentation, ``video`` is the
    Experiment_id, ``start`` the table's number or None.
    """

    trial: int
    video: int
    ratings: Mapping[str, float]
    start: int | None


def find_tables(root: Path) -> list[Path]:
    """Return the tables below a folder, the form to prefer first."""
    found = find_files(root, r"(?i)participant_ratings\.(csv|xls|ods)")
    forms = list(_TABLE_FORMS)
    return sorted(
        (file for file, _ in found), key=lambda file: forms.index(file.suffix.lower())
    )


def read_table(file: Path) -> pd.DataFrame | None:
    """Return the table with columns in small letters, all of them numbers.

    None, and a message in the log, where the package to read it is missing. Raises
    whatever pandas meets in a broken file.
    """
    form = file.suffix.lower()
    if form == ".csv":
        cells = pd.read_csv(file, header=None, dtype=str, encoding="utf-8-sig")
    else:
        try:
            cells = pd.read_excel(file, header=None, dtype=object)
        except ImportError as error:
            log.warning(
                "DEAP: %s cannot be read without the package %s (%s). Install it, or "
                "put participant_ratings.csv of the release beside it.",
                file,
                _TABLE_FORMS[form],
                error,
            )
            return None
    # A spreadsheet may have a line before the header.
    for number in range(min(5, len(cells))):
        names = [str(cell).strip().lower() for cell in cells.iloc[number]]
        if missing := [name for name in _TABLE_COLUMNS if name not in names]:
            continue
        table = cells.iloc[number + 1 :].set_axis(names, axis=1)
        columns = [*_TABLE_COLUMNS, *({"familiarity"} & set(names))]
        return table[columns].apply(pd.to_numeric, errors="coerce")
    missing = missing if len(cells) else list(_TABLE_COLUMNS)
    raise ValueError(f"it has no header with the columns {missing}")


def read_presentations(table: pd.DataFrame, subject: int) -> list[Presentation]:
    """Return what a subject saw, in the order of presentation.

    Raises `ValueError` where that is not each video once.
    """
    rows = table[table["participant_id"] == subject].sort_values("trial")
    once = list(range(1, N_VIDEOS + 1))
    for column in ("trial", "experiment_id"):
        if sorted(rows[column]) != once:
            raise ValueError(
                f"the rows of subject {subject} must have each {column.capitalize()} "
                f"from 1 to {N_VIDEOS} once, but have {sorted(rows[column])}"
            )
    presentations = []
    for row in rows.to_dict("records"):
        ratings = {name: float(row[name]) for name in RATINGS}
        if np.isfinite(row.get("familiarity", np.nan)):
            ratings["familiarity"] = float(row["familiarity"])
        start = row["start_time"]
        presentations.append(
            Presentation(
                trial=int(row["trial"]) - 1,
                video=int(row["experiment_id"]),
                ratings=ratings,
                start=int(start) if np.isfinite(start) else None,
            )
        )
    return presentations
