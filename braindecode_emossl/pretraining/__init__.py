"""Objectives, the trainer that fits them and a classifier that uses both."""

from braindecode_emossl.pretraining.classifier import SSLClassifier
from braindecode_emossl.pretraining.objective import (
    PretrainingObjective,
    PretrainingOutput,
)
from braindecode_emossl.pretraining.pretrainer import SSLPretrainer
from braindecode_emossl.pretraining.scmm import SCMMPretraining

__all__ = [
    "PretrainingObjective",
    "PretrainingOutput",
    "SCMMPretraining",
    "SSLClassifier",
    "SSLPretrainer",
]
