"""Which patient a case is of: from a table, or from the names of cases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from volseg.errors import InputError
from volseg.evaluation.table import read_table


def patients_of_table(path: str | Path) -> dict[str, str]:
    """Return the patient of each case of a CSV table with the columns ``case`` and ``patient``.

    Raises:
        InputError: It cannot be read, or gives a case to two patients.
    """
    found: dict[str, str] = {}
    for row in read_table(path, ["case", "patient"]):
        if found.setdefault(row["case"], row["patient"]) != row["patient"]:
            raise InputError(f"{path} gives the case {row['case']} to two patients: leave one.")
    return found


def patients_by_pattern(pattern: str, cases: Iterable[str]) -> dict[str, str]:
    r"""Return the part of the name of each case that names the patient.

    Args:
        pattern: Regular expression, of which the first group names the patient, or the whole if it
            has none: ``(.*)_scan\d+`` makes ``a7`` of ``a7_scan2``.
        cases: Names of cases.

    Raises:
        InputError: It is no regular expression, or a case does not match it.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"the pattern of patients {pattern!r} is no regular expression: {error}."
        ) from error
    found = {}
    for case in cases:
        match = expression.search(case)
        name = match and match[min(expression.groups, 1)]
        if not name:
            raise InputError(
                f"the pattern {pattern!r} finds no patient in the name of the case {case}; "
                r"expected one such as '(.*)_scan\d+', with the patient in the brackets."
            )
        found[case] = name
    return found


def require_patients(patients: Mapping[str, str], cases: Iterable[str], source: str) -> None:
    """Check that each case has a patient.

    Args:
        patients: By case.
        cases: That need one.
        source: Where patients come from, for the message.

    Raises:
        InputError: One has none.
    """
    without = sorted(case for case in cases if case not in patients)
    if without:
        raise InputError(
            f"{len(without)} cases have no patient in {source} (first: {without[0]}): name them "
            "there, or leave out --patients."
        )
