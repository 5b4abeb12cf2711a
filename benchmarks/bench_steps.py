"""Parts of a training step on the CPU against plain implementations.

    OMP_NUM_THREADS=1 python benchmarks/bench_steps.py
    OMP_NUM_THREADS=1 python benchmarks/bench_steps.py --rounds 51

Tables of CPU time, medians of interleaved rounds:

* meiosis, in plain copies of its batch, against crossing the windows into two tensors
  that are then stacked; both give the same groups;
* an optimizer step of AdamW, fused as in ``SSLPretrainer``, against torch's default;
* a batch of a tiny model in ``SSLPretrainer`` and in skorch's ``NeuralNet``;
* an update of pre-training in two sizes: of MEMHACL, the default and the published one,
  on 128 windows of 62 x 200; of MaskedClusterTransformer and MoodReader, the default
  and a larger one, on 64 windows of 62 x 800. It has three rounds, as the published
  MEMHACL takes a quarter of a minute.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import time
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from skorch import NeuralNet
from torch import nn

from braindecode_emossl.augmentation import meiosis
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
    PretrainingObjective,
    PretrainingOutput,
    SSLPretrainer,
)

N_BATCHES = 300
SHAPES = [(64, 4, 62, 200), (16, 8, 62, 200), (64, 16, 32, 128), (128, 4, 40, 128)]


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25, help="rounds (default 25)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=100)
    console.print(compare_meiosis(options.rounds))
    console.print(compare_optimizers(options.rounds))
    console.print(compare_loops(options.rounds))
    console.print(compare_sizes(min(options.rounds, 3)))


def measure(functions: dict, n_rounds: int) -> dict[str, float]:
    """Return the median CPU time of each function in seconds."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(n_rounds):
        for name, function in functions.items():
            start = time.process_time()
            function()
            found[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in found.items()}


def compare_meiosis(n_rounds: int) -> Table:
    """Return the cost of meiosis in copies of its batch."""
    table = Table("meiosis", "stacked", "ours", "ratio", box=MARKDOWN)
    for shape in SHAPES:
        x = torch.randn(shape)
        torch.manual_seed(0)
        expected = cross_and_stack(x)
        torch.manual_seed(0)
        assert torch.equal(meiosis(x), expected)
        seconds = measure(
            {
                "copy": x.clone,
                "stacked": lambda x=x: cross_and_stack(x),
                "ours": lambda x=x: meiosis(x),
            },
            n_rounds,
        )
        copies = [seconds[name] / seconds["copy"] for name in ("stacked", "ours")]
        table.add_row(
            " x ".join(map(str, shape)),
            *(f"{n:.1f}" for n in copies),
            f"{copies[0] / copies[1]:.1f}",
        )
    return table


def cross_and_stack(x: torch.Tensor) -> torch.Tensor:
    """Cross windows as meiosis does, with a tensor for each step."""
    n_items, n_windows, _, n_times = x.shape
    order = torch.rand(n_items, n_windows).argsort(dim=1)
    cut = torch.randint(1, n_times - 1, (n_items, 1, 1, 1))
    first, second = x[torch.arange(n_items)[:, None], order].chunk(2, dim=1)
    before = torch.arange(n_times) < cut
    return torch.stack(
        [torch.where(before, first, second), torch.where(before, second, first)]
    )


def compare_optimizers(n_rounds: int) -> Table:
    """Return the time of one step of AdamW for each model."""
    settings = {"n_outputs": 3, "n_chans": 62, "n_times": 800, "sfreq": 200}
    models = [
        SCMM(n_outputs=3, n_chans=62, n_times=5, input_domain="de"),
        MEMHACL(**{**settings, "n_times": 200}, preset="paper"),
        MaskedClusterTransformer(**settings),
        MoodReader(**settings),
    ]
    table = Table("AdamW", "default (ms)", "fused (ms)", "ratio", box=MARKDOWN)
    for model in models:
        weights = list(model.parameters())
        for weight in weights:
            weight.grad = torch.full_like(weight, 1e-3)
        seconds = measure(
            {
                "default": torch.optim.AdamW(weights).step,
                "fused": torch.optim.AdamW(weights, fused=True).step,
            },
            n_rounds,
        )
        table.add_row(
            type(model).__name__,
            *(f"{1e3 * value:.2f}" for value in seconds.values()),
            f"{seconds['default'] / seconds['fused']:.1f}",
        )
    return table


