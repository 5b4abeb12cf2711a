"""Pre-trained objectives on disk, so that equal pre-training runs once."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from filelock import FileLock
from skorch.history import History

from braindecode_emossl.pretraining.checkpoints import load_checkpoint, save_checkpoint
from braindecode_emossl.pretraining.pretrainer import SSLPretrainer, draw_seed
from braindecode_emossl.pretraining.windows import WindowDataset, gather_windows

__all__ = ["PretrainingStore"]

_HISTORY = "history.json"

# What changes nothing in the result: how to report, where to keep what is half done.
_FREE = {"checkpoint_dir", "progress", "resume", "verbose"}


class PretrainingStore:
    """Pre-trained objectives in a folder, found again by all that they depend on.

    The name of an entry is a hash of the windows, the objective with its settings and
    first weights, the settings of the trainer with its seed, and the versions of this
    package and torch: an entry is never out of date, unless the code of an installed
    package was edited. Several processes may use a folder at once: whoever asks for
    what another one is training waits for it. Entries are checkpoints; the folder may
    be deleted at any time that nobody uses it.

    Parameters
    ----------
    folder : path
        Where the entries lie; made if needed.

    Examples
    --------
    >>> pretrainer = SSLPretrainer(objective, max_epochs=50, random_state=0)
    >>> pretrainer = PretrainingStore("pretrained").fit(pretrainer, X)
    """

    def __init__(self, folder):
        self.folder = Path(folder).expanduser().absolute()

    def fit(self, pretrainer: SSLPretrainer, X, metadata=None) -> SSLPretrainer:
        """Pre-train, unless the same was done before.

        Parameters
        ----------
        pretrainer : SSLPretrainer
            With an integer as its ``random_state``, since no other seed comes again.
        X : ndarray, shape (n_windows, n_chans, n_times)
            Windows.
        metadata : DataFrame or None
            As :meth:`SSLPretrainer.fit` takes it.

        Returns
        -------
        SSLPretrainer
            The pretrainer, with its documented attributes as after its ``fit``.
        """
        entry = self.folder / self._key(pretrainer, X, metadata)
        self.folder.mkdir(parents=True, exist_ok=True)
        # Checkpoints build models, which draws numbers: what is drawn afterwards must
        # not depend on whether the entry was there.
        with FileLock(f"{entry}.lock"), torch.random.fork_rng(devices=[]):
            if entry.exists():
                self._read(entry, pretrainer, gather_windows(X, metadata))
            else:
                pretrainer.fit(X, metadata=metadata)
                self._write(entry, pretrainer)
        return pretrainer

    def _key(self, pretrainer: SSLPretrainer, X, metadata) -> str:
        """Return a hash of all that the result depends on."""
        settings = pretrainer.get_params(deep=False)
        objective = settings.pop("objective")
        settings["device"] = torch.device(settings["device"]).type
        return joblib.hash(
            {
                "windows": np.ascontiguousarray(X, np.float32),
                "metadata": metadata,
                "objective": _describe(objective),
                "settings": {
                    name: value
                    for name, value in settings.items()
                    if name not in _FREE and not name.startswith("_")
                },
                "versions": [version("braindecode-emossl"), torch.__version__],
            }
        )

    def _write(self, entry: Path, pretrainer: SSLPretrainer) -> None:
        """Write under another name first: an entry is whole or not there."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".") as scratch:
            written = Path(scratch, entry.name)
            save_checkpoint(
                written / "checkpoint", pretrainer.objective_, pretrainer.provenance_
            )
            pretrainer.history.to_file(str(written / _HISTORY))
            try:
                written.rename(entry)
            except OSError:
                # Not all file systems keep locks; then the first one wins.
                if not entry.exists():
                    raise

    def _read(
        self, entry: Path, pretrainer: SSLPretrainer, dataset: WindowDataset
    ) -> None:
        """Put what was pre-trained before into a pretrainer."""
        pretrainer.initialize()
        pretrainer.provenance_ = dataset.provenance
        pretrainer.seed_ = draw_seed(pretrainer.random_state)
        pretrainer.get_split_datasets(dataset)  # tells who validated
        objective = load_checkpoint(entry / "checkpoint", pretrainer.device)
        pretrainer.objective_.load_state_dict(objective.state_dict())
        pretrainer.history_ = History.from_file(str(entry / _HISTORY))


def _describe(objective) -> dict[str, Any]:
    """Return all that an objective starts from."""
    encoder = objective.encoder
    return {
        "classes": [type(objective), type(encoder)],
        "settings": objective.settings,
        "model": encoder.get_config(),
        "weights": {
            name: tensor.detach().cpu().numpy()
            for name, tensor in objective.state_dict().items()
        },
    }
