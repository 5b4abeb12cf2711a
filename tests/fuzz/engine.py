"""Loads mutated files in child processes and classifies what comes of them."""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .targets import Target

__all__ = ["BAD", "fuzz"]

# Outcomes that must not occur; the others are "refused", "warned" (loaded with a
# warning), "same" and "values" (loaded in silence, with other values at most).
BAD = ("crash", "hang", "code", "exception", "memory", "structure")

# A load hangs after so much time of the processor, or if nothing comes for so long.
_HANG_SECONDS = 30
_SILENCE_SECONDS = 600
_MEMORY_BYTES = 600 * 2**20
# Values that may differ where so many bytes were touched: some channels are computed
# from two, and a few values are held for several samples.
_VALUES_PER_BYTE = 4
_EVENTS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.spawn")


def fuzz(
    targets: list[Target],
    place: Path,
    seed: int,
    *,
    n_files: int | None = None,
    seconds: float | None = None,
    only: int | None = None,
    report: Callable[[Counter, list], None] = lambda counts, bad: None,
) -> tuple[Counter, list[dict]]:
    """Mutate and load until a number of files or of seconds is reached.

    Parameters
    ----------
    targets : list of Target
        What to mutate.
    place : Path
        Folder of the mutated files.
    seed : int
        Mutation ``i`` is a function of it and of ``i`` alone.
    n_files, seconds : int or float or None
        When to stop; one must be given.
    only : int or None
        The single mutation to run.
    report : callable
        Called about every half minute with what is returned.

    Returns
    -------
    counts : Counter
        Number of files by (target, outcome).
    bad : list of dict
        What must not have occurred, with the number of the mutation.
    """
    counts, bad = Counter(), []
    start, shown = time.monotonic(), time.monotonic()
    next_number = 0 if only is None else only
    last = n_files if only is None else only + 1

    def is_over():
        late = seconds is not None and time.monotonic() - start > seconds
        return late or (last is not None and next_number >= last)

    while not is_over():
        child = _Child(targets, place, seed, next_number)
        for message in child.messages():
            if message["outcome"] == "start":
                next_number = message["number"] + 1
            else:
                counts[message["target"], message["outcome"]] += 1
                if message["outcome"] in BAD:
                    bad.append(message)
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                report(counts, bad)
            if message["outcome"] != "start" and is_over():
                break
        child.end()
    return counts, bad


class _Child:
    """A process that mutates and loads from a number on, until it is ended or dies."""

    def __init__(self, targets, place, seed, first):
        self.current = None
        self.is_over = False
        read, write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            try:
                _work(targets, place, seed, first, write)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(write)
        self.stream = os.fdopen(read, "rb", buffering=0)

    def messages(self):
        """Yield what the child says, the last one if it dies or hangs."""
        buffer = b""
        while True:
            ready, _, _ = select.select([self.stream], [], [], _SILENCE_SECONDS)
            data = self.stream.read(65536) if ready else b""
            if not data:
                yield self._lost(is_silent=not ready)
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                self.current = message if message["outcome"] == "start" else None
                yield message

    def _lost(self, is_silent):
        if self.current is None:
            raise RuntimeError("a fuzzing process died between two files")
        hung = is_silent
        if not is_silent:
            _, status = os.waitpid(self.pid, 0)
            self.is_over = True
            hung = os.waitstatus_to_exitcode(status) == -signal.SIGPROF
        outcome = "hang" if hung else "crash"
        return {**self.current, "outcome": outcome, "detail": "the process was lost"}

    def end(self):
        if not self.is_over:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.stream.close()


def _work(targets, place: Path, seed: int, first: int, pipe: int) -> None:
    def say(**message):
        os.write(pipe, json.dumps(message).encode() + b"\n")

    events = []
    sys.addaudithook(lambda name, _: name in _EVENTS and events.append(name))
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    folders = {}
    weights = [target.weight for target in targets]
    number = first
    while True:
        rng = random.Random(f"{seed}/{number}")
        target = rng.choices(targets, weights)[0]
        if target.name not in folders:
            folders[target.name] = place / target.name
            target.prepare(folders[target.name])
        folder = folders[target.name]
        what, n_touched, undo = target.mutate(rng, folder)
        say(outcome="start", number=number, target=target.name, what=what)
        signal.setitimer(signal.ITIMER_PROF, _HANG_SECONDS)  # a signal that kills
        outcome, detail = _load(target, folder, n_touched, "as " in what)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if events or (folder / "CANARY").exists():
            outcome, detail = "code", f"{events}"
            events.clear()
        undo()
        say(
            outcome=outcome,
            detail=detail[:300],
            number=number,
            target=target.name,
            what=what,
        )
        number += 1


def _load(target, folder, n_touched, is_swap) -> tuple[str, str]:
    """Return the outcome of a load, with details."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = target.load(folder)
        except target.expected as error:
            outcome, detail = "refused", repr(error)
        except BaseException as error:
            outcome, detail = "exception", f"{type(error).__name__}: {error}"
        else:
            messages = [str(warning.message) for warning in caught]
            outcome, detail = _compare(target, found, n_touched, is_swap)
            if outcome in ("structure", "values") and messages:
                outcome, detail = "warned", messages[0]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if grown * 1024 > _MEMORY_BYTES:
        outcome, detail = "memory", f"{grown // 1024} MB; {detail}"
    gc.collect(0)
    return outcome, detail


def _compare(target, found, n_touched, is_swap) -> tuple[str, str]:
    if not target.is_whole:
        return "values", ""
    if missing := set(target.sound) ^ set(found):
        return "structure", f"missing or more: {sorted(map(str, missing))[:5]}"
    n_changed, is_same = 0, True
    for key, (text, array) in target.sound.items():
        new_text, new = found[key]
        if new.shape != array.shape or new.dtype != array.dtype:
            return "structure", f"{key}: {array.shape} became {new.shape}"
        if not np.array_equal(new, array, equal_nan=True):
            # A unit that is undone may leave a rounding error.
            close = np.isclose(new, array, rtol=1e-9, atol=0, equal_nan=True)
            n_changed += int(np.count_nonzero(~close))
            is_same = False
        is_same &= new_text == text
    if not is_swap and n_changed > _VALUES_PER_BYTE * n_touched + 64:
        return "structure", f"{n_changed} values changed by {n_touched} bytes"
    return ("same" if is_same else "values"), f"{n_changed} values"
