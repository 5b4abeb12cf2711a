"""Reading MATLAB 5 files, with every tag checked before it is used.

SciPy's reader indexes unchecked memory by the type of an element, so that one wrong
byte of a file crashes the interpreter. The files of the corpora hold plain arrays of
numbers, which are read here: a list of variables takes the headers alone, of which a
few hundred bytes are inflated, and a variable only its own bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import isal_zlib  # inflates twice as fast as zlib

__all__ = ["MatVariable", "list_variables", "read_variable", "read_variables"]

# The largest variable of the corpora is DEAP's data, with 103 MB.
_MAX_BYTES = 2**29
_MAX_VARIABLES = 4096
_MAX_DIMS = 32
_MAX_NAME = 256
# A header of the longest name and the most dimensions has fewer bytes.
_HEADER_BYTES = 512
# Compressed bytes to start with for a header; more are read if they are too few.
_CHUNK = 1024

_COMPRESSED, _MATRIX = 15, 14
_INT8, _INT32, _UINT32, _UTF8 = 1, 5, 6, 16

# Types of elements that hold numbers.
ELEMENT_TYPES = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"},
    **{12: "i8", 13: "u8"},
}

# Classes of arrays by number: names, and dtypes of those that are numbers.
_CLASSES = {
    **{1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse"},
    **{16: "function", 17: "opaque"},
}
DTYPES = {
    **{6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4"},
    **{14: "i8", 15: "u8"},
}
_COMPLEX_FLAG = 0x08


@dataclass(frozen=True)
class MatVariable:
    """One variable of a file.

    ``kind`` is a dtype or the name of MATLAB's class. ``start`` and ``size`` are those
    of its element in the file, without the tag.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    start: int
    size: int
    is_compressed: bool


def list_variables(file: Path) -> list[MatVariable]:
    """Return the variables of a file from their headers, in the order of the file.

    One that reaches beyond the end of a file that was cut short is left out. Raises
    `ValueError` where a header is not as MATLAB writes it.
    """
    with file.open("rb") as stream:
        return list(_walk(stream, file.stat().st_size))


def read_variable(file: Path, variable: MatVariable) -> np.ndarray:
    """Return the values of a variable of `list_variables`, in MATLAB's column order.

    Raises `ValueError` where its bytes are not what its header says, or cannot be
    inflated.
    """
    with file.open("rb") as stream:
        order = _read_order(stream)
        stream.seek(variable.start)
        content = stream.read(variable.size)
    if len(content) < variable.size:
        raise ValueError("it is cut short")
    if variable.is_compressed:
        content = _inflate(content, order)
    return _read_numbers(memoryview(content), order, variable)


def read_variables(file: Path, names) -> dict[str, np.ndarray]:
    """Return the values of the variables with these names."""
    found = {variable.name: variable for variable in list_variables(file)}
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"it has no variable {missing[0]!r}")
    return {name: read_variable(file, found[name]) for name in names}


def _read_order(stream: BinaryIO) -> str:
    """Return the byte order of a file by its header of 128 bytes."""
    header = stream.read(128)
    if len(header) < 128:
        raise ValueError("it has no header of MATLAB 5")
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if order is None:
        raise ValueError("it has no header of MATLAB 5")
    version = struct.unpack(f"{order}H", header[124:126])[0]
    if version == 0x0200:
        raise ValueError("it is of MATLAB 7.3 (HDF5)")
    if version != 0x0100:
        raise ValueError(f"its header names the version {version:#06x}")
    return order


