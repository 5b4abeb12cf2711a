"""Checks of arguments that are numbers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from numbers import Integral, Real

__all__ = [
    "check_choice",
    "check_count",
    "check_counts",
    "check_fraction",
    "is_count",
    "is_integer",
    "is_number",
]


def is_integer(value) -> bool:
    """Return whether a value is an integer; booleans do not count."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_count(value, least: int = 1) -> bool:
    """Return whether a value is an integer from ``least`` on."""
    return is_integer(value) and value >= least


def is_number(value) -> bool:
    """Return whether a value is a finite real number; booleans do not count."""
    # numpy's booleans are not registered as numbers, Python's are.
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


def check_choice(name: str, value, choices: Iterable) -> None:
    """Raise unless a value is one of a few."""
    choices = tuple(choices)
    if not isinstance(value, Hashable) or value not in choices:
        raise ValueError(f"{name} must be one of {choices}, but got {value!r}.")


def check_count(name: str, value, least: int = 1) -> None:
    """Raise unless a value is an integer from ``least`` on."""
    if not is_count(value, least):
        raise ValueError(f"{name} must be an integer from {least}, but got {value!r}.")


def check_fraction(name: str, value) -> None:
    """Raise unless a value is a number in [0, 1]."""
    if not (is_number(value) and 0 <= value <= 1):
        raise ValueError(f"{name} must be in the interval [0, 1], but got {value!r}.")


def check_counts(name: str, values, least: int = 1, length: int | None = None) -> None:
    """Raise unless values are ``length`` integers, or any number, from ``least`` on."""
    counts = list(values) if isinstance(values, Iterable) else []
    fits = bool(counts) if length is None else len(counts) == length
    if not fits or not all(is_count(value, least) for value in counts):
        wanted = "at least one integer" if length is None else f"{length} integers"
        raise ValueError(f"{name} must hold {wanted} from {least}, but got {values!r}.")
