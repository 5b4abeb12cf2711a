"""Reading the pickles of DEAP, FACED and SEED-V without unpickling them.

Python's unpickler calls what a file names. Even names that look harmless suffice for
an attack: a state given to ``numpy.dtype`` makes numpy follow bytes of the file as
pointers. The files of DEAP hold a dictionary with two arrays of floats, those of FACED
one array, which takes about 60 opcodes, those of SEED-V a dictionary with an array for
each of 45 trials. They are interpreted here on plain Python objects: nothing is
imported or called, and only buffers of plain numbers become arrays.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "ForbiddenPickleError",
    "parse_pickle",
    "read_pickle",
    "read_pickled_array",
]

# A published file has 103 MB (DEAP) or 54 MB (FACED).
_MAX_BYTES = 2**28
# More than the pickle of an array takes, in any protocol.
_OPCODES_PER_ARRAY = 250

# Names that pickles of arrays contain, by what they stand for. numpy 2 renamed its
# modules; `_frombuffer` appears from protocol 5 on.
_NAMES = {
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy.core.numeric _frombuffer": "frombuffer",
    "numpy._core.numeric _frombuffer": "frombuffer",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}

# Opcodes that construct objects of classes or refer to objects outside the file.
_FORBIDDEN = {
    *("OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"),
    *("NEXT_BUFFER", "READONLY_BUFFER"),
}

_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
# Opcodes of bytes, or of Python 2's text, by the number of bytes of their length, and
# the length from which they are long.
_LENGTH_BYTES = {"BINSTRING": 4, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}
_LONG = 2**10

_NUMBER = re.compile(r"[fiu][1248]")


class ForbiddenPickleError(pickle.UnpicklingError):
    """A pickle asks for something that no array needs."""


class _Name(str):
    """A name of `_NAMES`, by what it stands for."""


class _DType:
    """Stand-in for a dtype of plain numbers, native until a state gives its order."""

    def __init__(self, code: str):
        self.code = code
        self.order = "="

    def set_state(self, state) -> None:
        # What follows the byte order describes fields, which plain numbers lack.
        if not isinstance(state, tuple) or len(state) != 8:
            raise ForbiddenPickleError("its pickle asks for an unknown dtype.")
        version, order, *rest = state
        if version != 3 or rest != [None, None, None, -1, -1, 0]:
            raise ForbiddenPickleError("its pickle asks for a dtype with fields.")
        if order not in (("|",) if self.code[1] == "1" else ("<", ">")):
            raise ValueError(f"its dtype has the byte order {_show(order)}")
        self.order = order

    def to_numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array:
    """Stand-in for an array, whose values its state gives."""

    values: np.ndarray | None = None
    order = "C"

    def set_state(self, state) -> None:
        if self.values is not None:
            raise ForbiddenPickleError("its pickle asks for a change of an array.")
        if not isinstance(state, tuple) or len(state) != 5 or state[0] != 1:
            raise ValueError("an array of it has an unknown state")
        _, shape, dtype, is_fortran, content = state
        if is_fortran not in (False, True):
            raise ValueError(f"an array of it has the order {_show(is_fortran)}")
        self.set_values(content, dtype, shape, "F" if is_fortran else "C")

    def set_values(self, content, dtype, shape, order) -> None:
        self.values = _make_array(content, dtype, shape, order)
        self.order = order


def _make_array(content, dtype, shape, order) -> np.ndarray:
    """Return an array on the bytes of the file; Python 2's are text of latin-1."""
    if order not in ("C", "F"):
        raise ValueError(f"an array of it is in the order {_show(order)}")
    if isinstance(content, str):
        content = content.encode("latin-1")
    is_bytes = isinstance(content, bytes | bytearray | memoryview)
    if not is_bytes or not isinstance(dtype, _DType):
        raise ValueError("an array of it does not consist of plain numbers")
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("an array of it has no shape")
    kind = dtype.to_numpy()
    if math.prod(shape) * kind.itemsize != len(content):
        raise ValueError(
            f"an array of it must fill {shape!r:.60} of {kind}, but has "
            f"{len(content)} bytes"
        )
    array = np.frombuffer(content, kind).reshape(shape, order=order)
    return array if kind.isnative else array.astype(kind.newbyteorder("="))


