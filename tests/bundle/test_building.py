"""Building a bundle executes nothing it holds, unless that is allowed."""

from __future__ import annotations

import pytest
import torch
import yaml

from volseg.bundle import build_parts, open_bundle
from volseg.errors import BundleError


def change(folder, section, value, *, path=()):
    file = folder / "configs" / "inference.yaml"
    config = yaml.safe_load(file.read_text())
    place = config
    for key in (section, *path)[:-1]:
        place = place[key]
    place[(section, *path)[-1]] = value
    file.write_text(yaml.safe_dump(config, sort_keys=False))


def test_a_bundle_gives_a_network_in_evaluation_and_its_transforms(tiny_bundle):
    parts = build_parts(open_bundle(tiny_bundle))
    assert not parts.network.training
    assert parts.network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


@pytest.mark.parametrize(
    ("section", "path", "value"),
    [
        ("preprocessing", (), "$__import__('pathlib').Path('{victim}').unlink()"),
        ("preparation", (0, "keys"), "$open('{victim}', 'w')"),
        ("inferer", (), {"_target_": "os.remove", "path": "{victim}"}),
        ("inferer", (), {"_target_": "monai.inferers.SimpleInferer", "_disabled_": "$1/0"}),
        ("network_def", ("_target_",), "subprocess.run"),
        ("network_def", ("_mode_",), "callable"),
        ("network_def", ("name",), "%{victim}"),
        ("postprocessing", ("transforms", 0), {"_target_": "monai.transforms.SaveImaged"}),
        ("preparation", (1,), "@hidden"),
    ],
)
def test_code_is_refused_before_anything_runs(tiny_bundle, tmp_path, section, path, value):
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    change(tiny_bundle, "hidden", {"_target_": "os.remove", "path": str(victim)})

    def named(item):
        if isinstance(item, dict):
            return {key: named(entry) for key, entry in item.items()}
        return item.replace("{victim}", str(victim))

    change(tiny_bundle, section, named(value), path=path)
    with pytest.raises(BundleError, match=r"inference\.yaml::"):
        build_parts(open_bundle(tiny_bundle))
    assert victim.read_text() == "precious"


def test_trusted_code_is_executed(tiny_bundle, caplog):
    change(tiny_bundle, "tile", "$[8 * 2] * 3")
    change(tiny_bundle, "inferer", "@tile", path=("tile",))
    with pytest.raises(BundleError, match="would be executed"):
        build_parts(open_bundle(tiny_bundle))
    parts = build_parts(open_bundle(tiny_bundle), trust_code=True)
    assert parts.inferer.tile == (16, 16, 16)
    assert "executing the code" in caplog.text


def test_unetplusplus_that_averages_regions_as_classes_is_refused(tiny_bundle):
    change(tiny_bundle, "network_def", "unetplusplus", path=("name",))
    change(tiny_bundle, "exclusive", False)
    with pytest.raises(BundleError, match="overlapping: true into network_def"):
        build_parts(open_bundle(tiny_bundle))
    change(tiny_bundle, "network_def", True, path=("overlapping",))
    with pytest.raises(BundleError, match="do not belong to this UNetPlusPlus"):
        build_parts(open_bundle(tiny_bundle))


def test_what_cannot_be_built_names_the_section_and_the_cause(tiny_bundle):
    change(tiny_bundle, "network_def", "u-net", path=("name",))
    with pytest.raises(BundleError, match=r"network_def cannot be built.*did you mean 'unet'"):
        build_parts(open_bundle(tiny_bundle))


def test_a_missing_section_and_missing_weights_are_named(tiny_bundle):
    (tiny_bundle / "models" / "model.pt").unlink()
    with pytest.raises(BundleError, match="no weights"):
        build_parts(open_bundle(tiny_bundle))
    (tiny_bundle / "configs" / "inference.yaml").write_text("imports: []\n")
    with pytest.raises(BundleError, match="lacks the section"):
        build_parts(open_bundle(tiny_bundle))
