"""The affine of a stack of parallel slices, from the position and orientation of each slice.

Positions and cosines follow DICOM (PS3.3 C.7.6.2): LPS+ millimetres, the position is the centre
of the first pixel, the row cosines point along increasing column index. The distance between
slices comes from the positions alone; slice thickness says nothing about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError
from volseg.geometry.affine import Affine

Numbers = npt.NDArray[np.float64]

_COSINE_TOLERANCE = 1e-3  # unit length and right angle of the cosines, as written by scanners
_ORIENTATION_TOLERANCE = np.deg2rad(0.05)  # between slices of one stack
_GAP_TOLERANCE = 0.01  # part of the gap: rounding of positions in text headers
_TILT_TOLERANCE = np.deg2rad(0.5)  # below this the exact, slightly sheared affine is kept
_SAME_POSITION_MM = 1e-3


@dataclass(frozen=True)
class SliceStack:
    """A uniform stack of slices.

    Attributes:
        affine: RAS+ affine from (column, row, slice) indices to mm.
        order: numbers of the given slices from first to last in the stack; the first has the
            lowest position along row x column.
    """

    affine: Affine
    order: tuple[int, ...]


def stack_slices(
    positions: npt.ArrayLike,
    orientations: npt.ArrayLike,
    pixel_spacings: npt.ArrayLike,
    *,
    what: str = "the slices",
) -> SliceStack:
    """Return the affine and the order of a uniform stack of slices.

    Args:
        positions: (slices, 3) centres of the first pixels, LPS+ mm (Image Position Patient).
        orientations: (slices, 6) row then column cosines, LPS+ (Image Orientation Patient).
        pixel_spacings: (slices, 2) distance between rows, then between columns, mm (Pixel Spacing).
        what: names the slices in messages, such as "the series in folder x".

    Raises:
        GeometryError: for a single slice, values that are not numbers, slices that are not
            parallel, repeated positions, unequal gaps or a tilted (sheared) stack.
    """
    places = _finite(positions, 3, "position", what)
    cosines = _finite(orientations, 6, "orientation", what)
    spacings = _finite(pixel_spacings, 2, "pixel spacing", what)
    if not len(places) == len(cosines) == len(spacings):
        raise GeometryError(
            f"{what} must have one position, orientation and pixel spacing each, got "
            f"{len(places)}, {len(cosines)} and {len(spacings)}."
        )
    row, column = _common_orientation(cosines, what)
    between_rows, between_columns = _common_pixel_spacing(spacings, what)
    if len(places) < 2:
        raise GeometryError(
            f"{what} must be at least two to form a volume, got a single slice, whose distance to "
            "a next slice is unknown; give the whole series."
        )
    normal = np.cross(row, column)
    heights = places @ normal
    order = np.argsort(heights, kind="stable")
    places, heights = places[order], heights[order]
    _require_distinct(heights, what)
    _require_upright(places, normal, what)
    _require_equal_gaps(places, heights, what)
    matrix = np.eye(4)
    matrix[:3, 0] = row * between_columns
    matrix[:3, 1] = column * between_rows
    matrix[:3, 2] = (places[-1] - places[0]) / (len(places) - 1)
    matrix[:3, 3] = places[0]
    return SliceStack(Affine.from_lps(matrix), tuple(int(number) for number in order))


def _finite(values: npt.ArrayLike, width: int, name: str, what: str) -> Numbers:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 2 or numbers.shape[1] != width or not np.all(np.isfinite(numbers)):
        raise GeometryError(
            f"each {name} of {what} must be {width} finite numbers, got an array of shape "
            f"{numbers.shape} with {int(np.sum(~np.isfinite(numbers)))} that are not finite."
        )
    return numbers


def _common_orientation(cosines: Numbers, what: str) -> tuple[Numbers, Numbers]:
    rows, columns = cosines[:, :3], cosines[:, 3:]
    lengths = np.linalg.norm(cosines.reshape(-1, 3), axis=1)
    skew = np.abs(np.sum(rows * columns, axis=1))
    if np.any(np.abs(lengths - 1.0) > _COSINE_TOLERANCE) or np.any(skew > _COSINE_TOLERANCE):
        worst = int(np.argmax(skew + np.abs(lengths.reshape(-1, 2) - 1.0).max(axis=1)))
        raise GeometryError(
            f"the row and column cosines of {what} must be perpendicular unit vectors, got "
            f"{cosines[worst].tolist()}; the header is damaged."
        )
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    columns = columns / np.linalg.norm(columns, axis=1, keepdims=True)
    # The chord between unit vectors keeps its precision for small angles, unlike the arc cosine.
    chords = np.hypot(
        np.linalg.norm(rows - rows[0], axis=1), np.linalg.norm(columns - columns[0], axis=1)
    )
    if chords.max() > _ORIENTATION_TOLERANCE:
        other = int(np.argmax(chords))
        raise GeometryError(
            f"{what} must be parallel, got the orientations {cosines[0].tolist()} and "
            f"{cosines[other].tolist()} (a localizer among them?); give the slices of one "
            "orientation only."
        )
    return rows[0], columns[0]


def _common_pixel_spacing(spacings: Numbers, what: str) -> tuple[float, float]:
    if np.any(spacings <= 0):
        raise GeometryError(
            f"the pixel spacing of {what} must be positive, got {spacings.min():.6g} mm; the "
            "header is damaged."
        )
    if np.any(np.abs(spacings - spacings[0]) > 1e-4 * spacings[0]):
        other = spacings[np.argmax(np.abs(spacings - spacings[0]).sum(axis=1))]
        raise GeometryError(
            f"{what} must have one pixel spacing, got {spacings[0].tolist()} and {other.tolist()} "
            "mm; give the slices of one series only."
        )
    return float(spacings[0, 0]), float(spacings[0, 1])


def _require_distinct(heights: Numbers, what: str) -> None:
    gaps = np.diff(heights)
    repeated = gaps <= _SAME_POSITION_MM
    if np.any(repeated):
        positions = _listed(np.unique(heights[:-1][repeated].round(3)))
        raise GeometryError(
            f"{what} must each have their own position, got {int(repeated.sum())} repeated (at "
            f"{positions} mm along the normal): several time points (4D), echoes or copies; give "
            "the slices of one volume only."
        )


def _require_upright(places: Numbers, normal: Numbers, what: str) -> None:
    steps = places[-1] - places[0]
    tilt = float(np.arctan2(np.linalg.norm(np.cross(normal, steps)), normal @ steps))
    if tilt > _TILT_TOLERANCE:
        raise GeometryError(
            f"{what} must be stacked along their normal, got a stack tilted by "
            f"{np.rad2deg(tilt):.1f} degrees (gantry tilt), which no orthogonal volume can show; "
            "resample it with a tool that corrects the tilt."
        )


def _require_equal_gaps(places: Numbers, heights: Numbers, what: str) -> None:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > _GAP_TOLERANCE * usual)
    if odd.size:
        where = _listed([f"{heights[i]:.3f} to {heights[i + 1]:.3f}" for i in odd])
        raise GeometryError(
            f"{what} must have equal gaps, got gaps of {gaps.min():.4g} to {gaps.max():.4g} mm "
            f"(usual: {usual:.4g} mm; different from {where} mm along the normal): slices are "
            "missing or were taken at different distances; give the complete series."
        )
    line = np.linspace(0.0, 1.0, len(places))[:, np.newaxis]
    ideal = places[0] + line * (places[-1] - places[0])
    off = np.linalg.norm(places - ideal, axis=1)
    # Rounding cannot add up along the stack, so a larger departure is a real bend or drift.
    if off.max() > max(5 * _GAP_TOLERANCE * usual, 0.01):
        worst = int(np.argmax(off))
        raise GeometryError(
            f"{what} must lie on one straight, evenly divided line, got a slice "
            f"{off[worst]:.3g} mm off (at {heights[worst]:.3f} mm along the normal); give the "
            "slices of one volume only."
        )


def _listed(values: Sequence[object] | Numbers, most: int = 6) -> str:
    shown = ", ".join(str(value) for value in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"
