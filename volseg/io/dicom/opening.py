"""A series as a volume: its grid, and the frames in the order of the volume's slices."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volseg.geometry import Grid, SliceStack
from volseg.io.dicom.arrangement import arrange
from volseg.io.dicom.files import without_pydicom_warnings
from volseg.io.dicom.frames import Frame
from volseg.io.dicom.series import Series, choose_series, survey

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenSeries:
    """A series whose frames form a volume, or several at one place; no pixels are held.

    Attributes:
        source: path as given.
        series: the series.
        grid: shape (columns, rows, slices) and RAS+ affine, sheared if the slices are tilted.
        frames: by time point and, within it, by slice along the third axis of the grid.
        stack: where the slices lie; of an irregular stack the grid has more slices than frames.
        told_apart_by: what the time points differ in; empty if there is one.
        notes: what is unusual, one phrase each.
    """

    source: str
    series: Series
    grid: Grid
    frames: tuple[tuple[Frame, ...], ...]
    stack: SliceStack
    told_apart_by: str
    notes: tuple[str, ...]

    def datasets(self) -> tuple[tuple[Any, ...], ...]:
        """Return the pydicom data set of every frame, without pixels, in the order of `frames`.

        Frames of one multi-frame file share its data set.
        """
        paths = dict.fromkeys(frame.path for point in self.frames for frame in point)
        read = _datasets(paths)
        return tuple(tuple(read[frame.path] for frame in point) for point in self.frames)

    def first_dataset(self) -> Any:
        """Return the pydicom data set of the first frame, without pixels."""
        path = self.frames[0][0].path
        return _datasets([path])[path]


def _datasets(paths: Iterable[Path]) -> dict[Path, Any]:
    import pydicom  # noqa: PLC0415 - an optional package

    with without_pydicom_warnings():
        return {path: pydicom.dcmread(path, stop_before_pixels=True, force=True) for path in paths}


def open_series(
    path: str | os.PathLike[str], series: str | None = None, *, irregular: bool = False
) -> OpenSeries:
    """Return a series of a folder as a volume; only headers are read.

    Args:
        path: a folder, searched at any depth; a multi-frame DICOM file; or a DICOMDIR.
        series: Series Instance UID; needed where there are several series of images.
        irregular: whether gaps between slices may differ; `stack.places` then says where the
            frames lie on the grid.

    Raises:
        InputError: if there is no series, or several and none is chosen, or one of an unsupported
            kind or with damaged files.
        GeometryError: if the frames are not a uniform stack.
        MissingPackageError: if pydicom is not installed.
    """
    found = survey(path)
    chosen = choose_series(found, series)
    arrangement = arrange(chosen, found.source, irregular=irregular)
    notes = list(arrangement.notes)
    if arrangement.told_apart_by:
        count = len(arrangement.frames)
        notes.append(f"{count} volumes, told apart by {arrangement.told_apart_by}")
    for file in found.damaged:
        # It may have been a slice at an end of the stack, whose loss nothing else would show.
        _log.warning("%s is not used: %s", file.path, file.reason)
        notes.append(f"{file.path.name} is not used: {file.reason}")
    for frame, reason in arrangement.set_aside:
        _log.warning("%s is set aside: %s", frame.name, reason)
    stored = arrangement.frames[0][0].format
    return OpenSeries(
        source=found.source,
        series=chosen,
        grid=Grid((stored.columns, stored.rows, arrangement.stack.size), arrangement.stack.affine),
        frames=arrangement.frames,
        stack=arrangement.stack,
        told_apart_by=arrangement.told_apart_by,
        notes=tuple(notes),
    )
