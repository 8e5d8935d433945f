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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from volseg.postprocess.rule import Rule
from volseg.postprocess.separable import Place, Voxels, place_of
from volseg.postprocess.slabs import Slabs, in_threads
from volseg.postprocess.values import count_values

_LOGGER = logging.getLogger(__name__)

_BRICK = 64


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
        place = place_of((n, min(n + _BRICK, end)) for n, end in zip(corner, lengths, strict=True))
        # The slab starts after the planes that lead the block.
        wanted = [
            (cut.start + offset - reach, cut.stop + offset + reach)
            for cut, offset, reach in zip(place, (lead, 0, 0), margin, strict=True)
        ]
        around = place_of(
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
            inner = place_of(
                (reach - before, length - reach + after)
                for reach, (before, after), length in zip(margin, missing, part.shape, strict=True)
            )
            yield Brick(part, inner, missing, present), place
