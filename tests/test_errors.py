"""Warnings of other processes."""

from __future__ import annotations

import os
import warnings

import pytest

from braindecode_emossl.errors import (
    LeakageWarning,
    collect_warnings,
    repeat_warnings,
)

WORKER = -1  # no process of a caller


def warn(n_times):
    for _ in range(n_times):
        warnings.warn("a leak", LeakageWarning, stacklevel=1)
    return n_times


def test_each_warning_is_sent_and_told_once():
    """A warning in each batch was sent as often, and told again for each fold."""
    told = set()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for n_times in (5, 2):
            result, caught = collect_warnings(WORKER, warn, n_times)
            assert result == n_times and len(caught) == 1
            with warnings.catch_warnings():  # clears what Python remembers
                pass
            repeat_warnings(caught, told)
    assert [str(w.message) for w in found] == ["a leak"]
    assert found[0].filename == __file__


def test_filters_of_the_caller_count():
    """Those by module did not match, as the module was taken to be the file."""
    _, caught = collect_warnings(WORKER, warn, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=__name__.replace(".", r"\."))
        repeat_warnings(caught, set())
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakageWarning)
        with pytest.raises(LeakageWarning, match="a leak"):
            repeat_warnings(caught, set())


def test_warnings_that_cannot_be_sent_are_told_by_name():
    """They ended the worker."""

    class Local(UserWarning):
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, caught = collect_warnings(WORKER, warnings.warn, Local("of the user"))
    with pytest.warns(UserWarning, match="Local: of the user"):
        repeat_warnings(caught, set())


def test_the_callers_own_warnings_are_left_alone():
    with pytest.warns(LeakageWarning):
        assert collect_warnings(os.getpid(), warn, 1) == (1, [])
