"""DICOM: series in, segmentations out."""

from volseg.io.dicom.frames import Frame
from volseg.io.dicom.opening import OpenSeries, open_series
from volseg.io.dicom.options import DicomOptions
from volseg.io.dicom.reading import read_dicom
from volseg.io.dicom.series import Series, Survey, find_series, survey

__all__ = [
    "DicomOptions",
    "Frame",
    "OpenSeries",
    "Series",
    "Survey",
    "find_series",
    "open_series",
    "read_dicom",
    "survey",
]
