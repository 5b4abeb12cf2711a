"""Reading Neuroscan CNT files through MNE, with the header checked first.

MNE takes the header at its word: counts and offsets of a damaged file lead to errors of
other parts of MNE, to a table of events read from signals, or to channels out of step.
Offsets are those of the format's structures SETUP, ELECTLOC and TEEG.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import mne
import numpy as np

__all__ = ["READING_ERRORS", "CntHeader", "read_header", "read_signals"]

# What MNE raises on a file whose header is sound and whose contents are not.
READING_ERRORS = (RuntimeError, ValueError, IndexError, struct.error)

_SETUP_BYTES, _ELECTRODE_BYTES, _NAME_BYTES = 900, 75, 10
_MAX_CHANNELS = 256
# Of larger files, the header cannot hold the place of the events.
_MAX_BYTES = 2_000_000_000
_SAMPLE_BYTES = 4
# From the start of the structure after the events to its byte that is 1 for samples of
# 32 bits.
_TAG_BYTES = 52
_MAX_BLOCK_BYTES = 2**16
# Bytes of an event by the type of the table.
_EVENT_BYTES = {1: 8, 2: 19, 3: 19}
# No two channels of an amplifier have resolutions that differ by more.
_MAX_RATIO = 10.0


@dataclass(frozen=True)
class CntHeader:
    """What the header says, after it was compared with the size of the file.

    ``is_consistent`` says whether its number of samples is that of the file,
    ``is_uniform`` whether all channels have one resolution, no baseline, and samples
    in turn.
    """

    ch_names: tuple[str, ...]
    sfreq: float
    n_times: int
    is_consistent: bool
    is_uniform: bool


def read_header(file: Path) -> CntHeader:
    """Return the header of a file with samples of 32 bits.

    Raises `ValueError` where it contradicts itself or the size of the file.
    """
    size = file.stat().st_size
    if size > _MAX_BYTES:
        raise ValueError(f"it has {size} bytes, more than the format can address")
    with file.open("rb") as stream:
        setup = stream.read(_SETUP_BYTES)
        if len(setup) < _SETUP_BYTES:
            raise ValueError(f"it has {size} bytes, less than a header")
        n_chans, rate = (struct.unpack_from("<H", setup, at)[0] for at in (370, 376))
        if not 0 < n_chans <= _MAX_CHANNELS:
            raise ValueError(f"its header names {n_chans} channels")
        electrodes = stream.read(_ELECTRODE_BYTES * n_chans)
        start = _SETUP_BYTES + _ELECTRODE_BYTES * n_chans
        n_samples, table = (struct.unpack_from("<i", setup, at)[0] for at in (864, 886))
        n_times = _count_samples(size, start, table, n_chans)
        stream.seek(table)
        _check_events(stream.read(9), size - table - 9)
        has_32_bits = _read_tag(stream, setup, table)
    block = struct.unpack_from("<i", setup, 894)[0]
    _check_block(block)
    if n_samples == 2 * n_times and not has_32_bits:
        raise ValueError(
            f"its header names {n_samples} samples, which fill the file with 16 bits "
            "each, but those of the corpus have 32 bits"
        )
    names = _read_names(electrodes, n_chans)
    is_uniform = _compare_scales(electrodes, names) and block in (0, 1, _SAMPLE_BYTES)
    is_consistent = n_samples == n_times
    return CntHeader(names, float(rate), n_times, is_consistent, is_uniform)


def read_signals(
    file: Path, header: CntHeader, picks: Sequence[str], start: int, stop: int
) -> np.ndarray:
    """Return channels by name (n_chans, stop - start) in volts.

    Raises one of `READING_ERRORS`.
    """
    with warnings.catch_warnings():
        # Of its date and its filters, which are not used.
        warnings.simplefilter("ignore", RuntimeWarning)
        raw = mne.io.read_raw_cnt(
            file,
            data_format="int32",
            recompute_n_samples=not header.is_consistent,
            verbose="error",
        )
    if raw.n_times != header.n_times or tuple(raw.ch_names) != header.ch_names:
        raise ValueError("it changed while it was read")
    order = [header.ch_names.index(name) for name in picks]
    return raw.get_data(order, start, stop)


def _count_samples(size: int, start: int, table: int, n_chans: int) -> int:
    """Return the samples of a channel between the header and the table of events."""
    if not start <= table <= size - 9:
        raise ValueError(
            f"its table of events must begin between the bytes {start} and {size - 9}, "
            f"but its header names {table}; it may be cut short"
        )
    n_times, rest = divmod(table - start, n_chans * _SAMPLE_BYTES)
    if rest:
        raise ValueError(
            f"its signals have {table - start} bytes, which {n_chans} channels of "
            "samples of 32 bits cannot fill"
        )
    return n_times


def _check_events(head: bytes, n_bytes: int) -> None:
    kind, length, _ = struct.unpack("<Bii", head)
    if kind not in _EVENT_BYTES or length % _EVENT_BYTES[kind]:
        raise ValueError(f"its table of events has the type {kind} and {length} bytes")
    if not 0 <= length <= n_bytes:
        raise ValueError(
            f"its table of events has {length} bytes, but {n_bytes} are there"
        )


def _read_tag(stream: BinaryIO, setup: bytes, table: int) -> bool:
    """Say whether the structure after the events is there and names 32 bits."""
    start = struct.unpack_from("<i", setup, 12)[0]
    if start <= table:  # 0 where the file has none
        return False
    stream.seek(start + _TAG_BYTES)
    return stream.read(1) == b"\x01"


def _check_block(n_bytes: int) -> None:
    """Check how many bytes of a channel follow one another; 0 and 1: one sample."""
    if n_bytes in (0, 1):
        return
    if not 0 < n_bytes <= _MAX_BLOCK_BYTES or n_bytes % _SAMPLE_BYTES:
        raise ValueError(f"its header names blocks of {n_bytes} bytes")


def _read_names(electrodes: bytes, n_chans: int) -> tuple[str, ...]:
    starts = range(0, n_chans * _ELECTRODE_BYTES, _ELECTRODE_BYTES)
    names = [electrodes[k : k + _NAME_BYTES].partition(b"\0")[0] for k in starts]
    texts = tuple(name.decode("latin-1").strip() for name in names)
    if len(set(texts)) < n_chans:
        raise ValueError(f"its channels must have different names, but are {texts}")
    return texts


def _compare_scales(electrodes: bytes, names: Sequence[str]) -> bool:
    """Check the resolutions of the channels; say if they are one, without baselines."""
    scales, baselines = [], set()
    for channel, name in enumerate(names):
        at = channel * _ELECTRODE_BYTES
        sensitivity, calibration = (
            struct.unpack_from("<f", electrodes, at + k)[0] for k in (59, 71)
        )
        scale = sensitivity * calibration
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"its channel {name} has the resolution {scale:g}")
        scales.append(scale)
        baselines.add(struct.unpack_from("<h", electrodes, at + 47)[0])
    ratios = np.array(scales) / np.median(scales)
    if ratios.max() > _MAX_RATIO or ratios.min() < 1 / _MAX_RATIO:
        worst = int(np.abs(np.log(ratios)).argmax())
        raise ValueError(
            f"its channel {names[worst]} has {ratios[worst]:.3g} times the resolution "
            "of the others"
        )
    return bool(np.allclose(ratios, 1.0, rtol=1e-6)) and baselines == {0}
