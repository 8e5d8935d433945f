"""Reading of DICOM SEG objects, whoever wrote them: a label map on the grid of its source.

Frames may come in any order and empty ones are left out of the file, so each is placed by its own
position and orientation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError, InputError
from volseg.geometry import Affine, Grid
from volseg.io.dicom.segmentations.segments import (
    Segment,
    color_unless_usual,
    require_described,
)
from volseg.io.dicom.segmentations.source import functional_group
from volseg.io.dicom.segmentations.stored_segmentation import (
    SEG_CLASSES,
    LabelMapMaker,
    StoredSegmentation,
    open_dicom,
    require_known_overlap,
    stored_algorithm,
    stored_code,
    stored_modifiers,
)
from volseg.io.stored_image import StoredImage, within_memory
from volseg.label_colors import Color

_TOLERANCE_IN_VOXELS = 0.05  # of frames from where the source's slices are
_GAP_TOLERANCE = 0.01  # as of the gaps of an image series
_COSINE_TOLERANCE = 1e-3
_CLOSEST_SLICES = 1e-3  # mm, by which positions are told apart
_OF_A_FRAME = ("PlanePosition", "PlaneOrientation", "PixelMeasures", "SegmentIdentification")

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Frame:
    number: int | None  # of the segment; None in a label map
    origin: Numbers  # LPS+ mm
    axes: Numbers  # (3, 2): a step along rising column, and row, LPS+ mm
    spacing_between: float | None  # as stated, mm
    thickness: float | None


_PlacedPlane = tuple[_Frame, int, npt.NDArray[Any]]  # with the slice of the grid it lies on


def read_dicom_seg(
    path: str | os.PathLike[str], *, source: Grid | None = None, overlap: str = "refuse"
) -> StoredSegmentation:
    """Return a DICOM SEG as a label map whose values are its segment numbers.

    Args:
        path: binary, label map or fractional SEG of planes in the patient.
        source: grid of the series it was made from. Without it the grid is that of the SEG's own
            planes, from its first to its last frame; slices between them that have no frame are
            empty.
        overlap: what becomes of voxels in several segments: "refuse", "last" (the higher number
            wins) or "channels" (one mask a segment). Segments of a fractional SEG are channels.

    Raises:
        InputError: if it is missing, damaged or something else, or segments overlap.
        GeometryError: if its frames do not lie on the slices of the source or, without one, on one
            uniform stack of slices of a known distance.
        MissingPackageError: if pydicom is not installed.
    """
    require_known_overlap(overlap)
    dataset = open_dicom(path)
    if str(dataset.get("SOPClassUID", "")) not in SEG_CLASSES:
        raise InputError(
            f"cannot read {path} as DICOM SEG: its SOP class is {dataset.get('SOPClassUID')}."
        )
    where = str(path)
    try:
        segments = _segments(dataset)
        frames = _frames(dataset, where)
        size = (int(dataset.Columns), int(dataset.Rows))
        kind = str(dataset.SegmentationType)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"cannot read {path}: its headers are incomplete ({error}); export it again."
        ) from error
    require_described([frame.number for frame in frames if frame.number is not None], segments)
    if source is None:
        grid, places = _own_grid(frames, size, where)
    else:
        grid, places = source, [_slice_of(frame, source, size, where) for frame in frames]
    with within_memory(where):
        planes = zip(frames, places, _planes(dataset, size, len(frames), where), strict=True)
        if kind == "FRACTIONAL":
            most = np.float32(dataset.MaximumFractionalValue)
            values = _fractions(planes, segments, grid, most)
        else:
            values = _label_map(planes, segments, grid, overlap, where)
    image = StoredImage(
        values=values,
        affine=grid.affine,
        format=f"DICOM SEG ({kind.lower()})",
        stored_type="bit" if kind == "BINARY" else f"uint{int(dataset.BitsAllocated)}",
        source=where,
        remarks=[f"segment {segment.number}: {segment.name}" for segment in segments],
        meta={"modality": "SEG", "series_instance_uid": str(dataset.get("SeriesInstanceUID", ""))},
    )
    space = str(dataset.get("FrameOfReferenceUID") or "")
    return StoredSegmentation(image, tuple(segments), frozenset({space} - {""}))


def _fractions(
    planes: Iterable[_PlacedPlane], segments: list[Segment], grid: Grid, most: np.float32
) -> npt.NDArray[np.float32]:
    """Return the fractions of each segment, a channel each; ``most`` is what stands for one."""
    values = np.zeros((len(segments), *grid.shape), np.float32)
    channels = {segment.number: channel for channel, segment in enumerate(segments)}
    for frame, place, plane in planes:
        values[channels[frame.number or 0], :, :, place] = plane / most
    return values


def _label_map(
    planes: Iterable[_PlacedPlane], segments: list[Segment], grid: Grid, overlap: str, where: str
) -> npt.NDArray[Any]:
    """Return the label map, or a mask of each segment, as ``overlap`` says."""
    names = {segment.number: segment.name for segment in segments}
    maker = LabelMapMaker(grid.shape, list(names), overlap)
    for frame, place, plane in planes:
        if frame.number is not None:
            maker.add(frame.number, place, plane > 0)
            continue
        found = np.unique(plane[plane > 0])
        require_described(found.tolist(), segments)
        for number in found:
            maker.add(int(number), place, plane == number)
    return maker.finish(where, names)


def _segments(dataset: Any) -> list[Segment]:
    found = []
    for item in dataset.SegmentSequence:
        number = int(item.SegmentNumber)
        if number == 0:  # the background of a label map
            continue
        kind = item.SegmentedPropertyTypeCodeSequence
        regions = item.get("AnatomicRegionSequence") or ()
        found.append(
            Segment(
                number=number,
                name=str(item.get("SegmentLabel") or f"label {number}"),
                category=stored_code(item.SegmentedPropertyCategoryCodeSequence),
                type=stored_code(kind),
                modifiers=stored_modifiers(kind),
                regions=tuple(stored_code([region]) for region in regions),
                color=_color(item, number),
                algorithm=stored_algorithm(
                    str(item.get("SegmentAlgorithmType") or ""),
                    str(item.get("SegmentAlgorithmName") or ""),
                    item.get("SegmentationAlgorithmIdentificationSequence") or (),
                ),
            )
        )
    return sorted(found, key=lambda segment: segment.number)


def _color(item: Any, number: int) -> Color | None:
    """Return the colour of a segment, None if it is what volseg gives that number."""
    stored = item.get("RecommendedDisplayCIELabValue")
    if stored is None:
        return None
    try:
        from highdicom.color import CIELabColor  # noqa: PLC0415 - optional, and not worth an error
    except ImportError:
        return None
    red, green, blue = CIELabColor.from_dicom_value(stored).to_rgb(clip=True)
    return color_unless_usual((red, green, blue), number)


def _frames(dataset: Any, where: str) -> list[_Frame]:
    frames = []
    for frame in range(1, len(dataset.PerFrameFunctionalGroupsSequence) + 1):
        place, turn, measures, segment = (
            functional_group(dataset, frame, f"{name}Sequence") for name in _OF_A_FRAME
        )
        if place is None or turn is None or measures is None:
            raise InputError(
                f"cannot read {where}: its frames do not state where in the patient they lie (a "
                "slide of microscopy?); expected plane positions, orientation and pixel measures."
            )
        cosines = np.array([float(value) for value in turn.ImageOrientationPatient])
        between_rows, between_columns = (float(value) for value in measures.PixelSpacing)
        frames.append(
            _Frame(
                number=None if segment is None else int(segment.ReferencedSegmentNumber),
                origin=np.array([float(value) for value in place.ImagePositionPatient]),
                axes=cosines.reshape(2, 3).T * (between_columns, between_rows),
                spacing_between=_positive(measures.get("SpacingBetweenSlices")),
                thickness=_positive(measures.get("SliceThickness")),
            )
        )
    return frames


def _positive(value: Any) -> float | None:
    return float(value) if value not in (None, "") and float(value) > 0 else None


def _planes(
    dataset: Any, size: tuple[int, int], count: int, where: str
) -> Iterator[npt.NDArray[Any]]:
    """Yield the stored values of each frame as (columns, rows)."""
    from pydicom.pixels import iter_pixels  # noqa: PLC0415

    done = 0
    try:
        packed = int(dataset.BitsAllocated) == 1
        if packed and not dataset.file_meta.TransferSyntaxUID.is_compressed:
            planes = _unpacked(dataset.PixelData, size, count)
        else:
            planes = iter_pixels(dataset, raw=True)
        for plane in planes:
            if plane.shape != (size[1], size[0]):
                raise ValueError(f"a frame has the shape {plane.shape}")
            done += 1
            yield plane.T
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many types
        raise InputError(
            f"cannot read {where}: its pixels are damaged or compressed in an unknown way "
            f"({error}); export it again."
        ) from error
    if done != count:
        raise InputError(
            f"cannot read {where}: it holds {done} frames where its headers describe {count}; "
            "export it again."
        )


def _unpacked(packed: bytes, size: tuple[int, int], count: int) -> Iterator[npt.NDArray[Any]]:
    """Yield frames of one bit a pixel, which need not begin with a byte (pydicom 3.0 has them do).

    PS3.5 8.1.1: the first pixel is the lowest bit.
    """
    pixels = size[0] * size[1]
    stored = np.frombuffer(packed, np.uint8)
    for start in range(0, count * pixels, pixels):
        held = stored[start // 8 : (start + pixels + 7) // 8]
        bits = np.unpackbits(held, bitorder="little")
        yield bits[start % 8 : start % 8 + pixels].reshape(size[1], size[0])


def _slice_of(frame: _Frame, grid: Grid, size: tuple[int, int], where: str) -> int:
    """Return the slice of the source that a frame lies on."""
    steps = np.array([[0, 0], [size[0] - 1, 0], [0, size[1] - 1]])
    corners = (frame.origin + steps @ frame.axes.T) * (-1, -1, 1)
    found = grid.affine.inverse().apply(corners)
    index = round(float(found[0, 2]))
    expected = np.column_stack([steps, np.full(3, index)])
    apart = float(np.abs(found - expected).max())
    if size != grid.shape[:2] or not 0 <= index < grid.shape[2] or apart > _TOLERANCE_IN_VOXELS:
        own = f"{size[0]} x {size[1]} pixels, first one at voxel {np.round(found[0], 2).tolist()}"
        raise GeometryError(
            f"a frame of {where} does not lie on a slice of the source, {grid.describe()}: it has "
            f"{own} of it; give the series it was made from, or read it on its own grid."
        )
    return index


def _own_grid(frames: list[_Frame], size: tuple[int, int], where: str) -> tuple[Grid, list[int]]:
    """Return the grid of the planes of a SEG, and the slice of each frame."""
    axes = frames[0].axes
    unit = axes / np.linalg.norm(axes, axis=0)
    if abs(unit[:, 0] @ unit[:, 1]) > _COSINE_TOLERANCE:
        raise GeometryError(f"the rows and columns of {where} are not perpendicular.")
    for frame in frames:
        if np.abs(frame.axes - axes).max() > _COSINE_TOLERANCE * np.abs(axes).max():
            raise GeometryError(
                f"the frames of {where} differ in orientation or pixel spacing, so they are not "
                "the slices of one volume; give the series it was made from."
            )
    normal = np.cross(unit[:, 0], unit[:, 1])
    origins = np.array([frame.origin for frame in frames])
    heights = origins @ normal
    distance = _slice_distance(np.unique(heights.round(3)), frames[0], where)
    steps = (heights - heights.min()) / distance
    places = np.rint(steps).astype(int)
    first, last = origins[np.argmin(heights)], origins[np.argmax(heights)]
    count = int(places.max()) + 1
    step = (last - first) / (count - 1) if count > 1 else normal * distance
    apart = np.linalg.norm(origins - (first + places[:, np.newaxis] * step), axis=1).max()
    if apart > max(5 * _GAP_TOLERANCE * distance, 0.01):
        raise GeometryError(
            f"the frames of {where} do not lie on slices {distance:.4g} mm apart along one line, "
            f"but up to {apart:.4g} mm off; give the series it was made from."
        )
    matrix = np.eye(4)
    matrix[:3, :2], matrix[:3, 2], matrix[:3, 3] = axes, step, first
    return Grid((*size, count), Affine.from_lps(matrix)), [int(place) for place in places]


def _slice_distance(heights: Numbers, frame: _Frame, where: str) -> float:
    """Return the distance of slices, which frames that were left out must not stretch.

    It is what the file states or, if it states none, a gap that is the slice thickness or occurs
    more than once.
    """
    if frame.spacing_between is not None:
        if frame.spacing_between < _CLOSEST_SLICES:
            raise GeometryError(
                f"cannot place {where} in the world: it states that its slices are "
                f"{frame.spacing_between:g} mm apart, expected {_CLOSEST_SLICES} mm or more; give "
                "the series it was made from."
            )
        return frame.spacing_between
    gaps = np.diff(heights)
    smallest = float(gaps.min()) if gaps.size else 0.0
    alike = int(np.sum(np.abs(gaps - smallest) <= _GAP_TOLERANCE * smallest))
    thick = frame.thickness or 0.0
    if gaps.size and (alike > 1 or abs(thick - smallest) <= _GAP_TOLERANCE * smallest):
        return smallest
    raise GeometryError(
        f"cannot tell how far apart the slices of {where} are: it states no spacing between slices "
        f"and its frames lie at {len(heights)} positions; give the series it was made from."
    )
