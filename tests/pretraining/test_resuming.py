"""A training that was killed and resumed is one that was not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from braindecode.datasets import BaseConcatDataset, RawDataset
from braindecode.preprocessing import create_fixed_length_windows
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from torch.utils.data import RandomSampler

from braindecode_emossl import storage
from braindecode_emossl.errors import CheckpointError
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
    SCMMPretraining,
    SSLPretrainer,
    load_checkpoint,
    load_encoder,
    resuming,
    save_checkpoint,
)
from braindecode_emossl.pretraining.state import load_state, save_state
from braindecode_emossl.samplers import (
    ContinuityBatchSampler,
    CorpusBalancedSampler,
    StimulusGroupSampler,
)

N_SUBJECTS, N_WINDOWS = 6, 8  # windows of each subject


class Killed(Exception):
    """Stands for whatever ends a process."""


class KillAt(Callback):
    def __init__(self, epoch, batch):
        self.epoch, self.batch = epoch, batch

    def on_batch_end(self, net, training=False, **kwargs):
        at = len(net.history), len(net.history[-1, "batches"])
        if training and at == (self.epoch, self.batch):
            raise Killed


@pytest.fixture
def metadata():
    n = N_SUBJECTS * N_WINDOWS
    return pd.DataFrame(
        {
            "corpus": "Toy",
            "subject": np.repeat(np.arange(1, N_SUBJECTS + 1), N_WINDOWS),
            "session": "0",
            "run": "0",
            "trial": 0,
            "stimulus": "a",
            "window": np.arange(n) % N_WINDOWS,
        }
    )


def draw_windows(n_chans, n_times):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N_SUBJECTS * N_WINDOWS, n_chans, n_times))
    return x.astype(np.float32)


def make_scmm(**settings):
    torch.manual_seed(0)
    model = SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de")
    return SCMMPretraining(model, **settings), draw_windows(4, 5)


def make_memhacl():
    torch.manual_seed(0)
    model = MEMHACL(
        n_outputs=2, n_chans=4, n_times=64, sfreq=32, n_filters=(4, 4, 8, 8)
    )
    return MEMHACLPretraining(model, projector_widths=(16, 8)), draw_windows(4, 64)


def make_masked_cluster():
    torch.manual_seed(0)
    model = MaskedClusterTransformer(
        n_outputs=2,
        n_chans=4,
        n_times=200,
        sfreq=100,
        n_filters=8,
        emb_dim=16,
        n_layers=2,
        n_heads=2,
        dim_feedforward=16,
    )
    objective = MaskedClusterPretraining(
        model, n_clusters=(3, 5), code_dim=4, recluster_every=2
    )
    return objective, draw_windows(4, 200)


def make_mood_reader():
    torch.manual_seed(0)
    montage = mne.channels.make_standard_montage("standard_1020")
    info = mne.create_info(["Fp1", "Fp2", "C3", "C4"], 100.0, "eeg")
    model = MoodReader(
        n_outputs=2,
        chs_info=info.set_montage(montage)["chs"],
        n_times=200,
        sfreq=100,
        patch_size=20,
        embed_dim=16,
        n_layers=1,
        n_heads=2,
    )
    sizes = {"decoder_dim": 8, "n_decoder_layers": 1, "n_decoder_heads": 2}
    return MoodReaderPretraining(model, **sizes), draw_windows(4, 200)


MAKERS = {
    "SCMM": (make_scmm, {}),
    "SCMM in stretches": (
        make_scmm,
        {"sampler": ContinuityBatchSampler, "sampler__n_windows": 4, "batch_size": 16},
    ),
    "MEMHACL": (make_memhacl, {"sampler": StimulusGroupSampler, "batch_size": 4}),
    "MaskedCluster": (make_masked_cluster, {}),
    "MoodReader": (make_mood_reader, {}),
}


def make_pretrainer(objective, **settings):
    settings = {
        "max_epochs": 5,
        "batch_size": 8,
        "lr": 1e-2,
        "random_state": 0,
        "warmup_steps": 3,
        "schedule": "cosine",
        "gradient_clip_value": 1.0,
        "gradient_accumulation_steps": 2,
        **settings,
    }
    return SSLPretrainer(objective, **settings)


def assert_same(first, second):
    state, other = first.module_.state_dict(), second.module_.state_dict()
    assert list(state) == list(other)
    for name in state:
        assert torch.equal(state[name], other[name]), name
    for name in ("train_loss", "lr"):
        assert first.history[:, name] == second.history[:, name]


@pytest.mark.parametrize("name", MAKERS)
def test_weights_are_those_of_an_uninterrupted_training(name, tmp_path, metadata):
    make, settings = MAKERS[name]
    objective, X = make()
    whole = make_pretrainer(objective, **settings).fit(X, metadata=metadata)
    settings["checkpoint_dir"] = tmp_path
    killed = make_pretrainer(objective, callbacks=[KillAt(4, 1)], **settings)
    with pytest.raises(Killed):
        killed.fit(X, metadata=metadata)
    resumed = make_pretrainer(objective, resume=True, **settings)
    torch.rand(7)  # another process would not have drawn the same before
    resumed.fit(X, metadata=metadata)
    assert len(resumed.history) == 5
    assert_same(whole, resumed)


@pytest.mark.parametrize("at", [(1, 1), (2, 1), (3, 2)])
def test_early_stopping_resumes_where_it_was(at, tmp_path, metadata):
    objective, X = make_scmm()
    settings = {"validation": 0.4, "patience": 2, "max_epochs": 12, "lr": 0.05}
    whole = make_pretrainer(objective, **settings).fit(X, metadata=metadata)
    assert len(whole.history) < 12
    settings["checkpoint_dir"] = tmp_path
    killed = make_pretrainer(objective, callbacks=[KillAt(*at)], **settings)
    with pytest.raises(Killed):
        killed.fit(X, metadata=metadata)
    resumed = make_pretrainer(objective, resume=True, **settings)
    resumed.fit(X, metadata=metadata)
    assert whole.history[:, "valid_loss"] == resumed.history[:, "valid_loss"]
    assert_same(whole, resumed)


def test_without_a_seed_the_first_run_s_is_taken(tmp_path, metadata):
    """Another split by subject would let the validation see training windows."""
    objective, X = make_scmm()
    settings = {"random_state": None, "validation": 0.5, "checkpoint_dir": tmp_path}
    killed = make_pretrainer(objective, callbacks=[KillAt(2, 1)], **settings)
    with pytest.raises(Killed):
        killed.fit(X, metadata=metadata)
    subjects = set(killed.validation_subjects_["subject"])
    resumed = make_pretrainer(objective, resume=True, **settings)
    resumed.fit(X, metadata=metadata)
    assert set(resumed.validation_subjects_["subject"]) == subjects


def test_more_epochs_are_added_to_a_finished_training(tmp_path):
    objective, X = make_scmm()
    settings = {"schedule": None}
    whole = make_pretrainer(objective, max_epochs=4, **settings).fit(X)
    settings |= {"checkpoint_dir": tmp_path, "resume": True}
    make_pretrainer(objective, max_epochs=2, **settings).fit(X)
    assert_same(whole, make_pretrainer(objective, max_epochs=4, **settings).fit(X))


def test_a_finished_training_is_read_not_repeated(tmp_path, monkeypatch):
    objective, X = make_scmm()
    settings = {"checkpoint_dir": tmp_path, "resume": True}
    first = make_pretrainer(objective, **settings).fit(X)
    monkeypatch.setattr(SSLPretrainer, "train_step", None)
    assert_same(first, make_pretrainer(objective, **settings).fit(X))


def test_the_trained_objective_is_a_checkpoint_with_its_provenance(tmp_path, metadata):
    objective, X = make_scmm()
    pretrainer = make_pretrainer(objective, checkpoint_dir=tmp_path)
    pretrainer.fit(X, metadata=metadata)
    loaded = load_checkpoint(tmp_path / "trained")
    assert loaded.provenance["corpora"] == {
        "Toy": {"subjects": [1, 2, 3, 4, 5, 6], "sessions": ["0"]}
    }
    state = pretrainer.module_.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_files_of_others_are_found_before_the_training(tmp_path):
    """The checkpoint was refused only at the end of the training."""
    objective, X = make_scmm()
    pretrainer = make_pretrainer(objective, checkpoint_dir=tmp_path)
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"trained holds \['notes.txt'\]"):
        pretrainer.fit(X)
    assert not (tmp_path / "state.safetensors").exists()
    (tmp_path / "trained" / "notes.txt").unlink()
    pretrainer.fit(X)
    assert load_checkpoint(tmp_path / "trained")


def test_the_folder_may_begin_with_the_home_of_the_user(tmp_path, monkeypatch):
    """checkpoint_dir="~/x" wrote to a folder that is called ~."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    objective, X = make_scmm()
    for resume in (False, True):
        make_pretrainer(objective, checkpoint_dir="~/x", resume=resume).fit(X)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x" / "state.safetensors").is_file()
    assert load_checkpoint("~/x/trained")


