"""SSLClassifier(pretrained=...): checkpoints of this package and of braindecode."""

from __future__ import annotations

import json
import warnings

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from braindecode.models import EEGNet
from torch import nn

from braindecode_emossl.errors import CheckpointError, LeakageError, LeakageWarning
from braindecode_emossl.evaluation import with_baselines
from braindecode_emossl.evaluation.baselines import describe_mechanism
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
    SSLClassifier,
    SSLPretrainer,
    load_checkpoint,
    save_checkpoint,
)
from braindecode_emossl.pretraining.finetuning import FineTuner
from braindecode_emossl.pretraining.provenance import check_leakage

NAMES = ["Fp1", "Fp2", "O1", "O2"]
SIGNAL = {"n_outputs": 2, "n_chans": 4, "n_times": 192, "sfreq": 128.0}
SEEN = {"corpora": {"SEED": {"subjects": [1, 2], "sessions": ["0"]}}}
MODELS = {
    "SCMM": lambda: SCMMPretraining(SCMM(**SIGNAL, n_filters=(4, 4, 4))),
    "MEMHACL": lambda: MEMHACLPretraining(
        MEMHACL(**SIGNAL, n_filters=(4, 4, 8, 8), n_hidden=(6,)),
        projector_widths=(12, 10),
    ),
    "MoodReader": lambda: MoodReaderPretraining(
        MoodReader(
            **SIGNAL, embed_dim=16, n_layers=2, n_heads=4, patch_size=12, feature_dim=8
        ),
        decoder_dim=8,
        n_decoder_layers=1,
        n_decoder_heads=2,
    ),
    "MaskedClusterTransformer": lambda: MaskedClusterPretraining(
        MaskedClusterTransformer(
            **SIGNAL, n_filters=16, emb_dim=32, n_layers=3, n_heads=4
        ),
        n_clusters=(6, 4),
        code_dim=16,
    ),
}


@pytest.fixture(scope="module")
def windows():
    """Windows (24, 4, 192), labels of three classes and metadata of three subjects."""
    X = 10 * np.random.default_rng(0).normal(size=(24, 4, 192))
    metadata = pd.DataFrame(
        {"corpus": "SEED", "subject": 1 + np.arange(24) % 3, "session": "0"}
    )
    return X, np.array(list("abc") * 8)[::-1], metadata


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A checkpoint of each model, which has seen the subjects 1 and 2 of SEED."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, make in MODELS.items():
            save_checkpoint(folder / name, make(), SEEN)
    return folder


def make_classifier(pretrained, **settings):
    settings = {"finetune_steps": 1, "random_state": 0, **settings}
    return SSLClassifier(pretrained=pretrained, **settings)


def make_epochs(X, names=NAMES, sfreq=128.0):
    info = mne.create_info(list(names), sfreq, "eeg")
    return mne.EpochsArray(X * 1e-6, info, verbose=False)


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_builds_its_own_model(name, windows, checkpoints):
    """Arguments of the model had to be repeated, or the fit failed."""
    X, y, metadata = windows
    saved = load_checkpoint(checkpoints / name).encoder
    classifier = make_classifier(checkpoints / name, finetune_steps=0)
    model = classifier.fit(X, y, metadata=metadata).net_.module_
    assert type(model) is type(saved) and model.n_outputs == 3
    for key, tensor in model.state_dict().items():
        if not key.startswith("final_layer."):
            assert torch.equal(tensor, saved.state_dict()[key]), key
    assert classifier.pretrainer_ is None
    assert classifier.predict_proba(X).shape == (24, 3)


def test_the_head_is_new(windows, checkpoints):
    X, y, metadata = windows
    classifier = make_classifier(checkpoints / "SCMM", finetune_steps=0)
    classifier.fit(X, np.where(y == "a", "a", "b"), metadata=metadata)
    saved = load_checkpoint(checkpoints / "SCMM").encoder.final_layer[0].weight
    assert not torch.equal(classifier.net_.module_.final_layer[0].weight, saved)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "MEMHACL"}, "class is SCMM in it, but MEMHACL in the model"),
        (
            {"model__n_filters": (4, 8, 4)},
            r"n_filters is \[4, 4, 4\] in it, but \[4, 8",
        ),
        (
            {"model__input_domain": "de"},
            "input_domain is .* in it, but de in the model",
        ),
    ],
)
def test_arguments_that_contradict_the_checkpoint_are_refused(
    windows, checkpoints, settings, message
):
    X, y, metadata = windows
    with pytest.raises(CheckpointError, match=message):
        make_classifier(checkpoints / "SCMM", **settings).fit(X, y, metadata=metadata)


