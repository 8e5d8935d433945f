"""The loops of `volseg.training.fast_layers`, compiled on first use and kept on disk.

Values lie voxel by voxel, the channels of a voxel beside each other: the value of sample n, voxel
v and channel c is ``values[n * sample + v * voxel + c]``. Each call does the pieces from ``first``
to before ``last`` of ``pieces`` a sample, of ``length`` voxels each, so that threads share the work
and sums do not depend on how many there are.
"""

import numpy as np

from volseg.compiled import compiled

_ONE = np.float32(1)
# Indices are unsigned: for signed ones each is asked whether it counts from the end, which keeps
# the innermost loops from being done many values at a time.


@compiled
def add_moments(  # type: ignore[no-untyped-def]
    values, sample, voxel, about, voxels, pieces, length, first, last, sums
):
    """Write sum and sum of squares of (values - about) to `sums` (samples * pieces, 2, channels).

    `about` is (samples, channels).
    """
    channels = np.uint64(about.shape[1])
    for piece in range(first, last):
        n, k = piece // pieces, piece % pieces
        middle, total, square = about[n], sums[piece, 0], sums[piece, 1]
        for v in range(k * length, min((k + 1) * length, voxels)):
            start = np.uint64(n * sample + v * voxel)
            for c in range(channels):
                distance = values[start + c] - middle[c]
                total[c] += distance
                square[c] += distance * distance


@compiled
def normalise(  # type: ignore[no-untyped-def]
    values, sample, voxel, mean, factor, offset, slope, voxels, pieces, length, first, last, result
):
    """Write (values - mean) * factor + offset, below 0 times `slope`, to the contiguous `result`.

    `mean`, `factor` and `offset` are (samples, channels).
    """
    channels = np.uint64(factor.shape[1])
    for piece in range(first, last):
        n, k = piece // pieces, piece % pieces
        middle, a, b = mean[n], factor[n], offset[n]
        for v in range(k * length, min((k + 1) * length, voxels)):
            start = np.uint64(n * sample + v * voxel)
            target = np.uint64(n * voxels + v) * channels
            for c in range(channels):
                found = (values[start + c] - middle[c]) * a[c] + b[c]
                result[target + c] = found * (_ONE if found > 0 else slope)


@compiled
def add_gradients(  # type: ignore[no-untyped-def]
    values, sample, voxel, gradient, gradient_sample, gradient_voxel,
    mean, factor, offset, slope, voxels, pieces, length, first, last, sums,
):  # fmt: skip
    """Write, of what flows back through the slope, its sum and its sum times (values - mean)."""
    channels = np.uint64(factor.shape[1])
    for piece in range(first, last):
        n, k = piece // pieces, piece % pieces
        middle, a, b = mean[n], factor[n], offset[n]
        total, product = sums[piece, 0], sums[piece, 1]
        for v in range(k * length, min((k + 1) * length, voxels)):
            start = np.uint64(n * sample + v * voxel)
            other = np.uint64(n * gradient_sample + v * gradient_voxel)
            for c in range(channels):
                distance = values[start + c] - middle[c]
                above = distance * a[c] + b[c] > 0
                flow = gradient[other + c] * (_ONE if above else slope)
                total[c] += flow
                product[c] += flow * distance


@compiled
def backpropagate(  # type: ignore[no-untyped-def]
    values, sample, voxel, gradient, gradient_sample, gradient_voxel,
    mean, factor, offset, tilt, level, slope, voxels, pieces, length, first, last, result,
):  # fmt: skip
    """Write flow * factor + (values - mean) * tilt + level to the contiguous `result`."""
    channels = np.uint64(factor.shape[1])
    for piece in range(first, last):
        n, k = piece // pieces, piece % pieces
        middle, a, b, p, q = mean[n], factor[n], offset[n], tilt[n], level[n]
        for v in range(k * length, min((k + 1) * length, voxels)):
            start = np.uint64(n * sample + v * voxel)
            other = np.uint64(n * gradient_sample + v * gradient_voxel)
            target = np.uint64(n * voxels + v) * channels
            for c in range(channels):
                distance = values[start + c] - middle[c]
                above = distance * a[c] + b[c] > 0
                flow = gradient[other + c] * (_ONE if above else slope)
                result[target + c] = flow * a[c] + distance * p[c] + q[c]
