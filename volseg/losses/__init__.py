"""Losses that MONAI does not have: called with logits and target, in 2D and 3D.

Logits are ``(batch, classes, *spatial)``, targets class indices ``(batch, 1, *spatial)``, as
integers or as floating-point numbers that hold integers. For the usual Dice and cross entropy take
``monai.losses.DiceCELoss(to_onehot_y=True, softmax=True)``, with ``weight`` for classes; the focal
and Tversky losses of MONAI fit as well. What is not annotated gets no weight in
`WeightedCrossEntropyLoss`, and is the ``ignore_index`` of MONAI's ``DiceLoss``.
"""

from volseg.losses.border_weights import border_weight_map, separate_touching_instances
from volseg.losses.deep_supervision import DeepSupervisionLoss, halving_weights
from volseg.losses.multiscale_ssim import multiscale_ssim
from volseg.losses.normalised_cut import SoftNormalisedCutLoss
from volseg.losses.region_loss import RegionLoss
from volseg.losses.unet3plus import UNet3PlusLoss
from volseg.losses.unetplusplus import UNetPlusPlusLoss
from volseg.losses.weighted_cross_entropy import WeightedCrossEntropyLoss

__all__ = [
    "DeepSupervisionLoss",
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
