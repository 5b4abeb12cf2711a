"""Training in two processes is training in one with all windows.

Run as a script, this file is one of the processes; the tests compare their results.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from skorch.callbacks import Callback
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from braindecode_emossl.errors import CheckpointError
from braindecode_emossl.losses.gathering import gather, total
from braindecode_emossl.models import (
    MEMHACL,
    SCMM,
    MaskedClusterTransformer,
    MoodReader,
)
from braindecode_emossl.pretraining import (
    MaskedClusterPretraining,
    MEMHACLPretraining,
    MoodReaderPretraining,
    SCMMPretraining,
    SSLPretrainer,
    save_checkpoint,
)
from braindecode_emossl.pretraining import pretrainer as pretrainer_module
from braindecode_emossl.pretraining.distributed import (
    DistributedPretrainer,
    desynchronize,
    synchronize,
)
from braindecode_emossl.samplers import (
    ContinuityBatchSampler,
    CorpusBalancedSampler,
    StimulusGroupSampler,
)

N_PROCESSES = 2
N_WINDOWS = 8  # of both processes
EEG = {"n_outputs": 2, "n_chans": 3, "n_times": 128, "sfreq": 128}
#: Name of each objective, and the dimension of windows in the inputs of its loss.
DIMS = {"scmm": 0, "memhacl": 1, "masked_cluster": 0, "mood_reader": 0}


def make_noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def make_scmm(objective=SCMMPretraining):
    return objective(
        SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de", drop_prob=0.0)
    )


def make_masked_cluster(**kwargs):
    sizes = {"n_filters": 8, "emb_dim": 16, "n_layers": 2, "n_heads": 2}
    encoder = MaskedClusterTransformer(
        **EEG, **sizes, dim_feedforward=16, drop_prob=0.0
    )
    return MaskedClusterPretraining(encoder, n_clusters=(5, 3), code_dim=8, **kwargs)


def make_case(name):
    """Return an objective in double precision, and the arguments of its loss."""
    torch.manual_seed(0)
    if name == "scmm":
        return make_scmm().double(), [make_noise(2 * N_WINDOWS, 4, 5)]
    if name == "memhacl":
        encoder = MEMHACL(**EEG, n_filters=(4, 4, 8, 8), n_hidden=(6,))
        objective = MEMHACLPretraining(encoder, projector_widths=(12, 10), drop_prob=0)
        return objective.double(), [make_noise(2, N_WINDOWS, 2, 3, 128)]
    x = make_noise(N_WINDOWS, 3, 128)
    if name == "masked_cluster":
        objective = make_masked_cluster(
            random_state=0, intermediate_weight=0.5, feature_penalty=2.0
        )
        objective.fit_clusters(make_noise(20, 3, 128).float())
        targets = objective.compute_targets(x.float())
        # Increasing from window to window, so that a mean of means would be wrong.
        shares = torch.linspace(0.1, 0.9, N_WINDOWS)[:, None]
        mask = torch.rand(targets.shape[:2]) < shares
        return objective.double(), [x, targets, mask]
    sizes = {"embed_dim": 16, "n_layers": 1, "n_heads": 4, "patch_size": 16}
    encoder = MoodReader(
        **EEG, **sizes, feature_dim=8, n_feature_heads=2, drop_prob=0.0
    )
    objective = MoodReaderPretraining(
        encoder, decoder_dim=8, n_decoder_layers=1, n_decoder_heads=2
    )
    return objective.double(), [x, *objective.sample_masks(N_WINDOWS)]


def take_part(name, arguments, rank):
    """Return the part that one process has of the arguments of a loss."""
    if name == "scmm":  # two views, one below the other
        (views,) = arguments
        return [views.unflatten(0, (2, -1)).chunk(2, dim=1)[rank].flatten(0, 1)]
    return [x.chunk(N_PROCESSES, dim=DIMS[name])[rank] for x in arguments]


class Loss(nn.Module):
    """A module that returns the loss, as DistributedDataParallel needs."""

    def __init__(self, objective):
        super().__init__()
        self.objective = objective

    def forward(self, *arguments):
        return self.objective.compute_loss(*arguments)


def summarize(objective, output):
    """Return loss, gradients and buffers after a step."""
    output.loss.backward()
    gradients = {name: weight.grad for name, weight in objective.named_parameters()}
    return {
        "loss": {"loss": output.loss.detach(), **output.terms},
        "gradients": {k: v for k, v in gradients.items() if v is not None},
        "buffers": dict(objective.named_buffers()),
    }


def run_loss(name, rank):
    objective, arguments = make_case(name)
    synchronize(objective)
    parallel = DistributedDataParallel(Loss(objective), find_unused_parameters=True)
    return summarize(objective, parallel(*take_part(name, arguments, rank)))


def make_samplers():
    rows = [
        {"subject": subject, "session": "0", "run": f"{trial}", "trial": trial}
        | {"window": window, "stimulus": f"{trial}", "corpus": "AB"[subject > 3]}
        for subject in range(6)
        for trial in range(3)
        for window in range(7)
    ]
    metadata = pd.DataFrame(rows)
    return {
        "group": StimulusGroupSampler(metadata, 4, 1, random_state=0),
        "balanced": CorpusBalancedSampler(metadata, random_state=0),
        "continuity": ContinuityBatchSampler(metadata, 6, 3, random_state=0),
    }


class Masked(SCMMPretraining):
    """Mask values above 0, without randomness, in double precision."""

    def forward(self, x):
        features = self.encoder.extract_features(x.double())
        return self.compute_loss(
            torch.cat([features, features.masked_fill(features > 0, 0.0)])
        )


class Recorder(Callback):
    """Record batches and terms."""

    def initialize(self):
        self.batches, self.terms = [], []
        return self

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        if not training:
            return
        self.batches.append(batch[0].clone())
        self.terms.append({name: float(term) for name, term in y_pred.terms.items()})


class Masks(SCMMPretraining):
    """Record a random number per step, drawn like the masks."""

    def forward(self, x):
        output = super().forward(x)
        return output._replace(terms={**output.terms, "random": torch.rand(())})


def make_windows():
    return make_noise(40, 4, 5).float().numpy()


def train(pretrainer_class, objective, X=None, metadata=None, **settings):
    """Train for two epochs."""
    recorder = Recorder()
    settings = {
        "max_epochs": 2,
        "lr": 0.05,
        "optimizer": torch.optim.SGD,
        "random_state": 3,
        "callbacks": [recorder],
        **settings,
    }
    pretrainer = pretrainer_class(objective, **settings)
    pretrainer.fit(make_windows() if X is None else X, metadata=metadata)
    return {
        "state": pretrainer.module_.state_dict(),
        "kinds": [type(module).__name__ for module in pretrainer.module_.modules()],
        "batches": recorder.batches,
        "loss": pretrainer.history[:, "train_loss"],
        "history": pretrainer.history.to_list(),
        "terms": recorder.terms,
    }


def train_masked(pretrainer_class, batch_size):
    torch.manual_seed(0)
    return train(
        pretrainer_class,
        make_scmm(Masked).double(),
        batch_size=batch_size,
        iterator_train__shuffle=False,
    )


def train_on_subjects():
    """Train on windows that a sampler draws, and validate on other subjects."""
    rows = [
        {"subject": i // 8, "session": "0", "run": "0", "trial": 0}
        | {"window": i % 8, "stimulus": "0", "corpus": "AB"[i > 30]}
        for i in range(40)
    ]
    return train(
        DistributedPretrainer,
        make_scmm(),
        metadata=pd.DataFrame(rows),
        batch_size=4,
        sampler=CorpusBalancedSampler,
        validation=0.2,
        patience=5,
        gradient_accumulation_steps=2,
        precision="bf16",
    )


def train_in_parts(folder):
    """Train for an epoch, resume for another, and train for both at once."""
    settings = {"batch_size": 6, "checkpoint_dir": folder / "state"}
    results = {}
    for name, changes in {
        "interrupted": {"max_epochs": 1},
        "resumed": {"resume": True},
        "whole": {"checkpoint_dir": None},
    }.items():
        torch.manual_seed(0)
        results[name] = train(
            DistributedPretrainer, make_scmm(Masks), **{**settings, **changes}
        )
    with pytest.raises(CheckpointError) as error:
        train(SSLPretrainer, make_scmm(Masks), resume=True, **settings)
    results["other number"] = str(error.value)
    return results


def work(rank, folder):
    """Run one of the processes."""
    dist.init_process_group(
        "gloo",
        f"file://{folder}/group",
        rank=rank,
        world_size=N_PROCESSES,
        timeout=timedelta(seconds=60),
    )
    results = {name: run_loss(name, rank) for name in DIMS}

    x = torch.full((2, 3), rank + 1.0, requires_grad=True)
    gathered = gather(x, dim=1)
    (gathered * (rank + 1)).sum().backward()
    results["gather"] = {"x": gathered.detach(), "gradient": x.grad}
    results["total"] = total(torch.tensor(rank + 1))

    samplers = make_samplers().items()
    results["samplers"] = {name: list(sampler) for name, sampler in samplers}

    results["masked"] = train_masked(DistributedPretrainer, 5)
    torch.manual_seed(rank)
    shuffled = make_scmm(Masks)
    results["shuffled"] = train(DistributedPretrainer, shuffled, batch_size=6)
    written = []

    def save(path, *arguments):
        written.append(path)
        save_checkpoint(path, *arguments)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(pretrainer_module, "save_checkpoint", save)
        results["clusters"] = train(
            DistributedPretrainer,
            make_masked_cluster(recluster_every=1),
            make_noise(20, 3, 128),
            batch_size=4,
            verbose=1,
            checkpoint_dir=folder / "clusters",
        )
    results["written"] = [str(path.relative_to(folder)) for path in written]
    results["subjects"] = train_on_subjects()
    results |= train_in_parts(folder)
    for name, wrong in {
        "few": {"batch_size": 21},
        "seed": {"batch_size": 4, "random_state": None},
    }.items():
        with pytest.raises(ValueError) as error:
            train(DistributedPretrainer, make_scmm(), **wrong)
        results[name] = str(error.value)
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Results of two processes, which do everything, as their start is slow."""
    folder = tmp_path_factory.mktemp("processes")
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(N_PROCESSES),
                "LOCAL_WORLD_SIZE": str(N_PROCESSES),
                "OMP_NUM_THREADS": "1",
                "ACCELERATE_USE_CPU": "true",
            },
        )
        for rank in range(N_PROCESSES)
    ]
    try:
        outputs = [process.communicate(timeout=180) for process in processes]
    finally:
        for process in processes:
            process.kill()
    errors = "\n".join(output[1] for output in outputs)
    assert not any(process.returncode for process in processes), errors
    results = [
        torch.load(folder / f"{rank}.pt", weights_only=False)
        for rank in range(N_PROCESSES)
    ]
    for result, (printed, _) in zip(results, outputs, strict=True):
        result["printed"] = printed
    return results


