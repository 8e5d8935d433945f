"""The scores of one case, class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.metrics import SurfaceDistances, class_boxes, count_overlaps, surface_distances
from volseg.metrics.masks import check_spacing

METRICS = (
    "dice",
    "iou",
    "surface_dice",
    "hausdorff95_mm",
    "average_surface_distance_mm",
    "volume_error_ml",
    "volume_error_relative",
)


@dataclass(frozen=True)
class ClassScore:
    """How well one class of one case agrees with its reference: a row of the table.

    A metric that does not apply, because neither map holds the class, is NaN; a distance to a
    class that one map lacks is infinite (the table in `volseg.metrics`).
    """

    case: str
    name: str
    label: int
    prediction_voxels: int
    reference_voxels: int
    dice: float
    iou: float
    surface_dice: float
    hausdorff95_mm: float
    average_surface_distance_mm: float
    volume_error_ml: float
    volume_error_relative: float


def evaluate_case(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    labels: Mapping[str, int],
    spacing: Sequence[float],
    surface_tolerance_mm: float = 1.0,
    case: str = "",
) -> list[ClassScore]:
    """Return one row a class for two label maps on the same grid.

    Overlaps of all classes are counted in one pass; surfaces are compared inside the box around
    each class. A volume of a single slice has its surfaces compared in that slice.

    Args:
        prediction: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map.
        labels: The classes to score, name to value in the maps.
        spacing: Distance of neighbouring voxels on each axis in mm.
        surface_tolerance_mm: Distance that still counts as agreement in `surface_dice`, in mm.
        case: Name of the case, for the rows.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels, or an option is out of range.
    """
    check_labels(labels)
    first, second = np.asarray(prediction), np.asarray(reference)
    overlaps = count_overlaps(first, second, classes=labels.values())
    steps = check_spacing(spacing, first.ndim).tolist()
    flat = _single_slice(first.shape)
    surfaces, plane_steps = (first, second), steps
    if flat is not None:
        surfaces = (first.squeeze(flat), second.squeeze(flat))
        plane_steps = [step for axis, step in enumerate(steps) if axis != flat]
    boxes = class_boxes(*surfaces)
    scores = []
    for name, label in labels.items():
        overlap = overlaps[label]
        distances = SurfaceDistances(np.empty(0), np.empty(0))
        if label in boxes:
            parts = (labels_[boxes[label]] for labels_ in surfaces)
            distances = surface_distances(*parts, spacing=plane_steps, label=label)
        error = overlap.volume_error(steps)
        scores.append(
            ClassScore(
                case=case,
                name=name,
                label=label,
                prediction_voxels=overlap.prediction,
                reference_voxels=overlap.reference,
                dice=overlap.dice,
                iou=overlap.iou,
                surface_dice=distances.dice(surface_tolerance_mm),
                hausdorff95_mm=distances.hausdorff(95),
                average_surface_distance_mm=distances.average(),
                volume_error_ml=error.millilitres,
                volume_error_relative=error.relative,
            )
        )
    return scores


def check_labels(labels: Mapping[str, int]) -> None:
    """Check the names and values of classes.

    Raises:
        InputError: There are none, a value is not a positive integer, or two names share one.
    """
    values = list(labels.values())
    if not values or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values):
        raise InputError(
            f"the labels are {dict(labels)}; expected at least one name with a positive integer, "
            "such as {'liver': 1}: 0 is background and is not scored."
        )
    if len(set(values)) < len(values):
        raise InputError(f"the labels are {dict(labels)}; expected a value of its own for each.")


def _single_slice(shape: tuple[int, ...]) -> int | None:
    """Return the axis along which a volume has one slice; across it there is no surface."""
    if len(shape) == 3 and sorted(shape)[1] > 1:
        return next((axis for axis, size in enumerate(shape) if size == 1), None)
    return None
