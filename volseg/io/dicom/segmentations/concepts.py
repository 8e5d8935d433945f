"""Terms of coding schemes as items of DICOM objects."""

from __future__ import annotations

from typing import Any

from volseg.io.dicom.segmentations.segments import Code


def code_item(code: Code) -> Any:
    """Return a pydicom item of a code sequence (DICOM PS3.3 8.8)."""
    from pydicom.dataset import Dataset  # noqa: PLC0415 - optional, and there if something is made

    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item


def concept(code: Code) -> Any:
    """Return a code as highdicom takes it."""
    from highdicom.sr import CodedConcept  # noqa: PLC0415 - likewise

    return CodedConcept(code.value, code.scheme, code.meaning)


def standard_concept(scheme: str, keyword: str) -> Any:
    """Return a code by its name in the dictionaries of pydicom, such as `"DCM", "Device"`."""
    from pydicom.sr.codedict import codes  # noqa: PLC0415

    return getattr(getattr(codes, scheme), keyword)
