"""Where the voxels of a NIfTI file lie: sform, qform, units and what can be wrong with them.

The rules are those of the NIfTI-1 standard (nifti1.h, methods 1 to 3): an affine counts only if
its code is greater than zero, the sform comes first, and `pixdim[0]` other than -1 means 1.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.quaternions import fillpositive, quat2mat

from volseg.errors import GeometryError
from volseg.geometry import Affine, direction_of, parse_orientation

logger = logging.getLogger(__name__)

_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {0: "unknown", 1: "metre", 2: "mm", 3: "micron"}
_DISAGREEMENT_IN_VOXELS = 0.01
# Three float32 numbers describe the rotation; nibabel uses the same allowance.
_QUATERNION_THRESHOLD = -1e-5


@dataclass
class NiftiGeometry:
    """The affine of a NIfTI header and what is unusual about it.

    Attributes:
        affine: RAS+ mm; None if the header states none.
        sform_code: as stored.
        qform_code: as stored.
        no_geometry: sentence for the user if there is no affine.
        remarks: what is unusual.
    """

    affine: Affine | None
    sform_code: int
    qform_code: int
    no_geometry: str
    remarks: list[str]

    @property
    def meta(self) -> dict[str, int | float | str]:
        """The codes, as entries of a MetaTensor."""
        return {"sform_code": self.sform_code, "qform_code": self.qform_code}

    def require_affine(self) -> Affine:
        """Return the affine.

        Raises:
            GeometryError: if the header does not state it.
        """
        if self.affine is None:
            raise GeometryError(self.no_geometry)
        return self.affine


def nifti_geometry(
    header: Any, shape: tuple[int, ...], source: str, orientation: str | None
) -> NiftiGeometry:
    """Return the geometry stated by a NIfTI header.

    Args:
        header: unmodified nibabel NIfTI-1 or NIfTI-2 header.
        shape: (x, y, z) of the voxels.
        source: file name for messages.
        orientation: axis codes the caller vouches for, used only if the header states no affine.

    Raises:
        GeometryError: if the affine that counts is damaged.
    """
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    remarks: list[str] = []
    scale = _mm_per_unit(header, source, remarks)
    sform = _sform(header, scale, source) if sform_code > 0 else None
    qform = _qform_unless_spare(header, scale, source, sform, remarks) if qform_code > 0 else None
    affine = qform if sform is None else sform
    if sform is not None and qform is not None:
        _compare(sform, qform, shape, source, remarks)
    no_geometry = (
        f"cannot place {source} in the world: its sform and qform codes are {sform_code} and "
        f"{qform_code} where one above 0 is expected, so left and right are unknown; if you know "
        "the orientation of its axes, state it (orientation='RAS', --orientation RAS) or write it "
        "into a file (`volseg convert IN OUT --orientation RAS`), or else convert the scan again "
        "from its source."
    )
    if affine is None:
        remarks.append("states no orientation: sform and qform codes are 0")
    if orientation is not None:
        codes = parse_orientation(orientation)
        if affine is None:
            affine = _from_stated_orientation(header, scale, codes, source)
            remarks.append(f"orientation {''.join(codes)} stated by the caller, not by the file")
        elif affine.orientation != codes:
            logger.warning(
                "%s states its own axes %s; the stated orientation %s is not used.",
                source,
                "".join(affine.orientation),
                "".join(codes),
            )
    return NiftiGeometry(affine, sform_code, qform_code, no_geometry, remarks)


def _mm_per_unit(header: Any, source: str, remarks: list[str]) -> float:
    unit = int(header["xyzt_units"]) & 7
    if unit not in _MM_PER_UNIT:
        raise GeometryError(
            f"cannot place {source} in the world: its unit of length has the unknown code {unit}, "
            "expected metre, mm or micron; correct its header."
        )
    if unit in (1, 3):
        remarks.append(f"lengths stored in {_UNIT_NAMES[unit]}, converted to mm")
    return _MM_PER_UNIT[unit]


def _sform(header: Any, scale: float, source: str) -> Affine:
    rows = [np.asarray(header[name], dtype=np.float64) for name in ("srow_x", "srow_y", "srow_z")]
    return _affine([*(row * scale for row in rows), [0, 0, 0, 1]], "sform", source)


def _qform_unless_spare(
    header: Any, scale: float, source: str, sform: Affine | None, remarks: list[str]
) -> Affine | None:
    """Return the qform; if a valid sform counts, a damaged qform is a remark and not an error."""
    try:
        return _qform(header, scale, source)
    except GeometryError as error:
        if sform is None:
            raise
        remarks.append("the qform is damaged; the sform is used")
        logger.warning("the sform is used, the qform is damaged: %s", error)
        return None


def _qform(header: Any, scale: float, source: str) -> Affine:
    spacing = _spacing(header, source)
    parts = np.array([header[f"quatern_{name}"] for name in "bcd"], dtype=np.float64)
    offset = np.array([header[f"qoffset_{axis}"] for axis in "xyz"], dtype=np.float64)
    try:
        if not np.all(np.isfinite(parts)):
            raise ValueError("not finite")
        rotation = quat2mat(fillpositive(parts, w2_thresh=_QUATERNION_THRESHOLD))
    except ValueError as error:
        raise GeometryError(
            f"cannot place {source} in the world: its qform quaternion {parts.tolist()} is not a "
            "rotation (finite, of length at most 1); correct its header."
        ) from error
    mirror = np.array([1.0, 1.0, -1.0 if header["pixdim"][0] == -1 else 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * (spacing * mirror * scale)
    matrix[:3, 3] = offset * scale
    return _affine(matrix, "qform", source)


def _from_stated_orientation(
    header: Any, scale: float, codes: tuple[str, ...], source: str
) -> Affine:
    if len(codes) != 3:
        raise GeometryError(
            f"a NIfTI file has three axes in the world; the stated orientation "
            f"{''.join(codes)!r} has {len(codes)} for {source}."
        )
    return Affine.from_parts(_spacing(header, source) * scale, direction=direction_of(codes))


def _spacing(header: Any, source: str) -> Any:
    spacing = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    axes = int(header["dim"][0])
    # An axis the file does not have may be left at 0; its single voxel is given 1 unit.
    spacing = np.where((np.arange(3) >= axes) & (spacing == 0), 1.0, spacing)
    if not np.all(np.isfinite(spacing)) or np.any(spacing <= 0):
        raise GeometryError(
            f"cannot place {source} in the world: its voxel sizes (pixdim) are {spacing.tolist()}, "
            "expected positive numbers; correct its header."
        )
    return spacing


def _affine(matrix: Any, name: str, source: str) -> Affine:
    try:
        return Affine(matrix)
    except GeometryError as error:
        raise GeometryError(f"cannot place {source} in the world: its {name}: {error}") from error


def _compare(
    sform: Affine, qform: Affine, shape: tuple[int, ...], source: str, remarks: list[str]
) -> None:
    apart = sform.displacement(qform, shape)
    if apart > _DISAGREEMENT_IN_VOXELS * min(sform.spacing):
        remarks.append(f"sform and qform disagree by up to {apart:.3g} mm; the sform is used")
        logger.warning(
            "sform and qform of %s disagree by up to %.3g mm; the sform is used.", source, apart
        )
