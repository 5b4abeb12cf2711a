"""The mask over patches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from braindecode_emossl.augmentation import sample_patch_mask


def draw(*args, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return sample_patch_mask(*args, generator=generator, **kwargs)


@given(
    batch_size=st.integers(0, 6),
    n_patches=st.integers(1, 70),
    mask_ratio=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_every_window_has_exactly_the_rounded_number(
    batch_size, n_patches, mask_ratio, seed
):
    mask = draw(batch_size, n_patches, mask_ratio=mask_ratio, seed=seed)
    assert mask.shape == (batch_size, n_patches)
    assert mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [round(mask_ratio * n_patches)] * batch_size


def test_every_patch_is_as_likely_and_windows_differ():
    mask = draw(8000, 8)
    torch.testing.assert_close(
        mask.double().mean(dim=0), torch.full((8,), 0.75).double(), atol=0.02, rtol=0
    )
    patterns = mask.unique(dim=0, return_counts=True)[1]
    assert len(patterns) == 28  # all pairs of visible patches
    torch.testing.assert_close(
        patterns / 8000, torch.full((28,), 1 / 28), atol=0.01, rtol=0
    )


def test_generator_makes_it_reproducible_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    assert torch.equal(draw(4, 30, seed=3), draw(4, 30, seed=3))
    assert not torch.equal(draw(4, 30, seed=3), draw(4, 30, seed=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_global_generator_is_the_default():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first = sample_patch_mask(4, 30)
        torch.manual_seed(5)
        assert torch.equal(first, sample_patch_mask(4, 30))


def test_device():
    assert draw(2, 3, device="meta").device.type == "meta"
    assert sample_patch_mask(2, 3, device="cpu").device.type == "cpu"


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_rejects_a_ratio_outside_the_unit_interval(value):
    with pytest.raises(
        ValueError, match=r"mask_ratio must be in the interval \[0, 1\]"
    ):
        draw(2, 3, mask_ratio=value)
