"""Reading the label maps that volseg writes.

Readers of Slicer turn the slices of some NIfTI files around, and refuse sheared ones; here the
voxels are wanted just as they lie in the file, for they are those of the volume.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from .errors import VolSegError

_TYPES = {2: np.uint8, 512: np.uint16}


def read_label_map(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels ``(k, j, i)`` and the IJK to RAS matrix of a ``.nii.gz`` of volseg.

    Raises:
        VolSegError: it is missing or no such file.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise VolSegError(f"the label map {path} cannot be read: {error}.") from error
    # Offsets of NIfTI-1: https://nifti.nimh.nih.gov/nifti-1
    if len(content) < 352 or content[344:348] != b"n+1\0" or content[:4] != b"\x5c\x01\0\0":
        raise VolSegError(f"{path} is not a label map of volseg: expected NIfTI-1, little-endian.")
    size_i, size_j, size_k = (int(side) for side in np.frombuffer(content, "<i2", 3, 42))
    kind = int(np.frombuffer(content, "<i2", 1, 70)[0])
    start = int(np.frombuffer(content, "<f4", 1, 108)[0])
    count = size_i * size_j * size_k
    if kind not in _TYPES or len(content) < start + count * np.dtype(_TYPES[kind]).itemsize:
        raise VolSegError(f"{path} is not a label map of volseg: expected whole uint8 or uint16.")
    voxels = np.frombuffer(content, np.dtype(_TYPES[kind]).newbyteorder("<"), count, start)
    ijk_to_ras = np.eye(4)
    ijk_to_ras[:3] = np.frombuffer(content, "<f4", 12, 280).reshape(3, 4)
    return voxels.reshape(size_k, size_j, size_i), ijk_to_ras
