"""Checkpoints: they are read as they were written, or refused with a clear error."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import shutil
from functools import partial
from pathlib import Path

import mne
import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from torch import nn

from braindecode_emossl.errors import CheckpointError, EmosslError, LeakageError
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
    hub,
    load_checkpoint,
    load_encoder,
    push_to_hub,
    save_checkpoint,
)

PROVENANCE = {"corpora": {"SEED": {"subjects": [1, 2], "sessions": ["0"]}}}
NAMES = {"config.json", "model.safetensors", "objective.safetensors", "README.md"}


def make_chs_info(names=("Fp1", "Fp2", "O1", "O2"), types="eeg"):
    return mne.create_info(list(names), 128.0, types)["chs"]


def make_encoder(name, **settings):
    if name == "SCMM":
        return SCMM(
            **{
                "n_outputs": 2,
                "chs_info": make_chs_info(),
                "n_times": 192,
                "sfreq": 128,
                "n_filters": (4, 4, 4),
                "activation": nn.GELU,
                **settings,
            }
        )
    signal = {"n_outputs": 2, "n_chans": 4, "n_times": 192, "sfreq": 128}
    if name == "MEMHACL":
        types = ["eeg", "eeg", "gsr", "resp"]
        signal["chs_info"] = make_chs_info(types=types)
        return MEMHACL(
            **{**signal, "n_filters": (4, 4, 8, 8), "n_hidden": (6,), **settings}
        )
    if name == "MoodReader":
        sizes = {"embed_dim": 16, "n_layers": 2, "n_heads": 4, "patch_size": 12}
        chs_info = make_chs_info()
        montage = mne.channels.make_standard_montage("standard_1005").get_positions()
        for ch in chs_info:
            ch["loc"][:3] = montage["ch_pos"][ch["ch_name"]]
        return MoodReader(
            **{**signal, **sizes, "chs_info": chs_info, "feature_dim": 8, **settings}
        )
    sizes = {"n_filters": 16, "emb_dim": 32, "n_layers": 3, "n_heads": 4}
    return MaskedClusterTransformer(**{**signal, **sizes, **settings})


SETTINGS = {
    "SCMM": (SCMMPretraining, {"mask_ratio": 0.25}),
    "MEMHACL": (MEMHACLPretraining, {"projector_widths": (12, 10), "group_size": 1}),
    "MoodReader": (
        MoodReaderPretraining,
        {"decoder_dim": 8, "n_decoder_layers": 1, "n_decoder_heads": 2},
    ),
    "MaskedClusterTransformer": (
        MaskedClusterPretraining,
        {
            "n_clusters": (6, 4),
            "code_dim": 16,
            "recluster_every": 1,
            "adaptive_n_clusters": True,
            "intermediate_weight": 0.5,
            "random_state": np.int64(3),
        },
    ),
}


def make_objective(name="SCMM", encoder=None, **settings):
    """Return an objective with weights that do not depend on the test order."""
    cls, own = SETTINGS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return cls(make_encoder(name, **(encoder or {})), **{**own, **settings})


def make_windows(n_windows=24, seed=0):
    rng = np.random.default_rng(seed)
    gain = np.repeat(rng.choice([3.0, 30.0], size=(n_windows, 4, 6)), 32, axis=-1)
    return torch.as_tensor(gain * rng.normal(size=(n_windows, 4, 192))).float()


def compute_loss(objective, seed=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return objective(make_windows(8, seed)).loss


@pytest.fixture
def path(tmp_path):
    """A valid checkpoint."""
    save_checkpoint(tmp_path / "scmm", make_objective(), PROVENANCE)
    return tmp_path / "scmm"


def edit(path, change):
    """Change the content of config.json."""
    config = json.loads((path / "config.json").read_text())
    change(config)
    (path / "config.json").write_text(json.dumps(config))


def replace_weights(path, change, name="model.safetensors"):
    """Change the tensors of a file, and its digest in config.json."""
    state = safetensors.torch.load_file(path / name)
    change(state)
    data = safetensors.torch.save(state)
    (path / name).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit(path, lambda config: config["emossl"]["sha256"].update({name: digest}))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_checkpoint_is_read_as_it_was_written(name, tmp_path):
    """All trained and fitted tensors, to the bit, and all settings."""
    objective = make_objective(name)
    # Two epochs: the clusters of the second one are of a layer of the encoder.
    trained = SSLPretrainer(
        objective, sampler=None, max_epochs=2, batch_size=8, random_state=0
    )
    trained = trained.fit(make_windows()).module_
    save_checkpoint(tmp_path / "a", trained, PROVENANCE)
    assert {file.name for file in (tmp_path / "a").iterdir()} == NAMES
    loaded = load_checkpoint(tmp_path / "a")

    assert type(loaded) is type(trained) and type(loaded.encoder) is type(
        trained.encoder
    )
    assert json.dumps(loaded.settings) == json.dumps(trained.settings, default=int)
    assert loaded.provenance == {**PROVENANCE, "complete": True}
    theirs, untrained = trained.state_dict(), objective.state_dict()
    for key, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, theirs[key], rtol=0, atol=0)
    assert not all(torch.equal(theirs[key], untrained[key]) for key in theirs)
    for mode in (True, False):
        # Batch statistics are updated in training, so on copies.
        pair = [copy.deepcopy(each).train(mode) for each in (trained, loaded)]
        assert torch.equal(*(compute_loss(each) for each in pair))
        x = make_windows(5, seed=2)
        assert torch.equal(*(each.encoder(x) for each in map(nn.Module.eval, pair)))


def test_a_loaded_objective_is_in_training_mode(path):
    """Not in evaluation mode, its target encoder apart, and all its weights train."""
    loaded = load_checkpoint(path)
    assert loaded.training and loaded.encoder.training
    assert all(weight.requires_grad for weight in loaded.parameters())
    assert {weight.device.type for weight in loaded.parameters()} == {"cpu"}
    assert load_checkpoint(path, "meta").encoder.final_layer[0].weight.is_meta


def test_neither_saving_nor_loading_draws_random_numbers(tmp_path):
    objective = make_objective()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    save_checkpoint(tmp_path / "a", objective)
    load_encoder(tmp_path / "a", copy.deepcopy(objective.encoder))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_same_objective_gives_the_same_files(path, tmp_path):
    save_checkpoint(tmp_path / "again", make_objective(), PROVENANCE)
    for name in NAMES:
        assert (tmp_path / "again" / name).read_bytes() == (path / name).read_bytes()


def test_no_pickle_is_written_or_read(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle")

    objective = make_objective()
    for module, name in [
        (torch, "save"),
        (torch, "load"),
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (pickle, "dump"),
    ]:
        monkeypatch.setattr(module, name, refuse)
    save_checkpoint(tmp_path / "a", objective, PROVENANCE)
    load_encoder(tmp_path / "a", make_encoder("SCMM"))
    # A pickle in the same folder is ignored.
    (tmp_path / "a" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    (tmp_path / "a" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors cannot be read"):
        load_checkpoint(tmp_path / "a")


def test_a_compiled_objective_is_saved_as_itself(tmp_path):
    objective = make_objective()
    save_checkpoint(tmp_path / "a", torch.compile(objective))
    assert torch.equal(
        compute_loss(load_checkpoint(tmp_path / "a")), compute_loss(objective)
    )


def test_braindecode_reads_the_encoder(path):
    """With another number of classes too; weights of a wrong name would be random."""
    encoder = load_checkpoint(path).encoder.eval()
    same = SCMM.from_pretrained(path)
    assert torch.equal(same(make_windows(3)), encoder(make_windows(3)))
    other = SCMM.from_pretrained(path, n_outputs=5)
    assert other(make_windows(3)).shape == (3, 5)
    for name, weight in other.named_parameters():
        if not name.startswith("final_layer"):
            assert torch.equal(weight, encoder.get_parameter(name))


# Into another model


@pytest.mark.parametrize("name", SETTINGS)
def test_an_encoder_goes_into_a_model_with_another_head(name, tmp_path):
    objective = make_objective(name)
    # Buffers that are fitted must come along.
    objective.prepare(make_windows())
    save_checkpoint(tmp_path / "a", objective, PROVENANCE)
    model = make_encoder(name, n_outputs=5, drop_prob=0.4)
    head = copy.deepcopy(model.final_layer.state_dict())
    load_encoder(tmp_path / "a", model)
    assert model.provenance == {**PROVENANCE, "complete": True}
    for key, tensor in model.final_layer.state_dict().items():
        assert torch.equal(tensor, head[key])
    theirs = objective.encoder.state_dict()
    for key, tensor in model.state_dict().items():
        if not key.startswith("final_layer."):
            assert torch.equal(tensor, theirs[key]), key


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_times": 128}, "n_times is 192 in it, but 128 in the model"),
        ({"sfreq": 200}, "sfreq is 128 in it, but 200 in the model"),
        (
            {"chs_info": make_chs_info(("Fp1", "Fp2", "O2", "O1"))},
            r"channels is \['fp1', 'fp2', 'o1', 'o2'\] in it, but \['fp1', 'fp2', 'o2'",
        ),
        ({"n_filters": (4, 8, 4)}, r"n_filters is \[4, 4, 4\] in it, but \[4, 8, 4\]"),
        (
            {"activation": nn.ReLU},
            "activation is torch.nn.*GELU in it, but torch.nn.*Re",
        ),
    ],
)
def test_the_first_difference_of_another_architecture_is_named(path, settings, message):
    """Also differences that change no shape."""
    model = make_encoder("SCMM", **settings)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError, match=f"of another architecture: {message}"):
        load_encoder(path, model)
    assert all(
        torch.equal(tensor, before[k]) for k, tensor in model.state_dict().items()
    )


def test_a_model_of_another_class_is_refused(path):
    with pytest.raises(CheckpointError, match="class is SCMM in it, but MEMHACL"):
        load_encoder(path, make_encoder("MEMHACL"))


def test_the_case_of_channel_names_and_unknown_names_do_not_matter(path):
    names = ("FP1", "FP2", "O1", "O2")
    load_encoder(path, make_encoder("SCMM", chs_info=make_chs_info(names)))
    load_encoder(path, make_encoder("SCMM", chs_info=None, n_chans=4))


def test_a_model_that_was_changed_by_hand_is_refused(path):
    model = make_encoder("SCMM")
    model.extra = nn.Linear(2, 2)
    with pytest.raises(
        CheckpointError, match=r"extra.weight is missing in it, but float32 \(2, 2\) in"
    ):
        load_encoder(path, model)


# Objectives that cannot be saved


@pytest.mark.parametrize("random_state", [np.random.RandomState(0), np.random])
def test_settings_that_json_does_not_have_are_refused(random_state, tmp_path):
    objective = make_objective("MaskedClusterTransformer", random_state=random_state)
    with pytest.raises(CheckpointError, match=r"argument random_state must be.*an int"):
        save_checkpoint(tmp_path / "a", objective)
    assert not list(tmp_path.iterdir())


class Own(SCMMPretraining):
    pass


class OwnModel(SCMM):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2, 2), "must be a PretrainingObjective, but got Linear"),
        (lambda: Own(make_encoder("SCMM")), "must be one of this package.*Own of SCMM"),
        (
            lambda: SCMMPretraining(
                OwnModel(n_outputs=2, n_chans=4, n_times=192, sfreq=128)
            ),
            "must be one of this package.*SCMMPretraining of OwnModel",
        ),
        (
            lambda: make_objective(encoder={"activation": partial(nn.ELU, 0.5)}),
            "argument activation must be of numbers and strings",
        ),
        (
            lambda: make_objective(encoder={"activation": OwnActivation}),
            "activation must be a class of torch.nn, but is .*OwnActivation",
        ),
        (
            lambda: make_objective().double(),
            r"encoder\.\w+ is float64 \(4, 5\) in it, but float32 \(4, 5\) in",
        ),
    ],
)
def test_unreadable_checkpoints_are_not_written(make, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tmp_path / "a", make())
    assert not list(tmp_path.iterdir())


class OwnActivation(nn.ReLU):
    pass


def test_numbers_of_numpy_are_saved_as_such(tmp_path):
    """Braindecode omits them from its config, so a default replaced them."""
    objective = make_objective(encoder={"kernel_size": np.int64(5)})
    save_checkpoint(tmp_path / "a", objective)
    assert load_checkpoint(tmp_path / "a").encoder.blocks[0][0].kernel_size == (5,)


def test_a_head_of_another_size_is_saved(tmp_path):
    objective = make_objective()
    objective.encoder.reset_head(6)
    save_checkpoint(tmp_path / "a", objective)
    assert load_checkpoint(tmp_path / "a").encoder.n_outputs == 6


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        ([], " be such as"),
        ({"corpora": ["SEED"]}, " be such as"),
        ({"corpora": {"SEED": [1, 2]}}, " be such as"),
        ({"corpora": {"SEED": {}}}, " be such as"),
        ({"corpora": {"SEED": {"subjects": 1}}}, " be such as"),
        ({"corpora": {"SEED": {"subjects": [1.5]}}}, " be such as"),
        ({"corpora": {"SEED": {"subjects": [1], "sessions": "0"}}}, " be such as"),
        ({"corpora": {"SEED": {"subjects": {1}}}}, "set cannot be written as JSON"),
    ],
)
def test_a_provenance_of_another_form_is_refused(provenance, message, tmp_path):
    with pytest.raises(CheckpointError, match=f"provenance must.*{message}"):
        save_checkpoint(tmp_path / "a", make_objective(), provenance)


# Checkpoints that cannot be read


@pytest.mark.parametrize("name", sorted(NAMES - {"README.md"}))
def test_a_missing_file_is_named(path, name):
    (path / name).unlink()
    with pytest.raises(
        CheckpointError, match=rf"no checkpoint in .*scmm: {name} cannot"
    ):
        load_checkpoint(path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """The message named a hidden folder, where an older checkpoint may be."""
    path = tmp_path / "nowhere"
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"There is no checkpoint in {path}:")


@pytest.mark.parametrize("name", ["model.safetensors", "objective.safetensors"])
def test_damaged_weights_are_refused_with_both_digests(path, name):
    saved = hashlib.sha256((path / name).read_bytes()).hexdigest()
    data = bytearray((path / name).read_bytes())
    data[-1] ^= 1
    (path / name).write_bytes(data)
    found = hashlib.sha256(data).hexdigest()
    with pytest.raises(CheckpointError, match=f"{name} is not.*{found}.*{saved}"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", 'no entry "emossl"'),
        (b'{"n_chans": 4}', 'no entry "emossl".*from_pretrained'),
        (
            b'{"emossl": {"format": 2, "versions": 9}}',
            "must be of format 1, but is of 2",
        ),
        (
            b'{"emossl": {"format": 1, "model": []}}',
            '"model" of .* must be of type str',
        ),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(path, text, message):
    (path / "config.json").write_bytes(text)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("emossl", "model"), "os.system", "must be of an objective.*'os.system'"),
        (("emossl", "model"), "EEGNet", "must be of an objective.*'EEGNet'"),
        (("emossl", "model"), "MEMHACL", "must be of an objective.*'SCMMPretraining'"),
        (("emossl", "objective"), "subprocess.run", "must be of an objective"),
        (("activation",), "os.system", "activation must be a class of torch.nn"),
        (("activation",), "nowhere.GELU", "activation must be a class of torch.nn"),
        (("activation",), "torch.nn.functional.gelu", "must be a class of torch.nn"),
        (("activation",), ["a"], "activation must be a class of torch.nn"),
        (("unheard_of",), 1, "cannot be built.*unheard_of"),
        (("n_filters",), "abc", "SCMMPretraining cannot be built as the checkpoint"),
        (("chs_info",), 3, "SCMMPretraining cannot be built as the checkpoint"),
        (("emossl", "settings", "unheard_of"), 1, "cannot be built.*unheard_of"),
        (("emossl", "settings", "encoder"), 1, "cannot be built.*encoder"),
        (
            ("emossl", "settings", "mask_ratio"),
            3,
            r"cannot be built.*mask_ratio must be",
        ),
        (("emossl", "provenance"), {"corpora": 3}, "provenance must be such as"),
        (("emossl", "sha256"), {}, "but config.json says None"),
        (
            ("n_filters",),
            [4, 8, 4],
            r"encoder.blocks.1\S* is float32 \(4, .*\) in it, but float32 \(8, ",
        ),
    ],
)
def test_hostile_and_odd_entries_are_refused(path, place, value, message):
    def change(config):
        for key in place[:-1]:
            config = config[key]
        config[place[-1]] = value

    edit(path, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("feature_shift"),
            "encoder.feature_shift is missing in it",
        ),
        (
            lambda state: state.update(feature_shift=torch.zeros(4, 6)),
            r"encoder.feature_shift is float32 \(4, 6\) in it, but float32 \(4, 5\) in",
        ),
        (
            lambda state: state.update(
                feature_shift=torch.zeros(4, 5, dtype=torch.int64)
            ),
            r"encoder.feature_shift is int64 \(4, 5\) in it, but float32 \(4, 5\) in",
        ),
        (
            lambda state: state.update(more=torch.zeros(2)),
            r"encoder.more is float32 \(2,\) in it, but missing in",
        ),
    ],
)
def test_the_first_tensor_that_does_not_fit_is_named(path, change, message):
    replace_weights(path, change)
    with pytest.raises(CheckpointError, match=f"another architecture: {message}"):
        load_checkpoint(path)


def test_weights_in_another_format_are_refused(path):
    """With the right digest, as a config.json can be made for any file."""
    data = pickle.dumps({"a": 1})
    (path / "model.safetensors").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit(
        path,
        lambda config: config["emossl"]["sha256"].update({"model.safetensors": digest}),
    )
    with pytest.raises(CheckpointError, match="is not in the safetensors format"):
        load_checkpoint(path)


# Writing


def digests(path):
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def test_an_older_checkpoint_is_replaced(path):
    save_checkpoint(path, make_objective(mask_ratio=0.75), PROVENANCE)
    assert load_checkpoint(path).settings["mask_ratio"] == 0.75
    assert [file.name for file in path.parent.iterdir()] == ["scmm"]


@pytest.mark.parametrize("step", ["fsync", "first rename", "second rename"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_on_the_way_leaves_the_older_checkpoint(
    path, monkeypatch, step, error
):
    before, n_renames = digests(path), []
    rename = Path.rename

    def fail(self, target):
        n_renames.append(1)
        if len(n_renames) == (1 if step == "first rename" else 2):
            raise error
        return rename(self, target)

    def fail_fsync(descriptor):
        raise error

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail_fsync)
    else:
        monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(type(error)):
        save_checkpoint(path, make_objective(mask_ratio=0.75), PROVENANCE)
    monkeypatch.undo()
    assert digests(path) == before
    assert [file.name for file in path.parent.iterdir()] == ["scmm"]


class Killed(BaseException):
    """The process is gone, and no clean-up runs."""


@pytest.mark.parametrize("n_done", [0, 1, 2])
def test_a_process_that_is_killed_on_the_way_leaves_one_that_loads(
    path, monkeypatch, n_done
):
    """After none, the first or the second of the renames nothing works any more."""
    rename, rmtree, done = Path.rename, shutil.rmtree, []

    def rename_or_end(self, target):
        if len(done) == n_done:
            raise Killed
        done.append(target)
        return rename(self, target)

    def remove_or_end(*args, **kwargs):
        if len(done) == n_done:
            raise Killed
        return rmtree(*args, **kwargs)

    monkeypatch.setattr(Path, "rename", rename_or_end)
    monkeypatch.setattr(shutil, "rmtree", remove_or_end)
    with pytest.raises(Killed):
        save_checkpoint(path, make_objective(mask_ratio=0.75), PROVENANCE)
    monkeypatch.undo()
    assert path.exists() == (n_done != 1)
    expected = 0.75 if n_done == 2 else 0.25
    assert load_checkpoint(path).settings["mask_ratio"] == expected
    # And the next one is written as ever.
    save_checkpoint(path, make_objective(mask_ratio=0.5), PROVENANCE)
    assert load_checkpoint(path).settings["mask_ratio"] == 0.5
    assert not (path.parent / ".scmm.previous").exists()


@pytest.mark.parametrize("name", ["notes.txt", "pytorch_model.bin"])
def test_a_folder_with_other_files_is_left_alone(path, name):
    (path / name).write_text("mine")
    before = digests(path)
    with pytest.raises(CheckpointError, match=rf"holds \['{name}'\].*Choose another"):
        save_checkpoint(path, make_objective(), PROVENANCE)
    assert digests(path) == before


@pytest.mark.parametrize("name", ["config.json", "README.md"])
def test_a_folder_of_another_project_is_left_alone(tmp_path, name):
    """Though its files are named as those of a checkpoint."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_text('{"n_chans": 3}')
    with pytest.raises(CheckpointError):
        save_checkpoint(tmp_path / "other", make_objective())
    assert (tmp_path / "other" / name).read_text() == '{"n_chans": 3}'


