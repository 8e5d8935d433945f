"""The weight map of the U-Net as a MONAI dictionary transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from volseg.errors import InputError
from volseg.io import grid_of
from volseg.losses import border_weight_map
from volseg.transforms.channel_first import as_float_image, plain, with_metadata_of


class BorderWeightMapd(MapTransform):
    """Add the weight map of an instance map: `volseg.losses.border_weight_map`.

    Args:
        keys: Instance maps ``(1, x, y)`` or ``(1, x, y, z)``.
        postfix: Added to a key for its weight map, ``label_weights``.
        w0: Largest weight that a gap adds.
        sigma: Width of the gaps that count, in ``unit``.
        unit: ``voxels``, or ``mm`` by the affine of the instance map, which must be a
            `MetaTensor`.
        balance: Whether background and instances get the same sum.
        allow_missing_keys: Skip a key that the dictionary lacks.

    Raises:
        InputError: The unit is neither.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        postfix: str = "_weights",
        w0: float = 10.0,
        sigma: float = 5.0,
        unit: str = "voxels",
        balance: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if unit not in ("voxels", "mm"):
            raise InputError(f"the unit of sigma is {unit!r}; expected 'voxels' or 'mm'.")
        self.postfix = postfix
        self.w0 = w0
        self.sigma = sigma
        self.unit = unit
        self.balance = balance

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with a float32 weight map for each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            instances = data[key]
            like = as_float_image(key, instances)
            spacing = None
            if self.unit == "mm":
                if not isinstance(instances, MetaTensor):
                    raise InputError(
                        f"{key!r} has no affine, so sigma cannot be in mm; give a MetaTensor, or "
                        "state sigma in voxels."
                    )
                spacing = grid_of(instances).spacing
            if len(like) != 1:
                raise InputError(f"{key!r} has {len(like)} channels; expected one of instances.")
            # The instances themselves: 32-bit floats do not hold every number.
            numbers = plain(instances)[0]
            weights = border_weight_map(
                numbers, w0=self.w0, sigma=self.sigma, balance=self.balance, spacing=spacing
            )
            map_of_weights = torch.as_tensor(weights, device=like.device)[None]
            result[f"{key}{self.postfix}"] = with_metadata_of(like, map_of_weights)
        return result
