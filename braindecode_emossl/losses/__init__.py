"""Losses of the self-supervised objectives, one module per file."""

from __future__ import annotations

from braindecode_emossl.losses.automatic_weighted_loss import AutomaticWeightedLoss
from braindecode_emossl.losses.group_contrastive_loss import GroupContrastiveLoss
from braindecode_emossl.losses.masked_prediction_loss import MaskedPredictionLoss
from braindecode_emossl.losses.masked_reconstruction_loss import (
    MaskedReconstructionLoss,
)
from braindecode_emossl.losses.soft_contrastive_loss import SoftContrastiveLoss

__all__ = [
    "AutomaticWeightedLoss",
    "GroupContrastiveLoss",
    "MaskedPredictionLoss",
    "MaskedReconstructionLoss",
    "SoftContrastiveLoss",
]
