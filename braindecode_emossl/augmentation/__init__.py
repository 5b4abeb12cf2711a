"""Maskings and mixings that make the views of self-supervised objectives."""

from __future__ import annotations

from braindecode_emossl.augmentation.masking import sample_hybrid_mask
from braindecode_emossl.augmentation.meiosis import meiosis
from braindecode_emossl.augmentation.patch_masking import sample_patch_mask
from braindecode_emossl.augmentation.span_masking import sample_span_mask
from braindecode_emossl.augmentation.transforms import (
    ChannelMask,
    HybridMask,
    Meiosis,
    ParallelMask,
    PatchMask,
    RandomMask,
    SpanMask,
)

__all__ = [
    "ChannelMask",
    "HybridMask",
    "Meiosis",
    "ParallelMask",
    "PatchMask",
    "RandomMask",
    "SpanMask",
    "meiosis",
    "sample_hybrid_mask",
    "sample_patch_mask",
    "sample_span_mask",
]
