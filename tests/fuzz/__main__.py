"""Fuzz the loaders: ``python -m tests.fuzz --minutes 30``, from the repository root."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import mne

from .engine import BAD, fuzz
from .targets import make_targets


def main() -> int:
    """Run the fuzzer; return 1 if anything came out that must not."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, help="how long to run")
    parser.add_argument("--files", type=int, help="how many files to load at most")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations")
    parser.add_argument("--only", type=int, help="run a single mutation by its number")
    parser.add_argument("--targets", nargs="*", help="names of the targets to fuzz")
    arguments = parser.parse_args()
    if arguments.minutes is None and arguments.files is None:
        arguments.minutes = 1.0
    mne.set_log_level("ERROR")
    logging.disable(logging.WARNING)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "sound").mkdir()
        os.environ["EMOSSL_CACHE_DIR"] = os.environ["_MNE_FAKE_HOME_DIR"] = folder
        targets = make_targets(root / "sound", arguments.targets or ())
        counts, bad = fuzz(
            targets,
            root / "mutated",
            arguments.seed,
            n_files=arguments.files,
            seconds=None if arguments.minutes is None else 60 * arguments.minutes,
            only=arguments.only,
            report=lambda counts, bad: _print_line(counts, bad, start),
        )
    _print_table(counts, bad)
    return int(bool(bad))


def _print_line(counts: Counter, bad: list, start: float) -> None:
    minutes = (time.monotonic() - start) / 60
    last = f", the last one {_describe(bad[-1])}" if bad else ""
    print(
        f"{minutes:6.1f} min: {counts.total()} files, {len(bad)} bad{last}", flush=True
    )


def _describe(message: dict) -> str:
    return (
        f"{message['outcome']}: mutation {message['number']} of {message['target']}, "
        f"{message['what']}: {message['detail']}"
    )


def _print_table(counts: Counter, bad: list) -> None:
    outcomes = ["refused", "warned", "same", "values", *BAD]
    names = sorted({name for name, _ in counts})
    print(f"{'':12}" + "".join(f"{outcome:>10}" for outcome in outcomes))
    for name in [*names, "all"]:
        row = [
            sum(
                count
                for (target, what), count in counts.items()
                if what == outcome and name in (target, "all")
            )
            for outcome in outcomes
        ]
        print(f"{name:12}" + "".join(f"{number:10}" for number in row))
    print(f"{counts.total()} files")
    for message in bad:
        print(_describe(message))


if __name__ == "__main__":
    sys.exit(main())
