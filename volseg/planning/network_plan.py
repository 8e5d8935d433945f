"""The largest patch, and the network and batch for it, that a preset and its memory allow.

After nnU-Net 2 (Isensee et al., Nature Methods 2021; MICCAI 2024): the patch starts as large as the
median image, in the shape of a cube in space, and is cut where it is largest relative to the image
until the network fits; what memory is left then makes the batch larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from volseg.errors import InputError, MemoryLimitError
from volseg.planning.presets import FIRST_WIDTH, SMALLEST_BATCH, WIDEST, Preset
from volseg.planning.topology import Topology, plan_topology

# What the networks need.
_FEWEST_LEVELS = 3
# Side of a patch that is larger than any network fits, by spatial dimensions.
_ENOUGH = {2: 2048, 3: 256}


@dataclass(frozen=True)
class NetworkPlan:
    """A network with the patch and the batch that go with it.

    Attributes:
        topology: Levels and patch.
        widths: Feature maps of each level, full resolution first.
        blocks: Residual blocks of each level; none for a plain network.
        batch: Patches of a batch.
        batch_for_memory: Patches of a batch that memory alone would allow.
    """

    topology: Topology
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    batch: int
    batch_for_memory: int


def plan_network(
    spacing: Sequence[float],
    median_shape: Sequence[float],
    preset: Preset,
    *,
    gigabytes: float,
    classes: int,
    cases: int,
) -> NetworkPlan:
    """Return the network for images of a spacing and a size.

    Args:
        spacing: Of the network's grid.
        median_shape: Median size of the images on it, in voxels.
        preset: What kind of network, and how large.
        gigabytes: Memory to plan for; the preset's sizes are scaled to it.
        classes: With the background.
        cases: Number of training cases.

    Raises:
        InputError: The images are too small.
        MemoryLimitError: No network fits.
    """
    dims = len(spacing)
    allowed = preset.values[dims] * gigabytes / preset.gigabytes * preset.batch[dims]
    topology = plan_topology(spacing, _first_patch(spacing, median_shape))
    if len(topology.strides) < _FEWEST_LEVELS:
        size = " x ".join(f"{side:g}" for side in median_shape)
        grid = " x ".join(f"{step:g}" for step in spacing)
        where = " pixels; enlarge them, or give larger parts of them"
        if dims == 3:
            where = f" on a grid of {grid} mm; plan for a finer grid (--spacing)"
        raise InputError(
            f"the images are too small for a U-Net of {_FEWEST_LEVELS} levels: the median one is "
            f"{size}{where}."
        )
    while True:
        widths = _widths(dims, len(topology.strides))
        values = convolution_values(topology, widths, preset, classes)
        if values * preset.fitting_batch[dims] <= allowed:
            break
        topology = _cut(spacing, topology, median_shape)
    most = round(allowed / values)
    voxels = math.prod(median_shape) * cases
    covering = round(voxels * preset.covered / math.prod(topology.patch))
    return NetworkPlan(
        topology=topology,
        widths=widths,
        blocks=preset.blocks[: len(widths)],
        batch=max(SMALLEST_BATCH, min(most, covering)),
        batch_for_memory=max(SMALLEST_BATCH, most),
    )


def _widths(dims: int, levels: int) -> tuple[int, ...]:
    return tuple(min(WIDEST[dims], FIRST_WIDTH * 2**level) for level in range(levels))


def _first_patch(spacing: Sequence[float], median_shape: Sequence[float]) -> list[float]:
    """Return a patch that is a cube in space, as large as the image where that is smaller."""
    dims = len(spacing)
    edge = _ENOUGH[dims] * math.prod(spacing) ** (1 / dims)
    return [
        min(max(1, round(edge / step)), side)
        for step, side in zip(spacing, median_shape, strict=True)
    ]


def _cut(
    spacing: Sequence[float],
    topology: Topology,
    median_shape: Sequence[float],
) -> Topology:
    """Return the next smaller patch: cut where it is largest relative to the image.

    It is cut by the total stride that it would have without the last stride of the network, so
    that no size that fits a network of fewer levels is passed over.
    """
    patch, strides = list(topology.patch), topology.total_stride
    room = [axis for axis, side in enumerate(patch) if side > strides[axis]]
    if room:
        axis = max(room, key=lambda axis: patch[axis] / median_shape[axis])
        smaller = list(patch)
        smaller[axis] -= strides[axis]
        patch[axis] -= plan_topology(spacing, smaller).total_stride[axis]
    cut = plan_topology(spacing, patch)
    if not room or len(cut.strides) < _FEWEST_LEVELS:
        raise MemoryLimitError(
            f"no network of {_FEWEST_LEVELS} levels fits in the memory that is allowed: even "
            f"patches of {' x '.join(map(str, topology.patch))} voxels are too large; allow more."
        )
    return cut


def convolution_values(
    topology: Topology, widths: Sequence[int], preset: Preset, classes: int
) -> int:
    """Return how many values the convolutions of a network give for one patch, as nnU-Net counts.

    In the encoder a plain level has two convolutions; a residual one two a block and a third for
    the stem, or for the input of its first block. In the decoder a transposed one comes first, and
    two follow, or one.
    """
    total = classes * math.prod(topology.patch)
    sides = topology.patch
    for level, (stride, width) in enumerate(zip(topology.strides, widths, strict=True)):
        sides = tuple(side // step for side, step in zip(sides, stride, strict=True))
        convolutions = 2 * preset.blocks[level] + 1 if preset.blocks else 2
        if level < len(widths) - 1:
            convolutions += 2 if preset.blocks else 3
        total += convolutions * width * math.prod(sides)
    return total
