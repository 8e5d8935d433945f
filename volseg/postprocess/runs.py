"""Rows of voxels as runs of equal value, and which runs touch: the compiled loops.

A label map has far fewer runs than voxels, so a component is found by joining runs (K. Wu, E. Otoo
and K. Suzuki, "Optimizing two-pass connected-component labeling algorithms", Pattern Analysis and
Applications 12, 2009) and each voxel is read once. A block of voxels is `(planes, rows, columns)`;
the row `(plane, row)` has the number `plane * rows + row`, its runs are
`pointer[number]:pointer[number + 1]`, cover it without gaps, and each ends where the next starts.

How close two runs must be is a level: 1 over faces, 2 over edges too, 3 over corners too.
"""

# ruff: noqa: PLR0917 - the arguments of a compiled loop are given by position

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.compiled import compiled

FACE = 1

Integers = npt.NDArray[np.integer[Any]]


@compiled
def count_runs(voxels: Integers, pointer: npt.NDArray[np.int64]) -> None:
    """Set `pointer` to the number of runs before each row of `voxels`, `(rows, columns)`."""
    rows, columns = voxels.shape
    pointer[0] = 0
    for row in range(rows):
        line = voxels[row]
        changes = np.int32(1)
        for column in range(1, columns):
            changes += np.int32(line[column] != line[column - 1])
        pointer[row + 1] = pointer[row] + changes


@compiled
def find_runs(
    voxels: Integers,
    pointer: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int32],
    values: npt.NDArray[np.int64],
) -> None:
    """Set the first column and the value of each run of `voxels`, `(rows, columns)`."""
    for row in range(voxels.shape[0]):
        line = voxels[row]
        run, stop = pointer[row], pointer[row + 1]
        starts[run] = 0
        values[run] = line[0]
        run += 1
        column = 1
        while run < stop:  # the rest of the row is equal once all its runs are found
            if line[column] != line[column - 1]:
                starts[run] = column
                values[run] = line[column]
                run += 1
            column += 1