def test_an_objective_of_the_user_s_own_is_resumed_but_not_published(tmp_path, caplog):
    class Own(SCMMPretraining):
        pass

    objective, X = make_scmm()
    settings = {"checkpoint_dir": tmp_path, "resume": True}
    whole = make_pretrainer(Own(objective.encoder), **settings).fit(X)
    assert "must be one of this package" in caplog.text
    assert "but got Own of SCMM" in caplog.text
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".lock", "state.safetensors"]
    assert_same(whole, make_pretrainer(Own(objective.encoder), **settings).fit(X))


def test_an_earlier_training_is_not_overwritten_unasked(tmp_path):
    objective, X = make_scmm()
    make_pretrainer(objective, checkpoint_dir=tmp_path).fit(X)
    with pytest.raises(CheckpointError, match="resume=True"):
        make_pretrainer(objective, checkpoint_dir=tmp_path).fit(X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, "lr was 0.01, but is now 0.5"),
        ({"batch_size": 4}, "batch_size was 8, but is now 4"),
        ({"max_epochs": 9}, "max_epochs was 5, but is now 9"),
        ({"max_epochs": None, "max_steps": 9}, "5, but is now None; max_steps was"),
        ({"optimizer__weight_decay": 0.3}, "weight_decay was unset, but is now 0.3"),
        ({"random_state": 1}, "random_state was 0, but is now 1"),
        ({"lr": 0.5, "patience": 3, "validation": 0.4}, "lr .*; validation .*; pat"),
    ],
)
def test_another_training_is_not_resumed(change, message, tmp_path, metadata):
    """The message named one setting alone, and of some only a hash."""
    objective, X = make_scmm()
    make_pretrainer(objective, checkpoint_dir=tmp_path).fit(X, metadata=metadata)
    settings = {"checkpoint_dir": tmp_path, "resume": True, **change}
    with pytest.raises(CheckpointError, match=message) as error:
        make_pretrainer(objective, **settings).fit(X, metadata=metadata)
    assert not re.search("[0-9a-f]{32}", str(error.value))


