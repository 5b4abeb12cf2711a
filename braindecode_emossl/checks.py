"""Checks of arguments that are numbers."""

from __future__ import annotations

import math
from numbers import Integral, Real

__all__ = ["check_count", "is_count", "is_integer", "is_number"]


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


def check_count(name: str, value, least: int = 1) -> None:
    """Raise unless a value is an integer from ``least`` on."""
    if not is_count(value, least):
        raise ValueError(f"{name} must be an integer from {least}, but got {value!r}.")
