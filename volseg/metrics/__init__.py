"""Metrics of a segmentation against a reference, and statistics of its labels: plain functions.

What holds when a class is empty in one of the maps, or in both:

| metric                     | in neither | in the prediction only | in the reference only |
|----------------------------|------------|------------------------|-----------------------|
| dice, iou, surface_dice    | NaN        | 0                      | 0                     |
| hausdorff95,               | NaN        | infinite               | infinite              |
| average_surface_distance   |            |                        |                       |
| volume_error (millilitres) | NaN        | the predicted volume   | minus the reference   |
| volume_error (relative)    | NaN        | infinite               | -1                    |
| boundary_scores            | NaN        | 0                      | 0                     |

NaN says "not applicable": a case without the structure, correctly left without it, tells nothing
about how well the structure is outlined. Counting it as a Dice of 1 would lift the mean of a rare
class by its rarity; such cases are left out of means and counted beside them. Distances and
surface_dice are NaN, too, where both maps hold the class and it meets in one of them nothing but
ignored voxels: it has no surface there.
"""

from __future__ import annotations

from volseg.metrics.boundary import BoundaryScores, boundary_scores, pixel_accuracy
from volseg.metrics.calibration import Calibration, CalibrationTally, Reliability
from volseg.metrics.label_intensities import PERCENTS, IntensityStatistics
from volseg.metrics.label_offset import label_offset
from volseg.metrics.label_statistics import (
    LabelStatistics,
    VolumeStatistics,
    label_statistics,
    volume_statistics,
)
from volseg.metrics.labelled_part import LabelledPart
from volseg.metrics.masks import class_boxes
from volseg.metrics.overlap import (
    Overlap,
    VolumeError,
    count_overlaps,
    dice,
    iou,
    overlaps_of_batches,
    volume_error,
)
from volseg.metrics.partition import RandScores, cells_between, rand_scores
from volseg.metrics.structures import count_structure_overlaps
from volseg.metrics.surface import (
    SurfaceDistances,
    average_surface_distance,
    hausdorff95,
    surface_dice,
    surface_distances,
)
from volseg.metrics.temperature import Temperature, fit_temperature

__all__ = [
    "PERCENTS",
    "BoundaryScores",
    "Calibration",
    "CalibrationTally",
    "IntensityStatistics",
    "LabelStatistics",
    "LabelledPart",
    "Overlap",
    "RandScores",
    "Reliability",
    "SurfaceDistances",
    "Temperature",
    "VolumeError",
    "VolumeStatistics",
    "average_surface_distance",
    "boundary_scores",
    "cells_between",
    "class_boxes",
    "count_overlaps",
    "count_structure_overlaps",
    "dice",
    "fit_temperature",
    "hausdorff95",
    "iou",
    "label_offset",
    "label_statistics",
    "overlaps_of_batches",
    "pixel_accuracy",
    "rand_scores",
    "surface_dice",
    "surface_distances",
    "volume_error",
    "volume_statistics",
]
