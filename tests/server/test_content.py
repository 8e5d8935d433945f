"""Uploaded files are what their content says, and may not point at files of the server."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from volseg.errors import InputError
from volseg.server.content import suffix_of_content

_MOST = 10**9


def suffix(path, most_bytes=_MOST):
    renamed = path.rename(path.with_name("upload"))
    return suffix_of_content(renamed, most_bytes=most_bytes)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nifti_of_both_versions(tmp_path, name, kind):
    path = tmp_path / name
    nib.save(kind(np.zeros((3, 4, 5), np.int16), np.eye(4)), path)
    assert suffix(path) == name[1:]


def test_big_endian_nifti(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4))
    header = image.header.as_byteswapped(">")
    nib.save(nib.Nifti1Image(image.get_fdata(), np.eye(4), header), tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\x00\x00\x01\x5c"
    assert suffix(tmp_path / "a.nii") == ".nii"


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
@pytest.mark.parametrize("compressed", [False, True])
def test_what_itk_writes(tmp_path, name, compressed):
    image = sitk.GetImageFromArray(np.zeros((5, 4, 3), np.int16))
    sitk.WriteImage(image, tmp_path / name, useCompression=compressed)
    assert suffix(tmp_path / name) == name[1:]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_pictures(tmp_path, name):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    assert suffix(tmp_path / name) == name[1:]


@pytest.mark.parametrize("name", ["a.nhdr", "a.mhd"])
def test_headers_that_name_another_file_are_refused(tmp_path, name):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 4, 3), np.int16)), tmp_path / name)
    with pytest.raises(InputError, match="refers to another file"):
        suffix(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 3 4 5\nencoding: raw\n"
        b"data file: /etc/passwd\n\n",
        b"NRRD0004\r\ntype: short\r\nDATAFILE: LIST\r\n\r\n",
        b"NRRD0004\n" + b"#" * 70_000 + b"\ndata file: /etc/passwd\n\n",
        b"ObjectType = Image\nNDims = 3\nDimSize = 3 4 5\nElementDataFile = /etc/passwd\n",
        b"ObjectType = Image\n\tElementDataFile=LIST\n/etc/passwd\n",
        # As their readers understand them, which is not how they look.
        b"NRRD0004\n#x\rdata file: /etc/passwd\ntype: short\nsizes: 3 4 5\n\n",
        b"NRRD0004\ndata\0 file: /etc/passwd\ntype: short\nsizes: 3 4 5\n\n",
        b"NDims = 1\nDimSize = 3\nElementDataFile : /etc/passwd\nElementDataFile = LOCAL\n",
        b"NDims = 1\nComment\nElementDataFile = LOCAL\nElementDataFile = /etc/passwd\n",
        b"NDims = 1\nDimSize = 3\nElementDataFile\0 = /etc/passwd\nElementDataFile = LOCAL\n",
        b"NDims = 1\nDimSize = 3\n\vElementDataFile = /etc/passwd\nElementDataFile = LOCAL\n",
        b"NDims = 1\nName = x\rElementDataFile = LOCAL\nElementDataFile = /etc/passwd\n",
        b"ElementDataFile = LOCAL".rjust(1 << 20) + b"/../../etc/passwd\n",
    ],
)
def test_hand_made_headers_that_name_another_file_are_refused(tmp_path, content):
    (tmp_path / "upload").write_bytes(content)
    with pytest.raises(InputError, match="refers to another file"):
        suffix_of_content(tmp_path / "upload", most_bytes=_MOST)


@pytest.mark.parametrize("content", [b"\n" * 100_000, b"NRRD0004\n" + b" \n" * 32_000 + b"\n"])
def test_empty_lines_do_not_hold_the_server_up(tmp_path, content):
    """Whoever may send a file could stop it for all others."""
    (tmp_path / "upload").write_bytes(content)
    began = time.monotonic()
    with pytest.raises(InputError):
        suffix_of_content(tmp_path / "upload", most_bytes=_MOST)
    assert time.monotonic() - began < 2


def test_headers_of_many_structures(tmp_path):
    """Segmentations of 3D Slicer say of each segment what it is."""

    def segmentation(structures):
        fields = b"".join(b"Segment%d_Tags:=%b\n" % (n, b"x" * 600) for n in range(structures))
        return b"NRRD0004\ntype: uint8\nsizes: 1 1 1\nencoding: raw\n" + fields + b"\n\1"

    upload = tmp_path / "upload"
    upload.write_bytes(segmentation(120))
    assert suffix_of_content(upload, most_bytes=_MOST) == ".nrrd"
    upload.write_bytes(segmentation(2000))
    with pytest.raises(InputError, match="has no end"):
        suffix_of_content(upload, most_bytes=_MOST)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_headers_that_promise_too_much_are_refused(tmp_path, name):
    image = sitk.GetImageFromArray(np.zeros((50, 40, 30), np.uint8))
    sitk.WriteImage(image, tmp_path / name, useCompression=True)
    with pytest.raises(InputError, match="60,000 voxels"):
        suffix(tmp_path / name, most_bytes=59_999)


@pytest.mark.parametrize(
    "content",
    [
        b"NRRD0004\n#x\rsizes: 99999 99999\nencoding: gzip\n\n",
        b"NRRD0004\nsizes: 1\t99999 99999\nencoding: gzip\n\n",
        b"NDims = 2\nDimSize = 99999 99999\nElementDataFile = LOCAL\n",
        b"NDims = 2\nDimSize = 3 4\nElementNumberOfChannels = 999999999\nElementDataFile = LOCAL\n",
    ],
)
def test_hand_made_headers_that_promise_too_much_are_refused(tmp_path, content):
    (tmp_path / "upload").write_bytes(content)
    with pytest.raises(InputError, match="promises"):
        suffix_of_content(tmp_path / "upload", most_bytes=_MOST)


@pytest.mark.parametrize(
    "content",
    [
        b"NRRD0004\nencoding: gzip\n\n",
        b"NRRD0004\nsizes: 1e5 1e5\nencoding: gzip\n\n",
        b"NDims = 2\nElementDataFile = LOCAL\n",
        b"NDims = 2\nDimSize = 1e5 1e5\nElementDataFile = LOCAL\n",
        b"NDims = 2\nDimSize = 1\n99999 = 1\nElementDataFile = LOCAL\n",
    ],
)
def test_headers_that_do_not_say_how_large_an_image_is_are_refused(tmp_path, content):
    (tmp_path / "upload").write_bytes(content)
    with pytest.raises(InputError, match="does not say how large"):
        suffix_of_content(tmp_path / "upload", most_bytes=_MOST)


def test_metaimages_may_say_more_than_is_known(tmp_path):
    """As tags of DICOM, which SimpleITK writes along."""
    (tmp_path / "upload").write_bytes(
        b"NDims = 2\r\nDimSize = 3 4\r\n\r\n0008|0005 = ISO_IR 100: M\xc3\xbcller = x\r\n"
        b"Comment =\r\nElementDataFile = LOCAL\r\n" + bytes(12)
    )
    assert suffix_of_content(tmp_path / "upload", most_bytes=_MOST) == ".mha"


def test_half_of_a_pair_is_refused(tmp_path):
    nib.save(nib.Nifti1Pair(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.hdr")
    with pytest.raises(InputError, match="half"):
        suffix(tmp_path / "a.hdr")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"\x80\x04K\x01.", "no known format"),
        (b"#!/bin/sh\nrm -rf /\n", "no known format"),
        (gzip.compress(b"#!/bin/sh\n", mtime=0), "no known format"),
        (gzip.compress(bytes(10_000), mtime=0)[:20], "damaged"),
    ],
)
def test_all_else_is_refused(tmp_path, content, sentence):
    (tmp_path / "upload").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        suffix_of_content(tmp_path / "upload", most_bytes=_MOST)


def test_dicom_and_its_index(tmp_path):
    pydicom_files = pytest.importorskip("pydicom.data").get_testdata_file
    for name, expected in (("CT_small.dcm", ".dcm"), ("DICOMDIR", None)):
        path = tmp_path / "upload"
        path.write_bytes(Path(pydicom_files(name)).read_bytes())
        if expected:
            assert suffix_of_content(path, most_bytes=_MOST) == expected
        else:
            with pytest.raises(InputError, match="DICOMDIR"):
                suffix_of_content(path, most_bytes=_MOST)
