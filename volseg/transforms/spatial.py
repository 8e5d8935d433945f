"""Random rotation, scaling, shear, flip, translation and elastic deformation in one resample.

Conventions: angles, factors and shifts describe what happens to the content of the image, in the
order flip, scaling, shear, rotation (about array axis x, then y, then z), translation, about the
middle of the output. A positive angle turns the first of two axes towards the second: x to y, in
3D about x: y to z, about y: z to x, about z: x to y. All of it happens in millimetres along the
array axes, so that anisotropic voxels are rotated and not sheared. The elastic displacement says
where in the output's frame the content of a voxel comes from, before the affine part.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, RandomizableTransform
from monai.utils import TraceKeys, ensure_tuple_rep

from volseg.errors import InputError, ShapeError, UnknownNameError
from volseg.geometry import Grid
from volseg.transforms import patch_position
from volseg.transforms.case_grids import entry_grid, entry_grids, from_reference
from volseg.transforms.channel_first import plain
from volseg.transforms.control_points import PerAxis
from volseg.transforms.displacement import Matrix
from volseg.transforms.mapping import Inverse, Pull
from volseg.transforms.movement import (
    Parameters,
    displacement_in_voxels,
    matrix_like,
    offset_kept,
    pull_of,
    require_offset,
)
from volseg.transforms.movement_draw import MovementRanges
from volseg.transforms.patch_position import rare_voxels_entry, ratios_of, voxel_of_a_class
from volseg.transforms.resample import Volume, resample
from volseg.transforms.sampling import MODES, MONAI_MODES, PADDINGS

POSITIONS = ("random", "middle", "classes")


class RandSpatiald(RandomizableTransform, MapTransform, InvertibleTransform):
    """Move, deform and crop images and labels together, in one resample each.

    All keys share one draw. The drawn numbers are recorded on every output and can be applied
    again: `transform.apply(data, image.applied_operations[-1]["extra_info"]["parameters"])`.

    Args:
        keys: Images and label maps (channels, x, y) or (channels, x, y, z). The first present one
            is the reference: its voxel size is that of the output, its axes those of the angles.
        patch_size: Spatial size of the output in voxels; that of the reference without it. Only
            these voxels are computed.
        position: Where the patch lies: "random" (anywhere inside), "middle", or "classes" (a class
            is drawn, then one of its voxels for the middle of the patch).
        label_key: Label map that "classes" looks at, on the grid of the reference, and that
            `label_offset` is of.
        classes: Number of classes with the background, for "classes".
        class_ratios: How often each class is drawn, the background first; equally without it. The
            share of what a case lacks goes to the other classes, and to the background alone where
            there are none.
        label_offset: Where in the image what a voxel of the label map names lies, in voxels along
            the array axes from that voxel, for labels that lie a part of a voxel beside their
            image (`volseg.metrics.label_offset` measures it). In the output they lie beside it by
            as much; without it a mirrored label would lie at the other side, and a network learn
            the blur of both. Elastic deformation is taken to be the same within that distance.
        prob: How often anything but cropping is done.
        rotation: Largest angle in radians; in 3D one for all axes or one an axis.
        scale: Smallest and largest factor, drawn log-uniformly; above 1 enlarges the content.
        scale_per_axis: Whether each axis has its own factor.
        shear: Largest shear of one axis along another, below 0.5 (no unit).
        translation: Largest shift, in `unit`; one for all axes or one an axis.
        flip_axes: Array axes that are flipped in half of the draws.
        control_points: Points of the elastic grid, at least 2; one number an axis, or one for
            all: along axes of less than half the longest there are then fewer, as far apart, and
            along a thin patch the deformation is constant.
        displacement: Standard deviation of the normal displacement of each control point, in
            `unit`; one for all axes or one an axis. 0.08 of the distance of two points if None,
            and along an axis with one point up to 0.16 of its extent; 0 for no deformation.
            Displacements that could fold are scaled down as a whole
            (`volseg.transforms.displacement.without_folds`).
        unit: "mm" or "voxels", of translation and displacement.
        prob_affine: How often a draw is rotated, scaled, sheared and translated.
        prob_elastic: How often a draw is deformed elastically.
        mode: "linear", "cubic", "nearest" or "classes" (each class linear, the largest wins); one
            for all keys or one a key.
        padding: "zeros" (the value `fill`), "border" or "reflection"; one or one a key.
        fill: Value outside of the volume for "zeros"; one or one a key.
        different_grids: Whether keys may lie on different grids of one world; they are read
            through their affines. They are refused without it.
        allow_missing_keys: Skip a key that the dictionary lacks.

    Raises:
        InputError: If an option is out of its range.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        patch_size: int | Sequence[int] | None = None,
        position: str = "random",
        label_key: Hashable | None = None,
        classes: int | None = None,
        class_ratios: Sequence[float] | None = None,
        label_offset: Sequence[float] = (),
        prob: float = 1.0,
        rotation: PerAxis = 0.35,
        scale: Sequence[float] = (0.8, 1.25),
        scale_per_axis: bool = False,
        shear: float = 0.0,
        translation: PerAxis = 0.0,
        flip_axes: Sequence[int] = (),
        control_points: int | Sequence[int] = 5,
        displacement: PerAxis | None = None,
        unit: str = "mm",
        prob_affine: float = 1.0,
        prob_elastic: float = 1.0,
        mode: str | Sequence[str] = "linear",
        padding: str | Sequence[str] = "zeros",
        fill: float | Sequence[float] = 0.0,
        different_grids: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if position not in POSITIONS:
            raise UnknownNameError("position", position, POSITIONS)
        for name in ensure_tuple_rep(mode, len(self.keys)):
            if name not in MODES:
                raise UnknownNameError("interpolation mode", str(name), MODES)
        for name in ensure_tuple_rep(padding, len(self.keys)):
            if name not in PADDINGS:
                raise UnknownNameError("padding mode", str(name), PADDINGS)
        self.patch_size = patch_size
        self.position = position
        self.label_key = label_key
        self.class_ratios = ratios_of(class_ratios, classes) if position == "classes" else None
        self.label_offset = require_offset(label_offset, label_key, self.keys)
        self.ranges = MovementRanges(
            rotation=rotation,
            scale=scale,
            scale_per_axis=scale_per_axis,
            shear=shear,
            translation=translation,
            flip_axes=flip_axes,
            control_points=control_points,
            displacement=displacement,
            unit=unit,
            prob_affine=prob_affine,
            prob_elastic=prob_elastic,
        )
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.padding = ensure_tuple_rep(padding, len(self.keys))
        self.fill = ensure_tuple_rep(fill, len(self.keys))
        self.different_grids = different_grids

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with one new draw applied to all keys."""
        for key in self.key_iterator(dict(data)):
            voxels = data.get(rare_voxels_entry(self.label_key))
            drawn = self.draw(entry_grid(key, data[key]), self._labels(data), voxels)
            return self.apply(data, drawn)
        return dict(data)

    def draw(
        self,
        grid: Grid,
        labels: torch.Tensor | None = None,
        voxels: Mapping[int, npt.NDArray[np.int64]] | None = None,
    ) -> Parameters:
        """Return plain numbers for one case.

        Args:
            grid: The reference grid.
            labels: Label map (1, x, y) or (1, x, y, z) on it, for the position "classes".
            voxels: Where its rare classes are, if it is known (`volseg.data.PreparedCases`).

        Returns:
            `size` of the output, `centre` of it in the reference (indices), `rotation` (radians),
            `scale`, `shear`, `flip` (-1 or 1), `translation` (mm) and `displacement` of the
            control points (axes, *points), in mm along the array axes.
        """
        size = self._size(grid)
        self.randomize(None)
        voxel = None
        if self.class_ratios is not None and labels is not None:
            voxel = voxel_of_a_class(labels[0], self.class_ratios, self.R, voxels)
        start = self._start(grid.shape, size, voxel)
        return {
            "size": list(size),
            "centre": [s + (p - 1) / 2 for s, p in zip(start, size, strict=True)],
            **self.ranges.draw(self.R, size, grid.spacing, active=self._do_transform),
        }

    def apply(self, data: Mapping[Hashable, Any], parameters: Parameters) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with a draw applied to all keys.

        Args:
            data: The case.
            parameters: What `draw` has returned, or what a tensor has recorded.

        Raises:
            GeometryError: If the keys do not lie on one grid (or, with `different_grids`, do not
                overlap in the world); the message holds both geometries.
        """
        result = dict(data)
        present = list(self.key_iterator(result, self.mode, self.padding, self.fill))
        if not present:
            return result
        first = present[0][0]
        grids = entry_grids(data, [key for key, *_ in present])
        pull = pull_of(parameters, grids[first])
        # Where neither has an affine nobody knows how two grids lie in each other.
        different = self.different_grids and isinstance(data[first], MetaTensor)
        to_key = {key: from_reference(first, key, grids, different=different) for key in grids}
        if any(self.label_offset) and self.label_key in to_key:
            kept = offset_kept(pull.matrix, self.label_offset)
            own = to_key[self.label_key]
            to_key[self.label_key] = kept if own is None else own @ kept
        volumes = [
            Volume(plain(data[key]).detach(), mode, padding, float(fill), to_key[key])
            for key, mode, padding, fill in present
        ]
        moved = resample(volumes, pull)
        for (key, mode, *_), values in zip(present, moved, strict=True):
            to_own = to_key[key]
            matrix = pull.matrix if to_own is None else to_own @ pull.matrix
            extra = {
                "parameters": parameters,
                "matrix": matrix.tolist(),
                "spacing": list(grids[first].spacing),
                "mode": mode,  # MONAI's Invertd replaces it for label maps
            }
            result[key] = self._recorded(data[key], values, matrix, extra)
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the last draw undone, on the original grids.

        The affine part is inverted exactly, the displacement to a few hundredths of a voxel. What
        the patch did not hold is filled.
        """
        result = dict(data)
        for key, fill in self.key_iterator(result, self.fill):
            if not isinstance(result[key], MetaTensor):
                raise InputError(f"{key!r} is not a MetaTensor; only those record what was done.")
            moved = result[key].clone()
            operation = self.pop_transform(moved)
            recorded = operation[TraceKeys.EXTRA_INFO]
            matrix = np.asarray(recorded["matrix"], dtype=float)
            size = tuple(int(n) for n in operation[TraceKeys.ORIG_SIZE])
            forward = Pull(
                matrix,
                tuple(moved.shape[1:]),
                displacement_in_voxels(recorded["parameters"], recorded["spacing"]),
            )
            mode = MONAI_MODES.get(recorded["mode"], recorded["mode"])
            volume = Volume(plain(moved).detach(), mode, "zeros", float(fill))
            [values] = resample([volume], Inverse(forward, size))
            restored = MetaTensor(values).copy_meta_from(moved)
            restored.affine = moved.affine @ matrix_like(np.linalg.inv(matrix), moved.affine)
            result[key] = restored
        return result

    def _start(
        self, shape: Sequence[int], size: Sequence[int], voxel: Sequence[int] | None
    ) -> list[int]:
        """Return the first voxel of the patch, which stays inside where it fits."""
        if self.position == "random":
            return patch_position.anywhere(shape, size, self.R)
        if voxel is None:
            return patch_position.in_the_middle(shape, size)
        return patch_position.around(voxel, shape, size)

    def _labels(self, data: Mapping[Hashable, Any]) -> torch.Tensor | None:
        if self.position != "classes":
            return None
        if self.label_key not in data:
            raise InputError(
                f"the position 'classes' looks at {self.label_key!r}, which the case lacks; it has "
                f"{sorted(map(str, data))}."
            )
        labels = data[self.label_key]
        first = next(iter(self.key_iterator(dict(data))))
        if len(labels) != 1:
            raise ShapeError(
                f"{self.label_key!r} has the shape {tuple(labels.shape)}; expected one channel of "
                "classes for the position 'classes'."
            )
        grids = entry_grids(data, [first, self.label_key])
        from_reference(first, self.label_key, grids, different=False)
        return plain(labels).detach()

    def _size(self, grid: Grid) -> tuple[int, ...]:
        if self.patch_size is None:
            return grid.shape
        size = tuple(int(n) for n in ensure_tuple_rep(self.patch_size, len(grid.shape)))
        return tuple(n if n > 0 else full for n, full in zip(size, grid.shape, strict=True))

    def _recorded(
        self,
        before: torch.Tensor,
        values: torch.Tensor,
        matrix: Matrix,
        extra: Mapping[str, Any],
    ) -> torch.Tensor:
        if not isinstance(before, MetaTensor):
            return values
        after = MetaTensor(values).copy_meta_from(before)
        after.affine = before.affine @ matrix_like(matrix, before.affine)
        size = tuple(before.shape[1:])
        recorded: torch.Tensor = self.push_transform(after, orig_size=size, extra_info=dict(extra))
        return recorded
