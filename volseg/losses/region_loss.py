"""The loss of nested structures, from a label map of what each voxel is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from volseg.errors import InputError


class RegionLoss(nn.Module):
    """A loss over regions, each a yes or no of its own, whose target is a label map.

    Regions are told apart after the label map has been augmented and brought to the grid of a
    head: until then it is one channel, not one a region.

    Args:
        loss: Called with logits ``(batch, regions, *spatial)`` and a target of the same shape: 0,
            1, or the value to ignore.
        regions: Label values of each region; 0 is in none.
        ignore: Value of the voxels that do not count, in the label map and in what ``loss`` gets.

    Raises:
        InputError: There are no regions, or the value to ignore is in one.
    """

    table: Tensor
    known: Tensor

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        regions: Sequence[Sequence[int]],
        *,
        ignore: int | None = None,
    ) -> None:
        super().__init__()
        values = [value for region in regions for value in region]
        if not values or min(values) < 1 or ignore in values or ignore in (0, 1):
            raise InputError(
                f"the regions are {regions} and {ignore} is ignored; expected label values of at "
                "least 1 for each region, and another one than these, 0 and 1 to ignore."
            )
        self.loss = loss
        self.ignore = ignore
        kind = (
            torch.uint8 if ignore is None or ignore <= torch.iinfo(torch.uint8).max else torch.int32
        )
        table = torch.zeros(1 + max(values), len(regions), dtype=kind)
        for place, region in enumerate(regions):
            table[list(region), place] = 1
        self.register_buffer("table", table, persistent=False)
        known = table.bool().any(dim=1)
        known[0] = True
        self.register_buffer("known", known, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            logits: ``(batch, regions, *spatial)``.
            target: Label values ``(batch, 1, *spatial)``, whole numbers of any type.

        Raises:
            InputError: A value is in no region, is not 0 and is not ignored.
        """
        return self.loss(logits, self.masks(target))

    def masks(self, target: Tensor) -> Tensor:
        """Return what the loss gets for label values ``(batch, 1, *spatial)``; see `forward`."""
        plain = target.as_subclass(Tensor)
        values = plain[:, 0].long()
        ignored = None if self.ignore is None else values == self.ignore
        if ignored is not None:
            values = values.masked_fill(ignored, 0)
        if not plain.is_meta:
            self._require_known(values)
        masks = self.table.to(values.device)[values].movedim(-1, 1)
        if ignored is not None and self.ignore is not None:
            masks = masks.masked_fill(ignored.unsqueeze(1), self.ignore)
        return masks

    def _require_known(self, values: Tensor) -> None:
        """Refuse what is in no region, which would be taken for background."""
        inside = values.clamp(0, len(self.known) - 1)
        # On an accelerator, an index out of range would end the process without a reason.
        wrong = (inside != values) | ~self.known.to(values.device)[inside]
        if not wrong.any():
            return
        expected = ", ".join(map(str, self.known.nonzero().flatten().tolist()))
        ignored = "" if self.ignore is None else f", or {self.ignore} to ignore"
        raise InputError(
            f"the target holds the value {int(values[wrong][0])}; expected {expected}, which are "
            f"the background and the labels of the regions{ignored}: look at the labels, and at "
            "how they are read."
        )
