from __future__ import annotations

import math
import pickle
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

import braindecode_emossl.features as features
from braindecode_emossl.datasets import SEED
from braindecode_emossl.features import (
    BANDS,
    DifferentialEntropy,
    DifferentialEntropyLayer,
    band_power,
    differential_entropy,
)
from braindecode_emossl.features.band_power import _make_measure
from braindecode_emossl.paradigms import Emotion

band_power_module = sys.modules["braindecode_emossl.features.band_power"]

SFREQ = 200.0
METHODS = ["filter", "fft", "window-filter"]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def to_variance(entropy):
    return np.exp(2 * entropy) / (2 * np.pi * np.e)


def sosfiltfilt_variance(x, sfreq, padlen=None):
    """Variance of each 1 s window and band, through scipy."""
    n = round(sfreq)
    variances = []
    for band in BANDS.values():
        sos = signal.butter(4, band, "bandpass", fs=sfreq, output="sos")
        filtered = signal.sosfiltfilt(sos, x, padlen=padlen)
        starts = range(0, x.shape[-1] - n + 1, n)
        variances.append(np.stack([filtered[:, s : s + n].var(-1) for s in starts]))
    return np.stack(variances, axis=-1)


def literal_window_filter_entropy(x, sfreq, n_window, n_stride):
    """Filter one window of one channel in one band at a time, from rest."""
    rows = []
    for start in range(0, x.shape[1] - n_window + 1, n_stride):
        for channel in x[:, start : start + n_window]:
            for band in BANDS.values():
                sos = signal.butter(5, band, "bandpass", fs=sfreq, output="sos")
                variance = np.var(signal.sosfilt(sos, channel))
                rows.append(0.5 * math.log(2 * math.pi * math.e * variance))
    return np.reshape(rows, (-1, len(x), len(BANDS)))


