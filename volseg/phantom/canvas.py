"""The grid that a phantom is painted on: twice the resolution, front to back, true shares.

A voxel of the image is eight of the canvas, and each of those may be part this tissue and part
that one; the shares of the classes are kept, so the label map is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.phantom.shapes import (
    Points,
    Vector,
    Volume,
    coverage,
    intersection,
    smooth_noise,
)

#: Size in mm of the box that the adult trunk fills, along x, y and z.
FIELD: Vector = (350.0, 270.0, 280.0)

Box = tuple[slice, slice, slice]


class Canvas:
    """A grid of twice the resolution that tissues are painted on, front to back.

    What is painted first keeps its place; what comes later gets only what is still free.
    """

    def __init__(
        self, generator: np.random.Generator, shape: tuple[int, int, int], classes: int
    ) -> None:
        self.generator = generator
        fine = tuple(2 * size for size in shape)
        build = generator.uniform(0.93, 1.02, 3).tolist()
        self.axes = [
            (((np.arange(size) + 0.5) / size - 0.5) * extent / scale).astype(np.float32)
            for size, extent, scale in zip(fine, FIELD, build, strict=True)
        ]
        self.everywhere: Box = (slice(0, fine[0]), slice(0, fine[1]), slice(0, fine[2]))
        self.step = sum(float(axis[1] - axis[0]) for axis in self.axes)
        grid = np.meshgrid(*self.axes, indexing="ij", sparse=True)
        # One smooth warp for the whole body makes neighbours differ from seed to seed together.
        x, y, z = (axis + 4.5 * self.noise(75) for axis in grid)
        self.points: Points = (x, y, z)
        self.free = np.ones(fine, dtype=np.float32)
        self.signal = np.zeros(fine, dtype=np.float32)
        self.nearest = np.full(fine, 99, dtype=np.float32)
        self.grain = 0.035 * self.noise(6.5) + 0.03 * self.noise(22)
        self.shares = np.zeros((classes, *shape), dtype=np.float32)

    def noise(self, control: float, box: Box | None = None) -> Volume:
        """Return a smooth random field with features of ``control`` mm on the grid or a box."""
        axes = self.axes if box is None else [a[b] for a, b in zip(self.axes, box, strict=True)]
        return smooth_noise(self.generator, axes, extent=FIELD, control=control)

    def around(
        self, centre: Vector, reach: Vector, within: Box | None = None
    ) -> tuple[Box, Points]:
        """Return the part of the grid (or of a box) near a point, and its positions.

        Args:
            centre: A point, in mm.
            reach: How far the part goes along each axis, in mm.
            within: Box that it must not leave.
        """
        sides = []
        for axis, middle, half, side in zip(
            self.axes, centre, reach, within or self.everywhere, strict=True
        ):
            first, last = np.searchsorted(axis, (middle - half, middle + half)).tolist()
            # A part never begins or ends within a voxel of the image.
            first = min(max(first // 2 * 2, side.start), side.stop - 2)
            sides.append(slice(first, max(min((last + 1) // 2 * 2, side.stop), first + 2)))
        box = (sides[0], sides[1], sides[2])
        return box, (self.points[0][box], self.points[1][box], self.points[2][box])

    def yielding(self, shape: Volume, box: Box, gap: float) -> Volume:
        """Return a shape pushed back to ``gap`` mm from everything painted so far."""
        return intersection(shape, gap - self.nearest[box], 3)

    def paint(
        self,
        shape: Volume,
        box: Box,
        intensity: float | NDArray[np.floating[Any]],
        *,
        label: int = 0,
    ) -> None:
        """Fill what is still free of a shape with a tissue.

        Args:
            shape: Signed distances within the box.
            box: Part of the grid.
            intensity: Mean signal of the tissue, one or one a voxel of the box.
            label: Class of the tissue.
        """
        tight = _tight(shape < self.step)
        shape = shape[tight]
        if isinstance(intensity, np.ndarray):
            intensity = intensity[tight]
        x, y, z = (
            slice(a.start + b.start, a.stop + b.start) for a, b in zip(tight, box, strict=True)
        )
        box = (x, y, z)
        part = coverage(shape, self.step)
        part *= self.free[box]
        self.free[box] -= part
        np.minimum(self.nearest[box], shape, out=self.nearest[box])
        if label:
            x, y, z = (slice(side.start // 2, side.stop // 2) for side in box)
            self.shares[label][x, y, z] += halved(part)
        part *= intensity
        self.signal[box] += part


def _tight(mask: NDArray[np.bool_]) -> Box:
    """Return the smallest part of a mask that holds all of it and cuts no voxel of the image."""
    sides = []
    for others in ((1, 2), (0, 2), (0, 1)):
        hits = np.flatnonzero(np.any(mask, axis=others))
        first, last = (int(hits[0]), int(hits[-1])) if len(hits) else (0, 0)
        sides.append(slice(first // 2 * 2, last // 2 * 2 + 2))
    return sides[0], sides[1], sides[2]


def part_of(box: Box, outer: Box) -> Box:
    """Return a box of the grid as a box of the part ``outer`` that holds it."""
    x, y, z = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, outer, strict=True))
    return x, y, z


def halved(volume: Volume) -> Volume:
    """Return the means of blocks of 2 x 2 x 2 voxels."""
    x, y, z = (size // 2 for size in volume.shape)
    return np.asarray(volume.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5), dtype=np.float32))
