"""From label maps to one mask a structure, as metrics take them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from volseg.transforms.channel_first import plain


def structure_masks(labels: Tensor, structures: Sequence[Sequence[int]]) -> Tensor:
    """Return masks ``(1 + structures, ...)`` of a label map ``(1, ...)``: 0 and 1, uint8.

    The first one holds what is in no structure.

    Args:
        labels: Label map.
        structures: Values of each.
    """
    highest = max([int(labels.max()), *(value for values in structures for value in values)])
    table = torch.zeros(1 + len(structures), 1 + highest, dtype=torch.uint8, device=labels.device)
    for place, values in enumerate(structures, start=1):
        table[place, list(values)] = 1
    table[0] = table[1:].amax(0) == 0
    return table[:, labels[0].long()]


class StructureMasksd(MapTransform):
    """Turn label maps ``(1, ...)`` into one mask a structure, behind one of the background.

    Args:
        keys: Label maps on one grid.
        reference: The one of them that may hold the value to ignore: there all masks of all of
            them are empty, so that no metric counts what nobody labelled.
        classes: Number of classes, background included.
        regions: Values of each structure; each class is one without it.
        ignore: The value to ignore.
        allow_missing_keys: Skip a key that the dictionary lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        reference: Hashable,
        classes: int,
        regions: Sequence[Sequence[int]] | None = None,
        ignore: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference = reference
        self.structures = regions or [[value] for value in range(1, classes)]
        self.ignore = ignore

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with masks ``(1 + structures, ...)``."""
        result = dict(data)
        counted = None
        if self.ignore is not None:
            counted = (plain(data[self.reference]) != self.ignore).to(torch.uint8)
        for key in self.key_iterator(result):
            masks = structure_masks(plain(result[key]), self.structures)
            if counted is not None:
                masks *= counted.to(masks.device)
            if isinstance(found := result[key], MetaTensor):
                masks = MetaTensor(masks, meta=found.meta)
            result[key] = masks
        return result
