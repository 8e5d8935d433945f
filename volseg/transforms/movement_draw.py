"""Drawing the numbers of a movement; `volseg.transforms.movement` says what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volseg.errors import InputError
from volseg.transforms.control_points import PerAxis, draw_nodes, per_axis
from volseg.transforms.displacement import Matrix
from volseg.transforms.movement import Parameters


@dataclass(frozen=True)
class MovementRanges:
    """How far content is moved at most, and how often; as the options of `RandSpatiald`.

    Raises:
        InputError: A number is out of its range.
    """

    rotation: PerAxis
    scale: Sequence[float]
    scale_per_axis: bool
    shear: float
    translation: PerAxis
    flip_axes: Sequence[int]
    control_points: int | Sequence[int]
    displacement: PerAxis | None
    unit: str
    prob_affine: float
    prob_elastic: float

    def __post_init__(self) -> None:
        if self.unit not in ("mm", "voxels"):
            raise InputError(f"the unit is {self.unit!r}; expected 'mm' or 'voxels'.")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(
                f"the scale is {tuple(self.scale)}; expected the smallest and the largest factor, "
                "both above 0."
            )
        if np.min(self.control_points) < 2:
            raise InputError(
                f"there are {self.control_points} control points; expected at least 2 along each "
                "axis."
            )
        if not 0 <= self.shear < 0.5:
            raise InputError(f"the shear is {self.shear}; expected at least 0 and less than 0.5.")
        for name, often in {
            "prob_affine": self.prob_affine,
            "prob_elastic": self.prob_elastic,
        }.items():
            if not 0 <= often <= 1:
                raise InputError(f"{name} is {often}; expected 0 to 1.")
        for name, given in {
            "rotation": self.rotation,
            "translation": self.translation,
            "displacement": 0.0 if self.displacement is None else self.displacement,
        }.items():
            if not (np.isfinite(given).all() and np.min(given) >= 0):
                raise InputError(f"{name} is {given}; expected finite numbers of at least 0.")

    def draw(
        self,
        random: np.random.RandomState,
        size: Sequence[int],
        spacing: Sequence[float],
        *,
        active: bool,
    ) -> Parameters:
        """Return plain numbers, in mm and radians.

        Args:
            random: What draws: as many numbers whether it is active or not.
            size: Of the output, in voxels.
            spacing: Of its voxels, in mm.
            active: Whether anything is moved.

        Raises:
            InputError: There is not one number an axis, or an axis to flip does not exist.
        """
        axes, steps = len(size), np.array(spacing)
        flipped = self._flipped(axes)
        unit = np.ones(axes) if self.unit == "mm" else steps
        low, high = np.log(self.scale)
        factors = random.uniform(low, high, axes if self.scale_per_axis else 1)
        flips = active * (random.rand(axes) < 0.5)
        elastic = active * float(random.rand() < self.prob_elastic)
        affine = active * float(self.prob_affine == 1 or random.rand() < self.prob_affine)

        def uniform(largest: PerAxis, count: int, name: str) -> Matrix:
            signed: Matrix = affine * random.uniform(-1.0, 1.0, count)
            return signed * per_axis(largest, count, name)

        # In the order in which they have always been drawn: seeds keep their meaning.
        values = {
            "rotation": uniform(self.rotation, (axes * (axes - 1)) // 2, "rotation"),
            "scale": np.exp(affine * np.broadcast_to(factors, (axes,))),
            "shear": uniform(self.shear, axes * (axes - 1), "shear"),
            "flip": [-1.0 if flips[axis] and axis in flipped else 1.0 for axis in range(axes)],
            "translation": uniform(self.translation, axes, "translation") * unit,
            "displacement": elastic * self._nodes(random, size, steps, unit),
        }
        return {name: np.asarray(value).tolist() for name, value in values.items()}

    def _flipped(self, axes: int) -> set[int]:
        if any(not -axes <= axis < axes for axis in self.flip_axes):
            raise InputError(
                f"flip_axes is {list(self.flip_axes)}; expected axes from 0 to {axes - 1}."
            )
        return {axis % axes for axis in self.flip_axes}

    def _nodes(
        self, random: np.random.RandomState, size: Sequence[int], spacing: Matrix, unit: Matrix
    ) -> Matrix:
        sigma = None
        if self.displacement is not None:
            sigma = per_axis(self.displacement, len(size), "displacement") * unit
        extent = spacing * [max(n - 1, 1) for n in size]
        return draw_nodes(random, extent, self.control_points, sigma)
