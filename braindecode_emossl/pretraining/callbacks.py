"""Callbacks of skorch for pre-training."""

from __future__ import annotations

import logging
import math
from time import monotonic
from typing import Any

import numpy as np
from rich.console import Console
from skorch.callbacks import Callback
from tqdm.auto import tqdm

__all__ = [
    "AnnounceLength",
    "ProgressBar",
    "RecordTerms",
    "ScheduleLearningRate",
    "list_terms",
    "restore_rates",
]

log = logging.getLogger(__name__)

SCHEDULES = (None, "cosine")
# Lengths of a training that are announced, and steps from which its duration is known.
_FEW_STEPS, _MANY_STEPS, _TIMED_STEPS = 200, 20_000, 10


class RecordTerms(Callback):
    """Record the unweighted terms of an objective's loss in the history.

    A term ``name`` is recorded as ``train_<name>`` or ``valid_<name>``, for each batch
    and, as a mean weighted by batch size, for each epoch.
    """

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        """Record the terms of one batch."""
        part = "train" if training else "valid"
        for name, value in y_pred.terms.items():
            net.record_value(f"{part}_{name}", value)

    def on_epoch_end(self, net, **kwargs):
        """Record the mean of each term over the epoch."""
        batches = net.history[-1, "batches"]
        for part in ("train", "valid"):
            sized = [batch for batch in batches if f"{part}_batch_size" in batch]
            sizes = [batch[f"{part}_batch_size"] for batch in sized]
            for name in list_terms(sized, part):
                values = [batch[name] for batch in sized]
                net.history.record(name, float(np.average(values, weights=sizes)))


def list_terms(batches: list[dict], part: str) -> list[str]:
    """Return the names of the terms among the entries of batches."""
    known = {f"{part}_loss", f"{part}_batch_size"}
    names = batches[0] if batches else ()
    return [name for name in names if name.startswith(part) and name not in known]


class ScheduleLearningRate(Callback):
    """Set the learning rate of each step: a linear warm-up, then a cosine to zero.

    The rate depends only on the number of steps done, so that a resumed training has
    the same. It is in the history as ``lr``.

    Parameters
    ----------
    warmup_steps : int
        Optimizer steps in which the rate rises to the one that was set.
    schedule : {None, "cosine"}
        Whether the rate then stays or falls.
    """

    def __init__(self, warmup_steps: int = 0, schedule: str | None = None):
        self.warmup_steps = warmup_steps
        self.schedule = schedule

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Set the rate of the next step."""
        if not training or not (self.warmup_steps or self.schedule):
            return  # else a scheduler that the user has given would be undone
        step = net.n_steps_ - net.first_step_
        factor = self.compute_factor(step, net.n_steps_planned_)
        for group in net.optimizer_.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def on_epoch_end(self, net, **kwargs):
        """Record the rate of the last step."""
        net.history.record("lr", net.optimizer_.param_groups[0]["lr"])

    def compute_factor(self, step: int, n_steps: int) -> float:
        """Return the factor by which the rate is multiplied.

        Parameters
        ----------
        step : int
            Number of steps done.
        n_steps : int
            Number of steps of the whole training.

        Returns
        -------
        float
            From 0 to 1. The first one is not zero.
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule is None:
            return 1.0
        done = (step - self.warmup_steps) / (n_steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def restore_rates(optimizer) -> None:
    """Set the learning rates back to those from which a schedule began."""
    for group in optimizer.param_groups:
        group["lr"] = group.pop("initial_lr", group["lr"])


class AnnounceLength(Callback):
    """Warn of a training that is too short to learn, or takes hours.

    Epochs say little of the length: 50 epochs are 150 updates on a small corpus and
    50,000 on a large one. A length in steps is as the user has set it, so that only
    its duration is announced, which is estimated from the first steps.
    """

    def on_train_begin(self, net, **kwargs):
        """Wait for the number of steps, which is not planned yet."""
        self.start_ = None

    def on_batch_begin(self, net, training=False, **kwargs):
        """Announce the length with the first steps."""
        step = net.n_steps_ - net.first_step_
        if not training or step > _TIMED_STEPS:
            return
        if self.start_ is None:
            self.start_ = monotonic()
            if step == 0 and net.max_steps is None and net.max_epochs:
                self._announce_short(net)
        elif step == _TIMED_STEPS and self.start_ is not None:
            self._announce_long(net, (monotonic() - self.start_) / _TIMED_STEPS)
            self.start_ = None

    def _announce_short(self, net) -> None:
        if net.n_steps_planned_ < _FEW_STEPS:
            log.warning(
                "max_epochs=%d makes only %d updates of the weights, after which "
                "features may differ little from those of random weights. Raise it, "
                "or set max_steps, by default 2000.",
                net.max_epochs,
                net.n_steps_planned_,
            )

    def _announce_long(self, net, seconds: float) -> None:
        total = seconds * net.n_steps_planned_
        if net.n_steps_planned_ > _MANY_STEPS or total > 3600:
            log.warning(
                "The training makes %d updates of about %.2g s each on %s, which takes "
                "about %.2g hours. Lower max_steps or batch_size, or train on a GPU, "
                "to make it shorter.",
                net.n_steps_planned_,
                seconds,
                net.device,
                total / 3600,
            )


class ProgressBar(Callback):
    """Show the progress of the training, with the terms of the last batch.

    Nothing is shown if standard error is neither a terminal nor that of a notebook.
    """

    bar_: Any  # that of tqdm, None before the first epoch

    def on_train_begin(self, net, **kwargs):
        """Forget the bar of an earlier training."""
        self.bar_ = None

    def on_epoch_begin(self, net, **kwargs):
        """Open the bar, now that the number of steps is known."""
        if self.bar_ is None:
            # A notebook shows bars, although its streams are not terminals.
            hide = False if Console().is_jupyter else None
            total = net.n_steps_planned_
            self.bar_ = tqdm(
                desc="pre-training", unit="step", total=total, disable=hide
            )

    def on_batch_end(self, net, training=False, **kwargs):
        """Advance the bar."""
        if not training:
            return
        for batch in reversed(net.history[-1, "batches"]):
            if isinstance(batch.get("train_loss"), float):  # it has been read
                self._show_terms(batch)
                break
        self.bar_.update(net.n_steps_ - net.first_step_ - self.bar_.n)

    def _show_terms(self, batch: dict) -> None:
        names = ["train_loss", *list_terms([batch], "train")]
        terms = {name.removeprefix("train_"): f"{batch[name]:.3g}" for name in names}
        self.bar_.set_postfix(terms, refresh=False)

    def on_train_end(self, net, **kwargs):
        """Close the bar."""
        if self.bar_ is not None:
            self.bar_.close()

    def __getstate__(self):
        """Leave out the bar, which cannot be pickled."""
        return {name: value for name, value in vars(self).items() if name != "bar_"}
