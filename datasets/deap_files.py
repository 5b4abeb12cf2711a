"""Reading DEAP's preprocessed files and its table of who rated what, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from braindecode_emossl.datasets.base import find_files
from braindecode_emossl.datasets.deap_pickles import read_pickle
from braindecode_emossl.datasets.mat_files import read_variables
from braindecode_emossl.errors import EmosslError

__all__ = [
    "N_VIDEOS",
    "RATINGS",
    "STIMULUS_RATINGS",
    "MissingReaderError",
    "Presentation",
    "find_impossible",
    "find_tables",
    "read_online_ratings",
    "read_preprocessed",
    "read_presentations",
    "read_table",
]

N_VIDEOS = 40

# Columns of the labels.
RATINGS = ("valence", "arousal", "dominance", "liking")

# Of the online ratings, those whose means video_list has, as AVG_Valence and so on.
STIMULUS_RATINGS = ("valence", "arousal")

# What no amplifier or sensor exceeds, in the units of the preprocessed files: a volt in
# electrodes, a skin resistance without contact. The units of the belt and of the
# plethysmograph are not known.
PERIPHERAL_LIMITS = {
    **dict.fromkeys(("hEOG", "vEOG", "zEMG", "tEMG"), 1e6),
    **dict.fromkeys(("GSR", "Resp", "Plet"), 1e10),
    "Temp": 1e3,
}

# Forms of the table, the first one is preferred, and pandas' engine to read them.
_TABLE_FORMS = {".csv": None, ".xls": "xlrd", ".ods": "odf"}
_TABLE_COLUMNS = ("participant_id", "trial", "experiment_id", "start_time", *RATINGS)


# -- the preprocessed files ----------------------------------------------------


def read_preprocessed(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays ``data`` and ``labels`` of a .dat or .mat file, unchecked."""
    if file.suffix.lower() == ".mat":
        content = read_variables(file, ["data", "labels"])
    else:
        content = read_pickle(file)
    return content["data"], content["labels"]


def find_impossible(signals: np.ndarray) -> str | None:
    """Describe a value of the peripheral channels (8, n_times) that none can have."""
    largest = np.abs(signals).max(axis=1)
    for name, limit, value in zip(
        PERIPHERAL_LIMITS, PERIPHERAL_LIMITS.values(), largest.tolist(), strict=True
    ):
        if not value <= limit:
            return f"holds {value:.3g} in {name}, but no signal exceeds {limit:g}"
    return None


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


def find_tables(root: Path, name: str = "participant_ratings") -> list[Path]:
    """Return the tables of a name below a folder, the form to prefer first."""
    found = find_files(root, rf"(?i){name}\.(csv|xls|ods)")
    forms = list(_TABLE_FORMS)
    return sorted(
        (file for file, _ in found), key=lambda file: forms.index(file.suffix.lower())
    )


class MissingReaderError(EmosslError, ImportError):
    """A package that is needed to read a file is not installed."""


def read_table(file: Path) -> pd.DataFrame:
    """Return participant_ratings with columns in small letters, all of them numbers.

    Raises `MissingReaderError` where the package to read it is missing, and whatever
    pandas meets in a broken file.
    """
    return _read_columns(file, _TABLE_COLUMNS, ("familiarity",))


def read_online_ratings(file: Path) -> pd.DataFrame:
    """Return the mean online ratings of video_list by Experiment_id.

    Raises as `read_table` does, and `ValueError` where they are not as published.
    """
    columns = {f"avg_{name}": name for name in STIMULUS_RATINGS}
    table = _read_columns(file, ("experiment_id", *columns)).rename(columns=columns)
    table = table.dropna(subset="experiment_id").set_index("experiment_id")
    if sorted(table.index) != list(range(1, N_VIDEOS + 1)):
        raise ValueError(
            f"it must have each Experiment_id from 1 to {N_VIDEOS} once, but has "
            f"{sorted(table.index)}"
        )
    outside = table[~table.apply(lambda column: column.between(1, 9)).all(axis=1)]
    if len(outside):
        raise ValueError(
            f"the means of Experiment_id {outside.index[0]:g} must lie between 1 and "
            f"9, but are {outside.iloc[0].to_dict()}"
        )
    return table.sort_index()


def _read_columns(file: Path, required, optional=()) -> pd.DataFrame:
    """Return some columns of a table of the release as numbers."""
    engine = _TABLE_FORMS[file.suffix.lower()]
    if engine is None:
        cells = _read_csv(file)
    else:
        try:
            cells = pd.read_excel(file, header=None, dtype=object, engine=engine)
        except ImportError as error:
            raise MissingReaderError(
                f"DEAP: {file} cannot be read ({error}). Run "
                '`pip install "braindecode-emossl[spreadsheets]"`, or put '
                f"{file.stem}.csv of the release beside it."
            ) from error
    # A spreadsheet may have a line before the header.
    for number in range(min(5, len(cells))):
        names = [str(cell).strip().lower() for cell in cells.iloc[number]]
        if missing := [name for name in required if name not in names]:
            continue
        table = cells.iloc[number + 1 :].set_axis(names, axis=1)
        columns = [*required, *(name for name in optional if name in names)]
        return table[columns].apply(_to_numbers)
    missing = missing if len(cells) else list(required)
    raise ValueError(f"it has no header with the columns {missing}")


def _read_csv(file: Path) -> pd.DataFrame:
    """Return the cells of a table as text.

    Where numbers have a decimal comma, spreadsheets put semicolons between them.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = file.read_text(encoding="latin-1")  # names of artists
    if ";" in text.partition("\n")[0]:
        text = text.replace(",", ".").replace(";", ",")
    return pd.read_csv(StringIO(text), header=None, dtype=str)


def _to_numbers(cells: pd.Series) -> pd.Series:
    """Return a column as numbers, NaN where a cell is empty."""
    cells = cells.replace(r"^\s*$", np.nan, regex=True)
    numbers = pd.to_numeric(cells, errors="coerce")
    if (wrong := cells[numbers.isna() & cells.notna()]).size:
        raise ValueError(f"its column {cells.name} holds {wrong.iloc[0]!r}")
    return numbers


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
        familiarity = row.get("familiarity", np.nan)
        if not np.isnan(familiarity):
            if not 1 <= familiarity <= 5:
                raise ValueError(
                    f"the Familiarity of the video with Experiment_id "
                    f"{row['experiment_id']:g} for subject {subject} must lie between "
                    f"1 and 5, but is {familiarity:g}"
                )
            ratings["familiarity"] = float(familiarity)
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
