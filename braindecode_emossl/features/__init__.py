"""Features of emotional EEG: differential entropy, for numpy and for torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from braindecode_emossl.features.bands import BANDS
from braindecode_emossl.features.differential_entropy import (
    DifferentialEntropy,
    differential_entropy,
)

if TYPE_CHECKING:
    from braindecode_emossl.features.layers import DifferentialEntropyLayer

__all__ = [
    "BANDS",
    "DifferentialEntropy",
    "DifferentialEntropyLayer",
    "differential_entropy",
]


def __getattr__(name: str):
    """Import the layer on first use, as it is the only part that needs torch."""
    if name == "DifferentialEntropyLayer":
        from braindecode_emossl.features.layers import DifferentialEntropyLayer

        return DifferentialEntropyLayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
