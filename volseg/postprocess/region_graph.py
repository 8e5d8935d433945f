"""A label map as a graph: connected regions of equal value, and which of them touch.

Filling holes and removing components change whole regions, so any sequence of such rules is decided
on the graph, however many rules and classes there are: the voxels are read once to build it and
once to write what changed. A map is read slab by slab; regions cut by the face between two slabs
are joined afterwards, so the graph does not depend on how the map was cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.postprocess.runs import (
    count_runs,
    describe_nodes,
    find_edges,
    find_runs,
    join_runs,
    number_nodes,
    paint_runs,
)
from volseg.postprocess.slabs import Slabs, in_threads

_HIGHEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Edges:
    """Pairs of regions that touch; a pair may be listed again for each slab it lies in."""

    lower: npt.NDArray[np.int32]
    """One region."""
    higher: npt.NDArray[np.int32]
    """The other region."""
    levels: npt.NDArray[np.uint8]
    """How they touch in that slab: 1 over a face, 2 over an edge, 3 over a corner only."""
    faces: npt.NDArray[np.int64]
    """Voxel faces they share in that slab."""


@dataclass(frozen=True)
class RegionGraph:
    """The regions of a label map. A rule gives the regions new classes; the regions stay."""

    classes: npt.NDArray[np.int64]
    """Class of each region in the map, 0 for background."""
    sizes: npt.NDArray[np.int64]
    """Voxels of each region."""
    firsts: npt.NDArray[np.int64]
    """Flat index of the lowest voxel of each region, compared along x, then y, then z."""
    outside: npt.NDArray[np.bool_]
    """Whether a face of the region lies at the edge of the image."""
    edges: Edges
    """The regions that touch."""
    numbers: tuple[npt.NDArray[np.int32], ...]
    """For each slab, the region of each of its pieces."""


@dataclass(frozen=True)
class GraphPlan:
    """What a graph must hold for the rules it serves; the less, the faster it is built."""

    level: int
    """Voxels of equal value are one region when they touch at this level or a lower one."""
    edge_level: int
    """Highest level of the edges; 0 for none."""
    with_background: bool
    """Whether background is cut into regions too."""


@dataclass(frozen=True)
class _Runs:
    """The runs of a block, see `volseg.postprocess.runs`."""

    shape: tuple[int, int, int]
    pointer: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int32]
    values: npt.NDArray[np.int64]
    nodes: npt.NDArray[np.int32]
    count: int = 0

    def plane(self, index: int) -> _Runs:
        """Return one plane."""
        rows, columns = self.shape[1:]
        pointer = self.pointer[index * rows : (index + 1) * rows + 1]
        part = slice(pointer[0], pointer[-1])
        # Copies: views would hold the runs of the whole slab in memory.
        arrays = (self.starts[part].copy(), self.values[part].copy(), self.nodes[part].copy())
        return _Runs((1, rows, columns), pointer - pointer[0], *arrays)

    def moved(self, offset: int) -> _Runs:
        """Return the same runs with their nodes counted from an offset."""
        nodes = np.where(self.nodes >= 0, self.nodes + np.int32(offset), np.int32(-1))
        return replace(self, nodes=nodes)

    def below(self, other: _Runs) -> _Runs:
        """Return the block of this plane followed by the other one."""
        return _Runs(
            (2, *self.shape[1:]),
            np.concatenate([self.pointer, self.pointer[-1] + other.pointer[1:]]),
            np.concatenate([self.starts, other.starts]),
            np.concatenate([self.values, other.values]),
            np.concatenate([self.nodes, other.nodes]),
        )


@dataclass(frozen=True)
class _Piece:
    """The regions of one slab, as in `RegionGraph`."""

    classes: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.int64]
    outside: npt.NDArray[np.bool_]
    edges: Edges


def build_region_graph(labels: Any, slabs: Slabs, plan: GraphPlan) -> RegionGraph:
    """Return the graph of a label map, read once.

    Args:
        labels: The map, in memory or on disk.
        slabs: How it is cut; has no effect on the graph but for the order of the edges.
        plan: What the graph must hold.
    """
    tasks = ((start, slabs.read(labels, start, stop)) for start, stop in slabs)
    pieces: list[_Piece] = []
    edges: list[Edges] = []
    parent = np.empty(0, dtype=np.int32)
    previous: _Runs | None = None
    count = 0
    for piece, first_plane, last_plane in in_threads(tasks, lambda t: _survey(*t, slabs, plan)):
        offset, count = count, count + piece.classes.size
        pieces.append(piece)
        parent = _extended(parent, count)
        edges.append(_moved(piece.edges, offset))
        if previous is not None:
            face = previous.below(first_plane.moved(offset))
            _join(face, parent, plan, within=False)
            edges.append(_edges(face, plan.edge_level, within=False))
        previous = last_plane.moved(offset)
    return _merged(pieces, parent[:count], edges)


def write_regions(
    labels: Any,
    out: Any,
    *,
    slabs: Slabs,
    plan: GraphPlan,
    graph: RegionGraph,
    classes: npt.NDArray[np.int64],
) -> None:
    """Write the label map with new classes of its regions; what stays as it is is only copied.

    Args:
        labels: The map the graph was built from.
        out: Receives the result; may be `labels`.
        slabs: How the map was cut for the graph.
        plan: What the graph holds.
        graph: The graph.
        classes: The new class of each region.
    """
    changed = classes != graph.classes

    def paint(
        task: tuple[int, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int32]],
    ) -> tuple[int, npt.NDArray[Any]]:
        start, source, target, numbers = task
        if changed[numbers].any():
            # Found again and not kept: runs of the whole map may take more than the map.
            runs = _runs(source, plan)
            if target is not source:
                np.copyto(target, source)
            paint_runs(
                target.reshape(-1, target.shape[-1]),
                runs.pointer,
                runs.starts,
                runs.nodes,
                changed[numbers],
                classes[numbers].astype(target.dtype),
            )
        elif target is not source:
            np.copyto(target, source)
        return start, target

    def tasks() -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int32]]]:
        for (start, stop), numbers in zip(slabs, graph.numbers, strict=True):
            if out is labels and not changed[numbers].any():
                continue
            source = slabs.read(labels, start, stop)
            yield start, source, source if out is labels else slabs.room(out, start, stop), numbers

    for start, block in in_threads(tasks(), paint):
        slabs.write(out, start, block)


def _runs(block: npt.NDArray[Any], plan: GraphPlan) -> _Runs:
    """Return the runs of a block, each with the number of its region within the block."""
    lines = block.reshape(-1, block.shape[-1])
    pointer = np.empty(lines.shape[0] + 1, dtype=np.int64)
    count_runs(lines, pointer)
    starts = np.empty(pointer[-1], dtype=np.int32)
    values = np.empty(pointer[-1], dtype=np.int64)
    find_runs(lines, pointer, starts, values)
    nodes = np.arange(pointer[-1], dtype=np.int32)
    shape = (block.shape[0], block.shape[1], block.shape[2])
    runs = _Runs(shape, pointer, starts, values, nodes.copy())
    _join(runs, nodes, plan, within=True)
    count = number_nodes(nodes, values, plan.with_background)
    return _Runs(runs.shape, pointer, starts, values, nodes, count)


def _join(runs: _Runs, parent: npt.NDArray[np.int32], plan: GraphPlan, *, within: bool) -> None:
    join_runs(
        runs.shape,
        runs.pointer,
        runs.starts,
        runs.values,
        runs.nodes,
        parent,
        plan.level,
        plan.with_background,
        within,
    )


def _survey(
    start: int, block: npt.NDArray[Any], slabs: Slabs, plan: GraphPlan
) -> tuple[_Piece, _Runs, _Runs]:
    """Return the regions of a slab, and the runs of its first and its last plane."""
    runs = _runs(block, plan)
    classes = np.zeros(runs.count, dtype=np.int64)
    sizes = np.zeros(runs.count, dtype=np.int64)
    firsts = np.full(runs.count, _HIGHEST)
    outside = np.zeros(runs.count, dtype=np.bool_)
    planes, last = slabs.block_shape[0], block.shape[0] - 1
    describe_nodes(
        runs.shape,
        runs.pointer,
        runs.starts,
        runs.values,
        runs.nodes,
        slabs.block_strides,
        # In 2D a block has one row a plane: what lies beside that is not the outside.
        (start == 0, start + last + 1 == planes, len(slabs.shape) == 3, True),
        classes,
        sizes,
        firsts,
        outside,
    )
    firsts += start * slabs.block_strides[0]
    piece = _Piece(classes, sizes, firsts, outside, _edges(runs, plan.edge_level, within=True))
    return piece, runs.plane(0), runs.plane(last)


def _edges(runs: _Runs, level: int, *, within: bool) -> Edges:
    if not level:
        empty = np.empty(0, dtype=np.int32)
        return Edges(empty, empty, empty.astype(np.uint8), empty.astype(np.int64))
    keys, levels, faces = find_edges(
        runs.shape, runs.pointer, runs.starts, runs.nodes, level, within
    )
    used = np.flatnonzero(keys >= 0)
    lower, higher = np.divmod(keys[used], 1 << 32)
    return Edges(lower.astype(np.int32), higher.astype(np.int32), levels[used], faces[used])


def _moved(edges: Edges, offset: int) -> Edges:
    move = np.int32(offset)
    return Edges(edges.lower + move, edges.higher + move, edges.levels, edges.faces)


def _extended(parent: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int32]:
    """Return the sets of nodes with room for a number of them, each new one a set of its own."""
    if parent.size >= count:
        return parent
    more = np.arange(max(count, 2 * parent.size), dtype=np.int32)
    more[: parent.size] = parent
    return more


def _merged(pieces: list[_Piece], parent: npt.NDArray[np.int32], edges: list[Edges]) -> RegionGraph:
    """Return the graph in which the joined pieces of different slabs are one region."""
    count = number_nodes(parent, np.ones(parent.size, dtype=np.int64), True)
    classes = np.zeros(count, dtype=np.int64)
    sizes = np.zeros(count, dtype=np.int64)
    firsts = np.full(count, _HIGHEST)
    outside = np.zeros(count, dtype=np.bool_)
    numbers = tuple(np.split(parent, np.cumsum([piece.classes.size for piece in pieces])[:-1]))
    for piece, number in zip(pieces, numbers, strict=True):
        classes[number] = piece.classes
        np.add.at(sizes, number, piece.sizes)
        np.minimum.at(firsts, number, piece.firsts)
        np.logical_or.at(outside, number, piece.outside)
    lower = parent[np.concatenate([e.lower for e in edges])]
    higher = parent[np.concatenate([e.higher for e in edges])]
    different = lower != higher
    merged = Edges(
        lower[different],
        higher[different],
        np.concatenate([e.levels for e in edges])[different],
        np.concatenate([e.faces for e in edges])[different],
    )
    return RegionGraph(classes, sizes, firsts, outside, merged, numbers)
