"""Networks are compared with all else the same, an image and a batch at a time."""

from __future__ import annotations

import pytest
import yaml

from reproductions.nuclei import bundle_of
from volseg.bundle import open_bundle
from volseg.choosing import measure_bundle
from volseg.networks import build_network, count_parameters


@pytest.mark.slow  # two trainings
def test_two_networks_beside_each_other(tiny_pictures, reproduction, tmp_path):
    bundle = tiny_pictures("tiny_nuclei", "fluorescence", "nucleus")
    data, output = tmp_path / "data", tmp_path / "runs"
    words = ["--bundle", bundle, "--data", data, "--output", output, "--folds", 1]
    reproduction.run("nuclei", *words, "--networks", "unet", "resunet")
    rows = {cells[0]: cells for cells in reproduction.table("nuclei")}
    assert rows["`bixnet`"][1:] == ["0 of 5", "0", *["-"] * 8]
    network = build_network(
        "unet",
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        channels=[4, 8],
        norm="instance",
        activation="leakyrelu",
        deep_supervision=True,
    )
    assert rows["`unet`"][1:4] == ["1 of 5", "2", f"{count_parameters(network):,}"]

    summary = measure_bundle(output / "nuclei" / "unet_fold1_seed0", data, fold=1).summary()
    statistics = summary["nucleus"]
    assert rows["`unet`"][5] == f"{statistics['iou'].mean:.4f}"
    assert rows["`unet`"][7] == f"{statistics['dice'].mean:.4f}"


def test_another_network_has_the_same_recipe_list_and_epochs(tiny_pictures, tmp_path):
    bundle = tiny_pictures("tiny_nuclei", "fluorescence", "nucleus", epochs=3)
    made = bundle_of("unetplusplus", bundle, tmp_path / "bundles")
    assert made.name == "tiny_unetplusplus"
    first, second = (
        yaml.safe_load(one.config("train").read_text()) for one in (open_bundle(bundle), made)
    )
    different = {name for name in first if first[name] != second.get(name)}
    assert different == {"network_def", "widths", "head_weights"}
    lists = [one.folder / "configs/datalist.json" for one in (open_bundle(bundle), made)]
    assert lists[0].read_bytes() == lists[1].read_bytes()
    # Made once.
    assert bundle_of("unetplusplus", bundle, tmp_path / "bundles").folder == made.folder
