"""Pre-training of MoodReader: masked modelling of EEG and eye features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from braindecode_emossl.augmentation.patch_masking import sample_patch_mask
from braindecode_emossl.checks import check_choice, is_number
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
from braindecode_emossl.pretraining.recording_scaler import (
    RecordingScaler,
    spread_recordings,
)
from braindecode_emossl.pretraining.windows import number_recordings

__all__ = ["Masks", "MoodReaderPretraining"]

#: Defaults of each preset, for arguments of ``MoodReaderPretraining`` that are None.
_PRESETS = {
    "default": {"decoder_dim": 64, "n_decoder_layers": 2, "n_decoder_heads": 4},
    "mind-vis": {"decoder_dim": 512, "n_decoder_layers": 8, "n_decoder_heads": 16},
}
_NORMALIZATIONS = ("recording", "patch", None)
# Windows of each recording that it is measured on, at most.
_WINDOWS_OF_RECORDING = 256
# Least standard deviation within a recording, as a part of that over the training set.
# What varies less may be no more than rounding.
_LEAST_SCALE = 0.1


class Masks(NamedTuple):
    """What is masked of a batch, True where it is.

    Attributes
    ----------
    patches : torch.Tensor of bool, shape (batch, n_patches)
        Patches of the signal, equally many in each window.
    entropy : torch.Tensor of bool, shape (batch, n_steps, n_eeg_chans)
        DE of a step and channel.
    eye : torch.Tensor of bool, shape (batch, n_steps, n_eye_chans)
        Eye features of a step.
    """

    patches: torch.Tensor
    entropy: torch.Tensor
    eye: torch.Tensor


class MoodReaderPretraining(PretrainingObjective):
    r"""Masked brain-signal modelling, in the style of Dong et al. (2024) [1]_.

    Three inputs are masked and reconstructed, so that training reaches every weight
    that the features of the model come from:

    * ``encoder.extract_patches`` → ``(batch, n_patches, patch_dim)``, most of which are
      masked → ``encoder.encode_patches`` of the visible ones → a mask token in each
      masked place → a small ``decoder`` → ``(batch, n_patches, patch_dim)``;
    * ``encoder.extract_entropy`` → the DE ``(batch, n_steps, n_eeg_chans, n_bands)``,
      where a mask token replaces a part of the steps and channels;
    * ``encoder.extract_eye`` → ``(batch, n_steps, n_eye_chans)``, of which a part is
      missing, in all steps of a window as the values of a corpus last several seconds;

    the tokens of the visible patches, the remaining DE and the remaining eye features →
    ``encoder.fuse`` → the representation ``(batch, n_features)`` → a linear layer for
    the DE, and another one for the eye features. The loss is

    .. math::

        L = L_\text{patches} + w_\text{entropy} L_\text{entropy}
            + w_\text{eye} L_\text{eye},

    where each part is the mean squared error of the masked values; MultiMAE [3]_ adds
    the losses of its modalities likewise. Eye data that are missing, NaN, count as
    masked but are not reconstructed.

    Most of the variance of these inputs is that between subjects, and features that
    reconstruct it identify the subject. The targets are therefore standardised within
    each recording, and the inputs of a window are moved towards the mean and standard
    deviation of a recording that is drawn at random, as between domains in MixStyle
    [4]_. Without metadata that name the recordings, neither is done.

    Parameters
    ----------
    encoder : MoodReader
        The model to pre-train.
    preset : {"default", "mind-vis"}, default="default"
        Default sizes of the decoder: width 64, 2 layers and 4 heads, or 512, 8 and 16
        as in MinD-Vis [2]_.
    mask_ratio : float, default=0.75
        Fraction of masked patches: ``round(mask_ratio * n_patches)`` of each window.
        [inferred] A review of the paper mentions about 75 %.
    feature_mask_ratio : float, default=0.5
        Fraction of masked DE tokens and of masked eye features of each window. At least
        one of each is masked, and one is visible if there are several. [inferred]
    entropy_weight : float, default=1.0
        Weight of the reconstruction of the DE. [inferred] Equal weights, as in
        MultiMAE.
    eye_weight : float, default=1.0
        Weight of the reconstruction of the eye features. [inferred] As
        ``entropy_weight``.
    normalize_targets : {"recording", "patch"} or None, default="recording"
        How the targets, which are the scaled inputs of the encoder, are standardised.
        "recording": each value within its recording. "patch": each patch of the signal
        separately. None: not at all, as in MinD-Vis. [inferred]
    recording_mixing : float, default=1.5
        Largest share of the way towards a training recording, drawn at random, by which
        the inputs of a training window are moved. Shares are uniform from 0. 0 moves
        none. [inferred]
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
    to_entropy, to_eye : torch.nn.Linear
        Reconstruct from the representation; ``to_eye`` exists only if the encoder has
        eye features.
    scalers : torch.nn.ModuleDict
        Means and standard deviations of "patches", "entropy" and "eye" in each
        recording.

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

    :meth:`prepare` fits the scaling of the model on the training windows, and measures
    their recordings. Values that vary within a recording by less than a tenth of their
    standard deviation over the training set are divided by that tenth. Validation
    recordings are not measured: their targets are the scaled inputs, so that
    ``valid_loss`` and ``train_loss`` cannot be compared. In the domain "signal" the
    zeros that fill the last patch count as signal; choose a ``patch_size`` that divides
    the window.

    References
    ----------
    .. [1] Dong, Y., Chen, Y., Shen, Y., Ng, M. K., Qian, T., & Wang, S. (2024).
       Multi-modal Mood Reader: Pre-trained Model Empowers Cross-Subject Emotion
       Recognition. In Neural Computing for Advanced Applications (pp. 178-192).
       https://doi.org/10.1007/978-981-97-7007-6_13, https://arxiv.org/abs/2405.19373
    .. [2] Chen, Z., Qing, J., Xiang, T., Yue, W. L., & Zhou, J. H. (2023). Seeing
       Beyond the Brain: Conditional Diffusion Model with Sparse Masked Modeling for
       Vision Decoding. In CVPR. https://doi.org/10.1109/CVPR52729.2023.02175
    .. [3] Bachmann, R., Mizrahi, D., Atanov, A., & Zamir, A. (2022). MultiMAE:
       Multi-modal Multi-task Masked Autoencoders. In ECCV.
       https://doi.org/10.1007/978-3-031-19836-6_20
    .. [4] Zhou, K., Yang, Y., Qiao, Y., & Xiang, T. (2021). Domain Generalization with
       MixStyle. In ICLR. https://openreview.net/forum?id=6xHJ37MVxxp
    """

    model_class = MoodReader

    def __init__(
        self,
        encoder: MoodReader,
        *,
        preset: str = "default",
        mask_ratio: float = 0.75,
        feature_mask_ratio: float = 0.5,
        entropy_weight: float = 1.0,
        eye_weight: float = 1.0,
        normalize_targets: str | None = "recording",
        recording_mixing: float = 1.5,
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
        check_choice("preset", preset, _PRESETS)
        sizes = {
            "decoder_dim": decoder_dim,
            "n_decoder_layers": n_decoder_layers,
            "n_decoder_heads": n_decoder_heads,
        }
        given = {name: size for name, size in sizes.items() if size is not None}
        dim, n_layers, n_heads = {**_PRESETS[preset], **given}.values()
        check_width("decoder_dim", dim, "n_decoder_heads", n_heads)
        if not 0 < feature_mask_ratio < 1:
            raise ValueError(
                "feature_mask_ratio must be in the interval (0, 1), but got "
                f"{feature_mask_ratio}."
            )
        for name, number in (
            ("entropy_weight", entropy_weight),
            ("eye_weight", eye_weight),
            ("recording_mixing", recording_mixing),
        ):
            if not (is_number(number) and number >= 0):
                raise ValueError(
                    f"{name} must be a finite number of at least 0, but got {number!r}."
                )
        check_choice("normalize_targets", normalize_targets, _NORMALIZATIONS)
        self.mask_ratio = mask_ratio
        self.feature_mask_ratio = feature_mask_ratio
        self.entropy_weight = entropy_weight
        self.eye_weight = eye_weight
        self.normalize_targets = normalize_targets
        self.recording_mixing = recording_mixing
        self.n_masked = int(self.sample_masks(1).patches.sum())
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
        self.entropy_token = nn.Parameter(torch.empty(encoder.feature_dim))
        nn.init.trunc_normal_(self.entropy_token, std=0.02)
        n_entropies = encoder.n_steps * encoder.entropy_scaler.mean.numel()
        self.to_entropy = nn.Linear(encoder.n_features, n_entropies)
        if encoder.n_eye_chans:
            n_eye_values = encoder.n_steps * encoder.n_eye_chans
            self.to_eye = nn.Linear(encoder.n_features, n_eye_values)
        shapes = {
            "patches": (encoder.patch_dim,),
            "entropy": encoder.entropy_scaler.mean.shape,
            "eye": (encoder.n_eye_chans,),
        }
        self.scalers = nn.ModuleDict(
            {
                name: RecordingScaler(*shape, least_scale=_LEAST_SCALE)
                for name, shape in shapes.items()
            }
        )
        self.loss = MaskedReconstructionLoss(normalize_targets == "patch")
        self.feature_loss = MaskedReconstructionLoss()

    def prepare(self, X, metadata=None) -> None:
        """Fit the scaling of the encoder, and measure the recordings.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows, as the encoder receives them.
        metadata : DataFrame, n_windows rows, or None
            Rows with ``corpus``, ``subject`` and ``session``, where known.
        """
        self.encoder.fit_normalization(X)
        self.on_resume(X, metadata)

    @torch.no_grad()
    def on_resume(self, X, metadata=None) -> None:
        """Compute the mean and standard deviation of each recording.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows.
        metadata : DataFrame, n_windows rows, or None
            As in :meth:`prepare`.
        """
        recordings = number_recordings(metadata)
        if recordings is None:
            return
        measured: dict[str, list] = {name: [] for name in self.scalers}
        for rows in spread_recordings(recordings, _WINDOWS_OF_RECORDING):
            windows = torch.as_tensor(X[rows]).to(self.mask_token)
            for name, values in self._extract(windows).items():
                measured[name].append(self.scalers[name].measure(values))
        for name, scaler in self.scalers.items():
            scaler.fit_recordings(measured[name])

    def _extract(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the scaled inputs of the three branches, by name."""
        model = self.encoder
        return {
            "patches": model.extract_patches(x),  # (batch, n_patches, patch_dim)
            "entropy": model.extract_entropy(x),  # (batch, n_steps, n_eeg_chans, ...)
            "eye": model.extract_eye(x),  # (batch, n_steps, n_eye_chans)
        }

    def sample_masks(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> Masks:
        """Draw which patches, DE and eye features are masked.

        Parameters
        ----------
        batch_size : int
            Number of windows.
        generator : torch.Generator, optional
            Source of the masks; torch's global generator by default.

        Returns
        -------
        Masks
            Equally many patches, DE tokens and eye features in each window, on the
            device of the encoder. An eye feature is masked in all steps or in none.
        """
        model = self.encoder

        def draw(n: int, mask_ratio: float) -> torch.Tensor:
            return sample_patch_mask(
                batch_size,
                n,
                mask_ratio=mask_ratio,
                generator=generator,
                device=model.eeg_chans.device,
            )

        patches = draw(model.n_patches, self.mask_ratio)
        grid = model.n_steps, model.n_eeg_chans
        n_tokens = model.n_steps * model.n_eeg_chans
        entropy = draw(n_tokens, _round_ratio(self.feature_mask_ratio, n_tokens))
        n_eye = model.n_eye_chans
        eye = draw(n_eye, _round_ratio(self.feature_mask_ratio, n_eye))
        eye = eye[:, None].expand(-1, model.n_steps, -1)
        return Masks(patches, entropy.unflatten(1, grid), eye)

    def forward(
        self,
        x: torch.Tensor,
        generator: torch.Generator | None = None,
        recordings: torch.Tensor | None = None,
    ) -> PretrainingOutput:
        """Mask a batch and compute the loss.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Windows, as the encoder receives them.
        generator : torch.Generator, optional
            Source of the masks and moves; torch's global generator by default.
        recordings : torch.Tensor of int, shape (batch,), or None
            Number of the recording of each window, by its first appearance in the
            metadata of :meth:`prepare`; -1 for any other. None: they are not known.

        Returns
        -------
        PretrainingOutput
            The loss and its terms, see :meth:`compute_loss`.
        """
        n_patches = self.encoder.n_patches
        return self.compute_loss(
            x,
            *self.sample_masks(len(x), generator),
            n_visible=n_patches - round(self.mask_ratio * n_patches),
            recordings=recordings,
            moves=self._draw_moves(recordings, generator),
        )

    def _draw_moves(self, recordings, generator) -> tuple | None:
        """Draw the recordings to move windows to, and how far, or return None."""
        n_recordings = self.scalers["entropy"].n_recordings
        moves = self.training and self.recording_mixing and n_recordings
        if recordings is None or not moves:
            return None
        device, shape = recordings.device, recordings.shape
        # A generator draws only on its own device.
        drawn_on = device if generator is None else generator.device
        where = {"generator": generator, "device": drawn_on}
        others = torch.randint(n_recordings, shape, **where).to(device)
        shares = torch.rand(shape, **where).to(device)
        return others, self.recording_mixing * shares

    def compute_loss(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        entropy_mask: torch.Tensor,
        eye_mask: torch.Tensor,
        n_visible: int | None = None,
        recordings: torch.Tensor | None = None,
        moves: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> PretrainingOutput:
        """Compute the loss of windows under given masks.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Windows, as the encoder receives them.
        mask : torch.Tensor of bool, shape (batch, n_patches)
            True where a patch is masked; the number is the same in each window.
        entropy_mask : torch.Tensor of bool, shape (batch, n_steps, n_eeg_chans)
            True where the DE is masked.
        eye_mask : torch.Tensor of bool, shape (batch, n_steps, n_eye_chans)
            True where an eye feature is masked.
        n_visible : int, optional
            Number of patches of each window that are not masked, if it is known, see
            :meth:`MoodReader.encode_patches`.
        recordings : torch.Tensor of int, shape (batch,), or None
            As in :meth:`forward`.
        moves : tuple of two torch.Tensor, shape (batch,), or None
            Recording towards which each window is moved, and by which share of the way;
            by default none is. Needs ``recordings``.

        Returns
        -------
        PretrainingOutput
            The loss, and the terms "patches", "entropy" and, if the encoder has eye
            features, "eye".

        Raises
        ------
        ValueError
            If the mask of patches has another shape, a different number of masked
            patches in some windows, or masks all patches.
        """
        model = self.encoder
        targets = inputs = self._extract(x)
        if self.normalize_targets == "recording":
            targets = {
                name: self.scalers[name](values, recordings)
                for name, values in inputs.items()
            }
        if moves is not None:
            inputs = {
                name: self.scalers[name].move(values, recordings, *moves)
                for name, values in inputs.items()
            }
        tokens = model.encode_patches(inputs["patches"], mask, n_visible)
        features = model.fuse(
            tokens,
            inputs["entropy"],
            inputs["eye"].masked_fill(eye_mask, torch.nan),
            entropy_mask,
            self.entropy_token,
        )  # (batch, n_features)
        entropy = targets["entropy"]
        terms = {
            "patches": self.loss(self._decode(tokens, mask), targets["patches"], mask),
            "entropy": self.feature_loss(
                self.to_entropy(features).view_as(entropy), entropy, entropy_mask
            ),
        }
        loss = terms["patches"] + self.entropy_weight * terms["entropy"]
        if model.n_eye_chans:
            terms["eye"] = self._compare_eye(features, targets["eye"], eye_mask)
            loss = loss + self.eye_weight * terms["eye"]
        return PretrainingOutput(loss, {k: term.detach() for k, term in terms.items()})

    def _compare_eye(self, features, eye, mask) -> torch.Tensor:
        """Return the error of the masked eye features that are not missing."""
        known = ~eye.isnan()
        target = eye.masked_fill(~known, 0.0)
        found = self.to_eye(features).view_as(eye)
        # Each value is a patch of its own.
        return self.feature_loss(found[..., None], target[..., None], mask & known)

    def _decode(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Reconstruct (batch, n_patches, patch_dim) from the encoder's tokens."""
        values = self.to_decoder(tokens)  # (batch, n_visible, decoder_dim)
        visible = find_visible(mask, values.shape[1])[..., None]
        patches = self.mask_token.to(values.dtype).expand(*mask.shape, -1)
        patches = patches.scatter(1, visible.expand_as(values), values)
        patches = patches + self.positions
        return self.to_patch(self.decoder(patches))


def _round_ratio(ratio: float, n: int) -> float:
    """Return the nearest ratio that masks at least one of n, and not all of several."""
    n_masked = min(max(1, round(ratio * n)), max(1, n - 1))
    return n_masked / max(1, n)
