"""What `volseg inspect` says of a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from volseg.io.dicom import describe_dicom


def test_a_plain_series_is_readable(synthetic: Any, tmp_path: Path) -> None:
    synthetic(syntax="JPEG-LS", shear=(0.0, 1.0)).write(tmp_path / "in")
    shutil.copy(tmp_path / "in" / "0001", tmp_path / "copy")
    (series,) = describe_dicom(tmp_path).series
    assert (series.uid, series.modality, series.description) == ("1.2.3.4", "CT", "synthetic")
    assert (series.verdict, series.reason, series.choice) == ("readable", "", "")
    assert (series.slices, series.matrix, series.files) == (6, [5, 4], 6)
    assert series.spacing == pytest.approx([0.7, 0.9, 2.692582], abs=1e-5)
    assert series.gaps == pytest.approx([2.5, 2.5])
    assert series.tilt_degrees == pytest.approx(21.801, abs=1e-3)
    assert series.orientation == "LPS"
    assert series.duplicates == 1
    assert series.transfer_syntaxes == ["JPEG-LS Lossless Image Compression"]
    assert any("tilted" in note for note in series.notes)


def test_gaps_are_a_choice_and_say_where(synthetic: Any, tmp_path: Path) -> None:
    synthetic(places=(0, 1, 2, 4, 5, 6)).write(tmp_path)
    (series,) = describe_dicom(tmp_path).series
    assert (series.verdict, series.choice) == ("after a choice", "irregular='resample'")
    assert "equal gaps" in series.reason
    assert series.positions == pytest.approx([75.0, 80.0])
    assert series.gaps == pytest.approx([2.5, 5.0])
    assert (series.slices, series.time_points) == (6, 1)


def test_time_points_are_counted(synthetic: Any, tmp_path: Path) -> None:
    vary = lambda time, number: {"EchoTime": time + 1.0}  # noqa: E731
    synthetic(times=3, vary=vary).write(tmp_path)
    (series,) = describe_dicom(tmp_path).series
    assert (series.slices, series.time_points, series.told_apart_by) == (6, 3, "echo time")


def test_refusals_have_a_reason_and_other_files_too(synthetic: Any, tmp_path: Path) -> None:
    synthetic(times=2, tags={"InstanceNumber": 1}).write(tmp_path / "in")
    (tmp_path / "notes.txt").write_text("hello")
    folder = describe_dicom(tmp_path)
    (series,) = folder.series
    assert series.verdict == "refused"
    assert "nothing in the headers" in series.reason
    assert len(series.positions) == 6
    assert series.spacing is None
    assert folder.unused == [{"path": str(tmp_path / "notes.txt"), "reason": "not a DICOM file"}]
