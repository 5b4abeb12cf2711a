"""Pre-trained models from a checkpoint of this package or of braindecode."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

from braindecode_emossl.errors import CheckpointError
from braindecode_emossl.pretraining.checkpoints import (
    find_checkpoint,
    limit_parameters,
    load_body,
    load_encoder,
    load_model,
)
from braindecode_emossl.pretraining.model_factory import (
    check_template,
    find_model_class,
)

__all__ = ["load_pretrained"]


def load_pretrained(source, model=None, settings: dict[str, Any] | None = None):
    """Return a model with pre-trained weights.

    Parameters
    ----------
    source : path or str
        Folder that :func:`~braindecode_emossl.pretraining.save_checkpoint` wrote, or
        folder or Hugging Face Hub repository that ``from_pretrained`` of ``model``
        reads.
    model : str, type, torch.nn.Module or None
        The model. A checkpoint of this package names its own, which ``model`` must
        agree with unless it is None. A module is copied, and keeps its head.
    settings : dict of str to object
        Arguments of the model that differ from the configuration of the checkpoint.
        None if the model is a module.

    Returns
    -------
    torch.nn.Module
        The model. Its head is new if the checkpoint is of this package, whose
        ``provenance`` it has.

    Raises
    ------
    CheckpointError
        If nothing can be read, or it is of another model.
    ValueError
        If the checkpoint does not name its model and ``model`` is None, or ``model`` is
        a module and there are ``settings``.
    """
    settings = settings or {}
    if isinstance(model, nn.Module):
        check_template(model, settings)
        model = copy.deepcopy(model)
    folder = find_checkpoint(source)
    if folder.is_dir() and not _is_of_braindecode(folder):
        if isinstance(model, nn.Module):
            load_encoder(folder, model)
            return model
        return load_model(folder, model, settings)
    if isinstance(source, Path) and not folder.is_dir():
        raise CheckpointError(
            f"There is no checkpoint in {folder}, as this is not a folder."
        )
    if model is None:
        raise ValueError(
            f"model must name the class of the weights in {source}, as they are not a "
            "checkpoint of this package, which says so itself, but got None."
        )
    model_class = find_model_class(model)
    if not hasattr(model_class, "from_pretrained"):
        raise ValueError(
            f"{model_class.__name__} has no from_pretrained to read {source} with."
        )
    try:
        with limit_parameters(*_count_weights(folder)):
            loaded = model_class.from_pretrained(source, **settings)
    except Exception as error:
        where = "" if folder.is_dir() else f"There is no folder {folder}. "
        raise CheckpointError(
            f"{where}{model_class.__name__}.from_pretrained cannot read {source}: "
            f"{error}"
        ) from error
    if not isinstance(model, nn.Module):
        return loaded
    load_body(model, loaded.state_dict(), source)
    model.provenance = None  # of these weights nothing is known
    return model


def _is_of_braindecode(folder: Path) -> bool:
    """Return whether a folder has a config.json without the entry of this package."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError, RecursionError):
        return False  # named by the reader of our checkpoints
    return isinstance(config, dict) and "emossl" not in config


def _count_weights(folder: Path) -> tuple[float, float]:
    """Return how many tensors and numbers a model of a folder may have."""
    file = folder / "model.safetensors"
    if not file.is_file():
        return math.inf, math.inf
    with safe_open(file, framework="pt") as weights:
        names = list(weights.keys())
        sizes = [math.prod(weights.get_slice(name).get_shape()) for name in names]
    # A new head, and weights that the file leaves out, may be added.
    return 2 * len(names) + 100, 2 * sum(sizes) + 10_000_000
