"""What the benchmarks compare is comparable, and what is missing is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import benchmark
from benchmarks import augmentation, first_use, networks, timing, training, transforms
from benchmarks.augmentation import COMBINED, Scene


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    timing.use_threads(before)


@pytest.fixture
def without_peers(monkeypatch):
    """As on a machine where nothing but the dependencies is installed."""
    for name in ("torchio", "batchgeneratorsv2.transforms.spatial.spatial"):
        monkeypatch.setitem(sys.modules, name, None)


def test_turns_go_back_and_forth():
    order = []
    seconds = timing.interleaved([lambda: order.append("a"), lambda: order.append("b")], 3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert [len(one) for one in seconds] == [3, 3]


def test_a_ratio_is_formed_turn_by_turn():
    # The machine became three times slower after the first turn; the ratio does not notice.
    assert timing.ratio([2.0, 6.0, 6.0], [1.0, 3.0, 3.0]) == timing.Ratio(2.0, 2.0, 2.0)
    assert timing.ratio([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5) == timing.Ratio(3.0, 2.0, 4.0)
    assert timing.ratio([3.0], [2.0]) == timing.Ratio(1.5, 1.5, 1.5)


@pytest.mark.parametrize(
    ("text", "size", "patch", "shown"),
    [
        ("8x9x10", (8, 9, 10), (8, 9, 10), "8x9x10"),
        ("32x32:8x16", (32, 32), (8, 16), "8x16 of 32x32"),
    ],
)
def test_scenes_are_read(text, size, patch, shown):
    scene = Scene.parse(text)
    assert (scene.size, scene.patch, str(scene)) == (size, patch, shown)


@pytest.mark.parametrize("text", ["8", "8x8:8x8x8", "8xa", "8x8x8x8"])
def test_what_is_no_scene_is_refused(text):
    with pytest.raises(ValueError, match=r"8|invalid literal"):
        Scene.parse(text)


@pytest.mark.filterwarnings("ignore:The maximum displacement is larger:RuntimeWarning")
@pytest.mark.parametrize("text", ["20x18x16", "40x40x40:16x12x14", "32x24"])
def test_every_candidate_gives_a_moved_patch_of_both(text):
    """Of MONAI always, of the others where they are installed."""
    scene = Scene.parse(text)
    case = scene.case()
    for task in augmentation.tasks_of(scene):
        for candidate in [augmentation.ours(scene, task), *augmentation.peers(scene, task)]:
            if candidate.run is None:
                continue
            result = candidate.run()
            label = result["segmentation" if "segmentation" in result else "label"]
            image, label = (getattr(one, "data", one) for one in (result["image"], label))
            # A thin third axis is how some libraries keep pictures.
            assert tuple(image.shape[1 : 1 + len(scene.patch)]) == scene.patch, candidate.name
            assert image.shape == label.shape
            assert set(torch.unique(label).tolist()) <= {0, 1, 2}, candidate.name
            if scene.whole:
                assert not torch.equal(image, case["image"]), candidate.name
            # Image and label moved together: the image is its label and noise from 0 to 1.
            found = [value for value in (1, 2) if (label == value).any()]
            means = [float(image[label == value].mean()) for value in found]
            assert means == pytest.approx([value + 0.5 for value in found], abs=0.25)
            assert found, candidate.name


@pytest.mark.usefixtures("without_peers")
def test_a_library_that_is_not_installed_is_a_row(tmp_path, monkeypatch, capsys):
    file = tmp_path / "rows.json"
    words = ["transforms", "--sizes", "16x16x16", "--threads", "1", "2", "--repeats", "2"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *words, "--json", str(file)])
    monkeypatch.setattr(transforms, "first_use", lambda: (2.5, 0.5))
    benchmark.main()
    rows = json.loads(file.read_text())
    beside = {row["beside"]: row for row in rows}
    assert beside["TorchIO"]["beside_seconds"] is None
    assert beside["batchgeneratorsv2"]["times"] is None
    assert beside["MONAI Rand3DElasticd"]["times"]["median"] > 0
    assert {row["threads"] for row in rows} == {1, 2}
    assert {row["transform"] for row in rows} == {"RandSpatiald", "RandRotated", "RandElasticd"}
    assert all(row["seconds"] > 0 and row["copy_seconds"] > 0 for row in rows)
    printed = capsys.readouterr().out
    assert "| rotation, scaling | 16x16x16 | TorchIO |" in printed
    tables = [line for line in printed.splitlines() if line.startswith("|")]
    widths = [line.count("|") for line in tables]
    # Two tables, as wide in each line as in the heads: three columns a number of threads.
    assert set(widths) == {10}
    assert "not installed" in printed
    assert "2.50 s for 128x128x128" in printed


def test_the_first_call_is_timed_without_and_with_what_is_kept(monkeypatch, capsys):
    """In this process, where nothing need be compiled: that takes long."""
    found = []

    def run(command, *, env, **_):
        cache = Path(env["NUMBA_CACHE_DIR"])
        found.append([file.name for file in cache.iterdir()])
        (cache / "kept").touch()
        exec(command[-1], {})
        return SimpleNamespace(stdout=capsys.readouterr().out)

    monkeypatch.setattr(first_use, "subprocess", SimpleNamespace(run=run))
    assert min(first_use.first_use()) > 0
    assert found == [[], ["kept"]]


def test_patches_are_compared_with_all_ways_users_have(without_peers):
    names = [
        one.name
        for one in augmentation.peers(Scene.parse("24x24x24:8x8x8"), augmentation.AFFINE)
        if one.run is not None
    ]
    assert names == [
        "MONAI RandAffined, then RandSpatialCropd",
        "MONAI RandAffined, then RandSpatialCropd, lazy",
        "MONAI RandAffined",
    ]


def test_rows_of_one_transform_share_their_turns(without_peers):
    scene = Scene.parse("12x12x12")
    rows = list(
        transforms.measure(
            scene,
            COMBINED.name,
            augmentation.ours(scene, COMBINED),
            augmentation.peers(scene, COMBINED),
            threads=1,
            repeats=2,
        )
    )
    assert len({row.seconds for row in rows}) == 1
    assert [row.beside for row in rows][1:] == ["TorchIO", "batchgeneratorsv2"]


def test_networks_are_measured_beside_theirs():
    [row] = networks.measure_network(
        "vnet", 2, preset="tiny", side=32, repeats=1, channels_last=False
    )
    assert row.beside == "MONAI VNet"
    assert row.forward_seconds > 0
    assert row.step_ratio > 0
    lines = networks.networks_table([row], preset="laptop", channels_last=False)
    assert lines[2].startswith("| `vnet` (tiny) | 32x32 |")


class SteadyLoop:
    """A loop each step of which takes as long, half of it by waiting, on two processors."""

    def __init__(self, seconds: float) -> None:
        self.step = seconds
        self.seconds: list[float] = []
        self.waited: list[float] = []
        self.processor: list[float] = []

    def run(self) -> None:
        self.seconds.append(self.step)
        self.waited.append(0.5)
        self.processor.append(2 * self.step)


def test_training_loops_are_compared_with_that_of_monai():
    loops = {"volseg": SteadyLoop(0.5), "MONAI": SteadyLoop(1.0)}
    rows = training._measured(loops, {"volseg": 1.25}, repeats=3)
    twice, once = "2.00 (2.00 to 2.00)", "1.00 (1.00 to 1.00)"
    assert training.table(rows)[2:] == [
        f"| volseg | 2.00 | 50.0 % | {twice} | 1.00 | {twice} | 1.250000 |",
        f"| MONAI | 1.00 | 50.0 % | {once} | 2.00 | {once} | its own |",
    ]


@pytest.mark.slow  # two processes that load all anew
def test_training_loops_begin_with_the_same_loss(tiny_bundle, tmp_path, monkeypatch, capsys):
    """That of one network with the same weights, so that nothing else is faster or slower."""
    file = tmp_path / "rows.json"
    words = ["training", "--bundle", tiny_bundle, "--data", tiny_bundle.parent / "data"]
    words += ["--steps", 1, "--repeats", 1, "--threads", 1, "--json", file]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, words)])
    benchmark.main()
    ours, monai = json.loads(file.read_text())
    assert (ours["loop"], monai["loop"]) == ("volseg", "MONAI")
    assert ours["first_loss"] == pytest.approx(monai["first_loss"], abs=1e-5)
    assert min(ours["steps_per_second"], monai["steps_per_second"]) > 0
    assert f"| {ours['first_loss']:.6f} |" in capsys.readouterr().out
