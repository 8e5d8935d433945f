"""What tuning measured of each setting, and which setting that chooses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from volseg.choosing.measuring_settings import Measurement
from volseg.choosing.settings import Setting
from volseg.errors import InputError

#: Seconds that differ by no more than this part count as equal: no machine is quieter.
SAME_SECONDS = 0.05
_VERSION = 1


@dataclass(frozen=True)
class TuningRow:
    """What one setting reached; one that was not run says why instead.

    Attributes:
        setting: The setting.
        cases: Number of cases it was run on.
        dice: Mean over the classes of `dice_of_class`.
        seconds: Mean of a case.
        dice_of_class: Mean over the cases, by class name; None where no case has the class.
        reason: Why it was not run; None if it was.
    """

    setting: Setting
    cases: int = 0
    dice: float | None = None
    seconds: float | None = None
    dice_of_class: Mapping[str, float | None] | None = None
    reason: str | None = None

    @classmethod
    def of(cls, setting: Setting, measurements: Sequence[Measurement]) -> TuningRow:
        """Return the means of what was measured."""
        classes = list(measurements[0].dice)
        means = {
            name: _mean(case.dice[name] for case in measurements if case.dice[name] is not None)
            for name in classes
        }
        return cls(
            setting=setting,
            cases=len(measurements),
            dice=_mean(means.values()),
            seconds=_mean(case.seconds for case in measurements),
            dice_of_class=means,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain values, the setting's among them."""
        of_class = None
        if self.dice_of_class is not None:
            of_class = {name: _rounded(dice) for name, dice in self.dice_of_class.items()}
        return {
            **self.setting.to_json(),
            "cases": self.cases,
            "dice": _rounded(self.dice),
            "seconds": None if self.seconds is None else float(f"{self.seconds:.4g}"),
            "dice_of_class": of_class,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class TuningTable:
    """All that tuning measured, and what it chose.

    Attributes:
        rows: Every setting.
        present: The bundle's setting before.
        chosen: The setting that is to be its default.
        cases: Names of the cases.
        tolerance: What Dice could be lost against the best.
        about: Bundle, machine, versions and date.
    """

    rows: tuple[TuningRow, ...]
    present: Setting
    chosen: Setting
    cases: tuple[str, ...]
    tolerance: float
    about: Mapping[str, Any]

    def row(self, setting: Setting) -> TuningRow:
        """Return the row of a setting."""
        return next(row for row in self.rows if row.setting == setting)

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain values."""
        return {
            "volseg_tuning": _VERSION,
            **self.about,
            "cases": list(self.cases),
            "tolerance": self.tolerance,
            "same_seconds": SAME_SECONDS,
            "present": self.present.to_json(),
            "chosen": self.chosen.to_json(),
            "rows": [row.to_json() for row in self.rows],
        }


def choose_row(rows: Iterable[TuningRow], present: Setting, *, tolerance: float) -> TuningRow:
    """Return the fastest setting whose Dice is within a tolerance of the best.

    Dice counts to four digits. Of settings whose seconds are within `SAME_SECONDS` of the fastest,
    the one nearest to the present setting is taken.

    Args:
        rows: What was measured; rows that were not run are passed over.
        present: The present setting.
        tolerance: Dice that may be lost against the best.

    Raises:
        InputError: No setting was run, or in no case is there anything to find.
    """
    rows = list(rows)
    measured = [
        (round(row.dice, 4), row.seconds, row)
        for row in rows
        if row.dice is not None and row.seconds is not None
    ]
    if not measured:
        reasons = dict.fromkeys(row.reason for row in rows if row.reason)
        raise InputError(
            "no setting could be measured: "
            f"{next(iter(reasons), 'neither the labels nor the predictions hold a class')}"
        )
    best = max(dice for dice, _, _ in measured)
    good = [entry for entry in measured if round(best - entry[0], 4) <= tolerance]
    fastest = min(seconds for _, seconds, _ in good)
    equal = [entry for entry in good if entry[1] <= fastest * (1 + SAME_SECONDS)]
    return min(equal, key=lambda entry: (entry[2].setting.distance(present), entry[1]))[2]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _rounded(dice: float | None) -> float | None:
    return None if dice is None or math.isnan(dice) else round(dice, 4)
