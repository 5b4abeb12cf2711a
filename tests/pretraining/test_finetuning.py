"""FineTuner: which layers learn, how fast, and from when on."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from braindecode_emossl.pretraining.finetuning import FineTuner, find_layers

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
    settings = {"max_epochs": 1, "batch_size": 8, "lr": 0.01, **settings}
    return FineTuner(copy.deepcopy(model), **settings).fit(*data)


def changed(model, net):
    """Return the names of all that training has changed."""
    before, after = model.state_dict(), net.module_.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def of_layers(model, layers):
    names = [n for n in model.state_dict() if n != "fixed"]
    return {n for n in names if n.startswith(tuple(layers))}


def test_layers_come_in_the_order_of_the_model_and_the_head_last(model):
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


def test_full_trains_all_but_what_the_model_keeps_frozen(model, data):
    assert changed(model, fit(model, data)) == {*model.state_dict()} - {"fixed"}


def test_a_linear_probe_trains_the_head_on_the_features_of_prediction(model, data):
    """Frozen batch normalisation went on following the batches, and dropout dropped.

    The head must come out as if it was trained on features computed once.
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


def test_gradual_takes_one_more_layer_an_epoch_from_the_head_down(model, data):
    layers = find_layers(model)
    for n_epochs in range(1, N_LAYERS + 2):
        net = fit(model, data, finetune="gradual", max_epochs=n_epochs)
        expected = of_layers(model, layers[-n_epochs:])
        # The token enters at the start, so with the first layer.
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"finetune": "probe"}, "finetune must be one of .*'gradual'.* got 'probe'"),
        ({"finetune": "layer-decay", "layer_decay": 0}, r"in \(0, 1\], but got 0"),
        ({"finetune": "layer-decay", "layer_decay": 1.5}, r"in \(0, 1\], but got 1.5"),
    ],
)
def test_bad_settings_are_named(model, data, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(model, data, **settings)


def test_what_a_gpu_has_trained_is_unpickled_without_one(model, data):
    """The model was pickled a second time, where skorch does not look for weights.

    It then could not be read on a machine without a GPU. What skorch moves to the
    device at hand is apart from the rest of the state.
    """
    net = fit(model, data)
    rest = net.__getstate__()
    assert not any(isinstance(value, nn.Module) for value in rest.values())
    again = pickle.loads(pickle.dumps(net))
    assert again.module is again.module_
    assert np.array_equal(again.predict_proba(data[0]), net.predict_proba(data[0]))