@compiled
def root_of(parent: npt.NDArray[np.int32], node: int) -> int:
    """Return the representative of the set of a node, halving the path to it."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def join(parent: npt.NDArray[np.int32], a: int, b: int) -> None:
    """Make one set of the sets of two nodes; the lowest node represents it."""
    a, b = root_of(parent, a), root_of(parent, b)
    if a < b:
        parent[b] = a
    else:
        parent[a] = b


@compiled
def _touching(  # type: ignore[no-untyped-def]
    starts, columns, a, a_stop, b, b_stop, level, highest, pairs
) -> int:
    """List the pairs of runs of two rows that touch, and return how many there are.

    Two voxels of the same column in these rows touch at `level`; what touches at a level above
    `highest` is not listed. A pair is `(run, run, level, faces)`.
    """
    found = 0
    while a < a_stop and b < b_stop:
        a_end = starts[a + 1] if a + 1 < a_stop else columns
        b_end = starts[b + 1] if b + 1 < b_stop else columns
        pairs[found, 0], pairs[found, 1], pairs[found, 2] = a, b, level
        pairs[found, 3] = 0
        if level == FACE:
            pairs[found, 3] = min(a_end, b_end) - max(starts[a], starts[b])
        found += 1
        if a_end == b_end:
            if level < highest and a + 1 < a_stop:  # four runs meet: two pairs are diagonal
                pairs[found, 0], pairs[found, 1] = a, b + 1
                pairs[found + 1, 0], pairs[found + 1, 1] = a + 1, b
                pairs[found : found + 2, 2] = level + 1
                pairs[found : found + 2, 3] = 0
                found += 2
            a += 1
            b += 1
        elif a_end < b_end:
            a += 1
        else:
            b += 1
    return found


@compiled
def _neighbours_before(rows, plane, row, highest, within, table) -> int:  # type: ignore[no-untyped-def]
    """List the rows that touch a row and lie before it: `(number of the row, level)`."""
    found = 0
    if row > 0 and within:
        table[found, 0], table[found, 1] = plane * rows + row - 1, 1
        found += 1
    if plane > 0:
        table[found, 0], table[found, 1] = (plane - 1) * rows + row, 1
        found += 1
        if highest > 1 and row > 0:
            table[found, 0], table[found, 1] = (plane - 1) * rows + row - 1, 2
            found += 1
        if highest > 1 and row + 1 < rows:
            table[found, 0], table[found, 1] = (plane - 1) * rows + row + 1, 2
            found += 1
    return found


@compiled
def join_runs(
    shape: tuple[int, int, int],
    pointer: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int32],
    values: npt.NDArray[np.int64],
    nodes: npt.NDArray[np.int32],
    parent: npt.NDArray[np.int32],
    level: int,
    with_background: bool,
    within: bool,
) -> None:
    """Join the nodes of touching runs of equal value.

    Args:
        shape: Planes, rows and columns.
        pointer: Runs before each row.
        starts: First column of each run.
        values: Value of each run.
        nodes: Node of each run in `parent`; negative for none.
        parent: The sets of nodes, changed in place.
        level: Highest level at which runs are joined.
        with_background: Whether runs of the value 0 are joined as well.
        within: Whether rows of the same plane are compared, or only those of different planes.
    """
    planes, rows, columns = shape
    pairs = np.empty((4 * columns + 4, 4), dtype=np.int64)
    before = np.empty((4, 2), dtype=np.int64)
    for plane in range(0 if within else 1, planes):
        for row in range(rows):
            number = plane * rows + row
            a, a_stop = pointer[number], pointer[number + 1]
            if not with_background and a_stop == a + 1 and values[a] == 0:
                continue
            for n in range(_neighbours_before(rows, plane, row, level, within, before)):
                b, b_stop = pointer[before[n, 0]], pointer[before[n, 0] + 1]
                found = _touching(starts, columns, a, a_stop, b, b_stop, before[n, 1], level, pairs)
                for i in range(found):
                    value = values[pairs[i, 0]]
                    if value == values[pairs[i, 1]] and (with_background or value != 0):
                        join(parent, nodes[pairs[i, 0]], nodes[pairs[i, 1]])


@compiled
def number_nodes(
    parent: npt.NDArray[np.int32],
    values: npt.NDArray[np.int64],
    with_background: bool,
) -> int:
    """Replace each parent by the number of its set, in order of the first run; return the count.

    Runs of background get -1 where it is left out.
    """
    count = 0
    for run in range(parent.size):
        if values[run] == 0 and not with_background:
            parent[run] = -1
        elif parent[run] == run:
            parent[run] = count
            count += 1
        else:  # a parent is lower than its child, and has its number already
            parent[run] = parent[parent[run]]
    return count


@compiled
def describe_nodes(
    shape: tuple[int, int, int],
    pointer: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int32],
    values: npt.NDArray[np.int64],
    nodes: npt.NDArray[np.int32],
    strides: tuple[int, int, int],
    is_edge: tuple[bool, bool, bool, bool],
    node_values: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    firsts: npt.NDArray[np.int64],
    outside: npt.NDArray[np.bool_],
) -> None:
    """Set value, size, lowest voxel and contact with the outside of each node.

    Args:
        shape: Planes, rows and columns.
        pointer: Runs before each row.
        starts: First column of each run.
        values: Value of each run.
        nodes: Node of each run.
        strides: How far apart voxels are in the order that finds the lowest one.
        is_edge: Whether the first plane, the last plane, the outer rows and the outer columns lie
            at the edge of the image.
        node_values: Receives the value of each node.
        sizes: Receives the voxels of each node; zero before.
        firsts: Receives the index of the lowest voxel of each node; the highest number before.
        outside: Receives whether a face of a node lies at the edge of the image; false before.
    """
    planes, rows, columns = shape
    for plane in range(planes):
        for row in range(rows):
            at_edge = (
                (plane == 0 and is_edge[0])
                or (plane == planes - 1 and is_edge[1])
                or ((row == 0 or row == rows - 1) and is_edge[2])
            )
            number = plane * rows + row
            start, stop = pointer[number], pointer[number + 1]
            for run in range(start, stop):
                node = nodes[run]
                if node >= 0:
                    end = starts[run + 1] if run + 1 < stop else columns
                    node_values[node] = values[run]
                    sizes[node] += end - starts[run]
                    first = plane * strides[0] + row * strides[1] + starts[run] * strides[2]
                    firsts[node] = min(firsts[node], first)
                    if at_edge or (is_edge[3] and (run == start or run == stop - 1)):
                        outside[node] = True


@compiled
def _slot(keys, key):  # type: ignore[no-untyped-def]
    """Return where a key is in the hash table, or the empty place where it belongs."""
    mask = np.uint64(keys.size - 1)
    # Fibonacci hashing (D. Knuth, The Art of Computer Programming 3, section 6.4).
    place = (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20) & mask
    while keys[place] != key and keys[place] >= 0:
        place = (place + np.uint64(1)) & mask
    return place


@compiled
def _larger(keys, levels, faces):  # type: ignore[no-untyped-def]
    """Return the hash table in twice its size."""
    more_keys = np.full(2 * keys.size, -1, dtype=np.int64)
    more_levels = np.zeros(2 * keys.size, dtype=np.uint8)
    more_faces = np.zeros(2 * keys.size, dtype=np.int64)
    for old in range(keys.size):
        if keys[old] >= 0:
            new = _slot(more_keys, keys[old])
            more_keys[new] = keys[old]
            more_levels[new] = levels[old]
            more_faces[new] = faces[old]
    return more_keys, more_levels, more_faces


@compiled
def find_edges(  # type: ignore[no-untyped-def]
    shape, pointer, starts, nodes, level, within
):
    """Return the pairs of different nodes that touch, each once, as a hash table.

    Args:
        shape: Planes, rows and columns.
        pointer: Runs before each row.
        starts: First column of each run.
        nodes: Node of each run; negative ones are passed over.
        level: Highest level that counts as touching.
        within: Whether rows of the same plane are compared, or only those of different planes.

    Returns:
        For each place of the table: the lower node times 2³² plus the higher one, or -1 where the
        place is empty; the lowest level at which they touch; the number of voxel faces they share.
    """
    planes, rows, columns = shape
    pairs = np.empty((4 * columns + 4, 4), dtype=np.int64)
    before = np.empty((4, 2), dtype=np.int64)
    keys = np.full(1024, -1, dtype=np.int64)
    levels = np.zeros(1024, dtype=np.uint8)
    faces = np.zeros(1024, dtype=np.int64)
    count = 0
    for plane in range(0 if within else 1, planes):
        for row in range(rows):
            number = plane * rows + row
            a, a_stop = pointer[number], pointer[number + 1]
            found = 0
            if within:
                for run in range(a + 1, a_stop):  # neighbours along the row share one face
                    pairs[found, 0], pairs[found, 1] = run - 1, run
                    pairs[found, 2] = pairs[found, 3] = 1
                    found += 1
            n = 0
            n_stop = _neighbours_before(rows, plane, row, level, within, before)
            while True:
                for i in range(found):
                    one, two = nodes[pairs[i, 0]], nodes[pairs[i, 1]]
                    if one != two and one >= 0 and two >= 0:
                        key = (np.int64(min(one, two)) << 32) | np.int64(max(one, two))
                        place = _slot(keys, key)
                        if keys[place] < 0:
                            keys[place] = key
                            levels[place] = pairs[i, 2]
                            count += 1
                        levels[place] = min(levels[place], pairs[i, 2])
                        faces[place] += pairs[i, 3]
                        if 2 * count > keys.size:
                            keys, levels, faces = _larger(keys, levels, faces)
                if n == n_stop:
                    break
                b, b_stop = pointer[before[n, 0]], pointer[before[n, 0] + 1]
                found = 0
                if a_stop > a + 1 or b_stop > b + 1 or nodes[a] != nodes[b]:
                    found = _touching(
                        starts, columns, a, a_stop, b, b_stop, before[n, 1], level, pairs
                    )
                n += 1
    return keys, levels, faces


@compiled
def paint_runs(
    voxels: Integers,
    pointer: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int32],
    nodes: npt.NDArray[np.int32],
    changed: npt.NDArray[np.bool_],
    values: Integers,
) -> None:
    """Write the new value of each changed node into its runs of `voxels`, `(rows, columns)`."""
    rows, columns = voxels.shape
    for row in range(rows):
        for run in range(pointer[row], pointer[row + 1]):
            node = nodes[run]
            if node >= 0 and changed[node]:
                end = starts[run + 1] if run + 1 < pointer[row + 1] else columns
                for column in range(starts[run], end):
                    voxels[row, column] = values[node]


@compiled
def join_edges(
    lower: npt.NDArray[np.int32],
    higher: npt.NDArray[np.int32],
    levels: npt.NDArray[np.uint8],
    groups: npt.NDArray[np.int64],
    highest: int,
    parent: npt.NDArray[np.int32],
) -> None:
    """Join the nodes at the ends of each edge of a level up to `highest` within one group.

    Args:
        lower: One end of each edge.
        higher: The other end.
        levels: Level of each edge.
        groups: What each node belongs to; nodes of group 0 are not joined.
        highest: Highest level that joins.
        parent: The sets of nodes, changed in place.
    """
    for edge in range(lower.size):
        a, b = lower[edge], higher[edge]
        if levels[edge] <= highest and groups[a] != 0 and groups[a] == groups[b]:
            join(parent, a, b)
