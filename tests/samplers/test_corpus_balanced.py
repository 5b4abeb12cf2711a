"""Corpora in balance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindecode_emossl.samplers import CorpusBalancedSampler


@pytest.fixture(scope="session")
def make_corpora(make_metadata):
    def make(sizes):
        """Concatenate corpora of these numbers of windows, and mix them."""
        frames = [
            make_metadata([size], 1, corpus=f"corpus {number}")
            for number, size in enumerate(sizes)
        ]
        return pd.concat(frames).sample(frac=1, random_state=0)

    return make


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    temperature=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    n_samples=st.none() | st.integers(1, 200),
)
def test_shares(make_corpora, sizes, temperature, n_samples):
    metadata = make_corpora(sizes)
    sampler = CorpusBalancedSampler(metadata, temperature, n_samples, random_state=0)
    indices = list(sampler)
    n_samples = sum(sizes) if n_samples is None else n_samples
    assert len(sampler) == len(indices) == n_samples
    assert all(isinstance(index, int) for index in indices)

    total = sum(size**temperature for size in sizes)
    times = np.bincount(indices, minlength=len(metadata))
    for number, size in enumerate(sizes):
        of_corpus = times[(metadata["corpus"] == f"corpus {number}").to_numpy()]
        assert abs(of_corpus.sum() - n_samples * size**temperature / total) <= 1
        assert np.ptp(of_corpus) <= 1, "a window comes twice more than another"
        assert sampler.n_samples_of_corpus[f"corpus {number}"] == of_corpus.sum()


def test_temperatures(make_corpora):
    """Sizes 4:1 are 2:1 at a temperature of 0.5, and equal at 0."""
    metadata = make_corpora([400, 100])

    def counts(temperature):
        sampler = CorpusBalancedSampler(metadata, temperature, 600)
        return [sampler.n_samples_of_corpus[f"corpus {number}"] for number in (0, 1)]

    assert counts(1.0) == [480, 120]
    assert counts(0.5) == [400, 200]
    assert counts(0.0) == [300, 300]


def test_a_large_corpus_gives_other_windows_each_time(make_corpora):
    metadata = make_corpora([400, 4])
    sampler = CorpusBalancedSampler(metadata, 0.0, 100, random_state=0)
    seen = np.bincount(np.ravel([list(sampler) for _ in range(160)]), minlength=404)
    large = (metadata["corpus"] == "corpus 0").to_numpy()
    # 160 epochs of 50 of 400 windows: 20 times each, standard deviation 4.2.
    assert seen[large].mean() == 20
    assert seen[large].min() > 0 and seen[large].max() < 40


def test_order_is_random(make_corpora):
    metadata = make_corpora([200, 200])
    indices = list(CorpusBalancedSampler(metadata, random_state=0))
    first = (metadata["corpus"] == "corpus 0").to_numpy()[indices][:200]
    assert 70 < first.sum() < 130


@pytest.mark.parametrize("temperature", [-0.1, 1.1])
def test_temperature_must_be_in_the_unit_interval(make_corpora, temperature):
    with pytest.raises(ValueError, match=r"temperature must be in the interval \[0, 1"):
        CorpusBalancedSampler(make_corpora([5]), temperature)


def test_number_of_samples_must_be_positive(make_corpora):
    with pytest.raises(
        ValueError, match="n_samples must be an integer from 1, but got 0"
    ):
        CorpusBalancedSampler(make_corpora([5]), n_samples=0)
