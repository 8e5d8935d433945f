"""The reader for MONAI's LoadImage: what read_image gives, and its refusals."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import LoadImage, LoadImaged

from volseg.errors import GeometryError, InputError
from volseg.io import VolsegReader, read_image, write_image


def load_image(**options: Any) -> Any:
    """Return a LoadImage, without the remarks of MONAI's own readers on missing packages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LoadImage(**options)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    values = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    image = read_image_of(values, tmp_path / "a.nii.gz")
    assert image.shape == (1, 2, 3, 4)
    return tmp_path / "a.nii.gz"


def read_image_of(values: Any, path: Path) -> Any:
    from volseg.io import as_image

    matrix = np.diag([-1.0, 2.0, 3.0, 1.0])
    matrix[:3, 3] = [4, 5, 6]
    write_image(as_image(values, matrix), path)
    return read_image(path)


def test_one_channel_has_no_axis_unless_asked_for(volume: Path) -> None:
    expected = read_image(volume)
    plain = load_image(reader=VolsegReader)(volume)
    np.testing.assert_array_equal(plain.numpy(), expected.numpy()[0])
    first = load_image(reader=VolsegReader, ensure_channel_first=True)(volume)
    np.testing.assert_array_equal(first.numpy(), expected.numpy())
    torch.testing.assert_close(first.affine, expected.affine)
    assert first.meta["filename_or_obj"] == str(volume)


def test_several_files_are_channels_of_one_grid(volume: Path, tmp_path: Path) -> None:
    other = read_image_of(np.ones((1, 2, 3, 4), np.float32), tmp_path / "b.nii.gz")
    both = load_image(reader=VolsegReader, ensure_channel_first=True)(
        [volume, tmp_path / "b.nii.gz"]
    )
    np.testing.assert_array_equal(both.numpy()[0], read_image(volume).numpy()[0])
    np.testing.assert_array_equal(both.numpy()[1], other.numpy()[0])
    read_image_of(np.ones((1, 2, 3, 5), np.float32), tmp_path / "c.nii.gz")
    with pytest.raises(GeometryError, match="same spatial shape.*under keys of their own"):
        load_image(reader=VolsegReader)([volume, tmp_path / "c.nii.gz"])


def test_what_is_refused_is_not_read_by_another_reader(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        load_image(reader="volseg.io.VolsegReader")(tmp_path / "a.nii.gz")


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'irregular'"):
        load_image(reader=VolsegReader, irregulr="resample")


def test_it_knows_what_it_reads(volume: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert VolsegReader().verify_suffix(volume)
    assert not VolsegReader().verify_suffix(tmp_path / "notes.txt")


@pytest.mark.data
@pytest.mark.parametrize("case", ["bad_gantry_tilt", "mr_4d_ge", "mr_rgb", "enhanced_mr_philips"])
def test_dicom_folders_are_read_as_read_image_does(data_root: Path, case: str) -> None:
    folder = data_root / "dicom_series" / case / "dicom"
    expected = read_image(folder)
    loaded = load_image(reader=VolsegReader, ensure_channel_first=True)(folder)
    np.testing.assert_array_equal(loaded.numpy(), expected.numpy().astype(np.float32))
    torch.testing.assert_close(loaded.affine, expected.affine, rtol=0, atol=0)
    assert loaded.meta["series_instance_uid"] == expected.meta["series_instance_uid"]


@pytest.mark.data
def test_a_bundle_takes_it_by_name_with_options(
    data_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = data_root / "dicom_series" / "bad_slice_increment" / "dicom"
    config = {
        "load": {
            "_target_": "LoadImaged",
            "keys": "image",
            "reader": "volseg.io.VolsegReader",
            "irregular": "resample",
        }
    }
    with warnings.catch_warnings(), caplog.at_level(logging.ERROR):
        warnings.simplefilter("ignore")
        load = ConfigParser(config).get_parsed_content("load")
        refusing = LoadImaged("image", reader=VolsegReader)
    assert load({"image": folder})["image"].shape == (128, 128, 5)
    with pytest.raises(GeometryError, match="equal gaps"):
        refusing({"image": folder})
