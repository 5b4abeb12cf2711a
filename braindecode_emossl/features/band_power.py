"""Power of EEG in frequency bands, measured in one of three ways."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from functools import lru_cache

import numpy as np
import scipy.fft
from array_api_compat import array_namespace
from scipy.fft import next_fast_len
from scipy.signal import butter, sosfilt

from braindecode_emossl.features.bands import BANDS

__all__ = ["band_power"]

# Order of each Butterworth band-pass, in the sense of `scipy.signal.butter`.
_FILTER_ORDER = 4
_WINDOW_FILTER_ORDER = 5
# Padding in periods of the lower band edge, or of the band's width where that is
# less: the slowest pole of the filter has then decayed below 3e-4.
_PADDING_PERIODS = 10.0
# A channel is flat in a window if its range there is below this share of that of the
# upper quartile of the channels, or a few rounding errors of its values: filters leave
# the rounding errors of a constant, and electrodes have noise.
_FLAT_SHARE = 3e-5
_ROUNDING_STEPS = 10
# Samples of the longest window that is filtered by a matrix product. Fourier transforms
# are faster beyond.
_LONGEST_PRODUCT = 400
# Samples of the intermediate results at a time. On a CPU they then stay in its cache;
# elsewhere many small steps would cost more than they save.
_BLOCK_OF_CPU = 2**18
_BLOCK_ELSEWHERE = 2**25


def band_power(
    x,
    sfreq: float,
    *,
    window: float | None = 1.0,
    stride: float | None = None,
    bands: Mapping[str, tuple[float, float]] = BANDS,
    method: str = "filter",
):
    """Compute the power of every window, channel and band.

    The power is the variance of the signal in the band, in the squared unit of ``x``,
    not a density: divide by the width of the band for power per Hz.

    Parameters
    ----------
    x : numpy.ndarray or torch.Tensor, shape (..., n_chans, n_times)
        Signals, one trial along the last axis. ``float32`` and ``float64`` are kept,
        shorter floats become ``float32`` and everything else ``float64``.
    sfreq : float
        Sampling frequency in Hz.
    window : float or None, default=1.0
        Length of a window in seconds, rounded to whole samples. None takes all of
        ``n_times`` as one window.
    stride : float or None, default=None
        Distance between the starts of two windows in seconds, rounded to whole
        samples. None takes the length of a window: no gap and no overlap.
    bands : dict of str to (float, float)
        Name and edges in Hz of each band; their order is that of the last axis.
    method : {"filter", "fft", "window-filter"}, default="filter"
        How the power is measured, see the Notes of `differential_entropy`.

    Returns
    -------
    power : numpy.ndarray or torch.Tensor, shape (..., n_windows, n_chans, n_bands)
        Power of each band, in the library and on the device of ``x``. That of a flat
        channel is 0.

    Warns
    -----
    RuntimeWarning
        If a channel is flat in a window, as an electrode without contact is.

    See Also
    --------
    differential_entropy : Half the logarithm of this, up to a constant.
    BandPower : The same as a scikit-learn transformer.

    Examples
    --------
    >>> import numpy as np
    >>> from braindecode_emossl.features import band_power
    >>> x = 4.0 * np.sin(2 * np.pi * 10 * np.arange(2000) / 200)[None]
    >>> band_power(x, sfreq=200, method="fft")[0, 0].round(6) + 0.0
    array([0., 0., 8., 0., 0.])
    """
    power, flat = measure_bands(
        x, sfreq, window=window, stride=stride, bands=bands, method=method
    )
    if flat is None:
        return power
    xp = array_namespace(power)
    warn_of_flat_channels(xp, flat, "their band power is given as 0")
    return xp.where(flat, xp.zeros_like(power), power)


def measure_bands(x, sfreq, *, window, stride, bands, method, ask=True):
    """Return the power (..., n_windows, n_chans, n_bands), and where channels are flat.

    The second is (..., n_windows, n_chans, 1), or None if no channel is flat. To ask
    whether one is waits for a GPU.
    """
    if x.ndim < 2 or x.shape[-1] == 0:
        raise ValueError(
            "x must have shape (..., n_chans, n_times) with n_times >= 1, "
            f"but got {tuple(x.shape)}."
        )
    measure = _make_measure(
        x.shape[-1], sfreq, window=window, stride=stride, bands=bands, method=method
    )
    xp = array_namespace(x)
    rows = xp.reshape(x, (-1, x.shape[-1]))  # (n_rows, n_times)
    dtype = _as_float(xp, rows[:0]).dtype
    weights = _place_weights(measure, xp, dtype, x.device)
    block = _BLOCK_OF_CPU if "cpu" in str(x.device) else _BLOCK_ELSEWHERE
    step = max(1, block // measure.n_samples)
    blocks = [
        measure.variance(xp, _as_float(xp, rows[start : start + step]), weights)
        for start in range(0, max(1, rows.shape[0]), step)
    ]  # of (step, n_windows, n_bands)
    variance = xp.concat(blocks)
    variance = xp.reshape(variance, (*x.shape[:-1], *variance.shape[1:]))
    power = xp.moveaxis(variance, -3, -2)  # (..., n_windows, n_chans, n_bands)
    if ask:  # a few samples show whether the range of each window is needed
        few = xp.moveaxis(measure.windows.glance(xp, x), -3, -2)
        if not power.shape[0] or not xp.any(find_flat(xp, _as_float(xp, few), 100.0)):
            return power, None
    # (..., n_windows, n_chans, length)
    cut = xp.moveaxis(measure.windows.cut(xp, _as_float(xp, x)), -3, -2)
    flat = find_flat(xp, cut)[..., None]
    return power, (flat if not ask or xp.any(flat) else None)


def find_flat(xp, windows, slack=1.0):
    """Return which channels are flat, (..., n_chans), in (..., n_chans, n_times).

    With some ``slack``, channels whose range is that many times larger count too.
    """
    low, high = xp.min(windows, axis=-1), xp.max(windows, axis=-1)
    span = high - low
    ordered = xp.sort(span, axis=-1)
    usual = ordered[..., 3 * span.shape[-1] // 4][..., None]
    step = slack * _ROUNDING_STEPS * float(xp.finfo(span.dtype).eps)
    rounding = step * xp.maximum(xp.abs(low), xp.abs(high))
    return (span <= slack * _FLAT_SHARE * usual) | (span <= rounding)


def warn_of_flat_channels(xp, flat, consequence: str) -> None:
    """Warn of the channels that are flat (..., n_windows, n_chans, 1)."""
    axes = tuple(k for k in range(flat.ndim) if k != flat.ndim - 2)
    by_channel = xp.any(flat, axis=axes).tolist()
    names = [k for k, is_flat in enumerate(by_channel) if is_flat]
    warnings.warn(
        f"The channels {names} (by number, from 0) are flat in some windows, as "
        f"electrodes without contact are: {consequence}.",
        RuntimeWarning,
        stacklevel=3,
    )


class _Windows:
    """Where the windows of a signal lie, in samples."""

    def __init__(self, n_times, sfreq, window=None, stride=None):
        self.n_times = n_times
        self.length = n_times if window is None else _n_samples("window", window, sfreq)
        self.stride = (
            self.length if stride is None else _n_samples("stride", stride, sfreq)
        )
        if self.length > n_times:
            raise ValueError(
                f"window must be at most {n_times / sfreq:g} s, the length of the "
                f"signal, but got {window:g} s."
            )
        self.n_windows = (n_times - self.length) // self.stride + 1

    def cut(self, xp, x):
        """Cut (..., n_times) into (..., n_windows, length)."""
        if self.stride == self.length:
            x = x[..., : self.n_windows * self.length]
            return xp.reshape(x, (*x.shape[:-1], self.n_windows, self.length))
        starts = [i * self.stride for i in range(self.n_windows)]
        return xp.stack([x[..., s : s + self.length] for s in starts], axis=-2)

    def glance(self, xp, x):
        """Take some eight samples of each window, (..., n_windows, n_samples)."""
        span = (self.n_windows - 1) * self.stride + 1
        places = range(0, self.length, max(1, self.length // 8))
        few = xp.stack([x[..., p : p + span : self.stride] for p in places])
        return xp.moveaxis(few, 0, -1)


class _Periodogram:
    """Band variance of each window, by the power under a Hann taper."""

    def __init__(self, windows: _Windows, sfreq, bands):
        self.windows = windows
        self.n_samples = windows.n_windows * windows.length
        n = windows.length
        bins = [_find_bins(n, sfreq, name, band) for name, band in bands.items()]
        first = min(start for start, _ in bins)
        self.used = slice(first, max(stop for _, stop in bins))
        self.slices = [slice(start - first, stop - first) for start, stop in bins]
        taper = np.sin(np.pi * np.arange(n) / n) ** 2
        # With this factor |FFT|^2 is one-sided power: all bins lie in (0, Nyquist).
        self.weights = taper * np.sqrt(2 / (n * np.sum(taper**2)))

    def variance(self, xp, x, weights):
        """Map (..., n_times) to (..., n_windows, n_bands)."""
        x = self.windows.cut(xp, x)  # (..., n_windows, length)
        x = (x - xp.mean(x, axis=-1, keepdims=True)) * weights
        spectrum = _fft(xp).rfft(x)[..., self.used]
        power = xp.real(spectrum) ** 2 + xp.imag(spectrum) ** 2
        return xp.stack([xp.sum(power[..., s], axis=-1) for s in self.slices], axis=-1)


class _FilterBank:
    """Band variance of each window, after the whole signal is filtered."""

    def __init__(self, windows: _Windows, sfreq, bands):
        self.windows = windows
        slowest = min(min(low, high - low) for low, high in bands.values())
        n_padded = windows.n_times + 2 * _PADDING_PERIODS / slowest * sfreq
        self.n_fft = 2 * next_fast_len(math.ceil(n_padded / 2), real=True)
        self.n_samples = max(self.n_fft, windows.n_windows * windows.length)
        self.n_pad = min((self.n_fft - windows.n_times) // 2, windows.n_times - 1)
        self.weights = np.stack(
            [_butterworth_gain(self.n_fft, sfreq, band) for band in bands.values()]
        )  # (n_bands, n_freqs)

    def variance(self, xp, x, weights):
        """Map (..., n_times) to (..., n_windows, n_bands)."""
        spectrum = _fft(xp).rfft(self._pad(xp, x), n=self.n_fft)
        trial = slice(self.n_pad, self.n_pad + self.windows.n_times)
        variances = []
        # One band at a time: all filtered copies at once would fill the memory.
        for gain in weights:
            band = _fft(xp).irfft(spectrum * gain, n=self.n_fft)[..., trial]
            variances.append(_variance(xp, self.windows.cut(xp, band)))
        return xp.stack(variances, axis=-1)

    def _pad(self, xp, x):
        """Continue a signal by odd reflection at both ends."""
        # The filter removes a straight line whatever its slope. Without the line
        # through both ends, reflection is a change of sign and the ends are zero.
        ramp = xp.linspace(0, 1, x.shape[-1], dtype=x.dtype, device=x.device)
        first, last = x[..., :1], x[..., -1:]
        x = x - first - (last - first) * ramp
        before = -xp.flip(x[..., 1 : self.n_pad + 1], axis=-1)
        after = -xp.flip(x[..., x.shape[-1] - self.n_pad - 1 : -1], axis=-1)
        return xp.concat([before, x, after], axis=-1)


class _WindowFilter:
    """Band variance of each window, filtered on its own from rest."""

    def __init__(self, windows: _Windows, sfreq, bands):
        self.windows = windows
        self.n_fft = 2 * next_fast_len(windows.length, real=True)
        self.n_samples = windows.n_windows * self.n_fft
        self.weights = _design_window_filter(
            windows.length, sfreq, tuple(bands.values())
        )

    # Signals of many lengths share the weights, which are large, on a device too.
    def __hash__(self):
        return id(self.weights)

    def __eq__(self, other):
        return isinstance(other, _WindowFilter) and self.weights is other.weights

    def variance(self, xp, x, weights):
        """Map (..., n_times) to (..., n_windows, n_bands)."""
        x = self.windows.cut(xp, x)
        filtered = self._multiply if weights.ndim == 3 else self._convolve
        variances = [xp.mean(band**2, axis=-1) for band in filtered(xp, x, weights)]
        return xp.stack(variances, axis=-1)

    def _multiply(self, xp, x, matrices):
        """Yield the filtered windows (..., length) of each band, mean removed."""
        for matrix in matrices:
            yield _matmul(xp, x, matrix)

    def _convolve(self, xp, x, responses):
        """Yield the same by Fourier transforms, faster for long windows."""
        fft = _fft(xp)
        spectrum = fft.rfft(x, n=self.n_fft)
        for response in fft.rfft(responses, n=self.n_fft):
            band = fft.irfft(spectrum * response, n=self.n_fft)
            band = band[..., : self.windows.length]
            yield band - xp.mean(band, axis=-1, keepdims=True)


_METHODS = {
    "filter": _FilterBank,
    "fft": _Periodogram,
    "window-filter": _WindowFilter,
}


def _make_measure(n_times, sfreq, *, bands, method, window=None, stride=None):
    """Check the arguments and precompute what does not depend on the signal."""
    if method not in _METHODS:
        choices = ", ".join(map(repr, _METHODS))
        raise ValueError(f"method must be one of {choices}, but got {method!r}.")
    if not 0 < sfreq < math.inf:
        raise ValueError(f"sfreq must be positive and finite, but got {sfreq}.")
    if not bands:
        raise ValueError(f"bands must hold at least one band, but got {bands}.")
    for name, (low, high) in bands.items():
        if not 0 < low < high <= sfreq / 2:
            raise ValueError(
                f"band {name!r} must be 0 < low < high <= sfreq / 2 = {sfreq / 2:g} Hz,"
                f" but got ({low:g}, {high:g}) Hz."
            )
    limits = tuple((name, (low, high)) for name, (low, high) in bands.items())
    return _build_measure(n_times, float(sfreq), window, stride, limits, method)


@lru_cache(maxsize=64)
def _build_measure(n_times, sfreq, window, stride, bands, method):
    """Build a measure once: the same trials or batches come again."""
    windows = _Windows(n_times, sfreq, window, stride)
    return _METHODS[method](windows, sfreq, dict(bands))


@lru_cache(maxsize=64)
def _place_weights(measure, xp, dtype, device):
    """Return the weights of a measure on a device, copied there once."""
    # A tensor made in inference mode could not be used for gradients later.
    is_torch = xp.__name__.endswith("torch")
    with xp.inference_mode(False) if is_torch else nullcontext():
        return xp.asarray(measure.weights, dtype=dtype, device=device)


def _n_samples(name, seconds, sfreq):
    """Convert seconds to samples, at least one."""
    if not (math.isfinite(seconds) and round(seconds * sfreq) >= 1):
        raise ValueError(
            f"{name} must be at least one sample, {1 / sfreq:g} s, "
            f"but got {seconds:g} s."
        )
    return round(seconds * sfreq)


def _find_bins(n, sfreq, name, band):
    """Find the FFT bins with low <= f < high of a window of n samples."""
    low, high = band
    freqs = np.arange(n // 2 + 1) * sfreq / n
    start, stop = np.searchsorted(freqs, [low, high])
    if start == stop:
        enough = math.ceil(sfreq / (high - low)) / sfreq
        raise ValueError(
            f"window must be long enough to resolve band {name!r} ({low:g}-{high:g} Hz)"
            f", for which {enough:g} s suffice, but got {n / sfreq:g} s."
        )
    return int(start), int(stop)


def _butterworth_gain(n_fft, sfreq, band):
    """Compute |H(f)|^2 of a digital Butterworth band-pass at the bins of an FFT."""
    # Warped as by the bilinear transform; zero frequency keeps its gain of zero.
    warped = np.tan(np.pi * np.arange(1, n_fft // 2 + 1) / n_fft)
    low, high = np.tan(np.pi * np.asarray(band) / sfreq)
    detuning = (warped - low * high / warped) / (high - low)
    gain = np.zeros(n_fft // 2 + 1)
    gain[1:] = 1 / (1 + detuning ** (2 * _FILTER_ORDER))
    return gain


def _causal_butterworth(sfreq, band):
    """Design the filter of one band, a high-pass where the band has no upper end."""
    low, high = band
    if high == sfreq / 2:
        return butter(_WINDOW_FILTER_ORDER, low, "highpass", fs=sfreq, output="sos")
    return butter(_WINDOW_FILTER_ORDER, band, "bandpass", fs=sfreq, output="sos")


@lru_cache(maxsize=8)
def _design_window_filter(n, sfreq, bands):
    """Return the impulse responses (n_bands, n), or as matrices (n_bands, n, n).

    Within a window of n samples, the recursive filter is a finite one of that length. A
    short window times a matrix is its convolution with the response, mean removed.
    """
    impulse = np.zeros(n)
    impulse[0] = 1.0
    responses = np.stack(
        [sosfilt(_causal_butterworth(sfreq, b), impulse) for b in bands]
    )
    if n > _LONGEST_PRODUCT:
        return responses
    lags = np.arange(n) - np.arange(n)[:, None]
    matrices = np.where(lags >= 0, responses[:, np.maximum(lags, 0)], 0.0)
    return matrices - matrices.mean(axis=-1, keepdims=True)


def _matmul(xp, x, matrix):
    """Multiply in the precision of the arguments, also under autocast of torch."""
    if not xp.__name__.endswith("torch") or x.device.type == "meta":
        return x @ matrix
    with xp.autocast(x.device.type, enabled=False):
        return x @ matrix


def _variance(xp, x):
    """Return the variance along the last axis; torch.var is slow if it is short."""
    x = x - xp.mean(x, axis=-1, keepdims=True)
    return xp.mean(x * x, axis=-1)


def _fft(xp):
    """Return the Fourier transforms; SciPy's are the faster ones for ``float32``."""
    return scipy.fft if xp.__name__.endswith("numpy") else xp.fft


def _as_float(xp, x):
    """Keep float32 and float64; widen shorter floats, convert everything else."""
    if x.dtype in (xp.float32, xp.float64):
        return x
    if xp.isdtype(x.dtype, "real floating"):
        return xp.astype(x, xp.float32)
    return xp.astype(x, xp.float64)
