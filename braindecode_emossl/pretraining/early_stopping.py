"""Fine-tuning for as many steps as validation windows suggest."""

from __future__ import annotations

from typing import Any

import numpy as np
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn

from braindecode_emossl.pretraining.finetuning import FineTuner
from braindecode_emossl.pretraining.training_data import LabeledSet

__all__ = ["check_finetuner", "finetune_model", "pick_length"]

_ENDLESS = 10**9  # patience that never ends a training


def check_finetuner(model: nn.Module, settings: dict[str, Any], monitored: bool):
    """Raise for settings that skorch refuses, before the long pre-training."""
    if monitored:  # then there will be validation data to be patient with
        settings = {**settings, "patience": None}
    FineTuner(model, **settings).initialize()


def finetune_model(
    model: nn.Module,
    labeled: LabeledSet,
    settings: dict[str, Any],
    validation: LabeledSet | None = None,
) -> tuple[FineTuner, int]:
    """Fine-tune a model in place.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    labeled : LabeledSet
        Windows to train on.
    settings : dict of str to object
        Arguments of :class:`FineTuner`.
    validation : LabeledSet or None
        If given, the weights with the lowest loss on these windows are kept.

    Returns
    -------
    net : FineTuner
        The fitted net.
    n_steps : int
        Number of updates that its weights have had.

    Raises
    ------
    FloatingPointError
        If the training diverges.
    """
    if validation is not None and _trains(settings):
        patience = settings.get("patience") or _ENDLESS
        settings = {**settings, **_validate_on(validation), "patience": patience}
    given = {} if labeled.weights is None else {"sample_weight": labeled.weights}
    net = FineTuner(model, **settings).fit(labeled.windows, labeled.codes, **given)
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise FloatingPointError(
            "Fine-tuning has diverged: weights of the model are not finite. Lower "
            f"finetune_lr, which is {settings['lr']}."
        )
    if validation is None or not _trains(settings):
        return net, net.n_steps_
    return net, _count_steps(net.history, _find_best(net.history))


def pick_length(
    model: nn.Module,
    train: LabeledSet,
    held_out: LabeledSet,
    settings: dict[str, Any],
):
    """Return the length of training with the lowest loss on held-out windows.

    Parameters
    ----------
    model : torch.nn.Module
        A model, which is trained in place; do not use it afterwards.
    train, held_out : LabeledSet
        Windows to train on and to validate on.
    settings : dict of str to object
        Arguments of :class:`FineTuner`.

    Returns
    -------
    length : dict of str to object
        Arguments of :class:`FineTuner` that differ for the final training.
    history : skorch.history.History
        History of the training.
    """
    net, _ = finetune_model(model, train, {**settings, **_validate_on(held_out)})
    if not _trains(settings):
        return {}, net.history
    best = _find_best(net.history)
    if settings["max_steps"] is None:
        unit, length = "max_epochs", best
    else:
        unit, length = "max_steps", _count_steps(net.history, best)
    planned = settings.get("schedule_length") or settings[unit]
    # With the schedule of the full length, each step is as in the first training.
    return {unit: length, "schedule_length": planned, "patience": None}, net.history


def _trains(settings: dict[str, Any]) -> bool:
    return bool(settings["max_steps"] or settings["max_epochs"])


def _validate_on(held_out: LabeledSet) -> dict[str, Any]:
    """Return the setting of skorch that validates on given windows."""
    return {"train_split": predefined_split(Dataset(held_out.windows, held_out.codes))}


def _find_best(history) -> int:
    """Return the number of epochs up to the lowest validation loss."""
    losses = np.array(history[:, "valid_loss"], float)
    if not np.isfinite(losses).any():
        raise FloatingPointError(
            "Fine-tuning has diverged: the validation loss is not finite. Lower "
            "finetune_lr."
        )
    return 1 + int(np.nanargmin(losses))


def _count_steps(history, n_epochs: int) -> int:
    return int(sum(history[:n_epochs, "train_batch_count"]))
