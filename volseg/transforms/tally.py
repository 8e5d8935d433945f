"""Integers counted over a volume that arrives in parts: the same, bit for bit, in whatever parts.

What is fitted on an image goes over it a few times, and each pass asks for what the one before
found. So a fit is a generator: it yields the tally that it needs filled and goes on when the pass
is over. The fits of all channels share their passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from volseg.compiled import Loop

T = TypeVar("T")

# Begins to go over an image: tensors (channels, ...) of any shape, which together are all of it.
Parts = Callable[[], Iterable[Tensor]]

# A thread takes as long to start as this many voxels to count.
_THREAD_VOXELS = 2**18
# More add nothing but memory: each has totals of its own.
_MOST_THREADS = 8


@dataclass(frozen=True)
class Inside:
    """Which values of a channel count; all of them by default.

    Attributes:
        above: Only larger ones than this float32, unless it is NaN.
        without: None that is equal to it.
        mask: Only those at its voxels, for an image in one part.
    """

    above: float = math.nan
    without: float = math.nan
    mask: Tensor | None = None

    def voxels(self, image: Tensor) -> Tensor:
        """Return where the values of a channel count."""
        if self.mask is not None:
            return self.mask
        return ~((image <= self.above) | (image == self.without))


class Tally:
    """Totals that a compiled loop adds up over values.

    Args:
        loop: Called with totals, values ``(count,)``, `Inside.above`, `Inside.without`, and more.
        shape: Of the totals.
        inside: Which values count.
        more: What else the loop is given.
    """

    def __init__(
        self, loop: Loop, shape: tuple[int, ...], inside: Inside, *more: npt.NDArray[Any]
    ) -> None:
        self.totals = np.zeros(shape, np.int64)
        self._loop = loop
        self._inside = inside
        self._more = more

    def add(self, values: Tensor) -> None:
        """Take in values of one channel, of any shape, float32."""
        if self._inside.mask is not None:
            values = values[self._inside.mask.to(values.device)]
        line = _line_of(values)
        threads = min(torch.get_num_threads(), _MOST_THREADS, -(-line.size // _THREAD_VOXELS))
        if threads < 2:
            self._count(line, self.totals)
            return
        totals = [self.totals, *(np.zeros_like(self.totals) for _ in range(threads - 1))]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self._count, np.array_split(line, threads), totals))
        for others in totals[1:]:
            self.totals += others

    def _count(self, values: npt.NDArray[np.float32], totals: npt.NDArray[np.int64]) -> None:
        inside = self._inside
        above, without = np.float32(inside.above), np.float32(inside.without)
        self._loop(totals, values, above, without, *self._more)


def in_one_part(image: Tensor) -> Parts:
    """Return an image ``(channels, ...)`` as one part, where values are counted: on the CPU."""

    @cache  # moved once, and only if a fit needs a pass
    def parts() -> tuple[Tensor]:
        return (image.cpu(),)

    return parts


# Yields the tallies that it needs, one a pass, and returns what was fitted.
Fit = Generator[Tally, None, T]


def in_passes(starts: Sequence[Callable[[], Fit[T]]], parts: Parts) -> list[T]:
    """Return what was fitted on each channel, all of them in the same passes.

    Args:
        starts: What begins the fit of each channel, or one for all of them.
        parts: The image; not touched where no fit needs a pass.
    """
    runs = [_Run(start()) for start in starts]
    while any(run.tally is not None for run in runs):
        for part in parts():
            if len(runs) == 1:  # only now is it known how many channels there are
                runs += [_Run(starts[0]()) for _ in part[1:]]
            for run, channel in zip(runs, part, strict=True):
                if run.tally is not None:
                    run.tally.add(channel)
        for run in runs:
            run.go_on()
    return [run.result for run in runs]


class _Run(Generic[T]):
    """A fit on its way: the tally of the pass to come, or else the result."""

    tally: Tally | None
    result: T

    def __init__(self, fit: Fit[T]) -> None:
        self._fit = fit
        self._step()

    def go_on(self) -> None:
        if self.tally is not None:
            self._step()

    def _step(self) -> None:
        try:
            self.tally = next(self._fit)
        except StopIteration as end:
            self.tally, self.result = None, end.value


def _line_of(values: Tensor) -> npt.NDArray[np.float32]:
    """Return values in one axis, in the order of memory, which spares a copy."""
    axes = sorted(range(values.ndim), key=values.stride, reverse=True)
    line: npt.NDArray[np.float32] = (
        values.detach().to("cpu", torch.float32).permute(axes).reshape(-1).numpy()
    )
    return line
