"""Pre-training of any objective, as a skorch net."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils import check_random_state
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import Subset

from braindecode_emossl.pretraining.callbacks import (
    SCHEDULES,
    ProgressBar,
    RecordTerms,
    ScheduleLearningRate,
)
from braindecode_emossl.pretraining.checkpoints import save_checkpoint
from braindecode_emossl.pretraining.registry import OBJECTIVES
from braindecode_emossl.pretraining.resuming import ResumableTraining
from braindecode_emossl.pretraining.windows import WindowDataset, gather_windows

__all__ = ["RaiseInterrupt", "SSLPretrainer", "draw_seed", "seeded"]

log = logging.getLogger(__name__)

PRECISIONS = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}


class RaiseInterrupt:
    """Mixin of a skorch net: let Ctrl-C end the program, not only the training.

    skorch goes on with what is trained so far, so that an evaluation would score a
    model that was hardly trained, without a word. Where its early stopping has asked
    for the end, which it does as if by Ctrl-C, that is as it should be.
    """

    def fit_loop(self, *args, **kwargs):
        """Train, and remember an interrupt."""
        try:
            return super().fit_loop(*args, **kwargs)
        except KeyboardInterrupt:
            self.interrupted_ = not any(
                isinstance(callback, EarlyStopping)
                and callback.misses_ >= callback.patience
                for _, callback in self.callbacks_
            )
            raise

    def partial_fit(self, *args, **kwargs):
        """Train, and raise the interrupt that skorch has swallowed."""
        self.interrupted_ = False
        super().partial_fit(*args, **kwargs)
        if self.interrupted_:
            raise KeyboardInterrupt
        return self


class _TrainingLoop(NeuralNet):
    """The loop of skorch, for data without labels whose order can be resumed."""

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train on what :meth:`get_split_datasets` makes of the windows."""
        train, valid = self.get_split_datasets(X)
        self.parts_: Any = train, valid
        batches = self.get_iterator(train, training=True)
        valid_batches = None if valid is None else self.get_iterator(valid)
        n_epochs = self.max_epochs if epochs is None else epochs
        if self.saved_ is not None:
            n_epochs -= self.restore_state()
        elif not self.history:
            self.tell_objective("prepare", train.windows)
        datasets = {"dataset_train": train, "dataset_valid": valid}
        for _ in range(n_epochs):
            self.save_state()
            self.notify("on_epoch_begin", **datasets)
            self.run_single_epoch(
                batches, training=True, prefix="train", step_fn=self.train_step
            )
            self.run_single_epoch(
                valid_batches,
                training=False,
                prefix="valid",
                step_fn=self.validation_step,
            )
            self.notify("on_epoch_end", **datasets)
        self.save_state()
        return self


