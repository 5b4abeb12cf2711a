"""Clusters of tokens: found, used, revived and chosen in number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from braindecode_emossl.pretraining.clustering import (
    ClusterReport,
    TokenClusters,
    _reseed,
)


def make_blobs(n_blobs=4, n_windows=40, n_tokens=10, spread=0.05, seed=0):
    """Return tokens (n_windows, n_tokens, 3) around far points, and their blob."""
    rng = np.random.default_rng(seed)
    blobs = rng.integers(n_blobs, size=(n_windows, n_tokens))
    centers = 5 * np.eye(n_blobs, 3) + np.arange(n_blobs)[:, None]
    tokens = centers[blobs] + spread * rng.normal(size=(n_windows, n_tokens, 3))
    return torch.as_tensor(tokens, dtype=torch.float32), torch.as_tensor(blobs)


def fit(features, n_clusters, **kwargs):
    clusters = TokenClusters(n_clusters, features.shape[-1])
    kwargs = {"name": "test", "random_state": 0, **kwargs}
    return clusters, clusters.fit(features, **kwargs)


def test_blobs_are_found():
    features, blobs = make_blobs()
    clusters, report = fit(features, (4, 2))
    targets = clusters(features)
    assert targets.shape == (40, 10, 2)
    assert targets.dtype == torch.int64
    pairs = torch.stack([blobs, targets[..., 0]], dim=-1).flatten(0, 1)
    assert len(pairs.unique(dim=0)) == 4
    assert report.n_clusters == (4, 2)
    assert targets[..., 1].unique().tolist() == [0, 1]


def test_targets_are_the_nearest_centroids_of_standardised_features():
    features, _ = make_blobs(spread=1.0)
    clusters, _ = fit(features, (5,))
    tokens = features.flatten(0, 1).double().numpy()
    tokens = (tokens - tokens.mean(axis=0)) / tokens.std(axis=0)
    centroids = clusters.centroids[0].double().numpy()
    distances = [[math.dist(token, c) for c in centroids] for token in tokens]
    expected = np.argmin(distances, axis=1)
    assert np.array_equal(clusters(features).flatten().numpy(), expected)


def test_a_unit_does_not_matter():
    """Without standardising, the feature in the smallest unit would rule."""
    features, _ = make_blobs(spread=1.0)
    scaled = features * torch.tensor([1.0, 1e4, 1e-4]) + 7
    found, again = (fit(x, (4,))[0](x) for x in (features, scaled))
    assert (found == again).float().mean() > 0.99


def test_report_counts_the_targets():
    features, _ = make_blobs(spread=1.0)
    clusters, report = fit(features, (6, 3))
    targets = clusters(features).flatten(0, 1)
    for column, counts in zip(targets.T, report.counts, strict=True):
        assert torch.bincount(column).tolist() == counts.tolist()
    assert report.n_tokens == 400
    assert report.n_dead == (0, 0)
    assert report.silhouettes == ({}, {})


def test_perplexity_is_the_effective_number_of_clusters():
    def perplexity(*counts):
        counts = (np.array(counts),)
        report = ClusterReport("test", 0, (4,), counts, (0,), ({},))
        return report.perplexity[0]

    assert perplexity(5, 5, 5, 5) == pytest.approx(4)
    assert perplexity(20, 0, 0, 0) == pytest.approx(1)
    used = perplexity(3, 1, 0, 0)
    assert used == pytest.approx(
        math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    )


def test_dead_clusters_are_moved_to_the_farthest_tokens():
    tokens = torch.tensor([[0.0], [0.1], [0.2], [9.0], [10.0]])
    centroids = torch.tensor([[0.1], [9.0], [-500.0]])
    found, n_moved = _reseed(tokens, centroids)
    assert n_moved == 1
    assert found.flatten().tolist() == pytest.approx([0.1, 9.0, 10.0])


def test_every_cluster_is_used_after_reseeding():
    tokens = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    centroids = torch.full((30, 3), 100.0)
    found, n_moved = _reseed(tokens, centroids.clone())
    assert n_moved >= 29
    assert len(torch.cdist(tokens, found).argmin(dim=1).unique()) == 30


def test_clusters_that_cannot_live_are_reported():
    """Equal tokens fill one cluster of four, however often the others are moved."""
    features = torch.ones(10, 4, 3)
    clusters, report = fit(features, (4,))
    assert report.n_dead == (3,)
    assert report.perplexity == (1.0,)
    assert len(clusters(features).unique()) == 1


def test_constant_features_are_finite():
    features, _ = make_blobs()
    features[..., 1] = 3.0
    clusters, _ = fit(features, (3,))
    assert clusters.scaler.scale[1] == 1
    assert clusters.centroids[0].isfinite().all()


def test_features_are_standardised_within_each_recording():
    """Clusters named the subject: mutual information .53, with the label .22."""
    features, _ = make_blobs()
    both = torch.cat([features, 40 + 3 * features])  # two people of different levels
    recordings = torch.arange(2).repeat_interleave(len(features))
    clusters = TokenClusters((3,), features.shape[-1])
    parts = [features, 40 + 3 * features]
    clusters.scaler.fit_recordings(map(clusters.scaler.measure, parts))
    clusters.fit(both, name="blobs", recordings=recordings, random_state=0)
    first, second = clusters(both, recordings).chunk(2)
    assert torch.equal(first, second)
    assert len(first.unique()) == 3
    # Other recordings are scaled as all windows together.
    other = torch.full_like(recordings, -1)
    assert torch.equal(clusters(both, other), clusters(both))


def test_number_of_clusters_is_chosen_by_the_silhouette():
    """Four far blobs: of the candidates 2, 4 and 8, the silhouette says 4."""
    features, _ = make_blobs()
    clusters, report = fit(features, (8, 16), choose_n_clusters=True)
    assert report.n_clusters == (4, 4)
    assert [sorted(scores) for scores in report.silhouettes] == [[2, 4, 8], [4, 8, 16]]
    for scores in report.silhouettes:
        assert max(scores, key=scores.get) == 4
        assert scores[4] > 0.9
    targets = clusters(features)
    assert targets.amax() == 3
    assert len(report.counts[1]) == 4


def test_same_seed_same_clusters():
    features, _ = make_blobs(spread=2.0)
    first, again, other = (
        fit(features, (7,), random_state=seed)[0].centroids[0] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_state_dict_holds_everything_that_was_fitted():
    features, _ = make_blobs(spread=2.0)
    clusters, _ = fit(features, (8, 4), choose_n_clusters=True)
    other = TokenClusters((8, 4), 3)
    other.load_state_dict(clusters.state_dict())
    assert torch.equal(other(features), clusters(features))


def test_a_new_fit_forgets_the_last():
    features, _ = make_blobs(spread=2.0)
    clusters, _ = fit(100 * features - 50, (8,))
    clusters.fit(features, name="test", choose_n_clusters=True, random_state=0)
    expected, _ = fit(features, (8,), choose_n_clusters=True)
    for name, tensor in clusters.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name


def test_rejects():
    features, _ = make_blobs(n_windows=2, n_tokens=5)
    with pytest.raises(
        ValueError, match=r"n_clusters must be at most .* 10, but got 11"
    ):
        fit(features, (11,))
    with pytest.raises(ValueError, match=r"at least 2 windows, .* but got 1"):
        fit(features[:1], (4,), choose_n_clusters=True)
    features[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="finite features"):
        fit(features, (2,))
