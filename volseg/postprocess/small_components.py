"""Removing components that are too small to be the structure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.postprocess.components import find_components, keep_components
from volseg.postprocess.label_map import (
    check_classes,
    check_connectivity,
    check_label_map,
    voxel_size,
)


def remove_small_components(
    labels: npt.ArrayLike,
    *,
    min_size_mm3: float | None = None,
    min_size_voxels: int | None = None,
    spacing: Sequence[float] | None = None,
    classes: Collection[int] | None = None,
    connectivity: int | None = None,
    replace_with: int = 0,
) -> npt.NDArray[Any]:
    """Return the label map without the components smaller than a size.

    A component is a connected set of voxels of one class. One of exactly the given size stays.
    If that leaves nothing of a class, the class is removed and a warning is logged.

    Sizes are volumes or areas, never lengths: `min_size_mm3=8` at a spacing of 2 mm is one voxel.
    In 2D there is no volume, and **the same parameter is an area in mm²** (spacing then has two
    entries); a threshold that suits volumes does not suit slices.

    Args:
        labels: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`.
        min_size_mm3: Smallest size that stays, in mm³ (in 2D: mm²); needs `spacing`.
        min_size_voxels: Smallest size that stays, in voxels; give one of the two.
        spacing: Distance of neighbouring voxels on each axis in mm.
        classes: Classes to clean; all without it. A class that is not in the map has no effect.
        connectivity: Neighbours that hold a component together: 4 or 8 in 2D, 6, 18 or 26 in 3D;
            the largest number without it.
        replace_with: Value given to the removed voxels; they are not connected anew to what has
            that value already.

    Raises:
        InputError: Not exactly one size is given, or an option is out of range.
        ShapeError: The array has neither two nor three axes.

    Example:
        >>> import numpy as np
        >>> labels = np.array([[1, 1, 0, 2], [1, 0, 0, 0], [0, 0, 0, 1]], dtype="uint8")
        >>> remove_small_components(labels, min_size_voxels=2, classes=[1])
        array([[1, 1, 0, 2],
               [1, 0, 0, 0],
               [0, 0, 0, 0]], dtype=uint8)
    """
    labels = check_label_map(labels)
    chosen = check_classes(classes)
    connectivity = check_connectivity(connectivity, labels.ndim)
    _check_replacement(replace_with, labels.dtype)
    smallest = _smallest_voxels(min_size_mm3, min_size_voxels, spacing, labels.ndim)
    components = find_components(labels, connectivity=connectivity)
    keep = components.sizes >= smallest
    if chosen is not None:
        keep |= ~np.isin(components.classes, list(chosen))
    return keep_components(
        labels,
        components,
        keep,
        replace_with=replace_with,
        reason=f"removing components smaller than {smallest:g} voxels",
    )


def _smallest_voxels(
    size_mm3: float | None,
    size_voxels: int | None,
    spacing: Sequence[float] | None,
    dimensions: int,
) -> float:
    if (size_mm3 is None) == (size_voxels is None):
        raise InputError(
            f"min_size_mm3 is {size_mm3} and min_size_voxels is {size_voxels}; expected exactly "
            "one of them."
        )
    if size_voxels is not None:
        smallest = float(size_voxels)
    else:
        assert size_mm3 is not None
        # Spacings are often stored as 32-bit numbers (0.7 as 0.699999988): a component of exactly
        # the given size must not fall to their rounding.
        smallest = size_mm3 / voxel_size(spacing, dimensions) * (1 - 1e-6)
    if not smallest >= 0 or not np.isfinite(smallest):
        raise InputError(
            f"the smallest size is {size_mm3 if size_voxels is None else size_voxels}; expected a "
            "number of at least 0."
        )
    return smallest


def _check_replacement(value: int, dtype: np.dtype[Any]) -> None:
    highest = 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)
    if int(value) != value or not 0 <= value <= highest:
        raise InputError(
            f"replace_with is {value}; expected an integer from 0 to {highest}, which the label "
            f"map of dtype {dtype} can hold."
        )
