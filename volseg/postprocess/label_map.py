"""What every post-processing function asks of a label map and of the options beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError, ShapeError
from volseg.postprocess.slabs import ArrayOnDisk

# Neighbours of a pixel or voxel, by the number of spatial axes; the last one is the default.
CONNECTIVITIES = {2: (4, 8), 3: (6, 18, 26)}


def check_label_map(labels: Any) -> Any:
    """Return a label map as it is where it is an array, in memory or on disk.

    Args:
        labels: Integers or booleans, 0 is background; shape `(x, y)` or `(x, y, z)`.

    Raises:
        ShapeError: The array has no voxel, or neither two nor three axes.
        InputError: The values are not integers, or some are negative.
    """
    if not isinstance(labels, ArrayOnDisk) or not isinstance(labels.dtype, np.dtype):
        labels = np.asarray(labels)
    if len(labels.shape) not in CONNECTIVITIES or 0 in labels.shape:
        raise ShapeError(
            f"the label map has the shape {tuple(labels.shape)}; expected (x, y) or (x, y, z) with "
            "at least one voxel: take one channel of one case at a time."
        )
    if labels.dtype.kind not in "biu":
        raise InputError(
            f"the label map has the dtype {labels.dtype}; expected integers: take the argmax of "
            "probabilities first, or convert with .astype('uint8')."
        )
    return labels


def check_not_negative(block: npt.NDArray[Any]) -> None:
    """Check the values of a part of a label map.

    Raises:
        InputError: A value is negative.
    """
    if block.dtype.kind == "i" and block.min() < 0:
        raise InputError(
            f"the label map holds the value {block.min()}; expected 0 for background and positive "
            "classes: map negative values to a class first."
        )


def check_classes(classes: Iterable[int] | None) -> frozenset[int] | None:
    """Return the chosen classes as a set; None, for all classes, stays None.

    Raises:
        InputError: A class is not a positive integer; 0 is background and never processed.
    """
    if classes is None:
        return None
    classes = list(classes)
    wrong = [c for c in classes if isinstance(c, bool) or int(c) != c or c < 1]
    if wrong:
        raise InputError(
            f"classes holds {wrong}; expected positive integers: background (0) is not a class."
        )
    return frozenset(int(c) for c in classes)


def check_connectivity(connectivity: int | None, dimensions: int) -> int:
    """Return the number of neighbours of a voxel; None is replaced by 8 in 2D and 26 in 3D.

    Raises:
        InputError: The number does not exist for this number of spatial axes.
    """
    known = CONNECTIVITIES[dimensions]
    if connectivity is None:
        return known[-1]
    if connectivity not in known:
        raise InputError(
            f"connectivity is {connectivity}; expected one of {known} for a label map with "
            f"{dimensions} axes."
        )
    return connectivity


def check_spacing(spacing: Sequence[float] | None, dimensions: int) -> tuple[float, ...]:
    """Return the distance of neighbouring voxels on each axis in mm.

    Raises:
        InputError: The spacing is missing, has the wrong length, or is not positive.
    """
    if spacing is None:
        raise InputError(
            "a rule in mm or mm³ needs the spacing, which was not given: pass spacing=(x, y, z) "
            "in mm, or state sizes with min_size_voxels."
        )
    values = np.asarray(spacing, dtype=float)
    if values.shape != (dimensions,) or not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError(
            f"spacing is {tuple(spacing)}; expected {dimensions} positive numbers in mm, one for "
            "each axis of the label map."
        )
    return tuple(values.tolist())
