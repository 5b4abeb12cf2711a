"""Callbacks of skorch for pre-training."""

from __future__ import annotations

import math

import numpy as np
from skorch.callbacks import Callback
from tqdm.auto import tqdm

__all__ = ["ProgressBar", "RecordTerms", "ScheduleLearningRate"]

SCHEDULES = (None, "cosine")


class RecordTerms(Callback):
    """Write the unweighted terms of an objective's loss into the history.

    A term ``name`` appears as ``train_<name>`` or ``valid_<name>``, for each batch and,
    averaged by batch size, for each epoch.
    """

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        """Record the terms of one batch."""
        part = "train" if training else "valid"
        for name, value in y_pred.terms.items():
            net.history.record_batch(f"{part}_{name}", float(value))

    def on_epoch_end(self, net, **kwargs):
        """Record the mean of each term over the epoch."""
        batches = net.history[-1, "batches"]
        for part in ("train", "valid"):
            sized = [batch for batch in batches if f"{part}_batch_size" in batch]
            sizes = [batch[f"{part}_batch_size"] for batch in sized]
            for name in _terms(sized, part):
                values = [batch[name] for batch in sized]
                net.history.record(name, float(np.average(values, weights=sizes)))


def _terms(batches: list[dict], part: str) -> list[str]:
    known = {f"{part}_loss", f"{part}_batch_size"}
    names = batches[0] if batches else ()
    return [name for name in names if name.startswith(part) and name not in known]


class ScheduleLearningRate(Callback):
    """Set the learning rate of each batch: a linear warm-up, then a cosine to zero.

    The rate depends on nothing but the place in the training, so that a training that
    was resumed has the same. It is in the history as ``lr``.

    Parameters
    ----------
    warmup_epochs : float
        Epochs in which the rate rises to the one that was set.
    schedule : {None, "cosine"}
        Whether the rate stays after that, or falls.
    """

    def __init__(self, warmup_epochs: float = 0, schedule: str | None = None):
        self.warmup_epochs = warmup_epochs
        self.schedule = schedule

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Set the rate of the step that comes."""
        if not training or not (self.warmup_epochs or self.schedule):
            return  # else a scheduler that the user has given would be undone
        epoch = len(net.history) - 1 + net.batch_in_epoch_ / net.n_batches_
        factor = self.compute_factor(epoch, 1 / net.n_batches_, net.max_epochs)
        for group in net.optimizer_.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def on_epoch_end(self, net, **kwargs):
        """Record the rate of the last step."""
        net.history.record("lr", net.optimizer_.param_groups[0]["lr"])

    def compute_factor(self, epoch: float, step: float, max_epochs: int) -> float:
        """Return what the rate is multiplied by.

        Parameters
        ----------
        epoch : float
            Epochs done, with those of the present one in parts.
        step : float
            The part of an epoch that a batch is: the first rate is not zero.
        max_epochs : int
            Epochs of the whole training.

        Returns
        -------
        float
            From 0 to 1.
        """
        if epoch < self.warmup_epochs:
            return min(1.0, (epoch + step) / self.warmup_epochs)
        if self.schedule is None:
            return 1.0
        done = (epoch - self.warmup_epochs) / (max_epochs - self.warmup_epochs)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class ProgressBar(Callback):
    """Show how far the whole training is, with the terms of the last batch.

    Nothing is shown where the error stream is not a terminal.
    """

    def on_train_begin(self, net, **kwargs):
        """Open the bar."""
        self.bar_ = tqdm(desc="pre-training", unit="batch", disable=None)

    def on_batch_end(self, net, training=False, **kwargs):
        """Move the bar on."""
        if not training:
            return
        self.bar_.total = net.max_epochs * net.n_batches_
        self.bar_.n = (len(net.history) - 1) * net.n_batches_ + net.batch_in_epoch_
        batch = net.history[-1, "batches", -1]
        names = ["train_loss", *_terms([batch], "train")]
        self.bar_.set_postfix(
            {name.removeprefix("train_"): f"{batch[name]:.3g}" for name in names}
        )

    def on_train_end(self, net, **kwargs):
        """Close the bar."""
        self.bar_.close()

    def __getstate__(self):
        """Leave out the bar, which cannot be pickled."""
        return {name: value for name, value in vars(self).items() if name != "bar_"}
