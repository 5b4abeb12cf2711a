"""Channel names, types and rate of windows: reordered by name, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mne
import numpy as np

from braindecode_emossl.models.modalities import MODALITIES

__all__ = [
    "Signal",
    "align_windows",
    "match_channels",
    "read_model_signal",
    "read_signal",
]

# Name of each of MNE's constants that models distinguish.
_CONSTANTS = mne.io.get_channel_type_constants()
_KINDS = {_CONSTANTS[name]["kind"]: name for name in MODALITIES}


@dataclass(frozen=True)
class Signal:
    """Sampling rate and channels of windows, where known.

    Attributes
    ----------
    sfreq : float or None
        Sampling rate in Hz.
    chs_info : list of dict or None
        Channels, as in ``mne.Info["chs"]``.
    """

    sfreq: float | None = None
    chs_info: list[dict[str, Any]] | None = None

    @property
    def names(self) -> list[str] | None:
        """Channel names, or None."""
        return None if self.chs_info is None else _list_names(self.chs_info)

    def fill_in(self, other: Signal) -> Signal:
        """Return this signal, with what is unknown of it taken from another."""
        return Signal(
            other.sfreq if self.sfreq is None else self.sfreq,
            other.chs_info if self.chs_info is None else self.chs_info,
        )


def read_model_signal(model) -> Signal:
    """Return the signal that a model of braindecode was built for."""
    known = {}
    for name in ("sfreq", "chs_info"):
        try:
            known[name] = getattr(model, name)
        except (AttributeError, ValueError):  # braindecode: not specified
            known[name] = None
    return Signal(**known)


def read_signal(X) -> Signal:
    """Return the signal of epochs; nothing is known of other windows."""
    if not isinstance(X, mne.BaseEpochs):
        return Signal()
    return Signal(float(X.info["sfreq"]), list(X.info["chs"]))


def align_windows(X, found: Signal, wanted: Signal, name: str, as_in: str):
    """Return windows with their channels in the wanted order, see `match_channels`.

    Parameters
    ----------
    X : ndarray, shape (n_windows, n_chans, n_times)
        Windows.
    found, wanted : Signal
        Their signal, and the one they must have. What either leaves open is not
        compared.
    name, as_in : str
        What the windows are, and what they are compared with, for messages.

    Returns
    -------
    ndarray, shape (n_windows, n_chans, n_times)
        ``X`` itself if nothing had to be reordered.
    """
    order = match_channels(found, wanted, name, as_in)
    return X if order is None else X[:, order]


def match_channels(
    found: Signal, wanted: Signal, name: str, as_in: str
) -> list[int] | None:
    """Return the places of the wanted channels, if they are not in order already.

    Parameters
    ----------
    found, wanted : Signal
        The signal of windows, and the one they must have. What either leaves open is
        not compared.
    name, as_in : str
        What the windows are, and what they are compared with, for messages.

    Returns
    -------
    list of int or None
        None if nothing has to be reordered.

    Raises
    ------
    ValueError
        If the rates, the names or the types of channels differ.
    """
    if (
        found.sfreq is not None
        and wanted.sfreq is not None
        and not np.isclose(found.sfreq, wanted.sfreq)
    ):
        raise ValueError(
            f"{name} must have the sampling rate of {as_in}, {wanted.sfreq:g} Hz, but "
            f"has {found.sfreq:g} Hz. Resample one of the two."
        )
    if found.chs_info is None or wanted.chs_info is None:
        return None
    order = _match_channels(found.chs_info, wanted.chs_info, name, as_in)
    return None if order == list(range(len(order))) else order


def _list_names(chs_info: list[dict[str, Any]]) -> list[str]:
    return [str(channel["ch_name"]) for channel in chs_info]


def _match_channels(
    found: list[dict[str, Any]], wanted: list[dict[str, Any]], name: str, as_in: str
) -> list[int]:
    """Return the places of the wanted channels among those that were found."""
    names = _list_names(found)
    places = _index_names(names, name)
    keys = list(_index_names(_list_names(wanted), as_in))
    for key, channel in zip(keys, wanted, strict=True):
        if key not in places:
            raise ValueError(
                f"{name} must have the channels of {as_in}, but {channel['ch_name']} "
                f"is missing from {_shorten(names)}. Pick or rename channels so "
                "that the names agree."
            )
        other = found[places[key]]
        kinds = _find_kind(other), _find_kind(channel)
        if None not in kinds and kinds[0] != kinds[1]:
            raise ValueError(
                f"{name} must have the channel types of {as_in}, but "
                f"{channel['ch_name']} is {kinds[0]!r}, not {kinds[1]!r}. Set the "
                "types of its channels."
            )
    for key, place in places.items():
        if key not in keys:
            raise ValueError(
                f"{name} must have the channels of {as_in}, but {names[place]} "
                "is not among them. Drop it."
            )
    return [places[key] for key in keys]


def _index_names(names: list[str], what: str) -> dict[str, int]:
    """Return the place of each name, in lower case where that is unambiguous."""
    lower = [name.casefold() for name in names]
    keys = lower if len(set(lower)) == len(names) else names
    index = {key: place for place, key in enumerate(keys)}
    if len(index) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"{what} must have channels of different names, but {double} occurs twice."
        )
    return index


def _find_kind(channel: dict[str, Any]) -> str | None:
    """Return the type of a channel, such as "eeg"; None if it is not given."""
    kind = channel.get("kind")
    return (
        kind if kind is None or isinstance(kind, str) else _KINDS.get(kind, str(kind))
    )


def _shorten(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown}, ..." if len(names) > 8 else shown
