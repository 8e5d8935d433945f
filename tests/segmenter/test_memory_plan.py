"""A plan says what is held where, keeps to its budget, or is refused with the one that would do."""

from __future__ import annotations

import re

import pytest

from volseg.errors import InputError, MemoryLimitError
from volseg.geometry import Affine, Grid
from volseg.inference import Tiling
from volseg.segmenter import MemoryPlan, bytes_of
from volseg.segmenter.memory_plan import Work, plan_memory


def work(*, length: int = 400, classes: int = 25, labels_in_memory: bool = False) -> Work:
    return Work(
        source=Grid((512, 512, length), Affine.from_parts([0.8, 0.8, 1.0])),
        network=Grid((273, 273, int(length / 1.5)), Affine.from_parts([1.5, 1.5, 1.5])),
        channels=1,
        classes=classes,
        tiling=Tiling.blended([96, 96, 96]),
        networks=1,
        passes=1,
        tile_batch=1,
        labels_in_memory=labels_in_memory,
        label_bytes=1,
        interpolates=False,
        disagrees=False,
        maps_in_memory=0,
        maps_on_disk=0,
        cleans=True,
        device="cpu",
    )


def planned(budget: int | None = None, **what) -> MemoryPlan:
    return plan_memory(work(**what), resident=800_000_000, activation=400_000_000, budget=budget)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GB", 4 * 10**9), ("512 MiB", 2**29), ("1.5g", 1_500_000_000), (123456, 123456)],
)
def test_amounts_of_memory(text, expected):
    assert bytes_of(text) == expected


@pytest.mark.parametrize("text", ["", "4 apples", "-1GB", "0", "GB", "1e9"])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(InputError, match="no amount of memory"):
        bytes_of(text)


def test_a_longer_volume_needs_no_more_memory():
    short, long = planned(length=1000), planned(length=4000)
    assert long.expected_peak == short.expected_peak
    assert long.tiles > 3 * short.tiles


def test_a_tighter_budget_takes_smaller_parts():
    comfortable = planned()
    tight = planned(budget=comfortable.expected_peak - 1)
    assert tight.expected_peak < comfortable.expected_peak
    assert tight.block_bytes < comfortable.block_bytes
    assert tight.block_voxels < comfortable.block_voxels


def test_the_budget_that_a_refusal_names_is_accepted():
    with pytest.raises(MemoryLimitError) as refused:
        planned(budget=10**9)
    assert "512 x 512 x 400" in str(refused.value)
    assert "1.00 GB are allowed" in str(refused.value)
    amount = re.search(r"allow (\d+\.\d+ GB)", str(refused.value))
    assert amount is not None
    needed = bytes_of(amount[1])
    assert planned(budget=needed).expected_peak <= needed
    with pytest.raises(MemoryLimitError):
        planned(budget=needed - 20_000_000)


def test_a_label_map_that_is_returned_counts():
    voxels = 512 * 512 * 400
    difference = planned(labels_in_memory=True).expected_peak - planned().expected_peak
    assert difference == voxels


def test_the_plan_is_shown_line_by_line():
    text = planned(budget=8 * 10**9).describe()
    for words in ("logits that are not finished", "label map", "disk", "tiles", "8.00 GB allowed"):
        assert words in text
