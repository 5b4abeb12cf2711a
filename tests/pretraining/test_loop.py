"""Trainings counted in steps, cut and resumed within an epoch."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import hypothesis
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import strategies as st
from skorch.callbacks import Callback

from braindecode_emossl.models import SCMM
from braindecode_emossl.pretraining import (
    PretrainingObjective,
    PretrainingOutput,
    SCMMPretraining,
    SSLPretrainer,
    loop,
)
from braindecode_emossl.pretraining.memory import PretrainingMemory
from braindecode_emossl.pretraining.state import load_state
from braindecode_emossl.samplers import (
    ContinuityBatchSampler,
    CorpusBalancedSampler,
    StimulusGroupSampler,
)

N_SUBJECTS, N_WINDOWS = 6, 8


class Killed(Exception):
    """Stands for the end of the process."""


class KillAt(Callback):
    def __init__(self, epoch, batch):
        self.at = epoch, batch

    def on_batch_end(self, net, training=False, **kwargs):
        if training and (len(net.history), len(net.history[-1, "batches"])) == self.at:
            raise Killed


class Noisy(PretrainingObjective):
    """Learn the mean of the windows, with random numbers in each step and epoch."""

    def __init__(self):
        super().__init__(torch.nn.Identity())
        self.mean = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("offset", torch.zeros(()))

    def on_epoch_begin(self, epoch, X):
        self.offset = torch.rand(())

    def forward(self, x):
        noise = torch.rand(x.shape) + self.offset
        loss = ((x + noise - self.mean) ** 2).mean()
        return PretrainingOutput(loss, {"noise": noise.mean()})


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N_SUBJECTS * N_WINDOWS, 2, 3)).astype(np.float32)


@pytest.fixture
def metadata():
    n = N_SUBJECTS * N_WINDOWS
    return pd.DataFrame(
        {
            "corpus": "Toy",
            "subject": np.repeat(np.arange(N_SUBJECTS), N_WINDOWS),
            "trial": 0,
            "stimulus": "a",
            "window": np.arange(n) % N_WINDOWS,
        }
    )


def make_pretrainer(objective=None, **settings):
    settings = {"batch_size": 8, "lr": 1e-2, "random_state": 0, **settings}
    return SSLPretrainer(objective or Noisy(), **settings)


def assert_same(first, second):
    state, other = first.module_.state_dict(), second.module_.state_dict()
    for name in state:
        assert torch.equal(state[name], other[name]), name
    histories = [pretrainer.history.to_list() for pretrainer in (first, second)]
    for epochs in histories:
        for epoch in epochs:
            del epoch["dur"]
    assert histories[0] == histories[1]


def count_batches(pretrainer):
    return [len(epoch["batches"]) for epoch in pretrainer.history]


def test_by_default_a_training_has_2000_steps(X):
    pretrainer = make_pretrainer(callbacks=[KillAt(1, 1)])
    with pytest.raises(Killed):
        pretrainer.fit(X)
    assert pretrainer.n_steps_planned_ == 2000


@pytest.mark.parametrize(
    ("settings", "batches", "n_steps"),
    [
        ({"max_steps": 14}, [6, 6, 2], 14),  # 48 windows in batches of 8
        ({"max_steps": 12}, [6, 6], 12),
        ({"max_steps": 4}, [4], 4),
        ({"max_epochs": 2}, [6, 6], 12),
        ({"max_steps": 4, "gradient_accumulation_steps": 4}, [6, 6], 4),
        ({"max_steps": 3, "gradient_accumulation_steps": 4}, [6, 4], 3),
        ({"max_epochs": 2, "gradient_accumulation_steps": 4}, [6, 6], 4),
    ],
)
def test_a_training_has_as_many_steps_as_wanted(X, settings, batches, n_steps):
    n_updates = []

    class Counting(torch.optim.SGD):
        def step(self, *args, **kwargs):
            n_updates.append(1)
            return super().step(*args, **kwargs)

    pretrainer = make_pretrainer(optimizer=Counting, **settings).fit(X)
    assert count_batches(pretrainer) == batches
    assert pretrainer.history[:, "train_batch_count"] == batches
    assert pretrainer.n_steps_ == len(n_updates) == n_steps


SAMPLED = {
    "shuffled": {},
    "in stretches": {"sampler": ContinuityBatchSampler, "sampler__n_windows": 4},
    "in groups": {"sampler": StimulusGroupSampler, "batch_size": 2},
    "balanced": {"sampler": CorpusBalancedSampler, "sampler__temperature": 0.3},
}


@pytest.mark.parametrize("at", [(2, 1), (3, 2)])
@pytest.mark.parametrize("order", SAMPLED)
def test_a_training_is_resumed_within_an_epoch(
    order, at, X, metadata, tmp_path, monkeypatch
):
    """Long epochs were repeated from their beginning."""
    settings = {"max_steps": 15, "schedule": "cosine", "warmup_steps": 2}
    settings |= SAMPLED[order]
    whole = make_pretrainer(**settings).fit(X, metadata=metadata)
    monkeypatch.setattr(loop, "_STEPS_BETWEEN_STATES", 1)
    settings["checkpoint_dir"] = tmp_path
    killed = make_pretrainer(callbacks=[KillAt(*at)], **settings)
    with pytest.raises(Killed):
        killed.fit(X, metadata=metadata)
    seen = []

    class Count(Callback):
        def on_batch_begin(self, net, **kwargs):
            seen.append(1)

    resumed = make_pretrainer(resume=True, callbacks=[Count()], **settings)
    torch.rand(7)  # another process would not have drawn the same before
    resumed.fit(X, metadata=metadata)
    assert_same(whole, resumed)
    n_done = sum(count_batches(whole)[: at[0] - 1]) + at[1] - 1
    assert len(seen) == 15 - n_done


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(
    n_windows=st.integers(9, 30),
    batch_size=st.integers(1, 8),
    n_accumulated=st.integers(1, 4),
    n_steps=st.integers(1, 12),
    between=st.integers(1, 5),
    data=st.data(),
)
def test_whatever_the_lengths_a_resumed_training_is_the_same(
    n_windows, batch_size, n_accumulated, n_steps, between, data
):
    X = np.random.default_rng(0).normal(size=(n_windows, 2, 3))
    settings = {"max_steps": n_steps, "batch_size": batch_size}
    settings["gradient_accumulation_steps"] = n_accumulated
    whole = make_pretrainer(**settings).fit(X)
    assert whole.n_steps_ == n_steps
    n_batches = count_batches(whole)
    epoch = data.draw(st.integers(1, len(n_batches)), "epoch")
    batch = data.draw(st.integers(1, n_batches[epoch - 1]), "batch")
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(loop, "_STEPS_BETWEEN_STATES", between)
        settings["checkpoint_dir"] = folder
        with pytest.raises(Killed):
            make_pretrainer(callbacks=[KillAt(epoch, batch)], **settings).fit(X)
        assert_same(whole, make_pretrainer(resume=True, **settings).fit(X))


@pytest.mark.parametrize("n_first", [4, 6])
@pytest.mark.parametrize("validation", [None, 0.4])
def test_more_steps_are_added_to_a_finished_training(
    n_first, validation, X, metadata, tmp_path
):
    """The validation after a cut epoch draws numbers that a longer one does not."""
    settings = {"validation": validation, "batch_size": 6}
    whole = make_pretrainer(max_steps=13, **settings).fit(X, metadata=metadata)
    settings |= {"checkpoint_dir": tmp_path, "resume": True}
    make_pretrainer(max_steps=n_first, **settings).fit(X, metadata=metadata)
    longer = make_pretrainer(max_steps=13, **settings).fit(X, metadata=metadata)
    assert_same(whole, longer)


def test_a_finished_training_that_was_cut_is_read_not_repeated(
    X, metadata, tmp_path, monkeypatch
):
    settings = {"max_steps": 8, "validation": 0.4, "patience": 2}
    settings |= {"checkpoint_dir": tmp_path, "resume": True}
    first = make_pretrainer(**settings).fit(X, metadata=metadata)
    monkeypatch.setattr(SSLPretrainer, "train_step", None)
    assert_same(first, make_pretrainer(**settings).fit(X, metadata=metadata))


def test_slow_steps_are_written_by_the_clock(X, tmp_path, monkeypatch):
    """Of MEMHACL, 500 steps can take half an hour."""
    monkeypatch.setattr(loop, "monotonic", iter(range(0, 1000, 25)).__next__)
    settings = {"max_steps": 6, "checkpoint_dir": tmp_path}
    with pytest.raises(Killed):
        make_pretrainer(callbacks=[KillAt(1, 6)], **settings).fit(X)
    state = load_state(tmp_path / "state.safetensors")
    assert state["progress"]["n_steps"] == 3


def test_with_a_schedule_the_number_of_steps_is_part_of_the_training(X, tmp_path):
    settings = {"checkpoint_dir": tmp_path, "schedule": "cosine"}
    make_pretrainer(max_steps=3, **settings).fit(X)
    with pytest.raises(ValueError, match="max_steps"):
        make_pretrainer(max_steps=9, resume=True, **settings).fit(X)


def test_scmm_is_resumed_within_an_epoch(tmp_path, monkeypatch):
    """Masks, dropout and the statistics of batch normalization are in the state."""
    torch.manual_seed(0)
    model = SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de")
    objective = SCMMPretraining(model)
    X = np.random.default_rng(0).normal(size=(48, 4, 5))
    settings = {"objective": objective, "max_steps": 10, "gradient_clip_value": 1.0}
    whole = make_pretrainer(**settings).fit(X)
    monkeypatch.setattr(loop, "_STEPS_BETWEEN_STATES", 1)
    settings["checkpoint_dir"] = tmp_path
    with pytest.raises(Killed):
        make_pretrainer(callbacks=[KillAt(2, 2)], **settings).fit(X)
    assert_same(whole, make_pretrainer(resume=True, **settings).fit(X))


def test_the_number_of_steps_is_read_from_the_memory(tmp_path):
    """It was zero where the weights came from the memory."""
    torch.manual_seed(0)
    model = SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de")
    settings = {"max_steps": 5, "gradient_accumulation_steps": 4}
    X = np.random.default_rng(0).normal(size=(48, 4, 5))
    for _ in range(2):
        pretrainer = make_pretrainer(SCMMPretraining(model), **settings)
        pretrainer = PretrainingMemory(tmp_path).fit(pretrainer, X)
        assert pretrainer.n_steps_ == 5


@pytest.mark.slow
def test_persistent_workers(X, tmp_path):
    """They draw one seed per training, which a resumed training drew once more."""

    def train(folder, max_epochs):
        pretrainer = SSLPretrainer(
            Noisy(),
            max_epochs=max_epochs,
            batch_size=16,
            random_state=0,
            checkpoint_dir=tmp_path / folder,
            resume=True,
            device="cpu",
            iterator_train__num_workers=1,
            iterator_train__persistent_workers=True,
        )
        return pretrainer.fit(X).history[:, "train_loss"]

    whole = train("whole", 3)
    train("cut", 1)
    assert train("cut", 3) == whole
