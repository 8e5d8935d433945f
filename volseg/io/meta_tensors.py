"""The MetaTensor volseg passes around: meta entries, and the grid read back from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from monai.utils import SpaceKeys

from volseg.errors import GeometryError, ShapeError
from volseg.geometry import Affine, Grid

# MONAI's NrrdReader has it in the words of the file.
_RAS = (SpaceKeys.RAS, "right-anterior-superior")


def meta_tensor(
    values: npt.NDArray[Any] | torch.Tensor,
    affine: Affine,
    source: str = "",
    further: Mapping[str, int | float | str] | None = None,
) -> MetaTensor:
    """Return (channels, x, y, z) or (channels, x, y) values with the meta entries MONAI expects.

    Args:
        values: channel first values of a type torch computes with.
        affine: RAS+ affine in mm with as many axes as the values have spatial ones.
        source: path the values come from, kept as `filename_or_obj`.
        further: more entries; numbers and strings, so that batches can be collated.

    Raises:
        ShapeError: if the values do not have one axis more than the affine.
    """
    if values.ndim != affine.spatial_dims + 1:
        raise ShapeError(
            f"an image on an affine of {affine.spatial_dims} axes must have that many spatial axes "
            f"after its channels, got shape {tuple(values.shape)}."
        )
    meta = {
        "affine": torch.tensor(affine.matrix.tolist(), dtype=torch.float64),
        "original_affine": torch.tensor(affine.matrix.tolist(), dtype=torch.float64),
        "spatial_shape": np.array(values.shape[1:], dtype=np.int64),
        "space": SpaceKeys.RAS,
        "filename_or_obj": source,
        **(further or {}),
    }
    return MetaTensor(torch.as_tensor(values), meta=meta)


def further_meta(image: Any) -> dict[str, int | float | str]:
    """Return the entries of a MetaTensor that are neither geometry nor the path."""
    known = ("filename_or_obj", "space")
    return {
        name: value
        for name, value in image.meta.items()
        if isinstance(value, (int, float, str)) and name not in known
    }


def numpy_values(image: Any) -> npt.NDArray[Any]:
    """Return the values of a MetaTensor in a NumPy type that files have, too, unchanged."""
    values = image.as_tensor().cpu()
    wider = {torch.bool: torch.uint8, torch.float16: torch.float32, torch.bfloat16: torch.float32}
    stored: npt.NDArray[Any] = values.to(wider.get(values.dtype, values.dtype)).numpy()
    return stored


def require_ras(image: Any) -> None:
    """Refuse a MetaTensor whose affines lead elsewhere than to RAS+, as MONAI's may.

    Raises:
        GeometryError: if the world is another one.
    """
    space = image.meta.get("space", SpaceKeys.RAS)
    if space not in _RAS:
        raise GeometryError(
            f"the world of a MetaTensor is {str(space)!r} (meta 'space'), expected 'RAS': read the "
            "file with volseg.io.read_image, or convert a MetaTensor in LPS with "
            "volseg.io.as_image."
        )


def affine_of(image: Any) -> Affine:
    """Return the affine of a channel-first MetaTensor, for its number of spatial axes.

    A 2D image on a 4 x 4 affine, as some MONAI readers give, keeps its first two axes if they lie
    in the first two world axes.

    Raises:
        GeometryError: if the affine is not one to RAS+, is damaged, or does not suit the number of
            spatial axes.
    """
    require_ras(image)
    dims = image.ndim - 1
    affine = Affine(image.affine.detach().cpu().numpy())
    if affine.spatial_dims == dims:
        return affine
    matrix = affine.matrix
    if dims == 2 and not (np.any(matrix[2, :2]) or np.any(matrix[:2, 2])):
        return Affine(np.delete(np.delete(matrix, 2, axis=0), 2, axis=1))
    raise GeometryError(
        f"an image of shape {tuple(image.shape)} (channels first) needs an affine of {dims} axes, "
        f"got one of {affine.spatial_dims}; keep the channel axis and one affine for all axes."
    )


def grid_of(image: Any) -> Grid:
    """Return the grid of a channel-first MetaTensor.

    Raises:
        GeometryError: if its affine is not one to RAS+, is damaged, or does not suit the number of
            spatial axes.
    """
    return Grid(tuple(int(size) for size in image.shape[1:]), affine_of(image))
