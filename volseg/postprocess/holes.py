"""Filling the holes of each class.

The map is cut into face-connected regions of equal value; which regions a class encloses is then a
question about the graph of neighbouring regions, answered for each class without another pass over
the voxels.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import cc3d
import fill_voids
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from volseg.postprocess.components import find_components
from volseg.postprocess.label_map import CONNECTIVITIES, check_classes, check_label_map, slabs


def fill_holes(
    labels: npt.ArrayLike, *, classes: Collection[int] | None = None
) -> npt.NDArray[Any]:
    """Return the label map with the holes of each class filled with that class.

    The rule: a background voxel is in a hole of class A when no path over voxel faces leads from
    it to the edge of the image without crossing A. Only background is filled: a class B inside a
    hole of A stays B, and the background between the two becomes A. A voxel enclosed by several
    classes goes to the innermost one, which is the one whose hole around it is smallest (of equal
    ones the lowest class). What several classes enclose only together is not a hole, and neither
    is what reaches the edge of the image.

    There is no choice of connectivity: background connects over faces, which matches classes that
    connect over faces, edges and corners.

    Args:
        labels: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`.
        classes: Classes whose holes are filled; all without it.

    Raises:
        InputError: A class is not a positive integer, or the values are not integers.
        ShapeError: The array has neither two nor three axes.

    Example:
        >>> import numpy as np
        >>> fill_holes(np.array([[1, 1, 1, 1], [1, 0, 2, 1], [1, 1, 1, 1]], dtype="uint8"))
        array([[1, 1, 1, 1],
               [1, 1, 2, 1],
               [1, 1, 1, 1]], dtype=uint8)
    """
    labels = check_label_map(labels)
    chosen = check_classes(classes)
    result = labels.copy(order="K")
    # Whatever lies outside the box of the foreground reaches the edge of the image.
    box = find_objects((labels != 0).view(np.uint8))
    if not box:
        return result
    part = result[box[0]].copy(order="K")
    present = np.unique(part[part != 0])
    if present.size == 1:  # of one class alone, a compiled flood fill answers faster
        if chosen is None or int(present[0]) in chosen:
            part[fill_voids.fill(part != 0)] = present[0]
        result[box[0]] = part
        return result
    faces = CONNECTIVITIES[part.ndim][0]
    background, count = cc3d.connected_components(part == 0, connectivity=faces, return_N=True)
    if count == np.count_nonzero(_touches_edge(background, count)[1:]):
        return result  # nothing is enclosed: the common case ends here
    fill = _classes_to_fill(part, background, count, chosen)
    for slab, numbers in slabs(part, background):
        values = fill[numbers]
        np.copyto(slab, values.astype(slab.dtype), where=values != 0)
    result[box[0]] = part
    return result


def _classes_to_fill(
    labels: npt.NDArray[Any],
    background: npt.NDArray[Any],
    count: int,
    chosen: frozenset[int] | None,
) -> npt.NDArray[np.int64]:
    """Return, for each background region by number, the class that fills it, or 0."""
    foreground = find_components(labels, connectivity=CONNECTIVITIES[labels.ndim][0])
    # One numbering: 1..count are background regions, the rest foreground, 0 is outside the image.
    regions = background.astype(np.int64 if labels.size > 2**31 else np.int32)
    for slab, numbers in slabs(regions, foreground.numbers):
        inside = numbers > 0
        slab[inside] = numbers[inside].astype(np.int64) + count
    classes = np.concatenate([np.zeros(count + 1, np.int64), foreground.classes[1:]])
    sizes = np.concatenate([_sizes(background, count), foreground.sizes[1:]])
    edges = _neighbours(regions, classes.size)

    fill = np.zeros(count + 1, dtype=np.int64)
    smallest = np.full(count + 1, np.inf)
    for value in np.unique(foreground.classes[1:]):
        if chosen is not None and int(value) not in chosen:
            continue
        passable = (classes[edges] != value).all(axis=0)
        graph = coo_array(
            (np.ones(passable.sum(), np.int8), tuple(edges[:, passable])), shape=(classes.size,) * 2
        )
        _, group = connected_components(graph, directed=False)
        hole = np.bincount(group, weights=sizes)[group[: count + 1]]
        inner = (group[: count + 1] != group[0]) & (hole < smallest)
        fill[inner], smallest[inner] = value, hole[inner]
    return fill


def _sizes(numbers: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """Return the voxels of each region by number; entry 0, outside the image, has none."""
    sizes: npt.NDArray[np.int64] = cc3d.statistics(numbers, no_slice_conversion=True)[
        "voxel_counts"
    ].astype(np.int64)
    assert sizes.size == count + 1
    sizes[0] = 0
    return sizes


def _touches_edge(regions: npt.NDArray[Any], count: int) -> npt.NDArray[np.bool_]:
    touches = np.zeros(count + 1, dtype=bool)
    for axis in range(regions.ndim):
        for end in (0, -1):
            touches[np.moveaxis(regions, axis, 0)[end]] = True
    return touches


def _neighbours(regions: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """Return the pairs of regions that share a voxel face, `(2, pairs)`; 0 is the outside."""
    pairs = [np.flatnonzero(_touches_edge(regions, count - 1))]  # the pairs (0, region)
    # NumPy selects in C order: on the transpose of a Fortran array that is the order in memory.
    regions = regions if regions.flags.c_contiguous else regions.T
    for axis in range(regions.ndim):
        ahead = np.moveaxis(regions, axis, 0)[1:]
        behind = np.moveaxis(regions, axis, 0)[:-1]
        border = ahead != behind
        a, b = ahead[border].astype(np.int64), behind[border].astype(np.int64)
        pairs.append(np.minimum(a, b) * count + np.maximum(a, b))
    # Sorting by hand: the hash table of np.unique is ten times slower on millions of pairs.
    keys = np.sort(np.concatenate(pairs))
    return np.stack(np.divmod(keys[np.diff(keys, prepend=-1) > 0], count))