def test_a_setting_that_is_left_out_is_missed(tmp_path):
    """Only the settings of now were compared: older ones went on, unasked."""
    objective, X = make_scmm()
    settings = {"checkpoint_dir": tmp_path, "optimizer__weight_decay": 0.3}
    make_pretrainer(objective, **settings).fit(X)
    with pytest.raises(CheckpointError, match=r"was 0\.3, but is now unset"):
        make_pretrainer(objective, checkpoint_dir=tmp_path, resume=True).fit(X)


def test_other_subjects_are_not_resumed(tmp_path, metadata):
    """Those who had trained could validate after that."""
    objective, X = make_scmm()
    settings = {"checkpoint_dir": tmp_path, "validation": 0.4}
    make_pretrainer(objective, **settings).fit(X, metadata=metadata)
    other = metadata.assign(subject=metadata["subject"].to_numpy()[::-1])
    again = make_pretrainer(objective, resume=True, **settings)
    with pytest.raises(CheckpointError, match="metadata"):
        again.fit(X, metadata=other)
    again.fit(X, metadata=metadata.copy())


def test_a_seed_of_numpy_is_that_number(tmp_path):
    """np.int64(0) was not 0."""
    objective, X = make_scmm()
    first = make_pretrainer(
        objective, checkpoint_dir=tmp_path, random_state=np.int64(0)
    ).fit(X)
    settings = {"checkpoint_dir": tmp_path, "resume": True, "random_state": 0}
    assert_same(first, make_pretrainer(objective, **settings).fit(X))


