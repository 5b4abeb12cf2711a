"""The training loop of skorch, counted in steps and resumable within an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from time import monotonic
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, PassthroughScoring
from torch import nn

from braindecode_emossl.pretraining.device_training import DeviceTraining

__all__ = ["RaiseInterrupt", "StepwiseTraining"]

DEFAULT_MAX_STEPS = 2000
# Within an epoch the state is written after so many steps, or seconds if they are slow.
_STEPS_BETWEEN_STATES = 500
_SECONDS_BETWEEN_STATES = 60


class RaiseInterrupt(NeuralNet):
    """Mixin of a skorch net: let Ctrl-C end the program, not only the training.

    skorch swallows a KeyboardInterrupt and keeps the weights trained so far, so that an
    evaluation would score a half-trained model without notice. The KeyboardInterrupt
    by which skorch's early stopping ends a training is not raised.
    """

    def fit_loop(self, *args, **kwargs):
        """Train, and remember an interrupt."""
        try:
            return super().fit_loop(*args, **kwargs)
        except KeyboardInterrupt:
            self.interrupted_ = not any(
                isinstance(callback, EarlyStopping)
                and callback.misses_ >= callback.patience
                for _, callback in self.callbacks_
            )
            raise

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train, and raise the interrupt that skorch has swallowed."""
        self.interrupted_ = False
        super().partial_fit(X, y, classes=classes, **fit_params)
        if self.interrupted_:
            raise KeyboardInterrupt
        return self


