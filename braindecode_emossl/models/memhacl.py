"""MEMHACL: residual encoders of several modalities, fused by attention."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import nn

from braindecode_emossl.models.head import ReplaceableHead
from braindecode_emossl.models.modalities import find_modalities

__all__ = ["MEMHACL"]

_NORMALIZATIONS = ("window", "instant", "l2", None)

# The four layers of a stack, each of two blocks, each of two convolutions: (kernel,
# stride), both over (channels, time).
_LAYERS = (
    (
        (((1, 15), (1, 2)), ((15, 1), (2, 1))),
        (((1, 15), (1, 1)), ((15, 1), (1, 1))),
    ),
    (
        (((1, 11), (1, 2)), ((11, 1), (2, 1))),
        (((1, 11), (1, 1)), ((11, 1), (1, 1))),
    ),
    (
        (((1, 7), (1, 2)), ((3, 1), (1, 1))),
        (((7, 1), (1, 1)), ((3, 1), (1, 1))),
    ),
    (
        (((1, 3), (1, 2)), ((5, 5), (1, 1))),
        (((1, 3), (1, 1)), ((5, 5), (1, 1))),
    ),
)


class MEMHACL(ReplaceableHead, EEGModuleMixin, nn.Module):
    r"""Multimodal encoder in the style of ME-MHACL, Guo et al. (2023) [memhacl]_.

    :bdg-success:`Convolution` :bdg-info:`Attention/Transformer`

    One residual network per modality (EEG, GSR, respiration, temperature, ...), and
    multi-head attention between what they find. With EEG alone it is the encoder and
    classifier of SGMC [sgmc]_, on which ME-MHACL builds. It is meant to be pre-trained
    without labels by :class:`~braindecode_emossl.pretraining.MEMHACLPretraining`.

    The forward path is, end to end:

    ``(batch, n_chans, n_times)`` → normalisation → channels by modality, each
    ``(batch, 1, n_rows, n_times)`` → residual stacks → tokens
    ``(batch, n_modalities, n_features)`` → attention and mean → ``(batch, n_features)``
    → ``final_layer`` → ``(batch, n_outputs)``.

    With the defaults ``n_features`` is 512.

    .. rubric:: Step 1 -- Modalities (``modalities``)

    Channels are told apart by their kind in ``chs_info``: eeg, eog, emg, ecg, gsr,
    resp, temperature, bio and misc. Channels of one kind are the rows of one image, in
    their order. Without ``chs_info`` all channels are EEG.

    .. rubric:: Step 2 -- Normalisation (``normalize``)

    Every window is scaled by itself, so that microvolts and ohms can stand in one
    array; see ``normalization``. A channel that does not vary stays finite.

    .. rubric:: Step 3 -- Residual Stacks (``stacks``)

    A ResNet-18 with separable kernels for each modality, or one for all of them in turn
    with ``shared_stack``: a stem over time, four layers of two blocks with kernels over
    time or over channels, global average pooling. 32 channels of 128 samples take the
    maps 64x32x64 → 64x32x32 → 64x16x16 → 128x8x8 → 256x8x4 → 512x8x2 → 512.

    .. rubric:: Step 4 -- Attention Fusion (``fusion``)

    Multi-head attention over the tokens of the modalities, residual connection, layer
    normalisation, mean over the tokens. Pre-training leaves it as it is; it learns with
    the labels. A single modality passes unchanged.

    .. rubric:: Step 5 -- Classification Head (``final_layer``)

    Linear layers with batch normalisation and ``activation``, dropout before the last.
    It returns logits. ``return_features=True`` returns what it receives instead.

    .. warning::
       Within one window, slow signals such as temperature are little but a level,
       which ``normalization="window"`` removes. To keep it, z-score them over the trial
       beforehand, and the EEG as you wish, and set ``normalization=None``.

    Parameters
    ----------
    n_filters : tuple of int, default=(64, 128, 256, 512)
        Number of filters of each of the four layers of a stack; the last is
        ``n_features``. [official code] of SGMC
    shared_stack : bool, default=False
        Whether one stack serves all modalities, with the same weights. [inferred] The
        abstract leaves it open.
    normalization : {"window", "instant", "l2", None}, default="window"
        How EEG is scaled. "window": each channel to mean 0 and variance 1 over the
        window [inferred]; "instant": each time sample to mean 0 and variance 1 over the
        EEG channels, of which there must be two [official code] of SGMC on DEAP; "l2":
        each channel to norm 1 over the window [official code] of SGMC on SEED. The
        other modalities are scaled as with "window" in all three [inferred]. None
        leaves everything as it is.
    n_heads : int, default=8
        Number of attention heads, which must divide the last of ``n_filters``.
        [inferred]
    n_hidden : tuple of int, default=(256, 128)
        Widths of the hidden layers of ``final_layer``. [official code] of SGMC
    drop_prob : float, default=0.2
        Dropout before the last layer of ``final_layer``. [official code] of SGMC
    activation : type[nn.Module], default=nn.ReLU
        Activation of the stacks and of ``final_layer``. [official code] of SGMC

    Attributes
    ----------
    modalities : dict of str to list of int
        Channels of each modality, in the order of the tokens.
    n_features : int
        Width of the tokens and of the fused representation.

    Notes
    -----
    The full text of the paper was not available, and no public code of it was found.
    The stacks and the classifier have the layers of SGMC's public code in an
    independent implementation, which matches its parameter counts: 16,431,168 for a
    stack and 165,508 for a classifier with 4 outputs. How modalities are encoded and
    fused is [inferred] from the abstract of ME-MHACL.

    Deviations from the official code of SGMC:

    * It normalises the windows in the preparation of the data, and on DEAP leaves zeros
      out of the mean and the deviation. Here the model normalises, with all values.
    * It subtracts the mean of the seconds before the video from every window of DEAP,
      which is left to the preparation of the data here.
    * Its classifier has four outputs whatever the number of classes.

    References
    ----------
    .. [memhacl] Guo, Zhang, & Huang (2023). ME-MHACL. https://arxiv.org/abs/2308.01919
    .. [sgmc] Kan et al. (2023). Self-supervised group meiosis contrastive learning
       for EEG-based emotion recognition. Applied Intelligence, 53(22), 27207-27225.
       https://doi.org/10.1007/s10489-023-04971-0
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
        n_filters: tuple[int, ...] = (64, 128, 256, 512),
        shared_stack: bool = False,
        normalization: str | None = "window",
        n_heads: int = 8,
        n_hidden: tuple[int, ...] = (256, 128),
        drop_prob: float = 0.2,
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
        known = None if chs_info is None else self.chs_info
        del n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq

        self.modalities = find_modalities(known, self.n_chans)
        eeg = self.modalities.get("eeg", [])
        if len(n_filters) != len(_LAYERS) or min(n_filters) < 1:
            raise ValueError(
                "n_filters must hold four positive numbers of filters, "
                f"got {n_filters}."
            )
        if normalization not in _NORMALIZATIONS:
            raise ValueError(
                f"normalization must be one of {_NORMALIZATIONS}, "
                f"got {normalization!r}."
            )
        if normalization == "instant" and len(eeg) == 1:
            raise ValueError(
                "normalization='instant' needs at least two EEG channels to compare, "
                "got one; choose 'window'."
            )
        if n_heads < 1 or n_filters[-1] % n_heads:
            raise ValueError(
                "n_heads must be at least 1 and divide the last of n_filters, "
                f"{n_filters[-1]}, got {n_heads}."
            )

        self.n_filters = n_filters
        self.shared_stack = shared_stack
        self.normalization = normalization
        self.n_heads = n_heads
        self.n_hidden = n_hidden
        self.drop_prob = drop_prob
        self.activation = activation
        self.n_features = n_filters[-1]

        order = [row for rows in self.modalities.values() for row in rows]
        self.register_buffer("_order", torch.tensor(order), persistent=False)
        self.register_buffer(
            "_eeg", torch.tensor(eeg, dtype=torch.long), persistent=False
        )
        self.stacks = nn.ModuleDict(
            {
                name: _ResidualStack(n_filters, activation)
                for name in (["shared"] if shared_stack else self.modalities)
            }
        )
        self.fusion = (
            _AttentionFusion(self.n_features, n_heads)
            if len(self.modalities) > 1
            else nn.Flatten()  # (batch, 1, n_features) to (batch, n_features)
        )
        self.final_layer = self._make_head()

    def forward(self, x: torch.Tensor, return_features: bool = False):
        """Classify windows, or return their representation.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Windows of all modalities, each in its unit.
        return_features : bool, default=False
            Whether to return the representation instead of the logits.

        Returns
        -------
        torch.Tensor, shape (batch, n_outputs), or dict
            Logits; or, with ``return_features``, ``{"features": (batch, n_features),
            "cls_token": None}``.
        """
        tokens = self.encode(self.normalize(x))  # (batch, n_modalities, n_features)
        features = self.fusion(tokens)  # (batch, n_features)
        if return_features:
            return {"features": features, "cls_token": None}
        return self.final_layer(features)  # (batch, n_outputs)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scaled windows: what is crossed in pre-training and encoded.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            As in :meth:`forward`.

        Returns
        -------
        torch.Tensor, shape (batch, n_chans, n_times)
            Scaled as ``normalization`` says, in the dtype of ``x``.

        Raises
        ------
        ValueError
            If ``x`` is not of that shape.
        """
        if x.ndim != 3 or x.shape[1] != self.n_chans:
            raise ValueError(
                "x must be of shape (batch, n_chans, n_times) with "
                f"n_chans={self.n_chans}, got {tuple(x.shape)}."
            )
        if self.normalization is None:
            return x
        # Squares leave the range of half precision.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scaled = _standardize(wide, dim=2)  # (batch, n_chans, n_times)
        if self.normalization != "window":
            eeg = wide[:, self._eeg]  # (batch, n_eeg_chans, n_times)
            eeg = (
                _standardize(eeg, dim=1)
                if self.normalization == "instant"
                else F.normalize(eeg, dim=2)
            )
            scaled = scaled.index_copy(1, self._eeg, eeg)
        return scaled.to(x.dtype)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return one token per modality.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Windows as :meth:`normalize` returns them, crossed or not.

        Returns
        -------
        torch.Tensor, shape (batch, n_modalities, n_features)
            Tokens in the order of ``modalities``, not yet fused.
        """
        n_rows = [len(rows) for rows in self.modalities.values()]
        images = x[:, None, self._order].split(n_rows, dim=2)  # (batch, 1, n_rows, T)
        tokens = [
            self.stacks["shared" if self.shared_stack else name](image)
            for name, image in zip(self.modalities, images, strict=True)
        ]  # each (batch, n_features)
        return torch.stack(tokens, dim=1)  # (batch, n_modalities, n_features)

    def _make_head(self) -> nn.Sequential:
        """Return a new classification head."""
        layers = []
        for n_in, n_out in pairwise((self.n_features, *self.n_hidden)):
            layers += [nn.Linear(n_in, n_out), _BatchNorm1d(n_out), self.activation()]
        n_in = (self.n_features, *self.n_hidden)[-1]
        return nn.Sequential(
            *layers, nn.Dropout(self.drop_prob), nn.Linear(n_in, self.n_outputs)
        )


