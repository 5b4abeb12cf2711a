"""Files of the package: the one place that writes, replaces, locks and hashes them.

Results, features, states of trainings and checkpoints are written under another name
and moved into place, so that a file is either complete or absent, whatever happens to
the process, the disk or another process in the same folder.
"""

from __future__ import annotations

import ast
import builtins
import dis
import errno
import hashlib
import importlib
import importlib.util
import inspect
import json
import logging
import os
import pickle
import platform
import re
import secrets
import shutil
import sys
import sysconfig
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import (
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    ModuleType,
)
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from joblib.hashing import NumpyHasher

__all__ = [
    "UNSEALED",
    "as_json",
    "digest_file",
    "digest_files",
    "find_folder",
    "hash_arrays",
    "hash_bytes",
    "hash_json",
    "hash_object",
    "is_mapped",
    "is_sealed",
    "lock",
    "make_folder",
    "map_blocks",
    "read_json",
    "remove_leftovers",
    "scratch_folder",
    "seal",
    "write_file",
    "write_folder",
    "write_json",
]

log = logging.getLogger(__name__)

# -- writing -------------------------------------------------------------------

# A name under which a process writes: .<name>.<machine>-<process>-<random>.tmp
_SCRATCH = re.compile(r"\..+\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")
# Age in seconds from which a file of another machine's process is a leftover.
_OLD = 24 * 3600
# Seconds before a lock counts as held: workers of a killed process hold it for five.
_PATIENCE = 10
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
# Errors of a move whose source or target another process has moved.
_MOVED = {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}
_MOST_SWAPS = 1000
_FULL = {errno.ENOSPC, errno.EDQUOT}


def make_folder(path) -> Path:
    """Make a folder, with those above it, unless it exists.

    Parameters
    ----------
    path : path
        The folder.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    NotADirectoryError
        If it, or a folder above it, is a file; the message is a sentence.
    """
    path = Path(path)
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            raise NotADirectoryError(
                f"{part.absolute()} must be a folder, but is a file: give another "
                "folder, or remove the file."
            )
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_file(path, write: Callable[[Path], Any], *, replace: bool = True) -> None:
    """Write a file that appears complete or not at all.

    Parameters
    ----------
    path : path
        File to write; its folder is made if needed.
    write : callable
        Takes the path of a scratch file next to it and writes that.
    replace : bool
        Whether to replace an existing file. If False, the file of the first process
        to finish stays.

    Raises
    ------
    OSError
        If the file cannot be written; the error names it.
    """
    path = Path(path)
    scratch = _scratch_of(path)
    with _naming(path):
        make_folder(path.parent)
        try:
            write(scratch)
            _sync(scratch)
            if replace:
                scratch.replace(path)
            else:
                _publish(scratch, path)
            _sync(path.parent)
        finally:
            scratch.unlink(missing_ok=True)


def write_json(path, content: Mapping[str, Any], *, replace: bool = True) -> None:
    """Write a mapping as JSON; see :func:`write_file`."""
    text = json.dumps(content, indent=2, default=_to_plain) + "\n"
    write_file(
        path,
        lambda scratch: scratch.write_text(text, encoding="utf-8"),
        replace=replace,
    )


def write_folder(path, write: Callable[[Path], Any], *, replace: bool = True) -> None:
    """Write a folder of files that appears complete or not at all.

    Parameters
    ----------
    path : path
        Folder to write.
    write : callable
        Takes the path of an empty scratch folder next to it and fills that.
    replace : bool
        Whether to replace an existing folder, which stays until the new one is
        complete. If False, the folder of the first process to finish stays.

    Raises
    ------
    OSError
        If the folder cannot be written; the error names it.
    """
    path = Path(path)
    with _naming(path):
        make_folder(path.parent)
        with scratch_folder(path) as scratch:
            write(scratch)
            for file in filter(Path.is_file, scratch.rglob("*")):
                _sync(file)
            _move_folder(scratch, path, replace=replace)
            _sync(path.parent)
        remove_leftovers(path.parent)


