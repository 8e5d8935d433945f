"""Connected components of a region graph, and which of them go."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volseg.postprocess.region_graph import RegionGraph
from volseg.postprocess.runs import join_edges, number_nodes

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Components:
    """The connected components of what a rule is for."""

    numbers: npt.NDArray[np.int32]
    """The component of each region; -1 where it is in none."""
    targets: npt.NDArray[np.int64]
    """The class of each component, or the first class of its region of classes."""
    sizes: npt.NDArray[np.int64]
    """Voxels of each component."""
    firsts: npt.NDArray[np.int64]
    """Flat index of the lowest voxel of each component."""

    def largest_first(self) -> npt.NDArray[np.int64]:
        """Return the components by target, then from large to small; ties by lowest voxel."""
        order: npt.NDArray[np.int64] = np.lexsort((self.firsts, -self.sizes, self.targets))
        return order

    def select(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return the regions in chosen components."""
        # The entry that the number -1 finds is the last one.
        return np.append(chosen, False)[self.numbers]


def find_components(graph: RegionGraph, targets: npt.NDArray[np.int64], level: int) -> Components:
    """Return the connected components of the regions of equal target.

    Args:
        graph: The regions and which of them touch.
        targets: What each region counts as; 0 takes no part.
        level: Level at which voxels hold together.
    """
    numbers, count = join_regions(graph, targets, level)
    inside = numbers >= 0
    which = numbers[inside]
    of_component = np.zeros(count, dtype=np.int64)
    of_component[which] = targets[inside]
    sizes = np.zeros(count, dtype=np.int64)
    np.add.at(sizes, which, graph.sizes[inside])
    firsts = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(firsts, which, graph.firsts[inside])
    return Components(numbers, of_component, sizes, firsts)


def join_regions(
    graph: RegionGraph, groups: npt.NDArray[np.int64], level: int
) -> tuple[npt.NDArray[np.int32], int]:
    """Return the number of the connected set of each region (-1 in group 0), and their count."""
    parent = np.arange(groups.size, dtype=np.int32)
    edges = graph.edges
    join_edges(edges.lower, edges.higher, edges.levels, groups, level, parent)
    count = number_nodes(parent, groups, False)
    return parent, count


def remove_components(
    graph: RegionGraph,
    classes: npt.NDArray[np.int64],
    remove: npt.NDArray[np.bool_],
    *,
    level: int,
    replace_with: int = 0,
    never_empty: bool,
    reason: Callable[[int], str],
) -> npt.NDArray[np.int64]:
    """Return the classes of the regions after some of them are removed.

    A class of which nothing would stay is reported as a warning in the log: a structure that
    vanishes from a result must leave a trace.

    Args:
        graph: The regions.
        classes: Class of each region before.
        remove: Which regions are removed.
        level: Level at which voxels hold together.
        replace_with: Class given to removed regions.
        never_empty: Whether the largest component of a class stays that would vanish.
        reason: What the caller was doing to a class, for the warning.
    """
    result = np.where(remove, np.int64(replace_with), classes)
    vanished = np.setdiff1d(classes[remove], result)
    if vanished.size == 0:
        return result
    members = find_components(graph, np.where(np.isin(classes, vanished), classes, 0), level)
    largest = members.largest_first()
    for label in vanished.tolist():
        own = largest[members.targets[largest] == label]
        if never_empty:
            result[members.numbers == own[0]] = label
        _LOGGER.warning(
            "%s %s class %d: %d voxels in %d component(s), the largest of %d voxels%s",
            reason(label),
            "would have removed the whole of" if never_empty else "removed the whole of",
            label,
            members.sizes[own].sum(),
            own.size,
            members.sizes[own[0]],
            ", which stays" if never_empty else "",
        )
    return result