def test_arguments_that_agree_and_those_of_the_head_are_accepted(windows, checkpoints):
    X, y, metadata = windows
    settings = {"model__n_filters": (4, 4, 4), "model__n_hidden": 7}
    for model in (None, "SCMM", SCMM):
        classifier = make_classifier(checkpoints / "SCMM", model=model, **settings)
        classifier.fit(X, y, metadata=metadata)
        assert classifier.net_.module_.final_layer[0].out_features == 7
    module = SCMM(**{**SIGNAL, "n_outputs": 3}, n_filters=(4, 4, 4))
    classifier = make_classifier(checkpoints / "SCMM", model=module, finetune_steps=0)
    found = classifier.fit(X, y, metadata=metadata).net_.module_.state_dict()
    saved = load_checkpoint(checkpoints / "SCMM").encoder.state_dict()
    assert torch.equal(found["blocks.0.0.weight"], saved["blocks.0.0.weight"])
    assert not torch.equal(
        module.state_dict()["blocks.0.0.weight"], saved["blocks.0.0.weight"]
    )


def test_classes_and_channels_that_agree_are_accepted(windows, tmp_path):
    """An activation was refused as it cannot be saved, and channels as NaN differs."""
    X, y, metadata = windows
    info = mne.create_info(NAMES, 128.0, "eeg")
    assert np.isnan(info["chs"][0]["loc"]).any()
    signal = {**SIGNAL, "chs_info": info["chs"]}
    settings = {"n_filters": (4, 4, 4), "activation": nn.ReLU}
    save_checkpoint(tmp_path / "a", SCMMPretraining(SCMM(**signal, **settings)), SEEN)
    settings = {f"model__{k}": v for k, v in settings.items()}
    classifier = make_classifier(
        tmp_path / "a", **settings, model__chs_info=info["chs"], model__sfreq=128
    ).fit(X, y, metadata=metadata)
    assert isinstance(classifier.net_.module_.activation(), nn.ReLU)
    settings["model__activation"] = nn.GELU
    with pytest.raises(CheckpointError, match=r"activation is torch.*ReLU in it, but"):
        make_classifier(tmp_path / "a", **settings).fit(X, y, metadata=metadata)


def test_an_argument_that_the_model_lacks_is_named(windows, checkpoints):
    X, y, metadata = windows
    message = (
        r"model__n_filter names no argument of SCMM. Did you mean model__n_filters"
    )
    for pretrained in (checkpoints / "SCMM", None):
        classifier = make_classifier(pretrained, model__n_filter=1, sfreq=128.0)
        with pytest.raises(TypeError, match=message):
            classifier.fit(X, y, metadata=metadata)


def test_a_module_takes_no_arguments(windows, checkpoints):
    """They were ignored, while they are refused without pretrained."""
    X, y, metadata = windows
    module = SCMM(**SIGNAL, n_filters=(4, 4, 4))
    with pytest.raises(ValueError, match="model__drop_prob cannot be set"):
        make_classifier(checkpoints / "SCMM", model=module, model__drop_prob=0.1).fit(
            X, y, metadata=metadata
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.ones((24, 3, 192))}, "n_chans=4, but the windows have 3"),
        ({"X": np.ones((24, 4, 96))}, "n_times=192, but the windows have 96"),
        ({"sfreq": 200.0}, "sampling rate of the model, 128 Hz, but has 200 Hz"),
    ],
)
def test_windows_of_another_signal_are_refused(windows, checkpoints, change, message):
    X, y, metadata = windows
    X = change.pop("X", X)
    with pytest.raises(ValueError, match=message):
        make_classifier(checkpoints / "SCMM", **change).fit(X, y, metadata=metadata)


