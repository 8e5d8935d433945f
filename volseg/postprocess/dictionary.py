"""The post-processing rules as MONAI dictionary transforms, for bundles.

All options are plain values, so that they can be written in a YAML file.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from volseg.errors import InputError, ShapeError
from volseg.postprocess.apply import apply_rules
from volseg.postprocess.decision_table import read_decision_table
from volseg.postprocess.holes import FillHoles
from volseg.postprocess.largest_components import KeepLargest
from volseg.postprocess.rule import Rule
from volseg.postprocess.rules import as_rules
from volseg.postprocess.small_components import RemoveSmallComponents


class PostprocessLabelsd(MapTransform):
    """Apply rules to label maps in a dictionary: `volseg.postprocess.apply_rules`.

    Args:
        keys: Label maps `(1, x, y)` or `(1, x, y, z)`.
        rules: The rules in order, as `Rule` or as plain values: `{kind: keep_largest, ...}`.
        rules_file: Decision table (JSON) with the rules; give one of the two.
        folder: What a relative path starts from; in a bundle ``"@bundle_root"``. The working
            directory without it.
        allow_missing_keys: Skip a key that the dictionary lacks.

    Raises:
        InputError: Not exactly one of rules and file is given, or a rule cannot be used.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        rules: Iterable[Rule | Mapping[str, Any]] | None = None,
        rules_file: str | os.PathLike[str] | None = None,
        folder: str | os.PathLike[str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if rules_file is not None and rules is None:
            self.rules = read_decision_table(Path(folder or "") / rules_file).rules
        elif rules is not None and rules_file is None:
            self.rules = as_rules(rules)
        else:
            raise InputError(
                f"{type(self).__name__} has rules={rules} and rules_file={rules_file}; expected "
                "exactly one of them."
            )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the rules applied to the label maps."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = _on_label_map(key, result[key], self.rules)
        return result


class FillHolesd(PostprocessLabelsd):
    """Fill the holes of each class: `volseg.postprocess.fill_holes` on label maps in a dictionary.

    Args:
        keys: Label maps `(1, x, y)` or `(1, x, y, z)`.
        classes: Classes whose holes are filled; all without it.
        region: Classes whose union has its holes filled.
        allow_missing_keys: Skip a key that the dictionary lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        classes: Collection[int] | None = None,
        region: Collection[int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        rule = FillHoles(classes=_tuple(classes), region=_tuple(region))
        super().__init__(keys, rules=[rule], allow_missing_keys=allow_missing_keys)


class RemoveSmallComponentsd(PostprocessLabelsd):
    """Remove small components: `volseg.postprocess.remove_small_components` in a dictionary.

    Args:
        keys: Label maps `(1, x, y)` or `(1, x, y, z)`.
        min_size_mm3: Smallest size that stays in mm³ (in 2D: mm²), or one for each class, by the
            affine of the label map, which must be a `MetaTensor`.
        min_size_voxels: Smallest size that stays in voxels; give one of the two.
        classes: Classes to clean; all without it.
        region: Classes whose union is cleaned as one.
        connectivity: 4 or 8 in 2D, 6, 18 or 26 in 3D; the largest number without it.
        replace_with: Value given to the removed voxels.
        never_empty: Keep the largest component of a class of which nothing would stay.
        allow_missing_keys: Skip a key that the dictionary lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        min_size_mm3: float | Mapping[int, float] | None = None,
        min_size_voxels: float | Mapping[int, float] | None = None,
        classes: Collection[int] | None = None,
        region: Collection[int] | None = None,
        connectivity: int | None = None,
        replace_with: int = 0,
        never_empty: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        rule = RemoveSmallComponents(
            classes=_tuple(classes),
            region=_tuple(region),
            min_size_mm3=min_size_mm3,
            min_size_voxels=min_size_voxels,
            connectivity=connectivity,
            replace_with=replace_with,
            never_empty=never_empty,
        )
        super().__init__(keys, rules=[rule], allow_missing_keys=allow_missing_keys)


class KeepLargestd(PostprocessLabelsd):
    """Keep the largest components of each class: `volseg.postprocess.keep_largest`.

    Args:
        keys: Label maps `(1, x, y)` or `(1, x, y, z)`.
        classes: Classes to clean; all without it.
        region: Classes whose union is cleaned as one.
        count: Components that stay in each class, or a number for each class.
        connectivity: 4 or 8 in 2D, 6, 18 or 26 in 3D; the largest number without it.
        never_empty: Keep the largest component of a class that would vanish with its region.
        allow_missing_keys: Skip a key that the dictionary lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        classes: Collection[int] | None = None,
        region: Collection[int] | None = None,
        count: int | Mapping[int, int] = 1,
        connectivity: int | None = None,
        never_empty: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        rule = KeepLargest(
            classes=_tuple(classes),
            region=_tuple(region),
            count=count,
            connectivity=connectivity,
            never_empty=never_empty,
        )
        super().__init__(keys, rules=[rule], allow_missing_keys=allow_missing_keys)


def _tuple(classes: Collection[int] | None) -> tuple[int, ...] | None:
    return None if classes is None else tuple(classes)


def _on_label_map(key: Hashable, labels: torch.Tensor, rules: Sequence[Rule]) -> torch.Tensor:
    """Return the tensor with its one channel cleaned; type, dtype, device and affine are kept."""
    if labels.ndim not in (3, 4) or labels.shape[0] != 1:
        raise ShapeError(
            f"{key!r} has the shape {tuple(labels.shape)}; expected a label map with one channel, "
            "(1, x, y) or (1, x, y, z): apply AsDiscreted(argmax=True) first."
        )
    measures: dict[str, Any] = {}
    if any(rule.needs_spacing for rule in rules):
        measures = _measures(key, labels)
    plain = labels.as_tensor() if isinstance(labels, MetaTensor) else labels
    array = _integers(key, plain.detach().cpu().numpy()[0])
    # The result in C order: torch has no other, and the input is never shared with it.
    cleaned = apply_rules(array, rules, out=np.empty(array.shape, array.dtype), **measures)
    result = torch.from_numpy(cleaned[None]).to(device=plain.device, dtype=plain.dtype)
    return MetaTensor(result).copy_meta_from(labels) if isinstance(labels, MetaTensor) else result


def _integers(key: Hashable, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind != "f":  # MONAI's AsDiscrete returns integers as 32-bit floats
        return array
    if not (np.isfinite(array).all() and np.array_equal(np.rint(array), array)):
        raise InputError(
            f"{key!r} holds values that are not whole numbers; expected classes: apply "
            "AsDiscreted(argmax=True) first."
        )
    return array.astype(np.int64)


def _measures(key: Hashable, labels: torch.Tensor) -> dict[str, Any]:
    """Return spacing and voxel volume."""
    if not isinstance(labels, MetaTensor):
        raise InputError(
            f"{key!r} has no affine, so a rule in mm or mm³ cannot be converted to voxels; give a "
            "MetaTensor, or state sizes with min_size_voxels."
        )
    # The steps are columns of the affine; a 2D image may carry a 3D affine.
    steps = labels.affine.detach().cpu().numpy().astype(float)[:-1, : labels.ndim - 1]
    return {
        "spacing": np.linalg.norm(steps, axis=0).tolist(),
        "voxel_volume": float(np.sqrt(np.linalg.det(steps.T @ steps))),
    }
