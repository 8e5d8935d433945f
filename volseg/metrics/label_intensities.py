"""Intensities under each label of an image that arrives in parts: exact, in little memory.

Percentiles are those of all values, not of a sample. A float32 is ordered as an integer of 32 bits;
values are counted by its upper digit and then, where a percentile lies, by its middle and its lower
digit. So an image is gone over three times, and twice where no value needs its lower digit: whole
numbers of up to 14 bits, as scanners write them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.metrics.compiled_labels import DIGITS, add_intensities, count_lower, count_middle
from volseg.metrics.labelled_part import MOST_LABELS, LabelledPart

PERCENTS = (1, 5, 25, 50, 75, 95, 99)
"""The percentiles that are taken."""
# Labels at a time, over all channels: each takes up to half a megabyte on the way.
_MOST_ROWS = 128
_BINS = tuple(1 << bits for bits in DIGITS)
_SIGN_BIT = 1 << 31

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class IntensityStatistics:
    """Intensities of some voxels in one channel; those that are not finite are left out.

    Attributes:
        voxels: How many are finite.
        mean: Of them, in the unit of the image, as are
        standard_deviation: of them as a whole population,
        minimum: the lowest,
        maximum: the highest, and
        percentiles: by percent, those of `PERCENTS`, between two values as `numpy.percentile`.
    """

    voxels: int
    mean: float
    standard_deviation: float
    minimum: float
    maximum: float
    percentiles: dict[int, float]


# One entry a channel; None where no value is finite.
InChannels = tuple[IntensityStatistics | None, ...]
# Takes in labels and values of some voxels of a channel, in one pass.
_Count = Callable[[npt.NDArray[Any], npt.NDArray[np.float32]], None]


def label_intensities(
    walk: Callable[[], Iterable[LabelledPart]], labels: Sequence[int], channels: int
) -> dict[int, InChannels]:
    """Return the intensities under each label, and under 0 those of the whole image.

    Args:
        walk: Begins to go over the image and its labels.
        labels: Those that are wanted, above 0.
        channels: Of the image.
    """
    found: dict[int, InChannels] = {}
    at_once = max(1, _MOST_ROWS // channels - 1)
    for first in range(0, max(1, len(labels)), at_once):
        some = [0, *labels[first : first + at_once]]
        columns = _in_passes(walk, [_search(some) for _ in range(channels)])
        found |= dict(zip(some, zip(*columns, strict=True), strict=True))
    return found


# Yields what counts, one a pass, and returns an entry for each label.
_Search = Generator[_Count, None, list[IntensityStatistics | None]]


def _in_passes(
    walk: Callable[[], Iterable[LabelledPart]], searches: Sequence[_Search]
) -> list[list[IntensityStatistics | None]]:
    """Return what the searches of all channels find, in shared passes."""
    results: dict[int, list[IntensityStatistics | None]] = {}
    counting = {channel: next(search) for channel, search in enumerate(searches)}
    while counting:
        for part in walk():
            for channel, values in enumerate(part.image, part.first_channel):
                if channel in counting:
                    counting[channel](*_in_one_order(part, values))
        for channel in list(counting):
            try:
                counting[channel] = next(searches[channel])
            except StopIteration as end:
                results[channel] = end.value
                del counting[channel]
    return [results[channel] for channel in range(len(searches))]


def _search(labels: Sequence[int]) -> _Search:
    """Search the statistics of labels, of which the first, 0, stands for all voxels."""
    rows = np.zeros(MOST_LABELS + 1, np.int32)
    rows[labels] = np.arange(len(labels))
    counts = np.zeros(len(labels), np.int64)
    moments = np.zeros((len(labels), 3))
    extremes = np.zeros((len(labels), 2))
    upper = np.zeros((len(labels), _BINS[0]), np.int64)
    needs_lower = False

    def count_upper(labels: npt.NDArray[Any], values: npt.NDArray[np.float32]) -> None:
        nonlocal needs_lower
        needs_lower |= add_intensities(counts, moments, extremes, upper, labels, values, rows)

    yield count_upper
    wanted, ranks, fractions = _ranks(counts)
    upper_digits, rests = _descend(upper, wanted, ranks)
    slots, places = _numbered(upper.shape, wanted, upper_digits)
    middle = np.zeros((int(places.max(initial=-1)) + 1, _BINS[1]), np.int64)
    if counts.any():
        yield lambda labels, values: count_middle(middle, labels, values, rows, slots)
    middle_digits, rests = _descend(middle, places, rests)
    # Without a lower digit: the bits of negative numbers are turned over to order them.
    lower_digits = np.where(upper_digits < _BINS[0] // 2, _BINS[2] - 1, 0)
    if needs_lower:
        finer, places = _numbered(middle.shape, places, middle_digits)
        lower = np.zeros((int(places.max()) + 1, _BINS[2]), np.int64)
        yield lambda labels, values: count_lower(lower, labels, values, rows, slots, finer)
        lower_digits, _ = _descend(lower, places, rests)
    keys = ((upper_digits << DIGITS[1] | middle_digits) << DIGITS[2]) | lower_digits
    below, above = _floats(keys).reshape(2, -1)
    percentiles = iter((below + (above - below) * fractions).tolist())
    return [
        _statistics(int(count), moment, extreme, percentiles)
        for count, moment, extreme in zip(counts, moments, extremes, strict=True)
    ]


def _ranks(counts: Integers) -> tuple[Integers, Integers, npt.NDArray[np.float64]]:
    """Return which values percentiles lie between: rows and ranks (2 x), and how far from each."""
    there = np.flatnonzero(counts)
    positions = np.outer(counts[there] - 1, np.array(PERCENTS) / 100).ravel()
    below = np.floor(positions).astype(np.int64)
    wanted = np.repeat(there, len(PERCENTS))
    above = np.minimum(below + 1, counts[wanted] - 1)
    return np.tile(wanted, 2), np.concatenate([below, above]), positions - below


def _descend(totals: Integers, places: Integers, ranks: Integers) -> tuple[Integers, Integers]:
    """Return the digit of the value of each rank in its row of totals, and its rank among these."""
    ends = np.cumsum(totals, axis=1)
    pairs = zip(places, ranks, strict=True)
    digits = np.array([np.searchsorted(ends[p], r, side="right") for p, r in pairs], np.int64)
    return digits, ranks - (ends[places, digits] - totals[places, digits])


def _numbered(
    shape: tuple[int, ...], places: Integers, digits: Integers
) -> tuple[npt.NDArray[np.int32], Integers]:
    """Number the digits that are sought: a table of their numbers, else -1; and each one's own."""
    table = np.full(shape, -1, np.int32)
    different, numbers = np.unique(places * shape[1] + digits, return_inverse=True)
    table.flat[different] = np.arange(different.size)
    return table, numbers.astype(np.int64)


