"""Finished folds on disk, from which an interrupted evaluation resumes."""

from __future__ import annotations

import io
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pyarrow.parquet import read_schema

from braindecode_emossl.evaluation.folds import FoldResult
from braindecode_emossl.storage import (
    UNSEALED,
    as_json,
    hash_json,
    is_sealed,
    read_json,
    remove_leftovers,
    seal,
    write_file,
    write_json,
)

__all__ = [
    "FoldStore",
    "PipelineStore",
    "StoredEvaluation",
    "StoredPipeline",
    "read_evaluations",
    "read_fold",
    "read_predictions",
]

_RUN, _PIPELINE = "run.json", "pipeline.json"
_FOLD_NAME = re.compile(r"(?P<unit>.+)_(?P<index>\d+)of(?P<n_folds>\d+)\.parquet")
# From the least to the most that a pipeline was given of the test subject.
_ACCESS = ("none", "statistics", "unlabeled", "calibration")


class FoldStore:
    """The finished folds of one evaluation, with a folder for each of its pipelines.

    The names of the folders are hashes of everything that the results depend on, so
    that a changed setting never finds old results.

    Parameters
    ----------
    results_dir : path
        Folder of all results.
    identity : mapping of str to object
        Everything but the pipeline that the folds depend on, as JSON; ``corpora`` and
        ``protocol`` among it. ``run.json`` holds it together with the seed.
    random_state : int or None
        Seed of the folds. None draws one, which later calls find again.
    notes : mapping of str to object, optional
        What readers of ``run.json`` may want to know, although no result depends on it.

    Attributes
    ----------
    seed : int
        Seed of the folds.
    folder : Path
        Folder of this evaluation.

    Raises
    ------
    ValueError
        If ``run.json`` is damaged.
    """

    def __init__(
        self,
        results_dir: str | Path,
        identity: Mapping[str, Any],
        random_state: int | None,
        *,
        notes: Mapping[str, Any] | None = None,
    ):
        digest = hash_json({**identity, "random_state": random_state})
        name = f"{'+'.join(identity['corpora'])}_{identity['protocol']}_{digest}"
        self.folder = Path(results_dir) / name
        run = self.folder / _RUN
        if not run.exists():
            seed = secrets.randbits(31) if random_state is None else random_state
            content = {**identity, "random_state": seed, "notes": dict(notes or {})}
            write_json(run, content, replace=False)
        self.seed: int = _read_run(run, {"random_state": int})["random_state"]
        self._names: dict[Path, list[str]] = {}
        remove_leftovers(self.folder)

    def open_pipeline(
        self, name: str, identity: Mapping[str, Any], settings, *, probes: bool = False
    ) -> PipelineStore:
        """Return the store of one pipeline.

        Parameters
        ----------
        name : str
            Name that the caller gave it; no result depends on it.
        identity : mapping of str to object
            Everything that distinguishes it from other pipelines, as JSON.
        settings : object
            Description for readers of ``pipeline.json``, as JSON.
        probes : bool
            Whether folds without probes count as unfinished.

        Returns
        -------
        PipelineStore
            Its folds.
        """
        folder = self.folder / hash_json([self.folder.name, identity])
        # The caller may give one estimator several names.
        names = self._names.setdefault(folder, [])
        names += [] if name in names else [name]
        named = {"name": names[0], "other_names": names[1:]}
        content = as_json({**named, "settings": settings, **identity})
        file = folder / _PIPELINE
        if _read_or_none(file) != content:
            try:
                write_json(file, content)
            except OSError:
                # Finished results may be read-only; another name does not matter.
                if not file.exists():
                    raise
        remove_leftovers(folder)
        return PipelineStore(folder, probes=probes)


