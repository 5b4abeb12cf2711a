"""Reading DREAMER.mat, one compressed variable of 2 GB, subject by subject.

The file holds nested structures and cells, which are read as a stream with every tag
checked: a first pass finds the subjects, their ratings and the lengths of the trials
and keeps the state of the decompression where each subject begins, so that a subject is
read without those before it.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from braindecode_emossl.datasets.mat_files import (
    DTYPES,
    ELEMENT_TYPES,
    list_variables,
    stored_types,
)

__all__ = ["N_FILMS", "RATINGS", "Index", "Person", "read_index", "read_signals"]

N_FILMS = 18
RATINGS = ("valence", "arousal", "dominance")
SCALE = (1, 5)
N_EEG, N_ECG = 14, 2
EEG_SFREQ, ECG_SFREQ = 128, 256
_RATES = {"EEG_SamplingRate": EEG_SFREQ, "ECG_SamplingRate": ECG_SFREQ}
_SCORES = {f"Score{name.capitalize()}": name for name in RATINGS}
_MODALITIES = {"EEG": N_EEG, "ECG": N_ECG}
_PARTS = ("baseline", "stimuli")

_COMPRESSED, _MATRIX, _INT8, _INT32, _UINT32 = 15, 14, 1, 5, 6
_CELL, _STRUCT, _CHAR = 1, 2, 4
# Names and dimensions are short; the longest film lasts 393 s.
_MOST_HEADER_BYTES = 4096
_MOST_NUMBERS = 600 * ECG_SFREQ * N_EEG
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Person:
    """One subject: ratings (18, 3), shapes of the parts, and where the part begins."""

    ratings: np.ndarray
    shapes: Mapping[tuple[str, str], list[tuple[int, ...]]]
    start: _Place


@dataclass(frozen=True)
class Index:
    """What a file holds, by the number of the subject."""

    electrodes: list[str]
    people: dict[int, Person]


@dataclass(frozen=True)
class _Place:
    """A place in the decompressed variable, to continue from."""

    file: Path
    offset: int  # of the next compressed bytes
    stop: int
    inflater: Any  # None where the variable is not compressed
    pending: bytes
    order: str


@dataclass(frozen=True)
class _Matrix:
    """The header of a matrix in the stream."""

    n_class: int
    dims: tuple[int, ...]
    stop: int  # position in the stream
    fields: list[str] = field(default_factory=list)


class _Stream:
    """The bytes of the variable, decompressed as they are asked for."""

    def __init__(self, place: _Place):
        self._place = place
        self._stream = place.file.open("rb")
        self._stream.seek(place.offset)
        inflater = place.inflater
        self._inflater = None if inflater is None else inflater.copy()
        self._pending = place.pending
        self.order = place.order
        self.position = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stream.close()

    def mark(self) -> _Place:
        """Return the present place."""
        inflater = self._inflater
        return _Place(
            file=self._place.file,
            offset=self._stream.tell(),
            stop=self._place.stop,
            inflater=None if inflater is None else inflater.copy(),
            pending=self._pending,
            order=self.order,
        )

    def read(self, n_bytes: int) -> bytes:
        """Return so many bytes; raise ValueError where the file ends before."""
        parts, n_missing = [], n_bytes
        while n_missing:
            if not self._pending:
                self._fill()
            part = self._pending[:n_missing]
            self._pending = self._pending[len(part) :]
            n_missing -= len(part)
            parts.append(part)
        self.position += n_bytes
        return b"".join(parts)

    def skip(self, n_bytes: int) -> None:
        """Pass over so many bytes."""
        while n_bytes > 0:
            n_part = min(n_bytes, _CHUNK)
            self.read(n_part)
            n_bytes -= n_part

    def _fill(self) -> None:
        n_left = self._place.stop - self._stream.tell()
        if self._inflater is None:
            self._pending = self._stream.read(min(_CHUNK, n_left))
        else:
            tail = self._inflater.unconsumed_tail
            content = tail or self._stream.read(min(_CHUNK, n_left))
            self._pending = self._inflater.decompress(content, _CHUNK)
        if not self._pending and n_left <= 0:
            raise ValueError("it is cut short")


# -- elements ------------------------------------------------------------------


def _read_element(stream: _Stream, most: int) -> tuple[int, bytes]:
    """Return type and content of an element of up to ``most`` bytes."""
    tag = stream.read(8)
    first, n_bytes = struct.unpack(f"{stream.order}II", tag)
    if n_small := first >> 16:  # up to four bytes, in the tag itself
        if n_small > 4:
            raise ValueError(f"a small element has {n_small} bytes")
        return first & 0xFFFF, tag[4 : 4 + n_small]
    if n_bytes > most:
        raise ValueError(f"an element has {n_bytes} bytes, more than it may have")
    content = stream.read(n_bytes)
    stream.skip(-n_bytes % 8)
    return first, content


def _open_matrix(stream: _Stream) -> _Matrix:
    """Return the header of the next matrix, whose content follows."""
    kind, n_bytes = struct.unpack(f"{stream.order}II", stream.read(8))
    if kind != _MATRIX:
        raise ValueError(f"there is an element of type {kind} in place of a matrix")
    stop = stream.position + n_bytes
    if n_bytes == 0:
        return _Matrix(0, (0, 0), stop)
    kind, flags = _read_element(stream, 8)
    if (kind, len(flags)) != (_UINT32, 8):
        raise ValueError("a matrix does not begin with its flags")
    kind, dims = _read_element(stream, _MOST_HEADER_BYTES)
    if kind != _INT32 or len(dims) % 4 or len(dims) < 8:
        raise ValueError("a matrix has no dimensions")
    shape = struct.unpack(f"{stream.order}{len(dims) // 4}i", dims)
    if min(shape) < 0:
        raise ValueError(f"a matrix has the dimensions {shape}")
    _read_element(stream, _MOST_HEADER_BYTES)  # its name
    n_class = struct.unpack_from(f"{stream.order}I", flags)[0] & 0xFF
    names = _read_field_names(stream) if n_class == _STRUCT else []
    return _Matrix(n_class, shape, stop, names)


def _read_field_names(stream: _Stream) -> list[str]:
    kind, width = _read_element(stream, 4)
    if kind != _INT32 or len(width) != 4:
        raise ValueError("a structure has no names of fields")
    n_chars = struct.unpack(f"{stream.order}i", width)[0]
    _, names = _read_element(stream, _MOST_HEADER_BYTES)
    if n_chars < 1 or len(names) % n_chars:
        raise ValueError("a structure has broken names of fields")
    parts = [names[k : k + n_chars] for k in range(0, len(names), n_chars)]
    return [part.split(b"\0")[0].decode("latin-1") for part in parts]


def _close_matrix(stream: _Stream, matrix: _Matrix) -> None:
    """Skip the rest of a matrix."""
    if stream.position > matrix.stop:
        raise ValueError("a matrix is longer than its tag says")
    stream.skip(matrix.stop - stream.position)


def _walk_struct(
    stream: _Stream, what: str, matrix: _Matrix | None = None
) -> Iterator[str]:
    """Yield the names of the fields of a structure, before the matrix of each.

    What the caller does not read of a field is passed over.
    """
    matrix = matrix or _open_matrix(stream)
    if matrix.n_class != _STRUCT or math.prod(matrix.dims) != 1:
        raise ValueError(f"{what} is not a single structure")
    for name in matrix.fields:
        before = stream.position
        yield name
        if stream.position == before:
            _close_matrix(stream, _open_matrix(stream))
    _close_matrix(stream, matrix)


def _walk_cells(stream: _Stream, what: str) -> Iterator[int]:
    """Yield the numbers of the cells, before the matrix of each."""
    matrix = _open_matrix(stream)
    n_cells = math.prod(matrix.dims)
    if matrix.n_class != _CELL or n_cells > _MOST_HEADER_BYTES:
        raise ValueError(f"{what} is not a list of cells")
    for number in range(n_cells):
        before = stream.position
        yield number
        if stream.position == before:
            _close_matrix(stream, _open_matrix(stream))
    _close_matrix(stream, matrix)


def _read_numbers(stream: _Stream, what: str) -> np.ndarray:
    """Return a matrix of numbers."""
    matrix = _open_matrix(stream)
    n_values = math.prod(matrix.dims)
    if matrix.n_class not in DTYPES or n_values > _MOST_NUMBERS:
        raise ValueError(f"{what} does not hold numbers of a trial")
    kind, content = _read_element(stream, 8 * n_values)
    if kind not in stored_types(matrix.n_class):
        raise ValueError(f"{what} holds elements of type {kind}")
    dtype = np.dtype(stream.order + ELEMENT_TYPES[kind])
    if len(content) != n_values * dtype.itemsize:
        raise ValueError(f"{what} does not fill its dimensions {matrix.dims}")
    _close_matrix(stream, matrix)
    values = np.frombuffer(content, dtype).reshape(matrix.dims, order="F")
    return values.astype(DTYPES[matrix.n_class])


def _read_shape(stream: _Stream) -> tuple[int, ...]:
    matrix = _open_matrix(stream)
    _close_matrix(stream, matrix)
    return matrix.dims if matrix.n_class in DTYPES else ()


def _read_text(stream: _Stream) -> str:
    matrix = _open_matrix(stream)
    if matrix.n_class != _CHAR or math.prod(matrix.dims) > _MOST_HEADER_BYTES:
        raise ValueError("EEG_Electrodes does not hold text")
    kind, content = _read_element(stream, _MOST_HEADER_BYTES)
    _close_matrix(stream, matrix)
    codec = "utf-16" if kind in (4, 17) else "utf-8"
    order = {"<": "-le", ">": "-be"}[stream.order] if codec == "utf-16" else ""
    return content.decode(codec + order)


# -- the file ------------------------------------------------------------------


def read_index(file: Path) -> Index:
    """Return the contents of a file; raise ValueError where it is not as published.

    The result is kept as long as the file has the same size and time of change.
    """
    state = file.stat()
    return _read_index(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _read_index(file: Path, size: int, mtime: int) -> Index:
    people: dict[int, Person] = {}
    electrodes: list[str] = []
    with _Stream(_find_start(file)) as stream:
        for name in _walk_struct(stream, "DREAMER"):
            if name == "Data":
                people = _read_people(stream)
            elif name in _RATES:
                rate = _read_numbers(stream, name).ravel().tolist()
                if rate != [_RATES[name]]:
                    raise ValueError(f"{name} must be {_RATES[name]}, but is {rate}")
            elif name == "EEG_Electrodes":
                electrodes = [_read_text(stream) for _ in _walk_cells(stream, name)]
    if not people:
        raise ValueError("it holds no subjects")
    return Index(electrodes, people)


def _find_start(file: Path) -> _Place:
    found = {variable.name: variable for variable in list_variables(file)}
    if "DREAMER" not in found:
        raise ValueError("it has no variable DREAMER, or is cut short")
    variable = found["DREAMER"]
    with file.open("rb") as stream:
        order = "<" if stream.read(128)[126:] == b"IM" else ">"
    stop = variable.start + variable.size
    if not variable.is_compressed:
        # The tag was read already.
        return _Place(file, variable.start - 8, stop, None, b"", order)
    return _Place(file, variable.start, stop, zlib.decompressobj(), b"", order)


def _read_people(stream: _Stream) -> dict[int, Person]:
    people = {}
    for number in _walk_cells(stream, "Data"):
        start = stream.mark()
        matrix = _open_matrix(stream)
        if math.prod(matrix.dims) == 0:
            _close_matrix(stream, matrix)
            continue  # a replica has some of the subjects
        people[number + 1] = _read_person(stream, matrix, start)
    return people


def _read_person(stream: _Stream, matrix: _Matrix, start: _Place) -> Person:
    ratings: dict[str, np.ndarray] = {}
    shapes: dict[tuple[str, str], list[tuple[int, ...]]] = {}
    for name in _walk_struct(stream, "a cell of Data", matrix):
        if name in _SCORES:
            ratings[_SCORES[name]] = _read_numbers(stream, name).ravel()
        elif name in _MODALITIES:
            for part in _walk_struct(stream, name):
                if part in _PARTS:
                    cells = _walk_cells(stream, part)
                    shapes[name, part] = [_read_shape(stream) for _ in cells]
    counts = {*map(len, ratings.values()), *map(len, shapes.values())}
    if counts != {N_FILMS} or len(ratings) + len(shapes) != 7:
        raise ValueError(
            f"a subject must have {N_FILMS} films of EEG, ECG (baseline and stimuli) "
            f"and ratings, but has {sorted(ratings)} and {sorted(shapes)} of {counts}"
        )
    return Person(np.stack([ratings[k] for k in RATINGS], axis=1), shapes, start)


def read_signals(person: Person) -> Iterator[dict[tuple[str, str], np.ndarray]]:
    """Yield the signals (n_times, n_chans) of each film, by modality and part.

    A structure holds all films of one part before the next: those of a subject are in
    memory together.
    """
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    with _Stream(person.start) as stream:
        for name in _walk_struct(stream, "a cell of Data"):
            if name in _MODALITIES:
                for part in _walk_struct(stream, name):
                    if part in _PARTS:
                        cells = _walk_cells(stream, part)
                        found[name, part] = [
                            _read_numbers(stream, f"{name} of film {k + 1}")
                            for k in cells
                        ]
    for film in range(N_FILMS):
        yield {key: arrays[film] for key, arrays in found.items()}
