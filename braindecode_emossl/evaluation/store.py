"""Finished folds on disk, so that a killed evaluation goes on where it stopped."""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import FunctionType
from typing import Any

import pandas as pd
import torch
from joblib.hashing import NumpyHasher

from braindecode_emossl.evaluation.folds import FoldResult

__all__ = ["FoldStore", "read_predictions"]

_FOLD_NAME = r"(?P<unit>.+)_(?P<index>\d+)of(?P<n_folds>\d+)\.parquet"


class FoldStore:
    """The finished folds of one evaluation, a folder for each of its pipelines.

    A fold is one file, written whole or not at all. The folders' names hold a hash of
    all that the results depend on, so that a changed setting never meets old results.

    Parameters
    ----------
    results_dir : path
        Folder of all results.
    identity : mapping of str to object
        All that the folds depend on beside the pipeline, as JSON knows it; with the
        seed it is kept in ``run.json``.
    random_state : int or None
        Seed of the folds; None draws one, which later runs find again.
    """

    def __init__(
        self,
        results_dir: str | Path,
        identity: Mapping[str, Any],
        random_state: int | None,
    ):
        digest = _hash({**identity, "random_state": random_state})
        name = f"{'+'.join(identity['corpora'])}_{identity['protocol']}_{digest}"
        self.folder = Path(results_dir) / name
        run = self.folder / "run.json"
        if not run.exists():
            seed = secrets.randbits(31) if random_state is None else random_state
            _write_json(run, {**identity, "random_state": seed}, replace=False)
        self.seed = json.loads(run.read_text())["random_state"]

    def open_pipeline(
        self, name: str, identity: Mapping[str, Any], description: str
    ) -> PipelineStore:
        """Return the store of one pipeline.

        Parameters
        ----------
        name : str
            What the caller names it.
        identity : mapping of str to object
            All that tells it from other pipelines; its name does not count.
        description : str
            What people read of it in ``pipeline.json``.

        Returns
        -------
        PipelineStore
            Its folds.
        """
        folder = self.folder / _hash(identity)
        content = {"name": name, "pipeline": description, **identity}
        _write_json(folder / "pipeline.json", content)
        return PipelineStore(folder)


class PipelineStore:
    """The finished folds of one pipeline in one evaluation.

    Parameters
    ----------
    folder : Path
        Where they lie.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def __len__(self) -> int:
        return len(list(self.folder.glob("*.parquet")))

    def clear(self) -> None:
        """Delete the folds."""
        for file in self.folder.glob("*.parquet"):
            file.unlink()

    def find(self, unit: str) -> dict[int, Path]:
        """Return the files of the finished folds by number.

        Parameters
        ----------
        unit : str
            Name of what is loaded together: a subject, or ``"all"``.

        Returns
        -------
        dict of int to Path
            In order.
        """
        return {int(match["index"]): file for file, match in self._matches(unit)}

    def is_complete(self, unit: str) -> bool:
        """Say whether all folds of a unit are there.

        Parameters
        ----------
        unit : str
            Name of the unit.

        Returns
        -------
        bool
            False also where nothing is known of the unit.
        """
        found = self._matches(unit)
        return bool(found) and len(found) == int(found[0][1]["n_folds"])

    def write(self, unit: str, index: int, n_folds: int, result: FoldResult) -> None:
        """Keep a finished fold.

        Parameters
        ----------
        unit : str
            Name of the unit.
        index, n_folds : int
            Which fold of how many.
        result : FoldResult
            What came out of it.
        """
        table = result.predictions.copy()
        table.attrs = {k: v for k, v in asdict(result).items() if k != "predictions"}
        file = self.folder / f"{unit}_{index:04d}of{n_folds:04d}.parquet"
        _write_whole(file, table.to_parquet)

    def _matches(self, unit: str) -> list[tuple[Path, re.Match]]:
        return [
            (file, match)
            for file in sorted(self.folder.iterdir())
            if (match := re.fullmatch(_FOLD_NAME, file.name)) and match["unit"] == unit
        ]


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
    """
    table = pd.read_parquet(file)
    attributes, table.attrs = dict(table.attrs), {}
    return FoldResult(predictions=table, **attributes)


