"""Whether a predictor may stand in for torch: the same labels on the same tiles."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from volseg.predictors.contract import Precision, Predictor, TileShapes

LABELS_LIMIT = 1e-3  # of the foreground voxels
# How much larger the logit of one class must be than that of the next, in standard deviations of
# the reference's logits, to be beyond what rounding in a precision turns around. On noise, where
# networks are least sure, trained ones turn 1e-4 of the foreground around past 0.1 in bf16; f16
# has three bits more.
DECIDED: dict[Precision, float] = {"f32": 0.0, "f16": 0.1 / 8, "bf16": 0.1}
# Largest difference of logits in standard deviations of the reference's, for its precision.
LOGITS_LIMIT: dict[Precision, float] = {"f32": 1e-3, "f16": 3e-2, "bf16": 2e-1}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Agreement:
    """How a predictor compares with the reference.

    Attributes:
        labels: Voxels with another label, as a share of those that are foreground to either;
            without those of `undecided`.
        foreground: How many voxels are foreground to either.
        logits: Largest difference of logits, in standard deviations of the reference's logits.
        undecided: Likewise, voxels with another label where the reference hardly prefers its own
            and rounding in the predictor's precision decides; none in f32.
        reason: Why the predictor may not be used; empty if it may.
    """

    labels: float
    foreground: int
    logits: float
    undecided: float = 0.0
    reason: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the predictor may be used."""
        return not self.reason


def verified(
    predictor: Predictor, reference: Predictor, check_tiles: Tensor, *, exclusive: bool = True
) -> Agreement:
    """Compare a predictor with the reference; what is found amiss is logged as a warning.

    It is refused if more than 0.1 % of the foreground voxels get another label, if logits are not
    finite where the reference's are, or, where neither finds any foreground and labels prove
    nothing, if logits differ beyond rounding. In a reduced precision, labels count where they are
    not a matter of rounding (`DECIDED`); what the precision costs on images is for a bundle's
    held-out cases to say.

    Args:
        predictor: What is to be used.
        reference: What is right: torch in float32.
        check_tiles: ``(tiles, channels, *tile)``; several, so that their order counts.
        exclusive: Whether a voxel has one label, the class of the largest logit. Otherwise, and
            with a single class, each class is there where its logit is positive.
    """
    found = predictor(check_tiles).cpu()
    right = torch.cat([reference(tile).cpu() for tile in check_tiles.split(1)])
    if found.shape != right.shape:
        reason = f"gives logits of {tuple(found.shape)}, not {tuple(right.shape)}"
        return _reported(predictor, Agreement(1.0, 0, float("inf"), reason=reason))
    spread = float(right.std()) or 1.0
    logits = float((found - right).abs().max()) / spread
    ours, theirs = _labels(found, exclusive), _labels(right, exclusive)
    foreground = int(((ours > 0) | (theirs > 0)).sum())
    other = ours != theirs
    least = DECIDED[predictor.precision] * spread
    decided = other & (_preference(right, exclusive) > least) if least else other
    labels = int(decided.sum()) / max(1, foreground)
    undecided = int((other & ~decided).sum()) / max(1, foreground)
    limit = LOGITS_LIMIT[predictor.precision]
    reason = ""
    if not found.isfinite().all() and right.isfinite().all():
        reason = "gives logits that are not finite"
    elif labels > LABELS_LIMIT:
        reason = (
            f"gives other labels on {labels:.2%} of the foreground voxels of the check volume "
            f"(allowed: {LABELS_LIMIT:.2%}; logits differ by {logits:.2g} standard deviations)"
        )
    elif not foreground and logits > limit:
        reason = (
            f"gives logits that differ by {logits:.2g} standard deviations on a check volume "
            f"without foreground (allowed: {limit:g})"
        )
    return _reported(predictor, Agreement(labels, foreground, logits, undecided, reason))


def check_volume(shapes: TileShapes, tiles: int = 2) -> Tensor:
    """Return tiles to check with: the same always, and alive at every scale.

    Smooth noise of cells of 16, 8 and 4 voxels and a little of single voxels, with mean 0 and
    standard deviation 1, as images are after normalisation.

    Args:
        shapes: The sizes they are for.
        tiles: How many.
    """
    generator = torch.Generator().manual_seed(0)
    channels, *sides = shapes.image
    mode = {2: "bilinear", 3: "trilinear"}[len(sides)]
    total = torch.zeros((tiles, *shapes.image))
    for cell, share in ((16, 1.0), (8, 0.5), (4, 0.25), (1, 0.1)):
        coarse = [max(2, -(-side // cell)) for side in sides]
        noise = torch.randn((tiles, channels, *coarse), generator=generator)
        total += share * functional.interpolate(noise, sides, mode=mode, align_corners=False)
    axes = tuple(range(2, total.ndim))
    centred = total - total.mean(axes, keepdim=True)
    return centred / centred.std(axes, keepdim=True)


def _reported(predictor: Predictor, agreement: Agreement) -> Agreement:
    limit = LOGITS_LIMIT[predictor.precision]
    if agreement.reason:
        _log.warning("%s is not used: it %s", predictor.name, agreement.reason)
    elif agreement.logits > limit:
        _log.warning(
            "%s gives the labels of torch, but logits that differ by %.2g standard deviations "
            "(rounding explains %g)",
            predictor.name,
            agreement.logits,
            limit,
        )
    return agreement


def _labels(logits: Tensor, exclusive: bool) -> Tensor:
    if exclusive and logits.shape[1] > 1:
        return logits.argmax(1)
    return (logits > 0).int()


def _preference(logits: Tensor, exclusive: bool) -> Tensor:
    """Return by how much the logits of a label exceed those of the next one."""
    if exclusive and logits.shape[1] > 1:
        best, next_best = logits.topk(2, dim=1).values.unbind(1)
        return best - next_best
    return logits.abs()
