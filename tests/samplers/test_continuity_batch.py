"""Batches of stretches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from braindecode_emossl.samplers import ContinuityBatchSampler

TRIAL = ["corpus", "subject", "session", "trial"]


def count_stretches(metadata, n_windows):
    """Count what fits between the gaps of each trial."""
    count = 0
    for _, trial in metadata.groupby(TRIAL):
        present = np.isin(np.arange(trial["window"].max() + 1), trial["window"])
        parts = "".join("x" if here else " " for here in present).split()
        count += sum(len(part) // n_windows for part in parts)
    return count


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    n_windows=st.integers(1, 5),
    n_stretches=st.integers(1, 4),
    missing=st.sampled_from([0.0, 0.1, 0.4]),
    shuffle=st.integers(0, 99),
)
def test_batches(make_metadata, lengths, n_windows, n_stretches, missing, shuffle):
    metadata = make_metadata(lengths, 2, 2, missing=missing, shuffle=shuffle)
    n_batches = count_stretches(metadata, n_windows) // n_stretches
    batch_size = n_stretches * n_windows
    if not n_batches:
        with pytest.raises(ValueError, match="A batch needs"):
            ContinuityBatchSampler(metadata, batch_size, n_windows)
        return
    sampler = ContinuityBatchSampler(metadata, batch_size, n_windows, random_state=0)
    batches = list(sampler)
    assert len(sampler) == len(batches) == n_batches
    assert all(isinstance(batch, list) for batch in batches)
    windows = np.array(batches)
    assert windows.shape == (n_batches, batch_size)
    assert len(np.unique(windows)) == windows.size, "a window comes twice"
    for stretch in windows.reshape(-1, n_windows):
        rows = metadata.iloc[stretch]
        assert len(rows[TRIAL].drop_duplicates()) == 1
        assert (np.diff(rows["window"]) == 1).all()


def test_all_windows_have_their_turn(make_metadata):
    """Trials of 11 windows give two stretches of 4, not always the same ones."""
    metadata = make_metadata([11, 11], 2)
    sampler = ContinuityBatchSampler(metadata, 8, 4, random_state=0)
    turns = np.bincount(np.ravel([list(sampler) for _ in range(200)]), minlength=44)
    # Offsets 0 to 3: windows 3 to 7 are always in, window 0 every fourth time.
    expected = np.array([1, 2, 3, 4, 4, 4, 4, 4, 3, 2, 1]) / 4
    assert turns.reshape(4, 11).mean(axis=0) / 200 == pytest.approx(expected, abs=0.06)


def test_batches_mix_trials(make_metadata):
    metadata = make_metadata([16] * 10, 2)
    trials = metadata.groupby(TRIAL).ngroup().to_numpy()
    sampler = ContinuityBatchSampler(metadata, 32, random_state=0)
    assert sampler.n_windows == 8
    n_trials = [len(set(trials[batch])) for batch in sampler]
    assert np.mean(n_trials) > 3


def test_loader_takes_it_as_batch_sampler(make_metadata):
    metadata = make_metadata([16] * 3, 2)
    sampler = ContinuityBatchSampler(metadata, 16, random_state=0).presample()
    loader = DataLoader(np.arange(len(metadata)), batch_sampler=sampler)
    assert [batch.tolist() for batch in loader] == sampler.examples


@pytest.mark.parametrize("persistent_workers", [False, True])
def test_a_loader_with_workers_gives_the_same_epochs(make_metadata, persistent_workers):
    """An epoch was drawn and lost whenever a loader started its workers."""
    metadata = make_metadata([16] * 3, 2)

    def read(**settings):
        sampler = ContinuityBatchSampler(metadata, 16, random_state=0)
        windows = np.arange(len(metadata))
        loader = DataLoader(windows, batch_sampler=sampler, **settings)
        return [[batch.tolist() for batch in loader] for _ in range(2)]

    workers = {"num_workers": 1, "persistent_workers": persistent_workers}
    assert read(**workers) == read()


def test_too_few_windows_is_an_error(make_metadata):
    message = "A batch needs 4 stretches of 4 consecutive windows, .* have 3"
    with pytest.raises(ValueError, match=message):
        ContinuityBatchSampler(make_metadata([4, 3], 3), 16, 4)


@pytest.mark.parametrize("batch_size, n_windows", [(10, 4), (0, 1), (4, 0)])
def test_batch_size_must_be_a_multiple(make_metadata, batch_size, n_windows):
    message = f"batch_size={batch_size} and n_windows={n_windows}"
    with pytest.raises(ValueError, match=message):
        ContinuityBatchSampler(make_metadata([20]), batch_size, n_windows)
