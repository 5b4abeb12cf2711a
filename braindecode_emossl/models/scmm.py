"""SCMM: the encoder and classifier of soft contrastive masked modelling."""

from __future__ import annotations

from itertools import pairwise

import torch
from braindecode.models.base import EEGModuleMixin
from torch import nn

from braindecode_emossl.checks import check_choice, check_counts
from braindecode_emossl.features.bands import BANDS
from braindecode_emossl.features.layers import DifferentialEntropyLayer
from braindecode_emossl.models.head import ReplaceableHead

__all__ = ["SCMM"]

_NORMALIZATIONS = ("standard", "minmax")
_INPUT_DOMAINS = ("time", "de")


class SCMM(ReplaceableHead, EEGModuleMixin, nn.Module):
    r"""SCMM from Liu et al. (2025) [scmm]_.

    :bdg-success:`Convolution`

    The encoder and classifier of EEG-SCMM, soft contrastive masked modelling for
    emotion recognition across corpora. It sees a window as one differential entropy
    (DE) per channel and frequency band, and convolves over the bands. It is small, and
    meant to be pre-trained without labels by
    :class:`~braindecode_emossl.pretraining.SCMMPretraining`.

    The forward path is, end to end:

    ``(batch, n_chans, n_times)`` → DE of every band → ``(batch, n_chans, n_bands)``
    → scaling → convolution blocks → ``(batch, n_filters, length)`` → flatten →
    ``(batch, n_features)`` → ``final_layer`` → ``(batch, n_outputs)``.

    With the defaults ``n_bands`` is 5 and ``n_features`` is 384.

    .. rubric:: Step 1 -- Differential Entropy (``differential_entropy``)

    With ``input_domain="time"`` the DE of the whole window is computed in the five
    bands of SEED, delta to gamma, by
    :class:`~braindecode_emossl.features.layers.DifferentialEntropyLayer`. With
    ``input_domain="de"`` the input is the DE already, ``(batch, n_chans, n_bands)``:
    ``n_times`` is then the number of bands, and ``sfreq`` is not needed.

    .. rubric:: Step 2 -- Scaling (``feature_shift``, ``feature_scale``)

    Each channel and band is shifted and scaled by two buffers, which
    :meth:`fit_normalization` sets from the training windows. With
    ``normalization="standard"`` the features have mean 0 and variance 1, so a masked
    one, which is 0, is the mean. With "minmax" they fill [0, 1], and a masked one is
    the minimum. Until it is called, the features pass unchanged.

    .. rubric:: Step 3 -- Convolution Blocks (``blocks``)

    One block per entry of ``n_filters``: convolution over the bands without bias,
    batch normalisation, ``activation``, max pooling. The padding keeps short inputs
    alive: five bands take the lengths 5 → 6 → 4 → 5 → 3 → 4 → 3.

    .. rubric:: Step 4 -- Classification Head (``final_layer``)

    Linear, sigmoid, dropout, linear. It returns logits. ``return_features=True``
    returns the flattened output of the blocks instead.

    .. warning::
       The DE is a logarithm of a band's variance, so it depends on the unit of the
       signal. Give all windows in one unit, e.g. microvolts, and call
       :meth:`fit_normalization` (pre-training does) before masking anything.

    Parameters
    ----------
    normalization : {"standard", "minmax"}, default="standard"
        How :meth:`fit_normalization` scales each channel and band: to mean 0 and
        variance 1 [inferred], or to [0, 1] by the extremes [official code].
    input_domain : {"time", "de"}, default="time"
        What ``forward`` receives: the signal, or its DE. [inferred] The authors' code
        starts from DE; computing it in the model lets it read any window.
    n_filters : tuple of int, default=(32, 64, 128)
        Number of filters of each block. [official code]
    kernel_size : int, default=8
        Length of the convolution kernels, in bands; half of it is padded on each side.
        [official code]
    n_hidden : int, default=128
        Width of the hidden layer of ``final_layer``. [official code]
    drop_prob : float, default=0.0
        Dropout after the hidden layer of ``final_layer``. The official code has no
        dropout, which 0 reproduces. [official code]
    activation : type[nn.Module], default=nn.ReLU
        Activation of the blocks; the sigmoid of ``final_layer`` is fixed.
        [official code]

    Attributes
    ----------
    n_bands : int
        Number of features per channel.
    n_features : int
        Size of the representation that :meth:`encode` returns.

    Notes
    -----
    The full text of the paper was not available. Every size tagged [official code]
    comes from the authors' public code; this is an independent implementation written
    from the equations, which matches its parameter counts: 98,240 for the encoder and
    49,667 for the classifier with 62 channels and 3 classes.

    Deviations from the official code:

    * It expects DE of 1 s segments, prepared elsewhere. Here the DE of the window is
      computed in the model, unless ``input_domain="de"``.
    * It scales every file to [0, 1] by the file's own extremes, the test file included.
      Here the scaling comes from the training windows alone. By default it is that of
      ``normalization="standard"``, which pre-training gained more from on synthetic
      EEG; with "minmax", test features may fall slightly outside [0, 1].
    * Its flattened size is right for five bands only. Here it follows from the number
      of bands.

    References
    ----------
    .. [scmm] Liu, Q., Ye, W., Zhang, L., & Liang, Z. (2025). EEG-SCMM: Soft
       Contrastive Masked Modeling for Cross-Corpus EEG-Based Emotion Recognition.
       In Proceedings of the 33rd ACM International Conference on Multimedia.
       https://doi.org/10.1145/3746027.3755798, https://arxiv.org/abs/2408.09186
    """

    def __init__(
        self,
        n_outputs=None,
        n_chans=None,
        chs_info=None,
        n_times=None,
        input_window_seconds=None,
        sfreq=None,
        *,
        normalization: str = "standard",
        input_domain: str = "time",
        n_filters: tuple[int, ...] = (32, 64, 128),
        kernel_size: int = 8,
        n_hidden: int = 128,
        drop_prob: float = 0.0,
        activation: type[nn.Module] = nn.ReLU,
    ):
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=chs_info,
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        del n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq

        check_choice("normalization", normalization, _NORMALIZATIONS)
        check_choice("input_domain", input_domain, _INPUT_DOMAINS)
        check_counts("n_filters", n_filters)
        if kernel_size < 1:
            raise ValueError(f"kernel_size must be at least 1, but got {kernel_size}.")

        self.normalization = normalization
        self.input_domain = input_domain
        self.n_filters = n_filters
        self.kernel_size = kernel_size
        self.n_hidden = n_hidden
        self.drop_prob = drop_prob
        self.activation = activation

        self.n_bands = self.n_times if input_domain == "de" else len(BANDS)
        self.differential_entropy = self._make_differential_entropy()
        self.register_buffer("feature_shift", torch.zeros(self.n_chans, self.n_bands))
        self.register_buffer("feature_scale", torch.ones(self.n_chans, self.n_bands))
        widths = (self.n_chans, *n_filters)
        self.blocks = nn.Sequential(
            *(
                _ConvBlock(n_in, n_out, kernel_size, activation)
                for n_in, n_out in pairwise(widths)
            )
        )
        self.n_features = n_filters[-1] * self._output_length()
        self.final_layer = self._make_head()

    def forward(self, x: torch.Tensor, return_features: bool = False):
        """Classify windows, or return their representation.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Signals, or DE with ``n_times = n_bands`` if ``input_domain="de"``.
        return_features : bool, default=False
            Whether to return the representation instead of the logits.

        Returns
        -------
        torch.Tensor, shape (batch, n_outputs), or dict
            Logits; or, with ``return_features``, ``{"features": (batch, n_features),
            "cls_token": None}``.
        """
        features = self.encode(self.extract_features(x))  # (batch, n_features)
        if return_features:
            return {"features": features, "cls_token": None}
        return self.final_layer(features)  # (batch, n_outputs)

    def extract_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scaled DE of windows: what is masked and encoded.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            As in :meth:`forward`.

        Returns
        -------
        torch.Tensor, shape (batch, n_chans, n_bands)
            DE, minus ``feature_shift``, over ``feature_scale``.
        """
        scaled = (self._bands(x) - self.feature_shift) / self.feature_scale
        # The DE of a half-precision signal comes in single precision.
        return scaled.to(self.feature_shift.dtype)

    def encode(self, features: torch.Tensor) -> torch.Tensor:
        """Return the representation of scaled DE.

        Parameters
        ----------
        features : torch.Tensor, shape (batch, n_chans, n_bands)
            As :meth:`extract_features` returns them, masked or not.

        Returns
        -------
        torch.Tensor, shape (batch, n_features)
            The flattened output of the convolution blocks.
        """
        return self.blocks(features).flatten(1)  # (batch, n_features)

    @torch.no_grad()
    def fit_normalization(self, x: torch.Tensor, chunk_size: int = 1024) -> SCMM:
        """Set the scaling from windows, as ``normalization`` says.

        Each channel and band is scaled on its own, as in the authors' code. Fit it on
        training windows alone; the authors' code fits the test file separately, by the
        test file's own values.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            Training windows, as in :meth:`forward`. They may live on another device
            than the model.
        chunk_size : int, default=1024
            Number of windows whose DE is computed at once.

        Returns
        -------
        SCMM
            The model itself.

        Raises
        ------
        ValueError
            If there is no window, or a feature is not finite.
        """
        if len(x) == 0:
            raise ValueError(
                "fit_normalization needs at least one window, but got none."
            )
        # On the CPU, as not every device has double precision.
        total = torch.zeros(self.n_chans, self.n_bands, dtype=torch.float64)
        squares = torch.zeros_like(total)
        low, high = total + torch.inf, total - torch.inf
        for start in range(0, len(x), chunk_size):
            windows = torch.as_tensor(x[start : start + chunk_size])
            features = self._bands(windows.to(self.feature_shift)).cpu().double()
            low = torch.minimum(low, features.amin(dim=0))
            high = torch.maximum(high, features.amax(dim=0))
            total += features.sum(dim=0)
            squares += features.square().sum(dim=0)
        shift, scale = low, high - low
        if not scale.isfinite().all():
            raise ValueError(
                "fit_normalization needs finite features, but the windows give NaN or "
                "infinite ones; drop or repair the windows that hold such samples."
            )
        # What rounding leaves of a constant is relative to its size.
        is_constant = scale <= 1e-6 * torch.maximum(low.abs(), high.abs())
        if self.normalization == "standard":
            shift = total / len(x)
            scale = (squares / len(x) - shift.square()).clamp(min=0).sqrt()
        self.feature_shift.copy_(shift)
        self.feature_scale.copy_(scale.masked_fill(is_constant, 1.0))
        return self

    def _make_head(self) -> nn.Sequential:
        """Return a new classification head."""
        return nn.Sequential(
            nn.Linear(self.n_features, self.n_hidden),
            nn.Sigmoid(),
            nn.Dropout(self.drop_prob),
            nn.Linear(self.n_hidden, self.n_outputs),
        )

    def _make_differential_entropy(self) -> nn.Module:
        """Return what maps the input to DE."""
        if self.input_domain == "de":
            return nn.Identity()
        try:
            sfreq = self.sfreq
        except ValueError as error:
            raise ValueError(
                "input_domain='time' needs sfreq to find the frequency bands, but got "
                "none. Give sfreq, or input_window_seconds and n_times, or choose "
                "input_domain='de' if the input is differential entropy."
            ) from error
        return DifferentialEntropyLayer(self.n_times, sfreq, bands=BANDS)

    def _bands(self, x: torch.Tensor) -> torch.Tensor:
        """Return the DE (batch, n_chans, n_bands), not yet scaled."""
        expected = (self.n_chans, self.n_times)
        if x.ndim != 3 or x.shape[1:] != expected:
            last = "n_bands" if self.input_domain == "de" else "n_times"
            raise ValueError(
                f"With input_domain={self.input_domain!r}, x must be of shape (batch, "
                f"n_chans, {last}) = (batch, {expected[0]}, {expected[1]}), "
                f"but got {tuple(x.shape)}."
            )
        return self.differential_entropy(x)  # (batch, n_chans, n_bands)

    def _output_length(self) -> int:
        """Return the length that the blocks make of ``n_bands``."""
        length = self.n_bands
        for block in self.blocks:
            length = block.output_length(length)
        return length


class _ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, activation and pooling over the bands."""

    def __init__(
        self, n_in: int, n_out: int, kernel_size: int, activation: type[nn.Module]
    ):
        super().__init__(
            nn.Conv1d(
                n_in, n_out, kernel_size, padding=kernel_size // 2, bias=False
            ),  # (batch, n_out, length + 1), or length if kernel_size is odd
            nn.BatchNorm1d(n_out),
            activation(),
            nn.MaxPool1d(2, stride=2, padding=1),  # (batch, n_out, length // 2 + 1)
        )
        self.grows = kernel_size % 2 == 0

    def output_length(self, length: int) -> int:
        """Return the length after this block."""
        return (length + self.grows) // 2 + 1
