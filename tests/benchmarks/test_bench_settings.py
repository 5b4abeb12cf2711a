"""The ablation of settings, with few updates on a small replica."""

from __future__ import annotations

import importlib
import inspect
import re
from itertools import chain

import pytest

import braindecode_emossl
from braindecode_emossl.pretraining import SSLClassifier, SSLPretrainer
from braindecode_emossl.pretraining.model_factory import find_objective


@pytest.fixture(scope="module")
def bench():
    return importlib.import_module("bench_settings")


def test_main_prints_each_row_and_its_gain(bench, tmp_path, capsys):
    options = (
        "--models SCMM --variants default minmax --subjects 2 --seconds 4 --seeds 0 "
        "--n-labeled 1 --pretrain-steps 2 --finetune-steps 2"
    )
    bench.main([*options.split(), "--results", str(tmp_path)])
    out = capsys.readouterr().out
    for row in ("default", "default, random", "minmax", "minmax, random"):
        assert f"| {row} " in out
    assert re.search(r"\| minmax +\| minmax, random +\| 1 ", out)


def test_each_change_is_an_argument(bench):
    for model, variants in bench.VARIANTS.items():
        model_class = getattr(braindecode_emossl, model)
        parts = {
            "": SSLClassifier,
            "model": model_class,
            "objective": find_objective("auto", model_class),
            "pretrainer": SSLPretrainer,
        }
        for key in chain(*variants.values()):
            part, _, name = key.rpartition("__")
            assert name in inspect.signature(parts[part]).parameters, key


def test_an_unknown_row_is_refused(bench, capsys):
    with pytest.raises(SystemExit):
        bench.parse(["--models", "SCMM", "--variants", "maximum"])
    assert "--variants of SCMM must be among ['default'" in capsys.readouterr().err