def test_epochs_are_reordered_to_the_channels_of_the_checkpoint(windows, tmp_path):
    X, y, metadata = windows
    chs_info = make_epochs(X).info["chs"]
    signal = {k: v for k, v in SIGNAL.items() if k != "n_chans"}
    encoder = SCMM(**signal, chs_info=chs_info, n_filters=(4, 4, 4))
    save_checkpoint(tmp_path / "a", SCMMPretraining(encoder), SEEN)
    epochs = make_epochs(X)
    other = epochs.copy().reorder_channels(["O2", "Fp2", "Fp1", "O1"])
    found = [
        make_classifier(tmp_path / "a")
        .fit(given, y, metadata=metadata)
        .predict_proba(X)
        for given in (epochs, other)
    ]
    assert np.array_equal(*found)
    renamed = make_epochs(X, ["Fp1", "Fp2", "O1", "Oz"])
    with pytest.raises(
        ValueError, match="X must have the channels of the model, but O2"
    ):
        make_classifier(tmp_path / "a").fit(renamed, y, metadata=metadata)


def test_the_third_block_of_the_readme(tmp_path, monkeypatch):
    """It could not be fitted, as input_domain had to be repeated."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4, 5)), np.arange(40) % 2
    metadata = pd.DataFrame({"corpus": "SEED", "subject": 1 + np.arange(40) % 2})
    model = SCMM(n_outputs=3, n_chans=4, n_times=5, input_domain="de")
    monkeypatch.chdir(tmp_path)
    SSLPretrainer(
        SCMMPretraining(model), max_epochs=1, checkpoint_dir="pretrained", resume=True
    ).fit(X, metadata=metadata)
    classifier = SSLClassifier(pretrained="pretrained/trained", finetune_steps=2)
    held_out = pd.DataFrame({"corpus": ["SEED"], "subject": [3]})
    classifier.fit(X, y, metadata=metadata, held_out=held_out)
    assert classifier.predict_proba(X).shape == (40, 2)
    with pytest.raises(
        LeakageError, match="seen subject 2 of SEED, which will be test"
    ):
        classifier.fit(X, y, metadata=metadata, held_out=held_out.assign(subject=2))


def test_pre_training_continues_if_a_length_is_given(windows, checkpoints):
    X, y, metadata = windows
    classifier = make_classifier(checkpoints / "SCMM", pretrain_steps=2)
    classifier.fit(X, y, metadata=metadata)
    assert classifier.pretrainer_.n_steps_ == 2
    start = classifier.pretrainer_.objective.encoder.state_dict()
    saved = load_checkpoint(checkpoints / "SCMM").encoder.state_dict()
    assert torch.equal(start["blocks.0.0.weight"], saved["blocks.0.0.weight"])


# -- leakage ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "held_out", "message"),
    [
        ([0, 2, 3, 5], None, "subject 2 of SEED.* not in the training"),
        (range(24), [("SEED", 1, "0")], "seen subject 1 of SEED, which will be tested"),
        ([0, 2, 3, 5], [("SEED", 2, "0")], "seen subject 2 of SEED, which will be"),
    ],
)
def test_a_checkpoint_that_has_seen_a_test_subject_is_refused(
    windows, checkpoints, rows, held_out, message, monkeypatch
):
    monkeypatch.setattr(FineTuner, "fit", None)
    X, y, metadata = windows
    rows = np.array(list(rows))
    if held_out is not None:
        held_out = pd.DataFrame(held_out, columns=["corpus", "subject", "session"])
    with pytest.raises(LeakageError, match=message):
        make_classifier(checkpoints / "SCMM").fit(
            X[rows], y[rows], metadata=metadata.iloc[rows], held_out=held_out
        )


def test_another_session_of_a_seen_subject_may_be_tested(windows, checkpoints):
    X, y, metadata = windows
    held_out = pd.DataFrame({"corpus": ["SEED"], "subject": 1, "session": "1"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakageWarning)
        make_classifier(checkpoints / "SCMM").fit(
            X, y, metadata=metadata, held_out=held_out
        )


def test_a_model_pretrained_in_memory_is_checked_as_a_checkpoint_is(windows):
    """It was tested on subjects that it had seen, and its scaling was fitted again."""
    X, y, metadata = windows
    objective = MODELS["SCMM"]()
    pretrainer = SSLPretrainer(objective, max_steps=2, random_state=0)
    encoder = pretrainer.fit(X, metadata=metadata).module_.encoder
    classifier = SSLClassifier(encoder, objective=None, finetune_steps=0)
    held_out = metadata[:1]
    with pytest.raises(LeakageError, match="seen subject 1 of SEED"):
        classifier.fit(X, y, metadata=metadata, held_out=held_out)
    classifier.fit(3 * X, y, metadata=metadata, held_out=held_out.assign(subject=9))
    found = classifier.net_.module_
    assert torch.equal(found.feature_scale, encoder.feature_scale)
    assert not torch.equal(found.feature_scale, torch.ones_like(found.feature_scale))


def test_a_fine_tuned_model_knows_the_subjects_of_its_labels(windows, checkpoints):
    """It knew those of the checkpoint alone."""
    X, y, metadata = windows
    others = metadata.assign(corpus="DEAP")
    model = (
        make_classifier(checkpoints / "SCMM").fit(X, y, metadata=others).net_.module_
    )
    assert [*model.provenance["corpora"]] == ["SEED", "DEAP"]
    classifier = SSLClassifier(model, objective=None, finetune_steps=0)
    with pytest.raises(LeakageError, match="seen subject 1 of DEAP"):
        classifier.fit(X, y, metadata=others, held_out=others[:1])


def test_validation_subjects_have_been_seen(windows, checkpoints):
    """They choose the weights, but the provenance did not name them."""
    X, y, metadata = windows
    epochs = make_epochs(X)
    epochs.metadata = metadata.assign(subject=7)
    classifier = make_classifier(checkpoints / "SCMM")
    classifier.fit(X, y, metadata=metadata, X_val=epochs, y_val=y)
    (seen,) = classifier.net_.module_.provenance["corpora"].values()
    assert 7 in seen["subjects"]


@pytest.mark.parametrize("unknown", ["X", "X_val", "X_target_labeled"])
def test_a_model_that_unknown_labels_have_trained_says_so(
    unknown, windows, checkpoints
):
    """Its provenance still called itself complete."""
    X, y, metadata = windows
    model = load_checkpoint(checkpoints / "SCMM").encoder
    assert model.provenance["complete"]
    given = {} if unknown == "X" else {"metadata": metadata}
    if unknown.startswith("X_"):
        given |= {unknown: X, unknown.replace("X", "y"): y}
    classifier = SSLClassifier(model, objective=None, finetune_steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakageWarning)
        found = classifier.fit(X, y, **given).net_.module_
    assert not found.provenance["complete"]
    held_out = metadata[:1].assign(subject=9)
    with pytest.warns(LeakageWarning, match="not fully known"):
        check_leakage(found.provenance, held_out=held_out)


def test_a_model_trained_in_memory_is_fine_tuned_as_a_checkpoint_is(windows):
    """It was pre-trained again, and its control started from its weights."""
    X, y, metadata = windows
    objective = MODELS["SCMM"]()
    pretrainer = SSLPretrainer(objective, max_steps=2, random_state=0)
    encoder = pretrainer.fit(X, metadata=metadata).module_.encoder
    classifier = SSLClassifier(encoder, sfreq=128, finetune_steps=0, random_state=0)
    assert "a checkpoint" in describe_mechanism(classifier)
    assert classifier.fit(X, y, metadata=metadata).pretrainer_ is None
    rows = with_baselines({"T": classifier})
    random = rows["T, random weights"].fit(X, y, metadata=metadata).net_.module_
    assert random.n_filters == encoder.n_filters
    weight = "blocks.0.0.weight"
    assert not torch.equal(random.state_dict()[weight], encoder.state_dict()[weight])


def test_subjects_in_the_unlabeled_windows_are_not_tested(windows, checkpoints):
    X, _, metadata = windows
    first = metadata["subject"].to_numpy() == 3
    make_classifier(checkpoints / "SCMM").fit(
        X[first],
        list("ab" * 4),
        metadata=metadata[first],
        X_unlabeled=X[~first],
        metadata_unlabeled=metadata[~first],
    )


def test_an_unknown_overlap_is_warned_of(windows, checkpoints):
    X, y, metadata = windows
    with pytest.warns(LeakageWarning, match="corpus and subject .* are unknown"):
        make_classifier(checkpoints / "SCMM").fit(X, y)
    with pytest.warns(LeakageWarning, match="corpus and subject .* are unknown"):
        make_classifier(checkpoints / "SCMM").fit(X, y, subjects=metadata["subject"])


# -- checkpoints of braindecode --------------------------------------------------


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    """EEGNet of three classes, as braindecode's save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("hub") / "eegnet"
    signal = {"n_chans": 4, "n_times": 192, "sfreq": 128.0}
    EEGNet(n_outputs=3, **signal, F1=3).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("labels", ["abc", "ab"])