def read_pickle(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays ``data`` and ``labels`` of a file of DEAP.

    Raises `ForbiddenPickleError` where a file asks for anything but arrays, and
    `ValueError` where it is damaged or of another layout.
    """
    if (size := file.stat().st_size) > _MAX_BYTES:
        raise ValueError(f"it has {size} bytes, but a file of DEAP has 103 million")
    arrays = _as_dict(_parse(file.read_bytes(), n_arrays=2))
    for key in ("data", "labels"):
        if not isinstance(arrays.get(key), _Array):
            raise ValueError(f"it holds no array {key!r}")
        if (order := arrays[key].order) != "C":
            raise ValueError(
                f"an array of it is in the order {order!r}, but must be in C order, "
                "as in the makers' files"
            )
    return {key: _values_of(arrays[key], repr(key)) for key in ("data", "labels")}


def read_pickled_array(file: Path) -> np.ndarray:
    """Return the array that a file of FACED consists of; raises as `read_pickle`."""
    if (size := file.stat().st_size) > _MAX_BYTES:
        raise ValueError(f"it has {size} bytes, but a file of FACED has 54 million")
    array = _parse(file.read_bytes(), n_arrays=1)
    return _values_of(array)


def parse_pickle(content: bytes, n_arrays: int) -> dict:
    """Return the arrays of a pickled dictionary by key, text or whole number.

    Raises as `read_pickle`, also if there are more than ``n_arrays``.
    """
    arrays = _as_dict(_parse(content, n_arrays))
    return {key: _values_of(arrays[key], repr(key)) for key in arrays}


def _parse(content: bytes, n_arrays: int):
    """Return the contents of a pickle, with stand-ins for arrays."""
    most = n_arrays * _OPCODES_PER_ARRAY
    operations = list(islice(_read_operations(content), most + 1))
    for name, argument in operations:
        if name in ("GLOBAL", "INST"):
            _name(argument)
        if name in _FORBIDDEN or name == "INST":
            raise ForbiddenPickleError(
                f"its pickle asks for an object by the opcode {name}."
            )
    if len(operations) > most:
        raise ValueError(f"it has more parts than {n_arrays} arrays need")
    machine = _Machine()
    for name, argument in operations:
        machine.run(name, argument)
    return machine.result()


def _read_operations(content: bytes) -> Iterator[tuple[str, Any]]:
    """Yield (name, argument) of each opcode; long contents are views of the file.

    ``pickletools.genops`` copies the 103 MB of a file of DEAP three times.
    """
    stream, view = BytesIO(content), memoryview(content)
    name = ""
    while name != "STOP":
        code = stream.read(1).decode("latin-1")
        if code not in _OPCODES:
            raise ValueError(
                f"byte {stream.tell()} of its pickle is {code!r}, not an opcode"
            )
        name, argument = _OPCODES[code].name, _OPCODES[code].arg
        start = stream.tell() + _LENGTH_BYTES.get(name, 0)
        n_bytes = int.from_bytes(view[stream.tell() : start], "little")
        if n_bytes < _LONG:
            yield name, argument and argument.reader(stream)
        elif start + n_bytes <= len(view):
            stream.seek(start + n_bytes)
            yield name, view[start : start + n_bytes]
        else:
            raise ValueError(f"it ends within {n_bytes} bytes of {name}")


def _as_dict(value) -> dict:
    if type(value) is not dict:
        raise ValueError("it holds no dictionary")
    return value


def _values_of(array, name: str = "") -> np.ndarray:
    """Return the values behind a stand-in."""
    if not isinstance(array, _Array) or array.values is None:
        raise ValueError(f"it holds no array {name:.40}".rstrip())
    return array.values


def _show(value) -> str:
    """Return a value for a message; the repr of nested tuples may never end."""
    is_flat = isinstance(value, str | bytes | int | None)
    return f"{value!r:.20}" if is_flat else f"of type {type(value).__name__}"


def _name(path: str) -> _Name:
    if path not in _NAMES:
        raise ForbiddenPickleError(
            f"its pickle asks for {path.replace(' ', '.', 1):.100}."
        )
    return _Name(_NAMES[path])


class _Machine:
    """The pickle machine, reduced to dictionaries, tuples and arrays.

    It has no lists, so that nothing can contain itself, and keeps the memo in a
    dictionary, so that an index costs no memory.
    """

    _pushed = frozenset(
        "INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING SHORT_BINSTRING "
        "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES "
        "BINBYTES8 BYTEARRAY8".split()
    )
    _constants = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}  # noqa: RUF012
    _tuples = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}  # noqa: RUF012
    _mark = object()

    def __init__(self):
        self.stack: list = []
        self.memo: dict[int, object] = {}

    def run(self, name: str, argument) -> None:
        if name in self._pushed:
            self.stack.append(argument)
        elif name in self._constants:
            self.stack.append(self._constants[name])
        elif name in self._tuples:
            self.stack.append(tuple(self._pop_last(self._tuples[name])))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self._top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise ValueError("it refers to a part that it has not")
            self.stack.append(self.memo[argument])
        elif name not in ("PROTO", "FRAME", "STOP"):
            method = getattr(self, f"_run_{name.lower()}", None)
            if method is None:
                raise ValueError(f"its pickle has the opcode {name}, which none needs")
            method(argument)

    def result(self):
        if len(self.stack) != 1:
            raise ValueError("it holds no single value")
        return self.stack[0]

    def _top(self):
        if not self.stack or self.stack[-1] is self._mark:
            raise ValueError("its pickle takes more than it has")
        return self.stack[-1]

    def _pop_last(self, n: int) -> list:
        if n == 0:
            return []
        items = self.stack[-n:]
        if len(items) < n or any(item is self._mark for item in items):
            raise ValueError("its pickle takes more than it has")
        del self.stack[-n:]
        return items

    def _pop_to_mark(self) -> list:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is self._mark:
                items = self.stack[place + 1 :]
                del self.stack[place:]
                return items
        raise ValueError("its pickle takes more than it has")

    def _run_mark(self, _):
        self.stack.append(self._mark)

    def _run_memoize(self, _):
        self.memo[len(self.memo)] = self._top()

    def _run_tuple(self, _):
        self.stack.append(tuple(self._pop_to_mark()))

    def _run_empty_dict(self, _):
        self.stack.append({})

    def _run_dict(self, _):
        items = self._pop_to_mark()
        self.stack.append({})
        self._set_items(items)

    def _run_setitem(self, _):
        self._set_items(self._pop_last(2))

    def _run_setitems(self, _):
        self._set_items(self._pop_to_mark())

    def _set_items(self, items: list) -> None:
        target = self._top()
        if type(target) is not dict:
            raise ForbiddenPickleError("its pickle asks for a change of a value.")
        if len(items) % 2:
            raise ValueError("its dictionary has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int) or key in target:
                raise ValueError("its dictionary has wrong keys")
            target[key] = value

    def _run_global(self, path):
        self.stack.append(_name(path))

    def _run_stack_global(self, _):
        module, name = self._pop_last(2)
        if type(module) is not str or type(name) is not str:
            raise ForbiddenPickleError("its pickle asks for something without a name.")
        self.stack.append(_name(f"{module} {name}"))

    def _run_build(self, _):
        (state,) = self._pop_last(1)
        if not isinstance(target := self._top(), _Array | _DType):
            raise ForbiddenPickleError("its pickle asks for a change of a value.")
        target.set_state(state)

    def _run_reduce(self, _):
        name, arguments = self._pop_last(2)
        if not isinstance(name, _Name) or type(arguments) is not tuple:
            raise ForbiddenPickleError("its pickle asks for a call of a value.")
        self.stack.append(_call(name, arguments))


def _call(name: _Name, arguments: tuple):
    """Return what a call in a pickle stands for."""
    kinds = tuple(type(argument) for argument in arguments)
    if name == "reconstruct" and arguments[1:] in (((0,), "b"), ((0,), b"b")):
        if arguments[0] == "ndarray":
            return _Array()
    elif name == "dtype" and kinds[:1] == (str,) and arguments[1:] in _DTYPE_FLAGS:
        return _make_dtype(arguments[0])
    elif name == "encode" and kinds[:1] == (str,) and arguments[1:] == ("latin1",):
        return arguments[0].encode("latin-1")
    elif name == "frombuffer" and len(kinds) >= 4 and arguments[4:] in ((), (None,)):
        array = _Array()
        array.set_values(*arguments[:4])
        return array
    raise ForbiddenPickleError(f"its pickle asks for a call of {name} with arguments.")


# Neither aligned nor shared, as numpy writes it from either version of Python.
_DTYPE_FLAGS = ((False, True), (0, 1))


def _make_dtype(code: str) -> _DType:
    if code.startswith("V"):
        raise ForbiddenPickleError("its pickle asks for a dtype with fields.")
    if not _NUMBER.fullmatch(code):
        raise ValueError(
            f"its arrays must hold plain numbers, but have dtype {code!r:.30}"
        )
    return _DType(code)
