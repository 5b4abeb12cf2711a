"""Standardisation within each recording, so that features do not identify it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

__all__ = ["RecordingScaler", "spread_recordings"]


class RecordingScaler(nn.Module):
    """Standardise each feature by its mean and standard deviation in the recording.

    Where the recording is not known, the mean and standard deviation that :meth:`fit`
    has found are used; before, features are left as they are.

    Parameters
    ----------
    *shape : int
        Shape of the features of a token.
    least_scale : float, default=0.0
        Features whose standard deviation is smaller are divided by this, so that what
        hardly varies is not scaled up. If it is 0, constant features are not scaled.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, *shape: int, least_scale: float = 0.0):
        super().__init__()
        self.least_scale = least_scale
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        # Of each recording, (n_recordings, *shape). They are not saved: what is saved
        # has one size, and serves other recordings.
        for name in ("recording_means", "recording_scales"):
            self.register_buffer(name, torch.zeros(0, *shape), persistent=False)

    @property
    def n_recordings(self) -> int:
        """Number of recordings that are known."""
        return len(self.recording_means)

    @torch.no_grad()
    def fit(self, features: torch.Tensor) -> None:
        """Fit the mean and scale used for unknown recordings.

        Parameters
        ----------
        features : torch.Tensor, shape (n_windows, n_tokens, *shape)
            Features of windows of any recordings. NaN does not count.
        """
        mean, scale = self.measure(features)
        self.mean = mean.nan_to_num().to(self.mean)
        self.scale = scale.nan_to_num(nan=1.0).to(self.scale)

    @torch.no_grad()
    def measure(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean and scale of features.

        Parameters
        ----------
        features : torch.Tensor, shape (n_windows, n_tokens, *shape)
            Features of windows. NaN does not count.

        Returns
        -------
        mean, scale : torch.Tensor of float64, shape (*shape)
            On the CPU. NaN where a feature has no value.
        """
        features = features.cpu().double()  # so that the scale of a constant is 0
        mean = features.nanmean(dim=(0, 1))
        std = (features - mean).square().nanmean(dim=(0, 1)).sqrt()
        scale = std.clamp_min(self.least_scale)
        return mean, scale.masked_fill(scale == 0, 1.0)

    def fit_recordings(
        self, measured: Iterable[tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        """Set the mean and scale of each recording.

        Parameters
        ----------
        measured : iterable of tuple
            Mean and scale of each recording, as :meth:`measure` returns them. A
            feature without a value gets those of unknown recordings.
        """
        means, scales = zip(*measured, strict=True)
        means = torch.stack(means).to(self.mean)  # (n_recordings, *shape)
        scales = torch.stack(scales).to(self.scale)
        self.recording_means = torch.where(means.isnan(), self.mean, means)
        self.recording_scales = torch.where(scales.isnan(), self.scale, scales)

    def forward(
        self, features: torch.Tensor, recordings: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Standardise the features of windows.

        Parameters
        ----------
        features : torch.Tensor, shape (batch, n_tokens, *shape)
            Features of tokens.
        recordings : torch.Tensor of int, shape (batch,), or None
            Number of the recording of each window in :meth:`fit_recordings`; -1,
            None and unseen numbers mean an unknown recording.

        Returns
        -------
        torch.Tensor, shape (batch, n_tokens, *shape)
            The standardised features.
        """
        if recordings is None:
            return (features - self.mean) / self.scale
        mean, scale = self._look_up(recordings)
        return (features - mean) / scale

    def move(
        self,
        features: torch.Tensor,
        recordings: torch.Tensor,
        others: torch.Tensor,
        shares: torch.Tensor,
    ) -> torch.Tensor:
        """Give features the mean and scale of a place between two recordings.

        Parameters
        ----------
        features : torch.Tensor, shape (batch, n_tokens, *shape)
            Features of tokens.
        recordings, others : torch.Tensor of int, shape (batch,)
            The recording of each window, and the one that it is moved towards.
        shares : torch.Tensor, shape (batch,)
            How far each window is moved: 0 leaves it as it is, 1 gives it the mean and
            scale of the other recording.

        Returns
        -------
        torch.Tensor, shape (batch, n_tokens, *shape)
            The moved features. Means are interpolated, and scales by their logarithm.
        """
        mean, scale = self._look_up(recordings)
        other_mean, other_scale = self._look_up(others)
        shares = shares.to(mean).view(-1, *[1] * (mean.ndim - 1))
        moved = (features - mean) * (other_scale / scale) ** shares
        return moved + torch.lerp(mean, other_mean, shares)

    def _look_up(self, recordings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the means and scales (batch, 1, *shape) of recordings (batch,)."""
        is_known = (recordings >= 0) & (recordings < self.n_recordings)
        rows = torch.where(is_known, recordings, -1) + 1
        means = torch.cat([self.mean[None], self.recording_means])
        scales = torch.cat([self.scale[None], self.recording_scales])
        return means[rows][:, None], scales[rows][:, None]


def spread_recordings(recordings: np.ndarray, n: int) -> list[np.ndarray]:
    """Return some windows of each recording, at equal distances.

    Parameters
    ----------
    recordings : ndarray of int, shape (n_windows,)
        Number of the recording of each window, from 0.
    n : int
        Largest number of windows of a recording.

    Returns
    -------
    list of ndarray of int, one of each recording
        Windows in their order.
    """
    parts = []
    for number in range(recordings.max() + 1):
        rows = np.flatnonzero(recordings == number)
        places = np.linspace(0, len(rows) - 1, min(len(rows), n))
        parts.append(rows[places.round().astype(int)])
    return parts
