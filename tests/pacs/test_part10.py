"""Files: what is whole, and what was cut off."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless, SurfaceSegmentationStorage

from volseg.errors import InputError
from volseg.pacs.part10 import damage, files_of


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "dicom_misc/CT_small.dcm",
        "dicom_misc/MR_small_RLE.dcm",
        "dicom_misc/MR_small_jp2klossless.dcm",
        "dicom_misc/MR_small_bigendian.dcm",
        "dicom_misc/test-SR.dcm",
        "dicom_seg/highdicom/seg_image_ct_binary_overlap.dcm",
        "dicom_seg/dcmqi_24x38x3/label_seg.dcm",
    ],
)
def test_a_cut_anywhere_is_seen(data_root, tmp_path, name):
    content = (data_root / name).read_bytes()
    path = tmp_path / "cut.dcm"
    path.write_bytes(content)
    assert damage(path) is None
    cuts = np.linspace(0, len(content) - 1, 60).astype(int)
    for cut in {*cuts.tolist(), *(len(content) - last for last in range(1, 17))}:
        path.write_bytes(content[:cut])
        assert damage(path) is not None, cut


def test_a_file_that_lost_all_its_pixels_is_seen(make_series):
    (path,) = make_series(1)
    dataset = pydicom.dcmread(path)
    pixels = dataset.PixelData
    dataset.PixelData = pixels[:-2]
    dataset.save_as(path)
    assert damage(path) == "it has 382 bytes of pixels, expected 384"
    del dataset.PixelData
    dataset.save_as(path)
    assert damage(path) == "it has no pixels"


def test_surfaces_have_no_pixels_to_lose(make_series):
    (path,) = make_series(1)
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = SurfaceSegmentationStorage
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(dataset, keyword)
    dataset.save_as(path)
    assert damage(path) is None


def test_what_follows_the_last_element_is_seen(make_series):
    (path,) = make_series(1)
    path.write_bytes(path.read_bytes() + b"more")
    assert damage(path) is not None


def test_compressed_files_are_whole(make_series):
    (path,) = make_series(1)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    assert damage(path) is None
    path.write_bytes(path.read_bytes()[:-9])
    assert damage(path) is not None


def test_files_of_folders(make_series, tmp_path):
    paths = make_series(2)
    inner = paths[0].parent / "inner"
    inner.mkdir()
    paths[1].rename(inner / "no_suffix")
    (paths[0].parent / "note.txt").write_text("no DICOM")
    directory = pydicom.dcmread(paths[0])
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.save_as(paths[0].parent / "DICOMDIR")
    assert list(files_of([paths[0].parent])) == [paths[0], inner / "no_suffix"]
    assert list(files_of([paths[0]])) == [paths[0]]
    with pytest.raises(InputError, match="is not a DICOM file"):
        list(files_of([paths[0].parent / "note.txt"]))
    with pytest.raises(InputError, match="there is no file or folder"):
        list(files_of([tmp_path / "none"]))


def test_folders_that_are_links_are_looked_into(make_series, tmp_path):
    """As in a study that was put together of an archive."""
    first, second = (make_series(2)[0].parent for _ in range(2))
    study = tmp_path / "study"
    study.mkdir()
    first.rename(study / "p1")
    (study / "p2").symlink_to(second)
    (study / "p1" / "itself").symlink_to(study)
    names = [str(path.relative_to(study)) for path in files_of([study])]
    assert names == ["p1/000.dcm", "p1/001.dcm", "p2/000.dcm", "p2/001.dcm"]


def test_a_folder_that_cannot_be_listed_is_named(make_series, tmp_path, monkeypatch):
    folder = make_series(1)[0].parent
    scandir = os.scandir

    def refuse(path):
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=f"cannot read .*{folder.name}: Permission denied"):
        list(files_of([tmp_path]))
