"""Objectives, the trainer that fits them and a classifier that uses both."""

from braindecode_emossl.pretraining.classifier import SSLClassifier
from braindecode_emossl.pretraining.clustering import ClusterReport
from braindecode_emossl.pretraining.masked_cluster import MaskedClusterPretraining
from braindecode_emossl.pretraining.memhacl import MEMHACLPretraining
from braindecode_emossl.pretraining.mood_reader import MoodReaderPretraining
from braindecode_emossl.pretraining.objective import (
    PretrainingObjective,
    PretrainingOutput,
)
from braindecode_emossl.pretraining.pretrainer import SSLPretrainer
from braindecode_emossl.pretraining.scmm import SCMMPretraining

__all__ = [
    "ClusterReport",
    "MEMHACLPretraining",
    "MaskedClusterPretraining",
    "MoodReaderPretraining",
    "PretrainingObjective",
    "PretrainingOutput",
    "SCMMPretraining",
    "SSLClassifier",
    "SSLPretrainer",
]
