"""Trainings that keep their state, and resume from it as if never interrupted."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch.history import History

from braindecode_emossl.errors import CheckpointError
from braindecode_emossl.pretraining.state import load_state as read_state
from braindecode_emossl.pretraining.state import save_state as write_state
from braindecode_emossl.pretraining.windows import WindowDataset
from braindecode_emossl.storage import (
    hash_arrays,
    hash_bytes,
    hash_object,
    lock,
    remove_leftovers,
)

__all__ = ["ResumableTraining"]

# Settings that a resumed training must share with the one that was interrupted.
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
    "train_split",
    "iterator_train",
)
_PREFIXES = ("optimizer__", "sampler__", "iterator_train__")
# Arguments of a data loader that change how batches are read, but not which.
_SPEED = {
    f"iterator_train__{name}"
    for name in (
        "multiprocessing_context",
        "num_workers",
        "persistent_workers",
        "pin_memory",
        "pin_memory_device",
        "prefetch_factor",
        "timeout",
    )
}
_GENERATORS = torch.Generator, np.random.Generator, np.random.RandomState
# Entries of the identity that are hashes, which say nothing to people.
_CONTENTS = ("layers of the objective", "contents of the windows", "metadata")
# Entries of the file.
_ENTRIES = (
    "identity",
    "seed",
    "history",
    "progress",
    "objective",
    "optimizer",
    "scaler",
    "generators",
    "early_stopping",
    "provenance",
)
# Where an object lies in memory, in its repr.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# State of skorch's EarlyStopping.
_STOPPING = ("misses_", "dynamic_threshold_", "best_epoch_", "best_model_weights_")
# Bytes of the windows that are read at a time.
_CHUNK = 2**26
# Trainings that hold their checkpoint_dir, by id.
_holding: set[int] = set()


class ResumableTraining:
    """Mixin of a pre-trainer: keep the state of the training in ``checkpoint_dir``.

    The state is everything that the next step depends on: the objective, the
    optimizer, the random generators, the history and early stopping. It is that of the
    first training of an object, so that the same code finds it again.
    """

    saved_: Any  # the state to resume from, or None
    identity_: dict[str, str] | None  # of the training whose state is kept, or None

    @property
    def checkpoint_folder(self) -> Path:
        """The folder of ``checkpoint_dir``, which may begin with ``~``."""
        return Path(self.checkpoint_dir).expanduser()

    @property
    def _state_path(self) -> Path:
        return self.checkpoint_folder / "state.safetensors"

    @contextmanager
    def hold_checkpoint_dir(self) -> Iterator[None]:
        """Keep other trainings out of ``checkpoint_dir``, also if entered twice."""
        if self.checkpoint_dir is None or id(self) in _holding:
            yield
            return
        folder = self.checkpoint_folder
        busy = CheckpointError(
            f"Another training is using checkpoint_dir={str(folder)!r}, and the two "
            "would overwrite each other's state. Wait until it ends, or pass another "
            "checkpoint_dir."
        )
        with lock(folder / ".lock", busy=busy):
            _holding.add(id(self))
            try:
                remove_leftovers(folder)
                yield
            finally:
                _holding.discard(id(self))

    def load_state(self, dataset: WindowDataset) -> dict | None:
        """Return the state to resume from, or None to start from the beginning."""
        self.identity_ = None
        if self.checkpoint_dir is None:
            return None
        self._check_generators()
        self.identity_ = self._identify(dataset)
        if not self._state_path.exists():
            return None
        if not self.resume:
            raise CheckpointError(
                f"{self._state_path} is the state of an earlier training. Pass "
                "resume=True (--resume) to resume it, or another checkpoint_dir "
                "(--output), or delete the file."
            )
        state = read_state(self._state_path)
        for name in _ENTRIES:
            if name not in state:
                raise self.unusable(f"it has no entry {name!r}")
        self._check_identity(state["identity"], self.identity_)
        return state

    def _check_generators(self) -> None:
        """Refuse generators of objective and batches, whose states are not kept."""
        for name, value in getattr(self.objective, "settings", {}).items():
            if isinstance(value, np.random.RandomState):
                raise CheckpointError(
                    f"{name} of the objective must be an integer or None with "
                    "checkpoint_dir, as a training with a RandomState cannot be "
                    "resumed."
                )
        for name, value in self.get_params_for("iterator_train").items():
            value = getattr(value, "sampler", value)
            own = getattr(value, "generator", value), getattr(value, "rng", None)
            if any(isinstance(one, _GENERATORS) for one in own):
                raise CheckpointError(
                    f"iterator_train__{name} must not have a generator with "
                    "checkpoint_dir, as its state is not kept. Leave it out, as the "
                    "order of the windows follows from random_state, and pass the "
                    "class of a sampler as sampler=."
                )

    def _check_identity(self, before: dict[str, str], now: dict[str, str]) -> None:
        """Name all settings in which two trainings differ."""
        changes = [
            f"the {name} differ{'s' * (name == 'metadata')}"
            if name in _CONTENTS
            else f"{name} was {before.get(name, 'unset')!s:.100}, but is now "
            f"{now.get(name, 'unset')!s:.100}"
            for name in {**now, **before}
            if before.get(name) != now.get(name)
        ]
        if changes:
            raise CheckpointError(
                f"{self._state_path} is the state of another training: "
                f"{'; '.join(changes)}. Use the earlier settings to resume it, pass "
                "another checkpoint_dir (--output), or delete the file to start from "
                "the beginning."
            )

    def _identify(self, dataset: WindowDataset) -> dict[str, str]:
        """Return everything that must be the same for a training to be resumed."""
        names = [*_FIXED, *(("max_epochs", "max_steps") if self.schedule else ())]
        params = self.get_params(deep=False)
        names += [n for n in params if n.startswith(_PREFIXES) and n not in _SPEED]
        settings = {name: _describe(params[name]) for name in names}
        if isinstance(self.random_state, np.random.RandomState):
            settings["random_state"] = f"a RandomState that draws {self.seed_}"
        n_windows, *shape = dataset.windows.shape
        return {
            **settings,
            **_describe_objective(self.objective),
            "windows": f"{n_windows} of shape {tuple(shape)}",
            "contents of the windows": _hash_windows(dataset.windows),
            # The validation subjects and the draws of a sampler depend on them.
            "metadata": hash_object(dataset.metadata, "metadata"),
        }

    def save_state(self) -> None:
        """Write everything that the next step depends on."""
        if self.identity_ is None:
            return
        stopping = dict(self.callbacks_).get("early_stopping")
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
                "generators": self.get_generators(),
                "provenance": self.provenance_,
                "early_stopping": None
                if stopping is None
                else {name: getattr(stopping, name) for name in _STOPPING},
            },
        )

    def restore_state(self) -> None:
        """Continue from the state that was loaded."""
        state, self.saved_ = self.saved_, None
        try:
            self.history_ = History(state["history"])
            self.set_progress(state["progress"])
            self.objective_.load_state_dict(state["objective"])
            self.optimizer_.load_state_dict(state["optimizer"])
            self.scaler_.load_state_dict(state["scaler"])
            if state["early_stopping"] is not None:
                stopping = dict(self.callbacks_)["early_stopping"]
                for name in _STOPPING:
                    setattr(stopping, name, state["early_stopping"][name])
            self.set_generators(state["generators"])
            self.set_provenance(state["provenance"])
        except KeyError as error:
            raise self.unusable(f"it has no entry {error}") from error
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise self.unusable(str(error)) from error

    def unusable(self, reason: str) -> CheckpointError:
        """Return the error of a state that a training cannot resume from."""
        return CheckpointError(
            f"{self._state_path} cannot be resumed: {reason}. Delete it to train from "
            "the beginning."
        )


def _describe(value) -> str:
    """Return a setting as text that is the same in another process."""
    if isinstance(value, type):
        return value.__qualname__
    text = repr(value.item() if isinstance(value, np.generic) else value)
    if _ADDRESS.search(text):
        text += f" {_list_contents(value)}"
    return _ADDRESS.sub("", text)


def _list_contents(value) -> dict | str:
    """Return the attributes of an object, or a hash of the code of a function."""
    if not inspect.isfunction(value):
        return getattr(value, "__dict__", "")
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    code = value.__code__
    parts = repr((code.co_code, code.co_consts, value.__defaults__, cells))
    return hash_bytes(_ADDRESS.sub("", parts).encode())


def _describe_objective(objective) -> dict[str, str]:
    """Return the settings of an objective and its model, as far as they are known."""
    described = {"objective": type(objective).__name__}
    settings = getattr(objective, "settings", {})
    described |= {f"objective {k}": _describe(v) for k, v in settings.items()}
    encoder: object = getattr(objective, "encoder", None)
    described["model"] = type(encoder).__name__
    if hasattr(encoder, "get_config"):
        config = encoder.get_config().items()
        described |= {f"model {k}": _describe(v) for k, v in config}
    if (seen := getattr(encoder, "provenance", None)) is not None:
        described["earlier recordings of the model"] = _describe(seen)
    layers = hash_bytes(repr(objective).encode())
    return {**described, "layers of the objective": layers}


def _hash_windows(windows) -> str:
    """Return a hash of all windows, or why there is none."""
    parts = getattr(windows.X, "datasets", ())
    if any(getattr(part, "transform", None) for part in parts):
        return "changed by a transform"  # which may be random
    return hash_arrays(_read_windows(windows))


def _read_windows(windows) -> Iterator[np.ndarray]:
    """Yield all windows, as many at a time as fit into little memory."""
    n_windows, *shape = windows.shape
    size = max(1, _CHUNK // (4 * max(1, int(np.prod(shape)))))
    for first in range(0, n_windows, size):
        rows = np.arange(first, min(first + size, n_windows))
        yield windows[rows].numpy()
