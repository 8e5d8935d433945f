"""The voxels of a NIfTI file as true values, read once and forwards, some planes at a time."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.volumeutils import apply_read_scaling

from volseg.io.nifti_header import NiftiFile, cut_short, one_sentence
from volseg.io.stored_image import exact_values, narrow_scaled
from volseg.io.volume_block import VolumeBlock, cuts

_PIECE = 1 << 16  # values scaled at a time, so that their float64 copies stay in the cache


def nifti_blocks(file: NiftiFile, voxels: int) -> Iterator[VolumeBlock]:
    """Yield the true values of a file, in its order, exactly and in the type of `true_type`.

    Args:
        file: its checked header.
        voxels: values a block may have; it has at least one plane.

    Raises:
        InputError: if the file is damaged, which in a compressed file may show at its end only.
    """
    sides = file.shape[1:]
    # The slowest axis: of a picture it is y.
    axis = max((axis for axis, side in enumerate(sides) if side > 1), default=2)
    plane = int(np.prod(sides, dtype=np.int64)) // sides[axis] * file.colours
    with one_sentence(file.source), _opened(file) as stream:
        stream.seek(file.offset)
        for volume, start, stop in cuts(file.volumes, sides[axis], plane, voxels):
            shape = [*sides, volume.stop - volume.start]
            shape[axis] = stop - start
            values = true_values(_read(stream, int(np.prod(shape)), file), file)
            values = values.reshape((file.colours, *shape), order="F")
            # There are several colours or several volumes, never both.
            values = values[..., 0] if file.colours > 1 else np.moveaxis(values[0], -1, 0)
            channel = slice(volume.start * file.colours, volume.stop * file.colours)
            yield VolumeBlock(channel, axis, start, stop, values)
        # The checksum of gzip is compared only at the end of the stream.
        while file.packed and stream.read(1 << 20):
            pass


def true_type(file: NiftiFile) -> np.dtype[Any]:
    """Return the type of the true values of a file.

    Raises:
        InputError: if no type that torch computes with holds them.
    """
    stored = np.dtype(np.uint8) if file.colours > 1 else file.stored_type
    return true_values(np.empty(0, stored), file).dtype


def true_values(stored: npt.NDArray[Any], file: NiftiFile) -> npt.NDArray[Any]:
    """Return stored values (flat) scaled, in native byte order and a type torch computes with.

    Raises:
        InputError: if no such type holds them.
    """
    if stored.dtype.kind == "c" or not file.is_scaled:
        return exact_values(stored, file.source)
    slope, inter = np.float64(file.slope), np.float64(file.inter)
    scaled = np.empty(stored.size, narrow_scaled(np.empty(0), stored.dtype).dtype)
    for start in range(0, stored.size, _PIECE):
        piece = slice(start, start + _PIECE)
        scaled[piece] = narrow_scaled(apply_read_scaling(stored[piece], slope, inter), stored.dtype)
    return scaled


def _opened(file: NiftiFile) -> Any:
    return gzip.open(file.data_path, "rb") if file.packed else file.data_path.open("rb")


def _read(stream: BufferedIOBase, voxels: int, file: NiftiFile) -> npt.NDArray[Any]:
    """Return the next voxels; of colours the bytes."""
    stored = np.empty(voxels, file.stored_type)
    if stream.readinto(stored.view(np.uint8).data) < stored.nbytes:
        raise cut_short(file, stream.tell())
    return stored.view(np.uint8) if file.colours > 1 else stored
