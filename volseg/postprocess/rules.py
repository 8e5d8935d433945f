"""The rules by name, and how they are read from JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from volseg.errors import InputError, UnknownNameError
from volseg.postprocess.closing import CloseGaps
from volseg.postprocess.holes import FillHoles
from volseg.postprocess.largest_components import KeepLargest
from volseg.postprocess.rule import Rule
from volseg.postprocess.small_components import RemoveSmallComponents
from volseg.postprocess.smoothing import SmoothBoundaries

RULES: dict[str, type[Rule]] = {
    rule.kind: rule
    for rule in (CloseGaps, FillHoles, KeepLargest, RemoveSmallComponents, SmoothBoundaries)
}


def rule_from_json(options: Any) -> Rule:
    """Return the rule that `Rule.to_json` wrote: a mapping with `kind` and the options.

    Raises:
        InputError: The kind or an option is unknown, or a value cannot be used.
    """
    if not isinstance(options, Mapping) or not isinstance(options.get("kind"), str):
        raise InputError(
            f"a rule is {options!r}; expected its kind and options, for example "
            '{"kind": "keep_largest", "classes": [1]}.'
        )
    kind = options["kind"]
    if kind not in RULES:
        raise UnknownNameError("post-processing rule", kind, RULES)
    return RULES[kind].from_json({name: options[name] for name in options if name != "kind"})


def as_rules(rules: Iterable[Rule | Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Return rules that may be written as plain values, as in a YAML file.

    Raises:
        InputError: A rule is not one.
    """
    return tuple(rule if isinstance(rule, Rule) else rule_from_json(rule) for rule in rules)
