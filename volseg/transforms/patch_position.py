"""Where a patch is cut so that small structures are met as often as large ones."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from volseg.errors import InputError

_TRIED = 1024


def rare_voxels_entry(label: Hashable) -> str:
    """Return the name of the entry of a case that says where rare classes of a label map are."""
    return f"{label}_voxels"


def ratios_of(ratios: Sequence[float] | None, classes: int | None) -> tuple[float, ...]:
    """Return how often each class is drawn, checked.

    Args:
        ratios: One number a class, the background first; equal ones without it.
        classes: Number of classes with the background.

    Raises:
        InputError: Both are missing or do not fit, or a ratio is negative or all are 0.
    """
    if ratios is None and classes is not None and classes > 0:
        return (1.0,) * classes
    found = () if ratios is None else tuple(float(ratio) for ratio in ratios)
    if not found or min(found) < 0 or max(found) == 0 or classes not in (None, len(found)):
        raise InputError(
            f"classes is {classes} and class_ratios is {ratios}; expected the number of classes "
            "with the background, or a ratio of at least 0 for each of them, not all of them 0."
        )
    return found


def voxel_of_a_class(
    labels: torch.Tensor,
    ratios: Sequence[float],
    random: np.random.RandomState,
    voxels: Mapping[int, npt.NDArray[np.int64]] | None = None,
) -> tuple[int, ...]:
    """Return the index of a random voxel of a random class.

    A class without a voxel leaves its share to the other classes, so that the background's does not
    grow; the background takes it where it is the only one left, and any voxel where nothing is.

    Args:
        labels: Classes, `(x, y)` or `(x, y, z)`.
        ratios: How often each class is drawn, the background first.
        random: What draws.
        voxels: Sorted flat indices of the voxels of rare classes, if they are known: the volume is
            then not searched for them. The draw is the same.
    """
    values = labels.detach().cpu().numpy()
    weights = np.array(ratios, dtype=float)
    background = weights[0]
    while weights.sum() > 0:
        drawn = int(random.choice(len(weights), p=weights / weights.sum()))
        # Trying some voxels is enough for all but small structures, and each is as likely.
        tried = np.unravel_index(random.randint(values.size, size=_TRIED), values.shape)
        hits = np.flatnonzero(values[tried] == drawn)
        if hits.size:
            return tuple(int(axis[hits[0]]) for axis in tried)
        known = None if voxels is None else voxels.get(drawn)
        found = np.flatnonzero(values == drawn) if known is None else known
        if found.size:
            flat = found[random.randint(found.size)]
            return tuple(int(i) for i in np.unravel_index(flat, values.shape))
        if drawn == 0:
            background = 0.0
        weights[drawn] = 0.0
        weights[0] = 0.0 if weights[1:].any() else background
    return tuple(int(random.randint(n)) for n in values.shape)


def in_the_middle(shape: Sequence[int], size: Sequence[int]) -> list[int]:
    """Return the first voxel of a patch in the middle of a volume; negative where it is larger."""
    return [(n - p) // 2 for n, p in zip(shape, size, strict=True)]


def anywhere(shape: Sequence[int], size: Sequence[int], random: np.random.RandomState) -> list[int]:
    """Return the first voxel of a patch inside of a volume, in the middle where it does not fit."""
    room = [n - p for n, p in zip(shape, size, strict=True)]
    return [int(random.randint(0, free + 1)) if free > 0 else free // 2 for free in room]


def around(voxel: Sequence[int], shape: Sequence[int], size: Sequence[int]) -> list[int]:
    """Return the first voxel of a patch about a voxel that stays inside where it fits."""
    room = [n - p for n, p in zip(shape, size, strict=True)]
    return [
        min(max(at - length // 2, 0), free) if free > 0 else free // 2
        for at, length, free in zip(voxel, size, room, strict=True)
    ]
