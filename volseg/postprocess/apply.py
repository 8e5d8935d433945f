"""Applying a list of rules to a label map, in memory or on disk, in as few passes as there can be.

Rules on regions (holes, small and largest components) that follow one another share one graph: the
map is read once for all of them, and written once. A rule on neighbourhoods (closing, smoothing)
is one pass of its own. Either way the map is taken slab by slab, and the result does not depend on
how it was cut.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from volseg.errors import InputError, ShapeError
from volseg.postprocess.label_map import check_label_map, check_not_negative, check_spacing
from volseg.postprocess.neighbourhood import NeighbourhoodRule, apply_neighbourhood_rule
from volseg.postprocess.region_graph import GraphPlan, build_region_graph, write_regions
from volseg.postprocess.rule import GraphRule, Rule
from volseg.postprocess.slabs import Slabs, cut_into_slabs, parts_at_once

# A rule on neighbourhoods reads a margin with every slab: thicker slabs read less twice.
_WIDE = 64


def apply_rules(
    labels: Any,
    rules: Iterable[Rule],
    *,
    spacing: Sequence[float] | None = None,
    voxel_volume: float | None = None,
    out: Any = None,
    planes: int | None = None,
) -> Any:
    """Apply rules to a label map, one after the other.

    The result is what each rule gives on the result of the one before; the work is shared. Beside
    the map and the result, memory is needed for a few slabs and for the tables of the regions.

    Args:
        labels: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`. A NumPy array, a
            memory map, or an array on disk with shape, dtype and slices (Zarr, HDF5).
        rules: The rules in order.
        spacing: Distance of neighbouring voxels on each axis in mm; needed by rules in mm.
        voxel_volume: In mm³ (in 2D: mm²); the product of the spacing without it, which is too much
            where axes are not at right angles, as of a tilted gantry.
        out: Receives the result: an array in memory or on disk of the same shape and dtype, or
            `labels` itself to work in place. Without it a new array in memory is made.
        planes: Indices of the slowest axis that a thread takes at a time; without it a few million
            voxels.

    Returns:
        `out`, or the new array.

    Raises:
        ShapeError: The map has neither two nor three axes, or `out` has another shape.
        InputError: The values are not labels, a rule does not suit the map, or the spacing is
            missing or wrong.

    Example:
        >>> import numpy as np
        >>> from volseg.postprocess import FillHoles, KeepLargest
        >>> labels = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 2]], "uint8")
        >>> apply_rules(labels, [FillHoles(classes=(1,)), KeepLargest()])
        array([[1, 1, 1, 0],
               [1, 1, 1, 0],
               [1, 1, 1, 0],
               [0, 0, 0, 2]], dtype=uint8)
    """
    labels = check_label_map(labels)
    rules = list(rules)
    dimensions = len(labels.shape)
    if spacing is not None or any(rule.needs_spacing for rule in rules):
        spacing = check_spacing(spacing, dimensions)
        voxel_volume = math.prod(spacing) if voxel_volume is None else voxel_volume
    if planes is not None and planes < 1:
        raise InputError(f"planes is {planes}; expected at least 1.")
    highest = 1 if labels.dtype.kind == "b" else int(np.iinfo(labels.dtype).max)
    for rule in rules:
        if rule.writes > highest:
            raise InputError(
                f"the rule {rule.kind} writes the value {rule.writes}; expected an integer from 0 "
                f"to {highest}, the highest that the label map of dtype {labels.dtype} can hold."
            )
    stages = _stages(rules)
    plans = [_plan(stage, dimensions) for stage in stages]
    slabs = cut_into_slabs(labels, planes)
    _check_values(labels, slabs)
    out = _check_out(labels, out)
    source = labels
    for stage, plan in zip(stages, plans, strict=True):
        if plan is None:
            assert isinstance(stage[0], NeighbourhoodRule)
            assert spacing is not None
            # Its slabs come one after the other: each may be as much as others share.
            at_once = parts_at_once(torch.get_num_threads())
            together = None if planes is None else planes * at_once
            wide = cut_into_slabs(labels, together, at_least=_WIDE)
            apply_neighbourhood_rule(stage[0], source, out, wide, spacing)
        else:
            graph = build_region_graph(source, slabs, plan)
            classes = graph.classes
            for rule in stage:
                assert isinstance(rule, GraphRule)
                classes = rule.decide(graph, classes, voxel_volume, dimensions)
            write_regions(source, out, slabs=slabs, plan=plan, graph=graph, classes=classes)
        source = out
    if not stages and out is not labels:
        for start, stop in slabs:
            block = slabs.room(out, start, stop)
            np.copyto(block, slabs.read(labels, start, stop))
            slabs.write(out, start, block)
    return out


def _stages(rules: Iterable[Rule]) -> list[list[Rule]]:
    """Return the rules in groups that share a pass: graph rules in a row, others one by one."""
    stages: list[list[Rule]] = []
    for rule in itertools.chain.from_iterable(rule.steps() for rule in rules):
        if isinstance(rule, GraphRule) and stages and isinstance(stages[-1][-1], GraphRule):
            stages[-1].append(rule)
        else:
            stages.append([rule])
    return stages


def _plan(stage: list[Rule], dimensions: int) -> GraphPlan | None:
    """Return what the graph of a group must hold; None for a rule on neighbourhoods."""
    rules = [rule for rule in stage if isinstance(rule, GraphRule)]
    if not rules:
        return None
    levels = {rule.level(dimensions) for rule in rules}
    fills = any(rule.fills for rule in rules)
    # A region of the graph is one component already, and stays one, unless a rule holds voxels
    # together in another way or gives a region a class that its neighbours have.
    joins = fills or len(levels) > 1 or any(rule.joins for rule in rules)
    return GraphPlan(min(levels), max(levels) if joins else 0, fills)


def _check_values(labels: Any, slabs: Slabs) -> None:
    if labels.dtype.kind == "i":
        for start, stop in slabs:
            check_not_negative(slabs.read(labels, start, stop))


def _check_out(labels: Any, out: Any) -> Any:
    """Return where the result goes; a new array in the order of axes of the map without it."""
    dtype = labels.dtype.newbyteorder("=")
    if out is None:
        if isinstance(labels, np.ndarray):
            return np.empty_like(labels, dtype=dtype, subok=False)
        return np.empty(tuple(labels.shape), dtype=dtype)
    if tuple(out.shape) != tuple(labels.shape):
        raise ShapeError(
            f"out has the shape {tuple(out.shape)}; expected that of the label map, "
            f"{tuple(labels.shape)}."
        )
    if out.dtype.newbyteorder("=") != dtype:
        raise InputError(f"out has the dtype {out.dtype}; expected that of the labels, {dtype}.")
    return out
