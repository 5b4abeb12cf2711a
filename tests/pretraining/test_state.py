"""Files of a training's state."""

from __future__ import annotations

import errno
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindecode_emossl import storage
from braindecode_emossl.errors import CheckpointError
from braindecode_emossl.pretraining.state import load_state, save_state

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
TREES = st.recursive(
    PLAIN,
    lambda trees: (
        st.lists(trees, max_size=3)
        | st.dictionaries(st.text(max_size=3), trees, max_size=3)
        | st.dictionaries(st.integers(), trees, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None)
@given(tree=TREES)
def test_whatever_is_written_is_read(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "state"
    save_state(path, {"tree": tree})
    assert repr(load_state(path)["tree"]) == repr(tree)  # NaN is not equal to itself


def test_tensors_keep_their_values_types_and_shapes(tmp_path):
    shared = torch.arange(6.0)
    tensors = [
        shared,
        shared[::2],
        torch.tensor(3),
        torch.zeros(0, 2),
        torch.ones(2, dtype=torch.bfloat16),
        torch.get_rng_state(),
    ]
    save_state(tmp_path / "state", {"tensors": tensors})
    found = load_state(tmp_path / "state")["tensors"]
    for tensor, other in zip(tensors, found, strict=True):
        assert tensor.dtype == other.dtype
        assert torch.equal(tensor, other)


def test_a_write_that_fails_leaves_the_older_state(tmp_path, monkeypatch):
    """The error did not say which disk was full."""
    path = tmp_path / "state"
    save_state(path, {"epoch": 1})

    def fail(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", fail)
    with pytest.raises(OSError, match=rf"No space left on device.*{path}"):
        save_state(path, {"epoch": 2})
    assert load_state(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_json_has_not_is_refused(tmp_path):
    with pytest.raises(TypeError, match="object"):
        save_state(tmp_path / "state", {"value": object()})
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("content", [b"", b"\x10\0\0\0\0\0\0\0{}", pickle.dumps({})])
def test_a_file_of_another_kind_is_refused(content, tmp_path):
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="Delete it"):
        load_state(path)


def test_a_torn_file_is_refused(tmp_path):
    path = tmp_path / "state"
    save_state(path, {"x": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_state(path)


@pytest.mark.parametrize("place", [20, -1])
def test_an_altered_file_is_refused(place, tmp_path):
    """The training was resumed with other weights."""
    path = tmp_path / "state"
    save_state(path, {"x": torch.zeros(100), "epoch": 1})
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"cannot be read|damaged.*Delete it"):
        load_state(path)
