"""The affine of a stack of parallel slices, from the position and orientation of each slice.

Positions and cosines follow DICOM (PS3.3 C.7.6.2): LPS+ millimetres, the position is the centre
of the first pixel, the row cosines point along increasing column index. The distance between
slices comes from the positions alone; slice thickness says nothing about it. Slices that are not
stacked along their normal (a tilted gantry) get the sheared affine that is true of them.
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
# How far a slice may lie off its even place, as a part of the gap: below the first it is where it
# should be; up to the second only if the positions are written with too few decimals to say so.
_PLACE_TOLERANCE = 0.01
_ROUNDED_PLACE_TOLERANCE = 0.05
_SAME_POSITION_MM = 1e-3
# Across a gap of more steps than this, interpolated slices would be invention.
_MOST_STEPS_IN_A_GAP = 5
_MOST_DECIMALS = 4


class StackError(GeometryError):
    """Slices do not form a stack.

    Attributes:
        heights: places of the slices concerned along row x column, in LPS+ mm.
        choice: what would make the slices a stack if the caller asked for it: "irregular" or "".
    """

    def __init__(self, message: str, heights: Sequence[float] | Numbers = (), choice: str = ""):
        super().__init__(message)
        self.heights = tuple(float(height) for height in heights)
        self.choice = choice


@dataclass(frozen=True)
class SliceStack:
    """Parallel slices along a straight line.

    Attributes:
        affine: RAS+ affine from (column, row, slice) indices to mm; sheared if the slices are not
            stacked along their normal, as with a tilted gantry.
        order: numbers of the given slices from first to last in the stack; the first has the
            lowest position along row x column.
        places: slice index of each slice of `order` on the affine: 0, 1, 2, ... unless the stack
            is irregular.
        size: number of slices on the affine, more than there are given if the stack is irregular.
        heights: place of each slice of `order` along row x column, in LPS+ mm.
    """

    affine: Affine
    order: tuple[int, ...]
    places: tuple[float, ...]
    size: int
    heights: tuple[float, ...]

    @property
    def is_regular(self) -> bool:
        """Whether every slice of the affine is one that was given."""
        return self.places == tuple(range(self.size))

    @property
    def tilt(self) -> float:
        """The angle between the slices' normal and the line they are stacked along, in radians."""
        row, column, along = self.affine.matrix[:3, :3].T
        normal = np.cross(row, column)
        across = float(np.linalg.norm(np.cross(normal, along)))
        return float(np.arctan2(across, abs(float(normal @ along))))


def stack_slices(
    positions: npt.ArrayLike,
    orientations: npt.ArrayLike,
    pixel_spacings: npt.ArrayLike,
    *,
    what: str = "the slices",
    irregular: bool = False,
) -> SliceStack:
    """Return the affine and the order of a stack of slices.

    Args:
        positions: (slices, 3) centres of the first pixels, LPS+ mm (Image Position Patient).
        orientations: (slices, 6) row then column cosines, LPS+ (Image Orientation Patient).
        pixel_spacings: (slices, 2) distance between rows, then between columns, mm (Pixel Spacing).
        what: names the slices in messages, such as "the series in folder x".
        irregular: whether gaps may differ; the affine then divides the stack evenly, in steps of
            about its finer gaps, and `places` says where on it each slice lies.

    Raises:
        StackError: for a single slice, slices that are not parallel, repeated positions, unequal
            gaps (unless `irregular`) and slices off the line of the others.
        GeometryError: for values that are not numbers, or contradict each other.
    """
    points = _finite(positions, 3, "position", what)
    cosines = _finite(orientations, 6, "orientation", what)
    spacings = _finite(pixel_spacings, 2, "pixel spacing", what)
    if not len(points) == len(cosines) == len(spacings):
        raise GeometryError(
            f"{what} must have one position, orientation and pixel spacing each, got "
            f"{len(points)}, {len(cosines)} and {len(spacings)}."
        )
    row, column = _common_orientation(cosines, what)
    between_rows, between_columns = _common_pixel_spacing(spacings, what)
    if len(points) < 2:
        raise StackError(
            f"{what} must be at least two to form a volume, got a single slice, whose distance to "
            "a next slice is unknown; give the whole series.",
            points @ np.cross(row, column),
        )
    heights = points @ np.cross(row, column)
    order = np.argsort(heights, kind="stable")
    points, heights = points[order], heights[order]
    _require_distinct(heights, what)
    if irregular and _off_even(points).max() > _allowed_off(points, heights):
        _require_straight(points, heights, what)
        _require_small_gaps(heights, what)
        size = 1 + round(float(heights[-1] - heights[0]) / _finer_gap(heights))
        places = (heights - heights[0]) / (heights[-1] - heights[0]) * (size - 1)
    else:
        _require_even(points, heights, what)
        size = len(points)
        places = np.arange(size)
    matrix = np.eye(4)
    matrix[:3, 0] = row * between_columns
    matrix[:3, 1] = column * between_rows
    matrix[:3, 2] = (points[-1] - points[0]) / (size - 1)
    matrix[:3, 3] = points[0]
    return SliceStack(
        Affine.from_lps(matrix),
        tuple(int(number) for number in order),
        tuple(float(place) for place in places),
        size,
        tuple(float(height) for height in heights),
    )


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
    repeated = np.diff(heights) <= _SAME_POSITION_MM
    if np.any(repeated):
        places = np.unique(heights[:-1][repeated].round(3))
        raise StackError(
            f"{what} must each have their own position, got {int(repeated.sum())} repeated (at "
            f"{_listed(places)} mm along the normal): several time points (4D), echoes or copies; "
            "give the slices of one volume only.",
            places,
        )


