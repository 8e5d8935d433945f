"""What a post-processing rule is: a value that names classes, and how it decides.

A rule is plain data. It is checked when it is made, compares by value, and is written to JSON and
read back without loss, so that the rules of a bundle can be a file.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError, UnknownNameError
from volseg.postprocess.label_map import CONNECTIVITIES, check_classes, check_connectivity
from volseg.postprocess.region_graph import RegionGraph


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """A rule: which classes it is for, and the options of its kind.

    Without `classes` and `region` a rule is for every class, each by itself. An option that may
    differ by class takes a mapping from class to value in place of one value; the rule is then for
    the classes of the mapping.

    Raises:
        InputError: An option is missing, contradicts another one, or is out of range.
    """

    kind: ClassVar[str]
    """Name in files."""
    per_class: ClassVar[tuple[str, ...]] = ()
    """Options that may be a mapping from class to value."""

    classes: tuple[int, ...] | None = None
    """The classes the rule is for, each by itself."""
    region: tuple[int, ...] | None = None
    """Classes that are treated as one; what is theirs alone (borders between them) stays."""

    def __post_init__(self) -> None:
        """Bring what was read from a file into its form, and check it."""
        if self.classes is not None and self.region is not None:
            raise InputError(
                f"the rule {self.kind} has classes={list(self.classes)} and "
                f"region={list(self.region)}; expected one of them: use two rules."
            )
        for name in ("classes", "region"):
            value = getattr(self, name)
            if value is not None:
                self._set(name, tuple(sorted(check_classes(value) or ())))
        if self.region is not None and not self.region:
            raise InputError(f"the region of the rule {self.kind} is empty; expected its classes.")
        for name in self.per_class:
            value = getattr(self, name)
            if isinstance(value, Mapping):
                self._take_mapping(name, value)

    def _take_mapping(self, name: str, value: Mapping[Any, Any]) -> None:
        try:  # the keys of JSON are text
            by_class = {int(key): value[key] for key in value}
        except ValueError:
            raise InputError(
                f"{name} of the rule {self.kind} has the keys {list(value)}; expected classes."
            ) from None
        keys = tuple(sorted(check_classes(by_class.keys()) or ()))
        if self.region is not None or self.classes not in (None, keys):
            raise InputError(
                f"{name} of the rule {self.kind} is given for the classes {list(keys)}, but the "
                f"rule is for {'the region' if self.region else 'the classes'} "
                f"{list(self.region or self.classes or ())}; expected the same classes, or one "
                "value."
            )
        self._set("classes", keys)
        self._set(name, {key: by_class[key] for key in keys})

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_each(self, name: str, accepts: Callable[[Any], bool], expected: str) -> None:
        """Raise unless the value of an option is accepted, for each class it is given for."""
        value = getattr(self, name)
        values = value.values() if isinstance(value, Mapping) else [value]
        for one in values:
            if not (_is_number(one) and accepts(one)):
                raise InputError(f"{name} of the rule {self.kind} is {one!r}; expected {expected}.")

    @property
    def needs_spacing(self) -> bool:
        """Whether the rule is stated in mm or mm³, so that it cannot do without a spacing."""
        return False

    @property
    def independent(self) -> bool:
        """Whether what happens to a class depends on that class alone, and changes no other."""
        return False

    @property
    def writes(self) -> int:
        """The highest value that the rule writes which need not be in the map already."""
        return 0

    def option(self, name: str, label: int) -> Any:
        """Return an option for a class."""
        value = getattr(self, name)
        return value[label] if isinstance(value, Mapping) else value

    def steps(self) -> Sequence[Rule]:
        """Return the rules that do the same one after the other; itself where it is one step."""
        return [self]

    def for_class(self, label: int) -> Self:
        """Return the same rule for one class alone."""
        one = {
            name: getattr(self, name)[label]
            for name in self.per_class
            if isinstance(getattr(self, name), Mapping)
        }
        return dataclasses.replace(self, classes=(label,), region=None, **one)

    def targets(self, classes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return what each entry of an array of classes belongs to, as the rule sees it.

        Returns:
            0 where the rule does not apply; elsewhere the class, or for a region its first class.
        """
        if self.region is not None:
            return np.where(np.isin(classes, self.region), self.region[0], 0)
        if self.classes is not None:
            return np.where(np.isin(classes, self.classes), classes, 0)
        return classes

    def to_json(self) -> dict[str, Any]:
        """Return the rule as plain values; options left at their default are left out."""
        result: dict[str, Any] = {"kind": self.kind}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                if isinstance(value, Mapping):
                    value = {str(key): value[key] for key in value}
                result[field.name] = list(value) if isinstance(value, tuple) else value
        return result

    @classmethod
    def from_json(cls, options: Mapping[str, Any]) -> Self:
        """Return the rule with options read from a file, without `kind`.

        Raises:
            InputError: An option is unknown or its value cannot be used.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                raise UnknownNameError(f"option of the rule {cls.kind}", str(name), known)
        for field in dataclasses.fields(cls):
            if field.default is dataclasses.MISSING and field.name not in options:
                raise InputError(f"the rule {cls.kind} lacks its option {field.name}; state it.")
        for name in ("classes", "region"):
            value = options.get(name)
            if value is not None and (
                isinstance(value, str)
                or not isinstance(value, Sequence)
                or not all(_is_number(one) for one in value)
            ):
                raise InputError(
                    f"{name} of the rule {cls.kind} is {value!r}; expected a list of classes."
                )
        return cls(**options)


class GraphRule(Rule):
    """A rule that gives new classes to whole regions of the region graph."""

    fills: ClassVar[bool] = False
    """Whether the rule asks which background is enclosed."""

    @property
    def joins(self) -> bool:
        """Whether regions of different classes are one to the rule, or to a rule after it."""
        return self.region is not None

    @abstractmethod
    def level(self, dimensions: int) -> int:
        """Return the level at which voxels hold together for this rule (see `runs`)."""

    @abstractmethod
    def decide(
        self,
        graph: RegionGraph,
        classes: npt.NDArray[np.int64],
        voxel_volume: float | None,
        dimensions: int,
    ) -> npt.NDArray[np.int64]:
        """Return the classes of the regions after the rule.

        Args:
            graph: The regions and which of them touch.
            classes: Class of each region before the rule, in place of that of the graph.
            voxel_volume: In mm³ (in 2D: mm²); of rules in mm³ always known.
            dimensions: Spatial axes of the map.
        """


def connectivity_level(connectivity: int | None, dimensions: int) -> int:
    """Return the level of a number of neighbours: 1 for 4 or 6, the highest for 8 or 26.

    Raises:
        InputError: The number does not exist for this number of spatial axes.
    """
    neighbours = check_connectivity(connectivity, dimensions)
    return CONNECTIVITIES[dimensions].index(neighbours) + 1


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )
