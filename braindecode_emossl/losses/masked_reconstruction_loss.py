"""Squared error of masked patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from braindecode_emossl.losses.gathering import total
from braindecode_emossl.losses.precision import at_least_single_precision

__all__ = ["MaskedReconstructionLoss"]

# As in masked autoencoders, against division by zero for a flat patch.
_EPS = 1e-6


class MaskedReconstructionLoss(nn.Module):
    r"""Mean squared error of the masked patches only [1]_.

    With the mask :math:`m_n` of patch :math:`n`, which holds :math:`P` values,

    .. math::

        L = \frac{\sum_n m_n \frac{1}{P} \lVert \hat{x}_n - x_n \rVert^2}{\sum_n m_n},

    and 0 if no patch is masked.

    Parameters
    ----------
    normalize_targets : bool, default=False
        Whether each patch of the target is first scaled to mean 0 and variance 1, so
        that patches of large amplitude do not dominate.

    Notes
    -----
    In distributed training the mean is over the masked patches of all processes.

    References
    ----------
    .. [1] He, K., Chen, X., Xie, S., Li, Y., Dollár, P., & Girshick, R. (2022). Masked
       autoencoders are scalable vision learners. In CVPR.
       https://doi.org/10.1109/CVPR52688.2022.01553
    """

    def __init__(self, normalize_targets: bool = False):
        super().__init__()
        self.normalize_targets = normalize_targets

    def forward(
        self, prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Compute the loss, in at least single precision.

        Parameters
        ----------
        prediction : torch.Tensor, shape (batch, ..., patch_dim)
            Reconstructed patches; those that are not masked are ignored.
        target : torch.Tensor, shape (batch, ..., patch_dim)
            Original patches.
        mask : torch.Tensor of bool, shape (batch, ...)
            True where a patch is masked.

        Returns
        -------
        torch.Tensor, shape ()
            The loss.

        Raises
        ------
        ValueError
            If the shapes do not fit together.
        """
        if prediction.shape != target.shape or mask.shape != target.shape[:-1]:
            raise ValueError(
                "prediction and target must be of one shape (batch, ..., patch_dim) "
                "and mask of shape (batch, ...), but got "
                f"{tuple(prediction.shape)}, {tuple(target.shape)} and "
                f"{tuple(mask.shape)}."
            )
        # Indices of the masked patches would have to be read from a GPU.
        prediction, target = (
            at_least_single_precision(x).masked_fill(~mask[..., None], 0.0)
            for x in (prediction, target)
        )
        if self.normalize_targets:
            variance, mean = torch.var_mean(target, dim=-1, correction=0, keepdim=True)
            target = (target - mean) * (variance + _EPS).rsqrt()
        n_values = total(mask.sum() * target.shape[-1]).clamp(min=1)
        return total(F.mse_loss(prediction, target, reduction="sum")) / n_values
