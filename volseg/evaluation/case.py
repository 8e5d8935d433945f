"""The scores of one case, class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.evaluation.class_score import ClassScore, Label
from volseg.evaluation.empty_rule import LEAVE_OUT, EmptyRule
from volseg.metrics import (
    SurfaceDistances,
    class_boxes,
    count_structure_overlaps,
    surface_distances,
)
from volseg.metrics.masks import Box, check_steps


def evaluate_case(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    labels: Mapping[str, int | Sequence[int]],
    spacing: npt.ArrayLike,
    surface_tolerance_mm: float = 1.0,
    ignore: int | None = None,
    empty: EmptyRule = LEAVE_OUT,
    case: str = "",
) -> list[ClassScore]:
    """Return one row a class for two label maps on the same grid.

    Overlaps of all classes are counted in one pass; surfaces are compared inside the box around
    each class. A volume of a single slice has its surfaces compared in that slice.

    Args:
        prediction: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map.
        labels: The classes to score, name to value in the maps; or several values, of a region
            that may contain others.
        spacing: Distance of neighbouring voxels on each axis in mm; of axes that are not at right
            angles (a tilted gantry) the linear part of the affine.
        surface_tolerance_mm: Distance that still counts as agreement in `surface_dice`, in mm.
        ignore: Voxels whose reference has this value count in no metric, and the edge of what they
            fill is no surface.
        empty: How a class counts that a map lacks.
        case: Name of the case, for the rows.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels, or an option is out of range.
    """
    check_labels(labels)
    first, second = np.asarray(prediction), np.asarray(reference)
    ignored = None
    if ignore is not None:
        check_ignored(ignore, labels)
        ignored = second == ignore
        first, second = (np.where(ignored, 0, one).astype(one.dtype) for one in (first, second))
    structures = {name: values_of(label) for name, label in labels.items()}
    overlaps = count_structure_overlaps(first, second, structures)
    steps = check_steps(spacing, first.ndim)
    voxel_ml = float(abs(np.linalg.det(steps))) / 1000 if first.ndim == 3 else float("nan")
    flat = _single_slice(first.shape)
    surfaces: tuple[npt.NDArray[Any], ...] = (first, second)
    plane_steps = steps
    if flat is not None:
        surfaces = (first.squeeze(flat), second.squeeze(flat))
        ignored = None if ignored is None else ignored.squeeze(flat)
        plane_steps = np.delete(steps, flat, axis=1)
    boxes = class_boxes(*surfaces)
    scores = []
    for name, values in structures.items():
        overlap = overlaps[name]
        if len(values) == 1:
            maps, value, found = surfaces, values[0], boxes.get(values[0])
        else:
            maps, value = tuple(np.isin(one, values).astype(np.uint8) for one in surfaces), 1
            found = class_boxes(*maps).get(1)
        distances = SurfaceDistances(np.empty(0), np.empty(0))
        if found is not None:
            box = _widened(found)
            distances = surface_distances(
                maps[0][box],
                maps[1][box],
                spacing=plane_steps,
                label=value,
                ignored=None if ignored is None else ignored[box],
            )
        error = overlap.volume_error(steps)
        score = ClassScore(
            case=case,
            name=name,
            label=label_of(values),
            prediction_voxels=overlap.prediction,
            reference_voxels=overlap.reference,
            dice=overlap.dice,
            iou=overlap.iou,
            surface_dice=distances.dice(surface_tolerance_mm),
            hausdorff95_mm=distances.hausdorff(95),
            average_surface_distance_mm=distances.average(),
            volume_error_ml=error.millilitres,
            volume_error_relative=error.relative,
            prediction_ml=overlap.prediction * voxel_ml,
            reference_ml=overlap.reference * voxel_ml,
        )
        scores.append(empty.applied(score))
    return scores


def check_labels(labels: Mapping[str, int | Sequence[int]]) -> None:
    """Check the names and values of classes.

    Raises:
        InputError: There are none, a value is not a positive integer, or two names share all.
    """
    sets = [values_of(label) for label in labels.values()]
    values = [value for own in sets for value in own]
    if (
        not all(sets)
        or not values
        or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values)
    ):
        raise InputError(
            f"the labels are {dict(labels)}; expected at least one name with a positive integer, "
            "such as {'liver': 1}, or several: 0 is background and is not scored."
        )
    if len({frozenset(own) for own in sets}) < len(sets):
        raise InputError(f"the labels are {dict(labels)}; expected a value of its own for each.")


def check_ignored(ignore: int, labels: Mapping[str, int | Sequence[int]]) -> None:
    """Check the value of voxels that are left out.

    Raises:
        InputError: It is the background or a label that is to be scored.
    """
    if ignore < 1 or any(ignore in values_of(label) for label in labels.values()):
        raise InputError(
            f"the value to ignore is {ignore}; expected a positive one that is none of the labels "
            f"{dict(labels)}."
        )


def values_of(label: int | Sequence[int]) -> tuple[int, ...]:
    """Return the values of a class or a region in a label map."""
    return tuple(label) if isinstance(label, Sequence) else (label,)


def label_of(label: int | Sequence[int]) -> Label:
    """Return the value of a class, or the values of a region."""
    values = values_of(label)
    return values[0] if len(values) == 1 else values


def _widened(box: Box) -> Box:
    """Return a box with a voxel more on each side, where the image has one."""
    return tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)


def _single_slice(shape: tuple[int, ...]) -> int | None:
    """Return the axis along which a volume has one slice; across it there is no surface."""
    if len(shape) == 3 and sorted(shape)[1] > 1:
        return next((axis for axis, size in enumerate(shape) if size == 1), None)
    return None