def assert_same(first, second, **tolerances):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], msg=name, **tolerances)


@pytest.mark.parametrize("name", DIMS)
def test_step_is_that_of_one_process_with_all_windows(found, name):
    """Loss, gradients and running statistics; terms must not be those of a half."""
    objective, arguments = make_case(name)
    expected = summarize(objective, objective.compute_loss(*arguments))
    assert len(expected["gradients"]) > 5
    for rank in range(N_PROCESSES):
        for part, values in expected.items():
            assert_same(found[rank][name][part], values, rtol=1e-9, atol=1e-12)


def test_gathered_gradients_are_added_up(found):
    for rank in range(N_PROCESSES):
        expected = torch.tensor([[1.0, 1, 1, 2, 2, 2]] * 2)
        torch.testing.assert_close(found[rank]["gather"]["x"], expected)
        # A process weighs the gathered values by its number.
        expected = torch.full((2, 3), 1.0 + 2.0)
        torch.testing.assert_close(found[rank]["gather"]["gradient"], expected)
        assert found[rank]["total"] == 3


@pytest.mark.parametrize("name", ["group", "balanced", "continuity"])
def test_samplers_share_an_epoch(found, name):
    parts = [found[rank]["samplers"][name] for rank in range(N_PROCESSES)]
    assert len(parts[0]) == len(parts[1])
    alone = Counter(map(repr, make_samplers()[name]))
    shared = Counter(map(repr, chain(*parts)))
    n_again = (shared - alone).total()
    assert not alone - shared
    # The last round is filled up by a batch of groups, or by a unit.
    assert n_again == shared.total() - alone.total() <= (4 if name == "group" else 1)


