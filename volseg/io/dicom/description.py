"""A description of the series in a folder for people: what each is, and whether it can be read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from volseg.errors import InputError
from volseg.geometry import StackError
from volseg.io.dicom.arrangement import Arrangement, arrange
from volseg.io.dicom.files import Progress
from volseg.io.dicom.objects import ObjectDescription, describe_objects
from volseg.io.dicom.series import Series, Survey, survey

_TILTED_DEGREES = 0.05


class Verdict(StrEnum):
    """Whether a series can be read as a volume."""

    READABLE = "readable"
    AFTER_A_CHOICE = "after a choice"
    REFUSED = "refused"


@dataclass(frozen=True)
class SeriesDescription:
    """What a series is; `dataclasses.asdict` of it can be written as JSON.

    Attributes:
        uid: Series Instance UID.
        modality: such as "CT".
        description: Series Description.
        number: Series Number.
        verdict: "readable", "after a choice" or "refused".
        choice: the argument of `read_image` that makes it readable; empty if none is needed.
        reason: why it is not readable as it is, as a sentence; empty if it is.
        positions: places along the normal of the slices that this concerns, in LPS+ mm.
        files: number of files with frames.
        slices: number of slices of a volume; of a refused series the number of its frames.
        time_points: number of volumes at one place.
        told_apart_by: what these differ in.
        matrix: columns and rows.
        channels: 1, or 3 in colour.
        spacing: distance between columns, rows and slices, mm; None where it is not known.
        orientation: axis codes such as "LPS"; None where it is not known.
        tilt_degrees: angle between the slices' normal and the line they are stacked along.
        gaps: smallest and largest distance between neighbouring slices, mm; None of one slice.
        duplicates: number of files that are copies of others.
        transfer_syntaxes: names of the encodings of pixels.
        notes: what else is unusual, one phrase each.
    """

    uid: str
    modality: str
    description: str
    number: str
    verdict: Verdict
    choice: str
    reason: str
    positions: list[float]
    files: int
    slices: int
    time_points: int
    told_apart_by: str
    matrix: list[int]
    channels: int
    spacing: list[float] | None
    orientation: str | None
    tilt_degrees: float | None
    gaps: list[float] | None
    duplicates: int
    transfer_syntaxes: list[str]
    notes: list[str]


@dataclass(frozen=True)
class FolderDescription:
    """What a folder holds; `dataclasses.asdict` of it can be written as JSON.

    Attributes:
        path: as given.
        series: every series of images found.
        objects: what is no image: segmentations, reports and the like.
        unused: path and reason of every file that is part of none.
    """

    path: str
    series: list[SeriesDescription]
    objects: list[ObjectDescription]
    unused: list[dict[str, str]]


def describe_dicom(
    path: str | os.PathLike[str], progress: Progress | None = None
) -> FolderDescription:
    """Return what a folder, a DICOM file or a DICOMDIR holds; only headers are read.

    Args:
        path: folder, file or DICOMDIR.
        progress: called with the number of files that are read, and of all.

    Raises:
        InputError: if there is no such file or folder, or it cannot be listed.
        MissingPackageError: if pydicom is not installed.
    """
    found = survey(path, progress)
    unused = [file for file in found.unused if not file.object_class]
    return FolderDescription(
        path=found.source,
        series=[describe_series(series, found) for series in found.series if not series.kind],
        objects=describe_objects(found),
        unused=[{"path": str(file.path), "reason": file.reason} for file in unused],
    )


def describe_series(series: Series, found: Survey) -> SeriesDescription:
    """Return what a series is, and whether it can be read as a volume."""
    arrangement, error = _attempt(series, found.source)
    verdict, choice = Verdict.READABLE, ""
    if error is not None:
        verdict = Verdict.REFUSED
        if isinstance(error, StackError) and error.choice and not arrangement:
            arrangement, second = _attempt(series, found.source, irregular=True)
            if second is None:
                verdict, choice = Verdict.AFTER_A_CHOICE, "irregular='resample'"
    frame = series.frames[0] if arrangement is None else arrangement.frames[0][0]
    notes = [] if arrangement is None else list(arrangement.notes)
    tilt = None if arrangement is None else float(np.rad2deg(arrangement.stack.tilt))
    if tilt is not None and tilt > _TILTED_DEGREES:
        notes.append("tilted: read with its true, sheared affine (orthogonal=True resamples)")
    return SeriesDescription(
        uid=series.uid,
        modality=series.modality,
        description=series.description,
        number=series.number,
        verdict=verdict,
        choice=choice,
        reason="" if error is None else str(error),
        positions=list(getattr(error, "heights", ())),
        files=series.file_count,
        slices=len(series.frames) if arrangement is None else len(arrangement.frames[0]),
        time_points=1 if arrangement is None else len(arrangement.frames),
        told_apart_by="" if arrangement is None else arrangement.told_apart_by,
        matrix=[frame.format.columns, frame.format.rows],
        channels=frame.format.channels,
        spacing=None if arrangement is None else _rounded(arrangement.stack.affine.spacing),
        orientation=None if arrangement is None else "".join(arrangement.stack.affine.orientation),
        tilt_degrees=None if tilt is None else round(tilt, 3),
        gaps=None if arrangement is None else _gaps(arrangement),
        duplicates=sum(file.is_copy for file in series.unused),
        transfer_syntaxes=sorted({_name(one.format.transfer_syntax) for one in series.frames}),
        notes=notes,
    )


def _attempt(
    series: Series, source: str, *, irregular: bool = False
) -> tuple[Arrangement | None, InputError | None]:
    try:
        return arrange(series, source, irregular=irregular), None
    except InputError as error:
        return None, error


def _gaps(arrangement: Arrangement) -> list[float]:
    gaps = np.diff(arrangement.stack.heights)
    return _rounded((gaps.min(), gaps.max()))


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 6) for value in values]


def _name(transfer_syntax: str) -> str:
    from pydicom.uid import UID  # noqa: PLC0415 - an optional package

    return str(UID(transfer_syntax).name)
