"""Segmentations as DICOM: SEG, RTSTRUCT and measurements, written and read back."""

from volseg.io.dicom.segmentations.identity import Algorithm
from volseg.io.dicom.segmentations.rtstruct_reading import read_rtstruct
from volseg.io.dicom.segmentations.rtstruct_writing import write_rtstruct
from volseg.io.dicom.segmentations.seg_reading import read_dicom_seg
from volseg.io.dicom.segmentations.seg_writing import write_dicom_probabilities, write_dicom_seg
from volseg.io.dicom.segmentations.segments import Code, Segment, coded_segment, read_segments
from volseg.io.dicom.segmentations.source import SourceSlices
from volseg.io.dicom.segmentations.stored_segmentation import StoredSegmentation

__all__ = [
    "Algorithm",
    "Code",
    "Segment",
    "SourceSlices",
    "StoredSegmentation",
    "coded_segment",
    "read_dicom_seg",
    "read_rtstruct",
    "read_segments",
    "write_dicom_probabilities",
    "write_dicom_seg",
    "write_rtstruct",
]
