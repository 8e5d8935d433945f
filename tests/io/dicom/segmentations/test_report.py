"""Measurements of segments: right numbers, readable by others' programs, referring to the SEG."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from volseg.errors import InputError
from volseg.io.dicom.segmentations import (
    Algorithm,
    Code,
    Segment,
    SegmentMeasurements,
    SourceSlices,
    write_dicom_seg,
    write_measurement_report,
)

MakeSource = Callable[..., tuple[Path, SourceSlices]]
Tool = Callable[..., str]
LIVER = Code("10200004", "SCT", "Liver")
SEGMENTS = (
    Segment(1, "liver", type=LIVER),
    Segment(2, "lesion", regions=(LIVER,)),
    Segment(3, "spleen"),
    Segment(4, "not in this map"),
)


def measured(labels: np.ndarray, image: np.ndarray) -> list[SegmentMeasurements]:
    """Measure with numpy; a voxel of the source has 0.8 x 1.5 x 2.5 mm."""
    found = []
    for segment in SEGMENTS:
        inside = image[labels == segment.number]
        intensities = {}
        if inside.size:
            intensities = {
                "mean": inside.mean(),
                "standard_deviation": inside.std(),
                "minimum": inside.min(),
                "maximum": inside.max(),
                "median": np.median(inside),
            }
        found.append(SegmentMeasurements(segment.number, inside.size * 3.0, **intensities))
    return found


def write(labels: np.ndarray, source: SourceSlices, folder: Path, **options: Any) -> Any:
    segmentation = write_dicom_seg(labels, folder / "seg.dcm", source=source, segments=SEGMENTS)
    image = np.random.default_rng(0).normal(40, 30, labels.shape)
    write_measurement_report(
        measured(labels, image),
        folder / "sr.dcm",
        segmentation=segmentation,
        source=source,
        segments=SEGMENTS,
        algorithm=Algorithm("Liver net", "1.2.3"),
        **options,
    )
    return segmentation, image


def read_by_dcmqi(tool: Tool, folder: Path) -> list[dict[str, Any]]:
    out = folder / "sr.json"
    tool("tid1500reader", "--inputDICOM", folder / "sr.dcm", "--outputMetadata", out)
    groups: list[dict[str, Any]] = json.loads(out.read_text())["Measurements"]
    return groups


def test_dcmqi_reads_the_numbers_and_what_they_are_of(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, tool: Tool
) -> None:
    _, source = make_source(tilt=20)
    segmentation, image = write(labels, source, tmp_path)
    assert "Error" not in tool("dciodvfy", tmp_path / "sr.dcm")
    assert "Attenuation Coefficient" in tool("dsrdump", tmp_path / "sr.dcm")
    groups = read_by_dcmqi(tool, tmp_path)
    assert [group["ReferencedSegment"] for group in groups] == [1, 2, 3, 4]
    for number, group in enumerate(groups, start=1):
        assert group["segmentationSOPInstanceUID"] == segmentation.SOPInstanceUID
        assert group["SourceSeriesForImageSegmentation"] == source.headers[0].SeriesInstanceUID
        found = {
            (
                item["quantity"]["CodeMeaning"],
                item.get("derivationModifier", {}).get("CodeMeaning"),
            ): (float(item["value"]), item["units"]["CodeValue"])
            for item in group["measurementItems"]
        }
        inside = image[labels == number]
        assert found.pop(("Volume", None)) == (pytest.approx(inside.size * 3.0), "mm3")
        if number == 4:
            assert not found
            continue
        expected = {
            "Mean": inside.mean(),
            "Standard Deviation": inside.std(),
            "Minimum": inside.min(),
            "Maximum": inside.max(),
            "Median": np.median(inside),
        }
        assert found == {
            ("Attenuation Coefficient", name): (pytest.approx(value, rel=1e-8), "[hnsf'U]")
            for name, value in expected.items()
        }
    assert groups[0]["Finding"]["CodeMeaning"] == "Liver"
    assert groups[1]["FindingSite"]["CodeMeaning"] == "Liver"
    assert groups[0]["measurementAlgorithmIdentification"] == {
        "AlgorithmName": "Liver net",
        "AlgorithmVersion": "1.2.3",
    }


@pytest.mark.parametrize(
    ("tags", "suv", "quantity", "unit"),
    [
        ({"Modality": "MR"}, False, "MR signal intensity", "1"),
        ({"Modality": "PT", "Units": "BQML"}, False, "Mean", "Bq/ml"),
        ({"Modality": "PT", "Units": "BQML"}, True, "SUVbw", "g/ml{SUVbw}"),
        ({"Modality": "PT", "Units": "GML"}, False, "SUVbw", "g/ml{SUVbw}"),
        ({"Modality": "PT", "Units": "GML", "SUVType": "LBM"}, False, "Mean", "1"),
        ({"RescaleType": "US"}, False, "Mean", "1"),
    ],
)
def test_units_are_those_of_the_values(
    make_source: MakeSource,
    labels: np.ndarray,
    tmp_path: Path,
    tool: Tool,
    tags: dict[str, str],
    suv: bool,
    quantity: str,
    unit: str,
) -> None:
    _, source = make_source(**tags)
    write(labels, source, tmp_path, suv=suv)
    assert "Error" not in tool("dciodvfy", tmp_path / "sr.dcm")
    found = {
        (item["quantity"]["CodeMeaning"].lower(), item["units"]["CodeValue"])
        for item in read_by_dcmqi(tool, tmp_path)[0]["measurementItems"]
    }
    assert (quantity.lower(), unit) in found
    assert {code for _, code in found} == {"mm3", unit}


def test_the_same_labels_give_the_same_file_when_asked(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    image = np.zeros(labels.shape)
    about: dict[str, Any] = {"source": source, "segments": SEGMENTS, "stable": True}
    files = []
    for _ in range(2):
        seg = write_dicom_seg(labels, tmp_path / "seg.dcm", **about)
        written = measured(labels, image)
        write_measurement_report(written, tmp_path / "sr.dcm", segmentation=seg, **about)
        files.append((tmp_path / "sr.dcm").read_bytes())
    assert files[0] == files[1]
    written = measured(labels, image + 1)
    write_measurement_report(written, tmp_path / "sr.dcm", segmentation=seg, **about)
    assert (tmp_path / "sr.dcm").read_bytes() != files[0]


def test_what_does_not_belong_together_is_refused(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    segmentation, image = write(labels, source, tmp_path)
    about: dict[str, Any] = {"source": source, "segmentation": segmentation}
    found = measured(labels, image)
    target = tmp_path / "no.dcm"
    with pytest.raises(InputError, match=r"describes no segment 5 \(other\)"):
        write_measurement_report(found, target, segments=(*SEGMENTS, Segment(5, "other")), **about)
    with pytest.raises(InputError, match=r"segment 4 \(not in this map\) is not measured"):
        write_measurement_report(found[:3], target, segments=SEGMENTS, **about)
    assert not target.exists()
