"""Verification, ours and MONAI's own commands, on every shipped bundle."""

from __future__ import annotations

import json

import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out

from volseg.bundle import build_parts, open_bundle, shipped_bundles, verify_bundle
from volseg.bundle.verification import SCHEMA
from volseg.data import read_datalist

every_bundle = pytest.mark.parametrize("name", sorted(shipped_bundles()))


@every_bundle
def test_shipped_bundles_pass_every_check(name):
    failed = [check for check in verify_bundle(name) if not check.passed]
    assert failed == []


@every_bundle
def test_the_schema_in_the_bundle_is_ours(name):
    shipped = shipped_bundles()[name] / "configs" / "metadata_schema.json"
    assert shipped.read_bytes() == SCHEMA.read_bytes()


@every_bundle
@pytest.mark.filterwarnings("ignore:No hash value provided:UserWarning")
def test_monai_verifies_the_metadata_without_a_network(name):
    configs = shipped_bundles()[name] / "configs"
    verify_metadata(
        meta_file=str(configs / "metadata.json"), filepath=str(configs / "metadata_schema.json")
    )


@every_bundle
def test_monai_verifies_the_network(name):
    folder = shipped_bundles()[name]
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(folder / "configs" / "metadata.json"),
        config_file=str(folder / "configs" / "inference.yaml"),
        device="cpu",
        n=8,
        p=1,
    )


@every_bundle
@pytest.mark.parametrize("workflow", ["train", "inference"])
def test_the_property_tables_of_monai_are_satisfied(name, workflow, tmp_path):
    folder = shipped_bundles()[name]
    # The data are not at hand, but empty files of their names; every property but the data
    # themselves must still resolve.
    for case in read_datalist(folder / "configs" / "datalist.json"):
        for path in case.files:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
    made = ConfigWorkflow(
        config_file=str(folder / "configs" / f"{workflow}.yaml"),
        logging_file=False,
        workflow_type=workflow,
        bundle_root=str(folder),
        dataset_dir=str(tmp_path),
        output_dir=str(tmp_path / "out"),
    )
    if workflow == "train":
        prepared = made.parser["train::dataset"]
        without = {"_target_": "monai.data.Dataset", "data": [{}]}  # prepares nothing
        made.parser["train::dataset"] = {"transform": prepared["transform"], **without}
        made.parser["validate::dataset::data"] = [{}]
        made.parser["cached"] = 0.0
    else:
        made.parser["dataset::data"] = [{}]
    made.initialize()
    assert made.check_properties() == []


@every_bundle
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_monai_exports_torchscript_with_the_same_logits(name, tmp_path):
    folder = shipped_bundles()[name]
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(folder / "models" / "model.pt"),
        meta_file=str(folder / "configs" / "metadata.json"),
        config_file=str(folder / "configs" / "inference.yaml"),
    )
    image = open_bundle(name).metadata["network_data_format"]["inputs"]["image"]
    x = torch.randn(1, image["num_channels"], *image["spatial_shape"])
    network = build_parts(open_bundle(name)).network
    scripted = torch.jit.load(tmp_path / "model.ts").eval()
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), network(x), atol=1e-5, rtol=0)


def test_deviations_are_found_and_named(tiny_bundle):
    def found():
        return {check.name: check for check in verify_bundle(tiny_bundle)}

    assert all(check.passed for check in found().values())
    metadata = json.loads((tiny_bundle / "configs" / "metadata.json").read_text())
    metadata["version"] = "next"
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["3"] = "tail"
    (tiny_bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (tiny_bundle / "LICENSE").unlink()
    checks = found()
    assert "LICENSE" in checks["files"].detail
    assert "version" in checks["metadata schema"].detail
    assert not checks["version in changelog"].passed
    assert "(1, 3, " in checks["network output"].detail
    assert checks["safe building and weights"].passed
    (tiny_bundle / "configs" / "quality.json").write_text('{"volseg_quality": 1}')
    assert "does not hold limits of quality" in found()["quality limits"].detail
    (tiny_bundle / "configs" / "train.yaml").write_text("a: [unclosed")
    del metadata["network_data_format"]["inputs"]
    (tiny_bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    checks = found()
    assert not checks["training properties"].passed
    assert "KeyError" in checks["network output"].detail