def test_new_and_empty_folders_are_written_and_files_refused(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    save_checkpoint(tmp_path / "empty", make_objective())
    save_checkpoint(str(tmp_path / "new" / "one"), make_objective())
    monkeypatch.chdir(tmp_path / "new" / "one")
    assert load_checkpoint(".").settings == load_checkpoint(tmp_path / "empty").settings
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="path must be a folder, but"):
        save_checkpoint(tmp_path / "file", make_objective())


# Provenance


def test_the_provenance_of_the_first_training_is_kept(path, tmp_path):
    """A checkpoint that is trained further must not forget its first corpora."""
    loaded = load_checkpoint(path)
    trained = SSLPretrainer(loaded, max_epochs=0).fit(make_windows()).module_
    corpora = {
        "SEED": {"subjects": np.array([2, 3]), "sessions": ["1"]},
        "DEAP": {"subjects": [5]},
    }
    save_checkpoint(tmp_path / "b", trained, {"corpora": corpora, "note": "second"})
    assert load_checkpoint(tmp_path / "b").provenance == {
        "corpora": {
            "SEED": {"subjects": [1, 2, 3], "sessions": ["0", "1"]},
            "DEAP": {"subjects": [5]},
        },
        "complete": True,
        "note": "second",
    }
    # Also through another model.
    model = make_encoder("SCMM")
    load_encoder(tmp_path / "b", model)
    save_checkpoint(
        tmp_path / "c",
        SCMMPretraining(model),
        {"corpora": {"DEAP": {"subjects": [6], "sessions": ["0"]}}},
    )
    entry = load_checkpoint(tmp_path / "c").provenance["corpora"]["DEAP"]
    assert entry == {"subjects": [5, 6]}  # the sessions of one entry are unknown


