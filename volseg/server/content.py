"""What an uploaded file is, by its content alone: the name a client gives it is never used.

Formats that can refer to other files (NIfTI pairs, detached NRRD and MetaImage headers, DICOMDIR)
are refused where they do: they could name files of the server.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path

from volseg.errors import InputError

ZIP = ".zip"
_HEADER_BYTES = 1 << 20  # of a segmentation of a hundred structures it is more than 64 KiB
_PICTURES = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\x00": ".tif",
    b"MM\x00*": ".tif",
    b"II+\x00": ".tif",
    b"MM\x00+": ".tif",
}
_IS_DIRECTORY = b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10"  # Media Storage SOP Class UID
# A field of a MetaImage on a line of its own; names are printable, as "0008|0005" of DICOM.
_META_FIELD = re.compile(rb"\s*([!-9;<>-~](?:[\t -9;<>-~]*[!-9;<>-~])?)[ \t]*=([^\r]*)\r?")
# White space of one line: \s would take all lines that follow, at each of them anew.
_NAMES_VOXELS = re.compile(rb"^[ \t\r\f\v]*ElementDataFile\s*[=:]", re.MULTILINE)
_NAMES_A_FILE = re.compile(rb"^[ \t\r\f\v]*data ?file\s*:", re.MULTILINE)
_SIZES = re.compile(rb"\d{1,18}(?:[ \t]+\d{1,18}){0,16}")  # NRRD has 16 axes at most
_KNOWN = "NIfTI, NRRD, MetaImage, DICOM, PNG, TIFF or JPEG, or a zip of DICOM files"


def suffix_of_content(path: Path, *, most_bytes: int) -> str:
    """Return the suffix that a file should have: of an image format, or ``.zip``.

    Args:
        path: a file; its name does not matter.
        most_bytes: how large the image may be that the header of a compressed file promises.

    Raises:
        InputError: it is none of the known formats, refers to other files, or promises too much.
    """
    with path.open("rb") as stream:
        start = stream.read(_HEADER_BYTES)
    if not start:
        raise InputError("the uploaded file is empty: export it again.")
    if start.startswith(b"PK\x03\x04"):
        return ZIP
    if start[128:132] == b"DICM":
        if _IS_DIRECTORY in start[:1024]:
            raise InputError("the uploaded file is a DICOMDIR, an index only: send the images.")
        return ".dcm"
    if start.startswith(b"\x1f\x8b"):
        return _nifti(_unzipped(path), ".nii.gz")
    for magic, suffix in _PICTURES.items():
        if start.startswith(magic):
            return suffix
    if start.startswith(b"NRRD000"):
        return _nrrd(start, most_bytes)
    if _NAMES_VOXELS.search(start):
        return _metaimage(start, most_bytes)
    return _nifti(start, ".nii")


def _unzipped(path: Path) -> bytes:
    try:
        with gzip.open(path) as stream:
            return stream.read(1024)
    except (OSError, EOFError, zlib.error):
        raise InputError("the uploaded gzip file is damaged: export it again.") from None


def _nifti(start: bytes, suffix: str) -> str:
    """Tell a NIfTI file that holds its voxels from all else."""
    size = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    if size & {348, 540}:
        magic = start[344:348] if 348 in size else start[4:8]
        if magic[:3] in (b"n+1", b"n+2"):
            return suffix
        raise InputError(
            "the uploaded file is one half of a NIfTI or Analyze pair: send one .nii or .nii.gz."
        )
    raise InputError(f"the uploaded file is of no known format: send {_KNOWN}.")


def _nrrd(start: bytes, most_bytes: int) -> str:
    text = re.sub(rb"\r\n?", b"\n", start).lower()  # its reader ends lines at each of the three
    header, end, _ = text.partition(b"\n\n")
    # It puts long lines together from pieces, which a zero byte would end.
    if b"\0" in header or _NAMES_A_FILE.search(header):
        raise InputError("the uploaded NRRD refers to another file: send it with its voxels.")
    if not end:
        raise InputError("the header of the uploaded NRRD has no end: export it again.")
    sizes = re.search(rb"^sizes\s*:(.*)", header, re.MULTILINE)
    _require_moderate(sizes[1].strip() if sizes else b"", most_bytes)
    return ".nrrd"


def _metaimage(start: bytes, most_bytes: int) -> str:
    """Tell a MetaImage that holds its voxels.

    Its reader takes ':' for '=' and looks for the value of a field on the lines that follow, too.
    So nothing but plain fields are taken, each of them once.
    """
    fields: dict[bytes, bytes] = {}
    *lines, _ = start.split(b"\n")  # the last one may be cut off
    for line in filter(bytes.strip, lines):
        field = _META_FIELD.fullmatch(line)
        if field is None or field[1] in fields:
            break
        fields[field[1]] = field[2].strip(b" \t")
        if field[1] == b"ElementDataFile":  # which ends the header
            break
    if fields.get(b"ElementDataFile") != b"LOCAL":
        raise InputError(
            "the uploaded MetaImage refers to another file, or its header is not made of lines "
            "'Name = value', one a field: send one .mha."
        )
    sizes = fields.get(b"DimSize", b"")
    if fields.get(b"NDims") != b"%d" % len(sizes.split()):
        sizes = b""  # its reader takes what lacks from the next line
    channels = fields.get(b"ElementNumberOfChannels", b"1")
    _require_moderate(b"%b %b" % (sizes, channels), most_bytes)
    return ".mha"


def _require_moderate(sizes: bytes, most_bytes: int) -> None:
    """Refuse a header unless it says in plain numbers that the image is not too large."""
    if _SIZES.fullmatch(sizes) is None:
        raise InputError(
            "the header of the uploaded file does not say how large the image is, in whole "
            "numbers, one for each axis: export it again."
        )
    voxels = math.prod(map(int, sizes.split()))
    if voxels > most_bytes:
        raise InputError(
            f"the header of the uploaded file promises {voxels:,} voxels, more than this server "
            "takes."
        )