def test_a_training_on_a_gpu_goes_on_without_one(tmp_path):
    """The state of the GPU's generator was set whichever device trained."""
    objective, X = make_scmm()
    make_pretrainer(objective, checkpoint_dir=tmp_path, schedule=None).fit(X)
    state = load_state(tmp_path / "state.safetensors")
    state["generators"]["device"] = torch.zeros(16, dtype=torch.uint8)
    save_state(tmp_path / "state.safetensors", state)
    settings = {"checkpoint_dir": tmp_path, "resume": True, "schedule": None}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(torch.cuda, "set_rng_state", pytest.fail)
        more = make_pretrainer(objective, max_epochs=6, **settings).fit(X)
    assert len(more.history) == 6


def test_partial_fit_keeps_its_state_too(tmp_path):
    """Without a fit before it, it failed for want of an attribute."""
    objective, X = make_scmm()
    pretrainer = make_pretrainer(objective, checkpoint_dir=tmp_path)
    pretrainer.partial_fit(X).partial_fit(X)
    assert len(load_state(tmp_path / "state.safetensors")["history"]) == 5
    with pytest.raises(CheckpointError, match="resume=True"):
        make_pretrainer(objective, checkpoint_dir=tmp_path).partial_fit(X)


def test_code_with_further_trainings_gives_the_same_again(tmp_path, metadata):
    """The state was that of the last training, so that each run trained longer."""
    objective, X = make_scmm()
    settings = {"checkpoint_dir": tmp_path, "resume": True}
    found = []
    for _ in range(2):
        pretrainer = make_pretrainer(objective, **settings).fit(X, metadata=metadata)
        found.append(
            pretrainer.partial_fit(X + 1, metadata=metadata.assign(corpus="Other"))
        )
    assert_same(*found)
    alone = make_pretrainer(objective, **settings).fit(X, metadata=metadata)
    assert len(alone.history) == 5 and list(alone.provenance_["corpora"]) == ["Toy"]


@pytest.mark.parametrize(
    ("length", "shorter"),
    [({"max_steps": 10}, {"max_steps": 4}), ({"max_epochs": 4}, {"max_epochs": 2})],
)
def test_a_longer_training_is_not_that_of_fewer_steps(length, shorter, tmp_path):
    """It failed inside itertools, or was returned as if it had been asked for."""
    objective, X = make_scmm()
    settings = {"checkpoint_dir": tmp_path, "schedule": None, "max_epochs": None}
    first = make_pretrainer(objective, **{**settings, **length}).fit(X)
    again = make_pretrainer(objective, resume=True, **{**settings, **shorter})
    with pytest.raises(CheckpointError, match=f"has done {first.n_steps_} steps, but"):
        again.fit(X)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (
            {},
            {"iterator_train__batch_size": 16},
            "iterator_train__batch_size was unset",
        ),
        ({}, {"iterator_train__shuffle": False}, "shuffle was unset, but is now False"),
        ({}, {"train_split": ValidSplit(3)}, "train_split was None"),
        (
            {"random_state": np.random.RandomState(0)},
            {"random_state": np.random.RandomState(1)},
            "random_state was a RandomState",
        ),
    ],
)
def test_what_changes_the_training_is_compared(before, now, message, tmp_path):
    """Such trainings were resumed, two RandomStates as one seed."""
    objective, X = make_scmm()
    make_pretrainer(objective, checkpoint_dir=tmp_path, **before).fit(X)
    again = make_pretrainer(objective, checkpoint_dir=tmp_path, resume=True, **now)
    with pytest.raises(CheckpointError, match=message):
        again.fit(X)


