"""A cache of features on disk, identified by the files they were computed from."""

from __future__ import annotations

import errno
import json
import logging
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from braindecode_emossl.storage import (
    digest_files,
    hash_bytes,
    make_folder,
    remove_leftovers,
    write_file,
)

__all__ = ["FeatureCache"]

log = logging.getLogger(__name__)

# Raised for a file that is empty, truncated or altered.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    OverflowError,
    ValueError,
)
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


class FeatureCache:
    """Store computed arrays in a folder, identified by everything they depend on.

    An entry depends on the corpus, the contents of the files read, the parameters and
    the version of this package. If any of them changes, the arrays are computed again.
    An entry appears complete or not at all, so that any number of processes may share
    the folder. A damaged entry is computed again and replaced.

    Parameters
    ----------
    folder : str or path
        Folder of the entries, made if missing. It may be deleted, or any file in it,
        to compute the features again. If it is read-only, new features are computed
        but not stored.

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
        self.folder = Path(folder).expanduser()

    def get(
        self,
        compute: Callable[[], Mapping[str, np.ndarray]],
        *,
        corpus: str,
        files: Iterable[str | os.PathLike],
        parameters: str,
    ) -> dict[str, np.ndarray]:
        """Return an entry, which is computed if it is missing.

        Parameters
        ----------
        compute : callable
            Takes nothing and returns arrays by name. Arrays of Python objects are
            refused, as reading them could run foreign code.
        corpus : str
            Code of the corpus.
        files : list of str or path
            Files that the arrays are computed from. Only their contents count, not
            their names: a corpus may be moved. A change that keeps the size and the
            time of a file goes unseen.
        parameters : str
            Text that contains every parameter, such as the repr of a pipeline.

        Returns
        -------
        dict of str to ndarray
            The arrays that ``compute`` returned.

        Raises
        ------
        ValueError
            If ``compute`` returned an array of Python objects.
        OSError
            If the entry cannot be written although the folder is not read-only.
        """
        path = self._path(corpus, files, parameters)
        try:
            return _read(path)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            make_folder(self.folder)  # which says what is wrong
        except _DAMAGED as error:
            log.warning("%s is damaged (%s); recomputing it.", path, error)
        arrays = {name: np.asarray(array) for name, array in compute().items()}
        if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
            raise ValueError(
                f"compute must return arrays of numbers or strings, but {objects} hold "
                "Python objects. Convert columns of text with astype(str)."
            )
        try:
            write_file(path, lambda scratch: _write(scratch, arrays))
            remove_leftovers(self.folder)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            log.warning("The features are not stored: %s", error)
        return arrays

    def _path(self, corpus, files, parameters) -> Path:
        parts = [corpus, parameters, version("braindecode-emossl")]
        parts += digest_files(files)
        return self.folder / f"{hash_bytes(json.dumps(parts).encode())}.npz"


def _read(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with path.open("rb") as file:
        file.seek(-12, os.SEEK_END)
        n_arrays = int.from_bytes(file.read(2), "little")
    with zipfile.ZipFile(path) as entry:
        if len(entry.namelist()) != n_arrays:
            raise ValueError(f"{len(entry.namelist())} of {n_arrays} arrays are left")
        for name in entry.namelist():
            with entry.open(name) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
                # np.load stops where the header says, before the checksum is compared.
                if file.read(1):
                    raise ValueError(f"{name} is longer than its header says")
            arrays[name.removesuffix(".npy")] = array
    return arrays


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with path.open("xb") as file:  # a name without .npz would get that ending
        np.savez(file, **arrays)  # type: ignore[arg-type]
