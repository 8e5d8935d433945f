"""Series: the frames of a folder, grouped by Series Instance UID, and what was not used."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from volseg.errors import InputError
from volseg.io.dicom.files import (
    HeaderFile,
    Progress,
    UnusedFile,
    read_headers,
    where_images_lie,
    without_pydicom_warnings,
)
from volseg.io.dicom.frames import Frame, frames_of

_MOST_LISTED = 12
_ABOUT = {
    "modality": "Modality",
    "description": "SeriesDescription",
    "study_uid": "StudyInstanceUID",
    "number": "SeriesNumber",
}
# Objects with frames that are no images of a patient to segment: they stand beside the images
# they were made from. Segmentation (bits and label map), RT Dose.
_NO_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation (DICOM SEG)",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation (DICOM SEG)",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiation dose (RT Dose)",
}


@dataclass(frozen=True)
class Series:
    """The frames of one series.

    Attributes:
        uid: Series Instance UID; empty if its files state none.
        modality: such as "CT".
        description: Series Description; empty if there is none.
        study_uid: Study Instance UID.
        number: Series Number as text; empty if there is none.
        frames: all frames, in the order of paths and of places in the files.
        unused: files that belong to the series and give no frame: copies, damaged ones, others.
    """

    uid: str
    modality: str
    description: str
    study_uid: str
    number: str
    frames: tuple[Frame, ...]
    unused: tuple[UnusedFile, ...]

    @property
    def kind(self) -> str:
        """What the series is if its frames are no images to segment, as a phrase; else empty."""
        return _NO_IMAGES.get(self.frames[0].sop_class_uid, "")

    @property
    def file_count(self) -> int:
        """The number of files the frames lie in."""
        return len({frame.path for frame in self.frames})

    def describe(self) -> str:
        """Return a phrase for lists: modality, description, number of frames and UID."""
        description = repr(self.description) if self.description else "without description"
        count = len(self.frames)
        slices = f"{count} slice{'' if count == 1 else 's'}"
        return f"{self.modality or 'modality unknown'} {description}, {slices} ({self.uid})"


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    Attributes:
        source: path as given.
        series: every series with at least one frame, by path of its first file.
        unused: files of no series in `series`, with the reason.
    """

    source: str
    series: tuple[Series, ...]
    unused: tuple[UnusedFile, ...]

    @property
    def damaged(self) -> tuple[UnusedFile, ...]:
        """The unused files that are damaged: any of them may have been a slice."""
        return tuple(file for file in self.unused if file.is_damaged)


def find_series(path: str | os.PathLike[str]) -> list[Series]:
    """Return every DICOM series in a folder, at any depth, or in a file or DICOMDIR.

    Only headers are read. `survey` also says what was not used and why.

    Raises:
        InputError: if there is no such file or folder, or it cannot be listed.
        MissingPackageError: if pydicom is not installed.
    """
    return list(survey(path).series)


def survey(path: str | os.PathLike[str], progress: Progress | None = None) -> Survey:
    """Return the series in a folder, file or DICOMDIR, and the files that are none of it.

    Args:
        path: as for `find_series`.
        progress: called with the number of files that are read, and of all.

    Raises:
        InputError: if there is no such file or folder, or it cannot be listed.
        MissingPackageError: if pydicom is not installed.
    """
    source = Path(path)
    if not source.exists():
        raise InputError(f"cannot read {source}: there is no such file or folder.")
    about: dict[str, dict[str, str]] = {}
    frames: dict[str, list[Frame]] = defaultdict(list)
    unused: list[UnusedFile] = []
    originals: dict[tuple[str, int], Path] = {}
    with without_pydicom_warnings():
        for file in read_headers(source, progress):
            if isinstance(file, UnusedFile):
                unused.append(file)
                continue
            uid = str(file.header.get("SeriesInstanceUID") or "").strip()
            original = _original_of(file, originals)
            if original is not None:
                unused.append(
                    UnusedFile(file.path, f"a copy of {original}", is_copy=True, series_uid=uid)
                )
                continue
            try:
                found = list(frames_of(file))  # of a damaged header none, not the first few
            except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
                reason = f"an image with a damaged header ({error})"
                unused.append(UnusedFile(file.path, reason, is_damaged=True, series_uid=uid))
                continue
            frames[uid].extend(found)
            if uid not in about:
                about[uid] = {name: _text(file, element) for name, element in _ABOUT.items()}
    series = tuple(
        Series(uid, frames=tuple(frames[uid]), unused=_belonging_to(uid, unused), **about[uid])
        for uid in about
    )
    rest = tuple(file for file in unused if not file.series_uid or file.series_uid not in about)
    return Survey(str(source), series, rest)


def choose_series(found: Survey, uid: str | None) -> Series:
    """Return the one series of images, or the one with the given UID.

    Raises:
        InputError: if there is none, or several and none is chosen, or it holds no images; with
            what is there.
    """
    source = found.source
    if uid is not None:
        chosen = next((series for series in found.series if series.uid == uid), None)
        if chosen is None:
            raise InputError(
                f"cannot read {source}: it holds no series with the UID {uid!r}; it holds "
                f"{_listed(found.series) or 'no DICOM image'}."
            )
        if chosen.kind:
            raise InputError(
                f"cannot read {source}: the series {uid} is {chosen.kind} and no image; give the "
                "UID of the series it was made from."
            )
        return chosen
    images = [series for series in found.series if not series.kind]
    if len(images) == 1:
        return images[0]
    if images:
        raise InputError(
            f"cannot read {source}: it holds {len(images)} DICOM series where one is expected: "
            f"{_listed(images)}; choose one by its UID (series=..., --series ...), or segment all "
            "with `volseg cohort run`."
        )
    if found.series:
        kinds = " and ".join(sorted({series.kind for series in found.series}))
        raise InputError(
            f"cannot read {source}: it holds {kinds}, but no image; give the folder of the series "
            "it was made from."
        )
    damaged = "".join(f"; {file.path} is {file.reason}" for file in found.damaged[:_MOST_LISTED])
    advice = where_images_lie(file.path for file in found.unused)
    raise InputError(
        f"cannot read {source}: it holds no DICOM image{damaged}; "
        f"{advice or 'give the folder of a series or an image file'}."
    )


def _text(file: HeaderFile, name: str) -> str:
    try:
        value = file.header.get(name)
    except ValueError:  # it is for people: nothing depends on it
        return ""
    return "" if value is None else str(value).strip()


def _original_of(file: HeaderFile, originals: dict[tuple[str, int], Path]) -> Path | None:
    """Return the file that this one is a copy of, byte for byte; remember it if it is none.

    Files with one SOP Instance UID that differ are kept apart: where they are put into a stack,
    their positions decide.
    """
    uid = str(file.header.get("SOPInstanceUID") or "")
    if not uid:
        return None
    original = originals.setdefault((uid, file.size), file.path)
    if original == file.path or not filecmp.cmp(original, file.path, shallow=False):
        return None
    return original


def _belonging_to(uid: str, unused: Iterable[UnusedFile]) -> tuple[UnusedFile, ...]:
    return tuple(file for file in unused if uid and file.series_uid == uid)


def _listed(series: Iterable[Series]) -> str:
    phrases = [one.describe() for one in series]
    more = len(phrases) - _MOST_LISTED
    return "; ".join(phrases[:_MOST_LISTED]) + (f"; and {more} more" if more > 0 else "")
