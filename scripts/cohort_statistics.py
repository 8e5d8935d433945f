"""Volumes by group of patients: means with confidence intervals, comparisons, a plot.

    python scripts/cohort_statistics.py out/ groups.csv -o statistics/

VOLUMES is what `volseg segment` wrote (with a record of each case), or a folder of label maps.
GROUPS is a table with the columns ``case``, ``patient`` and ``group``. The patient is the unit:
several cases of one patient in a group count as their mean. Intervals are 95 %, by bootstrap over
patients. Every other group is compared with the first one: with Welch's t-test and Mann-Whitney, or
with --paired (the same patients in each group, as before and after) the paired t-test and Wilcoxon.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import product
from pathlib import Path
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
from volseg.evaluation import (
    compare_groups,
    compare_pairs,
    group_mean,
    patient_means,
    read_table,
)

# Of each structure, of each group, by patient.
Groups = dict[str, dict[str, dict[str, float]]]


def main() -> None:
    """Read the arguments and write the tables and the plot."""
    parser = volumes_parser(__doc__, "groups", ["patient", "group"])
    parser.add_argument("--reference", help="group to compare with; the first in the table if not")
    parser.add_argument("--paired", action="store_true", help="the same patients in every group")
    arguments = parser.parse_args()
    try:
        volumes = structure_volumes(arguments.volumes, arguments.labels)
        groups = grouped(volumes, arguments.groups, arguments.reference)
        write_table(arguments.output / "groups.csv", group_rows(groups))
        comparisons = list(comparison_rows(groups, paired=arguments.paired))
        if comparisons:
            write_table(arguments.output / "comparisons.csv", comparisons)
        save_plot(plot(groups), arguments.output / "volumes.png")
    except VolsegError as error:
        sys.exit(str(error))
    for row in comparisons:
        sys.stdout.write(
            f"{row['structure']}: {row['group']} is {row['difference_ml']:+.3f} mL "
            f"({row['low_ml']:.3f} to {row['high_ml']:.3f}) from {row['reference']}, effect size "
            f"{row['effect_size']:.2f}, p {row['p_mean']:.3g}\n"
        )
    sys.stdout.write(f"written: {arguments.output}\n")


def grouped(volumes: Iterable[StructureVolume], table: Path, reference: str | None) -> Groups:
    """Return the mean volume of each patient, by structure and group, the reference first.

    Raises:
        InputError: The table cannot be used, has no such group, or one without a structure.
    """
    found = volumes_of_table(volumes, table, ["patient", "group"])
    names = list(dict.fromkeys(row["group"] for row in read_table(table, ["group"])))
    if reference is not None:
        if reference not in names:
            raise InputError(f"{table} has no group {reference!r}; it has {', '.join(names)}.")
        names.sort(key=lambda name: name != reference)
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    patients: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one, row in found:
        values[one.structure, row["group"]].append(one.ml)
        patients[one.structure, row["group"]].append(row["patient"])
    structures = sorted({one.structure for one, _ in found})
    for structure, name in product(structures, names):
        if (structure, name) not in values:
            raise InputError(
                f"no case of the group {name} in {table} has a volume of {structure}: name with "
                "--labels what the cases of every group have."
            )
    return {
        structure: {
            name: patient_means(values[structure, name], patients[structure, name])
            for name in names
        }
        for structure in structures
    }


def group_rows(groups: Groups) -> Iterable[dict[str, Any]]:
    """Yield a row for each structure and group."""
    for structure, by_group in groups.items():
        for name, values in by_group.items():
            found = group_mean(list(values.values()))
            yield {
                "structure": structure,
                "group": name,
                "patients": found.patients,
                "mean_ml": found.mean,
                "low_ml": found.interval.low,
                "high_ml": found.interval.high,
                "standard_deviation_ml": found.standard_deviation,
                "median_ml": found.median,
            }


def comparison_rows(groups: Groups, *, paired: bool) -> Iterable[dict[str, Any]]:
    """Yield a row for each structure and group beside the reference.

    Raises:
        InputError: Groups are to be paired and are not of the same patients.
    """
    for structure, by_group in groups.items():
        (reference, first), *others = by_group.items()
        for name, second in others:
            if paired and first.keys() != second.keys():
                alone = sorted(first.keys() ^ second.keys())
                raise InputError(
                    f"the groups {reference} and {name} are not of the same patients (first "
                    f"without a partner: {alone[0]}): leave out --paired, or such patients."
                )
            if paired:
                found = compare_pairs(list(first.values()), [second[one] for one in first])
            else:
                found = compare_groups(list(first.values()), list(second.values()))
            yield {
                "structure": structure,
                "group": name,
                "reference": reference,
                "patients": found.patients[1],
                "patients_of_reference": found.patients[0],
                "difference_ml": found.difference,
                "low_ml": found.interval.low,
                "high_ml": found.interval.high,
                "effect_size": found.effect_size,
                "p_mean": found.p_mean,
                "p_rank": found.p_rank,
            }


def plot(groups: Groups) -> Any:
    """Return a figure: every patient a dot, every group a mean with its interval."""
    figure = plotting()(figsize=(3.2 * len(groups), 3.6), layout="constrained")
    for place, (structure, by_group) in enumerate(groups.items(), start=1):
        axes = figure.add_subplot(1, len(groups), place)
        for index, values in enumerate(by_group.values()):
            listed = list(values.values())
            # Spread in the order of their values, so that a plot is always the same.
            spread = [0.12 * (rank % 5 - 2) / 2 for rank in range(len(listed))]
            axes.plot([index + one for one in spread], sorted(listed), ".", color="0.6")
            found = group_mean(listed)
            axes.plot([index + 0.25] * 2, found.interval, color="C0")
            axes.plot(index + 0.25, found.mean, "o", color="C0")
        axes.set_xticks(range(len(by_group)), list(by_group))
        axes.set_title(structure)
        axes.set_ylabel("mL")
        axes.set_ylim(bottom=0)
    return figure


if __name__ == "__main__":
    main()
