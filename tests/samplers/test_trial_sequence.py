"""Sequences of consecutive windows."""

from __future__ import annotations

import numpy as np
import pytest
from braindecode.samplers import SequenceSampler
from hypothesis import given, settings
from hypothesis import strategies as st

from braindecode_emossl.samplers import TrialSequenceSampler

TRIAL = ["corpus", "subject", "session", "trial"]


def slow_sequences(metadata, n_windows, stride):
    """Walk through each trial, window by window."""
    sequences = set()
    for _, trial in metadata.groupby(TRIAL):
        position = dict(zip(trial["window"], trial.index, strict=True))
        number = 0  # in the stretch that has no gap
        for window in range(max(position) + 1):
            number = number + 1 if window in position else 0
            whole = range(window, window + n_windows)
            if number and (number - 1) % stride == 0 and set(whole) <= set(position):
                sequences.add(tuple(position[w] for w in whole))
    return sequences


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    n_windows=st.integers(1, 5),
    stride=st.integers(1, 6),
    missing=st.sampled_from([0.0, 0.1, 0.4]),
    shuffle=st.integers(0, 99),
)
def test_all_sequences_and_no_other(
    make_metadata, lengths, n_windows, stride, missing, shuffle
):
    metadata = make_metadata(lengths, 2, 2, missing=missing, shuffle=shuffle)
    expected = slow_sequences(metadata, n_windows, stride)
    if not expected:
        with pytest.raises(ValueError, match="n_windows must be at most"):
            TrialSequenceSampler(metadata, n_windows, stride)
        return
    sampler = TrialSequenceSampler(metadata, n_windows, stride, random_state=0)
    sequences = list(sampler)
    assert len(sampler) == len(sequences) == len(expected)
    assert set(sequences) == expected


def test_trials_of_one_run_are_not_joined(make_metadata):
    """The sequences of braindecode's sampler pass from one trial of a run to the next.

    So it is in a recording that has all trials in one run, as DEAP's original has.
    """
    metadata = make_metadata([3, 3], 1).assign(run="0")
    assert set(TrialSequenceSampler(metadata, 3)) == {(0, 1, 2), (3, 4, 5)}
    numbers = {"i_window_in_trial": metadata["window"], "i_trial_in_dataset": [0] * 6}
    theirs = metadata.assign(i_start_in_trial=0, **numbers)
    assert (2, 3, 4) in set(SequenceSampler(theirs, 3, 1))
    theirs["i_trial_in_dataset"] = metadata["trial"]
    theirs = theirs.drop(columns=["window", "trial", "corpus"])
    assert set(TrialSequenceSampler(theirs, 3)) == {(0, 1, 2), (3, 4, 5)}


def test_same_sequences_as_braindecode_where_runs_are_trials(make_metadata):
    metadata = make_metadata([7, 4, 5], 3, 2)
    theirs = SequenceSampler(metadata.assign(i_start_in_trial=0), 4, 2)
    assert sorted(TrialSequenceSampler(metadata, 4, 2)) == sorted(
        tuple(map(int, sequence)) for sequence in theirs
    )


def test_order_is_random(make_metadata):
    sequences = list(TrialSequenceSampler(make_metadata([50]), 2, random_state=0))
    assert sequences != sorted(sequences)


def test_too_long_sequences_are_an_error(make_metadata):
    with pytest.raises(ValueError, match=r"n_windows must be at most 4, .* but got 5"):
        TrialSequenceSampler(make_metadata([4, 2]), 5)


def test_repeated_windows_are_an_error(make_metadata):
    """Otherwise two trials without distinct columns would be mixed."""
    metadata = make_metadata([2, 2], 1).drop(columns=["trial", "run"])
    with pytest.raises(ValueError, match=r"row 2, .* repeats .*'window': 0"):
        TrialSequenceSampler(metadata, 2)


@pytest.mark.parametrize("wrong", ["a", 1.5, np.nan, None])
def test_numbers_of_windows_must_be_integers(make_metadata, wrong):
    """Text was a TypeError of numpy, and a fraction was taken as a window."""
    metadata = make_metadata([4], 1)
    metadata["window"] = metadata["window"].astype(object)
    metadata.loc[2, "window"] = wrong
    with pytest.raises(ValueError, match=r"integer in the column 'window' .* row 2,"):
        TrialSequenceSampler(metadata, 2)


@pytest.mark.parametrize("dtype", ["object", "Int64", "float"])
def test_integers_of_any_dtype_number_the_windows(make_metadata, dtype):
    metadata = make_metadata([4, 3], 2)
    other = metadata.astype({"window": dtype})
    expected = [*TrialSequenceSampler(metadata, 2, random_state=0)]
    assert [*TrialSequenceSampler(other, 2, random_state=0)] == expected


@pytest.mark.parametrize("name", ["n_windows", "n_windows_stride"])
def test_numbers_must_be_positive(make_metadata, name):
    with pytest.raises(
        ValueError, match=f"{name} must be an integer from 1, but got 0"
    ):
        TrialSequenceSampler(make_metadata([4]), **{"n_windows": 2, name: 0})
