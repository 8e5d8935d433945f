"""Images that are already in memory, in the form volseg works with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.utils import SpaceKeys

from volseg.errors import GeometryError, InputError, ShapeError
from volseg.geometry import Affine
from volseg.io.channels import joined_images
from volseg.io.itk import from_itk
from volseg.io.meta_tensors import affine_of, further_meta, meta_tensor
from volseg.io.read import read_image
from volseg.io.stored_image import exact_values

_MOST_LAST_CHANNELS = 4
_FEWEST_VOXELS_ACROSS = 32


def as_image(value: Any, affine: npt.ArrayLike | Affine | None = None) -> MetaTensor:
    """Return an image as a MetaTensor (channels, x, y, z) or (channels, x, y) with its affine.

    Args:
        value: a path, a channel-first MetaTensor, which may be in LPS+ if its meta entry `space`
            says so, a SimpleITK image, or an array or tensor with only the spatial axes of
            `affine` or with a channel axis before them; or any but an array for each channel, by
            name.
        affine: RAS+ affine in mm; required for arrays, not allowed for values that carry their own.

    Raises:
        InputError: if the value is of another kind or a path cannot be read.
        ShapeError: if the axes of an array cannot be told apart.
        GeometryError: if an array comes without an affine, or another value with a second one.
    """
    if isinstance(value, (str, os.PathLike, MetaTensor, sitk.Image, Mapping)):
        if affine is not None:
            raise GeometryError(
                f"a {type(value).__name__} carries its own geometry; leave the affine out, or give "
                "the bare array with it."
            )
        return _with_own_geometry(value)
    if not isinstance(value, (np.ndarray, torch.Tensor)):
        raise InputError(
            f"cannot take {type(value).__name__} as an image; expected a path, a MetaTensor, a "
            "SimpleITK image, or an array with its affine."
        )
    if affine is None:
        raise GeometryError(
            f"an array of shape {tuple(value.shape)} does not say where its voxels lie; give its "
            "RAS+ affine in mm as well."
        )
    placed = affine if isinstance(affine, Affine) else Affine(affine)
    return meta_tensor(_channels_first(_torch_values(value), placed), placed)


def _with_own_geometry(value: Any) -> MetaTensor:
    if isinstance(value, MetaTensor):
        return _checked_meta_tensor(value)
    if isinstance(value, sitk.Image):
        values, affine = from_itk(value, "the SimpleITK image")
        return meta_tensor(values, affine)
    if isinstance(value, Mapping):
        return joined_images({name: as_image(one) for name, one in value.items()})
    return read_image(value)


def _checked_meta_tensor(image: Any) -> MetaTensor:
    if image.ndim == 3 and image.affine.shape[-1] == 4:
        raise ShapeError(
            f"a MetaTensor of shape {tuple(image.shape)} on a 4 x 4 affine may be (x, y, z) or "
            "(channels, x, y); add the channel axis, or give a 3 x 3 affine if it is 2D."
        )
    source = str(image.meta.get("filename_or_obj", ""))
    values = _torch_values(image.as_tensor())
    return meta_tensor(values, _affine_in_ras(image), source, further_meta(image))


def _affine_in_ras(image: Any) -> Affine:
    """Return the affine of a MetaTensor, also of one in LPS+, as MONAI's bridge from ITK gives."""
    if image.meta.get("space") != SpaceKeys.LPS:
        return affine_of(image)
    affine = Affine.from_lps(image.affine.detach().cpu().numpy())
    matrix = torch.tensor(affine.matrix.tolist(), dtype=torch.float64)
    return affine_of(MetaTensor(image.as_tensor(), affine=matrix))


def _torch_values(values: npt.NDArray[Any] | torch.Tensor) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        if values.is_complex():
            raise InputError(
                "an image of complex numbers has no single brightness; give its magnitude."
            )
        return values.detach()
    return torch.from_numpy(np.ascontiguousarray(exact_values(values, "the array")))


def _channels_first(values: torch.Tensor, affine: Affine) -> torch.Tensor:
    dims = affine.spatial_dims
    if values.ndim == dims:
        return values[None]
    if values.ndim != dims + 1:
        raise ShapeError(
            f"an array on an affine of {dims} axes must have these axes, alone or after a channel "
            f"axis, got shape {tuple(values.shape)}."
        )
    if values.shape[0] > _FEWEST_VOXELS_ACROSS and 1 < values.shape[-1] <= _MOST_LAST_CHANNELS:
        raise ShapeError(
            f"an array of shape {tuple(values.shape)} seems to have its channels last; move them "
            "first, as in (channels, x, y, z)."
        )
    return values
