"""Fine-tuning: which layers learn, how fast, and from when on."""

from __future__ import annotations

import torch
from braindecode import EEGClassifier
from torch import nn

from braindecode_emossl.pretraining.pretrainer import RaiseInterrupt

__all__ = ["STRATEGIES", "FineTuner", "check_strategy", "find_layers"]

#: The ways to fine-tune.
STRATEGIES = ("full", "linear-probe", "layer-decay", "gradual")


class FineTuner(RaiseInterrupt, EEGClassifier):
    """Train a model with labels, all of it at once or layer by layer.

    A :class:`braindecode.EEGClassifier`. Layers are told apart by
    :func:`find_layers`. What is frozen stays as it is altogether: it neither drops
    units nor follows the statistics of the batches.

    Parameters
    ----------
    module : torch.nn.Module
        The model, with a ``final_layer`` as braindecode's have. It is trained in
        place.
    finetune : {"full", "linear-probe", "layer-decay", "gradual"}
        What is trained: all weights alike; ``final_layer`` alone, on frozen features;
        all weights, each layer at ``layer_decay`` times the learning rate of the layer
        after it [1]_; or ``final_layer`` in the first epoch and one more layer in each
        epoch after it, from the last to the first [2]_.
    layer_decay : float
        Ratio of the learning rates of neighbouring layers, in (0, 1]; for
        ``finetune="layer-decay"``.
    **kwargs
        Further arguments of :class:`braindecode.EEGClassifier`. Unlike there, all
        windows train in each epoch, and none are set apart.

    Attributes
    ----------
    layers_ : list of str
        Names of the layers, the first one first; empty if they are not told apart.

    Raises
    ------
    ValueError
        If ``finetune`` is none of these, ``layer_decay`` is out of range, or the model
        has no ``final_layer`` with weights.

    References
    ----------
    .. [1] Bao, H., Dong, L., Piao, S., & Wei, F. (2022). BEiT: BERT Pre-Training of
       Image Transformers. ICLR. https://arxiv.org/abs/2106.08254
    .. [2] Howard, J., & Ruder, S. (2018). Universal Language Model Fine-tuning for Text
       Classification. ACL. https://doi.org/10.18653/v1/P18-1031
    """

    # The model that was given is the one that is trained, on the same device.
    cuda_dependent_attributes_ = ["module"]  # noqa: RUF012

    def __init__(self, module, *, finetune="full", layer_decay=0.75, **kwargs):
        self.finetune = finetune
        self.layer_decay = layer_decay
        settings = {
            "optimizer": torch.optim.AdamW,
            "train_split": None,
            "iterator_train__drop_last": False,
            "verbose": 0,
        }
        super().__init__(module, **{**settings, **kwargs})

    def initialize_module(self):
        """Take the model and find its layers."""
        check_strategy(self.finetune, self.layer_decay)
        super().initialize_module()
        self.layers_ = [] if self.finetune == "full" else find_layers(self.module_)
        # What the model itself keeps frozen is never thawed.
        self.trainable_ = {
            name for name, p in self.module_.named_parameters() if p.requires_grad
        }
        return self

    def get_params_for_optimizer(self, prefix, named_parameters):
        """Return the weights with their learning rates."""
        weights = list(named_parameters)
        groups, settings = super().get_params_for_optimizer(prefix, weights)
        if self.finetune != "layer-decay":
            return groups, settings
        by_depth: list[list] = [[] for _ in self.layers_]
        for name, weight in weights:
            by_depth[self._depth(name)].append(weight)
        layers = [
            {"params": params, "lr": settings["lr"] * self.layer_decay**distance}
            for distance, params in enumerate(reversed(by_depth))
        ]
        return (layers,), settings

    def on_epoch_begin(self, net, **kwargs):
        """Freeze the layers whose time has not come."""
        super().on_epoch_begin(net, **kwargs)
        first = len(self.layers_) - self._n_trained
        for name, weight in self.module_.named_parameters():
            weight.requires_grad_(
                name in self.trainable_ and self._depth(name) >= first
            )

    def infer(self, x, **fit_params):
        """Apply the model, its frozen layers as in prediction."""
        if self.module_.training and self._n_trained < len(self.layers_):
            self.module_.eval()
            for name in self.layers_[-self._n_trained :]:
                self.module_.get_submodule(name).train()
        return super().infer(x, **fit_params)

    @property
    def _n_trained(self) -> int:
        """Number of layers, from the last one, that are trained in this epoch."""
        epoch = len(self.history)  # from 1
        n_trained = {"linear-probe": 1, "gradual": epoch}
        return min(n_trained.get(self.finetune, len(self.layers_)), len(self.layers_))

    def _depth(self, name: str) -> int:
        """Return the number of the layer that a weight belongs to."""
        for depth, layer in enumerate(self.layers_):
            if name.startswith(f"{layer}."):
                return depth
        return 0  # tokens and the like enter at the start


def check_strategy(finetune, layer_decay) -> None:
    """Refuse settings that no model can be fine-tuned with.

    Parameters
    ----------
    finetune, layer_decay : object
        As in :class:`FineTuner`.

    Raises
    ------
    ValueError
        If one of them is out of range.
    """
    if finetune not in STRATEGIES:
        raise ValueError(f"finetune must be one of {STRATEGIES}, but got {finetune!r}.")
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be in (0, 1], but got {layer_decay}.")


def find_layers(model: nn.Module) -> list[str]:
    """Return the names of a model's layers, the first one first.

    Layers are the children of the model that hold weights, in the order in which the
    model names them; of a plain list or sequence its own children. The head,
    ``final_layer``, is one layer and the last. Weights of the model itself, such as a
    class token, belong to the first layer.

    Parameters
    ----------
    model : torch.nn.Module
        A model with a ``final_layer``.

    Returns
    -------
    list of str
        Names as in :meth:`torch.nn.Module.named_modules`.

    Raises
    ------
    ValueError
        If there is no ``final_layer`` with weights.

    Examples
    --------
    >>> find_layers(SCMM(n_outputs=3, n_chans=62, n_times=800, sfreq=200))
    ['blocks.0', 'blocks.1', 'blocks.2', 'final_layer']
    """
    children = dict(model.named_children())
    head = children.pop("final_layer", None)
    if head is None or not _has_weights(head):
        raise ValueError(
            "A model to fine-tune must have a final_layer with weights, as the "
            f"classifiers of braindecode have, but {type(model).__name__} has the "
            f"children {[name for name, _ in model.named_children()]}."
        )
    layers = []
    for name, child in children.items():
        if type(child) in (nn.Sequential, nn.ModuleList):
            parts = {f"{name}.{key}": part for key, part in child.named_children()}
        else:
            parts = {name: child}
        layers += [name for name, part in parts.items() if _has_weights(part)]
    return [*layers, "final_layer"]


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
