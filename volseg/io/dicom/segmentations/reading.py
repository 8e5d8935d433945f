"""Reading of a DICOM file of segments, whichever of the two kinds it is."""

from __future__ import annotations

import os
from pathlib import Path

from volseg.errors import GeometryError, InputError
from volseg.geometry import Grid
from volseg.io.dicom.segmentations.rtstruct_reading import read_rtstruct
from volseg.io.dicom.segmentations.seg_reading import read_dicom_seg
from volseg.io.dicom.segmentations.stored_segmentation import (
    StoredSegmentation,
    kind_of_segmentation,
)


def read_segmentation(
    path: str | os.PathLike[str], *, source: Grid | None = None, overlap: str = "refuse"
) -> StoredSegmentation:
    """Return a DICOM SEG or RTSTRUCT as a label map.

    Args:
        path: of the file.
        source: grid of the series it was made from; an RTSTRUCT needs it.
        overlap: what becomes of voxels in several segments: "refuse", "last" (the higher number
            wins) or "channels" (one mask a segment).

    Raises:
        InputError: if it is missing, damaged or something else, or segments overlap.
        GeometryError: if it does not lie on the grid of the source, or has none of its own.
        MissingPackageError: if pydicom is not installed.
    """
    kind = kind_of_segmentation(Path(path))
    if kind == "seg":
        return read_dicom_seg(path, source=source, overlap=overlap)
    if kind is None:
        raise InputError(f"cannot read {path} as segments: it is no DICOM SEG and no RTSTRUCT.")
    if source is None:
        raise GeometryError(
            f"cannot place {path} on voxels: its contours have no grid of their own; give the "
            "series they were drawn on (volseg convert --source FOLDER)."
        )
    return read_rtstruct(path, source=source, overlap=overlap)
