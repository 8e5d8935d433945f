"""Implicit shapes and smooth random fields, the clay that phantoms are made of.

A shape is an array of roughly signed distances in millimetres, negative inside, so a union is a
minimum and an intersection a maximum. Everything is float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

Volume = NDArray[np.float32]
Points = tuple[Volume, Volume, Volume]
Vector = tuple[float, float, float]

#: The mean square of a cubic B-spline series with unit random coefficients, along one axis.
_SPLINE_POWER = 151 / 315


def smooth_noise(
    generator: np.random.Generator,
    axes: Sequence[Volume],
    *,
    extent: Vector,
    control: float,
) -> Volume:
    """Return a smooth random field of about unit variance on a grid, shape ``(x, y, z)``.

    A cubic B-spline with random coefficients: a product of three small matrices, hence fast, and
    the same field whatever part of it is asked for and however finely.

    Args:
        generator: Source of the coefficients.
        axes: Positions along x, y and z, in mm; they may go outside ``extent`` a little.
        extent: Size of the box centred on the origin for which coefficients are drawn, in mm.
        control: Distance between control points, in mm: the size of the field's features.
    """
    matrices = [
        _spline_matrix(axis, size, control) for axis, size in zip(axes, extent, strict=True)
    ]
    count = tuple(matrix.shape[1] for matrix in matrices)
    field: Volume = generator.standard_normal(count, dtype=np.float32)
    for matrix in matrices:
        # Each product moves the axis it expands to the end, so three bring them back in order.
        field = np.tensordot(field, matrix, axes=(0, 1))
    field /= np.float32(_SPLINE_POWER**1.5)
    return field


def _spline_matrix(positions: Volume, extent: float, control: float) -> Volume:
    """Return the weight of each control point (columns) at each position (rows)."""
    count = int(np.ceil(extent / control)) + 3
    places = np.clip(positions / control + (count - 1) / 2, 1, count - 2)
    distance = np.abs(places[:, None] - np.arange(count))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weights: Volume = np.where(distance < 1, near, far).astype(np.float32)
    return weights


def ellipsoid(points: Points, centre: Vector, radii: Vector, tilt: Vector = (0, 0, 0)) -> Volume:
    """Return a rotated ellipsoid.

    Args:
        points: Positions x, y and z, in mm.
        centre: Its centre, in mm.
        radii: Its semi-axes, in mm.
        tilt: Rotation about x, then y, then z, in radians.
    """
    rotation = Rotation.from_euler("xyz", tilt).as_matrix()
    x, y, z = (axis - float(middle) for axis, middle in zip(points, centre, strict=True))
    reach = np.zeros_like(x)
    slope = np.zeros_like(x)
    for axis, radius in zip(rotation.T, radii, strict=True):
        a, b, c = (axis / radius).tolist()
        along = x * a
        along += y * b
        along += z * c
        along *= along
        reach += along
        along *= np.float32(1 / radius**2)
        slope += along
    # The first-order distance |f| / |grad f| of f = reach - 1, bounded at the centre.
    np.sqrt(np.maximum(reach, np.float32(1e-4), out=reach), out=reach)
    np.sqrt(np.maximum(slope, np.float32(1e-4 / max(radii) ** 2), out=slope), out=slope)
    np.divide(reach, slope, out=slope)
    reach -= 1
    reach *= slope
    return reach


def column(
    points: Points,
    centre: tuple[float, float],
    radii: tuple[float, float],
    *,
    squareness: float = 0,
) -> Volume:
    """Return an endless column along z.

    Args:
        points: Positions x, y and z, in mm.
        centre: Its axis, x and y in mm.
        radii: Its semi-axes along x and y, in mm.
        squareness: 0 for an ellipse, towards 1 for a rectangle (the squircle of
            Fernández-Guasti 1992: like a superellipse, but no powers).
    """
    x: Volume = np.square((points[0] - centre[0]) * np.float32(1 / radii[0]))
    y: Volume = np.square((points[1] - centre[1]) * np.float32(1 / radii[1]))
    reach: Volume = x + y
    if squareness:
        # Far out, where the squircle would close again, stay outside.
        reach -= squareness * np.minimum(x, 2) * np.minimum(y, 2)
    np.sqrt(reach, out=reach)
    reach -= 1
    reach *= np.float32(np.sqrt(radii[0] * radii[1]))
    return reach


def tube(points: Points, start: Vector, end: Vector, radii: tuple[float, float]) -> Volume:
    """Return a round tube from ``start`` to ``end``, its radius going over from one to the other.

    Args:
        points: Positions x, y and z, in mm.
        start: Centre of one end, in mm.
        end: Centre of the other end, in mm.
        radii: Radius at the start and at the end, in mm.
    """
    direction = [b - a for a, b in zip(start, end, strict=True)]
    length = sum(part * part for part in direction)
    x, y, z = (axis - float(origin) for axis, origin in zip(points, start, strict=True))
    along = np.clip((x * direction[0] + y * direction[1] + z * direction[2]) / length, 0, 1)
    distance = np.sqrt(
        np.square(x - along * direction[0])
        + np.square(y - along * direction[1])
        + np.square(z - along * direction[2])
    )
    return np.asarray(distance - radii[0] - along * (radii[1] - radii[0]))


def union(first: Volume, second: Volume, blend: float) -> Volume:
    """Return the union of two shapes, rounded over ``blend`` mm where they meet."""
    return np.minimum(first, second) - _rounding(first, second, blend)


def intersection(first: Volume, second: Volume, blend: float) -> Volume:
    """Return the intersection of two shapes, rounded over ``blend`` mm where they meet."""
    return np.maximum(first, second) + _rounding(first, second, blend)


def _rounding(first: Volume, second: Volume, blend: float) -> Volume:
    """Return how far rounding moves the seam of two shapes, in mm (a polynomial smooth minimum)."""
    near: Volume = np.subtract(first, second)
    # In place, because these arrays are far larger than the processor's caches.
    np.abs(near, out=near)
    np.subtract(blend, near, out=near)
    np.maximum(near, 0, out=near)
    near *= near
    near *= np.float32(1 / (4 * blend))
    return near


def largest_piece(shape: Volume) -> Volume:
    """Return a shape without the crumbs that cutting may have left beside its largest piece."""
    pieces, count = ndimage.label(shape < 0)
    if count < 2:
        return shape
    main = np.bincount(pieces.ravel())[1:].argmax() + 1
    crumbs = (pieces > 0) & (pieces != main)
    # The rim goes too, or it would still cover a part of the voxels around.
    rim = ndimage.binary_dilation(crumbs, np.ones((3, 3, 3)), iterations=3) & (pieces != main)
    return np.where(rim, np.float32(99), shape)


def coverage(shape: Volume, step: float) -> Volume:
    """Return the part of each voxel that lies inside a shape, from 0 to 1.

    The surface is taken as flat within a voxel and the part as linear between the voxel's
    nearest and farthest corner; exact for surfaces along the grid.

    Args:
        shape: Signed distances at the voxel centres.
        step: Sum of the voxel's three edges, in mm. A flat surface farther than half of it
            from the centre misses the voxel; a little more is looked at, as distances are rough.
    """
    # A margin that goes on straight lets neighbours be found by one flat offset an axis.
    padded = np.zeros([size + 2 for size in shape.shape], dtype=np.float32)
    core = (slice(1, -1),) * 3
    padded[core] = shape
    near = np.zeros(padded.shape, dtype=np.bool_)
    near[core] = np.abs(shape) < 0.6 * step
    flat, band = padded.ravel(), np.flatnonzero(near)
    span = np.full(band.shape, 1e-6, dtype=np.float32)
    for axis, stride in enumerate(padded.strides):
        lines = np.moveaxis(padded, axis, 0)
        lines[0] = 2 * lines[1] - lines[2]
        lines[-1] = 2 * lines[-2] - lines[-3]
        offset = stride // padded.itemsize
        span += np.abs(flat.take(band + offset) - flat.take(band - offset)) / 2
    inside = (padded < 0).astype(np.float32)
    inside.ravel()[band] = np.clip(0.5 - flat.take(band) / span, 0, 1)
    return inside[core]
