"""The sets of windows that a fit is given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import check_array

from braindecode_emossl.pretraining import training_data
from braindecode_emossl.pretraining.training_data import (
    WindowSet,
    concatenate,
    find_order,
)
from braindecode_emossl.storage import is_mapped, map_blocks


def make_sets(arrays):
    return [WindowSet("X", array) for array in arrays]


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


def place_windows(n_runs=12, n_windows=3):
    """Return the metadata of windows of one trial a run, in the order of a corpus."""
    table = pd.MultiIndex.from_product(
        [[1, 2, 10], [str(i) for i in range(n_runs)], range(n_windows)],
        names=["subject", "run", "window"],
    ).to_frame(index=False)
    return table.assign(trial=table["run"].astype(int) + 1)


@pytest.mark.parametrize("is_in_a_file", [False, True])
def test_joined_windows_are_in_the_order_of_the_corpus(
    is_in_a_file, tmp_path, monkeypatch
):
    """Which windows had labels changed their order, and so the pre-training."""
    monkeypatch.setattr(training_data, "_BLOCK", 7)
    metadata = place_windows()
    X = np.arange(2 * len(metadata), dtype=np.float32).reshape(-1, 2, 1)
    is_labeled = np.random.default_rng(0).random(len(X)) < 0.3
    sets = []
    for rows in (np.flatnonzero(is_labeled), np.flatnonzero(~is_labeled)):
        part = X[rows]
        if is_in_a_file:
            part = map_blocks([part], np.float32, part.shape)
        table = metadata.iloc[rows].reset_index(drop=True)
        sets.append(WindowSet("X", part, table))
    assert find_order(sets[:1]) is None
    for given in (sets, sets[::-1]):
        joined = concatenate(given, find_order(given))
        assert is_mapped(joined) == is_in_a_file
        np.testing.assert_array_equal(joined, X)


def test_one_set_is_ordered_too():
    """Memory was not shared with all labels where a corpus is not sorted."""
    metadata = place_windows().iloc[::-1].reset_index(drop=True)
    X = np.arange(len(metadata), dtype=np.float32)[:, None, None]
    sets = [WindowSet("X", X, metadata)]
    np.testing.assert_array_equal(concatenate(sets, find_order(sets)), X[::-1])


def test_windows_without_a_place_come_last():
    metadata = place_windows()
    array = np.zeros((len(metadata), 1, 1))
    last = [
        WindowSet("X_target_unlabeled", array[:4]),
        WindowSet("X_unlabeled", array, metadata.drop(columns="trial")),
    ]
    sets = [*last, WindowSet("X", array, metadata.iloc[::-1])]
    order = find_order(sets)
    n = len(metadata)
    assert order[:n].tolist() == list(range(2 * n + 3, n + 3, -1))
    assert order[n:].tolist() == list(range(n + 4))
    assert find_order(last) is None


def test_text_breaks_ties_of_numbers():
    metadata = place_windows().assign(subject=["1", "01"] * (len(place_windows()) // 2))
    shuffled = metadata.sample(frac=1, random_state=0)
    array = np.zeros((len(metadata), 1, 1))
    tables = [
        table.iloc[found] if found is not None else table
        for table in (metadata, shuffled)
        for found in [find_order([WindowSet("X", array, table)])]
    ]
    pd.testing.assert_frame_equal(*(t.reset_index(drop=True) for t in tables))
