"""Some whole planes of a label map, and of the image under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

MOST_LABELS = 65535
"""The highest label: volseg writes label maps of at most 16 bits."""


@dataclass(frozen=True)
class LabelledPart:
    """Some planes of a volume; the parts of a walk follow on each other along one axis.

    Attributes:
        axis: Spatial axis, from 0, along which the volume is cut.
        start: First plane.
        labels: `(x, y, z)` or `(x, y)` unsigned integers, with only those planes along `axis`.
        image: Float32 of the same voxels in some channels of the image; none in a walk over labels.
        first_channel: Of those; channels may come one after the other.
    """

    axis: int
    start: int
    labels: npt.NDArray[Any]
    image: Sequence[npt.NDArray[Any]] = ()
    first_channel: int = 0
