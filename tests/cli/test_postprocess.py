"""``volseg postprocess apply`` on label maps of any program."""

from __future__ import annotations

import json

import numpy as np
import pytest

from volseg.cli.main import main
from volseg.io import as_image, read_image, write_segmentation
from volseg.postprocess import DecisionTable, KeepLargest, RemoveSmallComponents, apply_rules

RULES = (KeepLargest(classes=(1,)), RemoveSmallComponents(classes=(2,), min_size_mm3=7.0))


def run(*words) -> int:
    with pytest.raises(SystemExit) as end:
        main(["postprocess", "apply", *map(str, words)])
    return int(end.value.code or 0)


@pytest.fixture
def folder(tmp_path):
    """Two label maps with voxels of 2 mm³, one of them NRRD, and the rules."""
    for index, suffix in ((0, ".nii.gz"), (1, ".nrrd")):
        labels = (np.random.default_rng(index).random((9, 8, 7)) > 0.87).astype(np.uint8)
        labels[4:] *= 2
        image = as_image(labels.astype(np.float32), np.diag([1.0, 2.0, 1.0, 1.0]))
        write_segmentation(labels, tmp_path / "maps" / f"case{index}{suffix}", like=image)
    DecisionTable(RULES).write(tmp_path / "rules.json")
    return tmp_path


def test_files_and_folders_are_cleaned_on_their_own_grid(folder, capfd):
    out = folder / "out"
    assert run(folder / "maps", "-o", out, "--rules", folder / "rules.json", "--json") == 0
    rows = json.loads(capfd.readouterr().out)
    assert [row["case"] for row in rows] == ["case0", "case1"]
    for row in rows:
        before, after = read_image(row["input"]), read_image(row["output"])
        labels = before.numpy()[0].astype(np.uint8)
        expected = apply_rules(labels, RULES, spacing=(1, 2, 1))
        assert np.array_equal(after.numpy()[0], expected)
        assert np.allclose(after.affine, before.affine)
        assert row["changed_voxels"] == np.count_nonzero(labels != expected) > 0


def test_sizes_on_a_tilted_grid_are_those_of_statistics(tmp_path):
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[1:3, 2] = np.sin(np.deg2rad(60)), np.cos(np.deg2rad(60))  # voxels of half a mm³
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[:4, 0, 0] = 1
    image = as_image(labels.astype(np.float32), affine)
    write_segmentation(labels, tmp_path / "case.nii.gz", like=image)
    DecisionTable((RemoveSmallComponents(min_size_mm3=3.0),)).write(tmp_path / "rules.json")
    words = (tmp_path / "case.nii.gz", "-o", tmp_path / "out", "--rules", tmp_path / "rules.json")
    assert run(*words) == 0
    assert not read_image(tmp_path / "out" / "case.nii.gz").numpy().any()


def test_a_map_is_never_replaced_and_one_bad_file_stops_no_other(folder, capfd):
    maps = folder / "maps"
    before = (maps / "case0.nii.gz").read_bytes()
    assert run(maps / "case0.nii.gz", "-o", maps, "--rules", folder / "rules.json") == 2
    assert "would be replaced by its cleaned map" in " ".join(capfd.readouterr().err.split())
    assert (maps / "case0.nii.gz").read_bytes() == before
    (maps / "case2.nii.gz").write_bytes(b"no image")
    assert run(maps, "-o", folder / "out", "--rules", folder / "rules.json") == 1
    assert {path.name for path in (folder / "out").iterdir()} == {"case0.nii.gz", "case1.nii.gz"}
    assert run(maps, folder / "maps", "-o", folder / "out", "--rules", folder / "rules.json") == 2
    assert "would both be written as" in " ".join(capfd.readouterr().err.split())
    assert run(maps, "-o", folder / "out", "--rules", maps / "case1.nrrd") == 2
