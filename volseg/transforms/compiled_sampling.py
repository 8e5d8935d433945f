"""The loops of `Source.sample` on a processor, compiled on first use and kept on disk.

Each works through the voxels in blocks that stay in the first-level cache: first where each voxel
lies (one axis at a time), then what is read there. Both loops are plain enough to become vector
instructions. Unsigned indices spare the test for negative ones.
"""

from __future__ import annotations

import numpy as np

from volseg.compiled import compiled, inlined

_BLOCK = 1024
_ONE = np.uint64(1)


@inlined
def _locate(coordinates, bounds, mirrored, first, position):  # type: ignore[no-untyped-def]
    """Write where the voxels of a block lie along an axis, in the part with its ring.

    `bounds` holds what is added to an index, and the smallest and the largest result. The
    comparisons are such that what is no number becomes the smallest: nothing is read outside.
    """
    shift, lowest, highest = bounds[0], bounds[1], bounds[2]
    period = np.float32(2 * (mirrored - 1))
    for i in range(position.size):
        found = coordinates[first + i]
        if mirrored > 1:
            found -= period * np.floor(found / period)
            found = found if found < period - found else period - found
        elif mirrored == 1:
            found = np.float32(0)
        found += shift
        found = found if found > lowest else lowest
        position[i] = found if found < highest else highest


@compiled
def products(along, across, result):  # type: ignore[no-untyped-def]
    """Write the matrix product of (axes, lines, columns) and (columns, voxels), flat but for axes.

    Compiled, for threads of torch would go on spinning where ours want to work.
    """
    voxels = across.shape[1]
    for axis in range(along.shape[0]):
        for line in range(along.shape[1]):
            factors = along[axis, line]
            target = result[axis, line * voxels : (line + 1) * voxels]
            target[:] = 0
            for column in range(factors.size):
                factor, row = factors[column], across[column]
                for i in range(voxels):
                    target[i] += factor * row[i]


@compiled
def nearest(values, strides, indices, bounds, mirrored, result):  # type: ignore[no-untyped-def]
    """Read the nearest voxel."""
    position = np.empty(_BLOCK, np.float32)
    flat = np.empty(_BLOCK, np.uint64)
    half = np.float32(0.5)
    for first in range(0, indices.shape[1], _BLOCK):
        count = min(_BLOCK, indices.shape[1] - first)
        flat[:] = 0
        for axis in range(indices.shape[0]):
            _locate(indices[axis], bounds[axis], mirrored[axis], first, position[:count])
            stride = strides[axis]
            for i in range(count):
                flat[i] += np.uint64(np.int32(position[i] + half)) * stride
        for channel in range(values.shape[0]):
            source, target = values[channel], result[channel]
            for i in range(count):
                target[first + i] = source[flat[i]]


@compiled
def linear(values, strides, indices, bounds, mirrored, result):  # type: ignore[no-untyped-def]
    """Read linearly between the voxels around."""
    axes = indices.shape[0]
    position = np.empty(_BLOCK, np.float32)
    fraction = np.empty((axes, _BLOCK), np.float32)
    flat = np.empty(_BLOCK, np.uint64)
    for first in range(0, indices.shape[1], _BLOCK):
        count = min(_BLOCK, indices.shape[1] - first)
        flat[:] = 0
        for axis in range(axes):
            _locate(indices[axis], bounds[axis], mirrored[axis], first, position[:count])
            stride, along = strides[axis], fraction[axis]
            for i in range(count):
                below = np.int32(position[i])
                along[i] = position[i] - np.float32(below)
                flat[i] += np.uint64(below) * stride
        last, row = fraction[axes - 1], strides[axes - 2]
        middle, plane = fraction[axes - 2], strides[0]
        for channel in range(values.shape[0]):
            source, target = values[channel], result[channel]
            if axes == 2:
                for i in range(count):
                    a = flat[i]
                    b = a + row
                    v0 = source[a] + last[i] * (source[a + _ONE] - source[a])
                    v1 = source[b] + last[i] * (source[b + _ONE] - source[b])
                    target[first + i] = v0 + middle[i] * (v1 - v0)
            else:
                for i in range(count):
                    a = flat[i]
                    b, c = a + row, a + plane
                    d = c + row
                    v0 = source[a] + last[i] * (source[a + _ONE] - source[a])
                    v1 = source[b] + last[i] * (source[b + _ONE] - source[b])
                    v2 = source[c] + last[i] * (source[c + _ONE] - source[c])
                    v3 = source[d] + last[i] * (source[d + _ONE] - source[d])
                    v0 += middle[i] * (v1 - v0)
                    v2 += middle[i] * (v3 - v2)
                    target[first + i] = v0 + fraction[0, i] * (v2 - v0)


