"""Codes of segments: as dcmqi writes them, and never a guess."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from volseg.errors import InputError
from volseg.io.dicom.segmentations import Code, Segment, coded_segment, read_segments
from volseg.io.dicom.segmentations.segments import TISSUE

LIVER = {"CodeValue": "10200004", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Liver"}


def test_a_label_of_which_nothing_is_known_is_tissue() -> None:
    assert coded_segment(3, "liver", {}, "here") == Segment(3, "liver", TISSUE, TISSUE)


def test_entries_of_dcmqi_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "meta.json"
    entries = [
        {"labelID": 2, "SegmentLabel": "lesion", "AnatomicRegionSequence": LIVER},
        {
            "labelID": 1,
            "SegmentDescription": "liver",
            "SegmentedPropertyTypeCodeSequence": LIVER,
            "recommendedDisplayRGBValue": [221, 130, 101],
        },
    ]
    path.write_text(json.dumps({"segmentAttributes": [[entry] for entry in entries]}))
    first, second = read_segments(path)
    code = Code("10200004", "SCT", "Liver")
    assert first == Segment(1, "liver", TISSUE, code, color=(221, 130, 101))
    assert second == Segment(2, "lesion", TISSUE, TISSUE, regions=(code,))
    path.write_text(path.read_text(), encoding="utf-8-sig")  # as Windows writes it
    assert read_segments(path) == [first, second]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"SegmentedPropertyTypeCodeSequence": {"CodeValue": "1"}}, "CodingSchemeDesignator"),
        ({"SegmentedPropertyTypeCodeSequence": "liver"}, "CodeValue"),
        ({"AnatomicRegionSequence": LIVER | {"CodeMeaning": "x" * 65}}, "at most 64"),
        ({"recommendedDisplayRGBValue": [1, 2, 256]}, "0 to 255"),
    ],
)
def test_damaged_codes_are_refused(entry: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        coded_segment(1, "liver", entry, "the label 1 in meta.json")
    assert "the label 1 in meta.json" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"segmentAttributes": [[{}]]}',
        '{"segmentAttributes": []}',
        '{"segmentAttributes": [[{"labelID": 0}]]}',
        '{"segmentAttributes": [[{"labelID": 1}, {"labelID": 1}]]}',
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(InputError, match=r"cannot (read|use) .*meta\.json"):
        read_segments(tmp_path / "meta.json")
    with pytest.raises(InputError, match="no such file|No such file"):
        read_segments(tmp_path / "missing.json")
