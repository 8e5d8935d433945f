"""Images by way of SimpleITK: NRRD, MetaImage, TIFF, and SimpleITK images in memory.

SimpleITK works in LPS+ millimetres and gives arrays as (z, y, x); both are turned here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from volseg.errors import GeometryError, InputError
from volseg.geometry import Affine, direction_of, parse_orientation
from volseg.io.formats import ImageFormat
from volseg.io.stored_image import StoredImage, exact_values

_IMAGE_IO = {
    ImageFormat.NRRD: "NrrdImageIO",
    ImageFormat.METAIMAGE: "MetaImageIO",
    ImageFormat.PNG: "PNGImageIO",
    ImageFormat.TIFF: "TIFFImageIO",
    ImageFormat.JPEG: "JPEGImageIO",
}
# The spaces of the NRRD format whose axes are anatomical.
_ANATOMICAL_SPACES = (
    "right-anterior-superior",
    "ras",
    "left-anterior-superior",
    "las",
    "left-posterior-superior",
    "lps",
)
_LONGEST_HEADER = 1 << 20


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
    stored = StoredImage(
        values=values,
        affine=affine,
        format=kind.value,
        stored_type=str(sitk.GetArrayViewFromImage(image).dtype),
        source=source,
    )
    lack = _lack_of_orientation(path, kind)
    if lack:
        stored.no_geometry = (
            f"cannot place {source} in the world: {lack}, so left and right are unknown; state the "
            "orientation of its axes if you know it (for example orientation='RAS') or convert the "
            "scan again from its source."
        )
        stored.remarks.append(lack)
        stored.affine = None
        if orientation is not None:
            codes = parse_orientation(orientation)
            stored.affine = Affine.from_parts(affine.spacing, direction=direction_of(codes))
            stored.remarks.append(f"orientation {''.join(codes)} stated by the caller")
    return stored


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
    """Return the SimpleITK image of channel-first values; several channels become components."""
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


def _lack_of_orientation(path: Path, kind: ImageFormat) -> str:
    """Return why the header does not say where the axes point; empty if it does.

    SimpleITK fills a missing direction with the identity and says nothing.
    """
    with path.open("rb") as stream:
        start = stream.read(_LONGEST_HEADER)
    if kind is ImageFormat.NRRD:
        header = start.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("latin-1").lower()
        fields = dict(line.partition(":")[::2] for line in header.splitlines() if ":" in line)
        space = fields.get("space", "").strip().removesuffix("-time")
        if fields.get("dimension", "").strip() == "2" and not space:
            return ""
        if space not in _ANATOMICAL_SPACES:
            found = f"is {space!r}" if space else "is missing"
            return f"its field 'space' {found} where an anatomical one is expected"
        return "" if "space directions" in fields else "its field 'space directions' is missing"
    header = start.partition(b"ElementDataFile")[0].decode("latin-1")
    fields = dict(line.partition("=")[::2] for line in header.splitlines() if "=" in line)
    names = {name.strip() for name in fields}
    if fields.get("NDims ", fields.get("NDims", "")).strip() == "2":
        return ""
    if not names & {"TransformMatrix", "Rotation", "Orientation"}:
        return "its field 'TransformMatrix' is missing"
    return ""
