"""Reading of NIfTI-1 and NIfTI-2 files."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import native_code

from volseg.errors import InputError, VolsegError
from volseg.io.nifti_geometry import nifti_geometry
from volseg.io.stored_image import StoredImage, exact_values, narrow_scaled

logger = logging.getLogger(__name__)

_GZIP = b"\x1f\x8b"
# Size of the header, which is also its first field, and the nibabel class for it.
_SINGLE = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_PAIR = {348: nib.nifti1.Nifti1PairHeader, 540: nib.nifti2.Nifti2PairHeader}


def read_nifti(path: Path, orientation: str | None = None) -> StoredImage:
    """Return the content of a NIfTI file, `.nii`, `.nii.gz` or a `.hdr` and `.img` pair.

    Args:
        path: an existing file; either file of a pair.
        orientation: axis codes the caller vouches for, used only if the header states none.

    Raises:
        InputError: if the file is damaged or holds something that is not an image.
        GeometryError: if its affine is damaged.
    """
    source = str(path)
    header_path, data_path = _files(path)
    with _one_sentence(source):
        header = _header(header_path, source, paired=header_path != data_path)
        shape = tuple(int(size) for size in header.get_data_shape())
        if not shape or any(size < 1 for size in shape):
            raise InputError(f"cannot read {source}: its shape {shape} has no voxels.")
        stored_type = header.get_data_dtype()
        colours = len(stored_type.names or ()) or 1
        _require_enough_bytes(data_path, header, shape, source)
        data, scaled = _values(data_path, header, source)
    values = _channels_first(data, shape, colours, source)
    geometry = nifti_geometry(header, values.shape[1:], source, orientation)
    remarks = geometry.remarks
    if scaled:
        remarks.append(f"values scaled from stored {stored_type.newbyteorder('=')}")
    if header.endianness != native_code:
        remarks.append("stored in the byte order of another machine")
    if len(shape) > 3:
        remarks.append(f"stored with {len(shape)} axes {shape}")
    elif len(shape) < 3:
        remarks.append(f"stored with {len(shape)} axes; a third of one voxel was added")
    version = 2 if header.sizeof_hdr == 540 else 1
    return StoredImage(
        values=values,
        affine=geometry.affine,
        format=f"NIfTI-{version}",
        stored_type={3: "RGB24", 4: "RGBA32"}.get(colours, str(stored_type.newbyteorder("="))),
        source=source,
        no_geometry=geometry.no_geometry,
        remarks=remarks,
        meta={"sform_code": geometry.sform_code, "qform_code": geometry.qform_code},
    )


def _files(path: Path) -> tuple[Path, Path]:
    """Return the paths of header and voxels, which are the same for a single file."""
    if path.suffix.lower() not in (".hdr", ".img"):
        return path, path
    upper = path.suffix.isupper()
    pair = [path.with_suffix(s.upper() if upper else s) for s in (".hdr", ".img")]
    for part in pair:
        if not part.is_file():
            raise InputError(
                f"cannot read {path}: the other file of the pair, {part.name}, is missing; put "
                "both in one folder."
            )
    return pair[0], pair[1]


def _header(path: Path, source: str, *, paired: bool) -> Any:
    with path.open("rb") as stream:
        compressed = stream.read(2) == _GZIP
    if compressed != (path.suffix.lower() == ".gz"):
        state = "compressed" if compressed else "not compressed"
        raise InputError(
            f"cannot read {source}: the file is {state} (gzip), which its name does not say; "
            f"rename it to end in {'.nii.gz' if compressed else '.nii'}."
        )
    with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
        start = stream.read(540)
        for order in ("<", ">"):
            size = int(np.frombuffer(start[:4].ljust(4, b"\0"), f"{order}i4")[0])
            if size in _SINGLE and len(start) >= size:
                return _checked_header(start[:size], order, size, source, paired=paired)
    raise InputError(
        f"cannot read {source}: it does not begin with a NIfTI header, expected its size 348 or "
        f"540 in the first 4 bytes, found {list(start[:4])}; it is damaged or another format."
    )


def _checked_header(start: bytes, order: str, size: int, source: str, *, paired: bool) -> Any:
    # Without nibabel's own check, which would replace damaged voxel sizes by plausible ones.
    header = (_PAIR if paired else _SINGLE)[size](start, endianness=order, check=False)
    magic = bytes(header["magic"].item())[:3]
    expected = {348: (b"ni1", b"n+1"), 540: (b"ni2", b"n+2")}[size]
    if magic not in expected:
        raise InputError(
            f"cannot read {source}: its header is not marked as NIfTI, expected "
            f"{expected[not paired].decode()!r}, found {magic!r}; if it is an Analyze 7.5 file, "
            "which does not tell left from right, convert the scan again from its source."
        )
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise InputError(
            f"cannot read {source}: its header states {axes} axes, expected 1 to 7; it is damaged."
        )
    return header


def _require_enough_bytes(path: Path, header: Any, shape: tuple[int, ...], source: str) -> None:
    expected = header.get_data_offset() + int(np.prod(shape, dtype=object)) * (
        header.get_data_dtype().itemsize
    )
    found = path.stat().st_size
    # No gzip stream expands by more than 1032 to 1.
    most = found * 1032 if path.suffix.lower() == ".gz" else found
    if most < expected:
        raise InputError(
            f"cannot read {source}: it is cut short, {expected} bytes of header and voxels are "
            f"expected and the file has {found}; copy or export it again."
        )


def _values(path: Path, header: Any, source: str) -> tuple[npt.NDArray[Any], bool]:
    """Return the values, and whether they were scaled."""
    packed = path.suffix.lower() == ".gz"
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        # A memory map would keep the file open behind the caller's back.
        found = _read_values(ArrayProxy(stream, header, mmap=False), source)
        # The checksum of gzip is compared only at the end of the stream.
        while packed and stream.read(1 << 20):
            pass
    return found


def _read_values(proxy: Any, source: str) -> tuple[npt.NDArray[Any], bool]:
    stored = proxy.dtype
    if stored.names:
        raw = proxy.get_unscaled()
        return np.stack([raw[name] for name in stored.names], axis=-1), False
    if stored.kind == "c" or (proxy.slope == 1 and proxy.inter == 0):
        return exact_values(proxy.get_unscaled(), source), False
    return narrow_scaled(np.asarray(proxy, dtype=np.float64), stored), True


def _channels_first(
    data: npt.NDArray[Any], shape: tuple[int, ...], colours: int, source: str
) -> npt.NDArray[Any]:
    """Return (channels, x, y, z) of data whose further axes are time, vector or colour."""
    space = (*shape, 1, 1)[:3]
    beyond = shape[3:]
    channels = [size for size in (*beyond, colours) if size > 1]
    if len(channels) > 1:
        raise InputError(
            f"cannot read {source}: its shape {shape} with {colours} colours has more than one "
            "axis beyond x, y and z, of which only one can become channels; split it into several "
            "files."
        )
    flat = data.reshape((*space, channels[0] if channels else 1), order="F")
    return np.ascontiguousarray(np.moveaxis(flat, -1, 0))


@contextmanager
def _one_sentence(source: str) -> Iterator[None]:
    """Turn what gzip and nibabel raise on damaged files into one sentence."""
    try:
        yield
    except VolsegError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"cannot read {source}: its gzip compression is cut short or damaged; copy or export "
            "it again."
        ) from error
    except MemoryError as error:
        raise InputError(
            f"cannot read {source}: its voxels do not fit into the memory of this computer."
        ) from error
    except (HeaderDataError, OSError, ValueError, OverflowError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"cannot read {source}: the file is damaged ({reason}); copy or export it again."
        ) from error
