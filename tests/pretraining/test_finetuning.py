"""FineTuner: strategies, steps, schedule, clipping, early stopping and weights."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold
from skorch.callbacks import Callback, EpochScoring
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import DataLoader

from braindecode_emossl.models import SCMM
from braindecode_emossl.pretraining import finetuning
from braindecode_emossl.pretraining.device_training import LabeledWindows
from braindecode_emossl.pretraining.finetuning import FineTuner, find_layers
from braindecode_emossl.pretraining.windows import WindowArray

N_LAYERS = 4


class Toy(nn.Module):
    """A token, two blocks with batch normalisation and dropout, a layer and a head."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(8))
        self.fixed = nn.Parameter(torch.ones(8), requires_grad=False)
        self.final_layer = nn.Linear(8, 2)
        self.blocks = nn.Sequential(*(self._make_block() for _ in range(2)))
        self.pool = nn.Flatten()
        self.mix = nn.Linear(8, 8)

    def forward(self, x):
        x = self.blocks(self.pool(x) * self.fixed + self.token)
        return self.final_layer(self.mix(x))

    @staticmethod
    def _make_block():
        return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Toy()


@pytest.fixture(scope="module")
def data():
    """Windows (32, 4, 2), far from zero, and labels (32,)."""
    rng = np.random.default_rng(0)
    X = rng.normal(5, 2, (32, 4, 2)).astype(np.float32)
    return X, (X.mean(axis=(1, 2)) > 5).astype(int)


def fit(model, data, **settings):
    settings = {
        "max_epochs": 1,
        "batch_size": 8,
        "lr": 0.01,
        "schedule": None,
        **settings,
    }
    return FineTuner(copy.deepcopy(model), **settings).fit(*data)


def changed(model, net):
    """Return the names of the tensors that training has changed."""
    before, after = model.state_dict(), net.module_.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def of_layers(model, layers):
    names = [n for n in model.state_dict() if n != "fixed"]
    return {n for n in names if n.startswith(tuple(layers))}


def test_layers_are_in_the_order_of_the_model_with_the_head_last(model):
    """Toy names its head first, as a model of braindecode may do."""
    assert find_layers(model) == ["blocks.0", "blocks.1", "mix", "final_layer"]


@pytest.mark.parametrize("head", [None, nn.Identity()])
def test_a_model_without_a_head_is_refused(model, head, data):
    model.final_layer = head
    message = "must have a final_layer with weights.* but Toy has the children"
    with pytest.raises(ValueError, match=message):
        find_layers(model)
    with pytest.raises(ValueError, match=message):
        fit(model, data, finetune="linear-probe")


def test_full_trains_all_weights_except_frozen_ones(model, data):
    assert changed(model, fit(model, data)) == {*model.state_dict()} - {"fixed"}


def test_a_linear_probe_trains_the_head_on_the_features_of_prediction(model, data):
    """Frozen batch normalization was updated by batches, and dropout was active.

    The head must be the same as one trained on precomputed features.
    """
    X, y = data
    net = fit(model, data, finetune="linear-probe", max_epochs=3)
    assert changed(model, net) == of_layers(model, ["final_layer"])
    model.eval()
    with torch.no_grad():
        features = model.mix(model.blocks(torch.tensor(X).flatten(1)))
    head = nn.Sequential()
    head.final_layer = copy.deepcopy(model.final_layer)
    torch.manual_seed(7)
    probe = fit(model, data, finetune="linear-probe", max_epochs=3)
    torch.manual_seed(7)
    alone = fit(head, (features.numpy(), y), max_epochs=3)
    np.testing.assert_allclose(
        probe.predict_proba(X), alone.predict_proba(features.numpy()), rtol=1e-4
    )


class OtherLoader(DataLoader):
    """A data loader of the user's, which might augment windows."""