def read_predictions(results_dir):
    """Return the predictions of all finished folds below a folder.

    Parameters
    ----------
    results_dir : str or Path
        Folder that :func:`evaluate` was given.

    Returns
    -------
    DataFrame
        One row a test window of a fold, with ``evaluation`` (the name of its folder),
        ``pipeline``, ``protocol``, its metadata, ``label``, ``predicted`` and
        ``proba_<class>``.

    Raises
    ------
    FileNotFoundError
        If there is no finished fold.
    """
    root = Path(results_dir).expanduser().absolute()
    tables = []
    for file in sorted(root.glob("*/*/*.parquet")):
        run = json.loads((file.parents[1] / "run.json").read_text())
        pipeline = json.loads((file.parent / "pipeline.json").read_text())
        table = read_fold(file).predictions
        table.insert(0, "evaluation", file.parents[1].name)
        table.insert(1, "pipeline", pipeline["name"])
        table.insert(2, "protocol", run["protocol"])
        tables.append(table)
    if not tables:
        raise FileNotFoundError(
            f"There is no finished fold below {root}: name the folder that was given "
            "to evaluate as results_dir."
        )
    return pd.concat(tables, ignore_index=True)


def hash_object(thing, what: str) -> str:
    """Return a hash of all contents of an object, arrays and weights included.

    Parameters
    ----------
    thing : object
        It must be picklable. Functions count by their code, classes by their names,
        those of a script or notebook by their code.
    what : str
        What it is, for the message.

    Returns
    -------
    str
        The same in every process.

    Raises
    ------
    ValueError
        If it cannot be pickled.
    """
    try:
        return _Hasher(hash_name="sha1").hash(thing)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{what} must be picklable, so that its results can be told from others', "
            f"but {thing!r} is not ({error}). Use functions with a name "
            "instead of lambdas."
        ) from error


class _Hasher(NumpyHasher):
    """Hasher of joblib, for which tensors of equal values are equal, and order counts.

    The pickle of a tensor holds the address of its storage. joblib sorts dicts, but the
    order of frequency bands is that of the features.
    """

    def save(self, obj):
        if isinstance(obj, dict):
            obj = (type(obj).__name__, list(obj.items()))
        elif _is_edited(obj):
            obj = (obj.__module__, obj.__qualname__, _source_of(obj))
        if isinstance(obj, torch.Tensor):
            kind = type(obj).__name__, str(obj.dtype), tuple(obj.shape)
            # Bytes, as NumPy does not know all types; frozen weights train otherwise.
            values = obj.detach().cpu().reshape(-1).view(torch.uint8).numpy()
            obj = (kind, obj.requires_grad, values)
        super().save(obj)


def _is_edited(obj) -> bool:
    """Say whether what a name stands for may change from run to run."""
    if isinstance(obj, FunctionType):
        return "<" not in obj.__qualname__  # no lambda, and none made by a function
    return isinstance(obj, type) and obj.__module__ == "__main__"


def _source_of(obj) -> str | bytes:
    try:
        return inspect.getsource(obj)
    except (OSError, TypeError):  # made by exec, or in a console
        code = getattr(obj, "__code__", None)
        return b"" if code is None else code.co_code


def _hash(identity: Mapping[str, Any]) -> str:
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write_json(
    file: Path, content: Mapping[str, Any], *, replace: bool = True
) -> None:
    text = json.dumps(content, indent=2) + "\n"
    _write_whole(file, lambda scratch: scratch.write_text(text), replace=replace)


def _write_whole(
    file: Path, write: Callable[[Path], Any], *, replace: bool = True
) -> None:
    """Write under another name first: nobody ever reads half a file.

    Without ``replace`` the file of whoever comes first stays.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        write(scratch)
        if replace:
            scratch.replace(file)
        else:
            with suppress(FileExistsError):
                file.hardlink_to(scratch)
    finally:
        scratch.unlink(missing_ok=True)
