"""A row of the table of scores."""

from __future__ import annotations

from dataclasses import dataclass

from volseg.evaluation.metric import METRICS

#: The value of a class in label maps, or the values of a region.
Label = int | tuple[int, ...]


@dataclass(frozen=True)
class ClassScore:
    """How well one class of one case agrees with its reference: a row of the table.

    A metric that does not apply, because neither map holds the class or it has no surface, is NaN;
    a distance to a class that one map lacks is infinite (the table in `volseg.metrics`, and
    `EmptyRule`). Volumes are NaN of pictures.
    """

    case: str
    name: str
    label: Label
    prediction_voxels: int
    reference_voxels: int
    dice: float
    iou: float
    surface_dice: float
    hausdorff95_mm: float
    average_surface_distance_mm: float
    volume_error_ml: float
    volume_error_relative: float
    prediction_ml: float = float("nan")
    reference_ml: float = float("nan")

    @classmethod
    def absent(cls, case: str, name: str, label: Label) -> ClassScore:
        """Return the row of a class that neither map of a case holds."""
        nothing = dict.fromkeys(METRICS, float("nan"))
        return cls(case, name, label, prediction_voxels=0, reference_voxels=0, **nothing)
