"""Training and evaluation through MONAI's own runner, with the overrides users give."""

from __future__ import annotations

import csv

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import run as bundle_run

from volseg.evaluation import evaluate_files


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
def test_evaluation_judges_on_the_grid_of_the_label_files(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_bundle)
    data = tiny_bundle.parent / "data"
    bundle_run(
        config_file=["configs/inference.yaml", "configs/evaluate.yaml"],
        dataset_dir=str(data),
        output_dir=str(tmp_path / "out"),
        fold=2,
        logging_file=False,
    )
    written = sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz"))
    assert written == ["ball2_seg.nii.gz", "ball5_seg.nii.gz"]
    with (tmp_path / "out" / "mean_dice_raw.csv").open(newline="") as stream:
        raw = list(csv.reader(stream))
    # MONAI's Dice of the written label maps is ours: both see the files' own grids.
    for case in ("ball2", "ball5"):
        scores = evaluate_files(
            tmp_path / "out" / f"{case}_seg.nii.gz",
            data / "labels" / f"{case}.nii.gz",
            labels={"anterior": 1, "posterior": 2},
        )
        (row,) = (row for row in raw if case in row[0])
        ours = [score.dice for score in scores.rows]
        np.testing.assert_allclose([float(value) for value in row[1:3]], ours, atol=1e-5)


def test_training_writes_weights_and_a_checkpoint(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_bundle)
    bundle_run(
        config_file="configs/train.yaml",
        dataset_dir=str(tiny_bundle.parent / "data"),
        output_dir=str(tmp_path / "run"),
        epochs=1,
        fold=1,
        logging_file=False,
    )
    written = {path.name for path in (tmp_path / "run").iterdir() if path.name[0] != "."}
    files = {"checkpoint.pt", "model.pt", "best.pt", "history.csv", "run.json", "curves.png"}
    assert written == files
    trained = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    shipped = torch.load(tiny_bundle / "models" / "model.pt", weights_only=True)
    assert trained.keys() == shipped.keys()


def test_the_reader_gives_the_values_of_the_file(tiny_bundle):
    """What the network is fed is the file's own values, moved but not changed."""
    from volseg.bundle import build_parts, open_bundle

    path = tiny_bundle.parent / "data" / "images" / "ball0.nii.gz"
    image = build_parts(open_bundle(tiny_bundle)).preprocessing({"image": str(path)})["image"]
    stored = nib.as_closest_canonical(nib.load(path))
    values = np.asarray(stored.dataobj, dtype=np.float64)
    expected = (values - values.mean()) / values.std()
    np.testing.assert_allclose(image.numpy()[0], expected, atol=1e-4)
    np.testing.assert_allclose(image.affine.numpy(), stored.affine, atol=1e-6)
