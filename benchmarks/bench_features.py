"""Differential entropy of one trial of SEED's size, against plain implementations.

    python benchmarks/bench_features.py
    python benchmarks/bench_features.py --rounds 9 --threads 1
    python benchmarks/bench_features.py --parts gpu

One trial is 62 channels x 200 Hz x 240 s of white noise, in 1-s windows and five bands.
The times are medians of interleaved rounds. The references are

* ``literal``: the method of torcheeg's default, one window, one channel and one band at
  a time, with the filter designed each time, or once; timed on a tenth of the windows;
* ``loop``: one window at a time, a Hann-FFT for each band, or one for all bands;
* ``sosfiltfilt``: the whole trial, band by band, then the variance of each window.

torcheeg itself is timed if it is installed, and a GPU if there is one. Peak memory is
that of a fresh interpreter for a whole session (15 trials in one array) in addition to
the session itself.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context

import numpy as np
import scipy.fft
import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy import signal
from threadpoolctl import threadpool_limits

from braindecode_emossl.features import BANDS, differential_entropy

N_CHANS, SFREQ, SECONDS, N_TRIALS = 62, 200, 240, 15
N_LITERAL = 24  # windows
SHAPE = (N_CHANS, SFREQ * SECONDS)
METHODS = ("filter", "fft", "window-filter")
HANN = signal.get_window("hann", SFREQ)  # periodic


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="(default 1 2)"
    )
    parts = ("memory", "agreement", "time", "gpu")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, but got {options.rounds}")
    console = Console(width=140)
    names = ("numpy", "scipy", "torch")
    console.print(", ".join(f"{name} {version(name)}" for name in names))
    if "memory" in options.parts:  # first: a child inherits the peak of its parent
        console.print(memory_table())
    x = np.random.default_rng(0).standard_normal(SHAPE)
    if "agreement" in options.parts:
        console.print(agreement_table(x))
    if "time" in options.parts:
        with Progress(console=console, transient=True) as bar:
            for n_threads in options.threads:
                console.print(time_table(x, n_threads, options.rounds, bar))
    if "gpu" in options.parts and torch.cuda.is_available():
        console.print(gpu_table(x, options.rounds))
    elif "gpu" in options.parts:
        console.print("No GPU is available, so none was measured.")


# -- references ----------------------------------------------------------------


DESIGNED = {b: signal.butter(5, b, "bandpass", fs=SFREQ) for b in BANDS.values()}


def filter_designed_anew(band, channel):
    """Filter as torcheeg does, by a ratio of polynomials that is designed each time."""
    return signal.lfilter(*signal.butter(5, band, "bandpass", fs=SFREQ), channel)


def filter_designed_once(band, channel):
    """Filter likewise, but keep the design."""
    return signal.lfilter(*DESIGNED[band], channel)


def filter_in_sections(band, channel):
    """Filter likewise, in second-order sections, which lose no digits."""
    sos = signal.butter(5, band, "bandpass", fs=SFREQ, output="sos")
    return signal.sosfilt(sos, channel)


def literal(x, apply: Callable):
    """Filter one window of one channel in one band at a time."""
    return np.array(
        [
            [
                [entropy(apply(band, c).var()) for band in BANDS.values()]
                for c in x[:, start : start + SFREQ]
            ]
            for start in range(0, x.shape[1], SFREQ)
        ]
    )  # (n_windows, n_chans, n_bands)


def loop(x, fft_per_band: bool = False):
    """Take one window at a time, and an FFT for each band or one for all."""
    taper = HANN.astype(x.dtype)

    def power(window):
        tapered = taper * (window - window.mean(axis=-1, keepdims=True))
        return np.abs(np.fft.rfft(tapered)) ** 2

    rows = []
    for start in range(0, x.shape[1], SFREQ):
        window = x[:, start : start + SFREQ]
        spectrum = power(window)
        bands = []
        for low, high in BANDS.values():
            if fft_per_band and bands:
                spectrum = power(window)
            total = spectrum[:, int(low) : int(high)].sum(axis=-1)
            bands.append(entropy(2 * total / (SFREQ * (HANN**2).sum())))
        rows.append(np.stack(bands, axis=-1))
    return np.stack(rows)  # (n_windows, n_chans, n_bands)


def sosfiltfilt(x, padlen: int | None = None):
    """Filter the trial band by band, then cut."""
    bands = []
    for band in BANDS.values():
        sos = signal.butter(4, band, "bandpass", fs=SFREQ, output="sos")
        filtered = signal.sosfiltfilt(sos, x, padlen=padlen)
        bands.append(entropy(filtered.reshape(len(x), -1, SFREQ).var(axis=-1)))
    return np.stack(bands, axis=-1).swapaxes(0, 1)  # (n_windows, n_chans, n_bands)


def torcheeg(x):
    """Give torcheeg the windows one by one, as its data sets do."""
    from torcheeg.transforms import BandDifferentialEntropy

    bands = {name: list(band) for name, band in BANDS.items()}
    transform = BandDifferentialEntropy(sampling_rate=SFREQ, band_dict=bands)
    for start in range(0, x.shape[1], SFREQ):
        transform(eeg=x[:, start : start + SFREQ])


def entropy(variance):
    """Return the differential entropy of a Gaussian."""
    return 0.5 * np.log(2 * math.pi * math.e * variance)


# -- tables --------------------------------------------------------------------


@dataclass
class Case:
    """Something to time, and the names of the cases that it is compared with."""

    name: str
    run: Callable
    references: tuple[str, ...] = ()
    part: float = 1.0  # of the trial's windows


def make_cases(x) -> list[Case]:
    """List what is timed, references first."""
    single, few = x.astype(np.float32), x[:, : N_LITERAL * SFREQ]
    part = few.shape[1] / x.shape[1]
    loops = ("loop float32, FFT per band", "loop float32, one FFT")
    literals = ["literal float64", "literal float64, designed once"]
    cases = [
        Case(literals[0], lambda: literal(few, filter_designed_anew), part=part),
        Case(literals[1], lambda: literal(few, filter_designed_once), part=part),
        Case(loops[0], lambda: loop(single, fft_per_band=True)),
        Case(loops[1], lambda: loop(single)),
        Case("sosfiltfilt float64", lambda: sosfiltfilt(x)),
    ]
    if find_spec("torcheeg"):
        literals.append("torcheeg BandDifferentialEntropy")
        cases.append(Case(literals[-1], lambda: torcheeg(few), part=part))
    for method, data, references in (
        ("window-filter", x, tuple(literals)),
        ("fft", single, loops),
        ("filter", x, ("sosfiltfilt float64",)),
        ("filter", single, ("sosfiltfilt float64",)),
    ):
        for library, array in (("numpy", data), ("torch", torch.from_numpy(data))):
            run = partial(differential_entropy, array, SFREQ, method=method)
            cases.append(Case(f"{method} {data.dtype} {library}", run, references))
    return cases


def time_table(x, n_threads: int, rounds: int, bar: Progress) -> Table:
    """Return the medians of interleaved rounds."""
    cases = make_cases(x)
    times: dict[str, list[float]] = {case.name: [] for case in cases}
    torch.set_num_threads(n_threads)
    step = bar.add_task(f"{n_threads} thread(s)", total=rounds * len(cases))
    with threadpool_limits(n_threads), scipy.fft.set_workers(n_threads):
        for _ in range(rounds):
            for case in cases:
                start = time.perf_counter()
                case.run()
                times[case.name].append((time.perf_counter() - start) / case.part)
                bar.advance(step)
    medians = {name: statistics.median(values) for name, values in times.items()}
    table = make_table(
        f"{n_threads} thread(s), medians of {rounds} rounds",
        ("what", "ms", "times faster than"),
    )
    for case in cases:
        ratios = (
            f"{medians[name] / medians[case.name]:.1f} {name}"
            for name in case.references
        )
        table.add_row(case.name, f"{1e3 * medians[case.name]:,.1f}", "; ".join(ratios))
    return table


def agreement_table(x) -> Table:
    """Return the largest differences from the references."""
    few = x[:, : N_LITERAL * SFREQ]
    in_sections, as_ratio = (
        literal(few, apply) for apply in (filter_in_sections, filter_designed_anew)
    )
    by_window = differential_entropy(few, SFREQ, method="window-filter")
    by_fft = differential_entropy(x.astype(np.float32), SFREQ, method="fft")
    by_filter = differential_entropy(x, SFREQ)
    same_padding, default_padding = (
        np.expm1(2 * (by_filter - sosfiltfilt(x, padlen)))
        for padlen in (10 * SFREQ, None)
    )  # relative error of the variance
    table = make_table("Agreement", ("what", *BANDS))
    for name, error in (
        ("window-filter float64 - literal, DE", by_window - in_sections),
        ("literal as a ratio of polynomials - literal, DE", as_ratio - in_sections),
        ("fft float32 - loop float64, DE", by_fft - loop(x)),
        ("filter / sosfiltfilt, same padding", same_padding),
        ("... default padding, windows 8 to 233", default_padding[7:-7]),
        ("... default padding, windows 2 to 239", default_padding[1:-1]),
        ("... default padding, first and last", default_padding[[0, -1]]),
    ):
        table.add_row(name, *(f"{value:.0e}" for value in abs(error).max(axis=(0, 1))))
    return table


def memory_table() -> Table:
    """Return the peak memory of a session beyond the session, in fresh processes."""
    table = make_table("A session in one array", ("method", "input MiB", "extra", "/"))
    for method in METHODS:
        for library in ("numpy", "torch"):
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                size, extra = pool.submit(measure_memory, method, library).result()
            row = (f"{size / 2**20:.0f}", f"{extra / 2**20:.0f}", f"{extra / size:.2f}")
            table.add_row(f"{method} float32 {library}", *row)
    return table


def measure_memory(method: str, library: str) -> tuple[int, int]:
    """Return the bytes of a session, and what its features take beyond them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N_TRIALS, *SHAPE), dtype=np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = torch.from_numpy(x) if library == "torch" else x
    differential_entropy(data, SFREQ, method=method)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return x.nbytes, 1024 * (after - before)


