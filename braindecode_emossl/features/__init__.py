"""Features of emotional EEG, one definition for numpy and for torch.

From the signal of a trial to what a classifier is given: :func:`differential_entropy`
and :func:`band_power`, smoothing over the windows of a trial, asymmetry of electrode
pairs, scaling by subject, and a cache on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from braindecode_emossl.features.asymmetry import (
    FRONTAL_POSTERIOR_PAIRS,
    LEFT_RIGHT_PAIRS,
    asm,
    dasm,
    dcau,
    find_pairs,
    rasm,
)
from braindecode_emossl.features.band_power import band_power
from braindecode_emossl.features.bands import BANDS
from braindecode_emossl.features.cache import FeatureCache
from braindecode_emossl.features.differential_entropy import differential_entropy
from braindecode_emossl.features.epochs import differential_entropy_epochs
from braindecode_emossl.features.scalers import (
    SubjectScaler,
    TransductiveSubjectScaler,
)
from braindecode_emossl.features.smoothing import lds_smooth, moving_average
from braindecode_emossl.features.transformers import BandPower, DifferentialEntropy

if TYPE_CHECKING:
    from braindecode_emossl.features.layers import DifferentialEntropyLayer

__all__ = [
    "BANDS",
    "FRONTAL_POSTERIOR_PAIRS",
    "LEFT_RIGHT_PAIRS",
    "BandPower",
    "DifferentialEntropy",
    "DifferentialEntropyLayer",
    "FeatureCache",
    "SubjectScaler",
    "TransductiveSubjectScaler",
    "asm",
    "band_power",
    "dasm",
    "dcau",
    "differential_entropy",
    "differential_entropy_epochs",
    "find_pairs",
    "lds_smooth",
    "moving_average",
    "rasm",
]


def __getattr__(name: str):
    """Import the layer on first use, as it is the only part that needs torch."""
    if name == "DifferentialEntropyLayer":
        from braindecode_emossl.features.layers import DifferentialEntropyLayer

        return DifferentialEntropyLayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
