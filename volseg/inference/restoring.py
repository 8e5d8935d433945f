"""From slabs of logits on the network's grid to labels on the source grid, slab by slab.

Probabilities, not logits, are interpolated (softmax, or sigmoid of regions; linear along each
axis), and the label is decided at each source voxel. At no time is there an array of classes x
source volume: some planes of probabilities are held, class last, and the planes of the source
between them are labelled from these. Where all voxels of the source are voxels of the network's
grid, labels are those of the logits as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from volseg.errors import InputError, ShapeError
from volseg.geometry import AxisSampling, Grid, relate_grids
from volseg.inference.compiled_logits import (
    MOST_WINNERS,
    Floats,
    probability_rows,
    winner_rows,
)
from volseg.inference.compiled_restoring import (
    Axis,
    entropy_rows,
    interpolated_rows,
    label_rows,
    tempered_rows,
)
from volseg.inference.decision import MOST_PROBABLE, Decision
from volseg.inference.streaming import Slab

# Of probabilities held at once, and of results on the way to a target; enough for all threads.
BLOCK_BYTES = 1 << 26
_TASKS_PER_THREAD = 4
# The row axis of a 2D grid: one plane, read as it is.
_ONE_PLANE = (np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.float32))


class Target(Protocol):
    """Where results are written: a numpy array, a memory map, a Zarr array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole."""

    @property
    def dtype(self) -> Any:
        """The type of its elements."""

    def __setitem__(self, place: Any, values: Any, /) -> None:
        """Write a block; ``place`` is a tuple of slices."""


@dataclass(frozen=True)
class Targets:
    """What is wanted on the source grid; each is written block by block, every voxel once.

    Attributes:
        labels: ``source shape``, uint8 or uint16.
        probabilities: ``(classes, *source shape)``, floating point, at the temperature.
        entropy: ``source shape``, floating point: entropy of the probabilities in [0, 1].
        disagreement: ``source shape``, floating point: disagreement of the passes in [0, 1].
    """

    labels: Target | None = None
    probabilities: Target | None = None
    entropy: Target | None = None
    disagreement: Target | None = None


def restore_slabs(
    slabs: Iterable[Slab],
    targets: Targets,
    *,
    network_grid: Grid,
    source_grid: Grid,
    decision: Decision = MOST_PROBABLE,
    threads: int | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Bring slabs of logits onto the source grid and write what is wanted there.

    Source voxels beyond the outermost voxels of the network's grid get what these have. To leave
    a part of the source alone, give the grid and the views of the targets of the other part.

    Args:
        slabs: In order along one axis, together the network's grid (`stream_logits`).
        targets: What to write; of a run that is stopped, some blocks are written.
        network_grid: Grid of the logits.
        source_grid: Grid of the targets; its axes are parallel to the other's, in any order.
        decision: How labels are decided and what probabilities are said.
        threads: Threads to compute in; as many as torch uses if not given. The result does not
            depend on it, nor on how the volume is cut into slabs and along which axis.
        block_bytes: Of probabilities held at once, and of results on the way to a target; at least
            a plane of them.

    Raises:
        GeometryError: The two grids are not related axis by axis.
        ShapeError: Slabs or targets do not have the shape of their grids.
        InputError: Labels do not fit into the target, or disagreement was not streamed.
    """
    _require_targets(targets, source_grid)
    relation = relate_grids(network_grid, source_grid)
    count = threads or torch.get_num_threads()
    with ThreadPoolExecutor(count) as pool:
        restoring: _Restoring | None = None
        expected = 0
        for slab in slabs:
            _require_slab(slab, expected, network_grid)
            if restoring is None:
                rows = _Rows(pool, _TASKS_PER_THREAD * count)
                restoring = _Restoring(
                    slab, targets, relation, decision, rows=rows, block_bytes=block_bytes
                )
            restoring.add(slab)
            expected = slab.stop
    if restoring is None or expected != network_grid.shape[restoring.axis]:
        raise ShapeError(
            f"the slabs end before their grid does, at plane {expected}: expected all of "
            f"{network_grid.describe()}."
        )


