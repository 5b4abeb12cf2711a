"""PretrainingMemory: equal pre-training runs only once, whichever process needs it."""

from __future__ import annotations

import errno
import threading
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch

from braindecode_emossl.models import SCMM, MoodReader
from braindecode_emossl.pretraining import (
    MoodReaderPretraining,
    SCMMPretraining,
    SSLClassifier,
    SSLPretrainer,
    load_checkpoint,
    memory,
)
from braindecode_emossl.pretraining.memory import PretrainingMemory

X = np.random.default_rng(0).normal(size=(24, 4, 5)).astype(np.float32)
SUBJECTS = pd.DataFrame({"subject": np.repeat([1, 2], 12)})


def make_pretrainer(weights=0, objective=None, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights)
        model = SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de")
        objective = SCMMPretraining(model, **(objective or {}))
    settings = {"max_epochs": 2, "batch_size": 8, "random_state": 0, **settings}
    return SSLPretrainer(objective, **settings)


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


@pytest.fixture
def n_fits(monkeypatch):
    """One item for each pre-training that runs."""
    original, fits = SSLPretrainer.fit, []

    def fit(self, *args, **kwargs):
        fits.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SSLPretrainer, "fit", fit)
    return fits


def test_the_second_is_what_the_first_was_without_training(tmp_path, n_fits):
    plain = make_pretrainer().fit(X)
    found = [PretrainingMemory(tmp_path / "s").fit(make_pretrainer(), X) for _ in "ab"]
    assert len(n_fits) == 2
    expected = plain.module_.state_dict()
    for pretrainer in found:
        state = pretrainer.module_.state_dict()
        assert all(torch.equal(state[name], expected[name]) for name in expected)
        for column in ("train_loss", "train_contrastive"):
            assert pretrainer.history[:, column] == plain.history[:, column]
        assert pretrainer.provenance_ is None
    # It can be trained on, and does not touch what is stored.
    found[1].partial_fit(X)
    assert len(found[1].history) == 4
    again = PretrainingMemory(tmp_path / "s").fit(make_pretrainer(), X)
    assert torch.equal(again.module_.decoder.weight, plain.module_.decoder.weight)


def test_frozen_weights_are_another_training(tmp_path):
    """The result of trained weights was returned for frozen ones."""

    def fit(is_frozen):
        pretrainer = make_pretrainer()
        pretrainer.objective.encoder.blocks.requires_grad_(not is_frozen)
        found = PretrainingMemory(tmp_path).fit(pretrainer, X).module_.encoder
        return pretrainer.objective.encoder.blocks[0][0].weight, found.blocks[0][0]

    first, trained = fit(is_frozen=False)
    assert not torch.equal(trained.weight, first)
    first, frozen = fit(is_frozen=True)
    assert torch.equal(frozen.weight, first)


def test_what_was_read_knows_the_recordings(tmp_path):
    """Their statistics were missing: the objective gave another loss than before."""
    windows = np.random.default_rng(0).normal(size=(24, 2, 128)).astype(np.float32)
    metadata = SUBJECTS.assign(corpus="SEED", session="0")
    found = []
    for _ in "ab":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = MoodReader(
                n_outputs=2, n_chans=2, n_times=128, sfreq=128, patch_size=16
            )
            objective = MoodReaderPretraining(model)
        settings = {"max_steps": 2, "batch_size": 8, "random_state": 0}
        pretrainer = SSLPretrainer(objective, validation=0.5, **settings)
        PretrainingMemory(tmp_path).fit(pretrainer, windows, metadata)
        found.append(pretrainer.module_.scalers["entropy"])
    trained, read = found
    assert read.n_recordings == 1
    assert torch.equal(read.recording_means, trained.recording_means)


def test_the_provenance_is_found_too(tmp_path):
    """The model that was read did not know what it had seen."""
    metadata = SUBJECTS.assign(corpus="SEED")
    for _ in "ab":
        found = PretrainingMemory(tmp_path).fit(make_pretrainer(), X, metadata)
        assert found.provenance_ == {"corpora": {"SEED": {"subjects": [1, 2]}}}
        seen = found.module_.encoder.provenance["corpora"]
        assert seen == found.provenance_["corpora"]


