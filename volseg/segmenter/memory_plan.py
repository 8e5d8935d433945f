"""What a run will hold where, made before it begins: kept, or refused at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volseg.errors import MemoryLimitError
from volseg.geometry import Grid, relate_grids
from volseg.inference import Footprint, Tiling, restoring_bytes, stream_footprint
from volseg.postprocess.slabs import parts_at_once

_FLOAT = 4

# Sizes of what is taken at a time, from the most comfortable to the smallest.
_BLOCK_VOXELS = tuple(1 << power for power in range(22, 15, -1))
_BLOCK_BYTES = tuple(1 << power for power in range(26, 19, -1))
# Bytes a voxel of a part of the label map, with its runs, while rules are applied.
_CLEANING = 24
# Bytes a voxel of a part of image and label map, with what is counted, while they are measured.
_MEASURING = 40
# Bytes a byte of the whole label map, while it is written as DICOM.
_AS_DICOM = 8
# What needs less where a stage takes too much; nothing does of the others.
_ADVICE = {"inference": "use smaller tiles", "DICOM": "leave the DICOM formats out"}
# The part of a GPU's free memory that logits may take; the rest is for the network at work.
_LOGITS_OF_FREE = 0.5
# What maps hold on their way to a file: some groups of planes (see `volseg.io`).
_SPOOLING = 3 * 2**24


@dataclass(frozen=True)
class Afterwards:
    """What is done with a label map once it is written.

    Attributes:
        measures: Whether it is measured, together with the image.
        as_dicom: Whether it is written as DICOM, too.
    """

    measures: bool = False
    as_dicom: bool = False


NOTHING = Afterwards()
"""The label map is left alone."""


@dataclass(frozen=True)
class Work:
    """What is to be done, as far as memory is concerned.

    Attributes:
        source: Grid of the file.
        network: Grid of the network.
        channels: Image channels.
        classes: Channels of the logits.
        tiling: How the volume is cut.
        networks: Members of an ensemble.
        passes: Networks x mirrored passes.
        tile_batch: Tiles at once.
        labels_in_memory: Whether the whole label map is held.
        label_bytes: Of a voxel of the label map.
        interpolates: Whether probabilities or their entropy are wanted.
        disagrees: Whether the disagreement of passes is wanted.
        maps_in_memory: Bytes of other maps that are wanted, in memory.
        maps_on_disk: Likewise, on the disk.
        cleans: Whether there are rules for the label map.
        threads: That clean parts of it, or count what is in them, side by side.
        afterwards: What comes then.
        device: Where the networks compute.
        device_free: Bytes of it that are free; None of the CPU.
    """

    source: Grid
    network: Grid
    channels: int
    classes: int
    tiling: Tiling
    networks: int
    passes: int
    tile_batch: int
    labels_in_memory: bool
    label_bytes: int
    interpolates: bool
    disagrees: bool
    maps_in_memory: int
    maps_on_disk: int
    cleans: bool
    threads: int
    afterwards: Afterwards
    device: str
    device_free: int | None


@dataclass(frozen=True)
class Share:
    """One line of a plan.

    Attributes:
        what: What is held.
        where: ``memory``, ``disk``, or a device.
        size: Bytes.
    """

    what: str
    where: str
    size: int


@dataclass(frozen=True)
class MemoryPlan:
    """What a run holds.

    Attributes:
        resident: Bytes of the process before the run: libraries, weights, what the caller holds.
        stages: What is held in each stage of the run, one after the other.
        files: Temporary files.
        block_voxels: Voxels of the file taken at a time.
        block_bytes: Of probabilities taken at a time.
        cleaning_planes: Planes of the label map taken at a time.
        axis: Spatial axis of the network's grid along which tiles are streamed.
        source_axis: The axis of the file that is parallel to it.
        tiles: Tiles to run.
        tile_batch: Tiles at once.
        accumulate_on: Where logits are blended: the CPU if they would not fit beside the network
            at work, None for where the network is.
        budget: Bytes allowed; None if any.
    """

    resident: int
    stages: Mapping[str, tuple[Share, ...]]
    files: tuple[Share, ...]
    block_voxels: int
    block_bytes: int
    cleaning_planes: int
    axis: int
    source_axis: int
    tiles: int
    tile_batch: int
    accumulate_on: str | None = None
    budget: int | None = None

    @property
    def expected_peak(self) -> int:
        """Bytes of memory that the process is expected to hold at most."""
        return self.resident + max(map(_in_memory, self.stages.values()))

    def describe(self) -> str:
        """Return the plan as a table, a line for each thing that is held."""
        held = "libraries, weights, what the caller holds"
        lines = [f"{'before':<9} {_shown(self.resident):>8} memory {held}"]
        for stage, shares in {**self.stages, "files": self.files}.items():
            lines += [
                f"{stage:<9} {_shown(share.size):>8} {share.where:<6} {share.what}"
                for share in shares
                if share.size
            ]
        batch = "" if self.tile_batch == 1 else f", {self.tile_batch} at once"
        lines.append(f"{self.tiles} tiles{batch}, streamed along axis {self.axis}")
        allowed = "" if self.budget is None else f" of {_shown(self.budget)} allowed"
        lines.append(f"expected peak {_shown(self.expected_peak)}{allowed}")
        return "\n".join(lines)


def plan_memory(
    work: Work, *, resident: int, activation: int, budget: int | None = None
) -> MemoryPlan:
    """Return the most comfortable plan that keeps to the budget.

    Args:
        work: What is to be done.
        resident: Bytes that the process holds before it.
        activation: Bytes that the networks hold within themselves while they run, beyond that.
        budget: Bytes allowed for the whole process; any without it.

    Raises:
        MemoryLimitError: No plan keeps to the budget; the message names the smallest that would
            do.
    """
    plans = [
        _plan(work, resident, activation, budget, blocks)
        for blocks in zip(_BLOCK_VOXELS, _BLOCK_BYTES, strict=True)
    ]
    if budget is None:
        return plans[0]
    for plan in plans:
        if plan.expected_peak <= budget:
            return plan
    least = plans[-1]
    name, stage = max(least.stages.items(), key=lambda one: _in_memory(one[1]))
    held = [share for share in stage if share.where == "memory"]
    largest = max(held, key=lambda share: share.size)
    advice = f", or {_ADVICE[name]}" if name in _ADVICE else ""
    needed = _shown(math.ceil(least.expected_peak / 1e7) * 10**7)
    raise MemoryLimitError(
        f"segmenting {work.source.describe()} needs {needed} of memory, {_shown(budget)} are "
        f"allowed: {_shown(resident)} are held before it begins, and most of the rest by "
        f"{largest.what} ({_shown(largest.size)}); allow {needed}{advice}."
    )


def _plan(
    work: Work, resident: int, activation: int, budget: int | None, blocks: tuple[int, int]
) -> MemoryPlan:
    block_voxels, block_bytes = blocks
    footprint = stream_footprint(
        (work.channels, *work.network.shape),
        work.tiling,
        work.classes + work.disagrees,
        tile_batch=work.tile_batch,
        networks=work.networks,
        passes=work.passes,
    )
    source_axis = relate_grids(work.network, work.source)[footprint.axis].target_axis
    restoring = restoring_bytes(
        work.network.shape,
        work.source.shape,
        work.classes,
        axis=footprint.axis,
        source_axis=source_axis,
        interpolated=work.interpolates,
        block_bytes=block_bytes,
    )
    voxels = math.prod(work.source.shape)
    spooled = _FLOAT * work.channels * math.prod(work.network.shape)
    labels = Share("label map", "memory", work.label_bytes * voxels * work.labels_in_memory)
    maps = Share("probabilities and other maps", "memory", work.maps_in_memory)
    spooling = Share(
        "parts of the maps on their way to the disk", "memory", _SPOOLING * bool(work.maps_on_disk)
    )
    # Label maps are taken in the order in which they lie.
    slowest = work.source.shape[0 if work.labels_in_memory else -1]
    at_once = parts_at_once(work.threads)
    shared_by = 1 if budget is None else at_once
    cleaning_planes = max(1, block_voxels * slowest // voxels // shared_by)
    cleaned = min(slowest, at_once * cleaning_planes) * (voxels // slowest)
    where = "memory" if work.device == "cpu" else work.device
    blended, copied, pinned = _blending(work, footprint, where, block_bytes)
    return MemoryPlan(
        resident=resident,
        stages={
            "preparing": (Share("parts of the image", "memory", _preparing(work, block_voxels)),),
            "inference": (
                Share("logits that are not finished", blended, footprint.accumulator),
                Share("planes of the image", "memory", footprint.reader),
                Share("a batch of tiles", where, footprint.batch),
                Share("tiles on their way to the GPU", "memory", pinned),
                Share("the network at work", where, activation),
                Share("planes on the way to the file's grid", "memory", restoring + copied),
                labels,
                maps,
                spooling,
            ),
            "cleaning": (
                Share("parts of the label map", "memory", _CLEANING * work.cleans * cleaned),
                labels,
                maps,
            ),
            **_afterwards(work, block_voxels),
        },
        files=(
            Share("image on the network's grid", "disk", spooled),
            Share("label map", "disk", work.label_bytes * voxels * (not work.labels_in_memory)),
            Share("probabilities and other maps", "disk", work.maps_on_disk),
        ),
        block_voxels=block_voxels,
        block_bytes=block_bytes,
        cleaning_planes=cleaning_planes,
        axis=footprint.axis,
        source_axis=source_axis,
        tiles=footprint.tiles,
        tile_batch=work.tile_batch,
        accumulate_on="cpu" if blended != where else None,
        budget=budget,
    )


def _blending(
    work: Work, footprint: Footprint, where: str, block_bytes: int
) -> tuple[str, int, int]:
    """Return where logits are blended, and the bytes copied to the memory and pinned for tiles."""
    if work.device_free is None:
        return where, 0, 0
    pinned = _FLOAT * work.tile_batch * work.channels * math.prod(work.tiling.tile)
    if footprint.accumulator > _LOGITS_OF_FREE * work.device_free:  # tile by tile
        copied = _FLOAT * (work.classes + work.disagrees) * math.prod(work.tiling.result)
        return "memory", copied, pinned
    # They are copied to the memory in parts, on their way to the file's grid.
    copied = min(max(block_bytes, _logits(work, footprint.axis)), footprint.accumulator)
    return where, copied, pinned


def _afterwards(work: Work, block_voxels: int) -> dict[str, tuple[Share, ...]]:
    """Return what is held once the label map is written."""
    found: dict[str, tuple[Share, ...]] = {}
    if work.afterwards.measures:
        # Intensities are counted part by part, components in several parts side by side.
        a_voxel = max(_MEASURING, _CLEANING * parts_at_once(work.threads))
        size = a_voxel * _part(work, block_voxels)
        found["measuring"] = (Share("parts of image and label map", "memory", size),)
    if work.afterwards.as_dicom:
        size = _AS_DICOM * work.label_bytes * math.prod(work.source.shape)
        found["DICOM"] = (Share("the label map in its formats", "memory", size),)
    return found


def _logits(work: Work, axis: int) -> int:
    """Return the bytes of the logits of a plane across an axis."""
    return _FLOAT * work.classes * math.prod(work.network.shape) // work.network.shape[axis]


def _part(work: Work, block_voxels: int) -> int:
    """Return the voxels of a part of the file: whole planes, whichever way it is cut."""
    plane = max(math.prod(work.source.shape[:-1]), math.prod(work.source.shape[1:]))
    return min(max(block_voxels, plane) + plane, math.prod(work.source.shape))


def _preparing(work: Work, block_voxels: int) -> int:
    """Return what a part of the file takes: as read, joined, in order, and on the other grid."""
    part = _part(work, block_voxels)
    growth = math.prod(work.network.shape) / math.prod(work.source.shape)
    return _FLOAT * round(part * (3 + 2 * growth))


def _in_memory(shares: Sequence[Share]) -> int:
    return sum(share.size for share in shares if share.where == "memory")


def _shown(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
