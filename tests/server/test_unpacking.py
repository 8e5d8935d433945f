"""Zips of strangers: only DICOM files come out, under names of ours, and never too much."""

from __future__ import annotations

import errno
import io
import stat
import tracemalloc
import zipfile

import numpy as np
import pytest

from volseg.errors import InputError
from volseg.server import unpacking
from volseg.server.unpacking import unpack_dicom

_DICOM = bytes(128) + b"DICM" + bytes(200)


def packed(tmp_path, entries, **options):
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def unpack(archive, folder, most_files=100, most_bytes=10**9):
    return unpack_dicom(archive, folder, most_files=most_files, most_bytes=most_bytes)


def test_names_that_lead_elsewhere_are_not_used(tmp_path):
    names = [
        "../../evil.dcm",
        "/etc/evil.dcm",
        "a/../../b.dcm",
        "C:\\evil.dcm",
        "a/b.dcm",
        "a\0b",
    ]
    archive = packed(tmp_path, [(name, _DICOM) for name in names])
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert unpack(archive, tmp_path / "out") == len(names)
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert written == {tmp_path / "out" / f"{number:06}.dcm" for number in range(len(names))}


def test_what_is_not_dicom_is_left_out(tmp_path):
    link = zipfile.ZipInfo("link.dcm")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w") as inner:
        inner.writestr("c.dcm", _DICOM)
    archive = packed(
        tmp_path,
        [
            ("readme.txt", b"hello"),
            (link, b"/etc/passwd"),
            ("folder/", b""),
            ("nested.zip", nested.getvalue()),
            ("evil.pkl", b"\x80\x04K\x01."),
            ("a.dcm", _DICOM),
        ],
    )
    assert unpack(archive, tmp_path / "out") == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000000.dcm"]
    assert not (tmp_path / "out" / "000000.dcm").is_symlink()


def test_a_bomb_is_stopped_before_it_goes_off(tmp_path):
    archive = packed(tmp_path, [(f"{number}.dcm", _DICOM + bytes(20 << 20)) for number in range(9)])
    assert archive.stat().st_size < 300_000
    with pytest.raises(InputError, match="larger than this server takes"):
        unpack(archive, tmp_path / "out")
    written = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert written <= 65 << 20


def test_a_zip_that_lies_about_its_sizes_is_stopped(tmp_path):
    archive = packed(tmp_path, [("a.dcm", _DICOM + bytes(1 << 20))])
    content = archive.read_bytes()
    size = len(_DICOM) + (1 << 20)
    archive.write_bytes(content.replace(size.to_bytes(4, "little"), (332).to_bytes(4, "little")))
    with pytest.raises(InputError):
        unpack(archive, tmp_path / "out", most_bytes=1 << 19)


def test_too_many_entries(tmp_path):
    archive = packed(tmp_path, [(f"{number}", b"") for number in range(101)])
    with pytest.raises(InputError, match="101 entries"):
        unpack(archive, tmp_path / "out")


def test_a_directory_that_is_too_large_is_not_read(tmp_path):
    """Whatever the end of the zip says of the number of its entries."""
    archive = packed(tmp_path, [(f"{number:01000}", b"") for number in range(2200)])
    assert zipfile.ZipFile(archive).start_dir < archive.stat().st_size - (1 << 21)
    content = archive.read_bytes()
    archive.write_bytes(content[:-14] + b"\1\0\1\0" + content[-10:])
    tracemalloc.start()
    with pytest.raises(InputError, match="directory of the zip is larger than 2,097,152 bytes"):
        unpack(archive, tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_damaged_content_of_any_kind(tmp_path, method):
    archive = tmp_path / "upload.zip"
    content = np.random.default_rng(0).bytes(10_000)
    with zipfile.ZipFile(archive, "w", method) as opened:
        opened.writestr("a.dcm", _DICOM + content)
    damaged = bytearray(archive.read_bytes())
    damaged[60:5000] = bytes(4940)
    archive.write_bytes(damaged)
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out")


def test_a_disk_that_is_full_is_not_the_zip_s_fault(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unpacking, "_copied", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(packed(tmp_path, [("a.dcm", _DICOM)]), tmp_path / "out")


def test_damaged_encrypted_and_empty_zips(tmp_path):
    archive = packed(tmp_path, [("a.dcm", _DICOM)])
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # the flag of encryption, in the entry and in the directory
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(bytes(content))
    with pytest.raises(InputError, match="password"):
        unpack(archive, tmp_path / "out")
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out")
    with pytest.raises(InputError, match="no DICOM file"):
        unpack(packed(tmp_path, []), tmp_path / "out")
