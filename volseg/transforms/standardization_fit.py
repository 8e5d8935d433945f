"""Fitting a standardisation on a training set, one image in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from volseg.errors import InputError, UnknownNameError
from volseg.geometry import require_same_grid
from volseg.io import ImageSource, describe_source, grid_of, read_image
from volseg.transforms.channel_first import plain
from volseg.transforms.intensity_statistics import (
    IntensitySummary,
    percentiles,
    region_of,
    require_region,
)
from volseg.transforms.landmarks import PERCENTS, mean_landmarks
from volseg.transforms.standardization import Standardization
from volseg.transforms.standardization_methods import Foreground, Method, Nyul
from volseg.transforms.tally import Fit, in_one_part, in_passes

FITTED_METHODS = ("nyul", "foreground")

Progress = Callable[[int, int], None]


def fit_standardization(
    images: Sequence[ImageSource],
    *,
    method: str,
    labels: Sequence[str | Path] | None = None,
    ignore: int | None = None,
    region: str = "nonzero",
    progress: Progress | None = None,
) -> Standardization:
    """Return a standardisation fitted on images, each channel on its own.

    Args:
        images: Image files, all with the same channels, or files of their channels by name.
        method: ``nyul`` or ``foreground``.
        labels: The label map of each image, for ``foreground`` alone: above 0 is foreground.
        ignore: Value in the label maps of what nobody labelled, which is not foreground either.
        region: Where the landmarks of ``nyul`` are taken from, see `ZScore`; a label map is not at
            hand when a new image comes, so ``mask`` is not among them.
        progress: Called with the number of images done and of all images.

    Raises:
        UnknownNameError: There is no such method or region.
        InputError: There are no images, or one of them cannot be used; the message names it.
    """
    if method not in FITTED_METHODS:
        raise UnknownNameError("fitted standardisation", method, FITTED_METHODS)
    if not images:
        raise InputError("fitting a standardisation needs at least one image, got none.")
    report = progress or (lambda _done, _total: None)
    if method == "nyul":
        if labels is not None:
            raise InputError("nyul is fitted on images alone: leave the labels out.")
        if require_region(region) == "mask":
            raise InputError("nyul cannot be fitted on the region 'mask': new images have none.")
        channels: tuple[Method, ...] = _fit_nyul(images, region, report)
    else:
        if labels is None or len(labels) != len(images):
            found = "none" if labels is None else len(labels)
            raise InputError(
                f"foreground needs one label map for each of the {len(images)} images, got {found}."
            )
        channels = _fit_foreground(images, labels, ignore, report)
    return Standardization(channels, {"images": len(images), "volseg": version("volseg")})


def _fit_nyul(images: Sequence[ImageSource], region: str, report: Progress) -> tuple[Nyul, ...]:
    # Eleven numbers of each channel of each image stay; the mean is taken at the end.
    found: list[list[list[float]]] = []
    for done, (path, image) in enumerate(_read(images), start=1):
        try:
            landmarks = in_passes([partial(_landmarks, region)], in_one_part(plain(image)))
            for part in landmarks:
                if part[0] == part[-1]:
                    mean_landmarks([part])  # says what is wrong
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        found.append(landmarks)
        report(done, len(images))
    return tuple(
        Nyul(PERCENTS, tuple(mean_landmarks(channel)), region)
        for channel in zip(*found, strict=True)
    )


def _landmarks(region: str) -> Fit[list[float]]:
    inside = yield from region_of(region)
    return (yield from percentiles(PERCENTS, inside))


def _fit_foreground(
    images: Sequence[ImageSource],
    labels: Sequence[str | Path],
    ignore: int | None,
    report: Progress,
) -> tuple[Foreground, ...]:
    summaries: list[IntensitySummary] = []
    for done, (path, image) in enumerate(_read(images), start=1):
        summaries = summaries or [IntensitySummary() for _ in image]
        label_map = read_image(labels[done - 1])
        require_same_grid(
            grid_of(image), grid_of(label_map), what=f"the image {path} and {labels[done - 1]}"
        )
        values = label_map.as_tensor()[0]
        inside = values > 0 if ignore is None else (values > 0) & (values != ignore)
        for summary, part in zip(summaries, plain(image), strict=True):
            found = part[inside]
            if not torch.isfinite(found).all():
                raise InputError(f"{path}: the foreground holds values that are not finite.")
            summary.add(found.numpy())
        report(done, len(images))
    return tuple(_foreground(summary) for summary in summaries)


def _foreground(summary: IntensitySummary) -> Foreground:
    if summary.count == 0:
        raise InputError("the label maps hold no foreground: expected values above 0.")
    lower, upper = summary.percentile(0.5), summary.percentile(99.5)
    if lower >= upper:
        raise InputError(
            f"the foreground of all images is constant ({lower:g}): it cannot be standardised."
        )
    return Foreground(lower, upper, summary.mean, summary.std)


def _read(images: Sequence[ImageSource]) -> Iterator[tuple[str, Tensor]]:
    """Yield path and float32 image, all with as many channels as the first one."""
    channels = 0
    for source in images:
        path, image = describe_source(source), read_image(source).to(torch.float32)
        channels = channels or len(image)
        if len(image) != channels:
            raise InputError(
                f"{path} has {len(image)} channels, but {describe_source(images[0])} has "
                f"{channels}: fit images of one kind."
            )
        yield path, image
