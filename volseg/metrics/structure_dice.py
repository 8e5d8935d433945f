"""Dice of masks of structures as a metric of MONAI's engines, counted as everywhere here."""

from __future__ import annotations

from typing import Any

import torch
from monai.handlers import IgniteMetricHandler
from monai.metrics import DiceMetric


class StructureDice(DiceMetric):
    """Dice of each structure; 0 where one is found that is not there.

    MONAI's own leaves a case out of the mean of a structure that its label lacks, even if the
    prediction has it, so that a network that invents rare structures looks as good as one that does
    not. What neither has is left out here, too (the table in `volseg.metrics`).
    """

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = super()._compute_tensor(y_pred, y)
        invented = _present(y_pred) & ~_present(y)
        if not self.include_background:
            invented = invented[:, 1:]
        return scores.masked_fill(invented, 0.0)


class MeanStructureDice(IgniteMetricHandler):
    """The mean of `StructureDice` over cases and structures, without the background.

    Args:
        output_transform: Gives masks ``(channels, x, y, z)`` of prediction and label, of a batch.
        of_each: Whether the mean is over cases alone, a value for each structure.
    """

    def __init__(self, output_transform: Any, *, of_each: bool = False) -> None:
        reduction = "mean_batch" if of_each else "mean"
        super().__init__(
            metric_fn=StructureDice(include_background=False, reduction=reduction),
            output_transform=output_transform,
            save_details=not of_each,
        )


def _present(masks: torch.Tensor) -> torch.Tensor:
    return (masks != 0).flatten(2).any(-1)