class Halved(Toy):
    """What follows the head makes the output another one than the head's."""

    def forward(self, x):
        return super().forward(x) / 2


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 1.5, 32)])
@pytest.mark.parametrize("length", [{"max_epochs": 5}, {"max_steps": 21}])
@pytest.mark.parametrize(
    ("kind", "iterator", "is_once"),
    [(Toy, DataLoader, True), (Toy, OtherLoader, False), (Halved, DataLoader, False)],
)
def test_a_linear_probe_computes_features_once(
    kind, iterator, is_once, length, weights, data
):
    """The frozen layers were run again for every batch, most of the probe's time."""
    torch.manual_seed(0)
    model = kind()
    n_windows = 0

    def count(_, inputs):
        nonlocal n_windows
        n_windows += len(inputs[0])

    settings = {"finetune": "linear-probe", "batch_size": 8, "lr": 0.01, **length}

    def train(iterator):
        net = FineTuner(copy.deepcopy(model), iterator_train=iterator, **settings)
        net.initialize()
        net.module_.mix.register_forward_pre_hook(count)
        torch.manual_seed(7)
        return net.partial_fit(*net_data)

    X, y = data
    labels = torch.from_numpy(y)
    parts = None if weights is None else torch.from_numpy(weights).float()
    net_data = LabeledWindows(WindowArray(X), labels, parts), None
    net = train(iterator)
    assert (n_windows == len(X)) == is_once
    reference = train(OtherLoader)
    np.testing.assert_allclose(
        net.predict_proba(X), reference.predict_proba(X), rtol=1e-5
    )


class Scaled(Toy):
    """An argument of fit enters beside the windows."""

    def forward(self, x, gain=0.0):
        x = gain * self.blocks(self.pool(x) * self.fixed + self.token)
        return self.final_layer(self.mix(x))


def test_features_that_are_not_on_the_device_are_moved_there(model):
    """They stayed on the CPU where worker processes read them."""
    settings = {"finetune": "linear-probe", "max_steps": 5, "batch_size": 4}
    net = FineTuner(model.to("meta"), device="meta", **settings).initialize()
    net.history.new_epoch()
    net.reads_features_ = True
    features = torch.randn(4, 8)
    assert net.infer(features).device.type == "meta"


def test_a_linear_probe_passes_on_fit_params(data):
    """Features were computed without them."""
    torch.manual_seed(0)
    model = Scaled()
    settings = {"finetune": "linear-probe", "max_epochs": 4, "batch_size": 8}

    def train(iterator):
        torch.manual_seed(7)
        net = FineTuner(copy.deepcopy(model), iterator_train=iterator, **settings)
        return net.fit(*data, gain=3.0).history[:, "train_loss"]

    np.testing.assert_allclose(train(DataLoader), train(OtherLoader), rtol=1e-5)


class Asking(Callback):
    """Predict other windows during the training."""

    def __init__(self, X):
        self.X = X

    def on_epoch_end(self, net, **kwargs):
        net.predict_proba(self.X)


def test_a_callback_predicts_during_a_linear_probe(model, data):
    """The head was applied to its windows."""
    callbacks = [("asking", Asking(data[0][:5]))]
    fit(model, data, finetune="linear-probe", max_epochs=2, callbacks=callbacks)


def test_the_validation_loader_does_not_order_a_linear_probe(model, data):
    """Features of shuffled windows were paired with the labels of others."""

    def train(**settings):
        torch.manual_seed(7)
        settings = {"finetune": "linear-probe", "max_epochs": 4, **settings}
        return fit(model, data, **settings).history[:, "train_loss"]

    assert train() == train(iterator_valid__shuffle=True)


class InBlocks(Toy):
    """The head sees four rows for each window."""

    def forward(self, x):
        x = self.mix(self.blocks(self.pool(x) * self.fixed + self.token))
        return self.final_layer(x.repeat_interleave(4, dim=0))[::4]


def test_a_head_that_does_not_see_windows(data):
    torch.manual_seed(0)
    fit(InBlocks(), data, finetune="linear-probe", max_epochs=2)