class PipelineStore:
    """The finished folds of one pipeline in one evaluation.

    Files that are empty, truncated or altered, or that were copied from another fold,
    count as unfinished.

    Parameters
    ----------
    folder : Path
        Folder of the files.
    probes : bool
        Whether folds without probes also count as unfinished.
    """

    def __init__(self, folder: Path, *, probes: bool = False):
        self.folder = folder
        self.probes = probes
        self._checked: dict[tuple, bool] = {}

    def __len__(self) -> int:
        return sum(map(self._is_valid, self._list()))

    def clear(self) -> None:
        """Delete the folds."""
        for fold in self._list():
            fold.file.unlink(missing_ok=True)

    def find(self, unit: str) -> dict[int, Path]:
        """Return the files of the finished folds of a unit by number.

        Parameters
        ----------
        unit : str
            Name of what is loaded together: a subject, a corpus or ``"all"``.

        Returns
        -------
        dict of int to Path
            Sorted by number.
        """
        folds = [fold for fold in self._list() if fold.unit == unit]
        return {fold.number: fold.file for fold in folds if self._is_valid(fold)}

    def is_complete(self, unit: str) -> bool:
        """Return whether all folds of a unit are finished.

        Parameters
        ----------
        unit : str
            Name of the unit.

        Returns
        -------
        bool
            False if no fold of the unit is finished.
        """
        folds = [f for f in self._list() if f.unit == unit and self._is_valid(f)]
        return bool(folds) and len(folds) == folds[0].n_folds

    def write(self, unit: str, index: int, n_folds: int, result: FoldResult) -> None:
        """Write a finished fold.

        Parameters
        ----------
        unit : str
            Name of the unit.
        index, n_folds : int
            Number of the fold, from 0, and number of folds of the unit.
        result : FoldResult
            Its predictions and scores.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        file = self.folder / f"{unit}_{index:04d}of{n_folds:04d}.parquet"
        data = _pack(_place_of(file), result)
        write_file(file, lambda scratch: scratch.write_bytes(data))

    def _list(self) -> list[_Fold]:
        return list(_list_folds(self.folder))

    def _is_valid(self, fold: _Fold) -> bool:
        try:
            stat = fold.file.stat()
        except OSError:
            return False
        key = (fold.file.name, stat.st_size, stat.st_mtime_ns)
        if key not in self._checked:
            found = _read_or_none(fold.file, _check)
            self._checked[key] = found is not None and not (
                self.probes and found[1]["result"].get("probes") is None
            )
        return self._checked[key]


@dataclass
class StoredPipeline:
    """The finished folds of one pipeline in one evaluation.

    Attributes
    ----------
    name : str
        Name that the caller gave it; with several names it is listed under each.
    folder : Path
        Folder of its files.
    content : dict
        Content of ``pipeline.json``: ``name``, ``other_names``, ``settings``,
        ``hash``, ``seed``, ``n_labeled_trials`` and what else distinguishes it.
    predictions : DataFrame
        Predictions of all finished folds, one row for each test window.
    parts : ndarray of str
        Part of a control that each row of ``predictions`` belongs to; empty strings
        if the pipeline is not that of a control.
    probes : DataFrame
        What linear probes read from features, one row a fold that has probes.
    diagnosis : DataFrame
        Features before and after pre-training, one row a fold that pre-trained.
    target_access : {"none", "statistics", "unlabeled", "calibration"}
        The most that a fold was given of its test subject.
    complete : bool
        Whether no fold is missing of any subject or corpus that was begun.
    """

    name: str
    folder: Path
    content: dict[str, Any]
    predictions: pd.DataFrame
    parts: np.ndarray
    probes: pd.DataFrame
    diagnosis: pd.DataFrame
    target_access: str
    complete: bool

    @property
    def control(self) -> str:
        """Name of the control; empty for a result."""
        return (self.content.get("control") or {}).get("name", "")


@dataclass
class StoredEvaluation:
    """An evaluation in a folder of results.

    Attributes
    ----------
    folder : Path
        Folder of its files.
    run : dict
        Content of ``run.json``: everything but the pipelines that the results depend
        on, ``random_state`` and ``notes``.
    pipelines : list of StoredPipeline
        Those with finished folds, sorted by name.
    controls : list of StoredPipeline
        Stored controls of these pipelines. They are not results.
    """

    folder: Path
    run: dict[str, Any]
    pipelines: list[StoredPipeline]
    controls: list[StoredPipeline] = field(default_factory=list)


class _Fold(NamedTuple):
    """What the name of a file says of it."""

    file: Path
    unit: str
    number: int
    n_folds: int


def read_fold(file: Path) -> FoldResult:
    """Read a finished fold.

    Parameters
    ----------
    file : Path
        One of :meth:`PipelineStore.find`.

    Returns
    -------
    FoldResult
        As it was written.

    Raises
    ------
    ValueError
        If the file is damaged or was copied from another fold.
    """
    return _unpack(Path(file))


def read_evaluations(results_dir) -> list[StoredEvaluation]:
    """Read all evaluations with finished folds in a folder of results.

    Parameters
    ----------
    results_dir : path
        Folder that was passed to :func:`evaluate`.

    Returns
    -------
    list of StoredEvaluation
        Sorted by the names of their folders. Damaged folds are left out.

    Raises
    ------
    ValueError
        If a ``run.json`` or ``pipeline.json`` is damaged.
    """
    root = Path(results_dir).expanduser().absolute()
    evaluations = []
    for file in sorted(root.glob(f"*/{_RUN}")):
        run = _read_run(file, {"protocol": str})
        found = map(_read_pipeline, sorted(file.parent.glob(f"*/{_PIPELINE}")))
        stored = [pipeline for pipeline in found if pipeline is not None]
        stored += [
            replace(pipeline, name=name)
            for pipeline in stored
            for name in pipeline.content.get("other_names", [])
            if not pipeline.control
        ]
        stored.sort(key=lambda pipeline: (pipeline.name, pipeline.control))
        pipelines = [pipeline for pipeline in stored if not pipeline.control]
        controls = [pipeline for pipeline in stored if pipeline.control]
        if pipelines:
            evaluations.append(StoredEvaluation(file.parent, run, pipelines, controls))
    return evaluations


def read_predictions(results_dir):
    """Return the predictions of all finished folds in a folder of results.

    The predictions of controls are left out.

    Parameters
    ----------
    results_dir : str or Path
        Folder that was passed to :func:`evaluate`.

    Returns
    -------
    DataFrame
        One row for each test window of each fold: ``evaluation`` (the name of its
        folder), ``pipeline``, ``protocol``, ``seed`` and ``n_labeled_trials`` (missing
        where none was set), the metadata of the window, ``label``, ``predicted`` and
        ``proba_<class>``.

    Raises
    ------
    FileNotFoundError
        If there is no finished fold.
    ValueError
        If a ``run.json`` or ``pipeline.json`` is damaged.
    """
    tables = []
    for evaluation in read_evaluations(results_dir):
        for pipeline in evaluation.pipelines:
            columns = {
                "evaluation": evaluation.folder.name,
                "pipeline": pipeline.name,
                "protocol": evaluation.run["protocol"],
                "seed": _as_column(pipeline, "seed"),
                "n_labeled_trials": _as_column(pipeline, "n_labeled_trials"),
            }
            table = pipeline.predictions.copy()
            for place, (name, value) in enumerate(columns.items()):
                table.insert(place, name, value)
            tables.append(table)
    if not tables:
        raise FileNotFoundError(
            f"There is no finished fold below {Path(results_dir).absolute()}: pass the "
            "folder that was passed to evaluate as results_dir."
        )
    return pd.concat(tables, ignore_index=True)


def _as_column(pipeline: StoredPipeline, name: str) -> pd.Series:
    value = pipeline.content.get(name)
    return pd.Series([value] * len(pipeline.predictions), dtype="Int64")


def _read_run(file: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    remedy = (
        f"Restore it from a copy, or delete the folder {file.parent} to run this "
        "evaluation again."
    )
    return read_json(file, kinds, remedy=remedy)


def _read_pipeline(file: Path) -> StoredPipeline | None:
    """Read a pipeline's folds, None if none is finished."""
    store, folds = PipelineStore(file.parent), list(_list_folds(file.parent))
    results = [_read_or_none(fold.file, _unpack) for fold in folds]
    finished = [result for result in results if result is not None]
    if not finished:
        return None
    remedy = (
        "Repeat the call of evaluate that wrote it, or delete the folder "
        f"{file.parent} to run this pipeline again."
    )
    content = read_json(file, {"name": str}, remedy=remedy)
    granted = {result.target_access for result in finished}
    lengths = [len(result.predictions) for result in finished]
    return StoredPipeline(
        name=content["name"],
        folder=file.parent,
        content=content,
        predictions=pd.concat([r.predictions for r in finished], ignore_index=True),
        parts=np.repeat([result.part for result in finished], lengths),
        probes=pd.DataFrame([r.probes for r in finished if r.probes is not None]),
        diagnosis=pd.DataFrame(
            [r.diagnosis for r in finished if r.diagnosis is not None]
        ),
        target_access=max(granted, key=_ACCESS.index),
        complete=all(store.is_complete(unit) for unit in {f.unit for f in folds}),
    )


