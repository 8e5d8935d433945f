"""Opening of NIfTI-1 and NIfTI-2 files: the header, checked, before any voxel is read."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from volseg.errors import InputError, VolsegError
from volseg.io.detached import pair_of
from volseg.io.stored_image import within_memory

_GZIP = b"\x1f\x8b"
# Size of the header, which is also its first field, and the nibabel class for it.
_SINGLE = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_PAIR = {348: nib.nifti1.Nifti1PairHeader, 540: nib.nifti2.Nifti2PairHeader}


@dataclass(frozen=True)
class NiftiFile:
    """A NIfTI file of which the header has been read.

    Attributes:
        source: path as given, for messages and meta.
        data_path: the file that holds the voxels.
        header: unmodified nibabel header.
        stored_shape: all axes of the file; the first one is the fastest.
        stored_type: type of a voxel, of colours with one name each.
        slope: stored values are multiplied by it.
        inter: then this is added.
    """

    source: str
    data_path: Path
    header: Any
    stored_shape: tuple[int, ...]
    stored_type: np.dtype[Any]
    slope: float
    inter: float

    @property
    def packed(self) -> bool:
        """Whether the voxels are compressed by gzip."""
        return self.data_path.suffix.lower() == ".gz"

    @property
    def offset(self) -> int:
        """Bytes before the first voxel; in a single file that states none, the fewest there are."""
        fewest = self.header.single_vox_offset if self.header.is_single else 0
        return int(self.header.get_data_offset()) or int(fewest)

    @property
    def unpacked_bytes(self) -> int:
        """Bytes of header and voxels."""
        voxels = int(np.prod(self.stored_shape, dtype=object))
        return self.offset + voxels * self.stored_type.itemsize

    @property
    def colours(self) -> int:
        """Values a voxel has: 3 for RGB, 4 for RGBA, otherwise 1."""
        return len(self.stored_type.names or ()) or 1

    @property
    def volumes(self) -> int:
        """Volumes along the axes beyond space: time or vector."""
        return int(np.prod(self.stored_shape[3:], dtype=np.int64))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Channels, x, y, z."""
        x, y, z = (*self.stored_shape, 1, 1)[:3]
        return self.volumes * self.colours, x, y, z

    @property
    def is_scaled(self) -> bool:
        """Whether the stored values are not yet the true ones."""
        return self.colours == 1 and (self.slope, self.inter) != (1, 0)


def open_nifti(path: Path) -> NiftiFile:
    """Return what the header of a `.nii`, `.nii.gz` or a `.hdr` and `.img` pair says, checked.

    Args:
        path: an existing file; either file of a pair.

    Raises:
        InputError: if the header is damaged, the file is too short for it, or it holds something
            that is not an image of true values (channels, x, y, z).
    """
    source = str(path)
    header_path, data_path = _files(path)
    with one_sentence(source):
        header = _header(header_path, source, paired=header_path != data_path)
        shape = tuple(int(size) for size in header.get_data_shape())
        if not shape or any(size < 1 for size in shape):
            raise InputError(f"cannot read {source}: its shape {shape} has no voxels.")
        slope, inter = header.get_slope_inter()
        file = NiftiFile(
            source=source,
            data_path=data_path,
            header=header,
            stored_shape=shape,
            stored_type=header.get_data_dtype(),
            slope=1.0 if slope is None else slope,
            inter=0.0 if inter is None else inter,
        )
        _require_enough_bytes(file)
    _require_one_channel_axis(file)
    return file


def cut_short(file: NiftiFile, found: int) -> InputError:
    """Return the error of a file that has only this number of bytes."""
    return InputError(
        f"cannot read {file.source}: it is cut short, {file.unpacked_bytes} bytes of header and "
        f"voxels are expected and the file has {found}; copy or export it again."
    )


@contextmanager
def one_sentence(source: str) -> Iterator[None]:
    """Turn what gzip and nibabel raise on damaged files into one sentence."""
    try:
        with within_memory(source):
            yield
    except VolsegError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"cannot read {source}: its gzip compression is cut short or damaged; copy or export "
            "it again."
        ) from error
    except (HeaderDataError, OSError, ValueError, OverflowError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"cannot read {source}: the file is damaged ({reason}); copy or export it again."
        ) from error


def _files(path: Path) -> tuple[Path, Path]:
    """Return the paths of header and voxels, which are the same for a single file."""
    if path.suffix.lower() not in (".hdr", ".img"):
        return path, path
    pair = pair_of(path)
    for part in pair:
        if not part.is_file():
            raise InputError(
                f"cannot read {path}: the other file of the pair, {part.name}, is missing; put "
                "both in one folder."
            )
    return pair


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
    pair, single = {348: (b"ni1", b"n+1"), 540: (b"ni2", b"n+2")}[size]
    if magic not in (pair, single):
        raise InputError(
            f"cannot read {source}: its header is not marked as NIfTI, expected "
            f"{(pair if paired else single).decode()!r}, found {magic!r}; if it is an Analyze 7.5 "
            "file, which does not tell left from right, convert the scan again from its source."
        )
    if (magic == pair) != paired:
        kinds = ("a single file, .nii", "a pair, .hdr and .img")
        raise InputError(
            f"cannot read {source}: its header is marked {magic.decode()!r}, as that of "
            f"{kinds[not paired]}, but it is of {kinds[paired]}, so where its voxels begin is not "
            "known; convert the scan again from its source."
        )
    offset = float(header["vox_offset"])
    if not (offset == 0 or offset >= (0 if paired else size)):
        raise InputError(
            f"cannot read {source}: its voxels begin at byte {offset:g} (vox_offset), expected "
            f"{'0' if paired else f'{size}, after the header,'} or more; it is damaged."
        )
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise InputError(
            f"cannot read {source}: its header states {axes} axes, expected 1 to 7; it is damaged."
        )
    return header


def _require_enough_bytes(file: NiftiFile) -> None:
    found = file.data_path.stat().st_size
    # No gzip stream expands by more than 1032 to 1.
    if (found * 1032 if file.packed else found) < file.unpacked_bytes:
        raise cut_short(file, found)


def _require_one_channel_axis(file: NiftiFile) -> None:
    beyond = [size for size in (*file.stored_shape[3:], file.colours) if size > 1]
    if len(beyond) > 1:
        raise InputError(
            f"cannot read {file.source}: its shape {file.stored_shape} with {file.colours} colours "
            "has more than one axis beyond x, y and z, of which only one can become channels; "
            "split it into several files."
        )
