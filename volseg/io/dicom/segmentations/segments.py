"""What the labels of a label map mean, in the codes of DICOM.

Codes are written as dcmqi (https://github.com/QIICR/dcmqi) and 3D Slicer write them in JSON, so
that entries of theirs can be used as they are. A label of which nothing is known is "Tissue"
(SNOMED CT 85756007), category and type, as in 3D Slicer: never an organ guessed from its name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volseg.errors import InputError
from volseg.io.dicom.segmentations.identity import Algorithm
from volseg.label_colors import Color, label_color

_CODE_KEYS = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_LONGEST = {"CodeValue": 16, "CodingSchemeDesignator": 16, "CodeMeaning": 64}  # SH, SH, LO


@dataclass(frozen=True)
class Code:
    """A term of a coding scheme (DICOM PS3.3 section 8).

    Attributes:
        value: such as "10200004".
        scheme: its coding scheme, such as "SCT" for SNOMED CT.
        meaning: in words, such as "Liver".
    """

    value: str
    scheme: str
    meaning: str


TISSUE = Code("85756007", "SCT", "Tissue")


@dataclass(frozen=True)
class Segment:
    """What one label stands for (DICOM PS3.3 C.8.20.4).

    Attributes:
        number: the label's value, from 1.
        name: as people call it.
        category: what kind of thing it is (context group 7150).
        type: what it is.
        modifiers: of the type, such as its side.
        regions: where in the body it lies.
        color: red, green and blue from 0 to 255 to show it in; that of the label everywhere in
            volseg without it.
        algorithm: what made it, where that is known of it alone.
    """

    number: int
    name: str
    category: Code = TISSUE
    type: Code = TISSUE
    modifiers: tuple[Code, ...] = ()
    regions: tuple[Code, ...] = ()
    color: Color | None = None
    algorithm: Algorithm | None = None

    @property
    def label(self) -> str:
        """The name as DICOM takes it: up to 64 printable characters, no separator of values."""
        printable = "".join(letter if letter.isprintable() else " " for letter in self.name)
        return printable.replace("\\", "/").strip()[:64]

    @property
    def shown_color(self) -> Color:
        """The colour to show it in."""
        return self.color or label_color(self.number)


def unnamed_segments(numbers: Iterable[int]) -> list[Segment]:
    """Return segments of labels of which only the values are known."""
    return [Segment(int(number), f"label {int(number)}") for number in sorted(numbers)]


def color_unless_usual(color: Color, number: int) -> Color | None:
    """Return the colour that a file gives a segment, None if any segment of that number has it."""
    return None if color == label_color(number) else color


def coded_segment(number: int, name: str, entry: Mapping[str, Any], where: str) -> Segment:
    """Return a segment of an entry of dcmqi's `segmentAttributes`; all of its keys are optional.

    Args:
        number: the label's value.
        name: as people call it.
        entry: with `SegmentedPropertyCategoryCodeSequence`, `SegmentedPropertyTypeCodeSequence`,
            `SegmentedPropertyTypeModifierCodeSequence`, `AnatomicRegionSequence` and
            `recommendedDisplayRGBValue`.
        where: names the entry in messages.

    Raises:
        InputError: if the entry is damaged.
    """
    kind = _codes(entry, "SegmentedPropertyTypeCodeSequence", where)
    category = _codes(entry, "SegmentedPropertyCategoryCodeSequence", where)
    color = entry.get("recommendedDisplayRGBValue")
    if color is not None and not _is_color(color):
        raise InputError(
            f"{where} has the recommendedDisplayRGBValue {color!r}; expected three whole numbers "
            "from 0 to 255."
        )
    return Segment(
        number=number,
        name=name,
        category=category[0] if category else TISSUE,
        type=kind[0] if kind else TISSUE,
        modifiers=_codes(entry, "SegmentedPropertyTypeModifierCodeSequence", where),
        regions=_codes(entry, "AnatomicRegionSequence", where),
        color=None if color is None else (color[0], color[1], color[2]),
    )


def read_segments(path: str | os.PathLike[str]) -> list[Segment]:
    """Return the segments of a JSON file as dcmqi reads and writes it, by rising value.

    Raises:
        InputError: if it is missing or damaged, or a value appears twice.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        groups = content["segmentAttributes"]
        entries = [entry for group in groups for entry in group]
        segments = [
            coded_segment(
                int(entry["labelID"]),
                str(entry.get("SegmentLabel") or entry.get("SegmentDescription") or "")
                or f"label {entry['labelID']}",
                entry,
                f"the label {entry['labelID']} in {path}",
            )
            for entry in entries
        ]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read {path}: expected the JSON of dcmqi, with segmentAttributes, a list of "
            f"lists of entries with a labelID each ({type(error).__name__}: {error})."
        ) from error
    numbers = [segment.number for segment in segments]
    if len(set(numbers)) < len(numbers) or not numbers or min(numbers) < 1:
        raise InputError(
            f"cannot use {path}: its labels are {numbers}; expected each once, from 1 on."
        )
    return sorted(segments, key=lambda segment: segment.number)


def described_segments(found: Sequence[int], segments: Sequence[Segment] | None) -> list[Segment]:
    """Return the segments of an object by rising number; `unnamed_segments` if none are given.

    Args:
        found: the labels of the map.
        segments: what they stand for, and what others that were looked for do.

    Raises:
        InputError: if there is none, a number appears twice, or a label is not described.
    """
    described = unnamed_segments(found) if segments is None else list(segments)
    if not described:
        raise InputError(
            "a DICOM object of segments needs at least one segment, but the label map is empty and "
            "none is described: describe those that were looked for."
        )
    require_described(found, described)
    return sorted(described, key=lambda segment: segment.number)


def require_described(found: Sequence[int], segments: Sequence[Segment]) -> None:
    """Raise unless every label that was found is described, and none twice.

    Raises:
        InputError: with the values.
    """
    described = [segment.number for segment in segments]
    if len(set(described)) < len(described):
        raise InputError(f"the segments have the numbers {described}; expected each once.")
    unknown = sorted(set(found) - set(described))
    if unknown:
        raise InputError(
            f"the label map holds {', '.join(map(str, unknown[:8]))}, which no segment describes; "
            f"described are {', '.join(map(str, sorted(described))) or 'none'}: add them, or clear "
            "these labels."
        )


def _codes(entry: Mapping[str, Any], key: str, where: str) -> tuple[Code, ...]:
    given = entry.get(key) or ()
    listed = [given] if isinstance(given, Mapping) else list(given)
    codes = []
    for code in listed:
        words = [code.get(name) for name in _CODE_KEYS] if isinstance(code, Mapping) else [None]
        if not all(isinstance(word, str) and word.strip() for word in words) or any(
            len(str(word)) > _LONGEST[name] for word, name in zip(words, _CODE_KEYS, strict=False)
        ):
            raise InputError(
                f"{where} has the {key} {code!r}; expected CodeValue and CodingSchemeDesignator of "
                "at most 16 and CodeMeaning of at most 64 characters."
            )
        codes.append(Code(*(str(word) for word in words)))
    return tuple(codes)


def _is_color(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in value)
    )
