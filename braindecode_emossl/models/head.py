"""The head of a model, which can be replaced."""

from __future__ import annotations

from torch import nn

from braindecode_emossl.hosts import set_n_outputs

__all__ = ["ReplaceableHead"]


class ReplaceableHead:
    """Mixin of a model of braindecode whose head is made by ``_make_head``."""

    def reset_head(self, n_outputs: int) -> None:
        """Replace ``final_layer`` by a new one.

        Parameters
        ----------
        n_outputs : int
            Number of outputs of the new head, which has the device, the dtype and the
            mode, of training or evaluation, of the old one.
        """
        set_n_outputs(self, n_outputs)
        old = next(self.final_layer.parameters())
        is_training = self.final_layer.training
        self.final_layer = self._make_head().to(old).train(is_training)

    def _make_head(self) -> nn.Module:
        """Return a new head with ``n_outputs`` outputs."""
        raise NotImplementedError
