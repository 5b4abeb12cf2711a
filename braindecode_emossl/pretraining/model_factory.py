"""Models by name, class or template, built for the windows at hand."""

from __future__ import annotations

import copy
import difflib
import inspect
import warnings
from typing import Any

import mne
import numpy as np
import torch
from braindecode.models.util import (
    interpolated_models_dict,
    models_dict,
    models_mandatory_parameters,
)
from torch import nn

from braindecode_emossl.pretraining.registry import OBJECTIVES
from braindecode_emossl.pretraining.signal_identity import Signal, read_model_signal

__all__ = [
    "build_model",
    "check_arguments",
    "check_heads",
    "check_template",
    "find_model_class",
    "find_objective",
    "list_forward_arguments",
]

# Models of braindecode that must know their channels.
_NEED_CHANNELS = {
    name for name, required, _ in models_mandatory_parameters if "chs_info" in required
}


def find_model_class(model) -> type[nn.Module]:
    """Return the class of a model.

    Parameters
    ----------
    model : str, type or torch.nn.Module
        A name that braindecode knows, a class, or a model.

    Returns
    -------
    type
        The class.

    Raises
    ------
    ValueError
        If the name is unknown, or ``model`` is not one of these.
    """
    if isinstance(model, nn.Module):
        return type(model)
    if isinstance(model, type) and issubclass(model, nn.Module):
        return model
    known = {**models_dict, **interpolated_models_dict}
    if not isinstance(model, str):
        raise ValueError(
            "model must be a name, a class or a torch module, but got "
            f"{model!r:.80}. Names are {sorted(known)}."
        )
    if model not in known:
        close = difflib.get_close_matches(model, known, n=3) or sorted(known)
        raise ValueError(
            f"model must be the name of a model of braindecode, but got {model!r}. "
            f"Did you mean one of {close}?"
        )
    return known[model]


def find_objective(objective, model_class: type):
    """Return the class of an objective, or a module as it is.

    Parameters
    ----------
    objective : {"auto"}, str, type or torch.nn.Module
        "auto" is the objective of the model; a name is that of a class of this package,
        or of its model.
    model_class : type
        Class of the model.

    Returns
    -------
    type or torch.nn.Module
        What is called with the model, or an objective to copy.

    Raises
    ------
    ValueError
        If there is none, or ``objective`` is of another type.
    """
    if objective == "auto":
        for base in model_class.__mro__:
            if base.__name__ in OBJECTIVES:
                return OBJECTIVES[base.__name__]
        raise ValueError(
            f"{model_class.__name__} has no pre-training objective, unlike "
            f"{sorted(OBJECTIVES)}: set objective=None to train it with labels alone, "
            "or pass an objective."
        )
    if isinstance(objective, str):
        known = {found.__name__: found for found in OBJECTIVES.values()}
        known |= dict(OBJECTIVES)
        if objective in known:
            return known[objective]
        raise ValueError(
            f"objective must be one of {sorted(known)}, but got {objective!r}."
        )
    if isinstance(objective, nn.Module) and hasattr(objective, "encoder"):
        return objective
    if callable(objective) and not isinstance(objective, nn.Module):
        return objective
    raise ValueError(
        'objective must be "auto", None, a name, a class that is called with the model '
        f"or an objective with an encoder, but got {objective!r:.80}."
    )


def build_model(
    model, *, n_outputs: int, shape: tuple[int, int], signal: Signal, settings
) -> nn.Module:
    """Return a model for windows of a shape.

    Parameters
    ----------
    model : str, type or torch.nn.Module
        See :func:`find_model_class`. A module is copied.
    n_outputs : int
        Number of classes.
    shape : tuple of int
        Channels and samples of a window.
    signal : Signal
        What is known of the windows.
    settings : dict of str to object
        Further arguments of the model.

    Returns
    -------
    torch.nn.Module
        The model, not trained any further.

    Raises
    ------
    ValueError
        If a module was built for other windows, or comes with arguments.
    """
    if isinstance(model, nn.Module):
        return _copy_template(model, n_outputs, shape, settings)
    model_class = find_model_class(model)
    arguments = {
        "n_outputs": n_outputs,
        "n_chans": shape[0],
        "n_times": shape[1],
        "sfreq": signal.sfreq,
        "chs_info": signal.chs_info,
    }
    check_arguments(model_class, settings)
    parameters = inspect.signature(model_class).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        arguments = {k: v for k, v in arguments.items() if k in parameters}
    arguments |= settings
    if model_class.__name__ in _NEED_CHANNELS and arguments.get("chs_info") is None:
        warnings.warn(
            f"{model_class.__name__} needs the positions of the electrodes, which "
            "arrays do not carry: they are assumed to be spread evenly over the head. "
            "Pass chs_info or mne.Epochs.",
            stacklevel=4,
        )
        arguments["chs_info"] = spread_channels(shape[0])
    return model_class(**arguments)


