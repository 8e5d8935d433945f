"""The loss of UNet++: half the binary cross entropy minus the Dice coefficient.

Zhou, Siddiquee, Tajbakhsh, Liang, "UNet++: A Nested U-Net Architecture for Medical Image
Segmentation", DLMIA 2018. The authors' code and Eq. 2 of the paper differ; both are here.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from monai.losses import DiceLoss
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.losses.targets import one_against_rest, require_activation


class UNetPlusPlusLoss(nn.Module):
    """Half the binary cross entropy minus the Dice coefficient; -1 for a perfect prediction.

    Each class is a binary image of its own: one channel of logits is the foreground (target 1); of
    several, channel k belongs to target k and channel 0, the background, is left out unless
    ``include_background``. Cross entropy is the mean over voxels, images and classes; Dice that
    over classes, each taken over all voxels of the batch together.

    With deep supervision, give it to `DeepSupervisionLoss` with equal weights.

    Args:
        activation: ``softmax`` or ``sigmoid`` (the paper) over several channels; one channel is
            always a sigmoid.
        include_background: Count channel 0 of several channels as a class.
        smooth: Added to both parts of the Dice coefficient, in voxels; the authors use 1.
        as_printed: Eq. 2 of the paper in place of the authors' code: cross entropy only where the
            class is (no ``(1 - Y) log(1 - P)``), and a Dice coefficient for each image of the batch
            instead of one over them all. Cross entropy stays a mean over all voxels, and the Dice
            coefficient stays smoothed: as printed, it is 0/0 without foreground.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        *,
        activation: str = "softmax",
        include_background: bool = False,
        smooth: float = 1.0,
        as_printed: bool = False,
    ) -> None:
        super().__init__()
        require_activation(activation)
        if not smooth > 0:
            raise InputError(f"smooth is {smooth}; expected a number above 0.")
        self.activation = activation
        self.include_background = include_background
        self.as_printed = as_printed
        self.dice_loss = DiceLoss(
            sigmoid=True, smooth_nr=smooth, smooth_dr=smooth, batch=not as_printed
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a single number.

        Args:
            logits: ``(batch, classes, *spatial)``.
            target: Class indices ``(batch, 1, *spatial)``.

        Raises:
            ShapeError: The target does not lie on the grid of the logits.
            InputError: The target holds something else than class indices.
        """
        log_odds, truth = one_against_rest(
            logits,
            target,
            activation=self.activation,
            include_background=self.include_background,
        )
        if self.as_printed:
            cross_entropy = -(truth * F.logsigmoid(log_odds)).mean()
        else:
            cross_entropy = F.binary_cross_entropy_with_logits(log_odds, truth)
        minus_dice: Tensor = self.dice_loss(log_odds, truth) - 1
        return 0.5 * cross_entropy + minus_dice
