"""Reading the two label maps of a case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from volseg.errors import InputError
from volseg.evaluation.pairs import CasePair
from volseg.geometry import Grid, require_same_grid
from volseg.io import grid_of, on_source_grid, read_image
from volseg.metrics import count_overlaps


@dataclass(frozen=True)
class PairOfMaps:
    """The two label maps of a case, on one grid: integers of `(x, y, z)` or `(x, y)`."""

    prediction: npt.NDArray[Any]
    reference: npt.NDArray[Any]
    grid: Grid

    def values(self) -> list[int]:
        """Return the labels that are in either of them, but for the background."""
        return sorted(count_overlaps(self.prediction, self.reference))


def read_pair(pair: CasePair) -> PairOfMaps:
    """Return the label maps of a case.

    Raises:
        InputError: A file cannot be read, or is no label map.
        GeometryError: The two lie on different grids.
    """
    prediction, grid = read_label_map(pair.prediction)
    reference, reference_grid = read_label_map(pair.reference)
    names = f"the prediction {pair.prediction} and the reference {pair.reference}"
    require_same_grid(grid, reference_grid, what=names)
    return PairOfMaps(prediction, reference, grid)


def read_label_map(path: Path) -> tuple[npt.NDArray[Any], Grid]:
    """Return a label map `(x, y, z)` or `(x, y)`, and its grid.

    Raises:
        InputError: The file cannot be read, or is no label map.
    """
    image = read_image(path)
    if image.shape[0] != 1:
        raise InputError(
            f"{path} has {image.shape[0]} channels; expected a label map with one: a file of one "
            "mask a channel cannot be evaluated."
        )
    try:
        values: npt.NDArray[Any] = on_source_grid(image, image).as_tensor().numpy()[0]
    except InputError as error:
        raise InputError(f"{path} is not a label map: {error}") from error
    return values, grid_of(image)
