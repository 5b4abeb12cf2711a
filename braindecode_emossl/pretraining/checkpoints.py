"""Checkpoints: a pre-trained objective as a folder that braindecode can read too."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from braindecode.models.base import EEGModuleMixin
from braindecode.models.util import models_dict
from safetensors import SafetensorError
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from braindecode_emossl.errors import CheckpointError
from braindecode_emossl.hosts import get_init_arguments
from braindecode_emossl.pretraining.model_card import make_model_card
from braindecode_emossl.pretraining.model_factory import (
    check_arguments,
    find_model_class,
)
from braindecode_emossl.pretraining.objective import PretrainingObjective
from braindecode_emossl.pretraining.provenance import settle_provenance, to_plain
from braindecode_emossl.pretraining.registry import OBJECTIVES
from braindecode_emossl.pretraining.signal_identity import read_model_signal
from braindecode_emossl.storage import find_folder, hash_bytes, write_folder

__all__ = [
    "check_replaceable",
    "find_checkpoint",
    "find_fault",
    "load_body",
    "load_checkpoint",
    "load_encoder",
    "load_model",
    "save_checkpoint",
]

_FORMAT = 1
_CONFIG, _CARD = "config.json", "README.md"
# The first is what braindecode's from_pretrained reads.
_ENCODER, _OBJECTIVE = "model.safetensors", "objective.safetensors"
FILES = {_CONFIG, _CARD, _ENCODER, _OBJECTIVE}
# Entries of "emossl" in config.json.
_ENTRIES = {
    "format": int,
    "model": str,
    "objective": str,
    "settings": dict,
    "provenance": dict,
    "sha256": dict,
    "versions": dict,
}
_HEAD = "final_layer."
# Samples of a window; no shape of a weight bounds their number.
_MAX_TIMES = 10_000_000
# Arguments of a model that fine-tuning may change, apart from those of the signal.
_FREE = {"n_outputs", "n_hidden", "drop_prob", "head_drop_prob"}
_SIGNAL = {"n_chans", "chs_info", "n_times", "input_window_seconds", "sfreq"}


def save_checkpoint(path, objective: PretrainingObjective, provenance=None) -> None:
    """Write a pre-trained objective and its training data's provenance to a folder.

    The folder holds ``config.json``, the weights of the encoder in
    ``model.safetensors``, all other state in ``objective.safetensors`` and a model card
    in ``README.md``. braindecode's ``from_pretrained`` reads the encoder from it. It is
    written as a whole or not at all; an older checkpoint stays until then.

    Parameters
    ----------
    path : path
        Folder to write; an older checkpoint there is replaced.
    objective : PretrainingObjective
        The trained objective, such as ``module_`` of a pre-trainer. Loading rebuilds it
        from its ``settings``, so attributes that were set later are lost.
    provenance : mapping or None
        Its training data, ``{"corpora": {"SEED": {"subjects": [1, 2], "sessions":
        ["0"]}}}``, and any other entries that JSON can hold. None: unknown. The
        provenance of the checkpoint that the encoder came from is added.

    Raises
    ------
    CheckpointError
        If the objective could not be loaded again, the provenance is not of that form,
        or the folder holds other files.
    """
    path = Path(path).expanduser().resolve()
    objective = _unwrap(objective)
    config = _make_config(objective, provenance, path)
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in objective.state_dict().items()
    }
    encoder = _take_encoder(state)
    rest = {k: v for k, v in state.items() if not k.startswith("encoder.")}
    weights = {
        name: safetensors.torch.save(tensors, metadata={"format": "pt"})
        for name, tensors in ((_ENCODER, encoder), (_OBJECTIVE, rest))
    }
    config["emossl"]["sha256"] = {
        name: hash_bytes(data) for name, data in weights.items()
    }
    files = {
        **weights,
        _CONFIG: json.dumps(config, indent=2).encode(),
        _CARD: make_model_card(config).encode(),
    }
    check_replaceable(path)
    write_folder(path, lambda folder: _write_files(folder, files))


def find_fault(path, objective) -> str | None:
    """Return why an objective could not be saved once it is trained, or None."""
    try:
        _make_config(_unwrap(objective), None, path)
    except CheckpointError as error:
        return str(error)
    return None


def load_checkpoint(path, device="cpu") -> PretrainingObjective:
    """Read an objective that :func:`save_checkpoint` wrote.

    No pickle is read, and no classes are used except those that this package knows.

    Parameters
    ----------
    path : path
        Folder of the checkpoint.
    device : str or torch.device
        Device of the objective.

    Returns
    -------
    PretrainingObjective
        The objective as it was saved, in training mode, with its ``provenance``.

    Raises
    ------
    CheckpointError
        If the folder is not a checkpoint, is damaged, or is of another version.
    """
    folder = find_checkpoint(path)
    config = _read_config(folder)
    state = _read_state(folder, config["emossl"]["sha256"])
    _check_size(config, state, folder)
    objective = _build(config, folder)
    _check_state(objective.state_dict(), state, folder)
    objective.load_state_dict(state)
    objective.encoder.provenance = settle_provenance(config["emossl"]["provenance"])
    return objective.to(device)


def load_encoder(path, model: nn.Module) -> None:
    """Load the weights of a checkpoint's encoder into a model, except the head.

    The model may have another ``n_outputs``, another head and other dropout. It gets
    the ``provenance`` of the checkpoint.

    Parameters
    ----------
    path : path
        Folder of the checkpoint.
    model : torch.nn.Module
        Model to fine-tune, of the checkpoint's architecture.

    Raises
    ------
    CheckpointError
        If the architectures differ, naming the first difference; also as in
        :func:`load_checkpoint`.
    """
    _take_weights(model, load_checkpoint(path).encoder, path)


def _take_weights(model: nn.Module, encoder: nn.Module, path) -> None:
    """Load the weights of an encoder of the same architecture, except the head."""
    _check_architecture(encoder, model, path)
    load_body(model, encoder.state_dict(), path)
    model.provenance = encoder.provenance


def load_body(model: nn.Module, state: dict[str, torch.Tensor], path) -> None:
    """Load all weights except those of the head."""
    theirs, own = (
        {k: v for k, v in tensors.items() if not k.startswith(_HEAD)}
        for tensors in (state, model.state_dict())
    )
    _check_state(own, theirs, path)
    model.load_state_dict(theirs, strict=False)


def load_model(path, model=None, settings: dict[str, Any] | None = None) -> nn.Module:
    """Build the model of a checkpoint, with its weights and a new head.

    Parameters
    ----------
    path : path
        Folder of the checkpoint.
    model : str, type or None
        Name or class that the model must have. None: any.
    settings : dict of str to object
        Arguments of the model; those of the head and dropout may differ from the
        configuration of the checkpoint.

    Returns
    -------
    torch.nn.Module
        The model; its ``provenance`` is that of the checkpoint.

    Raises
    ------
    CheckpointError
        If the checkpoint is of another model, or as :func:`load_checkpoint` does.
    """
    encoder = load_checkpoint(path).encoder
    model_class = type(encoder)
    wanted = model_class if model is None else find_model_class(model)
    _compare(path, {"class": (model_class.__name__, wanted.__name__)})
    check_arguments(model_class, settings or {})
    config = _decode(model_class, _read_config(find_checkpoint(path)))
    built = model_class(**{**config, **(settings or {})})
    _take_weights(built, encoder, path)
    return built


def find_checkpoint(path) -> Path:
    """Return the folder of a checkpoint, also if its replacement was cut short."""
    return find_folder(Path(path).expanduser().resolve())


def _unwrap(objective):
    """Return the objective inside the wrapper that torch.compile returns."""
    if not isinstance(objective, nn.Module):
        return objective  # refused with its value
    inner = (m for m in objective.modules() if isinstance(m, PretrainingObjective))
    return next(inner, objective)


def _make_config(objective, provenance, path) -> dict[str, Any]:
    """Return the content of config.json, without the digests, if it can be read."""
    if not isinstance(objective, PretrainingObjective):
        raise CheckpointError(
            f"objective must be a PretrainingObjective, but got {objective!r:.80}."
        )
    encoder = objective.encoder
    model = type(encoder).__name__
    known = OBJECTIVES.get(model) is type(objective)
    if not known or models_dict.get(model) is not type(encoder):
        raise CheckpointError(
            "objective must be one of this package, with the model that it is for: "
            f"{ {k: v.__name__ for k, v in OBJECTIVES.items()} }, but got "
            f"{type(objective).__name__} of {model}."
        )
    config = {
        **_arguments_of(encoder),
        "braindecode_version": version("braindecode"),
        "emossl": {
            "format": _FORMAT,
            "model": model,
            "objective": type(objective).__name__,
            "settings": {k: _plain(k, v) for k, v in objective.settings.items()},
            "provenance": settle_provenance(provenance, objective.provenance),
            "sha256": {},
            "versions": {
                name: version(name)
                for name in ("braindecode-emossl", "braindecode", "torch")
            },
        },
    }
    _check_state(_build(config, path).state_dict(), objective.state_dict(), path)
    return config


def _arguments_of(model) -> dict[str, Any]:
    """Return the arguments that a model was built with, as JSON."""
    # get_config replaces values that it cannot write by a default.
    given = {
        name: _plain(name, value)
        for name, value in get_init_arguments(model).items()
        if name != "chs_info" and not isinstance(value, type)
    }
    return {**model.get_config(), **given}


def _plain(name: str, value):
    try:
        return json.loads(json.dumps(value, default=to_plain))
    except TypeError as error:
        raise CheckpointError(
            f"The argument {name} must be of numbers and strings to be saved, but is "
            f"{value!r:.80}. Build the model or the objective with such a value, as an "
            "int for a random_state."
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / _CONFIG
    text = _read(file)
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON: {error}.") from error
    ours = config.get("emossl") if isinstance(config, dict) else None
    if not isinstance(ours, dict):
        raise CheckpointError(
            f'{file} has no entry "emossl": it is not a checkpoint of this package. '
            "A model of braindecode is loaded by its from_pretrained."
        )
    if ours.get("format") != _FORMAT:
        raise CheckpointError(
            f"{file} must be of format {_FORMAT}, but is of {ours.get('format')!r}. "
            "Load it with the version of braindecode-emossl that wrote it: "
            f"{ours.get('versions')}."
        )
    for name, kind in _ENTRIES.items():
        if not isinstance(ours.get(name), kind):
            raise CheckpointError(
                f'The entry "{name}" of {file} must be of type {kind.__name__}, but is '
                f"{ours.get(name)!r:.80}."
            )
    return config


def _read_state(folder: Path, digests: dict[str, str]) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    for name, prefix in ((_ENCODER, "encoder."), (_OBJECTIVE, "")):
        data = _read(folder / name)
        digest = hash_bytes(data)
        if digest != digests.get(name):
            raise CheckpointError(
                f"{folder / name} is not the file that was saved: its SHA-256 is "
                f"{digest}, but {_CONFIG} says {digests.get(name)}. Copy the "
                "checkpoint again."
            )
        try:
            tensors = safetensors.torch.load(data)
        except (SafetensorError, KeyError) as error:
            raise CheckpointError(
                f"{folder / name} is not in the safetensors format: {error}."
            ) from error
        state |= {prefix + key: tensor for key, tensor in tensors.items()}
    return state


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"There is no checkpoint in {file.parent}: {file.name} cannot be read "
            f"({error.strerror})."
        ) from error


def _take_encoder(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of the encoder, by their names in it."""
    return {
        name.removeprefix("encoder."): tensor
        for name, tensor in state.items()
        if name.startswith("encoder.")
    }


