"""A cache of features on disk, which knows the files they were computed from."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

__all__ = ["FeatureCache"]


class FeatureCache:
    """Keep computed arrays in a folder, by all that they depend on.

    An entry is known by the corpus, the contents of the files read, the parameters and
    the version of this package. Change any of them, and it is computed anew; nothing
    old is read. An entry appears whole or not at all: it is written beside its place
    and then moved there, so that any number of processes may share the folder, and one
    that is killed leaves at most a file ending in ``.tmp``.

    Parameters
    ----------
    folder : str or path
        Where the entries are kept, made if missing. Delete it, or any file in it, to
        compute anew.

    Examples
    --------
    >>> import numpy as np
    >>> from braindecode_emossl.features import FeatureCache
    >>> cache = FeatureCache("features")  # doctest: +SKIP
    >>> entry = cache.get(  # doctest: +SKIP
    ...     lambda: {"X": slow_features("1_20131027.mat")},
    ...     corpus="SEED",
    ...     files=["1_20131027.mat"],
    ...     parameters=repr(pipeline),
    ... )
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def get(
        self,
        compute: Callable[[], Mapping[str, np.ndarray]],
        *,
        corpus: str,
        files: Iterable[str | os.PathLike],
        parameters: str,
    ) -> dict[str, np.ndarray]:
        """Return an entry, computed if it is not there.

        Parameters
        ----------
        compute : callable
            Takes nothing and returns arrays by name. Arrays of Python objects are
            refused, as reading them could run foreign code.
        corpus : str
            Code of the corpus.
        files : list of str or path
            Files that the arrays are computed from. Their contents count, not their
            names: a corpus may be moved.
        parameters : str
            Text that names every parameter, such as the repr of a pipeline.

        Returns
        -------
        dict of str to ndarray
            What ``compute`` returned.
        """
        path = self._path(corpus, files, parameters)
        try:
            return _read(path)
        except FileNotFoundError:
            pass
        arrays = {name: np.asarray(array) for name, array in compute().items()}
        if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
            raise ValueError(
                f"compute must return arrays of numbers or strings, but {objects} hold "
                "Python objects; convert columns of text with astype(str)"
            )
        _write(path, arrays)
        return arrays

    def _path(self, corpus, files, parameters) -> Path:
        parts = [corpus, parameters, version("braindecode-emossl")]
        parts += [_digest(Path(file)) for file in files]
        # Each part is digested, so that no two lists of parts look the same in a row.
        row = "".join(hashlib.sha256(part.encode()).hexdigest() for part in parts)
        return self.folder / f"{hashlib.sha256(row.encode()).hexdigest()}.npz"


def _digest(path: Path) -> str:
    """Digest the contents of a file, again only if it has changed."""
    stat = path.stat()
    return _digest_once(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest_once(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as entry:
        return dict(entry)


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            # A crash of the machine must not move an empty file into place.
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
