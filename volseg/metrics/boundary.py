"""Metrics of boundaries that were drawn as masks, such as membranes in electron microscopy.

How thick a boundary was drawn says little, and a shift of a pixel even less: boundaries are thinned
to where the cells touch that they separate, and agree within a tolerance. Precision is the share of
predicted boundary pixels near a true one, recall the share of true ones near a predicted one, and F
their harmonic mean. As in D. R. Martin et al., IEEE Transactions on Pattern Analysis and Machine
Intelligence 26, 2004, but for their one-to-one assignment: here each pixel looks for its nearest
one. What separates no two cells is no boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from volseg.errors import InputError
from volseg.metrics.masks import check_label_maps, check_masks
from volseg.metrics.partition import cells_between

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class BoundaryScores:
    """How well boundaries agree: NaN where neither has any, 0 where one has none."""

    precision: float
    recall: float

    @property
    def f_score(self) -> float:
        """Harmonic mean of both."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def boundary_scores(
    prediction: npt.ArrayLike, reference: npt.ArrayLike, *, tolerance_voxels: float = 2.0
) -> BoundaryScores:
    """Return how well the boundaries of two masks of membranes agree.

    Args:
        prediction: Mask of the membranes, `(x, y)` or `(x, y, z)`.
        reference: Mask of the same shape.
        tolerance_voxels: Distance that still counts as agreement.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The tolerance is negative.
    """
    if not (np.isfinite(tolerance_voxels) and tolerance_voxels >= 0):
        raise InputError(
            f"the tolerance of boundaries is {tolerance_voxels}; expected a number of at least 0."
        )
    masks = check_masks(prediction, reference, label=None)
    first, second = (_interfaces(cells_between(mask, grown=True)) for mask in masks)
    if not first.any() and not second.any():
        return BoundaryScores(float("nan"), float("nan"))
    return BoundaryScores(
        _share_near(first, second, tolerance_voxels), _share_near(second, first, tolerance_voxels)
    )


def pixel_accuracy(
    prediction: npt.ArrayLike, reference: npt.ArrayLike, *, ignore: int | None = None
) -> float:
    """Return the share of voxels with the right label, background among them; NaN of none.

    Args:
        prediction: Mask or label map, `(x, y)` or `(x, y, z)`.
        reference: The same kind of map on the same grid.
        ignore: Voxels whose reference has this value do not count.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels.
    """
    first, second = check_label_maps(prediction, reference)
    right = first == second
    if ignore is not None:
        right = right[second != ignore]
    return float(right.mean()) if right.size else float("nan")


def _interfaces(cells: npt.NDArray[Any]) -> Mask:
    """Return the voxels before whose next face, on any axis, another cell begins."""
    found = np.zeros(cells.shape, bool)
    for axis in range(cells.ndim):
        here = [slice(None)] * cells.ndim
        there = list(here)
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        found[tuple(here)] |= cells[tuple(here)] != cells[tuple(there)]
    return found


def _share_near(boundary: Mask, other: Mask, tolerance: float) -> float:
    if not boundary.any() or not other.any():
        return 0.0
    distances = distance_transform_edt(~other)[boundary]
    return float((distances <= tolerance * (1 + 1e-6)).mean())
