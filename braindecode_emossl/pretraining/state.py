"""Files that hold the state of a training, complete or absent, without pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from braindecode_emossl.errors import CheckpointError
from braindecode_emossl.storage import UNSEALED, is_sealed, seal, write_file

__all__ = ["load_state", "save_state"]

# Stands for a tensor in the JSON text, with the tensor's name.
_TENSOR = "__tensor__"
# Stands for a mapping whose keys are numbers, which JSON would make strings.
_ITEMS = "__items__"


def save_state(path: str | os.PathLike, state: dict[str, Any]) -> None:
    """Write a state to a file, which is replaced in one step.

    Parameters
    ----------
    path : path-like
        File to write. An older one stays until the new one is complete.
    state : dict
        Tensors, numbers (also those of NumPy), strings and None, in dicts and lists of
        any depth.

    Raises
    ------
    TypeError
        If the state holds anything else.
    OSError
        If the file cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_flatten(state, tensors))
    data = seal(save(tensors, {"state": text, "seal": UNSEALED}))
    write_file(path, lambda scratch: scratch.write_bytes(data))


def load_state(path: str | os.PathLike) -> dict[str, Any]:
    """Read a file written by :func:`save_state`.

    Parameters
    ----------
    path : path-like
        File to read.

    Returns
    -------
    dict
        The state; tensors are on the CPU.

    Raises
    ------
    CheckpointError
        If the file is not the state of a training, or is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state = _restore(json.loads(file.metadata()["state"]), tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as the state of a training, written by "
            f"SSLPretrainer: {error}. Delete it to train from the beginning."
        ) from error
    if not is_sealed(Path(path).read_bytes()):
        raise CheckpointError(
            f"{path} is damaged: its contents are not those that were written. Delete "
            "it to train from the beginning."
        )
    return state


def _flatten(value, tensors: dict[str, torch.Tensor]):
    """Return the value for JSON, and collect its tensors."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # A copy: tensors that share memory cannot be written.
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {_TENSOR: name}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _flatten(item, tensors) for key, item in value.items()}
        items = [[key, _flatten(item, tensors)] for key, item in value.items()]
        return {_ITEMS: items}
    if isinstance(value, (list, tuple)):
        return [_flatten(item, tensors) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _restore(value, tensors: dict[str, torch.Tensor]):
    """Undo :func:`_flatten`; a tuple has become a list."""
    if isinstance(value, list):
        return [_restore(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _ITEMS in value:
        return {key: _restore(item, tensors) for key, item in value[_ITEMS]}
    return {key: _restore(item, tensors) for key, item in value.items()}
