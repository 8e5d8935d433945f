"""What stands out in a case: flags, each with a sentence for a person and numbers for a script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Severity = Literal["note", "warning", "alarm"]
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "alarm")
"""From what may be of interest to what makes a result unlikely to be right."""


@dataclass(frozen=True)
class Flag:
    """One thing that stands out.

    Attributes:
        code: What it is about, for scripts, such as ``volume``.
        severity: ``note``, ``warning`` or ``alarm``.
        sentence: What was found, and what was expected, for people.
        label: Name of the structure; None if it is about the image.
        value: What was measured, if it is a number or a word.
        expected: The lowest and the highest usual value, or the usual words; None if there are
            none.
    """

    code: str
    severity: Severity
    sentence: str
    label: str | None = None
    value: float | str | None = None
    expected: tuple[float, float] | tuple[str, ...] | None = None


@dataclass(frozen=True)
class QualityReport:
    """The flags of a case, those of the highest severity first.

    Attributes:
        flags: What stands out.
        checked: Codes of all that was looked at; without limits in the bundle these are few.
    """

    flags: tuple[Flag, ...]
    checked: tuple[str, ...]

    @property
    def severity(self) -> Severity | None:
        """The highest severity of a flag; None if nothing stands out."""
        return self.flags[0].severity if self.flags else None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        flags = [asdict(flag) for flag in self.flags]
        return {"severity": self.severity, "flags": flags, "checked": [*self.checked]}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Return what `as_json` gave, of values that a schema has found to be of these types."""
        flags = [
            Flag(**{**flag, "expected": flag["expected"] and tuple(flag["expected"])})
            for flag in entry["flags"]
        ]
        return cls(tuple(flags), tuple(entry["checked"]))
