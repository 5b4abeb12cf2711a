"""SSLClassifier: pre-train and fine-tune as one scikit-learn classifier."""

from __future__ import annotations

import pickle

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from braindecode import EEGClassifier
from braindecode.models import DGCNN
from moabb.evaluations import CrossSubjectEvaluation
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from skorch.callbacks import EarlyStopping
from torch import nn

from braindecode_emossl.datasets import DEAP
from braindecode_emossl.features import SubjectScaler
from braindecode_emossl.models import SCMM
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining import (
    PretrainingOutput,
    SCMMPretraining,
    SSLClassifier,
    SSLPretrainer,
)
from braindecode_emossl.pretraining.finetuning import FineTuner

N_CHANS, SFREQ = 4, 100.0


@pytest.fixture(scope="module")
def windows():
    """Sixty 1-s windows (60, 4, 100) in microvolts; alpha on two sensors is a class."""
    rng = np.random.default_rng(0)
    y = np.array(["calm", "tense"])[np.arange(60) % 2]
    time = np.arange(100) / SFREQ
    alpha = 30 * np.sin(2 * np.pi * 10 * time + rng.uniform(0, 6, (60, 1, 1)))
    X = rng.normal(0, 10, (60, N_CHANS, 100))
    X[y == "calm", :2] += alpha[y == "calm"]
    return X, y


def make_classifier(**settings):
    """Return a classifier of SCMM, in ten steps of each training."""
    settings = {
        "model": "SCMM",
        "sfreq": SFREQ,
        "pretrain_steps": 4,
        "finetune_steps": 40,
        "finetune_lr": 1e-3,
        "batch_size": 16,
        "random_state": 0,
        **settings,
    }
    return SSLClassifier(**settings)


@pytest.fixture
def pretrained_on(monkeypatch):
    """What each call of SSLPretrainer.fit was given: windows and metadata."""
    calls = []

    def fit(self, X, y=None, *, metadata=None, paradigm=None):
        calls.append((X, metadata))
        return original(self, X, y, metadata=metadata, paradigm=paradigm)

    original = SSLPretrainer.fit
    monkeypatch.setattr(SSLPretrainer, "fit", fit)
    return calls


@pytest.fixture
def finetuned_on(monkeypatch):
    """What each call of FineTuner.fit was given: windows, codes and weights."""
    calls = []

    def fit(self, X, y, sample_weight=None):
        calls.append((X, y, sample_weight))
        return original(self, X, y, sample_weight)

    original = FineTuner.fit
    monkeypatch.setattr(FineTuner, "fit", fit)
    return calls


def test_it_learns_and_gives_probabilities_of_the_given_labels(windows):
    X, y = windows
    classifier = make_classifier().fit(X[:40], y[:40])
    assert classifier.classes_.tolist() == ["calm", "tense"]
    probabilities = classifier.predict_proba(X[40:])
    assert probabilities.shape == (20, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert classifier.score(X[40:], y[40:]) >= 0.9
    expected = classifier.classes_[probabilities.argmax(axis=1)]
    assert classifier.predict(X[40:]).tolist() == expected.tolist()


def test_fine_tuning_starts_from_the_pretrained_weights_and_leaves_them(windows):
    """Fine-tuning changed the pretrainer's own encoder, which then knew the labels."""
    X, y = windows
    classifier = make_classifier().fit(X, y)
    assert classifier.n_steps_ == 40
    untuned = make_classifier(finetune_steps=0).fit(X, y)
    encoder = classifier.pretrainer_.module_.encoder
    for name, tensor in untuned.net_.module_.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name]), name
    tuned = classifier.net_.module_.state_dict()
    assert not torch.equal(tuned["final_layer.0.weight"], encoder.final_layer[0].weight)


def test_pretraining_sees_no_label(windows):
    """The weights after pre-training must not depend on y in any way."""
    X, y = windows
    shuffled = np.random.default_rng(1).permutation(y)
    found = [
        make_classifier(finetune_steps=0).fit(X, labels).net_.module_.state_dict()
        for labels in (y, shuffled)
    ]
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name]), name


def test_same_seed_same_result_other_seed_another(windows):
    X, y = windows
    torch.manual_seed(0)
    first = make_classifier().fit(X, y).predict_proba(X)
    torch.manual_seed(99)
    assert np.array_equal(first, make_classifier().fit(X, y).predict_proba(X))
    other = make_classifier(random_state=1).fit(X, y).predict_proba(X)
    assert not np.array_equal(first, other)


def test_refitting_forgets_and_takes_another_size(windows):
    X, y = windows
    classifier = make_classifier()
    expected = classifier.fit(X, y).predict_proba(X)
    classifier.fit(X[:, :3, :50], np.where(y == "calm", 1, 2))
    assert classifier.classes_.tolist() == [1, 2]
    assert np.array_equal(classifier.fit(X, y).predict_proba(X), expected)


def test_clone_pickle_and_pipeline(windows):
    X, y = windows
    params = make_classifier(model__drop_prob=0.1).get_params()
    assert clone(SSLClassifier(**params)).get_params() == params
    pipeline = make_pipeline(FunctionTransformer(np.negative), make_classifier())
    pipeline.fit(X, y)
    again = pickle.loads(pickle.dumps(pipeline))
    assert np.array_equal(again.predict_proba(X), pipeline.predict_proba(X))


def test_differential_entropy_as_input():
    X = np.random.default_rng(0).normal(size=(30, N_CHANS, 5))
    classifier = make_classifier(sfreq=None, model__input_domain="de")
    assert classifier.fit(X, np.arange(30) % 3).predict_proba(X).shape == (30, 3)


