"""What every model of the package must do, whatever it is made of.

What braindecode asks of its own models is in ``tests/upstream/test_braindecode.py``.
"""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import re
from collections.abc import Iterator

import mne
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from braindecode_emossl.registration import MODELS

CLASSES = {cls.__name__: cls for cls in MODELS}

#: Arguments that make the models small. A model without a row fails the first test.
SMALL = {
    "MEMHACL": {"n_filters": (4, 4, 8, 8), "n_heads": 2, "n_hidden": (6, 5)},
    "MaskedClusterTransformer": {
        "n_filters": 16,
        "emb_dim": 16,
        "n_layers": 2,
        "n_heads": 2,
        "dim_feedforward": 24,
    },
    "MoodReader": {
        "embed_dim": 16,
        "n_layers": 2,
        "n_heads": 2,
        "feature_dim": 8,
        "n_feature_layers": 2,
        "n_feature_heads": 2,
        "n_hidden": 12,
    },
    "SCMM": {"n_filters": (8, 8, 16), "n_hidden": 12},
}
N_OUTPUTS, SFREQ, N_TIMES = 3, 128.0, 128


def make_chs_info(*kinds):
    return mne.create_info([f"C{i}" for i in range(len(kinds))], SFREQ, kinds)["chs"]


#: Every model on EEG, and each further kind of input that one takes.
CASES = {
    **{name: (name, {"n_chans": 4}) for name in CLASSES},
    "MEMHACL, all modalities": (
        "MEMHACL",
        {"chs_info": make_chs_info("gsr", "eeg", "eeg", "resp", "temperature", "eeg")},
    ),
    "MoodReader, eye features": (
        "MoodReader",
        {"chs_info": make_chs_info("misc", "eeg", "eeg", "misc", "eeg")},
    ),
    "SCMM, DE": (
        "SCMM",
        {"n_chans": 4, "n_times": 5, "sfreq": None, "input_domain": "de"},
    ),
}


def make_model(case, **kwargs):
    """Build a small model with weights that do not depend on the test order."""
    name, signal = CASES[case]
    signal = {"n_outputs": N_OUTPUTS, "n_times": N_TIMES, "sfreq": SFREQ, **signal}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CLASSES[name](**{**signal, **SMALL[name], **kwargs})


def make_input(model, batch_size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, model.n_chans, model.n_times, generator=generator)


def tensors(output) -> Iterator[torch.Tensor]:
    """Yield the tensors of an output, which is one or a dictionary of some."""
    if isinstance(output, dict):
        yield from (value for value in output.values() if value is not None)
    else:
        yield output


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def model(case):
    return make_model(case).eval()


def test_every_registered_model_is_in_the_table():
    assert set(SMALL) == set(CLASSES)
    assert {name for name, _ in CASES.values()} == set(CLASSES)


# -- outputs -------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_shapes(model, batch_size):
    x = make_input(model, batch_size)
    assert model(x).shape == (batch_size, N_OUTPUTS)
    output = model(x, return_features=True)
    assert list(output) == ["features", "cls_token"]
    for tensor in tensors(output):
        assert len(tensor) == batch_size and tensor.isfinite().all()
    torch.testing.assert_close(model.final_layer(output["features"]), model(x))


@pytest.mark.parametrize("return_features", [False, True])
def test_evaluation_is_deterministic_and_by_window(case, return_features):
    """Neither dropout nor the rest of the batch reaches a window in evaluation."""
    model = make_model(case, drop_prob=0.5).eval()
    x = make_input(model)
    state = torch.get_rng_state()
    output = list(tensors(model(x, return_features)))
    again = list(tensors(model(x, return_features)))
    alone = list(tensors(model(x[2:3], return_features)))
    assert torch.equal(torch.get_rng_state(), state)
    for whole, repeated, single in zip(output, again, alone, strict=True):
        assert torch.equal(whole, repeated)
        torch.testing.assert_close(whole[2:3], single, rtol=1e-4, atol=1e-5)


def test_evaluation_changes_nothing(model):
    before = copy.deepcopy(model.state_dict())
    x = make_input(model)
    seen = x.clone()
    model(x)
    assert torch.equal(x, seen)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("batch_size", [1, 2])
