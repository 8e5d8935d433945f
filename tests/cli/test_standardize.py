"""``volseg standardize fit`` as a user meets it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from volseg.cli.main import main
from volseg.data import hash_files
from volseg.io import as_image, read_image, write_image
from volseg.transforms import StandardizeIntensityd, fit_standardization, read_standardization


@pytest.fixture
def folders(tmp_path):
    random = np.random.default_rng(0)
    for index in range(3):
        for folder, values in (
            ("images", random.gamma(3, 50 * (index + 1), (1, 9, 8, 7))),
            ("labels", random.integers(0, 3, (1, 9, 8, 7))),
        ):
            tensor = MetaTensor(torch.from_numpy(values).float(), affine=np.eye(4))
            path = tmp_path / folder / f"case{index}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            write_image(as_image(tensor), path)
    return tmp_path / "images", tmp_path / "labels"


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["standardize", "fit", *map(str, words)])
    return int(end.value.code or 0)


def test_fit_nyul_writes_what_the_transform_takes(folders, tmp_path, capfd):
    out = tmp_path / "configs" / "standardization.json"
    assert run(folders[0], "-o", out) == 0
    assert "3 images" in capfd.readouterr().out
    paths = sorted(folders[0].iterdir())
    assert read_standardization(out).channels == fit_standardization(paths, method="nyul").channels
    provenance = json.loads(out.read_text())["provenance"]
    assert provenance == {
        "images": 3,
        "volseg": provenance["volseg"],
        "images_sha256": hash_files(paths),
    }
    transform = StandardizeIntensityd("image", "nyul", parameters=out)
    assert torch.isfinite(transform({"image": torch.rand(1, 5, 5)})["image"]).all()


def test_fit_foreground_of_files_pairs_labels_by_name(folders, tmp_path):
    images, labels = folders
    chosen = [images / "case2.nii.gz", images / "case0.nii.gz"]
    out = tmp_path / "ct.json"
    assert run(*chosen, "-o", out, "--method", "foreground", "--labels", labels) == 0
    expected = fit_standardization(
        chosen, method="foreground", labels=[labels / path.name for path in chosen]
    )
    assert read_standardization(out).channels == expected.channels


def test_mistakes_are_one_sentence_and_write_nothing(folders, tmp_path, capfd):
    images, labels = folders
    out = tmp_path / "out.json"
    (labels / "case1.nii.gz").unlink()
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    for words, message in (
        ((images, "--method", "foreground"), "one label map for each"),
        ((images, "--method", "foreground", "--labels", labels), "1 of 3 images have no label map"),
        (
            (images, images / "case0.nii.gz", "--method", "foreground", "--labels", labels),
            "two images are named case0",
        ),
        ((images, "--method", "zscore"), "unknown fitted standardisation 'zscore'"),
        ((tmp_path / "none.nii.gz",), "there is no image"),
        ((images, tmp_path / "bad.nii.gz"), "bad.nii.gz"),
    ):
        assert run(*words, "-o", out) == 2
        errors = capfd.readouterr().err.strip()
        assert message in errors
        assert len(errors.splitlines()) == 1
        assert not out.exists()


def test_fit_takes_channels_in_files_of_their_own(folders, tmp_path):
    images, labels = folders
    apart = tmp_path / "apart"
    for number, channel in enumerate(("t1", "flair")):
        (apart / channel).mkdir(parents=True)
        for path in images.iterdir():
            image = read_image(path)
            write_image(image * (number + 1), apart / channel / path.name)
    out = tmp_path / "channels.json"
    words = ["--channels", "t1,flair", "--method", "foreground", "--labels", labels]
    assert run(apart, "-o", out, *words) == 0
    t1, flair = read_standardization(out).channels
    assert flair.mean == pytest.approx(2 * t1.mean, rel=1e-5)
    assert json.loads(out.read_text())["provenance"]["images"] == 3


def test_two_label_maps_of_one_name_are_refused(folders, tmp_path, capfd):
    images, labels = folders
    write_image(read_image(labels / "case1.nii.gz"), labels / "case1.nrrd")
    words = [images, "-o", tmp_path / "out.json", "--method", "foreground", "--labels", labels]
    assert run(*words) == 2
    assert "are both called case1" in " ".join(capfd.readouterr().err.split())
