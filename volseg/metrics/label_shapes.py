"""Size, place and surface of each label of a map that arrives in parts.

Surfaces are estimated by Crofton's formula: straight lines cross a surface in proportion to its
area. The lines are those through neighbouring voxels, in 13 directions in 3D and 4 in 2D, each
weighted by the part of all directions that is nearest to it, whatever the spacing (Legland, Kiêu
and Devaux 2007, Image Analysis and Stereology 26:83, doi:10.5566/ias.v26.p83-92). Unlike a count
of faces, or a mesh through the voxels, this does not overestimate smooth shapes: of spheres it
finds the area within 1 percent, of ellipsoids with spacings of up to 1 to 4 within 5; of boxes
along the axes about a tenth too little. Where a label reaches the edge of the image, the cut is
part of its surface.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import SphericalVoronoi

from volseg.geometry import Grid
from volseg.metrics.compiled_labels import add_shapes
from volseg.metrics.labelled_part import LabelledPart

_FAR = np.iinfo(np.int64).max
_NOTHING = np.array([0, 0, 0, 0, _FAR, _FAR, _FAR, -1, -1, -1])


@dataclass(frozen=True)
class LabelShape:
    """What is known of a label without its image.

    Attributes:
        voxels: Count.
        centroid: Mean voxel index on each axis.
        first: Lowest voxel index on each axis.
        last: Highest one, still inside the label.
        surface: Area of its surface in mm² in 3D, length of its outline in mm in 2D.
    """

    voxels: int
    centroid: tuple[float, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    surface: float


def label_shapes(parts: Iterable[LabelledPart], grid: Grid) -> dict[int, LabelShape]:
    """Return the shape of every label that occurs, background left out, by rising value.

    Args:
        parts: All planes of the label map, once.
        grid: Of the label map.
    """
    dims = len(grid.shape)
    offsets = _backward_offsets(dims)
    totals = np.empty((0, len(_NOTHING)), np.int64)
    crossings = np.empty((0, len(offsets)), np.int64)
    axes: tuple[int, ...] = ()
    before: npt.NDArray[np.uint16] | None = None
    for part in parts:
        axes = (part.axis, *(axis for axis in range(dims) if axis != part.axis))
        planes: npt.NDArray[Any] = part.labels.transpose(axes)
        planes = planes if dims == 3 else planes[..., np.newaxis]
        count, rows, columns = planes.shape
        padded = np.zeros((count + 1, rows + 2, columns + 2), np.uint16)
        padded[1:, 1:-1, 1:-1] = planes
        if before is not None:
            padded[0] = before
        before = padded[-1]
        more = max(0, int(planes.max(initial=0)) + 1 - len(totals))
        totals = np.concatenate([totals, np.tile(_NOTHING, (more, 1))])
        crossings = np.concatenate([crossings, np.zeros((more, len(offsets)), np.int64)])
        add_shapes(totals, crossings, padded, part.start, offsets)
    found = np.flatnonzero(totals[:, 0])
    if not found.size:
        return {}
    order = np.argsort(axes)  # of the array's axes in the walk
    surfaces = crossings @ _area_of_crossings(offsets[:, order], grid)
    return {
        int(label): LabelShape(
            voxels=int(totals[label, 0]),
            centroid=tuple((totals[label, 1 + order] / totals[label, 0]).tolist()),
            first=tuple(totals[label, 4 + order].tolist()),
            last=tuple(totals[label, 7 + order].tolist()),
            surface=float(surfaces[label]),
        )
        for label in found
    }


def _backward_offsets(dims: int) -> npt.NDArray[np.int64]:
    """Return one of each two opposite offsets to a neighbour, none to a plane that follows."""
    sides = [(-1, 0, 1)] * dims + [(0,)] * (3 - dims)
    return np.array([way for way in itertools.product(*sides) if way < (0, 0, 0)])


def _area_of_crossings(offsets: npt.NDArray[np.int64], grid: Grid) -> npt.NDArray[np.float64]:
    """Return what each crossing of a line in a direction counts for, in mm² (2D: mm).

    Each line enters a label as often as it leaves it, and only one of the two is counted.
    """
    steps = offsets @ grid.affine.matrix[:-1, :-1].T
    lengths = np.linalg.norm(steps, axis=1)
    lines = grid.voxel_volume / lengths  # mm² (2D: mm) between the lines of a direction
    directions = np.concatenate([steps, -steps]) / np.concatenate([lengths, lengths])[:, None]
    if len(grid.shape) == 3:
        nearest = SphericalVoronoi(directions).calculate_areas() / (4 * np.pi)
        share_seen = 1 / 2  # mean of |cos| over all directions
    else:
        nearest = _sectors(directions) / (2 * np.pi)
        share_seen = 2 / np.pi
    weights = nearest[: len(steps)] + nearest[len(steps) :]
    return np.asarray(2 * weights * lines / share_seen, np.float64)


def _sectors(directions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the angle around each direction in the plane that is nearer to it than to others."""
    angles = np.arctan2(directions[:, 1], directions[:, 0])
    order = np.argsort(angles)
    gaps = np.diff(angles[order], append=angles[order[0]] + 2 * np.pi)
    sectors = np.empty_like(angles)
    sectors[order] = (gaps + np.roll(gaps, 1)) / 2
    return sectors
