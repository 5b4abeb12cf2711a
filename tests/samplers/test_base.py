"""The base class of the samplers."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch.distributed as dist
from braindecode.datasets import BaseConcatDataset, RawDataset
from braindecode.preprocessing import create_windows_from_events
from braindecode.samplers import RecordingSampler
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils import check_random_state
from torch.utils.data import DataLoader

from braindecode_emossl.datasets import DEAP
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.samplers import (
    ContinuityBatchSampler,
    CorpusBalancedSampler,
    StimulusGroupSampler,
    TrialSequenceSampler,
)

SAMPLERS = [
    (StimulusGroupSampler, {"n_stimuli": 3, "group_size": 1}),
    (TrialSequenceSampler, {"n_windows": 2}),
    (ContinuityBatchSampler, {"batch_size": 4, "n_windows": 2}),
    (CorpusBalancedSampler, {}),
]
all_samplers = pytest.mark.parametrize(
    "sampler_class, settings_", SAMPLERS, ids=[cls.__name__ for cls, _ in SAMPLERS]
)


@pytest.fixture(scope="module")
def metadata(make_metadata):
    return make_metadata([9, 7, 8], n_subjects=4)


@all_samplers
def test_is_a_sampler_of_braindecode(metadata, sampler_class, settings_):
    sampler = sampler_class(metadata, **settings_, random_state=0)
    assert isinstance(sampler, RecordingSampler)
    assert sampler.n_recordings == 12
    window, recording = sampler.sample_window()
    assert window in sampler.info.iloc[recording]["index"]
    assert len(sampler) == len(list(sampler))


@all_samplers
def test_the_index_of_the_metadata_may_be_a_column(metadata, sampler_class, settings_):
    """The index named subject could not be told from the column."""
    indexed = metadata.set_index("subject", drop=False)
    found = list(sampler_class(indexed, **settings_, random_state=0))
    assert found == list(sampler_class(metadata, **settings_, random_state=0))


@all_samplers
def test_same_seed_gives_the_same_epochs(metadata, sampler_class, settings_):
    before = check_random_state(None).get_state()[1].copy()
    first, second = (sampler_class(metadata, **settings_, random_state=7) for _ in "ab")
    epochs = [list(first) for _ in range(3)]
    assert epochs == [list(second) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    other = sampler_class(metadata, **settings_, random_state=np.random.RandomState(8))
    assert list(other) != epochs[0]
    assert (check_random_state(None).get_state()[1] == before).all()  # numpy's own


@all_samplers
def test_an_epoch_left_early_does_not_change_the_next(
    metadata, sampler_class, settings_
):
    """Processes that stop at different places must continue with the same epoch."""
    early, late = (sampler_class(metadata, **settings_, random_state=7) for _ in "ab")
    next(iter(early))
    list(late)
    assert list(early) == list(late)


@all_samplers
def test_presample(metadata, sampler_class, settings_):
    sampler = sampler_class(metadata, **settings_, random_state=0)
    fresh = list(sampler_class(metadata, **settings_, random_state=0))
    assert sampler.presample() is sampler
    assert list(sampler) == list(sampler) == fresh
    assert list(pickle.loads(pickle.dumps(sampler))) == fresh


@settings(deadline=None, max_examples=40)
@given(
    case=st.sampled_from(SAMPLERS),
    num_replicas=st.integers(1, 7),
    lengths=st.lists(st.integers(4, 9), min_size=1, max_size=3),
    n_epochs=st.integers(1, 2),
)
def test_processes_share_an_epoch(make_metadata, case, num_replicas, lengths, n_epochs):
    sampler_class, kwargs = case
    metadata = make_metadata(lengths, n_subjects=2)
    alone = sampler_class(metadata, **kwargs, random_state=3)
    samplers = [
        sampler_class(
            metadata, **kwargs, random_state=3, rank=rank, num_replicas=num_replicas
        )
        for rank in range(num_replicas)
    ]
    n_of_unit = kwargs.get("n_stimuli", 1)
    for _ in range(n_epochs):
        parts = [list(sampler) for sampler in samplers]
        assert {len(part) for part in parts} == {len(samplers[0])}
        counts = Counter(map(repr, itertools.chain(*parts)))
        expected = Counter(map(repr, alone))
        assert set(counts) == set(expected)
        # Only what fills up the last round comes again.
        n_units = len(alone) // n_of_unit
        n_again = -n_units % num_replicas * n_of_unit
        assert (counts - expected).total() == n_again
        if not n_again:
            assert counts == expected


def test_processes_take_whole_batches_of_groups(metadata):
    """Else a batch of one process could have a second of a stimulus twice."""
    for rank in range(2):
        sampler = StimulusGroupSampler(
            metadata, 8, 1, n_batches=9, random_state=0, rank=rank, num_replicas=2
        )
        rows = np.array(list(sampler))[:, 0].reshape(-1, 8)
        seconds = metadata.groupby(["stimulus", "window"]).ngroup().to_numpy()[rows]
        assert all(len(set(batch)) == 8 for batch in seconds)


@all_samplers
def test_processes_of_torch_are_the_default(
    metadata, sampler_class, settings_, monkeypatch
):
    expected = sampler_class(
        metadata, **settings_, random_state=0, rank=1, num_replicas=3
    )
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    sampler = sampler_class(metadata, **settings_, random_state=0)
    assert (sampler.rank, sampler.num_replicas) == (1, 3)
    assert list(sampler) == list(expected)
    alone = sampler_class(metadata, **settings_, random_state=0, rank=0, num_replicas=1)
    assert len(alone) > len(sampler)


def test_processes_need_a_common_seed(metadata):
    with pytest.raises(ValueError, match="random_state must be the same seed"):
        CorpusBalancedSampler(metadata, rank=0, num_replicas=2)


@pytest.mark.parametrize("rank", [-1, 2])
def test_rank_must_be_that_of_a_process(metadata, rank):
    with pytest.raises(ValueError, match=f"less than num_replicas=2, but got {rank}"):
        CorpusBalancedSampler(metadata, random_state=0, rank=rank, num_replicas=2)


@all_samplers
def test_each_required_column_is_named_if_it_is_missing(
    metadata, sampler_class, settings_
):
    with pytest.raises(TypeError, match=r"metadata must be a DataFrame .* NoneType"):
        sampler_class(None, **settings_)
    with pytest.raises(ValueError, match="metadata must have a row for each window"):
        sampler_class(metadata[:0], **settings_)
    for name in sampler_class.required_columns:
        less = metadata.drop(columns=name)
        assert sampler_class.find_missing_columns(less) == [name]
        with pytest.raises(
            ValueError, match=rf"{sampler_class.__name__}.* \['{name}'\]"
        ):
            sampler_class(less, **settings_)
    assert sampler_class.find_missing_columns(metadata) == []
    required = list(sampler_class.required_columns)
    assert sampler_class.find_missing_columns(None) == required


def test_the_window_number_of_braindecode_is_one_too(metadata):
    renamed = metadata.rename(columns={"window": "i_window_in_trial"})
    assert StimulusGroupSampler.find_missing_columns(renamed) == []


@settings(deadline=None, max_examples=40)
@given(case=st.sampled_from(SAMPLERS), data=st.data())
def test_columns_that_a_sampler_does_not_use_change_nothing(make_metadata, case, data):
    """Braindecode's base class asked for a subject and for the start of the window."""
    sampler_class, kwargs = case
    metadata = make_metadata([9, 7, 8], 4, shuffle=data.draw(st.integers(0, 9)))
    used = set(sampler_class.required_columns)
    if sampler_class in (TrialSequenceSampler, ContinuityBatchSampler):
        used |= {"subject", "trial"}
    unused = st.sets(st.sampled_from(sorted(set(metadata) - used)))
    less = metadata.drop(columns=sorted(data.draw(unused, "dropped")))
    sampler = sampler_class(less, **kwargs, random_state=5)
    expected = list(sampler_class(metadata, **kwargs, random_state=5))
    assert list(sampler) == expected
    keys = [n for n in ("corpus", "subject", "session", "run") if n in less]
    n_recordings = len(less[keys].drop_duplicates()) if keys else 1
    assert sampler.n_recordings == n_recordings
    positions = np.concatenate(sampler.info["index"].to_list())
    assert sorted(positions) == list(range(len(less)))


