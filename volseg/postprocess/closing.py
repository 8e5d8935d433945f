"""Closing the gaps and clefts of each class by a ball of a radius in mm."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from volseg.postprocess.apply import apply_rules
from volseg.postprocess.neighbourhood import Brick, NeighbourhoodRule
from volseg.postprocess.separable import Voxels, along_axes, bounding_box, spread

# Squared distances are whole numbers, parts of that of the largest radius: sums are exact, so
# neither the order of the axes nor the cut into bricks can tip the balance between two classes.
_UNIT = 1 << 28
_FAR = 1 << 29


@dataclass(frozen=True, kw_only=True)
class CloseGaps(NeighbourhoodRule):
    """The rule of `close_gaps`."""

    kind: ClassVar[str] = "close_gaps"
    per_class: ClassVar[tuple[str, ...]] = ("radius_mm",)

    radius_mm: float | Mapping[int, float]
    """Radius of the ball in mm."""

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        self._check_each("radius_mm", lambda radius: radius > 0, "a length above 0 mm")

    @property
    def needs_spacing(self) -> bool:
        """Always: the radius is in mm."""
        return True

    def margin(self, spacing: Sequence[float]) -> tuple[int, int, int]:
        """Return twice the largest radius in voxels."""
        planes, rows, columns = (2 * reach for reach in _reach(self._largest, spacing))
        return planes, rows, columns

    @property
    def _largest(self) -> float:
        radius = self.radius_mm
        return max(radius.values()) if isinstance(radius, Mapping) else radius

    def change(
        self,
        brick: Brick,
        spacing: Sequence[float],
        frozen: frozenset[int],  # noqa: ARG002 - no class loses a voxel
    ) -> Voxels | None:
        """Return the values of a brick after the rule, None where nothing changes."""
        free = brick.values == 0
        if not free.any():
            return None
        present = np.array(brick.present, dtype=np.int64)
        targets = self.targets(present)
        result = brick.values.copy()
        nearest = np.full(free.shape, _FAR, dtype=np.int32)
        for target in np.unique(targets[targets != 0]).tolist():
            members = present[targets == target].tolist()
            closed, distances = self._closed(brick, free, members, spacing)
            for label in members:  # in increasing order: of equally near ones the lowest
                take = closed & (distances[label] < nearest)
                result[take] = label
                nearest[take] = distances[label][take]
        return result if result[free].any() else None

    def _closed(
        self,
        brick: Brick,
        free: npt.NDArray[np.bool_],
        members: Sequence[int],
        spacing: Sequence[float],
    ) -> tuple[npt.NDArray[np.bool_], dict[int, npt.NDArray[np.int32]]]:
        """Return what closing adds to a union of classes, and how far each voxel is from each."""
        radius = float(self.option("radius_mm", members[0]))
        reach = _reach(radius, spacing)
        ball = [_squares(n, step, self._largest) for n, step in zip(reach, spacing, strict=True)]
        # A voxel at exactly the radius belongs to the ball, whatever the rounding of the spacing
        # and of the squares.
        limit = int(_UNIT * (radius / self._largest) ** 2 * (1 + 1e-6)) + max(reach) ** 2 // 2 + 1
        cuts = [whole - 2 * n for whole, n in zip(self.margin(spacing), reach, strict=True)]
        distances = {}
        for label in members:
            mask = _without_margin(brick.where(label), cuts)
            distances[label] = along_axes(spread, mask, ball, inside=0, outside=_FAR)
        union = np.minimum.reduce(list(distances.values()))
        inside = _without_margin(brick.exists, [c + n for c, n in zip(cuts, reach, strict=True)])
        distances = {label: _without_margin(d, reach) for label, d in distances.items()}
        closed = free & _without_margin(union <= limit, reach)
        place = bounding_box(closed)
        if place is not None:  # only these can belong to the closing
            around = tuple(
                slice(cut.start, cut.stop + 2 * n) for cut, n in zip(place, reach, strict=True)
            )
            beyond = (union > limit)[around] & inside[around]
            closed[place] &= along_axes(spread, beyond, ball, inside=0, outside=_FAR) > limit
        return closed, distances


def _reach(radius: float, spacing: Sequence[float]) -> list[int]:
    return [math.floor(radius / step * (1 + 1e-6)) for step in spacing]


def _squares(reach: int, step: float, unit: float) -> npt.NDArray[np.int32]:
    """Return the squared distance of each voxel along an axis; that of `unit` mm is `_UNIT`."""
    one = round((step / unit) ** 2 * _UNIT) if reach else 0
    return (one * np.arange(-reach, reach + 1, dtype=np.int64) ** 2).astype(np.int32)


def _without_margin(array: npt.NDArray[Any], margin: Sequence[int]) -> npt.NDArray[Any]:
    return array[tuple(slice(n, end - n) for n, end in zip(margin, array.shape, strict=True))]


def close_gaps(
    labels: npt.ArrayLike,
    *,
    radius_mm: float | Mapping[int, float],
    spacing: Sequence[float],
    classes: Collection[int] | None = None,
    region: Collection[int] | None = None,
    out: Any = None,
) -> Any:
    """Return the label map with each class closed by a ball.

    Morphological closing (J. Serra, Image Analysis and Mathematical Morphology, 1982): the
    background that no ball of the radius can reach without touching the class becomes the class.
    Clefts and holes narrower than the ball are filled and convex corners stay. Balls have their
    centre in the image, so a cleft that runs out of the image closes up to its edge. Only
    background is filled. A voxel that several classes close goes to the nearest one, of equally
    near ones the lowest; of a region likewise.

    A radius below the spacing of an axis does nothing along that axis.

    Args:
        labels: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`; in memory or on
            disk.
        radius_mm: Radius of the ball, or one for each class. A voxel whose centre lies at exactly
            the radius belongs to the ball.
        spacing: Distance of neighbouring voxels on each axis in mm.
        classes: Classes to close; all without it.
        region: Classes whose union is closed as one.
        out: Receives the result, see `apply_rules`; may be `labels`.

    Raises:
        InputError: An option is out of range, or the values are not integers.
        ShapeError: The array has neither two nor three axes.

    Example:
        >>> import numpy as np
        >>> close_gaps(np.array([[1, 0, 1, 0, 0, 2]], "uint8"), radius_mm=1, spacing=(1, 1))
        array([[1, 1, 1, 0, 0, 2]], dtype=uint8)
    """
    rule = CloseGaps(
        classes=None if classes is None else tuple(classes),
        region=None if region is None else tuple(region),
        radius_mm=radius_mm,
    )
    return apply_rules(labels, [rule], spacing=spacing, out=out)
