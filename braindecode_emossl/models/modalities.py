"""The modality of each channel of a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mne

__all__ = ["MODALITIES", "find_modalities"]

#: Channel types of MNE that are signals of a body, in the order models keep them in.
MODALITIES = (
    "eeg",
    "eog",
    "emg",
    "ecg",
    "gsr",
    "resp",
    "temperature",
    "bio",
    "misc",
)


def find_modalities(
    chs_info: Sequence[Mapping] | None, n_chans: int
) -> dict[str, list[int]]:
    """Return the channels of each modality, grouped by their kind.

    Parameters
    ----------
    chs_info : list of dict or None
        Channels as in ``mne.Info["chs"]``. ``kind`` is MNE's number or its name of the
        type, such as "gsr"; a channel without one counts as EEG, and so do all channels
        if ``chs_info`` is None.
    n_chans : int
        Number of channels.

    Returns
    -------
    dict of str to list of int
        Positions of the channels of each modality found, in the order of `MODALITIES`.

    Raises
    ------
    ValueError
        If a channel is of another type.
    """
    if chs_info is None:
        return {"eeg": list(range(n_chans))}
    constants = mne.io.get_channel_type_constants()
    names = {constants[name]["kind"]: name for name in MODALITIES}
    found: dict[str, list[int]] = {name: [] for name in MODALITIES}
    for position, channel in enumerate(chs_info):
        kind = channel.get("kind")
        kind = "eeg" if kind is None else kind
        name = names.get(kind, kind)
        if name not in found:
            raise ValueError(
                f"chs_info must hold channels of the types {MODALITIES}, but channel "
                f"{position} ({channel.get('ch_name')!r}) is of kind {kind!r}; drop it "
                "or set its type."
            )
        found[name].append(position)
    return {name: positions for name, positions in found.items() if positions}
