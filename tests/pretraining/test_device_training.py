"""Tests of training without waiting for a GPU.

Most run on the CPU, with the losses read as late as on a GPU.
"""

from __future__ import annotations

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from braindecode_emossl.models import (
    MEMHACL,
    SCMM,
    MaskedClusterTransformer,
    MoodReader,
)
from braindecode_emossl.pretraining import (
    MaskedClusterPretraining,
    MEMHACLPretraining,
    MoodReaderPretraining,
    PretrainingObjective,
    PretrainingOutput,
    SCMMPretraining,
    SSLPretrainer,
)
from braindecode_emossl.pretraining.device_training import LabeledWindows, collate
from braindecode_emossl.pretraining.finetuning import FineTuner
from braindecode_emossl.pretraining.state import load_state
from braindecode_emossl.pretraining.windows import WindowArray, gather_windows

N_CHANS, N_BANDS = 4, 5


class LatePretrainer(SSLPretrainer):
    """Read losses late, on the CPU too."""

    reads_late = True


class LateFineTuner(FineTuner):
    """Read losses late, on the CPU too."""

    reads_late = True


class Diverging(PretrainingObjective):
    """An objective whose loss, or gradient, is not finite from some batch on."""

    def __init__(self, first, gradient=False):
        super().__init__(nn.Identity())
        self.first, self.gradient = first, gradient
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("n_batches", torch.zeros(()))

    def forward(self, x):
        self.n_batches += 1
        is_bad = self.n_batches >= self.first
        if self.gradient:
            # The root of 0 has a value but no slope.
            root = (self.weight * torch.where(is_bad, 0.0, 1.0)).sqrt()
            return PretrainingOutput(root, {"part": root.detach()})
        loss = self.weight * torch.where(is_bad, torch.inf, 1.0)
        return PretrainingOutput(loss, {"part": torch.tensor(2.0)})