def test_features_too_large_to_be_kept_are_computed_again(model, data, monkeypatch):
    settings = {"finetune": "linear-probe", "max_epochs": 3}
    torch.manual_seed(7)
    expected = fit(model, data, **settings).history[:, "train_loss"]
    monkeypatch.setattr(finetuning, "_MOST_BYTES", 100)
    torch.manual_seed(7)
    found = fit(model, data, **settings).history[:, "train_loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradual_adds_one_layer_per_epoch_from_the_head_down(model, data):
    layers = find_layers(model)
    for n_epochs in range(1, N_LAYERS + 2):
        net = fit(model, data, finetune="gradual", max_epochs=n_epochs)
        expected = of_layers(model, layers[-n_epochs:])
        # The token enters at the start, so it belongs to the first layer.
        expected |= {"token"} if n_epochs >= N_LAYERS else set()
        assert changed(model, net) == expected, n_epochs


def test_layer_decay_slows_each_layer_by_its_distance_from_the_head(model, data):
    net = fit(
        model, data, finetune="layer-decay", layer_decay=0.5, optimizer=torch.optim.SGD
    )
    rates = {
        id(weight): group["lr"]
        for group in net.optimizer_.param_groups
        for weight in group["params"]
    }
    expected = {"final_layer": 1, "mix": 0.5, "blocks.1": 0.25, "blocks.0": 0.125}
    expected["token"] = 0.125
    for name, weight in net.module_.named_parameters():
        for layer, ratio in expected.items():
            if name.startswith(layer):
                assert rates[id(weight)] == pytest.approx(0.01 * ratio), name
    assert len(rates) == len(list(model.parameters()))
    assert "fixed" not in changed(model, net)


def test_without_decay_layer_decay_is_full(model, data):
    torch.manual_seed(3)
    full = fit(model, data, max_epochs=2)
    torch.manual_seed(3)
    same = fit(model, data, max_epochs=2, finetune="layer-decay", layer_decay=1.0)
    np.testing.assert_allclose(
        same.predict_proba(data[0]), full.predict_proba(data[0]), rtol=1e-5
    )


@pytest.mark.parametrize("batch_size", [8, 30, 100])
@pytest.mark.parametrize("max_steps", [0, 1, 7, 45])
def test_the_number_of_steps_is_exact(model, data, batch_size, max_steps):
    """Epochs meant 30 updates on one data set and thousands on another."""
    net = fit(model, data, max_steps=max_steps, batch_size=batch_size)
    assert net.n_steps_ == max_steps
    assert sum(epoch["train_batch_count"] for epoch in net.history) == max_steps
    assert len(net.history) <= 20


def test_steps_are_those_of_epochs(model, data):
    """Three epochs of four batches are twelve steps, with the same batches."""
    nets = []
    for length in ({"max_epochs": 3}, {"max_steps": 12}):
        torch.manual_seed(3)
        nets.append(fit(model, data, schedule="cosine", **length))
    probabilities = [net.predict_proba(data[0]) for net in nets]
    np.testing.assert_allclose(*probabilities, rtol=1e-6)


@pytest.mark.parametrize("length", [{"max_steps": 12}, {"max_epochs": 3}])
def test_the_cosine_falls_to_zero_over_the_whole_training(model, data, length):
    class Rates(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            found.append(net.optimizer_.param_groups[0]["lr"])

    found = []
    fit(model, data, schedule="cosine", callbacks=[Rates()], **length)
    expected = 0.01 * 0.5 * (1 + np.cos(np.pi * np.arange(12) / 12))
    np.testing.assert_allclose(found, expected)


def test_a_training_cut_short_is_the_start_of_the_long_one(model, data):
    """Validation picks a number of steps; these must see the rates they were tried at.

    The first entries of the history of both must agree.
    """
    histories = []
    for settings in ({"max_steps": 40}, {"max_steps": 10, "schedule_length": 40}):
        torch.manual_seed(3)
        net = fit(model, data, schedule="cosine", **settings)
        histories.append(net.history[:, "train_loss"])
    assert histories[1] == histories[0][:5] and len(histories[0]) == 20


def test_gradients_are_clipped_by_default(model, data):
    """With SGD, a step is at most the learning rate times the largest norm."""
    X, y = data
    settings = {"optimizer": torch.optim.SGD, "lr": 1.0, "max_steps": 1}
    lengths = []
    for clip in ({"gradient_clip_value": None}, {}):
        torch.manual_seed(3)
        net = fit(model, (100 * X, y), **settings, **clip)
        steps = [
            (weight - model.get_parameter(name)).flatten()
            for name, weight in net.module_.named_parameters()
        ]
        lengths.append(torch.cat(steps).norm().item())
    assert lengths[0] > 1.5 and lengths[1] == pytest.approx(1.0, rel=1e-3)


def test_weight_decay_is_settable(model, data):
    """A large decay with a zero gradient shrinks a weight by 1 - lr * decay a step."""
    net = fit(model, data, optimizer__weight_decay=10.0, max_steps=3, batch_size=32)
    plain = fit(model, data, optimizer__weight_decay=0.0, max_steps=3, batch_size=32)
    norms = [n.module_.mix.weight.norm().item() for n in (net, plain)]
    assert norms[0] < 0.8 * norms[1]


def test_early_stopping_restores_the_best_weights(model, data):
    X, y = data
    held_out = SkorchDataset(X[:8], 1 - y[:8])  # gets worse with training
    net = fit(
        model,
        (X, y),
        max_steps=400,
        patience=2,
        lr=0.05,
        train_split=predefined_split(held_out),
    )
    losses = net.history[:, "valid_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 20
    with torch.no_grad():
        net.module_.eval()
        logits = net.module_(torch.tensor(X[:8]))
    loss = nn.functional.cross_entropy(logits, torch.tensor(1 - y[:8]))
    assert float(loss) == pytest.approx(losses[best], rel=1e-5)


def test_weights_of_one_are_no_weights_and_a_zero_removes_a_window(model, data):
    X, y = data
    settings = {
        "batch_size": 32,
        "max_steps": 3,
        "criterion__weight": torch.tensor([1.0, 3.0]),
        "iterator_train__shuffle": False,
        "finetune": "linear-probe",  # dropout and batch normalization are off
    }
    make = partial(FineTuner, lr=0.01, **settings)
    plain = make(copy.deepcopy(model)).fit(X, y).predict_proba(X)
    ones = make(copy.deepcopy(model)).fit(X, y, sample_weight=np.full(32, 2.0))
    np.testing.assert_allclose(ones.predict_proba(X), plain, rtol=1e-6)
    kept = np.arange(32) % 2 == 0
    settings.pop("criterion__weight")
    make = partial(FineTuner, lr=0.01, **settings)
    zeros = make(copy.deepcopy(model)).fit(X, y, sample_weight=kept)
    half = make(copy.deepcopy(model)).fit(X[kept], y[kept])
    np.testing.assert_allclose(zeros.predict_proba(X), half.predict_proba(X), rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_callbacks_of_skorch_score_and_split_as_elsewhere(model, data, weighted):
    """Scores of the training set failed, and with weights any score and split."""
    X, y = data
    weights = {"sample_weight": np.linspace(1, 2, 32)} if weighted else {}
    scores = [
        EpochScoring("accuracy", on_train=True, name=name, use_caching=name == "cached")
        for name in ("cached", "read")
    ]
    callbacks = [*((score.name, score) for score in scores), "accuracy"]
    for split in (None, ValidSplit(4, stratified=True)):
        net = FineTuner(
            copy.deepcopy(model),
            max_epochs=2,
            batch_size=8,
            callbacks=callbacks,
            train_split=split,
        ).fit(X, y, **weights)
        assert net.history[-1, "read"] == net.history[-1, "train_accuracy"]
        batches = net.history[-1, "batches"]
        n_trained = sum(batch.get("train_batch_size", 0) for batch in batches)
        n_right = net.history[-1, "cached"] * n_trained
        assert n_right == pytest.approx(round(n_right))
        if split is not None:
            rows = next(StratifiedKFold(4).split(X, y))[1]
            right = net.predict(X[rows]) == y[rows]
            assert net.history[-1, "valid_accuracy"] == right.mean()
            assert sum(net.history[-1, "batches", :, "train_batch_size"]) == 24


def test_windows_may_be_in_a_dict_without_weights(model, data):
    """Any dict was taken for windows with their weights."""
    X, y = data
    net = fit(model, ({"x": X}, y), max_steps=3, batch_size=32)
    plain = fit(model, data, max_steps=3, batch_size=32)
    assert changed(model, net) == changed(model, plain)


def test_a_rate_that_is_set_is_that_of_the_next_training(model, data):
    """The cosine began from the rate of the first training."""
    rates = []

    class Watch(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    settings = {"schedule": "cosine", "callbacks": [("watch", Watch())]}
    net = fit(model, data, **settings)
    assert max(rates) == rates[0] == 0.01
    net.set_params(lr=0.001).partial_fit(*data)
    assert rates[4:] == pytest.approx([rate / 10 for rate in rates[:4]])


def test_a_criterion_without_reduction_takes_no_weights(model, data):
    class Own(nn.Module):
        def forward(self, logits, labels):
            return nn.functional.cross_entropy(logits, labels)

    X, y = data
    with pytest.raises(TypeError, match="sample_weight needs a criterion with a redu"):
        FineTuner(model, criterion=Own).fit(X, y, sample_weight=np.ones(32))


def test_a_single_window_left_over_is_skipped(model, data):
    """Batch normalization raised on a batch of one window: 33 windows, batches of 8."""
    X, y = (np.concatenate([part, part[:1]]) for part in data)
    net = fit(model, (X, y))
    assert [b["train_batch_size"] for b in net.history[0, "batches"]] == [8] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"finetune": "probe"}, "finetune must be one of .*'gradual'.* got 'probe'"),
        ({"finetune": "layer-decay", "layer_decay": 0}, r"in \(0, 1\], but got 0"),
        ({"finetune": "layer-decay", "layer_decay": 1.5}, r"in \(0, 1\], but got 1.5"),
        ({"max_steps": -1}, "max_steps must be at least 0, but got -1"),
        ({"schedule": "linear"}, "schedule must be 'cosine' or None, but got 'linear'"),
        ({"gradient_clip_value": 0}, "gradient_clip_value must be .* but got 0"),
        ({"patience": 3}, "patience must be .* with validation data, but got 3"),
    ],
)
def test_bad_settings_are_named(model, data, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(model, data, **settings)


def test_a_net_trained_on_a_gpu_is_unpickled_without_one(model, data):
    """The model was pickled twice, once where skorch does not look for weights.

    It could not be read on a machine without a GPU then.
    """
    net = fit(model, data)
    rest = net.__getstate__()
    assert not any(isinstance(value, nn.Module) for value in rest.values())
    again = pickle.loads(pickle.dumps(net))
    assert again.module is again.module_
    assert np.array_equal(again.predict_proba(data[0]), net.predict_proba(data[0]))


@pytest.mark.parametrize("first", ["linear-probe", "gradual"])
def test_a_probe_leaves_the_model_trainable(first):
    """Weights that it had frozen stayed frozen in a later fine-tuning of the model."""
    torch.manual_seed(0)
    model = SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de")
    model.blocks[2].requires_grad_(False)  # of the user's own
    x, y = torch.randn(16, 4, 5).numpy(), np.arange(16) % 2
    FineTuner(model, finetune=first, max_epochs=1, batch_size=8).fit(x, y)
    weights = {k: v.detach().clone() for k, v in model.named_parameters()}
    FineTuner(model, finetune="full", max_epochs=1, batch_size=8).fit(x, y)
    for name, weight in model.named_parameters():
        is_own = name.startswith("blocks.2.")
        assert torch.equal(weight, weights[name]) == is_own, name