@contextmanager
def scratch_folder(path) -> Iterator[Path]:
    """Yield an empty folder next to a path, which is deleted in the end.

    :func:`remove_leftovers` deletes that of a process that was killed.
    """
    scratch = _scratch_of(Path(path))
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def find_folder(path) -> Path:
    """Return where a folder is, even if its replacement was interrupted."""
    path = Path(path)
    previous = _previous_of(path)
    return previous if previous.exists() and not path.exists() else path


def read_json(
    path,
    kinds: Mapping[str, type | tuple[type, ...]],
    *,
    remedy: str,
    error: type[Exception] = ValueError,
) -> dict[str, Any]:
    """Read a mapping from JSON and check the types of its entries.

    Parameters
    ----------
    path : path
        File to read.
    kinds : mapping of str to type
        Entries that it must have, and their types.
    remedy : str
        Sentence for the error that says what to do about a damaged file.
    error : type of Exception
        What a damaged file raises.

    Returns
    -------
    dict
        The content.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    Exception
        The ``error``, if the file is empty, damaged, or lacks an entry.
    """
    path = Path(path)
    text = path.read_bytes()
    if not text.strip(b"\0 \t\r\n"):
        raise error(f"{path} is empty. {remedy}")
    try:
        content = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as cause:
        raise error(f"{path} is not JSON ({cause}). {remedy}") from cause
    for name, kind in kinds.items():
        value = content.get(name) if isinstance(content, dict) else None
        if not isinstance(value, kind):
            shown = getattr(kind, "__name__", str(kind))
            raise error(f"{path} has no entry {name!r} of type {shown}. {remedy}")
    return content


def remove_leftovers(folder) -> None:
    """Delete scratch files and folders of processes that were killed while writing."""
    folder = Path(folder)
    names = os.listdir(folder) if folder.is_dir() else []
    for name in names:
        match = _SCRATCH.fullmatch(name)
        if not match or not _is_abandoned(folder / name, match):
            continue
        # A folder that cannot be written keeps them.
        if (folder / name).is_dir():
            shutil.rmtree(folder / name, ignore_errors=True)
        else:
            with suppress(OSError):
                (folder / name).unlink()


def _is_abandoned(path: Path, match: re.Match) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return False  # its process has just finished
    if age > _OLD:
        return True
    return match["host"] == _host() and not _is_running(int(match["pid"]))


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # there os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _scratch_of(path: Path) -> Path:
    """Return a name next to a path that no other process or thread uses."""
    token = secrets.token_hex(4)
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{token}.tmp")


def _previous_of(path: Path) -> Path:
    """Return where a folder is while another one takes its place."""
    return path.with_name(f".{path.name}.previous")


def _sync(path: Path) -> None:
    """Wait for the disk: a crash of the machine must not leave an empty file."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:  # some mounts know no fsync
            raise
    finally:
        os.close(descriptor)


def _publish(scratch: Path, path: Path) -> None:
    """Move a file into place unless there is one already."""
    try:
        os.link(scratch, path)
    except FileExistsError:
        return
    except OSError:  # cloud mounts, exFAT and the like have no hard links
        with lock(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                scratch.replace(path)


def _move_folder(scratch: Path, path: Path, *, replace: bool) -> None:
    """Put a folder in its place, also while other processes do the same."""
    for n_left in reversed(range(_MOST_SWAPS)):
        try:
            return _swap_folders(scratch, path, replace=replace)
        except OSError as error:
            # Another process may have moved its folder between two of the steps.
            if not n_left or error.errno not in _MOVED or not scratch.exists():
                raise


def _swap_folders(scratch: Path, path: Path, *, replace: bool) -> None:
    previous = _previous_of(path)
    if replace and path.exists():
        # A folder cannot be replaced in one step. If the process ends here,
        # `find_folder` finds the old one under its other name.
        shutil.rmtree(previous, ignore_errors=True)
        path.rename(previous)
    try:
        scratch.rename(path)
    except BaseException:
        if replace and previous.exists() and not path.exists():
            previous.rename(path)
        if replace or not path.exists():
            raise
    shutil.rmtree(previous, ignore_errors=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in errors of the system, which say only that the disk is full."""
    try:
        yield
    except NotADirectoryError:
        raise  # a sentence that names the file in the place of the folder
    except OSError as error:
        named = Path(str(error.filename or "")).parts
        if named and not any(map(_SCRATCH.fullmatch, named)):
            raise  # of another file
        hint = ""
        if error.errno in _FULL:
            hint = ". Free some space and run it again; complete files are kept"
        if error.errno is None:
            raise type(error)(f"{path} cannot be written: {error}") from error
        reason = f"{error.strerror or error}{hint}"
        raise OSError(error.errno, reason, str(path)) from error


