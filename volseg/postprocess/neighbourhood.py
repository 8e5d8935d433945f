"""Rules that look at the surroundings of a voxel: how the map is walked for them.

The map is cut into bricks. A brick whose surroundings are of one class alone stays as it is, so the
cost follows the surface of the structures, and only the classes met in a brick are computed there.
Bricks see the map before the rule, also where it is changed in place.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numba
import numpy as np
import numpy.typing as npt

from volseg.postprocess.rule import Rule
from volseg.postprocess.runs import compiled
from volseg.postprocess.slabs import Slabs, in_threads
from volseg.postprocess.values import count_values

_LOGGER = logging.getLogger(__name__)

_BRICK = 64

Voxels = npt.NDArray[np.integer[Any]]
Place = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Brick:
    """A part of a label map, `(planes, rows, columns)`, with what surrounds it."""

    around: Voxels
    """The part with a margin on each side, which ends at the edge of the image."""
    inner: Place
    """Where the part lies in `around`."""
    missing: tuple[tuple[int, int], ...]
    """How much of the margin lies outside the image, before and after on each axis."""
    present: tuple[int, ...]
    """The values in `around`, in increasing order."""

    @property
    def values(self) -> Voxels:
        """The part itself."""
        return self.around[self.inner]

    @property
    def exists(self) -> npt.NDArray[np.bool_]:
        """Which voxels lie in the image, with the whole margin."""
        inside: npt.NDArray[np.bool_] = np.pad(np.ones(self.around.shape, np.bool_), self.missing)
        return inside

    def where(self, value: int) -> npt.NDArray[np.bool_]:
        """Return where a value is, with the whole margin; outside the image it is nowhere."""
        found: npt.NDArray[np.bool_] = np.pad(self.around == value, self.missing)
        return found


class NeighbourhoodRule(Rule):
    """A rule that gives a voxel a class by what lies within a distance of it."""

    removes: ClassVar[bool] = False
    """Whether a class can lose voxels, and so vanish."""
    never_empty: bool = False
    """Whether a class that would vanish is left as it is."""

    @abstractmethod
    def margin(self, spacing: Sequence[float]) -> tuple[int, int, int]:
        """Return how many voxels the rule looks in each direction, for planes, rows, columns."""

    @abstractmethod
    def change(
        self, brick: Brick, spacing: Sequence[float], frozen: frozenset[int]
    ) -> Voxels | None:
        """Return the values of a brick after the rule, None where nothing changes.

        Args:
            brick: The part; more than one value is present.
            spacing: Distance of neighbouring planes, rows and columns in mm.
            frozen: Classes that neither lose nor win a voxel.
        """


def apply_neighbourhood_rule(
    rule: NeighbourhoodRule, source: Any, out: Any, slabs: Slabs, spacing: Sequence[float]
) -> None:
    """Write the map after one rule; a class that vanishes is logged as a warning.

    Args:
        rule: The rule.
        source: The map before.
        out: Receives the result; may be `source`.
        slabs: How the map is cut; has no effect on the result.
        spacing: Distance of neighbouring voxels on each axis of the map in mm.
    """
    frozen: frozenset[int] = frozenset()
    # In 2D there is one row: nothing is near enough along that axis.
    in_mm = slabs.to_block(spacing, math.inf)
    vanished: frozenset[int] = frozenset()
    while rule.removes and rule.never_empty:
        # Looked at before anything is written: what a class wins another one may need.
        vanished = _pass(rule, source, None, slabs=slabs, spacing=in_mm, frozen=frozen)
        if not vanished:
            break
        _LOGGER.warning(
            "the rule %s would have removed the whole of class %s, which stays as it is",
            rule.kind,
            ", ".join(map(str, sorted(vanished))),
        )
        frozen |= vanished
    for label in sorted(_pass(rule, source, out, slabs=slabs, spacing=in_mm, frozen=frozen)):
        _LOGGER.warning("the rule %s removed the whole of class %d", rule.kind, label)


def _pass(
    rule: NeighbourhoodRule,
    source: Any,
    out: Any,
    *,
    slabs: Slabs,
    spacing: tuple[float, float, float],
    frozen: frozenset[int],
) -> frozenset[int]:
    """Go over the map once, write it unless `out` is None, and return the classes that vanish."""
    before: Counter[int] = Counter()
    after: Counter[int] = Counter()
    margin = rule.margin(spacing)

    def work(
        task: tuple[Brick, Place],
    ) -> tuple[Brick, Place, Voxels | None]:
        brick, place = task
        return brick, place, rule.change(brick, spacing, frozen)

    for start, stop, lead, block in _windows(source, slabs, margin[0]):
        own = block[lead : lead + stop - start]
        target = None
        if out is not None:
            target = slabs.room(out, start, stop)
            np.copyto(target, own)
        if rule.removes:
            before.update(count_values(own))
            after.update(count_values(own))
        for brick, place, changed in in_threads(_bricks(block, lead, stop - start, margin), work):
            if changed is None:
                continue
            if target is not None:
                target[place] = changed
            if rule.removes:
                different = changed != brick.values
                after.subtract(count_values(brick.values[different]))
                after.update(count_values(changed[different]))
        if target is not None:
            slabs.write(out, start, target)
    return frozenset(label for label in before if label and not after[label])


def _windows(source: Any, slabs: Slabs, margin: int) -> Iterator[tuple[int, int, int, Voxels]]:
    """Yield each slab with the planes around it as they were before anything was written.

    Yields:
        First plane and the plane after the last one of the slab, the number of planes before it
        in the block, and the block.
    """
    length = slabs.block_shape[0]
    before: Voxels | None = None
    for start, stop in slabs:
        ahead = slabs.read(source, start, min(stop + margin, length))
        block = ahead.copy() if before is None else np.concatenate([before, ahead])
        lead = 0 if before is None else before.shape[0]
        yield start, stop, lead, block
        end = lead + stop - start
        before = block[max(0, end - margin) : end].copy()


def _bricks(
    block: Voxels, lead: int, planes: int, margin: tuple[int, int, int]
) -> Iterator[tuple[Brick, Place]]:
    """Yield the bricks with more than one value, and where each lies in the slab."""
    lengths = (planes, *block.shape[1:])
    corners = product(*(range(0, length, _BRICK) for length in lengths))
    for corner in corners:
        place = _slices((n, min(n + _BRICK, end)) for n, end in zip(corner, lengths, strict=True))
        # The slab starts after the planes that lead the block.
        wanted = [
            (cut.start + offset - reach, cut.stop + offset + reach)
            for cut, offset, reach in zip(place, (lead, 0, 0), margin, strict=True)
        ]
        around = _slices(
            (max(0, low), min(high, end))
            for (low, high), end in zip(wanted, block.shape, strict=True)
        )
        part = np.ascontiguousarray(block[around])
        present = tuple(sorted(count_values(part)))
        if len(present) > 1:
            missing = tuple(
                (cut.start - low, high - cut.stop)
                for (low, high), cut in zip(wanted, around, strict=True)
            )
            inner = _slices(
                (reach - before, length - reach + after)
                for reach, (before, after), length in zip(margin, missing, part.shape, strict=True)
            )
            yield Brick(part, inner, missing, present), place


def _slices(bounds: Iterable[tuple[int, int]]) -> Place:
    planes, rows, columns = (slice(start, stop) for start, stop in bounds)
    return planes, rows, columns


@compiled
def spread(
    source: npt.NDArray[np.int32],
    step: int,
    weights: npt.NDArray[np.int32],
    out: npt.NDArray[np.int32],
) -> None:
    """Set each value of `out` to the least of the values along one axis plus their weights.

    Args:
        source: Lines `(lines, values)`; neighbours along the axis are `step` apart.
        step: See above.
        weights: Added to the value at each distance.
        out: `(lines, values - step * (weights - 1))`, high numbers before.
    """
    for line in range(out.shape[0]):
        for begin in range(0, out.shape[1], 4096):  # a stretch stays in the cache
            end = min(begin + 4096, out.shape[1])
            for tap in range(weights.size):
                offset = numba.uint64(tap * step)
                for place in range(numba.uint64(begin), numba.uint64(end)):
                    value = np.int32(source[line, place + offset] + weights[tap])
                    out[line, place] = min(out[line, place], value)


@compiled
def blur(
    source: npt.NDArray[np.int32],
    step: int,
    weights: npt.NDArray[np.int32],
    out: npt.NDArray[np.int32],
) -> None:
    """Add to each value of `out` the values along one axis times their weights.

    Args:
        source: Lines `(lines, values)`; neighbours along the axis are `step` apart.
        step: See above.
        weights: Weight at each distance.
        out: `(lines, values - step * (weights - 1))`, zero before.
    """
    for line in range(out.shape[0]):
        for begin in range(0, out.shape[1], 4096):
            end = min(begin + 4096, out.shape[1])
            for tap in range(weights.size):
                offset = numba.uint64(tap * step)
                for place in range(numba.uint64(begin), numba.uint64(end)):
                    out[line, place] += source[line, place + offset] * weights[tap]


def along_axes(
    kernel: Any, source: npt.NDArray[np.int32], weights: Sequence[Voxels], initial: int
) -> npt.NDArray[np.int32]:
    """Run `spread` or `blur` along planes, rows and columns; each axis loses its margin."""
    for axis, taps in enumerate(weights):
        shape = list(source.shape)
        shape[axis] -= taps.size - 1
        out = np.full(shape, initial, dtype=np.int32)
        lines = math.prod(shape[:axis])
        step = math.prod(shape[axis + 1 :])
        kernel(source.reshape(lines, -1), step, taps, out.reshape(lines, -1))
        source = out
    return source
