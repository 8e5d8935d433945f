"""The cases of a folder without a manifest: all images and DICOM series below it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from volseg.cohort.case import CohortCase, require_usable_names
from volseg.errors import InputError
from volseg.io import SUFFIXES, image_name
from volseg.io.dicom import survey
from volseg.io.folders import walked
from volseg.io.formats import ImageFormat, format_of_input, format_of_name
from volseg.segmenter import is_result

# The second file of a NIfTI pair is found through its .hdr.
_IMAGES = tuple(suffix for suffix in SUFFIXES if suffix != ".img")
_PICTURES = (ImageFormat.PNG, ImageFormat.TIFF, ImageFormat.JPEG)


def find_cases(folder: str | Path, *, without: str | Path | None = None) -> list[CohortCase]:
    """Return a case for each image file and each DICOM series below a folder, sorted.

    A case is called after its path in the folder: ``sub-01/ct.nii.gz`` gives ``sub-01_ct``, the
    only series in ``sub-02/ct`` gives ``sub-02_ct``, one of several ends in its UID. Hidden files
    and folders are left out, and so are results, which a record beside them tells, and pictures
    beside DICOM images, which came with them. Links are followed. Of a folder whose DICOM images
    are all damaged there is a case, too, which will fail.

    Args:
        folder: Searched at any depth.
        without: A folder that is not looked into, such as that of the results.

    Raises:
        InputError: There is no such folder, nothing in it, one in it cannot be listed, or a series
            lies in several folders.
        MissingPackageError: There are DICOM files, and pydicom is not installed.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give a folder of images or a manifest.")
    cases: list[CohortCase] = []
    folders_of: defaultdict[str, set[Path]] = defaultdict(set)
    for inner, files in _folders(folder, None if without is None else Path(without).resolve()):
        images = [name for name in files if name.lower().endswith(_IMAGES)]
        holds_dicom = any(_is_dicom(inner / name) for name in set(files).difference(images))
        uids, is_damaged = _scans_in(inner) if holds_dicom else ([], False)
        cases += [
            _image_case(folder, inner / name)
            for name in images
            if not is_result(inner, image_name(name))
            and not ((uids or is_damaged) and format_of_name(name) in _PICTURES)
        ]
        if is_damaged:
            cases.append(CohortCase(_name(folder, inner), str(inner)))  # reading it says why
        for uid in uids:
            # Series without UID are told apart by their folders, unless one lies in the other.
            others = folders_of[uid] if uid else folders_of[uid].intersection(inner.parents)
            if others:
                series = f"the series {uid}" if uid else "a series without UID"
                raise InputError(
                    f"files of {series} lie in {min(others)} and in {inner}: bring them together, "
                    "or list the cases in a manifest."
                )
            folders_of[uid].add(inner)
        cases += _series_cases(folder, inner, uids)
    if not cases:
        raise InputError(
            f"nothing below {folder} is an image: expected files ending in {', '.join(_IMAGES)}, "
            "or DICOM series."
        )
    cases.sort(key=lambda case: case.case)
    require_usable_names(cases, folder)
    return cases


def _folders(folder: Path, left_out: Path | None) -> Iterator[tuple[Path, list[str]]]:
    for inner, folders, files in walked(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (inner / name).resolve() != left_out
        ]
        yield inner, [name for name in files if not name.startswith(".")]


def _image_case(folder: Path, image: Path) -> CohortCase:
    return CohortCase(_name(folder, image.with_name(image_name(image))), str(image))


def _series_cases(folder: Path, inner: Path, uids: list[str]) -> list[CohortCase]:
    name = _name(folder, inner)
    if len(uids) == 1:
        return [CohortCase(name, str(inner), series=uids[0] or None)]
    return [CohortCase(f"{name}_{uid}", str(inner), series=uid) for uid in uids]


def _scans_in(folder: Path) -> tuple[list[str], bool]:
    """Return the series of images with files in a folder itself, and whether all are damaged."""
    found = survey(folder)
    scans = [series for series in found.series if not series.kind]
    is_damaged = not scans and any(file.path.parent == folder for file in found.damaged)
    # Others come with the folders that they lie in.
    uids = [
        series.uid
        for series in scans
        if any(frame.path.parent == folder for frame in series.frames)
    ]
    return uids, is_damaged


def _is_dicom(path: Path) -> bool:
    try:
        return format_of_input(path) is ImageFormat.DICOM
    except InputError:  # a file of another kind
        return False


def _name(folder: Path, path: Path) -> str:
    return "_".join(path.relative_to(folder).parts) or folder.name
