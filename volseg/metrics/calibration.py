"""Whether probabilities mean what they say: of voxels called 70 % liver, 70 % are liver.

- Reliability: voxels are put into bins of equal width by their probability; in each bin the mean
  probability is compared with the share of voxels that the class holds true of.
- Expected calibration error: the mean over bins of the absolute difference of the two, weighted by
  the voxels of the bin (M. P. Naeini et al., AAAI 2015). Of the label it is the one of C. Guo et
  al., "On calibration of modern neural networks", ICML 2017: the probability of the most likely
  class, and whether that class is right. Of a class it is that class against the rest (class-wise
  error, M. Kull et al., NeurIPS 2019), of the foreground one minus the probability of background.
- Brier score: the mean squared difference of probability and truth (G. W. Brier, Monthly Weather
  Review 78, 1950). Of all classes it is the sum over them, from 0 to 2; of one from 0 to 1.
- Negative log-likelihood: minus the mean logarithm of the probability of the true class, in nats.

All voxels count alike, so that background far from anything lowers each of these; compare numbers
of the same cases only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError, ShapeError

Array = npt.NDArray[Any]
Place = tuple[slice, ...]

# Of a class that was said to be impossible: the logarithm stays finite in float32.
_LEAST = 1e-7
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Reliability:
    """Probabilities of one thing against how often it was true; each attribute has an entry a bin.

    Attributes:
        voxels: In the bin.
        probability: Sum of their probabilities.
        true: How many it was true of.
        squared: Sum of the squared differences of probability and truth, of all bins.
    """

    voxels: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    true: npt.NDArray[np.int64]
    squared: float

    @property
    def expected_error(self) -> float:
        """Expected calibration error; NaN of no voxel."""
        total = self.voxels.sum()
        return float(np.abs(self.probability - self.true).sum() / total) if total else float("nan")

    @property
    def brier(self) -> float:
        """Brier score of this thing against its contrary, from 0 to 1; NaN of no voxel."""
        total = self.voxels.sum()
        return float(self.squared / total) if total else float("nan")

    @property
    def mean_probability(self) -> npt.NDArray[np.float64]:
        """Mean probability in each bin; NaN in an empty one."""
        return _share(self.probability, self.voxels)

    @property
    def share_true(self) -> npt.NDArray[np.float64]:
        """Share of the voxels of each bin that it was true of; NaN in an empty one."""
        return _share(self.true, self.voxels)


@dataclass(frozen=True)
class Calibration:
    """How well probabilities are calibrated.

    Attributes:
        channels: Of each channel against the rest.
        foreground: Of anything but background; None of regions.
        label: Of the most likely class; None of regions.
        brier: Of exclusive classes the sum over them, of regions the mean.
        negative_log_likelihood: In nats a voxel; of regions the mean over them.
        voxels: How many were compared.
    """

    channels: list[Reliability]
    foreground: Reliability | None
    label: Reliability | None
    brier: float
    negative_log_likelihood: float
    voxels: int


class CalibrationTally:
    """Gathers the calibration of probabilities, case after case, in parts of any kind.

    Args:
        channels: What each channel is the probability of: a label, or several of them (a region).
        exclusive: Whether the channels are classes of which each voxel has one, the background
            first (softmax), or regions, each on its own (sigmoid).
        bins: How many; 15 as Guo et al. have it.
        ignore: Voxels whose reference has this value are left out.

    Raises:
        InputError: There are fewer than two classes, no region, or no bin.
    """

    def __init__(
        self,
        channels: Sequence[int | Collection[int]],
        *,
        exclusive: bool = True,
        bins: int = 15,
        ignore: int | None = None,
    ) -> None:
        if len(channels) < 1 + exclusive or bins < 1:
            raise InputError(
                f"calibration needs two classes or one region, and a bin, got {len(channels)} "
                f"channels and {bins} bins."
            )
        self._members = [[one] if isinstance(one, int) else sorted(one) for one in channels]
        self._exclusive = exclusive
        self._bins = bins
        self._ignore = ignore
        # A row for each channel, then the foreground and the label.
        rows = len(channels) + 2
        self._voxels = np.zeros((rows, bins), np.int64)
        self._true = np.zeros((rows, bins), np.int64)
        self._probability = np.zeros((rows, bins))
        self._squared = np.zeros(rows)
        self._log_likelihood = 0.0
        self._compared = 0

    def add(self, probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Take the probabilities of a case as a whole.

        Args:
            probabilities: ``(channels, x, y, z)``, or any other axes after the first.
            labels: Integers of the reference, ``(x, y, z)``.

        Raises:
            ShapeError: The two do not belong together.
            InputError: These are no probabilities.
        """
        values = np.asarray(probabilities)
        self.add_blocks([(tuple(slice(None) for _ in values.shape), values)], labels)

    def add_blocks(self, blocks: Iterable[tuple[Place, Array]], labels: npt.ArrayLike) -> None:
        """Take the probabilities of a case in blocks, of which each voxel and channel is in one.

        Beside a block, the largest probability of each voxel so far is held, and the labels.

        Args:
            blocks: Where a block lies in ``(channels, x, y, z)``, a slice an axis, and its values.
            labels: Integers of the reference, ``(x, y, z)``.

        Raises:
            ShapeError: A block does not fit, or channels are missing or too many.
            InputError: These are no probabilities.
        """
        reference = np.asarray(labels)
        largest = np.full(reference.shape, -1, np.float32) if self._exclusive else None
        right = np.zeros(reference.shape, bool)
        known = (
            np.ones(reference.shape, bool) if self._ignore is None else reference != self._ignore
        )
        seen = 0
        for place, block in blocks:
            first = place[0].start or 0
            inside = place[1:]
            if reference[inside].shape != block.shape[1:] or first + len(block) > len(
                self._members
            ):
                raise ShapeError(
                    f"probabilities of {block.shape[0]} channels from channel {first} on, and of "
                    f"{block.shape[1:]} voxels, do not fit {len(self._members)} channels and a "
                    f"reference of {reference[inside].shape} voxels there."
                )
            _require_probabilities(block)
            for channel, values in enumerate(block, start=first):
                truth = np.isin(reference[inside], self._members[channel])
                counted = known[inside]
                self._add_channel(channel, values[counted], truth[counted])
                if largest is not None:
                    better = values > largest[inside]
                    largest[inside][better] = values[better]
                    right[inside][better] = truth[better]
            seen += block.size
        if seen != reference.size * len(self._members):
            raise ShapeError(
                f"{seen} probabilities were given for {len(self._members)} channels of "
                f"{reference.size} voxels; expected one for each."
            )
        self._compared += int(known.sum())
        if largest is not None:
            self._tally(-1, largest[known], right[known])

    def merge(self, other: CalibrationTally) -> None:
        """Take all that another tally of the same channels and bins has taken.

        Raises:
            ShapeError: It has other channels or bins.
        """
        if self._members != other._members or self._bins != other._bins:
            raise ShapeError("tallies of different channels or bins cannot be merged.")
        self._voxels += other._voxels
        self._true += other._true
        self._probability += other._probability
        self._squared += other._squared
        self._log_likelihood += other._log_likelihood
        self._compared += other._compared

    def result(self) -> Calibration:
        """Return the calibration of what was taken."""
        rows = [
            Reliability(*row)
            for row in zip(self._voxels, self._probability, self._true, self._squared, strict=True)
        ]
        channels = rows[:-2]
        parts = 1 if self._exclusive else len(channels)
        total = self._compared * parts
        squared = sum(float(one.squared) for one in channels)
        return Calibration(
            channels=channels,
            foreground=rows[-2] if self._exclusive else None,
            label=rows[-1] if self._exclusive else None,
            brier=squared / total if total else float("nan"),
            negative_log_likelihood=-self._log_likelihood / total if total else float("nan"),
            voxels=self._compared,
        )

    def _add_channel(self, channel: int, values: Array, truth: Array) -> None:
        self._tally(channel, values, truth)
        self._log_likelihood += _log(values[truth])
        if not self._exclusive:
            self._log_likelihood += _log(1 - values[~truth])
        elif channel == 0:
            self._tally(-2, 1 - values, ~truth)

    def _tally(self, row: int, values: Array, truth: Array) -> None:
        places = np.minimum((values * self._bins).astype(np.int64), self._bins - 1)
        np.maximum(places, 0, out=places)
        count = self._bins
        self._voxels[row] += np.bincount(places, minlength=count)
        self._true[row] += np.bincount(places[truth], minlength=count)
        self._probability[row] += np.bincount(places, weights=values, minlength=count)
        self._squared[row] += float(np.square(values - truth, dtype=np.float64).sum())


def _log(values: Array) -> float:
    return float(np.log(np.clip(values, _LEAST, 1), dtype=np.float64).sum())


def _share(part: Array, whole: Array) -> npt.NDArray[np.float64]:
    found = np.full(len(whole), np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def _require_probabilities(values: Array) -> None:
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN, too
        raise InputError(
            f"probabilities lie between 0 and 1, got {low:.4g} to {high:.4g}: are these "
            "logits or labels?"
        )
