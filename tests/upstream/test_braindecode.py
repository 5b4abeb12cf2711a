"""What braindecode asks of its own models, asked of ours.

First the requirements of its generic tests, transcribed and numbered, on models of full
size; then its test modules themselves, where a checkout of braindecode is at hand, as
neither its wheel nor its source distribution holds them. One requirement cannot apply:
TorchScript knows no ``forward`` that returns a tensor or a dictionary, so that
braindecode skips its own models of that kind.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import braindecode
import mne
import numpy as np
import pandas as pd
import pytest
import torch
from braindecode import EEGClassifier
from braindecode.models.base import EEGModuleMixin
from braindecode.models.config import make_model_config
from braindecode.models.util import (
    _get_possible_signal_params,
    _get_signal_params,
    models_dict,
)
from torch import nn

from braindecode_emossl.registration import MODELS

#: As in ``models_mandatory_parameters``: signal arguments without which a model cannot
#: be built. braindecode's default signals (3 channels, 4 s at 250 Hz) do for all.
REQUIRED = {
    "MEMHACL": ["n_chans", "n_outputs"],
    "MaskedClusterTransformer": ["n_chans", "n_outputs", "n_times", "sfreq"],
    "MoodReader": ["n_chans", "n_outputs", "n_times", "sfreq"],
    "SCMM": ["n_chans", "n_outputs", "n_times", "sfreq"],
}
#: As in ``summary.csv``: the categories of which a model must wear the badge.
CATEGORIES = {
    "MEMHACL": "Convolution,Attention/Transformer",
    "MaskedClusterTransformer": "Convolution,Attention/Transformer",
    "MoodReader": "Attention/Transformer",
    "SCMM": "Convolution",
}
BADGES = {
    "Convolution": ":bdg-success:`Convolution`",
    "Attention/Transformer": ":bdg-info:`Attention/Transformer`",
    "Foundation Model": ":bdg-danger:`Foundation Model`",
    "Channel": ":bdg-dark-line:`Channel`",
    "Graph Neural Network": ":bdg-light:`Graph Neural Network`",
    "Interpretability": ":bdg-warning:`Interpretability`",
    "Recurrent": ":bdg-secondary:`Recurrent`",
    "Filterbank": ":bdg-primary:`Filterbank`",
}
EMBEDDING_ARGUMENTS = {
    "emb_size",
    "embedding_dim",
    "emb",
    "return_features",
    "feature",
    "embed_dim",
    "emb_dim",
}
SIGNALS = [
    pytest.param(name, signal, id=f"{name}-{i}")
    for name, required in REQUIRED.items()
    for i, signal in enumerate(
        _get_possible_signal_params(_get_signal_params(None), required)
    )
]


def given_only(signal):
    """Return the arguments that a case of ``_get_possible_signal_params`` gives."""
    return {name: value for name, value in signal.items() if value is not None}


def make_model(name, **kwargs):
    return models_dict[name](**{**_get_signal_params(None, REQUIRED[name]), **kwargs})


def make_input(batch_size):
    signal = _get_signal_params(None)
    return torch.randn(batch_size, signal["n_chans"], signal["n_times"])


@pytest.fixture(params=REQUIRED)
def name(request):
    return request.param


@pytest.fixture(params=REQUIRED, scope="module")
def model(request):
    """A model of full size in evaluation. Not to be changed."""
    return make_model(request.param).eval()


# -- its requirements ----------------------------------------------------------


def test_every_model_is_registered_and_has_its_row():
    """1: registry and rows hold the same models."""
    names = {cls.__name__ for cls in MODELS}
    assert names == set(REQUIRED) == set(CATEGORIES)
    assert all(models_dict[cls.__name__] is cls for cls in MODELS)


@pytest.mark.parametrize(("name", "signal"), SIGNALS)
def test_model_integration(name, signal):
    """2: any sufficient set of signal arguments builds a model that runs."""
    model = models_dict[name](**given_only(signal))
    assert isinstance(model, EEGModuleMixin) and isinstance(model, nn.Module)
    with torch.no_grad():
        output = model.train()(make_input(3))
    assert output.shape[:2] == (3, signal["n_outputs"])


def test_model_integration_full(name):
    """3 and 4: EEGClassifier infers the signal, and leaves ``final_layer`` last."""
    rng = np.random.default_rng(0)
    info = mne.create_info(["C3", "C4", "Cz"], 250.0, "eeg")
    epochs = mne.EpochsArray(1e-5 * rng.normal(size=(4, 3, 1000)), info)
    net = EEGClassifier(
        name, max_epochs=1, batch_size=2, classes=[0, 1], train_split=None, verbose=0
    )
    net.fit(epochs, np.array([0, 1, 0, 1]))
    assert isinstance(net.module_, models_dict[name])
    assert net.predict_proba(epochs).shape == (4, 2)
    assert "final_layer" in [child for child, _ in net.module_.named_children()][-2:]


def test_final_layer_is_among_the_last_two_children(model):
    """4, without the fit."""
    assert "final_layer" in [child for child, _ in model.named_children()][-2:]


def test_activation_is_a_class(name):
    """5: some argument is an activation, and each of them a class of modules."""
    parameters = inspect.signature(models_dict[name]).parameters
    defaults = [p.default for key, p in parameters.items() if "activation" in key]
    assert defaults
    for default in defaults:
        assert inspect.isclass(default) and issubclass(default, nn.Module)


def test_there_is_a_drop_prob(name):
    """6."""
    assert any(
        "drop_prob" in key for key in inspect.signature(models_dict[name]).parameters
    )


@pytest.mark.slow
def test_compile(model):
    """7."""
    x = make_input(1)
    compiled = torch.compile(model, mode="reduce-overhead", dynamic=False)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), atol=1e-4, rtol=1e-4)
    torch._dynamo.reset()


def test_export(model):
    """8."""
    x = make_input(1)
    exported = torch.export.export(model, args=(x,), strict=False).module()
    torch.testing.assert_close(exported(x), model(x), atol=1e-4, rtol=1e-4)


def test_plain_copy_gives_the_same_output(model):
    """9, as far as it applies: the state dict is the whole state of a model."""
    other = make_model(type(model).__name__).eval()
    other.load_state_dict(model.state_dict())
    x = make_input(2)
    assert torch.equal(other(x), model(x))


def test_embedding_arguments_take_128(name):
    """10."""
    own = EMBEDDING_ARGUMENTS & set(inspect.signature(models_dict[name]).parameters)
    for argument in own:
        assert "128" in str(make_model(name, **{argument: 128}))


def test_model_can_be_printed(model):
    """10: what is printed is the outcome of a forward pass."""
    assert f"{type(model).__name__}" in str(model)
    assert "Total params" in str(model)


def test_batch_of_one_in_train_mode(name):
    """11: batch normalisation stays in train mode."""
    model = make_model(name).train()
    assert model(make_input(1)).shape == (1, 2)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.training


def test_hugging_face(model, tmp_path):
    """12."""
    model._save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["n_outputs"], config["n_times"]) == (2, model._n_times)
    assert config["n_chans"] == 3 and "braindecode_version" in config
    other = type(model).from_pretrained(tmp_path).eval()
    x = make_input(2)
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize(("name", "signal"), SIGNALS)
def test_pydantic_config(name, signal):
    """13. Positions of channels, being arrays, need numpydantic to be written."""
    signal = given_only(signal)
    if "chs_info" in signal and find_spec("numpydantic") is None:
        signal["chs_info"] = [
            {key: value for key, value in channel.items() if key != "loc"}
            for channel in signal["chs_info"]
        ]
    config_class = make_model_config(models_dict[name], REQUIRED[name])
    config = config_class(**signal)
    assert config_class.model_validate_json(config.model_dump_json()) == config
    assert isinstance(config.create_instance(), models_dict[name])


def test_badges(name):
    """14: the badges of its categories, and no other."""
    found = re.findall(r":bdg-[a-z-]+:`[^`]+`", models_dict[name].__doc__)
    assert set(found) == {BADGES[category] for category in CATEGORIES[name].split(",")}


def test_return_features(model):
    """15: the contract of the foundation models."""
    x = make_input(2)
    output = model(x, return_features=True)
    assert set(output) == {"features", "cls_token"}
    assert len(output["features"]) == 2
    assert output["cls_token"] is None or len(output["cls_token"]) == 2
    assert isinstance(model(x), torch.Tensor)


def test_reset_head(name):
    """15."""
    model = make_model(name).eval()
    model.reset_head(10)
    assert model.n_outputs == 10
    assert model(make_input(2)).shape == (2, 10)


def test_signal_arguments_are_checked(name):
    """16: missing and inconsistent ones."""
    signal = _get_signal_params(None, REQUIRED[name])
    for missing in ("n_chans", "n_outputs"):
        with pytest.raises(ValueError, match=missing):
            models_dict[name](**{**signal, missing: None})
    with pytest.raises(ValueError, match="n_chans"):
        models_dict[name](**{**_get_signal_params(None), "n_chans": 4})
    with pytest.raises(ValueError, match="n_times"):
        models_dict[name](**{**_get_signal_params(None), "n_times": 999})


def test_arguments_are_tracked(name):
    """16: what the constructor was told is in the configuration."""
    config = make_model(name, drop_prob=0.25).get_config()
    assert config["drop_prob"] == 0.25
    own = set(inspect.signature(models_dict[name]).parameters)
    assert own <= set(config)


def test_docstring_is_its_own(name):
    """16: the mixin adds to it and replaces nothing."""
    first, mixin = (
        cls.__doc__.strip().splitlines()[0]
        for cls in (models_dict[name], EEGModuleMixin)
    )
    assert first != mixin and re.search(r"\[\w+\]_\.$", first)


# -- its test modules ----------------------------------------------------------

MODULES = (
    "test_integration",
    "test_huggingface",
    "test_config",
    "test_model_categorization",
    "test_model_modality",
    "test_return_features",
)
# Fills its lists and dictionaries in place, before its tests are collected: they hold
# the very same objects.
PLUGIN = """
import braindecode.models.util as util
import pandas as pd

