"""Metrics of how an image is divided into cells, as membranes divide one of electron microscopy.

A division is a label map in which each cell has its own value and 0 is border. The metrics compare
which pairs of voxels are in one cell, whatever the values are, inside the cells of the reference:
its border voxels do not count ("foreground-restricted").

With p_ij the share of the voxels that are in cell i of the reference and j of the prediction, s_i
and t_j its sums over j and i (I. Arganda-Carreras et al., "Crowdsourcing the creation of image
segmentation algorithms for connectomics", Frontiers in Neuroanatomy 9, 2015):

- V_Rand split, sum p_ij^2 / sum s_i^2: of pairs in one true cell, the share that was kept together;
- V_Rand merge, sum p_ij^2 / sum t_j^2: of pairs that were put together, the share that belong so;
- V_Rand, their harmonic mean: the challenge's score (alpha = 1/2).

The adapted Rand error is one minus that harmonic mean over pairs of different voxels, as in
scikit-image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, label

from volseg.errors import ShapeError

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RandScores:
    """How alike two divisions are; 1 is equal, NaN where the reference has no cell.

    Attributes:
        score: V_Rand, the harmonic mean of the two.
        split: Low where true cells were split.
        merge: Low where true cells were merged.
        adapted_error: Adapted Rand error: 0 is equal.
    """

    score: float
    split: float
    merge: float
    adapted_error: float


def rand_scores(prediction: npt.ArrayLike, reference: npt.ArrayLike) -> RandScores:
    """Return the foreground-restricted Rand scores of a division.

    Border voxels of the prediction that lie in true cells are one further cell; with
    `cells_between(..., grown=True)` there are none.

    Args:
        prediction: Integers of any axes, a value a cell.
        reference: Integers of the same shape, a value a cell, 0 where nothing counts.

    Raises:
        ShapeError: The shapes differ.
    """
    first, second = np.asarray(prediction), np.asarray(reference)
    if first.shape != second.shape:
        raise ShapeError(
            f"the prediction has the shape {first.shape} and the reference {second.shape}: "
            "expected one shape for both."
        )
    inside = second != 0
    total = int(inside.sum())
    if not total:
        return RandScores(*[float("nan")] * 4)
    _, cells = np.unique(second[inside], return_inverse=True)
    _, parts = np.unique(first[inside], return_inverse=True)
    pairs = cells.astype(np.int64) * (int(parts.max()) + 1) + parts
    common, true, said = (
        float((np.unique(one, return_counts=True)[1].astype(np.float64) ** 2).sum())
        for one in (pairs, cells, parts)
    )
    # Pairs of a voxel with itself are in the challenge's sums, and not in the adapted error.
    different = common - total
    halves = (true + said) / 2 - total
    return RandScores(
        score=common / ((true + said) / 2),
        split=common / true,
        merge=common / said,
        adapted_error=1 - different / halves if halves else 0.0,
    )


def cells_between(membranes: npt.ArrayLike, *, grown: bool = False) -> Labels:
    """Return the cells that membranes leave: their connected parts, by faces, numbered from 1.

    Args:
        membranes: Mask of the membranes, of any axes.
        grown: Whether the cells grow until they touch, so that no membrane is left: how thick one
            was drawn then does not count (the challenge's "after border thinning").
    """
    mask = np.asarray(membranes, dtype=bool)
    cells: Labels = label(~mask)[0].astype(np.int64)
    if not grown or not mask.any() or mask.all():
        return cells
    nearest: Any = distance_transform_edt(mask, return_distances=False, return_indices=True)
    grown_cells: Labels = cells[tuple(nearest)]
    return grown_cells
