"""Arrangement: the frames of a series in their places, by time point and slice, or a refusal.

Geometry comes from the position and orientation of every frame; nothing is taken from slice
thickness, from the names of files or from their order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError, InputError
from volseg.geometry import Grid, SliceStack, StackError, require_same_grid, stack_slices
from volseg.io.dicom.frames import Frame
from volseg.io.dicom.series import Series
from volseg.io.dicom.time_points import split_time_points

# Frames within this angle of one another are of one stack, which checks them more closely.
_PARALLEL = np.deg2rad(1.0)
_SAME_HEIGHT_MM = 1e-3
# Without the word LOCALIZER a scout is told by its few frames beside a volume of many.
_MOST_SCOUTS = 3
_FEWEST_SLICES_PER_SCOUT = 4


@dataclass(frozen=True)
class Arrangement:
    """The frames of a volume, or of several at one place.

    Attributes:
        frames: by time point and, within it, by slice of `stack`.
        stack: where the slices lie.
        told_apart_by: what the time points differ in; empty if there is one.
        set_aside: frames that are none of the volume's, with the reason.
        notes: what is unusual, one phrase each.
    """

    frames: tuple[tuple[Frame, ...], ...]
    stack: SliceStack
    told_apart_by: str = ""
    set_aside: tuple[tuple[Frame, str], ...] = ()
    notes: list[str] = field(default_factory=list)


def arrange(series: Series, source: str, *, irregular: bool = False) -> Arrangement:
    """Return the frames of a series in their places.

    Args:
        series: frames with headers read.
        source: where they come from, for messages.
        irregular: whether gaps between slices may differ.

    Raises:
        StackError: if the frames are not one stack, with the heights of the slices concerned.
        GeometryError: if a frame does not state where it lies, or they contradict each other.
        InputError: if frames or files are of a kind that cannot be in a volume.
    """
    what = f"the slices of the DICOM series in {source}"
    _require_images(series, source)
    frames, set_aside = _main_group(series.frames, source)
    _require_volume_frames(frames)
    notes = _notes(frames, set_aside)
    for file in series.unused:
        if file.is_damaged:
            raise InputError(
                f"cannot read {source}: {file.path}, a file of the series, is {file.reason}; copy "
                "the series again, or take the file away if you can do without it."
            )
        notes.append(f"{file.path.name} is not used: {file.reason}")
    columns, heights = _columns(frames)
    points, told_apart_by = split_time_points(columns, heights, what)
    stacks = [_stack(point, what, irregular=irregular) for point in points]
    stack = stacks[0]
    for point, other in zip(points[1:], stacks[1:], strict=True):
        _require_one_place(points[0][0], stack, point[0], other, what)
    ordered = tuple(tuple(point[number] for number in stack.order) for point in points)
    return Arrangement(ordered, stack, told_apart_by, tuple(set_aside), notes)


def _require_images(series: Series, source: str) -> None:
    if series.kind:
        raise InputError(
            f"cannot read {source}: the series {series.uid} is {series.kind}, expected an image; "
            "give the series it was made from."
        )


def _main_group(
    frames: Sequence[Frame], source: str
) -> tuple[list[Frame], list[tuple[Frame, str]]]:
    """Return the frames of the volume, and localizers and pictures that came in its series."""
    groups = _groups(frames)
    main = max(groups, key=lambda group: (not _is_localizer(group[0]), len(group)))
    set_aside: list[tuple[Frame, str]] = []
    for group in groups:
        if group is main:
            continue
        reason = _why_aside(group, main)
        if not reason:
            _require_placed(group[0])
            _require_placed(main[0])
            raise _mixed(main[0], group[0], source)
        set_aside.extend((frame, reason) for frame in group)
    for frame in main:
        _require_placed(frame)
    return main, set_aside


def _groups(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Return frames by size, spacing, space and orientation."""
    alike: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        alike[_size(frame), frame.orientation, frame.position is None].append(frame)
    groups: list[list[Frame]] = []
    for members in alike.values():
        home = next((group for group in groups if _belongs(members[0], group[0])), None)
        if home is None:
            groups.append(members)
        else:
            home.extend(members)
    return groups


def _size(frame: Frame) -> tuple[object, ...]:
    spacing = frame.pixel_spacing and tuple(round(step, 3) for step in frame.pixel_spacing)
    stored = frame.format
    space = frame.frame_of_reference_uid
    return stored.rows, stored.columns, stored.channels, spacing, space, _is_localizer(frame)


def _is_localizer(frame: Frame) -> bool:
    return any("LOCALIZER" in part for part in frame.image_type)


def _belongs(frame: Frame, other: Frame) -> bool:
    if _size(frame) != _size(other) or (frame.position is None) != (other.position is None):
        return False
    if frame.orientation is None or other.orientation is None:
        return frame.orientation is other.orientation
    apart = np.array(frame.orientation) - np.array(other.orientation)
    return bool(np.hypot(np.linalg.norm(apart[:3]), np.linalg.norm(apart[3:])) < _PARALLEL)


def _why_aside(group: Sequence[Frame], main: Sequence[Frame]) -> str:
    """Return why frames are certainly no slices of the volume; empty if they may be."""
    frame, other = group[0], main[0]
    if _is_localizer(frame) and not _is_localizer(other):
        return "a localizer"
    if frame.position is None and frame.sop_class_uid != other.sop_class_uid:
        return "a picture without a place in space"
    turned = (
        frame.orientation is not None
        and other.orientation is not None
        and not _parallel(frame.orientation, other.orientation)
    )
    few = len(group) <= _MOST_SCOUTS and len(main) >= _FEWEST_SLICES_PER_SCOUT * len(group)
    return "a scout of another orientation" if turned and few else ""


