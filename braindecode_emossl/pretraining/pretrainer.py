"""Pre-training of any objective, as a skorch net."""

from __future__ import annotations

import copy
import inspect
import logging
import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from braindecode.datasets import BaseConcatDataset
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils import check_random_state
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import DataLoader, Subset

from braindecode_emossl.checks import check_choice, is_count, is_number
from braindecode_emossl.pretraining.callbacks import (
    SCHEDULES,
    AnnounceLength,
    ProgressBar,
    RecordTerms,
    ScheduleLearningRate,
    list_terms,
    restore_rates,
)
from braindecode_emossl.pretraining.checkpoints import (
    check_replaceable,
    find_fault,
    save_checkpoint,
)
from braindecode_emossl.pretraining.device_training import find_device
from braindecode_emossl.pretraining.diagnosis import Diagnosis
from braindecode_emossl.pretraining.loop import RaiseInterrupt, StepwiseTraining
from braindecode_emossl.pretraining.provenance import add_provenance, settle_provenance
from braindecode_emossl.pretraining.resuming import ResumableTraining
from braindecode_emossl.pretraining.signal_identity import read_model_signal
from braindecode_emossl.pretraining.windows import (
    WindowDataset,
    gather_windows,
    number_recordings,
)

__all__ = ["SSLPretrainer", "draw_seed", "seeded"]

log = logging.getLogger(__name__)

_seeding = threading.RLock()
PRECISIONS = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}
DEFAULT_BATCH_SIZE = 256


