"""What stands out in a case: in any, and against what is usual for its bundle."""

from __future__ import annotations

import math
from collections.abc import Iterator

from volseg.quality.border import border_sides
from volseg.quality.limits import Limits, QualityLimits
from volseg.quality.measures import KINDS, Kind, Measure, measures
from volseg.quality.measuring import CaseMeasurements
from volseg.quality.report import SEVERITIES, Flag, QualityReport, Severity

_ALWAYS = ("finite", "constant", "empty")


def check_case(
    case: CaseMeasurements,
    limits: QualityLimits | None = None,
    *,
    modality: str | None = None,
) -> QualityReport:
    """Return what stands out in a case.

    What lies outside the limits is a warning; where it is further out than the limits are apart it
    is an alarm, for the kinds that tell most. Without limits, structures that are missing or reach
    the edge of the image are notes.

    Args:
        case: What was measured, with a row for every class of the bundle.
        limits: What is usual, of the bundle, if it was learned.
        modality: That of the bundle, if it is known.
    """
    flags = [*_of_image(case), *_of_modality(case, modality)]
    checked = [*_ALWAYS, *(["modality"] if modality and case.modality else [])]
    if not any(row.voxels for row in case.statistics.labels):
        flags.append(Flag("empty", "alarm", "nothing was segmented.", value=0))
    elif limits is None:
        flags += _of_labels(case)
        checked += ["presence", "border"]
    if limits is not None:
        flags += _of_orientation(case, limits)
        flags += _outside(case, limits)
        checked += ["orientation", *(measure.kind for measure in limits.limits)]
    flags.sort(key=lambda flag: -SEVERITIES.index(flag.severity))
    return QualityReport(tuple(flags), tuple(dict.fromkeys(checked)))


def _of_image(case: CaseMeasurements) -> Iterator[Flag]:
    size = math.prod(case.grid.shape)
    channels = case.statistics.image
    for channel, found in enumerate(channels):
        name = "the image" if len(channels) == 1 else f"channel {channel} of the image"
        finite = 0 if found is None else found.voxels
        if finite < size:
            part = 1 - finite / size
            sentence = f"{part:.2%} of the voxels of {name} are no finite numbers."
            yield Flag("finite", "warning" if finite else "alarm", sentence, value=part)
        if found is not None and found.minimum == found.maximum:
            sentence = f"every voxel of {name} has the value {found.minimum:g}."
            yield Flag("constant", "alarm", sentence, value=found.minimum)


def _of_modality(case: CaseMeasurements, modality: str | None) -> Iterator[Flag]:
    if modality and case.modality and case.modality != modality:
        sentence = f"the image is {case.modality}, but the bundle was trained on {modality}."
        yield Flag("modality", "alarm", sentence, value=case.modality, expected=(modality,))


def _of_labels(case: CaseMeasurements) -> Iterator[Flag]:
    for row in case.statistics.labels:
        if row.voxels == 0:
            yield Flag("presence", "note", f"{row.name} was not found.", label=row.name, value=0)
        sides = border_sides(row, case.grid)
        if sides:
            sentence = f"{row.name} reaches the edge of the image ({', '.join(sides)})."
            yield Flag("border", "note", sentence, label=row.name, value=len(sides))


def _of_orientation(case: CaseMeasurements, limits: QualityLimits) -> Iterator[Flag]:
    found = "".join(case.grid.affine.orientation)
    if found not in limits.orientations:
        usual = " or ".join(limits.orientations)
        sentence = f"the axes of the image are stored as {found}, where {usual} is usual."
        yield Flag("orientation", "note", sentence, value=found, expected=limits.orientations)


def _outside(case: CaseMeasurements, limits: QualityLimits) -> Iterator[Flag]:
    for measure, value in measures(case).items():
        usual = limits.limits.get(measure)
        kind = KINDS[measure.kind]
        if usual is None or not _is_outside(value, usual, kind):
            continue
        yield Flag(
            code=measure.kind,
            severity=_severity(value, usual, kind),
            sentence=_sentence(measure, value, usual, case),
            label=measure.label or None,
            value=float(f"{value:.6g}"),
            expected=(usual.low, usual.high),
        )


def _is_outside(value: float, usual: Limits, kind: Kind) -> bool:
    return (value < usual.low and kind.sides != "high") or (
        value > usual.high and kind.sides != "low"
    )


def _severity(value: float, usual: Limits, kind: Kind) -> Severity:
    numbers = (value, usual.low, usual.high)
    value, low, high = map(math.log, numbers) if kind.logarithmic else numbers
    beyond = max(low - value, value - high)
    return "alarm" if kind.alarms and beyond > high - low else "warning"


def _sentence(measure: Measure, value: float, usual: Limits, case: CaseMeasurements) -> str:
    kind = KINDS[measure.kind]
    if measure.kind == "presence":
        return f"{measure.label} was not found, though nearly every such image shows it."
    if measure.kind == "border":
        (row,) = (row for row in case.statistics.labels if row.name == measure.label)
        sides = ", ".join(border_sides(row, case.grid))
        return f"{measure.label} reaches the edge of the image ({sides}), which is not usual."
    expected = {
        "both": f"{usual.low:.4g} to {usual.high:.4g}{kind.unit} are usual",
        "low": f"at least {usual.low:.4g}{kind.unit} is usual",
        "high": f"at most {usual.high:.4g}{kind.unit} is usual",
    }[kind.sides]
    what = measure.describe(len(case.statistics.image))
    return f"{what} is {value:.4g}{kind.unit}, where {expected}."
