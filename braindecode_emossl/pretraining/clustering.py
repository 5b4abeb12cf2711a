"""Clusters of tokens, the pseudo-labels of masked prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import silhouette_score
from sklearn.utils import check_random_state
from torch import nn

from braindecode_emossl.pretraining.recording_scaler import RecordingScaler

__all__ = ["ClusterReport", "TokenClusters"]

# Candidates for the number of clusters, as parts of the largest.
_CANDIDATES = (0.25, 0.5, 1.0)
# Fraction of windows held out to compare them, and number of their tokens to use: the
# silhouette takes all pairs.
_HELD_OUT = 0.2
_MAX_SILHOUETTE_TOKENS = 2000
# Moving a centroid can empty another cluster.
_MAX_RESEEDINGS = 10


@dataclass(frozen=True)
class ClusterReport:
    """Summary of a clustering; every tuple has one entry per codebook.

    Attributes
    ----------
    features : str
        Name of the clustered features.
    n_tokens : int
        Number of tokens the clusters were fitted on.
    n_clusters : tuple of int
        Number of clusters.
    counts : tuple of numpy.ndarray, each of shape (n_clusters,)
        Number of these tokens in each cluster.
    n_reseeded : tuple of int
        How often a cluster without a token was moved to a token.
    silhouettes : tuple of dict of int to float
        Silhouette on held-out windows by number of clusters; empty if the number is
        fixed.
    """

    features: str
    n_tokens: int
    n_clusters: tuple[int, ...]
    counts: tuple[np.ndarray, ...]
    n_reseeded: tuple[int, ...]
    silhouettes: tuple[dict[int, float], ...]

    @property
    def n_dead(self) -> tuple[int, ...]:
        """Number of clusters without a token."""
        return tuple(int((counts == 0).sum()) for counts in self.counts)

    @property
    def perplexity(self) -> tuple[float, ...]:
        """Effective number of clusters: the exponential of the entropy of their use."""
        return tuple(_perplexity(counts) for counts in self.counts)


class TokenClusters(nn.Module):
    """Several k-means clusterings of the same tokens, as a module without parameters.

    Each feature is standardised by its mean and standard deviation over the tokens of
    the recording, so that clusters do not identify recordings, or of all windows that
    :meth:`fit` was given where the recording is not known.

    Parameters
    ----------
    n_clusters : sequence of int
        Number of clusters of each codebook; the largest one if :meth:`fit` chooses.
    n_features : int
        Number of features of a token.

    Attributes
    ----------
    scaler : RecordingScaler
        Standardises the features of tokens.
    n_active : torch.Tensor of int, shape (n_codebooks,)
        Number of clusters in use.
    """

    def __init__(self, n_clusters: Sequence[int], n_features: int):
        super().__init__()
        self.scaler = RecordingScaler(n_features)
        self.register_buffer("n_active", torch.tensor(n_clusters))
        for i, size in enumerate(n_clusters):
            self.register_buffer(f"centroids_{i}", torch.zeros(size, n_features))
        # As numbers of Python, which need not be read from a GPU for each batch.
        self.sizes = list(n_clusters)
        self.register_load_state_dict_post_hook(_read_sizes)

    @property
    def centroids(self) -> list[torch.Tensor]:
        """One buffer (n_clusters, n_features) per codebook."""
        return [getattr(self, f"centroids_{i}") for i in range(len(self.sizes))]

    @torch.no_grad()
    def forward(
        self, features: torch.Tensor, recordings: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the nearest cluster of every token.

        Parameters
        ----------
        features : torch.Tensor, shape (batch, n_tokens, n_features)
            Features of tokens.
        recordings : torch.Tensor of int, shape (batch,), or None
            Number of the recording of each window, as ``scaler`` takes it.

        Returns
        -------
        torch.Tensor of int64, shape (batch, n_tokens, n_codebooks)
            Clusters, counted from 0.
        """
        tokens = self.scaler(features, recordings).flatten(0, 1)
        nearest = [
            _nearest(tokens, centroids[:size])[1]
            for centroids, size in zip(self.centroids, self.sizes, strict=True)
        ]  # of (N,)
        # (batch, n_tokens, n_codebooks)
        return torch.stack(nearest, dim=-1).unflatten(0, features.shape[:2])

    @torch.no_grad()
    def fit(
        self,
        features: torch.Tensor,
        *,
        name: str,
        recordings: torch.Tensor | None = None,
        choose_n_clusters: bool = False,
        random_state=None,
    ) -> ClusterReport:
        """Find the clusters of training tokens.

        Parameters
        ----------
        features : torch.Tensor, shape (n_windows, n_tokens, n_features)
            Features of the tokens of training windows.
        name : str
            Name of the features, for the report.
        recordings : torch.Tensor of int, shape (n_windows,), or None
            Number of the recording of each window, as ``scaler`` takes it.
        choose_n_clusters : bool, default=False
            Whether to take the best of a quarter, half and all of ``n_clusters``, by
            the silhouette on a held-out fifth of the windows.
        random_state : int, RandomState or None
            As in scikit-learn.

        Returns
        -------
        ClusterReport
            Sizes and use of the clusters.

        Raises
        ------
        ValueError
            If a feature is not finite, or there are fewer tokens than clusters.
        """
        rng = check_random_state(random_state)
        if not features.isfinite().all():
            raise ValueError(
                "Clusters need finite features, but the windows give NaN or infinite "
                "ones; drop or repair the windows that hold such samples."
            )
        features = features.to(self.scaler.mean)
        self.scaler.fit(features)
        windows = self.scaler(features, recordings)
        tokens = windows.flatten(0, 1)  # (N, n_features)

        sizes, n_reseeded, silhouettes = [], [], []
        for centroids in self.centroids:
            size, scores = len(centroids), {}
            if choose_n_clusters:
                scores = _compare_sizes(windows, size, rng)
                size = max(scores, key=scores.__getitem__)
            found, n_moved = _reseed(tokens, _k_means(tokens, size, rng))
            centroids.zero_()[:size] = found
            sizes.append(size)
            n_reseeded.append(n_moved)
            silhouettes.append(scores)
        self.n_active.copy_(torch.tensor(sizes))
        self.sizes = list(sizes)

        assigned = self(features, recordings).flatten(0, 1)  # (N, n_codebooks)
        counts = [
            torch.bincount(column, minlength=size).cpu().numpy()
            for column, size in zip(assigned.T, sizes, strict=True)
        ]
        return ClusterReport(
            features=name,
            n_tokens=len(tokens),
            n_clusters=tuple(sizes),
            counts=tuple(counts),
            n_reseeded=tuple(n_reseeded),
            silhouettes=tuple(silhouettes),
        )


