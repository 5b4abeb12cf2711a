"""Bands that the filter of a release has cut from its signals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from braindecode_emossl.features import BANDS

__all__ = ["describe_cut_bands", "list_bands"]


def list_bands(features, fmin, fmax) -> dict[str, tuple[float, float]]:
    """Return the bands of features by name, and the pass-band of the filter."""
    bands = dict(BANDS) if features in ("de", "psd") else {}
    if not isinstance(features, str | None):
        found = getattr(features, "bands", None)
        bands = dict(found) if isinstance(found, Mapping) else {}
    # Where the filter merely reaches beyond the release, nothing changes.
    low, high = fmin or 0.0, math.inf if fmax is None else fmax
    return bands | {"the pass-band of the filter": (low, high)}


def describe_cut_bands(
    bands: Mapping[str, Sequence[float]], passband: Sequence[float] | None
) -> str:
    """Return the bands that lie outside a pass-band, in words; "" if none does."""
    if passband is None:
        return ""
    lowest, highest = passband
    phrases = []
    for name, (low, high) in bands.items():
        if high <= lowest:
            phrases.append(f"{name}, {low:g}-{high:g} Hz, lies below {lowest:g} Hz")
        elif low >= highest:
            end = "" if math.isinf(high) else f"-{high:g}"
            phrases.append(f"{name}, {low:g}{end} Hz, lies above {highest:g} Hz")
    return " and ".join(phrases)
