"""Reading SEED-V's archives of pickled dictionaries, with every size checked.

An archive of NumPy holds text that is a pickle. NumPy allocates what a header asks for,
and a compressed member may inflate to any size; so both are bounded first, and the
pickle is interpreted by `parse_pickle` instead of being unpickled.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from braindecode_emossl.datasets.deap_pickles import parse_pickle

__all__ = ["READING_ERRORS", "read_pickled_trials"]

# What a damaged archive raises besides errors of the file system.
READING_ERRORS = (
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    struct.error,
)
# Methods by which NumPy stores members.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# The features of a subject have 5 MB.
_MAX_BYTES = 2**26
_MAX_MEMBERS = 16

# A header of NumPy's format 1.0: one string of bytes, as `numpy.savez` writes a pickle.
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '\|S(\d{1,9})', 'fortran_order': (?:True|False), "
    rb"'shape': \(\), \}\s*"
)


def read_pickled_trials(file: Path, name: str, n_trials: int) -> dict[int, np.ndarray]:
    """Return the arrays by trial, from 0, of one member of an archive.

    Raises one of `READING_ERRORS`, or `pickle.UnpicklingError` where the pickle asks
    for anything but arrays.
    """
    if (size := file.stat().st_size) > _MAX_BYTES:
        raise ValueError(f"it has {size} bytes, more than any of the corpus")
    with zipfile.ZipFile(file) as archive:
        if len(archive.infolist()) > _MAX_MEMBERS:
            raise ValueError(f"it has more than {_MAX_MEMBERS} members")
        member = archive.getinfo(f"{name}.npy")
        if member.file_size > _MAX_BYTES:
            raise ValueError(f"{name!r} has {member.file_size} bytes")
        if member.flag_bits & 1:
            raise ValueError(f"{name!r} is encrypted")
        if member.compress_type not in _METHODS:
            raise ValueError(
                f"{name!r} is compressed by method {member.compress_type}, which NumPy "
                "does not use"
            )
        with archive.open(member) as stream:
            content = stream.read(_MAX_BYTES + 1)
    arrays = parse_pickle(_read_text(content, name), n_trials)
    if not set(arrays) <= set(range(n_trials)):
        raise ValueError(f"the trials of {name!r} must be from 0 to {n_trials - 1}")
    return arrays


def _read_text(content: bytes, name: str) -> bytes:
    """Return the string that a member in NumPy's format holds."""
    start = 10 + int.from_bytes(content[8:10], "little")
    match = _HEADER.fullmatch(content[10:start])
    if not content.startswith(_MAGIC) or match is None:
        raise ValueError(f"{name!r} must be one string of bytes in NumPy's format")
    if int(match[1]) != len(content) - start:
        raise ValueError(
            f"{name!r} must have {int(match[1])} bytes, but has {len(content) - start}"
        )
    return content[start:]
