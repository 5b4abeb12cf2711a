"""The loss of masked patches, against a slow reference."""

from __future__ import annotations

import pytest
import torch

from braindecode_emossl.losses import MaskedReconstructionLoss


def make_patches(shape=(3, 7, 10), seed=0):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(shape, generator=generator, dtype=torch.float64)
    target = 3 * torch.randn(shape, generator=generator, dtype=torch.float64) + 1
    mask = torch.rand(shape[:2], generator=generator) < 0.6
    return prediction, target, mask


def slow_loss(prediction, target, mask, normalize):
    """Add up the errors one by one."""
    total, n_masked = 0.0, 0
    for window, row in enumerate(mask.tolist()):
        for patch, is_masked in enumerate(row):
            if not is_masked:
                continue
            values = target[window, patch].tolist()
            if normalize:
                mean = sum(values) / len(values)
                variance = sum((v - mean) ** 2 for v in values) / len(values)
                values = [(v - mean) / (variance + 1e-6) ** 0.5 for v in values]
            found = prediction[window, patch].tolist()
            errors = [(f - v) ** 2 for f, v in zip(found, values, strict=True)]
            total += sum(errors) / len(errors)
            n_masked += 1
    return total / n_masked


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("shape", [(3, 7, 10), (1, 2, 1), (5, 1, 4)])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_slow_reference(normalize, shape, seed):
    prediction, target, mask = make_patches(shape, seed)
    mask[0, 0] = True
    loss = MaskedReconstructionLoss(normalize)(prediction, target, mask)
    assert loss.shape == ()
    expected = slow_loss(prediction, target, mask, normalize)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("normalize", [False, True])
def test_visible_patches_do_not_count(normalize):
    prediction, target, mask = make_patches()
    loss = MaskedReconstructionLoss(normalize)
    expected = loss(prediction, target, mask)
    prediction = prediction.masked_fill(~mask[..., None], torch.nan)
    target = target.masked_fill(~mask[..., None], torch.inf)
    assert torch.equal(loss(prediction, target, mask), expected)


def test_no_masked_patch_is_no_error():
    """The processor would wait for a GPU to find out, so the loss there was NaN."""
    prediction, target, mask = make_patches()
    prediction.requires_grad_()
    loss = MaskedReconstructionLoss()(prediction, target, torch.zeros_like(mask))
    loss.backward()
    assert loss == 0
    assert (prediction.grad == 0).all()


def test_values_may_have_places_along_several_axes():
    prediction, target, mask = make_patches()
    loss = MaskedReconstructionLoss()
    grid = [x.unflatten(0, (1, 3)) for x in (prediction, target, mask)]
    torch.testing.assert_close(loss(*grid), loss(prediction, target, mask))


def test_gradient_is_that_of_the_masked_patches():
    prediction, target, mask = make_patches()
    prediction.requires_grad_()
    MaskedReconstructionLoss()(prediction, target, mask).backward()
    expected = 2 * (prediction - target) * mask[..., None] / (mask.sum() * 10)
    torch.testing.assert_close(prediction.grad, expected.detach())


def test_normalized_targets_do_not_depend_on_offset_and_scale():
    prediction, target, mask = make_patches()
    loss = MaskedReconstructionLoss(normalize_targets=True)
    scale = torch.arange(1.0, 8.0).double()[:, None]
    torch.testing.assert_close(
        loss(prediction, scale * target + 5, mask),
        loss(prediction, target, mask),
        rtol=1e-5,
        atol=0,
    )


def test_flat_patches_are_finite():
    prediction, target, mask = make_patches()
    loss = MaskedReconstructionLoss(normalize_targets=True)
    assert loss(prediction, torch.full_like(target, 3.0), mask).isfinite()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    """The square of 1000 is beyond float16."""
    prediction = torch.full((1, 2, 3), 1000.0, dtype=dtype)
    mask = torch.tensor([[True, False]])
    loss = MaskedReconstructionLoss()(prediction, torch.zeros_like(prediction), mask)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1e6, rel=1e-2)


def test_rejects():
    prediction, target, mask = make_patches()
    loss = MaskedReconstructionLoss()
    with pytest.raises(ValueError, match=r"but got \(3, 7, 9\), \(3, 7, 10\) and"):
        loss(prediction[..., 1:], target, mask)
    with pytest.raises(ValueError, match=r"and \(3, 6\)"):
        loss(prediction, target, mask[:, 1:])
