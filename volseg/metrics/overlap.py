"""Metrics that count voxels: Dice, intersection over union, error of volume.

The counts of all classes are gathered in one pass over the two maps.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.metrics.masks import check_label_maps, check_masks, check_steps


class VolumeError(NamedTuple):
    """How much larger the prediction is than the reference; negative where it is smaller."""

    millilitres: float
    """Predicted minus reference volume in mL; NaN in 2D, where there is no volume."""
    relative: float
    """The same as a part of the reference volume (in 2D: area); 0.1 is 10 % too large."""


@dataclass(frozen=True)
class Overlap:
    """The voxel counts of one class in two maps; empty classes follow `volseg.metrics`."""

    common: int
    """Voxels of the class in both maps (true positives)."""
    prediction: int
    """Voxels of the class in the prediction."""
    reference: int
    """Voxels of the class in the reference."""

    def __add__(self, other: Overlap) -> Overlap:
        """Return the counts of two images as if they were one."""
        return Overlap(
            self.common + other.common,
            self.prediction + other.prediction,
            self.reference + other.reference,
        )

    @property
    def is_empty(self) -> bool:
        """Whether neither map holds the class, so that no metric applies."""
        return self.prediction + self.reference == 0

    @property
    def dice(self) -> float:
        """Twice the common voxels over the sum of both (L. R. Dice, Ecology 26, 1945)."""
        if self.is_empty:
            return float("nan")
        return 2 * self.common / (self.prediction + self.reference)

    @property
    def iou(self) -> float:
        """Intersection over union (P. Jaccard, Bull. Soc. Vaudoise Sci. Nat. 37, 1901)."""
        if self.is_empty:
            return float("nan")
        return self.common / (self.prediction + self.reference - self.common)

    def volume_error(self, spacing: npt.ArrayLike) -> VolumeError:
        """Return the signed error of the volume for voxels of a spacing in mm, or of such steps."""
        if self.is_empty:
            return VolumeError(float("nan"), float("nan"))
        surplus = self.prediction - self.reference
        steps = check_steps(spacing, len(np.asarray(spacing)))
        millilitres = surplus * abs(np.linalg.det(steps)) / 1000 if len(steps) == 3 else np.nan
        relative = surplus / self.reference if self.reference else float("inf")
        return VolumeError(float(millilitres), relative)


def count_overlaps(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    classes: Collection[int] | None = None,
) -> dict[int, Overlap]:
    """Return the voxel counts of each class, in one pass over the two label maps.

    Args:
        prediction: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map on the same grid.
        classes: Classes to return; without it all classes found in either map.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels.
    """
    first, second = check_label_maps(prediction, reference)
    if first.flags.f_contiguous and second.flags.f_contiguous:
        first, second = first.T, second.T
    length = int(max(first.max(), second.max(), *(classes or [0]))) + 1
    counts = np.zeros((3, length), dtype=np.int64)
    # bincount makes 64-bit integers of its input: slab by slab that copy stays small.
    for a, b in zip(first, second, strict=True):
        for row, values in enumerate((a[a == b], a.ravel(), b.ravel())):
            counts[row] += _histogram(values, length)
    if classes is None:
        classes = np.flatnonzero(counts[1:, 1:].any(axis=0)) + 1
    return {int(label): Overlap(*counts[:, label].tolist()) for label in classes}


def overlaps_of_batches(overlaps: Sequence[Overlap], size: int = 2) -> list[Overlap]:
    """Return the overlaps of one image after the other put together, ``size`` of them at a time.

    Papers that take a metric from a whole batch, as those of BiO-Net and BiX-Net do from two
    images, report its mean over batches: larger objects weigh more than in the mean over images,
    and numbers are higher. The last batch may be smaller.

    Args:
        overlaps: Of the images, in the order of the batches.
        size: Of a batch.

    Raises:
        InputError: The size is not positive.
    """
    if size < 1:
        raise InputError(f"the size of a batch is {size}; expected at least 1.")
    starts = range(0, len(overlaps), size)
    return [functools.reduce(operator.add, overlaps[start : start + size]) for start in starts]


def dice(prediction: npt.ArrayLike, reference: npt.ArrayLike, *, label: int | None = None) -> float:
    """Return the Dice coefficient, from 0 (disjoint) to 1 (equal).

    Args:
        prediction: Mask or label map, shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map on the same grid.
        label: The class to compare; without it all that is not 0 is one class.

    Returns:
        The coefficient; NaN if the class is in neither map, 0 if it is in one only.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels.

    Example:
        >>> dice([[1, 1, 0]], [[0, 1, 2]], label=1)
        0.6666666666666666
    """
    return _count(prediction, reference, label).dice


def iou(prediction: npt.ArrayLike, reference: npt.ArrayLike, *, label: int | None = None) -> float:
    """Return the intersection over union (Jaccard index), from 0 (disjoint) to 1 (equal).

    Args:
        prediction: Mask or label map, shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map on the same grid.
        label: The class to compare; without it all that is not 0 is one class.

    Returns:
        The index; NaN if the class is in neither map, 0 if it is in one only.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels.
    """
    return _count(prediction, reference, label).iou


def volume_error(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    spacing: npt.ArrayLike,
    label: int | None = None,
) -> VolumeError:
    """Return by how much the predicted volume is too large (signed), in mL and as a part.

    Args:
        prediction: Mask or label map, shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map on the same grid.
        spacing: Distance of neighbouring voxels on each axis in mm; of axes that are not at right
            angles (a tilted gantry) the linear part of the affine.
        label: The class to compare; without it all that is not 0 is one class.

    Returns:
        Both NaN if the class is in neither map; the part is infinite if only the reference lacks
        it. In 2D the part is that of the area and the millilitres are NaN.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels, or the spacing does not suit the shape.
    """
    overlap = _count(prediction, reference, label)
    return overlap.volume_error(check_steps(spacing, np.ndim(prediction)))


def _count(prediction: npt.ArrayLike, reference: npt.ArrayLike, label: int | None) -> Overlap:
    first, second = check_masks(prediction, reference, label=label)
    common = np.count_nonzero(first & second)
    return Overlap(int(common), int(np.count_nonzero(first)), int(np.count_nonzero(second)))


def _histogram(values: npt.NDArray[Any], length: int) -> npt.NDArray[np.int64]:
    return np.bincount(values.astype(np.int64, copy=False), minlength=length)
