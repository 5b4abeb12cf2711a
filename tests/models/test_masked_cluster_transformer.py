"""MaskedClusterTransformer: its tokens, and what braindecode expects of a model."""

from __future__ import annotations

import copy
import inspect
import json
import pickle

import mne
import pytest
import torch
from braindecode.models.config import make_model_config
from braindecode.models.util import models_dict
from torch import nn

from braindecode_emossl.models import MaskedClusterTransformer

SMALL = {
    "n_filters": 16,
    "emb_dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "dim_feedforward": 48,
}


def make_model(**kwargs):
    """Build a small model with weights that do not depend on the test order."""
    settings = {"n_outputs": 3, "n_chans": 4, "n_times": 256, "sfreq": 128, **SMALL}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MaskedClusterTransformer(**{**settings, **kwargs})


def make_input(model, batch_size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, model.n_chans, model.n_times, generator=generator)


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def model():
    return make_model().eval()


@pytest.mark.parametrize(
    ("sfreq", "token_stride"), [(100, 12), (128, 16), (160, 20), (200, 24), (250, 32)]
)
@pytest.mark.parametrize("seconds", [0.5, 1.0, 4.0, 10.0])
def test_tokens_are_of_about_125_ms(sfreq, token_stride, seconds):
    model = make_model(sfreq=sfreq, n_times=int(seconds * sfreq))
    assert model.token_stride == token_stride
    assert model.token_stride / sfreq == pytest.approx(0.125, rel=0.05)
    assert model.n_tokens == int(seconds * sfreq) // token_stride
    x = make_input(model, 2)
    assert model.extract_features(x).shape == (2, model.n_tokens, 16)
    assert model(x).shape == (2, 3)


def test_eight_seconds_at_128_hz_have_64_tokens():
    assert make_model(n_times=1024).n_tokens == 64


def test_parameter_count_of_the_defaults():
    """By hand, from the sizes in the docstring, with 32 channels and 2 outputs."""
    model = MaskedClusterTransformer(n_outputs=2, n_chans=32, n_times=1024, sfreq=128)
    convolutions = 256 * 32 * 10 + 2 * 256 + 256 * 256 * 3 + 256 * 256 * 2
    projection = 2 * 256 + 256 * 256 + 256
    position = 256 * 16 * 31 + 256 + 2 * 256
    attention = 4 * (256 * 256 + 256)
    layer = attention + 2 * 256 * 1024 + 1024 + 256 + 4 * 256
    head = 2 * 256 + 256 * 2 + 2
    assert n_parameters(model) == (
        convolutions + projection + position + 6 * layer + head
    )


@pytest.mark.parametrize(
    ("strides", "kernel_sizes", "expected"),
    [
        ((4, 2, 2), None, [10, 3, 2]),
        ((5,), None, [13]),
        ([3, 2, 2, 2], None, [8, 3, 3, 2]),
        ((4, 4), (9, 4), [9, 4]),
    ],
)
def test_strides_and_kernels(strides, kernel_sizes, expected):
    model = make_model(strides=strides, kernel_sizes=kernel_sizes, sfreq=None)
    found = [m for m in model.convolutions.modules() if isinstance(m, nn.Conv1d)]
    assert [convolution.kernel_size[0] for convolution in found] == expected
    x = make_input(model)
    assert model.extract_features(x).shape == (6, 256 // model.token_stride, 16)


def test_a_token_stands_for_its_samples(model):
    """A change of some samples is seen by the tokens of these samples, and few more."""
    x = make_input(model, 1)
    changed = x.clone()
    changed[..., 5 * 16 : 6 * 16] += 3
    difference = model.extract_features(changed) - model.extract_features(x)
    is_changed = difference.abs().sum(dim=(0, 2)) > 1e-6
    assert is_changed[5]
    assert is_changed[4:7].sum() == is_changed.sum()


def test_pre_emphasis_is_a_difference():
    with_it, without = make_model(pre_emphasis=0.9), make_model(pre_emphasis=0.0)
    with_it.eval()
    without.eval()
    x = make_input(with_it)
    emphasized = x.clone()
    emphasized[..., 0] = 0.1 * x[..., 0]
    for t in range(1, x.shape[-1]):
        emphasized[..., t] = x[..., t] - 0.9 * x[..., t - 1]
    torch.testing.assert_close(with_it(x), without(emphasized))


def test_offsets_do_not_matter_with_full_pre_emphasis():
    model = make_model(pre_emphasis=1.0).eval()
    x = make_input(model)
    torch.testing.assert_close(model(x + 100), model(x), atol=1e-3, rtol=1e-3)


def test_windows_do_not_see_each_other(model):
    x = make_input(model)
    torch.testing.assert_close(model(x)[:1], model(x[:1]), atol=1e-5, rtol=1e-5)


def test_every_token_sees_every_other(model):
    tokens = make_input(model, 1)[:, :, :32].repeat(1, 4, 1).requires_grad_()
    hidden = model.encode(tokens)
    assert len(hidden) == 2
    assert hidden[-1].shape == tokens.shape
    hidden[-1][0, 0].square().sum().backward()
    assert (tokens.grad[0].abs().sum(dim=-1) > 0).all()


def test_the_order_of_tokens_matters(model):
    tokens = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(0))
    order = torch.arange(15, -1, -1)
    turned = model.encode(tokens[:, order])[-1][:, order]
    assert not torch.allclose(turned, model.encode(tokens)[-1], atol=1e-2)


