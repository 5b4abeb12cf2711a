"""Checks of arguments that are numbers."""

from __future__ import annotations

import numpy as np
import pytest

from braindecode_emossl.checks import check_choice, check_counts, check_fraction


@pytest.mark.parametrize("values", [(1, 2), [3], np.array([4, 5])])
def test_integers_pass(values):
    check_counts("n", values)
    check_counts("n", values, length=len(values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (50, "n must hold at least one integer from 2, but got 50"),
        ((), r"n must hold at least one integer from 2, but got \(\)"),
        ((2, 1), "n must hold at least one integer from 2"),
        ((2.0,), "n must hold at least one integer from 2"),
        ("33", "n must hold at least one integer from 2"),
        (None, "n must hold at least one integer from 2"),
    ],
)
def test_what_holds_no_counts_is_refused(values, message):
    """A single number, as a pipeline may hold, was a TypeError of an iteration."""
    with pytest.raises(ValueError, match=message):
        check_counts("n", values, least=2)


def test_the_number_of_integers_is_checked():
    with pytest.raises(ValueError, match="n must hold 4 integers from 1, but got"):
        check_counts("n", (1, 2, 3), length=4)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.25)])
def test_fractions_pass(value):
    check_fraction("p", value)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.5", True, None])
def test_what_is_no_fraction_is_refused(value):
    with pytest.raises(
        ValueError, match=r"p must be in the interval \[0, 1\], but got"
    ):
        check_fraction("p", value)


def test_a_choice_passes():
    check_choice("preset", "a", {"a": 1, "b": 2})
    check_choice("schedule", None, (None, "cosine"))


@pytest.mark.parametrize("value", ["c", 1, None, ["a"], np.array(["a", "b"])])
def test_what_is_no_choice_is_refused(value):
    """A list could not be looked up, and an array has no truth value."""
    with pytest.raises(
        ValueError, match=r"preset must be one of \('a', 'b'\), but got"
    ):
        check_choice("preset", value, {"a": 1, "b": 2})
