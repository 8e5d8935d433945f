"""`RandSpatiald` with one kind of movement alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from monai.config import KeysCollection

from volseg.transforms.control_points import PerAxis
from volseg.transforms.spatial import RandSpatiald


class RandElasticd(RandSpatiald):
    """Deform elastically only; the default is the recipe of the original U-Net.

    3 x 3 control points with normal displacements of 10 pixels (Ronneberger, Fischer, Brox: U-Net,
    2015), here interpolated by cubic B-splines; scaled down on images so small that it could fold.

    Args:
        keys: As in `RandSpatiald`, and so are the further options.
        control_points: Points along each axis, at least 2.
        displacement: Standard deviation of the displacement of each point, in `unit`.
        unit: "voxels" or "mm".
        options: Further options of `RandSpatiald`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        control_points: int | Sequence[int] = 3,
        displacement: PerAxis | None = 10.0,
        unit: str = "voxels",
        **options: Any,
    ) -> None:
        options = {"rotation": 0.0, "scale": (1.0, 1.0), **options}
        super().__init__(
            keys,
            control_points=control_points,
            displacement=displacement,
            unit=unit,
            **options,
        )


class RandRotated(RandSpatiald):
    """Rotate only.

    Args:
        keys: As in `RandSpatiald`, and so are the further options.
        rotation: Largest angle in radians; in 3D one for all axes or one an axis.
        options: Further options of `RandSpatiald`.
    """

    def __init__(
        self, keys: KeysCollection, *, rotation: PerAxis = math.pi / 12, **options: Any
    ) -> None:
        options = {"scale": (1.0, 1.0), "displacement": 0.0, **options}
        super().__init__(keys, rotation=rotation, **options)
