"""Volumes of patients over time: absolute, percent and annual change beside the measurement error.

    python scripts/longitudinal_change.py out/ dates.csv -o change/

VOLUMES is what `volseg segment` wrote (with a record of each case), or a folder of label maps.
DATES is a table with the columns ``case``, ``patient`` and ``date`` (2024-05-17). Cases of one
patient on one day are repeats: their mean counts, and what they differ by is the measurement error.
A change that is larger than the smallest detectable one (1.96 x sqrt(2) x the standard deviation
within subjects) is beyond it; where there are no repeats, give it with --smallest-detectable.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

from research_tables import (
    StructureVolume,
    plotting,
    save_plot,
    structure_volumes,
    volumes_of_table,
    volumes_parser,
    write_table,
)
from volseg.errors import InputError, VolsegError
from volseg.evaluation import change_over_time, group_mean, measurement_error

# Volumes in mL by structure, patient and day.
Courses = dict[str, dict[str, dict[date, list[float]]]]


def main() -> None:
    """Read the arguments and write the tables and the plot."""
    parser = volumes_parser(__doc__, "dates", ["patient", "date"])
    parser.add_argument(
        "--smallest-detectable", type=float, metavar="ML", help="change, if there are no repeats"
    )
    arguments = parser.parse_args()
    try:
        courses = courses_of(
            structure_volumes(arguments.volumes, arguments.labels), arguments.dates
        )
        detectable = smallest_detectable(courses, arguments.smallest_detectable)
        rows = list(change_rows(courses, detectable))
        summary = list(summary_rows(rows, detectable))
        write_table(arguments.output / "change.csv", rows)
        write_table(arguments.output / "summary.csv", summary)
        save_plot(plot(courses, detectable), arguments.output / "change.png")
    except VolsegError as error:
        sys.exit(str(error))
    for row in summary:
        sys.stdout.write(
            f"{row['structure']}: {row['annual_percent']:+.2f} % a year ({row['low']:.2f} to "
            f"{row['high']:.2f}) in {row['patients']} patients\n"
        )
    sys.stdout.write(f"written: {arguments.output}\n")


def courses_of(volumes: Iterable[StructureVolume], table: Path) -> Courses:
    """Return the volumes of each patient over the days.

    Raises:
        InputError: A date cannot be read, or a case has no volume.
    """
    found: Courses = {}
    for one, row in volumes_of_table(volumes, table, ["patient", "date"]):
        try:
            day = date.fromisoformat(row["date"])
        except ValueError as error:
            raise InputError(
                f"the date of the case {one.case} in {table} is {row['date']!r}; expected a day "
                "such as 2024-05-17."
            ) from error
        course = found.setdefault(one.structure, {}).setdefault(row["patient"], defaultdict(list))
        course[day].append(one.ml)
    return found


def smallest_detectable(courses: Courses, given: float | None) -> dict[str, float]:
    """Return the smallest detectable change of each structure in mL, of those where it is known."""
    if given is not None:
        return dict.fromkeys(courses, given)
    repeats = {
        structure: [values for course in patients.values() for values in course.values()]
        for structure, patients in courses.items()
    }
    return {
        structure: measurement_error(values).smallest_detectable
        for structure, values in repeats.items()
        if any(len(one) > 1 for one in values)
    }


def change_rows(courses: Courses, detectable: Mapping[str, float]) -> Iterable[dict[str, Any]]:
    """Yield a row for each structure and patient who was seen on two days or more."""
    for structure, patients in courses.items():
        for patient, course in patients.items():
            if len(course) < 2:
                continue
            found = change_over_time(list(course), [fmean(values) for values in course.values()])
            least = detectable.get(structure)
            yield {
                "structure": structure,
                "patient": patient,
                "days": len(course),
                "years": found.years,
                "first_ml": found.first,
                "last_ml": found.last,
                "change_ml": found.absolute,
                "change_percent": found.percent,
                "annual_ml": found.annual,
                "annual_percent": found.annual_percent,
                "smallest_detectable_ml": least,
                "beyond_error": None if least is None else abs(found.absolute) > least,
            }


def summary_rows(
    rows: Iterable[Mapping[str, Any]], detectable: Mapping[str, float]
) -> Iterable[dict[str, Any]]:
    """Yield a row for each structure: the mean annual change over patients.

    There is no percent of nothing: those who lack a structure on the first day are not in its mean.

    Raises:
        InputError: Nobody was seen on two days.
    """
    by_structure: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_structure[row["structure"]].append(row)
    if not by_structure:
        raise InputError("no patient has cases on two days: there is no change to tell.")
    for structure, of_structure in by_structure.items():
        percents = [row["annual_percent"] for row in of_structure if row["first_ml"]]
        found = group_mean(percents) if percents else None
        beyond = sum(bool(row["beyond_error"]) for row in of_structure)
        yield {
            "structure": structure,
            "patients": len(percents),
            "annual_percent": found.mean if found else math.nan,
            "low": found.interval.low if found else math.nan,
            "high": found.interval.high if found else math.nan,
            "smallest_detectable_ml": detectable.get(structure),
            "beyond_error": beyond if structure in detectable else None,
        }


def plot(courses: Courses, detectable: Mapping[str, float]) -> Any:
    """Return a figure: a line for each patient, in percent of the first day."""
    figure = plotting()(figsize=(3.6 * len(courses), 3.4), layout="constrained")
    for place, (structure, patients) in enumerate(courses.items(), start=1):
        axes = figure.add_subplot(1, len(courses), place)
        firsts = []
        for course in patients.values():
            days = sorted(course)
            values = [fmean(course[day]) for day in days]
            if len(days) < 2 or not values[0]:
                continue
            firsts.append(values[0])
            years = [(day - days[0]).days / 365.25 for day in days]
            axes.plot(years, [100 * value / values[0] for value in values], ".-", linewidth=1)
        if structure in detectable and firsts:
            margin = 100 * detectable[structure] / fmean(firsts)
            axes.axhspan(100 - margin, 100 + margin, color="0.9", zorder=0)
        axes.set_title(structure)
        axes.set_xlabel("years")
        axes.set_ylabel("% of the first volume")
    return figure


if __name__ == "__main__":
    main()
