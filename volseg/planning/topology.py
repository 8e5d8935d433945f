"""How deep a network is, and what its strides and kernels are along each axis.

The rules are those of nnU-Net 2 (Isensee et al., Nature Methods 2021; MICCAI 2024): axes are halved
together once their voxels are about equally long, thick slices therefore later than the plane, and
a kernel reaches across slices only where these lie about as close as the voxels of the plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Sides of the coarsest feature maps, in voxels, are not made smaller than this.
SMALLEST_SIDE = 4
# Voxels are about equally long where the ratio is below this.
_ALIKE = 2.0


@dataclass(frozen=True)
class Topology:
    """Levels of a U-Net for one size of patch.

    Attributes:
        strides: Step into each level, one number an axis; the first is 1 everywhere.
        kernels: Kernel of each level, one number an axis.
        patch: Patch in voxels, its sides multiples of the total stride.
    """

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    patch: tuple[int, ...]

    @property
    def total_stride(self) -> tuple[int, ...]:
        """The product of the strides of each axis."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))


def plan_topology(spacing: Sequence[float], patch: Sequence[float]) -> Topology:
    """Return the levels for patches of about a size, which is rounded up to fit them.

    Args:
        spacing: Of the voxels along each axis; only ratios matter.
        patch: In voxels.
    """
    axes = range(len(spacing))
    sides, steps = [float(side) for side in patch], [float(step) for step in spacing]
    kernel = (1,) * len(sides)
    strides, kernels = [kernel], []
    while halved := _halved_together(sides, steps):
        # Once a kernel reaches across an axis it does so in all levels below.
        kernel = tuple(
            3 if kernel[axis] == 3 or steps[axis] < _ALIKE * min(steps) else 1 for axis in axes
        )
        kernels.append(kernel)
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        for axis in halved:
            steps[axis] *= 2
            sides[axis] = math.ceil(sides[axis] / 2)
    kernels.append((3,) * len(sides))
    total = [math.prod(axis) for axis in zip(*strides, strict=True)]
    padded = tuple(
        math.ceil(side / stride) * stride for side, stride in zip(patch, total, strict=True)
    )
    return Topology(tuple(strides), tuple(kernels), padded)


def _halved_together(sides: Sequence[float], steps: Sequence[float]) -> list[int]:
    """Return the axes to halve next; none at the last level."""
    roomy = [axis for axis, side in enumerate(sides) if side >= 2 * SMALLEST_SIDE]
    finest = min((steps[axis] for axis in roomy), default=0.0)
    halved = [axis for axis in roomy if steps[axis] < _ALIKE * finest]
    # One axis alone is not worth a level unless it has room to spare.
    if len(halved) == 1 and sides[halved[0]] < 3 * SMALLEST_SIDE:
        return []
    return halved
