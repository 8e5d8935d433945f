"""The connected components of all classes of a label map, found together.

One pass labels the components of every class at once (W. Silversmith, "cc3d: Connected components
on multilabel 3D images", 2021), a second counts them; what happens to a component is then a
look-up by its number, so the cost does not grow with the number of classes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

from volseg.postprocess.label_map import slabs

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Components:
    """The connected components of a label map; entry 0 of every table is background."""

    numbers: npt.NDArray[Any]
    """The number of the component of each voxel, 0 for background; shape of the label map."""
    sizes: npt.NDArray[np.int64]
    """Voxels of each component."""
    classes: npt.NDArray[np.int64]
    """Class of each component."""
    boxes: npt.NDArray[np.int64]
    """First and last index of each component on each axis: `(component, 2 * axis + end)`."""

    def first_voxel(self, number: int) -> tuple[int, ...]:
        """Return the lowest voxel index of a component, compared along x, then y, then z."""
        start, stop = self.boxes[number, 0::2], self.boxes[number, 1::2] + 1
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        # argwhere walks in index order whatever the memory layout is.
        inside = np.argwhere(self.numbers[box] == number)[0]
        return tuple(int(i) for i in inside + start)


def find_components(labels: npt.NDArray[Any], *, connectivity: int) -> Components:
    """Return the connected components of every class of a checked label map.

    Args:
        labels: Result of `check_label_map`.
        connectivity: 4 or 8 neighbours in 2D; 6, 18 or 26 in 3D.
    """
    numbers, count = cc3d.connected_components(labels, connectivity=connectivity, return_N=True)
    classes = np.zeros(count + 1, dtype=np.int64)
    for slab, slab_numbers in slabs(labels, numbers):
        classes[slab_numbers] = slab
    if count == 0:
        # The statistics of an empty map have no entry to rely on.
        boxes = np.zeros((1, 2 * labels.ndim), dtype=np.int64)
        return Components(numbers, np.array([labels.size]), classes, boxes)
    statistics = cc3d.statistics(numbers, no_slice_conversion=True)
    return Components(
        numbers,
        statistics["voxel_counts"].astype(np.int64),
        classes,
        statistics["bounding_boxes"].astype(np.int64),
    )


def keep_components(
    labels: npt.NDArray[Any],
    components: Components,
    keep: npt.NDArray[np.bool_],
    *,
    replace_with: int = 0,
    reason: str,
) -> npt.NDArray[Any]:
    """Return a copy of the label map in which the components that are not kept are replaced.

    A class of which nothing stays is reported as a warning in the log: a structure that vanishes
    from a result must leave a trace.

    Args:
        labels: Result of `check_label_map`.
        components: Its components.
        keep: One entry a component number; entry 0 (background) has no effect.
        replace_with: Value given to the voxels of the other components.
        reason: What the caller was doing, for the warning.
    """
    result = labels.copy(order="K")
    replace = ~keep
    replace[0] = False
    if not replace.any():
        return result
    for slab, numbers in slabs(result, components.numbers):
        slab[replace[numbers]] = replace_with
    for vanished in sorted({*components.classes[replace]} - {*components.classes[keep]}):
        members = components.classes == vanished
        _LOGGER.warning(
            "%s removed the whole of class %d: %d voxels in %d component(s), the largest of %d "
            "voxels",
            reason,
            vanished,
            components.sizes[members].sum(),
            members.sum(),
            components.sizes[members].max(),
        )
    return result
