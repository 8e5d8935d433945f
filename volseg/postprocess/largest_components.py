"""Keeping the largest components of each class."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from volseg.postprocess.apply import apply_rules
from volseg.postprocess.components import find_components, remove_components
from volseg.postprocess.region_graph import RegionGraph
from volseg.postprocess.rule import GraphRule, connectivity_level


@dataclass(frozen=True, kw_only=True)
class KeepLargest(GraphRule):
    """The rule of `keep_largest`; a region keeps whole components of its union."""

    kind: ClassVar[str] = "keep_largest"
    per_class: ClassVar[tuple[str, ...]] = ("count",)

    count: int | Mapping[int, int] = 1
    """Components that stay."""
    connectivity: int | None = None
    """4 or 8 in 2D, 6, 18 or 26 in 3D; the largest number without it."""
    never_empty: bool = False
    """Whether the largest component of a class stays that would vanish with its region."""

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        self._check_each(
            "count", lambda count: count >= 1 and count == int(count), "an integer of at least 1"
        )

    @property
    def independent(self) -> bool:
        """Whether each class is by itself."""
        return self.region is None

    def level(self, dimensions: int) -> int:
        """Return the level at which voxels hold together."""
        return connectivity_level(self.connectivity, dimensions)

    def decide(
        self,
        graph: RegionGraph,
        classes: npt.NDArray[np.int64],
        voxel_volume: float | None,  # noqa: ARG002 - sizes are only compared
        dimensions: int,
    ) -> npt.NDArray[np.int64]:
        """Return the classes of the regions after the rule."""
        level = self.level(dimensions)
        components = find_components(graph, self.targets(classes), level)
        order = components.largest_first()
        targets, starts, totals = np.unique(
            components.targets[order], return_index=True, return_counts=True
        )
        rank = np.arange(order.size) - np.repeat(starts, totals)
        counts = np.array([self.option("count", target) for target in targets.tolist()], np.int64)
        surplus = np.zeros(order.size, dtype=np.bool_)
        surplus[order] = rank >= np.repeat(counts, totals)
        return remove_components(
            graph,
            classes,
            components.select(surplus),
            level=level,
            never_empty=self.never_empty,
            reason=lambda _: "keeping the largest components",
        )


def keep_largest(
    labels: npt.ArrayLike,
    *,
    classes: Collection[int] | None = None,
    region: Collection[int] | None = None,
    count: int | Mapping[int, int] = 1,
    connectivity: int | None = None,
    never_empty: bool = False,
    out: Any = None,
) -> Any:
    """Return the label map with only the largest connected components of each class.

    Of components of equal size, the one that holds the lowest voxel index stays (compared along
    x, then y, then z), so that the result does not depend on the memory layout or the machine.
    A class with at most `count` components is left as it is. No class is ever removed, but one of
    a region may be: it goes with the component of the region that it lies in, and a warning is
    logged.

    Args:
        labels: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`; in memory or on
            disk.
        classes: Classes to clean; all without it. A class that is not in the map has no effect.
        region: Classes whose union is cleaned as one.
        count: Components that stay in each class, for example 2 for the kidneys as one class, or
            a number for each class.
        connectivity: Neighbours that hold a component together: 4 or 8 in 2D, 6, 18 or 26 in 3D;
            the largest number without it.
        never_empty: Keep the largest component of a class that would vanish with its region.
        out: Receives the result, see `apply_rules`; may be `labels`.

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
    rule = KeepLargest(
        classes=None if classes is None else tuple(classes),
        region=None if region is None else tuple(region),
        count=count,
        connectivity=connectivity,
        never_empty=never_empty,
    )
    return apply_rules(labels, [rule], out=out)