class Widened(SCMM):
    """A model that checkpoints cannot name."""


@pytest.mark.parametrize(
    ("model", "message"),
    [(Widened, "but got SCMMPretraining of Widened"), (SCMM, "activation")],
)
def test_what_cannot_be_saved_is_trained_all_the_same(
    model, message, tmp_path, caplog, n_fits
):
    """The training was lost, as it was refused only at its end."""
    own = {} if model is Widened else {"activation": type("Own", (torch.nn.ELU,), {})}
    objective = SCMMPretraining(
        model(n_outputs=2, n_chans=4, n_times=5, input_domain="de", **own)
    )
    for folder in ("memory", "state"):
        caplog.clear()
        pretrainer = make_pretrainer().set_params(objective=objective)
        if folder == "memory":
            PretrainingMemory(tmp_path / "memory").fit(pretrainer, X)
        else:
            pretrainer.set_params(checkpoint_dir=tmp_path / "state").fit(X)
        assert message in caplog.text
        assert "cannot be saved" in caplog.text
        assert pretrainer.n_steps_ == 6
    assert len(n_fits) == 2
    assert not (tmp_path / "memory").exists()
    assert not (tmp_path / "state" / "trained").exists()


def test_what_is_found_tells_who_validated(tmp_path):
    """Only who had trained had the attribute."""
    settings = {"validation": 0.5, "batch_size": 4}
    found = [
        PretrainingMemory(tmp_path).fit(make_pretrainer(**settings), X, SUBJECTS)
        for _ in "ab"
    ]
    assert len(entries(tmp_path)) == 1
    told = [pretrainer.validation_subjects_ for pretrainer in found]
    pd.testing.assert_frame_equal(*told)


def test_it_does_not_matter_which_windows_have_labels(tmp_path, n_fits):
    """Each number of labelled trials in evaluate pre-trained on the same windows."""
    metadata = SUBJECTS.assign(trial=np.tile(np.repeat([1, 2], 6), 2), window=range(24))
    y = np.tile([0, 1], 12)
    for step in (1, 3, 5):
        is_labeled = np.arange(len(X)) % step == 0
        unlabeled = {
            "X_unlabeled": X[~is_labeled],
            "metadata_unlabeled": metadata[~is_labeled].reset_index(drop=True),
        }
        classifier = SSLClassifier(
            "SCMM",
            model__input_domain="de",
            pretrain_steps=2,
            finetune_steps=1,
            batch_size=8,
            memory=tmp_path,
            random_state=0,
        ).fit(
            X[is_labeled],
            y[is_labeled],
            metadata=metadata[is_labeled].reset_index(drop=True),
            **(unlabeled if step > 1 else {}),
        )
        assert classifier.pretrainer_.history
    assert len(n_fits) == len(entries(tmp_path)) == 1


def test_torchs_generator_is_left_as_it_was(tmp_path):
    """Writing and reading build models: what came next depended on which it was."""
    for _ in "ab":
        torch.manual_seed(3)
        PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
        drawn = torch.rand(2)
        torch.manual_seed(3)
        assert torch.equal(drawn, torch.rand(2))


@pytest.mark.parametrize(
    ("change", "data"),
    [
        ({"random_state": 1}, {}),
        ({"weights": 1}, {}),
        ({"objective": {"temperature": 0.3}}, {}),
        ({"lr": 1e-3}, {}),
        ({"gradient_clip_value": 1.0}, {}),
        ({"optimizer__weight_decay": 0.5}, {}),
        ({}, {"X": np.where(np.arange(5) == 4, X + 1e-6, X)}),
        ({}, {"X": X[::-1]}),
        ({}, {"metadata": SUBJECTS}),
    ],
)
def test_what_differs_in_anything_is_kept_apart(tmp_path, change, data):
    shared = PretrainingMemory(tmp_path)
    shared.fit(make_pretrainer(max_epochs=0), X)
    shared.fit(make_pretrainer(max_epochs=0, **change), **{"X": X, **data})
    assert len(entries(tmp_path)) == 2