@contextmanager
def lock(path, *, busy: Exception | None = None) -> Iterator[None]:
    """Hold a lock that only one process or thread can hold at a time.

    Parameters
    ----------
    path : path
        The lock file, which stays when the lock is released.
    busy : Exception or None
        Raised if another keeps the lock for ten seconds; by default, wait.

    Raises
    ------
    Exception
        The one given as ``busy``.
    """
    path = Path(path)
    make_folder(path.parent)
    holder = FileLock(path, timeout=-1 if busy is None else _PATIENCE)
    try:
        holder.acquire()
    except Timeout:
        raise busy from None  # type: ignore[misc]
    except (NotImplementedError, OSError) as error:
        unknown = isinstance(error, NotImplementedError) or error.errno in _NO_LOCKS
        if not unknown:
            raise
        log.warning("%s: this file system has no locks.", path)
        yield
        return
    try:
        yield
    finally:
        holder.release()


# -- mapped arrays ---------------------------------------------------------------


def map_blocks(blocks: Iterable[np.ndarray], dtype, shape: tuple) -> np.memmap:
    """Write blocks of an array into a file without a name, and map it.

    The array may be changed. The file is deleted with it.
    """
    with tempfile.TemporaryFile() as file:
        for block in blocks:
            if block.shape[1:] != shape[1:]:
                raise ValueError(
                    f"All blocks must have the shape {shape[1:]} after the first axis, "
                    f"but one has {block.shape[1:]}."
                )
            file.write(np.ascontiguousarray(block, dtype).data)
        file.flush()
        return np.memmap(file, dtype, "r+", shape=shape)


def is_mapped(array: np.ndarray) -> bool:
    """Return whether an array lies in a file, as a view of a mapped array does."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


# -- digests -------------------------------------------------------------------

# Smaller files are read as fast as they are looked up.
_WORTH_REMEMBERING = 2**20
_MOST_REMEMBERED = 20_000
# Seconds in which a file may change again without another time of change.
_UNSETTLED = 2
_digests: dict[str, list] = {}
# Where a file holds the SHA-256 of all its bytes, computed with zeros in this place.
UNSEALED = f"emossl-sha256:{'0' * 64}"
_SEAL = re.compile(rb"emossl-sha256:[0-9a-f]{64}")


def hash_json(content) -> str:
    """Return 16 hexadecimal digits that identify a JSON value."""
    text = json.dumps(content, sort_keys=True, default=_to_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_file(path) -> str:
    """Return the SHA-256 of the contents of a file; see :func:`digest_files`."""
    (digest,) = digest_files([path])
    return digest


def digest_files(paths: Iterable) -> list[str]:
    """Return the SHA-256 of the contents of each file.

    Digests of large files are remembered by path, size and time of change, in
    ``digests.json`` in the folder ``EMOSSL_CACHE_DIR``, by default one of the user's
    cache. A change that keeps size and time goes unseen.

    Parameters
    ----------
    paths : iterable of path
        The files.

    Returns
    -------
    list of str
        64 hexadecimal digits for each file.
    """
    memory = _cache_folder() / "digests.json"
    found = []
    learnt: dict[str, list] = {}
    for path in map(os.path.realpath, paths):
        stat = os.stat(path)
        stamp = [stat.st_size, stat.st_mtime_ns]
        known: list | None = _digests.get(path)
        if (known is None or known[:2] != stamp) and stat.st_size >= _WORTH_REMEMBERING:
            _digests.update(_read_digests(memory) if not learnt else {})
            known = _digests.get(path)
        if known is None or known[:2] != stamp:
            with open(path, "rb") as file:
                known = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
            if time.time_ns() - stat.st_mtime_ns > _UNSETTLED * 10**9:
                _digests[path] = known
                if stat.st_size >= _WORTH_REMEMBERING:
                    learnt[path] = known
        found.append(known[2])
    if learnt:
        _remember(memory, learnt)
    return found


def _cache_folder() -> Path:
    if folder := os.environ.get("EMOSSL_CACHE_DIR"):
        return Path(folder).expanduser()
    if os.name == "nt":
        parent = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    elif sys.platform == "darwin":
        parent = Path.home() / "Library" / "Caches"
    else:
        parent = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return parent / "braindecode-emossl"


def _read_digests(memory: Path) -> dict[str, list]:
    try:
        entries = read_json(memory, {}, remedy="")
        return {
            path: entry
            for path, entry in entries.items()
            if isinstance(entry, list) and len(entry) == 3
        }
    except (OSError, ValueError, AttributeError):
        return {}  # whatever is not remembered is computed


def _remember(memory: Path, learnt: dict[str, list]) -> None:
    entries = {**_read_digests(memory), **learnt}
    latest = dict(list(entries.items())[-_MOST_REMEMBERED:])
    # A home that cannot be written costs a second read, not the result.
    with suppress(OSError):
        write_json(memory, latest)


def hash_bytes(data: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def seal(data: bytes) -> bytes:
    """Return a file that holds ``UNSEALED`` with its own digest in that place."""
    return data.replace(UNSEALED.encode(), _seal_of(data))


def is_sealed(data: bytes) -> bool:
    """Return whether a file is as :func:`seal` returned it, to the byte."""
    seals = set(_SEAL.findall(data))
    unsealed = _SEAL.sub(UNSEALED.encode(), data)
    return len(seals) == 1 and seals.pop() == _seal_of(unsealed)


def _seal_of(unsealed: bytes) -> bytes:
    return f"emossl-sha256:{hash_bytes(unsealed)}".encode()


def hash_arrays(arrays: Iterable) -> str:
    """Return a hash of the types, shapes and values of some arrays, in their order."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def as_json(content):
    """Return a value as JSON gives it back: numbers of NumPy plain, tuples lists."""
    return json.loads(json.dumps(content, default=_to_plain))


