"""The weight map of the U-Net, which makes thin gaps between instances count.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, Eq. 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import distance_transform_edt, find_objects, maximum_filter
from torch import Tensor

from volseg.errors import InputError, ShapeError

# Weights below this number are left out of the map: it bounds the error of every voxel.
_NEGLIGIBLE = 1e-7


@overload
def border_weight_map(
    instances: npt.NDArray[Any],
    *,
    w0: float = ...,
    sigma: float = ...,
    balance: bool = ...,
    spacing: Sequence[float] | None = ...,
) -> npt.NDArray[np.float32]: ...
@overload
def border_weight_map(
    instances: Tensor,
    *,
    w0: float = ...,
    sigma: float = ...,
    balance: bool = ...,
    spacing: Sequence[float] | None = ...,
) -> Tensor: ...
def border_weight_map(
    instances: npt.NDArray[Any] | Tensor,
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    balance: bool = True,
    spacing: Sequence[float] | None = None,
) -> npt.NDArray[np.float32] | Tensor:
    """Return a weight for every voxel, largest in the background between close instances.

    ``w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2))`` with the distances d1 and d2, between centres
    of voxels, to the nearest and the second nearest instance. The second term is for the background
    alone: inside an instance it would reward the very class that fuses it with its neighbour.
    Instances that touch leave no background between them; `separate_touching_instances` first.

    Each instance is looked at in its bounding box plus a margin, about 6 sigma, beyond which it
    cannot add more than 0.0000001 to a weight.

    Args:
        instances: Instance numbers, 0 is background; ``(x, y)`` or ``(x, y, z)``.
        w0: Largest weight that a gap adds.
        sigma: Width of the gaps that count, in voxels, or in the unit of the spacing.
        balance: Whether w_c gives background and instances the same sum (and the image the mean 1);
            otherwise, and where only one of them is present, w_c is 1.
        spacing: Distance of neighbouring voxels along each axis, such as in mm; 1 without it.

    Returns:
        float32 weights of the same shape; a tensor on the same device for a tensor.

    Raises:
        ShapeError: The map has neither two nor three axes, or no voxels.
        InputError: The values are not instance numbers, or an option is out of range.
    """
    if not (w0 >= 0 and math.isfinite(w0) and sigma > 0 and math.isfinite(sigma)):
        raise InputError(
            f"w0 is {w0} and sigma {sigma}; expected w0 of at least 0 and sigma above 0."
        )
    steps = tuple(map(float, (1.0,) * instances.ndim if spacing is None else spacing))
    if len(steps) != instances.ndim or not all(0 < step < math.inf for step in steps):
        raise InputError(
            f"the spacing is {steps} for an instance map of shape {tuple(instances.shape)}; "
            "expected one number above 0 for each axis."
        )
    if isinstance(instances, Tensor):
        array = instances.detach().cpu().as_subclass(Tensor).numpy()
        weights = border_weight_map(array, w0=w0, sigma=sigma, balance=balance, spacing=steps)
        return torch.from_numpy(weights).to(instances.device)

    labels = _checked(instances)
    background = labels == 0
    reach = sigma * math.sqrt(2 * math.log(max(w0, _NEGLIGIBLE) / _NEGLIGIBLE))
    nearest, second = _two_nearest(labels, reach, steps)
    gap = np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    weights = np.where(background, w0 * gap, 0.0)
    weights += _class_weights(background) if balance else 1.0
    return weights.astype(np.float32)


@overload
def separate_touching_instances(instances: npt.NDArray[Any]) -> npt.NDArray[Any]: ...
@overload
def separate_touching_instances(instances: Tensor) -> Tensor: ...
def separate_touching_instances(
    instances: npt.NDArray[Any] | Tensor,
) -> npt.NDArray[Any] | Tensor:
    """Return the instances with background, one voxel wide, where two of them touch.

    Of two instances that touch by a face, an edge or a corner, the one with the lower number gives
    up its voxels there; one that is a single voxel thin may vanish. Train on the result (``> 0``)
    with its `border_weight_map`.

    Args:
        instances: Instance numbers, 0 is background; ``(x, y)`` or ``(x, y, z)``.

    Raises:
        ShapeError: The map has neither two nor three axes, or no voxels.
        InputError: The values are not instance numbers.
    """
    if isinstance(instances, Tensor):
        array = instances.detach().cpu().as_subclass(Tensor).numpy()
        return torch.from_numpy(separate_touching_instances(array)).to(instances.device)
    labels = _checked(instances)
    return np.where(maximum_filter(labels, size=3) > labels, 0, labels).astype(instances.dtype)


def _two_nearest(
    labels: npt.NDArray[np.int64], reach: float, spacing: tuple[float, ...]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the distances to the two nearest instances, infinite beyond the reach."""
    margins = [math.ceil(reach / step) for step in spacing]
    nearest = np.full(labels.shape, np.inf)
    second = np.full(labels.shape, np.inf)
    # Numbered without holes, as the search for boxes takes a table of all numbers.
    numbers, places = np.unique(labels, return_inverse=True)
    compact = places.reshape(labels.shape) + (0 if numbers[0] == 0 else 1)
    for index, box in enumerate(find_objects(compact), start=1):
        wide = tuple(
            slice(max(0, side.start - margin), side.stop + margin)
            for side, margin in zip(box, margins, strict=True)
        )
        distance = distance_transform_edt(compact[wide] != index, sampling=spacing)
        second[wide] = np.minimum(second[wide], np.maximum(nearest[wide], distance))
        nearest[wide] = np.minimum(nearest[wide], distance)
    return nearest, second


def _class_weights(background: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64] | float:
    empty = np.count_nonzero(background)
    filled = background.size - empty
    if empty == 0 or filled == 0:
        return 1.0
    return background.size / np.where(background, 2.0 * empty, 2.0 * filled)


def _checked(instances: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if instances.ndim not in (2, 3) or instances.size == 0:
        raise ShapeError(
            f"the instance map has the shape {instances.shape}; expected (x, y) or (x, y, z): take "
            "one channel of one image."
        )
    wrong = ~np.isfinite(instances) | (instances < 0) | (instances != np.floor(instances))
    if wrong.any():
        raise InputError(
            f"the instance map holds {instances[wrong][0]}; expected integers, 0 for the "
            "background and one number for each instance."
        )
    return instances.astype(np.int64)
