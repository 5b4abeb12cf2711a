"""Losses of the self-supervised objectives, one module per file."""

from __future__ import annotations

from braindecode_emossl.losses.automatic_weighted_loss import AutomaticWeightedLoss
from braindecode_emossl.losses.soft_contrastive_loss import SoftContrastiveLoss

__all__ = ["AutomaticWeightedLoss", "SoftContrastiveLoss"]