def test_training_is_that_of_one_process_with_twice_the_batch(found):
    alone = train_masked(SSLPretrainer, 10)
    for rank in range(N_PROCESSES):
        together = found[rank]["masked"]
        assert_same(together["state"], alone["state"], rtol=1e-9, atol=1e-12)
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-9)
    for i, batch in enumerate(alone["batches"]):
        halves = [found[rank]["masked"]["batches"][i] for rank in range(N_PROCESSES)]
        torch.testing.assert_close(torch.cat(halves), batch)


def test_processes_share_the_order_but_not_the_masks(found):
    first, second = (found[rank]["shuffled"] for rank in range(N_PROCESSES))
    assert_same(first["state"], second["state"], rtol=0, atol=0)
    assert first["loss"] == second["loss"]
    assert np.isfinite(first["loss"]).all()
    known = {tuple(window.ravel().tolist()) for window in make_windows()}
    for epoch in range(2):
        steps = slice(3 * epoch, 3 * epoch + 3)
        batches = torch.cat([*first["batches"][steps], *second["batches"][steps]])
        windows = [tuple(window.flatten().tolist()) for window in batches]
        assert len(windows) == len(set(windows)) == 36  # no window comes twice
        assert known.issuperset(windows)
    assert not torch.equal(first["batches"][0], first["batches"][3])
    drawn = [step["random"] for step in first["terms"] + second["terms"]]
    assert len(drawn) == len(set(drawn)) == 12


