"""Strategies for fine-tuning a pre-trained model."""

from __future__ import annotations

import copy
import math
from itertools import chain, islice, repeat

import numpy as np
import torch
from braindecode import EEGClassifier
from skorch.callbacks import EarlyStopping, GradientNormClipping
from skorch.utils import to_tensor
from torch import nn
from torch.utils.data import DataLoader

from braindecode_emossl.checks import check_choice, is_count
from braindecode_emossl.pretraining.callbacks import restore_rates
from braindecode_emossl.pretraining.device_training import (
    DeviceTraining,
    LabeledWindows,
    collate,
)
from braindecode_emossl.pretraining.loop import RaiseInterrupt
from braindecode_emossl.pretraining.model_factory import list_forward_arguments
from braindecode_emossl.pretraining.windows import WindowArray

__all__ = ["STRATEGIES", "FineTuner", "check_strategy", "find_layers"]

#: The strategies.
STRATEGIES = ("full", "linear-probe", "layer-decay", "gradual")

# Rounds that a training of max_steps is divided into.
_N_ROUNDS = 20
# Windows whose features a linear probe computes at a time, and the most that it keeps.
_BLOCK, _MOST_BYTES = 256, 2**28


class FineTuner(RaiseInterrupt, DeviceTraining, EEGClassifier):
    """Train a model with labels, all layers at once or one after the other.

    A :class:`braindecode.EEGClassifier` that counts in steps or in epochs. Layers are
    those of :func:`find_layers`. Frozen layers behave as in prediction: they neither
    drop units nor update the statistics of batch normalisation.

    Parameters
    ----------
    module : torch.nn.Module
        The model, with a ``final_layer`` as in braindecode. It is trained in place.
    finetune : {"full", "linear-probe", "layer-decay", "gradual"}
        Which weights are trained: all alike; ``final_layer`` alone, on frozen features;
        all, each layer at ``layer_decay`` times the learning rate of the next one [1]_;
        or ``final_layer`` in the first epoch and one more layer in each later epoch,
        from the last to the first [2]_.
    layer_decay : float
        Ratio of the learning rates of neighbouring layers, in (0, 1]; used by
        ``finetune="layer-decay"``.
    max_steps : int or None
        Number of updates. The training is divided into 20 rounds of equal length; each
        round is an entry of ``history``, ends with a validation if there is validation
        data, and takes the place of an epoch everywhere. None: ``max_epochs`` counts.
    schedule : {"cosine", None}
        Whether the learning rate falls to zero along a half cosine, or is constant.
    schedule_length : int or None
        Steps (with ``max_steps``) or epochs after which the learning rate is zero.
        None: the length of the training.
    gradient_clip_value : float or None
        Largest norm of the gradient of all weights together.
    patience : int or None
        Epochs without a lower ``valid_loss`` after which training stops. If it is set,
        the weights with the lowest ``valid_loss`` are restored. It needs validation
        data (``train_split``).
    **kwargs
        Further arguments of :class:`braindecode.EEGClassifier`, such as
        ``optimizer__weight_decay``. Unlike there, all windows are used in each epoch,
        and none are held out.

    Attributes
    ----------
    layers_ : list of str
        Names of the layers, the first one first; empty for ``finetune="full"``.
    n_steps_ : int
        Number of updates made.

    Raises
    ------
    ValueError
        If a setting is out of range, or the model has no ``final_layer`` with weights.

    References
    ----------
    .. [1] Bao, H., Dong, L., Piao, S., & Wei, F. (2022). BEiT: BERT Pre-Training of
       Image Transformers. ICLR. https://arxiv.org/abs/2106.08254
    .. [2] Howard, J., & Ruder, S. (2018). Universal Language Model Fine-tuning for Text
       Classification. ACL. https://doi.org/10.18653/v1/P18-1031
    """

    #: Whether a batch in training is not windows but the features of a linear probe.
    reads_features_ = False

    # The given model is itself trained, so both names refer to the same weights.
    cuda_dependent_attributes_ = ["module"]  # noqa: RUF012

    def __init__(
        self,
        module,
        *,
        finetune="full",
        layer_decay=0.75,
        max_steps=None,
        schedule="cosine",
        schedule_length=None,
        gradient_clip_value=1.0,
        patience=None,
        **kwargs,
    ):
        self.finetune = finetune
        self.layer_decay = layer_decay
        self.max_steps = max_steps
        self.schedule = schedule
        self.schedule_length = schedule_length
        self.gradient_clip_value = gradient_clip_value
        self.patience = patience
        settings = {
            "optimizer": torch.optim.AdamW,
            "train_split": None,
            "iterator_train__drop_last": False,
            "iterator_train__collate_fn": collate,
            "iterator_valid__collate_fn": collate,
            "verbose": 0,
        }
        super().__init__(module, **{**settings, **kwargs})

    def get_default_callbacks(self):
        """Return the callbacks of skorch, with clipping and early stopping."""
        callbacks = list(super().get_default_callbacks())
        if self.gradient_clip_value is not None:
            callbacks.append(("clip", GradientNormClipping(self.gradient_clip_value)))
        if self.patience is not None:
            stopping = EarlyStopping(
                patience=self.patience, threshold=0, load_best=True, sink=_be_silent
            )
            callbacks.append(("early_stopping", stopping))
        return callbacks

    def initialize_module(self):
        """Take the model and find its layers."""
        self._check_settings()
        super().initialize_module()
        self.layers_ = [] if self.finetune == "full" else find_layers(self.module_)
        # Weights that the model itself keeps frozen stay frozen.
        self.trainable_ = {
            name for name, p in self.module_.named_parameters() if p.requires_grad
        }
        self.forward_arguments_ = list_forward_arguments(self.module_)
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

    def fit(self, X, y=None, sample_weight=None, **fit_params):
        """Train the model.

        Parameters
        ----------
        X : ndarray, shape (n_windows, n_chans, n_times), or Dataset
            Windows.
        y : ndarray of int, shape (n_windows,), or None
            Codes of the classes, from 0.
        sample_weight : array-like, shape (n_windows,), or None
            Weight of each window in the loss; only ratios matter.
        **fit_params
            Passed to ``forward`` of the model.

        Returns
        -------
        FineTuner
            The fitted classifier.
        """
        if sample_weight is not None:
            weights = np.asarray(sample_weight, np.float32)
            weights = torch.from_numpy(weights / weights.mean())
            labels = torch.from_numpy(np.asarray(y))
            X = LabeledWindows(WindowArray(X), labels, weights)
        return super().fit(X, y, **fit_params)

    def get_dataset(self, X, y=None):
        """Return windows, with labels of zero if there are none, as a data set."""
        if isinstance(X, np.ndarray):
            X = WindowArray(X)
        if not isinstance(X, WindowArray):
            return super().get_dataset(X, y)
        labels = np.zeros(len(X), int) if y is None else np.asarray(y)
        return LabeledWindows(X, torch.from_numpy(labels))

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train for the number of steps, or of epochs, that was set."""
        self.n_steps_ = 0
        if self.max_steps is not None:
            epochs = math.ceil(self.max_steps / self._steps_per_round)
        try:
            return super().fit_loop(X, y, epochs=epochs, **fit_params)
        finally:
            self.reads_features_ = False
            for name, weight in self.module_.named_parameters():
                weight.requires_grad_(name in self.trainable_)
            if self.schedule is not None:  # else another rate could not be set
                restore_rates(self.optimizer_)

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return training and validation data, features if only the head is trained."""
        train, valid = super().get_split_datasets(X, y, **fit_params)
        if valid is None and not fit_params and self._repeats_windows(train):
            features = self._extract_features(train)
            if features is not None:
                train = LabeledWindows(features, train.y, train.weights)
                self.reads_features_ = True
        return train, valid

    def _repeats_windows(self, train) -> bool:
        """Return whether a linear probe reads its windows, the same ones, again."""
        if self.finetune != "linear-probe" or not isinstance(train, LabeledWindows):
            return False
        # Other data loaders, collate functions and callbacks may augment the windows.
        settings = self.get_params_for("iterator_train")
        is_plain = self.iterator_train is DataLoader and not self.callbacks
        if not is_plain or settings["collate_fn"] is not collate:
            return False
        if self.max_steps is None:
            return self.max_epochs > 1
        return self.max_steps * self.batch_size > len(train)

    @torch.no_grad()
    def _extract_features(self, dataset: LabeledWindows) -> WindowArray | None:
        """Return the inputs of ``final_layer``, or None if they do not give the output.

        Something may follow the last layer in a model, or enter beside the features.
        Features that are too large to be kept are not returned either.
        """
        self.module_.eval()
        head = self.module_.final_layer
        inputs: list[tuple] = []
        features = None
        hook = head.register_forward_pre_hook(lambda _, given: inputs.append(given))
        try:
            for start in range(0, len(dataset), _BLOCK):
                rows = range(start, min(start + _BLOCK, len(dataset)))
                output = self.infer(dataset.__getitems__(rows)[0])
                if [len(given) for given in inputs] != [1]:
                    return None
                (found,) = inputs.pop()
                if not all(_is_single(x, len(rows)) for x in (found, output)):
                    return None
                if not torch.equal(head(found), output):
                    return None
                inputs.clear()
                if features is None:
                    shape = len(dataset), *found.shape[1:]
                    if 4 * math.prod(shape) > _MOST_BYTES:
                        return None
                    features = torch.empty(shape)
                features[rows.start : rows.stop] = found
        finally:
            hook.remove()
        return None if features is None else WindowArray(features)

    def get_iterator(self, dataset, training=False):
        """Return the batches of a data set."""
        if isinstance(dataset, LabeledWindows):
            part = "iterator_train" if training else "iterator_valid"
            dataset = self.place(dataset, self.get_params_for(part))
        batches = super().get_iterator(dataset, training=training)
        if not training:
            return batches
        n_batches, n_left = divmod(len(dataset), self.batch_size)
        if n_batches and n_left == 1:
            batches = _WithoutLast(batches, n_batches)
        self.n_batches_ = n_batches + (n_left > 1 or not n_batches)
        if self.max_steps is None:
            return batches
        return _Rounds(batches, self._steps_per_round, self.max_steps)

    def on_epoch_begin(self, net, **kwargs):
        """Freeze the layers that are not trained yet."""
        super().on_epoch_begin(net, **kwargs)
        first = len(self.layers_) - self._n_trained
        for name, weight in self.module_.named_parameters():
            weight.requires_grad_(
                name in self.trainable_ and self._depth(name) >= first
            )

    def on_batch_begin(self, net, batch=None, training=False):
        """Set the learning rate of the step."""
        super().on_batch_begin(net, batch=batch, training=training)
        if not training:
            return
        if self.schedule == "cosine":
            done = min(1.0, self.n_steps_ / self._n_scheduled)
            for group in self.optimizer_.param_groups:
                rate = group.setdefault("initial_lr", group["lr"])
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * done))
        self.n_steps_ += 1

    def infer(self, x, **fit_params):
        """Apply the model, with its frozen layers as in prediction."""
        if self.module_.training and self._n_trained < len(self.layers_):
            self.module_.eval()
            for name in self.layers_[-self._n_trained :]:
                self.module_.get_submodule(name).train()
        x = x["x"] if _is_weighted(x) else x
        if self.reads_features_:
            return self.module_.final_layer(to_tensor(x, device=self.device))
        return super().infer(x, **{**self.forward_arguments_, **fit_params})

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the loss, weighted if the windows come with weights."""
        if not _is_weighted(X):
            return super().get_loss(y_pred, y_true, X=X, training=training)
        labels, weights = y_true.to(y_pred.device), X["sample_weight"].to(y_pred.device)
        return _weigh_loss(self.criterion_, y_pred, labels, weights)

    @property
    def _steps_per_round(self) -> int:
        # By the schedule, so that a shorter training has the same rounds.
        return max(1, math.ceil((self.schedule_length or self.max_steps) / _N_ROUNDS))

    @property
    def _n_scheduled(self) -> int:
        """Number of steps after which the learning rate is zero."""
        if self.max_steps is not None:
            return self.schedule_length or self.max_steps
        return self.n_batches_ * (self.schedule_length or self.max_epochs)

    @property
    def _n_trained(self) -> int:
        """Number of layers, from the last one, that are trained in this epoch."""
        epoch = len(self.history)  # from 1
        n_trained = {"linear-probe": 1, "gradual": epoch}
        return min(n_trained.get(self.finetune, len(self.layers_)), len(self.layers_))

    def _depth(self, name: str) -> int:
        """Return the index of the layer that a weight belongs to."""
        for depth, layer in enumerate(self.layers_):
            if name.startswith(f"{layer}."):
                return depth
        return 0  # tokens and the like enter at the start

    def _check_settings(self) -> None:
        check_strategy(self.finetune, self.layer_decay)
        limits = {
            "max_steps": (self.max_steps is None or self.max_steps >= 0, "at least 0"),
            "schedule": (self.schedule in ("cosine", None), "'cosine' or None"),
            "gradient_clip_value": (
                self.gradient_clip_value is None or self.gradient_clip_value > 0,
                "None or greater than 0",
            ),
            "patience": (
                self.patience is None
                or (is_count(self.patience) and self.train_split is not None),
                "None, or an integer from 1 with validation data",
            ),
        }
        for name, (holds, allowed) in limits.items():
            if not holds:
                value = getattr(self, name)
                raise ValueError(f"{name} must be {allowed}, but got {value!r}.")


class _WithoutLast:
    """Batches but the last: batch normalisation cannot use a single window."""

    def __init__(self, batches, n_batches: int):
        self.batches = batches
        self.n_batches = n_batches

    def __iter__(self):
        return islice(iter(self.batches), self.n_batches)


class _Rounds:
    """Batches without end, handed out in rounds of equal length; the last is cut."""

    def __init__(self, batches, n_steps: int, max_steps: int):
        self.stream = chain.from_iterable(repeat(batches))
        self.n_steps = n_steps
        self.n_left = max_steps

    def __iter__(self):
        n_steps = min(self.n_steps, self.n_left)
        self.n_left -= n_steps
        return islice(self.stream, n_steps)


def _is_weighted(windows) -> bool:
    """Return whether a batch is windows with their weights."""
    return isinstance(windows, dict) and "sample_weight" in windows


def _is_single(x, n_windows: int) -> bool:
    """Return whether something is a tensor of single precision, a row per window."""
    is_tensor = isinstance(x, torch.Tensor) and x.ndim > 0
    return is_tensor and x.dtype == torch.float32 and len(x) == n_windows


def _weigh_loss(criterion, y_pred, labels, weights) -> torch.Tensor:
    """Return the mean loss; with weights of one it is that of the criterion."""
    if not hasattr(criterion, "reduction"):
        raise TypeError(
            "sample_weight needs a criterion with a reduction, as the losses of torch "
            f"have, but got {criterion!r}."
        )
    each = copy.copy(criterion)
    each.reduction = "none"
    class_weights = getattr(criterion, "weight", None)
    total = len(labels) if class_weights is None else class_weights[labels].sum()
    return (weights * each(y_pred, labels)).sum() / total


def _be_silent(*args, **kwargs) -> None:
    """Print nothing when the best weights are restored."""


def check_strategy(finetune, layer_decay) -> None:
    """Raise ValueError for settings that no model can be fine-tuned with."""
    check_choice("finetune", finetune, STRATEGIES)
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be in (0, 1], but got {layer_decay}.")


def find_layers(model: nn.Module) -> list[str]:
    """Return the names of a model's layers, the first one first.

    Layers are the children of the model that hold weights, in the order in which the
    model names them; a plain list or sequence contributes its own children. The head,
    ``final_layer``, is the last layer. Weights of the model itself, such as a class
    token, belong to the first layer.

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
