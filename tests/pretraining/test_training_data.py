"""The sets of windows that a fit is given."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils import check_array

from braindecode_emossl.pretraining.training_data import WindowSet, concatenate
from braindecode_emossl.storage import is_mapped, map_blocks


def make_sets(arrays):
    return [WindowSet("X", array, None, None) for array in arrays]


def test_mapped_windows_are_joined_in_a_file(tmp_path):
    """With few labels, raw signals of all subjects were joined in memory."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(n, 3, 4)).astype(np.float32) for n in (5, 2)]
    file = tmp_path / "windows"
    file.write_bytes(arrays[0].tobytes())
    mapped = np.memmap(file, np.float32, "r", shape=arrays[0].shape)
    # scikit-learn returns a view whose type is ndarray, not memmap.
    checked = check_array(mapped, allow_nd=True, dtype=np.float32)
    assert is_mapped(checked) and not isinstance(checked, np.memmap)
    joined = concatenate(make_sets([checked, arrays[1]]))
    assert is_mapped(joined)
    np.testing.assert_array_equal(joined, np.concatenate(arrays))


def test_windows_in_memory_are_joined_there():
    arrays = [np.ones((2, 3, 4)), np.zeros((1, 3, 4))]
    joined = concatenate(make_sets(arrays))
    assert not is_mapped(joined) and joined.shape == (3, 3, 4)
    assert concatenate(make_sets(arrays[:1])) is arrays[0]


def test_blocks_of_other_shapes_are_refused():
    """They filled the file in a wrong order."""
    with pytest.raises(ValueError, match=r"shape \(4,\) after the first axis"):
        map_blocks([np.ones((2, 4)), np.ones((2, 2))], np.float32, (4, 4))