def _list_folds(folder: Path) -> Iterator[_Fold]:
    for file in sorted(folder.glob("*.parquet")):
        if match := _FOLD_NAME.fullmatch(file.name):
            yield _Fold(file, match["unit"], int(match["index"]), int(match["n_folds"]))


def _place_of(file: Path) -> list[str]:
    """Return where a fold belongs: it must not count elsewhere as well."""
    return [file.parent.name, file.name]


def _pack(place: Iterable[str], result: FoldResult) -> bytes:
    """Return the file of a fold: a Parquet file with its own digest in it."""
    others = {f.name: getattr(result, f.name) for f in fields(result)}
    table = others.pop("predictions").copy(deep=False)
    table.attrs = as_json({"result": others, "place": list(place), "seal": UNSEALED})
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    return seal(buffer.getvalue())


def _check(file: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of a fold and all but its table, which takes longest to read."""
    data = file.read_bytes()
    if not is_sealed(data):
        raise ValueError(
            f"{file} is damaged: it is truncated, or its contents changed. Run the "
            "evaluation again to recompute it."
        )
    attributes = json.loads(read_schema(io.BytesIO(data)).metadata[b"PANDAS_ATTRS"])
    if attributes["place"] != _place_of(file):
        raise ValueError(
            f"{file} is a copy of the fold {attributes['place']}. Delete it and run "
            "the evaluation again."
        )
    return data, attributes


def _unpack(file: Path) -> FoldResult:
    data, attributes = _check(file)
    table = pd.read_parquet(io.BytesIO(data))
    table.attrs = {}
    return FoldResult(predictions=table, **attributes["result"])


def _read_or_none(file: Path, read=lambda file: read_json(file, {}, remedy="")):
    """Read a file of ours, None if it is missing or damaged."""
    with suppress(OSError, ValueError, TypeError):
        return read(file)
    return None
