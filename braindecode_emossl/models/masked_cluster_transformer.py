"""MaskedClusterTransformer: convolutional tokens of raw EEG, and a Transformer."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from braindecode.models.base import EEGModuleMixin
from torch import nn

from braindecode_emossl.checks import check_fraction
from braindecode_emossl.models.head import ReplaceableHead

__all__ = ["MaskedClusterTransformer"]

_TOKEN_SECONDS = 0.125


class MaskedClusterTransformer(ReplaceableHead, EEGModuleMixin, nn.Module):
    r"""Masked-prediction Transformer in the style of Hu et al. (2024) [hu]_.

    :bdg-success:`Convolution` :bdg-info:`Attention/Transformer`

    A stack of convolutions turns raw EEG into tokens of about 125 ms, and a
    bidirectional Transformer puts each of them into the context of its window. It is
    meant to be pre-trained without labels, by predicting the clusters of masked tokens:
    :class:`~braindecode_emossl.pretraining.MaskedClusterPretraining`.

    The forward path is, end to end:

    ``(batch, n_chans, n_times)`` → convolutions → ``(batch, n_tokens, n_filters)`` →
    projection → ``(batch, n_tokens, emb_dim)`` → position, Transformer →
    ``(batch, n_tokens, emb_dim)`` → mean over the tokens, layer normalisation →
    ``(batch, emb_dim)`` → ``final_layer`` → ``(batch, n_outputs)``.

    ``n_tokens`` is ``n_times // token_stride``; a window of 8 s at 128 Hz has 64.

    .. rubric:: Step 1 -- Convolutional Tokeniser (``convolutions``)

    A pre-emphasis filter, as in speech recognition, subtracts most of the previous
    sample from each sample, as the fast rhythms of EEG are weak and would be lost among
    the slow ones. Then follow convolutions over time without bias, which see all
    channels; batch normalisation after the first one; ``activation`` after each. They
    are padded so that token ``t`` represents the samples from ``t * token_stride`` on,
    and no window loses a token at its ends.

    .. rubric:: Step 2 -- Projection (``projection``)

    Layer normalisation, linear, dropout: the tokens, which pre-training masks.

    .. rubric:: Step 3 -- Transformer (``position``, ``layers``)

    A grouped convolution over the tokens adds their relative position, then layer
    normalisation and dropout. The layers normalise after each residual sum.

    .. rubric:: Step 4 -- Classification Head (``norm``, ``final_layer``)

    The tokens are averaged and normalised; one linear layer returns logits.
    ``return_features=True`` returns the normalised average instead.

    .. warning::
       Give the signal in microvolts, or standardised by recording. In volts its
       variance is below the epsilon of the normalisation layers. The gain of a
       recording passes through: the model does not standardise single windows.

    Parameters
    ----------
    pre_emphasis : float, default=0.97
        Part of each sample that is subtracted from the next, from 0 to 1. [inferred]
        The value of speech recognition; without it, small models did not learn the
        power of the fast rhythms on the synthetic corpora of this package.
    n_filters : int, default=64
        Number of filters of each convolution. [inferred]
    kernel_sizes : tuple of int, optional
        Length of the kernel of each convolution, in samples of its input and not less
        than the stride. By default 2.5 strides, then one sample more than the stride,
        and at last the stride: 10, 3 and 2 at 128 Hz. [inferred]
    strides : tuple of int, optional
        Stride of each convolution; their product is ``token_stride``. By default
        (s, 2, 2), with the s that brings tokens closest to 125 ms: 4 at 128 Hz, 6 at
        200 Hz and 8 at 250 Hz. [inferred]
    emb_dim : int, default=128
        Size of a token, a multiple of ``n_heads`` and of ``position_groups``.
        [inferred] The sizes are for a computer without a GPU; HuBERT has 768 in its
        base size.
    n_layers : int, default=4
        Number of Transformer layers. [inferred] HuBERT has 12 in its base size.
    n_heads : int, default=4
        Number of attention heads. [inferred] HuBERT has 12.
    dim_feedforward : int, default=256
        Width of the feed-forward part of a layer. [inferred] HuBERT has 3072.
    position_kernel_size : int, default=31
        Number of tokens that the convolution for the position sees, odd. [inferred]
        HuBERT's 128 is longer than a window here.
    position_groups : int, default=16
        Number of groups of that convolution. [inferred] As in HuBERT.
    drop_prob : float, default=0.1
        Dropout of the tokens and in the Transformer. [inferred] As in HuBERT.
    activation : type[nn.Module], default=nn.GELU
        Activation of the convolutions and of the Transformer. [inferred] As in HuBERT.

    Attributes
    ----------
    token_stride : int
        Samples between two tokens.
    n_tokens : int
        Number of tokens of a window.

    Notes
    -----
    Of the paper only the abstract was available, and no code. The abstract gives
    masked prediction of pseudo-labels from clusters, several categories of them, and
    the use of intermediate layers. That is the recipe of HuBERT [hubert]_, from which
    all that is tagged [inferred] comes, made smaller where a window of EEG is shorter
    than one of speech. This is not a reproduction of the paper's results.

    Deviations from HuBERT:

    * Pre-emphasis, and batch normalisation after the first convolution. HuBERT
      normalises each filter over the time of a window, which would remove the power
      of each rhythm: what emotion is read from.
    * The kernel of the position has no weight normalisation, and no layer is left out
      at random.
    * One linear head on the average of the tokens.

    References
    ----------
    .. [hu] Hu, X., Chen, Y., Yan, J., Wu, Y., Ding, L., Xu, J., & Cheng, J. (2024).
       Masked self-supervised pre-training model for EEG-based emotion recognition.
       Computational Intelligence, 40(3). https://doi.org/10.1111/coin.12659
    .. [hubert] Hsu, W.-N., Bolte, B., Tsai, Y.-H. H., Lakhotia, K., Salakhutdinov, R.,
       & Mohamed, A. (2021). HuBERT: Self-supervised speech representation learning by
       masked prediction of hidden units. IEEE/ACM Transactions on Audio, Speech, and
       Language Processing, 29, 3451-3460. https://doi.org/10.1109/TASLP.2021.3122291
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
        pre_emphasis: float = 0.97,
        n_filters: int = 64,
        kernel_sizes: tuple[int, ...] | None = None,
        strides: tuple[int, ...] | None = None,
        emb_dim: int = 128,
        n_layers: int = 4,
        n_heads: int = 4,
        dim_feedforward: int = 256,
        position_kernel_size: int = 31,
        position_groups: int = 16,
        drop_prob: float = 0.1,
        activation: type[nn.Module] = nn.GELU,
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

        if strides is None:
            strides = self._default_strides()
        if kernel_sizes is None:
            kernel_sizes = _default_kernel_sizes(strides)
        _check_convolutions(kernel_sizes, strides)
        check_fraction("pre_emphasis", pre_emphasis)
        for name, value in (
            ("n_filters", n_filters),
            ("n_layers", n_layers),
            ("n_heads", n_heads),
            ("position_groups", position_groups),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but got {value}.")
        for name, value in (("n_heads", n_heads), ("position_groups", position_groups)):
            if emb_dim < 1 or emb_dim % value:
                raise ValueError(
                    f"emb_dim must be a positive multiple of {name}={value}, but got "
                    f"{emb_dim}. Change one of the two."
                )
        if position_kernel_size < 1 or position_kernel_size % 2 == 0:
            raise ValueError(
                "position_kernel_size must be odd and positive, but got "
                f"{position_kernel_size}."
            )

        self.pre_emphasis = pre_emphasis
        self.emb_dim = emb_dim
        self.n_layers = n_layers
        self.token_stride = math.prod(strides)
        self.n_tokens = self.n_times // self.token_stride
        if self.n_tokens < 1:
            raise ValueError(
                f"n_times must be at least one token of {self.token_stride} samples, "
                f"but got {self.n_times}. Use longer windows, or smaller strides."
            )

        widths = (self.n_chans, *[n_filters] * len(strides))
        self.convolutions = nn.Sequential(
            *(
                _ConvBlock(*width, kernel_size, stride, activation, normalize=i == 0)
                for i, (width, kernel_size, stride) in enumerate(
                    zip(pairwise(widths), kernel_sizes, strides, strict=True)
                )
            )
        )
        self.projection = nn.Sequential(
            nn.LayerNorm(n_filters),
            nn.Linear(n_filters, emb_dim),
            nn.Dropout(drop_prob),
        )
        self.position = _RelativePosition(
            emb_dim, position_kernel_size, position_groups, drop_prob, activation
        )
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                emb_dim,
                n_heads,
                dim_feedforward,
                dropout=drop_prob,
                activation=activation(),
                batch_first=True,
            )
            for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(emb_dim)
        self.final_layer = self._make_head()

    def forward(self, x: torch.Tensor, return_features: bool = False):
        """Classify windows, or return their representation.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Signals.
        return_features : bool, default=False
            Whether to return the representation instead of the logits.

        Returns
        -------
        torch.Tensor, shape (batch, n_outputs), or dict
            Logits; or, with ``return_features``, ``{"features": (batch, emb_dim),
            "cls_token": None}``.
        """
        tokens = self.projection(self.extract_features(x))  # (batch, n_tokens, emb_dim)
        hidden = self.encode(tokens)[-1]  # (batch, n_tokens, emb_dim)
        features = self.norm(hidden.mean(dim=1))  # (batch, emb_dim)
        if return_features:
            return {"features": features, "cls_token": None}
        return self.final_layer(features)  # (batch, n_outputs)

    def extract_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the convolutions, one row per token.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Signals.

        Returns
        -------
        torch.Tensor, shape (batch, n_tokens, n_filters)
            What ``projection`` turns into tokens.
        """
        expected = (self.n_chans, self.n_times)
        if x.ndim != 3 or x.shape[1:] != expected:
            raise ValueError(
                "x must be of shape (batch, n_chans, n_times) = (batch, "
                f"{expected[0]}, {expected[1]}), but got {tuple(x.shape)}."
            )
        before = torch.cat([x[..., :1], x[..., :-1]], dim=-1)
        x = x - self.pre_emphasis * before  # (batch, n_chans, n_times)
        return self.convolutions(x).transpose(1, 2)  # (batch, n_tokens, n_filters)

    def encode(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Put tokens, masked or not, into the context of their window.

        Parameters
        ----------
        tokens : torch.Tensor, shape (batch, n_tokens, emb_dim)
            As ``projection`` returns them.

        Returns
        -------
        tuple of torch.Tensor, each of shape (batch, n_tokens, emb_dim)
            The output of every layer of the Transformer, the last one last.
        """
        hidden = [self.position(tokens)]  # (batch, n_tokens, emb_dim)
        for layer in self.layers:
            hidden.append(layer(hidden[-1]))  # (batch, n_tokens, emb_dim)
        return tuple(hidden[1:])

    def _make_head(self) -> nn.Linear:
        """Return a new classification head."""
        return nn.Linear(self.emb_dim, self.n_outputs)

    def _default_strides(self) -> tuple[int, ...]:
        """Return the strides that bring tokens closest to 125 ms."""
        try:
            sfreq = self.sfreq
        except ValueError as error:
            raise ValueError(
                "sfreq must be known to find the strides of tokens of 125 ms, but got "
                "none. Give sfreq, or input_window_seconds and n_times, or strides."
            ) from error
        return (max(1, round(_TOKEN_SECONDS * sfreq / 4)), 2, 2)