def _to_plain(value):
    """Return a value of NumPy, a set or a path as JSON has it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{value!r:.80} of type {type(value).__name__} is not JSON.")


# -- hashes of objects ---------------------------------------------------------

# Members of a class that do not change what it does.
_NO_MEMBERS = {
    "__abstractmethods__",
    "__annotate__",
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__dataclass_fields__",  # the generated methods hold all of them
    "__dataclass_params__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__static_attributes__",
    "__weakref__",
}
_READS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
# Instructions by which code reaches what it writes.
_GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"}
_ATTRIBUTES = {"LOAD_ATTR", "STORE_ATTR"}
# Methods that change a list, a dict or a set in place.
_MUTATORS = {
    "add",
    "append",
    "clear",
    "discard",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "setdefault",
    "update",
}
_HEAP_TYPE = 1 << 9  # flag of classes that were made by a class statement
_UNHASHABLE = (pickle.PicklingError, AttributeError, TypeError, RecursionError)


def hash_object(thing, what: str) -> str:
    """Return a hash of the contents of an object, arrays and weights included.

    Functions and classes of installed packages count by name. Those of the user's own
    modules, scripts and notebooks count by their code, together with the functions
    and classes that they use and the values of the global variables that they read
    in such modules, recursively. Variables that such code changes itself, such as a
    counter, count by the statements of their module or class that set them, or by
    value if there are none. What code reaches by a computed name (``getattr``,
    ``eval``, ``importlib``), in files or through the environment is not seen.

    Parameters
    ----------
    thing : object
        It must be picklable, except for functions and classes with a name.
    what : str
        What it is, to begin the message with.

    Returns
    -------
    str
        Hexadecimal digits, the same in each process.

    Raises
    ------
    ValueError
        If it cannot be pickled, or uses something whose contents cannot be hashed.
    """
    try:
        return _Hasher().hash(thing)
    except _NotHashableError as error:
        raise ValueError(
            f"{what} cannot be identified by its contents: {error}"
        ) from error
    except _UNHASHABLE as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise ValueError(
            f"{what} must be picklable, so that its results can be found again, but "
            f"{thing!r:.500} is not ({reason}). Use functions with a name instead of "
            "lambdas."
        ) from error


class _NotHashableError(Exception):
    """Something that the user's code uses has no contents that can be hashed."""


