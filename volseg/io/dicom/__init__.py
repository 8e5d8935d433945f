"""DICOM: series in, segmentations out."""

from volseg.io.dicom.reading import read_dicom

__all__ = ["read_dicom"]
