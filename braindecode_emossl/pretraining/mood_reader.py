"""Pre-training of MoodReader: masked modelling of EEG."""

from __future__ import annotations

import torch
from torch import nn

from braindecode_emossl.augmentation.patch_masking import sample_patch_mask
from braindecode_emossl.losses.masked_reconstruction_loss import (
    MaskedReconstructionLoss,
)
from braindecode_emossl.models.mood_reader import (
    MoodReader,
    check_width,
    find_visible,
    make_positions,
    make_transformer,
)
from braindecode_emossl.pretraining.objective import (
    PretrainingObjective,
    PretrainingOutput,
)

__all__ = ["MoodReaderPretraining"]

#: Defaults of each preset, for arguments of ``MoodReaderPretraining`` that are None.
_PRESETS = {
    "default": {"decoder_dim": 128, "n_decoder_layers": 4, "n_decoder_heads": 8},
    "mind-vis": {"decoder_dim": 512, "n_decoder_layers": 8, "n_decoder_heads": 16},
}


class MoodReaderPretraining(PretrainingObjective):
    r"""Masked brain-signal modelling, in the style of Dong et al. (2024) [1]_.

    ``x (batch, n_chans, n_times)`` → ``encoder.extract_patches`` → patches
    ``(batch, n_patches, patch_dim)``, most of which are masked →
    ``encoder.encode_patches`` of the visible ones → a mask token in each masked place →
    a small ``decoder`` → ``(batch, n_patches, patch_dim)`` → mean squared error of the
    masked patches.

    The targets are the patches as the encoder receives them: spectra or, with
    ``patch_domain="signal"``, samples. Only the signal branch of the model is trained;
    eye features are ignored.

    Parameters
    ----------
    encoder : MoodReader
        The model to pre-train.
    preset : {"default", "mind-vis"}, default="default"
        Default sizes of the decoder: width 128, 4 layers and 8 heads, or 512, 8 and 16
        as in MinD-Vis [2]_.
    mask_ratio : float, default=0.75
        Fraction of masked patches: ``round(mask_ratio * n_patches)`` of each window.
        [inferred] A review of the paper mentions about 75 %.
    normalize_targets : bool, default=False
        Whether each target patch is scaled to mean 0 and variance 1. [inferred]
        MinD-Vis does not.
    decoder_dim : int, optional
        Width of the decoder, even and a multiple of ``n_decoder_heads``. [inferred]
    n_decoder_layers : int, optional
        Number of transformer layers of the decoder. [inferred]
    n_decoder_heads : int, optional
        Number of attention heads of the decoder. [inferred]

    Attributes
    ----------
    encoder : MoodReader
        The model being pre-trained.
    n_masked : int
        Number of masked patches of each window.
    decoder : torch.nn.Sequential
        The transformer, with the MLP ratio, dropout and activation of the encoder.

    Raises
    ------
    TypeError
        If ``encoder`` is not a :class:`~braindecode_emossl.models.MoodReader`.
    ValueError
        If a setting is outside its range, or ``mask_ratio`` would mask all patches or
        none.

    Notes
    -----
    The full text of the paper was not available: this is the masked modelling of
    MinD-Vis and DreamDiffusion, which the abstract and a review of the paper match.
    Those train with AdamW (betas 0.9 and 0.95, learning rate 2.5e-4, weight decay 0.05)
    for 500 epochs with batches of 100, of which the first 40 epochs are warm-up.

    :meth:`prepare` fits the scaling of the model on the training windows.

    References
    ----------
    .. [1] Dong, Y., Chen, Y., Shen, Y., Ng, M. K., Qian, T., & Wang, S. (2024).
       Multi-modal Mood Reader: Pre-trained Model Empowers Cross-Subject Emotion
       Recognition. In Neural Computing for Advanced Applications (pp. 178-192).
       https://doi.org/10.1007/978-981-97-7007-6_13, https://arxiv.org/abs/2405.19373
    .. [2] Chen, Z., Qing, J., Xiang, T., Yue, W. L., & Zhou, J. H. (2023). Seeing
       Beyond the Brain: Conditional Diffusion Model with Sparse Masked Modeling for
       Vision Decoding. In CVPR. https://doi.org/10.1109/CVPR52729.2023.02175
    """

    model_class = MoodReader

    def __init__(
        self,
        encoder: MoodReader,
        *,
        preset: str = "default",
        mask_ratio: float = 0.75,
        normalize_targets: bool = False,
        decoder_dim: int | None = None,
        n_decoder_layers: int | None = None,
        n_decoder_heads: int | None = None,
    ):
        if not isinstance(encoder, MoodReader):
            raise TypeError(
                "encoder must be a MoodReader model, already built, but got "
                f"{encoder!r:.80}."
            )
        super().__init__(encoder)
        if preset not in _PRESETS:
            raise ValueError(
                f"preset must be one of {tuple(_PRESETS)}, but got {preset!r}."
            )
        sizes = {
            "decoder_dim": decoder_dim,
            "n_decoder_layers": n_decoder_layers,
            "n_decoder_heads": n_decoder_heads,
        }
        given = {name: size for name, size in sizes.items() if size is not None}
        dim, n_layers, n_heads = {**_PRESETS[preset], **given}.values()
        check_width("decoder_dim", dim, "n_decoder_heads", n_heads)
        self.mask_ratio = mask_ratio
        self.n_masked = int(self.sample_mask(1).sum())
        if not 0 < self.n_masked < encoder.n_patches:
            raise ValueError(
                "mask_ratio must mask at least one of the patches of a window and "
                f"leave one visible, but got mask_ratio={mask_ratio}, which masks "
                f"{self.n_masked} of {encoder.n_patches}. Change it, or use longer "
                "windows or a smaller patch_size."
            )

        self.to_decoder = nn.Linear(encoder.embed_dim, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        positions = make_positions(encoder.n_patches, dim)
        self.register_buffer("positions", positions, persistent=False)
        self.decoder = make_transformer(
            dim,
            n_layers,
            n_heads,
            encoder.mlp_ratio,
            encoder.drop_prob,
            encoder.activation,
        )
        self.to_patch = nn.Linear(dim, encoder.patch_dim)
        self.loss = MaskedReconstructionLoss(normalize_targets)

    def prepare(self, X, metadata=None) -> None:
        """Fit the scaling of the encoder on the training windows.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows, as the encoder receives them.
        metadata : DataFrame, n_windows rows, or None
            Ignored.
        """
        self.encoder.fit_normalization(X)

    def sample_mask(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw which patches are masked.

        Parameters
        ----------
        batch_size : int
            Number of windows.
        generator : torch.Generator, optional
            Source of the masks; torch's global generator by default.

        Returns
        -------
        torch.Tensor of bool, shape (batch_size, n_patches)
            True where a patch is masked, on the device of the encoder.
        """
        return sample_patch_mask(
            batch_size,
            self.encoder.n_patches,
            mask_ratio=self.mask_ratio,
            generator=generator,
            device=self.encoder.eeg_chans.device,
        )

    def forward(
        self, x: torch.Tensor, generator: torch.Generator | None = None
    ) -> PretrainingOutput:
        """Mask a batch and compute the loss.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Windows, as the encoder receives them.
        generator : torch.Generator, optional
            Source of the masks; torch's global generator by default.

        Returns
        -------
        PretrainingOutput
            The loss, and the term "reconstruction", which is the same.
        """
        n_patches = self.encoder.n_patches
        n_visible = n_patches - round(self.mask_ratio * n_patches)
        return self.compute_loss(x, self.sample_mask(len(x), generator), n_visible)

    def compute_loss(
        self, x: torch.Tensor, mask: torch.Tensor, n_visible: int | None = None
    ) -> PretrainingOutput:
        """Compute the loss of windows under a given mask.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Windows, as the encoder receives them.
        mask : torch.Tensor of bool, shape (batch, n_patches)
            True where a patch is masked; the number is the same in each window.
        n_visible : int, optional
            Number of patches of each window that are not masked, if it is known, see
            :meth:`MoodReader.encode_patches`.

        Returns
        -------
        PretrainingOutput
            The loss, and the term "reconstruction", which is the same.

        Raises
        ------
        ValueError
            If the mask has another shape, a different number of masked patches in
            some windows, or masks all patches or none.
        """
        patches = self.encoder.extract_patches(x)  # (batch, n_patches, patch_dim)
        tokens = self.encoder.encode_patches(patches, mask, n_visible)
        loss = self.loss(self._decode(tokens, mask), patches, mask)
        return PretrainingOutput(loss=loss, terms={"reconstruction": loss.detach()})

    def _decode(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Reconstruct (batch, n_patches, patch_dim) from the encoder's tokens."""
        values = self.to_decoder(tokens)  # (batch, n_visible, decoder_dim)
        visible = find_visible(mask, values.shape[1])[..., None]
        patches = self.mask_token.to(values.dtype).expand(*mask.shape, -1)
        patches = patches.scatter(1, visible.expand_as(values), values)
        patches = patches + self.positions
        return self.to_patch(self.decoder(patches))
