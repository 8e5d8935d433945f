"""Writing of label maps as DICOM SEG, on the frames of the series (DICOM PS3.3 A.51, A.86)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from volseg.atomic import replacing
from volseg.errors import InputError
from volseg.io.dicom.segmentations.identity import Algorithm, identity_of
from volseg.io.dicom.segmentations.seg_compression import (
    compressed_frame,
    require_compression,
    set_frames,
)
from volseg.io.dicom.segmentations.seg_object import segmentation_object
from volseg.io.dicom.segmentations.segments import Segment, described_segments
from volseg.io.dicom.segmentations.source import SourceSlices
from volseg.io.label_map import label_values

ENCODINGS = ("binary", "labelmap")


def write_dicom_seg(
    labels: Any,
    path: str | os.PathLike[str],
    *,
    source: SourceSlices,
    segments: Sequence[Segment] | None = None,
    algorithm: Algorithm | None = None,
    encoding: str = "binary",
    compression: str | None = None,
    stable: bool = False,
) -> Any:
    """Write a label map as DICOM SEG, and return its pydicom dataset.

    Args:
        labels: array, tensor or MetaTensor `(1, x, y, z)` or `(x, y, z)` of whole numbers, on
            exactly the grid of the source.
        path: of the file, `.dcm`.
        source: the series the labels belong to.
        segments: what the labels stand for, also those that are not in this map; by default
            `unnamed_segments` of those that are.
        algorithm: what made the labels; without it they are of unknown origin.
        encoding: "binary", one mask a segment, which every program reads; or "labelmap" (DICOM
            2023 and later), one value a voxel.
        compression: "rle", "jpeg-ls" or "jpeg2000" (all lossless), of encoding "labelmap" only.
        stable: whether the same labels of the same source by the same algorithm give the same file,
            with the same UIDs; its times are those of the source.

    Raises:
        ShapeError: if the labels have another shape than the source.
        GeometryError: if they carry another affine.
        InputError: if they are not labels, one of them is not described, or the encoding cannot
            hold them.
        OutputError: if writing fails; nothing half-written is left.
        MissingPackageError: if highdicom is not installed.
    """
    values = label_values(labels, source.grid)
    found = [int(value) for value in np.unique(values) if value > 0]
    described = described_segments(found, segments)
    _require_encodable(described, encoding, compression)
    about = repr((described, algorithm)).encode()
    content = (encoding.encode(), values.tobytes(), about)
    dataset = segmentation_object(
        values.transpose(2, 1, 0),
        encoding.upper(),
        source=source,
        segments=described,
        algorithm=algorithm,
        identity=identity_of(content, source.headers, stable=stable),
    )
    if compression is not None:
        planes = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        set_frames(dataset, (compressed_frame(one, compression) for one in planes), compression)
    with replacing(path) as temporary:
        dataset.save_as(temporary)
    return dataset


def _require_encodable(segments: Sequence[Segment], encoding: str, compression: str | None) -> None:
    if encoding not in ENCODINGS:
        raise InputError(
            f"the encoding {encoding!r} is not known; expected {' or '.join(ENCODINGS)}."
        )
    require_compression(compression)
    numbers = [segment.number for segment in segments]
    if encoding == "binary" and numbers != list(range(1, len(numbers) + 1)):
        raise InputError(
            f"the segments have the numbers {', '.join(map(str, numbers[:8]))}, but those of a "
            "binary DICOM SEG must be 1, 2, 3 and so on: describe the missing ones, too, or take "
            "dicom-labelmap, which keeps any values."
        )
    if encoding == "binary" and compression is not None:
        raise InputError(
            f"a binary DICOM SEG cannot be compressed by {compression}; leave it out, or take "
            "dicom-labelmap."
        )
