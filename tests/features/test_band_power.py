from __future__ import annotations

import numpy as np
import pytest
import torch

from braindecode_emossl.features import (
    BANDS,
    BandPower,
    band_power,
    differential_entropy,
)

SFREQ = 200.0


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((3, 2000))


def test_sine_has_half_its_squared_amplitude_in_its_band():
    x = 4.0 * np.sin(2 * np.pi * 10 * np.arange(2000) / SFREQ)[None]
    power = band_power(x, SFREQ, method="fft")
    expected = np.broadcast_to([0, 0, 8, 0, 0], (10, 1, 5))
    np.testing.assert_allclose(power, expected, atol=1e-12)


def test_sum_of_the_bands_is_the_variance(x):
    """Parseval: whatever the taper, bins from the first to Nyquist share the power."""
    bands = {"low": (0.01, 30), "high": (30, 100)}
    taper = np.hanning(2001)[:-1]
    power = band_power(x, SFREQ, window=None, bands=bands, method="fft").sum(-1)[0]
    tapered = (x - x.mean(-1, keepdims=True)) * taper
    expected = (tapered**2).sum(-1) / (taper**2).sum()
    # Without the bins at zero and at Nyquist.
    np.testing.assert_allclose(power, expected, rtol=2e-3)


@pytest.mark.parametrize("method", ["filter", "fft", "window-filter"])
def test_entropy_is_half_its_logarithm(x, method):
    power = band_power(x, SFREQ, stride=0.5, method=method)
    np.testing.assert_allclose(
        differential_entropy(x, SFREQ, stride=0.5, method=method),
        0.5 * np.log(2 * np.pi * np.e * power),
    )
    from_torch = band_power(torch.from_numpy(x), SFREQ, stride=0.5, method=method)
    np.testing.assert_allclose(from_torch.numpy(), power)


def test_transformer(x):
    X = x.reshape(3, 10, 200).swapaxes(0, 1)  # (n_windows, n_chans, n_times)
    transformer = BandPower(SFREQ)
    expected = band_power(x, SFREQ, method="fft").reshape(10, 15)
    np.testing.assert_allclose(transformer.fit_transform(X), expected)
    assert transformer.get_feature_names_out(["Fp1", "Fp2", "Fz"])[5] == "Fp2_delta"
    bands = {name: BANDS[name] for name in ("beta", "alpha")}
    assert repr(BandPower(128, bands=bands)) == (
        "BandPower(bands={'beta': (14.0, 31.0), 'alpha': (8.0, 14.0)}, flatten=True, "
        "method='fft', sfreq=128)"
    )
