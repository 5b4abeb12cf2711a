"""Models: encoders with a classification head, one module per model."""

from __future__ import annotations

from braindecode_emossl.models.masked_cluster_transformer import (
    MaskedClusterTransformer,
)
from braindecode_emossl.models.memhacl import MEMHACL
from braindecode_emossl.models.mood_reader import MoodReader
from braindecode_emossl.models.scmm import SCMM

__all__ = ["MEMHACL", "SCMM", "MaskedClusterTransformer", "MoodReader"]
