"""Series of known geometry to write segmentations for, and the tools others wrote to read them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.absence import report_absence
from volseg.geometry import Affine, Grid
from volseg.io.dicom.segmentations.source import SourceSlices, checked_source

MakeSource = Callable[..., tuple[Path, SourceSlices]]

SHAPE = (23, 17, 9)
SPACING = (0.8, 1.5, 2.5)  # between columns, between rows, between slices, mm
# Turned about all three axes, so that no row, column or normal is along an axis of the patient.
OBLIQUE = np.array(
    [
        [0.9254165783983234, -0.34202014332566866, 0.16317591116653482],
        [0.3187957775971678, 0.9254165783983234, 0.20487412870286215],
        [-0.22107643449800604, -0.13757414, 0.96551337],
    ]
)


@pytest.fixture
def make_source(tmp_path: Path) -> MakeSource:
    """Write a CT series: `make_source(name, direction=..., tilt=...)` gives folder and slices.

    `direction` is a rotation or reflection whose columns are the LPS directions of rising column,
    row and slice; `tilt` shifts each slice along the columns, by this angle in degrees.
    """

    def make(
        name: str = "series",
        *,
        direction: Any = None,
        tilt: float = 0.0,
        shape: tuple[int, int, int] = SHAPE,
        spacing: tuple[float, float, float] = SPACING,
        **tags: Any,
    ) -> tuple[Path, SourceSlices]:
        folder = tmp_path / name
        folder.mkdir()
        axes = np.linalg.qr(np.eye(3) if direction is None else np.asarray(direction, float))
        cosines = axes.Q * np.sign(np.diag(axes.R))
        matrix = np.eye(4)
        matrix[:3, :3] = cosines * spacing
        matrix[:3, 2] += cosines[:, 1] * spacing[2] * np.tan(np.deg2rad(tilt))
        matrix[:3, 3] = (-31.5, 12.25, -140.0)
        headers = _write_series(folder, matrix, cosines, shape, spacing, tags)
        return folder, checked_source(Grid(shape, Affine.from_lps(matrix)), headers)

    return make


def _write_series(
    folder: Path,
    matrix: Any,
    cosines: Any,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    tags: dict[str, Any],
) -> list[Any]:
    import warnings

    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    series, study, frame = (generate_uid() for _ in range(3))
    headers = []
    for number in range(shape[2]):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SpecificCharacterSet = "ISO_IR 100"
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        one.SOPInstanceUID = generate_uid()
        one.StudyDate = one.ContentDate = "20240229"
        one.StudyTime = one.ContentTime = "101530"
        one.AccessionNumber = "A1"
        one.Modality = "CT"
        one.Manufacturer = "maker"
        one.ReferringPhysicianName = ""
        one.PatientName = "Müller^Ünal"
        one.PatientID = "P1"
        one.PatientBirthDate = "19500101"
        one.PatientSex = "F"
        one.PatientAge = "074Y"
        one.StudyInstanceUID, one.SeriesInstanceUID = study, series
        one.StudyID = "S1"
        one.SeriesNumber = 3
        one.AcquisitionNumber = 1
        one.InstanceNumber = number + 1
        one.SliceThickness = spacing[2]
        one.KVP = 120
        one.PatientPosition = "HFS"
        one.ImageOrientationPatient = [f"{value:.12f}"[:16] for value in cosines[:, :2].T.ravel()]
        place = matrix[:3, 3] + number * matrix[:3, 2]
        one.ImagePositionPatient = [f"{value:.10f}"[:16] for value in place]
        one.FrameOfReferenceUID = frame
        one.PositionReferenceIndicator = ""
        one.SamplesPerPixel = 1
        one.PhotometricInterpretation = "MONOCHROME2"
        one.Columns, one.Rows = shape[:2]
        one.PixelSpacing = [spacing[1], spacing[0]]
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.RescaleIntercept, one.RescaleSlope = -100, 2
        one.RescaleType = "HU"
        pixels = np.arange(shape[0] * shape[1]).reshape(shape[1], shape[0]) % 100 + number
        one.PixelData = pixels.astype("<i2").tobytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are wrong on purpose
            for name, value in tags.items():
                if value is None:
                    delattr(one, name)
                else:
                    setattr(one, name, value)
            one.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
        del one.PixelData
        headers.append(one)
    return headers


@pytest.fixture
def labels() -> np.ndarray:
    """Labels 1 to 3 that no rotation or reflection of the array leaves alike, with holes.

    Label 1 has a hole with an island, and a piece that touches it at a corner; 2 fills its hole in
    some slices; 3 reaches three borders of the volume.
    """
    values = np.zeros(SHAPE, np.uint8)
    values[2:13, 3:12, 1:6] = 1
    values[4:9, 5:10, 2:5] = 0
    values[6, 7, 3] = 1
    values[13:15, 12:14, 2] = 1
    values[4:9, 5:10, 4] = 2
    values[16:, 0:5, 6:] = 3
    values[17:20, 5:11, 7] = 3
    return values


@pytest.fixture
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """Run a program that others wrote, `tool("dciodvfy", path)`, and return all that it says.

    It comes with a Debian package or with dcmqi from PyPI. Without it the test is skipped, and
    fails where continuous integration must have it.
    """

    def run(name: str, *arguments: object) -> str:
        path = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
        if path is None:
            reason = f"{name} is not installed (apt-get install dicom3tools dcmtk plastimatch)"
            report_absence(request.config, reason)
        done = subprocess.run(
            [path, *map(str, arguments)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
        )
        return done.stdout

    return run
