"""Errors that users of the package may want to catch by name."""

from __future__ import annotations

import warnings

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