def test_what_changes_no_result_is_not_kept_apart(tmp_path, n_fits):
    shared = PretrainingMemory(tmp_path)
    shared.fit(make_pretrainer(), X)
    shared.fit(make_pretrainer(verbose=1), np.asfortranarray(X, float))
    assert len(n_fits) == len(entries(tmp_path)) == 1


def test_an_entry_is_a_checkpoint_that_knows_its_subjects(tmp_path):
    metadata = SUBJECTS.assign(corpus="SEED")
    for _ in "ab":
        trained = PretrainingMemory(tmp_path).fit(make_pretrainer(), X, metadata)
        assert trained.provenance_ == {"corpora": {"SEED": {"subjects": [1, 2]}}}
    (entry,) = entries(tmp_path)
    saved = load_checkpoint(tmp_path / entry / "checkpoint")
    assert saved.provenance["corpora"] == {"SEED": {"subjects": [1, 2]}}


def test_a_process_killed_while_writing_leaves_no_entry(tmp_path, monkeypatch, n_fits):
    """Half an entry would be taken for a whole one."""

    def die(self, *args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(memory.History, "to_file", die)
        with pytest.raises(KeyboardInterrupt):
            PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
    assert entries(tmp_path) == []
    PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
    assert len(n_fits) == 2 and len(entries(tmp_path)) == 1


def test_two_at_once_train_once(tmp_path, monkeypatch):
    original, fits, begun = SSLPretrainer.fit, [], threading.Event()

    def fit(self, *args, **kwargs):
        fits.append(self)
        begun.set()
        other.join(0.3)  # it must wait, and not train as well
        assert other.is_alive()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SSLPretrainer, "fit", fit)
    found = []

    def ask():
        found.append(PretrainingMemory(tmp_path).fit(make_pretrainer(), X))

    def ask_later():
        begun.wait(10)
        ask()

    other = threading.Thread(target=ask_later)
    other.start()
    ask()
    other.join(60)
    assert len(fits) == 1 and len(found) == 2
    a, b = (pretrainer.module_.decoder.weight for pretrainer in found)
    assert torch.equal(a, b)


def test_without_locks_one_of_two_entries_stays(tmp_path, monkeypatch):
    """Another process writes the same entry while this one trains."""
    monkeypatch.setattr(memory, "lock", lambda path: nullcontext())
    original, depth = SSLPretrainer.fit, []

    def fit(self, *args, **kwargs):
        depth.append(self)
        if len(depth) == 1:
            PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SSLPretrainer, "fit", fit)
    PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
    assert len(depth) == 2 and len(entries(tmp_path)) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "history.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
def test_a_damaged_entry_is_trained_again(damage, name, tmp_path, n_fits):
    """Each call stopped with an error that named no remedy, for ever."""
    PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
    (file,) = tmp_path.rglob(name)
    good = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(good[:100] if damage == "cut" else b"")
    for _ in "ab":
        again = PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
    assert len(n_fits) == 2 and len(entries(tmp_path)) == 1
    if name == "model.safetensors":
        assert file.read_bytes() == good
    assert len(again.history) == 2


def test_an_entry_in_a_read_only_folder_is_read(tmp_path, monkeypatch, n_fits):
    """A lock was taken first, which cannot be written there."""

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
    monkeypatch.setattr(memory, "lock", refuse)
    PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
    assert len(n_fits) == 1


def test_an_interrupted_replacement_leaves_the_old_entry(tmp_path, n_fits):
    """A folder is replaced in two steps."""
    PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
    (entry,) = (path for path in tmp_path.iterdir() if path.is_dir())
    entry.rename(entry.with_name(f".{entry.name}.previous"))
    PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
    assert len(n_fits) == 1


def test_an_entry_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    def write_half(folder, *args):
        (folder / "checkpoint").mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(memory, "_write", write_half)
    with pytest.raises(OSError, match=rf"No space left .*{tmp_path}"):
        PretrainingMemory(tmp_path).fit(make_pretrainer(), X)
    assert entries(tmp_path) == []