def test_recordings_of_two_corpora_are_distinct(make_metadata):
    parts = [make_metadata([4], 2, corpus=corpus) for corpus in ("A", "B")]
    sampler = CorpusBalancedSampler(pd.concat(parts), random_state=0)
    assert sampler.info.index.names == ["corpus", "subject", "session", "run"]
    assert sampler.info.loc[("B", 1, "0", "00"), "index"].tolist() == [8, 9, 10, 11]


def test_windows_without_a_trial_are_of_one(make_metadata):
    metadata = make_metadata([5], 1)[["window"]]
    sequences = set(TrialSequenceSampler(metadata, 4, random_state=0))
    assert sequences == {(0, 1, 2, 3), (1, 2, 3, 4)}


def test_metadata_of_emotion_are_taken_as_they_are(deap_root):
    """4 s of 40 videos of 2 subjects."""
    paradigm = Emotion(window=1.0, features="de")
    _, _, metadata = paradigm.get_data(DEAP([1, 2], path=deap_root))
    lengths = {
        sampler: len(sampler(metadata, **kwargs)) for sampler, kwargs in SAMPLERS
    }
    assert [*lengths.values()] == [159, 240, 80, 320]


def test_windows_of_braindecode_are_loaded_in_groups(deap_root):
    """Items of one second of a stimulus, as MEMHACLPretraining wants them."""
    corpus = DEAP([1, 2], path=deap_root)
    datasets = [
        RawDataset(raw, {"subject": subject, "session": session, "run": run})
        for subject, sessions in corpus.get_data([1, 2]).items()
        for session, runs in sessions.items()
        for run, raw in list(runs.items())[:5]
    ]
    windows = create_windows_from_events(
        BaseConcatDataset(datasets),
        window_size_samples=128,
        window_stride_samples=128,
        on_last_window="drop",
        mapping=corpus.event_id,
        preload=True,
    )
    metadata = windows.get_metadata()
    sampler = StimulusGroupSampler(metadata, 3, 1, random_state=0).presample()
    for batch, start in zip(
        DataLoader(windows, batch_size=3, sampler=sampler),
        range(0, len(sampler), 3),
        strict=True,
    ):
        assert batch[0].shape == (3, 2, *windows[0][0].shape)
        rows = np.array(sampler.examples[start : start + 3])
        first = np.stack([windows[int(row)][0] for row in rows[:, 0]])
        assert (batch[0][:, 0].numpy() == first).all()
        stimuli = metadata["stimulus"].to_numpy()[rows]
        assert (stimuli[:, 0] == stimuli[:, 1]).all()
