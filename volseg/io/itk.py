"""Images by way of SimpleITK: NRRD, MetaImage, TIFF, and SimpleITK images in memory.

SimpleITK works in LPS+ millimetres and gives arrays as (z, y, x); both are turned here.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from volseg.errors import GeometryError, InputError
from volseg.geometry import Affine, direction_of, parse_orientation
from volseg.io.formats import ImageFormat
from volseg.io.itk_header import ItkHeader, read_itk_header
from volseg.io.stored_image import StoredImage, exact_values

logger = logging.getLogger(__name__)

_IMAGE_IO = {
    ImageFormat.NRRD: "NrrdImageIO",
    ImageFormat.METAIMAGE: "MetaImageIO",
    ImageFormat.PNG: "PNGImageIO",
    ImageFormat.TIFF: "TIFFImageIO",
    ImageFormat.JPEG: "JPEGImageIO",
}


def read_itk(path: Path, kind: ImageFormat, orientation: str | None = None) -> StoredImage:
    """Return the content of an NRRD or MetaImage file.

    Args:
        path: an existing file.
        kind: `ImageFormat.NRRD` or `ImageFormat.METAIMAGE`.
        orientation: axis codes the caller vouches for, used only if the file states none.

    Raises:
        InputError: if the file is damaged or of an unsupported kind.
        GeometryError: if its geometry is damaged.
    """
    source = str(path)
    image = load_itk(path, kind)
    values, affine = from_itk(image, source)
    header = read_itk_header(path, kind)
    signs = (*header.signs, 1)[: affine.spatial_dims]
    scale = np.diag([*(header.mm_per_unit * sign for sign in signs), 1.0])
    stored = StoredImage(
        values=values,
        affine=Affine(scale) @ affine,
        format=kind.value,
        stored_type=str(sitk.GetArrayViewFromImage(image).dtype),
        source=source,
    )
    if header.mm_per_unit != 1.0:
        stored.remarks.append(f"lengths stored in {header.unit}, converted to mm")
    if affine.spatial_dims == 3:  # a picture has no place in the patient
        if header.no_size or header.no_orientation:
            _take_away_what_is_not_stated(stored, header, orientation)
        elif not header.has_origin:
            no_origin = "states no origin: its first voxel is put at the origin of the world"
            stored.remarks.append(no_origin)
            logger.warning("%s %s.", source, no_origin)
    return stored


def _take_away_what_is_not_stated(
    stored: StoredImage, header: ItkHeader, orientation: str | None
) -> None:
    """Take the affine away that SimpleITK made up, or give it the orientation of the caller."""
    lacks = [lack for lack in (header.no_size, header.no_orientation) if lack]
    stored.remarks.extend(lacks)
    if header.no_size:
        unknown = "the size of its voxels is unknown; "
    else:
        unknown = (
            "left and right are unknown; if you know the orientation of its axes, state it "
            "(orientation='RAS', --orientation RAS) or write it into a file (`volseg convert IN "
            "OUT --orientation RAS`), or else "
        )
    spacing = stored.require_affine().spacing
    stored.affine = None
    stored.no_geometry = (
        f"cannot place {stored.source} in the world: {' and '.join(lacks)}, so {unknown}convert "
        "the scan again from its source."
    )
    if orientation is not None and not header.no_size:
        codes = parse_orientation(orientation)
        stored.affine = Affine.from_parts(spacing, direction=direction_of(codes))
        stored.remarks.append(f"orientation {''.join(codes)} stated by the caller")


def load_itk(path: Path, kind: ImageFormat) -> Any:
    """Return the SimpleITK image in a file.

    Raises:
        InputError: if SimpleITK cannot read it.
    """
    try:
        return sitk.ReadImage(str(path), imageIO=_IMAGE_IO[kind])
    except RuntimeError as error:
        raise InputError(
            f"cannot read {path}: the file is damaged or not a {kind.value} image "
            f"({itk_reason(error)}); copy or export it again."
        ) from error


def itk_reason(error: Exception) -> str:
    """Return the last line of an ITK message, which is the one that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    return reason.rpartition("): ")[2].removeprefix("ITK ERROR: ").rstrip(" .") or "unknown reason"


def from_itk(image: Any, source: str) -> tuple[npt.NDArray[Any], Affine]:
    """Return channel-first values and the RAS+ affine of a 2D, 3D or 4D SimpleITK image.

    Components of a vector image, or the fourth axis, become channels.

    Raises:
        InputError: for more axes, complex values, or a fourth axis of vectors.
        GeometryError: if its geometry cannot be an affine of space.
    """
    dims = image.GetDimension()
    colours = image.GetNumberOfComponentsPerPixel()
    is_vector = colours > 1 or "vector" in image.GetPixelIDTypeAsString()
    if dims not in (2, 3, 4) or (dims == 4 and is_vector):
        raise InputError(
            f"cannot read {source}: an image of {dims} axes with {colours} components each is not "
            "supported, expected 2 or 3 axes of space and at most one of channels; split it."
        )
    axes_reversed = sitk.GetArrayFromImage(image)
    if is_vector:
        values = np.moveaxis(axes_reversed, -1, 0)
        values = values.transpose(0, *range(values.ndim - 1, 0, -1))
    else:
        values = axes_reversed.T
        values = np.moveaxis(values, -1, 0) if dims == 4 else values[np.newaxis]
    space = min(dims, 3)
    direction = np.array(image.GetDirection()).reshape(dims, dims)
    if np.any(direction[space:, :space]) or np.any(direction[:space, space:]):
        raise GeometryError(
            f"cannot place {source} in the world: its fourth axis points into space; split it."
        )
    matrix = np.eye(space + 1)
    matrix[:space, :space] = direction[:space, :space] * np.array(image.GetSpacing()[:space])
    matrix[:space, space] = image.GetOrigin()[:space]
    return np.ascontiguousarray(exact_values(values, source)), Affine.from_lps(matrix)


def to_itk(values: npt.NDArray[Any], affine: Affine) -> Any:
    """Return the SimpleITK image, in LPS+ mm, of (channels, x, y, z) or (channels, x, y) values.

    Several channels become components.
    """
    reversed_axes = values.transpose(*range(values.ndim - 1, 0, -1), 0)
    is_vector = values.shape[0] > 1
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(reversed_axes if is_vector else reversed_axes[..., 0]),
        isVector=is_vector,
    )
    dims = affine.spatial_dims
    lps = affine.to_lps()
    spacing = np.array(affine.spacing)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:dims, :dims] / spacing).ravel().tolist())
    image.SetOrigin(lps[:dims, dims].tolist())
    return image
