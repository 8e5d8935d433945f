"""Voxel counts of structures, each of one label value or, of a region, of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from volseg.metrics.overlap import Overlap, count_overlaps


def count_structure_overlaps(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    structures: Mapping[str, Sequence[int]],
    *,
    ignore: int | None = None,
) -> dict[str, Overlap]:
    """Return the voxel counts of each structure, by name.

    Args:
        prediction: Label map, 0 is background; shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map on the same grid.
        structures: Label values of each; they may contain each other.
        ignore: Voxels whose reference has this value are not counted.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels.

    Example:
        >>> found = count_structure_overlaps([[1, 2, 0]], [[2, 2, 0]], {"whole": [1, 2]})
        >>> found["whole"].dice
        1.0
    """
    first, second = np.asarray(prediction), np.asarray(reference)
    if ignore is not None:
        counted = second != ignore
        first, second = first * counted, second * counted
    singles = [values[0] for values in structures.values() if len(values) == 1]
    by_value = count_overlaps(first, second, classes=singles)
    return {
        name: by_value[values[0]]
        if len(values) == 1
        else count_overlaps(np.isin(first, values), np.isin(second, values), classes=[1])[1]
        for name, values in structures.items()
    }
