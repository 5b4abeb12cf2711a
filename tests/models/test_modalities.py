"""Channels by modality."""

from __future__ import annotations

import json

import mne
import pytest
from braindecode.models.base import EEGModuleMixin

from braindecode_emossl.models.modalities import MODALITIES, find_modalities


def test_without_information_all_is_eeg():
    assert find_modalities(None, 3) == {"eeg": [0, 1, 2]}
    assert find_modalities([{"ch_name": "A"}, {"ch_name": "B"}], 2) == {"eeg": [0, 1]}


def test_every_type_of_mne_is_told_by_number_and_by_name():
    types = [*reversed(MODALITIES), "eeg"]
    n_types = len(MODALITIES)
    names = [f"{i}" for i in range(n_types + 1)]
    expected = {name: [n_types - 1 - i] for i, name in enumerate(MODALITIES)}
    expected["eeg"] = [n_types - 1, n_types]
    info = mne.create_info(names, 100.0, types)
    found = find_modalities(info["chs"], len(types))
    assert found == expected
    assert list(found) == list(MODALITIES)
    stored = json.loads(json.dumps(EEGModuleMixin._serialize_chs_info(info["chs"])))
    assert find_modalities(stored, len(types)) == expected
    named = [
        {"ch_name": name, "kind": kind} for name, kind in zip(names, types, strict=True)
    ]
    assert find_modalities(named, len(types)) == expected


@pytest.mark.parametrize("kind", ["stim", "mag"])
def test_other_channels_are_refused(kind):
    """A trigger channel could hold the label."""
    info = mne.create_info(["Cz", "Status"], 100.0, ["eeg", kind])
    with pytest.raises(ValueError, match=r"channel 1 \('Status'\) is of kind"):
        find_modalities(info["chs"], 2)


def test_a_channel_of_no_kind_is_eeg_as_in_braindecode():
    chs_info = [{"ch_name": "A", "kind": None}, {"ch_name": "B"}]
    assert find_modalities(chs_info, 2) == {"eeg": [0, 1]}
