"""What the header of an NRRD or MetaImage file says of space and SimpleITK does not pass on.

SimpleITK fills in what is missing, such as a spacing of 1, ignores units, and says nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from volseg.errors import GeometryError
from volseg.io.formats import ImageFormat

_LONGEST_HEADER = 1 << 20
# The spaces of the NRRD format whose axes are anatomical.
_ANATOMICAL_SPACES = (
    "right-anterior-superior",
    "ras",
    "left-anterior-superior",
    "las",
    "left-posterior-superior",
    "lps",
)
# SimpleITK brings positions to LPS+, but not where time is the fourth axis of the space: by what x
# and y are still to be multiplied.
_SIGNS = {"right-anterior-superior-time": (-1, -1), "left-anterior-superior-time": (1, -1)}
# By name, in small letters; both signs for micro.
_MM_PER_UNIT = {
    **dict.fromkeys(("nm", "nanometer", "nanometers"), 1e-6),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimeters"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters"), 10.0),
    **dict.fromkeys(("m", "meter", "meters"), 1000.0),
}
_NO_UNITS = ("", "?", "???", "none")
_TIMES = ("s", "sec", "second", "seconds", "ms", "msec", "millisecond", "milliseconds")


@dataclass(frozen=True)
class ItkHeader:
    """What the header of a volume says of space.

    Attributes:
        no_size: why the size of voxels is not known, as a phrase; empty if it is.
        no_orientation: why it is not known where the axes point, as a phrase; empty if it is.
        has_origin: whether it is known where the first voxel lies.
        unit: name of the unit of length; empty if none is stated, which means mm.
        mm_per_unit: its length.
        signs: by what x and y of SimpleITK are to be multiplied to be those of LPS+.
    """

    no_size: str
    no_orientation: str
    has_origin: bool
    unit: str
    mm_per_unit: float
    signs: tuple[int, int]


def read_itk_header(path: Path, kind: ImageFormat) -> ItkHeader:
    """Return what the header of an NRRD or MetaImage file says of space.

    Raises:
        GeometryError: if its unit of length is not known, or there are several.
    """
    with path.open("rb") as stream:
        start = stream.read(_LONGEST_HEADER)
    if kind is ImageFormat.NRRD:
        fields = _nrrd_fields(start)
        no_size, no_orientation = _nrrd_lacks(fields)
        has_origin = "space origin" in fields
        stated = re.findall('"(.*?)"', fields.get("space units", fields.get("units", "")))
    else:
        fields = _metaimage_fields(start)
        no_size, no_orientation = _metaimage_lacks(fields)
        has_origin = not {"Offset", "Position", "Origin"}.isdisjoint(fields)
        stated = [fields.get("DistanceUnits", "")]
    names = [name.strip().lower() for name in stated]
    units = dict.fromkeys(name for name in names if name not in (*_NO_UNITS, *_TIMES))
    unit = next(iter(units), "")
    if len(units) > 1 or (unit and unit not in _MM_PER_UNIT):
        raise GeometryError(
            f"cannot place {path} in the world: its lengths are in {' and '.join(units)}, expected "
            "one of nm, um, mm, cm and m for all axes of space; correct its header."
        )
    return ItkHeader(
        no_size=no_size,
        no_orientation=no_orientation,
        has_origin=has_origin,
        unit=unit,
        mm_per_unit=_MM_PER_UNIT.get(unit, 1.0),
        signs=_SIGNS.get(fields.get("space", ""), (1, 1)),
    )


def _nrrd_fields(start: bytes) -> dict[str, str]:
    header = start.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("utf-8", "replace").lower()
    fields = dict(line.partition(":")[::2] for line in header.splitlines() if ":" in line)
    return {name: value.strip() for name, value in fields.items()}


def _metaimage_fields(start: bytes) -> dict[str, str]:
    header = start.partition(b"ElementDataFile")[0].decode("utf-8", "replace")
    fields = dict(line.partition("=")[::2] for line in header.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, value in fields.items()}


def _nrrd_lacks(fields: dict[str, str]) -> tuple[str, str]:
    space = fields.get("space", "").removesuffix("-time")
    no_size = ""
    if not {"space directions", "spacings"} & fields.keys():
        no_size = "its fields 'space directions' and 'spacings' are missing"
    if space not in _ANATOMICAL_SPACES:
        found = f"is {space!r}" if space else "is missing"
        return no_size, f"its field 'space' {found} where an anatomical one is expected"
    if "space directions" not in fields:
        return no_size, "its field 'space directions' is missing"
    return no_size, ""


def _metaimage_lacks(fields: dict[str, str]) -> tuple[str, str]:
    no_size = no_orientation = ""
    if not {"ElementSpacing", "ElementSize"} & fields.keys():
        no_size = "its fields 'ElementSpacing' and 'ElementSize' are missing"
    if not {"TransformMatrix", "Rotation", "Orientation"} & fields.keys():
        no_orientation = "its field 'TransformMatrix' is missing"
    return no_size, no_orientation
