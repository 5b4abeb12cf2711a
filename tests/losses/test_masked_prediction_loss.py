"""The masked prediction loss, against loops over tokens and clusters."""

from __future__ import annotations

import math

import pytest
import torch

from braindecode_emossl.losses import MaskedPredictionLoss

BATCH, N_TOKENS, CODE_DIM, N_CLUSTERS = 3, 5, 4, 6


def make_batch(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    shape = (BATCH, N_TOKENS)
    targets = torch.randint(N_CLUSTERS, shape, generator=generator)
    mask = torch.rand(shape, generator=generator) < 0.5
    return randn(*shape, CODE_DIM), randn(N_CLUSTERS, CODE_DIM), targets, mask


def slow_loss(predictions, codes, targets, mask, temperature, masked_weight):
    losses = {True: [], False: []}
    for i in range(BATCH):
        for t in range(N_TOKENS):
            logits = []
            for code in codes:
                dot = sum(
                    a * b for a, b in zip(predictions[i, t], code, strict=True)
                ).item()
                norms = math.hypot(*predictions[i, t]) * math.hypot(*code)
                logits.append(dot / norms / temperature)
            norm = sum(math.exp(logit) for logit in logits)
            loss = math.log(norm) - logits[targets[i, t]]
            losses[mask[i, t].item()].append(loss)
    masked, visible = (sum(part) / len(part) for part in losses.values())
    return masked_weight * masked + (1 - masked_weight) * visible


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("masked_weight", [1.0, 0.7, 0.0])
def test_equals_slow_reference(seed, temperature, masked_weight):
    batch = make_batch(seed)
    found = MaskedPredictionLoss(temperature, masked_weight)(*batch)
    expected = slow_loss(*batch, temperature, masked_weight)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_equal_codes_give_the_loss_of_guessing():
    predictions, codes, targets, mask = make_batch()
    loss = MaskedPredictionLoss()(predictions, codes[:1].expand(6, -1), targets, mask)
    assert loss.item() == pytest.approx(math.log(N_CLUSTERS))


def test_only_the_directions_count():
    predictions, codes, targets, mask = make_batch()
    loss = MaskedPredictionLoss()
    torch.testing.assert_close(
        loss(predictions, codes, targets, mask),
        loss(7 * predictions, 0.2 * codes, targets, mask),
    )


def test_visible_tokens_have_no_part_in_the_default():
    predictions, codes, targets, mask = make_batch()
    predictions.requires_grad_()
    MaskedPredictionLoss()(predictions, codes, targets, mask).backward()
    moved = predictions.grad.abs().sum(dim=-1) > 0
    assert torch.equal(moved, mask)


def test_no_masked_token_is_no_loss():
    predictions, codes, targets, mask = make_batch()
    loss = MaskedPredictionLoss()(predictions, codes, targets, torch.zeros_like(mask))
    assert loss.item() == 0


def test_zero_vectors_are_finite():
    predictions, codes, targets, mask = make_batch(dtype=torch.float32)
    predictions = torch.zeros_like(predictions).requires_grad_()
    loss = MaskedPredictionLoss()(predictions, codes, targets, mask)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(N_CLUSTERS), rel=1e-5)
    assert predictions.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_single_precision_out(dtype):
    """Half precision would overflow here: a norm of 1e5 squared is not a float16."""
    predictions, codes, targets, mask = make_batch(dtype=torch.float32)
    half = (1e3 * predictions).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = MaskedPredictionLoss()(half, codes.to(dtype), targets, mask)
    assert loss.dtype == torch.float32
    exact = MaskedPredictionLoss()(
        half.double(), codes.to(dtype).double(), targets, mask
    )
    assert loss.item() == pytest.approx(exact.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, "temperature must be greater than 0, but got 0"),
        ({"masked_weight": 1.5}, r"masked_weight must be in the interval \[0, 1\]"),
    ],
)
def test_constructor_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        MaskedPredictionLoss(**settings)