def compare_loops(n_rounds: int) -> Table:
    """Return the time of a batch of a tiny model."""
    X = np.random.default_rng(0).standard_normal((N_BATCHES * 8, 4, 5), np.float32)
    y = np.zeros(len(X), np.float32)
    shared = {"batch_size": 8, "lr": 1e-3, "verbose": 0}

    def train_skorch():
        NeuralNet(
            make_layers,
            criterion=_Squares,
            max_epochs=1,
            train_split=None,
            optimizer=torch.optim.AdamW,
            optimizer__fused=True,
            iterator_train__shuffle=True,
            **shared,
        ).fit(X, y)

    def train_ours():
        SSLPretrainer(_Objective(make_layers()), max_epochs=1, **shared).fit(X)

    seconds = measure({"skorch": train_skorch, "ours": train_ours}, n_rounds)
    table = Table("loop", "microseconds a batch", box=MARKDOWN)
    for name, value in seconds.items():
        table.add_row(name, f"{1e6 * value / N_BATCHES:.0f}")
    return table


class Sized(NamedTuple):
    """A model that is compared with a larger one."""

    model: type
    objective: type
    shape: tuple[int, ...]  # of a batch
    larger_model: dict
    larger_objective: dict


SIZED = [
    # items of four windows
    Sized(MEMHACL, MEMHACLPretraining, (32, 4, 62, 200), {"preset": "paper"}, {}),
    Sized(
        MaskedClusterTransformer,
        MaskedClusterPretraining,
        (64, 62, 800),
        {
            "n_filters": 256,
            "emb_dim": 256,
            "n_layers": 6,
            "n_heads": 8,
            "dim_feedforward": 1024,
        },
        {"code_dim": 256},
    ),
    Sized(
        MoodReader,
        MoodReaderPretraining,
        (64, 62, 800),
        {
            "embed_dim": 256,
            "n_layers": 8,
            "n_heads": 8,
            "mlp_ratio": 4.0,
            "feature_dim": 64,
            "n_feature_heads": 4,
        },
        {"decoder_dim": 128, "n_decoder_layers": 4, "n_decoder_heads": 8},
    ),
]


def compare_sizes(n_rounds: int) -> Table:
    """Return the parameters of models in two sizes, and the time of an update."""
    table = Table("model", "size", "model", "objective", "s an update", box=MARKDOWN)
    updates, counts = {}, {}
    for sized in SIZED:
        x = torch.randn(sized.shape)
        settings = {"n_outputs": 3, "n_chans": 62, "n_times": x.shape[-1], "sfreq": 200}
        for size in ("default", "larger"):
            of_model, of_objective = sized[3:] if size == "larger" else ({}, {})
            model = sized.model(**settings, **of_model)
            objective = sized.objective(model, **of_objective)
            objective.prepare(x.flatten(0, -3))
            takes_windows = "windows" in inspect.signature(objective.forward).parameters
            # As in training: the targets of a window are known from the second time on.
            extra = {"windows": torch.arange(len(x))} if takes_windows else {}
            optimizer = torch.optim.AdamW(objective.parameters(), fused=True)
            update = partial(_update, objective, optimizer, x, extra)
            update()
            key = sized.model.__name__, size
            updates[key] = update
            counts[key] = [
                sum(p.numel() for p in m.parameters()) for m in (model, objective)
            ]
    for key, value in measure(updates, n_rounds).items():
        table.add_row(*key, *(f"{n:,}" for n in counts[key]), f"{value:.2f}")
    return table


def _update(objective: nn.Module, optimizer, x: torch.Tensor, extra: dict) -> None:
    optimizer.zero_grad()
    objective(x, **extra).loss.backward()
    optimizer.step()


def make_layers() -> nn.Module:
    """Return a model that takes next to no time."""
    return nn.Sequential(nn.Flatten(), nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 4))


class _Squares(nn.Module):
    def forward(self, prediction, target):
        return prediction.square().mean()


class _Objective(PretrainingObjective):
    def forward(self, x):
        loss = self.encoder(x).square().mean()
        return PretrainingOutput(loss, {"squares": loss.detach()})


if __name__ == "__main__":
    main()