class _ConvBlock(nn.Sequential):
    """Padded convolution, normalisation where asked for, activation."""

    def __init__(self, n_in, n_out, kernel_size, stride, activation, normalize):
        # So much padding makes the length exactly n_times // stride.
        n_padded = kernel_size - stride
        super().__init__(
            nn.ConstantPad1d((n_padded // 2, n_padded - n_padded // 2), 0.0),
            nn.Conv1d(n_in, n_out, kernel_size, stride, bias=False),
            nn.BatchNorm1d(n_out) if normalize else nn.Identity(),
            activation(),
        )  # (batch, n_out, n_times // stride)


class _RelativePosition(nn.Module):
    """Add to each token what a convolution sees around it, and normalise."""

    def __init__(self, emb_dim, kernel_size, groups, drop_prob, activation):
        super().__init__()
        self.convolution = nn.Conv1d(
            emb_dim, emb_dim, kernel_size, padding=kernel_size // 2, groups=groups
        )
        self.activation = activation()
        self.norm = nn.LayerNorm(emb_dim)
        self.dropout = nn.Dropout(drop_prob)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map (batch, n_tokens, emb_dim) to the same shape."""
        context = self.convolution(tokens.transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.norm(tokens + self.activation(context)))


def _default_kernel_sizes(strides) -> tuple[int, ...]:
    """Return 2.5 strides, then one sample more than the strides, at last the stride."""
    last = len(strides) - 1
    return tuple(
        math.ceil(2.5 * stride) if i == 0 else stride + (i < last)
        for i, stride in enumerate(strides)
    )


def _check_convolutions(kernel_sizes, strides) -> None:
    """Raise unless every convolution has a kernel at least as long as its stride."""
    if not strides or len(kernel_sizes) != len(strides):
        raise ValueError(
            "kernel_sizes and strides must be of the same length, at least one, but "
            f"got {kernel_sizes} and {strides}."
        )
    for kernel_size, stride in zip(kernel_sizes, strides, strict=True):
        if not 1 <= stride <= kernel_size:
            raise ValueError(
                "strides must be at least 1 and at most the kernel_sizes, but got "
                f"strides={strides} and kernel_sizes={kernel_sizes}."
            )
