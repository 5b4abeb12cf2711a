"""Meiosis: two windows exchange what comes after a cut."""

from __future__ import annotations

import torch

from braindecode_emossl.checks import check_choice

__all__ = ["meiosis"]

_AXES = ("time", "channel")


def meiosis(
    x: torch.Tensor,
    *,
    axis: str = "time",
    per_item: bool = True,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    r"""Cross the windows of each item in pairs, as in SGMC [1]_.

    An item holds :math:`2Q` windows of the same stimulus second, each of another
    subject. They are put in a random order, :math:`s_0, \ldots, s_{2Q - 1}`, and a cut
    :math:`c` is drawn. The pair :math:`(s_i, s_{i + Q})` gives one window to each of
    two groups:

    .. math::

        a_i = [s_i(t < c),\ s_{i + Q}(t \ge c)], \qquad
        b_i = [s_{i + Q}(t < c),\ s_i(t \ge c)].

    All channels are cut at the same time, so that modalities stay in step.

    Parameters
    ----------
    x : torch.Tensor, shape (n_items, 2 * group_size, n_chans, n_times)
        Windows of each item.
    axis : {"time", "channel"}, default="time"
        What is cut. "channel" is what the official code does on DEAP, by mistake: the
        cut is a number of samples still, so that most cuts lie past the last channel
        and change nothing.
    per_item : bool, default=True
        Whether each item has its own order and cut, or all share one, as in the
        official code.
    generator : torch.Generator, optional
        Source of the random numbers; torch's global generator by default.

    Returns
    -------
    torch.Tensor, shape (2, n_items, group_size, n_chans, n_times)
        The two groups of each item.

    Raises
    ------
    ValueError
        If ``x`` is not of that shape, has an odd number of windows in an item or fewer
        than three samples, or ``axis`` is unknown.

    Notes
    -----
    The cut is uniform over :math:`1, \ldots, n_{times} - 2`. [official code]

    References
    ----------
    .. [1] Kan et al. (2023). Self-supervised group meiosis contrastive learning
       for EEG-based emotion recognition. Applied Intelligence, 53(22), 27207-27225.
       https://doi.org/10.1007/s10489-023-04971-0
    """
    _check(x, axis)
    n_items, n_windows, _, n_times = x.shape
    n_draws = n_items if per_item else 1
    # A generator draws only on its own device.
    drawn_on = x.device if generator is None else generator.device
    keys = torch.rand(n_draws, n_windows, generator=generator, device=drawn_on)
    cut = torch.randint(
        1, n_times - 1, (n_draws, 1, 1, 1), generator=generator, device=drawn_on
    )

    order = keys.argsort(dim=1).to(x.device)  # (n_draws, 2Q)
    items = torch.arange(n_items, device=x.device)[:, None]  # (n_items, 1)
    rows = (n_windows * items + order).unflatten(1, (2, -1))  # (n_items, 2, Q)
    windows = x.flatten(0, 1)
    first, second = (  # (n_items, Q, n_chans, n_times)
        windows.index_select(0, half.flatten()).unflatten(0, half.shape)
        for half in rows.unbind(1)
    )
    dim = -1 if axis == "time" else -2
    positions = torch.arange(x.shape[dim], device=x.device)
    if axis == "channel":
        positions = positions[:, None]  # (n_chans, 1)
    # (n_draws, 1, 1, n_times) or (n_draws, 1, n_chans, 1)
    before = positions < cut.to(x.device)
    pairs = ((first, second), (second, first))
    if x.requires_grad:  # which out= does not support
        return torch.stack([torch.where(before, *pair) for pair in pairs])
    groups = x.new_empty(2, *first.shape)
    for group, pair in zip(groups, pairs, strict=True):
        torch.where(before, *pair, out=group)
    return groups


def _check(x: torch.Tensor, axis: str) -> None:
    """Raise if the windows cannot be crossed."""
    check_choice("axis", axis, _AXES)
    shape = tuple(x.shape)
    if len(shape) != 4 or shape[1] == 0 or shape[1] % 2:
        raise ValueError(
            "x must be of shape (n_items, 2 * group_size, n_chans, n_times), with an "
            f"even number of windows in each item, but got {shape}."
        )
    if shape[3] < 3:
        raise ValueError(
            f"x must have at least three samples to cut, but got {shape[3]}."
        )