class SSLPretrainer(RaiseInterrupt, ResumableTraining, _TrainingLoop):
    """Train a self-supervised objective on windows without labels.

    A :class:`skorch.NeuralNet` whose module is the objective: everything that skorch
    offers (callbacks, history, ``set_params``, TensorBoard) works here. The terms of
    the loss are in the history beside the loss itself.

    The objective is copied, so that the one given stays as it was and each call of
    :meth:`fit` starts from it; ``fit`` first lets it adapt to the training windows
    (:meth:`~braindecode_emossl.pretraining.PretrainingObjective.prepare`).

    Parameters
    ----------
    objective : PretrainingObjective
        Encoder, heads and loss; or any module that returns a
        :class:`~braindecode_emossl.pretraining.PretrainingOutput` of a batch.
    max_epochs : int
        Passes over the windows; 0 only prepares the objective.
    batch_size : int
        Windows a step; with a sampler of tuples, tuples a step. A last batch that is
        not full is left out, as its windows would have fewer negatives than the others,
        unless it is the only one.
    lr : float
        Learning rate.
    optimizer : type of torch.optim.Optimizer
        Its other arguments as ``optimizer__<name>``.
    sampler : type, optional
        Class from :mod:`braindecode_emossl.samplers` that orders the windows by their
        metadata, such as ``StimulusGroupSampler``; its arguments as
        ``sampler__<name>``. By default the windows are shuffled.
    warmup_epochs : float
        Epochs in which the learning rate rises to ``lr``.
    schedule : {None, "cosine"}
        Whether the learning rate stays, or falls to zero until the last epoch.
    clip_norm : float, optional
        Largest norm of the gradients of all weights together.
    accumulate : int
        Batches whose gradients are averaged for one step of the optimiser. Contrast
        stays within a batch.
    precision : {None, "bf16", "fp16"}
        Numbers of the forward pass (autocast), float32 by default.
    compile : bool
        Whether :func:`torch.compile` compiles the objective, with arguments
        ``compile__<name>``.
    validation : float, optional
        Share of the subjects, by corpus and subject in the metadata, whose windows do
        not train but give the ``valid_loss`` of the history.
    patience : int, optional
        Epochs without a lower ``valid_loss`` after which the training ends, with the
        weights of the lowest.
    progress : bool
        Whether a bar on the error stream, if that is a terminal, shows the terms of the
        loss.
    checkpoint_dir : path, optional
        Folder that keeps the state of the training after each epoch, in
        ``state.safetensors``, and in the end the trained objective with its provenance,
        in ``trained`` (:func:`~braindecode_emossl.pretraining.load_checkpoint`) if it
        is one of this package.
    resume : bool
        Whether to go on with the state in ``checkpoint_dir``, if there is one: the
        weights become those of a training that was never interrupted, to the bit on
        the CPU. Callbacks given in ``callbacks`` keep no state.
    random_state : int, RandomState or None
        Seeds order, masks and dropout; torch's own generator is left as it was.
    device : str or torch.device
        Where to train.
    verbose : int
        1 prints a line an epoch.
    **kwargs
        Further arguments of :class:`skorch.NeuralNet`, such as
        ``iterator_train__num_workers``.

    Attributes
    ----------
    module_ : PretrainingObjective
        The trained objective; its ``encoder`` is the pre-trained model.
    history_ : skorch.history.History
        Loss, terms and learning rate by epoch and batch.
    validation_subjects_ : DataFrame or None
        Those who validated, with columns ``corpus`` and ``subject`` as far as the
        metadata have them.
    provenance_ : dict or None
        Corpora, subjects and sessions that the metadata name, for
        :func:`~braindecode_emossl.pretraining.save_checkpoint`.

    Examples
    --------
    >>> model = SCMM(n_outputs=3, n_chans=62, n_times=800, sfreq=200)
    >>> pretrainer = SSLPretrainer(SCMMPretraining(model), max_epochs=5).fit(X)
    >>> encoder = pretrainer.module_.encoder

    Groups of subjects who see the same, from a corpus:

    >>> pretrainer = SSLPretrainer(
    ...     MEMHACLPretraining(model), sampler=StimulusGroupSampler, batch_size=16
    ... ).fit(DEAP(), paradigm=Emotion(window=1.0))
    """

    prefixes_ = [*NeuralNet.prefixes_, "sampler"]  # noqa: RUF012

    def __init__(
        self,
        objective,
        *,
        max_epochs=100,
        batch_size=256,
        lr=5e-4,
        optimizer=torch.optim.AdamW,
        sampler=None,
        warmup_epochs=0,
        schedule=None,
        clip_norm=None,
        accumulate=1,
        precision=None,
        compile=False,
        validation=None,
        patience=None,
        progress=False,
        checkpoint_dir=None,
        resume=False,
        random_state=None,
        device="cpu",
        verbose=0,
        **kwargs,
    ):
        # skorch takes no torch module as an attribute once it is set up.
        self.objective = objective
        settings = {"criterion": nn.Identity, "train_split": None, **kwargs}
        super().__init__(
            module=objective,
            max_epochs=max_epochs,
            batch_size=batch_size,
            lr=lr,
            optimizer=optimizer,
            compile=compile,
            device=device,
            verbose=verbose,
            **settings,
        )
        # It takes each attribute for a constructor argument of the same name.
        del self.module
        self.sampler = sampler
        self.warmup_epochs = warmup_epochs
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.progress = progress
        self.checkpoint_dir = checkpoint_dir
        self.resume = resume
        self.random_state = random_state

    @property
    def objective_(self):
        """The objective itself, also where ``module_`` is a wrapper around it."""
        return self.module_

    @property
    def _default_callbacks(self):
        # Before the log, which prints what is recorded by then.
        *others, log = super()._default_callbacks
        schedule = ScheduleLearningRate(self.warmup_epochs, self.schedule)
        callbacks = [*others, ("terms", RecordTerms()), ("schedule", schedule)]
        if self.patience is not None:
            stopping = EarlyStopping(patience=self.patience, load_best=True)
            callbacks.append(("early_stopping", stopping))
        if self.progress:
            callbacks.append(("progress", ProgressBar()))
        return [*callbacks, log]

    def initialize_virtual_params(self):
        """Let the sampler be set at any time: no part of the net depends on it."""
        super().initialize_virtual_params()
        self._register_virtual_param(["sampler", "sampler__*"])

    def tell_objective(self, what: str, *arguments) -> None:
        """Call a method of the objective, if it is one that has it."""
        listen = getattr(self.objective_, what, None)
        if listen is not None:
            listen(*arguments)

    def initialize_module(self):
        """Copy the objective, which is thus left as it was."""
        self.module_ = copy.deepcopy(self.objective)
        return self

    def torch_compile(self, module, name):
        """Compile in place: in a wrapper the weights would have other names."""
        if self.compile and name == "module":
            module.compile(**self.get_params_for("compile"))
        return module

    def initialize(self):
        """Set everything up, with arguments that are checked."""
        self._check_settings()
        device = self._find_device()
        self.scaler_ = torch.amp.GradScaler(
            device.type, enabled=self.precision == "fp16"
        )
        return super().initialize()

    def fit(self, X, y=None, metadata=None, paradigm=None):
        """Pre-train from the objective as it was given.

        Parameters
        ----------
        X : array (n_windows, n_chans, n_times), Epochs, BaseConcatDataset, or corpora
            Windows, also in an array mapped from a file; :class:`mne.Epochs`, whose
            voltages are taken in microvolts; a data set of braindecode that is cut into
            windows; or a corpus of MOABB, or a list of them, with a
            ``paradigm``. Nothing else of a corpus is seen.
        y : None
            Ignored: part of scikit-learn's interface.
        metadata : DataFrame, n_windows rows, optional
            One row for each window of an array, as
            :meth:`~braindecode_emossl.paradigms.Emotion.get_data` returns it. Other
            data have their own.
        paradigm : Emotion, optional
            What cuts corpora into windows. For several corpora call its ``match_all``
            first.

        Returns
        -------
        SSLPretrainer
            Itself.

        Raises
        ------
        TypeError
            If ``objective`` is none, or ``X`` holds no windows.
        ValueError
            If a setting is outside its range, or the metadata lack what the sampler or
            the validation needs.
        CheckpointError
            If ``checkpoint_dir`` holds the state of another training, or of one that is
            not to be resumed.
        FloatingPointError
            If the loss of a batch, or its gradients, are not finite. The message names
            the batch.
        """
        dataset = gather_windows(X, metadata, paradigm)
        if self.checkpoint_dir is not None and not self._is_known():
            log.warning(
                "%s is no objective of this package: checkpoint_dir keeps the state of "
                "its training, but no checkpoint of what is trained.",
                type(self.objective).__name__,
            )
        self.provenance_ = dataset.provenance
        self.saved_ = self.load_state(dataset)
        if self.saved_ is None:
            self.seed_ = draw_seed(self.random_state)
        else:
            self.seed_ = self.saved_["seed"]
        with seeded(self.seed_, self._find_device()):
            super().fit(dataset, None)
        if self.checkpoint_dir is not None and self._is_known():
            self.save_trained()
        return self

    def save_trained(self) -> None:
        """Write the trained objective to ``checkpoint_dir``, as a checkpoint."""
        trained = Path(self.checkpoint_dir, "trained")
        save_checkpoint(trained, self.objective_, self.provenance_)

    def partial_fit(self, X, y=None, **fit_params):
        """Go on training for ``max_epochs`` more epochs, from the weights as they are.

        Parameters
        ----------
        X : array, BaseConcatDataset or WindowDataset
            Windows, see :meth:`fit`.
        y : None
            Ignored.
        **fit_params
            None of importance.

        Returns
        -------
        SSLPretrainer
            Itself.
        """
        if not isinstance(X, WindowDataset):
            X = gather_windows(X)
        if not hasattr(self, "saved_"):  # it does not come from fit
            self.saved_ = self.load_state(X)
            self.seed_ = 0 if self.saved_ is None else self.saved_["seed"]
        return super().partial_fit(X, None, **fit_params)

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the windows that train, and those that validate or None."""
        if self.validation is not None:
            train, valid = _split_by_subject(X, self.validation, self.seed_)
            names = _name_columns(X.metadata)
            subjects = X.metadata.iloc[valid][names].drop_duplicates()
            self.validation_subjects_ = subjects.reset_index(drop=True)
            return X.take(train), X.take(valid)
        self.validation_subjects_ = None
        train, valid = super().get_split_datasets(X)
        return _as_windows(train), None if valid is None else _as_windows(valid)

    def get_iterator(self, dataset, training=False):
        """Return the batches of a data set, shuffled or sampled for training."""
        given = self.get_params_for("iterator_train" if training else "iterator_valid")
        defaults: dict[str, Any] = {"collate_fn": WindowDataset.collate}
        # What a data loader does not take beside batches that are made up.
        own = {"sampler", "batch_sampler"}
        own |= set() if training else {"batch_size", "drop_last", "shuffle"}
        if training and self.sampler is not None:
            defaults |= self._make_sampler(dataset.metadata)
        elif not own & set(given):
            defaults |= self._arrange(len(dataset), training)
        if "batch_sampler" not in {*defaults, *given}:
            defaults["batch_size"] = self.batch_size
        make = self.iterator_train if training else self.iterator_valid
        batches = make(dataset, **{**defaults, **given})
        if training:
            self.n_batches_ = len(batches)
        return batches

    def _arrange(self, n_windows: int, training: bool) -> dict:
        """Return what tells a data loader which windows come together."""
        if training:
            return {"shuffle": True, "drop_last": n_windows >= self.batch_size}
        # All validate, and none in a small last batch: it has too few negatives.
        n_batches = -(-n_windows // self.batch_size)
        return {"batch_sampler": np.array_split(np.arange(n_windows), n_batches)}

    def infer(self, x, **fit_params):
        """Compute the loss of a batch, in the precision that was asked for."""
        dtype = PRECISIONS[self.precision]
        device = self._find_device()
        with torch.autocast(device.type, dtype) if dtype else nullcontext():
            return super().infer(x, **fit_params)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the loss that the objective has computed, if it is a number."""
        if not hasattr(y_pred, "loss"):
            raise TypeError(_NO_OBJECTIVE.format(self.objective))
        if not torch.isfinite(y_pred.loss):
            terms = {name: float(value) for name, value in y_pred.terms.items()}
            loss = f"The loss is {y_pred.loss.item()}, with the terms {terms},"
            self._stop(loss, y_true, X)
        return y_pred.loss

    def train_step_single(self, batch, **fit_params):
        """Compute loss and gradients of one batch."""
        self._set_training(True)
        windows, numbers = batch
        y_pred = self.infer(windows)
        loss = self.get_loss(y_pred, numbers, X=windows, training=True)
        self.scaler_.scale(loss / self._n_accumulated()).backward()
        return {"loss": loss, "y_pred": y_pred}

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Tell the objective that an epoch begins."""
        super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)
        self.batch_in_epoch_ = 0
        n_done = len(self.history) - 1
        self.tell_objective("on_epoch_begin", n_done, dataset_train.windows)

    def on_grad_computed(self, net, named_parameters, batch=None, **kwargs):
        """Stop before a step that would spoil the weights."""
        super().on_grad_computed(net, named_parameters, batch=batch, **kwargs)
        if self.scaler_.is_enabled():
            return  # it leaves out such steps and lowers its scale
        grads = [p.grad for _, p in named_parameters if p.grad is not None]
        if not nn.utils.get_total_norm(grads).isfinite():
            self._stop("The gradients are not finite", batch[1], batch[0])

    def on_batch_end(self, net, training=False, **kwargs):
        """Count the batches."""
        super().on_batch_end(net, training=training, **kwargs)
        self.batch_in_epoch_ += training

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Let go of the windows, which a pickle must not hold."""
        super().on_train_end(net, X=X, y=y, **kwargs)
        self.parts_ = None

    def _zero_grad_optimizer(self, *args, **kwargs):
        if self.batch_in_epoch_ % self.accumulate == 0:
            super()._zero_grad_optimizer(*args, **kwargs)

    def _step_optimizer(self, step_fn):
        """Compute gradients, and make a step if they are complete."""
        step_fn()
        n_done = self.batch_in_epoch_ + 1
        if n_done % self.accumulate and n_done < self.n_batches_:
            return
        self.scaler_.unscale_(self.optimizer_)
        self._clip_gradients()
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()

    def _clip_gradients(self) -> None:
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.module_.parameters(), self.clip_norm)

    def _n_accumulated(self) -> int:
        """Return how many batches the step has that this batch is of."""
        first = self.batch_in_epoch_ - self.batch_in_epoch_ % self.accumulate
        return min(self.accumulate, self.n_batches_ - first)

    def _is_known(self) -> bool:
        """Return whether the objective can be built anew from a checkpoint."""
        return type(self.objective) in OBJECTIVES.values()

    def _find_device(self) -> torch.device:
        return torch.device(self.device)

    def _make_sampler(self, metadata) -> dict:
        """Return what tells a data loader the order of the windows."""
        if metadata is None:
            raise ValueError(
                f"{self.sampler.__name__} needs metadata, one row for each window: "
                "pass them to fit, as Emotion.get_data returns them."
            )
        known = inspect.signature(self.sampler).parameters
        settings = {"random_state": self.seed_}
        # What a sampler calls the size of a batch, if it must know it.
        for name in ("batch_size", "n_stimuli"):
            if name in known:
                settings[name] = self.batch_size
        settings |= self.get_params_for("sampler")
        self.sampler_ = self.sampler(metadata, **settings)
        if "batch_size" in known:  # then it yields whole batches
            return {"batch_sampler": self.sampler_}
        return {
            "sampler": self.sampler_,
            "batch_size": settings.get("n_stimuli", self.batch_size),
            "drop_last": len(self.sampler_) >= self.batch_size,
        }

    def _stop(self, what: str, numbers, windows) -> NoReturn:
        """Raise an error that names the batch, and why that may be."""
        training = self.module_.training
        dataset = self.parts_[not training]
        where = f"batch {self.batch_in_epoch_ + 1}" if training else "validation"
        flat = windows.flatten(numbers.ndim).isfinite().all(-1).cpu()  # as the numbers
        broken = numbers[~flat].flatten().tolist()
        shown = broken or numbers.flatten().tolist()
        named = "; ".join(map(dataset.describe, shown[:5])) + (
            f" and {len(shown) - 5} more" if len(shown) > 5 else ""
        )
        cause = (
            f"The values of {named} are not finite: repair or drop them"
            if broken
            else "The windows are finite, so that the training has diverged: try a "
            f"lower lr, clip_norm=1.0 or a warm-up. The batch is {named}"
        )
        raise FloatingPointError(
            f"{what} in epoch {len(self.history)}, {where}. {cause}."
        )

    def _check_settings(self) -> None:
        if not isinstance(self.objective, nn.Module):
            raise TypeError(_NO_OBJECTIVE.format(self.objective))
        for name, known in (("schedule", SCHEDULES), ("precision", tuple(PRECISIONS))):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, but got {value!r}.")
        limits = {
            "accumulate": self.accumulate >= 1,
            "warmup_epochs": self.warmup_epochs >= 0
            and (self.schedule is None or self.warmup_epochs < self.max_epochs),
            "clip_norm": self.clip_norm is None or self.clip_norm > 0,
            "validation": self.validation is None or 0 < self.validation < 1,
            "patience": self.patience is None
            or (self.patience >= 1 and bool(self.validation or self.train_split)),
            "resume": not self.resume or self.checkpoint_dir is not None,
        }
        for name, holds in limits.items():
            if not holds:
                raise ValueError(
                    f"{name} must be {_RANGES[name]}, but got {getattr(self, name)!r}."
                )