class _Used:
    """A value that a function or class of the user's uses, and by which name."""

    def __init__(self, user: str, name: str, value):
        self.user, self.name, self.value = user, name, value


class _Hasher(NumpyHasher):
    """Hasher of joblib for values alone, and for the user's own code.

    The pickle of a tensor holds the address of its storage, that of a function its
    name. joblib sorts dicts, but the order of frequency bands is that of the features.
    """

    def __init__(self, seen: dict[int, tuple] | None = None, *, in_code: bool = False):
        super().__init__(hash_name="sha1")
        # Functions and classes by id, kept alive, with their hashes or numbers.
        self._seen = {} if seen is None else seen
        self._in_code = in_code

    def save(self, obj):
        if isinstance(obj, dict | MappingProxyType):
            obj = (type(obj).__name__, list(obj.items()))
        elif isinstance(obj, set | frozenset):
            # joblib's order of some sets is another one in each process.
            hashes = sorted(map(self._hash_item, obj))
            obj = (type(obj).__name__, hashes)
        elif isinstance(obj, ModuleType):
            obj = ("module", obj.__name__)
        elif isinstance(obj, logging.Logger):
            obj = ("logger",)  # its name tells a script from a module
        elif isinstance(obj, FunctionType | type):
            obj = self._identify(obj)
        elif isinstance(obj, CodeType):
            obj = ("code", self._hash_apart(_list_code(obj)))
        elif isinstance(obj, _Used):
            obj = self._hash_used(obj)
        else:
            obj = _as_plain(obj)
        super().save(obj)

    def save_global(self, obj, name=None, **kwargs):
        """Save what pickles by its name, such as the wrapper of a cached function."""
        wrapped = getattr(obj, "__wrapped__", None)
        if wrapped is not None and not _is_installed(obj):
            self.save(wrapped)
        else:
            super().save_global(obj, name, **kwargs)

    def _identify(self, obj):
        """Return what stands for a function or a class."""
        is_class = isinstance(obj, type)
        if "<" in obj.__qualname__ and not (is_class or self._in_code):
            return obj  # pickle refuses it
        if _is_installed(obj):
            return ("installed", obj.__module__, obj.__qualname__)
        if id(obj) not in self._seen:
            self._seen[id(obj)] = (obj, f"under way {len(self._seen)}")
            contents = _list_class(obj) if is_class else _list_function(obj)
            self._seen[id(obj)] = (obj, self._hash_apart(contents))
        return ("own", self._seen[id(obj)][1])

    def _hash_item(self, item) -> str:
        # Of a set, whose order must not reach what it has in common with others.
        return _Hasher(dict(self._seen), in_code=self._in_code).hash(item)

    def _hash_apart(self, contents) -> str:
        # Apart, as pickle writes what it has met before in another way, and which
        # constants are one object depends on how the code was loaded.
        return _Hasher(self._seen, in_code=True).hash(contents)

    def _hash_used(self, used: _Used) -> tuple[str, str]:
        try:
            return (used.name, self._hash_apart(used.value))
        except _UNHASHABLE as error:
            raise _NotHashableError(
                f"{used.user} uses {used.name}, a {type(used.value).__name__}, whose "
                f"contents cannot be hashed ({error}). Create it inside {used.user}, "
                "or make what it depends on a parameter of the pipeline."
            ) from error


def _as_plain(obj):
    """Return a tensor or a table as values that do not depend on its memory."""
    torch, pandas = sys.modules.get("torch"), sys.modules.get("pandas")
    if torch is not None and isinstance(obj, torch.Tensor):
        kind = type(obj).__name__, str(obj.dtype), tuple(obj.shape)
        # Bytes, as NumPy does not know all types; frozen weights train otherwise.
        values = obj.detach().cpu().reshape(-1).view(torch.uint8).numpy()
        return (kind, obj.requires_grad, values)
    if pandas is not None and isinstance(obj, pandas.DataFrame):
        columns = [("", obj.index), *((name, obj[name]) for name in obj)]
        return ("table", [(name, *_list_column(column)) for name, column in columns])
    return obj


