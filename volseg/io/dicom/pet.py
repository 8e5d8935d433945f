"""Standardised uptake values of PET: activity for each gram of body weight and injected dose.

SUVbw = activity (Bq/ml) x weight (g) / dose (Bq), the dose decayed to the time that the image is
corrected to (PS3.3 C.8.9.1; QIBA FDG-PET/CT profile, appendix on the computation of SUV).
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from volseg.errors import InputError
from volseg.io.dicom.frames import Frame
from volseg.io.dicom.opening import OpenSeries

_GE_SCAN_TIME = (0x0009, 0x100D)
_GE_CREATOR = "GEMS_PETD_01"
_PHILIPS_SUV_FACTOR = (0x7053, 0x1000)
_PHILIPS_ACTIVITY_FACTOR = (0x7053, 0x1009)
_LONGEST_UPTAKE = timedelta(hours=24)

Points = tuple[tuple[Frame, ...], ...]


def suv_frames(opened: OpenSeries) -> tuple[Points, str]:
    """Return the frames with slope and intercept that give SUV (g/ml), and a remark on how.

    Raises:
        InputError: if the series is no PET in known units, or its header lacks what is needed.
    """
    dataset = opened.first_dataset()
    source = opened.source
    units = str(dataset.get("Units") or "")
    if units == "GML":
        kind = str(dataset.get("SUVType") or "BW")
        if kind != "BW":
            raise _unusable(source, f"its values are SUV of type {kind}", "BW, by body weight")
        return opened.frames, "values are SUV by body weight, as stored"
    if units == "CNTS":
        factor, how = _of_counts(dataset, opened)
    elif units == "BQML":
        factor, how = _factor(dataset, opened)
    else:
        found = f"Units are {units!r}" if units else "it states no Units"
        raise _unusable(source, found, "PET in BQML, GML, or CNTS with the manufacturer's factor")
    points = tuple(
        tuple(
            replace(frame, slope=frame.slope * factor, intercept=frame.intercept * factor)
            for frame in point
        )
        for point in opened.frames
    )
    return points, f"values are SUV by body weight (g/ml), {factor:.6g} for each stored unit, {how}"


def _of_counts(dataset: Any, opened: OpenSeries) -> tuple[float, str]:
    """Return SUV for each count by a factor of the manufacturer: to SUV or, without it, to Bq/ml.

    Philips writes 0 where one of them is not known.
    """
    how = "by the manufacturer's factor"
    if (factor := _number_in(dataset, _PHILIPS_SUV_FACTOR)) > 0.0:
        return factor, how
    if (activity := _number_in(dataset, _PHILIPS_ACTIVITY_FACTOR)) > 0.0:
        factor, dose = _factor(dataset, opened)
        return activity * factor, f"{how} to Bq/ml, {dose}"
    raise _unusable(
        opened.source,
        "Units are 'CNTS' without a factor of the manufacturer that is more than 0",
        "PET in BQML or GML, or counts with one",
    )


def _factor(dataset: Any, opened: OpenSeries) -> tuple[float, str]:
    """Return SUV for each Bq/ml, and from when to when the dose was decayed."""
    source = opened.source
    corrections = dataset.get("CorrectedImage") or ()
    missing = [name for name in ("ATTN", "DECY") if name not in corrections]
    if missing:
        raise _unusable(source, f"it is not corrected for {' and '.join(missing)}", "both")
    drugs = dataset.get("RadiopharmaceuticalInformationSequence")
    drug = drugs[0] if drugs else {}
    weight = _positive(dataset.get("PatientWeight"), "PatientWeight", source)
    dose = _positive(drug.get("RadionuclideTotalDose"), "RadionuclideTotalDose", source)
    correction = str(dataset.get("DecayCorrection") or "")
    if correction == "ADMIN":
        return 1000.0 * weight / dose, "decay corrected to the injection"
    if correction != "START":
        raise _unusable(source, f"DecayCorrection is {correction!r}", "START or ADMIN")
    half_life = _positive(drug.get("RadionuclideHalfLife"), "RadionuclideHalfLife", source)
    scan = _scan_time(dataset, opened)
    injection = _injection_time(drug, scan, source)
    uptake = scan - injection
    if not timedelta(0) <= uptake <= _LONGEST_UPTAKE:
        raise _unusable(source, f"it was scanned {uptake} after the injection", "0 to 24 hours")
    decayed = dose * 2.0 ** (-uptake.total_seconds() / half_life)
    return 1000.0 * weight / decayed, f"dose decayed over {uptake} to {scan}"


def _scan_time(dataset: Any, opened: OpenSeries) -> datetime:
    """Return when the scan began, to which the image is corrected.

    The time of the series is that, unless the series was made from another one later.
    """
    acquired = [
        moment
        for point in opened.frames
        for frame in point
        if (moment := _date_time(str(frame.keys.get("acquisition time", "")).replace("_", "")))
    ]
    of_series = _moment(dataset.get("SeriesDate"), dataset.get("SeriesTime"))
    if of_series is not None and (not acquired or of_series <= min(acquired)):
        return of_series
    creator = dataset.get((0x0009, 0x0010))
    if creator is not None and creator.value == _GE_CREATOR and _GE_SCAN_TIME in dataset:
        stated = _date_time(dataset[_GE_SCAN_TIME].value)
        if stated is not None:
            return stated
    if not acquired:
        raise _unusable(opened.source, "it states no SeriesTime", "date and time of the scan")
    return min(acquired)


def _injection_time(drug: Any, scan: datetime, source: str) -> datetime:
    stated = _date_time(drug.get("RadiopharmaceuticalStartDateTime"))
    if stated is not None:
        return stated
    moment = _moment(scan.strftime("%Y%m%d"), drug.get("RadiopharmaceuticalStartTime"))
    if moment is None:
        raise _unusable(
            source, "it states no RadiopharmaceuticalStartTime", "the time of the injection"
        )
    # Without a date it was the last such time before the scan.
    return moment if moment <= scan else moment - timedelta(days=1)


def _date_time(value: Any) -> datetime | None:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return _moment(text[:8], text[8:].partition("+")[0].partition("-")[0].strip(" \0"))


def _moment(date: Any, time: Any) -> datetime | None:
    """Return the moment of a DA and a TM value (PS3.5 6.2), None if one is missing or damaged."""
    if not date or not time:
        return None
    whole, _, fraction = str(time).partition(".")
    text = f"{date}{whole.ljust(6, '0')}"
    try:
        moment = datetime.strptime(text, "%Y%m%d%H%M%S")
        return moment + timedelta(seconds=float(f"0.{fraction or 0}"))
    except ValueError:
        return None


def _positive(value: Any, name: str, source: str) -> float:
    if (number := _number(value)) > 0.0:
        return number
    raise _unusable(source, f"{name} is {value}", "a positive number")


def _number_in(dataset: Any, tag: tuple[int, int]) -> float:
    return _number(dataset[tag].value) if tag in dataset else 0.0


def _number(value: Any) -> float:
    """Return a finite number, 0 if the value is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) else 0.0


def _unusable(source: str, found: str, expected: str) -> InputError:
    return InputError(
        f"cannot give SUV of {source}: {found}, expected {expected}; read it without suv."
    )
