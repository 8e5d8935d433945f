"""Landmark standardisation of intensities, which have no unit in MR.

Nyúl, Udupa, Zhang, "New variants of a method of MRI scale standardization", IEEE Transactions on
Medical Imaging 19(2), 2000: percentiles of each image are moved to where they lie on average.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from volseg.errors import InputError

PERCENTS = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)

# Landmarks closer than this share of the range are one: 32-bit floats barely tell them apart, and
# the line between them would be all but vertical.
_TIED = 1e-6


def mean_landmarks(
    images: Iterable[Sequence[float]], *, scale: tuple[float, float] = (0.0, 100.0)
) -> list[float]:
    """Return where the landmarks of a set of images lie on average on the standard scale.

    Args:
        images: The same percentiles of each image, ascending; taken one by one.
        scale: Where the first and the last one go in every image.

    Raises:
        InputError: There is no image, one is constant, or landmarks coincide in all images.
    """
    total: list[float] = []
    count = 0
    for landmarks in images:
        low, high = landmarks[0], landmarks[-1]
        if high <= low:
            raise InputError(
                f"the image is constant ({low:g}) between its outer percentiles, so it has no "
                "scale: leave it out or choose another region."
            )
        placed = [(value - low) / (high - low) for value in landmarks]
        total = [a + b for a, b in zip(total, placed, strict=True)] if count else placed
        count += 1
    if count == 0:
        raise InputError("landmarks need at least one image, got none.")
    low, high = scale
    mean = [low + value / count * (high - low) for value in total]
    if not increasing(mean):
        raise InputError(
            "percentiles coincide in every image, as where much of it is background: choose the "
            "region nonzero or above_mean."
        )
    return mean


def landmark_map(source: Sequence[float], target: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """Return what moves the landmarks of an image, linear in between and beyond the outer ones.

    Landmarks of the image that coincide become one, at the mean of their targets, so the mapping
    is strictly increasing.

    Args:
        source: Landmarks of the image, ascending.
        target: Where they go, strictly ascending.

    Returns:
        A function of any values of the image, float32.

    Raises:
        InputError: All landmarks of the image coincide: it is constant.
    """
    distinct, moved = _without_ties(source, target)
    if len(distinct) < 2:
        raise InputError(
            f"the image is constant ({distinct[0]:g}) between its outer percentiles, so its "
            "intensities cannot be standardised: leave it out or choose another region."
        )
    return partial(_on_segments, source=distinct, target=moved)


def increasing(values: Sequence[float]) -> bool:
    """Return whether each value is larger than the one before."""
    return all(a < b for a, b in pairwise(values))


def _without_ties(
    source: Sequence[float], target: Sequence[float]
) -> tuple[list[float], list[float]]:
    width = _TIED * max(source[-1] - source[0], abs(source[-1]), abs(source[0]))
    groups: list[list[int]] = [[0]]
    for index in range(1, len(source)):
        if source[index] - source[groups[-1][0]] <= width:
            groups[-1].append(index)
        else:
            groups.append([index])
    return (
        [source[group[0]] for group in groups],
        [sum(target[index] for index in group) / len(group) for group in groups],
    )


def _on_segments(image: Tensor, source: Sequence[float], target: Sequence[float]) -> Tensor:
    # Rounded first: slopes must fit the landmarks that the image is compared with. Some devices
    # (MPS) have no 64-bit numbers.
    ends = [torch.tensor(values, dtype=image.dtype) for values in (source, target)]
    slopes = (ends[1].double().diff() / ends[0].double().diff()).to(image.dtype)
    start, reached, slope = (values.to(image.device) for values in (*ends, slopes))
    segment = torch.bucketize(image, start[1:-1], out_int32=True, right=True).long()
    result = (image - start[segment]) * slope[segment] + reached[segment]
    # Rounding may carry a value past the end of its segment; the next one begins exactly there.
    infinity = torch.full_like(reached[:1], torch.inf)
    lowest = torch.cat([-infinity, reached[1:-1]])
    highest = torch.cat([reached[1:-1], infinity])
    return torch.minimum(torch.maximum(result, lowest[segment]), highest[segment])
