"""The MEMHACL model: its sizes, modalities and scaling.

What every model must do is in ``test_contract.py``.
"""

from __future__ import annotations

import copy

import mne
import numpy as np
import pytest
import torch
from torch import nn

from braindecode_emossl.models import MEMHACL

# EEG stands on both sides of the others, as in no corpus.
TYPES = ("eeg", "gsr", "eeg", "temperature", "eeg", "resp")
TINY = {"n_filters": (4, 4, 8, 8), "n_hidden": (6, 5)}


def make_chs_info(types=TYPES):
    return mne.create_info([f"{i}" for i in range(len(types))], 128.0, list(types))[
        "chs"
    ]


def make_model(types=TYPES, **kwargs):
    """Build a small model with weights that do not depend on the test order."""
    settings = {"n_outputs": 3, "chs_info": make_chs_info(types), "n_times": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MEMHACL(**{**settings, **TINY, **kwargs})


def make_input(model, batch_size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, model.n_chans, model.n_times, generator=generator)


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(params=["eeg", "all", "shared"])
def model(request):
    if request.param == "eeg":
        return make_model(["eeg"] * 4).eval()
    return make_model(shared_stack=request.param == "shared").eval()


@pytest.fixture(scope="module")
def full_size():
    return MEMHACL(n_outputs=4, n_chans=32, n_times=128, preset="paper").eval()


# -- sizes ---------------------------------------------------------------------


def test_parameter_counts_of_the_official_code(full_size):
    assert n_parameters(full_size.stacks) == 16_431_168
    assert n_parameters(full_size.final_layer) == 165_508
    assert n_parameters(full_size) == 16_431_168 + 165_508
    assert full_size.n_features == 512
    assert full_size.n_hidden == (256, 128)


def test_parameter_counts_of_the_default_size():
    """The same layers with an eighth of the filters; the published size took 15 s."""
    model = MEMHACL(n_outputs=4, n_chans=32, n_times=128)
    assert n_parameters(model.stacks) == 257_864
    assert n_parameters(model.final_layer) == 2_772
    kernels = [m.kernel_size for m in model.modules() if isinstance(m, nn.Conv2d)]
    paper = MEMHACL(n_outputs=4, n_chans=32, n_times=128, preset="paper")
    assert kernels == [
        m.kernel_size for m in paper.modules() if isinstance(m, nn.Conv2d)
    ]


@pytest.mark.parametrize(
    ("n_chans", "n_times", "maps"),
    [
        (
            32,
            128,
            ["64x32x64", "64x32x32", "64x16x16", "128x8x8", "256x8x4", "512x8x2"],
        ),
        (
            62,
            200,
            ["64x62x100", "64x62x50", "64x31x25", "128x16x13", "256x16x7", "512x16x4"],
        ),
    ],
)
def test_maps_of_the_official_code(full_size, n_chans, n_times, maps):
    found = []
    stack = full_size.stacks["eeg"]
    for child in stack:
        if isinstance(child, nn.Conv2d | nn.MaxPool2d | nn.Sequential):
            child.register_forward_hook(
                lambda module, args, output: found.append(
                    "x".join(map(str, output.shape[1:]))
                )
            )
    stack(torch.zeros(1, 1, n_chans, n_times))
    for child in stack:
        child._forward_hooks.clear()
    assert found == maps


def test_one_stack_per_modality_or_one_for_all():
    apart, shared, eeg = (
        make_model(),
        make_model(shared_stack=True),
        make_model(["eeg"]),
    )
    assert list(apart.modalities) == ["eeg", "gsr", "resp", "temperature"]
    assert apart.modalities["eeg"] == [0, 2, 4]
    stack = n_parameters(eeg.stacks)
    assert n_parameters(apart.stacks) == 4 * stack
    assert n_parameters(shared.stacks) == stack
    assert n_parameters(apart.fusion) > 0
    assert n_parameters(shared.fusion) == n_parameters(eeg.fusion) == 0
    assert (apart.n_tokens, shared.n_tokens, eeg.n_tokens) == (4, 1, 1)


def test_convolutions_start_as_kaiming_fan_out(full_size):
    for conv in full_size.modules():
        if isinstance(conv, nn.Conv2d):
            fan_out = conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1]
            expected = (2 / fan_out) ** 0.5
            assert conv.weight.std().item() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("n_chans", [1, 2, 14, 128])
@pytest.mark.parametrize("n_times", [1, 64, 1001])
def test_any_number_of_channels_and_samples(n_chans, n_times):
    model = make_model(["eeg"] * n_chans, n_times=n_times)
    x = make_input(model, 2)
    assert model.eval()(x).shape == (2, 3)
    assert model.train()(x).shape == (2, 3)
    assert model.train()(x[:1]).shape == (1, 3)
    assert model.get_output_shape() == (1, 3)


