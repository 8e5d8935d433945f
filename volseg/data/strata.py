"""What cases have in common that should be spread over all folds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from volseg.errors import InputError
from volseg.io import read_image

# More labels than this are rather numbers of objects than classes: their sum is what counts.
_MOST_CLASSES = 40
_SIZES = ("little", "some", "much")


def label_sizes(path: str | Path) -> dict[int, int]:
    """Return the number of voxels of each value in a label file, but of 0.

    Raises:
        InputError: The file cannot be read, or a value in it is no number.
    """
    values, numbers = np.unique(np.rint(np.asarray(read_image(path)[0])), return_counts=True)
    if not np.isfinite(values).all():
        raise InputError(
            f"the label {path} holds values that are NaN or infinite, expected whole numbers: "
            "write them as 0, the background."
        )
    return {
        int(value): int(number) for value, number in zip(values, numbers, strict=True) if value != 0
    }


def label_strata(sizes: Mapping[str, Mapping[int, float]]) -> dict[str, list[str]]:
    """Return what each case has: labels, and whether little, some or much of each.

    The cases that have a label are cut into thirds by its size.

    Args:
        sizes: Case name to the size of each label in it, by value.
    """
    values = sorted({value for own in sizes.values() for value in own})
    if len(values) > _MOST_CLASSES:
        values, sizes = [1], {case: {1: sum(own.values())} for case, own in sizes.items()}
    strata: dict[str, list[str]] = {case: [] for case in sizes}
    for value in values:
        having = sorted(
            (case for case, own in sizes.items() if own.get(value)),
            key=lambda case: (sizes[case][value], case),
        )
        for place, case in enumerate(having):
            amount = _SIZES[place * len(_SIZES) // len(having)]
            strata[case] += [f"{value}", f"{amount} of {value}"]
    return strata