@pytest.mark.parametrize("part", ["pre-training", "fine-tuning"])
def test_an_interrupt_is_not_mistaken_for_the_end_of_training(
    windows, monkeypatch, part
):
    """Skorch swallows Ctrl-C, and an evaluation scored half-trained models."""

    def interrupt(self, *args, **kwargs):
        raise KeyboardInterrupt

    net = SSLPretrainer if part == "pre-training" else EEGClassifier
    monkeypatch.setattr(net, "train_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_classifier().fit(*windows)


@pytest.mark.filterwarnings("ignore:4 of 10 labels are -1")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((10, 4))}, r"shape \(10, 4\)"),
        ({"X": np.full((10, 4, 100), np.nan)}, "X contains NaN"),
        ({"X": np.zeros((0, 4, 100))}, "0 sample"),
        ({"X": np.zeros((10, 0, 100))}, r"shape \(10, 0, 100\)"),
        ({"y": np.zeros(10)}, r"at least two classes, but got 1 class: \[0.0\]"),
        ({"y": np.where(np.arange(10) < 4, -1, 1)}, r"but got 1 class: \[1\]"),
        ({"y": np.arange(9) % 2}, r"inconsistent numbers of samples: \[10, 9\]"),
        ({"y": np.array([None, *"abababaab"], object)}, "1 of 10 are missing"),
        ({"y": np.linspace(0, 1, 10)}, "Unknown label type: continuous"),
        ({"subjects": np.arange(9)}, "each of the 10 windows, but has 9 entries"),
        ({"metadata": pd.DataFrame({"subject": [1]})}, "has 1 rows for 10 windows"),
        ({"settings": {"model": "SCMMM"}}, "'SCMMM'. Did you mean one of .'SCMM'"),
        ({"settings": {"model": 3}}, "must be a name, a class .* but got 3"),
        ({"settings": {"model": "DGCNN"}}, "DGCNN has no pre-training.*objective=None"),
        ({"settings": {"objective": "SCMN"}}, "objective must be .* but got 'SCMN'"),
        ({"settings": {"objective": 3}}, "objective must be .* but got 3"),
        (
            {"settings": {"pretrain_steps": -1}},
            "pretrain_steps must be an integer from 0",
        ),
        ({"settings": {"finetune_steps": "2"}}, "finetune_steps must be an integer"),
        ({"settings": {"finetune_steps": None}}, "finetune_steps must be .* got None"),
        ({"settings": {"pretrain_steps": 1.5}}, "pretrain_steps must be an integer"),
        ({"settings": {"model__n_outputs": 3}}, "model__n_outputs must be 2, the num"),
        ({"settings": {"sfreq": -1}}, "sfreq must be a positive number .* got -1"),
        ({"settings": {"sfreq": "200"}}, "sfreq must be a positive number .* '200'"),
        ({"settings": {"validation": "a"}}, "validation must be a share .* got 'a'"),
        ({"settings": {"sfreq": None}}, "sfreq"),
        ({"settings": {"finetune": "half"}}, "finetune must be one of .* 'half'"),
        ({"settings": {"layer_decay": 2}}, "layer_decay must be"),
        ({"settings": {"class_weight": "even"}}, "class_weight .*'even'"),
        ({"settings": {"validation": 0.2}}, "fit needs the subjects .* no subjects"),
        ({"settings": {"memory": "s", "random_state": None}}, "random_state must be"),
        ({"settings": {"finetuner__patience": 3}}, "patience must be .* with valid"),
        ({"settings": {"finetuner__schedule": "linear"}}, "schedule must be"),
        ({"sample_weight": np.ones(9)}, r"inconsistent numbers of samples: \[10, 9\]"),
        ({"sample_weight": -np.ones(10)}, "sample_weight must be .* at least zero"),
        ({"sample_weight": np.zeros(10)}, "not all zero"),
        ({"X_unlabeled": np.ones((3, 4, 99))}, r"X_unlabeled .*\(3, 4, 99\)"),
        (
            {"X_unlabeled": np.full((3, 4, 100), np.inf)},
            "X_unlabeled contains infinity",
        ),
        ({"X_val": np.ones((3, 4, 100))}, "X_val needs its labels, y_val"),
        ({"X_val": np.ones((1, 4, 100)), "y_val": [7]}, r"y_val .*unseen labels: \[7"),
    ],
)
def test_bad_input_is_named_before_anything_is_trained(change, message, monkeypatch):
    monkeypatch.setattr(SSLPretrainer, "fit", None)
    data = {"X": np.ones((10, 4, 100)), "y": np.arange(10) % 2, **change}
    classifier = make_classifier().set_params(**data.pop("settings", {}))
    with pytest.raises(ValueError, match=message):
        classifier.fit(**data)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((10, 3, 100), "3 features, but SSLClassifier is expecting 4 features"),
        ((10, 4, 99), r"4 channels and 100 samples.* shape \(10, 4, 99\)"),
        ((9, 4), r"shape \(n_windows, n_chans, n_times\).* shape \(9, 4\)"),
    ],
)
def test_windows_of_another_size_are_refused(windows, shape, message):
    """The model failed at some layer, or accepted windows of another length."""
    classifier = make_classifier(pretrain_steps=0, finetune_steps=0).fit(*windows)
    assert classifier.n_features_in_ == N_CHANS
    with pytest.raises(ValueError, match=message):
        classifier.predict(np.zeros(shape))


# -- arguments of the parts ------------------------------------------------------


def test_arguments_reach_their_parts(windows):
    X, y = windows
    classifier = make_classifier(
        model__n_hidden=9,
        objective__temperature=0.2,
        pretrainer__schedule="cosine",
        pretrainer__max_steps=3,
        finetuner__max_epochs=2,
        finetuner__optimizer__weight_decay=0.7,
    ).fit(X, y)
    assert classifier.net_.module_.final_layer[0].out_features == 9
    assert classifier.pretrainer_.module_.settings["temperature"] == 0.2
    assert classifier.pretrainer_.schedule == "cosine"
    assert classifier.pretrainer_.n_steps_ == 3
    assert len(classifier.net_.history) == 2 and classifier.n_steps_ == 8
    assert classifier.net_.optimizer_.param_groups[0]["weight_decay"] == 0.7