def _floats(keys: Integers) -> npt.NDArray[np.float64]:
    """Return the float32 values of keys: see `volseg.compiled.ordered_bits`."""
    bits = np.where(keys >= _SIGN_BIT, keys - _SIGN_BIT, (2 * _SIGN_BIT - 1) - keys)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def _statistics(
    count: int,
    moments: npt.NDArray[np.float64],
    extremes: npt.NDArray[np.float64],
    percentiles: Iterator[float],
) -> IntensityStatistics | None:
    if count == 0:
        return None
    first, total, squares = moments.tolist()
    mean = total / count
    minimum, maximum = extremes.tolist()
    return IntensityStatistics(
        voxels=count,
        mean=first + mean,
        standard_deviation=math.sqrt(max(0.0, squares / count - mean * mean)),
        minimum=minimum,
        maximum=maximum,
        percentiles={percent: next(percentiles) for percent in PERCENTS},
    )


def _in_one_order(
    part: LabelledPart, values: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """Return labels and values in one axis: plane after plane, each as it lies in memory."""
    others = [axis for axis in range(values.ndim) if axis != part.axis]
    axes = [part.axis, *sorted(others, key=lambda axis: -values.strides[axis])]
    labels, line = (
        np.ascontiguousarray(one.transpose(axes)).reshape(-1) for one in (part.labels, values)
    )
    return labels, line
