"""Meiosis: who is crossed with whom, and where."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindecode_emossl.augmentation import meiosis


def make_items(n_items=3, n_windows=4, n_chans=2, n_times=7):
    """Return items whose every value says which window, channel and sample it is."""
    shape = (n_items, n_windows, n_chans, n_times)
    return torch.arange(torch.Size(shape).numel()).reshape(shape)


def make_generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sources(groups, x):
    """Return the window that each value was taken from, after checking the rest."""
    n_items, n_windows, n_chans, n_times = x.shape
    window, place = groups // (n_chans * n_times), groups % (n_chans * n_times)
    expected = torch.arange(n_chans * n_times).reshape(n_chans, n_times)
    assert (place == expected).all(), "a value has left its channel or its sample"
    assert (window // n_windows == torch.arange(n_items)[:, None, None, None]).all()
    return window % n_windows


def crossings(groups_a, groups_b, x):
    """Return the parents (n_items, Q, 2) and cuts (n_items, Q) of a cut in time."""
    a, b = sources(groups_a, x), sources(groups_b, x)
    parents = torch.stack([a[..., 0, 0], a[..., 0, -1]], dim=-1)
    cuts = (a == parents[..., :1, None]).sum(-1)[..., 0]
    before = torch.arange(x.shape[3]) < cuts[..., None, None]
    first, second = parents[..., 0, None, None], parents[..., 1, None, None]
    assert torch.equal(a, torch.where(before, first, second).expand_as(a))
    assert torch.equal(b, torch.where(before, second, first).expand_as(b))
    return parents, cuts


@settings(deadline=None, max_examples=60)
@given(
    n_items=st.integers(1, 6),
    group_size=st.integers(1, 4),
    n_chans=st.integers(1, 4),
    n_times=st.integers(3, 12),
    per_item=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_pairs_exchange_what_follows_one_cut(
    n_items, group_size, n_chans, n_times, per_item, seed
):
    x = make_items(n_items, 2 * group_size, n_chans, n_times)
    groups = meiosis(x, per_item=per_item, generator=make_generator(seed))
    assert [group.shape for group in groups] == [
        (n_items, group_size, *x.shape[2:])
    ] * 2
    parents, cuts = crossings(*groups, x)
    # Every window has one partner, and all pairs of an item are cut at one time.
    assert torch.equal(
        parents.flatten(1).sort(dim=1).values,
        torch.arange(2 * group_size).expand(n_items, -1),
    )
    assert (cuts == cuts[:, :1]).all()
    assert cuts.min() >= 1 and cuts.max() <= n_times - 2
    if not per_item:
        assert (parents == parents[0]).all() and (cuts == cuts[0]).all()


def test_no_value_is_lost_or_doubled():
    x = make_items(5, 6, 3, 9)
    both = torch.cat([*meiosis(x, generator=make_generator())], dim=1)
    assert torch.equal(both.sort(dim=1).values, x)


def test_cuts_and_pairs_are_uniform_and_differ_by_item():
    x = make_items(6000, 4, 1, 8)
    parents, cuts = crossings(*meiosis(x, generator=make_generator()), x)
    frequency = torch.bincount(cuts[:, 0], minlength=8) / 6000
    assert frequency[[0, 7]].sum() == 0
    torch.testing.assert_close(
        frequency[1:7], torch.full((6,), 1 / 6), atol=0.02, rtol=0
    )
    order = parents.flatten(1)  # 24 orders of the four windows
    _, counts = order.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    torch.testing.assert_close(
        counts / 6000, torch.full((24,), 1 / 24), atol=0.015, rtol=0
    )


def test_the_official_fault_cuts_channels_and_mostly_nothing():
    """SGMC's code on DEAP: of the cuts 1 to 126, 95 of 126 change no window."""
    x = make_items(400, 2, 32, 128)
    generator = make_generator()
    group_a, group_b = meiosis(x, axis="channel", generator=generator)
    a, b = sources(group_a, x)[:, 0], sources(group_b, x)[:, 0]
    assert (a == a[..., :1]).all(), "a channel was cut in time"
    assert (a + b == 1).all()
    n_rows = (a[..., 0] == a[:, :1, 0]).sum(dim=1)  # channels of the first parent
    unchanged = (n_rows == 32).double().mean().item()
    assert unchanged == pytest.approx(95 / 126, abs=0.05)
    assert n_rows.min() >= 1 and len(n_rows.unique()) > 20


def test_the_generator_alone_decides():
    x = make_items()
    state = torch.get_rng_state()
    first = meiosis(x, generator=make_generator(3))
    torch.rand(5)
    again = meiosis(x, generator=make_generator(3))
    assert all(map(torch.equal, first, again))
    torch.set_rng_state(state)
    meiosis(x, generator=make_generator(3))
    assert torch.equal(torch.get_rng_state(), state)
    others = [meiosis(x, generator=make_generator(seed))[0] for seed in range(8)]
    assert any(not torch.equal(first[0], other) for other in others)


def test_input_is_kept_and_gradient_flows():
    x = make_items().double().requires_grad_()
    before = x.detach().clone()
    group_a, group_b = groups = meiosis(x, generator=make_generator())
    without = meiosis(before, generator=make_generator())
    assert torch.equal(groups, without) and not without.requires_grad
    (group_a.sum() + 3 * group_b.sum()).backward()
    assert torch.equal(x.detach(), before)
    assert group_a.dtype == torch.float64
    assert set(x.grad.unique().tolist()) == {1.0, 3.0}


@pytest.mark.parametrize(
    ("shape", "axis", "message"),
    [
        ((2, 4, 3, 8), "space", r"axis must be one of .* got 'space'"),
        ((4, 3, 8), "time", r"x must be of shape .* got \(4, 3, 8\)"),
        ((2, 3, 3, 8), "time", r"even number of windows .* got \(2, 3, 3, 8\)"),
        ((2, 0, 3, 8), "time", "even number of windows"),
        ((2, 4, 3, 2), "time", "at least three samples to cut, but got 2"),
    ],
)
def test_rejects(shape, axis, message):
    with pytest.raises(ValueError, match=message):
        meiosis(torch.zeros(shape), axis=axis)


@pytest.mark.gpu
def test_cuda_with_a_generator_of_either_device():
    x = make_items().cuda()
    on_cpu = meiosis(x, generator=make_generator())
    expected = meiosis(x.cpu(), generator=make_generator())
    assert all(
        torch.equal(found.cpu(), e) for found, e in zip(on_cpu, expected, strict=True)
    )
    assert meiosis(x, generator=torch.Generator("cuda").manual_seed(0))[0].is_cuda