def test_an_unknown_provenance_stays_unknown(path, tmp_path):
    save_checkpoint(tmp_path / "a", make_objective())
    assert load_checkpoint(tmp_path / "a").provenance["complete"] is False
    save_checkpoint(tmp_path / "b", load_checkpoint(tmp_path / "a"), PROVENANCE)
    assert load_checkpoint(tmp_path / "b").provenance == {
        **PROVENANCE,
        "complete": False,
    }
    save_checkpoint(tmp_path / "c", load_checkpoint(path))
    assert load_checkpoint(tmp_path / "c").provenance == {
        **PROVENANCE,
        "complete": False,
    }


# The Hub


def test_the_model_card_states_data_licence_and_settings(path):
    head, metadata, text = (path / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(metadata)
    assert not head
    assert metadata["library_name"] == "braindecode"
    assert metadata["license"] == "other"
    assert metadata["datasets"] == ["SEED"]
    assert {"eeg", "SCMM"} <= set(metadata["tags"])
    for part in (
        "SCMM, pre-trained by SCMMPretraining",
        "- SEED: subjects 1, 2; sessions 0",
        "derived from SEED",
        '"mask_ratio": 0.25',
        "SCMM.from_pretrained(",
        "load_checkpoint(",
    ):
        assert part in text, part


def test_the_model_card_states_that_the_data_are_unknown(tmp_path):
    save_checkpoint(tmp_path / "a", make_objective())
    text = (tmp_path / "a" / "README.md").read_text()
    assert "Unknown: the model may have seen any other data" in text
    assert "The licence of the data is unknown" in text
    assert "datasets" not in text


class Api:
    """The Hub, which only takes notes."""

    calls: list = []  # noqa: RUF012

    def __init__(self, token=None):
        self.calls.append(("token", token))

    def create_repo(self, repo_id, **kwargs):
        self.calls.append((repo_id, kwargs))

    def upload_folder(self, **kwargs):
        self.calls.append(kwargs)
        return "https://hub/commit"


def test_a_checkpoint_is_pushed_whole_and_in_private(path, monkeypatch):
    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(Api, "calls", [])
    assert push_to_hub(str(path), "me/scmm", token="t") == "https://hub/commit"
    assert Api.calls == [
        ("token", "t"),
        ("me/scmm", {"private": True, "exist_ok": True}),
        {"repo_id": "me/scmm", "folder_path": path, "allow_patterns": sorted(NAMES)},
    ]


def test_a_damaged_checkpoint_is_not_pushed(path, monkeypatch):
    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(Api, "calls", [])
    (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model.safetensors is not the file"):
        push_to_hub(path, "me/scmm")
    assert not Api.calls


def test_errors_can_be_caught_as_value_errors_and_as_errors_of_the_package():
    for error in (CheckpointError, LeakageError):
        assert issubclass(error, EmosslError) and issubclass(error, ValueError)
