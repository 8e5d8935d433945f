"""Writing of DICOM SEG objects, on the frames of the source series (DICOM PS3.3 A.51, A.86).

The object itself is highdicom's; here is what it is given and what it lacks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor

from volseg.atomic import replacing
from volseg.errors import InputError, MissingPackageError, ShapeError
from volseg.geometry import require_same_grid
from volseg.io.dicom.files import without_pydicom_warnings
from volseg.io.dicom.segmentations.identity import (
    MANUFACTURER,
    Algorithm,
    Identity,
    made_by,
    new_identity,
    stable_identity,
)
from volseg.io.dicom.segmentations.segments import Segment, require_described, unnamed_segments
from volseg.io.dicom.segmentations.source import SourceSlices
from volseg.io.label_map import array_values, label_values
from volseg.io.meta_tensor import grid_of

SERIES_NUMBER = 9001
ENCODINGS = ("binary", "labelmap")
# Lossless ones, each with pydicom's name of the encoder: python-gdcm's of RLE ends the process on
# frames of an odd number of pixels.
_COMPRESSIONS = {
    "rle": ("1.2.840.10008.1.2.5", "pydicom"),
    "jpeg-ls": ("1.2.840.10008.1.2.4.80", "pyjpegls"),
    "jpeg2000": ("1.2.840.10008.1.2.4.90", "pylibjpeg"),
}


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
    described = sorted(
        unnamed_segments(found) if segments is None else segments, key=lambda one: one.number
    )
    require_described(found, described)
    _require_encodable(described, encoding, compression)
    identity = new_identity()
    if stable:
        content = (encoding.encode(), values.tobytes(), repr((described, algorithm)).encode())
        identity = stable_identity(content, source.headers)
    dataset = _segmentation(
        values.transpose(2, 1, 0),
        encoding.upper(),
        source=source,
        segments=described,
        algorithm=algorithm,
        compression=compression,
        identity=identity,
    )
    with replacing(path) as temporary:
        dataset.save_as(temporary)
    return dataset


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

    A probability is kept to 1/255.

    Args:
        probabilities: array or tensor `(classes, x, y, z)` from 0 to 1, on exactly the grid of the
            source; the first class is the background and is left out.
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
    values = array_values(probabilities).astype(np.float32, copy=False)
    if values.ndim != 4 or values.shape[1:] != source.grid.shape or values.shape[0] < 2:
        raise ShapeError(
            f"probabilities must have the shape (classes, {', '.join(map(str, source.grid.shape))})"
            f", background first, got {values.shape}; bring them back to the grid of the image."
        )
    if not (values.min() >= 0 and values.max() <= 1):  # false for what is not a number, too
        raise InputError(
            f"probabilities must lie between 0 and 1, got {values.min()} to {values.max()}; give "
            "the softmax of logits."
        )
    numbers = range(1, len(values))
    described = sorted(
        unnamed_segments(numbers) if segments is None else segments, key=lambda one: one.number
    )
    if [segment.number for segment in described] != list(numbers):
        raise InputError(
            f"there are probabilities of the classes {list(numbers)}, and segments with the numbers"
            f" {[segment.number for segment in described]}; describe each class once."
        )
    _require_compression(compression)
    identity = new_identity()
    if stable:
        content = (b"fractional", values.tobytes(), repr((described, algorithm)).encode())
        identity = stable_identity(content, source.headers)
    dataset = _segmentation(
        values[1:].transpose(3, 2, 1, 0),
        "FRACTIONAL",
        source=source,
        segments=described,
        algorithm=algorithm,
        compression=compression,
        identity=identity,
    )
    with replacing(path) as temporary:
        dataset.save_as(temporary)
    return dataset


def _require_encodable(segments: Sequence[Segment], encoding: str, compression: str | None) -> None:
    if encoding not in ENCODINGS:
        raise InputError(
            f"the encoding {encoding!r} is not known; expected {' or '.join(ENCODINGS)}."
        )
    _require_compression(compression)
    if not segments:
        raise InputError(
            "a DICOM SEG needs at least one segment, but the label map is empty and no segment is "
            "described: describe those that were looked for."
        )
    numbers = [segment.number for segment in segments]
    if encoding == "binary" and numbers != list(range(1, len(numbers) + 1)):
        raise InputError(
            f"the segments have the numbers {', '.join(map(str, numbers[:8]))}, but those of a "
            "binary DICOM SEG must be 1, 2, 3 and so on: describe the missing ones, too, or use "
            "the encoding labelmap, which keeps any values."
        )
    if encoding == "binary" and compression is not None:
        raise InputError(
            f"a binary DICOM SEG cannot be compressed by {compression}; leave it out, or use the "
            "encoding labelmap."
        )


def _require_compression(compression: str | None) -> None:
    if compression is not None and compression not in _COMPRESSIONS:
        known = ", ".join(_COMPRESSIONS)
        raise InputError(f"the compression {compression!r} is not known; expected one of {known}.")


def _segmentation(
    frames: npt.NDArray[Any],
    kind: str,
    *,
    source: SourceSlices,
    segments: Sequence[Segment],
    algorithm: Algorithm | None,
    compression: str | None,
    identity: Identity,
) -> Any:
    """Return the dataset of frames `(slices, rows, columns)`, or with an axis of segments last."""
    try:
        import highdicom  # noqa: PLC0415 - an optional package, asked for when it is needed
    except ImportError as error:
        raise MissingPackageError("writing DICOM SEG", "highdicom", "dicom") from error

    if source.frames is not None:  # of a multi-frame file, in the order of its own frames
        own = np.zeros((int(source.headers[0].NumberOfFrames), *frames.shape[1:]), frames.dtype)
        own[np.array(source.frames) - 1] = frames
        frames = own
    model, versions, about = made_by(algorithm)
    try:
        with without_pydicom_warnings():
            dataset = highdicom.seg.Segmentation(
                source_images=list(source.headers),
                pixel_array=np.ascontiguousarray(frames),
                segmentation_type=kind,
                segment_descriptions=[
                    _description(segment, algorithm, identity) for segment in segments
                ],
                series_instance_uid=identity.uid("series"),
                series_number=SERIES_NUMBER,
                sop_instance_uid=identity.uid("instance"),
                instance_number=1,
                manufacturer=MANUFACTURER,
                manufacturer_model_name=model,
                software_versions=tuple(versions),
                device_serial_number="none",
                content_label="SEGMENTATION",
                content_description=about,
                content_creator_name=f"{MANUFACTURER}^",
                series_description=about,
                # All frames of an empty map: a SEG without a frame is none.
                omit_empty_frames=bool(frames.any()),
                specific_character_set="ISO_IR 192",
            )
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"cannot make a DICOM SEG of the series {source.headers[0].SeriesInstanceUID}: its "
            f"headers do not allow it ({error}); export the series again."
        ) from error
    if algorithm is None:
        for item in dataset.SegmentSequence:
            if "SegmentationAlgorithmIdentificationSequence" in item:
                del item.SegmentationAlgorithmIdentificationSequence
    _name_dimensions(dataset, identity.uid("dimensions"))
    identity.stamp(dataset)
    if compression is not None:
        _compress(dataset, compression)
    return dataset


def _compress(dataset: Any, compression: str) -> None:
    uid, encoder = _COMPRESSIONS[compression]
    try:
        dataset.compress(uid, encoding_plugin=encoder, generate_instance_uid=False)
    except RuntimeError as error:
        package = {"pylibjpeg": "pylibjpeg-openjpeg"}.get(encoder, encoder)
        raise MissingPackageError(f"the compression {compression}", package) from error


def _description(segment: Segment, algorithm: Algorithm | None, identity: Identity) -> Any:
    import highdicom  # noqa: PLC0415
    from pydicom.sr.codedict import codes  # noqa: PLC0415

    # Only highdicom requires one; `_segmentation` takes it out again.
    stated = algorithm or Algorithm("not stated", "not stated")
    description = highdicom.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=_concept(segment.category),
        segmented_property_type=_concept(segment.type),
        algorithm_type="SEMIAUTOMATIC" if algorithm is None else "AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=stated.name[:64],
            family=codes.DCM.ArtificialIntelligence,
            version=stated.version[:64],
            source=MANUFACTURER,
        ),
        tracking_uid=identity.uid(f"tracking {segment.number}"),
        tracking_id=f"{segment.number} {segment.label}"[:64],
        anatomic_regions=[_concept(region) for region in segment.regions] or None,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.shown_color),
    )
    if segment.modifiers:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [
            _concept(modifier) for modifier in segment.modifiers
        ]
    return description


def _concept(code: Any) -> Any:
    import highdicom  # noqa: PLC0415

    return highdicom.sr.CodedConcept(code.value, code.scheme, code.meaning)


def _name_dimensions(dataset: Any, uid: str) -> None:
    """Give the dimensions the UID, in the place of the one highdicom draws."""
    for item in dataset.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = uid
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid
