"""Emotion corpora for MOABB; their users hold the files, nothing is downloaded."""

from braindecode_emossl.datasets.base import EmotionDataset
from braindecode_emossl.datasets.deap import DEAP
from braindecode_emossl.datasets.mahnob_hci import MAHNOB_HCI
from braindecode_emossl.datasets.replicas import write_replica
from braindecode_emossl.datasets.seed import SEED
from braindecode_emossl.datasets.seed_iv import SEED_IV

__all__ = ["DEAP", "MAHNOB_HCI", "SEED", "SEED_IV", "EmotionDataset", "write_replica"]