def test_small_batches_in_training_reach_every_weight(case, batch_size):
    model = make_model(case, drop_prob=0.0).train()
    output = model(make_input(model, batch_size))
    assert output.shape == (batch_size, N_OUTPUTS)
    assert all(module.training for module in model.modules())
    output.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("value", [0.0, 1.0, 1e4, -1e-6])
def test_constant_windows_are_finite(model, value):
    x = torch.full((2, model.n_chans, model.n_times), value)
    assert model(x).isfinite().all()


# -- sizes ---------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    n_chans=st.integers(1, 128),
    seconds=st.floats(0.5, 10),
    sfreq=st.sampled_from([100.0, 128.0, 200.0, 250.0]),
)
def test_any_number_of_channels_and_seconds(name, n_chans, seconds, sfreq):
    model = make_model(
        name, n_chans=n_chans, n_times=round(seconds * sfreq), sfreq=sfreq
    ).eval()
    output = model(make_input(model, 1))
    assert output.shape == (1, N_OUTPUTS)
    assert output.isfinite().all()
    assert model.get_output_shape() == (1, N_OUTPUTS)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("n_chans", "seconds"), [(1, 0.5), (128, 0.5), (1, 10.0), (128, 10.0)]
)
def test_smallest_and_largest_windows(name, n_chans, seconds):
    model = make_model(name, n_chans=n_chans, n_times=int(seconds * SFREQ)).eval()
    assert model(make_input(model, 1)).isfinite().all()