# -- modalities ----------------------------------------------------------------


def test_order_of_modalities_in_the_array_does_not_matter():
    """Only the order of the channels of one modality has a meaning."""
    order = [3, 0, 5, 2, 1, 4]
    model, other = make_model(), make_model([TYPES[i] for i in order])
    other.load_state_dict(model.state_dict())
    x = make_input(model)
    torch.testing.assert_close(other.eval()(x[:, order]), model.eval()(x))


def test_tokens_see_their_modality_alone():
    model = make_model().eval()
    x = model.normalize(make_input(model))
    tokens = model.encode(x)
    assert tokens.shape == (6, 4, 8)
    for i, rows in enumerate(model.modalities.values()):
        other = x.clone()
        other[:, rows] = 0.5
        moved = (model.encode(other) - tokens).abs().amax(dim=(0, 2)) > 1e-6
        assert moved.tolist() == [k == i for k in range(4)]


def test_shared_stack_is_one_network_on_the_stacked_rows():
    """It was one set of weights that was run for each modality in turn."""
    shared, plain = make_model(shared_stack=True), make_model(["eeg"] * 6)
    plain.stacks["eeg"].load_state_dict(shared.stacks["shared"].state_dict())
    plain.final_layer.load_state_dict(shared.final_layer.state_dict())
    x = make_input(shared)
    tokens = shared.eval().encode(x)
    assert tokens.shape == (6, 1, 8)
    rows = [0, 2, 4, 1, 5, 3]  # eeg, gsr, resp, temperature
    torch.testing.assert_close(tokens, plain.eval().encode(x[:, rows]))


@pytest.mark.parametrize("types", [["eeg"], ["temperature", "eeg"], ("gsr",)])
def test_channels_of_other_types_are_ignored(types):
    """A pipeline of EEG alone took in the peripheral signals of --all-modalities."""
    model = make_model(channel_types=types).eval()
    assert set(model.modalities) == set(types)
    used = [row for rows in model.modalities.values() for row in rows]
    x = make_input(model)
    other = torch.full_like(x, torch.nan)
    other[:, used] = x[:, used]
    torch.testing.assert_close(model(other), model(x))
    smaller = make_model([TYPES[row] for row in sorted(used)]).eval()
    smaller.load_state_dict(model.state_dict())
    torch.testing.assert_close(smaller(x[:, sorted(used)]), model(x))


def test_fusion_equals_attention_by_hand():
    """Two heads over the tokens, residual, layer norm, mean: with plain matrices."""
    model = make_model(n_heads=2).double().eval()
    tokens = model.encode(model.normalize(make_input(model).double()))
    attention = model.fusion.attention
    projected = tokens @ attention.in_proj_weight.T + attention.in_proj_bias
    query, key, value = projected.chunk(3, dim=-1)
    heads = []
    for half in (slice(0, 4), slice(4, 8)):
        scores = query[..., half] @ key[..., half].mT / 2  # root of the head's width
        heads.append(scores.softmax(dim=-1) @ value[..., half])
    attended = attention.out_proj(torch.cat(heads, dim=-1))
    expected = nn.functional.layer_norm(tokens + attended, (8,)).mean(dim=1)
    features = model(make_input(model).double(), return_features=True)["features"]
    torch.testing.assert_close(features, expected)


def test_a_single_modality_is_not_fused():
    model = make_model(["eeg"] * 4).eval()
    x = make_input(model)
    features = model(x, return_features=True)["features"]
    assert torch.equal(features, model.encode(model.normalize(x))[:, 0])


# -- scaling -------------------------------------------------------------------


FAST, SLOW = [0, 2, 4], [1, 3, 5]


def test_window_scaling_is_blind_to_the_unit_of_a_modality_and_to_levels():
    model = make_model().double().eval()
    x = make_input(model).double()
    x[:, 2] *= 3
    scale = torch.tensor([1e-6, 1e5, 1e-6, 0.1, 1e-6, 40.0], dtype=x.dtype)[:, None]
    level = torch.tensor([0.0, 3e5, -1e-6, 34.0, 1e-3, 7.0], dtype=x.dtype)[:, None]
    eeg = model.normalize(x)[:, FAST]
    torch.testing.assert_close(eeg.mean(dim=2), torch.zeros_like(eeg[..., 0]))
    deviations = x[:, FAST].std(dim=2, correction=0)  # (batch, n_eeg_chans)
    expected = deviations / deviations.quantile(0.5, dim=1, keepdim=True)
    torch.testing.assert_close(eeg.std(dim=2, correction=0), expected)
    expected = model.fit_normalization(x)(x)
    other = scale * x + level
    torch.testing.assert_close(model.fit_normalization(other)(other), expected)