def test_arguments_of_parts_are_parameters():
    """They were dictionaries, which neither set_params nor a search could enter."""
    classifier = SSLClassifier("SCMM", model__drop_prob=0.1)
    assert classifier.get_params()["model__drop_prob"] == 0.1
    other = clone(classifier).set_params(model__drop_prob=0.3, finetuner__lr=1.0)
    assert other.get_params()["model__drop_prob"] == 0.3
    assert other.get_params()["finetuner__lr"] == 1.0
    assert classifier.get_params()["model__drop_prob"] == 0.1
    assert "finetuner__lr" not in classifier.get_params()
    assert "model__drop_prob=0.3" in repr(other)
    with pytest.raises(ValueError, match="Invalid parameter 'drop_prob'"):
        classifier.set_params(drop_prob=0.3)
    with pytest.raises(TypeError, match=r"model_params is not an argument .* model__"):
        SSLClassifier("SCMM", model_params={})


def test_an_unknown_argument_of_a_part_is_named(windows):
    for name, message in (
        ("model__drop_probb", "drop_probb"),
        ("objective__heat", "heat"),
        ("pretrainer__learning_rate", "learning_rate"),
        ("finetuner__learning_rate", "learning_rate"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            make_classifier(**{name: 1}).fit(*windows)


@pytest.mark.parametrize(
    ("settings", "n_steps"),
    [
        ({}, (4, 40)),
        ({"pretrain_epochs": 2, "finetune_epochs": 3}, (6, 12)),
        ({"pretrain_steps": 0}, (None, 40)),
        ({"pretrain_epochs": 0}, (None, 40)),
        ({"objective": None}, (None, 40)),
        ({"finetune_epochs": 0}, (4, 0)),
    ],
)
def test_epochs_count_if_they_are_given_else_steps(windows, settings, n_steps):
    """Sixty windows in batches of 16: three full batches, four with the rest."""
    classifier = make_classifier(**settings).fit(*windows)
    pretrainer = classifier.pretrainer_
    found = None if pretrainer is None else pretrainer.n_steps_
    assert (found, classifier.n_steps_) == n_steps


def test_the_defaults_count_steps():
    assert SSLClassifier().get_params()["finetune_steps"] == 500
    assert SSLClassifier()._length_of_pretraining == (2000, 0)
    assert SSLClassifier(pretrained="folder")._length_of_pretraining == (0, 0)
    assert SSLClassifier(pretrain_epochs=7)._length_of_pretraining == (0, 7)


# -- models and objectives -------------------------------------------------------


def test_a_model_may_be_a_name_a_class_or_a_module(windows):
    X, y = windows
    settings = {"finetune_steps": 0, "pretrain_steps": 2}
    found = [
        make_classifier(model=model, **settings).fit(X, y).predict_proba(X)
        for model in (None, "SCMM", SCMM)
    ]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    template = SCMM(n_outputs=2, n_chans=N_CHANS, n_times=100, sfreq=SFREQ)
    before = {k: v.clone() for k, v in template.state_dict().items()}
    classifier = clone(make_classifier(model=template, **settings)).fit(X, y)
    start = classifier.pretrainer_.objective.encoder.state_dict()
    assert all(torch.equal(start[k], v) for k, v in before.items() if "blocks" in k)
    assert all(torch.equal(template.state_dict()[k], v) for k, v in before.items())


def test_a_module_gets_a_head_for_the_classes_at_hand(windows):
    X, y = windows
    template = SCMM(n_outputs=5, n_chans=N_CHANS, n_times=100, sfreq=SFREQ)
    classifier = make_classifier(model=template, finetune_steps=1).fit(X, y)
    assert classifier.predict_proba(X).shape == (60, 2)


@pytest.mark.parametrize(
    ("sizes", "settings", "message"),
    [
        ({"n_chans": 3}, {}, "built for n_chans=3, but the windows have 4"),
        ({"n_times": 50}, {}, "built for n_times=50, but the windows have 100"),
        ({}, {"model__drop_prob": 0.1}, "model__drop_prob cannot be set"),
        ({"sfreq": 200.0}, {}, "sampling rate of the model, 200 Hz, but has 100 Hz"),
    ],
)
def test_a_module_of_other_windows_is_refused(windows, sizes, settings, message):
    signal = {"n_chans": N_CHANS, "n_times": 100, "sfreq": SFREQ, **sizes}
    classifier = make_classifier(model=SCMM(n_outputs=2, **signal), **settings)
    with pytest.raises(ValueError, match=message):
        classifier.fit(*windows)


class Mean(nn.Module):
    """A model that is none of braindecode's."""

    def __init__(self, n_chans, n_outputs):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(n_chans, 1))
        self.final_layer = nn.Linear(n_chans, n_outputs)

    def forward(self, x):
        return self.final_layer((x * self.scale).std(-1))


class Flatness(nn.Module):
    """An objective that is none of this package's."""

    def __init__(self, encoder, strength=1.0):
        super().__init__()
        self.encoder = encoder
        self.strength = strength

    def forward(self, x):
        loss = self.strength * (self.encoder.scale**2).mean()
        return PretrainingOutput(loss, {"size": loss.detach()})


def test_models_and_objectives_of_the_user(windows):
    X, y = windows
    classifier = make_classifier(
        model=Mean, objective=Flatness, objective__strength=2.0
    ).fit(X, y)
    assert classifier.score(X, y) > 0.8
    assert classifier.pretrainer_.module_.strength == 2.0
    assert classifier.pretrainer_.module_.encoder.scale.max() < 1
    template = Flatness(None)
    same = make_classifier(model=Mean, objective=template).fit(X, y)
    assert template.encoder is None and same.pretrainer_.module_.strength == 1.0


def test_an_objective_of_another_model_is_refused_at_once(windows):
    """The error was one of shapes, from within the first batch."""
    X, y = windows
    signal = {"n_outputs": 2, "n_chans": N_CHANS, "n_times": 100, "sfreq": SFREQ}
    template = SCMMPretraining(SCMM(**signal, n_filters=(4, 6)), temperature=0.3)
    model = SCMM(**signal, n_filters=(4, 8))
    with pytest.raises(
        ValueError, match=r"weight of the SCMMPretraining has the shape .* SCMM and"
    ):
        make_classifier(model=model, objective=template).fit(X, y)
    model = SCMM(**signal, n_filters=(4, 6))
    template.projector = nn.Sequential(template.projector, nn.Linear(128, 8))
    classifier = make_classifier(model=model, objective=template, pretrain_steps=1)
    assert classifier.fit(X, y).pretrainer_.module_.settings["temperature"] == 0.3


@pytest.mark.parametrize("objective", ["SCMM", "SCMMPretraining", SCMMPretraining])
def test_an_objective_may_be_named(windows, objective):
    X, y = windows
    settings = {"finetune_steps": 0, "pretrain_steps": 2}
    found = make_classifier(objective=objective, **settings).fit(X, y)
    assert np.array_equal(
        found.predict_proba(X), make_classifier(**settings).fit(X, y).predict_proba(X)
    )


@pytest.mark.parametrize("model", ["DGCNN", "TSception"])
def test_a_model_of_braindecode_with_labels_alone(windows, model, recwarn):
    X, y = windows
    classifier = SSLClassifier(
        model, sfreq=SFREQ, objective=None, finetune_steps=2, random_state=0
    )
    probabilities = classifier.fit(X, y).predict_proba(X)
    assert probabilities.shape == (60, 2) and classifier.pretrainer_ is None
    # DGCNN starts from the positions of the electrodes, which arrays do not carry.
    spread = any("spread evenly" in str(w.message) for w in recwarn)
    assert spread == (model == "DGCNN")


def make_info(names=("Fz", "Cz", "Pz", "Oz"), sfreq=SFREQ, types="eeg"):
    info = mne.create_info(list(names), sfreq, types)
    return info.set_montage("colin27_1005", on_missing="ignore")


def test_known_positions_are_used(windows, recwarn):
    X, y = windows
    info = make_info()
    classifier = SSLClassifier(
        DGCNN, chs_info=info["chs"], objective=None, finetune_steps=1
    ).fit(X, y)
    assert not any("spread evenly" in str(w.message) for w in recwarn)
    assert [c["ch_name"] for c in classifier.net_.module_.chs_info] == info["ch_names"]


@pytest.mark.parametrize("model", ["Labram", "InterpolatedBIOT"])
def test_models_that_need_names_or_positions(windows, model):
    """Labram failed, as forward was not given the names; Interpolated ones too."""
    X, y = windows
    small = {
        "Labram": {"embed_dim": 20, "num_layers": 1, "num_heads": 2, "patch_size": 50},
        "InterpolatedBIOT": {"embed_dim": 32, "num_layers": 1},
    }
    epochs = mne.EpochsArray(X * 1e-6, make_info(), verbose=False)
    classifier = SSLClassifier(
        model,
        objective=None,
        finetune_steps=2,
        random_state=0,
        **{f"model__{name}": value for name, value in small[model].items()},
    )
    assert classifier.fit(epochs, y).predict_proba(epochs).shape == (60, 2)


# -- labels ----------------------------------------------------------------------


def test_windows_labeled_minus_one_pre_train_only(windows, pretrained_on, finetuned_on):
    """They became a class of their own, without a word."""
    X, y = windows
    codes = np.where(y == "calm", 3, 8)
    codes[5:30] = -1
    metadata = pd.DataFrame({"subject": np.arange(60) // 20})
    with pytest.warns(UserWarning, match="25 of 60 labels are -1, which mar") as caught:
        classifier = make_classifier().fit(X, codes, metadata=metadata)
    assert [w.filename for w in caught if "labels are" in str(w.message)] == [__file__]
    assert classifier.classes_.tolist() == [3, 8]
    assert set(classifier.predict(X)) <= {3, 8}
    windows, rows = pretrained_on[0]
    assert np.array_equal(windows, X.astype(np.float32)) and rows.equals(metadata)
    windows, labels, _ = finetuned_on[0]
    kept = codes != -1
    assert np.array_equal(windows, X[kept].astype(np.float32))
    assert labels.tolist() == (codes[kept] == 8).astype(int).tolist()


@pytest.mark.parametrize(
    "make",
    [
        np.array,
        list,
        pd.Series,
        lambda y: pd.Series(y).astype("category"),
        lambda y: pd.Series(y, dtype="string"),
        lambda y: np.array(y, object),
        lambda y: pd.Series(y, index=np.random.default_rng(0).permutation(len(y))),
    ],
)
def test_labels_of_any_type(windows, make):
    X, y = windows
    classifier = make_classifier(pretrain_steps=0, finetune_steps=1)
    expected = classifier.fit(X, y).predict_proba(X)
    classifier.fit(X, make(y.tolist()))
    assert classifier.classes_.tolist() == ["calm", "tense"]
    assert np.array_equal(classifier.predict_proba(X), expected)
    assert classifier.score(X, make(y.tolist())) <= 1


def test_sample_weights_weigh_the_labels(windows, finetuned_on):
    """A fit with sample_weight raised a TypeError."""
    X, y = windows
    settings = {"pretrain_steps": 0, "finetune_steps": 30}
    expected = make_classifier(**settings).fit(X, y).predict_proba(X)
    ones = make_classifier(**settings).fit(X, y, sample_weight=[2.0] * 60)
    np.testing.assert_allclose(ones.predict_proba(X), expected, atol=1e-5)
    calm = make_classifier(**settings).fit(X, y, sample_weight=(y == "calm") + 1e-3)
    assert (calm.predict(X) == "calm").mean() > 0.8
    assert len(finetuned_on[-1][2]) == 60
    with pytest.raises(ValueError, match="sample_weight weights X, which is not fine"):
        make_classifier().fit(
            X, y, sample_weight=y == y, X_target_labeled=X, y_target_labeled=y
        )


def test_sample_weights_with_validation(windows):
    """The classes were not known to the score of the validation windows."""
    X, y = windows
    settings = {"pretrain_steps": 0, "finetune_steps": 5}
    expected = make_classifier(**settings).fit(X, y, X_val=X, y_val=y)
    found = make_classifier(**settings).fit(
        X, y, X_val=X, y_val=y, sample_weight=np.ones(len(y))
    )
    np.testing.assert_allclose(
        found.predict_proba(X), expected.predict_proba(X), atol=1e-5
    )


# -- further windows -------------------------------------------------------------


def test_further_windows_are_used_for_pre_training_alone(
    windows, pretrained_on, finetuned_on
):
    X, y = windows
    rng = np.random.default_rng(5)
    other, target = rng.normal(0, 10, (20, N_CHANS, 100)), X[::-1][:7]
    metadata = pd.DataFrame({"corpus": "SEED", "subject": np.arange(60) // 20})
    theirs = pd.DataFrame({"corpus": "DEAP", "subject": np.arange(20) // 5, "trial": 1})
    classifier = make_classifier().fit(
        X,
        y,
        metadata=metadata,
        X_unlabeled=other,
        metadata_unlabeled=theirs,
        X_target_unlabeled=target,
    )
    found, rows = pretrained_on[0]
    expected = np.concatenate([X, other, target]).astype(np.float32)
    assert np.array_equal(found, expected)
    assert rows["corpus"].tolist()[:80] == ["SEED"] * 60 + ["DEAP"] * 20
    assert rows["subject"].tolist()[80:] == ["X_target_unlabeled"] * 7
    assert rows["corpus"].isna().sum() == 7
    assert len(classifier.pretraining_subjects_) == 3 + 4 + 1
    assert np.array_equal(finetuned_on[0][0], X.astype(np.float32))


def test_without_metadata_there_are_none(windows, pretrained_on):
    """No windows at all are accepted too, as a fold may have no unlabeled ones."""
    X, y = windows
    make_classifier().fit(X, y, X_unlabeled=X[:0], X_target_unlabeled=X[:0])
    assert len(pretrained_on.pop()[0]) == 60
    make_classifier().fit(X, y, X_unlabeled=X[:5])
    assert len(pretrained_on[0][0]) == 65 and pretrained_on[0][1] is None


def test_subjects_take_the_place_of_metadata(windows, pretrained_on):
    X, y = windows
    make_classifier().fit(X, y, subjects=np.arange(60) // 20, X_unlabeled=X[:5])
    subjects = pretrained_on[0][1]["subject"].tolist()
    assert subjects == [0] * 20 + [1] * 20 + [2] * 20 + ["X_unlabeled"] * 5


def make_memhacl(**settings):
    small = {"n_filters": (4, 4, 8, 8), "n_hidden": (6,)}
    return make_classifier(
        model="MEMHACL",
        pretrain_steps=1,
        finetune_steps=1,
        objective__projector_widths=(12, 10),
        pretrainer__batch_size=4,
        **{f"model__{name}": value for name, value in small.items()},
        **settings,
    )


def make_aligned_metadata(corpus="SEED", n_subjects=6):
    """Ten windows of each of some subjects, at the same seconds of two stimuli."""
    rows = np.arange(10 * n_subjects)
    return pd.DataFrame(
        {
            "corpus": corpus,
            "subject": rows // 10,
            "session": "0",
            "trial": rows % 10 // 5,
            "stimulus": rows % 10 // 5,
            "window": rows % 5,
        }
    )


def test_the_sampler_of_an_objective_gets_the_metadata(windows):
    """In every fold ME-MHACL grouped shuffled windows, as metadata did not arrive.

    Each group must be of one window of one stimulus, by different subjects.
    """
    X, y = windows
    metadata = make_aligned_metadata()
    classifier = make_memhacl().fit(X, y, metadata=metadata)
    for group in classifier.pretrainer_.sampler_:
        rows = metadata.iloc[list(group)]
        assert rows["subject"].is_unique and len(rows) > 1
        assert len(rows[["stimulus", "window"]].drop_duplicates()) == 1
    with pytest.raises(ValueError, match="StimulusGroupSampler, which needs metadata"):
        make_memhacl().fit(X, y)
    shuffled = {"pretrainer__sampler": None, "pretrainer__batch_size": 16}
    classifier = make_memhacl().set_params(**shuffled).fit(X, y)
    assert classifier.pretrainer_.n_steps_ == 1


def test_a_sampler_leaves_out_target_windows_without_metadata(windows, pretrained_on):
    X, y = windows
    metadata = make_aligned_metadata()
    with pytest.warns(UserWarning, match="X_target_unlabeled is not used: StimulusGr"):
        make_memhacl().fit(X, y, metadata=metadata, X_target_unlabeled=X[:3])
    assert len(pretrained_on[0][0]) == 60
    with pytest.raises(ValueError, match="X_unlabeled needs metadata, as StimulusGrou"):
        make_memhacl().fit(X, y, metadata=metadata, X_unlabeled=X[:10])
    more = make_aligned_metadata("DEAP", n_subjects=4)
    with pytest.raises(ValueError, match=r"windows by \['stimulus', 'window'\]\. Pass"):
        # The error was one of a missing value in a row of both sets together.
        make_memhacl().fit(
            X,
            y,
            metadata=metadata,
            X_unlabeled=X[:40],
            metadata_unlabeled=more[["corpus", "subject"]],
        )
    make_memhacl().fit(
        X, y, metadata=metadata, X_unlabeled=X[:40], metadata_unlabeled=more
    )
    assert len(pretrained_on[-1][0]) == 100


def test_labeled_windows_of_the_target_alone_fine_tune(windows):
    """Across corpora the others pre-train; their labels may even contradict."""
    X, y = windows
    wrong = np.where(y == "calm", "tense", "calm")
    classifier = make_classifier()
    classifier.fit(X[:40], wrong[:40], X_target_labeled=X[:40], y_target_labeled=y[:40])
    assert classifier.score(X[40:], y[40:]) >= 0.9
    plain = make_classifier().fit(X[:40], wrong[:40])
    a, b = (c.pretrainer_.module_.encoder.state_dict() for c in (classifier, plain))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_an_unsuitable_calibration_is_named_before_pre_training(windows, monkeypatch):
    X, y = windows
    monkeypatch.setattr(SSLPretrainer, "fit", None)
    classifier = make_classifier()
    for X_known, y_known, message in (
        (X[:2], ["calm", "sad"], "unseen labels.*'sad'"),
        (X[:2, :3], y[:2], r"X_target_labeled .*\(2, 3, 100\)"),
        (X[:2], y[:3], r"inconsistent numbers of samples: \[2, 3\]"),
        (X[:2], None, "X_target_labeled needs its labels, y_target_labeled"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier.fit(X, y, X_target_labeled=X_known, y_target_labeled=y_known)


def test_the_pretrainer_receives_settings_and_subjects(windows):
    """Its validation holds out subjects, of the further windows too."""
    X, y = windows
    classifier = make_classifier(
        pretrainer__validation=0.5, pretrain_epochs=1, finetune_steps=0
    ).fit(X, y, subjects=np.arange(60) // 20, X_unlabeled=X[:20])
    batches = classifier.pretrainer_.history[0, "batches"]
    assert sum(b.get("valid_batch_size", 0) for b in batches) == 40


# -- fine-tuning -----------------------------------------------------------------


@pytest.mark.parametrize("finetune", ["linear-probe", "layer-decay", "gradual"])
def test_strategies_of_fine_tuning(windows, finetune):
    X, y = windows
    classifier = make_classifier(finetune=finetune, finetune_lr=0.02).fit(
        X[:40], y[:40]
    )
    assert classifier.score(X[40:], y[40:]) >= 0.8
    before = classifier.pretrainer_.module_.encoder.state_dict()
    after = classifier.net_.module_.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    head = {name for name in before if name.startswith("final_layer")}
    assert head <= changed
    assert (changed == head) == (finetune == "linear-probe")


def test_a_fine_tuning_that_diverges_is_an_error(windows):
    """Its probabilities were NaN, and ``predict`` returned the first class."""
    settings = {"pretrain_steps": 0, "finetuner__gradient_clip_value": None}
    with pytest.raises(FloatingPointError, match=r"Lower finetune_lr, which is 1e\+30"):
        make_classifier(finetune_lr=1e30, **settings).fit(*windows)


def test_balanced_weights_are_those_of_scikit_learn(windows):
    """Thirty windows of one class and ten of the other: 40 / (2 * n)."""
    X, y = windows
    rows = (
        np.flatnonzero(y == "tense").tolist()
        + np.flatnonzero(y == "calm")[:10].tolist()
    )
    settings = {"pretrain_steps": 0, "finetune_steps": 1}
    found = [
        make_classifier(class_weight=class_weight, **settings)
        .fit(X[rows], y[rows])
        .net_.criterion_.weight
        for class_weight in (None, "balanced", {"calm": 3.0})
    ]
    assert found[0] is None
    np.testing.assert_allclose(found[1], [40 / 20, 40 / 60], rtol=1e-6)
    np.testing.assert_allclose(found[2], [3, 1])


def test_a_calibration_may_lack_a_class_that_has_a_weight(windows):
    X, y = windows
    calm = np.flatnonzero(y == "calm")
    classifier = make_classifier(class_weight="balanced", pretrain_steps=0)
    classifier.fit(X, y, X_target_labeled=X[calm], y_target_labeled=y[calm])
    assert set(classifier.predict(X)) == {"calm"}


@pytest.mark.parametrize("unit", ["steps", "epochs"])
def test_the_length_is_picked_on_held_out_training_subjects(
    windows, finetuned_on, unit
):
    """The length is that of the lowest loss, and all else as if it had been given."""
    X, y = windows
    subjects = np.arange(60) // 12
    y = np.where(subjects == 3, y[::-1], y)  # learning lasts too long
    length = {f"finetune_{unit}": 40 if unit == "steps" else 15}
    classifier = make_classifier(validation=0.4, finetune_lr=0.01, **length)
    classifier.fit(X, y, subjects=subjects)
    held_out = classifier.validation_subjects_["subject"]
    assert len(held_out) == 2
    expected = X[~np.isin(subjects, held_out)].astype(np.float32)
    assert np.array_equal(finetuned_on[0][0], expected)
    assert len(finetuned_on[1][0]) == 60
    losses = classifier.validation_history_[:, "valid_loss"]
    best = 1 + int(np.argmin(losses))
    assert best < len(losses)
    n_picked = best * (2 if unit == "steps" else 1)
    plain = make_classifier(
        finetune_lr=0.01,
        **{f"finetune_{unit}": n_picked},
        finetuner__schedule_length=length[f"finetune_{unit}"],
    ).fit(X, y)
    assert classifier.n_steps_ == plain.n_steps_
    assert np.array_equal(classifier.predict_proba(X), plain.predict_proba(X))


def test_subjects_of_two_corpora_are_different_people(windows):
    """Subject 1 of SEED and of DEAP were held out as one."""
    X, y = windows
    metadata = pd.DataFrame(
        {"corpus": np.repeat(["SEED", "DEAP"], 30), "subject": np.arange(60) // 15 % 2}
    )
    settings = {"validation": 0.25, "pretrain_steps": 0, "finetune_steps": 2}
    classifier = make_classifier(**settings).fit(X, y, metadata=metadata)
    assert classifier.validation_subjects_.shape == (1, 2)


@pytest.mark.parametrize(("validation", "n_subjects"), [(0.2, 1), (0.9, 3), (0.0, 5)])
def test_an_impossible_validation_is_refused(windows, validation, n_subjects):
    subjects = np.arange(60) % n_subjects
    message = f"got {validation} of {n_subjects} subjects"
    with pytest.raises(ValueError, match=message):
        make_classifier(validation=validation).fit(*windows, subjects=subjects)


@pytest.mark.parametrize("settings", [{}, {"finetuner__patience": 2}])
def test_given_validation_windows_stop_the_training(windows, settings):
    """The weights with the lowest loss on them are kept; none of them trains."""
    X, y = windows
    wrong = np.where(y[40:] == "calm", "tense", "calm")
    classifier = make_classifier(finetune_lr=0.02, validation=0.5, **settings)
    classifier.fit(X[:40], y[:40], X_val=X[40:], y_val=wrong)
    losses = classifier.validation_history_[:, "valid_loss"]
    best = 1 + int(np.argmin(losses))
    assert len(losses) == (best + 2 if settings else 20)
    assert classifier.n_steps_ == 2 * best < 40
    codes = (wrong == "tense").astype(int)
    loss = -np.log(classifier.predict_proba(X[40:])[np.arange(20), codes]).mean()
    assert loss == pytest.approx(min(losses), rel=1e-4)
    assert classifier.validation_subjects_ is None


# -- signals ---------------------------------------------------------------------


def make_epochs(X, names=("Fz", "Cz", "Pz", "Oz"), sfreq=SFREQ, types="eeg"):
    return mne.EpochsArray(X * 1e-6, make_info(names, sfreq, types), verbose=False)


ORDER = ["Oz", "Fz", "Pz", "Cz"]


def test_epochs_give_the_same_as_their_array_in_microvolts(windows):
    X, y = windows
    from_array = make_classifier().fit(X, y).predict_proba(X)
    epochs = make_epochs(X)
    from_epochs = make_classifier(sfreq=None).fit(epochs, y).predict_proba(epochs)
    np.testing.assert_allclose(from_epochs, from_array, rtol=1e-3, atol=1e-4)


def test_epochs_are_reordered_by_name_everywhere(windows, pretrained_on):
    """An accuracy of 1.0 became 0.45 when the channels came in another order."""
    X, y = windows
    epochs = make_epochs(X)
    other = epochs.copy().reorder_channels(ORDER)
    classifier = make_classifier(sfreq=None).fit(epochs, y)
    expected = classifier.predict_proba(epochs)
    assert np.array_equal(classifier.predict_proba(other), expected)
    lower = other.copy().rename_channels(str.lower)
    assert np.array_equal(classifier.predict_proba(lower), expected)
    full = {
        "X_unlabeled": epochs,
        "X_target_unlabeled": epochs,
        "X_target_labeled": epochs,
        "X_val": epochs,
    }
    labels = {"y_target_labeled": y, "y_val": y}
    found = [
        clone(classifier)
        .fit(epochs, y, **labels, **dict.fromkeys(full, more))
        .predict_proba(epochs)
        for more in (epochs, other)
    ]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(pretrained_on[-1][0], pretrained_on[-2][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("Fz", "Cz", "Pz", "O1")}, "but Oz is missing from Fz, Cz, Pz, O1"),
        ({"sfreq": 50.0}, "of the training windows, 100 Hz, but has 50 Hz"),
        ({"types": ["eeg", "eeg", "eeg", "eog"]}, "Oz is 'eog', not 'eeg'"),
    ],
)
def test_epochs_of_other_signals_are_refused(windows, change, message):
    """They were accepted silently: other names, another rate, other types."""
    X, y = windows
    classifier = make_classifier(sfreq=None, pretrain_steps=0, finetune_steps=0)
    classifier.fit(make_epochs(X), y)
    other = make_epochs(X, **change)
    with pytest.raises(ValueError, match=f"X must have .*{message}"):
        classifier.predict(other)
    with pytest.raises(ValueError, match=f"X_unlabeled must have .*{message}"):
        classifier.fit(make_epochs(X), y, X_unlabeled=other)


def test_predictions_do_not_need_the_device_of_the_training(windows):
    """A classifier of a GPU could not predict where there is none."""
    X, y = windows
    classifier = make_classifier(pretrain_steps=0, finetune_steps=1).fit(X, y)
    expected = classifier.predict_proba(X)
    classifier.device = "meta"
    state = torch.get_rng_state()
    assert np.array_equal(classifier.predict_proba(X), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_declared_channels_order_the_epochs(windows):
    X, y = windows
    epochs = make_epochs(X)
    settings = {"pretrain_steps": 0, "finetune_steps": 1}
    expected = make_classifier(**settings).fit(epochs, y).predict_proba(X)
    classifier = make_classifier(**settings, chs_info=epochs.info["chs"])
    classifier.fit(epochs.copy().reorder_channels(ORDER), y)
    assert np.array_equal(classifier.predict_proba(X), expected)
    assert classifier.signal_.names == ["Fz", "Cz", "Pz", "Oz"]
    with pytest.raises(
        ValueError, match="of sfreq and chs_info, 100 Hz, but has 50 Hz"
    ):
        make_classifier().fit(make_epochs(X, sfreq=50.0), y)


def test_metadata_of_epochs_reach_pre_training(windows, pretrained_on):
    X, y = windows
    metadata = make_aligned_metadata()
    epochs = make_epochs(X)
    epochs.metadata = metadata
    make_classifier(sfreq=None).fit(epochs, y, subjects=np.zeros(60))
    assert pretrained_on[0][1].equals(metadata)
    other = metadata.assign(subject=9)
    make_classifier(sfreq=None).fit(epochs, y, metadata=other, X_unlabeled=epochs[:5])
    assert pretrained_on[1][1]["subject"].tolist() == [0] * 5 + [9] * 60


# -- MOABB and memory ------------------------------------------------------------


#: Differential entropy of the recordings as they are: to filter and resample is slow.
UNFILTERED = {
    "target": "valence",
    "window": 2.0,
    "features": "de",
    "fmin": None,
    "fmax": None,
    "resample": None,
}


def test_each_fold_of_moabb_pretrains_on_its_training_subjects_alone(
    deap_root, tmp_path, monkeypatch
):
    """No window of the test subject may reach pre-training, in any fold."""
    dataset = DEAP(subjects=[1, 2], path=deap_root)
    paradigm = Emotion(**UNFILTERED)
    X, _, metadata = paradigm.get_data(dataset)
    rows = {row.tobytes(): i for i, row in enumerate(X.astype(np.float32))}
    fits = []

    def fit(self, windows, *args, metadata=None, **kwargs):
        found = {rows[row.tobytes()] for row in windows}
        fits.append((set(subjects.iloc[list(found)]), len(windows)))
        assert set(metadata["subject"]) == fits[-1][0]
        return original(self, windows, *args, metadata=metadata, **kwargs)

    subjects = metadata["subject"]
    original = SSLPretrainer.fit
    monkeypatch.setattr(SSLPretrainer, "fit", fit)
    classifier = make_classifier(
        sfreq=None, pretrain_steps=1, finetune_steps=1, model__input_domain="de"
    )
    evaluation = CrossSubjectEvaluation(paradigm, [dataset], hdf5_path=tmp_path)
    results = evaluation.process({"SCMM": make_pipeline(classifier)})
    n_windows = subjects.value_counts()
    # The fold that tests subject 1 comes first.
    assert fits == [({2}, n_windows[2]), ({1}, n_windows[1])]
    assert len(results) == 2


def test_variants_of_fine_tuning_share_their_pre_training(
    windows, tmp_path, pretrained_on
):
    """Five variants pre-trained five times; results must be the same as then."""
    X, y = windows
    variants = [
        {"finetune": "full"},
        {"finetune": "linear-probe", "finetune_steps": 5},
        {"finetune": "gradual", "class_weight": "balanced"},
    ]
    alone = [make_classifier(**v).fit(X, y) for v in variants]
    assert len(pretrained_on) == 3
    memory = tmp_path / "memory"
    shared = [make_classifier(**v, memory=memory).fit(X, y) for v in variants]
    assert len(pretrained_on) == 4
    for one, other in zip(alone, shared, strict=True):
        assert np.array_equal(one.predict_proba(X), other.predict_proba(X))
        losses = [c.pretrainer_.history[:, "train_loss"] for c in (one, other)]
        assert losses[0] == losses[1]
    make_classifier(memory=memory).fit(X[:50], y[:50])
    assert len(pretrained_on) == 5


@pytest.mark.slow
def test_folds_in_parallel_are_the_folds_one_by_one(deap_root, tmp_path):
    """Two pipelines of two folds each, in processes of their own, with a scaler."""
    paradigm = Emotion(**UNFILTERED)
    pipelines = {
        finetune: make_pipeline(
            SubjectScaler(),
            make_classifier(
                sfreq=None,
                pretrain_steps=1,
                finetune_steps=2,
                model__input_domain="de",
                finetune=finetune,
                memory=tmp_path / "memory",
            ),
        )
        for finetune in ("full", "gradual")
    }
    scores = []
    for n_jobs in (2, 1):
        dataset = DEAP(subjects=[1, 2], path=deap_root)
        evaluation = CrossSubjectEvaluation(
            paradigm, [dataset], hdf5_path=tmp_path / str(n_jobs), n_jobs=n_jobs
        )
        results = evaluation.process(pipelines)
        scores.append(results.sort_values(["pipeline", "subject"])["score"].tolist())
    assert len(scores[0]) == 4 and scores[0] == scores[1]
    assert len(list((tmp_path / "memory").glob("*/checkpoint"))) == 2


@pytest.mark.gpu
def test_it_trains_on_a_gpu_and_predicts_the_same_again(windows, tmp_path):
    X, y = windows
    settings = {"device": "auto", "validation": 0.4, "memory": tmp_path}
    subjects = np.arange(60) // 12
    classifier = make_classifier(**settings).fit(X, y, subjects=subjects)
    assert next(classifier.net_.module_.parameters()).is_cuda
    again = make_classifier(**settings).fit(X, y, subjects=subjects)
    for other in (again, pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_allclose(
            other.predict_proba(X), classifier.predict_proba(X), atol=1e-4
        )


def test_scikit_learn_knows_that_windows_have_three_dimensions():
    tags = get_tags(SSLClassifier(random_state=0))
    assert tags.input_tags.three_d_array and not tags.input_tags.two_d_array
    assert not tags.non_deterministic and get_tags(SSLClassifier()).non_deterministic


def test_callbacks_of_skorch_in_both_trainings(windows):
    """There was no way to pass any to fine-tuning."""
    stopping = EarlyStopping(monitor="train_loss", patience=2)
    classifier = make_classifier(
        pretrain_epochs=30,
        finetune_epochs=30,
        pretrain_lr=1e-9,
        finetune_lr=1e-9,
        pretrainer__callbacks=[stopping],
        finetuner__callbacks=[clone(stopping, safe=False)],
        finetuner__iterator_train__shuffle=False,
    ).fit(*windows)
    assert len(classifier.pretrainer_.history) < 30
    assert len(classifier.net_.history) < 30
