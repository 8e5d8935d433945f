"""From logits to the label map of the file, as a MONAI dictionary transform for bundles."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from volseg.errors import InputError
from volseg.inference.decision import Decision
from volseg.inference.restoring import Targets, restore_slabs
from volseg.inference.streaming import Slab
from volseg.io import grid_of, original_grid_of

_LARGEST_IN_A_BYTE = 255


class LabelOnSourceGridd(MapTransform):
    """Turn logits on the network's grid into labels on the grid of the file of their image.

    What `Invertd` and `AsDiscreted` do together, without an array of classes x source volume:
    probabilities are interpolated linearly between the network's voxels, and each voxel of the
    file takes the class that is largest there (`volseg.inference.restore_slabs`).

    The temperature has no part in that: it is kept for those who want probabilities, too.

    Args:
        keys: Logits (classes, x, y) or (classes, x, y, z), with the affine of the network's grid.
        like: Entry of the image that was read from the file, wherever it was moved since.
        regions: Labels of regions that may overlap, one a channel; the last one counts. Channels
            are classes without it.
        threshold: What the probability of the foreground of two classes, or of a region, must
            exceed; see `volseg.inference.Decision`.
        temperature: Of the probabilities.
        allow_missing_keys: Skip a key that the dictionary lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        like: Hashable,
        regions: Sequence[int] | None = None,
        threshold: float = 0.5,
        temperature: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.like = like
        self.decision = Decision(
            None if regions is None else tuple(regions), threshold, temperature
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with label maps (1, ...), uint8 or (past 255) uint16."""
        result = dict(data)
        for key in self.key_iterator(result):
            logits, image = result[key], data[self.like]
            if not isinstance(logits, MetaTensor):
                raise InputError(
                    f"{key!r} is a {type(logits).__name__} without an affine, so its place in the "
                    "file's grid is not known; expected the MetaTensor that the inferer returns."
                )
            result[key] = self.labels(logits, image)
        return result

    def labels(self, logits: MetaTensor, image: MetaTensor) -> MetaTensor:
        """Return the labels of logits on the grid of the file of an image."""
        source = original_grid_of(image)
        highest = self.decision.highest_label(len(logits))
        kind = np.uint8 if highest <= _LARGEST_IN_A_BYTE else np.uint16
        labels = np.empty(source.shape, dtype=kind)
        plain = logits.as_tensor().detach().to("cpu", torch.float32)
        restore_slabs(
            [Slab(axis=0, start=0, stop=plain.shape[1], logits=plain)],
            Targets(labels=labels),
            network_grid=grid_of(logits),
            source_grid=source,
            decision=self.decision,
        )
        affine = image.meta["original_affine"]
        values = torch.from_numpy(labels[np.newaxis]).to(logits.device)
        return MetaTensor(values, affine=affine)
