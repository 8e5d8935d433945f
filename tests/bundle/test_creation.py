"""New bundles as a user makes them: complete, valid, and trained by the usual commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
from monai.bundle import verify_metadata
from PIL import Image

from volseg import Segmenter
from volseg.bundle import Composition, new_bundle, verify_bundle
from volseg.choosing import measure_bundle
from volseg.data import read_datalist
from volseg.errors import InputError, OutputError
from volseg.training import train_bundle

COMPOSITION = Composition(network="unet", recipe="mr", labels=("liver", "tumour"))


@pytest.mark.filterwarnings("ignore:No hash value provided:UserWarning")
def test_a_new_bundle_lacks_only_weights(tmp_path):
    bundle = new_bundle(tmp_path / "liver", COMPOSITION, about={"data_licence": "CC0"})
    assert bundle.labels == {"liver": 1, "tumour": 2}
    assert bundle.metadata["data_licence"] == "CC0"
    failed = {check.name for check in verify_bundle(bundle.folder) if not check.passed}
    assert failed == {"files", "safe building and weights", "network output"}
    (files,) = (check for check in verify_bundle(bundle.folder) if check.name == "files")
    assert files.detail == "missing: models/model.pt"
    configs = bundle.folder / "configs"
    verify_metadata(
        meta_file=str(configs / "metadata.json"), filepath=str(configs / "metadata_schema.json")
    )


def test_a_folder_in_use_and_unusable_data_leave_nothing_behind(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not empty"):
        new_bundle(tmp_path / "used", COMPOSITION)
    with pytest.raises(InputError, match="no folder"):
        new_bundle(tmp_path / "fresh", COMPOSITION, data=tmp_path)
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"patch": [60, 64, 64]}, r"60 x 64 x 64: .*pad the input to 64 x 64 x 64"),
        ({"widths": [8, 16, 32, 64, 64]}, r"3 heads .*head_weights=\[0.5714, 0.2857, 0.1429\]"),
        ({"widths": [8]}, "two levels"),
    ],
)
def test_what_does_not_fit_the_network_is_refused_before_hours_of_training(
    tmp_path, values, sentence
):
    composition = Composition(network="unet", recipe="mr", labels=("liver",), values=values)
    with pytest.raises(InputError, match=sentence):
        new_bundle(tmp_path / "liver", composition)
    assert not (tmp_path / "liver").exists()


@pytest.mark.parametrize(
    ("recipe", "label_value"), [("electron_microscopy", (0, 255)), ("fluorescence", (0, 7))]
)
def test_pictures_are_listed_trained_measured_and_segmented(tmp_path, recipe, label_value):
    random = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for index in range(5):
        inside = np.zeros((40, 48), bool)
        row, column = random.integers(4, 20, 2)
        inside[row : row + 16, column : column + 20] = True
        picture = (random.normal(60, 10, inside.shape) + 100 * inside).clip(0, 255)
        outer, inner = label_value
        for kind, values in (("images", picture), ("labels", np.where(inside, inner, outer))):
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / "data" / kind / f"{index}.png")
    bundle = new_bundle(
        tmp_path / "squares",
        Composition(
            network="unet",
            recipe=recipe,
            labels=("square",),
            values={
                "widths": [8, 16],
                "head_weights": [1.0],
                "patch": [32, 32],
                "epochs": 12,
                "batch_size": 1,
                "patches": 2,
                "val_interval": 12,
                "workers": 0,
                "backend": "torch",
            },
        ),
        data=tmp_path / "data",
    )
    assert {case.fold for case in read_datalist(bundle.folder / "configs" / "datalist.json")} == {
        *range(5)
    }
    trained = train_bundle(bundle.folder, tmp_path / "data", tmp_path / "trained")
    # The labels in the files are 0 and 255, or 0 and 7: both come to be classes 0 and 1.
    (score,) = measure_bundle(trained.folder, tmp_path / "data").rows
    assert score.reference_voxels == 16 * 20
    assert score.dice > 0.8
    labels = Segmenter(trained.folder).segment(tmp_path / "data" / "images" / "0.png")
    assert labels.shape == (1, 48, 40)
    assert json.loads((trained.folder / "configs" / "metadata.json").read_text())["composition"]
