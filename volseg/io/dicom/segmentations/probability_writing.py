"""Writing of probabilities as fractional DICOM SEG, slice by slice (DICOM PS3.3 C.8.20.2.3)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor

from volseg.atomic import replacing
from volseg.errors import InputError, ShapeError
from volseg.geometry import require_same_grid
from volseg.io.array_on_disk import ReadableArray, is_on_disk, slabs
from volseg.io.dicom.segmentations.identity import Algorithm, identity_of
from volseg.io.dicom.segmentations.seg_compression import (
    compressed_frame,
    require_compression,
    set_frames,
)
from volseg.io.dicom.segmentations.seg_object import segmentation_object
from volseg.io.dicom.segmentations.segments import Segment, described_segments
from volseg.io.dicom.segmentations.source import SourceSlices, functional_group
from volseg.io.label_map import array_values
from volseg.io.meta_tensors import grid_of

_MOST = 255  # Maximum Fractional Value
_LEAST_KEPT = 0.5  # what rounds to 0 is not
_Frames = dict[tuple[int, int], bytes]


def write_dicom_probabilities(
    probabilities: Any,
    path: str | os.PathLike[str],
    *,
    source: SourceSlices,
    segments: Sequence[Segment] | None = None,
    algorithm: Algorithm | None = None,
    compression: str | None = "rle",
    stable: bool = False,
) -> Any:
    """Write the probabilities of classes as a fractional DICOM SEG, and return its dataset.

    A probability is kept to 1/255. Of an array on disk a few slices are in memory at a time, and
    what they become, compressed.

    Args:
        probabilities: array, tensor or array on disk `(classes, x, y, z)` from 0 to 1, on exactly
            the grid of the source; the first class is the background and is left out.
        path: of the file, `.dcm`.
        source: the series the labels belong to.
        segments: what the classes from 1 on stand for.
        algorithm: what made the probabilities; without it they are of unknown origin.
        compression: as in `write_dicom_seg`, or None.
        stable: as in `write_dicom_seg`.

    Raises:
        ShapeError: if the shape is not that of the source after an axis of classes.
        GeometryError: if a MetaTensor carries another affine.
        InputError: if values are not from 0 to 1, or the segments are not those of the classes.
        OutputError: if writing fails; nothing half-written is left.
        MissingPackageError: if highdicom is not installed.
    """
    if isinstance(probabilities, MetaTensor):
        what = "the probabilities and their series"
        require_same_grid(grid_of(probabilities), source.grid, what=what)
    values = probabilities if is_on_disk(probabilities) else array_values(probabilities)
    _require_shape(values.shape, source)
    described = _described_classes(values.shape[0], segments)
    require_compression(compression)
    frames = _frames(values, compression)
    about = repr((described, algorithm, list(frames))).encode()
    content = (b"fractional", about, *frames.values())
    dataset = segmentation_object(
        _presence(frames, values.shape),
        "FRACTIONAL",
        source=_of_one_pixel(source),
        segments=described,
        algorithm=algorithm,
        identity=identity_of(content, source.headers, stable=stable),
    )
    dataset.Columns, dataset.Rows = source.grid.shape[:2]
    empty = _stored(np.zeros(source.grid.shape[:2]), compression)
    places = _places(dataset, source)
    set_frames(dataset, [frames.get(place, empty) for place in places], compression)
    with replacing(path) as temporary:
        dataset.save_as(temporary)
    return dataset


def _require_shape(shape: tuple[int, ...], source: SourceSlices) -> None:
    if len(shape) != 4 or shape[1:] != source.grid.shape or shape[0] < 2:
        raise ShapeError(
            f"probabilities must have the shape (classes, {', '.join(map(str, source.grid.shape))})"
            f", background first, got {shape}; bring them back to the grid of the image."
        )


def _described_classes(classes: int, segments: Sequence[Segment] | None) -> list[Segment]:
    numbers = list(range(1, classes))
    described = described_segments(numbers, segments)
    if [segment.number for segment in described] != numbers:
        raise InputError(
            f"there are probabilities of the classes {numbers}, and segments with the numbers"
            f" {[segment.number for segment in described]}; describe each class once."
        )
    return described


def _frames(values: ReadableArray, compression: str | None) -> _Frames:
    """Return the frames that are not empty, by segment and slice."""
    frames: _Frames = {}
    place = 0
    for slab in slabs(values):
        if not (slab.min() >= 0 and slab.max() <= 1):  # false for what is not a number, too
            raise InputError(
                f"probabilities must lie between 0 and 1, got {slab.min()} to {slab.max()}; give "
                "the softmax of logits."
            )
        for plane in np.moveaxis(slab[0], -1, 0):
            segment, index = divmod(place, values.shape[-1])
            place += 1
            if segment and plane.max() * _MOST > _LEAST_KEPT:
                frames[segment, index] = _stored(plane, compression)
    return frames


def _stored(plane: npt.NDArray[Any], compression: str | None) -> bytes:
    """Return probabilities `(x, y)` as a frame."""
    rows = np.rint(plane.T * np.float32(_MOST)).astype(np.uint8)
    return rows.tobytes() if compression is None else compressed_frame(rows, compression)


def _presence(frames: _Frames, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return whether there are frames of a slice and a segment, `(slices, 1, 1, segments)`."""
    present = np.zeros((shape[3], 1, 1, shape[0] - 1), np.bool_)
    for segment, index in frames:
        present[index, 0, 0, segment - 1] = True
    return present


def _of_one_pixel(source: SourceSlices) -> SourceSlices:
    """Return slices of one pixel.

    highdicom makes several copies of all probabilities and sorts them. So it is given an image so
    small that this costs nothing, and its frames are replaced.
    """
    from pydicom import Dataset  # noqa: PLC0415 - optional, and there if it made the headers

    headers = []
    for header in source.headers:
        small = Dataset()
        small.update(header)
        for name in ("Rows", "Columns"):
            del small[name]  # or the caller's element would get the value
            setattr(small, name, 1)
        headers.append(small)
    return replace(source, headers=tuple(headers))


def _places(dataset: Any, source: SourceSlices) -> Iterator[tuple[int, int]]:
    """Yield the segment and the slice of each frame of a dataset."""
    origins = source.origins
    for frame in range(1, int(dataset.NumberOfFrames) + 1):
        segment = functional_group(dataset, frame, "SegmentIdentificationSequence")
        place = functional_group(dataset, frame, "PlanePositionSequence")
        position = np.array(place.ImagePositionPatient, np.float64)
        apart = np.linalg.norm(origins - position, axis=1)
        yield int(segment.ReferencedSegmentNumber), int(apart.argmin())