class SSLPretrainer(Diagnosis, RaiseInterrupt, ResumableTraining, StepwiseTraining):
    """Train a self-supervised objective on windows without labels.

    A :class:`skorch.NeuralNet` whose module is the objective: everything that skorch
    offers (callbacks, history, ``set_params``, TensorBoard) works here. The history
    holds the loss and its terms.

    The objective is copied, so that it stays as it is and each call of :meth:`fit`
    starts from it. Before the first step, ``fit`` calls its
    :meth:`~braindecode_emossl.pretraining.PretrainingObjective.prepare`, by which it
    adapts to the training windows.

    Parameters
    ----------
    objective : torch.nn.Module
        Encoder, heads and loss: a
        :class:`~braindecode_emossl.pretraining.PretrainingObjective`, or any module
        that maps a batch to a
        :class:`~braindecode_emossl.pretraining.PretrainingOutput`.
    sampler : "auto", type or None, default="auto"
        Class from :mod:`braindecode_emossl.samplers` that orders the windows by their
        metadata; its arguments as ``sampler__<name>``. "auto" takes the objective's
        ``default_sampler``, such as ``StimulusGroupSampler`` for
        :class:`~braindecode_emossl.pretraining.MEMHACLPretraining`, and shuffles the
        windows if it has none. None shuffles the windows whatever the objective.
    max_steps : int, optional
        Optimizer steps of the training; 2000 if ``max_epochs`` is None too. The last
        epoch may end early. 0 only prepares the objective.
    max_epochs : int, optional
        Passes over the windows, in place of ``max_steps``. A warning is logged if they
        make fewer than 200 optimizer steps; and for either length, if there are more
        than 20,000 or they will take more than an hour.
    batch_size : int or "auto", default="auto"
        Windows per batch; with a sampler of tuples, tuples per batch. "auto" is 256
        windows, or the objective's ``default_batch_size`` with its default sampler. A
        last batch that is not full is left out, as its windows would have fewer
        negatives than the others, unless it is the only one.
    lr : float, default=5e-4
        Learning rate.
    optimizer : type of torch.optim.Optimizer, default=AdamW
        Further arguments are passed as ``optimizer__<name>``. The fused AdamW is used
        by default.
    warmup_steps : int, default=0
        Steps in which the learning rate rises to ``lr``.
    schedule : {None, "cosine"}, default=None
        Whether the learning rate stays at ``lr``, or falls to zero until the last step.
    gradient_clip_value : float, optional
        Largest norm of the gradients of all weights together.
    gradient_accumulation_steps : int, default=1
        Batches whose gradients are averaged for one optimizer step. Contrast stays
        within a batch.
    precision : {None, "bf16", "fp16"}, default=None
        Floating-point format of the forward pass (autocast); None is float32.
    compile : bool, default=False
        Whether :func:`torch.compile` compiles the objective, with arguments
        ``compile__<name>``; ``compile__mode="reduce-overhead"`` is fast on a GPU.
    validation : float, optional
        Fraction of the subjects, by corpus and subject in the metadata, that are held
        out from training and give the ``valid_loss`` of the history. A sampler of
        tuples, such as ``StimulusGroupSampler``, draws the validation tuples once;
        with any other, validation uses all held-out windows in plain batches.
    patience : int, optional
        Epochs without a lower ``valid_loss`` after which the training ends, with the
        weights of the lowest.
    progress : bool, default=False
        Whether to show a progress bar with the terms of the loss, if standard error is
        a terminal.
    checkpoint_dir : path, optional
        Folder for the state of the training, ``state.safetensors``, which is written
        after each epoch and within long ones. At the end the trained objective and its
        provenance are saved in ``trained``
        (:func:`~braindecode_emossl.pretraining.load_checkpoint`), if it can be saved.
    resume : bool, default=False
        Whether to resume from the state in ``checkpoint_dir``, if there is one. On the
        CPU, the weights are bit-identical to those of an uninterrupted training.
        The state of the callbacks in ``callbacks`` is not saved.
    random_state : int, RandomState or None, default=None
        Seed of order, masks and dropout; torch's own generator is left as it was.
    device : str or torch.device, default="auto"
        Where to train. "auto" is a CUDA GPU if there is one, else the CPU; the choice
        is made when the net is initialised, and then replaces "auto".
    verbose : int, default=0
        1 prints a line per epoch.
    **kwargs
        Further arguments of :class:`skorch.NeuralNet`, such as
        ``iterator_train__num_workers``.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained objective; its ``encoder`` is the pre-trained model.
    history_ : skorch.history.History
        Loss, terms and learning rate by epoch and batch, and by batch the norm of the
        gradients, ``grad_norm``. On a GPU they are tensors for up to 25 batches.
    n_steps_ : int
        Number of optimizer steps done.
    sampler_ : torch.utils.data.Sampler or None
        The sampler of the training windows.
    validation_subjects_ : DataFrame or None
        The held-out subjects, in the columns ``corpus`` and ``subject`` if the metadata
        have them.
    provenance_ : dict or None
        Corpora, subjects and sessions in the metadata, for
        :func:`~braindecode_emossl.pretraining.save_checkpoint`. The pre-trained model
        has them as ``provenance``.

    Examples
    --------
    >>> model = SCMM(n_outputs=3, n_chans=62, n_times=800, sfreq=200)
    >>> pretrainer = SSLPretrainer(SCMMPretraining(model), max_steps=500).fit(X)
    >>> encoder = pretrainer.module_.encoder

    Groups of subjects who see the same second of a stimulus, from a corpus:

    >>> model = MEMHACL(n_outputs=2, n_chans=32, n_times=200, sfreq=200)
    >>> pretrainer = SSLPretrainer(MEMHACLPretraining(model))
    >>> pretrainer.fit(DEAP(), paradigm=Emotion(window=1.0))
    """

    # Whoever calls fit with metadata routing passes them on.
    __metadata_request__fit = {"metadata": True}  # noqa: RUF012

    prefixes_ = [*NeuralNet.prefixes_, "sampler"]  # noqa: RUF012

    def __init__(
        self,
        objective,
        *,
        sampler="auto",
        max_steps=None,
        max_epochs=None,
        batch_size="auto",
        lr=5e-4,
        optimizer=torch.optim.AdamW,
        warmup_steps=0,
        schedule=None,
        gradient_clip_value=None,
        gradient_accumulation_steps=1,
        precision=None,
        compile=False,
        validation=None,
        patience=None,
        progress=False,
        checkpoint_dir=None,
        resume=False,
        random_state=None,
        device="auto",
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
        self.max_steps = max_steps
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.gradient_clip_value = gradient_clip_value
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.progress = progress
        self.checkpoint_dir = checkpoint_dir
        self.resume = resume
        self.random_state = random_state

    def set_params(self, **params):
        """Set parameters; another objective serves the next call of :meth:`fit`.

        Parameters
        ----------
        **params
            Parameters by name.

        Returns
        -------
        SSLPretrainer
            Itself.
        """
        if "objective" in params:
            # skorch would refuse a torch module as an attribute, see __init__.
            self.__dict__["objective"] = params.pop("objective")
        return super().set_params(**params)

    @property
    def objective_(self):
        """The objective itself, also where ``module_`` is a wrapper around it."""
        return self.module_

    def get_default_callbacks(self):
        """Return the callbacks of skorch and those of pre-training."""
        # Before the log, which prints what is recorded by then.
        *others, log = super().get_default_callbacks()
        schedule = ScheduleLearningRate(self.warmup_steps, self.schedule)
        callbacks = [
            *others,
            ("length", AnnounceLength()),
            ("terms", RecordTerms()),
            ("schedule", schedule),
        ]
        if self.patience is not None:
            # By default skorch's does not count slow progress.
            stopping = EarlyStopping(
                patience=self.patience, threshold=0, load_best=True
            )
            callbacks.append(("early_stopping", stopping))
        if self.progress:
            callbacks.append(("progress", ProgressBar()))
        return [*callbacks, log]

    def initialize_virtual_params(self):
        """Let the sampler be set at any time: no part of the net depends on it."""
        super().initialize_virtual_params()
        self.virtual_params_ |= {"sampler": setattr, "sampler__*": setattr}

    def tell_objective(self, method: str, *arguments, metadata=None) -> None:
        """Call a method of the objective, with metadata if it takes them."""
        call = getattr(self.objective_, method, None)
        if call is None:
            return
        takes_metadata = "metadata" in inspect.signature(call).parameters
        call(*arguments, **({"metadata": metadata} if takes_metadata else {}))

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
        # skorch moves modules and windows to the device of this name.
        self.device = self.find_device()
        device_type = torch.device(self.device).type
        self.scaler_ = torch.amp.GradScaler(
            device_type, enabled=self.precision == "fp16"
        )
        self.sampler_ = None
        self.recordings_: dict[WindowDataset, Any] = {}
        self.provenance_ = None
        # What forward takes beside the batch, whatever it calls that.
        arguments = list(inspect.signature(self.objective.forward).parameters)
        self.arguments_ = set(arguments[1:])
        return super().initialize()

    def __setstate__(self, state):
        """Restore a pickle or copy; skorch knows no device "auto"."""
        super().__setstate__({**state, "device": find_device(state["device"])})
        if not self.initialized_:
            self.device = state["device"]

    def fit(self, X, y=None, *, metadata=None, paradigm=None):
        """Pre-train the objective from its initial weights.

        Parameters
        ----------
        X : array (n_windows, n_chans, n_times), Epochs, BaseConcatDataset, or corpora
            Windows, also in a memory-mapped array; :class:`mne.Epochs`, whose voltages
            are taken in microvolts; a data set of braindecode that is cut into windows,
            which are used in the unit that they have, volts unless a preprocessor has
            scaled them; or a corpus of MOABB, or a list of them, with a ``paradigm``.
            Labels are not used.
        y : None
            Ignored: part of scikit-learn's interface.
        metadata : DataFrame, n_windows rows, optional
            One row per window, as
            :meth:`~braindecode_emossl.paradigms.Emotion.get_data` returns it. By
            default that of epochs and data sets. Corpora bring their own.
        paradigm : Emotion, optional
            Cuts corpora into windows. For several corpora call its ``match_all`` first.

        Returns
        -------
        SSLPretrainer
            The fitted pre-trainer.

        Raises
        ------
        TypeError
            If ``objective`` is not a module that returns a ``PretrainingOutput``, or
            ``X`` holds no windows.
        ValueError
            If a setting is outside its range, the metadata lack columns that the
            sampler or the validation needs, or epochs, a data set or corpora have other
            channels or another rate than the model.
        CheckpointError
            If ``checkpoint_dir`` holds the state of another training, or of one that
            must not be resumed, or files of others in ``trained``, or is in use by
            another training.
        FloatingPointError
            If the loss of a batch, or its gradients, are not finite. The message names
            the batch.
        """
        self._warn_of_copies()
        dataset = self.gather(X, metadata, paradigm)
        with self.hold_checkpoint_dir():
            self._resume(dataset)
            try:
                super().fit(dataset, None)
            finally:
                self.saved_ = None  # it is of these windows
        self.record_diagnosis(dataset)
        return self

    def gather(self, X, metadata=None, paradigm=None) -> WindowDataset:
        """Return windows as a data set, with the channels of epochs as in the model."""
        signal = read_model_signal(getattr(self.objective, "encoder", None))
        return gather_windows(X, metadata, paradigm, signal)

    def _resume(self, dataset: WindowDataset) -> None:
        """Read the state to resume from, if there is one, and set the seed."""
        # Also if it is not used: a RandomState may be shared with other trainings.
        self.seed_ = draw_seed(self.random_state)
        self.saved_ = self.load_state(dataset)
        if self.saved_ is not None:
            self.seed_ = self.saved_["seed"]

    def _warn_of_copies(self) -> None:
        """Warn once that processes of a launcher do not train together."""
        n_processes = int(os.environ.get("WORLD_SIZE") or 1)
        if n_processes > 1 and os.environ.get("RANK", "0") == "0":
            log.warning(
                "%s was started in %d processes (WORLD_SIZE), each of which trains the "
                "same copy of the objective. To train one objective in all of them, "
                "use DistributedPretrainer.",
                type(self).__name__,
                n_processes,
            )

    @property
    def _trained_folder(self) -> Path:
        return self.checkpoint_folder / "trained"

    def partial_fit(self, X, y=None, classes=None, *, metadata=None, **fit_params):
        """Train for ``max_steps`` or ``max_epochs`` more, from the present weights.

        The recordings of ``X`` are added to the provenance, and the checkpoint in
        ``checkpoint_dir/trained`` is replaced. The state in ``checkpoint_dir`` stays
        that of the first training, so that the same code trains in the same way again.

        Parameters
        ----------
        X : array, Epochs, BaseConcatDataset or WindowDataset
            Windows, see :meth:`fit`.
        y, classes : None
            Ignored: part of skorch's interface.
        metadata : DataFrame, n_windows rows, optional
            One row per window, see :meth:`fit`.
        **fit_params
            Ignored.

        Returns
        -------
        SSLPretrainer
            The fitted pre-trainer.
        """
        if not isinstance(X, WindowDataset):
            X = self.gather(X, metadata)
        self._check_metadata(X.metadata)
        with self.hold_checkpoint_dir():
            saves = self.saves_trained()
            if not self.initialized_:
                self.initialize()
            if not hasattr(self, "saved_"):  # it does not come from fit
                self._resume(X)
            self.note_provenance(X)
            # Each call draws other numbers than those before it.
            try:
                with seeded(self.seed_ + self.n_steps_, self.device):
                    super().partial_fit(X, None, **fit_params)
            finally:
                self.identity_ = None  # further trainings leave the state as it is
                if self.saved_ is not None:
                    del self.saved_  # not restored: it is of these windows
                if self.warmup_steps or self.schedule:
                    restore_rates(self.optimizer_)
            if saves:
                save_checkpoint(self._trained_folder, self.objective_, self.provenance_)
        return self

    def saves_trained(self) -> bool:
        """Return whether a checkpoint is written at the end; warn if it cannot be.

        Returns
        -------
        bool
            Whether there is a ``checkpoint_dir`` and the objective can be saved.

        Raises
        ------
        CheckpointError
            If ``checkpoint_dir/trained`` holds other files.
        """
        if self.checkpoint_dir is None:
            return False
        check_replaceable(self._trained_folder)
        fault = find_fault(self._trained_folder, self.objective)
        if fault is not None:
            log.warning(
                "checkpoint_dir keeps the state of the training, but no checkpoint of "
                "the trained objective, as it cannot be saved: %s",
                fault,
            )
        return fault is None

    def note_provenance(self, dataset: WindowDataset) -> None:
        """Add the recordings of a training to those that the weights have seen."""
        seen = dataset.provenance
        # Before a first training nothing is seen; afterwards None is unknown.
        if self.history or self.provenance_ is not None:
            seen = settle_provenance(seen, settle_provenance(self.provenance_))
        self.set_provenance(seen)

    def set_provenance(self, seen) -> None:
        """Set the recordings that the weights have seen; None if they are unknown."""
        self.provenance_ = seen
        encoder = getattr(self.objective_, "encoder", None)
        if isinstance(encoder, nn.Module):
            add_provenance(encoder, seen)

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the training windows, and the validation windows or None."""
        if self.validation is not None:
            train, valid = _split_by_subject(X, self.validation, self.seed_)
            subjects = X.metadata.iloc[valid][_subject_columns(X.metadata)]
            self.validation_subjects_ = subjects.drop_duplicates(ignore_index=True)
            return X.take(train), X.take(valid)
        self.validation_subjects_ = None
        train, valid = super().get_split_datasets(X)
        return _as_windows(train), None if valid is None else _as_windows(valid)

    def get_iterator(self, dataset, training=False):
        """Return the batches of a data set, shuffled or sampled."""
        given = self.get_params_for("iterator_train" if training else "iterator_valid")
        defaults: dict[str, Any] = {"collate_fn": WindowDataset.collate}
        # Arguments that a data loader refuses along with batches of our making.
        own = {"sampler", "batch_sampler"}
        own |= set() if training else {"batch_size", "drop_last", "shuffle"}
        sampler = self.get_sampler()
        if training:
            self.sampler_ = None
        if training and sampler is not None:
            defaults |= self._make_sampler(sampler, dataset.metadata)
        elif not own & set(given):
            defaults |= (
                self._arrange(len(dataset))
                if training
                else self._arrange_validation(self._list_examples(sampler, dataset))
            )
        if "batch_sampler" not in {*defaults, *given}:
            defaults.setdefault("batch_size", self.get_batch_size())
        make = self.iterator_train if training else self.iterator_valid
        batches = make(self.place(dataset, given), **{**defaults, **given})
        if training:
            self.n_batches_ = len(batches)
            self.names_windows_ = "windows" in self.arguments_ and not (
                self._may_change(dataset, given)
            )
        return batches

    def _may_change(self, dataset: WindowDataset, given: dict) -> bool:
        """Return whether a window may be another one when it is read again."""
        # What may augment it: a data loader, a collate function and a data set of the
        # user's, and the transform of a data set of braindecode.
        return (
            self.iterator_train is not DataLoader
            or "collate_fn" in given
            or type(dataset) is not WindowDataset
            or isinstance(dataset.windows.X, BaseConcatDataset)
        )

    def get_sampler(self) -> type | None:
        """Return the class of the sampler, None if the windows are shuffled.

        Returns
        -------
        type or None
            With ``sampler="auto"`` the ``default_sampler`` of the objective, unless
            ``iterator_train__sampler`` or ``iterator_train__batch_sampler`` is set.
        """
        if not isinstance(self.sampler, str):
            return self.sampler
        if {"sampler", "batch_sampler"} & set(self.get_params_for("iterator_train")):
            return None
        return getattr(self.objective, "default_sampler", None)

    def get_batch_size(self) -> int:
        """Return the number of windows, or tuples of windows, per batch.

        Returns
        -------
        int
            ``batch_size``, or its value if it is "auto".
        """
        if self.batch_size != "auto":
            return self.batch_size
        sampler = self.get_sampler()
        default_sampler = getattr(self.objective, "default_sampler", None)
        if sampler is None or sampler is not default_sampler:
            return DEFAULT_BATCH_SIZE
        return getattr(self.objective, "default_batch_size", None) or DEFAULT_BATCH_SIZE

    def find_device(self) -> str | torch.device:
        """Return the device to train on.

        Returns
        -------
        str or torch.device
            ``device``, or the device that "auto" selects on this machine.
        """
        return find_device(self.device)

    def _arrange(self, n_windows: int) -> dict:
        """Return arguments of a data loader that shuffle the training windows."""
        drops_last = n_windows >= self.get_batch_size()
        return {"shuffle": True, "drop_last": drops_last}

    def _list_examples(self, sampler: type | None, dataset) -> np.ndarray:
        """Return the validation windows, or tuples of them (n_tuples, n_windows)."""
        if sampler is None or not getattr(sampler, "yields_tuples", False):
            return np.arange(len(dataset))
        try:
            # One tuple in each batch of the sampler, so that it leaves none out.
            drawn = self._build_sampler(
                sampler, dataset.metadata, batch_size=1, rank=0, num_replicas=1
            )
        except ValueError as error:
            raise ValueError(
                f"{sampler.__name__} forms no tuples of the held-out windows, so they "
                f"cannot be used for validation ({error}). Hold out more subjects, or "
                "none."
            ) from error
        return np.array(list(drawn))

    def _arrange_validation(self, examples: np.ndarray) -> dict:
        """Return arguments of a data loader that make batches of examples."""
        # All are used, and none in a small last batch: it has too few negatives.
        n_batches = -(-len(examples) // self.get_batch_size())
        return {"batch_sampler": np.array_split(examples, n_batches)}

    def infer(self, x, **fit_params):
        """Compute the loss of a batch, in the given precision."""
        dtype = PRECISIONS[self.precision]
        device_type = torch.device(self.device).type
        with torch.autocast(device_type, dtype) if dtype else nullcontext():
            return super().infer(x, **fit_params)

    def list_arguments(self, numbers, training):
        """Return the numbers that the objective takes along with a batch."""
        arguments = {}
        if training and self.names_windows_:
            arguments["windows"] = numbers
        if "recordings" in self.arguments_:
            recordings = self._find_recordings(training)
            if recordings is not None:
                recordings = recordings[numbers].to(self.device, non_blocking=True)
                arguments["recordings"] = recordings
        return arguments

    def _find_recordings(self, training: bool) -> torch.Tensor | None:
        """Return the recording of each window that trains or validates."""
        dataset, (train, _) = self.parts_[not training], self.parts_
        if dataset not in self.recordings_:
            found = number_recordings(dataset.metadata, train.metadata)
            if found is None and training:
                warnings.warn(
                    f"{type(self.objective).__name__} uses the recording of each "
                    "window, but does not know it: run the pipeline in evaluate, or "
                    "pass metadata= with subjects and sessions to fit.",
                    stacklevel=2,
                )
            self.recordings_[dataset] = None if found is None else torch.tensor(found)
        return self.recordings_[dataset]

    def validation_step(self, batch, **fit_params):
        """Compute the loss of a validation batch."""
        arguments = self.list_arguments(batch[1], training=False)
        return super().validation_step(batch, **arguments)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the loss that the objective has computed, on the CPU if finite."""
        if not hasattr(y_pred, "loss"):
            raise TypeError(_NOT_AN_OBJECTIVE.format(self.objective))
        if not self.reads_late and not torch.isfinite(y_pred.loss):
            terms = {name: float(value) for name, value in y_pred.terms.items()}
            self._stop_at_loss(y_pred.loss.item(), terms, self._n_batches_begun, y_true)
        return y_pred.loss

    @property
    def _n_batches_begun(self) -> int:
        """Number of batches of the epoch that have begun."""
        return len(self.history[-1]["batches"])

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Notify the objective that an epoch begins."""
        if self.batch_in_epoch_:
            return  # this epoch began before the training was interrupted
        super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)
        self.tell_objective(
            "on_epoch_begin",
            len(self.history) - 1,
            dataset_train.windows,
            metadata=dataset_train.metadata,
        )

    def on_grad_computed(self, net, named_parameters, batch=None, **kwargs):
        """Record the norm of the gradients; on the CPU stop before a bad step."""
        super().on_grad_computed(net, named_parameters, batch=batch, **kwargs)
        if self.scaler_.is_enabled():
            return  # it leaves out such steps and lowers its scale
        grads = [p.grad for _, p in named_parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(grads)
        self.record_value("grad_norm", norm)
        if not self.reads_late and not norm.isfinite():
            self._stop(_NOT_FINITE, self._n_batches_begun, batch[1])

    def read_values(self):
        """Read what the last batches recorded; stop if they have spoilt the weights."""
        read = super().read_values()
        for number, entry, rows in read if self.reads_late else ():
            part = "train" if "train_loss" in entry else "valid"
            if not math.isfinite(entry[f"{part}_loss"]):
                terms = {
                    name.removeprefix(f"{part}_"): entry[name]
                    for name in list_terms([entry], part)
                }
                self._stop_at_loss(entry[f"{part}_loss"], terms, number, rows)
            if not math.isfinite(entry.get("grad_norm", 0.0)):
                self._stop(_NOT_FINITE, number, rows)
        return read

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Drop the windows so that they are not pickled."""
        super().on_train_end(net, X=X, y=y, **kwargs)
        self.parts_ = None
        self.recordings_ = {}

    def _check_metadata(self, metadata) -> None:
        """Raise if the metadata lack columns that the sampler uses."""
        sampler = self.get_sampler()
        find_missing = getattr(sampler, "find_missing_columns", None)
        if sampler is None or (find_missing is None and metadata is not None):
            return
        missing = find_missing(metadata) if find_missing else "columns"
        if missing:
            raise ValueError(
                f"{type(self.objective).__name__} is trained on windows drawn by "
                f"{sampler.__name__}, which needs metadata with {missing}: run the "
                "pipeline in braindecode_emossl's evaluate, or in an evaluation of "
                "MOABB with return_epochs=True, or pass metadata= to fit, or set "
                "sampler=None to train on shuffled windows instead."
            )

    def _make_sampler(self, sampler: type, metadata) -> dict:
        """Return arguments of a data loader that let a sampler order the windows."""
        self._check_metadata(metadata)
        batch_size = self.get_batch_size()
        self.sampler_ = self._build_sampler(sampler, metadata, batch_size=batch_size)
        # If it knows the size of a batch, it yields whole batches.
        if "batch_size" in inspect.signature(sampler).parameters:
            return {"batch_sampler": self.sampler_}
        return {
            "sampler": self.sampler_,
            # The sampler may lower it to the stimuli that there are.
            "batch_size": getattr(self.sampler_, "n_stimuli", batch_size),
            "drop_last": len(self.sampler_) >= batch_size,
        }

    def _build_sampler(self, sampler: type, metadata, *, batch_size: int, **settings):
        """Return a sampler with the arguments that it was given."""
        settings["random_state"] = self.seed_
        known = inspect.signature(sampler).parameters
        # What a sampler calls the size of a batch, if it must know it.
        for name in ("batch_size", "n_stimuli"):
            if name in known:
                settings[name] = batch_size
        if self.sampler == "auto":
            settings |= getattr(self.objective, "sampler_settings", {})
        return sampler(metadata, **{**settings, **self.get_params_for("sampler")})

    def _stop_at_loss(self, loss: float, terms: dict, number: int, rows) -> NoReturn:
        """Raise an error that gives a loss that is not finite."""
        self._stop(f"The loss is {loss}, with the terms {terms},", number, rows)

    def _stop(self, what: str, number: int, rows) -> NoReturn:
        """Raise an error that names a batch, its windows and a possible cause."""
        training = self.module_.training
        dataset = self.parts_[not training]
        where = f"batch {number}" if training else "validation"
        windows = dataset.windows[rows.numpy()]  # (*rows.shape, n_chans, ...)
        is_sound = windows.isfinite()
        encoder = getattr(self.module_, "encoder", None)
        if missing := getattr(encoder, "missing_chans", None):
            is_sound[..., missing, :] |= windows[..., missing, :].isnan()
        broken = rows[~is_sound.flatten(rows.ndim).all(-1)].flatten().tolist()
        shown = broken or rows.flatten().tolist()
        named = "; ".join(map(dataset.describe, shown[:5])) + (
            f" and {len(shown) - 5} more" if len(shown) > 5 else ""
        )
        cause = (
            f"The values of {named} are not finite: repair or drop them"
            if broken
            else "The windows are finite, so that the training has diverged: try a "
            f"lower lr, gradient_clip_value=1.0 or a warm-up. The batch is {named}"
        )
        raise FloatingPointError(
            f"{what} in epoch {len(self.history)}, {where}. {cause}."
        )

    def _check_settings(self) -> None:
        """Raise if an argument is outside its range."""
        if not isinstance(self.objective, nn.Module):
            raise TypeError(_NOT_AN_OBJECTIVE.format(self.objective))
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("precision", self.precision, PRECISIONS)
        limits = {
            "sampler": not isinstance(self.sampler, str) or self.sampler == "auto",
            "max_steps": self.max_steps is None
            or (is_count(self.max_steps, 0) and self.max_epochs is None),
            "max_epochs": self.max_epochs is None or is_count(self.max_epochs, 0),
            "batch_size": self.batch_size == "auto" or is_count(self.batch_size),
            "warmup_steps": is_count(self.warmup_steps, 0),
            "gradient_accumulation_steps": is_count(self.gradient_accumulation_steps),
            "gradient_clip_value": self.gradient_clip_value is None
            or (is_number(self.gradient_clip_value) and self.gradient_clip_value > 0),
            "validation": self.validation is None
            or (is_number(self.validation) and 0 < self.validation < 1),
            "patience": self.patience is None
            or (is_count(self.patience) and bool(self.validation or self.train_split)),
            "resume": not self.resume or self.checkpoint_dir is not None,
        }
        for name, holds in limits.items():
            if not holds:
                raise ValueError(
                    f"{name} must be {_RANGES[name]}, but got {getattr(self, name)!r}."
                )


_NOT_FINITE = "The gradients are not finite"

_NOT_AN_OBJECTIVE = (
    "objective must be a module that returns a PretrainingOutput of a batch, but got "
    "{!r}."
)

_RANGES = {
    "sampler": "'auto', None or the class of a sampler",
    "max_steps": "None or an integer from 0, and None if max_epochs is set",
    "max_epochs": "None or an integer from 0",
    "batch_size": "'auto' or an integer from 1",
    "warmup_steps": "an integer from 0",
    "gradient_accumulation_steps": "an integer from 1",
    "gradient_clip_value": "None or greater than 0",
    "validation": "None or a fraction of the subjects between 0 and 1",
    "patience": "None, or an integer from 1 with validation set",
    "resume": "False unless checkpoint_dir is set",
}


def _split_by_subject(
    dataset: WindowDataset, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and the validation windows."""
    metadata = dataset.metadata
    if metadata is None or "subject" not in metadata:
        raise ValueError(
            "validation holds out subjects and needs metadata with a column subject: "
            "pass them to fit, as Emotion.get_data returns them."
        )
    columns = _subject_columns(metadata)
    subjects = metadata.groupby(columns, observed=True).ngroup().to_numpy()
    n_subjects = len(np.unique(subjects))
    if n_subjects < 2:
        raise ValueError(
            f"validation={fraction} holds out subjects, but the windows are of "
            f"{n_subjects} subject. Pass validation=None."
        )
    n_valid = min(max(1, round(fraction * n_subjects)), n_subjects - 1)
    splitter = GroupShuffleSplit(1, test_size=n_valid, random_state=seed)
    return next(splitter.split(subjects, groups=subjects))


def _subject_columns(metadata) -> list[str]:
    """Return the columns that identify a subject."""
    return [name for name in ("corpus", "subject") if name in metadata]


def _as_windows(dataset) -> WindowDataset:
    """Return a part that a splitter of skorch has made as one of its own."""
    if isinstance(dataset, Subset):
        return dataset.dataset.take(dataset.indices)
    return dataset


def draw_seed(random_state) -> int:
    """Return an integer seed for a ``random_state`` of scikit-learn."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


@contextmanager
def seeded(random_state, device) -> Iterator[None]:
    """Seed torch within a block, and restore its generators afterwards."""
    seed = draw_seed(random_state)
    device = torch.device(find_device(device))
    devices = [] if device.type == "cpu" else [device]
    # The threads of a process share torch's generators, so one waits for the other.
    with _seeding, torch.random.fork_rng(devices=devices, device_type=device.type):
        torch.manual_seed(seed)
        yield
