"""Callbacks of skorch for pre-training."""

from __future__ import annotations

import numpy as np
from skorch.callbacks import Callback

__all__ = ["RecordTerms"]


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
