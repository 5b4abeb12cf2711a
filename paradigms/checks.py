"""Checks of the arguments of a paradigm."""

from __future__ import annotations

from collections.abc import Sequence

from braindecode_emossl.checks import is_integer, is_number

__all__ = [
    "as_integer",
    "check_interval",
    "check_names",
    "check_number",
    "check_positive",
]


def check_number(name: str, value, *, or_one_of: Sequence[str] = ()) -> float:
    """Return a number as a float, so that 1 and 1.0 are the same setting."""
    if not is_number(value):
        others = "".join(f' or "{other}"' for other in or_one_of)
        raise ValueError(f"{name} must be a number{others}, but got {value!r}.")
    return float(value)


def check_positive(name: str, value) -> float:
    """Return a positive number as a float."""
    if not is_number(value) or value <= 0:
        raise ValueError(f"{name} must be a positive number, but got {value!r}.")
    return float(value)


def check_interval(first: str, start, second: str, stop) -> None:
    """Raise unless start < stop; None means no limit."""
    if start is not None and stop is not None and start >= stop:
        raise ValueError(
            f"{first} must be less than {second}, but got {first}={start:g} and "
            f"{second}={stop:g}."
        )


def check_names(name: str, value) -> list[str]:
    """Return a sequence of different names as a list."""
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_sequence or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{name} must be a list of names, but got {value!r}.")
    if len(set(value)) < len(value):
        raise ValueError(f"{name} must be different, but got {list(value)}.")
    return list(value)


def as_integer(value):
    """Return an integer of any kind as Python's, anything else unchanged."""
    return int(value) if is_integer(value) else value
