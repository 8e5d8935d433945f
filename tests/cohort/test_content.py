"""What changes of an image make its results outdated, wherever its voxels lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from volseg.cohort.content import digest_of, stamp_of
from volseg.errors import InputError

HEADERS = {
    "ct.nhdr": "NRRD0004\ndata file: other.raw.gz\n",
    "ct.mhd": "NDims = 3\nElementDataFile = other.raw.gz\n",
}


@pytest.mark.parametrize(
    ("image", "voxels"),
    [
        ("ct.nhdr", "other.raw.gz"),
        ("ct.mhd", "other.raw.gz"),
        ("ct.hdr", "ct.img"),
        ("ct.img", "ct.hdr"),
    ],
)
def test_every_file_of_an_image_counts(tmp_path: Path, image: str, voxels: str):
    (tmp_path / image).write_text(HEADERS.get(image, "header"))
    (tmp_path / voxels).write_bytes(b"before")
    (tmp_path / "ct.txt").write_text("notes")
    inputs = {"image": tmp_path / image}
    stamp, digest = stamp_of(inputs), digest_of(inputs)
    (tmp_path / "ct.txt").write_text("other notes")
    assert (stamp_of(inputs), digest_of(inputs)) == (stamp, digest)
    (tmp_path / voxels).write_bytes(b"afterwards")
    assert stamp_of(inputs) != stamp
    assert digest_of(inputs) != digest
    (tmp_path / voxels).unlink()
    with pytest.raises(InputError, match=voxels):
        stamp_of(inputs)


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path):
    (tmp_path / "ct.nhdr").write_text("NRRD0004\ndata file: other\0.raw\n")
    with pytest.raises(InputError, match="cannot read"):
        stamp_of({"image": tmp_path / "ct.nhdr"})


def test_files_of_folders_that_are_links_count(tmp_path: Path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "IM0001").write_bytes(b"before")
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "series").symlink_to(tmp_path / "archive")
    inputs = {"image": tmp_path / "p1"}
    stamp, digest = stamp_of(inputs), digest_of(inputs)
    (tmp_path / "archive" / "IM0001").write_bytes(b"afterwards")
    assert stamp_of(inputs) != stamp
    assert digest_of(inputs) != digest
