"""A plan says what is held where, keeps to its budget, or is refused with the one that would do."""

from __future__ import annotations

import re

import pytest
import torch

from volseg.errors import InputError, MemoryLimitError
from volseg.geometry import Affine, Grid
from volseg.inference import Tiling
from volseg.segmenter import MemoryPlan, bytes_of
from volseg.segmenter.device import free_bytes
from volseg.segmenter.memory_plan import Afterwards, Share, Work, plan_memory


def work(*, length: int = 400, classes: int = 25, **others) -> Work:
    common = {
        "source": Grid((512, 512, length), Affine.from_parts([0.8, 0.8, 1.0])),
        "network": Grid((273, 273, int(length / 1.5)), Affine.from_parts([1.5, 1.5, 1.5])),
        "channels": 1,
        "classes": classes,
        "tiling": Tiling.blended([96, 96, 96]),
        "networks": 1,
        "passes": 1,
        "tile_batch": 1,
        "labels_in_memory": False,
        "label_bytes": 1,
        "interpolates": False,
        "disagrees": False,
        "maps_in_memory": 0,
        "maps_on_disk": 0,
        "cleans": True,
        "threads": 1,
        "afterwards": Afterwards(),
        "device": "cpu",
        "device_free": None,
    }
    return Work(**{**common, **others})


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
    assert "or use smaller tiles" in str(refused.value)
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


def share(plan: MemoryPlan, stage: str, what: str) -> Share:
    return next(one for one in plan.stages[stage] if one.what == what)


def test_parts_that_threads_clean_side_by_side_are_all_counted():
    plans = {threads: planned(threads=threads, budget=50 * 10**9) for threads in (1, 8, 64)}
    for threads, plan in plans.items():
        at_once = plan.cleaning_planes * (1 if threads == 1 else threads + 1)
        cleaned = share(plan, "cleaning", "parts of the label map").size
        assert cleaned == 24 * 512 * 512 * min(400, at_once)
        then = Afterwards(measures=True)
        measured = share(
            planned(threads=threads, afterwards=then), "measuring", "parts of image and label map"
        )
        parts = 1 if threads == 1 else threads + 1
        assert measured.size >= 24 * parts * plan.block_voxels
    # Of 16 planes each of 9 parts has one; of 65 parts none can have less.
    assert [plan.cleaning_planes for plan in plans.values()] == [16, 1, 1]


def test_what_is_done_with_the_label_map_is_planned_for():
    then = Afterwards(measures=True, as_dicom=True)
    comfortable = planned(length=2000, afterwards=then)
    assert [*comfortable.stages] == ["preparing", "inference", "cleaning", "measuring", "DICOM"]
    tight = planned(length=2000, afterwards=then, budget=6 * 10**9)
    part = share(tight, "measuring", "parts of image and label map").size
    assert tight.block_voxels <= part / 40 <= max(tight.block_voxels, 512 * 2000) + 512 * 2000
    # A label map in memory, as DICOM is written from, does not fit where its parts do.
    assert planned(length=2000, budget=4 * 10**9).expected_peak < 4 * 10**9
    with pytest.raises(MemoryLimitError, match="the label map in its formats") as refused:
        planned(length=2000, afterwards=then, budget=4 * 10**9)
    assert "or leave the DICOM formats out" in str(refused.value)
    assert "tiles" not in str(refused.value)


def test_logits_that_do_not_fit_beside_the_network_on_a_gpu_are_blended_in_memory():
    needed = share(planned(), "inference", "logits that are not finished").size
    roomy = planned(device="cuda", device_free=2 * needed)
    full = planned(device="cuda", device_free=2 * needed - 2)
    assert (roomy.accumulate_on, full.accumulate_on) == (None, "cpu")
    assert share(roomy, "inference", "logits that are not finished").where == "cuda"
    assert share(full, "inference", "logits that are not finished").where == "memory"
    # On their way from the GPU some planes are copied, or the logits of a tile; to it, tiles.
    on_cpu = planned()
    way = [
        share(plan, "inference", "planes on the way to the file's grid").size
        for plan in (on_cpu, roomy, full)
    ]
    assert way[1] - way[0] == max(roomy.block_bytes, 4 * 25 * 273 * 273)
    assert way[2] - way[0] == 4 * 25 * 96**3
    for plan, size in ((on_cpu, 0), (roomy, 4 * 96**3), (full, 4 * 96**3)):
        assert share(plan, "inference", "tiles on their way to the GPU").size == size
    with pytest.raises(MemoryLimitError, match="most of the rest by logits that are not finished"):
        planned(device="cuda", device_free=2 * needed - 2, budget=10**9)
    # What lies on the GPU is no part of the memory that does not do.
    with pytest.raises(MemoryLimitError) as refused:
        planned(device="cuda", device_free=2 * needed, budget=810_000_000)
    assert "logits that are not finished" not in str(refused.value)


def test_what_torch_has_set_aside_on_a_gpu_is_free(monkeypatch):
    """No GPU is needed to see what is asked of it."""
    for name, amount in (
        ("mem_get_info", (500, 1000)),
        ("memory_reserved", 400),
        ("memory_allocated", 100),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda device, amount=amount: amount)
    assert free_bytes(torch.device("cuda", 0)) == 800
    assert free_bytes(torch.device("cpu")) is None


def test_the_plan_is_shown_line_by_line():
    text = planned(budget=8 * 10**9).describe()
    for words in ("logits that are not finished", "label map", "disk", "tiles", "8.00 GB allowed"):
        assert words in text
