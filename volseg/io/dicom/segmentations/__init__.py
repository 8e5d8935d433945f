"""Segmentations as DICOM: SEG, RTSTRUCT and measurements, written and read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.on_use import loaded_on_use

if TYPE_CHECKING:
    from volseg.io.dicom.segmentations.identity import Algorithm
    from volseg.io.dicom.segmentations.measurements import SegmentMeasurements
    from volseg.io.dicom.segmentations.preview_writing import write_dicom_preview
    from volseg.io.dicom.segmentations.probability_writing import write_dicom_probabilities
    from volseg.io.dicom.segmentations.reading import read_segmentation
    from volseg.io.dicom.segmentations.report_writing import write_measurement_report
    from volseg.io.dicom.segmentations.rtstruct_reading import read_rtstruct
    from volseg.io.dicom.segmentations.rtstruct_writing import write_rtstruct
    from volseg.io.dicom.segmentations.seg_reading import read_dicom_seg
    from volseg.io.dicom.segmentations.seg_writing import write_dicom_seg
    from volseg.io.dicom.segmentations.segments import Code, Segment, coded_segment, read_segments
    from volseg.io.dicom.segmentations.source import SourceSlices, source_slices
    from volseg.io.dicom.segmentations.stored_segmentation import (
        StoredSegmentation,
        kind_of_segmentation,
    )

__all__ = [
    "Algorithm",
    "Code",
    "Segment",
    "SegmentMeasurements",
    "SourceSlices",
    "StoredSegmentation",
    "coded_segment",
    "kind_of_segmentation",
    "read_dicom_seg",
    "read_rtstruct",
    "read_segmentation",
    "read_segments",
    "source_slices",
    "write_dicom_preview",
    "write_dicom_probabilities",
    "write_dicom_seg",
    "write_measurement_report",
    "write_rtstruct",
]

__getattr__ = loaded_on_use(__name__)
