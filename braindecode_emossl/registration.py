"""The one place that touches the registries of MOABB and braindecode."""

from __future__ import annotations

import braindecode.models.util as braindecode_models
import moabb.datasets
import moabb.datasets.utils
import moabb.paradigms

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
    """Make the package's classes known to MOABB and braindecode by their names.

    Importing the package calls this; calling it again changes nothing. Neither host
    has an extension point, so their registries are filled in place: afterwards
    ``moabb.datasets.SEED``, ``moabb.benchmark``, ``python -m moabb.run``,
    ``EEGClassifier("SCMM")`` and ``MOABBDataset("SEED")`` find them.

    Raises
    ------
    ValueError
        If a host has another class of the same name, which is never replaced.
    """
    for cls in DATASETS:
        _add(vars(moabb.datasets), cls, "moabb.datasets")
    # Rebuilds MOABB's lists in place from what its module now holds.
    moabb.datasets.utils._init_dataset()
    for cls in PARADIGMS:
        _add(vars(moabb.paradigms), cls, "moabb.paradigms")
    for cls in MODELS:
        _add(braindecode_models.models_dict, cls, "braindecode.models")


def _add(registry: dict, cls: type, where: str) -> None:
    if registry.setdefault(cls.__name__, cls) is not cls:
        raise ValueError(
            f"{where} already has another {cls.__name__}: "
            f"{registry[cls.__name__].__module__}.{cls.__name__}. This version of the "
            "package does not fit it; update one of the two."
        )
