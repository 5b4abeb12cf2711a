"""Differential entropy of EEG in frequency bands."""

from __future__ import annotations

import math
from collections.abc import Mapping

from array_api_compat import array_namespace

from braindecode_emossl.features.band_power import (
    find_flat,
    measure_bands,
    warn_of_flat_channels,
)
from braindecode_emossl.features.bands import BANDS

__all__ = ["differential_entropy"]


def differential_entropy(
    x,
    sfreq: float,
    *,
    window: float | None = 1.0,
    stride: float | None = None,
    bands: Mapping[str, tuple[float, float]] = BANDS,
    method: str = "filter",
):
    r"""Compute the differential entropy of every window, channel and band.

    The differential entropy (DE) of a signal limited to one band is taken as that
    of a Gaussian, :math:`\frac{1}{2} \ln(2 \pi e \sigma^2)` in nats, where
    :math:`\sigma^2` is the variance in the window [1]_.

    ``x (..., n_chans, n_times)`` -> band variances
    ``(..., n_windows, n_chans, n_bands)`` -> their DE, of the same shape.

    Parameters
    ----------
    x : numpy.ndarray or torch.Tensor, shape (..., n_chans, n_times)
        Signals, one trial along the last axis. The DE is that of the unit given:
        a factor ``c`` on the signal adds ``ln(c)``. ``float32`` and ``float64`` are
        kept, shorter floats become ``float32`` and everything else ``float64``.
    sfreq : float
        Sampling frequency in Hz.
    window : float or None, default=1.0
        Length of a window in seconds, rounded to whole samples. None takes all of
        ``n_times`` as one window.
    stride : float or None, default=None
        Distance between the starts of two windows in seconds, rounded to whole
        samples. None takes the length of a window: no gap and no overlap.
    bands : dict of str to (float, float)
        Name and edges in Hz of each band; their order is that of the last axis. The
        default are the bands of SEED [2]_.
    method : {"filter", "fft", "window-filter"}, default="filter"
        How the variance in a band is measured, see Notes.

    Returns
    -------
    entropy : numpy.ndarray or torch.Tensor, shape (..., n_windows, n_chans, n_bands)
        The DE in nats, in the library and on the device of ``x``, where
        ``n_windows = (n_times - n_window) // n_stride + 1`` in samples. A torch
        tensor can be differentiated through.

    Warns
    -----
    RuntimeWarning
        If a channel is flat in a window, as an electrode without contact is.

    See Also
    --------
    DifferentialEntropy : The same as a scikit-learn transformer.
    DifferentialEntropyLayer : The same as a torch module.
    band_power : The variances themselves.

    Notes
    -----
    The three methods measure different quantities; do not mix them in one study.

    ================= ======================== ====================================
    method            what a window's DE sees  who uses it
    ================= ======================== ====================================
    ``filter``        its trial, zero phase    LibEER's filter features, and whoever
                                               band-passes first and cuts then
    ``fft``           the window, tapered      SEED's authors, short-time Fourier
                                               transform with a Hann window [2]_
    ``window-filter`` the window, from rest    torcheeg's default,
                                               ``BandDifferentialEntropy``
    ================= ======================== ====================================

    ``method="filter"`` filters the whole trial once per band, then takes the variance
    in each window, so that a window may be shorter than a period of the band. The
    filter is a Butterworth band-pass of order 4 without phase shift: the gain
    :math:`|H(f)|^2` of :func:`scipy.signal.sosfiltfilt` is applied by FFT. Its soft
    edges leave white noise 90 % of the variance that an ideal band would.

    At both ends the trial is continued by odd reflection for ten periods of the slowest
    band (10 s for delta); a shorter trial is reflected once as a whole, then zeros
    follow. On white and pink noise at 200 Hz, cut into 1 s windows, the variances
    agree with those of ``sosfiltfilt`` to 1e-5 in every window, if that has the same
    padding (to 5e-3 in delta for a trial of 4 s). Its default padding of 27 samples is
    short for a slow band: the first and last window then differ by 20 % in delta
    (median; theta 6 %, alpha 2 %, beta 0.2 %, gamma 0.06 %) and at worst by more than
    the variance itself (delta and theta); they agree to 1e-3 from the second window
    on in beta and gamma, the fourth in theta and alpha, the seventh in delta. Both
    paddings extrapolate the signal. In a test on noise that was filtered before it was
    cut, neither came closer to it.

    ``method="fft"`` takes the periodogram of each window, after its mean is removed,
    under a (periodic) Hann taper, and adds up the bins with ``low <= f < high``.
    White noise of variance :math:`s^2` then gives ``2 * (high - low) / sfreq * s**2``
    and a sine of amplitude :math:`A` gives :math:`A^2 / 2` in its band, provided the
    band holds its bin and both neighbours. Removing the mean takes a sixth of the
    power of noise from the first bin above zero. No window sees another one.

    ``method="window-filter"`` sends each window on its own, from rest, through a causal
    Butterworth band-pass of order 5 and takes the variance of what comes out. In 1 s
    the slow bands are mostly the filter's transient: on white noise at 200 Hz their DE
    correlates with that of ``filter`` by 0.75 in delta, 0.82 in theta, 0.90 in alpha
    and 0.96 in beta and gamma. It is here for comparison with published numbers, and
    was re-implemented from this definition in second-order sections; the order is
    taken for that library's default [inferred]. Designed as a ratio of polynomials,
    the same filter loses digits at 200 Hz: the DE is then off by up to 3e-3 in delta
    and 6e-6 in theta. Windows of at most 400 samples are filtered by a matrix product,
    which loses digits in torch if ``torch.set_float32_matmul_precision`` allows it.
    Mind the unit in comparisons: nats are bits times ``ln(2)``.

    The DE of a flat channel, such as an electrode without contact, is minus infinity.
    It is replaced by the mean over the other channels of the same window and band, or
    by 0 if all channels are flat, with a warning. A channel counts as flat if its
    range in the window is below 3e-5 of that of the upper quartile of the channels, or
    within the rounding error of its values.

    References
    ----------
    .. [1] Duan, R.-N., Zhu, J.-Y., & Lu, B.-L. (2013). Differential entropy feature
       for EEG-based emotion classification. 6th International IEEE/EMBS Conference
       on Neural Engineering, 81-84. https://doi.org/10.1109/NER.2013.6695876
    .. [2] Zheng, W.-L., & Lu, B.-L. (2015). Investigating critical frequency bands
       and channels for EEG-based emotion recognition with deep neural networks.
       IEEE Transactions on Autonomous Mental Development, 7(3), 162-175.
       https://doi.org/10.1109/TAMD.2015.2431497

    Examples
    --------
    >>> import numpy as np
    >>> from braindecode_emossl.features import differential_entropy
    >>> x = np.random.default_rng(0).standard_normal((62, 2000))
    >>> differential_entropy(x, sfreq=200).shape
    (10, 62, 5)
    """
    power, flat = measure_bands(
        x, sfreq, window=window, stride=stride, bands=bands, method=method
    )
    xp = array_namespace(power)
    entropy = _entropy_of_gaussians(xp, power)
    if flat is None:
        return entropy
    warn_of_flat_channels(
        xp,
        flat,
        "their differential entropy, which is not defined, is the mean over the other "
        "channels of the window, or 0 if all are flat",
    )
    return _replace_flat(xp, entropy, flat)


