"""What segments stand for, as Slicer keeps it with them."""

from __future__ import annotations

from .bundles import Code, SegmentKind

_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGION_CONTEXT = "Anatomic codes - DICOM master list"


def terminology_entry(segment: SegmentKind) -> str:
    """Return the terminology entry of a segment, as `vtkSegment` has it in its tags.

    Seven parts with tildes between them: context, category, type, modifier of the type, context of
    the region, region, modifier of the region; a code is scheme, value and meaning.
    """
    return "~".join(
        [
            _CONTEXT,
            _code(segment.category),
            _code(segment.type),
            _code(segment.modifier),
            _REGION_CONTEXT,
            _code(segment.region),
            _code(None),
        ]
    )


def _code(code: Code | None) -> str:
    return "^^" if code is None else f"{code.scheme}^{code.value}^{code.meaning}"