@pytest.mark.parametrize("chunk_size", [1, 4, 1024])
@pytest.mark.parametrize("shared_stack", [False, True])
def test_slow_signals_keep_their_level(chunk_size, shared_stack):
    """Scaled window by window, temperature was noise: its level was removed.

    In float32, of a resistance of which a thousandth varies.
    """
    model = make_model(shared_stack=shared_stack)
    x = make_input(model).numpy()
    x[:, 1] = 1e6 + 1e3 * x[:, 1]
    x[:, 3] = 34 + np.arange(6)[:, None] + 0.01 * x[:, 3]
    model.fit_normalization(x, chunk_size)
    slow = x[:, SLOW].astype(float)
    mean = slow.mean(axis=(0, 2), keepdims=True)
    expected = (slow - mean) / slow.std(axis=(0, 2), keepdims=True)
    found = model.normalize(torch.from_numpy(x))
    np.testing.assert_allclose(found[:, SLOW], expected, atol=1e-3)
    levels = found[:, 3].mean(dim=1)
    assert (levels.diff() > 0.5).all()
    fast = make_model().normalize(torch.from_numpy(x))[:, FAST]
    torch.testing.assert_close(found[:, FAST], fast)
    found = model.state_dict()
    assert found["slow_mean"].shape == found["slow_std"].shape == (3, 1)


def test_fit_normalization_rejects():
    model = make_model()
    x = make_input(model)
    with pytest.raises(ValueError, match="at least one window, but got none"):
        model.fit_normalization(x[:0])
    x[2, 3, 5] = torch.nan
    with pytest.raises(ValueError, match="GSR, respiration or temperature hold NaN"):
        model.fit_normalization(x)
    x[2, 3, 5], x[2, 0, 5] = 0.0, torch.nan
    assert model.fit_normalization(x).slow_std.isfinite().all()


def test_the_power_of_a_channel_survives_the_default_scaling():
    """Each channel was scaled by itself, and pre-training gained nothing.

    Emotions are read from the distribution of power over the head.
    """
    model = make_model(["eeg"] * 4)
    x = make_input(model)
    x[:, 0] *= 3
    power = model.normalize(x).square().mean(dim=2)  # (batch, n_chans)
    assert (power[:, 0] > 4 * power[:, 1:].amax(dim=1)).all()


@pytest.mark.parametrize("normalization", ["window", "instant", "l2"])
def test_modalities_without_eeg(normalization):
    """There was an error with "instant": no channel has a mean over the channels."""
    model = make_model(channel_types=["gsr", "resp"], normalization=normalization)
    assert model(make_input(model)).isfinite().all()


@pytest.mark.parametrize("bad", [0.0, 17.3, 1e12])
def test_bad_channels_do_not_change_the_scale_of_others(bad):
    """Zeros in place of channels that a corpus lacks enlarged the others."""
    good, model = make_model(["eeg"] * 3), make_model(["eeg"] * 5)
    x = make_input(model)
    x[:, 3:] = bad
    found = model.normalize(x)
    torch.testing.assert_close(found[:, :3], good.normalize(x[:, :3]))
    assert (found[:, 3:] == 0).all()


def test_a_channel_of_poor_contact_leaves_the_others_in_range():
    """One channel of a thousandfold amplitude suppressed all others."""
    model = make_model(["eeg"] * 8)
    x = make_input(model)
    x[:, 0] *= 1000
    deviations = model.normalize(x)[:, 1:].std(dim=2)
    assert (deviations.mean(dim=1) - 1).abs().max() < 0.2


def test_other_fast_signals_are_scaled_one_by_one():
    model = make_model(["eeg", "eeg", "ecg", "eog"])
    x = make_input(model)
    x[:, 2] = 50 + 1e3 * x[:, 2]
    found = model.normalize(x)[:, 2:]
    zeros = torch.zeros(len(x), 2)
    torch.testing.assert_close(found.mean(dim=2), zeros, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(dim=2, correction=0), zeros + 1)


@pytest.mark.parametrize("normalization", ["instant", "l2"])
def test_official_scalings_are_of_the_eeg(normalization):
    x = make_input(make_model())
    model, window = (
        make_model(normalization=name).fit_normalization(x)
        for name in (normalization, "window")
    )
    eeg, others = [0, 2, 4], [1, 3, 5]
    found = model.normalize(x)
    torch.testing.assert_close(found[:, others], window.normalize(x)[:, others])
    eeg_x = x[:, eeg]
    if normalization == "l2":
        expected = eeg_x / eeg_x.square().sum(dim=2, keepdim=True).sqrt()
    else:
        expected = eeg_x - eeg_x.mean(dim=1, keepdim=True)
        expected = expected / eeg_x.std(dim=1, correction=0, keepdim=True)
    torch.testing.assert_close(found[:, eeg], expected)


