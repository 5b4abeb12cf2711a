"""Errors that users of the package may want to catch by name."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "CorpusFormatError",
    "CorpusNotFoundError",
    "EmosslError",
    "FoldError",
    "LeakageError",
    "LeakageWarning",
]


class EmosslError(Exception):
    """Base class of every error that the package defines."""


class CorpusNotFoundError(EmosslError, FileNotFoundError):
    """A corpus, or a recording of it, is not where it was looked for."""


class CorpusFormatError(EmosslError, ValueError):
    """A file of a corpus is not in the layout that its makers published."""


class CheckpointError(EmosslError, ValueError):
    """A checkpoint cannot be written, or what is read is not the one asked for."""


class FoldError(EmosslError, RuntimeError):
    """A pipeline failed in a fold of an evaluation."""


class LeakageError(EmosslError, ValueError):
    """What a model was pre-trained on may be what it is tested on."""


class LeakageWarning(UserWarning):
    """Training and test part have something in common that they should not."""
