"""Reading of a DICOM series as an image."""

from __future__ import annotations

from pathlib import Path

from volseg.io.dicom.opening import OpenSeries, open_series
from volseg.io.dicom.options import DicomOptions
from volseg.io.dicom.pet import suv_frames
from volseg.io.dicom.pixels import true_values
from volseg.io.dicom.resampling import along_slices, upright
from volseg.io.stored_image import StoredImage


def read_dicom(path: Path, options: DicomOptions | None = None) -> StoredImage:
    """Return a series as (channels, columns, rows, slices) true values.

    The first slice is the one with the lowest position along row x column, which makes the axes
    right-handed in the world. Time points or colours are channels.

    Args:
        path: a folder, searched at any depth; a multi-frame DICOM file; or a DICOMDIR.
        options: which series, and what may be done to its geometry and values.

    Raises:
        InputError: if there is no series, or several and none is chosen, or one of an unsupported
            kind or with damaged files.
        GeometryError: if the frames are not a uniform stack.
        MissingPackageError: if pydicom is not installed.
    """
    options = options or DicomOptions()
    opened = open_series(path, options.series, irregular=options.irregular is not None)
    points = opened.frames
    remarks = list(opened.notes)
    meta: dict[str, int | float | str] = {
        "modality": opened.series.modality,
        "series_instance_uid": opened.series.uid,
    }
    if options.suv:
        points, remark = suv_frames(opened)
        remarks.append(remark)
        meta["unit"] = "g/ml"
    values = true_values(points)
    affine = opened.grid.affine
    if not opened.stack.is_regular:
        values = along_slices(values, opened.stack)
        remarks.append(_resampled(opened))
        meta["resampled"] = "along the slices"
    if options.orthogonal and not affine.is_orthogonal():
        values, affine = upright(values, affine)
        remarks.append("resampled at right angles")
        meta["resampled"] = "at right angles"
    frame = points[0][0]
    if any(f.slope != 1.0 or f.intercept != 0.0 for point in points for f in point):
        remarks.append("values rescaled by slope and intercept")
    return StoredImage(
        values=values,
        affine=affine,
        format="DICOM series",
        stored_type=str(frame.format.value_type),
        source=opened.source,
        remarks=remarks,
        meta=meta,
    )


def _resampled(opened: OpenSeries) -> str:
    return (
        f"{len(opened.frames[0])} slices at unequal distances resampled to {opened.stack.size} of "
        f"{opened.grid.spacing[2]:.4g} mm"
    )
