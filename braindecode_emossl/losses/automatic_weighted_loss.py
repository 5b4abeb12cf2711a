"""Sum of losses with learned weights."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["AutomaticWeightedLoss"]


class AutomaticWeightedLoss(nn.Module):
    r"""Sum of several losses, weighted by learned scales [1]_ [2]_.

    For the losses :math:`L_m` and the learned scales :math:`s_m`,

    .. math:: L = \sum_m \frac{L_m}{2 s_m^2} + \log(1 + s_m^2).

    A loss that stays large gets a large scale and so a small weight; the logarithm,
    which is never negative, keeps the scales from growing without bound.

    Parameters
    ----------
    n_losses : int
        Number of losses to add. All scales start at 1.

    Attributes
    ----------
    scales : torch.nn.Parameter, shape (n_losses,)
        The learned :math:`s_m`. An optimizer with weight decay decays them too.

    References
    ----------
    .. [1] Kendall, A., Gal, Y., & Cipolla, R. (2018). Multi-task learning using
       uncertainty to weigh losses for scene geometry and semantics. In CVPR.
       https://doi.org/10.1109/CVPR.2018.00781
    .. [2] Liebel, L., & Körner, M. (2018). Auxiliary tasks in multi-task learning.
       https://arxiv.org/abs/1805.06334
    """

    def __init__(self, n_losses: int):
        super().__init__()
        if n_losses < 1:
            raise ValueError(f"n_losses must be at least 1, but got {n_losses}.")
        self.scales = nn.Parameter(torch.ones(n_losses))

    def forward(self, *losses: torch.Tensor) -> torch.Tensor:
        """Add the losses.

        Parameters
        ----------
        *losses : torch.Tensor, shape ()
            ``n_losses`` scalars.

        Returns
        -------
        torch.Tensor, shape ()
            The weighted sum.
        """
        n_losses = len(self.scales)
        if len(losses) != n_losses:
            raise ValueError(
                f"AutomaticWeightedLoss was built for {n_losses} losses, "
                f"but got {len(losses)}."
            )
        variances = self.scales.square()
        return (torch.stack(losses) / (2 * variances) + variances.log1p()).sum()
