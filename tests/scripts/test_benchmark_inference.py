"""What stands beside each other in the benchmark of inference is the same job."""

from __future__ import annotations

import json

import numpy as np
import torch

from benchmarks import inference, scans
from benchmarks.cleaning import agreement
from benchmarks.costs import Cost, is_of_memory
from benchmarks.inference_rows import MEMORY, InferenceRow, stored_row
from benchmarks.segmenting import WithMonai, WithVolseg
from benchmarks.timing import Ratio, write_rows


def test_a_widened_network_gives_the_same_logits():
    torch.manual_seed(0)
    narrow, wide = scans.basic_unet(scans.WIDENED).eval(), scans.basic_unet().eval()
    wide.load_state_dict(scans.widened(narrow.state_dict()))
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(wide(image), narrow(image), rtol=1e-3, atol=1e-3)


def test_both_sides_segment_a_scan_alike(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.segmenting.TILE", (16, 16, 16))
    scan = scans.noise_scan(tmp_path, (46, 40, 30), spacing=1.0, network=1.04)
    grid = scan.network_grid
    shape = tuple(16 + 8 * ((side - 16) // 8) for side in grid.shape)
    scan = scans.Scan(scan.image, scan.grid, scans.spacing_for(scan.grid, shape))
    assert scan.network_grid.shape == shape
    ours = WithVolseg(
        scan, scans.random_network(tmp_path, 3), tmp_path / "ours.npy", tile=(16, 16, 16)
    )
    theirs = WithMonai(scan, ours.weights, tmp_path / "theirs.npy")
    network = ours.weights.load()
    ours.segment(network)
    theirs.segment(network)
    first, second = np.load(ours.labels), np.load(theirs.labels)
    assert len(np.unique(first)) == 3
    assert np.mean(first == second) > 0.999


def test_voxels_that_monai_takes_from_another_class_are_left_out(tmp_path):
    maps = {
        "found": [1, 2, 0, 1, 2, 2],
        "volseg": [1, 2, 1, 1, 0, 2],
        "monai": [1, 1, 1, 1, 0, 0],
    }
    files = [tmp_path / f"{name}.npy" for name in maps]
    for file, values in zip(files, maps.values(), strict=True):
        np.save(file, np.array(values, dtype=np.uint8))
    assert agreement(*files) == (4 / 5, 1)


def test_what_is_not_measured_or_only_bounded_is_said():
    blank = InferenceRow("memory", "memory", "8x8x8", "MONAI", MEMORY, "8 times")
    absent = InferenceRow("gpu", "gpu", "8x8x8", "MONAI", "tiles/s", "none", why_not="no GPU")
    cost = Cost(1.0, 0, 1 << 20, 0, 1 << 20)
    bounded = InferenceRow(
        **{
            **vars(blank),
            "ours": float(1 << 20),
            "theirs": float(9 << 20),
            "times": Ratio(9.0, 9.0, 9.0),
            "exceeded": True,
            "costs": {"ours": [cost], "theirs": [cost]},
        }
    )
    lines = inference.table([bounded, absent])[2:]
    assert "| 1 MiB | more than 9 MiB | more than 9.00 | 8 times |" in lines[0]
    assert "| not measured | - | - | none | no GPU |" in lines[1]


def test_rows_come_back_from_the_file_they_were_written_to(tmp_path):
    cost = Cost(1.5, 10, 20, 5, 15, exceeded=True, figures={"tiles": 8})
    row = InferenceRow(
        row="f32",
        what="x",
        size="8x8",
        beside="MONAI",
        unit="s",
        bar="3",
        ours=1.0,
        theirs=2.0,
        times=Ratio(2.0, 1.9, 2.1),
        exceeded=True,
        costs={"ours": [cost], "theirs": [cost, cost]},
    )
    bare = InferenceRow("gpu", "x", "8x8", "MONAI", "tiles/s", "none", why_not="there is no GPU")
    write_rows(tmp_path / "rows.json", [row, bare])
    stored = json.loads((tmp_path / "rows.json").read_text())
    assert [stored_row(values) for values in stored] == [row, bare]


def test_memory_that_a_library_was_refused_is_seen_behind_its_own_errors():
    error = RuntimeError("applying transform Invertd")
    assert not is_of_memory(error)
    error.__cause__ = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    assert is_of_memory(error)