def _require_even(points: Numbers, heights: Numbers, what: str) -> None:
    off = _off_even(points)
    allowed = _allowed_off(points, heights)
    if off.max() <= allowed:
        return
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    is_straight = _farthest_off_line(points, heights)[1] <= allowed
    is_dense = gaps.max() <= _MOST_STEPS_IN_A_GAP * _finer_gap(heights)
    choice = "irregular" if is_straight and is_dense else ""
    way_out = ", or have it resampled along its slices (irregular='resample')" if choice else ""
    odd = np.flatnonzero(np.abs(gaps - usual) > 2 * allowed)
    if odd.size:
        where = _listed([f"{heights[i]:.3f} to {heights[i + 1]:.3f}" for i in odd])
        raise StackError(
            f"{what} must have equal gaps, got gaps of {gaps.min():.4g} to {gaps.max():.4g} mm "
            f"(usual: {usual:.4g} mm; different from {where} mm along the normal): slices are "
            f"missing or were taken at different distances; give the complete series{way_out}.",
            np.unique(np.concatenate([heights[odd], heights[odd + 1]])),
            choice,
        )
    worst = int(np.argmax(off))
    raise StackError(
        f"{what} must lie on one straight, evenly divided line, got a slice {off[worst]:.3g} mm "
        f"off (at {heights[worst]:.3f} mm along the normal); give the slices of one volume only.",
        heights[off > allowed],
        choice,
    )


def _require_straight(points: Numbers, heights: Numbers, what: str) -> None:
    worst, off = _farthest_off_line(points, heights)
    if off > _allowed_off(points, heights):
        raise StackError(
            f"{what} must lie on one straight line, got a slice {off:.3g} mm off (at "
            f"{heights[worst]:.3f} mm along the normal); give the slices of one volume only.",
            heights[[worst]],
        )


def _require_small_gaps(heights: Numbers, what: str) -> None:
    gaps, finer = np.diff(heights), _finer_gap(heights)
    wide = np.flatnonzero(gaps > _MOST_STEPS_IN_A_GAP * finer)
    if wide.size:
        where = _listed([f"{heights[i]:.3f} to {heights[i + 1]:.3f}" for i in wide])
        raise StackError(
            f"{what} cannot be resampled: from {where} mm along the normal the gap is more than "
            f"{_MOST_STEPS_IN_A_GAP} times the finer ones of {finer:.4g} mm, and slices in it "
            "would be invented; give the complete series.",
            np.unique(np.concatenate([heights[wide], heights[wide + 1]])),
        )


def _off_even(points: Numbers) -> Numbers:
    """Return how far each slice lies from where the nearest even division would put it."""
    # Rounding cannot add up along the stack, so a larger departure is a gap, a bend or a drift.
    steps = np.arange(len(points)) - (len(points) - 1) / 2
    moved = points - points.mean(axis=0)
    even = np.outer(steps, steps @ moved / (steps @ steps))
    return np.asarray(np.linalg.norm(moved - even, axis=1))


def _farthest_off_line(points: Numbers, heights: Numbers) -> tuple[int, float]:
    """Return the slice farthest from the line from first to last at its height, and how far."""
    share = ((heights - heights[0]) / (heights[-1] - heights[0]))[:, np.newaxis]
    off = np.linalg.norm(points - points[0] - share * (points[-1] - points[0]), axis=1)
    worst = int(np.argmax(off))
    return worst, float(off[worst])


def _allowed_off(points: Numbers, heights: Numbers) -> float:
    """Return how far a slice may lie from its even place, in mm: what rounding in a header loses.

    Scanners write positions with as little as one decimal, which in thin slices is much of a gap.
    """
    gap = float(np.median(np.diff(heights)))
    decimals = next(
        (
            number
            for number in range(_MOST_DECIMALS)
            if np.all(np.abs(points - points.round(number)) < 1e-6)
        ),
        _MOST_DECIMALS,
    )
    # Half a unit of the last decimal on each axis that they move on, and some for the line.
    moving = int(np.sum(np.ptp(points, axis=0) > 0))
    rounding = 0.75 * np.sqrt(moving) * 10.0**-decimals
    return float(np.clip(rounding, _PLACE_TOLERANCE * gap, _ROUNDED_PLACE_TOLERANCE * gap))


def _finer_gap(heights: Numbers) -> float:
    """Return the gap that at most a quarter of the gaps are smaller than."""
    return float(np.quantile(np.diff(heights), 0.25, method="lower"))


def _listed(values: Sequence[object] | Numbers, most: int = 6) -> str:
    shown = ", ".join(str(value) for value in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"
