"""Pre-training of SCMM: soft contrast and reconstruction of masked windows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from braindecode_emossl.augmentation.masking import sample_hybrid_mask
from braindecode_emossl.checks import check_choice, check_fraction
from braindecode_emossl.losses.automatic_weighted_loss import AutomaticWeightedLoss
from braindecode_emossl.losses.gathering import gather
from braindecode_emossl.losses.soft_contrastive_loss import SoftContrastiveLoss
from braindecode_emossl.models.scmm import SCMM
from braindecode_emossl.pretraining.objective import (
    PretrainingObjective,
    PretrainingOutput,
)

__all__ = ["SCMMPretraining"]

#: Defaults of each preset, for arguments of ``SCMMPretraining`` that are None.
_PRESETS = {
    "default": {
        "temperature": 0.1,
        "normalize": True,
        "scaling": "global",
        "reconstruction_target": "original",
    },
    "official": {
        "temperature": 0.5,
        "normalize": False,
        "scaling": "column",
        "reconstruction_target": "input",
    },
}
_RECONSTRUCTION_TARGETS = ("original", "input")


class SCMMPretraining(PretrainingObjective):
    r"""Soft contrastive masked modelling from Liu et al. (2025) [1]_.

    ``x (batch, n_chans, n_times)`` → ``encoder.extract_features`` → a masked copy →
    views ``(2 * batch, n_chans, n_bands)``, originals first → ``encoder.encode`` →
    ``h (2 * batch, n_features)``, which two tasks share:

    * **contrast**: ``projector`` → ``z (2 * batch, 128)`` →
      :class:`~braindecode_emossl.losses.SoftContrastiveLoss`, whose soft weights come
      from the views themselves;
    * **reconstruction**: every row becomes the average of all *other* rows, weighted by
      the softmax of their similarity to it,
      :math:`h^r_i = \sum_{j \ne i} a_{ij} h_j` → ``decoder`` →
      ``(2 * batch, n_chans, n_bands)`` → mean squared error.

    :class:`~braindecode_emossl.losses.AutomaticWeightedLoss` adds the two.

    Parameters
    ----------
    encoder : SCMM
        The model to pre-train. Its ``final_layer`` gets no gradient.
    preset : {"default", "official"}, default="default"
        Values of the arguments that are None. "default" is what pre-training gained
        most from on synthetic EEG, "official" what the official code does.
    upper_bound : float, default=0.5
        Weight of the closest negative pair. [official code] 0.5 for SEED-IV and DEAP
        to SEED and for SEED to DEAP, 0.75 for SEED to SEED-IV.
    sharpness : float, default=0.05
        How fast the weight of a negative pair falls with its distance. [official code]
        0.05 for SEED-IV and DEAP to SEED, 0.2 for SEED to DEAP, 0.5 for SEED to
        SEED-IV.
    temperature : float, optional
        Temperature of the contrast and of the aggregation. By default 0.1 [inferred];
        0.5 with the official preset [official code], where SEED to DEAP has 0.05.
    metric : {"cosine", "euclidean", "manhattan"}, default="cosine"
        Distance between views. [official code]
    mask_ratio : float, default=0.5
        Expected fraction of masked entries. [official code]
    mask_threshold : float, default=0.1
        Expected fraction of channels that are masked or kept whole; 0 masks single
        features only, 1 whole channels only. [official code]
    n_masked_views : int, default=1
        Masked copies of each window. [official code]
    scaling : {"global", "column"}, optional
        How the distances are scaled to [0, 1]. By default "global", which keeps the
        weights symmetric [inferred]; "column" with the official preset.
    reconstruction_target : {"original", "input"}, optional
        Whether the target of a masked view is its original, the default [paper], or the
        masked view itself, as in the official preset [official code].
    normalize : bool, optional
        Whether to divide the projections by their norm, so that the temperature acts
        on cosines. By default True [inferred]; False with the official preset.

    Attributes
    ----------
    encoder : SCMM
        The model being pre-trained.
    projector : torch.nn.Sequential
        Linear 256, batch normalisation, ReLU, linear 128. [official code]
    decoder : torch.nn.Linear
        From ``n_features`` to ``n_chans * n_bands``. [official code]

    Raises
    ------
    TypeError
        If ``encoder`` is not an :class:`~braindecode_emossl.models.SCMM`.
    ValueError
        If a setting is outside its range.

    Notes
    -----
    The full text of the paper was not available. [official code] means the authors'
    public code, [paper] the paper's figures.

    Without ``normalize``, the similarity of two windows depends on the norms of their
    projections as well as on their patterns, and so on the subject. Subjects also
    differ in the level of each band; ``Emotion(standardize="recording")`` removes these
    levels, by statistics of each recording, the tested one included.

    With ``preset="official"``, both terms, the loss and all gradients are those of the
    official code for the same weights and views. The other peculiarities of that code
    lie outside the loss and are left to the caller:

    * It pre-trains on the first 2,560 windows, shuffled, of the corpus: ``X[:2560]``,
      in batches of 256, by Adam with a learning rate of 5e-4, betas of 0.9 and 0.99 and
      a weight decay of 3e-4.
    * It scales each file by its own extremes, the test file included. An encoder with
      ``normalization="minmax"`` takes those of the training windows; to follow the
      official code, call ``encoder.fit_normalization(X_test)`` before predicting.
    * Its cosine schedule receives the loss as the epoch number, so that the learning
      rate is constant, as without a schedule.
    * Its fine-tuning adds up the gradients of all batches, returns to the weights of
      the best training accuracy after each epoch, and reports the best epoch on the
      test set. None of the three is available here.

    References
    ----------
    .. [1] Liu, Q., Ye, W., Zhang, L., & Liang, Z. (2025). EEG-SCMM: Soft Contrastive
       Masked Modeling for Cross-Corpus EEG-Based Emotion Recognition. In Proceedings
       of the 33rd ACM International Conference on Multimedia.
       https://doi.org/10.1145/3746027.3755798, https://arxiv.org/abs/2408.09186
    """

    model_class = SCMM

    def __init__(
        self,
        encoder: SCMM,
        *,
        preset: str = "default",
        upper_bound: float = 0.5,
        sharpness: float = 0.05,
        temperature: float | None = None,
        metric: str = "cosine",
        mask_ratio: float = 0.5,
        mask_threshold: float = 0.1,
        n_masked_views: int = 1,
        scaling: str | None = None,
        reconstruction_target: str | None = None,
        normalize: bool | None = None,
    ):
        if not isinstance(encoder, SCMM):
            raise TypeError(
                "encoder must be an SCMM model, already built, "
                f"but got {encoder!r:.80}."
            )
        super().__init__(encoder)
        chosen = _fill_in(
            preset,
            temperature=temperature,
            normalize=normalize,
            scaling=scaling,
            reconstruction_target=reconstruction_target,
        )
        check_fraction("mask_ratio", mask_ratio)
        check_fraction("mask_threshold", mask_threshold)
        if n_masked_views < 1:
            raise ValueError(
                f"n_masked_views must be at least 1, but got {n_masked_views}."
            )

        self.mask_ratio = mask_ratio
        self.mask_threshold = mask_threshold
        self.n_masked_views = n_masked_views
        self.reconstruction_target = chosen["reconstruction_target"]
        self.normalize = chosen["normalize"]

        self.projector = nn.Sequential(
            nn.Linear(encoder.n_features, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Linear(256, 128),
        )
        self.decoder = nn.Linear(encoder.n_features, encoder.n_chans * encoder.n_bands)
        self.contrastive_loss = SoftContrastiveLoss(
            upper_bound, sharpness, chosen["temperature"], metric, chosen["scaling"]
        )
        self.total_loss = AutomaticWeightedLoss(2)

    def prepare(self, X, metadata=None) -> None:
        """Fit the scaling of the encoder's features on the training windows.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows, as the encoder receives them.
        metadata : DataFrame, n_windows rows, or None
            Ignored.
        """
        self.encoder.fit_normalization(X)

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
            The loss, and the terms "contrastive" and "reconstruction".
        """
        features = self.encoder.extract_features(x)  # (batch, n_chans, n_bands)
        # (n_masked_views * batch, n_chans, n_bands)
        copies = features.repeat(self.n_masked_views, 1, 1)
        mask = sample_hybrid_mask(
            *copies.shape,
            mask_ratio=self.mask_ratio,
            threshold=self.mask_threshold,
            generator=generator,
            device=copies.device,
        )
        views = torch.cat([features, copies.masked_fill(mask, 0.0)])
        return self.compute_loss(views, n_views=1 + self.n_masked_views)

    def compute_loss(self, views: torch.Tensor, n_views: int = 2) -> PretrainingOutput:
        """Compute the loss of views that are already masked.

        Parameters
        ----------
        views : torch.Tensor, shape (n_views * batch, n_chans, n_bands)
            Scaled DE: the originals of the batch, then their masked copies, in the same
            order.
        n_views : int, default=2
            Number of views of each window, the original included.

        Returns
        -------
        PretrainingOutput
            The loss, and the terms "contrastive" and "reconstruction".

        Raises
        ------
        ValueError
            If there are fewer than two windows.
        """
        if len(views) < 2 * n_views:
            raise ValueError(
                "Contrast needs at least two windows in a batch, but got "
                f"{len(views)} views with n_views={n_views}. Use a larger batch, and "
                "drop the last one if it can hold a single window."
            )
        hidden = self.encoder.encode(views)  # (n_views * batch, n_features)
        projections = self.projector(hidden)  # (n_views * batch, 128)
        if self.normalize:
            projections = F.normalize(projections, dim=1)
        # From here on, the batch is that of all processes.
        views, hidden, projections = (
            gather(rows.unflatten(0, (n_views, -1)), dim=1).flatten(0, 1)
            for rows in (views, hidden, projections)
        )
        contrastive, similarity = self.contrastive_loss(projections, views, n_views)

        reconstructed = self._reconstruct(hidden, similarity)
        target = views
        if self.reconstruction_target == "original":
            # (n_views * batch, n_chans, n_bands)
            target = views[: len(views) // n_views].repeat(n_views, 1, 1)
        reconstruction = F.mse_loss(reconstructed, target)

        return PretrainingOutput(
            loss=self.total_loss(contrastive, reconstruction),
            terms={
                "contrastive": contrastive.detach(),
                "reconstruction": reconstruction.detach(),
            },
        )

    @torch.no_grad()
    def load_official_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Load the weights of the official repository's pre-training module.

        It has the layers of this class: three blocks of convolution and batch
        normalisation, projector, decoder, and the two scales of the losses. [inferred]
        Layers are matched by shape, not by name: entries whose names differ only in
        the last part form a layer, and each layer of this class takes the first unused
        one with tensors of the same shapes. Nothing is changed unless all match.

        The scaling of the features and ``encoder.final_layer`` are not part of the
        official module and stay as they are.

        Parameters
        ----------
        state_dict : mapping of str to torch.Tensor
            All entries in the order of the official module, with or without a common
            prefix such as ``module.``.

        Raises
        ------
        TypeError
            If an entry is not a tensor.
        ValueError
            If a layer of either module has no counterpart. The message names the first
            one.
        """
        official = _group_by_layer(state_dict)
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        for part in ("encoder.blocks", "projector", "decoder", "total_loss"):
            own = self.get_submodule(part).state_dict(prefix=f"{part}.", keep_vars=True)
            for name, tensors in _group_by_layer(own).items():
                shapes = _shapes(tensors)
                match = next(
                    (key for key in official if _shapes(official[key]) == shapes), None
                )
                if match is None:
                    raise ValueError(
                        f"state_dict must hold a layer of the shapes {shapes} for "
                        f"{name}, but the layers left are "
                        f"{ {key: _shapes(official[key]) for key in official} }. Build "
                        "the encoder with the same channels, bands and filters."
                    )
                pairs += zip(tensors, official.pop(match), strict=True)
        if official:
            name, tensors = next(iter(official.items()))
            raise ValueError(
                "state_dict must hold the official pre-training module alone, but "
                f"{name} of the shapes {_shapes(tensors)} has no counterpart; drop it "
                "if it belongs to something else."
            )
        for own_tensor, tensor in pairs:
            own_tensor.copy_(tensor)

    def _reconstruct(
        self, hidden: torch.Tensor, similarity: torch.Tensor
    ) -> torch.Tensor:
        """Decode every row (N, n_chans, n_bands) from the rows similar to it."""
        itself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
        logits = similarity / self.contrastive_loss.temperature  # (N, N)
        attention = logits.masked_fill(itself, -torch.inf).softmax(dim=1)  # (N, N)
        aggregated = attention.to(hidden) @ hidden  # (N, n_features)
        shape = (self.encoder.n_chans, self.encoder.n_bands)
        return self.decoder(aggregated).unflatten(1, shape)  # (N, n_chans, n_bands)


def _fill_in(preset: str, **settings) -> dict:
    """Return the settings, with those of a preset where they are None."""
    check_choice("preset", preset, _PRESETS)
    defaults = _PRESETS[preset]
    chosen = {k: defaults[k] if v is None else v for k, v in settings.items()}
    target = chosen["reconstruction_target"]
    check_choice("reconstruction_target", target, _RECONSTRUCTION_TARGETS)
    return chosen


def _group_by_layer(
    state_dict: Mapping[str, torch.Tensor],
) -> dict[str, list[torch.Tensor]]:
    """Return the tensors of each layer, in their order."""
    layers: dict[str, list[torch.Tensor]] = {}
    for name, tensor in state_dict.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(
                f"state_dict must map names to tensors, but {name!r} is a "
                f"{type(tensor).__name__}; of a checkpoint, pass the part that holds "
                "the weights."
            )
        layers.setdefault(name.rpartition(".")[0], []).append(tensor)
    return layers


def _shapes(tensors: list[torch.Tensor]) -> list[tuple[int, ...]]:
    """Return the shapes of the tensors of a layer."""
    return [tuple(tensor.shape) for tensor in tensors]
