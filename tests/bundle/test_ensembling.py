"""Several bundles as one: what its label maps are, at every door, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import run as bundle_run

from volseg import Segmenter
from volseg.bundle import (
    Composition,
    build_parts,
    composition_of,
    make_ensemble,
    new_bundle,
    open_bundle,
    recompose,
    verify_bundle,
    write_metadata,
)
from volseg.cli.main import main
from volseg.errors import BundleError, InputError
from volseg.networks import NetworkEnsemble, build_network, read_weights, save_weights
from volseg.segmenter import Maps


@pytest.fixture
def members(tiny_bundle, tmp_path):
    """The tiny bundle and one of a wider network; both computed by torch."""
    bundle = open_bundle(tiny_bundle)
    composition = composition_of(bundle.metadata, "")
    values = {**composition.values, "backend": "torch"}
    recompose(bundle, replace(composition, values=values), "torch")
    other = tmp_path / "other_fold"
    shutil.copytree(tiny_bundle, other)
    values = {**values, "widths": [6, 8, 10]}
    recompose(open_bundle(other), replace(composition, values=values), "wider")
    torch.manual_seed(1)
    network = build_network(
        "unet",
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        channels=[6, 8, 10],
        norm="instance",
        activation="leakyrelu",
        deep_supervision=True,
    )
    save_weights(network, other / "models" / "model.pt")
    return [tiny_bundle, other]


def probabilities_of(bundle, image):
    shape = nib.load(image).shape
    found = np.zeros((3, *shape), np.float32)
    labels = Segmenter(bundle).segment(image, maps=Maps(probabilities=found))
    return labels.numpy()[0], found


def test_an_ensemble_is_one_bundle_at_every_door(members, tmp_path, capfd):
    image = members[0].parent / "data" / "images" / "ball0.nii.gz"
    bundle = make_ensemble(tmp_path / "both", members)
    assert [check.name for check in verify_bundle(bundle.folder) if not check.passed] == []
    for member in members:  # it needs them no more
        member.rename(member.with_name(f"{member.name}_away"))
    away = [member.with_name(f"{member.name}_away") for member in members]

    expected, found = probabilities_of(bundle.folder, image)
    assert len(np.unique(expected)) == 3
    together, same = probabilities_of(away, image)
    assert np.array_equal(together, expected)
    assert np.array_equal(same, found)
    with pytest.raises(SystemExit, match="0"):
        main(["segment", str(image), "-o", str(tmp_path / "cli"), "--bundle", str(bundle.folder)])
    bundle_run(
        config_file=str(bundle.folder / "configs" / "inference.yaml"),
        bundle_root=str(bundle.folder),
        dataset_dir=str(image.parent),
        output_dir=str(tmp_path / "run"),
        logging_file=False,
    )
    capfd.readouterr()
    for door in ("cli", "run"):
        written = nib.load(tmp_path / door / "ball0_seg.nii.gz")
        assert np.array_equal(np.asarray(written.dataobj), expected)
    within = Segmenter(bundle.folder, memory_budget="8GB")
    assert within.passes == 2
    assert np.array_equal(within.segment(image).numpy()[0], expected)


def test_one_tile_gives_the_mean_of_the_members_probabilities(members, tmp_path):
    values = {"tile": [24, 24, 16], "overlap": 0.0}
    bundle = make_ensemble(tmp_path / "both", members, values=values)
    affine = np.eye(4)
    image = np.random.default_rng(0).normal(size=(24, 24, 16)).astype(np.float32)
    shown = Segmenter(bundle.folder)
    found = np.zeros((3, 24, 24, 16), np.float32)
    shown.segment(image, affine, maps=Maps(probabilities=found))
    expected = 0
    for member in members:
        alone = np.zeros_like(found)
        Segmenter(member, settings=values).segment(image, affine, maps=Maps(probabilities=alone))
        expected = expected + alone / 2
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_an_ensemble_may_be_a_member_and_composed_again(members, tmp_path):
    both = make_ensemble(tmp_path / "both", members)
    three = make_ensemble(tmp_path / "three", [both.folder, members[0]])
    network = build_parts(three).network
    assert isinstance(network, NetworkEnsemble)
    assert len(network.networks) == 3
    first, last = read_weights(members[0] / "models" / "model.pt"), read_weights(three.weights)
    name = next(iter(first))
    assert torch.equal(last[f"networks.0.{name}"], first[name])
    assert torch.equal(last[f"networks.2.{name}"], first[name])
    told = three.metadata["ensemble"]
    assert [entry["name"] for entry in told] == ["both", "tiny_bundle"]
    assert [entry["name"] for entry in told[0]["members"]] == ["tiny_bundle", "tiny_bundle"]
    composition = composition_of(three.metadata, "")
    values = {**composition.values, "overlap": 0.25}
    assert recompose(three, replace(composition, values=values), "quick").metadata["version"] == (
        "0.1.1"
    )
    assert len(build_parts(open_bundle(three.folder)).network.networks) == 3


def test_an_ensemble_has_the_licences_of_its_members(members, tmp_path):
    for folder, licence in zip(members, ("CC BY 4.0", "non-commercial"), strict=True):
        (folder / "LICENSE").write_text(f"{licence}, in many words.\n")
        bundle = open_bundle(folder)
        write_metadata(bundle, {**bundle.metadata, "data_licence": licence, "authors": "A"})
    both = make_ensemble(tmp_path / "both", members)
    assert (both.folder / "LICENSE").read_text() == (
        "tiny_bundle:\n\nCC BY 4.0, in many words.\n\n"
        "other_fold:\n\nnon-commercial, in many words.\n"
    )
    assert both.metadata["data_licence"] == "CC BY 4.0; non-commercial"
    assert both.metadata["authors"] == "A"
    (members[1] / "LICENSE").write_text("CC BY 4.0, in many words.\n")
    same = make_ensemble(tmp_path / "same", members)
    assert (same.folder / "LICENSE").read_text() == "CC BY 4.0, in many words.\n"


def test_members_that_do_not_go_together_are_refused(members, tmp_path):
    bundle = open_bundle(members[1])
    composition = composition_of(bundle.metadata, "")
    values = {**composition.values, "threshold": 0.4, "spacing": [1.0, 1.0, 2.0]}
    recompose(bundle, replace(composition, values=values), "coarse")
    with pytest.raises(InputError, match=r"differ in spacing, threshold \(\[1.0, 1.0, 1.0\] and"):
        make_ensemble(tmp_path / "both", members)
    with pytest.raises(InputError, match="at least two"):
        make_ensemble(tmp_path / "both", members[:1])
    inference = members[0] / "configs" / "inference.yaml"
    inference.write_text(inference.read_text().replace("method: zscore", "method: minmax"))
    with pytest.raises(BundleError, match="edited, or composed by another version"):
        make_ensemble(tmp_path / "both", [members[0], members[0]])
    assert not (tmp_path / "both").exists()


def test_members_may_be_older_than_an_entry_of_their_network(tmp_path):
    """UNet++ was composed without a word on what overlaps."""
    widths, folders = [4, 4, 8, 8], [tmp_path / "first", tmp_path / "second"]
    composition = Composition(
        network="unetplusplus",
        recipe="mr_crop",
        labels=("anterior", "posterior"),
        values={"widths": widths, "patch": [16, 16, 16]},
    )
    for folder in folders:
        new_bundle(folder, composition)
        inference = folder / "configs" / "inference.yaml"
        lines = inference.read_text().splitlines(keepends=True)
        older = [line for line in lines if "overlapping" not in line]
        assert len(older) == len(lines) - 2
        inference.write_text("".join(older))
        network = build_network(
            "unetplusplus",
            spatial_dims=3,
            in_channels=1,
            out_channels=3,
            channels=widths,
            norm="instance",
            activation="leakyrelu",
            deep_supervision=True,
        )
        save_weights(network, folder / "models" / "model.pt")
    together = build_parts(make_ensemble(tmp_path / "both", folders)).network
    assert isinstance(together, NetworkEnsemble)
    networks = [build_parts(open_bundle(folder)).network for folder in folders]
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.inference_mode():
        first, second, mean = (one(image).softmax(1) for one in (*networks, together))
    torch.testing.assert_close(mean, (first + second) / 2)


def test_an_empty_folder_may_become_an_ensemble(members, tmp_path):
    (tmp_path / "both").mkdir()
    assert make_ensemble(tmp_path / "both", members).weights.is_file()


def test_the_command(members, tmp_path, capfd):
    out = tmp_path / "[mr]" / "both"  # no style of the terminal
    words = ["bundle", "ensemble", *map(str, members), "-o", str(out)]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--set", "overlap=0.25"])
    assert capfd.readouterr().out.strip() == str(out)
    inference = (out / "configs" / "inference.yaml").read_text()
    assert "overlap: 0.25" in inference
    assert not (out / "configs" / "train.yaml").exists()
