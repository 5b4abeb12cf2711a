"""Smoothing of features over the windows of a trial, never across trials."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

__all__ = ["lds_smooth", "moving_average"]


def moving_average(features, trials=None, *, n_windows: int = 5, online: bool = False):
    """Average features over neighbouring windows of a trial.

    Parameters
    ----------
    features : array-like, shape (n_windows, ...)
        One row per window, in the order of time.
    trials : array-like, shape (n_windows,) or (n_windows, n_keys), or None
        Identifiers of the trials, such as ``metadata[["subject", "session",
        "trial"]]``. None takes all windows as one trial.
    n_windows : int, default=5
        Number of windows in an average: odd and centred on each window or, with
        ``online=True``, the window itself and those before it. Where the trial has
        fewer, these are averaged.
    online : bool, default=False
        Whether to use no later window, as in a running recording.

    Returns
    -------
    smoothed : ndarray, shape (n_windows, ...)
        The averages.

    See Also
    --------
    lds_smooth : Smoothing by a Kalman filter.
    """
    if n_windows < 1 or not (online or n_windows % 2):
        raise ValueError(
            f"n_windows must be positive, and odd unless online=True, but got "
            f"{n_windows}."
        )
    n_after = 0 if online else n_windows // 2

    def average(x):  # (length, ...)
        stop = np.minimum(np.arange(len(x)) + n_after + 1, len(x))
        start = np.maximum(np.arange(len(x)) + n_after + 1 - n_windows, 0)
        counts = (stop - start).reshape(-1, *[1] * (x.ndim - 1))
        # Sums from start to stop, and from there to the next start, which do not count.
        places = np.stack([start, stop], axis=1).ravel()
        padded = np.concatenate([x, x[:1]])  # the last stop is beyond the end
        return np.add.reduceat(padded, places, axis=0, dtype=float)[::2] / counts

    return _smooth(average, features, trials)


def lds_smooth(
    features, trials=None, *, variance_ratio: float = 1e-4, online: bool = False
):
    r"""Smooth features over the windows of a trial by a linear dynamical system.

    Each feature is taken as a slow random walk observed in noise,

    .. math:: z_t = z_{t-1} + w_t, \quad x_t = z_t + v_t,

    and replaced by the expectation of :math:`z_t`: given all windows of the trial
    (Kalman filter forward, Rauch-Tung-Striebel smoother backward), or given the windows
    up to ``t`` with ``online=True`` [1]_. The first value of the walk is taken as
    unknown, so that a constant stays as it is.

    Parameters
    ----------
    features : array-like, shape (n_windows, ...)
        One row per window, in the order of time.
    trials : array-like, shape (n_windows,) or (n_windows, n_keys), or None
        Identifiers of the trials, such as ``metadata[["subject", "session",
        "trial"]]``. None takes all windows as one trial.
    variance_ratio : float, default=1e-4
        Variance of a step :math:`w` over that of the noise :math:`v`. The weight of a
        window falls by a factor of e over ``1 / sqrt(variance_ratio)`` windows: 100 by
        default, so that noise is averaged as by the mean of 400 windows. The default is
        that of the Python ports in circulation [inferred].
    online : bool, default=False
        Whether to use no later window, as in a running recording. A classifier for
        running recordings must be trained and tested in this way.

    Returns
    -------
    smoothed : ndarray, shape (n_windows, ...)
        The expectations.

    See Also
    --------
    moving_average : The plain mean over neighbouring windows.

    Notes
    -----
    Smoothed windows of one trial carry each other's values: split by trial, never by
    window.

    Implementations in use differ: some run the forward pass alone, but start it at the
    mean of the whole trial, and so are neither causal nor smoothers.

    References
    ----------
    .. [1] Shi, L.-C., & Lu, B.-L. (2010). Off-line and on-line vigilance estimation
       based on linear dynamical system and manifold learning. 2010 Annual
       International Conference of the IEEE EMBS, 6587-6590.
       https://doi.org/10.1109/IEMBS.2010.5627125

    Examples
    --------
    >>> import numpy as np
    >>> from braindecode_emossl.features import lds_smooth
    >>> lds_smooth([[1.0], [3.0], [7.0], [7.0]], trials=[0, 0, 1, 1]).round(3).ravel()
    array([2., 2., 7., 7.])
    """
    if not 0 < variance_ratio < np.inf:
        raise ValueError(
            f"variance_ratio must be positive and finite, but got {variance_ratio}."
        )

    def kalman(x):  # (length, ...)
        mean = x.copy()
        # Variances are in units of the noise's, the same for every feature.
        variance = np.ones(len(x))
        for t in range(1, len(x)):
            predicted = variance[t - 1] + variance_ratio
            variance[t] = predicted / (predicted + 1)  # also the gain
            mean[t] = mean[t - 1] + variance[t] * (x[t] - mean[t - 1])
        if not online:
            for t in range(len(x) - 2, -1, -1):
                gain = variance[t] / (variance[t] + variance_ratio)
                mean[t] += gain * (mean[t + 1] - mean[t])
        return mean

    return _smooth(kalman, features, trials)


def _smooth(function, features, trials):
    """Apply a function to the rows of each trial."""
    features = np.asarray(features)
    if not np.issubdtype(features.dtype, np.floating):
        features = features.astype(float)
    smoothed = np.empty_like(features)
    for trial in _find_trials(trials, len(features)):
        smoothed[trial] = function(features[trial])
    return smoothed


def _find_trials(trials, n_windows: int) -> Iterator[slice]:
    """Yield the rows of each trial."""
    if trials is None or not n_windows:
        yield slice(0, n_windows)
        return
    table = pd.DataFrame(np.asarray(trials, dtype=object))
    if len(table) != n_windows:
        raise ValueError(
            f"trials must have one row for each of the {n_windows} windows, but got "
            f"{len(table)}."
        )
    # Here NaN equals NaN.
    numbers = table.groupby([*table], sort=False, dropna=False).ngroup()
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    firsts = table.iloc[starts]
    if firsts.duplicated().any():
        again = tuple(firsts[firsts.duplicated()].iloc[0])
        raise ValueError(
            f"trials must be contiguous, but the windows of trial {again} are not: "
            "sort them, or name subject and session too."
        )
    for start, stop in zip(starts, [*starts[1:], n_windows], strict=True):
        yield slice(start, stop)
