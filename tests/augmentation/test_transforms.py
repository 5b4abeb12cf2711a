"""Masks and meiosis as transforms of braindecode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from braindecode.augmentation import AugmentedDataLoader, Compose, Transform

from braindecode_emossl.augmentation import (
    ChannelMask,
    HybridMask,
    Meiosis,
    ParallelMask,
    PatchMask,
    RandomMask,
    SpanMask,
)

MASKS = [HybridMask, RandomMask, ChannelMask, ParallelMask, SpanMask, PatchMask]
all_masks = pytest.mark.parametrize("mask_class", MASKS)
all_transforms = pytest.mark.parametrize("transform_class", [*MASKS, Meiosis])


def draw(mask_class, shape=(4000, 20, 5), **kwargs):
    """Return what is masked, True where an entry is."""
    return mask_class(random_state=0, **kwargs)(torch.ones(shape)) == 0


def make_input(transform_class):
    """Return windows without zeros, in items for meiosis."""
    shape = (30, 4, 3, 64) if transform_class is Meiosis else (30, 6, 64)
    return 1 + torch.rand(shape, generator=torch.Generator().manual_seed(0))


# -- masked fractions ----------------------------------------------------------


def fractions(mask):
    """Return the fractions of masked entries and of fully masked rows."""
    return mask.float().mean().item(), mask.all(dim=2).float().mean().item()


@pytest.mark.parametrize(
    "mask_class, rows",
    [
        (HybridMask, 0.9 / 32 + 0.1 / 2),  # 7.8 %, as measured in the official code
        (RandomMask, 1 / 32),
        (ChannelMask, 1 / 2),
        (ParallelMask, 0.9 / 32 + 0.1 / 2),
    ],
)
def test_fractions_of_scmm(mask_class, rows):
    """Half of the entries, and of the rows of five bands what follows from it."""
    mask = draw(mask_class)
    assert fractions(mask) == pytest.approx((0.5, rows), abs=0.006)


def test_channel_mask_is_whole_channels():
    mask = draw(ChannelMask, (100, 20, 5), mask_ratio=0.2)
    assert (mask.all(dim=2) == mask.any(dim=2)).all()
    assert mask.float().mean() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.6, 1.0])
def test_parallel_mask_is_of_one_kind_in_a_window(threshold):
    mask = draw(ParallelMask, (2000, 20, 30), threshold=threshold)
    is_whole = mask.all(dim=2) == mask.any(dim=2)  # (batch, n_chans)
    assert (is_whole.all(dim=1) == is_whole.any(dim=1)).all()
    assert is_whole.float().mean() == pytest.approx(threshold, abs=0.04)


def test_kind_of_hybrid_mask_differs_by_channel():
    mask = draw(HybridMask, (2000, 20, 30), threshold=0.6)
    is_whole = mask.all(dim=2) == mask.any(dim=2)
    assert is_whole.float().mean() == pytest.approx(0.6, abs=0.01)
    assert not is_whole.all(dim=1).any()


def test_span_mask():
    """8 s at 128 Hz: 64 tokens of 16 samples, 0.60 of them masked in spans of 4."""
    mask = draw(SpanMask, (2000, 3, 1024))
    assert mask.float().mean() == pytest.approx(0.60, abs=0.01)
    assert (mask == mask[:, :1]).all()
    tokens = mask[:, 0].unflatten(1, (64, 16))
    assert (tokens == tokens[..., :1]).all()
    # A masked token has three masked neighbours in a row with it.
    padded = torch.nn.functional.pad(tokens[..., 0], (3, 3))
    in_span = padded.unfold(1, 4, 1).all(dim=2).unfold(1, 4, 1).any(dim=2)
    assert torch.equal(in_span, tokens[..., 0])


def test_patch_mask():
    """128 patches of 4 samples, 96 of them masked in each window."""
    mask = draw(PatchMask, (200, 3, 512))
    assert (mask == mask[:, :1]).all()
    patches = mask[:, 0].unflatten(1, (128, 4))
    assert (patches == patches[..., :1]).all()
    assert (patches[..., 0].sum(dim=1) == 96).all()
    # Each patch as often as any other: 150 times, standard deviation 6.
    times = patches[..., 0].sum(dim=0)
    assert times.min() > 120 and times.max() < 180


@pytest.mark.parametrize("mask_class", [SpanMask, PatchMask])
def test_last_token_may_be_shorter(mask_class):
    size = "token_size" if mask_class is SpanMask else "patch_size"
    mask = draw(mask_class, (300, 2, 103), **{size: 10})
    assert mask.shape == (300, 2, 103)
    last = mask[:, 0, 100:]
    assert last.any() and not last.all()
    assert (last == last[:, :1]).all()


# -- what all transforms do ----------------------------------------------------


@all_masks
def test_masked_entries_are_zero_and_others_as_they_were(mask_class):
    X = make_input(mask_class)
    before = X.clone()
    out = mask_class(random_state=0)(X)
    assert torch.equal(X, before)
    assert (out == 0).any() and (out != 0).any()
    assert torch.equal(out, torch.where(out == 0, 0, X))


@all_transforms
def test_seed_and_global_generator(transform_class):
    X = make_input(transform_class)
    before = torch.get_rng_state()
    one, same, other = (transform_class(random_state=seed) for seed in (0, 0, 1))
    first, second = one(X), one(X)
    assert torch.equal(first, same(X)) and torch.equal(second, same(X))
    assert not torch.equal(first, second)
    assert not torch.equal(first, other(X))
    assert torch.equal(torch.get_rng_state(), before)


@all_transforms
def test_labels_are_left_alone(transform_class):
    X, y = make_input(transform_class), torch.arange(30)
    out, labels = transform_class(random_state=0)(X, y)
    assert torch.equal(labels, y)
    assert torch.equal(out, transform_class(random_state=0)(X))


@all_transforms
@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_probability_is_that_of_a_window(transform_class, probability):
    X = make_input(transform_class).repeat_interleave(20, dim=0)
    out = transform_class(probability=probability, random_state=0)(X)
    is_changed = (out != X).flatten(1).any(dim=1).float()
    assert is_changed.mean() == pytest.approx(probability, abs=0.06)


@all_transforms
def test_transforms_work_in_a_loader_and_a_composition(transform_class):
    X = make_input(transform_class)
    transform = transform_class(random_state=0)
    assert isinstance(transform, Transform)
    loader = AugmentedDataLoader(
        list(zip(X, np.arange(30), strict=True)), transforms=transform, batch_size=10
    )
    batches = list(loader)
    assert torch.equal(torch.cat([y for _, y in batches]), torch.arange(30))
    again = transform_class(random_state=0)
    for (out, _), x in zip(batches, X.split(10), strict=True):
        assert torch.equal(out, again(x))
    composed, _ = Compose([transform, transform])(X, torch.arange(30))
    assert composed.shape == X.shape


def test_workers_of_a_loader_draw_apart():
    """Each had a copy of one generator: equal masks in all workers and epochs."""
    X = torch.ones(40, 6, 64)
    loader = AugmentedDataLoader(
        list(zip(X, np.arange(40), strict=True)),
        transforms=HybridMask(random_state=0),
        batch_size=10,
        num_workers=2,
    )
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        runs.append([out for _ in range(2) for out, _ in loader])
    assert all(map(torch.equal, *runs))
    assert len({tuple(out.flatten().tolist()) for out in runs[0]}) == 8


@all_masks
def test_a_single_window(mask_class):
    X = make_input(mask_class)[0]
    out = mask_class(random_state=0)(X)
    assert out.shape == X.shape and (out == 0).any()


@all_transforms
@pytest.mark.gpu
def test_transforms_stay_on_their_device(transform_class):
    X = make_input(transform_class).cuda()
    out = transform_class(random_state=0)(X)
    assert out.is_cuda and (out != X).any()
    assert torch.equal(out, transform_class(random_state=0)(X))


# -- meiosis -------------------------------------------------------------------


def test_meiosis_gives_complementary_groups():
    X = make_input(Meiosis)
    groups_a, groups_b = Meiosis(random_state=0)(X).chunk(2, dim=1)
    for item, a, b in zip(X, groups_a, groups_b, strict=True):
        for i in range(2):
            # What is not in one is in the other, and both are of the same two windows.
            first = next(w for w in item if torch.equal(w[:, 0], a[i][:, 0]))
            second = next(w for w in item if torch.equal(w[:, 0], b[i][:, 0]))
            assert not torch.equal(first, second)
            from_first = (a[i] == first).all(dim=0)  # (n_times,)
            cut = int(from_first.sum())
            assert 0 < cut < 64 and from_first[:cut].all()
            assert torch.equal(a[i], torch.cat([first[:, :cut], second[:, cut:]], 1))
            assert torch.equal(b[i], torch.cat([second[:, :cut], first[:, cut:]], 1))


# -- wrong use -----------------------------------------------------------------


@pytest.mark.parametrize(
    "mask_class, settings",
    [
        (HybridMask, {"mask_ratio": 1.1}),
        (HybridMask, {"threshold": -0.1}),
        (RandomMask, {"mask_ratio": -0.1}),
        (ChannelMask, {"mask_ratio": 2}),
        (ParallelMask, {"threshold": 1.1}),
        (SpanMask, {"mask_prob": 1.1}),
        (SpanMask, {"mask_length": 0}),
        (SpanMask, {"token_size": 0}),
        (PatchMask, {"mask_ratio": -0.1}),
        (PatchMask, {"patch_size": 0}),
    ],
)
def test_settings_are_checked_at_once(mask_class, settings):
    name = next(iter(settings))
    with pytest.raises(ValueError, match=f"{name} must be"):
        mask_class(**settings)


@all_masks
def test_masks_want_windows(mask_class):
    message = r"\(batch, n_chans, n_times\), but got \(2, 3"
    with pytest.raises(ValueError, match=message):
        mask_class()(torch.ones(2, 3, 4, 64))


def test_meiosis_wants_items():
    with pytest.raises(ValueError, match="x must be of shape"):
        Meiosis()(torch.ones(4, 3, 64))