def test_a_folder_of_braindecode(windows, hub_folder, labels):
    """Also with another number of classes, which EEGNet has no reset_head for."""
    X, y, metadata = windows
    y = np.where(y == "c", labels[-1], y)
    classifier = make_classifier(
        hub_folder, model="EEGNet", objective=None, finetune_steps=0
    )
    with pytest.warns(LeakageWarning, match="not fully known"):
        model = classifier.fit(X, y, metadata=metadata).net_.module_
    saved = EEGNet.from_pretrained(hub_folder)
    assert model.F1 == 3 and model.n_outputs == len(labels)
    for key, tensor in model.state_dict().items():
        if not key.startswith("final_layer."):
            assert torch.equal(tensor, saved.state_dict()[key]), key


def test_a_module_takes_the_weights_of_braindecode(windows, hub_folder):
    """Its own settings were dropped for those of the folder."""
    X, y, _ = windows
    signal = {k: v for k, v in SIGNAL.items() if k != "n_outputs"}
    settings = {"objective": None, "finetune_steps": 0}
    module = EEGNet(n_outputs=3, **signal, F1=3, drop_prob=0.9)
    found = make_classifier(hub_folder, model=module, **settings).fit(X, y).net_.module_
    saved = EEGNet.from_pretrained(hub_folder)
    assert found.drop_prob == 0.9 and found is not module
    for name, weight in saved.state_dict().items():
        if not name.startswith("final_layer."):
            assert torch.equal(found.state_dict()[name], weight), name
    with pytest.raises(CheckpointError, match=r"another architecture: .* in the model"):
        make_classifier(hub_folder, model=EEGNet(n_outputs=3, **signal, F1=4)).fit(X, y)