def test_clusters_are_those_of_the_first_process(found):
    """Unseeded, the processes would find different clusters."""
    first, second = (found[rank]["clusters"] for rank in range(N_PROCESSES))
    assert first["state"]["clustered"] == 2
    assert_same(first["state"], second["state"], rtol=0, atol=0)


def test_sampler_and_validation_are_those_of_all(found):
    first, second = (found[rank]["subjects"] for rank in range(N_PROCESSES))
    assert_same(first["state"], second["state"], rtol=0, atol=0)
    for epoch, other in zip(first["history"], second["history"], strict=True):
        assert epoch["train_loss"] == other["train_loss"]
        assert epoch["valid_loss"] == other["valid_loss"]
    windows = {tuple(window.ravel().tolist()) for window in make_windows()}
    steps = len(first["batches"]) // 2
    seen = torch.cat([*first["batches"][:steps], *second["batches"][:steps]])
    seen = Counter(tuple(window.flatten().tolist()) for window in seen)
    assert windows.issuperset(seen)
    # Four of five subjects train, whose windows are dealt out.
    assert seen.total() == 32
    assert len(seen) > 16  # more than either process has


def test_training_is_resumed_to_the_bit(found):
    for rank in range(N_PROCESSES):
        resumed, whole = found[rank]["resumed"], found[rank]["whole"]
        assert_same(resumed["state"], whole["state"], rtol=0, atol=0)
        assert resumed["loss"] == whole["loss"]
        assert len(found[rank]["interrupted"]["loss"]) == 1


def test_a_training_is_not_resumed_by_another_number_of_processes(found):
    """It was resumed with batches of another size."""
    for rank in range(N_PROCESSES):
        assert "processes was 2, but is now unset" in found[rank]["other number"]


def test_only_the_first_process_writes_the_trained_objective(found):
    """All processes renamed the same folder at once."""
    assert found[0]["written"] == ["clusters/trained"]
    assert found[1]["written"] == []


def test_only_the_first_process_prints(found):
    assert "train_loss" in found[0]["printed"]
    assert not found[1]["printed"]


def test_the_layers_are_restored_after_training(found):
    expected = [type(module).__name__ for module in make_scmm(Masked).modules()]
    assert found[0]["masked"]["kinds"] == expected


def test_windows_must_fill_a_batch_of_each_process(found):
    assert "in each of 2 processes needs 42 windows, but got 40" in found[0]["few"]


def test_processes_need_a_common_seed(found):
    assert "random_state must be the same seed" in found[1]["seed"]


def test_alone_it_is_the_pretrainer(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    torch.manual_seed(0)
    objective = make_scmm()
    results = [
        train(kind, objective, batch_size=8)
        for kind in (SSLPretrainer, DistributedPretrainer)
    ]
    assert_same(results[0]["state"], results[1]["state"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("pretrainer_class", "n_processes", "rank", "n_warnings"),
    [
        (SSLPretrainer, "2", "0", 1),
        (SSLPretrainer, "2", "1", 0),
        (SSLPretrainer, "1", "0", 0),
        (DistributedPretrainer, "2", "0", 0),
    ],
)
def test_a_launcher_with_the_wrong_pretrainer(
    monkeypatch, caplog, pretrainer_class, n_processes, rank, n_warnings
):
    """Under torchrun every process silently trained the same copy."""
    pretrainer = pretrainer_class(make_scmm(), max_steps=0, random_state=0)
    if pretrainer_class is DistributedPretrainer:  # alone, it would wait for the other
        monkeypatch.setattr(pretrainer, "_check_metadata", lambda metadata: 1 / 0)
    monkeypatch.setenv("WORLD_SIZE", n_processes)
    monkeypatch.setenv("RANK", rank)
    with suppress(ZeroDivisionError):
        pretrainer.fit(make_windows())
    found = [text for text in caplog.messages if "DistributedPretrainer" in text]
    assert len(found) == n_warnings
    assert all("in 2 processes" in text for text in found)


def test_synchronization_can_be_undone():
    objective = make_scmm()
    kinds = [type(layer) for layer in objective.modules()]
    before = copy.deepcopy(objective.state_dict())
    synchronize(objective)
    assert [type(layer) for layer in objective.modules()] != kinds
    desynchronize(objective)
    assert [type(layer) for layer in objective.modules()] == kinds
    assert_same(objective.state_dict(), before)


def test_accelerate_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r"braindecode-emossl\[distributed\]"):
        DistributedPretrainer(make_scmm()).fit(make_windows())


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