def test_no_scaling():
    model = make_model(normalization=None)
    x = make_input(model)
    assert model.normalize(x) is x


@pytest.mark.parametrize("normalization", ["window", "instant", "l2"])
@pytest.mark.parametrize("value", [0.0, 34.1, 3.3e5, 1e-7])
def test_constant_channels_are_finite(normalization, value):
    """Rounding leaves something of a constant, which must not be blown up."""
    model = make_model(normalization=normalization, n_times=100)
    x = torch.full((4, 6, 100), value, requires_grad=True)
    scaled = model.fit_normalization(x).normalize(x)
    assert (scaled[:, SLOW].abs() < 1e-5).all()
    if normalization != "l2":
        assert (scaled[:, FAST] == 0).all()
    model(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(
        p.grad.isfinite().all() for p in model.parameters() if p.grad is not None
    )


def test_volts_are_no_constant():
    model = make_model(["eeg"] * 3)
    x = make_input(model)
    torch.testing.assert_close(model.normalize(1e-7 * x), model.normalize(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scaling_in_half_precision(dtype):
    """Squares of hundreds of microvolts leave the range of float16."""
    model = make_model()
    x = (500 * make_input(model)).to(dtype)
    model.fit_normalization(x)
    scaled = model.normalize(x)
    assert scaled.dtype == dtype
    expected = model.normalize(x.float())
    torch.testing.assert_close(scaled.float(), expected, atol=0.02, rtol=0.01)


# -- head, batches and files --------------------------------------------------


def test_final_layer():
    head = make_model(drop_prob=0.3).final_layer
    hidden = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    kinds = [*hidden, *hidden, nn.Dropout, nn.Linear]
    assert all(map(isinstance, head, kinds)) and len(head) == len(kinds)
    assert head[-2].p == 0.3
    assert len(make_model(n_hidden=()).final_layer) == 2


def test_activation_is_everywhere():
    model = make_model(activation=nn.ELU)
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())
    assert sum(isinstance(module, nn.ELU) for module in model.modules()) == 4 * 17 + 2


@pytest.mark.parametrize("shared_stack", [False, True])
@pytest.mark.parametrize("n_times", [1, 64])
def test_batch_of_one_in_train_mode(shared_stack, n_times):
    """One window has no batch statistics: it passes as in evaluation."""
    model = make_model(shared_stack=shared_stack, drop_prob=0.0)
    model(make_input(model))  # gives the running statistics a value
    before = copy.deepcopy(model.state_dict())
    x = make_input(model, 1)[..., :n_times]
    found = model(x)
    assert all(module.training for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    torch.testing.assert_close(found, model.eval()(x))


@pytest.mark.filterwarnings("ignore:Modifying chs_info")
def test_hub_round_trip(model, tmp_path):
    """The file of a shared stack must not hold its weights several times."""
    x = make_input(model)
    model._save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    other = MEMHACL.from_pretrained(tmp_path).eval()
    assert other.modalities == model.modalities
    torch.testing.assert_close(other(x), model(x))
    other = MEMHACL.from_pretrained(tmp_path, n_outputs=7).eval()
    assert other(x).shape == (6, 7)
    features = other(x, return_features=True)["features"]
    torch.testing.assert_close(features, model(x, return_features=True)["features"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_filters": (4, 8, 8)}, r"n_filters must hold 4 .* got \(4, 8, 8\)"),
        ({"n_filters": (4, 8, 0, 8)}, "n_filters must hold 4 integers from 1"),
        ({"preset": "large"}, r"preset must be one of .* got 'large'"),
        ({"channel_types": ["egg"]}, r"channel_types must name types among .*'egg'"),
        ({"channel_types": []}, "channel_types must name types among"),
        (
            {"channel_types": ["eeg", "ecg"]},
            r"types of channels that chs_info has, .* got \['ecg'\]: load all",
        ),
        ({"normalization": "max"}, "normalization must be one of .* got 'max'"),
        ({"n_heads": 3}, "n_heads must be at least 1 and divide .* 8, but got 3"),
        ({"n_heads": 0}, "n_heads must be at least 1"),
        (
            {"types": ["eeg", "gsr"], "normalization": "instant"},
            "at least two EEG channels",
        ),
        ({"types": ["eeg", "stim"]}, "is of kind 3"),
    ],
)
def test_constructor_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        make_model(**settings)


def test_forward_rejects_images():
    with pytest.raises(ValueError, match=r"with n_chans=6, but got \("):
        make_model()(torch.zeros(2, 1, 6, 64))
