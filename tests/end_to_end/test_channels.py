"""T1 and FLAIR in files of their own, through every door, in training, and where it goes wrong."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import run as bundle_run

from volseg import Segmenter, read_image
from volseg.bundle import Composition, build_parts, new_bundle, open_bundle, verify_bundle
from volseg.choosing import measure_bundle
from volseg.cli.main import main
from volseg.data import read_datalist
from volseg.errors import InputError, ShapeError, UnknownNameError
from volseg.io import write_image
from volseg.segmenter.in_memory import run_in_memory
from volseg.training import train_bundle


@pytest.fixture
def images(two_channel_bundle):
    return two_channel_bundle.parent / "data" / "images"


@pytest.fixture
def case(images):
    return {name: images / name / "ball0.nii.gz" for name in ("t1", "flair")}


def segment(capfd, *words):
    """Exit code and standard error of `volseg segment`."""
    with pytest.raises(SystemExit) as end:
        main(["segment", *map(str, words)])
    return end.value.code or 0, capfd.readouterr().err


def labels_in(path):
    return np.asarray(nib.load(path).dataobj)


def test_a_bundle_of_named_channels_is_a_sound_bundle(two_channel_bundle):
    bundle = open_bundle(two_channel_bundle)
    assert (bundle.channels, bundle.in_channels) == (["t1", "flair"], 2)
    assert bundle.metadata["composition"]["channels"] == ["t1", "flair"]
    assert all(check.passed for check in verify_bundle(two_channel_bundle))


def test_every_door_gives_the_same_label_map(two_channel_bundle, images, case, tmp_path, capfd):
    turned = {"FLAIR": case["flair"], "t1": case["t1"]}
    expected = Segmenter(two_channel_bundle).segment(turned).numpy()[0]
    assert len(np.unique(expected)) > 1
    # The other way round the network sees something else: the order is the bundle's.
    joined = read_image({"flair": case["flair"], "t1": case["t1"]})
    assert (Segmenter(two_channel_bundle).segment(joined).numpy()[0] != expected).any()

    out = ["-o", tmp_path / "named", "--bundle", two_channel_bundle]
    words = [word for name, path in turned.items() for word in ("--channel", f"{name}={path}")]
    assert segment(capfd, *words, *out, "--case", "first")[0] == 0
    assert np.array_equal(labels_in(tmp_path / "named" / "first_seg.nii.gz"), expected)

    out[1] = tmp_path / "folder"
    assert segment(capfd, images, *out)[0] == 0
    numbered = tmp_path / "imagesTs"
    numbered.mkdir()
    for number, channel in enumerate(("t1", "flair")):
        for path in (images / channel).iterdir():
            shutil.copy(path, numbered / path.name.replace(".nii", f"_{number:04}.nii"))
    for layout in (images, numbered):
        bundle_run(
            config_file=str(two_channel_bundle / "configs" / "inference.yaml"),
            bundle_root=str(two_channel_bundle),
            dataset_dir=str(layout),
            output_dir=str(tmp_path / "run" / layout.name),
            logging_file=False,
        )
    written = [tmp_path / "folder", *(tmp_path / "run").iterdir()]
    assert len(written) == 3
    for folder in written:
        maps = sorted(path.name for path in folder.glob("*.nii.gz"))
        assert maps == [f"ball{n}_seg.nii.gz" for n in range(6)]
        found = nib.load(folder / "ball0_seg.nii.gz")
        assert np.array_equal(np.asarray(found.dataobj), expected)
        assert np.array_equal(found.affine, nib.load(case["t1"]).affine)


def test_every_kind_of_image_gives_the_same_label_map(two_channel_bundle, case, tmp_path):
    segmenter = Segmenter(two_channel_bundle)
    expected = segmenter.segment(case).numpy()
    write_image(read_image(case), tmp_path / "both.nii.gz")
    parts = build_parts(open_bundle(two_channel_bundle))
    in_memory = run_in_memory(parts, read_image(case), torch.device("cpu"))
    for found in (
        segmenter.segment({name: read_image(path) for name, path in case.items()}),
        segmenter.segment(read_image(case)),
        segmenter.segment(tmp_path / "both.nii.gz"),
        in_memory,
    ):
        assert np.array_equal(found.numpy(), expected)
    plans = []
    budgeted = Segmenter(two_channel_bundle, memory_budget="4GB")
    budgeted.segment_file(case, tmp_path / "labels.nii.gz", planned=plans.append)
    assert np.array_equal(labels_in(tmp_path / "labels.nii.gz"), expected[0])
    on_disk = {share.what: share.size for share in plans[0].files}
    assert on_disk["image on the network's grid"] == 4 * 2 * 20 * 24 * 16


def test_a_bundle_of_other_transforms_takes_channels_too(two_channel_bundle, case, tmp_path):
    path = two_channel_bundle / "configs" / "inference.yaml"
    import yaml

    config = yaml.safe_load(path.read_text())
    config["preparation"][0] = {"_target_": "volseg.io.ReadImaged", "keys": "image"}
    config["preparation"][-1] = {
        "_target_": "monai.transforms.NormalizeIntensityd",
        "keys": "image",
        "channel_wise": True,
    }
    path.write_text(yaml.safe_dump(config))
    segmenter = Segmenter(two_channel_bundle)
    labels = segmenter.segment({"flair": case["flair"], "t1": case["t1"]})
    assert np.array_equal(segmenter.segment(read_image(case)).numpy(), labels.numpy())
    segmenter.segment_file(case, tmp_path / "labels.nii.gz")
    assert np.array_equal(labels_in(tmp_path / "labels.nii.gz"), labels.numpy()[0])


def test_wrong_channels_are_named(two_channel_bundle, case, tiny_network_of_other_order):
    segmenter = Segmenter(two_channel_bundle)
    with pytest.raises(UnknownNameError, match="bundle two_channel_bundle 'flare': .*'flair'"):
        segmenter.segment({"t1": case["t1"], "flare": case["flair"]})
    with pytest.raises(InputError, match="takes the channels t1, flair, but flair is missing"):
        segmenter.segment({"t1": case["t1"]})
    with pytest.raises(ShapeError, match=r"takes 2 \(t1, flair\) in 3D: .*by its name"):
        segmenter.segment(case["t1"])
    with pytest.raises(InputError, match="differ in channels"):
        Segmenter([two_channel_bundle, tiny_network_of_other_order])


@pytest.fixture
def tiny_network_of_other_order(two_channel_bundle):
    other = two_channel_bundle.parent / "other_order"
    shutil.copytree(two_channel_bundle, other)
    path = other / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    image["channel_def"] = {"0": "flair", "1": "t1"}
    path.write_text(json.dumps(metadata))
    return other


def test_the_command_says_what_is_wrong(two_channel_bundle, images, case, tmp_path, capfd):
    out = ["-o", tmp_path / "out", "--bundle", two_channel_bundle]
    t1, flair = f"t1={case['t1']}", f"flair={case['flair']}"
    for words, sentence in (
        (["--channel", t1], "flair is missing"),
        (["--channel", t1, "--channel", t1], "t1 is given twice"),
        (["--channel", t1, "--channel", "flair"], "'flair' cannot be read: expected NAME=INPUT"),
        (["--channel", t1, "--channel", "flair=absent.nii"], "no file or folder absent.nii"),
        (["--channel", t1, "--channel", flair, "--case", "../a"], "'../a' cannot name files"),
        ([case["t1"], "--case", "a"], "--case names the case of --channel"),
        ([case["t1"], "--series", "t1=,flair=1"], "'t1=,flair=1' cannot be read"),
        ([], "there is nothing to segment"),
    ):
        code, errors = segment(capfd, *words, *out)
        assert code == 2
        assert sentence in errors.replace("\n", " ")
        assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()
    moved = nib.load(case["flair"])
    affine = moved.affine.copy()
    affine[0, 3] += 0.5
    other = tmp_path / "moved.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(moved.dataobj), affine), other)
    words = ["--channel", t1, "--channel", f"flair={other}", *out]
    code, errors = segment(capfd, *words)
    assert code == 2
    assert "up to 0.5 mm apart" in errors
    assert "--onto-first" in errors
    assert segment(capfd, *words, "--onto-first")[0] == 0
    (images / "flair" / "ball3.nii.gz").unlink()
    code, errors = segment(capfd, images, *out)
    assert code == 2
    assert "the case ball3" in errors


def test_training_and_measuring_take_channels_from_the_datalist(two_channel_bundle, tmp_path):
    data = two_channel_bundle.parent / "data"
    path = two_channel_bundle / "configs" / "datalist.json"
    content = json.loads(path.read_text())
    for entry in content["training"][::2]:  # JSON does not promise an order
        entry["image"] = dict(reversed(entry["image"].items()))
    path.write_text(json.dumps(content))
    inference = two_channel_bundle / "configs" / "inference.yaml"
    inference.write_text(inference.read_text().replace("backend: auto", "backend: torch"))
    trained = train_bundle(two_channel_bundle, data, tmp_path / "trained", fold=1, epochs=1)
    scores = measure_bundle(trained.folder, data, fold=1)
    assert {row.case for row in scores.rows} == {"ball1", "ball4"}


def test_a_new_bundle_lists_channels(two_channel_bundle, tmp_path):
    composition = Composition(
        network="unet", recipe="mr", labels=("lesion",), channels=("t1", "flair")
    )
    data = two_channel_bundle.parent / "data"
    bundle = new_bundle(tmp_path / "lesions", composition, data=data)
    first = read_datalist(bundle.folder / "configs" / "datalist.json")[0]
    assert first.image == {"t1": "images/t1/ball0.nii.gz", "flair": "images/flair/ball0.nii.gz"}
    for channels, sentence in (
        (("t1", "T1"), "not all different"),
        (("t1", "a=b"), "'a=b' cannot name a channel"),
    ):
        wrong = Composition(network="unet", recipe="mr", labels=("lesion",), channels=channels)
        with pytest.raises(InputError, match=sentence):
            new_bundle(tmp_path / "wrong", wrong)


def test_the_command_makes_a_bundle_of_channels(tmp_path, capfd):
    words = ["--network", "unet", "--recipe", "mr", "--labels", "lesion", "--channels", "t1, t2"]
    with pytest.raises(SystemExit, match="0"):
        main(["bundle", "new", str(tmp_path / "lesions"), *words])
    capfd.readouterr()
    assert open_bundle(tmp_path / "lesions").channels == ["t1", "t2"]
    words += ["--set", "in_channels=2"]
    with pytest.raises(SystemExit, match="2"):
        main(["bundle", "new", str(tmp_path / "other"), *words])
    assert "leave it out" in capfd.readouterr().err


@pytest.mark.data
def test_results_in_dicom_are_of_the_first_channel(data_root, two_channel_bundle, tmp_path, capfd):
    folder = data_root / "dicom_series" / "mr_hippocrop_a"
    out = ["-o", tmp_path, "--bundle", two_channel_bundle, "--case", "a"]
    words = ["--channel", f"flair={folder / 'dcm2niix.nii.gz'}", "--channel"]
    words += [f"t1={folder / 'dicom'}", "--format", "nifti,dicom-seg,sr"]
    code, errors = segment(capfd, *words, *out)
    assert code == 0, errors
    seg = pydicom.dcmread(tmp_path / "a_seg.dcm")
    source = pydicom.dcmread(next((folder / "dicom").iterdir()))
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    out[1] = tmp_path / "other"
    code, errors = segment(
        capfd,
        *["--channel", f"t1={folder / 'dcm2niix.nii.gz'}", "--channel"],
        *[f"flair={folder / 'dicom'}", "--format", "dicom-seg"],
        *out,
    )
    assert code == 2
    assert "dcm2niix.nii.gz is none" in errors.replace("\n", " ")
