"""Pre-training on several GPUs or machines."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import chain

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from braindecode_emossl.losses.gathering import gather
from braindecode_emossl.losses.precision import at_least_single_precision
from braindecode_emossl.pretraining.pretrainer import SSLPretrainer

__all__ = ["DistributedPretrainer", "desynchronize", "synchronize"]

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class DistributedPretrainer(SSLPretrainer):
    """Train a self-supervised objective in several processes.

    A :class:`~braindecode_emossl.pretraining.SSLPretrainer` for scripts that
    ``accelerate launch`` or ``torchrun`` starts once per GPU or CPU process; in a
    script that is started directly, it trains in one process. Each process takes
    ``batch_size`` windows per batch, so that a batch has ``n_processes * batch_size``.
    Contrast and batch normalisation are over all of these, so that the gradients are
    those of one process with the whole batch. Masks and dropout differ between
    processes.

    All processes are given the same windows, and all end with the same weights. Parts
    that an objective fits to the windows, such as clusters, are taken from the first
    process, which alone prints and writes the state of the training.

    Parameters
    ----------
    objective : PretrainingObjective
        Encoder, heads and loss; the weights of the first process are used.
    device : str or torch.device, default="auto"
        Where to train. "auto" is the GPU that belongs to this process, or the CPU on a
        machine without one; "cpu" leaves GPUs alone.
    **kwargs
        Further arguments of :class:`~braindecode_emossl.pretraining.SSLPretrainer`.
        Several processes need the same ``random_state``.

    Raises
    ------
    ImportError
        If accelerate is not installed.
    ValueError
        If several processes have no ``random_state``, the windows do not fill one batch
        of each process, or accelerate is configured with a precision.

    Notes
    -----
    While a process group exists, an objective waits for all processes in each step:
    training in the first process only would wait forever.

    If the validation windows do not fill the last batch of each process, some are used
    twice.

    A training in several processes is resumed from the last completed epoch, one in a
    single process also within an epoch.

    Examples
    --------
    >>> pretrainer = DistributedPretrainer(SCMMPretraining(model), random_state=0)
    >>> encoder = pretrainer.fit(X).module_.encoder
    """

    @property
    def objective_(self):
        """The objective itself, also while it trains together with the others."""
        is_parallel = isinstance(self.module_, DistributedDataParallel)
        return self.module_.module if is_parallel else self.module_

    def _warn_of_copies(self):
        """Say nothing: the processes train together."""

    @property
    def _accelerator(self):
        return _make_accelerator(self.device)

    def find_device(self):
        """Return the device of this process."""
        if self.device == "auto":
            return _make_accelerator().device
        return self.device

    def get_default_callbacks(self):
        """Return the callbacks of pre-training; only the first process prints."""
        callbacks = super().get_default_callbacks()
        if self._accelerator.is_main_process:
            return callbacks
        silent = ("print_log", "progress", "length")
        return [item for item in callbacks if item[0] not in silent]

    def initialize(self):
        """Set everything up; the processes must have a seed in common."""
        if self._accelerator.num_processes > 1 and self.random_state is None:
            raise ValueError(
                "random_state must be the same seed in all processes, so that they "
                "share one epoch, but got None."
            )
        return super().initialize()

    def partial_fit(self, X, y=None, classes=None, *, metadata=None, **fit_params):
        """Train further, together with the other processes.

        Parameters
        ----------
        X : array, Epochs, BaseConcatDataset or WindowDataset
            Windows, the same in all processes.
        y, classes : None
            Ignored: part of skorch's interface.
        metadata : DataFrame, n_windows rows, optional
            One row per window.
        **fit_params
            Ignored.

        Returns
        -------
        DistributedPretrainer
            The fitted pre-trainer.
        """
        if self._accelerator.num_processes == 1:
            return super().partial_fit(X, y, metadata=metadata, **fit_params)
        if not self.initialized_:
            self.initialize()
        objective = self.module_
        synchronize(objective)
        # The head of the model gets no gradient.
        self.module_ = DistributedDataParallel(objective, find_unused_parameters=True)
        try:
            return super().partial_fit(X, y, metadata=metadata, **fit_params)
        finally:
            desynchronize(objective)
            self.module_ = objective

    def get_iterator(self, dataset, training=False):
        """Return the batches of a data set that this process takes."""
        batches = super().get_iterator(dataset, training)
        n_processes = self._accelerator.num_processes
        if n_processes == 1 or (training and self.sampler_ is not None):
            return batches  # our samplers share their epoch by themselves
        n_needed = n_processes * self.get_batch_size()
        if training and len(dataset) < n_needed:
            raise ValueError(
                f"batch_size={self.get_batch_size()} in each of {n_processes} "
                f"processes needs {n_needed} windows, but got {len(dataset)}. Lower "
                "batch_size or the number of processes."
            )
        batches = self._accelerator.prepare_data_loader(batches, device_placement=False)
        if training:
            self.n_batches_ = len(batches)
            self.order_ = batches.synchronized_generator
        return batches

    def _arrange_validation(self, examples):
        if self._accelerator.num_processes == 1:
            return super()._arrange_validation(examples)
        # accelerate fills up the last batches, one for each process.
        return {"sampler": examples}

    def _identify(self, dataset):
        identity = super()._identify(dataset)
        n_processes = self._accelerator.num_processes
        # SSLPretrainer may resume a training of one process.
        return identity if n_processes == 1 else {**identity, "processes": n_processes}

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Begin the epoch with one order of windows, but masks of each process."""
        super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)
        if self._accelerator.num_processes == 1:
            return
        seed = torch.randint(2**62, (), device=self.device)
        objective = self.objective_
        for tensor in chain([seed], objective.parameters(), objective.buffers()):
            dist.broadcast(tensor.detach(), src=0)
        # Let parts of the objective that keep copies of their buffers read them.
        objective.load_state_dict(objective.state_dict())
        if self.sampler_ is None and self.order_ is not None:
            self.order_.manual_seed(int(seed))
        torch.manual_seed(int(seed) + dist.get_rank())

    def save_within_epoch(self):
        """Write no state: the file would hold one process's random numbers only."""
        if self._accelerator.num_processes == 1:
            super().save_within_epoch()

    def hold_checkpoint_dir(self):
        """Keep other trainings out of ``checkpoint_dir``, by the first process."""
        if self._accelerator.is_main_process:
            return super().hold_checkpoint_dir()
        return nullcontext()

    def load_state(self, dataset):
        """Return the state to resume from, before any process replaces it."""
        state = super().load_state(dataset)
        self._accelerator.wait_for_everyone()
        return state

    def save_state(self):
        """Write the state of the training, in the first process."""
        if self._accelerator.is_main_process:
            super().save_state()
        # Else another process could read an older state in its next training.
        self._accelerator.wait_for_everyone()

    def saves_trained(self):
        """Return whether this process writes the trained objective: the first one."""
        return self._accelerator.is_main_process and super().saves_trained()