def _find_classes(config: dict[str, Any], folder: Path):
    """Return the classes of the objective and of its model."""
    ours = config["emossl"]
    objective_class = OBJECTIVES.get(ours["model"])
    if objective_class is None or objective_class.__name__ != ours["objective"]:
        raise CheckpointError(
            f"The checkpoint {folder} must be of an objective and its model: "
            f"{ {v.__name__: k for k, v in OBJECTIVES.items()} }, but is of "
            f"{ours['objective']!r:.80} and {ours['model']!r:.80}."
        )
    return objective_class, models_dict[ours["model"]]


def _check_size(config: dict[str, Any], state: dict, folder: Path) -> None:
    """Refuse a config whose model does not fit the weights, without building it.

    A config can name any size, so that building the model may take all memory.
    """
    n_numbers = sum(tensor.numel() for tensor in state.values())
    for name, limit in (("n_chans", n_numbers), ("n_times", _MAX_TIMES)):
        size = config.get(name)
        if isinstance(size, int | float) and size > limit:
            raise CheckpointError(
                f"The checkpoint {folder} is of another architecture: {name} is {size} "
                f"in {_CONFIG}, but its {n_numbers} weights allow at most {limit}."
            )
    try:
        with torch.device("meta"), limit_parameters(len(state), n_numbers):
            objective = _build(config, folder)
    except CheckpointError as error:
        if not isinstance(error.__cause__, RuntimeError):
            raise
        # Some objectives compute with their tensors, which "meta" does not allow.
        with limit_parameters(len(state), n_numbers):
            objective = _build(config, folder)
    _check_state(objective.state_dict(), state, folder)


