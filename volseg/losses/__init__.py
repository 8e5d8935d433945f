"""Losses called with logits and target, in 2D and 3D.

Logits are ``(batch, classes, *spatial)``, targets class indices ``(batch, 1, *spatial)``, as
integers or as floating-point numbers that hold integers; or, with ``regions=True``, what may
overlap: 0 and 1, a channel for each channel of the logits. What is not annotated has the value
``ignore`` in the target, and no weight in `WeightedCrossEntropyLoss`. The losses of MONAI that take
logits fit as well, but processes that share a batch then get the mean of the losses of their
shares; those here get the loss of the batch.
"""

from volseg.losses.border_weights import border_weight_map, separate_touching_instances
from volseg.losses.deep_supervision import DeepSupervisionLoss, halving_weights
from volseg.losses.dice_cross_entropy import DiceCrossEntropyLoss
from volseg.losses.multiscale_ssim import multiscale_ssim
from volseg.losses.normalised_cut import SoftNormalisedCutLoss
from volseg.losses.region_loss import RegionLoss
from volseg.losses.unet3plus import UNet3PlusLoss
from volseg.losses.unetplusplus import UNetPlusPlusLoss
from volseg.losses.weighted_cross_entropy import WeightedCrossEntropyLoss

__all__ = [
    "DeepSupervisionLoss",
    "DiceCrossEntropyLoss",
    "RegionLoss",
    "SoftNormalisedCutLoss",
    "UNet3PlusLoss",
    "UNetPlusPlusLoss",
    "WeightedCrossEntropyLoss",
    "border_weight_map",
    "halving_weights",
    "multiscale_ssim",
    "separate_touching_instances",
]