def _walk(stream: BinaryIO, size: int) -> Iterator[MatVariable]:
    order = _read_order(stream)
    start = 128
    for _ in range(_MAX_VARIABLES):
        if start == size:
            return
        stream.seek(start)
        tag = stream.read(8)
        if len(tag) < 8:
            return  # cut short
        kind, n_bytes = struct.unpack(f"{order}II", tag)
        if kind not in (_COMPRESSED, _MATRIX) or n_bytes == 0:
            raise ValueError(
                f"there is no variable at byte {start}, but an element of type {kind} "
                f"and {n_bytes} bytes"
            )
        start += 8
        if start + n_bytes > size:
            return  # cut short
        is_compressed = kind == _COMPRESSED
        if is_compressed:
            header, n_inner = _inflate_header(stream, n_bytes, order)
        else:
            header, n_inner = stream.read(min(n_bytes, _HEADER_BYTES)), n_bytes
        name, shape, dtype = _read_header(header, order, n_inner)
        yield MatVariable(name, shape, dtype, start, n_bytes, is_compressed)
        start += n_bytes
    raise ValueError(f"it has more than {_MAX_VARIABLES} variables")


# -- elements ------------------------------------------------------------------


def _read_tag(content, place: int, order: str) -> tuple[int, int, int, int]:
    """Return type, size, start and end (padded) of the element at a place."""
    if len(content) < place + 8:
        raise ValueError("an element ends within its tag")
    first, n_bytes = struct.unpack_from(f"{order}II", content, place)
    if n_small := first >> 16:  # up to four bytes, in the tag itself
        if n_small > 4:
            raise ValueError(f"a small element has {n_small} bytes")
        return first & 0xFFFF, n_small, place + 4, place + 8
    start = place + 8
    return first, n_bytes, start, start + n_bytes + -n_bytes % 8


def _read_header(content, order: str, n_inner: int) -> tuple[str, tuple, str]:
    """Return name, shape and kind of a matrix of ``n_inner`` bytes.

    Its numbers must be of a type that the class admits, and fill the dimensions.
    """
    flags, dims, name = _locate_header(content, order)
    n_class, has_numbers = flags & 0xFF, not flags >> 8 & _COMPLEX_FLAG
    if n_class not in DTYPES or not has_numbers:
        kind = _CLASSES.get(n_class, "complex" if n_class in DTYPES else "")
        if not kind:
            raise ValueError(f"{name[0]!r:.40} is of the class {n_class}")
        return name[0], dims, kind
    _check_numbers(content, order, n_inner, name, dims, n_class)
    return name[0], dims, DTYPES[n_class]


def _locate_header(content, order: str) -> tuple[int, tuple, tuple[str, int]]:
    """Return flags, dimensions, and the name with its end."""
    kind, n_bytes, start, end = _read_tag(content, 0, order)
    if (kind, n_bytes) != (_UINT32, 8) or len(content) < end:
        raise ValueError("a variable does not begin with its flags")
    flags = struct.unpack_from(f"{order}I", content, start)[0]
    kind, n_bytes, start, end = _read_tag(content, end, order)
    if kind != _INT32 or n_bytes % 4 or not 8 <= n_bytes <= 4 * _MAX_DIMS:
        raise ValueError("a variable has no dimensions")
    if len(content) < end:
        raise ValueError("a variable ends within its dimensions")
    dims = struct.unpack_from(f"{order}{n_bytes // 4}i", content, start)
    if min(dims) < 0:
        raise ValueError(f"a variable has the dimensions {dims}")
    kind, n_bytes, start, end = _read_tag(content, end, order)
    if kind not in (_INT8, _UTF8) or n_bytes > _MAX_NAME or len(content) < end:
        raise ValueError("a variable has no name")
    name = bytes(content[start : start + n_bytes]).decode("latin-1")
    return flags, dims, (name, end)


