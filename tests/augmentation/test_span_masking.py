"""Span masks: their number, their length and how often each token is masked."""

from __future__ import annotations

from itertools import groupby
from math import comb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from braindecode_emossl.augmentation import sample_span_mask


def draw(*args, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return sample_span_mask(*args, generator=generator, **kwargs)


def expected_by_token(n_tokens, n_spans, length):
    """Return the probability of each token to be masked, by counting starts."""
    n_starts = n_tokens - length + 1
    masked = []
    for token in range(n_tokens):
        covering = sum(start <= token < start + length for start in range(n_starts))
        missed = comb(n_starts - covering, n_spans) / comb(n_starts, n_spans)
        masked.append(1 - missed)
    return torch.tensor(masked)


def test_shape_and_type():
    mask = draw(3, 64)
    assert mask.shape == (3, 64)
    assert mask.dtype == torch.bool


@pytest.mark.parametrize(
    ("n_tokens", "mask_prob", "mask_length", "n_spans"),
    [(64, 0.8, 4, 13), (64, 0.3, 4, 5), (50, 0.5, 1, 25), (30, 0.65, 10, 2)],
)
def test_each_token_is_masked_as_often_as_counting_says(
    n_tokens, mask_prob, mask_length, n_spans
):
    mask = draw(20_000, n_tokens, mask_prob=mask_prob, mask_length=mask_length)
    expected = expected_by_token(n_tokens, n_spans, mask_length)
    torch.testing.assert_close(mask.float().mean(dim=0), expected, atol=0.02, rtol=0)


def test_fraction_at_the_defaults():
    assert expected_by_token(64, 13, 4).mean().item() == pytest.approx(0.60, abs=0.005)
    assert draw(5000, 64).float().mean().item() == pytest.approx(0.60, abs=0.005)


@given(
    n_tokens=st.integers(2, 90),
    mask_prob=st.floats(0.01, 1),
    mask_length=st.integers(1, 100),
    seed=st.integers(0, 2**31),
)
def test_every_window_has_whole_spans_and_a_visible_token(
    n_tokens, mask_prob, mask_length, seed
):
    mask = draw(5, n_tokens, mask_prob=mask_prob, mask_length=mask_length, seed=seed)
    length = min(mask_length, n_tokens - 1)
    for row in mask.tolist():
        runs = [len(list(run)) for masked, run in groupby(row) if masked]
        assert runs
        assert min(runs) >= length
        assert sum(runs) <= n_tokens - 1


def test_single_spans_start_everywhere_equally_often():
    mask = draw(40_000, 12, mask_prob=0.3, mask_length=4)
    assert (mask.sum(dim=1) == 4).all()
    counts = torch.bincount(mask.int().argmax(dim=1), minlength=9)
    assert len(counts) == 9
    torch.testing.assert_close(
        counts / 40_000, torch.full((9,), 1 / 9), atol=0.01, rtol=0
    )


def test_no_probability_no_mask():
    assert not draw(10, 64, mask_prob=0.0).any()


def test_generator_makes_it_reproducible_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    assert torch.equal(draw(4, 30, seed=3), draw(4, 30, seed=3))
    assert not torch.equal(draw(4, 30, seed=3), draw(4, 30, seed=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_global_generator_is_the_default():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first = sample_span_mask(4, 30)
        torch.manual_seed(5)
        assert torch.equal(first, sample_span_mask(4, 30))


def test_device():
    assert draw(2, 10, device="meta").device.type == "meta"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_tokens": 1}, "n_tokens must be at least 2, .* but got 1"),
        ({"mask_prob": 1.1}, r"mask_prob must be in the interval \[0, 1\], but got"),
        ({"mask_prob": -0.1}, r"mask_prob must be in the interval \[0, 1\], but got"),
        ({"mask_length": 0}, "mask_length must be at least 1, but got 0"),
    ],
)
def test_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        sample_span_mask(2, **{"n_tokens": 10, **settings})
