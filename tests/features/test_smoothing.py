from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindecode_emossl.features import lds_smooth, moving_average


def dense_smoother(x, ratio):
    """Posterior mean of a random walk in noise, by one dense linear system."""
    steps = np.diff(np.eye(len(x)), axis=0)
    return np.linalg.solve(np.eye(len(x)) + steps.T @ steps / ratio, x)


SMOOTHERS = [lds_smooth, moving_average]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), ratio=st.floats(1e-4, 10), seed=st.integers(0, 99))
def test_lds_equals_the_dense_solution(n, ratio, seed):
    x = np.random.default_rng(seed).standard_normal((n, 3))
    offline = lds_smooth(x, variance_ratio=ratio)
    np.testing.assert_allclose(offline, dense_smoother(x, ratio), atol=1e-9)
    # Online, each window is the last of a trial that ends with it.
    online = lds_smooth(x, variance_ratio=ratio, online=True)
    expected = [dense_smoother(x[: t + 1], ratio)[-1] for t in range(n)]
    np.testing.assert_allclose(online, expected, atol=1e-9)


@pytest.mark.parametrize("n_windows", [1, 3, 7])
@pytest.mark.parametrize("online", [False, True])
def test_moving_average_equals_a_loop(n_windows, online):
    x = np.random.default_rng(0).standard_normal((10, 2, 3))
    after = 0 if online else n_windows // 2
    before = n_windows - 1 - after
    expected = [x[max(0, t - before) : t + after + 1].mean(0) for t in range(10)]
    smoothed = moving_average(x, n_windows=n_windows, online=online)
    np.testing.assert_allclose(smoothed, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_missing_value_spoils_only_the_averages_that_hold_it(value):
    """All later windows of the trial were NaN."""
    x = np.arange(8.0)[:, None]
    x[2] = value
    smoothed = moving_average(x, n_windows=3).ravel()
    np.testing.assert_allclose(smoothed, [0.5, *[value] * 3, 4, 5, 6, 6.5])


@pytest.mark.parametrize("smooth", SMOOTHERS)
def test_a_trial_may_have_a_missing_key(smooth):
    """NaN differed from itself: "trials must be contiguous"."""
    x = np.arange(6.0)[:, None]
    trials = np.array([[1, 1, 1, 2, 2, 2], [np.nan] * 6]).T
    np.testing.assert_array_equal(smooth(x, trials), smooth(x, trials[:, 0]))


@pytest.mark.parametrize("smooth", SMOOTHERS)
def test_online_sees_no_later_window(smooth):
    x = np.random.default_rng(0).standard_normal((20, 4))
    changed = x.copy()
    changed[12:] += 5.0
    before, after = (smooth(data, online=True) for data in (x, changed))
    np.testing.assert_array_equal(before[:12], after[:12])
    assert (np.abs(before[12:] - after[12:]) > 0).all()


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("smooth", SMOOTHERS)
@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_no_trial_sees_another(smooth, online, lengths):
    x = np.random.default_rng(0).standard_normal((sum(lengths), 2))
    trials = pd.DataFrame(
        {
            "subject": np.repeat("a", len(x)),
            "trial": np.repeat(range(len(lengths)), lengths),
        }
    )
    pieces = np.split(x, np.cumsum(lengths)[:-1])
    np.testing.assert_allclose(
        smooth(x, trials, online=online),
        np.concatenate([smooth(piece, online=online) for piece in pieces]),
    )


@pytest.mark.parametrize("smooth", SMOOTHERS)
def test_constant_stays_and_dtype_is_kept(smooth):
    x = np.full((30, 2), 12.3, dtype=np.float32)
    smoothed = smooth(x)
    assert smoothed.dtype == np.float32
    np.testing.assert_allclose(smoothed, x, rtol=1e-6)
    assert smooth(np.ones((3, 1), dtype=int)).dtype == np.float64


@pytest.mark.parametrize("smooth", SMOOTHERS)
def test_trials_in_pieces_are_refused(smooth):
    """Trial 0 of two sessions would be smoothed as one."""
    x = np.zeros((6, 2))
    message = "trials must be contiguous, but the windows of trial (0,) are not"
    with pytest.raises(ValueError, match=re.escape(message)):
        smooth(x, [0, 0, 1, 1, 0, 0])
    with_session = np.array([[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0]]).T
    assert smooth(x, with_session).shape == (6, 2)
    with pytest.raises(ValueError, match="each of the 6 windows, but got 5"):
        smooth(x, [0] * 5)


def test_wrong_arguments():
    x = np.zeros((4, 1))
    for wrong in (0, 4):
        with pytest.raises(
            ValueError, match=f"odd unless online=True, but got {wrong}"
        ):
            moving_average(x, n_windows=wrong)
    moving_average(x, n_windows=4, online=True)
    for wrong in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="variance_ratio must be positive"):
            lds_smooth(x, variance_ratio=wrong)
