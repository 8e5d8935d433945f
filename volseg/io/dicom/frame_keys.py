"""What tells frames at one position apart: time, echo, diffusion, phase of the heart.

Two kinds of keys: those in `LABELS` name a time point outright, so their values are the same at
every position; those in `CLOCKS` only put the frames of one position in order.
"""

from __future__ import annotations

from typing import Any

from volseg.io.dicom.header import Header

Key = float | str | tuple[float, ...]

# Slowest first: this is the order in which time points are sorted.
LABELS = (
    "temporal position",
    "b-value",
    "gradient direction",
    "phase of the cardiac cycle",
    "inversion time",
    "echo time",
    "echo number",
    "image type",
    "dimension index",
)
CLOCKS = (
    "acquisition number",
    "frame reference time",
    "acquisition time",
    "trigger time",
    "content time",
    "instance number",
)

# (key, element at the top of a single-frame file)
_SINGLE = (
    ("temporal position", "TemporalPositionIdentifier"),
    ("b-value", "DiffusionBValue"),
    ("gradient direction", "DiffusionGradientOrientation"),
    ("phase of the cardiac cycle", "NominalPercentageOfCardiacPhase"),
    ("inversion time", "InversionTime"),
    ("echo time", "EchoTime"),
    ("echo number", "EchoNumbers"),
    ("image type", "ImageType"),
    ("acquisition number", "AcquisitionNumber"),
    ("frame reference time", "FrameReferenceTime"),
    ("trigger time", "TriggerTime"),
    ("instance number", "InstanceNumber"),
)
# Diffusion weighting before the standard had an element for it, as (group, element, creator).
_PRIVATE_B_VALUES = (
    (0x0019, 0x0C, "SIEMENS MR HEADER"),
    (0x2001, 0x03, "Philips Imaging DD 001"),
    (0x0043, 0x39, "GEMS_PARM_01"),
)
_GE_OFFSET = 1_000_000_000  # GE adds it to say that the value was set by the operator
# (key, functional group, element) of a frame (PS3.3 C.7.6.16 and C.8.13)
_MULTI = (
    ("temporal position", "FrameContentSequence", "TemporalPositionIndex"),
    ("acquisition number", "FrameContentSequence", "FrameAcquisitionNumber"),
    ("frame reference time", "FrameContentSequence", "FrameReferenceDateTime"),
    ("acquisition time", "FrameContentSequence", "FrameAcquisitionDateTime"),
    ("b-value", "MRDiffusionSequence", "DiffusionBValue"),
    (
        "phase of the cardiac cycle",
        "CardiacSynchronizationSequence",
        "NominalPercentageOfCardiacPhase",
    ),
    ("trigger time", "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("echo time", "MREchoSequence", "EffectiveEchoTime"),
    ("image type", "MRImageFrameTypeSequence", "FrameType"),
    ("image type", "MRImageFrameTypeSequence", "ComplexImageComponent"),
    ("image type", "CTImageFrameTypeSequence", "FrameType"),
    ("image type", "PETFrameTypeSequence", "FrameType"),
)
# Dimensions that say where a frame lies, not which of several it is.
_OF_SPACE = (0x00209056, 0x00209057, 0x00200032, 0x00209113, 0x00201041)


def frame_keys(header: Header, shared: Any, own: Any, pointers: tuple[int, ...]) -> dict[str, Key]:
    """Return the keys of a frame that its header has.

    Args:
        header: of the file.
        shared: functional groups of all its frames, None in a single-frame file.
        own: functional groups of the frame, None in a single-frame file.
        pointers: numbers of the dimensions that are not of space: `dimension_pointers`.
    """
    keys: dict[str, Key] = {}
    if own is None and shared is None:
        for name, element in _SINGLE:
            _add(keys, name, header.get(element))
        for name in ("Acquisition", "Content"):
            _add(keys, f"{name.lower()} time", _moment(header, name))
        if "b-value" not in keys:
            _add(keys, "b-value", _private_b_value(header))
        return keys
    for name, group, element in _MULTI:
        for groups in (own, shared):
            items = None if groups is None else groups.get(group)
            if items and element in items[0]:
                value = items[0].get(element)
                _add(keys, name, _parted(value) if element.endswith("DateTime") else value)
                break
    _add(keys, "gradient direction", _gradient(own))
    content = None if own is None else own.get("FrameContentSequence")
    indices = content[0].get("DimensionIndexValues") if content else None
    if indices is not None and not isinstance(indices, int):
        kept = tuple(float(indices[number]) for number in pointers if number < len(indices))
        if kept:
            keys["dimension index"] = kept
    return keys


def dimension_pointers(header: Header) -> tuple[int, ...]:
    """Return the numbers of a multi-frame file's dimensions that are not of space."""
    dimensions = header.get("DimensionIndexSequence") or ()
    pointers = [int(item.get("DimensionIndexPointer") or 0) for item in dimensions]
    return tuple(number for number, tag in enumerate(pointers) if tag not in _OF_SPACE)


def _add(keys: dict[str, Key], name: str, value: Any) -> None:
    """Add a value in a comparable form; a second one of a name is joined to the first as text."""
    if value in (None, ""):
        return
    key: Key
    try:
        if isinstance(value, str):
            key = float(value) if _is_number(value) else value
        elif hasattr(value, "__iter__"):
            parts = list(value)
            texts = any(isinstance(part, str) for part in parts)
            key = "/".join(map(str, parts)) if texts else tuple(float(part) for part in parts)
        else:
            key = float(value)
    except (TypeError, ValueError):
        return
    keys[name] = f"{keys[name]}/{key}" if name in keys else key


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _moment(header: Header, name: str) -> str | None:
    """Return date and time as text that sorts by time; midnight may lie between two frames."""
    moment = header.get("AcquisitionDateTime")
    if moment and name == "Acquisition":
        return _parted(moment)
    time = header.get(f"{name}Time")
    return f"{header.get(f'{name}Date') or ''}_{time}" if time else None


def _parted(moment: Any) -> str | None:
    """Return date and time with an underscore between them, as `_moment` gives the two.

    So they are never taken for a number, which would lose digits of the seconds.
    """
    return f"{str(moment)[:8]}_{str(moment)[8:]}" if moment else None


def _gradient(own: Any) -> Any:
    diffusion = None if own is None else own.get("MRDiffusionSequence")
    directions = diffusion[0].get("DiffusionGradientDirectionSequence") if diffusion else None
    return directions[0].get("DiffusionGradientOrientation") if directions else None


def _private_b_value(header: Header) -> float | None:
    for group, element, creator in _PRIVATE_B_VALUES:
        value = header.private(group, element, creator)
        if value is None:
            continue
        try:
            if isinstance(value, bytes):  # of unknown type: text, in implicit encoding
                value = value.decode("ascii").strip(" \0").split("\\")
            first = value if isinstance(value, (int, float, str)) else value[0]
            return float(first) % _GE_OFFSET
        except (TypeError, ValueError, IndexError, UnicodeDecodeError):
            return None
    return None
