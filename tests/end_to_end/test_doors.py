"""The same volume through every door gives the same label map, bit for bit."""

from __future__ import annotations

import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.bundle import run as bundle_run

from volseg import Segmenter, read_image
from volseg.bundle import shipped_bundles
from volseg.cli.main import main


def test_every_door_gives_the_same_label_map(tiny_bundle, tmp_path, capfd):
    data = tiny_bundle.parent / "data" / "images"
    image = data / "ball0.nii.gz"
    with pytest.raises(SystemExit, match="0"):
        main(["segment", str(image), "-o", str(tmp_path / "cli"), "--bundle", str(tiny_bundle)])
    bundle_run(
        config_file=str(tiny_bundle / "configs" / "inference.yaml"),
        bundle_root=str(tiny_bundle),
        dataset_dir=str(data),
        output_dir=str(tmp_path / "run"),
        logging_file=False,
    )
    capfd.readouterr()
    by_command = nib.load(tmp_path / "cli" / "ball0_seg.nii.gz")
    by_bundle = nib.load(tmp_path / "run" / "ball0_seg.nii.gz")
    by_python = Segmenter(tiny_bundle).segment(image)
    expected = np.asarray(by_command.dataobj)
    assert expected.any()
    assert np.array_equal(np.asarray(by_bundle.dataobj), expected)
    assert np.array_equal(by_python.numpy()[0], expected)
    for affine in (by_bundle.affine, by_python.affine.numpy()):
        assert np.array_equal(affine, by_command.affine)
    assert np.array_equal(by_command.affine, nib.load(image).affine)


@pytest.mark.parametrize("codes", ["LPS", "PIR", "SAR"])
def test_storage_order_does_not_change_the_segmentation(tiny_bundle, codes):
    """The network sees RAS whatever the file's axes are; the label map comes back on them."""
    path = tiny_bundle.parent / "data" / "images" / "ball1.nii.gz"
    segmenter = Segmenter(tiny_bundle)
    reference = segmenter.segment(path)
    stored = nib.load(path)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(stored.affine), nib.orientations.axcodes2ornt(codes)
    )
    turned = stored.as_reoriented(turn)
    labels = segmenter.segment(np.asarray(turned.dataobj), turned.affine)
    back = nib.Nifti1Image(labels.numpy()[0], turned.affine).as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt(codes), nib.io_orientation(stored.affine)
        )
    )
    assert np.array_equal(np.asarray(back.dataobj), reference.numpy()[0])


def test_every_kind_of_input_gives_the_same_label_map(tiny_bundle):
    path = tiny_bundle.parent / "data" / "images" / "ball2.nii.gz"
    segmenter = Segmenter(tiny_bundle)
    expected = segmenter.segment(path)
    stored = nib.load(path)
    for given in (
        segmenter.segment(read_image(path)),
        segmenter.segment(np.asarray(stored.dataobj), stored.affine),
        segmenter.segment(sitk.ReadImage(str(path))),
    ):
        assert np.array_equal(given.numpy(), expected.numpy())
        assert np.allclose(given.affine, expected.affine, atol=1e-5)
    assert expected.numpy().dtype == np.uint8


def test_anisotropic_volumes_come_back_on_their_own_grid(tiny_bundle):
    """Resampled to 1 mm for the network and back: shape and affine are those of the input."""
    random = np.random.default_rng(0)
    affine = np.array([[0, 0.7, 0, -3], [-0.8, 0.1, 0, 9], [0, 0, 2.5, 4], [0, 0, 0, 1.0]])
    labels = Segmenter(tiny_bundle).segment(
        random.normal(size=(31, 27, 9)).astype(np.float32), affine
    )
    assert labels.shape == (1, 31, 27, 9)
    assert np.array_equal(labels.affine.numpy(), affine)


def test_a_segmenter_is_used_again_without_a_trace_of_the_last_case(tiny_bundle):
    folder = tiny_bundle.parent / "data" / "images"
    segmenter = Segmenter(tiny_bundle)
    first = segmenter.segment(folder / "ball0.nii.gz").numpy()
    segmenter.segment(folder / "ball1.nii.gz")
    assert np.array_equal(segmenter.segment(folder / "ball0.nii.gz").numpy(), first)


