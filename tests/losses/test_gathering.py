"""Gathering in one process; for two see ``tests/pretraining/test_distributed.py``."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from braindecode_emossl.losses.gathering import gather, total


@pytest.fixture(params=["no group", "group of one"])
def one_process(request, tmp_path):
    if request.param == "no group":
        yield
        return
    dist.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("function", [gather, total])
def test_one_process_has_all_there_is(one_process, function):
    x = torch.ones(2, 3, requires_grad=True)
    assert function(x) is x
