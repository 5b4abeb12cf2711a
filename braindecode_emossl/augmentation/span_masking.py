"""Masks of several spans over the tokens of a window."""

from __future__ import annotations

import torch

from braindecode_emossl.checks import check_fraction

__all__ = ["sample_span_mask"]


def sample_span_mask(
    batch_size: int,
    n_tokens: int,
    *,
    mask_prob: float = 0.8,
    mask_length: int = 4,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    r"""Mask spans of tokens, as in masked prediction of speech [1]_.

    In every window, :math:`\mathrm{round}(p T / l)` different starts are drawn, each
    start that leaves room for its span being as likely as any other, and the :math:`l`
    tokens from each of them on are masked. Spans may overlap, so that the fraction of
    masked tokens is less than :math:`p`: 0.60 for the defaults and 64 tokens.

    Every window keeps at least one visible token and, unless ``mask_prob`` is 0, gets
    at least one span. Short windows get fewer spans for that, and spans of
    ``n_tokens - 1`` if ``mask_length`` is more.

    Parameters
    ----------
    batch_size : int
        Number of windows.
    n_tokens : int
        :math:`T`, the number of tokens of a window, at least 2.
    mask_prob : float, default=0.8
        :math:`p`, the fraction of tokens that would be masked without overlaps.
    mask_length : int, default=4
        :math:`l`, the number of tokens of a span.
    generator : torch.Generator, optional
        Source of the random numbers; torch's global generator by default.
    device : torch.device or str, optional
        Where the mask is wanted; by default where it is drawn.

    Returns
    -------
    torch.Tensor of bool, shape (batch_size, n_tokens)
        True where a token is masked.

    Raises
    ------
    ValueError
        If ``n_tokens`` is less than 2, ``mask_prob`` is not in [0, 1] or
        ``mask_length`` is less than 1.

    References
    ----------
    .. [1] Hsu, W.-N., et al. (2021). HuBERT. IEEE/ACM Transactions on Audio, Speech,
       and Language Processing, 29, 3451-3460.
       https://doi.org/10.1109/TASLP.2021.3122291
    """
    if n_tokens < 2:
        raise ValueError(
            "n_tokens must be at least 2, one to mask and one to see, but got "
            f"{n_tokens}. Use longer windows."
        )
    check_fraction("mask_prob", mask_prob)
    if mask_length < 1:
        raise ValueError(f"mask_length must be at least 1, but got {mask_length}.")

    length = min(mask_length, n_tokens - 1)
    wanted = max(round(mask_prob * n_tokens / length), 1) if mask_prob else 0
    # So few spans cannot cover a window, wherever they lie.
    n_spans = min(wanted, (n_tokens - 1) // length)

    # A generator draws only on its own device.
    drawn_on = device if generator is None else generator.device
    keys = torch.rand(
        (batch_size, n_tokens - length + 1), generator=generator, device=drawn_on
    )
    starts = keys.topk(n_spans).indices  # (batch, n_spans)
    masked = starts[..., None] + torch.arange(length, device=drawn_on)
    mask = torch.zeros(batch_size, n_tokens, dtype=torch.bool, device=drawn_on)
    # (batch, n_tokens)
    return mask.scatter_(1, masked.flatten(1), True).to(device=device)
