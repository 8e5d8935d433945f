"""Objects that are no images: segmentations, structure sets, reports, presentation states, doses.

They stand beside the series they were made from, and are told by what they hold and refer to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from volseg.io.dicom.files import class_name, without_pydicom_warnings
from volseg.io.dicom.header import Header
from volseg.io.dicom.header_reading import first_bytes, read_header
from volseg.io.dicom.series import Survey

_KINDS = {
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation (DICOM SEG)",
    "1.2.840.10008.5.1.4.1.1.66.7": "segmentation (DICOM SEG, label map)",
    "1.2.840.10008.5.1.4.1.1.481.3": "structure set (RTSTRUCT)",
    "1.2.840.10008.5.1.4.1.1.481.2": "radiation dose (RT Dose)",
    "1.2.840.10008.5.1.4.1.1.481.5": "treatment plan (RT Plan)",
}
# (sequence, element of its items): parts that have names.
_PARTS = (
    ("SegmentSequence", "SegmentLabel"),
    ("StructureSetROISequence", "ROIName"),
    ("ConceptNameCodeSequence", "CodeMeaning"),  # the title of a report
)
_NAMES = ("RTPlanLabel", "StructureSetLabel", "ContentLabel", "DocumentTitle", "DoseSummationType")
# Sequences in whose items, at some depth, the series stand that an object refers to.
_REFERENCES = (
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
    "RTReferencedStudySequence",
    "RTReferencedSeriesSequence",
    "CurrentRequestedProcedureEvidenceSequence",
    "PertinentOtherEvidenceSequence",
)


@dataclass(frozen=True)
class ObjectDescription:
    """Files of one series and class that are no images.

    Attributes:
        kind: what they are, as a phrase.
        uid: Series Instance UID.
        modality: such as "SEG" or "SR".
        description: Series Description.
        files: how many there are.
        path: of the first one.
        parts: names of what it holds: segments, structures, the title of a report.
        refers_to: Series Instance UIDs that it refers to.
    """

    kind: str
    uid: str
    modality: str
    description: str
    files: int
    path: str
    parts: list[str]
    refers_to: list[str]


def describe_objects(found: Survey) -> list[ObjectDescription]:
    """Return what is in a folder beside images, by path of the first file."""
    members: dict[tuple[str, str], dict[Path, None]] = defaultdict(dict)
    for uid, object_class, path in _objects(found):
        members[uid, object_class][path] = None
    with without_pydicom_warnings():
        described = [_described(*of, list(paths)) for of, paths in members.items()]
    return sorted(described, key=lambda one: one.path)


def _objects(found: Survey) -> Iterator[tuple[str, str, Path]]:
    for series in found.series:
        if series.kind:
            for path in dict.fromkeys(frame.path for frame in series.frames):
                yield series.uid, series.frames[0].sop_class_uid, path
    for file in (*found.unused, *(file for series in found.series for file in series.unused)):
        if file.object_class:
            yield file.series_uid, file.object_class, file.path


def _described(uid: str, object_class: str, paths: list[Path]) -> ObjectDescription:
    try:
        with paths[0].open("rb") as stream:
            header = read_header(stream, first_bytes(stream), {}).header
            modality = _text(header, "Modality")
            description = _text(header, "SeriesDescription")
            parts, refers_to = _parts(header), list(dict.fromkeys(_references(header)))
    except Exception:
        # What it is was read before; what it holds is damaged, which pydicom says in many types.
        modality, description, parts, refers_to = "", "", [], []
    return ObjectDescription(
        kind=_KINDS.get(object_class) or class_name(object_class),
        uid=uid,
        modality=modality,
        description=description,
        files=len(paths),
        path=str(paths[0]),
        parts=parts,
        refers_to=refers_to,
    )


def _text(header: Header, name: str) -> str:
    value = header.get(name)
    return "" if value is None else str(value).strip()


def _parts(header: Header) -> list[str]:
    """Return the names of what an object holds, or its own."""
    for sequence, element in _PARTS:
        names = [_text(item, element) for item in header.get(sequence) or ()]
        if any(names):
            return names
    return [text for name in _NAMES if (text := _text(header, name))][:1]


def _references(header: Header) -> Iterator[str]:
    for name in _REFERENCES:
        for item in header.get(name) or ():
            uid = _text(item, "SeriesInstanceUID")
            if uid:
                yield uid
            yield from _references(item)
