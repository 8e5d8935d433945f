"""Reading of NIfTI-1 and NIfTI-2 files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.volumeutils import native_code

from volseg.io.memory_order import copy_in_tiles
from volseg.io.nifti_blocks import nifti_blocks, true_type
from volseg.io.nifti_geometry import nifti_geometry
from volseg.io.nifti_header import one_sentence, open_nifti
from volseg.io.stored_image import StoredImage

# Deep enough that the last axis, the fastest in memory, is written in long runs.
_BLOCK_VOXELS = 1 << 24


def read_nifti(path: Path, orientation: str | None = None) -> StoredImage:
    """Return the content of a NIfTI file, `.nii`, `.nii.gz` or a `.hdr` and `.img` pair.

    Args:
        path: an existing file; either file of a pair.
        orientation: axis codes the caller vouches for, used only if the header states none.

    Raises:
        InputError: if the file is damaged or holds something that is not an image.
        GeometryError: if its affine is damaged.
    """
    file = open_nifti(path)
    with one_sentence(file.source):
        values = np.empty(file.shape, true_type(file))
    for block in nifti_blocks(file, _BLOCK_VOXELS):
        copy_in_tiles(values[block.place], block.values)
    geometry = nifti_geometry(file.header, file.shape[1:], file.source, orientation)
    remarks = geometry.remarks
    native_type = file.stored_type.newbyteorder("=")
    if file.is_scaled:
        remarks.append(f"values scaled from stored {native_type}")
    if file.header.endianness != native_code:
        remarks.append("stored in the byte order of another machine")
    axes = len(file.stored_shape)
    if axes > 3:
        remarks.append(f"stored with {axes} axes {file.stored_shape}")
    elif axes < 3:
        remarks.append(f"stored with {axes} axes; a third of one voxel was added")
    version = 2 if file.header.sizeof_hdr == 540 else 1
    return StoredImage(
        values=values,
        affine=geometry.affine,
        format=f"NIfTI-{version}",
        stored_type={3: "RGB24", 4: "RGBA32"}.get(file.colours, str(native_type)),
        source=file.source,
        no_geometry=geometry.no_geometry,
        remarks=remarks,
        meta=geometry.meta,
    )
