"""The way from a file to its label map part by part, and which bundles can go it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose

from volseg.bundle import Bundle, BundleParts
from volseg.errors import InputError
from volseg.geometry import Affine, Grid
from volseg.inference import (
    CroppedSource,
    Decision,
    LabelOnSourceGridd,
    Preparation,
    SlabSource,
    SlidingWindowInferer,
    Target,
    Targets,
    Tiling,
    box_on_source,
    prepare_volume,
    segment_volume,
    targets_in_box,
)
from volseg.io import StoredVolume, as_image, open_volume
from volseg.networks import NetworkEnsemble
from volseg.postprocess import PostprocessLabelsd, Rule, apply_rules
from volseg.predictors import check_volume, tile_shapes
from volseg.segmenter.device import free_bytes
from volseg.segmenter.memory_plan import NOTHING, Afterwards, MemoryPlan, Work, plan_memory
from volseg.segmenter.process_memory import measured_peak, resident_bytes

Progress = Callable[[int, int], None]
Cancelling = Callable[[], bool]


@dataclass(frozen=True)
class Maps:
    """What is wanted beside the label map, on the grid of the file: arrays in memory or on disk.

    Attributes:
        probabilities: ``(classes, ...)``, of a bundle of regions ``(regions, ...)``, floating
            point, at the bundle's temperature; the label is decided from these, and not moved by
            the temperature.
        entropy: Entropy of the probabilities, from 0 (certain) to 1.
        disagreement: How far the passes (networks and mirrored tiles) differ, from 0 to 1.
    """

    probabilities: Target | None = None
    entropy: Target | None = None
    disagreement: Target | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is any."""
        return any(target is not None for target in vars(self).values())


@dataclass(frozen=True)
class _Steps:
    """What the parts of a bundle do, in the words of the stream."""

    preparation: Preparation
    inferer: SlidingWindowInferer
    decision: Decision
    rules: tuple[Rule, ...]


