"""Proposing rules to choose from, in sizes that suit the structures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from volseg.postprocess.closing import CloseGaps
from volseg.postprocess.components import find_components
from volseg.postprocess.holes import FillHoles
from volseg.postprocess.label_map import check_label_map, check_spacing
from volseg.postprocess.largest_components import KeepLargest
from volseg.postprocess.region_graph import GraphPlan, build_region_graph
from volseg.postprocess.rule import Rule, connectivity_level
from volseg.postprocess.slabs import cut_into_slabs
from volseg.postprocess.small_components import RemoveSmallComponents
from volseg.postprocess.smoothing import SmoothBoundaries

_PARTS = (0.01, 0.03, 0.1, 0.3)  # of the typical structure: what is smaller may be no structure
_STEPS = 1.5  # voxels that neighbourhoods reach: the nearest neighbours along edges and over faces


def propose_rules(
    references: Sequence[Any],
    *,
    spacings: Sequence[Sequence[float]],
    voxel_volumes: Sequence[float] | None = None,
) -> list[Rule]:
    """Return candidates for `choose_rules`: every kind of rule, for each class by itself.

    Small components are judged against the typical structure of a class, the median over the
    references of its largest component. In 2D sizes are in pixels, as pictures rarely know their
    spacing.

    Args:
        references: Label maps `(x, y)` or `(x, y, z)`; each is asked for once, by index.
        spacings: For each the distance of neighbouring voxels on each axis in mm.
        voxel_volumes: For each in mm³; the product of its spacing without it.

    Raises:
        ShapeError: A map has neither two nor three axes.
        InputError: The values are not labels, or a spacing is wrong.
    """
    largest: dict[int, list[float]] = defaultdict(list)
    finest: list[float] = []
    dimensions = 3
    for index, spacing in enumerate(spacings):
        labels = check_label_map(references[index])
        dimensions = len(labels.shape)
        steps = check_spacing(spacing, dimensions)
        finest.append(min(steps))
        voxel = 1.0
        if dimensions == 3:
            voxel = math.prod(steps) if voxel_volumes is None else voxel_volumes[index]
        for label, voxels in _largest_components(labels).items():
            largest[label].append(voxels * voxel)
    typical = {label: float(np.median(sizes)) for label, sizes in sorted(largest.items())}
    reach = _two_digits(_STEPS * float(np.median(finest)))
    return [
        KeepLargest(),
        KeepLargest(count=2),
        FillHoles(),
        *(_larger_than(part, typical, dimensions) for part in _PARTS if typical),
        CloseGaps(radius_mm=reach),
        SmoothBoundaries(sigma_mm=_two_digits(reach / 2)),
    ]


def _larger_than(part: float, typical: Mapping[int, float], dimensions: int) -> Rule:
    sizes = {label: _two_digits(part * size) for label, size in typical.items()}
    if dimensions == 3:
        return RemoveSmallComponents(min_size_mm3=sizes)
    return RemoveSmallComponents(min_size_voxels=sizes)


def _largest_components(labels: Any) -> dict[int, int]:
    """Return the voxels of the largest component of each class."""
    level = connectivity_level(None, len(labels.shape))
    # Regions are whole components: nothing touches that is of one class.
    graph = build_region_graph(labels, cut_into_slabs(labels, None), GraphPlan(level, 0, False))
    components = find_components(graph, graph.classes, level)
    found: dict[int, int] = {}
    for label, size in zip(components.targets.tolist(), components.sizes.tolist(), strict=True):
        found[label] = max(found.get(label, 0), size)
    return found


def _two_digits(number: float) -> float:
    return float(f"{number:.2g}")
