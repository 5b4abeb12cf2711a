"""The band of a release and the midpoint of its ratings, as the report states them."""

from __future__ import annotations

import pytest

from braindecode_emossl.report_content import _describe_midpoints, _describe_passbands

CORPORA = {
    "DEAP": {"passband": [4.0, 45.0], "rating_midpoint": 5.0},
    "SEED": {"passband": [0.0, 75.0], "rating_midpoint": None},
    "other": {},
}


@pytest.mark.parametrize(
    ("paradigm", "of_deap"),
    [
        (
            {"features": "de", "fmin": 0.5, "fmax": 47.0},
            " (delta, 1-4 Hz, lies below 4 Hz)",
        ),
        ({"features": None, "fmin": 0.5, "fmax": 47.0}, ""),
        ({"features": "Mine()", "fmin": None, "fmax": None}, ""),
        ({}, ""),
    ],
)
def test_bands_outside_the_release_are_marked(paradigm, of_deap):
    text = _describe_passbands({"corpora": CORPORA, "paradigm": paradigm})
    assert text == f"DEAP 4 to 45 Hz{of_deap}; SEED 0 to 75 Hz"


@pytest.mark.parametrize(
    ("target", "threshold", "text"),
    [
        ("valence", None, "DEAP = 5.0"),
        ("valence", 4.5, ""),
        ("valence", "median", ""),
        ("emotion", None, ""),
    ],
)
def test_midpoint_is_stated_where_it_is_the_threshold(target, threshold, text):
    run = {"corpora": CORPORA, "paradigm": {"target": target, "threshold": threshold}}
    assert _describe_midpoints(run) == text
