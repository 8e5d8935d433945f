"""What every metric asks of its two masks or label maps, and where their classes lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from volseg.errors import InputError, ShapeError

Box = tuple[slice, ...]

# Tables with one entry a label stay small; volseg writes label maps of at most 16 bits.
_LARGEST_LABEL = 65535

# Cosine of two axes that headers of 32-bit floats leave of a right angle.
_RIGHT_ANGLE = 1e-6
# Squared volume between steps of length 1.
_FLAT = 1e-12


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


def check_steps(spacing: npt.ArrayLike, dimensions: int) -> npt.NDArray[np.float64]:
    """Return the steps along the axes of an array in mm, as columns.

    Axes at right angles are laid along those of the world: no distance changes, and an oblique
    image has the numbers of a straight one to the last bit.

    Args:
        spacing: A number an axis, or the steps themselves, as the linear part of an affine has
            them.
        dimensions: Number of axes.

    Raises:
        InputError: There is not one positive number for each axis, or not one step for each, out
            of the plane of the others.
    """
    values = np.asarray(spacing, dtype=np.float64)
    steps = np.diag(values) if values.ndim == 1 and (values > 0).all() else values
    lengths = np.linalg.norm(steps, axis=0) if steps.ndim == 2 else np.zeros(0)
    if lengths.shape == (dimensions,) and np.isfinite(lengths).all() and (lengths > 0).all():
        cosines = (steps / lengths).T @ (steps / lengths)
        if np.abs(cosines - np.eye(dimensions)).max() <= _RIGHT_ANGLE:
            return np.diag(lengths)
        if np.linalg.det(cosines) > _FLAT:
            return steps
    raise InputError(
        f"spacing is {values.tolist()}; expected {dimensions} positive numbers in mm, one for "
        f"each axis of the label maps, or a matrix of {dimensions} columns, the steps along them "
        "in mm, none of which lies in the plane of the others."
    )


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
