"""MEMHACL: residual encoders of several modalities, fused by attention."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import nn

from braindecode_emossl.checks import check_choice, check_counts
from braindecode_emossl.losses.precision import at_least_single_precision
from braindecode_emossl.models.head import ReplaceableHead
from braindecode_emossl.models.modalities import MODALITIES, find_modalities

__all__ = ["MEMHACL"]

_NORMALIZATIONS = ("window", "instant", "l2", None)

# Signals whose level matters and which hardly change within a window of one second.
_SLOW = ("gsr", "resp", "temperature")

# Number of filters of each layer of a stack.
_PRESETS = {"default": (8, 16, 32, 64), "paper": (64, 128, 256, 512)}

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
    multi-head attention between their outputs. With EEG alone it is the encoder and
    classifier of SGMC [sgmc]_, on which ME-MHACL builds. It is meant to be pre-trained
    without labels by :class:`~braindecode_emossl.pretraining.MEMHACLPretraining`.

    The forward path is, end to end:

    ``(batch, n_chans, n_times)`` → normalisation → channels by modality, each
    ``(batch, 1, n_rows, n_times)`` → residual stacks → tokens
    ``(batch, n_tokens, n_features)`` → attention and mean → ``(batch, n_features)``
    → ``final_layer`` → ``(batch, n_outputs)``.

    With the defaults ``n_features`` is 64; with ``preset="paper"`` it is 512.

    .. rubric:: Step 1 -- Modalities (``modalities``)

    Channels are grouped by their kind in ``chs_info``: eeg, eog, emg, ecg, gsr,
    resp, temperature, bio and misc; ``channel_types`` chooses among them. Channels of
    one kind are the rows of one image, in their order. Without ``chs_info`` all
    channels are EEG.

    .. rubric:: Step 2 -- Normalisation (``normalize``)

    EEG is scaled window by window, with one factor for all channels, because emotions
    are read from the distribution of power over the head; see ``normalization``. Each
    channel of other fast signals is scaled separately. A channel that does not vary
    stays finite. GSR, respiration and temperature are nearly constant within one
    second, so they are scaled by the mean and the standard deviation of each channel
    over the training set, which :meth:`fit_normalization` measures.

    .. rubric:: Step 3 -- Residual Stacks (``stacks``)

    A ResNet-18 with separable kernels for each modality, or with ``shared_stack`` a
    single one for the rows of all modalities: a stem over time, four layers of two
    blocks with kernels over time or over channels, global average pooling. With
    ``preset="paper"``, 32 channels of 128 samples take the maps 64x32x64 → 64x32x32 →
    64x16x16 → 128x8x8 → 256x8x4 → 512x8x2 → 512.

    .. rubric:: Step 4 -- Attention Fusion (``fusion``)

    Multi-head attention over the tokens of the modalities, residual connection, layer
    normalisation, mean over the tokens. Pre-training leaves it as it is; it learns with
    the labels. A single token passes unchanged.

    .. rubric:: Step 5 -- Classification Head (``final_layer``)

    Linear layers with batch normalisation and ``activation``, dropout before the last.
    It returns logits. ``return_features=True`` returns what it receives instead.

    .. warning::
       Call :meth:`fit_normalization` (pre-training does) if there are GSR, respiration
       or temperature channels, which pass unscaled until then. The level of these
       channels differs more between subjects than within one: with
       ``Emotion(standardize="recording")`` it is relative to the recording.

    Parameters
    ----------
    preset : {"default", "paper"}, default="default"
        Value of ``n_filters`` if this is None. "default" has 0.26 million parameters
        per stack and takes less than a second for an update on 128 windows of 62 x 200
        on one CPU core [inferred]; "paper" is the published size, (64, 128, 256, 512),
        of 16.4 million parameters per stack, for a GPU [official code] of SGMC.
    n_filters : tuple of int, optional
        Number of filters of each of the four layers of a stack; the last is
        ``n_features``. By default (8, 16, 32, 64), an eighth of the published numbers.
        [inferred]
    channel_types : tuple of str, optional
        Types of the channels to use, such as ``("eeg",)``; channels of other types are
        ignored. By default all channels. The paper uses ``("eeg", "gsr", "resp",
        "temperature")``. [paper]
    shared_stack : bool, default=False
        Whether one stack encodes the rows of all modalities as one image, into one
        token, so that nothing is fused. [inferred] The abstract leaves it open.
    normalization : {"window", "instant", "l2", None}, default="window"
        How EEG is scaled. "window": each channel is centred, and all are divided by the
        median of the standard deviations of those that vary [inferred]; "instant": each
        time sample to mean 0 and variance 1 over the EEG channels, at least two
        [official code] of SGMC on DEAP; "l2": each channel to norm 1 over the
        window, which removes its power [official code] of SGMC on SEED. GSR,
        respiration and temperature are scaled by the training set, and each channel of
        other modalities to mean 0 and variance 1 over the window, in all three
        [inferred]. None leaves everything as it is.
    n_heads : int, default=8
        Number of attention heads, which must divide the last of ``n_filters``.
        [inferred]
    n_hidden : tuple of int, optional
        Widths of the hidden layers of ``final_layer``. By default a half and a quarter
        of ``n_features``, (256, 128) in the published size. [official code] of SGMC
    drop_prob : float, default=0.2
        Dropout before the last layer of ``final_layer``. [official code] of SGMC
    activation : type[nn.Module], default=nn.ReLU
        Activation of the stacks and of ``final_layer``. [official code] of SGMC

    Attributes
    ----------
    modalities : dict of str to list of int
        Channels of each modality that is used, in the order of the tokens.
    n_tokens : int
        Number of tokens that are fused: that of the modalities, or 1 with
        ``shared_stack``.
    n_features : int
        Width of the tokens and of the fused representation.

    Notes
    -----
    The full text of the paper was not available, and no public code of it was found.
    The stacks and the classifier have the layers of SGMC's public code in an
    independent implementation, which with ``preset="paper"`` matches its parameter
    counts: 16,431,168 for a stack and 165,508 for a classifier with 4 outputs. The
    default preset has the same layers with an eighth of the filters: 257,864 and 2,772.
    How modalities are encoded and
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
        preset: str = "default",
        n_filters: tuple[int, ...] | None = None,
        channel_types: tuple[str, ...] | None = None,
        shared_stack: bool = False,
        normalization: str | None = "window",
        n_heads: int = 8,
        n_hidden: tuple[int, ...] | None = None,
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

        found = find_modalities(known, self.n_chans)
        self.modalities = _choose_modalities(found, channel_types)
        eeg = self.modalities.get("eeg", [])
        check_choice("preset", preset, _PRESETS)
        if n_filters is None:
            n_filters = _PRESETS[preset]
        check_counts("n_filters", n_filters, length=len(_LAYERS))
        check_choice("normalization", normalization, _NORMALIZATIONS)
        if normalization == "instant" and len(eeg) == 1:
            raise ValueError(
                "normalization='instant' needs at least two EEG channels to compare, "
                "but got one; choose 'window'."
            )
        if n_heads < 1 or n_filters[-1] % n_heads:
            raise ValueError(
                "n_heads must be at least 1 and divide the last of n_filters, "
                f"{n_filters[-1]}, but got {n_heads}."
            )

        self.n_filters = n_filters
        self.channel_types = channel_types
        self.shared_stack = shared_stack
        self.normalization = normalization
        self.n_heads = n_heads
        self.n_features = n_filters[-1]
        if n_hidden is None:
            n_hidden = (self.n_features // 2, self.n_features // 4)
        self.n_hidden = n_hidden
        self.drop_prob = drop_prob
        self.activation = activation
        self.n_tokens = 1 if shared_stack else len(self.modalities)

        order = [row for rows in self.modalities.values() for row in rows]
        slow = [row for name in _SLOW for row in self.modalities.get(name, [])]
        fast = [row for row in order if row not in {*eeg, *slow}]
        for name, rows in (
            ("_order", order),
            ("eeg_rows", eeg),
            ("slow_rows", slow),
            ("fast_rows", fast),
        ):
            index = torch.tensor(rows, dtype=torch.long)
            self.register_buffer(name, index, persistent=False)
        self.register_buffer("slow_mean", torch.zeros(len(slow), 1))
        self.register_buffer("slow_std", torch.ones(len(slow), 1))
        self.stacks = nn.ModuleDict(
            {
                name: _ResidualStack(n_filters, activation)
                for name in (["shared"] if shared_stack else self.modalities)
            }
        )
        self.fusion = (
            _AttentionFusion(self.n_features, n_heads)
            if self.n_tokens > 1
            else nn.Flatten()  # (batch, 1, n_features) to (batch, n_features)
        )
        self.final_layer = self._make_head()

    @property
    def missing_chans(self) -> list[int]:
        """The indices of the channels that may hold NaN, those that are not used."""
        used = {row for rows in self.modalities.values() for row in rows}
        return sorted(set(range(self.n_chans)) - used)

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
        tokens = self.encode(self.normalize(x))  # (batch, n_tokens, n_features)
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
                f"n_chans={self.n_chans}, but got {tuple(x.shape)}."
            )
        if self.normalization is None:
            return x
        # Squares leave the range of half precision.
        wide = at_least_single_precision(x)
        scaled = wide  # (batch, n_chans, n_times)
        if len(self.eeg_rows):
            eeg = self._normalize_eeg(wide[:, self.eeg_rows])
            scaled = scaled.index_copy(1, self.eeg_rows, eeg)
        if len(self.fast_rows):
            fast = _standardize(wide[:, self.fast_rows], dim=2)
            scaled = scaled.index_copy(1, self.fast_rows, fast)
        if len(self.slow_rows):
            slow = (wide[:, self.slow_rows] - self.slow_mean) / self.slow_std
            scaled = scaled.index_copy(1, self.slow_rows, slow.to(scaled.dtype))
        return scaled.to(x.dtype)

    def _normalize_eeg(self, eeg: torch.Tensor) -> torch.Tensor:
        """Scale EEG (batch, n_eeg_chans, n_times)."""
        if self.normalization == "l2":
            return F.normalize(eeg, dim=2)
        if self.normalization == "instant":
            return _standardize(eeg, dim=1)
        centered, variance = _center(eeg, dim=2)
        # Flat channels, such as those that a corpus lacks, do not count.
        deviation = variance.masked_fill(variance == 0, torch.nan).sqrt()
        scale = deviation.nanquantile(0.5, dim=1, keepdim=True)  # (batch, 1, 1)
        return centered / scale.masked_fill(scale.isnan(), 1)

    @torch.no_grad()
    def fit_normalization(self, x: torch.Tensor, chunk_size: int = 1024) -> MEMHACL:
        """Set the scaling of GSR, respiration and temperature by these windows.

        Each of these channels gets mean 0 and variance 1 over all windows.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            Training windows, as in :meth:`forward`. They may live on another device
            than the model.
        chunk_size : int, default=1024
            Number of windows that are measured at once.

        Returns
        -------
        MEMHACL
            The model itself.

        Raises
        ------
        ValueError
            If ``x`` is empty, or one of these channels has NaN or infinite values.
        """
        if len(x) == 0:
            raise ValueError(
                "fit_normalization needs at least one window, but got none."
            )
        if not len(self.slow_rows):
            return self
        rows = self.slow_rows.tolist()
        parts = []
        for start in range(0, len(x), chunk_size):
            chunk = torch.as_tensor(x[start : start + chunk_size][:, rows])
            found = torch.var_mean(chunk.double(), (0, 2), correction=0)
            parts.append(torch.stack([*found, torch.full_like(found[0], len(chunk))]))
        variances, means, sizes = torch.stack(parts).cpu().unbind(1)
        if not means.isfinite().all():
            raise ValueError(
                "fit_normalization needs finite windows, but GSR, respiration or "
                "temperature hold NaN or infinite values; drop or repair the windows "
                "that hold such samples."
            )
        weights = sizes / sizes.sum(dim=0)  # (n_chunks, n_slow)
        mean = (weights * means).sum(dim=0)
        std = (weights * (variances + (means - mean).square())).sum(dim=0).sqrt()
        # What rounding leaves of a constant is relative to its size.
        is_constant = std <= 1e-6 * mean.abs()
        self.slow_mean.copy_(mean[:, None])
        self.slow_std.copy_(std.masked_fill(is_constant, 1.0)[:, None])
        return self

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return one token per modality, or one of all with ``shared_stack``.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Windows as :meth:`normalize` returns them, crossed or not.

        Returns
        -------
        torch.Tensor, shape (batch, n_tokens, n_features)
            Tokens in the order of ``modalities``, not yet fused.
        """
        if self.shared_stack:
            image = x[:, None, self._order]  # (batch, 1, all rows, n_times)
            return self.stacks["shared"](image)[:, None]  # (batch, 1, n_features)
        n_rows = [len(rows) for rows in self.modalities.values()]
        images = x[:, None, self._order].split(n_rows, dim=2)  # (batch, 1, n_rows, T)
        tokens = [
            self.stacks[name](image)
            for name, image in zip(self.modalities, images, strict=True)
        ]  # each (batch, n_features)
        return torch.stack(tokens, dim=1)  # (batch, n_tokens, n_features)

    def _make_head(self) -> nn.Sequential:
        """Return a new classification head."""
        layers = []
        for n_in, n_out in pairwise((self.n_features, *self.n_hidden)):
            layers += [nn.Linear(n_in, n_out), _BatchNorm1d(n_out), self.activation()]
        n_in = (self.n_features, *self.n_hidden)[-1]
        return nn.Sequential(
            *layers, nn.Dropout(self.drop_prob), nn.Linear(n_in, self.n_outputs)
        )