def gpu_table(x, rounds: int) -> Table:
    """Return bytes read and written per second, against those of a copy."""
    x = torch.from_numpy(x).float().cuda().expand(N_TRIALS, *SHAPE).contiguous()
    copy = torch.empty_like(x)
    seconds = time_gpu(lambda: copy.copy_(x), rounds)
    bandwidth = 2 * x.nbytes / seconds
    table = make_table(
        torch.cuda.get_device_name(), ("what", "ms", "GB/s", "of a copy's")
    )
    table.add_row("copy", f"{1e3 * seconds:.2f}", f"{bandwidth / 1e9:.0f}", "1")
    for method in METHODS:
        result = differential_entropy(x, SFREQ, method=method)
        run = partial(differential_entropy, x, SFREQ, method=method)
        seconds = time_gpu(run, rounds)
        rate = (x.nbytes + result.nbytes) / seconds
        table.add_row(
            f"{method} float32, a session",
            f"{1e3 * seconds:.2f}",
            f"{rate / 1e9:.0f}",
            f"{rate / bandwidth:.2f}",
        )
    return table


def time_gpu(run: Callable, rounds: int) -> float:
    """Return the median seconds of a call, after one that warms up."""
    times = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def make_table(title: str, columns: tuple[str, ...]) -> Table:
    """Make an empty table in Markdown."""
    table = Table(title=title, title_justify="left", box=MARKDOWN)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    return table


if __name__ == "__main__":
    main()