@pytest.mark.parametrize("n_chans", [1, 2, 62, 128])
def test_any_number_of_channels(n_chans):
    model = make_model(n_chans=n_chans)
    assert model(make_input(model)).shape == (6, 3)
    assert model.get_output_shape() == (1, 3)


def test_zero_input_is_finite(model):
    assert model(torch.zeros(2, model.n_chans, model.n_times)).isfinite().all()
    model.train()
    assert model(torch.zeros(2, model.n_chans, model.n_times)).isfinite().all()


def test_return_features(model):
    x = make_input(model)
    output = model(x, return_features=True)
    assert output.keys() == {"features", "cls_token"}
    assert output["cls_token"] is None
    assert output["features"].shape == (6, 32)
    torch.testing.assert_close(model.final_layer(output["features"]), model(x))


def test_final_layer_is_among_the_last_two_children(model):
    assert "final_layer" in [name for name, _ in model.named_children()][-2:]


def test_activation_and_dropout():
    model = make_model(activation=nn.ELU, drop_prob=0.3)
    assert sum(isinstance(module, nn.ELU) for module in model.modules()) == 3 + 1 + 2
    assert not any(isinstance(module, nn.GELU) for module in model.modules())
    rates = {m.p for m in model.modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.3}


@pytest.mark.parametrize("emb_dim", [16, 128])
def test_emb_dim(emb_dim):
    model = make_model(emb_dim=emb_dim)
    assert model(make_input(model)).shape == (6, 3)


def test_reset_head(model):
    x = make_input(model)
    features = model(x, return_features=True)["features"]
    model.reset_head(10)
    assert model.n_outputs == 10
    assert model.get_config()["n_outputs"] == 10
    assert model(x).shape == (6, 10)
    torch.testing.assert_close(model(x, return_features=True)["features"], features)


def test_reset_head_keeps_device_and_dtype():
    model = make_model().double()
    model.reset_head(2)
    assert model(make_input(model).double()).dtype == torch.float64
    model = make_model().to("meta")
    model.reset_head(2)
    assert all(p.device.type == "meta" for p in model.final_layer.parameters())


def test_chs_info_alone_is_enough():
    info = mne.create_info(["Fp1", "Fp2", "Cz"], 200, "eeg")
    model = MaskedClusterTransformer(
        n_outputs=2, chs_info=info["chs"], input_window_seconds=1.0, sfreq=200, **SMALL
    )
    assert model(make_input(model)).shape == (6, 2)


def test_batch_of_one_in_train_mode(model):
    model.train()
    assert model(make_input(model, 1)).shape == (1, 3)
    assert all(module.training for module in model.modules())


def test_evaluation_is_deterministic():
    model = make_model(drop_prob=0.5).eval()
    x = make_input(model)
    torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)