class Stream:
    """A bundle, or an ensemble of them, run part by part.

    Args:
        bundles: The members.
        parts: Their parts, the networks on ``device``.
        device: Where the networks compute.
        clean: Whether rules are applied to the label map.

    Raises:
        InputError: The members of an ensemble do not go together, or one of them cannot be run
            part by part.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        parts: Sequence[BundleParts],
        device: torch.device,
        *,
        clean: bool = True,
    ) -> None:
        steps = _steps_of_all(bundles, parts)
        for bundle, one in zip(bundles, steps, strict=True):
            if len(one.inferer.tile) != bundle.spatial_dims:
                raise InputError(
                    f"tiles for the bundle {bundle.name} have {bundle.spatial_dims} sides, got "
                    f"{list(one.inferer.tile)}."
                )
        self._steps = steps[0] if clean else replace(steps[0], rules=())
        self._members = [(s.inferer, p.network) for s, p in zip(steps, parts, strict=True)]
        self._temperatures = sorted({one.decision.temperature for one in steps})
        self._device = device
        self._channels = bundles[0].in_channels
        self.classes = bundles[0].out_channels

    @staticmethod
    def suits(parts: BundleParts) -> bool:
        """Return whether a bundle can be run part by part."""
        return _steps(parts) is not None

    @property
    def passes(self) -> int:
        """How often each tile is seen: networks x mirrored passes."""
        return self._networks << len(self._steps.inferer.mirror_axes)

    @property
    def _networks(self) -> int:
        return sum(
            len(network.networks) if isinstance(network, NetworkEnsemble) else 1
            for _, network in self._members
        )

    @property
    def decision(self) -> Decision:
        """How labels are decided and what probabilities are said."""
        return self._steps.decision

    @property
    def label_type(self) -> np.dtype[Any]:
        """The type of the label map."""
        highest = self._steps.decision.highest_label(self.classes)
        return np.dtype(np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16)

    def require_probabilities(self) -> None:
        """Refuse probabilities that the members do not agree on.

        Raises:
            InputError: They have different temperatures.
        """
        if len(self._temperatures) > 1:
            stated = ", ".join(f"{one:g}" for one in self._temperatures)
            raise InputError(
                f"the members of the ensemble have different temperatures ({stated}), so only its "
                "labels can be had, no probabilities or entropy: make one bundle of them with "
                "`volseg bundle ensemble` and say there which holds (--set temperature=1.0)."
            )

    def plan(
        self,
        volume: StoredVolume,
        maps: Maps,
        *,
        labels_in_memory: bool,
        budget: int | None = None,
        afterwards: Afterwards = NOTHING,
    ) -> MemoryPlan:
        """Return what a run over a volume will hold, and what is done with its label map then.

        Raises:
            InputError: The members of the ensemble do not agree on probabilities that are wanted.
            MemoryLimitError: It cannot keep to the budget.
        """
        wanted = [target for target in vars(maps).values() if target is not None]
        interpolates = maps.probabilities is not None or maps.entropy is not None
        if interpolates:
            self.require_probabilities()
        activation = 0 if budget is None else self._activation
        work = Work(
            source=volume.grid,
            network=self._steps.preparation.grid(volume.grid),
            channels=volume.channels,
            classes=self.classes,
            tiling=self._tiling,
            networks=self._networks,
            passes=self.passes,
            tile_batch=self._steps.inferer.tile_batch,
            labels_in_memory=labels_in_memory,
            label_bytes=self.label_type.itemsize,
            interpolates=interpolates,
            disagrees=maps.disagreement is not None,
            maps_in_memory=_size([one for one in wanted if isinstance(one, np.ndarray)]),
            maps_on_disk=_size([one for one in wanted if not isinstance(one, np.ndarray)]),
            cleans=bool(self._steps.rules),
            threads=torch.get_num_threads(),
            afterwards=afterwards,
            device=self._device.type,
            device_free=free_bytes(self._device),
        )
        return plan_memory(work, resident=resident_bytes(), activation=activation, budget=budget)

    def run(
        self,
        volume: StoredVolume,
        labels: Any,
        plan: MemoryPlan,
        maps: Maps,
        *,
        body_above: float | None = None,
        clean: bool = True,
        progress: Progress | None = None,
        cancelled: Cancelling | None = None,
    ) -> None:
        """Write the label map of a volume, and the maps that are wanted, part by part.

        Args:
            volume: The file.
            labels: Receives the label map: an array in memory or on disk.
            plan: How much is taken at a time.
            maps: What else is wanted.
            body_above: Only the box of the voxels above this value is run; see `prepare_volume`.
            clean: Whether the rules are applied.
            progress: Called as ``progress(done, total)`` with tiles.
            cancelled: Asked between parts.
        """
        steps = self._steps
        networks = self.predictors()
        prepared = prepare_volume(
            volume,
            steps.preparation,
            axis=plan.axis,
            block_voxels=plan.block_voxels,
            body_above=body_above,
            cancelled=cancelled,
        )
        with prepared, torch.inference_mode():
            targets = Targets(labels, maps.probabilities, maps.entropy, maps.disagreement)
            source: SlabSource = prepared
            network_grid, source_grid = prepared.grid, volume.grid
            if prepared.body is not None:
                part = box_on_source(prepared.body, network_grid, source_grid)
                source = CroppedSource(prepared, prepared.body)
                network_grid, source_grid = prepared.body.grid(network_grid), part.grid(source_grid)
                targets = targets_in_box(targets, part, exclusive=steps.decision.exclusive)
            segment_volume(
                source,
                networks,
                self._tiling,
                targets,
                network_grid=network_grid,
                source_grid=source_grid,
                decision=steps.decision,
                axis=plan.axis,
                mirror_axes=steps.inferer.mirror_axes,
                tile_batch=plan.tile_batch,
                device=None if self._device.type == "cpu" else self._device,
                accumulate_on=plan.accumulate_on,
                block_bytes=plan.block_bytes,
                progress=progress,
                cancelled=cancelled,
            )
        if clean:
            self._clean(labels, volume.grid, plan)

    def _clean(self, labels: Any, grid: Grid, plan: MemoryPlan) -> None:
        if self._steps.rules:
            planes = None if plan.budget is None else plan.cleaning_planes
            apply_rules(
                labels,
                self._steps.rules,
                spacing=grid.spacing,
                voxel_volume=grid.voxel_volume,
                out=labels,
                planes=planes,
            )

    def predictors(self) -> list[Callable[..., Any]]:
        """Return what computes the logits of tiles, one a network; made at the first call."""
        return [
            predictor
            for inferer, network in self._members
            for predictor in inferer.predictors(
                network, self._channels, self._device, exclusive=self.decision.exclusive
            )
        ]

    @property
    def _tiling(self) -> Tiling:
        inferer, network = self._members[0]
        return inferer.tiling(network, self._channels)

    @cached_property
    def _activation(self) -> int:
        """Bytes that the networks hold within themselves while they run a batch, measured.

        All stages are run once before, on a volume of one tile: what libraries load and keep is
        then held already.
        """
        tile, tile_batch = self._tiling.tile, self._steps.inferer.tile_batch
        shapes = tile_shapes(self._members[0][1], self._channels, tile)
        example = check_volume(shapes, tiles=tile_batch)
        regridding = self._steps.preparation.regridding
        spacing = None if regridding is None else regridding.spacing
        affine = Affine.from_parts(spacing or [1.0] * len(tile))
        with open_volume(as_image(example[0].numpy(), affine)) as volume:
            labels = np.zeros(tile, self.label_type)
            plan = self.plan(volume, Maps(), labels_in_memory=True)
            self.run(volume, labels, plan, Maps(), clean=False)
            # Rules on noise would warn of what they remove.
            self._clean(np.zeros_like(labels), volume.grid, plan)
        if self._device.type != "cpu":
            return 0  # a GPU's memory is not the process's
        held = resident_bytes()
        with measured_peak() as peak, torch.inference_mode():
            for network in self.predictors():
                network(example)
        batch = 4 * tile_batch * (math.prod(shapes.image) + math.prod(shapes.logits))
        return max(0, peak.resident - held - batch)


def _steps_of_all(bundles: Sequence[Bundle], parts: Sequence[BundleParts]) -> list[_Steps]:
    """Return the steps of the members, which see the same image and mean the same labels."""
    found: list[_Steps] = []
    for bundle, part in zip(bundles, parts, strict=True):
        steps = _steps(part)
        if steps is None:
            raise InputError(
                f"the bundle {bundle.name} uses transforms that need the whole volume at once: it "
                "cannot join an ensemble, keep to a memory budget, crop to the body, or be left "
                "uncleaned."
            )
        found.append(steps)
        first = found[0]
        same = {
            "orientation or spacing": first.preparation.same_grid(steps.preparation),
            "the standardisation of intensities": _channels(first) == _channels(steps),
            "channels": _channel_names(bundles[0]) == _channel_names(bundle),
            "tiles": first.inferer.tiling(parts[0].network, bundle.in_channels)
            == steps.inferer.tiling(part.network, bundle.in_channels),
            "mirroring": first.inferer.mirror_axes == steps.inferer.mirror_axes,
            "labels": bundles[0].labels == bundle.labels,
            "threshold or regions": _decides(first) == _decides(steps),
            "the rules for the label map": first.rules == steps.rules,
        }
        for what, equal in same.items():
            if not equal:
                raise InputError(
                    f"the bundles {bundles[0].name} and {bundle.name} differ in {what}, so their "
                    "probabilities cannot be averaged: make ensembles of bundles composed alike, "
                    "or one bundle of them with `volseg bundle ensemble`, whose --set says what "
                    "holds for all."
                )
    return found


def _decides(steps: _Steps) -> Decision:
    """Return how labels are decided, in which the temperature has no part."""
    return replace(steps.decision, temperature=1.0)


def _steps(parts: BundleParts) -> _Steps | None:
    """Return what a bundle does; None if one of its parts needs the whole volume."""
    preparation = Preparation.of(parts.preprocessing)
    labelling, *cleaning = _flat(parts.postprocessing) or [None]
    if (
        preparation is None
        or not isinstance(parts.inferer, SlidingWindowInferer)
        or not isinstance(labelling, LabelOnSourceGridd)
        or labelling.like != "image"
        or not all(isinstance(step, PostprocessLabelsd) for step in cleaning)
        or any(step.keys != ("pred",) for step in (labelling, *cleaning))
    ):
        return None
    rules = tuple(rule for step in cleaning for rule in step.rules)
    return _Steps(preparation, parts.inferer, labelling.decision, rules)


def _channel_names(bundle: Bundle) -> list[str]:
    """Return the names of channels where it matters which comes first."""
    return bundle.channels if bundle.in_channels > 1 else [""] * bundle.in_channels


def _channels(steps: _Steps) -> tuple[Any, ...]:
    """Return how intensities are standardised, whatever the numbers were fitted on."""
    found = steps.preparation.standardization
    return () if found is None else tuple(found.channels)


def _size(targets: Sequence[Target]) -> int:
    return sum(math.prod(one.shape) * np.dtype(one.dtype).itemsize for one in targets)


def _flat(transforms: Any) -> list[Any]:
    if isinstance(transforms, Compose):
        return [step for inner in transforms.transforms for step in _flat(inner)]
    return [transforms]
