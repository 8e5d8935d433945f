"""The numbers a case is judged by: each has a kind, and what usual is can be learned of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from volseg.metrics import IntensityStatistics, LabelStatistics
from volseg.quality.border import border_sides
from volseg.quality.measuring import CaseMeasurements

Sides = Literal["both", "low", "high"]


@dataclass(frozen=True)
class Kind:
    """A kind of measure.

    Attributes:
        noun: What it is called in a sentence, with places for the label, the axis and the channel.
        unit: Its unit in a sentence.
        sides: On which sides of what is usual it is reported.
        logarithmic: Whether ratios count, and not differences.
        margin: Difference (or logarithm of the ratio) from what was seen that is usual at least.
        alarms: Whether it is an alarm, and no warning, when it is far from what is usual.
    """

    noun: str
    unit: str = ""
    sides: Sides = "both"
    logarithmic: bool = False
    margin: float = 0.0
    alarms: bool = False


KINDS = {
    "spacing": Kind("the spacing from {axis}", " mm", logarithmic=True, margin=0.02, alarms=True),
    "extent": Kind(
        "the length of the image from {axis}", " mm", "low", logarithmic=True, margin=0.05
    ),
    "lowest intensity": Kind("the 1st percentile of {channel}", margin=1e-3),
    "middle intensity": Kind("the median of {channel}", margin=1e-3),
    "highest intensity": Kind("the 99th percentile of {channel}", margin=1e-3),
    "offset": Kind("the 1st percentile of {channel}, in parts of its range,", margin=0.02),
    "balance": Kind("the median of {channel}, in parts of its range,", margin=0.02, alarms=True),
    "contrast": Kind(
        "the contrast of {label} to {channel}, in parts of its range,", margin=0.05, alarms=True
    ),
    "presence": Kind("the presence of {label}", sides="low"),
    "volume": Kind("the volume of {label}", " mL", logarithmic=True, margin=0.1, alarms=True),
    "area": Kind("the area of {label}", " pixels", logarithmic=True, margin=0.1, alarms=True),
    "raggedness": Kind(
        "the surface of {label} for its volume", sides="high", logarithmic=True, margin=0.1
    ),
    "place": Kind(
        "the place of {label} from {axis} within the whole", " mm", margin=2, alarms=True
    ),
    "components": Kind("the number of parts of {label}", sides="high", margin=1),
    "border": Kind("the number of sides of the image that {label} reaches", sides="high"),
    "entropy": Kind("the entropy of {label}", sides="high", margin=0.01, alarms=True),
    "disagreement": Kind("the disagreement on {label}", sides="high", margin=0.01, alarms=True),
}
"""By name. Entropy and disagreement are the means over the voxels of the label."""

_AXES = ("left to right", "posterior to anterior", "inferior to superior")


@dataclass(frozen=True, order=True)
class Measure:
    """One number that a case is judged by.

    Attributes:
        kind: Name of its kind.
        label: Name of the structure, if it is of one.
        axis: World axis, from 0 for left to right, if it is along one.
        channel: Of the image, if it is of one.
    """

    kind: str
    label: str = ""
    axis: int = -1
    channel: int = -1

    def describe(self, channels: int) -> str:
        """Return what it is, for a sentence about an image of so many channels."""
        channel = "the image" if channels == 1 else f"channel {self.channel} of the image"
        axis = _AXES[self.axis]
        return KINDS[self.kind].noun.format(label=self.label, axis=axis, channel=channel)


def measures(case: CaseMeasurements) -> dict[Measure, float]:
    """Return the numbers that a case is judged by; those that do not exist for it are left out."""
    found = dict(_of_grid(case))
    for channel, image in enumerate(case.statistics.image):
        if image is not None:
            found |= _of_channel(image, channel)
    rows = case.statistics.labels
    middle = _middle(rows)
    for row in rows:
        found[Measure("presence", row.name)] = float(row.voxels > 0)
        if row.voxels:
            found |= _of_label(row, case, middle)
    for kind, of_labels in case.maps.items():
        for row in of_labels:
            inside = row.intensities[0]
            if inside is not None:
                found[Measure(kind, row.name)] = inside.mean
    return found


def _of_grid(case: CaseMeasurements) -> Iterator[tuple[Measure, float]]:
    if len(case.grid.shape) == 2:  # a picture does not say where its pixels lie
        return
    places = enumerate(case.grid.affine.nearest_world_axes)
    for axis, world in places:
        yield Measure("spacing", axis=world), case.grid.spacing[axis]
        yield Measure("extent", axis=world), case.grid.extent[axis]


def _of_channel(image: IntensityStatistics, channel: int) -> dict[Measure, float]:
    low, middle, high = (image.percentiles[percent] for percent in (1, 50, 99))
    values = {"lowest intensity": low, "middle intensity": middle, "highest intensity": high}
    if high > low:  # what does not change when intensities are multiplied
        values["offset"] = low / (high - low)
        values["balance"] = (middle - low) / (high - low)
    return {Measure(kind, channel=channel): value for kind, value in values.items()}


def _of_label(
    row: LabelStatistics, case: CaseMeasurements, middle: list[float] | None
) -> dict[Measure, float]:
    values: dict[str, float] = {
        "components": case.components[row.label],
        "border": len(border_sides(row, case.grid)),
    }
    if row.volume_ml is not None and row.surface_mm2 is not None:
        values["volume"] = row.volume_ml
        values["raggedness"] = row.surface_mm2 / (1000 * row.volume_ml) ** (2 / 3)
    else:
        values["area"] = row.voxels
    found = {Measure(kind, row.name): float(value) for kind, value in values.items()}
    if row.volume_ml is not None and row.centroid_mm is not None and middle is not None:
        for axis, centre in enumerate(row.centroid_mm):
            found[Measure("place", row.name, axis)] = centre - middle[axis]
    for channel, (inside, image) in enumerate(
        zip(row.intensities, case.statistics.image, strict=True)
    ):
        if inside is not None and image is not None:
            low, high = image.percentiles[1], image.percentiles[99]
            if high > low:
                difference = inside.percentiles[50] - image.percentiles[50]
                found[Measure("contrast", row.name, channel=channel)] = difference / (high - low)
    return found


def _middle(rows: Sequence[LabelStatistics]) -> list[float] | None:
    """Return the mean of the centres of all labels, whatever their sizes; None if one is alone."""
    centres = [row.centroid_mm for row in rows if row.centroid_mm is not None]
    if len(centres) < max(2, len(rows)):
        return None
    middle: list[float] = np.mean(centres, axis=0).tolist()
    return middle