class StepwiseTraining(DeviceTraining):
    """A net whose training is as long as a number of optimizer steps.

    The last epoch may end early. A training that is resumed within an epoch draws the
    batches of that epoch again, leaves out those that are done and continues with the
    random numbers that an uninterrupted training would have.
    """

    saved_: Any  # the state to resume from, or None
    epoch_start_: dict[str, Any] | None  # random generators, None between epochs

    def initialize(self):
        """Set everything up, with no step done."""
        self.n_steps_ = self.first_step_ = self.batch_in_epoch_ = 0
        self.epoch_start_ = None
        return super().initialize()

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train on the windows that :meth:`get_split_datasets` returns."""
        train, valid = self.get_split_datasets(X)
        self.parts_: Any = train, valid
        batches = self.get_iterator(train, training=True)
        valid_batches = None if valid is None else self.get_iterator(valid)
        if self.saved_ is not None:
            self._start_workers(batches, valid_batches)
            self.restore_state()
            self.tell_objective("on_resume", train.windows, metadata=train.metadata)
            self._restore_best_scores()
        else:
            self.first_step_, self.batch_in_epoch_ = self.n_steps_, 0
            self.epoch_start_ = None
            hook = "on_resume" if self.history else "prepare"
            self.tell_objective(hook, train.windows, metadata=train.metadata)
        end = self.first_step_ + self.plan_steps(epochs)
        if self.n_steps_ > end:
            raise self.unusable(
                f"it has done {self.n_steps_} steps, but max_steps or max_epochs "
                f"allows {end}"
            )
        datasets = {"dataset_train": train, "dataset_valid": valid}
        is_within_epoch = self.batch_in_epoch_ > 0
        while self.n_steps_ < end or is_within_epoch:
            self.run_epoch(batches, valid_batches, end, datasets)
            is_within_epoch = False
        if not self.batch_in_epoch_:
            self.save_state()
        return self

    def _start_workers(self, *loaders) -> None:
        """Start persistent workers, which draw a seed once, in the first epoch."""
        has_finished = any(
            "train_batch_count" in epoch for epoch in self.saved_.get("history", ())
        )
        for loader in loaders:
            if has_finished and getattr(loader, "persistent_workers", False):
                iter(loader)

    def _restore_best_scores(self) -> None:
        """Set the scores by which callbacks of skorch mark the best epoch."""
        for _, callback in self.callbacks_:
            if isinstance(callback, PassthroughScoring):
                name, best = callback.name, min if callback.lower_is_better else max
                scores = [epoch[name] for epoch in self.history if name in epoch]
                callback.best_score_ = best([callback.best_score_, *scores])

    def plan_steps(self, epochs: int | None = None) -> int:
        """Return the number of steps of the training, which the schedule needs too."""
        epochs = self.max_epochs if epochs is None else epochs
        if epochs is not None:
            per_epoch = -(-self.n_batches_ // self.gradient_accumulation_steps)
            n_steps = epochs * per_epoch
        else:
            n_steps = DEFAULT_MAX_STEPS if self.max_steps is None else self.max_steps
        if not self.n_batches_ and (epochs or n_steps):
            raise ValueError(
                "The windows must fill at least one batch, but fill none. Lower "
                "batch_size, or set iterator_train__drop_last=False."
            )
        if self.schedule is not None and 0 < n_steps <= self.warmup_steps:
            raise ValueError(
                "warmup_steps must be less than the number of steps of the training, "
                f"{n_steps}, but got {self.warmup_steps}."
            )
        self.n_steps_planned_ = n_steps
        return n_steps

    def run_epoch(self, batches, valid_batches, end: int, datasets: dict) -> None:
        """Train for one epoch, or for the rest of it, and validate."""
        if not self.batch_in_epoch_:
            self.save_state()
        self.notify("on_epoch_begin", **datasets)
        # Once, as for a small model they take as long as a forward pass.
        self.module_.train()
        weights = list(self.get_all_learnable_params())
        self.run_single_epoch(
            self.draw_batches(batches, end),
            training=True,
            prefix="train",
            step_fn=self.train_step,
            named_parameters=weights,
        )
        self.history.record("train_batch_count", self.batch_in_epoch_)
        is_cut = self.batch_in_epoch_ < self.n_batches_
        if is_cut:
            # Before the validation, which a longer training would not have here.
            self.save_within_epoch()
        self.run_single_epoch(
            valid_batches,
            training=False,
            prefix="valid",
            step_fn=self.validation_step,
        )
        self.notify("on_epoch_end", **datasets)
        if not is_cut:
            self.batch_in_epoch_, self.epoch_start_ = 0, None

    def draw_batches(self, batches, end: int) -> Iterator:
        """Yield the batches of the epoch that are not done, up to a step."""
        n_done = self.batch_in_epoch_
        n_until_end = (end - self.n_steps_) * self.gradient_accumulation_steps
        n_left = min(self.n_batches_ - n_done, n_until_end)
        if not n_left:
            return
        present = self.get_generators()
        if self.epoch_start_ is None:
            self.epoch_start_ = present
        else:
            self.set_generators(self.epoch_start_)
        iterator = iter(batches)
        for _ in range(n_done):
            next(iterator)
        if n_done:
            self.set_generators(present)
        written = self.n_steps_, monotonic()
        for batch in islice(iterator, n_left):
            yield batch
            # All callbacks have seen the end of this batch.
            is_step_done = self.batch_in_epoch_ % self.gradient_accumulation_steps == 0
            if is_step_done and self._is_state_due(*written):
                self.read_values()  # raises if the weights are not worth saving
                self.save_within_epoch()
                written = self.n_steps_, monotonic()

    def _is_state_due(self, n_steps: int, time: float) -> bool:
        """Return whether the last state, of this step and time, is too old."""
        return (
            self.n_steps_ - n_steps >= _STEPS_BETWEEN_STATES
            or monotonic() - time >= _SECONDS_BETWEEN_STATES
        )

    def save_within_epoch(self) -> None:
        """Write the state when some batches of the epoch are done."""
        self.save_state()

    def train_step(self, batch, *, named_parameters, **fit_params):
        """Compute the gradients of a batch, and update the weights if it is time."""
        if self.batch_in_epoch_ % self.gradient_accumulation_steps == 0:
            self.optimizer_.zero_grad()
        step = self.train_step_single(batch, **fit_params)
        self.notify(
            "on_grad_computed",
            named_parameters=named_parameters,
            batch=batch,
            training=True,
        )
        self.batch_in_epoch_ += 1
        is_last = self.batch_in_epoch_ == self.n_batches_
        if is_last or self.batch_in_epoch_ % self.gradient_accumulation_steps == 0:
            self.update_weights()
            self.n_steps_ += 1
        return step

    def train_step_single(self, batch, **fit_params):
        """Compute loss and gradients of one batch."""
        windows, numbers = batch
        y_pred = self.infer(windows, **self.list_arguments(numbers, training=True))
        loss = self.get_loss(y_pred, numbers, X=windows, training=True)
        # The last step of an epoch may have fewer batches.
        per_step = self.gradient_accumulation_steps
        first = self.batch_in_epoch_ - self.batch_in_epoch_ % per_step
        n_accumulated = min(per_step, self.n_batches_ - first)
        self.scaler_.scale(loss / n_accumulated).backward()
        return {"loss": loss, "y_pred": y_pred}

    def list_arguments(self, numbers, training: bool) -> dict[str, Any]:
        """Return further arguments of the objective for the windows of a batch."""
        return {}

    def update_weights(self) -> None:
        """Make one optimizer step with the gradients as they are."""
        self.scaler_.unscale_(self.optimizer_)
        if self.gradient_clip_value is not None:
            nn.utils.clip_grad_norm_(
                self.module_.parameters(), self.gradient_clip_value
            )
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()

    def get_progress(self) -> dict[str, Any]:
        """Return where the training is, for :meth:`save_state`."""
        return {
            "n_steps": self.n_steps_,
            "first_step": self.first_step_,
            "batch_in_epoch": self.batch_in_epoch_,
            "epoch_start": self.epoch_start_,
        }

    def set_progress(self, progress: dict[str, Any]) -> None:
        """Continue from where a training was, see :meth:`get_progress`."""
        self.n_steps_ = progress["n_steps"]
        self.first_step_ = progress["first_step"]
        self.batch_in_epoch_ = progress["batch_in_epoch"]
        self.epoch_start_ = progress["epoch_start"]

    def get_generators(self) -> dict[str, Any]:
        """Return the states of all random generators, in tensors, numbers and text."""
        device = torch.device(self.device)
        on_gpu = device.type == "cuda"
        rng = getattr(self.sampler_, "rng", None)
        return {
            "cpu": torch.get_rng_state(),
            "device": torch.cuda.get_rng_state(device) if on_gpu else None,
            "sampler": None if rng is None else _read(rng),
        }

    def set_generators(self, states: dict[str, Any]) -> None:
        """Set all random generators, see :meth:`get_generators`."""
        device = torch.device(self.device)
        torch.set_rng_state(states["cpu"])
        if device.type == "cuda" and states["device"] is not None:
            torch.cuda.set_rng_state(states["device"], device)
        if states["sampler"] is not None:
            kind, key, *rest = states["sampler"]
            self.sampler_.rng.set_state((kind, key.numpy().astype("uint32"), *rest))


def _read(rng) -> list:
    """Return the state of a generator of numpy, with the key as a tensor."""
    kind, key, *rest = rng.get_state()
    return [kind, torch.from_numpy(key.astype("int64")), *rest]