#: What no model, or not this one, can read, and what the error says of it.
IMPOSSIBLE = {
    "MaskedClusterTransformer": [
        ({"n_times": 10}, r"n_times must be at least .* got 10\. Use longer windows"),
    ],
    "MEMHACL": [
        (
            {"normalization": "instant", "n_chans": 1},
            "needs at least two EEG channels to compare, but got one; choose 'window'",
        )
    ],
    "MoodReader": [
        ({"n_times": 10}, r"window must be long enough .* 0\.\d+ s suffice, but got"),
        ({"sfreq": 60.0, "n_times": 60}, r"band 'beta' must be .* but got \(14, 31\)"),
    ],
    "SCMM": [
        ({"n_times": 10}, r"window must be long enough .* 0\.\d+ s suffice, but got"),
        ({"sfreq": 60.0, "n_times": 60}, r"band 'beta' must be .* but got \(14, 31\)"),
    ],
}


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [(name, *row) for name, rows in IMPOSSIBLE.items() for row in rows],
)
def test_windows_it_cannot_read_are_refused_at_construction(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_model(name, **kwargs)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("missing", ["n_outputs", "n_chans"])
def test_missing_signal_arguments_are_named(name, missing):
    with pytest.raises(ValueError, match=missing):
        make_model(name, **{missing: None})


def test_wrong_number_of_channels_is_refused(model):
    n_chans = model.n_chans
    x = torch.zeros(2, n_chans + 1, model.n_times)
    with pytest.raises(ValueError, match=rf"shape .* got \(2, {n_chans + 1}, "):
        model(x)
    with pytest.raises(ValueError, match="shape"):
        model(x[0])


# -- precision and devices -----------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(model, dtype):
    x = make_input(model)
    with torch.autocast("cpu", dtype=dtype):
        half = model(x)
    assert half.isfinite().all()
    torch.testing.assert_close(half.float(), model(x), rtol=0.1, atol=0.1)


def test_training_in_autocast(case):
    model = make_model(case).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(make_input(model)).float().square().mean()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions(model, dtype):
    x = make_input(model)
    expected = model(x)
    output = model.to(dtype)(x.to(dtype))
    assert output.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float64 else 0.1
    torch.testing.assert_close(output.float(), expected, rtol=tolerance, atol=tolerance)


def test_large_windows_in_half_precision(model):
    """Squares of signals in microvolts leave the range of float16."""
    x = 3e3 * make_input(model)
    assert model.half()(x.half()).isfinite().all()


def test_reset_head(model):
    x = make_input(model)
    features = model(x, return_features=True)["features"]
    others = {n: p for n, p in model.named_parameters() if "final_layer" not in n}
    model.reset_head(7)
    assert model.n_outputs == model.get_config()["n_outputs"] == 7
    assert model(x).shape == (4, 7)
    assert torch.equal(model(x, return_features=True)["features"], features)
    for name, parameter in model.named_parameters():
        if "final_layer" not in name:
            assert parameter is others[name]
    with pytest.raises(ValueError, match="n_outputs"):
        model.reset_head(0)


def test_reset_head_keeps_the_mode(model):
    """A new head trained inside a model that did not: batches decided its outputs."""
    for is_training in (False, True):
        model.train(is_training).reset_head(2)
        assert {part.training for part in model.modules()} == {is_training}


@pytest.mark.parametrize(
    ("device", "dtype"),
    [("cpu", torch.float64), ("cpu", torch.bfloat16), ("meta", torch.float32)],
)
def test_reset_head_keeps_device_and_dtype(model, device, dtype):
    model.to(device, dtype).reset_head(2)
    for tensor in (*model.parameters(), *model.final_layer.buffers()):
        assert tensor.device.type == device
        assert tensor.dtype == dtype or not tensor.is_floating_point()


def test_all_tensors_move(model):
    """A tensor that is neither parameter nor buffer stays behind on the CPU."""
    model.to("meta")
    x = make_input(model).to("meta")
    assert model(x).device.type == "meta"


@pytest.mark.gpu
def test_on_a_gpu(model):
    x = make_input(model)
    expected = model(x)
    output = model.cuda()(x.cuda())
    torch.testing.assert_close(output.cpu(), expected, rtol=1e-3, atol=1e-3)
    model.reset_head(2)
    assert all(p.device.type == "cuda" for p in model.parameters())
    with torch.autocast("cuda", dtype=torch.float16):
        assert model(x.cuda()).isfinite().all()


# -- arguments, copies and files -----------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
def test_constructor(name):
    """The six signal arguments come first; all others have a documented default."""
    parameters = list(inspect.signature(CLASSES[name]).parameters.values())
    signal, own = parameters[:6], parameters[6:]
    assert [parameter.name for parameter in signal] == [
        "n_outputs",
        "n_chans",
        "chs_info",
        "n_times",
        "input_window_seconds",
        "sfreq",
    ]
    assert all(parameter.default is None for parameter in signal)
    for parameter in own:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty
        entry = re.search(
            rf"\n    {parameter.name} : .*\n((?:        .*\n)*)", CLASSES[name].__doc__
        )
        assert entry, f"{parameter.name} is not documented"
        assert re.search(r"\[(paper|official code|inferred)\]", entry[1]), (
            f"{parameter.name} does not say where its default comes from"
        )


def test_config_round_trip(case):
    model = make_model(case, activation=nn.ELU, drop_prob=0.25).eval()
    config = json.loads(json.dumps(model.get_config()))
    other = type(model).from_config(config)
    other.load_state_dict(model.state_dict())
    x = make_input(model)
    assert torch.equal(other.eval()(x), model(x))
    assert json.loads(json.dumps(other.get_config())) == config
    assert any(isinstance(module, nn.ELU) for module in other.modules())


def test_copy_and_pickle(model):
    x = make_input(model)
    expected = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), expected)
        other.reset_head(2)
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("n_outputs", [N_OUTPUTS, 5])
def test_hugging_face_folder(model, n_outputs, tmp_path):
    model.save_pretrained(tmp_path)
    assert (tmp_path / "config.json").is_file()
    assert (tmp_path / "model.safetensors").is_file()
    other = type(model).from_pretrained(tmp_path, n_outputs=n_outputs).eval()
    x = make_input(model)
    for ours, theirs in zip(
        tensors(model(x, return_features=True)),
        tensors(other(x, return_features=True)),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    assert other(x).shape == (4, n_outputs)
    if n_outputs == N_OUTPUTS:
        assert torch.equal(other(x), model(x))


# -- compilation ---------------------------------------------------------------


@pytest.mark.parametrize(
    "return_features", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_no_graph_breaks(model, return_features):
    """Traced as one graph, and run without the compiler, which takes long."""
    x = make_input(model)
    expected = model(x, return_features)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for ours, theirs in zip(
        tensors(compiled(x, return_features)), tensors(expected), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    torch._dynamo.reset()


def test_export_with_any_batch_size(model):
    x = make_input(model)
    exported = torch.export.export(
        model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
    ).module()
    for batch_size in (1, 4, 9):
        x = make_input(model, batch_size)
        torch.testing.assert_close(exported(x), model(x))
