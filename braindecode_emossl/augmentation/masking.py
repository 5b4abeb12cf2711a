"""Functions that draw masks over the channels and features of a window."""

from __future__ import annotations

import torch

from braindecode_emossl.checks import check_fraction

__all__ = ["sample_hybrid_mask"]


def sample_hybrid_mask(
    batch_size: int,
    n_chans: int,
    n_features: int,
    *,
    mask_ratio: float = 0.5,
    threshold: float = 0.1,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    r"""Draw the hybrid mask of SCMM [1]_: single features here, whole channels there.

    Every channel of every window draws :math:`u \sim U(0, 1)`. Where
    :math:`u > \mu`, each of its features is masked on its own with probability
    :math:`r`; elsewhere the channel is masked as a whole with probability :math:`r`.

    Parameters
    ----------
    batch_size : int
        Number of windows.
    n_chans : int
        Number of channels.
    n_features : int
        Number of features per channel.
    mask_ratio : float, default=0.5
        :math:`r`, the expected fraction of masked entries.
    threshold : float, default=0.1
        :math:`\mu`, the expected fraction of channels that are kept or masked whole:
        0 masks single features only, 1 whole channels only.
    generator : torch.Generator, optional
        Source of the random numbers; torch's global generator by default.
    device : torch.device or str, optional
        Where the mask is wanted; by default where it is drawn.

    Returns
    -------
    torch.Tensor of bool, shape (batch_size, n_chans, n_features)
        True where an entry is masked.

    Raises
    ------
    ValueError
        If ``mask_ratio`` or ``threshold`` is not in [0, 1].

    References
    ----------
    .. [1] Liu, Q., Ye, W., Zhang, L., & Liang, Z. (2025). EEG-SCMM. In ACM MM.
       https://doi.org/10.1145/3746027.3755798
    """
    check_fraction("mask_ratio", mask_ratio)
    check_fraction("threshold", threshold)
    # A generator draws only on its own device.
    drawn_on = device if generator is None else generator.device

    def draw(size: int) -> torch.Tensor:
        shape = (batch_size, n_chans, size)
        return torch.rand(shape, generator=generator, device=drawn_on)

    features = draw(n_features) < mask_ratio  # (batch, n_chans, n_features)
    channels = draw(1) < mask_ratio  # (batch, n_chans, 1)
    by_feature = draw(1) > threshold  # (batch, n_chans, 1)
    # (batch, n_chans, n_features)
    return torch.where(by_feature, features, channels).to(device=device)
