"""Statistics of an image and its label map, read in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from volseg.io import StoredVolume, label_blocks, labelled_blocks
from volseg.metrics import LabelledPart, VolumeStatistics, volume_statistics

BLOCK_VOXELS = 1 << 21


def measure_volume(
    image: StoredVolume,
    labels: StoredVolume,
    *,
    names: Mapping[int, str] | None = None,
    block_voxels: int = BLOCK_VOXELS,
) -> VolumeStatistics:
    """Return the statistics of an image under its label map, neither held as a whole.

    The label map is read three or four times, and the image two or three times.

    Args:
        image: Of any channels.
        labels: On the same grid.
        names: Names by value; a named label that is not in the map gets a row with 0 voxels.
        block_voxels: Voxels taken at a time; they have no effect on the result.

    Raises:
        GeometryError: The two lie on different grids.
        InputError: A file is damaged, or a value of the label map is no label.
    """

    def label_walk() -> Iterator[LabelledPart]:
        for block in label_blocks(labels, block_voxels):
            yield LabelledPart(block.axis, block.start, block.values[0])

    def image_walk() -> Iterator[LabelledPart]:
        for block, part in labelled_blocks(image, labels, block_voxels):
            values = [*block.values]
            yield LabelledPart(block.axis, block.start, part, values, block.channel.start)

    return volume_statistics(
        label_walk, image_walk, image.grid, channels=image.channels, names=names
    )
