"""Cross entropy with a weight for every voxel."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.losses.targets import class_indices, full_precision, require_same_grid
from volseg.processes import mean_over_processes


class WeightedCrossEntropyLoss(nn.Module):
    """Cross entropy times the weight of each voxel, averaged over all voxels.

    Eq. 1 of Ronneberger et al. 2015 (weights: `border_weight_map`) and the sparse annotation of
    Çiçek et al. 2016 (weight 0 where nothing is annotated; any label may stand there). The average
    is over the number of voxels, not over the sum of the weights.

    Trainers hand a loss the logits and one target, so the weights come with it as a second channel:
    `monai.transforms.ConcatItemsd` joins label and weights. Resample both together by nearest
    neighbour, or compute the weights after the spatial augmentation.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a single number.

        Args:
            logits: ``(batch, classes, *spatial)``; one channel is the foreground (sigmoid),
                several exclude each other (softmax).
            target: Class index and weight, ``(batch, 2, *spatial)``.

        Raises:
            ShapeError: The target does not lie on the grid of the logits, or has not two channels.
            InputError: A weight is negative or not finite, or the first channel holds something
                else than class indices.
        """
        require_same_grid(logits, target, channels=2, holding="class indices and weights")
        scores = full_precision(logits)
        classes, weights = target.as_subclass(Tensor).unbind(dim=1)
        weights = weights.to(scores.dtype)
        wrong = ~(torch.isfinite(weights) & (weights >= 0))
        if wrong.any():
            raise InputError(
                f"the second channel of the target, the weights, holds {weights[wrong][0].item():g}"
                "; expected finite numbers of at least 0."
            )
        counted = torch.where(weights > 0, classes, torch.zeros_like(classes))
        indices, _ = class_indices(counted, scores.shape[1])
        if scores.shape[1] == 1:
            losses = F.binary_cross_entropy_with_logits(
                scores[:, 0], indices.to(scores.dtype), reduction="none"
            )
        else:
            losses = F.cross_entropy(scores, indices, reduction="none")
        return mean_over_processes(weights * losses)
