"""Keeping the largest components of each class."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.postprocess.components import Components, find_components, keep_components
from volseg.postprocess.label_map import check_classes, check_connectivity, check_label_map


def keep_largest(
    labels: npt.ArrayLike,
    *,
    classes: Collection[int] | None = None,
    count: int = 1,
    connectivity: int | None = None,
) -> npt.NDArray[Any]:
    """Return the label map with only the largest connected components of each class.

    Of components of equal size, the one that holds the lowest voxel index stays (compared along
    x, then y, then z), so that the result does not depend on the memory layout or the machine.
    A class with at most `count` components is left as it is; no class is ever removed.

    Args:
        labels: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`.
        classes: Classes to clean; all without it. A class that is not in the map has no effect.
        count: Components that stay in each class, for example 2 for the kidneys as one class.
        connectivity: Neighbours that hold a component together: 4 or 8 in 2D, 6, 18 or 26 in 3D;
            the largest number without it.

    Raises:
        InputError: An option is out of range, or the values are not integers.
        ShapeError: The array has neither two nor three axes.

    Example:
        >>> import numpy as np
        >>> keep_largest(np.array([[1, 0, 1, 1], [0, 0, 0, 0], [2, 0, 0, 2]], dtype="uint8"))
        array([[0, 0, 1, 1],
               [0, 0, 0, 0],
               [2, 0, 0, 0]], dtype=uint8)
    """
    labels = check_label_map(labels)
    chosen = check_classes(classes)
    connectivity = check_connectivity(connectivity, labels.ndim)
    if isinstance(count, bool) or int(count) != count or count < 1:
        raise InputError(f"count is {count}; expected an integer of at least 1.")
    components = find_components(labels, connectivity=connectivity)
    keep = np.ones(components.sizes.size, dtype=bool)
    for members in _by_class(components):
        if chosen is None or int(components.classes[members[0]]) in chosen:
            keep[members] = False
            keep[_largest(components, members, count)] = True
    return keep_components(labels, components, keep, reason="keeping the largest components")


def _by_class(components: Components) -> list[npt.NDArray[np.int64]]:
    """Return the component numbers of each class, without background."""
    order = np.argsort(components.classes[1:], kind="stable") + 1
    if order.size == 0:
        return []
    return np.split(order, np.flatnonzero(np.diff(components.classes[order])) + 1)


def _largest(
    components: Components, members: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    if members.size <= count:
        return members
    sizes = components.sizes[members]
    cutoff = np.partition(sizes, -count)[-count]
    larger, tied = members[sizes > cutoff], members[sizes == cutoff]
    if larger.size + tied.size > count:
        # Only a tie pays for the search of first voxels.
        tied = np.array(sorted(tied, key=lambda number: components.first_voxel(int(number))))
    return np.concatenate([larger, tied[: count - larger.size]])