@pytest.mark.data
@pytest.mark.parametrize(
    ("bundle", "picture", "dice"),
    [
        ("membrane_unet", "isbi2012_em/train/image/2.png", 0.75),
        ("nuclei_bixnet", "nuclei_dsb2018/images/2b50b1e3fa5c.png", 0.7),
    ],
)
def test_a_picture_gives_the_same_picture_through_every_door(
    data_root, tmp_path, capfd, bundle, picture, dice
):
    source = data_root / picture
    (tmp_path / "images").mkdir()
    shutil.copy(source, tmp_path / "images")
    with pytest.raises(SystemExit, match="0"):
        main(["segment", str(source), "-o", str(tmp_path / "cli"), "--bundle", bundle])
    folder = shipped_bundles()[bundle]
    bundle_run(
        config_file=str(folder / "configs" / "inference.yaml"),
        bundle_root=str(folder),
        dataset_dir=str(tmp_path / "images"),
        output_dir=str(tmp_path / "run"),
        logging_file=False,
    )
    capfd.readouterr()
    name = f"{source.stem}_seg.png"
    assert (tmp_path / "cli" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    labels = Segmenter(bundle).segment(source).numpy()[0]
    assert np.array_equal(read_image(tmp_path / "cli" / name).numpy()[0], labels)
    # And it is a segmentation: about what was measured on the whole fold.
    stored = read_image(str(source).replace("image", "label")).numpy()[0]
    truth = stored == 0 if bundle == "membrane_unet" else stored > 0
    assert 2 * (labels & truth).sum() / (labels.sum() + truth.sum()) > dice


@pytest.mark.data
@pytest.mark.slow
def test_a_real_scan_through_the_real_programs(data_root, tmp_path, monkeypatch):
    """The two commands as a user types them, in processes of their own."""
    case = data_root / "msd_hippocampus" / "images" / "hippocampus_001.nii.gz"
    (tmp_path / "images").mkdir()
    shutil.copy(case, tmp_path / "images")
    subprocess.run(
        [
            *(sys.executable, "-m", "volseg", "segment", str(case)),
            *("--bundle", "hippocampus_unet", "-o", str(tmp_path / "cli")),
        ],
        check=True,
    )
    # From the bundle's folder, as its README says.
    monkeypatch.chdir(shipped_bundles()["hippocampus_unet"])
    subprocess.run(
        [
            *(sys.executable, "-m", "monai.bundle", "run"),
            *("--config_file", "configs/inference.yaml"),
            *("--dataset_dir", str(tmp_path / "images")),
            *("--output_dir", str(tmp_path / "run")),
        ],
        check=True,
        capture_output=True,
    )
    by_command = nib.load(tmp_path / "cli" / "hippocampus_001_seg.nii.gz")
    by_bundle = nib.load(tmp_path / "run" / "hippocampus_001_seg.nii.gz")
    by_python = Segmenter("hippocampus_unet").segment(case)
    expected = np.asarray(by_command.dataobj)
    assert np.array_equal(np.asarray(by_bundle.dataobj), expected)
    assert np.array_equal(by_python.numpy()[0], expected)
    assert np.array_equal(by_bundle.affine, by_command.affine)
    assert np.array_equal(by_python.affine.numpy(), by_command.affine)
    reference = data_root / "msd_hippocampus" / "labels" / "hippocampus_001.nii.gz"
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                *("evaluate", str(tmp_path / "cli" / "hippocampus_001_seg.nii.gz")),
                *(str(reference), "-o", str(tmp_path / "table.csv"), "-b", "hippocampus_unet"),
            ]
        )
    assert (tmp_path / "table.csv").is_file()


@pytest.mark.data
def test_the_shipped_weights_reach_what_the_metadata_claims(data_root):
    """A few held-out cases; the floor is a stock MONAI BasicUNet on unseen cases."""
    from volseg.data import fold_cases
    from volseg.evaluation import evaluate_case

    segmenter = Segmenter("hippocampus_unet")
    folder = data_root / "msd_hippocampus"
    datalist = segmenter.bundle.folder / "configs" / "datalist.json"
    cases = fold_cases(datalist, folder, fold=0, held_out=True)[:12]
    dice: dict[str, list[float]] = {"anterior": [], "posterior": []}
    for case in cases:
        reference = read_image(case["label"]).numpy()[0].astype(np.uint8)
        found = segmenter.segment(case["image"]).numpy()[0]
        for score in evaluate_case(
            found, reference, labels=segmenter.labels, spacing=(1.0, 1.0, 1.0)
        ):
            dice[score.name].append(score.dice)
    # 0.893 / 0.875 with 12 epochs of BasicUNet; a dozen cases scatter by about 0.01.
    assert np.mean(dice["anterior"]) > 0.88
    assert np.mean(dice["posterior"]) > 0.86