def make_settings(momentum=0.9, n_folds=3):
    def make_optimizer(parameters, **settings):
        return torch.optim.SGD(parameters, momentum=momentum, **settings)

    return {"optimizer": make_optimizer, "train_split": ValidSplit(n_folds)}


def test_objects_are_compared_by_what_they_hold(tmp_path):
    """They were compared by their place in memory, or not at all."""
    objective, X = make_scmm()
    settings = {"checkpoint_dir": tmp_path, "resume": True}
    first = make_pretrainer(objective, **make_settings(), **settings).fit(X)
    workers = {"iterator_train__num_workers": 1, "iterator_train__pin_memory": False}
    again = make_pretrainer(objective, **make_settings(), **settings, **workers)
    assert_same(first, again.fit(X))
    for name, changed in (
        ("optimizer", make_settings(momentum=0.1)),
        ("train_split", make_settings(n_folds=6)),
    ):
        again = make_pretrainer(objective, **changed, **settings)
        with pytest.raises(CheckpointError, match=f"training: {name} was"):
            again.fit(X)


def test_trainings_that_share_a_random_state_are_resumed(tmp_path):
    """The second one drew another seed if the first had been finished."""
    objective, X = make_scmm()
    found = []
    for _ in range(2):
        settings = {"random_state": np.random.RandomState(0), "resume": True}
        found.append(
            [
                make_pretrainer(objective, checkpoint_dir=tmp_path / name, **settings)
                for name in "ab"
            ]
        )
        for pretrainer in found[-1]:
            pretrainer.fit(X)
    for first, again in zip(*found, strict=True):
        assert_same(first, again)


def test_windows_with_a_random_transform_are_resumed(tmp_path):
    """They differed each time they were read, as if they were others."""
    rng = np.random.default_rng(0)
    raw = mne.io.RawArray(rng.normal(size=(4, 400)), mne.create_info(4, 10.0, "eeg"))
    cut = create_fixed_length_windows(
        BaseConcatDataset([RawDataset(raw, description={"subject": 1})]),
        window_size_samples=5,
        window_stride_samples=5,
        drop_last_window=True,
    )
    cut.datasets[0].transform = lambda x: x + rng.normal(size=x.shape)
    settings = {"checkpoint_dir": tmp_path, "max_epochs": 1}
    make_pretrainer(make_scmm()[0], **settings).fit(cut)
    again = make_pretrainer(make_scmm()[0], resume=True, **settings).fit(cut)
    assert len(again.history) == 1


def test_a_generator_of_the_loader_is_refused(tmp_path, metadata):
    """Its state was not kept, and the resumed training was another one."""
    objective, X = make_scmm()
    for settings in (
        {"iterator_train__generator": torch.Generator()},
        {"iterator_train__sampler": RandomSampler(X, generator=torch.Generator())},
        {"iterator_train__sampler": CorpusBalancedSampler(metadata, random_state=0)},
    ):
        make_pretrainer(objective, **settings).fit(X)
        (name,) = settings
        with pytest.raises(CheckpointError, match=f"^{name} must not have a generator"):
            make_pretrainer(objective, checkpoint_dir=tmp_path, **settings).fit(X)


