"""Pre-trained objectives on disk, so that equal pre-training runs only once."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch.history import History

from braindecode_emossl.errors import CheckpointError
from braindecode_emossl.pretraining.checkpoints import (
    find_fault,
    load_checkpoint,
    save_checkpoint,
)
from braindecode_emossl.pretraining.pretrainer import SSLPretrainer, draw_seed
from braindecode_emossl.storage import (
    find_folder,
    hash_object,
    lock,
    write_folder,
)

__all__ = ["PretrainingMemory"]

log = logging.getLogger(__name__)

_HISTORY, _CHECKPOINT = "history.json", "checkpoint"

# Settings that do not change the result: reports, and where unfinished states are.
_FREE = {"checkpoint_dir", "progress", "resume", "verbose"}


class PretrainingMemory:
    """Pre-trained objectives in a folder, identified by everything they depend on.

    The name of an entry is a hash of the windows and their metadata, the objective with
    its settings and initial weights, the settings of the trainer with its seed, and the
    versions of this package and torch. The settings of an objective are the arguments
    that it was made with; attributes that were set later do not count. An entry is
    never out of date otherwise, unless the code of an installed package was edited.
    Entries are checkpoints; a damaged one is trained again. The training of an
    objective that cannot be saved is not kept.

    Several processes may use a folder at once: a process that needs an entry that
    another one is training waits for it. The folder may be deleted whenever no process
    uses it.

    Parameters
    ----------
    folder : path
        Folder of the entries, made if needed.

    Examples
    --------
    >>> pretrainer = SSLPretrainer(objective, max_steps=500, random_state=0)
    >>> pretrainer = PretrainingMemory("pretrained").fit(pretrainer, X)
    """

    def __init__(self, folder):
        self.folder = Path(folder).expanduser().absolute()

    def fit(self, pretrainer: SSLPretrainer, X, metadata=None) -> SSLPretrainer:
        """Pre-train, or read the result of the same pre-training.

        Parameters
        ----------
        pretrainer : SSLPretrainer
            Its ``random_state`` must be an integer, as no other seed can be repeated.
        X : ndarray, shape (n_windows, n_chans, n_times)
            Windows.
        metadata : DataFrame or None
            See :meth:`SSLPretrainer.fit`.

        Returns
        -------
        SSLPretrainer
            The pretrainer, with the documented attributes that ``fit`` sets;
            ``sampler_`` is None if the result was read.
        """
        fault = find_fault(self.folder, pretrainer.objective)
        if fault is not None:
            log.warning(
                "The pre-training is not cached in %s, as the objective cannot be "
                "saved: %s",
                self.folder,
                fault,
            )
            return pretrainer.fit(X, metadata=metadata)
        entry = self.folder / self._key(pretrainer, X, metadata)
        # Checkpoints build models, which draws random numbers: what is drawn afterwards
        # must not depend on whether the entry existed.
        with torch.random.fork_rng(devices=[]):
            if _read(entry, pretrainer, X, metadata) is None:
                return pretrainer
            with lock(self.folder / f".{entry.name}.lock"):
                # Another process may have trained it in the meantime.
                problem = _read(entry, pretrainer, X, metadata)
                if problem is None:
                    return pretrainer
                if not isinstance(problem, FileNotFoundError):
                    log.warning("%s is damaged; pre-training again: %s", entry, problem)
                pretrainer.fit(X, metadata=metadata)
                write_folder(entry, lambda folder: _write(folder, pretrainer))
        return pretrainer

    def _key(self, pretrainer: SSLPretrainer, X, metadata) -> str:
        """Return a hash of everything that the result depends on."""
        settings = pretrainer.get_params(deep=False)
        objective = settings.pop("objective")
        settings["device"] = torch.device(pretrainer.find_device()).type
        contents = {
            "windows": np.ascontiguousarray(X, np.float32),
            "metadata": metadata,
            "objective": _describe(objective),
            "settings": [
                (name, settings[name])
                for name in sorted(settings)
                if name not in _FREE and not name.startswith("_")
            ],
            "versions": [version("braindecode-emossl"), torch.__version__],
        }
        return hash_object(contents, "The pre-training")


def _read(entry: Path, pretrainer: SSLPretrainer, X, metadata) -> Exception | None:
    """Put an entry into a pretrainer, and return its fault if it is damaged."""
    folder = find_folder(entry)
    if not folder.exists():
        return FileNotFoundError(folder)
    try:
        objective = load_checkpoint(folder / _CHECKPOINT, pretrainer.find_device())
        history = History.from_file(str(folder / _HISTORY))
    except (CheckpointError, OSError, ValueError) as error:
        return CheckpointError(str(error))
    dataset = pretrainer.gather(X, metadata)
    pretrainer.initialize()
    pretrainer.note_provenance(dataset)
    pretrainer.seed_ = draw_seed(pretrainer.random_state)
    train, _ = pretrainer.get_split_datasets(dataset)  # sets validation_subjects_
    pretrainer.objective_.load_state_dict(objective.state_dict())
    # What is not saved follows from the training windows.
    pretrainer.tell_objective("on_resume", train.windows, metadata=train.metadata)
    pretrainer.history_ = history
    per_step = pretrainer.gradient_accumulation_steps
    n_batches = history[:, "train_batch_count"] if history else []
    pretrainer.n_steps_ = sum(-(-n // per_step) for n in n_batches)
    return None


def _write(folder: Path, pretrainer: SSLPretrainer) -> None:
    save_checkpoint(folder / _CHECKPOINT, pretrainer.objective_, pretrainer.provenance_)
    pretrainer.history.to_file(str(folder / _HISTORY))


def _describe(objective) -> dict[str, Any]:
    """Return everything that an objective starts from."""
    encoder = objective.encoder
    return {
        "classes": [type(objective), type(encoder)],
        "settings": objective.settings,
        "model": encoder.get_config(),
        # As parameters: frozen ones are hashed as such.
        "weights": dict(objective.state_dict(keep_vars=True)),
    }