def _choose_modalities(found: dict[str, list[int]], channel_types) -> dict:
    """Return the modalities of these types, in their order."""
    if channel_types is None:
        return found
    if not channel_types or not set(channel_types) <= set(MODALITIES):
        raise ValueError(
            f"channel_types must name types among {MODALITIES}, "
            f"but got {channel_types!r}."
        )
    if missing := [name for name in channel_types if name not in found]:
        raise ValueError(
            f"channel_types must name types of channels that chs_info has, "
            f"{list(found)}, but got {missing}: load all modalities of the corpus "
            "(return_all_modalities=True or --all-modalities), or name other types."
        )
    return {name: rows for name, rows in found.items() if name in channel_types}


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


class _SingleWindow(nn.Module):
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
    centered, variance = _center(x, dim)
    return centered * variance.masked_fill(variance == 0, 1).rsqrt()


def _center(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x with mean 0 along dim, and its variance, both 0 where x is constant."""
    centered = x - x.mean(dim, keepdim=True)
    variance = centered.square().mean(dim, keepdim=True)
    # What rounding leaves of a constant is relative to its size.
    peak = x.detach().abs().amax(dim, keepdim=True)
    constant = variance <= (8 * torch.finfo(x.dtype).eps * peak).square()
    return centered.masked_fill(constant, 0), variance.masked_fill(constant, 0)
