"""Features as torch modules, to stand inside a network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from array_api_compat import torch as xp
from torch import nn

from braindecode_emossl.features.band_power import _as_float, _make_measure
from braindecode_emossl.features.bands import BANDS
from braindecode_emossl.features.differential_entropy import entropy_of_windows

__all__ = ["DifferentialEntropyLayer"]


class DifferentialEntropyLayer(nn.Module):
    """Differential entropy of each input window, as a layer without parameters.

    ``x (batch, n_chans, n_times)`` -> ``(batch, n_chans, n_bands)``. The layer can be
    compiled and exported, moves between devices and adds nothing to a state dict. A
    flat channel gets the mean of the others, without the warning of the function.

    Parameters
    ----------
    n_times : int
        Length of the window in samples.
    sfreq : float
        Sampling frequency in Hz.
    bands : dict of str to (float, float)
        Name and edges in Hz of each band.
    method : {"fft", "filter", "window-filter"}, default="fft"
        How the variance in a band is measured, see `differential_entropy`.

    See Also
    --------
    differential_entropy : The same as a function, with windows cut from a trial.

    Examples
    --------
    >>> import torch
    >>> from braindecode_emossl.features import DifferentialEntropyLayer
    >>> layer = DifferentialEntropyLayer(n_times=200, sfreq=200)
    >>> layer(torch.randn(8, 62, 200)).shape
    torch.Size([8, 62, 5])
    """

    def __init__(
        self,
        n_times: int,
        sfreq: float,
        *,
        bands: Mapping[str, tuple[float, float]] = BANDS,
        method: str = "fft",
    ):
        super().__init__()
        self.n_times = n_times
        self._measure = _make_measure(n_times, sfreq, bands=bands, method=method)
        weights = torch.tensor(self._measure.weights, dtype=torch.get_default_dtype())
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the differential entropy.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Windows of EEG. Half precision is widened to ``float32``, in autocast too:
            the FFT does not exist in ``bfloat16``.

        Returns
        -------
        entropy : torch.Tensor, shape (batch, n_chans, n_bands)
            The DE in nats, in ``float32`` or, if ``x`` is so, in ``float64``.
        """
        if x.ndim != 3 or x.shape[-1] != self.n_times:
            raise ValueError(
                f"x must have shape (batch, n_chans, n_times={self.n_times}), "
                f"but got {tuple(x.shape)}."
            )
        x = _as_float(xp, x)
        variance = self._measure.variance(xp, x, self.weights.to(x.dtype))
        # (batch, n_chans, n_bands)
        return entropy_of_windows(xp, variance[:, :, 0], x)
