"""Everything that is measured of a case to judge it, read in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from volseg.geometry import Grid
from volseg.io import StoredVolume, label_blocks, labelled_blocks
from volseg.metrics import LabelledPart, LabelStatistics, VolumeStatistics, volume_statistics
from volseg.postprocess import count_components

BLOCK_VOXELS = 1 << 21


@dataclass(frozen=True)
class CaseMeasurements:
    """What is measured of an image and its label map.

    Attributes:
        grid: Of both.
        modality: Of a DICOM image, as it says; None for others.
        statistics: Of the image and of each label.
        components: How many connected ones each label has, by its value.
        maps: Statistics of each label in maps of the uncertainty, such as ``entropy``.
    """

    grid: Grid
    modality: str | None
    statistics: VolumeStatistics
    components: Mapping[int, int]
    maps: Mapping[str, tuple[LabelStatistics, ...]] = field(default_factory=dict)


def measure_case(
    image: StoredVolume,
    labels: StoredVolume,
    *,
    names: Mapping[int, str] | None = None,
    maps: Mapping[str, StoredVolume] | None = None,
    block_voxels: int = BLOCK_VOXELS,
) -> CaseMeasurements:
    """Return what is measured of an image and its label map, neither held as a whole.

    The label map is read four or five times, and the image two or three times.

    Args:
        image: Of any channels.
        labels: On the same grid.
        names: Names by value; a named label that is not in the map gets a row with 0 voxels.
        maps: Of the uncertainty, on the same grid, by what they show.
        block_voxels: Voxels taken at a time; they have no effect on the result.

    Raises:
        GeometryError: The volumes lie on different grids.
        InputError: A file is damaged, or a value of the label map is no label.
    """

    def statistics(values: StoredVolume) -> VolumeStatistics:
        def image_walk() -> Iterator[LabelledPart]:
            for block, part in labelled_blocks(values, labels, block_voxels):
                channels = [*block.values]
                yield LabelledPart(block.axis, block.start, part, channels, block.channel.start)

        return volume_statistics(
            label_walk, image_walk, values.grid, channels=values.channels, names=names
        )

    def label_walk() -> Iterator[LabelledPart]:
        for block in label_blocks(labels, block_voxels):
            yield LabelledPart(block.axis, block.start, block.values[0])

    def planes() -> Iterator[npt.NDArray[Any]]:
        for part in label_walk():
            order = [part.axis, *(n for n in range(part.labels.ndim) if n != part.axis)]
            yield part.labels.transpose(order)

    modality = image.meta.get("modality")
    return CaseMeasurements(
        grid=image.grid,
        modality=None if modality is None else str(modality),
        statistics=statistics(image),
        components=count_components(planes(), [len(part) for part in planes()]),
        maps={name: statistics(values).labels for name, values in (maps or {}).items()},
    )
