"""What a file holds, before it becomes a MetaTensor: the common ground of all readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError, InputError
from volseg.geometry import Affine


@dataclass
class StoredImage:
    """Voxels and geometry as stored.

    Attributes:
        values: (channels, x, y, z) or (channels, x, y), true values (scaling applied).
        affine: RAS+ affine in mm; None if the file does not state where its voxels lie.
        format: name of the format, such as "NIfTI-1".
        stored_type: name of the type in the file, such as "int16".
        source: path as given, for messages and meta.
        no_geometry: why there is no affine, as a sentence for the user.
        remarks: what is unusual about the file.
        meta: further collatable entries (numbers and strings) for the MetaTensor.
    """

    values: npt.NDArray[Any]
    affine: Affine | None
    format: str
    stored_type: str
    source: str
    no_geometry: str = ""
    remarks: list[str] = field(default_factory=list)
    meta: dict[str, int | float | str] = field(default_factory=dict)

    def require_affine(self) -> Affine:
        """Return the affine.

        Raises:
            GeometryError: if the file does not state it.
        """
        if self.affine is None:
            raise GeometryError(self.no_geometry)
        return self.affine


@contextmanager
def within_memory(source: str) -> Iterator[None]:
    """Turn a lack of memory into a sentence.

    Raises:
        InputError: if there is too little.
    """
    try:
        yield
    except MemoryError as error:
        raise InputError(
            f"cannot read {source}: its voxels do not fit into the memory of this computer."
        ) from error


def exact_values(array: npt.NDArray[Any], source: str) -> npt.NDArray[Any]:
    """Return the array in native byte order and a type that torch computes with, values unchanged.

    Unsigned integers wider than 8 bits become the next wider signed type.

    Raises:
        InputError: for complex or other values that no such type holds exactly.
    """
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    kind, size = native.dtype.kind, native.dtype.itemsize
    if kind == "c":
        raise InputError(
            f"cannot read {source}: its voxels are complex numbers ({native.dtype}), which have no "
            "single brightness; convert it to a magnitude image first."
        )
    if kind == "b":
        return native.astype(np.uint8)
    if kind == "u" and size in (2, 4):
        return native.astype({2: np.int32, 4: np.int64}[size])
    if kind == "u" and size == 8:
        if native.size and native.max() > np.iinfo(np.int64).max:
            raise InputError(
                f"cannot read {source}: its unsigned 64-bit value {native.max()} is past the "
                f"largest supported one, {np.iinfo(np.int64).max}; rescale it first."
            )
        return native.astype(np.int64)
    if kind == "f" and size > 8:
        narrowed = native.astype(np.float64)
        if not np.array_equal(narrowed.astype(native.dtype), native, equal_nan=True):
            raise InputError(
                f"cannot read {source}: its {native.dtype} values do not fit float64; convert it."
            )
        return narrowed
    if kind not in "uif":
        raise InputError(f"cannot read {source}: voxels of type {native.dtype} are not supported.")
    return native


def narrow_scaled(scaled: npt.NDArray[Any], stored: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return scaled values as float32 if they come from at most 16 stored bits, else as float64."""
    few_bits = stored.kind in "iub" and stored.itemsize <= 2
    return scaled.astype(np.float32 if few_bits else np.float64, copy=False)
