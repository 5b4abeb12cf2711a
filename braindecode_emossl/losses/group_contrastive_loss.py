"""Contrastive loss between two views of groups of windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from braindecode_emossl.checks import is_number
from braindecode_emossl.losses.precision import at_least_single_precision

__all__ = ["GroupContrastiveLoss"]


class GroupContrastiveLoss(nn.Module):
    r"""Symmetric NT-Xent over groups, the loss of SGMC [1]_ [2]_.

    Each of :math:`P` items has two groups, whose embeddings :math:`a_p` and
    :math:`b_p` are scaled to unit length. Each group is matched with the other group
    of its item, among all groups except itself:

    .. math::

        \ell(a_p) = -\log \frac{\exp(a_p \cdot b_p / \tau)}
        {\sum_q \exp(a_p \cdot b_q / \tau)
        + \sum_{q \ne p} \exp(a_p \cdot a_q / \tau)},
        \qquad
        L = \frac{1}{P} \sum_p \ell(a_p) + \frac{1}{P} \sum_p \ell(b_p).

    Parameters
    ----------
    temperature : float, default=0.1
        :math:`\tau`. [official code]

    Raises
    ------
    ValueError
        If ``temperature`` is not greater than 0.

    Notes
    -----
    The loss is twice the usual NT-Xent, which is the mean over all :math:`2P` groups.
    Everything is computed in at least single precision, also under autocast.

    References
    ----------
    .. [1] Kan et al. (2023). Self-supervised group meiosis contrastive learning
       for EEG-based emotion recognition. Applied Intelligence, 53(22), 27207-27225.
       https://doi.org/10.1007/s10489-023-04971-0
    .. [2] Chen et al. (2020). A simple framework for contrastive learning of
       visual representations. https://arxiv.org/abs/2002.05709
    """

    def __init__(self, temperature: float = 0.1):
        super().__init__()
        if not is_number(temperature) or temperature <= 0:
            raise ValueError(
                f"temperature must be greater than 0, but got {temperature!r}."
            )
        self.temperature = temperature

    def forward(self, groups_a: torch.Tensor, groups_b: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Parameters
        ----------
        groups_a : torch.Tensor, shape (n_items, emb_dim)
            Embedding of the first group of each item.
        groups_b : torch.Tensor, shape (n_items, emb_dim)
            Embedding of the second group of each item, in the same order.

        Returns
        -------
        torch.Tensor, shape ()
            The loss.

        Raises
        ------
        ValueError
            If the shapes differ or there are fewer than two items.
        """
        if groups_a.ndim != 2 or groups_a.shape != groups_b.shape:
            raise ValueError(
                "groups_a and groups_b must both be of shape (n_items, emb_dim), "
                f"but got {tuple(groups_a.shape)} and {tuple(groups_b.shape)}."
            )
        n_items = len(groups_a)
        if n_items < 2:
            raise ValueError(
                "Contrast needs the groups of at least two items, but got those of "
                f"{n_items}."
            )
        groups = torch.cat([groups_a, groups_b])  # (2 * n_items, emb_dim)
        with torch.autocast(groups.device.type, enabled=False):
            groups = F.normalize(at_least_single_precision(groups), dim=1)
            logits = groups @ groups.T / self.temperature  # (2 * n_items, 2 * n_items)
        itself = torch.eye(2 * n_items, dtype=torch.bool, device=groups.device)
        logits = logits.masked_fill(itself, -torch.inf)
        partners = torch.arange(2 * n_items, device=groups.device).roll(n_items)
        return 2 * F.cross_entropy(logits, partners)
