"""What every intensity transform does before and after its numeric work: shape, type, metadata."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from monai.data import MetaTensor, get_track_meta
from monai.utils import convert_to_tensor
from torch import Tensor

from volseg.errors import ShapeError


def as_float_image(key: Hashable, image: Any) -> Tensor:
    """Return an image of a dictionary as float32, a MetaTensor where MONAI tracks metadata.

    Args:
        key: Its key, for messages.
        image: Array or tensor ``(channels, x, y)`` or ``(channels, x, y, z)``.

    Raises:
        ShapeError: It has another number of axes, or no voxels.
    """
    tensor: Tensor = convert_to_tensor(image, dtype=torch.float32, track_meta=get_track_meta())
    if tensor.ndim not in (3, 4) or tensor.numel() == 0:
        raise ShapeError(
            f"{key!r} has the shape {tuple(tensor.shape)}; expected an image (channels, x, y) or "
            "(channels, x, y, z): apply ReadImaged or EnsureChannelFirstd first."
        )
    return tensor


def as_mask(key: Hashable, mask: Any, like: Tensor) -> Tensor:
    """Return where a mask is not 0, ``(x, y)`` or ``(x, y, z)``, on the device of an image.

    Args:
        key: Its key, for messages.
        mask: Array or tensor with one channel.
        like: Image ``(channels, x, y[, z])`` that it belongs to.

    Raises:
        ShapeError: It has more than one channel or another size than the image.
    """
    tensor: Tensor = convert_to_tensor(mask, track_meta=False)
    if tensor.shape != (1, *like.shape[1:]):
        raise ShapeError(
            f"the mask {key!r} has the shape {tuple(tensor.shape)}; expected one channel on the "
            f"grid of its image, {(1, *like.shape[1:])}."
        )
    return (tensor[0] != 0).to(like.device)


def plain(image: Any) -> Tensor:
    """Return an image ``(channels, ...)`` as a tensor without metadata, for numeric work."""
    return image.as_tensor() if isinstance(image, MetaTensor) else torch.as_tensor(image)


def with_metadata_of(image: Tensor, values: Tensor) -> Tensor:
    """Return new values with the metadata of the image they were computed from."""
    if not isinstance(image, MetaTensor):
        return values
    result: Tensor = MetaTensor(values).copy_meta_from(image)
    return result
