"""The hybrid loss of UNet 3+: focal loss, structural similarity and intersection over union.

Huang et al., "UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation", ICASSP 2020:
the three look at voxels, patches and the whole map.
"""

from __future__ import annotations

from monai.losses import DiceLoss, FocalLoss
from torch import Tensor, nn

from volseg.losses.multiscale_ssim import multiscale_ssim
from volseg.losses.targets import one_against_rest, require_activation


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
    ) -> None:
        super().__init__()
        require_activation(activation)
        self.activation = activation
        self.include_background = include_background
        self.focal_loss = FocalLoss(gamma=gamma)
        self.iou_loss = DiceLoss(sigmoid=True, jaccard=True, batch=batch)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a single number.

        Args:
            logits: ``(batch, classes, *spatial)``.
            target: Class indices ``(batch, 1, *spatial)``.

        Raises:
            ShapeError: The target does not lie on the grid of the logits, or a side is shorter than
                three voxels.
            InputError: The target holds something else than class indices.
        """
        log_odds, truth = one_against_rest(
            logits,
            target,
            activation=self.activation,
            include_background=self.include_background,
        )
        structure = 1 - multiscale_ssim(log_odds.sigmoid(), truth).mean()
        loss: Tensor = self.focal_loss(log_odds, truth) + structure + self.iou_loss(log_odds, truth)
        return loss
