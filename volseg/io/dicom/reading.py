"""Reading of a DICOM series as an image, as a whole or some slices at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from volseg.io.dicom.frames import Frame
from volseg.io.dicom.opening import OpenSeries, open_series
from volseg.io.dicom.options import DicomOptions
from volseg.io.dicom.pet import suv_frames
from volseg.io.dicom.pixels import true_values
from volseg.io.dicom.resampling import along_slices, upright
from volseg.io.stored_image import StoredImage
from volseg.io.volume_block import VolumeBlock, cuts


@dataclass(frozen=True)
class PreparedSeries:
    """A series of which all is known but the pixels.

    Attributes:
        opened: the series as a volume.
        points: its frames by time point and slice, with the slope and intercept that are wanted.
        is_sheared_away: whether slices are to be resampled at right angles.
        remarks: what is unusual or was asked for, one phrase each.
        meta: entries for the MetaTensor.
    """

    opened: OpenSeries
    points: tuple[tuple[Frame, ...], ...]
    is_sheared_away: bool
    remarks: list[str]
    meta: dict[str, int | float | str]

    @property
    def is_resampled(self) -> bool:
        """Whether the image has other slices than the series."""
        return self.is_sheared_away or not self.opened.stack.is_regular

    @property
    def is_colour(self) -> bool:
        """Whether the channels of the image are colours, not time points."""
        return self.points[0][0].format.channels > 1


def prepare_dicom(path: Path, options: DicomOptions | None = None) -> PreparedSeries:
    """Return a series with its pixels unread; arguments and errors are those of `read_dicom`."""
    options = options or DicomOptions()
    opened = open_series(path, options.series, irregular=options.irregular is not None)
    points = opened.frames
    remarks = list(opened.notes)
    meta: dict[str, int | float | str] = {
        "modality": opened.series.modality,
        "series_instance_uid": opened.series.uid,
    }
    if any(f.slope != 1.0 or f.intercept != 0.0 for point in points for f in point):
        remarks.append("values rescaled by slope and intercept")
    if options.suv:
        points, how = suv_frames(opened)
        remarks.append(how)
        meta["unit"] = "g/ml"
    if not opened.stack.is_regular:
        remarks.append(
            f"{len(points[0])} slices at unequal distances resampled to {opened.stack.size} of "
            f"{opened.grid.spacing[2]:.4g} mm"
        )
    is_sheared_away = options.orthogonal and not opened.grid.affine.is_orthogonal()
    if is_sheared_away:
        remarks.append("tilted slices resampled at right angles")
    return PreparedSeries(opened, points, is_sheared_away, remarks, meta)


def read_dicom(path: Path, options: DicomOptions | None = None) -> StoredImage:
    """Return a series as (channels, columns, rows, slices) true values.

    The first slice is the one with the lowest position along row x column, which makes the axes
    right-handed in the world. Time points or colours are channels.

    Args:
        path: a folder, searched at any depth; a multi-frame DICOM file; or a DICOMDIR.
        options: which series, and what may be done to its geometry and values.

    Raises:
        InputError: if there is no series, or several and none is chosen, or one of an unsupported
            kind or with damaged files.
        GeometryError: if the frames are not a uniform stack.
        MissingPackageError: if pydicom is not installed.
    """
    return read_prepared(prepare_dicom(path, options))


def read_prepared(prepared: PreparedSeries) -> StoredImage:
    """Return what `read_dicom` gives for a series whose headers are read."""
    opened = prepared.opened
    values, affine = true_values(prepared.points), opened.grid.affine
    if not opened.stack.is_regular:
        values = along_slices(values, opened.stack)
    if prepared.is_sheared_away:
        values, affine = upright(values, affine)
    return StoredImage(
        values=values,
        affine=affine,
        format="DICOM series",
        stored_type=str(prepared.points[0][0].format.value_type),
        source=opened.source,
        remarks=prepared.remarks,
        meta=prepared.meta,
    )


def dicom_blocks(points: Sequence[Sequence[Frame]], voxels: int) -> Iterator[VolumeBlock]:
    """Yield grey values some slices at a time, decoded as they are asked for.

    Args:
        points: frames by time point, which is the channel, and slice.
        voxels: values a block may have; it has at least one slice.
    """
    stored = points[0][0].format
    plane = stored.rows * stored.columns
    for channel, start, stop in cuts(len(points), len(points[0]), plane, voxels):
        values = true_values([point[start:stop] for point in points[channel]])
        yield VolumeBlock(channel, 2, start, stop, values)