@pytest.fixture
def X(rng):
    return rng.normal(size=(40, N_CHANS, N_BANDS)).astype(np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_objective():
    torch.manual_seed(0)
    model = SCMM(n_outputs=2, n_chans=N_CHANS, n_times=N_BANDS, input_domain="de")
    return SCMMPretraining(model)


def settings(**changes):
    return {"max_epochs": 3, "batch_size": 8, "random_state": 0, **changes}


@pytest.mark.parametrize("changes", [{}, {"validation": 0.5}, {"precision": "bf16"}])
def test_a_training_is_the_same_when_losses_are_read_late(X, changes):
    metadata = pd.DataFrame({"subject": np.repeat([1, 2], 20)})
    now, late = (
        kind(make_objective(), **settings(**changes)).fit(X, metadata=metadata)
        for kind in (SSLPretrainer, LatePretrainer)
    )
    for name, weight in now.module_.state_dict().items():
        torch.testing.assert_close(
            weight, late.module_.state_dict()[name], atol=0, rtol=0
        )
    for ours, theirs in zip(now.history, late.history, strict=True):
        for entry in (ours, theirs):
            entry.pop("dur")
        assert ours == theirs


def test_numbers_are_read_many_batches_at_a_time(X):
    """Each read waits for the GPU: there were five of them in every batch."""
    kinds = []

    class Watch(Callback):
        def on_batch_end(self, net, **kwargs):
            batch = net.history[-1, "batches", -1]
            kinds.append(isinstance(batch["train_loss"], torch.Tensor))

    pretrainer = LatePretrainer(
        make_objective(), **settings(batch_size=2, max_epochs=2), callbacks=[Watch()]
    ).fit(X)
    assert all(kinds)
    for name in ("train_loss", "train_contrastive", "grad_norm"):
        values = pretrainer.history[:, "batches", :, name]
        assert all(isinstance(value, float) for epoch in values for value in epoch)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("first", [1, 7, 30])
def test_the_batch_at_which_a_training_diverged_is_named(X, first, gradient):
    pretrainer = LatePretrainer(
        Diverging(first, gradient),
        **settings(batch_size=1, max_epochs=1),
        iterator_train__shuffle=False,
    )
    what = "The gradients are not finite" if gradient else r"loss is inf.*'part': 2\.0"
    with pytest.raises(FloatingPointError, match=what) as caught:
        pretrainer.fit(X)
    assert f"epoch 1, batch {first}." in str(caught.value)
    assert f"The batch is window {first - 1}" in str(caught.value)


def test_no_state_is_written_of_a_training_that_diverged(X, tmp_path, monkeypatch):
    """It would have been the state to resume from."""
    module = "braindecode_emossl.pretraining.loop._STEPS_BETWEEN_STATES"
    monkeypatch.setattr(module, 10)
    pretrainer = LatePretrainer(
        Diverging(16), **settings(batch_size=1), checkpoint_dir=tmp_path
    )
    with pytest.raises(FloatingPointError):
        pretrainer.fit(X)
    state = load_state(tmp_path / "state.safetensors")
    assert state["progress"]["n_steps"] == 10
    assert state["objective"]["weight"].isfinite()


def test_fine_tuning_is_the_same_when_losses_are_read_late(X, rng):
    y = rng.integers(0, 2, len(X))
    weight = rng.uniform(0.5, 2, len(X))
    found = []
    for kind in (FineTuner, LateFineTuner):
        torch.manual_seed(0)
        model = SCMM(n_outputs=2, n_chans=N_CHANS, n_times=N_BANDS, input_domain="de")
        net = kind(model, max_steps=30, batch_size=8)
        found.append(net.fit(X, y, sample_weight=weight))
    now, late = found
    assert now.history[:, "train_loss"] == late.history[:, "train_loss"]
    np.testing.assert_array_equal(now.predict_proba(X), late.predict_proba(X))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("placed", [False, True])
def test_windows_of_a_batch_are_those_taken_one_by_one(X, rng, weighted, placed):
    labels = torch.from_numpy(rng.integers(0, 2, len(X)))
    weights = torch.rand(len(X)) if weighted else None
    data = LabeledWindows(WindowArray(X), labels, weights)
    if placed:
        data = data.to("cpu")
    rows = rng.permutation(len(X))[:7].tolist()
    windows, targets = collate(data.__getitems__(rows))
    expected = torch.from_numpy(X[rows])
    if weighted:
        expected = {"x": expected, "sample_weight": weights[rows]}
    torch.testing.assert_close(windows, expected)
    torch.testing.assert_close(targets, labels[rows])
    singly = collate([data[row] for row in rows])
    torch.testing.assert_close(list(singly), [windows, targets])


def test_a_part_of_the_windows_is_placed_as_it_is(X):
    part = gather_windows(X).take(np.array([5, 3, 30]))
    placed = part.to("cpu")
    torch.testing.assert_close(placed.windows[:], part.windows[:])
    torch.testing.assert_close(
        placed.windows[np.array([[2], [0]])], part.windows[np.array([[2], [0]])]
    )


# -- on a GPU ------------------------------------------------------------------


def make_full_objective(name):
    """Return an objective of each kind, small, and the shape of its windows."""
    montage = mne.channels.make_standard_montage("colin27_1005")
    info = mne.create_info([*montage.ch_names[:8]], 128.0, "eeg").set_montage(montage)
    torch.manual_seed(0)
    if name == "SCMM":
        return SCMMPretraining(
            SCMM(n_outputs=3, n_chans=8, n_times=5, input_domain="de")
        ), (8, 5)
    if name == "SCMM of signals":
        return SCMMPretraining(SCMM(n_outputs=3, n_chans=8, n_times=128, sfreq=128)), (
            8,
            128,
        )
    if name == "MEMHACL":
        model = MEMHACL(n_outputs=4, chs_info=info["chs"], n_times=128, sfreq=128)
        return MEMHACLPretraining(model), (4, 8, 128)
    if name == "MaskedClusterTransformer":
        model = MaskedClusterTransformer(n_outputs=4, n_chans=8, n_times=256, sfreq=128)
        return MaskedClusterPretraining(model), (8, 256)
    model = MoodReader(n_outputs=4, chs_info=info["chs"], n_times=256, sfreq=128)
    return MoodReaderPretraining(model), (8, 256)


class ForbidWaiting(Callback):
    """Let torch raise an error where the processor waits for the GPU in a step."""

    def on_batch_begin(self, net, training=False, **kwargs):
        """Forbid it, once everything has been set up."""
        if training and net.n_steps_ > 2:
            torch.cuda.set_sync_debug_mode("error")

    def on_batch_end(self, net, **kwargs):
        """Allow it."""
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize(
    "name",
    ["SCMM", "SCMM of signals", "MEMHACL", "MaskedClusterTransformer", "MoodReader"],
)
def test_no_step_waits_for_the_gpu(name, rng):
    objective, shape = make_full_objective(name)
    X = rng.normal(size=(64, *shape)).astype(np.float32)
    pretrainer = SSLPretrainer(
        objective,
        sampler=None,
        max_steps=8,
        batch_size=16,
        device="cuda",
        gradient_clip_value=1.0,
        callbacks=[ForbidWaiting()],
        random_state=0,
    )
    try:
        pretrainer.fit(X)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(pretrainer.history[:, "train_loss"]).all()


@pytest.mark.gpu
def test_a_generator_of_the_cpu_serves_the_gpu(rng):
    """MoodReader drew the recordings to move windows to on another device."""
    objective, shape = make_full_objective("MoodReader")
    x = rng.normal(size=(16, *shape)).astype(np.float32)
    metadata = pd.DataFrame({"corpus": "Toy", "subject": np.arange(16) % 2})
    objective.prepare(x, metadata)
    objective.to("cuda")
    recordings = torch.arange(16, device="cuda") % 2
    generator = torch.Generator().manual_seed(0)
    output = objective(torch.from_numpy(x).cuda(), generator, recordings)
    assert output.loss.isfinite()


@pytest.mark.gpu
def test_windows_that_fit_stay_on_the_gpu(X):
    pretrainer = SSLPretrainer(make_objective(), **settings(device="cuda"))
    pretrainer.initialize()
    batch, _ = next(iter(pretrainer.get_iterator(gather_windows(X), training=True)))
    assert batch.is_cuda
