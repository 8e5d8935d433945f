"""Smoothing the boundaries of labels by a Gaussian vote of the surroundings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from volseg.postprocess.apply import apply_rules
from volseg.postprocess.neighbourhood import Brick, NeighbourhoodRule
from volseg.postprocess.separable import Voxels, along_axes, blur

# Weights along an axis are whole numbers with this sum: votes of three axes fit into 31 bits, are
# exact, and a tie is a tie on every machine, in every order of axes and cut of the map.
_VOTES = 1 << 10


@dataclass(frozen=True, kw_only=True)
class SmoothBoundaries(NeighbourhoodRule):
    """The rule of `smooth_boundaries`."""

    kind: ClassVar[str] = "smooth_boundaries"
    per_class: ClassVar[tuple[str, ...]] = ("sigma_mm",)
    removes: ClassVar[bool] = True

    sigma_mm: float | Mapping[int, float]
    """Standard deviation of the Gaussian in mm."""
    never_empty: bool = False
    """Whether a class that would vanish is left as it is."""

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        self._check_each("sigma_mm", lambda sigma: sigma > 0, "a length above 0 mm")

    @property
    def needs_spacing(self) -> bool:
        """Always: the Gaussian is in mm."""
        return True

    def steps(self) -> list[SmoothBoundaries]:
        """Return one rule for each Gaussian: votes of different ones cannot be compared."""
        if not isinstance(self.sigma_mm, Mapping):
            return [self]
        groups: dict[float, list[int]] = {}
        for label, sigma in self.sigma_mm.items():
            groups.setdefault(sigma, []).append(label)
        return [
            dataclasses.replace(self, classes=tuple(labels), sigma_mm=sigma)
            for sigma, labels in groups.items()
        ]

    def margin(self, spacing: Sequence[float]) -> tuple[int, int, int]:
        """Return the reach of the Gaussian in voxels."""
        planes, rows, columns = (weights.size // 2 for weights in self._weights(spacing))
        return planes, rows, columns

    def change(
        self, brick: Brick, spacing: Sequence[float], frozen: frozenset[int]
    ) -> Voxels | None:
        """Return the values of a brick after the rule, None where nothing changes."""
        targets = self.targets(np.array(brick.present, dtype=np.int64))
        voters = [
            label
            for label, target in zip(brick.present, targets.tolist(), strict=True)
            if target or label == 0
        ]
        moving = [label for label in voters if label not in frozen]
        if len(moving) < 2:
            return None
        if self.region is None:
            voters = moving
        weights = self._weights(spacing)
        votes = {
            label: along_axes(blur, brick.where(label), weights, inside=1, outside=0)
            for label in voters
        }
        values = brick.values
        if self.region is None:
            result = _winners(values, votes)
        else:
            result = _region(values, votes, [label for label in moving if label])
        return None if np.array_equal(result, values) else result

    def _weights(self, spacing: Sequence[float]) -> list[npt.NDArray[np.int32]]:
        assert not isinstance(self.sigma_mm, Mapping)
        return [_gaussian(self.sigma_mm / step) for step in spacing]


def _winners(values: Voxels, votes: dict[int, npt.NDArray[np.int32]]) -> Voxels:
    """Return the value with most votes; of equal ones the present one, then the lowest."""
    result = values.copy()
    best = np.zeros(values.shape, dtype=np.int32)
    own = np.full(values.shape, np.iinfo(np.int32).max)  # a voxel of another class stays
    for label, count in votes.items():
        more = count > best
        result[more] = label
        np.maximum(best, count, out=best)
        np.copyto(own, count, where=values == label)
    return np.where(own >= best, values, result)


def _region(
    values: Voxels, votes: dict[int, npt.NDArray[np.int32]], moving: Sequence[int]
) -> Voxels:
    """Return the union against background; a voxel it wins goes to its class with most votes.

    Classes that do not move vote for the union, but neither lose nor win.
    """
    background = votes.pop(0, np.zeros(values.shape, dtype=np.int32))
    union = np.add.reduce(list(votes.values()))
    lost = np.isin(values, moving) & (background > union)
    result = np.where(lost, values.dtype.type(0), values)
    of_moving = np.stack([votes[label] for label in moving])
    won = (values == 0) & (union > background) & of_moving.any(axis=0)
    most = np.array(moving, values.dtype)[of_moving.argmax(axis=0)]  # of equal ones the lowest
    return np.where(won, most, result)


def _gaussian(sigma: float) -> npt.NDArray[np.int32]:
    """Return the weights of a Gaussian with a standard deviation in voxels, cut where they end."""
    reach = math.ceil(3 * sigma)
    steps = np.arange(-reach, reach + 1)
    # An axis with no neighbour near enough: the exponent is that of an infinite distance.
    exponents = np.zeros(1) if reach == 0 else -((steps / sigma) ** 2) / 2
    weights = np.exp(exponents)
    whole: npt.NDArray[np.int32] = np.rint(_VOTES * weights / weights.sum()).astype(np.int32)
    whole[reach] += _VOTES - whole.sum()
    used = np.flatnonzero(whole)
    return np.array(whole[used[0] : used[-1] + 1])


def smooth_boundaries(
    labels: npt.ArrayLike,
    *,
    sigma_mm: float | Mapping[int, float],
    spacing: Sequence[float],
    classes: Collection[int] | None = None,
    region: Collection[int] | None = None,
    never_empty: bool = False,
    out: Any = None,
) -> Any:
    """Return the label map with the boundaries of the classes smoothed.

    Each voxel takes the value, background included, that holds most weight around it: the largest
    of the Gaussian-filtered indicators of the classes. A tie leaves the voxel as it is, then goes
    to the lowest value. Voxels outside the image have no vote. The Gaussian is cut at three
    standard deviations and its weights along an axis are rounded to 1/1024, so that votes are
    whole numbers and the result is the same on every machine.

    Structures thinner than about the standard deviation shrink or vanish: a class that vanishes is
    logged as a warning, or left as it is (`never_empty`).

    Args:
        labels: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`; in memory or on
            disk.
        sigma_mm: Standard deviation of the Gaussian in mm. Given for each class, the classes of
            one value are smoothed together, the groups one after the other.
        spacing: Distance of neighbouring voxels on each axis in mm.
        classes: Classes to smooth, against each other and background; all without it. Other
            classes stay and do not win.
        region: Classes whose union is smoothed against background; borders within it stay.
        never_empty: Leave a class as it is that would vanish.
        out: Receives the result, see `apply_rules`; may be `labels`.

    Raises:
        InputError: An option is out of range, or the values are not integers.
        ShapeError: The array has neither two nor three axes.

    Example:
        >>> import numpy as np
        >>> labels = np.array([[0, 0, 0, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 1, 1]], "uint8")
        >>> smooth_boundaries(labels, sigma_mm=1, spacing=(1, 1))
        array([[0, 0, 0, 1, 1],
               [0, 0, 0, 1, 1],
               [0, 0, 0, 1, 1]], dtype=uint8)
    """
    rule = SmoothBoundaries(
        classes=None if classes is None else tuple(classes),
        region=None if region is None else tuple(region),
        sigma_mm=sigma_mm,
        never_empty=never_empty,
    )
    return apply_rules(labels, [rule], spacing=spacing, out=out)
