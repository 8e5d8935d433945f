"""Which files an image of several files consists of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from volseg.errors import InputError
from volseg.io import files_of_image

NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 3\nencoding: raw\n{}\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 3\nElementType = MET_UCHAR\n{}\n"
SLICES = ["s1.raw", "s2.raw", "s3.raw"]


@pytest.mark.parametrize(
    ("name", "header", "named"),
    [
        ("a.nhdr", NRRD.format("data file: voxels of b.raw"), ["voxels of b.raw"]),
        ("a.nhdr", NRRD.format("DataFile:in/b.raw.gz"), ["in/b.raw.gz"]),
        ("a.nhdr", NRRD.format("data file: LIST\ns1.raw\ns2.raw\ns3.raw"), SLICES),
        ("a.nhdr", NRRD.format("data file: s%d.raw 1 3 1 2"), SLICES),
        ("a.nrrd", NRRD.format("data file: b.raw"), ["b.raw"]),
        ("a.nrrd", NRRD.format("\ndata file: b.raw"), []),  # those are voxels
        ("a.mhd", META.format("ElementDataFile = b.zraw"), ["b.zraw"]),
        ("a.mhd", META.format("ElementDataFile = LIST\ns1.raw\ns2.raw\ns3.raw"), SLICES),
        ("a.mhd", META.format("ElementDataFile = s%03d.raw 3 1 -2"), ["s003.raw", "s001.raw"]),
        ("a.mhd", META.format("ElementDataFile = s%d.raw"), SLICES),
        ("a.mhd", META.format("ElementDataFile = s%d.raw 2"), ["s2.raw", "s3.raw", "s4.raw"]),
        ("a.mha", META.format("ElementDataFile = LOCAL"), []),
        ("a.mha", "nonsense", []),
        ("a.nii.gz", "ElementDataFile = b.raw", []),
    ],
)
def test_files_that_a_header_names(tmp_path: Path, name: str, header: str, named: list[str]):
    (tmp_path / name).write_text(header)
    expected = [tmp_path / one for one in [name, *named]]
    assert files_of_image(tmp_path / name) == expected


@pytest.mark.parametrize("numbers", ["", " 1", " 1 3 1"])
def test_they_are_those_that_are_read(tmp_path: Path, numbers: str):
    """SimpleITK reads the same from them."""
    voxels = np.arange(12, dtype=np.uint8)
    for number, part in enumerate(np.split(voxels, 3), start=1):
        (tmp_path / f"s{number}.raw").write_bytes(part.tobytes())
    (tmp_path / "a.mhd").write_text(META.format(f"ElementDataFile = s%d.raw{numbers}"))
    (tmp_path / "a.nhdr").write_text(NRRD.format("data file: s%d.raw 1 3 1 2"))
    for name in ("a.mhd", "a.nhdr"):
        read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name))).ravel()
        assert read.tolist() == voxels.tolist()
        parts = [path.read_bytes() for path in files_of_image(tmp_path / name)[1:]]
        assert b"".join(parts) == voxels.tobytes()


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
def test_a_pair_by_either_name(tmp_path: Path, name: str):
    assert files_of_image(tmp_path / name) == [tmp_path / "a.hdr", tmp_path / "a.img"]


def test_a_header_that_names_files_without_end(tmp_path: Path):
    (tmp_path / "a.mhd").write_text(META.format("ElementDataFile = s%d.raw 0 999999999 1"))
    with pytest.raises(InputError, match="more than 100,000 files"):
        files_of_image(tmp_path / "a.mhd")
