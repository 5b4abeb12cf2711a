"""Groups of subjects at the same second of a stimulus."""

from __future__ import annotations

import warnings
from collections import Counter
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindecode_emossl.samplers import StimulusGroupSampler


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_groups(make_metadata, data):
    """Whatever the fold, groups are formed or one sentence says why not."""
    n_subjects = data.draw(st.integers(1, 7), "n_subjects")
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4), "lengths")
    metadata = make_metadata(
        lengths,
        n_subjects,
        n_sessions=data.draw(st.integers(1, 3), "n_sessions"),
        missing=data.draw(st.sampled_from([0.0, 0.0, 0.1, 0.3, 0.6]), "missing"),
        shuffle=data.draw(st.integers(0, 99), "shuffle"),
    )
    asked_size = data.draw(st.integers(1, 4), "group_size")
    asked_stimuli = data.draw(st.integers(1, 30), "n_stimuli")
    n_batches = data.draw(st.none() | st.integers(1, 9), "n_batches")
    arguments = (metadata, asked_stimuli, asked_size, n_batches, 0)
    seen = metadata.groupby(["stimulus", "window"])["subject"].nunique()
    if seen.max() < 2:
        with pytest.raises(ValueError, match="at least two subjects at one second"):
            StimulusGroupSampler(*arguments)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sampler = StimulusGroupSampler(*arguments)

    group_size = min(asked_size, seen.max() // 2)
    n_seconds = (seen >= 2 * group_size).sum()
    n_stimuli = min(asked_stimuli, n_seconds)
    assert (sampler.group_size, sampler.n_stimuli) == (group_size, n_stimuli)
    most = seen.groupby("stimulus").max()
    left_out = set(most.index[most < 2 * group_size])
    messages = [str(warning.message) for warning in caught]
    starts = {
        "group_size is lowered": group_size < asked_size,
        "n_stimuli is lowered": n_stimuli < asked_stimuli,
        f"{len(left_out)} of {len(most)} stimuli are left out": bool(left_out),
    }
    assert len(messages) == sum(starts.values())
    for start, is_expected in starts.items():
        assert any(text.startswith(start) for text in messages) == is_expected
    for name in left_out:
        assert any(f"SEED {name} ({most[name]})" in text for text in messages)

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
    assert not left_out & {stimulus for stimulus, _ in seconds}
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
    with pytest.warns(UserWarning, match=r"lowered from 4 to 3, .* 4 subjects have"):
        assert len(StimulusGroupSampler(metadata, 4, 2)) == 3


def test_a_stimulus_that_few_subjects_saw_is_left_out(make_metadata):
    """One such stimulus stopped the whole training."""
    metadata = make_metadata([2, 2, 2], 4, n_sessions=3)
    metadata = metadata[(metadata["stimulus"] != "02") | (metadata["subject"] < 3)]
    message = (
        r"^1 of 3 stimuli are left out, as fewer than 2 \* group_size = 4 subjects "
        r"have the same second of them: SEED 02 \(2\), with"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        sampler = StimulusGroupSampler(metadata, 1, 2)
    assert len(caught) == 1 and caught[0].filename == __file__
    stimuli = metadata["stimulus"].to_numpy()[np.array(list(sampler))]
    assert set(stimuli.ravel()) == {"01", "03"}
    with pytest.warns(UserWarning, match=r"of them: 02 \(2\), with"):
        StimulusGroupSampler(metadata.drop(columns="corpus"), 1, 2)
    assert len(StimulusGroupSampler(metadata, 1, 1)) == 6


def test_a_warning_names_ten_stimuli_at_most(make_metadata):
    metadata = make_metadata([1] * 15, 2)
    metadata = metadata[(metadata["subject"] == 1) | (metadata["stimulus"] == "15")]
    with pytest.warns(UserWarning, match=r"14 of 15 .*SEED 10 \(1\) and 4 more, with"):
        StimulusGroupSampler(metadata, 1, 1)


def test_small_training_sets(make_metadata):
    """Folds of two subjects and of few stimuli stopped with an error."""
    with pytest.warns(UserWarning) as caught:
        sampler = StimulusGroupSampler(make_metadata([2, 3], 3), 16, 2)
    assert [str(warning.message).split(",")[0] for warning in caught] == [
        "group_size is lowered from 2 to 1",
        "n_stimuli is lowered from 16 to 5",
    ]
    assert np.shape(list(sampler)) == (5, 2)


def test_stimulus_must_be_known(make_metadata):
    metadata = make_metadata([2, 2], 2)
    metadata.loc[3, "stimulus"] = None
    with pytest.raises(ValueError, match="row 3, counted from 0, lacks one"):
        StimulusGroupSampler(metadata, 1, 1)


@pytest.mark.parametrize("value", [0, 1.5, "2"])
@pytest.mark.parametrize("name", ["n_stimuli", "group_size", "n_batches"])
def test_numbers_must_be_positive(make_metadata, name, value):
    message = f"{name} must be an integer from 1, but got {value!r}"
    with pytest.raises(ValueError, match=message):
        StimulusGroupSampler(make_metadata([2]), **{name: value})
