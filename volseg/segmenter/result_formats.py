"""Formats of results, and the names of their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from volseg.errors import InputError
from volseg.io import segmentation_suffix

DICOM_FORMATS: dict[str, str] = {
    "dicom-seg": "_seg.dcm",
    "dicom-labelmap": "_labelmap.dcm",
    "dicom-probabilities": "_probabilities.dcm",
    "rtstruct": "_rtstruct.dcm",
    "sr": "_sr.dcm",
}
"""What each format in DICOM adds to the name of its case."""
RESULT_FORMATS: dict[str, str] = {
    "nifti": "",  # as `segmentation_suffix` says
    **DICOM_FORMATS,
}
"""What each format adds to the name of its case."""


def result_files(
    folder: Path, case: str, formats: Sequence[str], *, spatial_dims: int
) -> dict[str, Path]:
    """Return the file of each result of a case, by format.

    Args:
        folder: where results are written.
        case: name of the case.
        formats: names in `RESULT_FORMATS`.
        spatial_dims: 2 or 3; pictures have label maps only.

    Raises:
        InputError: if a format is not known, or cannot be had.
    """
    unknown = [name for name in formats if name not in RESULT_FORMATS]
    if unknown or not formats:
        raise InputError(
            f"the format {', '.join(unknown) or 'none'!r} is not known; expected some of "
            f"{', '.join(RESULT_FORMATS)}."
        )
    if "sr" in formats and not {"dicom-seg", "dicom-labelmap"} & set(formats):
        raise InputError(
            "the measurements of the format sr refer to a DICOM SEG: ask for dicom-seg or "
            "dicom-labelmap, too."
        )
    if spatial_dims == 2 and set(formats) != {"nifti"}:
        raise InputError("results in 2D have no place in a patient: DICOM formats need volumes.")
    endings = RESULT_FORMATS | {"nifti": f"_seg{segmentation_suffix(spatial_dims)}"}
    return {name: folder / f"{case}{endings[name]}" for name in RESULT_FORMATS if name in formats}
