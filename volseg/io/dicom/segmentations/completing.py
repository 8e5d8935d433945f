"""Headers of a series, completed so that other objects can refer to it and repeat parts of it.

Anonymisation and old exports leave out or damage what highdicom and the standard require. What is
added here says nothing about the patient: empty values, identifiers that follow from those of the
slices, and the slice thickness where there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from volseg.errors import InputError
from volseg.geometry import Grid
from volseg.io.dicom.segmentations.identity import derived_uid

_log = logging.getLogger(__name__)

_REQUIRED = ("SOPInstanceUID", "SOPClassUID", "Modality")
REPEATED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
"""What objects of a patient and a study repeat, if only as an empty value (type 2)."""
_SHARED = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_SEXES = ("M", "F", "O", "")
_TIMES = ("AS", "DA", "DT", "TM")
_SHARED_GROUPS = ("PlaneOrientationSequence", "PixelMeasuresSequence")


def completed_headers(grid: Grid, headers: Sequence[Any]) -> tuple[Any, ...]:
    """Return copies of the headers of a series with what objects made from it need.

    Where slices state no series, study or frame of reference, or differ in the latter two, they get
    one, which all objects made from them share. Values that break the rules of their type become
    empty.

    Args:
        grid: of the series.
        headers: pydicom datasets of its slices, or of one multi-frame file; they stay as they are.

    Raises:
        InputError: if there are none, they lack what identifies them, or are of several series.
    """
    if not headers:
        raise InputError("a series without slices was given; expected at least one.")
    for header in headers:
        missing = [name for name in _REQUIRED if not _required(header, name)]
        if missing:
            raise InputError(
                f"the DICOM file {getattr(header, 'filename', '')} lacks {', '.join(missing)}, so "
                "no other object can refer to it; export the series again."
            )
    series = sorted({str(header.get("SeriesInstanceUID") or "") for header in headers})
    if len(series) > 1:
        raise InputError(
            f"the slices belong to {len(series)} series, {', '.join(series[:2])}; give those of "
            "one."
        )
    first = min(_required(header, "SOPInstanceUID") for header in headers)
    shared = {name: _common(headers, name, first) for name in _SHARED}
    return tuple(_completed(header, grid, shared) for header in headers)


def _required(header: Any, name: str) -> str:
    """Return what identifies a file; its meta information says it, too."""
    meta = getattr(header, "file_meta", None) or {}
    return str(header.get(name) or meta.get(f"MediaStorage{name}") or "")


def _common(headers: Sequence[Any], name: str, first_slice: str) -> str:
    found = sorted({str(header.get(name) or "") for header in headers})
    if len(found) == 1 and found[0]:
        return found[0]
    _log.warning(
        "the series of the slice %s states %s; its results get one that follows from that slice",
        first_slice,
        f"several values of {name}" if len(found) > 1 else f"no {name}",
    )
    return derived_uid(name, first_slice)


def _completed(header: Any, grid: Grid, shared: dict[str, str]) -> Any:
    from pydicom import Dataset  # noqa: PLC0415 - optional, and there if it made the header
    from pydicom.valuerep import PersonName  # noqa: PLC0415

    added: dict[str, Any] = {}
    completed = Dataset()
    for element in _readable(header):  # texts are decoded on the way
        if element.VR == "PN" and element.VM == 1:
            # Names keep the bytes they were read from, which are wrong in another character set.
            added[element.keyword] = PersonName(str(element.value))
        elif _is_repeatable(element):
            completed.add(element)
    added |= {name: "" for name in REPEATED if name not in completed and name not in added}
    added |= shared | {name: _required(header, name) for name in _REQUIRED}
    if "PerFrameFunctionalGroupsSequence" in header:
        added["SharedFunctionalGroupsSequence"] = [_shared_groups(header)]
    elif not header.get("SliceThickness"):
        added["SliceThickness"] = f"{grid.spacing[2]:.6g}"
    for name, value in added.items():
        if name in completed:
            del completed[name]  # or the caller's element would get the value
        setattr(completed, name, value)
    return completed


def _readable(dataset: Any) -> Iterator[Any]:
    """Yield the elements of a dataset but those that nobody can read, such as of a wrong length."""
    for tag in sorted(dataset.keys()):
        try:
            element = dataset[tag]
        except Exception:  # pydicom raises many types
            _log.debug("%s is not repeated: its value is not of its type", tag)
            continue
        yield element


def _is_repeatable(element: Any) -> bool:
    """Whether an element keeps the rules of the objects it may be repeated in."""
    from pydicom.config import RAISE  # noqa: PLC0415
    from pydicom.valuerep import validate_value  # noqa: PLC0415

    if element.VR == "SQ":
        return bool(element.value)
    if element.keyword == "PatientSex":
        return str(element.value) in _SEXES
    if element.VR not in _TIMES or not element.value:
        return True
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            validate_value(element.VR, str(value), RAISE)
    except ValueError:
        return False
    return True


def _shared_groups(header: Any) -> Any:
    """Return the shared groups with those that each frame repeats, where highdicom expects them."""
    from pydicom import Dataset  # noqa: PLC0415

    groups = Dataset()
    for item in header.get("SharedFunctionalGroupsSequence") or ():
        for element in _readable(item):
            groups.add(element)
    first = header.PerFrameFunctionalGroupsSequence[0]
    for name in _SHARED_GROUPS:
        if name not in groups and name in first:
            groups.add(first[name])
    return groups
