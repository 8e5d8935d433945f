"""Connected components of each class, counted in a label map that arrives in parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.postprocess.region_graph import GraphPlan, build_region_graph
from volseg.postprocess.slabs import Slabs


def count_components(parts: Iterable[npt.NDArray[Any]], planes: Sequence[int]) -> dict[int, int]:
    """Return how many connected components each class has, by rising class.

    Voxels hold together over faces, edges and corners.

    Args:
        parts: Integer classes, 0 is background: whole planes `(planes, rows, columns)` of a volume,
            or rows `(rows, columns)` of a picture, one part after the other.
        planes: How many each part has.
    """
    turn = _InTurn(parts)
    shape = (sum(planes), *turn.following.shape[1:])
    slabs = Slabs(shape, tuple(range(len(shape))), (0, *accumulate(planes)))
    graph = build_region_graph(turn, slabs, GraphPlan(len(shape), 0, with_background=False))
    classes, counts = np.unique(graph.classes[graph.classes > 0], return_counts=True)
    return dict(zip(classes.tolist(), counts.tolist(), strict=True))


class _InTurn:
    """Parts, each of which is read once and in turn, as the array that they are."""

    def __init__(self, parts: Iterable[npt.NDArray[Any]]) -> None:
        self._parts = iter(parts)
        self.following = next(self._parts)

    def __getitem__(self, _: Any) -> npt.NDArray[Any]:
        part, self.following = self.following, next(self._parts, self.following)
        return part
