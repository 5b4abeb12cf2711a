"""Files that hold the state of a training: whole or not there, and without pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from braindecode_emossl.errors import CheckpointError

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
        File to write. An older one stays whole until the new one is.
    state : dict
        Tensors, numbers, strings and None in dicts and lists of any depth.

    Raises
    ------
    TypeError
        If the state holds anything else.
    """
    path = Path(path)
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_flatten(state, tensors))
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(save(tensors, {"state": text}))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load_state(path: str | os.PathLike) -> dict[str, Any]:
    """Read what :func:`save_state` wrote.

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
        If the file is no state of a training.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return _restore(json.loads(file.metadata()["state"]), tensors)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} must be the state of a training, written by SSLPretrainer, but "
            f"cannot be read: {error}. Delete it to train from the beginning."
        ) from error


def _flatten(value, tensors: dict[str, torch.Tensor]):
    """Return the value for JSON, and put its tensors aside."""
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
    return value


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