def test_half_precision_model(model):
    x = make_input(model)
    expected = model(x)
    found = model.bfloat16()(x.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype):
    model = make_model().train()
    with torch.autocast("cpu", dtype=dtype):
        output = model(50 * make_input(model))
    output.float().sum().backward()
    assert output.isfinite().all()
    assert model.convolutions[0][1].weight.grad.isfinite().all()


def test_compile(model):
    x = make_input(model, 1)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-4, rtol=1e-4)


def test_export(model):
    x = make_input(model, 1)
    exported = torch.export.export(model, args=(x,), strict=False)
    torch.testing.assert_close(exported.module()(x), model(x))


def test_copy_and_pickle(model):
    x = make_input(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(x), model(x))


def test_config_round_trip():
    model = make_model(strides=[4, 2], activation=nn.ELU, position_kernel_size=5)
    config = json.loads(json.dumps(model.get_config()))
    other = MaskedClusterTransformer.from_config(config)
    other.load_state_dict(model.state_dict())
    x = make_input(model)
    torch.testing.assert_close(other.eval()(x), model.eval()(x))


def test_hub_round_trip(model, tmp_path):
    x = make_input(model)
    model._save_pretrained(tmp_path)
    other = MaskedClusterTransformer.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(other(x), model(x))
    other = MaskedClusterTransformer.from_pretrained(tmp_path, n_outputs=7).eval()
    assert other(x).shape == (6, 7)
    torch.testing.assert_close(other.projection[1].weight, model.projection[1].weight)


def test_pydantic_config(monkeypatch):
    name = "MaskedClusterTransformer"
    monkeypatch.setitem(models_dict, name, MaskedClusterTransformer)
    config_class = make_model_config(
        MaskedClusterTransformer, ["n_outputs", "n_chans", "n_times", "sfreq"]
    )
    config = config_class(n_outputs=2, n_chans=3, n_times=200, sfreq=200)
    assert config_class.model_validate_json(config.model_dump_json()) == config
    assert isinstance(config.create_instance(), MaskedClusterTransformer)


def test_every_own_argument_is_documented():
    own = inspect.signature(MaskedClusterTransformer).parameters.values()
    for parameter in own:
        if parameter.kind is parameter.KEYWORD_ONLY:
            documented = f"\n    {parameter.name} : "
            assert documented in MaskedClusterTransformer.__doc__


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sfreq": None}, "sfreq must be known to find the strides"),
        ({"n_times": 15}, "n_times must be at least one token of 16 samples, .* 15"),
        ({"strides": ()}, r"kernel_sizes and strides must be of the same length"),
        ({"strides": (4,), "kernel_sizes": (8, 2)}, "of the same length"),
        ({"strides": (4,), "kernel_sizes": (3,)}, "at most the kernel_sizes, but got"),
        ({"strides": (0,), "kernel_sizes": (3,)}, "strides must be at least 1"),
        ({"pre_emphasis": 1.5}, r"pre_emphasis must be in the interval \[0, 1\]"),
        ({"n_filters": 0}, "n_filters must be at least 1, but got 0"),
        ({"n_layers": 0}, "n_layers must be at least 1, but got 0"),
        ({"emb_dim": 30}, "emb_dim must be a positive multiple of n_heads=4, but got"),
        ({"emb_dim": 36}, "multiple of position_groups=16, but got 36"),
        ({"position_kernel_size": 4}, "position_kernel_size must be odd and positive"),
        ({"n_chans": None}, "n_chans could not be inferred"),
        ({"n_outputs": None}, "n_outputs not specified"),
    ],
)
def test_constructor_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        make_model(**settings)


@pytest.mark.parametrize("shape", [(2, 3, 256), (2, 4, 255), (4, 256), (2, 1, 4, 256)])
def test_forward_rejects_wrong_shapes(shape):
    with pytest.raises(ValueError, match=r"= \(batch, 4, 256\), but got \("):
        make_model()(torch.zeros(shape))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(model):
    x = make_input(model)
    expected = model(x)
    torch.testing.assert_close(
        model.cuda()(x.cuda()).cpu(), expected, atol=1e-3, rtol=1e-3
    )
