"""The post-processing functions as MONAI dictionary transforms, for bundles.

All options are plain values, so that they can be written in a YAML file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from volseg.errors import InputError, ShapeError
from volseg.postprocess.holes import fill_holes
from volseg.postprocess.largest_components import keep_largest
from volseg.postprocess.small_components import remove_small_components


class FillHolesd(MapTransform):
    """Fill the holes of each class: `volseg.postprocess.fill_holes` on label maps in a dictionary.

    Args:
        keys: Label maps `(1, x, y)` or `(1, x, y, z)`.
        classes: Classes whose holes are filled; all without it.
        allow_missing_keys: Skip a key that the dictionary lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        classes: Collection[int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.classes = classes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the label maps filled."""
        result = dict(data)
        for key in self.key_iterator(result):
            clean = partial(fill_holes, classes=self.classes)
            result[key] = _on_label_map(key, result[key], clean)
        return result


class RemoveSmallComponentsd(MapTransform):
    """Remove small components: `volseg.postprocess.remove_small_components` in a dictionary.

    Args:
        keys: Label maps `(1, x, y)` or `(1, x, y, z)`.
        min_size_mm3: Smallest size that stays in mm³ (in 2D: mm²), by the affine of the label map,
            which must be a `MetaTensor`.
        min_size_voxels: Smallest size that stays in voxels; give one of the two.
        classes: Classes to clean; all without it.
        connectivity: 4 or 8 in 2D, 6, 18 or 26 in 3D; the largest number without it.
        replace_with: Value given to the removed voxels.
        allow_missing_keys: Skip a key that the dictionary lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        min_size_mm3: float | None = None,
        min_size_voxels: int | None = None,
        classes: Collection[int] | None = None,
        connectivity: int | None = None,
        replace_with: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if (min_size_mm3 is None) == (min_size_voxels is None):
            raise InputError(
                f"RemoveSmallComponentsd has min_size_mm3={min_size_mm3} and "
                f"min_size_voxels={min_size_voxels}; expected exactly one of them."
            )
        self.min_size_mm3 = min_size_mm3
        self.min_size_voxels = min_size_voxels
        self.classes = classes
        self.connectivity = connectivity
        self.replace_with = replace_with

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the label maps cleaned."""
        result = dict(data)
        for key in self.key_iterator(result):
            spacing = None if self.min_size_mm3 is None else _spacing(key, result[key])
            clean = partial(
                remove_small_components,
                min_size_mm3=self.min_size_mm3,
                min_size_voxels=self.min_size_voxels,
                spacing=spacing,
                classes=self.classes,
                connectivity=self.connectivity,
                replace_with=self.replace_with,
            )
            result[key] = _on_label_map(key, result[key], clean)
        return result


class KeepLargestd(MapTransform):
    """Keep the largest components of each class: `volseg.postprocess.keep_largest`.

    Args:
        keys: Label maps `(1, x, y)` or `(1, x, y, z)`.
        classes: Classes to clean; all without it.
        count: Components that stay in each class.
        connectivity: 4 or 8 in 2D, 6, 18 or 26 in 3D; the largest number without it.
        allow_missing_keys: Skip a key that the dictionary lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        classes: Collection[int] | None = None,
        count: int = 1,
        connectivity: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.classes = classes
        self.count = count
        self.connectivity = connectivity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the label maps cleaned."""
        result = dict(data)
        for key in self.key_iterator(result):
            clean = partial(
                keep_largest,
                classes=self.classes,
                count=self.count,
                connectivity=self.connectivity,
            )
            result[key] = _on_label_map(key, result[key], clean)
        return result


def _on_label_map(
    key: Hashable,
    labels: torch.Tensor,
    clean: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
) -> torch.Tensor:
    """Return the tensor with its one channel cleaned; type, dtype, device and affine are kept."""
    if labels.ndim not in (3, 4) or labels.shape[0] != 1:
        raise ShapeError(
            f"{key!r} has the shape {tuple(labels.shape)}; expected a label map with one channel, "
            "(1, x, y) or (1, x, y, z): apply AsDiscreted(argmax=True) first."
        )
    plain = labels.as_tensor() if isinstance(labels, MetaTensor) else labels
    array = plain.detach().cpu().numpy()[0]
    if array.dtype.kind == "f":  # MONAI's AsDiscrete returns integers as 32-bit floats
        if not (np.isfinite(array).all() and np.array_equal(np.rint(array), array)):
            raise InputError(
                f"{key!r} holds values that are not whole numbers; expected classes: apply "
                "AsDiscreted(argmax=True) first."
            )
        array = array.astype(np.int64)
    # A copy in C order: torch has no other, and the input is never shared with the result.
    cleaned = np.ascontiguousarray(clean(array))[None]
    result = torch.from_numpy(cleaned).to(device=plain.device, dtype=plain.dtype)
    return MetaTensor(result).copy_meta_from(labels) if isinstance(labels, MetaTensor) else result


def _spacing(key: Hashable, labels: torch.Tensor) -> Sequence[float]:
    if not isinstance(labels, MetaTensor):
        raise InputError(
            f"{key!r} has no affine, so min_size_mm3 cannot be converted to voxels; give a "
            "MetaTensor, or state the size with min_size_voxels."
        )
    # The length of each column of the affine; a 2D image may carry a 3D affine.
    affine = labels.affine.detach().cpu().numpy().astype(float)
    lengths: list[float] = np.linalg.norm(affine[:-1, : labels.ndim - 1], axis=0).tolist()
    return lengths