def test_a_folder_of_braindecode_needs_the_name_of_the_model(windows, hub_folder):
    X, y, _ = windows
    with pytest.raises(ValueError, match="model must name the class of the weights"):
        make_classifier(hub_folder).fit(X, y)


def test_a_missing_folder_and_hub_are_both_named(windows, monkeypatch, tmp_path):
    X, y, _ = windows
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(EEGNet, "from_pretrained", fail)
    message = (
        r"There is no folder .*nowhere. EEGNet.from_pretrained cannot .*no network"
    )
    with pytest.raises(CheckpointError, match=message):
        make_classifier("some/nowhere", model="EEGNet").fit(X, y)
    with pytest.raises(CheckpointError, match=r"There is no checkpoint in .*nowhere"):
        make_classifier(tmp_path / "nowhere").fit(X, y)


def fail(*args, **kwargs):
    raise OSError("no network")


# -- hostile sizes ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("SCMM", ("n_chans",), 10**9),
        ("SCMM", ("n_times",), 10**9),
        ("SCMM", ("n_filters",), [10**8] * 3),
        ("SCMM", ("n_filters",), [4] * 10**5),
        ("MEMHACL", ("n_chans",), 10**9),
        ("MEMHACL", ("emossl", "settings", "projector_widths"), [10**8, 10**8]),
        ("MoodReader", ("n_chans",), 10**9),
        ("MoodReader", ("n_layers",), 10**8),
        ("MoodReader", ("embed_dim",), 10**8),
        ("MoodReader", ("emossl", "settings", "n_decoder_layers"), 10**8),
        ("MaskedClusterTransformer", ("n_layers",), 10**8),
        ("MaskedClusterTransformer", ("emb_dim",), 4 * 10**7),
        ("MaskedClusterTransformer", ("emossl", "settings", "n_clusters"), [10**9]),
    ],
)
def test_absurd_sizes_are_refused_before_the_model_is_built(
    windows, checkpoints, tmp_path, name, place, value
):
    """n_chans of 1e9 in a config.json kept a machine busy for a minute."""
    folder = tmp_path / name
    folder.mkdir()
    for file in (checkpoints / name).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    inner = config
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"{place[-1]}|larger than|architecture"):
        load_checkpoint(folder)
    X, y, metadata = windows
    with pytest.raises(CheckpointError):
        make_classifier(folder).fit(X, y, metadata=metadata)


def test_absurd_sizes_of_a_folder_of_braindecode_are_refused(
    windows, hub_folder, tmp_path
):
    X, y, _ = windows
    for file in hub_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "F1": 10**7}))
    with pytest.raises(CheckpointError, match="larger than its weights"):
        make_classifier(tmp_path, model="EEGNet", objective=None).fit(X, y)
