"""The grids that the entries of a case lie on, and how these lie in each other."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from volseg.errors import GeometryError, ShapeError
from volseg.geometry import Affine, Grid, index_mapping, require_same_grid
from volseg.io import grid_of
from volseg.transforms.displacement import Matrix


def entry_grid(key: Hashable, image: torch.Tensor) -> Grid:
    """Return the grid of an entry; one of voxels of 1 mm where it has none.

    Raises:
        ShapeError: It is no image.
    """
    if image.ndim not in (3, 4):
        raise ShapeError(
            f"{key!r} has the shape {tuple(image.shape)}; expected (channels, x, y) or "
            "(channels, x, y, z)."
        )
    if isinstance(image, MetaTensor):
        return grid_of(image)
    return Grid(tuple(image.shape[1:]), Affine(np.eye(image.ndim)))


def entry_grids(data: Mapping[Hashable, Any], keys: Sequence[Hashable]) -> dict[Hashable, Grid]:
    """Return the grid of each entry; one without an affine has that of the first.

    Raises:
        ShapeError: An entry is no image.
    """
    grids = {key: entry_grid(key, data[key]) for key in keys}
    for key in keys:
        if not isinstance(data[key], MetaTensor):
            grids[key] = Grid(grids[key].shape, grids[keys[0]].affine)
    return grids


def from_reference(
    first: Hashable, key: Hashable, grids: Mapping[Hashable, Grid], *, different: bool
) -> Matrix | None:
    """Return the matrix from indices of the first entry to those of another; None on one grid.

    Args:
        first: Entry that is the reference.
        key: The other one.
        grids: Of both.
        different: Whether they may lie on different grids of one world.

    Raises:
        GeometryError: They lie on different grids and may not, or do not overlap in the world.
    """
    reference, own = grids[first], grids[key]
    try:
        require_same_grid(reference, own, what=f"the entries {first!r} and {key!r}")
    except GeometryError:
        if not different:
            raise
    else:
        return None
    lower, upper = own.corners.min(axis=0), own.corners.max(axis=0)
    corners = reference.corners
    if np.any(corners.max(axis=0) < lower) or np.any(corners.min(axis=0) > upper):
        raise GeometryError(
            f"the entries {first!r} and {key!r} do not overlap in the world: found "
            f"{reference.describe()}, and {own.describe()}; check the header of both."
        )
    return index_mapping(own, reference).matrix.copy()
