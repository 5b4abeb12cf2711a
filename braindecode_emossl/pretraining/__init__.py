"""Objectives, the trainer that fits them and a classifier that uses both."""

from braindecode_emossl.errors import LeakageError
from braindecode_emossl.pretraining.checkpoints import (
    load_checkpoint,
    load_encoder,
    save_checkpoint,
)
from braindecode_emossl.pretraining.classifier import SSLClassifier
from braindecode_emossl.pretraining.clustering import ClusterReport
from braindecode_emossl.pretraining.distributed import DistributedPretrainer
from braindecode_emossl.pretraining.hub import push_to_hub
from braindecode_emossl.pretraining.masked_cluster import MaskedClusterPretraining
from braindecode_emossl.pretraining.memhacl import MEMHACLPretraining
from braindecode_emossl.pretraining.mood_reader import MoodReaderPretraining
from braindecode_emossl.pretraining.objective import (
    PretrainingObjective,
    PretrainingOutput,
)
from braindecode_emossl.pretraining.pretrainer import SSLPretrainer
from braindecode_emossl.pretraining.provenance import check_leakage
from braindecode_emossl.pretraining.scmm import SCMMPretraining

__all__ = [
    "ClusterReport",
    "DistributedPretrainer",
    "LeakageError",
    "MEMHACLPretraining",
    "MaskedClusterPretraining",
    "MoodReaderPretraining",
    "PretrainingObjective",
    "PretrainingOutput",
    "SCMMPretraining",
    "SSLClassifier",
    "SSLPretrainer",
    "check_leakage",
    "load_checkpoint",
    "load_encoder",
    "push_to_hub",
    "save_checkpoint",
]
