"""What the values in label files stand for: classes, regions made of them, a value to ignore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from volseg.bundle import Region, make_regions, value_names
from volseg.errors import InputError

_IGNORE = "ignore"
_ORDER = "regions_class_order"
# What is ignored has a value above all classes; files may use less than there are classes.
_LARGEST_VALUES = (255, 65535)
# More values than this are rather numbers of objects than classes.
_MOST_UNNAMED = 40


@dataclass(frozen=True)
class LabelScheme:
    """What the values in label files stand for.

    Attributes:
        labels: Value of each class by name, the background left out; none if it is not known.
        regions: Structures made of these values that contain each other.
        ignore: Value of the voxels that nobody labelled.
    """

    labels: Mapping[str, int] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    ignore: int | None = None

    def __post_init__(self) -> None:
        """Refuse a value that stands for two things."""
        names_of: dict[int, list[str]] = {}
        for name, value in self.labels.items():
            names_of.setdefault(value, []).append(name)
        for value, names in names_of.items():
            if len(names) > 1:
                raise InputError(
                    f"the value {value} stands for the labels {' and '.join(names)}: give each a "
                    "value of its own."
                )
        if self.ignore is not None and (self.ignore in self.labels.values() or self.ignore < 1):
            raise InputError(
                f"the value to ignore is {self.ignore}, which is "
                f"{'the background' if self.ignore == 0 else 'a class'}, too: give it a value of "
                "its own, above all others."
            )

    @property
    def values(self) -> list[int] | None:
        """The values that label files may hold; None if the classes are not known."""
        ignored = [] if self.ignore is None else [self.ignore]
        return [0, *sorted(self.labels.values()), *ignored] if self.labels else None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, by rising value."""
        return tuple(sorted(self.labels, key=lambda name: self.labels[name]))

    @property
    def structures(self) -> dict[str, tuple[int, ...]]:
        """The values of what is to be found: regions, or else classes."""
        found = {region.name: region.values for region in self.regions}
        return found or {name: (value,) for name, value in self.labels.items()}

    @property
    def classes(self) -> dict[int, int]:
        """Class of each value: counted from 0 without a gap; what is ignored is above them.

        It is kept where it fits into a byte, as labels of that size take the least memory.
        """
        table = {value: place for place, value in enumerate([0, *sorted(self.labels.values())])}
        if self.ignore is not None:
            kept = len(table) <= self.ignore <= _LARGEST_VALUES[0]
            table[self.ignore] = (
                self.ignore if kept else next(v for v in _LARGEST_VALUES if v >= len(table))
            )
        return table

    def describe(self) -> str:
        """Return what there is to find, and what is ignored, in a line."""
        parts = [
            f"{name} ({', '.join(map(str, values))})" for name, values in self.structures.items()
        ]
        kind = "regions" if self.regions else "classes"
        ignored = "" if self.ignore is None else f"; {self.ignore} is ignored"
        return f"{kind} {', '.join(parts)}{ignored}"

    def of_classes(self) -> LabelScheme:
        """Return the same of labels whose values became classes."""
        table = self.classes
        regions = tuple(
            replace(
                region,
                values=tuple(table[value] for value in region.values),
                label=table[region.label],
            )
            for region in self.regions
        )
        return LabelScheme(
            {name: table[value] for name, value in self.labels.items()},
            regions,
            None if self.ignore is None else table[self.ignore],
        )


def scheme_of_regions(
    values: Mapping[str, Sequence[int]],
    *,
    order: Sequence[int] | None = None,
    ignore: int | None = None,
) -> LabelScheme:
    """Return the scheme of labels where regions have names, not values.

    Args:
        values: Values in the label files of each region, outer ones first.
        order: Label that each is written as; see `volseg.bundle.make_regions`.
        ignore: Value of the voxels that nobody labelled.

    Raises:
        InputError: The regions cannot be told apart in a label map.
    """
    regions = make_regions(values, order)
    labels = {name: value for value, name in value_names(regions).items()}
    return LabelScheme(labels, regions, ignore)


def stated_scheme(content: Mapping[str, Any], where: str) -> LabelScheme:
    """Return what the description of a data set says of its labels.

    The Decathlon writes names by value, nnU-Net values by name: several for a region, with
    ``regions_class_order``, and ``ignore`` for what nobody labelled.

    Raises:
        InputError: It cannot be understood.
    """
    entries = content.get("labels") or {}
    try:
        if all(str(name).isdigit() for name in entries):
            entries = {str(value): int(name) for name, value in entries.items()}
        stated = {str(name): _values(value) for name, value in entries.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"the labels of {where} are {entries!r}; expected one value for each name, or several "
            'for a region, such as {"background": 0, "liver": [1, 2], "tumour": 2}.'
        ) from error
    ignored = stated.pop(_IGNORE, [])
    if len(ignored) > 1:
        raise InputError(f"{where} ignores the values {ignored}; expected one value.")
    ignore = ignored[0] if ignored else None
    found = {name: values for name, values in stated.items() if set(values) != {0}}
    if all(len(values) == 1 for values in found.values()):
        try:
            return LabelScheme({name: values[0] for name, values in found.items()}, (), ignore)
        except InputError as error:
            raise InputError(f"the labels of {where} cannot be used: {error}") from error
    order = content.get(_ORDER)
    if not isinstance(order, list) or not all(isinstance(label, int) for label in order):
        raise InputError(
            f"the labels of {where} are regions, but {_ORDER} is {order!r}; expected the label "
            f"that each of {', '.join(found)} is written as, in this order."
        )
    return scheme_of_regions(found, order=order, ignore=ignore)


def named_labels(text: str) -> dict[str, int]:
    """Return values by name of ``liver,tumour``, counted from 1, or of ``liver=1,tumour=7``.

    Raises:
        InputError: A value is no whole number above 0, or is given twice.
    """
    labels: dict[str, int] = {}
    for place, entry in enumerate(text.split(","), start=1):
        name, stated, value = (part.strip() for part in entry.partition("="))
        if stated and not value.isdigit():
            raise InputError(f"the label {entry.strip()!r} has no whole number for its value.")
        labels[name] = int(value) if stated else place
    if len(set(labels.values())) < len(text.split(",")) or min(labels.values()) < 1:
        raise InputError(f"the labels {text!r} need different names and values of at least 1.")
    return labels


def unnamed_labels(values: Sequence[int]) -> dict[str, int]:
    """Return names for labels that have none: by their values.

    Raises:
        InputError: There is none, or there are so many that they are rather numbers of objects.
    """
    if not values:
        raise InputError(
            "the labels of all cases hold nothing but 0, the background; expected at least one "
            "value that stands for a class: look at the label files."
        )
    if len(values) > _MOST_UNNAMED:
        raise InputError(
            f"the labels hold {len(values)} different values besides 0: name those that are "
            "classes (--labels); where each object has a number of its own, make the bundle with "
            "`volseg bundle new --recipe fluorescence`."
        )
    return {f"label_{value}": value for value in values}


def _values(stated: Any) -> list[int]:
    values = stated if isinstance(stated, list) else [stated]
    if not values or any(isinstance(value, bool | float) for value in values):
        raise ValueError(stated)
    return [int(value) for value in values]
