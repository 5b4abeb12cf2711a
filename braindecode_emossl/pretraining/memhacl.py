"""Pre-training of MEMHACL: contrast between groups of crossed windows."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from braindecode_emossl.augmentation.meiosis import meiosis
from braindecode_emossl.checks import check_choice, check_counts
from braindecode_emossl.losses.gathering import gather
from braindecode_emossl.losses.group_contrastive_loss import GroupContrastiveLoss
from braindecode_emossl.models.memhacl import MEMHACL
from braindecode_emossl.pretraining.objective import (
    PretrainingObjective,
    PretrainingOutput,
)
from braindecode_emossl.samplers.stimulus_group import StimulusGroupSampler

__all__ = ["MEMHACLPretraining"]

#: Defaults of each preset, for arguments of ``MEMHACLPretraining`` that are None.
_PRESETS: dict[str, dict[str, Any]] = {
    "default": {"meiosis_axis": "time", "meiosis_per_item": True},
    "official": {"meiosis_axis": "channel", "meiosis_per_item": False},
}


class MEMHACLPretraining(PretrainingObjective):
    r"""Group meiosis contrastive learning, in the style of ME-MHACL [1]_ and SGMC [2]_.

    An item is one second of one stimulus, seen by :math:`2Q` subjects.

    ``x (P, 2Q, n_chans, n_times)`` → ``encoder.normalize`` →
    :func:`~braindecode_emossl.augmentation.meiosis` → two groups of crossed windows per
    item, each ``(P, Q, n_chans, n_times)`` → ``encoder.encode`` → concatenated tokens
    of all modalities, ``(2 * P * Q, n_tokens * n_features)`` → ``projector`` → the
    maximum over the ``Q`` windows of a group → ``(P, emb_dim)`` for each of the two
    groups → :class:`~braindecode_emossl.losses.GroupContrastiveLoss`.

    The two groups of an item hold complementary parts of the same windows. As all items
    may come from the same subjects, items differ by their stimulus.

    :class:`~braindecode_emossl.pretraining.SSLPretrainer` forms the items by
    :class:`~braindecode_emossl.samplers.StimulusGroupSampler`, 16 per batch, which
    needs metadata with the columns subject, stimulus and window. In a plain batch of
    windows, ``x (batch, n_chans, n_times)``, each ``2 * group_size`` consecutive
    windows count as an item, and up to ``2 * group_size - 1`` windows at the end are
    not used. The groups of a shuffled batch share no stimulus, which is a pretext task
    without the idea of the paper.

    Parameters
    ----------
    encoder : MEMHACL
        The model to pre-train. Its ``fusion`` and ``final_layer`` get no gradient.
    preset : {"default", "official"}, default="default"
        Values of ``meiosis_axis`` and ``meiosis_per_item`` if these are None: "time"
        and True, or "channel" and False as in SGMC's official code for DEAP.
    group_size : int, default=2
        :math:`Q` of the default sampler and of a plain batch; items have it in their
        shape. [official code] of SGMC
    temperature : float, default=0.1
        Temperature of the contrast. [official code] of SGMC
    projector_widths : tuple of int, optional
        Widths of the layers of ``projector``. By default 2, 4 and 8 times
        ``encoder.n_features``, (1024, 2048, 4096) in the published size. [official
        code] of SGMC
    drop_prob : float, default=0.2
        Dropout after each layer of ``projector`` but the last. [official code] of SGMC
    meiosis_axis : {"time", "channel"}, optional
        Axis along which windows are crossed. "time" is [official code] of SGMC for
        SEED; "channel" is an error of that code for DEAP, where it exchanges electrodes
        between subjects, or, for three of four cuts, nothing.
    meiosis_per_item : bool, optional
        Whether each item has its own pairs and cut [inferred], or the whole batch
        shares them [official code].

    Attributes
    ----------
    encoder : MEMHACL
        The model being pre-trained.
    projector : torch.nn.Sequential
        Linear layers with batch normalisation and dropout, without activation in
        between. [official code] of SGMC

    Raises
    ------
    TypeError
        If ``encoder`` is not a :class:`~braindecode_emossl.models.MEMHACL`.
    ValueError
        If a setting is outside its range.

    Notes
    -----
    The full text of ME-MHACL was not available, and no public code of it was found:
    [official code] is the public code of SGMC. Concatenating the tokens of several
    modalities, and crossing all modalities alike, is [inferred].

    Authors' settings for SGMC: 8 items per batch on DEAP and 16 on SEED, Adam with a
    learning rate of 1e-4 on DEAP and 1e-3 on SEED. [official code]

    ``preset="official"`` with an encoder whose ``normalization`` is "instant" follows
    the official code for DEAP; with ``meiosis_axis="time"`` and "l2" it follows that
    for SEED, except that the groups of the official code are not complementary. The
    dropout of the projector is active in training only; in the official code it is
    active in evaluation too.

    References
    ----------
    .. [1] Guo, Zhang, & Huang (2023). ME-MHACL. https://arxiv.org/abs/2308.01919
    .. [2] Kan et al. (2023). Self-supervised group meiosis contrastive learning
       for EEG-based emotion recognition. Applied Intelligence, 53(22), 27207-27225.
       https://doi.org/10.1007/s10489-023-04971-0
    """

    model_class = MEMHACL
    default_sampler = StimulusGroupSampler
    default_batch_size = 16

    def __init__(
        self,
        encoder: MEMHACL,
        *,
        preset: str = "default",
        group_size: int = 2,
        temperature: float = 0.1,
        projector_widths: tuple[int, ...] | None = None,
        drop_prob: float = 0.2,
        meiosis_axis: str | None = None,
        meiosis_per_item: bool | None = None,
    ):
        if not isinstance(encoder, MEMHACL):
            raise TypeError(
                "encoder must be a MEMHACL model, already built, "
                f"but got {encoder!r:.80}."
            )
        super().__init__(encoder)
        check_choice("preset", preset, _PRESETS)
        if meiosis_axis is None:
            meiosis_axis = _PRESETS[preset]["meiosis_axis"]
        if meiosis_per_item is None:
            meiosis_per_item = _PRESETS[preset]["meiosis_per_item"]
        if meiosis_axis not in ("time", "channel"):
            raise ValueError(
                f"meiosis_axis must be 'time' or 'channel', but got {meiosis_axis!r}."
            )
        if group_size < 1:
            raise ValueError(f"group_size must be at least 1, but got {group_size}.")
        if projector_widths is None:
            projector_widths = tuple(n * encoder.n_features for n in (2, 4, 8))
        check_counts("projector_widths", projector_widths)

        self.group_size = group_size
        self.meiosis_axis = meiosis_axis
        self.meiosis_per_item = meiosis_per_item
        n_inputs = encoder.n_tokens * encoder.n_features
        self.projector = _make_projector((n_inputs, *projector_widths), drop_prob)
        self.contrastive_loss = GroupContrastiveLoss(temperature)

    @property
    def sampler_settings(self) -> dict[str, int]:
        """The number of windows in an item of the default sampler, as its argument."""
        return {"group_size": self.group_size}

    def prepare(self, X, metadata=None) -> None:
        """Fit the scaling of GSR, respiration and temperature on the training windows.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows, as the encoder receives them.
        metadata : DataFrame, n_windows rows, or None
            Ignored.

        Warns
        -----
        UserWarning
            If the windows are known to be longer than one second.
        """
        seconds = _find_seconds(self.encoder)
        if seconds > 1:
            warnings.warn(
                f"ME-MHACL contrasts windows of 1 s, but got windows of {seconds:g} s: "
                "use Emotion(window=1.0), or --window 1 in the shell.",
                stacklevel=2,
            )
        self.encoder.fit_normalization(X)

    def forward(
        self, x: torch.Tensor, generator: torch.Generator | None = None
    ) -> PretrainingOutput:
        """Cross the windows of a batch and compute the loss.

        Parameters
        ----------
        x : torch.Tensor, shape (n_items, 2 * group_size, n_chans, n_times)
            Windows of each item, as the encoder receives them; or a plain batch of
            windows, shape (batch, n_chans, n_times).
        generator : torch.Generator, optional
            Source of the pairs and cuts; torch's global generator by default.

        Returns
        -------
        PretrainingOutput
            The loss, and the term "contrastive", which is the same.

        Raises
        ------
        ValueError
            If the windows do not make at least two items.
        """
        shape = tuple(x.shape)
        if x.ndim == 3:
            n_windows = 2 * self.group_size
            n_items = len(x) // n_windows
            # (n_items, 2 * group_size, n_chans, n_times)
            x = x[: n_items * n_windows].unflatten(0, (n_items, n_windows))
        if x.ndim != 4 or len(x) < 2:
            raise ValueError(
                "x must hold at least two items, (n_items, 2 * group_size, n_chans, "
                f"n_times), or at least {4 * self.group_size} windows, (batch, "
                f"n_chans, n_times), but got the shape {shape}. Use a larger batch, "
                "and drop the last one if it can be too small."
            )
        normalized = self.encoder.normalize(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        groups = meiosis(
            normalized,
            axis=self.meiosis_axis,
            per_item=self.meiosis_per_item,
            generator=generator,
        )  # (2, n_items, group_size, n_chans, n_times)
        return self.compute_loss(groups)

    def compute_loss(self, groups: torch.Tensor) -> PretrainingOutput:
        """Compute the loss of windows that are already crossed.

        Parameters
        ----------
        groups : torch.Tensor, shape (2, n_items, group_size, n_chans, n_times)
            Two groups of crossed windows of each item, scaled by ``encoder.normalize``
            before crossing.

        Returns
        -------
        PretrainingOutput
            The loss, and the term "contrastive", which is the same.
        """
        # The contrast is with the items of all processes.
        loss = self.contrastive_loss(*gather(self._embed(groups), dim=1))
        return PretrainingOutput(loss=loss, terms={"contrastive": loss.detach()})

    def _embed(self, groups: torch.Tensor) -> torch.Tensor:
        """Return (2, n_items, emb_dim) of (2, n_items, group_size, n_chans, n_times).

        All windows pass at once, so that both groups share the batch statistics.
        """
        tokens = self.encoder.encode(groups.flatten(0, 2))
        embeddings = self.projector(tokens.flatten(1))  # (n_windows, emb_dim)
        # (2, n_items, group_size, emb_dim), the largest over the group
        return embeddings.unflatten(0, groups.shape[:3]).amax(dim=2)


def _find_seconds(encoder: MEMHACL) -> float:
    """Return the length of the windows, 0 if the encoder does not know their rate."""
    try:
        return encoder.input_window_seconds
    except ValueError:
        return 0.0


def _make_projector(widths: tuple[int, ...], drop_prob: float) -> nn.Sequential:
    """Return linear layers of these widths, with dropout between them."""
    *hidden, last = pairwise(widths)
    layers = []
    for n_in, n_out in hidden:
        layers += [
            nn.Linear(n_in, n_out),
            nn.BatchNorm1d(n_out),
            nn.Dropout(drop_prob),
        ]
    return nn.Sequential(*layers, nn.Linear(*last))
