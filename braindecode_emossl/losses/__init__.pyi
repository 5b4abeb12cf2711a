# The public names. Each is imported when it is first used.
from .automatic_weighted_loss import AutomaticWeightedLoss as AutomaticWeightedLoss
from .group_contrastive_loss import GroupContrastiveLoss as GroupContrastiveLoss
from .masked_prediction_loss import MaskedPredictionLoss as MaskedPredictionLoss
from .masked_reconstruction_loss import (
    MaskedReconstructionLoss as MaskedReconstructionLoss,
)
from .soft_contrastive_loss import SoftContrastiveLoss as SoftContrastiveLoss
