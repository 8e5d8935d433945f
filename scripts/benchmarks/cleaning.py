"""A label map cleaned by volseg and by MONAI: holes, small components, largest components."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import FillHoles as MonaiFillHoles
from monai.transforms import KeepLargestConnectedComponent, RemoveSmallObjects

from benchmarks.costs import Figures
from volseg.postprocess import FillHoles, KeepLargest, RemoveSmallComponents, apply_rules

CLASSES = 5
_SMALLEST = 64  # voxels
_DISTURBED = 400  # holes, and as many specks


@dataclass(frozen=True)
class Cleaning:
    """A label map in memory, cleaned.

    Both sides connect background over faces and classes over faces, edges and corners.

    Attributes:
        found: File of the labels (x, y, z).
        cleaned: Where the result goes.
        library: ``volseg`` or ``monai``.
    """

    found: Path
    cleaned: Path
    library: str

    def prepare(self) -> Callable[[], Figures]:
        """Read the labels, and load what is compiled."""
        labels = np.load(self.found)
        if self.library == "monai":
            return partial(self._run, _with_monai, labels)
        _with_volseg(labels[::8, ::8, ::8].copy())
        return partial(self._run, _with_volseg, labels)

    def _run(
        self, clean: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], labels: npt.NDArray[Any]
    ) -> Figures:
        np.save(self.cleaned, clean(labels))
        return {}


def disturbed_labels(file: Path, shape: Sequence[int]) -> Path:
    """Write labels of `CLASSES` classes, with holes and specks of up to 9 voxels across."""
    x, y, z = np.ix_(*(np.linspace(-1, 1, side, dtype=np.float32) for side in shape))
    labels = np.zeros(tuple(shape), dtype=np.uint8)
    # Four organs that nearly touch, each a bent ellipsoid.
    for number, (a, b) in enumerate(itertools.product((-0.45, 0.45), repeat=2), start=1):
        bend = 0.06 * np.sin(9 * z + number) + 0.04 * np.cos(13 * y)
        inside = ((x - a + bend) / 0.42) ** 2 + ((y - b) / 0.42) ** 2 + (z / 0.85) ** 2 < 1
        labels[inside] = number
    chosen = np.random.default_rng(0)
    for index in range(2 * _DISTURBED):
        radius = int(chosen.integers(1, 5))
        middle = [int(chosen.integers(radius, side - radius)) for side in shape]
        box = tuple(slice(place - radius, place + radius + 1) for place in middle)
        ball = sum(np.ix_(*[np.arange(-radius, radius + 1) ** 2] * 3)) <= radius**2
        value = 0 if index % 2 else 1 + int(chosen.integers(CLASSES - 1))
        labels[box][ball] = value
    np.save(file, labels)
    return file


def agreement(found: Path, volseg: Path, monai: Path) -> tuple[float, int]:
    """Return the share of equal voxels where definitions agree, and how many others there are.

    MONAI's holes are all that a class encloses, another class too; volseg fills background only.
    Left out are the voxels that have a class in the map and keep it in volseg's result, but get
    another one from MONAI.
    """
    before, ours, theirs = (np.load(file, mmap_mode="r") for file in (found, volseg, monai))
    overwritten = (before != 0) & (theirs != before) & (theirs != 0)
    equal = np.count_nonzero((ours == theirs) & ~overwritten)
    others = int(np.count_nonzero(overwritten))
    return equal / (before.size - others), others


def _with_volseg(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    rules = [FillHoles(), RemoveSmallComponents(min_size_voxels=_SMALLEST), KeepLargest()]
    cleaned: npt.NDArray[Any] = apply_rules(labels, rules)
    return cleaned


def _with_monai(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    classes = range(1, CLASSES)
    filled = MonaiFillHoles(classes, connectivity=1)(torch.from_numpy(labels.copy())[None])
    # Of integers it takes each value for one object; of a mask it finds the objects.
    remove = RemoveSmallObjects(_SMALLEST, connectivity=3)
    kept = torch.zeros_like(filled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of an option that MONAI passes on
        for number in classes:
            kept[remove(filled == number)] = number
    largest = KeepLargestConnectedComponent(classes, is_onehot=False, connectivity=3)
    result: npt.NDArray[Any] = np.asarray(largest(kept))[0]
    return result
