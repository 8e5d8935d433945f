"""Filling the holes of each class, or of a region of classes.

Which regions a class encloses is a question about the graph of touching regions, answered for each
class without another pass over the voxels.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from volseg.postprocess.apply import apply_rules
from volseg.postprocess.components import join_regions
from volseg.postprocess.region_graph import RegionGraph
from volseg.postprocess.rule import GraphRule
from volseg.postprocess.runs import FACE


@dataclass(frozen=True, kw_only=True)
class FillHoles(GraphRule):
    """The rule of `fill_holes`."""

    kind: ClassVar[str] = "fill_holes"
    fills: ClassVar[bool] = True

    def level(self, dimensions: int) -> int:  # noqa: ARG002 - the same in 2D and 3D
        """Return the level at which background holds together."""
        return FACE

    def decide(
        self,
        graph: RegionGraph,
        classes: npt.NDArray[np.int64],
        voxel_volume: float | None,  # noqa: ARG002 - there is nothing to measure
        dimensions: int,  # noqa: ARG002
    ) -> npt.NDArray[np.int64]:
        """Return the classes of the regions after the rule."""
        background = classes == 0
        enclosed = _holes(graph, background) > 0
        if not enclosed.any():
            return classes  # the common case ends here, whatever the number of classes
        result = classes.copy()
        smallest = np.where(enclosed, np.iinfo(np.int64).max, 0)
        targets = self.targets(classes)
        for target in np.unique(targets[targets != 0]).tolist():
            walls = targets == target
            holes = _holes(graph, ~walls)
            sizes = np.zeros(int(holes.max()) + 1, dtype=np.int64)
            np.add.at(sizes, holes, graph.sizes)
            inner = background & (holes > 0) & (sizes[holes] < smallest)
            smallest[inner] = sizes[holes[inner]]
            if self.region is None:
                result[inner] = target
            elif inner.any():
                result[inner] = _wall_classes(graph, classes, walls, holes)[holes[inner]]
        return result


def _holes(graph: RegionGraph, passable: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the number (from 1) of the hole each region lies in.

    Args:
        graph: The regions.
        passable: Regions that are no wall. A connected set of them is a hole when none of its
            faces lies at the edge of the image.

    Returns:
        0 for walls and for what is open to the edge; numbers may be missing.
    """
    numbers, count = join_regions(graph, passable.astype(np.int64), FACE)
    is_open = np.zeros(count, dtype=np.bool_)
    is_open[numbers[passable & graph.outside]] = True
    holes = np.zeros(numbers.size, dtype=np.int64)
    holes[passable] = np.where(is_open, 0, np.arange(1, count + 1))[numbers[passable]]
    return holes


def _wall_classes(
    graph: RegionGraph,
    classes: npt.NDArray[np.int64],
    walls: npt.NDArray[np.bool_],
    holes: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Return, by number of the hole, the class it shares most faces with (then the lowest)."""
    lower, higher, faces = graph.edges.lower, graph.edges.higher, graph.edges.faces
    hole = np.concatenate([lower, higher])
    wall = np.concatenate([higher, lower])
    counted = (holes[hole] > 0) & walls[wall]
    pairs = np.stack([holes[hole[counted]], classes[wall[counted]]])
    pairs, which = np.unique(pairs, axis=1, return_inverse=True)
    shared = np.zeros(pairs.shape[1], dtype=np.int64)
    np.add.at(shared, which.ravel(), np.concatenate([faces, faces])[counted])
    order = np.lexsort((-pairs[1], shared))  # the last one written stays
    result = np.zeros(int(holes.max()) + 1, dtype=np.int64)
    result[pairs[0, order]] = pairs[1, order]
    return result


def fill_holes(
    labels: npt.ArrayLike,
    *,
    classes: Collection[int] | None = None,
    region: Collection[int] | None = None,
    out: Any = None,
) -> Any:
    """Return the label map with the holes of each class filled with that class.

    The rule: a background voxel is in a hole of class A when no path over voxel faces leads from
    it to the edge of the image without crossing A. Only background is filled: a class B inside a
    hole of A stays B, and the background between the two becomes A. A voxel enclosed by several
    classes goes to the innermost one, which is the one whose hole around it is smallest (of equal
    ones the lowest class). What several classes enclose only together is not a hole, and neither
    is what reaches the edge of the image.

    Of a region, the union is the wall: what its classes enclose together is a hole. It is filled
    with the class of the region that it shares most voxel faces with (of equal ones the lowest).

    There is no choice of connectivity: background connects over faces, which matches classes that
    connect over faces, edges and corners.

    Args:
        labels: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`; in memory or on
            disk.
        classes: Classes whose holes are filled; all without it.
        region: Classes whose union has its holes filled.
        out: Receives the result, see `apply_rules`; may be `labels`.

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
    rule = FillHoles(
        classes=None if classes is None else tuple(classes),
        region=None if region is None else tuple(region),
    )
    return apply_rules(labels, [rule], out=out)
