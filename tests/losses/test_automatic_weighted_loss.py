"""The learned sum of losses."""

from __future__ import annotations

import math

import pytest
import torch

from braindecode_emossl.losses import AutomaticWeightedLoss


def test_starts_from_half_of_every_loss():
    total = AutomaticWeightedLoss(2)(torch.tensor(3.0), torch.tensor(5.0))
    assert total.shape == ()
    assert total.item() == pytest.approx(3 / 2 + 5 / 2 + 2 * math.log(2))


@pytest.mark.parametrize("scales", [[0.5], [2.0, -3.0], [1.0, 0.1, 4.0]])
def test_equals_the_formula(scales):
    criterion = AutomaticWeightedLoss(len(scales)).double()
    with torch.no_grad():
        criterion.scales.copy_(torch.tensor(scales))
    losses = [0.7 * (i + 1) for i in range(len(scales))]
    expected = sum(
        loss / (2 * s**2) + math.log(1 + s**2)
        for loss, s in zip(losses, scales, strict=True)
    )
    total = criterion(*(torch.tensor(loss, dtype=torch.float64) for loss in losses))
    assert total.item() == pytest.approx(expected, rel=1e-6)


def test_gradients():
    criterion = AutomaticWeightedLoss(2).double()
    losses = torch.tensor([0.4, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: criterion(*x), (losses,))
    criterion(*losses).backward()
    # d/ds [L / (2 s^2) + log(1 + s^2)] = -L / s^3 + 2 s / (1 + s^2), at s = 1
    torch.testing.assert_close(
        criterion.scales.grad, torch.tensor([0.6, -1.0], dtype=torch.float64)
    )


def test_large_losses_get_small_weights():
    criterion = AutomaticWeightedLoss(2)
    optimizer = torch.optim.SGD(criterion.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        criterion(torch.tensor(0.1), torch.tensor(10.0)).backward()
        optimizer.step()
    small, large = criterion.scales.square().tolist()
    assert small < 1 < large


def test_rejects_a_wrong_number_of_losses():
    with pytest.raises(ValueError, match="n_losses must be at least 1, but got 0"):
        AutomaticWeightedLoss(0)
    with pytest.raises(ValueError, match="built for 2 losses, but got 1"):
        AutomaticWeightedLoss(2)(torch.tensor(1.0))
