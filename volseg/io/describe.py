"""A description of an image file for people: what it holds and what is odd about it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.geometry import Affine, Grid
from volseg.io.read import read_stored
from volseg.io.stored_image import StoredImage

_MOST_DISTINCT = 256
_SAMPLE = 50_000
_OBLIQUE_DEGREES = 0.5
_SHEARED_DEGREES = 0.05
_ANISOTROPY = 2.0
_HUGE_OFFSET_MM = 2000.0
_LABEL_SMOOTHNESS = 0.5


@dataclass(frozen=True)
class ImageDescription:
    """What an image file holds; `dataclasses.asdict` of it can be written as JSON.

    Attributes:
        path: as given.
        format: such as "NIfTI-1".
        stored_type: type of the values in the file, such as "int16".
        shape: spatial shape in voxels.
        channels: number of channels.
        spacing: mm for each axis; None, like the next three, if the file states no geometry.
        orientation: axis codes such as "RAS".
        affine: rows of the RAS+ affine in mm.
        extent_mm: length of the image along each axis, edge to edge.
        minimum: of the finite values; None, like the next two, if there are none.
        maximum: of the finite values.
        mean: of the finite values.
        non_finite_share: part of the values that are not finite, 0 to 1.
        distinct_values: number of different values, None if more than 256.
        looks_like_labels: whether the values look like a label map.
        remarks: what is unusual about the file, one phrase each.
    """

    path: str
    format: str
    stored_type: str
    shape: list[int]
    channels: int
    spacing: list[float] | None
    orientation: str | None
    affine: list[list[float]] | None
    extent_mm: list[float] | None
    minimum: float | None
    maximum: float | None
    mean: float | None
    non_finite_share: float
    distinct_values: int | None
    looks_like_labels: bool
    remarks: list[str]


def describe_image(path: str | os.PathLike[str]) -> ImageDescription:
    """Return what an image file holds, also if it states no orientation.

    Raises:
        InputError: if the file is missing, damaged or of an unsupported kind.
        GeometryError: if its affine is damaged.
    """
    stored = read_stored(path)
    values = stored.values
    finite = np.isfinite(values) if values.dtype.kind == "f" else np.ones(1, dtype=bool)
    known = values if finite.all() else values[finite]
    distinct = _distinct(known)
    labels = _looks_like_labels(values, distinct)
    affine = stored.affine
    grid = None if affine is None else Grid(values.shape[1:], affine)
    non_finite = float(1.0 - finite.mean())
    remarks = [*stored.remarks, *_geometry_remarks(stored), *_value_remarks(known, non_finite)]
    if labels:
        remarks.append(f"looks like a label map with {distinct} values")
    return ImageDescription(
        path=stored.source,
        format=stored.format,
        stored_type=stored.stored_type,
        shape=list(values.shape[1:]),
        channels=values.shape[0],
        spacing=None if affine is None else list(affine.spacing),
        orientation=None if affine is None else "".join(affine.orientation),
        affine=None if affine is None else affine.matrix.tolist(),
        extent_mm=None if grid is None else list(grid.extent),
        minimum=float(known.min()) if known.size else None,
        maximum=float(known.max()) if known.size else None,
        mean=float(known.mean(dtype=np.float64)) if known.size else None,
        non_finite_share=non_finite,
        distinct_values=distinct,
        looks_like_labels=labels,
        remarks=remarks,
    )


def _distinct(known: npt.NDArray[Any]) -> int | None:
    # A sample settles most images without sorting all of their voxels.
    flat = known.ravel()
    if np.unique(flat[:: max(1, flat.size // _SAMPLE)]).size > _MOST_DISTINCT:
        return None
    count = int(np.unique(flat).size)
    return count if count <= _MOST_DISTINCT else None


def _looks_like_labels(values: npt.NDArray[Any], distinct: int | None) -> bool:
    """Few whole, non-negative values, and most voxels of a structure like their next neighbour."""
    if distinct is None or distinct < 2 or values.shape[0] != 1:
        return False
    if not np.isfinite(values).all() or values.min() < 0 or np.any(values != np.floor(values)):
        return False
    here, following = values[:, :-1], values[:, 1:]
    structure = here > 0
    if not structure.any():
        return False
    return float((here == following)[structure].mean()) >= _LABEL_SMOOTHNESS


def _geometry_remarks(stored: StoredImage) -> list[str]:
    affine = stored.affine
    if affine is None or affine == Affine(np.eye(affine.spatial_dims + 1)):
        return []
    remarks = []
    oblique, shear = np.rad2deg(affine.obliquity), np.rad2deg(affine.shear)
    if oblique >= _OBLIQUE_DEGREES:
        remarks.append(f"oblique by {oblique:.1f} degrees")
    if shear >= _SHEARED_DEGREES:
        remarks.append(f"sheared by {shear:.2f} degrees")
    ratio = max(affine.spacing) / min(affine.spacing)
    if ratio > _ANISOTROPY:
        remarks.append(f"anisotropic: voxels are {ratio:.1f} times longer along one axis")
    centre = np.abs(Grid(stored.values.shape[1:], affine).centre).max()
    if centre > _HUGE_OFFSET_MM:
        remarks.append(f"lies {centre:.0f} mm from the origin of the world")
    return remarks


def _value_remarks(known: npt.NDArray[Any], non_finite: float) -> list[str]:
    remarks = []
    if non_finite > 0:
        remarks.append(f"{non_finite:.2%} of the values are not finite")
    if known.size and known.min() == known.max():
        remarks.append(f"constant: every value is {known.min():g}")
    return remarks
