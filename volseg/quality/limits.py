"""What is usual, learned from the cases a bundle was trained on, and kept in the bundle as JSON."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import jsonschema
import numpy as np

from volseg.errors import InputError
from volseg.quality.measures import KINDS, Measure, measures
from volseg.quality.measuring import CaseMeasurements

QUALITY_FILE = "quality.json"
"""Name of the file in the folder ``configs`` of a bundle."""
LEAST_CASES = 8
"""How many cases a measure must have been seen in."""
_FORMAT = 1
_SCHEMA = Path(__file__).with_name("quality_schema.json")
_FENCE = 3.0
_INTENSITIES = ("lowest intensity", "middle intensity", "highest intensity")
# Ratio of large to small ranges of intensities in the images of a kind that have no unit.
_ARBITRARY = 5.0
_MOST_DIGITS = 6


@dataclass(frozen=True)
class Limits:
    """What is usual for a measure, and how it was in the middle case."""

    low: float
    high: float
    median: float


@dataclass(frozen=True)
class QualityLimits:
    """What is usual for the cases of a bundle.

    Attributes:
        limits: Of each measure that was seen often enough.
        orientations: Axis codes of the images that were seen.
        about: What it was learned from, such as ``cases``, for people.
    """

    limits: Mapping[Measure, Limits]
    orientations: tuple[str, ...]
    about: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return them as JSON holds them."""
        rows = [
            {
                **{name: value for name, value in asdict(measure).items() if value not in ("", -1)},
                **asdict(limits),
            }
            for measure, limits in self.limits.items()
        ]
        return {
            "volseg_quality": _FORMAT,
            **self.about,
            "orientations": [*self.orientations],
            "measures": rows,
        }

    @classmethod
    def from_json(cls, entry: Any, source: str) -> Self:
        """Return what `to_json` gave.

        Args:
            entry: What the file holds.
            source: Its name, for messages.

        Raises:
            InputError: It holds something else.
        """
        try:
            jsonschema.validate(entry, _schema(), cls=jsonschema.Draft202012Validator)
        except jsonschema.ValidationError as error:
            where = " / ".join(map(str, error.absolute_path)) or "top level"
            raise InputError(
                f"{source} does not hold limits of quality: at {where}, {error.message[:200]}; "
                "make it again with `volseg bundle quality`."
            ) from error
        known = [row for row in entry["measures"] if row["kind"] in KINDS]
        limits = {
            Measure(
                row["kind"], row.get("label", ""), row.get("axis", -1), row.get("channel", -1)
            ): Limits(row["low"], row["high"], row["median"])
            for row in known
        }
        ours = ("volseg_quality", "orientations", "measures")
        about = {name: value for name, value in entry.items() if name not in ours}
        return cls(limits, tuple(entry["orientations"]), about)


def learn_limits(
    cases: Sequence[CaseMeasurements], *, about: Mapping[str, Any] | None = None
) -> QualityLimits:
    """Return what is usual among cases that are taken to be good.

    Usual is what lies within the quartiles widened by three times their distance, beyond which
    values are far out (Tukey 1977, Exploratory Data Analysis), and all but the lowest and the
    highest percent of what was seen; volumes, spacings and lengths by their logarithms. Intensities
    themselves are left out where their range differs much from image to image.

    Args:
        cases: Of one kind.
        about: What else is kept with it.

    Raises:
        InputError: There are fewer than `LEAST_CASES` cases.
    """
    if len(cases) < LEAST_CASES:
        raise InputError(
            f"what is usual cannot be learned from {len(cases)} cases: give at least {LEAST_CASES}."
        )
    seen: dict[Measure, list[float]] = {}
    for case in cases:
        for measure, value in measures(case).items():
            seen.setdefault(measure, []).append(value)
    for channel in _in_arbitrary_units(seen):
        for kind in _INTENSITIES:
            seen.pop(Measure(kind, channel=channel), None)
    limits = {
        measure: _usual(KINDS[measure.kind].logarithmic, KINDS[measure.kind].margin, values)
        for measure, values in sorted(seen.items())
        if len(values) >= LEAST_CASES
    }
    orientations = sorted({"".join(case.grid.affine.orientation) for case in cases})
    return QualityLimits(limits, tuple(orientations), {"cases": len(cases), **(about or {})})


def _in_arbitrary_units(seen: Mapping[Measure, Sequence[float]]) -> list[int]:
    """Return the channels whose intensities differ from image to image by a factor, as in MR."""
    found = []
    for channel in {measure.channel for measure in seen if measure.kind == _INTENSITIES[0]}:
        low, high = (np.array(seen[Measure(kind, channel=channel)]) for kind in _INTENSITIES[::2])
        small, large = np.percentile(high - low, (5, 95))
        if large > _ARBITRARY * small:
            found.append(channel)
    return found


def _usual(logarithmic: bool, margin: float, values: Sequence[float]) -> Limits:
    scaled = np.log(values) if logarithmic else np.array(values)
    first, lower, median, upper, last = np.percentile(scaled, (1, 25, 50, 75, 99))
    fence = _FENCE * (upper - lower)
    low = min(lower - fence, first - margin)
    high = max(upper + fence, last + margin)
    found = (math.exp(v) if logarithmic else float(v) for v in (low, high, median))
    return Limits(*(float(f"{value:.{_MOST_DIGITS}g}") for value in found))


@functools.cache
def _schema() -> Any:
    return json.loads(_SCHEMA.read_text(encoding="utf-8"))
