"""The series a segmentation belongs to: what its objects repeat of it and refer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError, InputError
from volseg.geometry import Grid
from volseg.io.dicom.opening import OpenSeries
from volseg.io.dicom.segmentations.completing import completed_headers

# Positions in text headers are rounded, and gaps may differ a little along a stack.
_TOLERANCE_IN_GAPS = 0.05


@dataclass(frozen=True)
class SourceSlices:
    """The slices of a series in the order of the label map, and their grid.

    Attributes:
        grid: of the volume, (columns, rows, slices).
        headers: pydicom datasets, whose pixels are not needed: one a slice, or a single multi-frame
            one.
        frames: number of each slice's frame in the multi-frame header, from 1; None for slices that
            are files of their own.
    """

    grid: Grid
    headers: tuple[Any, ...]
    frames: tuple[int, ...] | None = None

    @property
    def origins(self) -> npt.NDArray[np.float64]:
        """The centre of the first pixel of each slice, `(slices, 3)`, LPS+ mm, from its header."""
        return np.array([_position(*place) for place in self.places])

    @property
    def places(self) -> list[tuple[Any, int | None]]:
        """The header and the frame number of each slice."""
        if self.frames is None:
            return [(header, None) for header in self.headers]
        return [(self.headers[0], frame) for frame in self.frames]


def functional_group(dataset: Any, frame: int, name: str) -> Any:
    """Return what a multi-frame dataset says of a frame, None if nothing (PS3.3 C.7.6.16).

    Args:
        dataset: of pydicom.
        frame: number of the frame, from 1.
        name: such as "PlanePositionSequence"; it stands with the frame, or once for all of them.
    """
    own = dataset.PerFrameFunctionalGroupsSequence[frame - 1].get(name)
    found = own or dataset.SharedFunctionalGroupsSequence[0].get(name)
    return found[0] if found else None


def source_slices(opened: OpenSeries) -> SourceSlices:
    """Return the slices of an opened series, so that objects can be written for them.

    Raises:
        InputError: if it has several time points, its slices lie in several enhanced files, or a
            header lacks what identifies it.
    """
    if len(opened.frames) != 1:
        raise InputError(
            f"the series in {opened.source} has {len(opened.frames)} time points, and a "
            "segmentation belongs to one: give the slices of one time point only."
        )
    (frames,), (headers,) = opened.frames, opened.datasets()
    if all("PerFrameFunctionalGroupsSequence" not in header for header in headers):
        return checked_source(opened.grid, headers)
    files = len({frame.path for frame in frames})
    if files > 1:
        raise InputError(
            f"the series in {opened.source} lies in {files} enhanced files, to which no "
            "segmentation can refer as one: give one file, or plain files of a slice each."
        )
    return checked_source(opened.grid, headers[:1], [frame.number + 1 for frame in frames])


def checked_source(
    grid: Grid, headers: Sequence[Any], frames: Sequence[int] | None = None
) -> SourceSlices:
    """Return the slices of a series, complete enough that objects can refer to them.

    Args:
        grid: of the volume.
        headers: of the slices in its order, or of the one multi-frame file.
        frames: number of each slice's frame in the multi-frame file, from 1.

    Raises:
        InputError: if a header lacks what identifies it, or the slices are of several series.
        GeometryError: if a slice does not lie where the grid has it.
    """
    completed = completed_headers(grid, headers)
    source = SourceSlices(grid, completed, None if frames is None else tuple(frames))
    _require_on_grid(source)
    return source


def _require_on_grid(source: SourceSlices) -> None:
    grid = source.grid
    if len(grid.shape) != 3 or len(source.places) != grid.shape[2]:
        raise GeometryError(
            f"the series has {len(source.places)} slices, and its grid the shape {grid.shape}; "
            "expected (columns, rows, slices)."
        )
    for header in source.headers:
        size = (int(header.Columns), int(header.Rows))
        if size != grid.shape[:2]:
            raise GeometryError(
                f"a slice has {size[0]} columns and {size[1]} rows, expected {grid.shape[:2]} as "
                "the grid has them."
            )
    matrix = grid.affine.to_lps()
    expected = matrix[:3, 3] + np.arange(grid.shape[2])[:, np.newaxis] * matrix[:3, 2]
    apart = float(np.linalg.norm(source.origins - expected, axis=1).max())
    if apart > _TOLERANCE_IN_GAPS * grid.spacing[2]:
        raise GeometryError(
            f"the slices of the series lie up to {apart:.4g} mm from where the grid has them; give "
            "them in the order of the volume."
        )


def _position(header: Any, frame: int | None) -> list[float]:
    place = header
    if frame is not None:
        place = functional_group(header, frame, "PlanePositionSequence")
    return [float(value) for value in place.ImagePositionPatient]
