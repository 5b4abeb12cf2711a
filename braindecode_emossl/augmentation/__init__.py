"""Maskings and mixings that make the views of self-supervised objectives."""

from __future__ import annotations

from braindecode_emossl.augmentation.masking import sample_hybrid_mask

__all__ = ["sample_hybrid_mask"]