def synchronize(module: nn.Module) -> None:
    """Let batch normalisation use the batch of all processes in training.

    As :class:`torch.nn.SyncBatchNorm`, but also on the CPU. The batches of all
    processes must be of one size.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place; weights and their names do not change.
    """
    for layer in module.modules():
        if isinstance(layer, _BATCH_NORMS):
            kind = type(layer)
            layer.__class__ = type(kind.__name__, (_OfAllProcesses, kind), {})


def desynchronize(module: nn.Module) -> None:
    """Undo :func:`synchronize`.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place.
    """
    for layer in module.modules():
        if isinstance(layer, _OfAllProcesses):
            _, layer.__class__ = type(layer).__bases__


class _OfAllProcesses:
    """Mixin of batch normalisation with the statistics of all processes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        precise = at_least_single_precision(x)  # (batch, n_channels, ...)
        others = [dim for dim in range(x.ndim) if dim != 1]
        own = torch.stack(torch.var_mean(precise, others, correction=0))
        variances, means = gather(own[None]).unbind(1)  # (n_processes, n_channels)
        mean = means.mean(0)
        variance = variances.mean(0) + means.var(0, correction=0)
        self._track(mean.detach(), variance.detach(), len(means) * x[:, 0].numel())
        scale = self.weight * (variance + self.eps).rsqrt()
        mean, scale, bias = (
            values.view(-1, *(1,) * (x.ndim - 2)) for values in (mean, scale, self.bias)
        )  # (n_channels, 1, ...)
        return ((precise - mean) * scale + bias).to(x.dtype)

    def _track(self, mean, variance, n_values: int) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        unbiased = variance * (n_values / (n_values - 1))
        self.running_var.lerp_(unbiased, self.momentum)


def _make_accelerator(device=None):
    """Return the accelerator, which knows the processes and deals out batches."""
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise ImportError(
            "Training in several processes needs accelerate: "
            'pip install "braindecode-emossl[distributed]".'
        ) from error
    accelerator = Accelerator(cpu=str(device) == "cpu" or not torch.cuda.is_available())
    if accelerator.mixed_precision != "no":
        raise ValueError(
            "The precision must be set in DistributedPretrainer, but accelerate is "
            f"configured with mixed_precision={accelerator.mixed_precision!r}. Set it "
            "to 'no' there."
        )
    return accelerator
