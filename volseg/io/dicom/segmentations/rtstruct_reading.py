"""Reading of RT structure sets: a label map on the grid of the series they were drawn on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from volseg.errors import GeometryError, InputError
from volseg.geometry import Grid
from volseg.io.dicom.segmentations.contours import Points, contours_mask
from volseg.io.dicom.segmentations.segments import TISSUE, Segment, color_unless_usual
from volseg.io.dicom.segmentations.stored_segmentation import (
    CONTOUR_DATA,
    RTSTRUCT_CLASS,
    LabelMapMaker,
    StoredSegmentation,
    open_dicom,
    require_known_overlap,
    stored_algorithm,
    stored_code,
    stored_modifiers,
)
from volseg.io.stored_image import StoredImage
from volseg.label_colors import Color

# Contours drawn between slices, or in planes across them, are not of this grid.
_TOLERANCE_IN_SLICES = 0.25
_HIGHEST_LABEL = 65535
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_rtstruct(
    path: str | os.PathLike[str], *, source: Grid, overlap: str = "refuse"
) -> StoredSegmentation:
    """Return an RTSTRUCT as a label map whose values are its ROI numbers.

    Where one of these cannot be a label (0, or past 65535), structures are numbered from 1 on in
    the order of their numbers, with a remark.

    A voxel belongs to a structure if its centre lies inside an odd number of the contours of its
    slice: inner contours are holes. Points and open contours have no inside and are left out, with
    a remark.

    Args:
        path: of the file.
        source: grid of the series the contours were drawn on; they have no grid of their own.
        overlap: what becomes of voxels in several structures: "refuse", "last" (the higher number
            wins) or "channels" (one mask a structure).

    Raises:
        InputError: if it is missing, damaged or something else, holds contours but no closed one,
            or structures overlap.
        GeometryError: if a contour does not lie on a slice of the source.
        MissingPackageError: if pydicom is not installed.
    """
    require_known_overlap(overlap)
    dataset = open_dicom(path)
    if str(dataset.get("SOPClassUID", "")) != RTSTRUCT_CLASS:
        raise InputError(
            f"cannot read {path} as RTSTRUCT: its SOP class is {dataset.get('SOPClassUID')}."
        )
    where = str(path)
    remarks: list[str] = []
    try:
        labels = _label_of_number(dataset, remarks)
        segments = _segments(dataset, labels)
        names = {segment.number: segment.name for segment in segments}
        maker = LabelMapMaker(source.shape, list(names), overlap)
        slices = _slices(dataset, labels, grid=source, where=where, remarks=remarks)
        for number, index, contours in slices:
            maker.add(number, index, contours_mask(contours, (source.shape[0], source.shape[1])))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"cannot read {path}: its headers are incomplete ({error}); export it again."
        ) from error
    values = maker.finish(where, names)
    image = StoredImage(
        values=values,
        affine=source.affine,
        format="DICOM RTSTRUCT",
        stored_type="contours",
        source=where,
        remarks=[f"structure {number}: {name}" for number, name in names.items()] + remarks,
        meta={
            "modality": "RTSTRUCT",
            "series_instance_uid": str(dataset.get("SeriesInstanceUID", "")),
        },
    )
    spaces = {
        str(item.get("ReferencedFrameOfReferenceUID") or "")
        for item in dataset.StructureSetROISequence
    }
    return StoredSegmentation(image, tuple(segments), frozenset(spaces - {""}))


def _label_of_number(dataset: Any, remarks: list[str]) -> dict[int, int]:
    numbers = sorted(int(item.ROINumber) for item in dataset.StructureSetROISequence)
    if all(1 <= number <= _HIGHEST_LABEL for number in numbers):
        return {number: number for number in numbers}
    remarks.append("structures numbered from 1 on, because a number of theirs cannot be a label")
    return {number: label for label, number in enumerate(numbers, start=1)}


def _segments(dataset: Any, labels: dict[int, int]) -> list[Segment]:
    codes = {
        int(item.ReferencedROINumber): item.get("RTROIIdentificationCodeSequence")
        for item in dataset.get("RTROIObservationsSequence") or ()
    }
    colors = {
        int(item.ReferencedROINumber): _color(item)
        for item in dataset.get("ROIContourSequence") or ()
    }
    found = []
    for item in dataset.StructureSetROISequence:
        number = int(item.ROINumber)
        code, color = codes.get(number), colors.get(number)
        found.append(
            Segment(
                number=labels[number],
                name=str(item.get("ROIName") or f"structure {number}"),
                type=stored_code(code) if code else TISSUE,
                modifiers=stored_modifiers(code) if code else (),
                color=color_unless_usual(color, labels[number]) if color else None,
                algorithm=stored_algorithm(
                    str(item.get("ROIGenerationAlgorithm") or ""),
                    str(item.get("ROIGenerationDescription") or ""),
                    item.get("ROIDerivationAlgorithmIdentificationSequence") or (),
                ),
            )
        )
    return sorted(found, key=lambda segment: segment.number)


def _color(item: Any) -> Color | None:
    stored = item.get("ROIDisplayColor")
    return (int(stored[0]), int(stored[1]), int(stored[2])) if stored else None


def _slices(
    dataset: Any, labels: dict[int, int], *, grid: Grid, where: str, remarks: list[str]
) -> Iterator[tuple[int, int, list[Points]]]:
    """Yield the label, the slice and the contours (x, y) in voxels of each structure."""
    to_voxels = grid.affine.inverse()
    closed, others = 0, 0
    items = sorted(dataset.ROIContourSequence, key=lambda item: int(item.ReferencedROINumber))
    for item in items:
        number = labels[int(item.ReferencedROINumber)]
        what = f"structure {int(item.ReferencedROINumber)}"
        slices: dict[int, list[Points]] = {}
        left_out = 0
        for contour in item.get("ContourSequence") or ():
            if str(contour.ContourGeometricType) not in _CLOSED:
                left_out += 1
                continue
            closed += 1
            voxels = to_voxels.apply(_points(contour) * (-1, -1, 1))
            index = _slice_of(voxels, grid, f"a contour of {what} in {where}")
            slices.setdefault(index, []).append(voxels[:, :2])
        others += left_out
        if left_out:
            remarks.append(f"{left_out} points or open contours of {what} left out")
        for index, contours in slices.items():
            yield number, index, contours
    if others and not closed:
        raise InputError(
            f"{where} holds {others} points or open contours and no closed one, so no voxel is in "
            "a structure."
        )


def _points(contour: Any) -> Points:
    """Return the points of a contour, LPS+ mm, without pydicom's checks of each number."""
    stored = contour.get_item(CONTOUR_DATA).value
    numbers = stored.split(b"\\") if isinstance(stored, bytes) else list(stored)
    return np.array(numbers).astype(np.float64).reshape(-1, 3)


def _slice_of(voxels: Points, grid: Grid, what: str) -> int:
    low, high = float(voxels[:, 2].min()), float(voxels[:, 2].max())
    index = round((low + high) / 2)
    if max(high - index, index - low) > _TOLERANCE_IN_SLICES:
        raise GeometryError(
            f"{what} lies at slices {low:.2f} to {high:.2f} of the source, {grid.describe()}; "
            "expected one slice: give the series it was drawn on."
        )
    if not 0 <= index < grid.shape[2]:
        raise GeometryError(
            f"{what} lies at slice {index} of the source, which has {grid.shape[2]}; give the "
            "whole series it was drawn on."
        )
    return index