class _ResidualStack(nn.Sequential):
    """A ResNet-18 with separable kernels: (batch, 1, n_rows, n_times) to features."""

    def __init__(self, n_filters: tuple[int, ...], activation: type[nn.Module]):
        widths = (n_filters[0], *n_filters)
        super().__init__(
            _conv(1, n_filters[0], (1, 9), (1, 2)),  # (batch, filters, n_rows, T / 2)
            _BatchNorm2d(n_filters[0]),
            activation(),
            nn.MaxPool2d((1, 3), (1, 2), (0, 1)),  # (batch, filters, n_rows, T / 4)
            *(
                nn.Sequential(
                    _ResidualBlock(n_in, n_out, first, activation),
                    _ResidualBlock(n_out, n_out, second, activation),
                )
                for (n_in, n_out), (first, second) in zip(
                    pairwise(widths), _LAYERS, strict=True
                )
            ),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),  # (batch, n_filters[-1])
        )


class _ResidualBlock(nn.Module):
    """Two convolutions with batch normalisation, and a shortcut around them."""

    def __init__(
        self, n_in: int, n_out: int, convolutions: tuple, activation: type[nn.Module]
    ):
        super().__init__()
        first, second = convolutions
        self.body = nn.Sequential(
            _conv(n_in, n_out, *first),
            _BatchNorm2d(n_out),
            activation(),
            _conv(n_out, n_out, *second),
            _BatchNorm2d(n_out),
        )
        strides = zip(first[1], second[1], strict=True)
        stride = tuple(before * after for before, after in strides)
        self.shortcut = (
            nn.Identity()
            if stride == (1, 1)
            else nn.Sequential(_conv(n_in, n_out, (1, 1), stride), _BatchNorm2d(n_out))
        )
        self.activation = activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.body(x) + self.shortcut(x))


