"""The benchmark of pre-training, with few updates on a small replica."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from braindecode_emossl.models import SCMM


@pytest.fixture(scope="module")
def bench():
    return importlib.import_module("bench_learning")


def test_simclr_contrasts_the_copies_of_a_window(bench, monkeypatch):
    """Two windows with orthogonal features: the partner has similarity 2, others 0."""
    monkeypatch.setattr(bench, "augment", lambda x: x)
    objective = bench.SimCLR(SCMM(2, n_chans=4, n_times=5, input_domain="de"))
    objective.projector = torch.nn.Identity()
    objective.encoder.encode = lambda x: x.flatten(1)
    x = torch.zeros(2, 4, 5)
    x[0, 0], x[1, 1] = 1, 1
    expected = math.log(math.exp(2) + 2) - 2
    assert objective(x).loss.item() == pytest.approx(expected, abs=1e-6)


def test_copies_have_noise_and_constant_channels(bench):
    torch.manual_seed(0)
    x = torch.randn(500, 10, 50)
    copy = bench.augment(x)
    constant = copy.std(dim=2) == 0
    assert constant.float().mean().item() == pytest.approx(0.2, abs=0.02)
    noise = (copy - x)[~constant]
    assert noise.std().item() == pytest.approx(0.1, abs=0.005)


def test_a_missing_feature_of_a_window_stays_missing_there_only(bench):
    """The mean of a batch spread it to all windows of the batch."""
    x = torch.randn(64, 5, 50)
    x[3, 4] = torch.nan
    copy = bench.augment(x)
    assert not copy[torch.arange(64) != 3].isnan().any()
    assert not copy[3, :4].isnan().any()


def test_main_prints_each_row_and_difference(bench, tmp_path, capsys):
    options = (
        "--models SCMM --subjects 2 --seconds 4 --seeds 0 --n-labeled 1 "
        "--pretrain-steps 2 --finetune-steps 2"
    )
    bench.main([*options.split(), "--results", str(tmp_path)])
    out = capsys.readouterr().out
    assert "updates of pre-training 2, of fine-tuning 2" in out
    for row in ("SCMM", "SCMM, SimCLR", "SCMM, random weights, frozen"):
        assert f"| {row} " in out
    assert "95 % interval" in out
