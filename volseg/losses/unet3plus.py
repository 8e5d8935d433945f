"""The hybrid loss of UNet 3+: focal loss, structural similarity and intersection over union.

Huang et al., "UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation", ICASSP 2020:
the three look at voxels, patches and the whole map.
"""

from __future__ import annotations

from monai.losses import FocalLoss
from torch import Tensor, nn

from volseg.losses.class_sums import sigmoid_sums
from volseg.losses.multiscale_ssim import multiscale_ssim
from volseg.losses.targets import one_against_rest, require_activation
from volseg.processes import mean_over_processes

_SMOOTH = 1e-5  # voxels


class UNet3PlusLoss(nn.Module):
    """Focal loss + (1 - MS-SSIM) + (1 - IoU), in 2D and 3D; 0 for a perfect prediction.

    Each class is a binary image of its own: one channel of logits is the foreground (target 1); of
    several, channel k belongs to target k and channel 0, the background, is left out unless
    ``include_background``. The three terms are means over images and classes. MS-SSIM has as many
    scales as fit, see `multiscale_ssim`, and the luminance enters once; the code published with the
    paper multiplies the coarsest scale in at every scale.

    Args:
        activation: ``softmax`` or ``sigmoid`` (the paper) over several channels; one channel is
            always a sigmoid.
        include_background: Count channel 0 of several channels as a class.
        gamma: Exponent of the focal loss.
        batch: Take the IoU over all images of the batch together; steadier where the class is
            absent from many patches.
        regions: The target holds regions, which may overlap: 0 and 1, a channel for each channel of
            the logits. Each is a sigmoid, and none is a background.
        ignore: Value of the target where a voxel counts neither in the focal loss nor in the IoU;
            MS-SSIM, which looks at patches, takes it for background that was predicted so.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        *,
        activation: str = "softmax",
        include_background: bool = False,
        gamma: float = 2.0,
        batch: bool = False,
        regions: bool = False,
        ignore: int | None = None,
    ) -> None:
        super().__init__()
        require_activation(activation)
        self.activation = activation
        self.include_background = include_background
        self.batch = batch
        self.regions = regions
        self.ignore = ignore
        self.focal_loss = FocalLoss(gamma=gamma, reduction="none")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a single number.

        Args:
            logits: ``(batch, classes, *spatial)``.
            target: Class indices ``(batch, 1, *spatial)``, or regions ``(batch, regions,
                *spatial)``.

        Raises:
            ShapeError: The target does not lie on the grid of the logits, or a side is shorter than
                three voxels.
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
        focal: Tensor = self.focal_loss(log_odds, truth)
        probability = log_odds.sigmoid()
        sums = sigmoid_sums(log_odds, truth, counted)
        if counted is not None:
            focal = focal.where(counted, 0)
            probability, truth = probability.where(counted, 0), truth.where(counted, 0)
        structure = mean_over_processes(multiscale_ssim(probability, truth))
        # The sum of any entropy over the terms that count has its mean.
        sums = sums._replace(cross_entropy=focal.sum())
        iou, focal_mean = sums.means(smooth=_SMOOTH, batch=self.batch, jaccard=True)
        return focal_mean + (1 - structure) + (1 - iou)
