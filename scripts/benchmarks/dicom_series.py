"""CT series made by arithmetic, whose voxels and geometry are known, in several encodings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

from volseg.geometry import Affine

SERIES = ("uncompressed", "JPEG-LS", "JPEG 2000", "uncompressed, gantry tilt")
_SPACING = (0.78, 0.78, 1.25)  # mm between columns, rows and slices
_TILT = np.deg2rad(12.0)
_ORIGIN = (-199.0, -180.0, 35.0)


@dataclass(frozen=True)
class Truth:
    """Values (x, y, z) and the affine of a series."""

    values: npt.NDArray[np.int16]
    affine: Affine


def write_series(folder: Path, name: str, size: int, slices: int) -> Truth:
    """Write a series of `SERIES`, a file a slice, and return what a reader has to find."""
    folder.mkdir(parents=True)
    tilt = _TILT if "tilt" in name else 0.0
    step = np.array([0.0, -_SPACING[2] * np.sin(tilt), _SPACING[2] * np.cos(tilt)])
    stored = _phantom(size, slices)
    uid = generate_uid(prefix="1.2.826.0.1.3680043.8.498.1.")[:50]
    for number in range(slices):
        dataset = _slice(stored[number], number, uid)
        dataset.ImagePositionPatient = (np.array(_ORIGIN) + number * step).round(5).tolist()
        path = folder / f"IM{(number * 7919) % slices:05d}"
        if name == "JPEG-LS":
            dataset.compress(
                JPEGLSLossless, encoding_plugin="pyjpegls", generate_instance_uid=False
            )
        dataset.save_as(path, enforce_file_format=True)
        if name == "JPEG 2000":
            _to_jpeg_2000(path)
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([[_SPACING[0], 0, 0], [0, _SPACING[1], 0], step])
    matrix[:3, 3] = _ORIGIN
    return Truth((stored.astype(np.int16) - 1024).T, Affine.from_lps(matrix))


def _phantom(size: int, slices: int) -> npt.NDArray[np.uint16]:
    """Return (slices, rows, columns) stored values of a body with the noise of a CT."""
    side = np.linspace(-1, 1, size, dtype=np.float32)
    radius = np.hypot(side[:, None] / 0.7, side[None] / 0.9)
    body = np.where(radius < 1, 1060 + 60 * np.sin(9 * side)[None], 24)
    random = np.random.default_rng(0)
    stored = np.empty((slices, size, size), np.uint16)
    for number in range(slices):
        lung = radius < 0.4 + 0.2 * np.sin(number / 20)
        noise = random.normal(0, 12, (size, size))
        stored[number] = np.clip(np.where(lung, 220, body) + noise, 0, 4095)
    return stored


def _slice(plane: npt.NDArray[np.uint16], number: int, series_uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{series_uid}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": f"{series_uid}.{number}",
        "SeriesInstanceUID": series_uid,
        "StudyInstanceUID": series_uid,
        "FrameOfReferenceUID": series_uid,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Modality": "CT",
        "Manufacturer": "volseg",
        "PatientName": "Phantom",
        "PatientID": "phantom",
        "StudyDate": "20260101",
        "StudyTime": "120000",
        "SeriesNumber": 1,
        "InstanceNumber": number + 1,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [_SPACING[1], _SPACING[0]],
        "SliceThickness": _SPACING[2],
        "Rows": plane.shape[0],
        "Columns": plane.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
    }
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.PixelData = plane.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _to_jpeg_2000(path: Path) -> None:
    import gdcm  # noqa: PLC0415 - not installed everywhere

    reader, change, writer = (
        gdcm.ImageReader(),
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageWriter(),
    )
    reader.SetFileName(str(path))
    reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEG2000Lossless))
    change.SetInput(reader.GetImage())
    change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise SystemExit(f"{path} could not be compressed as JPEG 2000.")
