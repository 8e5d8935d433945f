"""What the settings of a training may be: the one-line entries of ``configs/train.yaml``.

A setting without a rule here may be whatever is of the kind of the value that stands there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from volseg.errors import InputError, UnknownNameError

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("onecycle", "poly", "cosine", "constant")
TRACKERS = ("tensorboard", "mlflow")

#: What MONAI's parser evaluates or looks up instead of taking it as it is.
CODE = ("$", "@", "%")


@dataclass(frozen=True)
class Rule:
    """What a setting may be.

    Attributes:
        expected: In words, after "expected".
        fits: Whether a value is that.
    """

    expected: str
    fits: Callable[[Any], bool]


def _whole(least: int, most: int | None = None) -> Rule:
    expected = f"a whole number of at least {least}" if most is None else f"{least} to {most}"
    return Rule(expected, lambda value: _is_whole(value) and least <= value <= (most or value))


def _number(expected: str, fits: Callable[[float], bool]) -> Rule:
    def is_one(value: Any) -> bool:
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        return plain and math.isfinite(value) and fits(value)

    return Rule(expected, is_one)


def _word(*words: str) -> Rule:
    return Rule(f"{', '.join(words[:-1])} or {words[-1]}", lambda value: value in words)


def _or_none(rule: Rule) -> Rule:
    return Rule(f"{rule.expected}, or null", lambda value: value is None or rule.fits(value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_ABOVE_0 = _number("a number above 0", lambda value: value > 0)
_FROM_0 = _number("a number of at least 0", lambda value: value >= 0)
_SHARE = _number("a number from 0 to 1", lambda value: 0 <= value <= 1)
_LESS_THAN_1 = _number("a number from 0 to below 1", lambda value: 0 <= value < 1)

RULES: Mapping[str, Rule] = {
    "fold": Rule(
        "the number of a fold, or all",
        lambda value: value == "all" or (_is_whole(value) and value >= 0),
    ),
    "epochs": _whole(1),
    "seconds": _or_none(_ABOVE_0),
    "batch_size": _whole(1),
    "batch_parts": _whole(1),
    "train_precision": _word("auto", "f32", "bf16", "f16"),
    "clip_norm": _or_none(_ABOVE_0),
    "ignore": _or_none(_whole(0)),
    "patches": _whole(1),
    "cases": _or_none(_whole(1)),
    "class_ratios": _or_none(
        Rule(
            "a list of numbers of at least 0, one a class",
            lambda value: isinstance(value, list) and all(map(_FROM_0.fits, value)),
        )
    ),
    "optimizer_name": _word(*OPTIMIZERS),
    "learning_rate": _ABOVE_0,
    "schedule": _word(*SCHEDULES),
    "weight_decay": _FROM_0,
    "momentum": _LESS_THAN_1,
    "patience": _or_none(_whole(1)),
    "final_weights": _word("last", "best"),
    "val_interval": _whole(1),
    "val_overlap": _LESS_THAN_1,
    "seed": _whole(0, 2**32 - 1),
    "workers": _whole(0),
    "cached": _SHARE,
    "prepared": _or_none(
        Rule(
            "the path of a folder, without variables of a shell",
            lambda value: isinstance(value, str) and not value.startswith(CODE),
        )
    ),
    "track_with": _or_none(_word(*TRACKERS)),
}


def is_setting(value: Any) -> bool:
    """Whether an entry of a configuration is a plain value: neither a component nor code."""
    if isinstance(value, list):
        return all(is_setting(one) for one in value)
    if isinstance(value, str):
        return not value.startswith(CODE)
    return value is None or isinstance(value, (bool, int, float))


def require_settings(
    given: Mapping[str, Any], own: Mapping[str, Any], *, where: str, what: str = "setting"
) -> None:
    """Refuse settings that are not known, or that cannot be what they are given as.

    Args:
        given: Values by name.
        own: The entries there are, by name, with the values that stand there.
        where: What has them, for the message.
        what: What a setting is called there.

    Raises:
        UnknownNameError: A name is not known; the message has the nearest ones.
        InputError: A value is of a wrong kind or out of its range.
    """
    known = [name for name, value in own.items() if is_setting(value)]
    for name, value in given.items():
        if name not in own:
            raise UnknownNameError(f"{what} of {where}", name, known)
        if name not in known:
            raise InputError(
                f"{name} of {where} is no plain value but made there: change it in the file."
            )
        rule = RULES.get(name)
        if rule is not None and not rule.fits(value):
            raise InputError(f"{name} is {value!r}; expected {rule.expected}.")
        if rule is None and not _same_kind(value, own[name]):
            kind = f"a value such as {own[name]!r}"
            if own[name] is None:
                kind = "null, or a list of whole numbers or of such lists"
            raise InputError(f"{name} is {value!r}; expected {kind}.")


def _same_kind(value: Any, own: Any) -> bool:
    """Whether a value can stand for another.

    What has none (null) may become a list of whole numbers, or of lists of them.
    """
    if own is None or isinstance(own, list):
        if value is None:
            return own in (None, [])
        kind = type(own[0]) if own else int
        return isinstance(value, list) and (
            all(_same_kind(one, kind()) for one in value)
            or (own is None and all(_same_kind(one, []) for one in value))
        )
    if isinstance(value, bool) or isinstance(own, bool):
        return isinstance(value, bool) and isinstance(own, bool)
    if isinstance(own, float):
        return isinstance(value, (int, float))
    if isinstance(own, str):
        return isinstance(value, str) and value.isprintable() and not value.startswith(CODE)
    return isinstance(value, type(own))
