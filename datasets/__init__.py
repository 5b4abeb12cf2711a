"""Emotion corpora for MOABB; their users hold the files, nothing is downloaded."""

from braindecode_emossl.datasets.base import EmotionDataset
from braindecode_emossl.datasets.deap import DEAP
from braindecode_emossl.datasets.replicas import write_replica
from braindecode_emossl.datasets.seed import SEED

__all__ = ["DEAP", "SEED", "EmotionDataset", "write_replica"]
