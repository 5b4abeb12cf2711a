"""The group contrastive loss against a slow reference, and its properties."""

from __future__ import annotations

import math

import pytest
import torch

from braindecode_emossl.losses import GroupContrastiveLoss


def slow_loss(groups_a, groups_b, temperature):
    """Compute the loss as the equation, with loops."""
    a, b = (
        [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in rows.tolist()]
        for rows in (groups_a, groups_b)
    )

    def score(x, y):
        return math.exp(sum(v * w for v, w in zip(x, y, strict=True)) / temperature)

    n_items = len(a)
    total = 0.0
    for own, other in ((a, b), (b, a)):
        for p in range(n_items):
            rivals = sum(score(own[p], other[q]) for q in range(n_items))
            rivals += sum(score(own[p], own[q]) for q in range(n_items) if q != p)
            total -= math.log(score(own[p], other[p]) / rivals) / n_items
    return total


def draw(n_items, emb_dim=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, n_items, emb_dim)
    return torch.randn(shape, generator=generator, dtype=dtype).unbind()


@pytest.mark.parametrize("n_items", [2, 3, 8, 17])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_equals_slow_reference(n_items, temperature):
    groups = draw(n_items, seed=n_items)
    loss = GroupContrastiveLoss(temperature)(*groups)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(slow_loss(*groups, temperature), rel=1e-9)


def test_default_temperature_is_that_of_the_official_code():
    groups = draw(5)
    assert GroupContrastiveLoss()(*groups) == GroupContrastiveLoss(0.1)(*groups)


@pytest.mark.parametrize("n_items", [2, 8])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_closed_forms(n_items, temperature):
    """All alike: ln(2P - 1) each; alike within orthogonal items: a logistic form."""
    criterion = GroupContrastiveLoss(temperature)
    alike = torch.ones(n_items, 4)
    expected = 2 * math.log(2 * n_items - 1)
    assert criterion(alike, alike).item() == pytest.approx(expected, rel=1e-5)
    items = torch.eye(n_items)
    expected = 2 * math.log1p((2 * n_items - 2) * math.exp(-1 / temperature))
    assert criterion(items, items).item() == pytest.approx(expected, rel=1e-3)


def test_symmetric_and_blind_to_order_and_length():
    criterion = GroupContrastiveLoss()
    a, b = draw(7)
    expected = criterion(a, b).item()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    lengths = torch.linspace(0.1, 50, 7, dtype=a.dtype)[:, None]
    for pair in ((b, a), (a[order], b[order]), (a * lengths, b)):
        assert criterion(*pair).item() == pytest.approx(expected, rel=1e-9)
    assert criterion(a, b[order]).item() != pytest.approx(expected)


def test_gradient_is_that_of_the_loss():
    a, b = (group.requires_grad_() for group in draw(4))
    assert torch.autograd.gradcheck(GroupContrastiveLoss(), (a, b))


def test_zero_embeddings_are_finite():
    a, b = (group.float() for group in draw(4))
    a[1] = 0.0
    a.requires_grad_()
    loss = GroupContrastiveLoss()(a, b)
    loss.backward()
    assert loss.isfinite() and a.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    """Squares of the embeddings leave the range of half precision."""
    a, b = (3e3 * group.to(torch.float32) for group in draw(4))
    expected = GroupContrastiveLoss()(a.to(dtype).float(), b.to(dtype).float())
    with torch.autocast("cpu", dtype=dtype):
        loss = GroupContrastiveLoss()(a.to(dtype), b.to(dtype))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "0.1"])
def test_constructor_rejects(temperature):
    """NaN was accepted, and a string was a bare TypeError."""
    with pytest.raises(ValueError, match="temperature must be greater than 0, but got"):
        GroupContrastiveLoss(temperature)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [
        ((3, 4), (2, 4), r"both be of shape .* got \(3, 4\) and \(2, 4\)"),
        ((3,), (3,), r"both be of shape"),
        ((1, 4), (1, 4), "at least two items, but got those of 1"),
    ],
)
def test_forward_rejects(shape_a, shape_b, message):
    with pytest.raises(ValueError, match=message):
        GroupContrastiveLoss()(torch.ones(shape_a), torch.ones(shape_b))
