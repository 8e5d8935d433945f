"""Nested structures: sets of label values, each a yes or no of its own to the network.

As in nnU-Net 2 (its ``regions_class_order``): a brain tumour's core lies within the whole tumour,
so the network has one sigmoid channel for each region, and the label map gets the label of the
last region that is found at a voxel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from volseg.errors import InputError


@dataclass(frozen=True)
class Region:
    """One structure.

    Attributes:
        name: What it is called.
        values: Values that voxels of it have in a label map.
        label: The one of them that a voxel gets where it, and none of the regions after it, is
            found.
    """

    name: str
    values: tuple[int, ...]
    label: int

    def as_metadata(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"name": self.name, "values": list(self.values), "label": self.label}

    @classmethod
    def from_metadata(cls, entry: Mapping[str, Any]) -> Region:
        """Return what `as_metadata` gave."""
        return cls(entry["name"], tuple(entry["values"]), entry["label"])


def make_regions(
    values: Mapping[str, Sequence[int]], labels: Sequence[int] | None = None
) -> tuple[Region, ...]:
    """Return regions in the order in which they are written: outer ones first.

    Args:
        values: Values in the label map of each, by name.
        labels: Label that each is written as; without it the first of its values that no later
            region has.

    Raises:
        InputError: A region has no value, or could not be told from another one in a label map.

    Example:
        >>> tumour = make_regions({"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]})
        >>> [region.label for region in tumour]
        [1, 2, 3]
    """
    if labels is not None and len(labels) != len(values):
        raise InputError(
            f"there are {len(values)} regions ({', '.join(values)}) and labels for {len(labels)} "
            f"({', '.join(map(str, labels))}): give one for each, in the same order."
        )
    regions: list[Region] = []
    for place, (name, own) in enumerate(values.items()):
        if not own or min(own) < 1 or len(set(own)) < len(own):
            raise InputError(
                f"the region {name} has the values {list(own)}; expected different whole numbers "
                "from 1 on, at least one."
            )
        later = {value for other in list(values.values())[place + 1 :] for value in other}
        free = [value for value in own if value not in later]
        if not free:
            raise InputError(
                f"every value of the region {name} ({_listed(own)}) is one of a later region, so "
                "that a label map cannot say where it is found alone: name outer regions first, or "
                "leave it out, as it is the sum of the others."
            )
        label = free[0] if labels is None else labels[place]
        if label not in free:
            raise InputError(
                f"the region {name} would be written as {label}; expected one of its values that "
                f"no later region has: {_listed(free)}."
            )
        regions.append(Region(name, tuple(own), label))
    return tuple(regions)


def value_names(regions: Sequence[Region]) -> dict[int, str]:
    """Return a name for each value of a label map, by rising value, where only regions have names.

    What a region is written as holds the region without those after it, and is called so.

    Example:
        >>> value_names(make_regions({"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}))
        {1: 'whole_rest', 2: 'core_rest', 3: 'enhancing'}
    """
    names = {value: f"label_{value}" for region in regions for value in region.values}
    for place, region in enumerate(regions):
        later = {value for other in regions[place + 1 :] for value in other.values}
        whole = later.isdisjoint(region.values)
        names[region.label] = region.name if whole else f"{region.name}_rest"
    return dict(sorted(names.items()))


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
