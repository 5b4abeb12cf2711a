"""Standardisation within recordings, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from braindecode_emossl.pretraining.recording_scaler import (
    RecordingScaler,
    spread_recordings,
)


def make_parts(seed=0):
    """Return features (n_windows, 5, 2, 3) of three recordings of unequal level."""
    generator = torch.Generator().manual_seed(seed)
    return [
        i + (i + 1) * torch.randn(n, 5, 2, 3, generator=generator)
        for i, n in enumerate((4, 7, 6))
    ]


def fit(parts, **kwargs):
    scaler = RecordingScaler(2, 3, **kwargs)
    scaler.fit(torch.cat(parts))
    scaler.fit_recordings(map(scaler.measure, parts))
    return scaler


def name(parts):
    """Return the number of the recording of each window."""
    return torch.tensor([i for i, part in enumerate(parts) for _ in part])


def test_each_recording_has_mean_0_and_variance_1():
    parts = make_parts()
    found = fit(parts)(torch.cat(parts), name(parts)).split([*map(len, parts)])
    for part in found:
        std, mean = torch.std_mean(part, (0, 1), correction=0)
        torch.testing.assert_close(mean, torch.zeros(2, 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(std, torch.ones(2, 3))


@pytest.mark.parametrize("number", [-2, -1, 3, None])
def test_other_recordings_are_standardised_as_all_windows(number):
    parts = make_parts()
    scaler, x = fit(parts), torch.cat(parts)
    std, mean = torch.std_mean(x, (0, 1), correction=0)
    recordings = None if number is None else torch.full((len(x),), number)
    torch.testing.assert_close(scaler(x, recordings), (x - mean) / std)


def test_what_hardly_varies_is_not_scaled_up():
    """A mean in single precision made the scale of a constant that of its rounding."""
    parts = make_parts()
    for part in parts:
        part[..., 0, 0] = 0.1  # no binary fraction
        part[..., 0, 1] *= 1e-4
    x = torch.cat(parts)
    found = fit(parts, least_scale=0.1)(x, name(parts))
    assert found[..., 0, 0].abs().max() < 1e-6
    assert found[..., 0, 1].abs().max() < 0.02
    assert fit(parts)(x, name(parts))[..., 0, 1].std() > 0.9


def test_missing_values_do_not_count():
    parts = make_parts()
    x = torch.cat(parts)
    expected = fit(parts)(x, name(parts))
    gap = torch.full((2, 5, 2, 3), torch.nan)
    with_gaps = [torch.cat([part, gap]) for part in parts]
    scaler = fit(with_gaps)
    torch.testing.assert_close(scaler(x, name(parts)), expected)
    assert scaler(torch.cat(with_gaps), name(with_gaps)).isnan().sum() == 3 * 60
    scaler = RecordingScaler(2, 3)
    scaler.fit(gap)
    assert not scaler.mean.any()
    assert (scaler.scale == 1).all()


def test_a_recording_without_a_value_counts_as_unknown():
    """It had mean 0 and the least scale, towards which others were moved."""
    parts = make_parts()
    parts[1][..., 0, 0] = torch.nan
    scaler = fit(parts, least_scale=0.1)
    assert scaler.recording_means[1, 0, 0] == scaler.mean[0, 0]
    assert scaler.recording_scales[1, 0, 0] == scaler.scale[0, 0] > 1
    assert scaler.recording_means[1, 0, 1] != scaler.mean[0, 1]


def test_moved_to_another_recording():
    parts = make_parts()
    scaler, x, recordings = fit(parts), torch.cat(parts), name(parts)
    others = (recordings + 1) % 3
    ones = torch.ones(len(x))
    torch.testing.assert_close(scaler.move(x, recordings, others, 0 * ones), x)
    torch.testing.assert_close(scaler.move(x, recordings, recordings, 1.5 * ones), x)
    moved = scaler.move(x, recordings, others, ones)
    torch.testing.assert_close(scaler(moved, others), scaler(x, recordings))
    half = scaler.move(x, recordings, others, 0.5 * ones).split([*map(len, parts)])
    for i, part in enumerate(half):
        std, mean = torch.std_mean(part, (0, 1), correction=0)
        pair = [i, (i + 1) % 3]
        torch.testing.assert_close(mean, scaler.recording_means[pair].mean(0))
        expected = scaler.recording_scales[pair].prod(0).sqrt()
        torch.testing.assert_close(std, expected)


def test_before_a_fit_nothing_is_changed():
    x = make_parts()[0]
    assert torch.equal(RecordingScaler(2, 3)(x, torch.zeros(len(x), dtype=int)), x)


def test_recordings_are_not_saved():
    state = fit(make_parts()).state_dict()
    assert sorted(state) == ["mean", "scale"]


def test_windows_are_spread_over_each_recording():
    recordings = np.array([0] * 9 + [1] * 2 + [0])
    first, second = spread_recordings(recordings, 3)
    assert first.tolist() == [0, 4, 11]
    assert second.tolist() == [9, 10]
