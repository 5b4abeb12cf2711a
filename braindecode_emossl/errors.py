"""Errors that users of the package may want to catch by name."""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from collections.abc import Callable

__all__ = [
    "CheckpointError",
    "CorpusFormatError",
    "CorpusFormatWarning",
    "CorpusNotFoundError",
    "EmosslError",
    "FoldError",
    "LeakageError",
    "LeakageWarning",
]


class EmosslError(Exception):
    """Base class of every error that the package defines."""


class CorpusNotFoundError(EmosslError, FileNotFoundError):
    """A corpus, or a recording of it, was not found."""


class CorpusFormatError(EmosslError, ValueError):
    """A file of a corpus is not in the layout that its makers published."""


class CorpusFormatWarning(UserWarning):
    """A file of a corpus is odd, or was left out as broken.

    Parameters
    ----------
    message : str
        What was found, and where.
    left_out : bool
        Whether something was left out, as asked for by ``on_error="warn"``.

    Attributes
    ----------
    left_out : bool
        The argument.
    """

    def __init__(self, message: str, left_out: bool = False):
        super().__init__(message)
        self.left_out = left_out


class CheckpointError(EmosslError, ValueError):
    """A checkpoint cannot be written, or is not the expected one."""


class FoldError(EmosslError, RuntimeError):
    """A pipeline failed in a fold of an evaluation."""


class LeakageError(EmosslError, ValueError):
    """A model may be tested on its own pre-training data."""


class LeakageWarning(UserWarning):
    """Training and test part have something in common that they should not."""


def warn_of_format(message: str, *, left_out: bool = False) -> None:
    """Issue a `CorpusFormatWarning` that points at the caller of the caller."""
    warnings.warn(CorpusFormatWarning(message, left_out), stacklevel=3)


def collect_warnings(caller: int, function: Callable, *args) -> tuple:
    """Call a function, and record its warnings if it runs in another process.

    Parameters
    ----------
    caller : int
        Process of the caller, whose warnings reach it by themselves.
    function : callable
        What to call.
    *args
        Its arguments.

    Returns
    -------
    result : object
        The result of the call.
    caught : list of tuple
        The warnings, each of them once, for :func:`repeat_warnings`.
    """
    if os.getpid() == caller:
        return function(*args), []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = function(*args)
    caught = {
        (str(w.message), w.category.__name__, w.filename, w.lineno): w.message
        for w in found
    }
    return result, [
        (key, _to_send(message), _find_module(key[2]))
        for key, message in caught.items()
    ]


def repeat_warnings(caught: list[tuple], told: set) -> None:
    """Issue the warnings of a worker in this process.

    Parameters
    ----------
    caught : list of tuple
        Of :func:`collect_warnings`.
    told : set
        Warnings that were issued before, so that several workers tell them once.
    """
    for key, message, module in caught:
        if key not in told:
            told.add(key)
            *_, file, line = key
            warnings.warn_explicit(message, type(message), file, line, module)


def _find_module(file: str) -> str | None:
    """Return the name of the module in a file, which filters of warnings may name."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == file:
            return name
    return None


def _to_send(warning: Warning | str) -> Warning | str:
    """Return a warning that can be sent to another process."""
    try:
        pickle.loads(pickle.dumps(warning))
    except Exception:  # a class of the user's may do anything
        return UserWarning(f"{type(warning).__name__}: {warning}")
    return warning
