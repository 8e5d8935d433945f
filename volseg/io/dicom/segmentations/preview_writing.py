"""Writing of a picture of a segmentation as DICOM Secondary Capture (PS3.3 A.8.1)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.atomic import replacing
from volseg.errors import ShapeError
from volseg.io.dicom.segmentations.concepts import code_item
from volseg.io.dicom.segmentations.identity import (
    MANUFACTURER,
    Algorithm,
    Identity,
    identity_of,
    made_by,
)
from volseg.io.dicom.segmentations.making import making
from volseg.io.dicom.segmentations.segments import Code
from volseg.io.dicom.segmentations.source import SourceSlices

SERIES_NUMBER = 9004
_SOURCE = Code("121322", "DCM", "Source image for image processing operation")
# Kinds of images that often have text in them: ultrasound and secondary captures.
_WRITTEN_ON = tuple(f"1.2.840.10008.5.1.4.1.1.{number}." for number in (3, 6, 7))


def write_dicom_preview(
    picture: npt.NDArray[np.uint8],
    path: str | os.PathLike[str],
    *,
    source: SourceSlices,
    algorithm: Algorithm | None = None,
    stable: bool = False,
) -> Any:
    """Write a picture as DICOM Secondary Capture that refers to its series; return its dataset.

    Args:
        picture: `(rows, columns, 3)`, red, green and blue.
        path: of the file, `.dcm`.
        source: the series.
        algorithm: what made the segmentation in it.
        stable: whether the same picture of the same source gives the same file, with the same UIDs.

    Raises:
        ShapeError: if the picture is no such array.
        InputError: if the headers of the source do not allow it.
        OutputError: if writing fails; nothing half-written is left.
        MissingPackageError: if highdicom is not installed.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ShapeError(
            f"a picture must be (rows, columns, 3) of uint8, got {picture.shape} of "
            f"{picture.dtype}."
        )
    content = (b"preview", picture.tobytes(), repr((picture.shape, algorithm)).encode())
    identity = identity_of(content, source.headers, stable=stable)
    with making("DICOM picture", source):
        dataset = _capture(picture, source, algorithm, identity)
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
    return dataset


def _capture(
    picture: npt.NDArray[np.uint8],
    source: SourceSlices,
    algorithm: Algorithm | None,
    identity: Identity,
) -> Any:
    from highdicom.sc import SCImage  # noqa: PLC0415
    from pydicom import Dataset  # noqa: PLC0415
    from pydicom.uid import ExplicitVRLittleEndian  # noqa: PLC0415

    _, versions, about = made_by(algorithm)
    dataset = SCImage.from_ref_dataset(
        source.headers[0],
        pixel_array=np.ascontiguousarray(picture),
        photometric_interpretation="RGB",
        bits_allocated=8,
        # Several planes in one picture have no orientation in the patient.
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        series_instance_uid=identity.uid("series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    dataset.PatientOrientation = ""
    dataset.Laterality = source.headers[0].get("Laterality", "")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SoftwareVersions = versions
    dataset.SeriesDescription = f"Preview: {about}"[:64]
    # Names of structures and letters of directions tell nothing; what was in the image may.
    stated = {_text_in(header) for header in source.headers}
    if "YES" in stated or "" not in stated:
        dataset.BurnedInAnnotation = "YES" if "YES" in stated else "NO"
    dataset.SourceImageSequence = []
    for header in source.headers:
        item = Dataset()
        item.ReferencedSOPClassUID = header.SOPClassUID
        item.ReferencedSOPInstanceUID = header.SOPInstanceUID
        item.PurposeOfReferenceCodeSequence = [code_item(_SOURCE)]
        dataset.SourceImageSequence.append(item)
    identity.stamp(dataset)
    dataset.DateOfSecondaryCapture = identity.created.strftime("%Y%m%d")
    dataset.TimeOfSecondaryCapture = identity.created.strftime("%H%M%S")
    return dataset


def _text_in(header: Any) -> str:
    """Return YES or NO as an image has burnt-in text; empty if it may have, and does not say."""
    stated = str(header.get("BurnedInAnnotation") or "").upper()
    if stated in ("YES", "NO"):
        return stated
    return "" if f"{header.SOPClassUID}.".startswith(_WRITTEN_ON) else "NO"