def _parallel(first: Sequence[float], second: Sequence[float]) -> bool:
    one, other = (np.cross(cosines[:3], cosines[3:]) for cosines in (first, second))
    return bool(np.linalg.norm(np.cross(one, other)) < np.sin(_PARALLEL))


def _mixed(frame: Frame, other: Frame, source: str) -> InputError:
    """Return what to raise for two groups of frames in one series."""
    for name, value in _properties():
        if value(frame) != value(other):
            return StackError(
                f"cannot read {source}: the slices of the series differ in {name}, got "
                f"{value(frame)} in {frame.name} and {value(other)} in {other.name}; give the "
                "slices of one volume only.",
                _heights([other]) if frame.orientation == other.orientation else (),
            )
    raise AssertionError("frames of two groups differ in some property")


def _properties() -> tuple[tuple[str, Callable[[Frame], object]], ...]:
    return (
        ("Rows", lambda frame: frame.format.rows),
        ("Columns", lambda frame: frame.format.columns),
        ("PhotometricInterpretation", lambda frame: frame.format.photometric),
        ("FrameOfReferenceUID", lambda frame: frame.frame_of_reference_uid),
        ("PixelSpacing", lambda frame: frame.pixel_spacing),
        ("ImageOrientationPatient", lambda frame: frame.orientation),
    )


def _require_placed(frame: Frame) -> None:
    if any("MOSAIC" in part for part in frame.image_type):
        raise InputError(
            f"cannot read {frame.name}: it is a mosaic, which shows all slices side by side in one "
            "picture; export the series as an enhanced or a plain one."
        )
    for name, value, count in (
        ("ImagePositionPatient", frame.position, 3),
        ("ImageOrientationPatient", frame.orientation, 6),
        ("PixelSpacing", frame.pixel_spacing, 2),
    ):
        if value is None:
            raise GeometryError(
                f"cannot place {frame.name} in the world: its header has no {name} of {count} "
                "numbers; a picture without geometry is no slice of a volume."
            )


def _require_volume_frames(frames: Sequence[Frame]) -> None:
    for frame in frames:
        if frame.pixels.is_open:
            raise InputError(
                f"cannot read {frame.name}: the file is cut short, its compressed pixels have no "
                "end; copy the series again."
            )
        needed = (frame.number + 1) * frame.format.frame_bytes
        if frame.pixels.length >= 0 and needed > frame.pixels.available:
            raise InputError(
                f"cannot read {frame.name}: the file is cut short, it has "
                f"{frame.pixels.available} bytes of pixels, expected {needed}; copy the series "
                "again."
            )


def _columns(frames: Sequence[Frame]) -> tuple[list[list[Frame]], list[float]]:
    """Return the frames at each position along the normal of the first, and these heights."""
    heights = _heights(frames)
    columns: list[list[Frame]] = []
    places: list[float] = []
    for number in np.argsort(heights, kind="stable"):
        if not places or heights[number] - places[-1] > _SAME_HEIGHT_MM:
            columns.append([])
            places.append(float(heights[number]))
        columns[-1].append(frames[number])
    return columns, places


def _stack(frames: Sequence[Frame], what: str, *, irregular: bool) -> SliceStack:
    return stack_slices(
        [frame.position or () for frame in frames],
        [frame.orientation or () for frame in frames],
        [frame.pixel_spacing or () for frame in frames],
        what=what,
        irregular=irregular,
    )


def _require_one_place(
    frame: Frame, stack: SliceStack, other_frame: Frame, other: SliceStack, what: str
) -> None:
    """Raise unless two volumes, of which these are frames, lie at one place.

    Their slices are at the same heights, but may be beside or turned against each other: of both
    knees, or of a patient who moved.
    """
    size = (frame.format.columns, frame.format.rows)
    try:
        require_same_grid(
            Grid((*size, stack.size), stack.affine),
            Grid((*size, other.size), other.affine),
            what=f"{what} at the same heights, as in {frame.name} and {other_frame.name},",
            advice="give the slices of one volume only",
        )
    except GeometryError as error:
        raise StackError(str(error), stack.heights) from error


def _heights(frames: Sequence[Frame]) -> npt.NDArray[np.float64]:
    """Return the places of frames along the normal of the first, LPS+ mm."""
    cosines = np.array(frames[0].orientation)
    normal = np.cross(cosines[:3], cosines[3:])
    return np.asarray(np.array([frame.position for frame in frames]) @ normal)


def _notes(frames: Sequence[Frame], set_aside: Sequence[tuple[Frame, str]]) -> list[str]:
    notes = [f"{frame.name} is set aside: {reason}" for frame, reason in set_aside]
    if any(frame.format.photometric == "MONOCHROME1" for frame in frames):
        notes.append("MONOCHROME1: shown with larger values darker; values are as stored")
    if any(frame.format.table is not None for frame in frames):
        notes.append("true values are those of the modality lookup table")
    paddings = {stored for frame in frames if (stored := frame.format.padding) is not None}
    if paddings:
        stated = " and ".join(str(padding) for padding in sorted(paddings))
        notes.append(f"pixels outside the image are stored as {stated}")
    return notes
