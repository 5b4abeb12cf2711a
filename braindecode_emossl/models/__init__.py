"""Models: encoders with a classification head, one module per model."""

from __future__ import annotations

from braindecode_emossl.models.scmm import SCMM

__all__ = ["SCMM"]