def test_numbers_of_numpy_in_the_history_are_kept(tmp_path):
    """A score in single precision ended the training after its first epoch."""
    objective, X = make_scmm()

    class Note(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("single", np.float32(0.5))
            net.history.record("count", np.int64(3))

    settings = {"checkpoint_dir": tmp_path, "callbacks": [Note()]}
    make_pretrainer(objective, **settings).fit(X)
    again = make_pretrainer(objective, resume=True, **settings).fit(X)
    assert again.history[:, ("single", "count")] == [(0.5, 3)] * 5


def test_a_resumed_training_is_of_the_same_first_weights(tmp_path, metadata):
    """What a loaded encoder had seen was lost, and the guard did not find its leak."""
    seen = {"corpora": {"SEED": {"subjects": [1, 2]}}}
    save_checkpoint(tmp_path / "before", make_scmm()[0], seen)
    objective, X = make_scmm()
    load_encoder(tmp_path / "before", objective.encoder)
    settings = {"checkpoint_dir": tmp_path / "state", "resume": True}
    make_pretrainer(objective, **settings).fit(X, metadata=metadata)
    again = make_pretrainer(make_scmm()[0], **settings)
    with pytest.raises(
        CheckpointError, match=r"earlier recordings of the model was .*S"
    ):
        again.fit(X, metadata=metadata)
    make_pretrainer(objective, **settings).fit(X, metadata=metadata)
    found = load_checkpoint(tmp_path / "state" / "trained").provenance["corpora"]
    assert set(found) == {"SEED", "Toy"}


def test_a_state_that_was_not_restored_is_not_that_of_other_windows(tmp_path):
    """After a failure before the first epoch, partial_fit took it for any windows."""
    objective, X = make_scmm()
    first = make_pretrainer(objective, checkpoint_dir=tmp_path).fit(X)

    class FailOnce(Callback):
        has_failed = False

        def on_train_begin(self, net, **kwargs):
            if not self.has_failed:
                self.has_failed = True
                raise Killed

    settings = {"checkpoint_dir": tmp_path, "resume": True, "callbacks": [FailOnce()]}
    again = make_pretrainer(objective, **settings)
    with pytest.raises(Killed):
        again.partial_fit(X)
    with pytest.raises(CheckpointError, match="the contents of the windows differ"):
        again.partial_fit(X + 1)
    again.partial_fit(X)
    assert again.history[:, "train_loss"] == first.history[:, "train_loss"]


def test_other_windows_and_other_objectives_are_not_resumed(tmp_path):
    """The settings of an objective were compared as one text."""
    objective, X = make_scmm()
    make_pretrainer(objective, checkpoint_dir=tmp_path).fit(X)
    again = make_pretrainer(objective, checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"windows was 48 .*now 40 of shape"):
        again.fit(X[:-8])
    other = make_scmm(temperature=0.1)[0]
    with pytest.raises(CheckpointError, match=r"objective temperature was .*now 0\.1"):
        make_pretrainer(other, checkpoint_dir=tmp_path, resume=True).fit(X)
    model = SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de", drop_prob=0.3)
    other = SCMMPretraining(model)
    with pytest.raises(CheckpointError, match=r"model drop_prob was .*now 0\.3"):
        make_pretrainer(other, checkpoint_dir=tmp_path, resume=True).fit(X)


def test_windows_that_differ_in_the_middle_are_not_resumed(tmp_path, monkeypatch):
    """Only the first and the last window counted: the loss jumped without a word."""
    monkeypatch.setattr(resuming, "_CHUNK", 1000)  # several parts
    objective, X = make_scmm()
    make_pretrainer(objective, checkpoint_dir=tmp_path).fit(X)
    again = make_pretrainer(objective, checkpoint_dir=tmp_path, resume=True)
    other = X.copy()
    other[30] += 1e-6
    with pytest.raises(CheckpointError, match="the contents of the windows differ"):
        again.fit(other)
    with pytest.raises(CheckpointError, match="the contents of the windows differ"):
        again.fit(np.concatenate([X[:1], X[-2:0:-1], X[-1:]]))
    again.fit(X.astype(np.float64))


@pytest.mark.parametrize("name", ["seed", "progress", "generators", "n_steps"])
def test_a_state_that_lacks_an_entry_is_named(name, tmp_path):
    """A KeyError named neither the file nor a remedy."""
    objective, X = make_scmm()
    make_pretrainer(objective, checkpoint_dir=tmp_path).fit(X)
    path = tmp_path / "state.safetensors"
    state = load_state(path)
    (state if name in state else state["progress"]).pop(name)
    save_state(path, state)
    again = make_pretrainer(objective, checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=rf"{path} .*no entry '{name}'.*Delete"):
        again.fit(X)


def test_two_trainings_do_not_share_a_folder(tmp_path, monkeypatch):
    """They tore each other's state: 13 of 24 failed, others mixed two seeds."""
    monkeypatch.setattr(storage, "_PATIENCE", 0)
    objective, X = make_scmm()
    settings = {"checkpoint_dir": tmp_path, "resume": True}

    class Other(Callback):
        def on_epoch_end(self, net, **kwargs):
            with pytest.raises(CheckpointError, match="Another training is using"):
                make_pretrainer(objective, random_state=1, **settings).fit(X)

    whole = make_pretrainer(objective).fit(X)
    assert_same(
        whole, make_pretrainer(objective, callbacks=[Other()], **settings).fit(X)
    )
    # The folder is free again, also after an error.
    assert_same(whole, make_pretrainer(objective, **settings).fit(X))


def test_leftovers_of_a_killed_process_are_deleted(tmp_path):
    """Half-written states stayed for ever."""
    objective, X = make_scmm()
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    scratch = storage._scratch_of(tmp_path / "state.safetensors").name
    (tmp_path / scratch.replace(f"-{os.getpid()}-", f"-{process.pid}-")).touch()
    make_pretrainer(objective, checkpoint_dir=tmp_path).fit(X)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".lock", "state.safetensors", "trained"]