def slow_fft_entropy(x, sfreq, n_window, n_stride, bands=BANDS):
    """Loop over windows, channels, bands and bins, with a Fourier sum by hand."""
    time = np.arange(n_window)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * time / n_window)
    rows = []
    for start in range(0, x.shape[1] - n_window + 1, n_stride):
        for channel in x[:, start : start + n_window]:
            tapered = taper * (channel - channel.mean())
            for low, high in bands.values():
                power = 0.0
                for k in range(n_window // 2 + 1):
                    if low <= k * sfreq / n_window < high:
                        wave = np.exp(-2j * np.pi * k * time / n_window)
                        power += 2 * abs(tapered @ wave) ** 2
                variance = power / (n_window * (taper**2).sum())
                rows.append(0.5 * math.log(2 * math.pi * math.e * variance))
    return np.reshape(rows, (-1, len(x), len(bands)))


# Closed forms


def test_bands_are_contiguous():
    assert list(BANDS) == ["delta", "theta", "alpha", "beta", "gamma"]
    for (_, high), (low, _) in pairwise(BANDS.values()):
        assert high == low


@pytest.mark.parametrize("method", METHODS)
def test_white_noise_has_its_share_of_the_variance(rng, method):
    x = 3.0 * rng.standard_normal((20, 40_000))
    entropy = differential_entropy(x, SFREQ, window=20, method=method)
    variance = to_variance(entropy)[1:-1].mean((0, 1))  # without the ends
    widths = np.array([high - low for low, high in BANDS.values()])
    # The integral of the squared gain, 1 / (1 + x^8)^2 or 1 / (1 + x^10), over that of
    # an ideal band.
    share = {
        "filter": 7 / 8 * (np.pi / 8) / np.sin(np.pi / 8),
        "fft": 1.0,
        "window-filter": (np.pi / 10) / np.sin(np.pi / 10),
    }
    expected = share[method] * 2 * widths / SFREQ * 9.0
    np.testing.assert_allclose(variance, expected, rtol=0.025)


@pytest.mark.parametrize(
    ("freq", "band"), [(2, "delta"), (6, "theta"), (10, "alpha"), (22, "beta")]
)
@pytest.mark.parametrize(
    ("method", "window"), [("filter", 2), ("fft", 2), ("window-filter", 100)]
)
def test_sine_has_half_its_squared_amplitude(method, window, freq, band):
    # Where a filter has settled: away from the ends, or in a long window.
    n_times = round(13 * window * SFREQ)
    x = 5.0 * np.sin(2 * np.pi * freq * np.arange(n_times) / SFREQ + 0.3)[None]
    entropy = differential_entropy(x, SFREQ, window=window, method=method)[6, 0]
    variance = dict(zip(BANDS, to_variance(entropy), strict=True))
    assert variance.pop(band) == pytest.approx(12.5, rel=0.02)
    assert max(variance.values()) < 0.02 * 12.5


def test_entropy_of_a_gaussian(rng):
    x = rng.normal(scale=7.0, size=(1, 100_000))
    bands = {"all": (0.01, 100.0)}
    entropy = differential_entropy(x, SFREQ, window=None, bands=bands, method="fft")
    expected = 0.5 * math.log(2 * math.pi * math.e * 49.0)
    assert entropy.shape == (1, 1, 1)
    assert entropy.item() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_a_factor_adds_its_logarithm(rng, method):
    x = rng.standard_normal((2, 1000))
    np.testing.assert_allclose(
        differential_entropy(1e-6 * x, SFREQ, method=method),
        differential_entropy(x, SFREQ, method=method) + math.log(1e-6),
    )


# Independent references


def test_filter_equals_sosfiltfilt_with_the_same_padding(rng):
    x = rng.standard_normal((8, 12_000)) + 40.0
    variance = to_variance(differential_entropy(x, SFREQ))
    expected = sosfiltfilt_variance(x, SFREQ, padlen=2000)
    np.testing.assert_allclose(variance, expected, rtol=1e-5)


def test_filter_equals_sosfiltfilt_away_from_the_edges(rng):
    x = rng.standard_normal((8, 12_000))
    variance = to_variance(differential_entropy(x, SFREQ))
    expected = sosfiltfilt_variance(x, SFREQ)
    np.testing.assert_allclose(variance[7:-7], expected[7:-7], rtol=1e-3)
    np.testing.assert_allclose(variance[1:-1, :, 3:], expected[1:-1, :, 3:], rtol=1e-3)
    error = np.abs(variance / expected - 1)[[0, -1]]
    assert (np.median(error, (0, 1)) < [0.5, 0.15, 0.05, 5e-3, 2e-3]).all()


@pytest.mark.parametrize("n_times", [200, 201, 799])
def test_filter_of_a_trial_shorter_than_its_padding(rng, n_times):
    x = rng.standard_normal((8, n_times))
    variance = to_variance(differential_entropy(x, SFREQ))
    expected = sosfiltfilt_variance(x, SFREQ, padlen=n_times - 1)
    np.testing.assert_allclose(variance[..., 2:], expected[..., 2:], rtol=1e-3)
    # Below 8 Hz one reflection is shorter than what the filter remembers.
    np.testing.assert_allclose(variance[..., 1], expected[..., 1], rtol=0.05)
    assert np.isfinite(variance).all()


def test_filter_up_to_half_the_sampling_rate_is_a_high_pass(rng):
    x = rng.standard_normal((2, 4000))
    sos = signal.butter(4, 31, "highpass", fs=100, output="sos")
    expected = signal.sosfiltfilt(sos, x, padlen=500).var(-1)
    bands = {"gamma": (31, 50)}
    entropy = differential_entropy(x, 100, window=None, bands=bands)
    np.testing.assert_allclose(to_variance(entropy)[0, :, 0], expected, rtol=1e-3)


@pytest.mark.parametrize("sfreq", [128, 200])
@pytest.mark.parametrize(("window", "stride"), [(1, None), (1.5, 0.5), (0.7, 1.1)])
def test_fft_equals_a_slow_loop(rng, sfreq, window, stride):
    x = rng.standard_normal((2, 3 * sfreq + 7))
    n_window = round(window * sfreq)
    n_stride = n_window if stride is None else round(stride * sfreq)
    np.testing.assert_allclose(
        differential_entropy(x, sfreq, window=window, stride=stride, method="fft"),
        slow_fft_entropy(x, sfreq, n_window, n_stride),
    )


@pytest.mark.parametrize(
    ("window", "stride"), [(1, None), (1.5, 0.5), (0.7, 1.1), (2, 0.5), (2.1, 0.5)]
)
@pytest.mark.parametrize("sfreq", [128, 200])
def test_window_filter_equals_a_literal_loop(rng, sfreq, window, stride):
    """Windows of more than 400 samples take another way."""
    x = 30 * rng.standard_normal((2, 3 * sfreq + 7)) + 1000.0
    n_window = round(window * sfreq)
    n_stride = n_window if stride is None else round(stride * sfreq)
    found = differential_entropy(
        x, sfreq, window=window, stride=stride, method="window-filter"
    )
    expected = literal_window_filter_entropy(x, sfreq, n_window, n_stride)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_signals_of_many_lengths_share_the_weights_of_window_filter():
    """Each length of a trial kept matrices of its own, 600 MB for 64 lengths."""
    first, second = (
        _make_measure(n, 200, window=2.0, bands=BANDS, method="window-filter")
        for n in (2000, 2001)
    )
    assert first.weights is second.weights
    assert first == second and hash(first) == hash(second)


def test_window_filter_up_to_half_the_sampling_rate_is_a_high_pass(rng):
    x = rng.standard_normal((2, 400))
    sos = signal.butter(5, 31, "highpass", fs=100, output="sos")
    entropy = differential_entropy(
        x, 100, window=None, bands={"gamma": (31, 50)}, method="window-filter"
    )
    expected = signal.sosfilt(sos, x).var(-1)
    np.testing.assert_allclose(to_variance(entropy)[0, :, 0], expected)


def test_methods_differ_most_in_slow_bands(rng):
    """The correlations that the docstring tells."""
    x = rng.standard_normal((8, 24_000))
    by_filter = differential_entropy(x, SFREQ)
    by_window = differential_entropy(x, SFREQ, method="window-filter")
    correlations = [
        np.corrcoef(by_filter[..., band].ravel(), by_window[..., band].ravel())[0, 1]
        for band in range(5)
    ]
    np.testing.assert_allclose(
        correlations, [0.75, 0.82, 0.90, 0.96, 0.96], rtol=0, atol=0.03
    )


# Windows and shapes


@settings(max_examples=40, deadline=None)
@given(
    n_window=st.integers(50, 120),
    n_stride=st.integers(1, 150),
    n_extra=st.integers(0, 300),
)
def test_each_window_equals_itself_alone(n_window, n_stride, n_extra):
    x = np.random.default_rng(n_extra).standard_normal((2, n_window + n_extra))
    bands = {"theta": (4, 8), "beta": (14, 31)}
    entropy = differential_entropy(
        x, 100, window=n_window / 100, stride=n_stride / 100, bands=bands, method="fft"
    )
    assert entropy.shape == (n_extra // n_stride + 1, 2, 2)
    for i, found in enumerate(entropy):
        alone = x[:, i * n_stride : i * n_stride + n_window]
        expected = differential_entropy(
            alone, 100, window=None, bands=bands, method="fft"
        )
        np.testing.assert_allclose(found, expected[0])


@pytest.mark.parametrize("method", METHODS)
def test_overlapping_windows_hold_the_others(rng, method):
    x = rng.standard_normal((2, 1050))
    apart = differential_entropy(x, SFREQ, method=method)
    overlapping = differential_entropy(x, SFREQ, stride=0.5, method=method)
    assert apart.shape == (5, 2, 5)
    assert overlapping.shape == (9, 2, 5)
    np.testing.assert_allclose(overlapping[::2], apart)


@pytest.mark.parametrize("method", METHODS)
def test_leading_dimensions(rng, method):
    x = rng.standard_normal((2, 3, 4, 500))
    entropy = differential_entropy(x, SFREQ, method=method)
    assert entropy.shape == (2, 3, 2, 4, 5)
    np.testing.assert_allclose(
        entropy[1, 2], differential_entropy(x[1, 2], SFREQ, method=method)
    )


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("method", METHODS)
def test_a_signal_longer_than_a_block(monkeypatch, rng, method, library):
    """Rows are measured in blocks; the last block may be smaller."""
    x = rng.standard_normal((2, 7, 500))
    whole = differential_entropy(x, SFREQ, method=method)
    monkeypatch.setattr(band_power_module, "_BLOCK_OF_CPU", 1500)
    x = torch.from_numpy(x) if library == "torch" else x
    np.testing.assert_allclose(differential_entropy(x, SFREQ, method=method), whole)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_through_the_blocks(monkeypatch, method):
    monkeypatch.setattr(band_power_module, "_BLOCK_OF_CPU", 100)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 60, dtype=torch.float64, generator=generator)

    def entropy(x):
        bands = {"beta": (14, 31)}
        return differential_entropy(x, 100, window=0.3, bands=bands, method=method)

    assert torch.autograd.gradcheck(entropy, x.requires_grad_())


@pytest.mark.parametrize("method", METHODS)
def test_input_is_left_alone(rng, method):
    x = rng.standard_normal((2, 500))
    before = x.copy()
    differential_entropy(x, SFREQ, method=method)
    np.testing.assert_array_equal(x, before)


# Libraries and dtypes


@pytest.mark.parametrize("stride", [None, 0.3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", METHODS)
def test_numpy_equals_torch(rng, method, dtype, stride):
    x = (20 * rng.standard_normal((3, 1000)) + 100).astype(dtype)
    from_numpy = differential_entropy(x, SFREQ, stride=stride, method=method)
    from_torch = differential_entropy(
        torch.from_numpy(x), SFREQ, stride=stride, method=method
    )
    assert from_numpy.dtype == dtype
    assert from_torch.dtype == getattr(torch, dtype)
    atol = 1e-3 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(from_torch.numpy(), from_numpy, rtol=0, atol=atol)


@pytest.mark.parametrize("method", METHODS)
def test_other_dtypes_are_widened(method):
    x = np.arange(800).reshape(2, 400) % 37
    entropy = differential_entropy(x, SFREQ, method=method)
    assert entropy.dtype == np.float64
    np.testing.assert_allclose(
        entropy, differential_entropy(x.astype(float), SFREQ, method=method)
    )
    half = differential_entropy(x.astype(np.float16), SFREQ, method=method)
    assert half.dtype == np.float32
    bfloat = torch.from_numpy(x).to(torch.bfloat16)
    assert differential_entropy(bfloat, SFREQ, method=method).dtype == torch.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", METHODS)
def test_a_flat_channel_gets_the_mean_of_the_others(rng, method, dtype):
    """It was -352.8 in float64, about -29 for a stuck channel, and no warning."""
    x = rng.standard_normal((5, 400)).astype(dtype)
    x[1] = 0.0
    alive = [0, 2, 3, 4]
    x = torch.from_numpy(x).requires_grad_()
    with pytest.warns(RuntimeWarning, match=r"channels \[1\] .* are flat .* mean over"):
        entropy = differential_entropy(x, SFREQ, method=method)
    assert torch.equal(
        entropy[:, alive], differential_entropy(x[alive], SFREQ, method=method)
    )
    np.testing.assert_allclose(
        entropy[:, 1].detach(), entropy[:, alive].detach().mean(axis=1), rtol=1e-5
    )
    entropy.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("residue", [0.0, 1e-12])
def test_a_stuck_channel_is_flat_whatever_a_filter_left(rng, dtype, residue):
    x = rng.normal(0, 30, (4, 400)) - 4000.0
    x[2] = 37.5 + residue * rng.standard_normal(400)
    with pytest.warns(RuntimeWarning, match=r"channels \[2\]"):
        entropy = differential_entropy(x.astype(dtype), SFREQ, method="fft")
    np.testing.assert_allclose(
        entropy[:, 2], entropy[:, [0, 1, 3]].mean(axis=1), rtol=1e-5
    )
    with pytest.warns(RuntimeWarning, match=r"channels \[2\] .* given as 0"):
        power = band_power(x.astype(dtype), SFREQ, method="fft")
    assert (power[:, 2] == 0).all() and (power[:, [0, 1, 3]] > 0).all()


def test_a_window_in_which_all_channels_are_flat_is_0(rng):
    x = rng.standard_normal((3, 400))
    x[:, 200:] = 5.0
    with pytest.warns(RuntimeWarning, match=r"channels \[0, 1, 2\]"):
        entropy = differential_entropy(x, SFREQ, method="fft")
    assert (entropy[1] == 0).all()
    np.testing.assert_array_equal(
        entropy[0], differential_entropy(x[:, :200], SFREQ, method="fft")[0]
    )


@pytest.mark.parametrize("constant", [0.1, 37.3, 1e3 / 7])
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_is_flat_without_others(method, constant):
    """The power of rounding errors was that of a channel, as no other was larger."""
    x = np.full((1, 400), constant)
    with pytest.warns(RuntimeWarning, match=r"channels \[0\]"):
        assert (differential_entropy(x, SFREQ, method=method) == 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stride", [None, 0.5])
def test_a_flat_second_within_a_longer_signal_is_found(rng, method, stride):
    """The filter leaves power of the samples around it, by which it was missed."""
    x = 20 * rng.standard_normal((8, 2000))
    x[3, 800:1000] = 5.0
    with pytest.warns(RuntimeWarning, match=r"channels \[3\]"):
        entropy = differential_entropy(x, SFREQ, stride=stride, method=method)
    window = entropy[4 if stride is None else 8]
    np.testing.assert_allclose(window[3], np.delete(window, 3, 0).mean(0))


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_sine_and_a_small_channel_are_not_flat(rng):
    """Bands without power are no sign of a dead electrode."""
    times = np.arange(400) / SFREQ
    sine = np.sin(2 * np.pi * 10 * times)[None]
    assert band_power(sine, SFREQ, method="fft")[0, 0, 2] == pytest.approx(0.5)
    both = np.vstack([sine, 1e-4 * rng.standard_normal(400)])
    assert (differential_entropy(both, SFREQ)[:, 1] < -5).all()


def test_the_layer_replaces_flat_channels_too(rng):
    x = rng.standard_normal((6, 4, 200)).astype("float32")
    x[2:4, 1] = 37.5
    layer = DifferentialEntropyLayer(n_times=200, sfreq=SFREQ)
    with pytest.warns(RuntimeWarning, match="flat"):
        expected = DifferentialEntropy(SFREQ, flatten=False).transform(x)
    np.testing.assert_allclose(layer(torch.from_numpy(x)), expected, atol=1e-4)


def test_import_needs_no_torch():
    """Without the parent, which registers models at braindecode and so needs torch."""
    code = (
        "import sys, types\n"
        "parent = types.ModuleType('braindecode_emossl')\n"
        f"parent.__path__ = [{str(Path(features.__file__).parents[1])!r}]\n"
        "sys.modules['braindecode_emossl'] = parent\n"
        "import numpy as np\n"
        "import braindecode_emossl.features.differential_entropy\n"
        "from braindecode_emossl import features\n"
        "features.differential_entropy(np.zeros((2, 400)), 200)\n"
        "assert 'torch' not in sys.modules\n"
        "features.DifferentialEntropyLayer\n"
        "assert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = features.nothing
    assert "DifferentialEntropyLayer" in dir(features)


# Errors


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"method": "welch"},
            "method must be one of 'filter', 'fft', 'window-filter', but got 'welch'.",
        ),
        (
            {"window": 5.0},
            "window must be at most 2 s, the length of the signal, but got 5 s.",
        ),
        ({"window": 0.0}, "window must be at least one sample, 0.005 s, but got 0 s."),
        ({"window": -1}, "window must be at least one sample, 0.005 s, but got -1 s."),
        (
            {"window": math.nan},
            "window must be at least one sample, 0.005 s, but got nan s.",
        ),
        ({"stride": 0.0}, "stride must be at least one sample, 0.005 s, but got 0 s."),
        (
            {"stride": -0.5},
            "stride must be at least one sample, 0.005 s, but got -0.5 s.",
        ),
        ({"sfreq": 0}, "sfreq must be positive and finite, but got 0."),
        ({"sfreq": -128.0}, "sfreq must be positive and finite, but got -128.0."),
        ({"bands": {}}, "bands must hold at least one band, but got {}."),
        (
            {"bands": {"mu": (12, 8)}},
            "band 'mu' must be 0 < low < high <= sfreq / 2 = 100 Hz, "
            "but got (12, 8) Hz.",
        ),
        (
            {"sfreq": 80},
            "band 'gamma' must be 0 < low < high <= sfreq / 2 = 40 Hz, "
            "but got (31, 50) Hz.",
        ),
        (
            {"window": 0.2, "method": "fft"},
            "window must be long enough to resolve band 'delta' (1-4 Hz), for which "
            "0.335 s suffice, but got 0.2 s.",
        ),
    ],
)
def test_wrong_argument(kwargs, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        differential_entropy(np.zeros((2, 400)), **{"sfreq": SFREQ, **kwargs})


def test_the_window_that_suffices_does():
    x = np.zeros((1, 400))
    entropy = differential_entropy(x, SFREQ, window=0.335, method="fft")
    assert np.isfinite(entropy).all()


@pytest.mark.parametrize("shape", [(400,), (2, 0)])
def test_wrong_shape(shape):
    message = (
        f"x must have shape (..., n_chans, n_times) with n_times >= 1, but got {shape}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        differential_entropy(np.zeros(shape), SFREQ)


# The transformer


@pytest.mark.parametrize("method", METHODS)
def test_transformer_equals_the_function_without_fit(rng, method):
    X = rng.standard_normal((6, 4, 300))
    expected = differential_entropy(X, SFREQ, window=None, method=method)[:, 0]
    entropy = DifferentialEntropy(SFREQ, method=method, flatten=False).transform(X)
    np.testing.assert_array_equal(entropy, expected)
    flat = DifferentialEntropy(SFREQ, method=method).transform(X)
    np.testing.assert_array_equal(flat, expected.reshape(6, 20))


def test_transformer_of_no_windows():
    assert DifferentialEntropy(SFREQ).transform(np.zeros((0, 4, 300))).shape == (0, 20)


def test_pipeline_learns_from_band_power(rng):
    X = rng.standard_normal((60, 3, 200))
    y = np.arange(60) % 2
    X[y == 1] += 2 * np.sin(2 * np.pi * 10 * np.arange(200) / SFREQ)
    pipeline = make_pipeline(DifferentialEntropy(SFREQ), LogisticRegression())
    assert pipeline.fit(X[:40], y[:40]).score(X[40:], y[40:]) > 0.9


def test_transformer_is_stateless():
    transformer = DifferentialEntropy(SFREQ)
    check_is_fitted(transformer)
    before = vars(transformer).copy()
    assert transformer.fit(np.zeros((1, 2, 200))) is transformer
    # Nothing but what the names of the features need.
    assert vars(transformer) == {**before, "n_chans_": 2}


def test_set_output_names_channels_and_bands(rng):
    X = rng.standard_normal((4, 2, 200))
    transformer = DifferentialEntropy(SFREQ).set_output(transform="pandas")
    table = transformer.fit_transform(X)
    assert list(table.columns[:6]) == [*(f"ch0_{band}" for band in BANDS), "ch1_delta"]
    np.testing.assert_array_equal(table, DifferentialEntropy(SFREQ).transform(X))
    names = transformer.get_feature_names_out(["Fp1", "Cz"])
    assert names.tolist() == [f"{ch}_{band}" for ch in ("Fp1", "Cz") for band in BANDS]
    with pytest.raises(ValueError, match="must name the 2 channels, but got 3 names"):
        transformer.get_feature_names_out(["Fp1", "Cz", "Oz"])
    with pytest.raises(NotFittedError):
        DifferentialEntropy(SFREQ).get_feature_names_out()


def test_clone_and_pickle(rng):
    X = rng.standard_normal((2, 3, 200))
    transformer = DifferentialEntropy(
        SFREQ, bands={"beta": (14, 31), "alpha": (8, 14)}, method="filter"
    )
    expected = transformer.transform(X)
    for copy in (clone(transformer), pickle.loads(pickle.dumps(transformer))):
        assert copy.get_params() == transformer.get_params()
        np.testing.assert_array_equal(copy.transform(X), expected)


def test_repr_tells_every_parameter():
    """Scikit-learn's repr sorts a dict, so that two orders of bands look the same."""
    bands = {"beta": (14, 31), "alpha": (8, 14)}
    transformer = DifferentialEntropy(SFREQ, bands=bands)
    assert repr(transformer) == (
        "DifferentialEntropy(bands={'beta': (14, 31), 'alpha': (8, 14)}, "
        "flatten=True, method='fft', sfreq=200.0)"
    )
    # What MOABB hashes of a pipeline.
    params = make_pipeline(transformer, LogisticRegression()).get_params()
    assert repr(transformer) in repr(params)


def test_transformer_checks_in_fit_and_transform():
    message = "X must have shape (n_windows, n_chans, n_times), but got (4, 200)"
    for method in ("fit", "transform"):
        with pytest.raises(ValueError, match=re.escape(message)):
            getattr(DifferentialEntropy(SFREQ), method)(np.zeros((4, 200)))
    with pytest.raises(ValueError, match="method must be one of"):
        DifferentialEntropy(SFREQ, method="welch").fit(np.zeros((1, 4, 200)))


@pytest.mark.parametrize("as_features", [True, False])
def test_serves_in_the_paradigm(seed_root, as_features):
    """As the paradigm's features and as MOABB's postprocess_pipeline."""
    dataset = SEED([1], sessions=[0], path=seed_root)
    X, _, _ = Emotion(window=1.0).get_data(dataset)
    extractor = DifferentialEntropy(SFREQ, method="window-filter", flatten=False)
    if as_features:
        found, _, _ = Emotion(window=1.0, features=extractor).get_data(dataset)
    else:
        found, _, _ = Emotion(window=1.0).get_data(
            dataset, postprocess_pipeline=extractor
        )
    np.testing.assert_allclose(found, extractor.transform(X), rtol=1e-6)


# The layer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", METHODS)
def test_layer_equals_the_transformer(rng, method, dtype):
    X = rng.standard_normal((5, 3, 256)).astype(dtype)
    layer = DifferentialEntropyLayer(256, 128, method=method)
    transformer = DifferentialEntropy(128, method=method, flatten=False)
    entropy = layer(torch.from_numpy(X))
    assert entropy.dtype == getattr(torch, dtype)
    np.testing.assert_allclose(
        entropy.numpy(), transformer.transform(X), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("method", METHODS)
def test_layer_gradient(method):
    layer = DifferentialEntropyLayer(40, 100, method=method, bands={"beta": (14, 31)})
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, 40, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(layer, x.requires_grad_())


@pytest.mark.parametrize("method", METHODS)
def test_layer_in_half_precision(rng, method):
    layer = DifferentialEntropyLayer(256, 128, method=method)
    x = torch.from_numpy(rng.standard_normal((2, 3, 256))).float()
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(x), expected)
    half = x.bfloat16()
    torch.testing.assert_close(layer(half), layer(half.float()))
    layer.bfloat16()
    torch.testing.assert_close(layer(x), expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_layer_adds_nothing_to_a_state_dict(method):
    layer = DifferentialEntropyLayer(256, 128, method=method)
    assert not layer.state_dict()
    assert not list(layer.parameters())
    assert [name for name, _ in layer.named_buffers()] == ["weights"]
    assert layer.to("meta").weights.is_meta
    assert layer(torch.zeros(2, 3, 256, device="meta")).shape == (2, 3, 5)


@pytest.mark.parametrize("method", METHODS)
def test_layer_exports_with_any_batch_size(rng, method):
    layer = DifferentialEntropyLayer(256, 128, method=method)
    x = torch.from_numpy(rng.standard_normal((7, 3, 256))).float()
    shapes = {"x": {0: torch.export.Dim("batch")}}
    program = torch.export.export(layer, (x[:2],), dynamic_shapes=shapes, strict=False)
    torch.testing.assert_close(program.module()(x), layer(x))


@pytest.mark.parametrize("method", METHODS)
def test_layer_compiles_without_a_graph_break(rng, method):
    layer = DifferentialEntropyLayer(256, 128, method=method)
    x = torch.from_numpy(rng.standard_normal((2, 3, 256))).float()
    # Tracing is what may break; generating code would need a C++ compiler.
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_cuda_equals_cpu(rng, method):
    x = torch.from_numpy(rng.standard_normal((2, 3, 256))).float()
    entropy = differential_entropy(x.cuda(), 128, method=method)
    assert entropy.is_cuda
    torch.testing.assert_close(
        entropy.cpu(), differential_entropy(x, 128, method=method), atol=1e-3, rtol=0
    )
    layer = DifferentialEntropyLayer(256, 128, method=method)
    expected = layer(x)
    layer.cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = layer(x.cuda())
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(3, 256), (2, 3, 255)])
def test_layer_wrong_shape(shape):
    message = f"x must have shape (batch, n_chans, n_times=256), but got {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        DifferentialEntropyLayer(256, 128)(torch.zeros(shape))


def test_layer_checks_its_arguments():
    with pytest.raises(ValueError, match="band 'gamma' must be"):
        DifferentialEntropyLayer(256, 80)


@pytest.mark.parametrize("method", ["filter", "fft", "window-filter"])
def test_a_call_in_inference_mode_leaves_later_gradients(method):
    """Weights that were made in inference mode stopped the backward pass."""
    x = torch.randn(2, 4, 330)
    settings = {"window": None, "method": method}
    with torch.inference_mode():
        expected = differential_entropy(x, 110.0, **settings)
    x.requires_grad_()
    found = differential_entropy(x, 110.0, **settings)
    found.sum().backward()
    torch.testing.assert_close(found.detach(), expected)
    assert x.grad.isfinite().all()
