"""The hybrid mask."""

from __future__ import annotations

import pytest
import torch

from braindecode_emossl.augmentation import sample_hybrid_mask


def draw(*args, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return sample_hybrid_mask(*args, generator=generator, **kwargs)


def test_shape_and_type():
    mask = draw(3, 62, 5)
    assert mask.shape == (3, 62, 5)
    assert mask.dtype == torch.bool


def test_statistics_at_the_defaults():
    """Half of the entries, and 0.9 / 2**5 + 0.1 / 2 = 7.8 % of the rows, are masked."""
    mask = draw(4000, 62, 5)
    assert mask.float().mean().item() == pytest.approx(0.5, abs=0.002)
    assert mask.all(dim=2).float().mean().item() == pytest.approx(0.0781, abs=0.002)
    assert (~mask).all(dim=2).float().mean().item() == pytest.approx(0.0781, abs=0.002)


@pytest.mark.parametrize("ratio", [0.1, 0.75])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_statistics_follow_the_settings(ratio, threshold):
    mask = draw(4000, 20, 4, mask_ratio=ratio, threshold=threshold)
    blank = (1 - threshold) * ratio**4 + threshold * ratio
    assert mask.float().mean().item() == pytest.approx(ratio, abs=0.005)
    assert mask.all(dim=2).float().mean().item() == pytest.approx(blank, abs=0.005)


def test_channels_of_one_window_do_not_share_the_choice():
    """The kind of masking is drawn per window and channel, not per window."""
    whole = draw(500, 40, 30).float().mean(dim=2)
    is_whole = (whole == 0) | (whole == 1)  # by chance alone: 2 in 2**30
    assert is_whole.float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert is_whole.any(dim=1).float().mean() > 0.9
    assert not is_whole.all(dim=1).any()


def test_extremes():
    assert not draw(5, 4, 3, mask_ratio=0.0).any()
    assert draw(5, 4, 3, mask_ratio=1.0).all()
    rows = draw(50, 4, 3, threshold=1.0)
    assert (rows.all(dim=2) | ~rows.any(dim=2)).all()


def test_generator_makes_it_reproducible_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    assert torch.equal(draw(4, 6, 5, seed=3), draw(4, 6, 5, seed=3))
    assert not torch.equal(draw(4, 6, 5, seed=3), draw(4, 6, 5, seed=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_global_generator_is_the_default():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first = sample_hybrid_mask(4, 6, 5)
        torch.manual_seed(5)
        assert torch.equal(first, sample_hybrid_mask(4, 6, 5))


def test_device():
    assert draw(2, 3, 4, device="meta").device.type == "meta"
    assert sample_hybrid_mask(2, 3, 4, device="cpu").device.type == "cpu"


@pytest.mark.parametrize("name", ["mask_ratio", "threshold"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_rejects_values_outside_the_unit_interval(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be in the interval \[0, 1\]"):
        draw(2, 3, 4, **{name: value})