@pytest.mark.slow
def test_a_process_killed_at_any_instant_leaves_a_whole_state(tmp_path):
    """The signal cannot be caught: it comes while a step or a file is half done."""
    script = textwrap.dedent(
        """
        import sys, torch
        torch.set_num_threads(1)
        from tests.pretraining.test_resuming import make_pretrainer, make_scmm

        objective, X = make_scmm()
        make_pretrainer(
            objective, max_epochs=60, checkpoint_dir=sys.argv[1], resume=True
        ).fit(X)
        """
    )
    folder = tmp_path / "run"
    command = [sys.executable, "-c", script, str(folder)]
    state = folder / "state.safetensors"
    rng = np.random.default_rng(0)
    for _ in range(2):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        before = state.stat().st_mtime_ns if state.exists() else 0
        while process.poll() is None:
            if state.exists() and state.stat().st_mtime_ns > before:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    objective, X = make_scmm()
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        settings = {"max_epochs": 60}
        whole = make_pretrainer(objective, **settings).fit(X)
        settings |= {"checkpoint_dir": folder, "resume": True}
        assert_same(whole, make_pretrainer(objective, **settings).fit(X))
    finally:
        torch.set_num_threads(torch_threads)


def test_a_generator_of_the_objective_cannot_be_resumed(tmp_path):
    """The resumed training drew its clusters from the start of the generator."""
    torch.manual_seed(0)
    model = MaskedClusterTransformer(n_outputs=2, n_chans=2, n_times=128, sfreq=128)
    objective = MaskedClusterPretraining(model, random_state=np.random.RandomState(0))
    pretrainer = make_pretrainer(objective, checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match="random_state of the objective must be"):
        pretrainer.fit(draw_windows(2, 128))
