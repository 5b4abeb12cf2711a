"""The SCMM model: its sizes and its scaling.

What every model must do is in ``test_contract.py``.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from braindecode_emossl.features.layers import DifferentialEntropyLayer
from braindecode_emossl.models import SCMM


def make_model(input_domain="time", **kwargs):
    """Build a small model with weights that do not depend on the test order."""
    n_times = 5 if input_domain == "de" else 200
    sfreq = None if input_domain == "de" else 200
    settings = {"n_outputs": 3, "n_chans": 4, "n_times": n_times, "sfreq": sfreq}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SCMM(**{**settings, **kwargs}, input_domain=input_domain)


def make_input(model, batch_size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, model.n_chans, model.n_times, generator=generator)


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(params=["time", "de"])
def model(request):
    return make_model(request.param).eval()


@pytest.mark.parametrize(
    ("n_chans", "n_outputs", "encoder", "classifier"),
    [(62, 3, 98_240, 49_667), (32, 2, 90_560, 49_538)],
)
@pytest.mark.parametrize("input_domain", ["time", "de"])
def test_parameter_counts_of_the_official_code(
    input_domain, n_chans, n_outputs, encoder, classifier
):
    model = make_model(input_domain, n_chans=n_chans, n_outputs=n_outputs)
    assert n_parameters(model.final_layer) == classifier
    assert n_parameters(model) - classifier == encoder
    assert model.n_features == 384


def test_lengths_of_the_official_code():
    """Five bands take the lengths 5 -> 6 -> 4 -> 5 -> 3 -> 4 -> 3."""
    model = make_model("de").eval()
    lengths = [model.n_bands]
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.MaxPool1d):
            module.register_forward_hook(
                lambda module, args, output: lengths.append(output.shape[-1])
            )
    model(make_input(model))
    assert lengths == [5, 6, 4, 5, 3, 4, 3]


@pytest.mark.parametrize("kernel_size", [1, 3, 8])
@pytest.mark.parametrize("n_bands", [1, 2, 5, 9, 30])
@pytest.mark.parametrize("n_filters", [(8,), [8, 16], (4, 4, 4, 6)])
def test_any_number_of_bands(kernel_size, n_bands, n_filters):
    model = make_model(
        "de", n_times=n_bands, kernel_size=kernel_size, n_filters=n_filters
    )
    x = make_input(model)
    assert model.encode(x).shape == (6, model.n_features)
    assert model(x).shape == (6, 3)


def test_time_domain_computes_the_de_in_the_model():
    time, de = make_model("time").eval(), make_model("de").eval()
    de.load_state_dict(time.state_dict())
    x = make_input(time)
    features = DifferentialEntropyLayer(200, 200)(x)
    torch.testing.assert_close(time(x), de(features))
    torch.testing.assert_close(time.extract_features(x), features)


def test_fit_normalization_standardizes(model):
    x = 3 * make_input(model, 50) + 1
    raw = model.extract_features(x)
    assert model.fit_normalization(x) is model
    scaled = model.extract_features(x)
    torch.testing.assert_close(scaled, (raw - raw.mean(0)) / raw.std(0, correction=0))


@pytest.mark.parametrize("input_domain", ["time", "de"])
def test_minmax_fills_the_unit_interval(input_domain):
    model = make_model(input_domain, normalization="minmax").eval()
    x = 3 * make_input(model, 50) + 1
    raw = model.extract_features(x)
    assert model.fit_normalization(x) is model
    scaled = model.extract_features(x)
    torch.testing.assert_close(scaled.amin(dim=0), torch.zeros(4, 5))
    torch.testing.assert_close(scaled.amax(dim=0), torch.ones(4, 5))
    torch.testing.assert_close(model.feature_shift, raw.amin(dim=0))
    torch.testing.assert_close(model.feature_scale, raw.amax(dim=0) - raw.amin(dim=0))


@pytest.mark.parametrize("normalization", ["standard", "minmax"])
@pytest.mark.parametrize("chunk_size", [1, 7, 50, 1024])
def test_fit_normalization_in_chunks(chunk_size, normalization):
    whole, chunked = (make_model(normalization=normalization) for _ in range(2))
    x = make_input(whole, 50)
    whole.fit_normalization(x)
    chunked.fit_normalization(x.numpy(), chunk_size=chunk_size)
    torch.testing.assert_close(whole.feature_shift, chunked.feature_shift)
    torch.testing.assert_close(whole.feature_scale, chunked.feature_scale)


@pytest.mark.parametrize("normalization", ["standard", "minmax"])
@pytest.mark.parametrize("rounding", [0.0, 5e-7])
def test_fit_normalization_sets_the_scale_of_a_constant_to_one(normalization, rounding):
    """What rounding left of a constant was scaled to variance 1."""
    model = make_model("de", normalization=normalization)
    x = make_input(model)
    x[:, 1, 2] = 7.0
    x[0, 1, 2] += rounding
    model.fit_normalization(x)
    assert model.feature_scale[1, 2] == 1
    assert model.extract_features(x)[:, 1, 2].abs().max() <= rounding


def test_fit_normalization_forgets_the_last_fit(model):
    x = make_input(model)
    model.fit_normalization(100 * x).fit_normalization(x)
    scaled = model.extract_features(x)
    torch.testing.assert_close(scaled.mean(dim=0), torch.zeros(4, 5))


def test_fit_normalization_rejects(model):
    x = make_input(model)
    with pytest.raises(ValueError, match="at least one window, but got none"):
        model.fit_normalization(x[:0])
    x[2, 1, 3] = torch.nan
    with pytest.raises(ValueError, match="finite features"):
        model.fit_normalization(x)
    assert (model.feature_scale == 1).all()


def test_final_layer():
    linear, sigmoid, dropout, output = make_model(drop_prob=0.3).final_layer
    assert isinstance(linear, nn.Linear)
    assert isinstance(sigmoid, nn.Sigmoid)
    assert dropout.p == 0.3
    assert output.out_features == 3


def test_activation_is_that_of_the_blocks():
    model = make_model(activation=nn.ELU)
    assert sum(isinstance(module, nn.ELU) for module in model.blocks.modules()) == 3
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())


def test_hub_round_trip(model, tmp_path):
    x = make_input(model)
    model.fit_normalization(5 * x)
    model._save_pretrained(tmp_path)
    other = SCMM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(other.feature_scale, model.feature_scale)
    torch.testing.assert_close(other(x), model(x))
    other = SCMM.from_pretrained(tmp_path, n_outputs=7).eval()
    torch.testing.assert_close(other.feature_shift, model.feature_shift)
    assert other(x).shape == (6, 7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_domain": "raw"}, r"input_domain must be one of .* got 'raw'"),
        ({"sfreq": None}, "input_domain='time' needs sfreq"),
        ({"n_filters": ()}, r"n_filters must hold .* got \(\)"),
        ({"n_filters": (8, 0)}, "n_filters must hold"),
        ({"n_filters": 8}, "n_filters must hold at least one integer from 1, .* got 8"),
        ({"kernel_size": 0}, "kernel_size must be at least 1, but got 0"),
    ],
)
def test_constructor_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        make_model(**settings)


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 1, 4, 5)])
def test_forward_rejects_wrong_shapes(shape):
    message = r"of shape \(batch, n_chans, n_bands\) = \(batch, 4, 5\), but got"
    with pytest.raises(ValueError, match=message):
        make_model("de")(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"n_times\) = \(batch, 4, 200\), but got"):
        make_model("time")(torch.zeros(shape))
