"""What every post-processing function asks of a label map and of the options beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError, ShapeError

# Neighbours of a pixel or voxel, by the number of spatial axes; the last one is the default.
CONNECTIVITIES = {2: (4, 8), 3: (6, 18, 26)}


def check_label_map(labels: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return a label map as a contiguous array in native byte order; the dtype keeps its kind.

    Args:
        labels: Integers or booleans, 0 is background; shape `(x, y)` or `(x, y, z)`.

    Raises:
        ShapeError: The array has no voxel, or neither two nor three axes.
        InputError: The values are not integers, or some are negative.
    """
    array = np.asarray(labels)
    if array.ndim not in CONNECTIVITIES or array.size == 0:
        raise ShapeError(
            f"the label map has the shape {array.shape}; expected (x, y) or (x, y, z) with at "
            "least one voxel: take one channel of one case at a time."
        )
    if array.dtype.kind not in "biu":
        raise InputError(
            f"the label map has the dtype {array.dtype}; expected integers: take the argmax of "
            "probabilities first, or convert with .astype('uint8')."
        )
    if array.dtype.kind == "i" and array.min() < 0:
        raise InputError(
            f"the label map holds the value {array.min()}; expected 0 for background and positive "
            "classes: map negative values to a class first."
        )
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = np.ascontiguousarray(array)
    return array


def check_classes(classes: Collection[int] | None) -> frozenset[int] | None:
    """Return the chosen classes as a set; None, for all classes, stays None.

    Raises:
        InputError: A class is not a positive integer; 0 is background and never processed.
    """
    if classes is None:
        return None
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


def voxel_size(spacing: Sequence[float] | None, dimensions: int) -> float:
    """Return the volume of a voxel in mm³, or the area of a pixel in mm².

    Raises:
        InputError: The spacing is missing, has the wrong length, or is not positive.
    """
    if spacing is None:
        raise InputError(
            "a size in mm³ needs the spacing, which was not given: pass spacing=(x, y, z) in mm, "
            "or state the size with min_size_voxels."
        )
    values = np.asarray(spacing, dtype=float)
    if values.shape != (dimensions,) or not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError(
            f"spacing is {tuple(spacing)}; expected {dimensions} positive numbers in mm, one for "
            "each axis of the label map."
        )
    return float(values.prod())


def slabs(*arrays: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Yield matching views of equally laid out arrays, one index of the slowest axis at a time.

    NumPy turns an index array into 64-bit integers before it uses it; slab by slab that costs one
    slice of memory in place of eight bytes a voxel.
    """
    if arrays[0].flags.f_contiguous:
        arrays = tuple(array.T for array in arrays)
    yield from zip(*arrays, strict=True)