import braindecode_emossl
from braindecode_emossl.registration import MODELS

util.models_mandatory_parameters[:] = {rows!r}
util.models_dict.clear()
util.models_dict.update((cls.__name__, cls) for cls in MODELS)
util.interpolated_models_dict.clear()
for row in pd.read_csv({table!r}).set_index("Model").itertuples():
    util._summary_table.loc[row[0]] = pd.Series(
        row[1:], index=util._summary_table.columns[: len(row) - 1]
    )
"""


def find_checkout() -> Path | None:
    """Return the checkout of braindecode that is named, or installed as editable."""
    default = Path(braindecode.__file__).parents[1]
    checkout = Path(os.environ.get("BRAINDECODE_REPO", default))
    return checkout if (checkout / "test/unit_tests/models").is_dir() else None


def run_on_our_models(checkout, folder, modules=MODULES):
    """Run test modules of a checkout on our models alone; return (passed, failed)."""
    shutil.copytree(checkout / "test", folder / "test")
    table = folder / "braindecode/models/summary.csv"
    table.parent.mkdir(parents=True)
    installed = Path(braindecode.__file__).parent / "models/summary.csv"
    columns = pd.read_csv(installed, nrows=0, encoding="utf-8-sig").columns
    ours = pd.DataFrame(columns=columns)
    for name, required in REQUIRED.items():
        ours.loc[name, ["Model", "Modality"]] = name, "EEG"
        ours.loc[name, "Hyperparameters"] = ", ".join(required)
        ours.loc[name, "Categorization"] = CATEGORIES[name]
    ours.to_csv(table, index=False)
    rows = [(name, required, None) for name, required in REQUIRED.items()]
    plugin = folder / "plugin" / "only_our_models.py"
    plugin.parent.mkdir()
    plugin.write_text(PLUGIN.format(rows=rows, table=str(table)))
    places = [str(plugin.parent), os.environ.get("PYTHONPATH")]
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "only_our_models"]
    command += ["-p", "no:cacheprovider"]
    files = [folder / f"test/unit_tests/models/{module}.py" for module in modules]
    result = subprocess.run(
        [*command, *(str(file) for file in files if file.is_file())],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))},
        capture_output=True,
        text=True,
        timeout=600,
    )
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed, result.stdout[-3000:] + result.stderr[-3000:]
    failed = re.findall(r"^(?:FAILED|ERROR) \S*::(test_\w+)", result.stdout, re.M)
    # TorchScript cannot pass, see above.
    return int(passed[1]), [name for name in failed if "script" not in name]


@pytest.mark.slow
@pytest.mark.skipif(
    find_checkout() is None,
    reason="needs braindecode's tests: set BRAINDECODE_REPO to a checkout of it",
)
def test_braindecode_finds_our_models_as_good_as_its_own(tmp_path):
    passed, failed = run_on_our_models(find_checkout(), tmp_path)
    assert failed == []
    assert passed >= 10 * len(MODELS)


CHECKOUT_TEST = """
from pathlib import Path

import pandas as pd
import pytest
from braindecode.models.util import _summary_table
from braindecode.models.util import interpolated_models_dict, models_dict
from braindecode.models.util import models_mandatory_parameters

@pytest.mark.parametrize("name, required, signal", models_mandatory_parameters)
def test_row(name, required, signal):
    assert name in models_dict and not interpolated_models_dict
    assert _summary_table.loc[name, "Modality"] == "EEG"
    table = Path(__file__).parents[3] / "braindecode/models/summary.csv"
    assert name in set(pd.read_csv(table)["Model"])

def test_fails():
    assert not models_dict

def test_torchscript():
    raise NotImplementedError
"""


@pytest.mark.slow
def test_a_checkout_sees_our_models_alone(tmp_path):
    """What the run above rests on, without braindecode's tests."""
    folder = tmp_path / "checkout/test/unit_tests/models"
    folder.mkdir(parents=True)
    (folder / "test_config.py").write_text(CHECKOUT_TEST)
    (tmp_path / "run").mkdir()
    passed, failed = run_on_our_models(tmp_path / "checkout", tmp_path / "run")
    assert passed == len(MODELS)
    assert failed == ["test_fails"]