def check_arguments(model_class: type, settings) -> None:
    """Raise for an argument that a class does not have."""
    parameters = inspect.signature(model_class).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in settings:
        if name not in parameters:
            close = difflib.get_close_matches(name, parameters, n=1)
            hint = f" Did you mean model__{close[0]}?" if close else ""
            raise TypeError(
                f"model__{name} names no argument of {model_class.__name__}.{hint}"
            )


def check_heads(objective: nn.Module, model: nn.Module) -> None:
    """Raise if an objective of this package needs other heads for another model."""
    if type(objective) not in OBJECTIVES.values():
        return
    with torch.random.fork_rng(devices=[]):
        own, needed = (
            {
                name: tuple(tensor.shape)
                for name, tensor in type(objective)(encoder, **objective.settings)
                .state_dict()
                .items()
                if not name.startswith("encoder.")
            }
            for encoder in (objective.encoder, model)
        )
    for name in [*own, *needed]:
        if own.get(name) != needed.get(name):
            raise ValueError(
                f"objective must fit the model, but {name} of the "
                f"{type(objective).__name__} has the shape {own.get(name)}, and needs "
                f"{needed.get(name)} for {type(model).__name__} and the windows. Pass "
                "its class and objective__ arguments instead."
            )


def list_forward_arguments(model: nn.Module) -> dict[str, Any]:
    """Return the further arguments of ``forward``: channel names, as for Labram."""
    if "ch_names" not in inspect.signature(model.forward).parameters:
        return {}
    names = read_model_signal(model).names
    return {} if names is None else {"ch_names": names}


def spread_channels(n_chans: int) -> list[dict]:
    """Return channels evenly spread over the upper half of a head, on a spiral."""
    info = mne.create_info([f"EEG{i}" for i in range(n_chans)], 1.0, "eeg")
    height = (np.arange(n_chans) + 0.5) / n_chans
    angle = np.arange(n_chans) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    places = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
    for channel, place in zip(info["chs"], places, strict=True):
        channel["loc"][:3] = 0.095 * place  # m
    return info["chs"]


def check_template(template: nn.Module, settings) -> None:
    """Raise if there are arguments for a model that is built already."""
    if settings:
        raise ValueError(
            f"{type(template).__name__} was passed as a module, so model__"
            f"{next(iter(settings))} cannot be set. Pass its class or name instead."
        )


def _copy_template(template: nn.Module, n_outputs: int, shape, settings) -> nn.Module:
    check_template(template, settings)
    for name, size in zip(("n_chans", "n_times"), shape, strict=True):
        built_for = _read_size(template, name)
        if built_for not in (None, size):
            raise ValueError(
                f"The module {type(template).__name__} was built for {name}="
                f"{built_for}, but the windows have {size}. Use windows of that size. "
                "Pass its class instead of the module to build it for these windows."
            )
    model = copy.deepcopy(template)
    if _read_size(model, "n_outputs") in (None, n_outputs):
        return model
    try:
        model.reset_head(n_outputs)
    except (AttributeError, NotImplementedError):
        model = _rebuild(model, n_outputs)
    return model


def _rebuild(template: nn.Module, n_outputs: int) -> nn.Module:
    """Return the same model with a new head, where the class cannot replace it."""
    name = type(template).__name__
    try:
        config = {**template.get_config(), "n_outputs": n_outputs}
        model = type(template).from_config(config)
    except Exception as error:
        raise ValueError(
            f"The module {name} has {template.n_outputs} outputs and cannot be rebuilt "
            f"with {n_outputs}, the number of classes in y: {error}"
        ) from error
    state = {
        key: value
        for key, value in template.state_dict().items()
        if not key.startswith("final_layer.")
    }
    left = model.load_state_dict(state, strict=False).missing_keys
    others = [key for key in left if not key.startswith("final_layer.")]
    if others:
        raise ValueError(
            f"{name} cannot take another number of outputs: {others[0]} has no weights."
        )
    if hasattr(template, "provenance"):
        model.provenance = template.provenance
    return model


def _read_size(model, name: str) -> int | None:
    try:
        return getattr(model, name)
    except (AttributeError, ValueError):  # braindecode: not specified
        return None