class _Rows:
    """Runs kernels over ranges of rows, in threads."""

    def __init__(self, pool: ThreadPoolExecutor, tasks: int) -> None:
        self._pool = pool
        self._tasks = tasks

    def run(self, count: int, kernel: Callable[[int, int], None]) -> None:
        """Call ``kernel(first, last)`` on ranges that together cover ``count`` rows."""
        size = max(1, -(-count // self._tasks))
        starts = range(0, count, size)
        for _ in self._pool.map(kernel, starts, [min(count, start + size) for start in starts]):
            pass  # an exception of the kernel is raised here


class _Restoring:
    """The planes between two slabs, and the way of new ones to the targets.

    All arrays have the streaming axis first, then the other axes of the network's grid; in 2D a
    plane is one row.
    """

    def __init__(
        self,
        slab: Slab,
        targets: Targets,
        relation: Sequence[AxisSampling],
        decision: Decision,
        *,
        rows: _Rows,
        block_bytes: int,
    ) -> None:
        self.axis = slab.axis
        self._targets = targets
        self._rows = rows
        self._block_bytes = block_bytes
        self._decision = decision
        self._regions = decision.regions is not None
        order = [relation[slab.axis], *(r for a, r in enumerate(relation) if a != slab.axis)]
        self._target_axes = [sampling.target_axis for sampling in order]
        self._tables: list[Axis] = [(axis.lower, axis.upper, axis.weight) for axis in order]
        self._turn = slab.axis
        if len(order) == 2:
            self._tables.insert(1, _ONE_PLANE)
            self._turn *= 2  # behind the row that is read as it is and the voxels

        self._classes, _, *sides = _planes_first(slab.logits, slab.axis).shape
        self._values = _label_values(self._classes, decision, targets.labels)
        self._interpolates = targets.probabilities is not None or targets.entropy is not None
        labels = targets.labels is not None
        decides = labels and not all(sampling.copies for sampling in order)
        plane_bytes = 4 * self._classes * math.prod(sides)
        self._depth = min(max(1, block_bytes // plane_bytes), int(order[0].upper.max()) + 1)
        # The last of the planes before comes first, the new ones follow.
        planes = (self._depth + 1, *sides)
        channels = self._classes if self._interpolates or decides else 0
        self._probabilities = np.empty((*planes, channels), np.float32)
        self._winners = np.empty((*planes, int(labels)), np.uint16)
        self._disagreement = np.empty((*planes, int(targets.disagreement is not None)), np.float32)

    def add(self, slab: Slab) -> None:
        """Take a slab and write all that lies between its planes and the last one before."""
        logits = _planes_first(slab.logits, slab.axis)
        for start in range(slab.start, slab.stop, self._depth):
            count = min(self._depth, slab.stop - start)
            self._hold(logits.narrow(1, start - slab.start, count))
            if self._disagreement.size:
                self._hold_disagreement(slab, start, count)
            for first, last in self._ready(start, start + count):
                self._write(first, last, start - 1)
            for held in (self._probabilities, self._winners, self._disagreement):
                held[0] = held[count]

    def _hold(self, logits: Tensor) -> None:
        """Keep the winners and probabilities of planes ``(classes, planes, rows, voxels)``."""
        part = logits.to("cpu", torch.float32)
        part = part if part.stride(-1) == 1 else part.contiguous()
        classes, count, height, width = part.shape
        reach = 1 + sum((n - 1) * s for n, s in zip(part.shape, part.stride(), strict=True))
        flat = part.as_strided((reach,), (1,)).numpy()
        layout = (part.stride()[:3], height, width, classes, self._regions)
        if self._winners.size:
            winners = self._winners[1 : count + 1].reshape(-1)
            lead = np.float32(math.log(self._decision.odds))
            self._rows.run(count * height, partial(winner_rows, winners, flat, *layout, lead))
        if self._probabilities.size:
            probabilities = self._probabilities[1 : count + 1].reshape(-1)
            self._rows.run(count * height, partial(probability_rows, probabilities, flat, *layout))

    def _hold_disagreement(self, slab: Slab, start: int, count: int) -> None:
        if slab.disagreement is None:
            raise InputError(
                "a target of the disagreement needs slabs that have it: stream with disagreement."
            )
        values = _planes_first(slab.disagreement.unsqueeze(0), slab.axis)[0]
        part = values.narrow(0, start - slab.start, count)
        self._disagreement[1 : count + 1, ..., 0] = part.cpu().numpy()

    def _ready(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield blocks of the target planes whose upper plane is one of ``start`` to ``stop``."""
        upper = self._tables[0][1]
        found = np.flatnonzero((upper >= start) & (upper < stop))
        channels = self._classes if self._interpolates else 1
        plane = 4 * channels * math.prod(len(table[0]) for table in self._tables[1:])
        size = max(1, self._block_bytes // plane)
        for block in range(0, len(found), size):
            yield int(found[block]), int(found[min(block + size, len(found)) - 1]) + 1

    def _write(self, first: int, last: int, held_from: int) -> None:
        """Write target planes from what is held; plane ``held_from`` is the first of that."""
        lower, upper, weight = self._tables[0]
        planes = (lower[first:last] - held_from, upper[first:last] - held_from, weight[first:last])
        axes = (planes, *self._tables[1:])
        _, height, width, _ = self._winners.shape
        shape = tuple(len(axis[0]) for axis in axes)
        rows = shape[0] * shape[1]
        if self._targets.labels is not None:
            labels = np.empty(math.prod(shape), self._targets.labels.dtype)
            held = self._probabilities.reshape(-1), self._winners.reshape(-1)
            least = self._decision.threshold if self._regions else self._decision.odds
            layout = (height, width, self._classes, self._regions, np.float32(least), *axes)
            layout = (*layout, self._turn, self._values)
            self._rows.run(rows, partial(label_rows, labels, *held, *layout))
            self._store(self._targets.labels, first, last, labels.reshape(shape))
        if self._interpolates:
            values = self._interpolated(self._probabilities, axes)
            if self._decision.temperature != 1:
                sharpness = 1 / self._decision.temperature
                layout = (shape[2], self._classes, self._regions, sharpness)
                self._rows.run(rows, partial(tempered_rows, values, *layout))
            if self._targets.probabilities is not None:
                blocks = values.reshape(self._classes, *shape)
                self._store(self._targets.probabilities, first, last, blocks)
            if self._targets.entropy is not None:
                found = np.empty(math.prod(shape), np.float32)
                layout = (shape[2], self._classes, self._regions)
                self._rows.run(rows, partial(entropy_rows, found, values, *layout))
                self._store(self._targets.entropy, first, last, found.reshape(shape))
        if self._targets.disagreement is not None:
            values = self._interpolated(self._disagreement, axes)
            self._store(self._targets.disagreement, first, last, values.reshape(shape))

    def _interpolated(self, held: Floats, axes: Sequence[Axis]) -> Floats:
        """Return what is held at the target voxels: flat, channel first."""
        _, height, width, channels = held.shape
        shape = [len(axis[0]) for axis in axes]
        found = np.empty(channels * math.prod(shape), np.float32)
        layout = (held.reshape(-1), height, width, channels, *axes, self._turn)
        self._rows.run(shape[0] * shape[1], partial(interpolated_rows, found, *layout))
        return found

    def _store(self, target: Target, first: int, last: int, block: npt.NDArray[Any]) -> None:
        """Write a block ``([classes,] planes, rows, voxels)`` in the axis order of the target."""
        dims = len(self._target_axes)
        leading = block.ndim - 3
        if dims == 2:
            block = block.squeeze(leading + 1)
        order = [leading + self._target_axes.index(axis) for axis in range(dims)]
        place = [slice(None)] * block.ndim
        place[leading + self._target_axes[0]] = slice(first, last)
        target[tuple(place)] = block.transpose(*range(leading), *order)


def _planes_first(values: Tensor, axis: int) -> Tensor:
    """Return ``(channels, ...)`` as (channels, planes of an axis, rows, voxels); 2D has one row."""
    moved = values.movedim(axis + 1, 1)
    return moved.unsqueeze(2) if moved.ndim == 3 else moved


def _label_values(
    classes: int, decision: Decision, target: Target | None
) -> npt.NDArray[np.uint16]:
    """Return the label of each winner."""
    decision.require_channels(classes)
    labels = list(range(classes)) if decision.regions is None else [0, *decision.regions]
    most = MOST_WINNERS if target is None else int(np.iinfo(target.dtype).max)
    if min(labels) < 0 or max(labels) > most or classes >= MOST_WINNERS:
        raise InputError(
            f"labels must be from 0 to {most} to fit into their target, got {min(labels)} to "
            f"{max(labels)}: use a target of type uint16."
        )
    return np.array(labels, np.uint16)


def _require_targets(targets: Targets, grid: Grid) -> None:
    kinds: dict[str, tuple[Target | None, str]] = {
        "labels": (targets.labels, "uint8 or uint16"),
        "probabilities": (targets.probabilities, "a floating point type"),
        "entropy": (targets.entropy, "a floating point type"),
        "disagreement": (targets.disagreement, "a floating point type"),
    }
    for name, (target, kind) in kinds.items():
        if target is None:
            continue
        shape = tuple(target.shape)
        if (shape[1:] if name == "probabilities" else shape) != grid.shape:
            raise ShapeError(
                f"the target of the {name} must have the shape of the source grid "
                f"({grid.describe()}), got {shape}."
            )
        dtype = np.dtype(target.dtype)
        fits = dtype in (np.uint8, np.uint16) if name == "labels" else dtype.kind == "f"
        if not fits:
            raise InputError(f"the target of the {name} must be {kind}, got {dtype}.")


def _require_slab(slab: Slab, expected: int, grid: Grid) -> None:
    sides = list(grid.shape)
    sides[slab.axis] = slab.stop - slab.start
    if list(slab.logits.shape[1:]) != sides or slab.start != expected or slab.stop <= slab.start:
        raise ShapeError(
            f"a slab of planes {slab.start} to {slab.stop} of axis {slab.axis} with logits of "
            f"{tuple(slab.logits.shape)} does not continue planes up to {expected} of "
            f"{grid.describe()}."
        )
