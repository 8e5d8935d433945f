"""Reading of a DICOM series: a folder of single-frame slices of one well-formed stack.

Geometry comes from the tags of every slice, through `geometry.stack_slices`; nothing is taken from
the order of the files. Whatever is not one uniform stack is refused with what was found.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError, InputError, MissingPackageError
from volseg.geometry import stack_slices
from volseg.io.stored_image import StoredImage, exact_values, narrow_scaled

logger = logging.getLogger(__name__)

_PREAMBLE = 128
# Files from before the preamble was required begin with their first element, in group 0002 or 0008.
_OLD_STARTS = (b"\x02\x00", b"\x08\x00")

_TAGS = (
    "BitsAllocated",
    "Columns",
    "FrameOfReferenceUID",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "Modality",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SamplesPerPixel",
    "SeriesDescription",
    "SeriesInstanceUID",
)
# What every image has, also where anonymisation emptied its identifiers.
_IMAGE_TAGS = {"Rows", "Columns", "PhotometricInterpretation"}

Header = dict[str, Any]
Slices = list[tuple[Path, Header]]


def read_dicom(folder: Path) -> StoredImage:
    """Return the series in a folder as (1, columns, rows, slices), rescale applied.

    Files that are not DICOM images are ignored, at any depth. The first slice is the one with the
    lowest position along row x column, which makes the axes right-handed in the world.

    Raises:
        InputError: if there is no series or more than one, or one of an unsupported kind (several
            frames in a file, colour, inverted grey values).
        GeometryError: if the slices are not one uniform stack.
        MissingPackageError: if pydicom is not installed.
    """
    source = str(folder)
    slices = _one_series(_image_headers(folder), source)
    _require_plain_frames(slices, source)
    what = f"the slices of the DICOM series in {source}"
    stack = stack_slices(
        _tag(slices, "ImagePositionPatient", 3, source),
        _tag(slices, "ImageOrientationPatient", 6, source),
        _tag(slices, "PixelSpacing", 2, source),
        what=what,
    )
    ordered = [slices[number] for number in stack.order]
    values, stored = _pixels(ordered, source)
    header = ordered[0][1]
    remarks = ["values rescaled by slope and intercept"] if _is_rescaled(header) else []
    return StoredImage(
        values=values,
        affine=stack.affine,
        format="DICOM series",
        stored_type=str(stored),
        source=source,
        remarks=remarks,
        meta={
            "modality": str(header.get("Modality", "")),
            "series_instance_uid": str(header.get("SeriesInstanceUID", "")),
        },
    )


def _image_headers(folder: Path) -> Slices:
    try:
        import pydicom  # noqa: PLC0415 - an optional package, asked for when it is needed
    except ImportError as error:
        raise MissingPackageError("reading DICOM", "pydicom", "dicom") from error

    found: Slices = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root) / name
            header = _header(path, pydicom.dcmread)
            if header is not None and header.keys() >= _IMAGE_TAGS:
                found.append((path, header))
    return found


def _header(path: Path, read: Callable[..., Any]) -> Header | None:
    """Return the tags of a DICOM file that have a value, None if it is something else."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_PREAMBLE + 4)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from error
    marked = start[_PREAMBLE:] == b"DICM"
    if not marked and start[:2] not in _OLD_STARTS:
        return None
    try:
        # Scanners break the rules on value formats, of which pydicom warns on behalf of whoever
        # called it; what matters here is checked by value.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = read(path, stop_before_pixels=True, force=not marked)
            values = {name: dataset.get(name) for name in _TAGS}
    except Exception as error:
        # pydicom raises many types. A marked file that is passed over could be the last slice of
        # a stack, whose loss nothing would show.
        if marked:
            raise InputError(
                f"cannot read {path}: the DICOM file is damaged ({type(error).__name__}); copy the "
                "series again."
            ) from error
        logger.debug("%s is not a DICOM file: %s", path, error)
        return None
    return {name: value for name, value in values.items() if value not in (None, "")}


