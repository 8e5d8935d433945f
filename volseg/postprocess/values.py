"""Counting the values of an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.compiled import compiled


def count_values(values: npt.NDArray[Any]) -> dict[int, int]:
    """Return how often each value of an array occurs: integers not below 0, or booleans."""
    if values.dtype.kind == "b":  # with which compiled code indexes nothing
        values = values.view(np.uint8)
    if values.dtype.itemsize > 2:
        found, counts = np.unique(values, return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))
    table = np.zeros(1 << 8 * values.dtype.itemsize, dtype=np.int64)
    # One order of memory is one compiled loop; a block is a copy of no more than a slab.
    native = values.dtype.newbyteorder("=")  # compiled code knows no other order of bytes
    _count_into(np.ascontiguousarray(values, native).reshape(-1), table)
    found = np.flatnonzero(table)
    return dict(zip(found.tolist(), table[found].tolist(), strict=True))


@compiled
def _count_into(values: npt.NDArray[Any], table: npt.NDArray[np.int64]) -> None:
    for index in range(values.size):
        table[values[index]] += 1
