"""Label maps with values 1 to N, in the order of the bundle's classes.

3D Slicer's plugin of MONAI Label takes the n-th name for the value n: of a bundle whose values have
gaps, such as liver 1 and tumour 5, it would show an empty tumour.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def contiguous_labels(labels: Mapping[str, int]) -> dict[str, int]:
    """Return the classes in the order of their values, numbered from 1."""
    ordered = sorted(labels, key=lambda name: labels[name])
    return {name: number for number, name in enumerate(ordered, start=1)}


def make_contiguous(path: Path, labels: Mapping[str, int]) -> None:
    """Renumber the label map in a file; nothing is done where its values are 1 to N already.

    Raises:
        OutputError: it cannot be written.
    """
    from volseg.io import read_image, write_segmentation  # noqa: PLC0415 - MONAI, seconds

    wanted = contiguous_labels(labels)
    if wanted == dict(labels):
        return
    image = read_image(path)
    values = image.as_tensor().numpy()[0].astype(np.int64)
    table = np.zeros(max(int(values.max()), *labels.values()) + 1, np.uint16)
    for name, value in labels.items():
        table[value] = wanted[name]
    write_segmentation(table[values], path, like=image)