class _AttentionFusion(nn.Module):
    """Attention between tokens (batch, n_tokens, width), then their mean."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.norm(tokens + attended).mean(dim=1)  # (batch, width)


class _SingleWindow:
    """Mixin of batch normalisation: a batch of one gets the running statistics."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or len(x) > 1:
            return super().forward(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class _BatchNorm1d(_SingleWindow, nn.BatchNorm1d):
    """Batch normalisation of (batch, n_features)."""


class _BatchNorm2d(_SingleWindow, nn.BatchNorm2d):
    """Batch normalisation of (batch, n_filters, n_rows, n_times)."""


def _conv(
    n_in: int, n_out: int, kernel: tuple[int, int], stride: tuple[int, int]
) -> nn.Conv2d:
    """Return a convolution that keeps the size, but for its stride."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    conv = nn.Conv2d(n_in, n_out, kernel, stride, padding, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _standardize(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Return x with mean 0 and variance 1 along dim, or 0 where x is constant."""
    centered = x - x.mean(dim, keepdim=True)
    variance = centered.square().mean(dim, keepdim=True)
    # What rounding leaves of a constant is relative to its size.
    peak = x.detach().abs().amax(dim, keepdim=True)
    constant = variance <= (8 * torch.finfo(x.dtype).eps * peak).square()
    return centered * variance.masked_fill(constant, 1).rsqrt().masked_fill(constant, 0)
