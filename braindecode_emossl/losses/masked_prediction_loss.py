"""Prediction of the clusters of masked tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from braindecode_emossl.checks import check_fraction
from braindecode_emossl.losses.gathering import total
from braindecode_emossl.losses.precision import at_least_single_precision

__all__ = ["MaskedPredictionLoss"]


class MaskedPredictionLoss(nn.Module):
    r"""Cross-entropy of cluster ids from cosine logits, as in HuBERT [1]_.

    For the prediction :math:`o_t` of token :math:`t`, its cluster :math:`c_t` and the
    embeddings :math:`e_c` of the clusters,

    .. math::

        \ell_t = -\log \frac{\exp(\cos(o_t, e_{c_t}) / \tau)}
        {\sum_c \exp(\cos(o_t, e_c) / \tau)},
        \qquad
        L = a \, \mathrm{mean}_{t \in M} \, \ell_t
        + (1 - a) \, \mathrm{mean}_{t \notin M} \, \ell_t,

    with the masked tokens :math:`M` of all windows together.

    Parameters
    ----------
    temperature : float, default=0.1
        :math:`\tau`.
    masked_weight : float, default=1.0
        :math:`a`, between 0 and 1: the weight of the masked tokens; that of the visible
        tokens is :math:`1 - a`.

    Raises
    ------
    ValueError
        If a parameter lies outside its range.

    Notes
    -----
    The mean over an empty set of tokens is 0. In distributed training the means are
    over the tokens of all processes. Everything is computed in at least single
    precision, also under autocast.

    References
    ----------
    .. [1] Hsu, W.-N., et al. (2021). HuBERT. IEEE/ACM Transactions on Audio, Speech,
       and Language Processing, 29, 3451-3460.
       https://doi.org/10.1109/TASLP.2021.3122291
    """

    def __init__(self, temperature: float = 0.1, masked_weight: float = 1.0):
        super().__init__()
        if temperature <= 0:
            raise ValueError(
                f"temperature must be greater than 0, but got {temperature}."
            )
        check_fraction("masked_weight", masked_weight)
        self.temperature = temperature
        self.masked_weight = masked_weight

    def forward(
        self,
        predictions: torch.Tensor,
        codes: torch.Tensor,
        targets: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """Compute the loss.

        Parameters
        ----------
        predictions : torch.Tensor, shape (batch, n_tokens, code_dim)
            Predictions for all tokens, masked and visible.
        codes : torch.Tensor, shape (n_clusters, code_dim)
            Embedding of each cluster.
        targets : torch.Tensor of int, shape (batch, n_tokens)
            Cluster of each token.
        mask : torch.Tensor of bool, shape (batch, n_tokens)
            True where the token was masked.

        Returns
        -------
        torch.Tensor, shape ()
            The loss.
        """
        with torch.autocast(predictions.device.type, enabled=False):
            cosines = _normalize(predictions) @ _normalize(codes).T
            losses = F.cross_entropy(
                (cosines / self.temperature).flatten(0, 1),  # (tokens, n_clusters)
                targets.flatten(),
                reduction="none",
            ).unflatten(0, mask.shape)  # (batch, n_tokens)
            masked = _mean_where(losses, mask)
            visible = _mean_where(losses, ~mask)
            return self.masked_weight * masked + (1 - self.masked_weight) * visible


def _normalize(x: torch.Tensor) -> torch.Tensor:
    """Return vectors of unit length, in at least single precision."""
    return F.normalize(at_least_single_precision(x), dim=-1)


def _mean_where(losses: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Return the mean of the chosen losses of all processes, 0 if there are none."""
    n_chosen = total(chosen.sum()).clamp(min=1)
    return total(losses.masked_fill(~chosen, 0.0).sum()) / n_chosen
