"""Groups of subjects at the same second of a stimulus."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindecode_emossl.samplers import StimulusGroupSampler


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_groups(make_metadata, data):
    n_subjects = data.draw(st.integers(2, 7), "n_subjects")
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4), "lengths")
    metadata = make_metadata(
        lengths,
        n_subjects,
        n_sessions=data.draw(st.integers(1, 3), "n_sessions"),
        missing=data.draw(st.sampled_from([0.0, 0.0, 0.1, 0.3]), "missing"),
        shuffle=data.draw(st.integers(0, 99), "shuffle"),
    )
    group_size = data.draw(st.integers(1, n_subjects // 2), "group_size")
    n_batches = data.draw(st.none() | st.integers(1, 9), "n_batches")
    seen = metadata.groupby(["stimulus", "window"])["subject"].nunique()
    if seen.groupby("stimulus").max().min() < 2 * group_size:
        with pytest.raises(ValueError, match="A group needs"):
            StimulusGroupSampler(metadata, 1, group_size)
        return
    n_seconds = (seen >= 2 * group_size).sum()
    n_stimuli = data.draw(st.integers(1, n_seconds), "n_stimuli")
    sampler = StimulusGroupSampler(metadata, n_stimuli, group_size, n_batches, 0)

    examples = list(sampler)
    expected = n_seconds // n_stimuli if n_batches is None else n_batches
    assert len(sampler) == len(examples) == expected * n_stimuli
    seconds = []
    for example in examples:
        assert isinstance(example, tuple) and len(example) == 2 * group_size
        rows = metadata.iloc[list(example)]
        assert len(rows[["corpus", "stimulus", "window"]].drop_duplicates()) == 1
        assert rows["subject"].is_unique  # so no two recordings of one subject
        seconds.append((rows["stimulus"].iloc[0], rows["window"].iloc[0]))
    for start in range(0, len(seconds), n_stimuli):
        batch = seconds[start : start + n_stimuli]
        assert len(set(batch)) == n_stimuli, "a second comes twice in a batch"
    if n_batches is None:
        assert len(set(seconds)) == len(seconds)


def test_all_ordered_groups_and_recordings_are_as_likely(make_metadata):
    """12 pairs of 4 subjects, and 2 sessions of each, in 24 000 draws."""
    metadata = make_metadata([5, 5], n_subjects=4, n_sessions=2, shuffle=1)
    sampler = StimulusGroupSampler(metadata, 10, 1, n_batches=2400, random_state=0)
    rows = np.array(list(sampler))
    pairs = Counter(map(tuple, metadata["subject"].to_numpy()[rows]))
    assert set(pairs) == set(permutations([1, 2, 3, 4], 2))
    # Standard deviation 43.
    assert all(count == pytest.approx(2000, abs=200) for count in pairs.values())
    windows = np.bincount(rows.ravel(), minlength=len(metadata))
    assert windows == pytest.approx(np.full(len(metadata), 48000 / 80), abs=120)


def test_each_example_has_its_own_subjects(make_metadata):
    """SGMC's code draws the subjects once for the whole batch."""
    metadata = make_metadata([20], n_subjects=10)
    rows = np.array(list(StimulusGroupSampler(metadata, 20, 2, random_state=0)))
    subjects = metadata["subject"].to_numpy()[rows]
    assert len(np.unique(subjects, axis=0)) > 15


def test_corpora_do_not_meet(make_metadata):
    """SEED and DEAP both have a stimulus "01" and a subject 1."""
    metadata = pd.concat(
        [make_metadata([4, 3], 3), make_metadata([4, 3], 3, corpus="DEAP")]
    )
    sampler = StimulusGroupSampler(metadata, 7, 1, n_batches=40, random_state=0)
    corpora = metadata["corpus"].to_numpy()[np.array(list(sampler))]
    assert (corpora[:, 0] == corpora[:, 1]).all()
    assert set(corpora[:, 0]) == {"SEED", "DEAP"}


def test_subject_stimulus_and_window_are_enough(make_metadata):
    """The window's start, or the recording, was asked for and not used."""
    metadata = make_metadata([4, 3], 4)
    expected = list(StimulusGroupSampler(metadata, 2, 2, random_state=0))
    few = metadata[["subject", "stimulus", "window"]]
    assert list(StimulusGroupSampler(few, 2, 2, random_state=0)) == expected


def test_columns_of_braindecode_do(make_metadata):
    metadata = make_metadata([4, 3], 4)
    expected = list(StimulusGroupSampler(metadata, 2, 2, random_state=0))
    renamed = metadata.rename(columns={"window": "i_window_in_trial"})
    renamed = renamed.assign(i_start_in_trial=200 * renamed["i_window_in_trial"])
    renamed = renamed.drop(columns=["corpus", "trial"])
    assert list(StimulusGroupSampler(renamed, 2, 2, random_state=0)) == expected


def test_seconds_that_few_subjects_have_are_left_out(make_metadata):
    metadata = make_metadata([5], 4)
    late = (metadata["window"] >= 3) & (metadata["subject"] == 2)
    metadata = metadata[~late]
    sampler = StimulusGroupSampler(metadata, 3, 2, n_batches=30, random_state=0)
    windows = metadata["window"].to_numpy()[np.array(list(sampler))]
    assert set(windows.ravel()) == {0, 1, 2}
    with pytest.raises(ValueError, match=r"at most 3, .* 4 subjects have, but got 4"):
        StimulusGroupSampler(metadata, 4, 2)


def test_too_few_subjects_is_an_error_that_names_the_stimulus(make_metadata):
    metadata = make_metadata([2, 2, 2], 4, n_sessions=3)
    metadata = metadata[(metadata["stimulus"] != "02") | (metadata["subject"] < 3)]
    message = (
        r"A group needs 2 \* group_size = 4 subjects at one second of a stimulus, but "
        r"1 of 3 stimuli have fewer, such as \('SEED', '02'\) with 2\. Lower group_size"
    )
    with pytest.raises(ValueError, match=message):
        StimulusGroupSampler(metadata, 1, 2)
    with pytest.raises(ValueError, match="such as '02' with 2"):
        StimulusGroupSampler(metadata.drop(columns="corpus"), 1, 2)
    assert len(StimulusGroupSampler(metadata, 1, 1)) == 6


def test_stimulus_must_be_known(make_metadata):
    metadata = make_metadata([2, 2], 2)
    metadata.loc[3, "stimulus"] = None
    with pytest.raises(ValueError, match="row 3, counted from 0, lacks one"):
        StimulusGroupSampler(metadata, 1, 1)


@pytest.mark.parametrize("name", ["n_stimuli", "group_size", "n_batches"])
def test_numbers_must_be_positive(make_metadata, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, but got 0"):
        StimulusGroupSampler(make_metadata([2]), **{name: 0})
