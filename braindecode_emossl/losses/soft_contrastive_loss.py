"""Contrastive loss with soft weights for negative pairs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from braindecode_emossl.checks import check_choice, is_number
from braindecode_emossl.losses.precision import at_least_single_precision

__all__ = ["SoftContrastiveLoss"]

_METRICS = ("cosine", "euclidean", "manhattan")
_SCALINGS = ("global", "column")


class SoftContrastiveLoss(nn.Module):
    r"""Soft contrastive loss of SCMM [1]_.

    A hard contrastive loss treats every other sample as equally wrong. Here each
    negative pair has a soft weight that comes from the distance between its
    *inputs*; positive pairs (two views of one sample) have weight 1. With the
    similarities :math:`S = Z Z^T`, over the other :math:`N - 1` entries of each row,

    .. math::

        q_{ij} = \frac{\exp(S_{ij} / \tau)}{\sum_{k \ne i} \exp(S_{ik} / \tau)},
        \qquad
        L = -\frac{1}{N (N - 1)} \sum_i \Bigl[
        \sum_{p \in P(i)} \log q_{ip} + \sum_{n \notin P(i)} w_{in} \log q_{in}
        \Bigr],

    where the soft weight falls with the distance :math:`D'`, scaled to [0, 1],

    .. math:: w_{ij} = \frac{2 \alpha}{1 + \exp(D'_{ij} / \tau_s)}.

    Parameters
    ----------
    upper_bound : float, default=0.5
        :math:`\alpha`, the weight of the closest pair.
    sharpness : float, default=0.05
        :math:`\tau_s`, how fast the weight falls with the distance; smaller is faster.
    temperature : float, default=0.5
        :math:`\tau` of the softmax.
    metric : {"cosine", "euclidean", "manhattan"}, default="cosine"
        Distance between the flattened inputs; "cosine" is the negative cosine
        similarity.
    scaling : {"global", "column"}, default="global"
        Range that is scaled to [0, 1]: that of the whole distance matrix, which keeps
        the weights symmetric, or that of each column, as in the authors' code.

    Raises
    ------
    ValueError
        If a parameter lies outside its range.

    Notes
    -----
    The embeddings are not normalised, so :math:`\tau` acts on unbounded dot products;
    normalise them first if this is not wanted. No gradient flows through
    the soft weights. Everything is computed in at least single precision, also under
    autocast, because the dot products can leave the range of half precision.

    The distance of a sample to itself never enters the loss. As in the authors' code,
    it is set to the smallest distance between two samples before the scaling, so that
    with ``scaling="column"`` every column starts from that one number.

    References
    ----------
    .. [1] Liu, Q., Ye, W., Zhang, L., & Liang, Z. (2025). EEG-SCMM. In ACM MM.
       https://doi.org/10.1145/3746027.3755798
    """

    def __init__(
        self,
        upper_bound: float = 0.5,
        sharpness: float = 0.05,
        temperature: float = 0.5,
        metric: str = "cosine",
        scaling: str = "global",
    ):
        super().__init__()
        if not 0 < upper_bound <= 1:
            raise ValueError(
                "upper_bound must be greater than 0 and at most 1 (the weight of a "
                f"positive pair), but got {upper_bound}."
            )
        for name, value in {"sharpness": sharpness, "temperature": temperature}.items():
            if not is_number(value) or value <= 0:
                raise ValueError(f"{name} must be greater than 0, but got {value!r}.")
        check_choice("metric", metric, _METRICS)
        check_choice("scaling", scaling, _SCALINGS)
        self.upper_bound = upper_bound
        self.sharpness = sharpness
        self.temperature = temperature
        self.metric = metric
        self.scaling = scaling

    def forward(
        self, embeddings: torch.Tensor, inputs: torch.Tensor, n_views: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the loss.

        Parameters
        ----------
        embeddings : torch.Tensor, shape (n_views * batch, emb_dim)
            Row ``v * batch + i`` is view ``v`` of sample ``i``.
        inputs : torch.Tensor, shape (n_views * batch, ...)
            Inputs of the embeddings, in the same order.
        n_views : int
            Number of views of each sample.

        Returns
        -------
        loss : torch.Tensor, shape ()
            The loss.
        similarity : torch.Tensor, shape (n_views * batch, n_views * batch)
            Dot products of the embeddings, neither divided by the temperature nor
            masked.
        """
        n_rows = len(embeddings)
        _check_rows(n_rows, len(inputs), n_views)

        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = at_least_single_precision(embeddings)
            similarity = embeddings @ embeddings.T  # (N, N)
            weights = self.soft_weights(inputs)  # (N, N)

        itself = _diagonal(similarity)  # (N, N)
        sample = torch.arange(n_rows, device=similarity.device) % (n_rows // n_views)
        positive = sample[:, None] == sample[None, :]  # (N, N)
        weights = weights.masked_fill(positive, 1.0)

        logits = (similarity / self.temperature).masked_fill(itself, -torch.inf)
        # The diagonal is -inf here, and zero times -inf would be NaN.
        log_q = logits.log_softmax(dim=1).masked_fill(itself, 0.0)
        loss = -(weights * log_q).sum() / (n_rows * (n_rows - 1))
        return loss, similarity

    @torch.no_grad()
    def soft_weights(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the weight that each pair has as a negative pair.

        Parameters
        ----------
        inputs : torch.Tensor, shape (N, ...)
            The inputs.

        Returns
        -------
        torch.Tensor, shape (N, N)
            Weights between 0 and ``upper_bound``. The diagonal has no meaning.
        """
        distances = self._distances(inputs.flatten(1))  # (N, N)
        itself = _diagonal(distances)  # (N, N)
        low = distances.masked_fill(itself, torch.inf).amin()  # ()
        # masked_fill would read the value from a GPU.
        distances = torch.where(itself, low, distances)
        by_column = self.scaling == "column"
        high = distances.amax(dim=0) if by_column else distances.amax()  # (N,) or ()
        span = high - low
        # Distances that differ by rounding alone count as equal.
        rounding = 10 * torch.finfo(span.dtype).eps * distances.abs().amax()
        is_constant = span <= rounding
        scaled = (distances - low) / span.masked_fill(is_constant, 1.0)
        return 2 * self.upper_bound * torch.sigmoid(-scaled / self.sharpness)

    def _distances(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the distances (N, N) between the rows of (N, n_features)."""
        inputs = at_least_single_precision(inputs)
        if self.metric == "cosine":
            directions = F.normalize(inputs, dim=1)
            return -directions @ directions.T  # (N, N)
        # Through a matrix product, two equal rows would not be exactly at distance 0.
        return torch.cdist(
            inputs,
            inputs,
            p=2.0 if self.metric == "euclidean" else 1.0,
            compute_mode="donot_use_mm_for_euclid_dist",
        )  # (N, N)


def _check_rows(n_rows: int, n_inputs: int, n_views: int) -> None:
    """Raise if the rows do not form at least two views of every sample."""
    if n_inputs != n_rows:
        raise ValueError(
            "embeddings and inputs must have the same number of rows, "
            f"but got {n_rows} and {n_inputs}."
        )
    if n_views < 2:
        raise ValueError(
            "n_views must be at least 2 for a positive pair to exist, "
            f"but got {n_views}."
        )
    if n_rows == 0 or n_rows % n_views:
        raise ValueError(
            f"embeddings must have a positive multiple of n_views={n_views} rows, "
            f"but got {n_rows}."
        )


def _diagonal(matrix: torch.Tensor) -> torch.Tensor:
    """Return a boolean (N, N) that is True on the diagonal."""
    return torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)
