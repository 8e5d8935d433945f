"""Removing components that are too small to be the structure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.postprocess.apply import apply_rules
from volseg.postprocess.components import find_components, remove_components
from volseg.postprocess.region_graph import RegionGraph
from volseg.postprocess.rule import GraphRule, connectivity_level


@dataclass(frozen=True, kw_only=True)
class RemoveSmallComponents(GraphRule):
    """The rule of `remove_small_components`; a region loses whole components of its union."""

    kind: ClassVar[str] = "remove_small_components"
    per_class: ClassVar[tuple[str, ...]] = ("min_size_mm3", "min_size_voxels")

    min_size_mm3: float | Mapping[int, float] | None = None
    """Smallest size that stays, in mm³ (in 2D: mm²)."""
    min_size_voxels: float | Mapping[int, float] | None = None
    """Smallest size that stays, in voxels; one of the two is given."""
    connectivity: int | None = None
    """4 or 8 in 2D, 6, 18 or 26 in 3D; the largest number without it."""
    replace_with: int = 0
    """Class given to the removed voxels."""
    never_empty: bool = False
    """Whether the largest component of a class stays where all are too small."""

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if (self.min_size_mm3 is None) == (self.min_size_voxels is None):
            raise InputError(
                f"min_size_mm3 is {self.min_size_mm3} and min_size_voxels is "
                f"{self.min_size_voxels}; expected exactly one of them."
            )
        name = "min_size_mm3" if self.min_size_voxels is None else "min_size_voxels"
        self._check_each(name, lambda size: size >= 0, "a number of at least 0")
        self._check_each(
            "replace_with", lambda value: value >= 0 and value == int(value), "a class, or 0"
        )

    @property
    def needs_spacing(self) -> bool:
        """Whether the size is in mm³."""
        return self.min_size_mm3 is not None

    @property
    def independent(self) -> bool:
        """Whether removed voxels become background."""
        return self.region is None and self.replace_with == 0

    @property
    def writes(self) -> int:
        """The class given to removed voxels."""
        return self.replace_with

    @property
    def joins(self) -> bool:
        """Whether it is for a region, or makes components of another class larger."""
        return self.region is not None or self.replace_with != 0

    def level(self, dimensions: int) -> int:
        """Return the level at which voxels hold together."""
        return connectivity_level(self.connectivity, dimensions)

    def decide(
        self,
        graph: RegionGraph,
        classes: npt.NDArray[np.int64],
        voxel_volume: float | None,
        dimensions: int,
    ) -> npt.NDArray[np.int64]:
        """Return the classes of the regions after the rule."""
        level = self.level(dimensions)
        components = find_components(graph, self.targets(classes), level)
        too_small = np.zeros(components.sizes.size, dtype=np.bool_)
        for target in np.unique(components.targets).tolist():
            smallest = self._smallest_voxels(target, voxel_volume)
            too_small |= (components.targets == target) & (components.sizes < smallest)
        return remove_components(
            graph,
            classes,
            components.select(too_small),
            level=level,
            replace_with=self.replace_with,
            never_empty=self.never_empty,
            reason=lambda label: (
                "removing components smaller than "
                f"{self._smallest_voxels(label, voxel_volume):g} voxels"
            ),
        )

    def _smallest_voxels(self, label: int, voxel_volume: float | None) -> float:
        if self.min_size_mm3 is None:
            return float(self.option("min_size_voxels", label))
        # Spacings are often stored as 32-bit numbers (0.7 as 0.699999988): a component of exactly
        # the given size must not fall to their rounding.
        size_mm3 = float(self.option("min_size_mm3", label))
        assert voxel_volume is not None
        return size_mm3 / voxel_volume * (1 - 1e-6)


def remove_small_components(
    labels: npt.ArrayLike,
    *,
    min_size_mm3: float | Mapping[int, float] | None = None,
    min_size_voxels: float | Mapping[int, float] | None = None,
    spacing: Sequence[float] | None = None,
    voxel_volume: float | None = None,
    classes: Collection[int] | None = None,
    region: Collection[int] | None = None,
    connectivity: int | None = None,
    replace_with: int = 0,
    never_empty: bool = False,
    out: Any = None,
) -> Any:
    """Return the label map without the components smaller than a size.

    A component is a connected set of voxels of one class, or of the classes of the region. One of
    exactly the given size stays. If that leaves nothing of a class, the class is removed and a
    warning is logged, or its largest component stays (`never_empty`).

    Sizes are volumes or areas, never lengths: `min_size_mm3=8` at a spacing of 2 mm is one voxel.
    In 2D there is no volume, and **the same parameter is an area in mm²** (spacing then has two
    entries); a threshold that suits volumes does not suit slices.

    Args:
        labels: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`; in memory or on
            disk.
        min_size_mm3: Smallest size that stays, in mm³ (in 2D: mm²), or one for each class; needs
            `spacing`.
        min_size_voxels: Smallest size that stays, in voxels; give one of the two.
        spacing: Distance of neighbouring voxels on each axis in mm.
        voxel_volume: In mm³, where that is not the product of the spacing; see `apply_rules`.
        classes: Classes to clean; all without it. A class that is not in the map has no effect.
        region: Classes whose union is cleaned as one.
        connectivity: Neighbours that hold a component together: 4 or 8 in 2D, 6, 18 or 26 in 3D;
            the largest number without it.
        replace_with: Value given to the removed voxels; they are not connected anew to what has
            that value already.
        never_empty: Keep the largest component of a class of which nothing would stay.
        out: Receives the result, see `apply_rules`; may be `labels`.

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
    rule = RemoveSmallComponents(
        classes=None if classes is None else tuple(classes),
        region=None if region is None else tuple(region),
        min_size_mm3=min_size_mm3,
        min_size_voxels=min_size_voxels,
        connectivity=connectivity,
        replace_with=replace_with,
        never_empty=never_empty,
    )
    return apply_rules(labels, [rule], spacing=spacing, voxel_volume=voxel_volume, out=out)
