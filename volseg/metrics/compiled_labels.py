"""The loops of label statistics, compiled on first use and kept on disk.

Each goes on with what it found in the planes before, voxel by voxel in their order: however a
volume is parted, its statistics are the same to the last bit.
"""

import numpy as np
from numba import float64, int64, uint32, uint64

from volseg.compiled import compiled, ordered_bits

DIGITS = (11, 11, 10)
"""Bits of the three digits that the ordered bits of a float32 are counted by, from the top."""
_MIDDLE = uint32(DIGITS[2])
_UPPER = uint32(DIGITS[1] + DIGITS[2])
_MIDDLE_BITS = np.uint32(2 ** DIGITS[1] - 1)
_LOWER_BITS = np.uint32(2 ** DIGITS[2] - 1)


@compiled
def add_shapes(totals, crossings, labels, start, offsets):  # type: ignore[no-untyped-def]
    """Add voxels, sums of indices, lowest and highest indices, and crossings of the border.

    Args:
        totals: (labels, 10) of int64: voxels; sum, lowest and highest index on each axis.
        crossings: (labels, directions) of int64: voxels whose neighbour in a direction is of
            another label.
        labels: (planes + 1, rows + 2, columns + 2): the plane before, which may be of zeros, then
            the new ones; around each a border of zeros.
        start: Index of the first new plane in the volume.
        offsets: (directions, 3) to neighbours, none in a plane that follows.
    """
    planes, rows, columns = labels.shape
    for plane in range(1, planes):
        for row in range(1, rows - 1):
            for column in range(1, columns - 1):
                label = labels[plane, row, column]
                if label == 0:
                    continue
                total = totals[label]
                total[0] += 1
                place = (start + plane - 1, row - 1, column - 1)
                for axis in range(3):
                    total[1 + axis] += place[axis]
                    total[4 + axis] = min(total[4 + axis], place[axis])
                    total[7 + axis] = max(total[7 + axis], place[axis])
                for way in range(offsets.shape[0]):
                    neighbour = labels[
                        plane + offsets[way, 0], row + offsets[way, 1], column + offsets[way, 2]
                    ]
                    crossings[label, way] += neighbour != label


@compiled
def add_intensities(counts, moments, extremes, upper, labels, values, row_of_label):  # type: ignore[no-untyped-def]
    """Add finite float32 values to what is known of their rows, and of row 0, which takes all.

    Returns:
        Whether a value needs the lowest digit, too.

    Args:
        counts: (rows) of int64.
        moments: (rows, 3) of float64: the first value, the sum of the differences from it, and of
            their squares.
        extremes: (rows, 2) of float64: lowest and highest value.
        upper: (rows, 2^11) of int64: values by their upper digit.
        labels: Of each voxel.
        values: Of each voxel.
        row_of_label: Row of each label; 0 for those that have none.
    """
    bits = values.view(np.uint32)
    lower = uint32(0)
    for i in range(uint64(values.size)):
        value = float64(values[i])
        if not np.isfinite(value):
            continue
        key = ordered_bits(bits[i])
        lower |= bits[i] & _LOWER_BITS
        digit = uint64(key >> _UPPER)
        row = row_of_label[labels[i]]
        for _ in range(1 + (row > 0)):
            if counts[row] == 0:
                moments[row, 0] = value
                extremes[row] = value
            counts[row] += 1
            difference = value - moments[row, 0]
            moments[row, 1] += difference
            moments[row, 2] += difference * difference
            extremes[row, 0] = min(extremes[row, 0], value)
            extremes[row, 1] = max(extremes[row, 1], value)
            upper[row, digit] += 1
            row = 0
    return lower != 0


@compiled
def count_middle(totals, labels, values, row_of_label, slots):  # type: ignore[no-untyped-def]
    """Count finite values by their middle digit: totals (slots, 2^11).

    `slots` (rows, 2^11) holds the slot of each upper digit, or -1 where it is not asked for.
    """
    bits = values.view(np.uint32)
    for i in range(uint64(values.size)):
        if not np.isfinite(values[i]):
            continue
        key = ordered_bits(bits[i])
        row = row_of_label[labels[i]]
        for _ in range(1 + (row > 0)):
            slot = int64(slots[row, uint64(key >> _UPPER)])
            if slot >= 0:
                totals[slot, uint64((key >> _MIDDLE) & _MIDDLE_BITS)] += 1
            row = 0


@compiled
def count_lower(totals, labels, values, row_of_label, slots, finer):  # type: ignore[no-untyped-def]
    """Count finite values by their lower digit: totals (finer slots, 2^10).

    `finer` (slots, 2^11) holds the finer slot of each middle digit in a slot of `count_middle`, or
    -1 where it is not asked for.
    """
    bits = values.view(np.uint32)
    for i in range(uint64(values.size)):
        if not np.isfinite(values[i]):
            continue
        key = ordered_bits(bits[i])
        row = row_of_label[labels[i]]
        for _ in range(1 + (row > 0)):
            slot = int64(slots[row, uint64(key >> _UPPER)])
            if slot >= 0:
                fine = int64(finer[slot, uint64((key >> _MIDDLE) & _MIDDLE_BITS)])
                if fine >= 0:
                    totals[fine, uint64(key & _LOWER_BITS)] += 1
            row = 0
