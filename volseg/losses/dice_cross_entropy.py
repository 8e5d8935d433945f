"""The usual loss of a segmentation: one minus the Dice coefficient, plus cross entropy.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Nature Methods 2021: the sum serves most data sets, the Dice coefficient of the whole
batch steadily.
"""

from __future__ import annotations

from torch import Tensor, nn

from volseg.losses.class_sums import sigmoid_sums, softmax_sums
from volseg.losses.targets import (
    class_indices,
    full_precision,
    region_masks,
    require_same_grid,
    require_smooth,
)


class DiceCrossEntropyLoss(nn.Module):
    """One minus the mean Dice coefficient plus the mean cross entropy; 0 for a perfect prediction.

    `monai.losses.DiceCELoss` gives the same numbers and gradients (its options ``to_onehot_y`` and
    ``softmax``). This one makes no one-hot copies, see `volseg.losses.class_sums`, takes regions,
    leaves out voxels to ignore, and gives several processes that share a batch its loss.

    Args:
        regions: The target has a channel for every channel of the logits: whether the voxel is in
            the region. Regions may overlap; each is a sigmoid with binary cross entropy.
        include_background: Count channel 0 of several classes in the Dice coefficient. There is no
            background among regions.
        batch: Take the Dice coefficient over all images of the batch together instead of a mean
            over images.
        ignore: Value of the target where a voxel counts neither in the Dice coefficient nor in
            cross entropy. Among regions it is looked for in every channel on its own.
        smooth: Added to both parts of the Dice coefficient, in voxels.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        *,
        regions: bool = False,
        include_background: bool = False,
        batch: bool = True,
        ignore: int | None = None,
        smooth: float = 1e-5,
    ) -> None:
        super().__init__()
        require_smooth(smooth)
        self.regions = regions
        self.include_background = include_background
        self.batch = batch
        self.ignore = ignore
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a single number; 0 if no voxel counts.

        Args:
            logits: ``(batch, classes, *spatial)``; one channel is the foreground (sigmoid), several
                exclude each other (softmax) unless they are regions.
            target: Class indices ``(batch, 1, *spatial)``, or regions ``(batch, regions,
                *spatial)`` of 0 and 1.

        Raises:
            ShapeError: The target does not lie on the grid of the logits.
            InputError: The target holds something else.
        """
        scores = full_precision(logits)
        classes = scores.shape[1]
        if self.regions:
            truth, counted = region_masks(scores, target, self.ignore)
            sums = sigmoid_sums(scores, truth, counted)
        else:
            require_same_grid(logits, target, channels=1, holding="class indices")
            indices, counted = class_indices(target, classes, self.ignore)
            if classes == 1:
                sums = sigmoid_sums(scores, indices.to(scores.dtype), counted)
            else:
                sums = softmax_sums(scores, indices, counted)
        background = self.include_background or self.regions or classes == 1
        dice, cross_entropy = sums.means(
            smooth=self.smooth, batch=self.batch, background=background
        )
        return 1 - dice + cross_entropy
