"""The MaskedClusterTransformer model: its tokens and their context.

What every model must do is in ``test_contract.py``.
"""

from __future__ import annotations

import pytest
import torch
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
    convolutions = 64 * 32 * 10 + 2 * 64 + 64 * 64 * 3 + 64 * 64 * 2
    projection = 2 * 64 + 64 * 128 + 128
    position = 128 * 8 * 31 + 128 + 2 * 128
    attention = 4 * (128 * 128 + 128)
    layer = attention + 2 * 128 * 256 + 256 + 128 + 4 * 128
    head = 2 * 128 + 128 * 2 + 2
    assert n_parameters(model) == (
        convolutions + projection + position + 4 * layer + head
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


def test_activation_and_dropout():
    model = make_model(activation=nn.ELU, drop_prob=0.3)
    assert sum(isinstance(module, nn.ELU) for module in model.modules()) == 3 + 1 + 2
    assert not any(isinstance(module, nn.GELU) for module in model.modules())
    rates = {m.p for m in model.modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.3}


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
    ],
)
def test_constructor_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        make_model(**settings)


@pytest.mark.parametrize("shape", [(2, 4, 255), (2, 1, 4, 256)])
def test_forward_rejects_wrong_shapes(shape):
    with pytest.raises(ValueError, match=r"= \(batch, 4, 256\), but got \("):
        make_model()(torch.zeros(shape))
