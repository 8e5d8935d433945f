"""Files of probabilities and other maps that are filled block by block as they are computed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from monai.data import MetaTensor

from volseg.atomic import replacing, replacing_folder, writing_to
from volseg.errors import InputError
from volseg.io.block_spool import BlockSpool
from volseg.io.nifti_saving import nifti_header_of, save_nifti
from volseg.io.stored_volume import StoredVolume
from volseg.io.volume import open_volume
from volseg.io.write import codes_of
from volseg.io.zarr_saving import require_zarr, save_zarr

_SUFFIXES = (".nii", ".nii.gz", ".zarr")


class FloatTarget(Protocol):
    """An array in a file that is written block by block."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32."""

    def __setitem__(self, place: tuple[slice, ...], values: Any, /) -> None:
        """Write a block; ``place`` has a slice for each axis."""


@contextmanager
def probabilities_target(
    path: str | os.PathLike[str],
    *,
    like: StoredVolume | MetaTensor | str | os.PathLike[str],
    classes: int,
) -> Iterator[FloatTarget]:
    """Give an array (classes, x, y, z) to write probabilities to, block by block, in flat memory.

    The file appears whole when the block ends, and not at all if it fails. Voxels that are never
    written are 0. Blocks that are all cut along one spatial axis, whichever, are written fastest.

    Args:
        path: `.nii` (class last), `.nii.gz` (compressed at the end from a temporary file beside
            it) or `.zarr` (class first, made at the end likewise); missing folders are made.
        like: the image whose grid it is, or its path; its voxels are not needed.
        classes: number of classes.

    Yields:
        A target of float32 (classes, x, y, z), of pictures (classes, x, y).

    Raises:
        InputError: if the suffix is unknown or the format cannot hold the grid.
        MissingPackageError: for `.zarr` without the package zarr.
        OutputError: if writing fails; nothing half-written is left.
    """
    with _spool(path, like, classes) as spool:
        yield spool


@contextmanager
def map_target(
    path: str | os.PathLike[str], *, like: StoredVolume | MetaTensor | str | os.PathLike[str]
) -> Iterator[FloatTarget]:
    """Give an array (x, y, z) to write a map such as the entropy to: as `probabilities_target`.

    Args:
        path: `.nii`, `.nii.gz` or `.zarr`.
        like: the image whose grid it is, or its path; its voxels are not needed.

    Yields:
        A target of float32 (x, y, z), of pictures (x, y).

    Raises:
        InputError: if the suffix is unknown or the format cannot hold the grid.
        MissingPackageError: for `.zarr` without the package zarr.
        OutputError: if writing fails; nothing half-written is left.
    """
    with _spool(path, like, 1) as spool:
        yield _OneChannel(spool)


class _OneChannel:
    """A spool of one channel, without the axis of channels."""

    def __init__(self, spool: BlockSpool) -> None:
        self._spool = spool
        self.shape = spool.shape[1:]
        self.dtype = spool.dtype

    def __setitem__(self, place: tuple[slice, ...], values: Any) -> None:
        self._spool[(slice(None), *place)] = np.asarray(values)[np.newaxis]


@contextmanager
def _spool(path: str | os.PathLike[str], like: Any, channels: int) -> Iterator[BlockSpool]:
    target = Path(path)
    name = target.name.lower()
    if not name.endswith(_SUFFIXES):
        raise InputError(
            f"cannot write {target}: the suffix {''.join(target.suffixes[-2:])!r} is not known for "
            f"maps that are written in parts; expected one of {', '.join(_SUFFIXES)}."
        )
    image = like if isinstance(like, StoredVolume) else open_volume(like)
    shape = (channels, *image.grid.shape)
    affine = image.grid.affine
    if name.endswith(".zarr"):
        require_zarr()
        with (
            replacing_folder(target, marked_by="zarr.json", only_writing=False) as temporary,
            _temporary_spool(target, shape, temporary.parent) as spool,
        ):
            yield spool
            with writing_to(target):
                save_zarr(spool, affine, temporary)
        return
    header = nifti_header_of(shape, BlockSpool.dtype, affine, codes_of(image))
    if name.endswith(".gz"):
        with (
            replacing(target, only_writing=False) as temporary,
            _temporary_spool(target, shape, temporary.parent) as spool,
        ):
            yield spool
            with writing_to(target):
                save_nifti(spool, affine, temporary, codes_of(image))
        return
    with (
        replacing(target, only_writing=False) as temporary,
        _opened(target, lambda: temporary.open("w+b")) as stream,
    ):
        with writing_to(target):
            header.write_to(stream)
        spool = BlockSpool(stream, shape, target, stream.tell())
        yield spool
        spool.turn()


@contextmanager
def _temporary_spool(target: Path, shape: tuple[int, ...], folder: Path) -> Iterator[BlockSpool]:
    """Give a spool in a file without a name, which is gone even after a killed run."""
    with _opened(target, lambda: tempfile.TemporaryFile(dir=folder)) as stream:
        yield BlockSpool(stream, shape, target)


@contextmanager
def _opened(target: Path, opened: Callable[[], Any]) -> Iterator[Any]:
    """Open a file and close it; that this fails is of the target, all else is of the block."""
    with writing_to(target):
        stream = opened()
    try:
        yield stream
        with writing_to(target):
            stream.close()
    finally:
        with suppress(OSError):  # what could not be written before
            stream.close()
