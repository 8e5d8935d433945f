"""DICOM: series in, segmentations out."""

from volseg.io.dicom.description import (
    FolderDescription,
    SeriesDescription,
    describe_dicom,
    describe_series,
)
from volseg.io.dicom.frames import Frame
from volseg.io.dicom.objects import ObjectDescription
from volseg.io.dicom.opening import OpenSeries, open_series
from volseg.io.dicom.options import DicomOptions
from volseg.io.dicom.reading import (
    PreparedSeries,
    dicom_blocks,
    prepare_dicom,
    read_dicom,
    read_prepared,
)
from volseg.io.dicom.series import Series, Survey, find_series, survey

__all__ = [
    "DicomOptions",
    "FolderDescription",
    "Frame",
    "ObjectDescription",
    "OpenSeries",
    "PreparedSeries",
    "Series",
    "SeriesDescription",
    "Survey",
    "describe_dicom",
    "describe_series",
    "dicom_blocks",
    "find_series",
    "open_series",
    "prepare_dicom",
    "read_dicom",
    "read_prepared",
    "survey",
]
