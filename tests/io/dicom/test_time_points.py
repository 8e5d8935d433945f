"""Repeated positions: several volumes where the headers say so, a refusal where they do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from volseg.geometry import StackError
from volseg.io import read_image
from volseg.io.dicom import open_series

Tags = dict[str, Any]

# (what the series is told apart by, the tags of a volume and slice)
TOLD_APART: list[tuple[str, Callable[[int, int], Tags]]] = [
    ("echo time", lambda time, number: {"EchoTime": 3 + 2.5 * time}),
    ("temporal position", lambda time, number: {"TemporalPositionIdentifier": 9 + time}),
    ("b-value", lambda time, number: {"DiffusionBValue": 400.0 * time}),
    (
        "phase of the cardiac cycle",
        lambda time, number: {"NominalPercentageOfCardiacPhase": 10 * time},
    ),
    ("trigger time", lambda time, number: {"TriggerTime": 37.5 * time + 3 * number}),
    ("acquisition time", lambda time, number: {"AcquisitionTime": f"1015{10 * time + number:02d}"}),
    (
        "acquisition time",  # across midnight
        lambda time, number: {
            "AcquisitionDate": f"2020010{1 + time}",
            "AcquisitionTime": f"{23 - 11 * time:02d}0000",
        },
    ),
    ("content time", lambda time, number: {"ContentTime": f"1015{20 * time:02d}.{number}"}),
    ("acquisition number", lambda time, number: {"AcquisitionNumber": 5 + time}),
    ("instance number", lambda time, number: {}),
    ("instance number", lambda time, number: {"InstanceNumber": 3 * number + time}),
]


@pytest.mark.parametrize(("by", "vary"), TOLD_APART)
def test_volumes_are_split_by_what_tells_them_apart(
    synthetic: Any, tmp_path: Path, by: str, vary: Callable[[int, int], Tags]
) -> None:
    truth = synthetic(times=3, vary=vary).write(tmp_path)
    assert open_series(tmp_path).told_apart_by == by
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.numpy(), truth.values)


def test_echoes_and_times_are_split_together(synthetic: Any, tmp_path: Path) -> None:
    def vary(time: int, number: int) -> Tags:
        return {"EchoTime": [4.0, 9.0][time % 2], "AcquisitionTime": f"10{time // 2:02d}00"}

    truth = synthetic(times=6, vary=vary).write(tmp_path)
    opened = open_series(tmp_path)
    assert opened.told_apart_by == "echo time and acquisition time"
    # Echo by echo, within each time by time.
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values[[0, 2, 4, 1, 3, 5]])


@pytest.mark.parametrize(
    ("creator", "element", "value"),
    [
        ("SIEMENS MR HEADER", 0x0019100C, ("IS", [0, 800])),
        ("Philips Imaging DD 001", 0x20011003, ("FL", [0.0, 800.0])),
        ("GEMS_PARM_01", 0x00431039, ("IS", [[1_000_000_000, 8, 0], [1_000_000_800, 8, 0]])),
    ],
)
def test_private_b_values_are_known(
    synthetic: Any, tmp_path: Path, creator: str, element: int, value: tuple[str, list[Any]]
) -> None:
    truth = synthetic(times=2).write(tmp_path)
    for file in tmp_path.iterdir():
        dataset = pydicom.dcmread(file)
        time = (int(dataset.InstanceNumber) - 1) // 6
        dataset.add_new((element >> 16, 0x0010), "LO", creator)
        dataset.add_new(element, value[0], value[1][time])
        dataset.save_as(file)
    assert open_series(tmp_path).told_apart_by == "b-value"
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


def test_frames_of_a_multi_frame_file_are_split(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic(times=4, is_multi_frame=True).write(tmp_path)
    assert open_series(tmp_path).told_apart_by == "temporal position"
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


def test_dimensions_of_a_multi_frame_file_are_heard(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic(times=2, is_multi_frame=True).write(tmp_path)
    dataset = pydicom.dcmread(tmp_path / "multi")
    dimensions = []
    for pointer in (0x00209057, 0x00189321):  # place in the stack, and one of no name here
        dimension = pydicom.Dataset()
        dimension.DimensionIndexPointer = pointer
        dimensions.append(dimension)
    dataset.DimensionIndexSequence = dimensions
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        content = groups.FrameContentSequence[0]
        place = groups.PlanePositionSequence[0].ImagePositionPatient[2]
        content.DimensionIndexValues = [round(place * 10), content.TemporalPositionIndex]
        del content.TemporalPositionIndex
    dataset.save_as(tmp_path / "multi")
    assert open_series(tmp_path).told_apart_by == "dimension index"
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


@pytest.mark.parametrize(
    "vary",
    [
        lambda time, number: {"InstanceNumber": 1},
        # Numbered neither volume by volume nor position by position.
        lambda time, number: {"InstanceNumber": [3, 0, 1, 5, 2, 4][number] + 2 * time},
        lambda time, number: {"InstanceNumber": 1, "EchoTime": 5.0 + (time if number else 0)},
    ],
)
def test_what_nothing_tells_apart_is_refused(
    synthetic: Any, tmp_path: Path, vary: Callable[[int, int], Tags]
) -> None:
    synthetic(times=2, vary=vary).write(tmp_path)
    with pytest.raises(StackError, match="got 2 at every position, and nothing") as caught:
        read_image(tmp_path)
    assert len(caught.value.heights) == 6


def test_an_incomplete_volume_is_refused_with_its_slices(synthetic: Any, tmp_path: Path) -> None:
    synthetic(times=3, vary=lambda time, number: {"EchoTime": time + 1.0}).write(tmp_path)
    third = [
        file for file in tmp_path.iterdir() if pydicom.dcmread(file).ImagePositionPatient[2] == 75.0
    ]
    third[0].unlink()
    with pytest.raises(StackError, match=r"3 at most positions but 2 at 75.000 mm") as caught:
        read_image(tmp_path)
    assert caught.value.heights == pytest.approx([75.0])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ImagePositionPatient", [80, 0, 0]),  # the other knee
        ("ImagePositionPatient", [0, 0.02, 0]),  # a patient who moved
        ("ImageOrientationPatient", [0, 0.003, 0, -0.003, 0, 0]),
    ],
)
def test_volumes_beside_each_other_are_refused(
    synthetic: Any, tmp_path: Path, name: str, change: list[float]
) -> None:
    synthetic(times=3).write(tmp_path)
    for file in tmp_path.iterdir():
        dataset = pydicom.dcmread(file)
        if dataset.InstanceNumber > 12:
            setattr(dataset, name, (np.array(dataset[name].value) + change).tolist())
            dataset.save_as(file)
    with pytest.raises(StackError, match="must lie on the same grid") as caught:
        read_image(tmp_path)
    assert len(caught.value.heights) == 6