@contextmanager
def limit_parameters(n_tensors: float, n_numbers: float) -> Iterator[None]:
    """Stop building modules with more parameters than there are weights."""
    left = [n_tensors, n_numbers]
    thread = threading.get_ident()

    def count(module, name, parameter):
        if parameter is None or threading.get_ident() != thread:
            return
        left[0] -= 1
        left[1] -= parameter.numel()
        if min(left) < 0:
            raise ValueError(
                f"the model is larger than its weights, {n_tensors} tensors of "
                f"{n_numbers} numbers"
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _build(config: dict[str, Any], folder: Path) -> PretrainingObjective:
    """Return the objective that a config describes, with random weights."""
    objective_class, model_class = _find_classes(config, folder)
    ours = config["emossl"]
    try:
        # The random weights are not kept, so they must not advance the caller's
        # generator.
        with torch.random.fork_rng(devices=[]):
            encoder = model_class.from_config(_decode(model_class, config))
            return objective_class(encoder, **ours["settings"])
    except Exception as error:  # odd values in a file may raise anything
        raise CheckpointError(
            f"{ours['objective']} cannot be built as the checkpoint {folder} says: "
            f"{error}"
        ) from error


def _decode(
    model_class: type[EEGModuleMixin], config: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a model, with classes and channels restored."""
    others = ("braindecode_version", "emossl")
    arguments = {k: v for k, v in config.items() if k not in others}
    if arguments.get("chs_info") is not None:
        # braindecode does this too, with a warning.
        arguments["chs_info"] = [
            {
                k: np.array(v) if k == "loc" and v is not None else v
                for k, v in ch.items()
            }
            for ch in arguments["chs_info"]
        ]
    for name, parameter in inspect.signature(model_class).parameters.items():
        if name in arguments and isinstance(parameter.default, type):
            arguments[name] = _find_class(name, arguments[name])
    return arguments


def _find_class(name: str, text) -> type[nn.Module]:
    """Return a class of torch.nn; braindecode would import any name."""
    found = getattr(nn, str(text).rpartition(".")[2], None)
    if (
        not isinstance(found, type)
        or text != f"{found.__module__}.{found.__qualname__}"
    ):
        raise CheckpointError(
            f"{name} must be a class of torch.nn, but is {text!r:.80}."
        )
    return found


def _check_state(own: dict, found: dict, path) -> None:
    """Raise for the first tensor that differs."""
    for name in [*own, *found]:
        mine, its = (_describe(state.get(name)) for state in (own, found))
        if mine != its:
            raise CheckpointError(
                f"The checkpoint {path} is of another architecture: {name} is {its} "
                f"in it, but {mine} in the model as it is built."
            )


def _describe(tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return "missing"
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _check_architecture(encoder: nn.Module, model: nn.Module, path) -> None:
    """Raise for the first argument by which two models differ."""
    if type(model) is not type(encoder):
        pairs = {"class": (type(encoder).__name__, type(model).__name__)}
    else:
        of_both = [_known_signal(encoder), _known_signal(model)]
        names = [name for name in of_both[0] if name in of_both[1]]
        pairs = {name: tuple(signal[name] for signal in of_both) for name in names}
        its, mine = _arguments_of(encoder), _arguments_of(model)
        pairs |= {k: (its[k], mine[k]) for k in its if k not in _FREE | _SIGNAL}
    _compare(path, pairs)


def _compare(path, pairs: dict[str, tuple[Any, Any]]) -> None:
    """Raise for the first value that differs between a checkpoint and a model."""
    for name, (its, mine) in pairs.items():
        if its != mine:
            raise CheckpointError(
                f"The checkpoint {path} is of another architecture: {name} is {its} "
                f"in it, but {mine} in the model."
            )


def _known_signal(model) -> dict[str, Any]:
    """Return the signal that a model was built for, as far as it is known."""
    signal = {}
    for name in ("n_chans", "n_times", "sfreq"):
        try:
            signal[name] = getattr(model, name)
        except ValueError:
            continue
    names = read_model_signal(model).names
    if names is not None:
        signal["channels"] = [name.casefold() for name in names]
    return signal


def _write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def check_replaceable(path: Path) -> None:
    """Raise unless a folder is empty, a checkpoint or not there."""
    if not path.exists():
        return
    if not path.is_dir():
        raise CheckpointError(f"path must be a folder, but {path} is a file.")
    names = {file.name for file in path.iterdir()}
    if names and not (_CONFIG in names and names <= FILES):
        others = sorted(names - FILES)
        problem = f"holds {others}" if others else f"has no {_CONFIG}"
        raise CheckpointError(
            f"{path} {problem}, so it is not a checkpoint and is not replaced. Choose "
            "another path, or delete the folder."
        )
    if names:
        _read_config(path)
