"""Drawing the displacements of the control points of an elastic deformation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.utils import ensure_tuple_rep

from volseg.errors import InputError
from volseg.transforms.displacement import Matrix, without_folds

PerAxis = float | Sequence[float]

# Of the distance of two control points: the default standard deviation of a displacement.
_DEFAULT_DISPLACEMENT = 0.08


def draw_nodes(
    random: np.random.RandomState,
    extent: Matrix,
    control_points: int | Sequence[int],
    sigma: Matrix | None,
) -> Matrix:
    """Return displacements of the control points in mm, ``(axes, *points)``, free of folds.

    Args:
        random: What draws.
        extent: Of the output along each axis, in mm.
        control_points: One number an axis, or one for all: along axes of less than half the longest
            there are then fewer, as far apart.
        sigma: Standard deviation along each axis in mm. Without it 0.08 of the distance of two
            points, but along an axis with one point no more than 0.16 of its extent.
    """
    axes = len(extent)
    points = _points(extent, control_points)
    if sigma is None:
        single = np.array(points) == 1
        apart = extent / np.where(single, 0.5, np.array(points) - 1)
        common = apart[~single].min(initial=np.inf)
        sigma = _DEFAULT_DISPLACEMENT * np.where(single, np.minimum(common, apart), common)
    if not np.any(sigma):
        return np.zeros((axes, *points))
    column = (axes, *([1] * axes))
    drawn = random.normal(size=(axes, *points)) * sigma.reshape(column)
    return without_folds(drawn, extent.tolist())


def per_axis(values: PerAxis, count: int, name: str) -> Matrix:
    """Return one number an axis (or angle).

    Raises:
        InputError: There are neither one nor as many.
    """
    given = np.asarray(values, dtype=float)
    if given.ndim and given.shape != (count,):
        raise InputError(
            f"{name} has {given.size} numbers, {given.tolist()}; expected one number or {count}."
        )
    return np.broadcast_to(given, (count,))


def _points(extent: Matrix, control_points: int | Sequence[int]) -> tuple[int, ...]:
    """Return the number of control points along each axis.

    Along an axis of less than half the longest they are as far apart as along that one: close
    together they would fold, and all of the displacement be scaled down for it.
    """
    if not isinstance(control_points, int):
        return tuple(ensure_tuple_rep(control_points, len(extent)))
    share = extent / extent.max()
    fewer = 1 + np.rint((control_points - 1) * share)
    points = np.where(share < 0.5, fewer, control_points)
    return tuple(int(number) for number in points)
