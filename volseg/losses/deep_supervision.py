"""One loss over the heads of a deeply supervised network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from volseg.errors import InputError, ShapeError
from volseg.losses.targets import full_precision


def halving_weights(heads: int) -> list[float]:
    """Return one weight a head, each half of the one before, summing to 1.

    For heads of halving resolution, full resolution first. UNet++ has all its heads at full
    resolution and gives them equal weights instead.

    Raises:
        InputError: ``heads`` is not positive.

    Example:
        >>> halving_weights(2)
        [0.6666666666666666, 0.3333333333333333]
    """
    if heads < 1:
        raise InputError(f"the number of heads is {heads}; expected at least 1.")
    return [2.0 ** (heads - 1 - head) / (2**heads - 1) for head in range(heads)]


class DeepSupervisionLoss(nn.Module):
    """Weighted sum of a loss over all heads, full resolution first and heaviest.

    The target is brought to the grid of each head, by nearest neighbour at voxel centres; the
    prediction never is. A single tensor (a network in evaluation) is one unweighted call of the
    loss. `monai.losses.DeepSupervisionLoss` replaces weights that are too few by its own and drops
    those that are too many; here the number must fit.

    Args:
        loss: Called with logits and target, at each resolution.
        weights: One a head, none larger than the one before: increasing weights are those of heads
            in the wrong order.

    Raises:
        InputError: The weights are none, negative, all zero, not finite, or increasing.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], weights: Sequence[float]) -> None:
        super().__init__()
        self.loss = loss
        self.weights = tuple(float(weight) for weight in weights)
        found = f"the weights of the heads are {list(self.weights)}; expected"
        if not all(math.isfinite(weight) and weight >= 0 for weight in self.weights):
            raise InputError(f"{found} finite numbers of at least 0.")
        if sum(self.weights) == 0:
            raise InputError(f"{found} one a head, with a sum above 0.")
        if any(later > earlier for earlier, later in pairwise(self.weights)):
            raise InputError(
                f"{found} none larger than the one before, as full resolution comes first: reverse "
                "them, and the heads if the network gives the coarsest first."
            )

    def forward(self, logits: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the loss, a single number if the loss of one head is.

        Args:
            logits: ``(batch, classes, *spatial)``, or a list of them, the first on the grid of the
                target and none finer than the one before.
            target: ``(batch, channels, *spatial)``: class indices, or whatever the loss takes.

        Raises:
            ShapeError: The number of heads is not that of the weights, a head has other axes than
                the target, or the heads are not ordered by resolution.
        """
        truth = target.as_subclass(Tensor)
        if isinstance(logits, Tensor):
            _require_axes(logits, truth)
            return self.loss(full_precision(logits), truth)
        if len(logits) != len(self.weights):
            raise ShapeError(
                f"the network gave {len(logits)} heads for {len(self.weights)} weights "
                f"{list(self.weights)}; expected one weight a head."
            )
        for head in logits:
            _require_axes(head, truth)
        grids = [tuple(truth.shape[2:]), *(tuple(head.shape[2:]) for head in logits)]
        if grids[0] != grids[1] or any(
            any(fine < coarse for fine, coarse in zip(earlier, later, strict=True))
            for earlier, later in pairwise(grids)
        ):
            raise ShapeError(
                f"the heads have the sizes {_sizes(grids[1:])} for a target of {_sizes(grids[:1])};"
                " expected the first on the grid of the target and none finer than the one before."
            )
        losses = [
            weight * self.loss(full_precision(head), _nearest(truth, head.shape[2:]))
            for weight, head in zip(self.weights, logits, strict=True)
            if weight > 0
        ]
        return torch.stack(losses).sum(dim=0)


def _nearest(target: Tensor, sides: torch.Size) -> Tensor:
    if target.shape[2:] == sides:
        return target
    # Integers cannot be resampled; labels are far below where float32 stops holding integers.
    values = target if target.is_floating_point() else target.float()
    return F.interpolate(values, size=sides, mode="nearest-exact").to(target.dtype)


def _require_axes(head: Tensor, target: Tensor) -> None:
    if head.ndim == target.ndim and head.ndim in (4, 5):
        return
    advice = ": unbind stacked heads to a list" if head.ndim == target.ndim + 1 else ""
    raise ShapeError(
        f"the logits have the shape {tuple(head.shape)} and the target {tuple(target.shape)}; "
        f"expected (batch, channels, x, y) or (batch, channels, x, y, z) for both{advice}."
    )


def _sizes(grids: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(" x ".join(map(str, grid)) for grid in grids)
