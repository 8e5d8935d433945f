"""The loops of `volseg.transforms.tally`, compiled on first use and kept on disk.

Each adds integers to `totals`, so the order of the values and how they are parted change no bit.
Values up to `above` and those equal to `without` do not count; NaN stands for neither.
"""

import numpy as np
from numba import int32, int64, uint32, uint64

from volseg.compiled import compiled, inlined, ordered_bits

_BLOCK = np.uint64(4096)  # sums of a block fit in 64 bits, and its values stay in the cache
_SIZE_BITS = np.uint32(0x7FFFFFFF)
_SIGN_BIT = np.uint32(0x80000000)
_FRACTION_BITS = np.uint32(0x007FFFFF)
_LOW_32 = np.int64(2**32 - 1)
_LOW_48 = np.uint64(2**48 - 1)


@inlined
def _counts(value, above, without):  # type: ignore[no-untyped-def]
    return not ((value <= above) | (value == without))


@compiled
def add_moments(totals, values, above, without):  # type: ignore[no-untyped-def]
    """Add the exact sum of float32 values and of their squares to int64 totals (256, 6).

    Values within a factor of 2^24 of the largest in their block are multiples of 2^(e - 174) below
    2^(e - 126), where e is its exponent as it is stored: integers below 2^48. They are summed
    together, in row e; what is smaller follows in a round of its own, which most blocks do not
    have. A row holds the sum of the integers, and of the upper and the lower 48 bits of their
    squares, each as an upper and a lower half that cannot overflow below 2^31 blocks. The last
    row holds how many values count, and whether some are not finite.
    """
    bits = values.view(np.uint32)
    counted = int64(0)
    for start in range(uint64(0), uint64(values.size), _BLOCK):
        stop = min(start + _BLOCK, uint64(values.size))
        largest = uint32(0)
        for i in range(start, stop):
            largest = max(largest, uint32(bits[i] & _SIZE_BITS))
            counted += _counts(values[i], above, without)
        done = _SIGN_BIT  # above all sizes
        while largest != 0:
            top = uint32(max(largest >> uint32(23), uint32(1)))
            if top == 255:
                totals[255, 1] = 1
                break
            least = uint32(max(int64(top) - 24, 0) << 23)
            largest = uint32(0)
            total, upper, lower = int64(0), int64(0), int64(0)
            for i in range(start, stop):
                size = uint32(bits[i] & _SIZE_BITS)
                largest = max(largest, uint32(size if size < least else uint32(0)))
                chosen = (size >= least) & (size < done) & _counts(values[i], above, without)
                normal = uint32(size > _FRACTION_BITS)
                mantissa = uint32((size & _FRACTION_BITS) | (normal << uint32(23)))
                below = uint32(top - max(uint32(size >> uint32(23)), uint32(1)))
                # Shifts by more than the width are undefined, even of what is not used.
                mantissa = uint64(uint32(mantissa if chosen else uint32(0)))
                below = uint64(uint32(below if chosen else uint32(0)))
                negative = int64(int32(bits[i]) >> int32(31))
                total += (int64(mantissa << (uint64(24) - below)) ^ negative) - negative
                square = mantissa * mantissa
                upper += int64(square >> (below + below))
                lower += int64((square << (uint64(48) - below - below)) & _LOW_48)
            done = least
            row = totals[top]
            row[0] += total >> 32
            row[1] += total & _LOW_32
            row[2] += upper >> 32
            row[3] += upper & _LOW_32
            row[4] += lower >> 32
            row[5] += lower & _LOW_32
    totals[255, 0] += counted


@compiled
def count_upper(totals, values, above, without):  # type: ignore[no-untyped-def]
    """Count float32 values by the upper half of their key: totals (2^16)."""
    bits = values.view(np.uint32)
    for i in range(uint64(values.size)):
        upper = uint64(ordered_bits(bits[i]) >> uint32(16))
        totals[upper] += int64(_counts(values[i], above, without))


@compiled
def count_lower(totals, values, above, without, rows):  # type: ignore[no-untyped-def]
    """Count float32 values by the lower half of their key: totals (rows, 2^16).

    `rows` holds the row of each upper half, or -1 for those that are not asked for.
    """
    bits = values.view(np.uint32)
    for i in range(uint64(values.size)):
        key = ordered_bits(bits[i])
        row = rows[uint64(key >> uint32(16))]
        if row >= 0:
            lower = uint64(key & uint32(0xFFFF))
            totals[uint64(row), lower] += int64(_counts(values[i], above, without))
