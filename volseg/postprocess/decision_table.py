"""The file of rules a bundle carries: what is applied, and what was measured to choose it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jsonschema

from volseg.atomic import write_text
from volseg.errors import InputError
from volseg.postprocess.rule import Rule
from volseg.postprocess.rules import as_rules, rule_from_json

_SCHEMA = Path(__file__).with_name("decision_table_schema.json")
_VERSION = 1


@dataclass(frozen=True)
class Decision:
    """What one candidate did to one target, on the cases to which the metric applies."""

    round: int
    """The step of the search, from 1; `mean_without` holds the rules of the steps before."""
    classes: tuple[int, ...]
    """The class, or the classes of the region."""
    rule: Rule
    """The candidate, for this target."""
    cases: int
    """Cases that hold the target in the reference or a prediction."""
    mean_without: float | None
    """Mean metric without the rule; None where there is no case."""
    mean_with: float | None
    """Mean metric with the rule."""
    worse_cases: int
    """Cases with a lower metric with the rule."""
    chosen: bool
    """Whether the rule is applied."""


@dataclass(frozen=True)
class Outcome:
    """What all chosen rules together did to a class."""

    label: int
    """The class."""
    cases: int
    """Cases that hold the class in the reference or a prediction."""
    mean_before: float | None
    """Mean metric of the predictions as they were; None where there is no case."""
    mean_after: float | None
    """Mean metric after all rules."""


@dataclass(frozen=True)
class DecisionTable:
    """The rules that are applied, and where they were chosen by measurement, the measurement."""

    rules: tuple[Rule, ...]
    """The rules in the order in which they are applied."""
    metric: str | None = None
    """Name of the metric; None where the rules were written by hand."""
    cases: int | None = None
    """Number of held-out cases."""
    margin: float | None = None
    """A rule had to raise the mean by more than this."""
    worse_share: float | None = None
    """A rule was not to lower more than this share of the cases."""
    decisions: tuple[Decision, ...] = ()
    """Every candidate that was tried."""
    outcomes: tuple[Outcome, ...] = ()
    """Every class, before and after."""

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain values."""
        plain: dict[str, Any] = {"volseg_postprocessing": _VERSION}
        plain["rules"] = [rule.to_json() for rule in self.rules]
        if self.metric is None:
            return plain
        for name in ("metric", "cases", "margin", "worse_share"):
            plain[name] = getattr(self, name)
        plain["decisions"] = [
            {**vars(decision), "classes": list(decision.classes), "rule": decision.rule.to_json()}
            for decision in self.decisions
        ]
        plain["outcomes"] = [dataclasses.asdict(outcome) for outcome in self.outcomes]
        return plain

    @classmethod
    def from_json(cls, plain: Any, *, where: str = "the decision table") -> Self:
        """Return the table that `to_json` wrote, or rules written by hand in its form.

        Args:
            plain: Parsed JSON.
            where: Name of the file, for messages.

        Raises:
            InputError: It is of another form or version, or a rule cannot be used.
        """
        version = plain.get("volseg_postprocessing") if isinstance(plain, Mapping) else None
        if version != _VERSION:
            raise InputError(
                f"{where} has volseg_postprocessing: {version}; expected a JSON object with "
                f"volseg_postprocessing: {_VERSION} and a list of rules."
            )
        schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
        error = jsonschema.exceptions.best_match(
            jsonschema.Draft202012Validator(schema).iter_errors(plain)
        )
        if error is not None:
            raise InputError(
                f"{where} does not have the form of a decision table at {error.json_path}: "
                f"{error.message}."
            )
        decisions = tuple(
            Decision(
                **{
                    **entry,
                    "classes": tuple(entry["classes"]),
                    "rule": rule_from_json(entry["rule"]),
                }
            )
            for entry in plain.get("decisions", [])
        )
        return cls(
            rules=as_rules(plain["rules"]),
            decisions=decisions,
            outcomes=tuple(Outcome(**entry) for entry in plain.get("outcomes", [])),
            **{name: plain.get(name) for name in ("metric", "cases", "margin", "worse_share")},
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the table as a JSON file, whole or not at all.

        Raises:
            OutputError: The file cannot be written.
        """
        text = json.dumps(self.to_json(), indent=2, allow_nan=False)
        write_text(path, text + "\n")


def read_decision_table(path: str | os.PathLike[str]) -> DecisionTable:
    """Read the rules of a bundle.

    Raises:
        InputError: The file is missing, is not JSON, or is no decision table.
    """
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read the decision table {path}: {error.strerror}; give the JSON file with the "
            "rules."
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON ({error}); expected a decision table of post-processing."
        ) from error
    return DecisionTable.from_json(plain, where=str(path))
