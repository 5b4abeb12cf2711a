"""Registers the package's classes with MOABB and braindecode."""

from __future__ import annotations

import braindecode.models.util as braindecode_models
import moabb.datasets
import moabb.paradigms
from moabb.datasets.utils import dataset_dict, dataset_list

from braindecode_emossl.datasets import DEAP, MAHNOB_HCI, SEED, SEED_IV
from braindecode_emossl.models import (
    MEMHACL,
    SCMM,
    MaskedClusterTransformer,
    MoodReader,
)
from braindecode_emossl.paradigms import Emotion

__all__ = ["register"]

DATASETS = (SEED, SEED_IV, DEAP, MAHNOB_HCI)
PARADIGMS = (Emotion,)
MODELS = (MaskedClusterTransformer, MEMHACL, MoodReader, SCMM)


def register():
    """Register the package's classes with MOABB and braindecode under their names.

    Importing the package calls this function; further calls have no effect. Neither
    host has an extension point, so their registries are extended in place. Afterwards
    ``moabb.datasets.SEED``, ``moabb.benchmark``, ``python -m moabb.run``,
    ``EEGClassifier("SCMM")`` and ``MOABBDataset("SEED")`` find the classes.

    Raises
    ------
    ValueError
        If a host already has another class of the same name.
    """
    for cls in DATASETS:
        _add(vars(moabb.datasets), cls, "moabb.datasets")
        _add(dataset_dict, cls, "moabb.datasets.utils.dataset_dict")
        if cls not in dataset_list:
            dataset_list.append(cls)
    dataset_list.sort(key=lambda cls: cls.__name__)  # as MOABB itself orders it
    for cls in PARADIGMS:
        _add(vars(moabb.paradigms), cls, "moabb.paradigms")
    for cls in MODELS:
        _add(braindecode_models.models_dict, cls, "braindecode.models")


def _add(registry: dict, cls: type, where: str) -> None:
    if registry.setdefault(cls.__name__, cls) is not cls:
        raise ValueError(
            f"{where} already has another {cls.__name__}: "
            f"{registry[cls.__name__].__module__}.{cls.__name__}. This version of the "
            "package is not compatible with it; update one of the two."
        )