def _read_sizes(clusters: TokenClusters, incompatible_keys) -> None:
    """Read the sizes of clusters that were loaded."""
    clusters.sizes = clusters.n_active.tolist()


def _k_means(tokens: torch.Tensor, size: int, rng) -> torch.Tensor:
    """Return centroids (size, n_features) of tokens (N, n_features)."""
    if len(tokens) < size:
        raise ValueError(
            "n_clusters must be at most the number of tokens of the training windows, "
            f"{len(tokens)}, but got {size}. Use fewer clusters or more windows."
        )
    k_means = MiniBatchKMeans(
        size, batch_size=4096, n_init=3, random_state=rng.randint(2**31)
    ).fit(tokens.cpu().numpy())
    return torch.as_tensor(k_means.cluster_centers_).to(tokens)


def _nearest(
    tokens: torch.Tensor, centroids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distance (N,) to the nearest centroid, and its index (N,)."""
    return torch.cdist(tokens, centroids).min(dim=1)


def _reseed(tokens: torch.Tensor, centroids: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Move centroids without a token to the tokens farthest from their centroids."""
    n_moved = 0
    for _ in range(_MAX_RESEEDINGS):
        distances, nearest = _nearest(tokens, centroids)
        is_dead = torch.bincount(nearest, minlength=len(centroids)) == 0
        n_dead = int(is_dead.sum())
        if not n_dead or not distances.any():
            break
        centroids[is_dead] = tokens[distances.topk(n_dead).indices]
        n_moved += n_dead
    return centroids, n_moved


def _compare_sizes(windows: torch.Tensor, largest: int, rng) -> dict[int, float]:
    """Return the silhouette of held-out windows by number of clusters."""
    n_held_out = max(1, round(_HELD_OUT * len(windows)))
    if n_held_out == len(windows):
        raise ValueError(
            "Choosing the number of clusters needs at least 2 windows, as one is held "
            f"out, but got {len(windows)}."
        )
    order = rng.permutation(len(windows))
    held_out = windows[order[:n_held_out]].flatten(0, 1)  # (N, n_features)
    sample = held_out[rng.permutation(len(held_out))[:_MAX_SILHOUETTE_TOKENS]]
    train = windows[order[n_held_out:]].flatten(0, 1)
    scores = {}
    for size in sorted({max(2, round(part * largest)) for part in _CANDIDATES}):
        _, labels = _nearest(sample, _k_means(train, size, rng))
        scores[size] = _silhouette(sample, labels)
    return scores


def _silhouette(sample: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the silhouette, or -1 where it is not defined."""
    if not 2 <= len(labels.unique()) < len(labels):
        return -1.0
    return float(silhouette_score(sample.cpu().numpy(), labels.cpu().numpy()))


def _perplexity(counts: np.ndarray) -> float:
    used = counts[counts > 0] / counts.sum()
    return float(np.exp(-(used * np.log(used)).sum()))
