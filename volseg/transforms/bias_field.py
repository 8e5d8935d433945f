"""Correction of the slow brightness change across MR images."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from volseg.errors import InputError
from volseg.io import grid_of
from volseg.transforms.channel_first import as_float_image, as_mask, plain, with_metadata_of

# Shrunk further, an axis would have fewer voxels than the field has control points.
_SMALLEST_SIDE = 8


def bias_field(
    image: npt.NDArray[np.float32],
    *,
    mask: npt.NDArray[np.bool_] | None = None,
    spacing: Sequence[float] | None = None,
    shrink_factor: int = 4,
    iterations: Sequence[int] = (50, 50, 50, 50),
) -> npt.NDArray[np.float32]:
    """Return the field that multiplies an image, by N4.

    Tustison et al., "N4ITK: Improved N3 Bias Correction", IEEE Transactions on Medical Imaging
    29(6), 2010. The field is found on a shrunk grid, and its B-spline is evaluated on the full one.

    Args:
        image: ``(x, y)`` or ``(x, y, z)``.
        mask: Voxels that count; those above Otsu's threshold without it. Of both, only those with
            positive intensities, as N4 works on logarithms.
        spacing: Of the voxels in mm; 1 without it.
        shrink_factor: In each axis that stays long enough.
        iterations: Largest number on each level of the B-spline, coarsest first.

    Raises:
        InputError: No voxel counts, values are not finite, or an option is out of range.
    """
    if shrink_factor < 1 or not iterations or min(iterations) < 1:
        raise InputError(
            f"shrink_factor is {shrink_factor} and iterations {tuple(iterations)}; expected whole "
            "numbers of at least 1."
        )
    if not np.isfinite(image).all():
        raise InputError("the image holds values that are not finite (NaN or infinity): repair it.")
    if min(image.shape) < 4:
        raise InputError(
            f"the image has the shape {image.shape}; a bias field needs four voxels in each axis."
        )
    whole = _as_itk(image, spacing)
    if mask is None:
        mask = np.transpose(sitk.GetArrayFromImage(sitk.OtsuThreshold(whole, 0, 1))) > 0
    counting = mask & (image > 0)
    if not counting.any():
        raise InputError(
            "no voxel is positive inside the mask, so there is no bias field: correct it before "
            "intensities are standardised."
        )
    factors = [max(1, min(shrink_factor, side // _SMALLEST_SIDE)) for side in image.shape]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations([int(number) for number in iterations])
    shrunk = sitk.Shrink(_as_itk(counting.astype(np.uint8), spacing), factors)
    if not sitk.GetArrayViewFromImage(shrunk).any():
        raise InputError(
            f"nothing of the {np.count_nonzero(counting)} voxels that count is left at the shrink "
            f"factor {shrink_factor}: use a smaller one, or a mask of connected tissue."
        )
    corrector.Execute(sitk.Shrink(whole, factors), shrunk)
    log_field = np.transpose(sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(whole)))
    return np.ascontiguousarray(np.exp(log_field), dtype=np.float32)


class CorrectBiasFieldd(MapTransform):
    """Divide images by their bias field: `bias_field`, each channel by its own.

    Args:
        keys: MR images ``(channels, x, y)`` or ``(channels, x, y, z)`` of positive intensities.
        shrink_factor: Of the grid that the field is found on.
        iterations: Largest number on each level, coarsest first.
        mask_key: Mask with one channel; Otsu's threshold without it.
        allow_missing_keys: Skip a key that the dictionary lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        shrink_factor: int = 4,
        iterations: Sequence[int] = (50, 50, 50, 50),
        mask_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.shrink_factor = shrink_factor
        self.iterations = tuple(iterations)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the images corrected, as float32."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = as_float_image(key, result[key])
            mask = None
            if self.mask_key is not None:
                mask = as_mask(self.mask_key, data[self.mask_key], image).cpu().numpy()
            spacing = grid_of(image).spacing if isinstance(image, MetaTensor) else None
            fields = [
                bias_field(
                    channel,
                    mask=mask,
                    spacing=spacing,
                    shrink_factor=self.shrink_factor,
                    iterations=self.iterations,
                )
                for channel in plain(image).cpu().numpy()
            ]
            field = torch.from_numpy(np.stack(fields)).to(image.device)
            result[key] = with_metadata_of(image, plain(image) / field)
        return result


def _as_itk(values: npt.NDArray[Any], spacing: Sequence[float] | None) -> Any:
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.transpose(values)))
    image.SetSpacing([float(step) for step in spacing or [1.0] * values.ndim])
    return image
