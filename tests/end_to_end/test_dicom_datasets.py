"""DICOM folders through MONAI's own runner: the label maps of every other door."""

from __future__ import annotations

import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import run as bundle_run

from volseg import read_image
from volseg.cli.main import main
from volseg.errors import InputError

CASES = ("mr_hippocrop_a", "mr_oblique_hitachi", "bad_gantry_tilt")


def run(bundle, data, out):
    bundle_run(
        config_file=str(bundle / "configs" / "inference.yaml"),
        bundle_root=str(bundle),
        dataset_dir=str(data),
        output_dir=str(out),
        logging_file=False,
    )


@pytest.mark.data
def test_a_dataset_of_dicom_folders(tiny_bundle, tmp_path, data_root, capfd):
    dataset = tmp_path / "dataset"
    for case in CASES:
        shutil.copytree(data_root / "dicom_series" / case / "dicom", dataset / case / "series")
    (dataset / "notes").mkdir()
    config = tiny_bundle / "configs" / "inference.yaml"  # with fewer tiles
    text = re.sub(r"^overlap: .*$", "overlap: 0.125", config.read_text(), flags=re.MULTILINE)
    config.write_text(text)
    run(tiny_bundle, dataset, tmp_path / "run")
    command = ["segment", *(str(dataset / case) for case in CASES), "-o", str(tmp_path / "cli")]
    with pytest.raises(SystemExit) as end:
        main([*command, "--bundle", str(tiny_bundle)])
    assert not end.value.code, capfd.readouterr().err
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == sorted(f"{case}_seg.nii.gz" for case in CASES)
    for case in CASES:
        by_bundle = nib.load(tmp_path / "run" / f"{case}_seg.nii.gz")
        by_command = nib.load(tmp_path / "cli" / f"{case}_seg.nii.gz")
        np.testing.assert_array_equal(np.asarray(by_bundle.dataobj), np.asarray(by_command.dataobj))
        np.testing.assert_array_equal(by_bundle.affine, by_command.affine)
        image = read_image(data_root / "dicom_series" / case / "dicom")
        assert by_bundle.shape == tuple(image.shape[1:])
        np.testing.assert_allclose(by_bundle.affine, image.affine.numpy(), atol=1e-4)


@pytest.mark.data
def test_what_cannot_be_read_rightly_is_refused_there_too(tiny_bundle, tmp_path, data_root):
    uneven = data_root / "dicom_series" / "bad_slice_increment" / "dicom"
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps it in its own
        run(tiny_bundle, uneven, tmp_path / "run")
    chain = [caught.value]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    (refusal,) = (error for error in chain if isinstance(error, InputError))
    assert "equal gaps" in str(refusal)
    assert not list((tmp_path / "run").glob("*"))
