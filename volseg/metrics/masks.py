"""What every metric asks of its two masks or label maps, and where their classes lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from volseg.errors import InputError, ShapeError

Box = tuple[slice, ...]

# Tables with one entry a label stay small; volseg writes label maps of at most 16 bits.
_LARGEST_LABEL = 65535


def check_label_maps(
    prediction: npt.ArrayLike, reference: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return two label maps or masks as integer arrays of the same shape, without a copy.

    Args:
        prediction: Integers or booleans, shape `(x, y)` or `(x, y, z)`.
        reference: The same kind of map on the same grid.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not integers from 0 to 65535.
    """
    maps = np.asarray(prediction), np.asarray(reference)
    shapes = maps[0].shape, maps[1].shape
    if shapes[0] != shapes[1] or maps[0].ndim not in (2, 3) or maps[0].size == 0:
        raise ShapeError(
            f"the prediction has the shape {shapes[0]} and the reference {shapes[1]}; expected one "
            "shape, (x, y) or (x, y, z), for both: resample one onto the grid of the other."
        )
    for name, labels in zip(("prediction", "reference"), maps, strict=True):
        if labels.dtype.kind not in "biu":
            raise InputError(
                f"the {name} has the dtype {labels.dtype}; expected integers or booleans: take the "
                "argmax or a threshold of probabilities first."
            )
        lowest, highest = labels.min(), labels.max()
        if lowest < 0 or highest > _LARGEST_LABEL:
            raise InputError(
                f"the {name} holds values from {lowest} to {highest}; expected labels from 0 "
                f"(background) to {_LARGEST_LABEL}."
            )
    first, second = (m.view(np.uint8) if m.dtype == np.bool_ else m for m in maps)
    return first, second


def check_masks(
    prediction: npt.ArrayLike, reference: npt.ArrayLike, *, label: int | None
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the two masks of one label; without a label, of everything that is not background.

    Raises:
        ShapeError: The shapes differ, or have neither two nor three axes.
        InputError: The values are not labels.
    """
    first, second = check_label_maps(prediction, reference)
    if label is None:
        return first != 0, second != 0
    return first == label, second == label


def check_spacing(spacing: Sequence[float], dimensions: int) -> npt.NDArray[np.float64]:
    """Return the spacing in mm as an array.

    Raises:
        InputError: There is not one positive number for each axis.
    """
    values = np.asarray(spacing, dtype=np.float64)
    if values.shape != (dimensions,) or not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError(
            f"spacing is {tuple(spacing)}; expected {dimensions} positive numbers in mm, one for "
            "each axis of the label maps."
        )
    return values


def class_boxes(prediction: npt.NDArray[Any], reference: npt.NDArray[Any]) -> dict[int, Box]:
    """Return for each label the box around it in both maps together, in one pass over each.

    Distances between surfaces inside the box are those in the whole volume, so that small
    structures cost little however large the scan is.
    """
    boxes: dict[int, Box] = {}
    for labels in (prediction, reference):
        numbers = labels.view(np.uint8) if labels.dtype == np.bool_ else labels
        for label, box in enumerate(find_objects(numbers), start=1):
            if box is not None:
                boxes[label] = _union(boxes[label], box) if label in boxes else box
    return boxes


def _union(first: Box, second: Box) -> Box:
    return tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )
