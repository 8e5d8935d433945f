"""Deterministic folds that never split a patient."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping

from volseg.errors import InputError


def grouped_folds(groups: Mapping[str, str], *, count: int = 5, seed: int = 0) -> dict[str, int]:
    """Return the fold of each case; cases of one group (patient) share a fold.

    Groups are ordered by a hash of seed and name, so neither the order of files nor the Python
    version changes the result, and dealt largest first to the fold with the fewest cases.

    Args:
        groups: Case name to group (patient) name.
        count: Number of folds.
        seed: Another seed gives another shuffle.

    Raises:
        InputError: There are fewer groups than folds.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for case, group in groups.items():
        members[group].append(case)
    if not 2 <= count <= len(members):
        raise InputError(
            f"{len(members)} patients cannot make {count} folds: use 2 to {len(members)}."
        )

    def shuffled(group: str) -> tuple[int, str]:
        return -len(members[group]), hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()

    sizes = [0] * count
    fold_of: dict[str, int] = {}
    for group in sorted(members, key=shuffled):
        fold = min(range(count), key=lambda index: (sizes[index], index))
        sizes[fold] += len(members[group])
        fold_of.update(dict.fromkeys(members[group], fold))
    return {case: fold_of[case] for case in sorted(fold_of)}