@compiled
def classes(values, strides, indices, bounds, mirrored, result):  # type: ignore[no-untyped-def]
    """Read each class linearly; the largest share wins, of equal ones the lowest class."""
    axes = indices.shape[0]
    corners = 1 << axes
    offset = np.zeros(corners, np.uint64)
    for corner in range(corners):
        for axis in range(axes):
            if corner >> axis & 1:
                offset[corner] += strides[axis]
    position = np.empty(_BLOCK, np.float32)
    fraction = np.empty((axes, _BLOCK), np.float32)
    flat = np.empty(_BLOCK, np.uint64)
    found = np.empty(corners, values.dtype)
    share = np.empty(corners, np.float32)
    for first in range(0, indices.shape[1], _BLOCK):
        count = min(_BLOCK, indices.shape[1] - first)
        flat[:] = 0
        for axis in range(axes):
            _locate(indices[axis], bounds[axis], mirrored[axis], first, position[:count])
            for i in range(count):
                below = np.int32(position[i])
                fraction[axis, i] = position[i] - np.float32(below)
                flat[i] += np.uint64(below) * strides[axis]
        for channel in range(values.shape[0]):
            source, target = values[channel], result[channel]
            for i in range(count):
                same = True
                for corner in range(corners):
                    found[corner] = source[flat[i] + offset[corner]]
                    same &= found[corner] == found[0]
                best = found[0]
                if not same:
                    for corner in range(corners):
                        weight = np.float32(1)
                        for axis in range(axes):
                            near = fraction[axis, i]
                            weight *= near if corner >> axis & 1 else np.float32(1) - near
                        share[corner] = weight
                    largest = np.float32(-1)
                    for corner in range(corners):
                        total = np.float32(0)
                        for other in range(corners):
                            if found[other] == found[corner]:
                                total += share[other]
                        if total > largest or (total == largest and found[corner] < best):
                            largest, best = total, found[corner]
                target[first + i] = best


@compiled
def cubic(  # type: ignore[no-untyped-def]
    values, strides, indices, bounds, mirrored, outside, fill, result
):
    """Read the cubic B-spline whose coefficients the values are; `fill` beyond the volume.

    `outside` holds the largest index of each axis that is inside, or nothing.
    """
    axes = indices.shape[0]
    rows = 4 ** (axes - 1)
    position = np.empty(_BLOCK, np.float32)
    weight = np.empty((axes, 4, _BLOCK), np.float32)
    flat = np.empty(_BLOCK, np.uint64)
    total = np.empty(_BLOCK, np.float32)
    one, sixth = np.float32(1), np.float32(1 / 6)
    for first in range(0, indices.shape[1], _BLOCK):
        count = min(_BLOCK, indices.shape[1] - first)
        flat[:] = 0
        for axis in range(axes):
            _locate(indices[axis], bounds[axis], mirrored[axis], first, position[:count])
            w = weight[axis]
            for i in range(count):
                below = np.int32(position[i])
                near = position[i] - np.float32(below)
                far = one - near
                flat[i] += np.uint64(below - 1) * strides[axis]
                w[0, i] = far * far * far * sixth
                w[3, i] = near * near * near * sixth
                w[1, i] = np.float32(2 / 3) - near * near * (one - near * np.float32(0.5))
                w[2, i] = np.float32(2 / 3) - far * far * (one - far * np.float32(0.5))
        last = weight[axes - 1]
        for channel in range(values.shape[0]):
            source, target = values[channel], result[channel]
            total[:] = 0
            for row in range(rows):
                y, x = row & 3, row >> 2
                offset = np.uint64(y) * strides[axes - 2]
                if axes == 3:
                    offset += np.uint64(x) * strides[0]
                for i in range(count):
                    a = flat[i] + offset
                    line = (
                        source[a] * last[0, i]
                        + source[a + _ONE] * last[1, i]
                        + source[a + np.uint64(2)] * last[2, i]
                        + source[a + np.uint64(3)] * last[3, i]
                    )
                    across = weight[axes - 2, y, i]
                    if axes == 3:
                        across *= weight[0, x, i]
                    total[i] += line * across
            for i in range(count):
                target[first + i] = total[i]
        for axis in range(len(outside)):
            for i in range(count):
                at = indices[axis, first + i]
                if at < np.float32(-0.5) or at >= outside[axis]:
                    for channel in range(values.shape[0]):
                        result[channel, first + i] = fill