def _list_column(column) -> tuple:
    """Return numbers and values of a column, whatever its type in memory."""
    values = np.asarray(column)
    try:
        codes, values = sys.modules["pandas"].factorize(values)
    except TypeError:  # lists and the like
        codes = np.arange(len(values))
    return codes, values.tolist()


def _list_code(code: CodeType) -> tuple:
    """Return all of a code object but where it stands."""
    return (
        code.co_code,
        code.co_exceptiontable,
        code.co_consts,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags,
    )


def _list_function(function: FunctionType) -> list:
    """Return all that the result of a function depends on, one level deep."""
    name = f"the function {function.__qualname__}"
    code = function.__code__
    parts = [
        ("defaults", function.__defaults__),
        *sorted((function.__kwdefaults__ or {}).items()),
        *zip(
            code.co_freevars, map(_read_cell, function.__closure__ or ()), strict=True
        ),
    ]
    if not _is_installed_module(function.__globals__.get("__name__")):
        parts += _list_globals(code, function.__globals__)
    return [code, *(_Used(name, part, value) for part, value in parts)]


def _list_class(cls: type) -> list:
    """Return all that a class consists of, one level deep."""
    members = {
        name: value
        for name, value in vars(cls).items()
        if name not in _NO_MEMBERS
        and not name.startswith("_abc_")
        and not isinstance(value, MemberDescriptorType | GetSetDescriptorType)
    }
    variables = getattr(sys.modules.get(cls.__module__), "__dict__", {})
    # Counters and logs that the methods write are state, which must not make a class
    # another one after each fit.
    for name in _written_by_methods(cls) & set(members):
        if not callable(members[name]):
            statements = _list_assignments(name, cls, variables)
            members[name] = statements or members[name]
    name = f"the class {cls.__qualname__}"
    used = [_Used(name, m, _unwrap(members[m])) for m in sorted(members)]
    return [cls.__qualname__, type(cls), cls.__bases__, *used]


def _written_by_methods(cls: type) -> set[str]:
    """Return the attributes that methods of the user's own classes write."""
    members = [
        member
        for owner in cls.__mro__
        if not _is_installed(owner)
        for member in vars(owner).values()
    ]
    functions = [getattr(member, "__func__", member) for member in members]
    codes = [f.__code__ for f in functions if isinstance(f, FunctionType)]
    return {name for code in codes for name in _written_names(code, _ATTRIBUTES)}


def _unwrap(member):
    """Return the functions in a member of a class."""
    kind = type(member).__name__
    if isinstance(member, staticmethod | classmethod):
        return (kind, member.__func__)
    if isinstance(member, property):
        return (kind, member.fget, member.fset, member.fdel)
    if kind == "cached_property":
        return (kind, member.func)
    return member


def _read_cell(cell):
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return ("empty cell",)


def _list_globals(code: CodeType, variables: Mapping[str, Any]) -> list:
    """Return (name, value) of what code reads in its module or imports there."""
    codes = list(_nested(code))
    attributes = {name for part in codes for name in part.co_names}
    found: dict[str, Any] = {}
    owner = sys.modules.get(variables.get("__name__", ""))
    written = set(_written_names(code, _GLOBALS))
    for part in codes:
        for name in _read_names(part):
            if name in variables:
                value = found[name] = variables[name]
                is_code = isinstance(value, ModuleType | FunctionType | type)
                if name in written and not is_code:  # a counter or a log
                    found[name] = _list_assignments(name, owner, variables) or value
            elif not hasattr(builtins, name):
                found[name] = ("undefined",)
        for module in _imported(part, variables):
            found[f"import {module.__name__}"] = module
    pairs: list[tuple[str, Any]] = []
    for name in sorted(found):
        if isinstance(found[name], ModuleType):
            pairs += _list_module(name, found[name], attributes)
        else:
            pairs.append((name, found[name]))
    return pairs