def entropy_of_tokens(x, sfreq: float, window: float):
    """Return the DE without a warning of flat channels, which would wait for a GPU."""
    power, flat = measure_bands(
        x, sfreq, window=window, stride=None, bands=BANDS, method="filter", ask=False
    )
    xp = array_namespace(power)
    return _replace_flat(xp, _entropy_of_gaussians(xp, power), flat)


def entropy_of_windows(xp, power, windows):
    """Return the DE of windows (..., n_chans, n_times) by the power of their bands."""
    flat = find_flat(xp, windows)[..., None]
    return _replace_flat(xp, _entropy_of_gaussians(xp, power), flat)


def _entropy_of_gaussians(xp, variance):
    tiny = float(xp.finfo(variance.dtype).smallest_normal)
    return 0.5 * (math.log(2 * math.pi * math.e) + xp.log(xp.clip(variance, tiny)))


def _replace_flat(xp, entropy, flat):
    """Replace the DE (..., n_chans, n_bands) of flat channels by the others' mean."""
    known = xp.where(flat, xp.zeros_like(entropy), entropy)
    n_known = xp.sum(xp.astype(~flat, entropy.dtype), axis=-2, keepdims=True)
    mean = xp.sum(known, axis=-2, keepdims=True) / xp.clip(n_known, 1.0)
    return xp.where(flat, mean, entropy)
