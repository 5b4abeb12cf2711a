"""Errors that users of the package may want to catch by name."""

from __future__ import annotations

__all__ = [
    "CorpusFormatError",
    "CorpusNotFoundError",
    "EmosslError",
    "LeakageWarning",
]


class EmosslError(Exception):
    """Base class of every error that the package defines."""


class CorpusNotFoundError(EmosslError, FileNotFoundError):
    """A corpus, or a recording of it, is not where it was looked for."""


class CorpusFormatError(EmosslError, ValueError):
    """A file of a corpus is not in the layout that its makers published."""


class LeakageWarning(UserWarning):
    """Training and test part have something in common that they should not."""
