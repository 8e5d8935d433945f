"""Writing of RT structure sets: closed contours in patient coordinates (DICOM PS3.3 A.19)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.atomic import replacing
from volseg.errors import MissingPackageError
from volseg.io.dicom.segmentations.completing import REPEATED
from volseg.io.dicom.segmentations.concepts import code_item
from volseg.io.dicom.segmentations.contours import Points, mask_contours
from volseg.io.dicom.segmentations.identity import (
    MANUFACTURER,
    Algorithm,
    Identity,
    identity_of,
    made_by,
)
from volseg.io.dicom.segmentations.segments import Code, Segment, described_segments
from volseg.io.dicom.segmentations.source import SourceSlices
from volseg.io.dicom.segmentations.stored_segmentation import CONTOUR_DATA, RTSTRUCT_CLASS
from volseg.io.label_map import label_values

SERIES_NUMBER = 9002
# Contour Data of long contours do not fit the 16-bit length that explicit VRs give them.
_TRANSFER_SYNTAX = "1.2.840.10008.1.2"
_FAMILY = Code("123109", "DCM", "Artificial Intelligence")
_DETACHED_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_REPEATED = (
    *REPEATED,
    "StudyInstanceUID",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "FrameOfReferenceUID",
)


def write_rtstruct(
    labels: Any,
    path: str | os.PathLike[str],
    *,
    source: SourceSlices,
    segments: Sequence[Segment] | None = None,
    algorithm: Algorithm | None = None,
    stable: bool = False,
) -> Any:
    """Write a label map as RTSTRUCT, and return its pydicom dataset.

    Each segment becomes a region of interest whose number is the label's value; its contours follow
    the edges of its pixels and lie in the planes of the source's slices. Holes are joined to the
    outer contour (keyhole). One without voxels has no contours.

    Args:
        labels: array, tensor or MetaTensor `(1, x, y, z)` or `(x, y, z)` of whole numbers, on
            exactly the grid of the source.
        path: of the file, `.dcm`.
        source: the series the labels belong to.
        segments: what the labels stand for, also those that are not in this map; by default
            `unnamed_segments` of those that are.
        algorithm: what made the labels; without it they are of unknown origin.
        stable: whether the same labels of the same source by the same algorithm give the same file,
            with the same UIDs; its times are those of the source.

    Raises:
        ShapeError: if the labels have another shape than the source.
        GeometryError: if they carry another affine.
        InputError: if they are not labels, or one of them is not described.
        OutputError: if writing fails; nothing half-written is left.
        MissingPackageError: if pydicom is not installed.
    """
    try:
        import pydicom  # noqa: F401, PLC0415 - an optional package, asked for when it is needed
    except ImportError as error:
        raise MissingPackageError("writing RTSTRUCT", "pydicom", "dicom") from error

    values = label_values(labels, source.grid)
    boxes = {
        number: box for number, box in enumerate(ndimage.find_objects(values), 1) if box is not None
    }
    described = described_segments(list(boxes), segments)
    about = repr((described, algorithm)).encode()
    identity = identity_of((b"rtstruct", values.tobytes(), about), source.headers, stable=stable)
    dataset = _structure_set(source, algorithm, identity)
    dataset.StructureSetROISequence = [
        _structure(segment, source, segment.algorithm or algorithm) for segment in described
    ]
    dataset.ROIContourSequence = [
        _roi_contours(segment, _contours(values, segment.number, boxes.get(segment.number)), source)
        for segment in described
    ]
    dataset.RTROIObservationsSequence = [_observation(segment) for segment in described]
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
    return dataset


def _contours(
    values: npt.NDArray[Any], number: int, box: tuple[slice, ...] | None
) -> Iterable[tuple[int, Points]]:
    """Yield the slice and the index coordinates (x, y) of each contour of a label."""
    if box is None:
        return
    start = (box[0].start, box[1].start)
    for index in range(box[2].start, box[2].stop):
        for contour in mask_contours(values[box[0], box[1], index] == number):
            yield index, contour + start


def _structure_set(source: SourceSlices, algorithm: Algorithm | None, identity: Identity) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset  # noqa: PLC0415

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = _TRANSFER_SYNTAX
    first = source.headers[0]
    for name in _REPEATED:
        if name in first:
            dataset[name] = first[name]
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = RTSTRUCT_CLASS
    dataset.SOPInstanceUID = identity.uid("instance")
    dataset.SeriesInstanceUID = identity.uid("series")
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.InstanceNumber = 1
    dataset.Modality = "RTSTRUCT"
    dataset.OperatorsName = ""
    dataset.Manufacturer = MANUFACTURER
    model, versions, about = made_by(algorithm)
    dataset.ManufacturerModelName, dataset.SoftwareVersions = model, versions
    dataset.SeriesDescription = dataset.StructureSetName = about
    dataset.StructureSetLabel = "SEGMENTATION"
    dataset.ApprovalStatus = "UNAPPROVED"
    for name in ("InstanceCreation", "StructureSet", "Series"):
        setattr(dataset, f"{name}Date", "")
        setattr(dataset, f"{name}Time", "")
    identity.stamp(dataset)
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame_of_reference(source)]
    return dataset


def _referenced_frame_of_reference(source: SourceSlices) -> Any:
    from pydicom.dataset import Dataset  # noqa: PLC0415

    first = source.headers[0]
    series = Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_image_reference(header, None) for header in source.headers]
    study = Dataset()
    study.ReferencedSOPClassUID = _DETACHED_STUDY_CLASS
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    item = Dataset()
    item.FrameOfReferenceUID = first.FrameOfReferenceUID
    item.RTReferencedStudySequence = [study]
    return item


def _image_reference(header: Any, frame: int | None) -> Any:
    from pydicom.dataset import Dataset  # noqa: PLC0415

    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame
    return item


def _structure(segment: Segment, source: SourceSlices, algorithm: Algorithm | None) -> Any:
    from pydicom.dataset import Dataset  # noqa: PLC0415

    item = Dataset()
    item.ROINumber = segment.number
    item.ReferencedFrameOfReferenceUID = source.headers[0].FrameOfReferenceUID
    item.ROIName = segment.label
    item.ROIGenerationAlgorithm = "" if algorithm is None else algorithm.type
    if algorithm is not None and algorithm.name:
        item.ROIGenerationDescription = f"{algorithm.name} {algorithm.version}".strip()[:64]
        if algorithm.version:
            item.ROIDerivationAlgorithmIdentificationSequence = [_identification(algorithm)]
    return item


def _identification(algorithm: Algorithm) -> Any:
    """Return name and version apart, which other programs ignore (DICOM PS3.3 C.8.8.5)."""
    from pydicom.dataset import Dataset  # noqa: PLC0415

    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [code_item(_FAMILY)]
    item.AlgorithmName = algorithm.name[:64]
    item.AlgorithmVersion = algorithm.version[:64]
    return item


def _roi_contours(
    segment: Segment, contours: Iterable[tuple[int, Points]], source: SourceSlices
) -> Any:
    from pydicom.dataset import Dataset  # noqa: PLC0415

    in_plane = source.grid.affine.to_lps()[:3, :2]
    origins, places = source.origins, source.places
    item = Dataset()
    item.ReferencedROINumber = segment.number
    item.ROIDisplayColor = list(segment.shown_color)
    parts = []
    for index, contour in contours:
        points = origins[index] + contour @ in_plane.T
        part = Dataset()
        part.ContourImageSequence = [_image_reference(*places[index])]
        part.ContourGeometricType = "CLOSED_PLANAR"
        part.NumberOfContourPoints = len(points)
        part[CONTOUR_DATA] = _contour_data(points)
        parts.append(part)
    if parts:
        item.ContourSequence = parts
    return item


def _contour_data(points: Points) -> Any:
    """Return coordinates as decimal strings, to 0.1 µm: at most 16 characters within 10 km.

    They are given as the bytes of the file: pydicom would check each number, for minutes.
    """
    from pydicom.dataelem import RawDataElement  # noqa: PLC0415

    rounded = np.round(points, 4) + 0.0  # no negative zeros
    numbers = [f"{value:.4f}".rstrip("0").rstrip(".") for value in rounded.ravel()]
    text = "\\".join(numbers).encode("ascii")
    padded = text + b" " * (len(text) % 2)
    return RawDataElement(CONTOUR_DATA, "DS", len(padded), padded, 0, True, True)


def _observation(segment: Segment) -> Any:
    from pydicom.dataset import Dataset  # noqa: PLC0415

    item = Dataset()
    item.ObservationNumber = segment.number
    item.ReferencedROINumber = segment.number
    item.ROIObservationLabel = segment.label[:16]
    item.RTROIInterpretedType = ""
    item.ROIInterpreter = ""
    identification = code_item(segment.type)
    if segment.modifiers:
        identification.SegmentedPropertyTypeModifierCodeSequence = [
            code_item(modifier) for modifier in segment.modifiers
        ]
    item.RTROIIdentificationCodeSequence = [identification]
    return item
