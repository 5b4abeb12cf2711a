"""Nets of skorch that keep a GPU busy: windows stay there, losses are read late."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.dataset import Dataset, get_len
from torch.utils.data import default_collate

from braindecode_emossl.pretraining.windows import WindowArray

__all__ = ["DeviceTraining", "LabeledWindows", "collate", "find_device"]

# To read a number, the processor waits until the GPU has computed it.
_BATCHES_BETWEEN_READS = 25
# Share of the free memory of a GPU that windows may take.
_SHARE_FOR_WINDOWS = 0.5


class DeviceTraining(NeuralNet):
    """Base of the nets: train without waiting for the GPU after each batch.

    Entries of a batch in the history are tensors on the GPU until they are read, many
    batches at a time and at the end of an epoch; ``float`` reads one of them earlier.
    On the CPU they are numbers from the start.
    """

    unread_: list[tuple[int, dict, Any]]  # number, entry and labels of batches

    @property
    def reads_late(self) -> bool:
        """Whether the training is on a device that computes on its own."""
        return torch.device(self.device).type != "cpu"

    def get_params_for_optimizer(self, prefix, named_parameters):
        """Return the weights and settings of the optimizer, with AdamW fused."""
        weights, settings = super().get_params_for_optimizer(prefix, named_parameters)
        if self.optimizer is torch.optim.AdamW and "foreach" not in settings:
            settings = {"fused": True, **settings}
        return weights, settings

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Train or validate for one epoch, as in skorch, but read the losses late."""
        if iterator is None:
            return
        self.unread_ = []
        n_batches = 0
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            self.record_value(f"{prefix}_loss", step["loss"])
            self.history.record_batch(f"{prefix}_batch_size", get_len(batch[0]))
            self.notify("on_batch_end", batch=batch, training=training, **step)
            batches = self.history[-1]["batches"]
            self.unread_.append((len(batches), batches[-1], batch[1]))
            n_batches += 1
            if not self.reads_late or len(self.unread_) == _BATCHES_BETWEEN_READS:
                self.read_values()
        self.read_values()
        self.history.record(f"{prefix}_batch_count", n_batches)

    def record_value(self, name: str, value: torch.Tensor) -> None:
        """Record a number of the batch in the history, on a GPU without waiting."""
        # A copy, as a compiled training may write the next loss into the same memory.
        value = value.detach().clone() if self.reads_late else value.item()
        self.history.record_batch(name, value)

    def read_values(self) -> list[tuple[int, dict, Any]]:
        """Read what the last batches recorded, and return these batches."""
        read, self.unread_ = self.unread_, []
        places = [
            (entry, name)
            for _, entry, _ in read
            for name, value in entry.items()
            if isinstance(value, torch.Tensor)
        ]
        if places:
            values = torch.stack(
                [entry[name].to(self.device, torch.float32) for entry, name in places]
            )
            for (entry, name), value in zip(places, values.tolist(), strict=True):
                entry[name] = value
        return read

    def place(self, dataset, settings: dict):
        """Return a data set whose windows are on the GPU, if they fit there."""
        device = torch.device(self.device)
        if device.type != "cuda" or settings.get("num_workers"):
            return dataset  # processes cannot share what is on a GPU
        n_bytes = 4 * math.prod(dataset.windows.shape)
        free, _ = torch.cuda.mem_get_info(device)
        return dataset.to(device) if n_bytes <= _SHARE_FOR_WINDOWS * free else dataset


class LabeledWindows(Dataset):
    """Windows with labels, read a batch at a time; see :func:`collate`.

    With weights, the windows of a batch are ``x`` in a dict that also has their
    ``sample_weight``, so that callbacks of skorch find plain labels.

    Parameters
    ----------
    X : WindowArray
        The windows.
    y : torch.Tensor, shape (n_windows,)
        Codes of the classes.
    weights : torch.Tensor, shape (n_windows,), or None
        Weights of the windows in the loss.
    """

    def __init__(self, X: WindowArray, y, weights=None):
        # Callbacks of skorch look for these names.
        self.X = X
        self.y = y
        self.weights = weights

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, index: int):
        """Return a window, with its weight if there are weights, and its label."""
        windows, labels = self.__getitems__([index])
        if self.weights is None:
            return windows[0], labels[0]
        return {name: part[0] for name, part in windows.items()}, labels[0]

    def __getitems__(self, indices):
        """Return a batch, for a data loader."""
        rows = np.asarray(indices)
        on = torch.from_numpy(rows).to(self.y.device, non_blocking=True)
        windows: Any = self.X[rows]
        if self.weights is not None:
            windows = {"x": windows, "sample_weight": self.weights[on]}
        return windows, self.y[on]

    def to(self, device) -> LabeledWindows:
        """Return the data set on another device."""
        weights = None if self.weights is None else self.weights.to(device)
        return LabeledWindows(self.X.to(device), self.y.to(device), weights)


def collate(batch):
    """Return a batch of :class:`LabeledWindows`, or collate single windows."""
    return batch if isinstance(batch, tuple) else default_collate(batch)


def find_device(device) -> str | torch.device:
    """Return a device; "auto" is a CUDA GPU if there is one, else the CPU."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
