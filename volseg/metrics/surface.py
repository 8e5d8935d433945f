"""Metrics of the distance between surfaces, in millimetres.

The surface of a mask is its border voxels: those with at least one of their face neighbours (4 in
2D, 6 in 3D) outside the mask or outside the image, that is the mask minus its erosion by the
face-connected structuring element. MONAI and MedPy use the same definition. Every border voxel
counts once, whatever its area is. A single slice is to be given as `(x, y)`: as `(x, y, 1)` every
one of its voxels is on the border.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree

from volseg.errors import InputError
from volseg.metrics.masks import check_masks, check_steps, class_boxes

Distances = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm between the surfaces of a class; empty classes follow `volseg.metrics`."""

    from_prediction: Distances
    """From each border voxel of the prediction to the nearest one of the reference."""
    from_reference: Distances
    """From each border voxel of the reference to the nearest one of the prediction."""

    @property
    def _all(self) -> Distances:
        return np.concatenate([self.from_prediction, self.from_reference])

    def hausdorff(self, percentile: float = 95) -> float:
        """Return the larger of the two directed percentiles; 100 is the Hausdorff distance."""
        if not self._all.size:
            return float("nan")
        if np.isinf(self._all).any():  # one map lacks the class
            return float("inf")
        directed = (self.from_prediction, self.from_reference)
        return max(float(np.percentile(distances, percentile)) for distances in directed)

    def dice(self, tolerance_mm: float) -> float:
        """Return the part of both surfaces that lies within a tolerance of the other one."""
        if not np.isfinite(tolerance_mm) or tolerance_mm < 0:
            raise InputError(
                f"the surface tolerance is {tolerance_mm} mm; expected a number of at least 0."
            )
        if not self._all.size:
            return float("nan")
        # A distance of exactly the tolerance counts; rounding (3 x 0.1) must not decide.
        return float(np.mean(self._all <= tolerance_mm * (1 + 1e-6)))

    def average(self) -> float:
        """Return the mean over the border voxels of both surfaces."""
        return float(np.mean(self._all)) if self._all.size else float("nan")


def surface_distances(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    spacing: npt.ArrayLike,
    label: int | None = None,
    ignored: npt.ArrayLike | None = None,
) -> SurfaceDistances:
    """Return the distances between two surfaces in both directions.

    Compute them once to take several metrics from them. Distances are exact and Euclidean, found
    in a tree of border voxels: for compact structures this is several times faster than a distance
    transform, and needs memory for the surface only.

    Args:
        prediction: Mask or label map, shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map on the same grid.
        spacing: Distance of neighbouring voxels on each axis in mm; of axes that are not at right
            angles (a tilted gantry) the linear part of the affine.
        label: The class to compare; without it all that is not 0 is one class.
        ignored: Mask of voxels about which nothing is known: they are in neither surface, and where
            a mask ends at one of them is none either.

    Returns:
        Both arrays are empty if the class is in neither map, or meets in one of them nothing else
        that is known, so that it ends nowhere; where only one holds it, its border voxels are
        infinitely far from the other surface.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels, or the spacing does not suit the shape.
    """
    first, second = check_masks(prediction, reference, label=label)
    steps = check_steps(spacing, first.ndim)
    unknown = None if ignored is None else np.asarray(ignored, dtype=bool)
    if unknown is not None:
        first, second = first & ~unknown, second & ~unknown
    box = class_boxes(first, second).get(1)
    if box is None:
        return SurfaceDistances(np.empty(0), np.empty(0))
    if unknown is None:
        borders = [_border(mask[box]) for mask in (first, second)]
    else:  # which may lie outside the box
        borders = [_border(mask, unknown)[box] for mask in (first, second)]
    points = [np.argwhere(border) @ steps.T for border in borders]
    held = [int(mask[box].any()) for mask in (first, second)]
    if not all(held):  # infinitely far, even where all of the border is unknown
        return SurfaceDistances(
            *(np.full(max(one, len(own)), np.inf) for one, own in zip(held, points, strict=True))
        )
    if not all(map(len, points)):
        return SurfaceDistances(np.empty(0), np.empty(0))
    return SurfaceDistances(_nearest(points[0], points[1]), _nearest(points[1], points[0]))


def hausdorff95(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    spacing: npt.ArrayLike,
    label: int | None = None,
) -> float:
    """Return the 95th percentile Hausdorff distance in mm.

    It is the larger of the two directed 95th percentiles (with linear interpolation), as in MONAI
    and DeepMind's surface-distance. MedPy takes one percentile of the distances of both directions
    put together, which is usually smaller.

    Args:
        prediction: Mask or label map, shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map on the same grid.
        spacing: Distance of neighbouring voxels on each axis in mm; of axes that are not at right
            angles (a tilted gantry) the linear part of the affine.
        label: The class to compare; without it all that is not 0 is one class.

    Returns:
        The distance; NaN if the class is in neither map, infinite if it is in one only.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels, or the spacing does not suit the shape.
    """
    return surface_distances(prediction, reference, spacing=spacing, label=label).hausdorff(95)


def surface_dice(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    spacing: npt.ArrayLike,
    tolerance_mm: float,
    label: int | None = None,
) -> float:
    """Return the normalised surface Dice: the part of both surfaces within a tolerance.

    After S. Nikolov et al., "Clinically applicable segmentation of head and neck anatomy"
    (arXiv:1809.04430), with border voxels in place of surface elements: the number of border voxels
    within the tolerance of the other surface over the number of all border voxels.

    Args:
        prediction: Mask or label map, shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map on the same grid.
        spacing: Distance of neighbouring voxels on each axis in mm; of axes that are not at right
            angles (a tilted gantry) the linear part of the affine.
        tolerance_mm: Distance that still counts as agreement, in mm.
        label: The class to compare; without it all that is not 0 is one class.

    Returns:
        A number from 0 to 1; NaN if the class is in neither map, 0 if it is in one only.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels, or an option is out of range.
    """
    distances = surface_distances(prediction, reference, spacing=spacing, label=label)
    return distances.dice(tolerance_mm)


def average_surface_distance(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    spacing: npt.ArrayLike,
    label: int | None = None,
) -> float:
    """Return the average symmetric surface distance (ASSD) in mm.

    The mean is over the border voxels of both surfaces together, so the larger surface has more
    weight, as in MONAI.

    Args:
        prediction: Mask or label map, shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map on the same grid.
        spacing: Distance of neighbouring voxels on each axis in mm; of axes that are not at right
            angles (a tilted gantry) the linear part of the affine.
        label: The class to compare; without it all that is not 0 is one class.

    Returns:
        The distance; NaN if the class is in neither map, infinite if it is in one only.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels, or the spacing does not suit the shape.
    """
    return surface_distances(prediction, reference, spacing=spacing, label=label).average()


def _border(
    mask: npt.NDArray[np.bool_], unknown: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    inner: npt.NDArray[np.bool_] = binary_erosion(mask if unknown is None else mask | unknown)
    return mask & ~inner


def _nearest(points: Distances, others: Distances) -> Distances:
    distances, _ = KDTree(others).query(points)
    return np.asarray(distances, dtype=np.float64)