def _list_module(name: str, module: ModuleType, attributes: set[str]) -> list:
    """Return what code reads of a module; of one of the user's, the values."""
    pairs = [(name, module)]
    if not _is_installed_module(module.__name__):
        for attribute in sorted(attributes & set(vars(module))):
            value = vars(module)[attribute]
            path = f"{name}.{attribute}"
            if not isinstance(value, ModuleType):
                pairs.append((path, value))
            elif value is not module and path.count(".") < 8:
                pairs += _list_module(path, value, attributes - {attribute})
    return pairs


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _read_names(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in _READS:
            yield instruction.argval


def _list_assignments(
    name: str, owner: Any, variables: Mapping[str, Any]
) -> list[tuple]:
    """Return the statements of a module or class that set a variable, if any do.

    Each comes with the values of the other variables that it reads.
    """
    try:
        source = textwrap.dedent(inspect.getsource(owner))
        statements = ast.parse(source).body
    except (OSError, SyntaxError, TypeError):  # made by exec, or in a console
        return []
    if isinstance(owner, type):
        statements = statements[0].body  # type: ignore[attr-defined]
    found = []
    for statement in statements:
        names = [n for n in ast.walk(statement) if isinstance(n, ast.Name)]
        sets = isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign)
        if sets and name in {n.id for n in names}:
            read = {n.id for n in names if isinstance(n.ctx, ast.Load)} - {name}
            known = sorted(read & set(variables))
            values = [_Used(name, other, variables[other]) for other in known]
            found.append((ast.dump(statement), values))
    return found


def _written_names(code: CodeType, kinds: set[str]) -> Iterator[str]:
    """Yield the names of some kinds that code assigns, or changes in place."""
    for part in _nested(code):
        steps = list(dis.get_instructions(part))
        for i, step in enumerate(steps):
            changed = step
            if step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                if step.argval not in _MUTATORS:
                    continue
                changed = steps[i - 1]  # name.append(...)
            elif step.opname == "STORE_SUBSCR" or (
                [(s.opname, s.arg) for s in steps[i : i + 2]] == [("COPY", 2)] * 2
            ):
                # name[key] = ..., name[key] += ...
                changed = steps[_find_start(steps, i) - 1]
            elif not step.opname.startswith("STORE_"):
                continue
            if changed.opname in kinds:
                yield changed.argval


def _find_start(steps: list[dis.Instruction], stop: int) -> int:
    """Return where the steps begin that compute what ``stop`` finds on the stack."""
    depth = 0
    for i in range(stop - 1, 0, -1):
        # Which of two branches, and what was swapped, is unknown.
        if steps[i].opcode in dis.hasjrel or steps[i].opname == "SWAP":
            break
        depth += dis.stack_effect(steps[i].opcode, steps[i].arg, jump=False)
        if depth == 1:
            return i
        if depth > 1:  # one step loads this value and the one before, both local
            break
    return 1


def _imported(code: CodeType, variables: Mapping[str, Any]) -> Iterator[ModuleType]:
    """Yield the user's own modules that code imports when it runs."""
    steps = list(dis.get_instructions(code))
    for i, step in enumerate(steps):
        if step.opname != "IMPORT_NAME":
            continue
        level = steps[i - 2].argval or 0
        package = str(variables.get("__package__") or "")
        name = step.argval
        if level:
            name = f"{'.' * level}{name}"
        try:
            name = importlib.util.resolve_name(name, package)
            if not _is_installed_module(name.partition(".")[0]):
                yield importlib.import_module(name)
        except (ImportError, ValueError):
            continue  # code may try what is not installed


def _is_installed(obj) -> bool:
    """Return whether a function or a class is of an installed package."""
    module = getattr(obj, "__module__", None)
    if isinstance(obj, FunctionType):
        # A decorator names its wrapper after the function; either may be the user's.
        names = module, obj.__globals__.get("__name__")
        return module != "builtins" and all(map(_is_installed_module, names))
    if module == "builtins" and isinstance(obj, type):
        return not obj.__flags__ & _HEAP_TYPE  # else it was made by exec
    return _is_installed_module(module)


def _is_installed_module(name: str | None) -> bool:
    if not name or name in ("__main__", "__mp_main__"):
        return False
    top = name.partition(".")[0]
    if top == "braindecode_emossl" or top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        # A namespace package, or made in a console.
        file = next(iter(getattr(sys.modules.get(name), "__path__", ())), None)
    if file is None:
        return False
    parts = Path(file).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return True
    paths = sysconfig.get_paths()
    return any(Path(file).is_relative_to(paths[key]) for key in ("purelib", "platlib"))