def _check_numbers(
    content, order, n_inner, name, dims, n_class
) -> tuple[str, int, int]:
    """Return dtype in the file, start and end of the numbers of a matrix."""
    kind, n_bytes, start, end = _read_tag(content, name[1], order)
    if kind not in stored_types(n_class):
        raise ValueError(
            f"{name[0]!r:.40} holds elements of type {kind}, which its class does not "
            "admit"
        )
    dtype = np.dtype(ELEMENT_TYPES[kind])
    if math.prod(dims) * dtype.itemsize != n_bytes:
        raise ValueError(
            f"{name[0]!r:.40} must fill its dimensions {dims}, but has {n_bytes} "
            f"bytes of {dtype}"
        )
    # Some writers leave out the padding at the end.
    if not start + n_bytes <= n_inner <= end:
        raise ValueError(
            f"{name[0]!r:.40} must have {end} bytes in all, but has {n_inner}"
        )
    return ELEMENT_TYPES[kind], start, start + n_bytes


def stored_types(n_class: int) -> set[int]:
    """Return the types in which a class may be stored.

    MATLAB stores whole numbers in the smallest type that holds them.
    """
    dtype = np.dtype(DTYPES[n_class])
    small = {
        kind for kind, code in ELEMENT_TYPES.items() if code[0] in "iu" and kind < 7
    }
    return {
        kind for kind, code in ELEMENT_TYPES.items() if code == dtype.str[1:]
    } | small


# -- compressed elements -------------------------------------------------------


def _inflate_header(stream: BinaryIO, n_bytes: int, order: str) -> tuple[bytes, int]:
    """Return the start of the matrix in a compressed element, and its whole size."""
    inflater, content = isal_zlib.decompressobj(), b""
    while len(content) < _HEADER_BYTES and n_bytes > 0 and not inflater.eof:
        chunk = stream.read(min(n_bytes, _CHUNK))
        if not chunk:
            break
        n_bytes -= len(chunk)
        with _naming_damage():
            content += inflater.decompress(chunk, _HEADER_BYTES - len(content))
    n_inner = _read_inner_size(content, order)
    return content[8:], n_inner


def _read_inner_size(content: bytes, order: str) -> int:
    if len(content) < 8:
        raise ValueError("a compressed variable ends within its tag")
    kind, n_inner = struct.unpack_from(f"{order}II", content)
    if kind != _MATRIX:
        raise ValueError(f"a compressed variable has the type {kind}")
    return n_inner


def _inflate(content: bytes, order: str) -> memoryview:
    """Return the matrix in a compressed element, whose check sum must be right."""
    with _naming_damage():
        tag = isal_zlib.decompressobj().decompress(content[:_CHUNK], 8)
    n_inner = _read_inner_size(tag, order)
    if n_inner > _MAX_BYTES:
        raise ValueError(f"it has {n_inner} bytes, more than any of the corpora")
    inflater = isal_zlib.decompressobj()
    with _naming_damage():
        inflated = inflater.decompress(content, 8 + n_inner)
        if not inflater.eof:  # only the check sum may remain
            inflated += inflater.decompress(inflater.unconsumed_tail, 1)
    if not inflater.eof:
        raise ValueError("its check sum is missing")
    if len(inflated) != 8 + n_inner or inflater.unconsumed_tail or inflater.unused_data:
        raise ValueError(f"it must inflate to {8 + n_inner} bytes, but does not")
    return memoryview(inflated)[8:]


@contextmanager
def _naming_damage() -> Iterator[None]:
    """Raise ValueError for bytes that cannot be inflated."""
    try:
        yield
    # Its stub has an exception in the place of its class.
    except isal_zlib.error as error:  # type: ignore[misc]
        raise ValueError(f"it cannot be inflated: {error}") from error


def _read_numbers(content, order: str, variable: MatVariable) -> np.ndarray:
    if variable.kind not in DTYPES.values():
        raise ValueError(f"it holds no real numbers, but is of class {variable.kind}")
    flags, dims, name = _locate_header(content, order)
    if (name[0], dims) != (variable.name, variable.shape):
        raise ValueError("it changed while it was read")
    code, start, end = _check_numbers(
        content, order, len(content), name, dims, flags & 0xFF
    )
    values = np.frombuffer(content[start:end], order + code)
    return values.reshape(dims, order="F").astype(variable.kind, copy=False)
