"""Time and memory of the soft contrastive loss and of its expanded computation.

    python benchmarks/bench_losses.py
    python benchmarks/bench_losses.py --rows 1024 --rounds 11

Forward and backward pass of ``SoftContrastiveLoss`` on as many rows and features as
SCMM has with 62 channels, 5 bands and a batch of 256 windows. The expanded computation
uses the same equation with one (rows, rows, features) tensor for the distances of all
pairs, and scales each column with scikit-learn.

* time: median of interleaved rounds;
* memory: peak resident memory of a call in a fresh process minus the memory just before
  (only on Linux).

First, losses and gradients of the two are compared; a difference is an error.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from sklearn.preprocessing import minmax_scale

from braindecode_emossl.losses import SoftContrastiveLoss

METRICS = ("cosine", "euclidean", "manhattan")
UPPER_BOUND, SHARPNESS, TEMPERATURE = 0.5, 0.05, 0.5
EMB_DIM = 128
MIB = 2**20


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=512, help="views (default 512)")
    parser.add_argument("--features", type=int, default=310, help="default 310")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    options = parser.parse_args()
    table = Table(
        *("metric", "ms", "expanded", "ratio", "MiB", "expanded", "ratio"),
        title=f"{options.rows} rows of {options.features} features",
        box=MARKDOWN,
    )
    for metric in METRICS:
        arguments = (metric, options.rows, options.features)
        check(*arguments)
        seconds = measure_time(*arguments, options.rounds)
        peaks = [
            in_fresh_process(measure_memory, f, *arguments) for f in (ours, expanded)
        ]
        table.add_row(
            metric,
            *(f"{1000 * value:.1f}" for value in seconds),
            f"1/{seconds[1] / seconds[0]:.0f}",
            *(f"{value / MIB:.1f}" for value in peaks),
            f"1/{peaks[1] / max(peaks[0], 1):.0f}",
        )
    Console(width=100).print(table)


def draw(n_rows: int, n_features: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return embeddings that want a gradient, and inputs, half of them masked."""
    generator = torch.Generator().manual_seed(0)
    originals = torch.rand(n_rows // 2, n_features, generator=generator)
    kept = torch.rand(originals.shape, generator=generator) > 0.5
    embeddings = 0.1 * torch.randn(n_rows, EMB_DIM, generator=generator)
    return embeddings.requires_grad_(), torch.cat([originals, originals * kept])


def ours(metric: str, embeddings: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return the loss of the package."""
    criterion = SoftContrastiveLoss(
        UPPER_BOUND, SHARPNESS, TEMPERATURE, metric, scaling="column"
    )
    return criterion(embeddings, inputs, n_views=2)[0]


def expanded(
    metric: str, embeddings: torch.Tensor, inputs: torch.Tensor
) -> torch.Tensor:
    """Return the loss through one (rows, rows, features) tensor."""
    n_rows = len(inputs)
    one, other = inputs[:, None], inputs[None]
    if metric == "cosine":
        distances = -F.cosine_similarity(one, other, dim=-1)
    elif metric == "euclidean":
        distances = (one - other).square().sum(dim=-1).sqrt()
    else:
        distances = (one - other).abs().sum(dim=-1)
    itself = torch.eye(n_rows, dtype=torch.bool)
    distances[itself] = distances[~itself].min()
    scaled = torch.from_numpy(minmax_scale(distances.numpy()))
    weights = 2 * UPPER_BOUND / (1 + torch.exp(scaled / SHARPNESS))
    weights[itself.roll(n_rows // 2, dims=0)] = 1.0

    logits = embeddings @ embeddings.T / TEMPERATURE
    log_q = logits[~itself].view(n_rows, -1).log_softmax(dim=1)
    weights = weights[~itself].view(n_rows, -1)
    return -(weights * log_q).sum() / (n_rows * (n_rows - 1))


def check(metric: str, n_rows: int, n_features: int) -> None:
    """Raise if the two differ."""
    found = []
    for function in (ours, expanded):
        embeddings, inputs = draw(n_rows, n_features)
        loss = function(metric, embeddings, inputs)
        loss.backward()
        found.append((loss.detach(), embeddings.grad))
    for value, reference in zip(*found, strict=True):
        error = ((value - reference).norm() / reference.norm()).item()
        if error > 1e-4:
            raise ValueError(f"{metric}: the two differ by {error:.1e}, relatively.")


def measure_time(
    metric: str, n_rows: int, n_features: int, n_rounds: int
) -> list[float]:
    """Return the median seconds of ours and of the expanded computation."""
    seconds = {ours: [], expanded: []}
    for _ in range(n_rounds):
        for function, values in seconds.items():
            embeddings, inputs = draw(n_rows, n_features)
            start = time.perf_counter()
            function(metric, embeddings, inputs).backward()
            values.append(time.perf_counter() - start)
    return [statistics.median(values) for values in seconds.values()]


def measure_memory(function, metric: str, n_rows: int, n_features: int) -> float:
    """Return the bytes of resident memory that a call takes at its highest."""
    torch.set_num_threads(1)
    function(metric, *draw(8, n_features)).backward()  # loads what it needs
    embeddings, inputs = draw(n_rows, n_features)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest so far
    before = memory_of("VmRSS")
    function(metric, embeddings, inputs).backward()
    return memory_of("VmHWM") - before


def memory_of(name: str) -> int:
    """Return a value of the kernel's in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status holds no {name}; this needs Linux.")


def in_fresh_process(function, *arguments):
    """Call a function where nothing has been in memory before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    main()