_NO_OBJECTIVE = (
    "objective must be a module that returns a PretrainingOutput of a batch, but got "
    "{!r}."
)

_RANGES = {
    "accumulate": "at least 1",
    "warmup_epochs": "at least 0, and with a schedule less than max_epochs",
    "clip_norm": "None or greater than 0",
    "validation": "None or a share of the subjects between 0 and 1",
    "patience": "None, or at least 1 with validation set",
    "resume": "False unless checkpoint_dir is set",
}


def _split_by_subject(
    dataset: WindowDataset, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows that train and those that validate."""
    metadata = dataset.metadata
    if metadata is None or "subject" not in metadata:
        raise ValueError(
            "validation holds out subjects and needs metadata with a column subject: "
            "pass them to fit, as Emotion.get_data returns them."
        )
    subjects = (
        metadata.groupby(_name_columns(metadata), observed=True).ngroup().to_numpy()
    )
    n_subjects = len(np.unique(subjects))
    if n_subjects < 2:
        raise ValueError(
            f"validation={share} holds out subjects, but the windows are of "
            f"{n_subjects} subject. Pass validation=None."
        )
    n_valid = min(max(1, round(share * n_subjects)), n_subjects - 1)
    splitter = GroupShuffleSplit(1, test_size=n_valid, random_state=seed)
    return next(splitter.split(subjects, groups=subjects))


def _name_columns(metadata) -> list[str]:
    """Return the columns that name a subject."""
    return [name for name in ("corpus", "subject") if name in metadata]


def _as_windows(dataset) -> WindowDataset:
    """Return a part that a splitter of skorch has made as one of its own."""
    if isinstance(dataset, Subset):
        return dataset.dataset.take(dataset.indices)
    return dataset


def draw_seed(random_state) -> int:
    """Return a number that seeds a training.

    Parameters
    ----------
    random_state : int, RandomState or None
        As in scikit-learn.

    Returns
    -------
    int
        The same for the same int.
    """
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


@contextmanager
def seeded(random_state, device) -> Iterator[None]:
    """Seed torch for a block, and give its generators back as they were.

    Parameters
    ----------
    random_state : int, RandomState or None
        As in scikit-learn.
    device : str or torch.device
        Device whose generator is seeded beside the CPU's.
    """
    seed = draw_seed(random_state)
    device = torch.device(device)
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices=devices, device_type=device.type):
        torch.manual_seed(seed)
        yield
