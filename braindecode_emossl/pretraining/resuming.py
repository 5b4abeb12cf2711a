"""Trainings that are resumed after they were killed, as if they had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from skorch.history import History

from braindecode_emossl.errors import CheckpointError
from braindecode_emossl.pretraining.state import load_state as read_state
from braindecode_emossl.pretraining.state import save_state as write_state
from braindecode_emossl.pretraining.windows import WindowDataset

__all__ = ["ResumableTraining"]

# Arguments that a resumed training must share with the one that it goes on with.
_FIXED = (
    "batch_size",
    "lr",
    "optimizer",
    "random_state",
    "sampler",
    "warmup_steps",
    "schedule",
    "gradient_clip_value",
    "gradient_accumulation_steps",
    "precision",
    "validation",
    "patience",
)
# What skorch's EarlyStopping goes by.
_STOPPING = ("misses_", "dynamic_threshold_", "best_epoch_", "best_model_weights_")


class ResumableTraining:
    """Mixin of a pre-trainer: keep the state of the training in ``checkpoint_dir``.

    The state is all that the next epoch depends on: the objective, the optimiser, the
    random generators, the history, and what stops early.
    """

    saved_: Any  # the state to go on with, or None

    @property
    def _state_path(self) -> Path:
        return Path(self.checkpoint_dir, "state.safetensors")

    def load_state(self, dataset: WindowDataset) -> dict | None:
        """Return the state to go on with, None to begin."""
        if self.checkpoint_dir is None:
            return None
        self.identity_ = self._identify(dataset)
        Path(self.checkpoint_dir).mkdir(parents=True, exist_ok=True)
        if not self._state_path.exists():
            return None
        if not self.resume:
            raise CheckpointError(
                f"{self._state_path} is the state of an earlier training. Pass "
                "resume=True to go on with it, or another checkpoint_dir; or delete it."
            )
        state = read_state(self._state_path)
        before = state["identity"]
        for name in {**self.identity_, **before}:
            value, now = before.get(name), self.identity_.get(name)
            if value != now:
                raise CheckpointError(
                    f"{self._state_path} is of a training with {name} = {value}, but "
                    f"it is now {now}. Set it back to resume, or pass another "
                    "checkpoint_dir."
                )
        return state

    def _identify(self, dataset: WindowDataset) -> dict:
        """Return what must be the same for a training to be resumed."""
        names = [*_FIXED, *(("max_epochs", "max_steps") if self.schedule else ())]
        params = self.get_params(deep=False)
        names += [n for n in params if n.startswith(("optimizer__", "sampler__"))]
        settings = {name: _name(params[name]) for name in names}
        ends = dataset.windows[np.array([0, len(dataset) - 1])]
        # Who validates and what a sampler draws depend on the metadata.
        metadata = "" if dataset.metadata is None else dataset.metadata.to_csv()
        return {
            **settings,
            "objective": joblib.hash(repr(self.objective)),
            "objective settings": repr(getattr(self.objective, "settings", None)),
            "windows": f"{dataset.windows.shape} {joblib.hash(ends.numpy())}",
            "metadata": joblib.hash(metadata),
        }

    def save_state(self) -> None:
        """Write all that the next epoch depends on."""
        if self.checkpoint_dir is None:
            return
        sampler = self.sampler_
        stopping = dict(self.callbacks_).get("early_stopping")
        device = torch.device(self.device)
        write_state(
            self._state_path,
            {
                "identity": self.identity_,
                "seed": self.seed_,
                "history": self.history.to_list(),
                "progress": self.get_progress(),
                "objective": self.objective_.state_dict(),
                "optimizer": self.optimizer_.state_dict(),
                "scaler": self.scaler_.state_dict(),
                "random": torch.get_rng_state(),
                "random_device": _get_device_rng(device),
                "sampler": None if sampler is None else _get_rng(sampler.rng),
                "early_stopping": None
                if stopping is None
                else {name: getattr(stopping, name) for name in _STOPPING},
            },
        )

    def restore_state(self) -> int:
        """Bring back what was saved, and return the number of epochs done."""
        state, self.saved_ = self.saved_, None
        self.history_ = History(state["history"])
        self.set_progress(state["progress"])
        self.objective_.load_state_dict(state["objective"])
        self.optimizer_.load_state_dict(state["optimizer"])
        self.scaler_.load_state_dict(state["scaler"])
        if state["sampler"] is not None:
            self.sampler_.rng.set_state(_as_rng_state(state["sampler"]))
        if state["early_stopping"] is not None:
            vars(dict(self.callbacks_)["early_stopping"]).update(
                state["early_stopping"]
            )
        device = torch.device(self.device)
        if device.type == "cuda" and state["random_device"] is not None:
            torch.cuda.set_rng_state(state["random_device"], device)
        torch.set_rng_state(state["random"])
        return len(self.history)


def _name(value) -> str:
    """Return a setting as a text that another process gives too."""
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, np.random.RandomState):
        return "RandomState"
    return repr(value.item() if isinstance(value, np.generic) else value)


def _get_device_rng(device: torch.device) -> torch.Tensor | None:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _get_rng(rng: np.random.RandomState) -> dict:
    state = rng.get_state(legacy=False)
    return {**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}}


def _as_rng_state(state: dict) -> dict:
    key = np.array(state["state"]["key"], np.uint32)
    return {**state, "state": {**state["state"], "key": key}}
