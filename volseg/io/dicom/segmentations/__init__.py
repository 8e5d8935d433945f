"""Segmentations as DICOM: SEG, RTSTRUCT and measurements, written and read back."""
