"""Registers the package's classes with MOABB and braindecode."""

from __future__ import annotations

import inspect

import braindecode.models.util as braindecode_models
import moabb.datasets
import moabb.paradigms
from moabb.datasets.base import BaseDataset
from moabb.datasets.utils import dataset_dict, dataset_list
from moabb.paradigms.base import BaseParadigm
from torch import nn

from braindecode_emossl import datasets, models, paradigms

__all__ = ["register"]


def _exported(package, base: type) -> tuple[type, ...]:
    """Return the concrete subclasses of ``base`` in the ``__all__`` of a package."""
    found = [getattr(package, name) for name in package.__all__]
    classes = [cls for cls in found if isinstance(cls, type) and issubclass(cls, base)]
    return tuple(cls for cls in classes if not inspect.isabstract(cls))


DATASETS = _exported(datasets, BaseDataset)
PARADIGMS = _exported(paradigms, BaseParadigm)
MODELS = _exported(models, nn.Module)


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
