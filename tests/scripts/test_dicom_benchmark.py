"""The benchmark of DICOM reading tells right from wrong."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import dicom
from benchmarks.dicom_series import SERIES, write_series
from benchmarks.timing import write_rows
from volseg.geometry import Affine


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
@pytest.mark.parametrize("name", SERIES)
def test_volseg_reads_what_was_written(tmp_path: Path, name: str) -> None:
    truth = write_series(tmp_path / "series", name, 64, 6)
    ours, simpleitk = dicom.readers(tmp_path / "converted")[:2]
    assert (ours.name, simpleitk.name) == ("volseg", "SimpleITK")
    assert dicom.verdict(ours.volume(ours.read(tmp_path / "series")), truth) == "right"
    found = dicom.verdict(simpleitk.volume(simpleitk.read(tmp_path / "series")), truth)
    assert ("mm off" in found) if "tilt" in name else (found == "right")


def test_series_that_are_measured_are_kept(tmp_path: Path) -> None:
    before = dicom.DicomRow("uncompressed", "volseg", 1.5, dicom.Ratio(1.0, 0.5, 2.0), "right")
    rows = tmp_path / "rows.json"
    write_rows(rows, [before])
    parser = argparse.ArgumentParser()
    dicom.add(parser.add_subparsers())
    words = ["dicom", "--json", str(rows), "--resume", "--series", "uncompressed"]
    arguments = parser.parse_args(words)
    arguments.run(arguments)
    assert [dicom.stored_row(values) for values in json.loads(rows.read_text())] == [before]


def test_wrong_volumes_are_told(tmp_path: Path) -> None:
    truth = write_series(tmp_path / "series", SERIES[0], 16, 4)
    matrix = truth.affine.matrix
    assert dicom.verdict((truth.values[::-1], matrix), truth) == "other values"
    assert dicom.verdict((truth.values[:, :, 1:], matrix), truth) == "shape 16 x 16 x 3"
    moved = matrix.copy()
    moved[0, 3] += 2.0
    assert dicom.verdict((truth.values, moved), truth) == "up to 2.0 mm off"
    # The same volume with its axes in another order and direction is right.
    flipped = truth.values[::-1].transpose(2, 1, 0)
    turned = Affine(matrix).compose(
        Affine(np.array([[0, 0, -1, 15], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]))
    )
    assert dicom.verdict((flipped, turned.matrix), truth) == "right"