def _one_series(headers: Slices, source: str) -> Slices:
    if not headers:
        raise InputError(
            f"cannot read {source}: the folder holds no DICOM image; give the folder of a series "
            "or an image file."
        )
    series: dict[str, Slices] = defaultdict(list)
    for path, header in headers:
        series[str(header.get("SeriesInstanceUID", ""))].append((path, header))
    if len(series) > 1:
        listed = "; ".join(
            f"{len(members)} x {members[0][1].get('Modality', '?')} "
            f"{str(members[0][1].get('SeriesDescription', 'without description'))!r} ({uid})"
            for uid, members in list(series.items())[:8]
        )
        raise InputError(
            f"cannot read {source}: the folder holds {len(series)} DICOM series where one is "
            f"expected: {listed}; put the wanted one into a folder of its own."
        )
    return headers


def _require_plain_frames(slices: Slices, source: str) -> None:
    for path, header in slices:
        frames = int(header.get("NumberOfFrames", 1))
        if frames > 1 or "PerFrameFunctionalGroupsSequence" in header:
            _refuse(path, f"holds {frames} frames (enhanced multi-frame)", "single-frame slices")
        if int(header.get("SamplesPerPixel", 1)) != 1:
            _refuse(path, "is a colour image", "one grey value a pixel")
        photometric = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
        if photometric != "MONOCHROME2":
            _refuse(path, f"is {photometric}", "MONOCHROME2, where larger values are brighter")
        if "ModalityLUTSequence" in header:
            _refuse(path, "has a modality lookup table", "a rescale slope and intercept")
    for name in ("Rows", "Columns", "FrameOfReferenceUID"):
        found = {str(header.get(name, "")) for _, header in slices}
        if len(found) > 1:
            raise GeometryError(
                f"cannot read {source}: its slices differ in {name}, got "
                f"{' and '.join(sorted(found)[:4])}; give the slices of one volume only."
            )


def _refuse(path: Path, found: str, expected: str) -> None:
    raise InputError(
        f"cannot read {path}: the DICOM file {found}, expected {expected}; convert the series to "
        "NIfTI first."
    )


def _tag(slices: Slices, name: str, count: int, source: str) -> npt.NDArray[np.float64]:
    """Return a tag of every slice as (slices, count) numbers."""
    rows = []
    for path, header in slices:
        value: Sequence[Any] | None = header.get(name)
        try:
            row = [float(number) for number in value or ()]
        except (TypeError, ValueError):
            row = []
        if len(row) != count:
            raise GeometryError(
                f"cannot place {source} in the world: {path.name} has {name} = {value}, expected "
                f"{count} numbers; leave such files (localizers, reports) out of the folder."
            )
        rows.append(row)
    return np.array(rows)


def _is_rescaled(header: Header) -> bool:
    return bool(header.get("RescaleSlope", 1) != 1 or header.get("RescaleIntercept", 0) != 0)


def _pixels(ordered: Slices, source: str) -> tuple[npt.NDArray[Any], np.dtype[Any]]:
    """Return (1, columns, rows, slices) true values and the stored type."""
    import SimpleITK as sitk  # noqa: PLC0415 - the name it goes by in the field

    header = ordered[0][1]
    size = (int(header["Columns"]), int(header["Rows"]))
    planes = []
    for path, _ in ordered:
        try:
            plane = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
        except RuntimeError as error:
            raise InputError(
                f"cannot read {path}: its pixels are damaged or compressed in an unknown way; copy "
                "the series again."
            ) from error
        if plane.shape != (1, size[1], size[0]):
            raise InputError(
                f"cannot read {path}: its pixels have the shape {plane.shape}, expected "
                f"{(1, size[1], size[0])} from its header; copy the series again."
            )
        planes.append(plane[0].T)
    values = exact_values(np.stack(planes, axis=-1)[np.newaxis], source)
    sign = "i" if int(header.get("PixelRepresentation", 0)) else "u"
    stored = np.dtype(f"{sign}{(int(header.get('BitsAllocated', 16)) + 7) // 8}")
    if values.dtype.kind == "f":
        values = narrow_scaled(values, stored)
    return np.ascontiguousarray(values), stored
