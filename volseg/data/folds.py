"""Deterministic folds that never split a patient."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from volseg.errors import InputError

# What every case has; in no name of a stratum.
_A_CASE = ""


def grouped_folds(
    groups: Mapping[str, str],
    *,
    count: int = 5,
    seed: int = 0,
    strata: Mapping[str, Collection[str]] | None = None,
) -> dict[str, int]:
    """Return the fold of each case; cases of one group (patient) share a fold.

    Groups are ordered by a hash of seed and name, so neither the order of files nor the Python
    version changes the result, and dealt largest first to the fold with the fewest cases. With
    strata, the groups that have the rarest are dealt first, each to the fold that lacks most of it:
    the iterative stratification of Sechidis, Tsoumakas and Vlahavas, "On the stratification of
    multi-label data", 2011, for groups.

    Args:
        groups: Case name to group (patient) name.
        count: Number of folds.
        seed: Another seed gives another shuffle.
        strata: Case name to what it has that is to be spread evenly, such as the names of labels.

    Raises:
        InputError: There are fewer groups than folds, or there is one.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for case, group in groups.items():
        members[group].append(case)
    if len(members) == 1:
        raise InputError(
            f"all cases are of one patient, {next(iter(members))}; expected at least two, as folds "
            "hold out whole patients: give cases of others."
        )
    if not 2 <= count <= len(members):
        raise InputError(
            f"{len(members)} patients cannot make {count} folds: use 2 to {len(members)}."
        )
    having = {
        group: Counter(
            stratum
            for case in cases
            for stratum in {_A_CASE, *(strata.get(case, ()) if strata else ())}
        )
        for group, cases in members.items()
    }
    dealt = [Counter[str]() for _ in range(count)]
    left = set(members)
    fold_of: dict[str, int] = {}
    while left:
        stratum = _rarest([having[group] for group in left])
        # Those of one stratum are dealt before the next rarest one is looked for.
        for group in sorted(
            (group for group in left if having[group][stratum]),
            key=lambda group: (-having[group][stratum], _shuffled(group, seed)),
        ):
            fold = min(
                range(count),
                key=lambda index: (dealt[index][stratum], dealt[index][_A_CASE], index),
            )
            dealt[fold].update(having[group])
            left.discard(group)
            fold_of.update(dict.fromkeys(members[group], fold))
    return {case: fold_of[case] for case in sorted(fold_of)}


def _rarest(having: Collection[Counter[str]]) -> str:
    """Return the stratum that the fewest cases have."""
    total: Counter[str] = Counter()
    for strata in having:
        total.update(strata)
    return min(total, key=lambda stratum: (total[stratum], stratum == _A_CASE, stratum))


def _shuffled(group: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()
