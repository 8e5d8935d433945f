"""The loss of UNet++: half the binary cross entropy minus the Dice coefficient.

Zhou, Siddiquee, Tajbakhsh, Liang, "UNet++: A Nested U-Net Architecture for Medical Image
Segmentation", DLMIA 2018. The authors' code and Eq. 2 of the paper differ; both are here.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from volseg.losses.class_sums import sigmoid_sums
from volseg.losses.targets import one_against_rest, require_activation, require_smooth


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
        regions: The target holds regions, which may overlap: 0 and 1, a channel for each channel of
            the logits. Each is a sigmoid, and none is a background.
        ignore: Value of the target where a voxel counts in no term.

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
        regions: bool = False,
        ignore: int | None = None,
    ) -> None:
        super().__init__()
        require_activation(activation)
        require_smooth(smooth)
        self.activation = activation
        self.include_background = include_background
        self.smooth = smooth
        self.as_printed = as_printed
        self.regions = regions
        self.ignore = ignore

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a single number.

        Args:
            logits: ``(batch, classes, *spatial)``.
            target: Class indices ``(batch, 1, *spatial)``, or regions ``(batch, regions,
                *spatial)``.

        Raises:
            ShapeError: The target does not lie on the grid of the logits.
            InputError: The target holds something else than class indices, or regions.
        """
        log_odds, truth, counted = one_against_rest(
            logits,
            target,
            activation=self.activation,
            include_background=self.include_background,
            regions=self.regions,
            ignore=self.ignore,
        )
        sums = sigmoid_sums(log_odds, truth, counted)
        if self.as_printed:
            where = truth if counted is None else truth * counted
            sums = sums._replace(cross_entropy=-(where * F.logsigmoid(log_odds)).sum())
        dice, cross_entropy = sums.means(smooth=self.smooth, batch=not self.as_printed)
        return 0.5 * cross_entropy - dice
