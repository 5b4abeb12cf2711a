"""Which objective pre-trains which model."""

from __future__ import annotations

from braindecode_emossl.pretraining.masked_cluster import MaskedClusterPretraining
from braindecode_emossl.pretraining.memhacl import MEMHACLPretraining
from braindecode_emossl.pretraining.mood_reader import MoodReaderPretraining
from braindecode_emossl.pretraining.scmm import SCMMPretraining

__all__ = ["OBJECTIVES"]

# Objective of each model, by the model's name in braindecode.
OBJECTIVES = {
    "MaskedClusterTransformer": MaskedClusterPretraining,
    "MEMHACL": MEMHACLPretraining,
    "MoodReader": MoodReaderPretraining,
    "SCMM": SCMMPretraining,
}
