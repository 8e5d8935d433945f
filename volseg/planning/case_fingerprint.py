"""What one case looks like: its grid, its intensities, its labels; or why it cannot be used."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.errors import GeometryError, InputError
from volseg.geometry import Grid, reorientation, require_same_grid
from volseg.io import ImageSource, describe_source, grid_of, read_image
from volseg.metrics import label_offset

_PERCENTS = (0.5, 50.0, 99.5)
# Pixels along each side of what is looked at of a picture to see how its labels lie: that takes
# some hundred bytes a pixel.
_SIDE = 1024


class CaseFaultError(InputError):
    """A case cannot be used for training.

    Attributes:
        kind: ``unreadable``, ``geometry``, ``values``, ``labels``, ``channels`` or ``duplicate``.
    """

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


@dataclass(frozen=True)
class Intensities:
    """Intensities of one channel of one case.

    Attributes:
        minimum: Of the whole image.
        maximum: Of the whole image.
        mean: Of the foreground, like the following; None where there is none.
        std: Standard deviation (of the population).
        percentile_00_5: 0.5 % of the voxels are below.
        median: Half of the voxels are below.
        percentile_99_5: 99.5 % of the voxels are below.
    """

    minimum: float
    maximum: float
    mean: float | None = None
    std: float | None = None
    percentile_00_5: float | None = None
    median: float | None = None
    percentile_99_5: float | None = None


@dataclass(frozen=True)
class LabelSize:
    """How much there is of one label in one case.

    Attributes:
        voxels: All of them.
        components: Connected parts, over faces, edges and corners.
        largest: Voxels of the largest part.
    """

    voxels: int
    components: int
    largest: int


@dataclass(frozen=True)
class CaseFingerprint:
    """What one case looks like; axes are x, y, z of the patient (RAS) in 3D, of the file in 2D.

    Attributes:
        case: Name.
        shape: In voxels.
        content: Size of the box of voxels that are not 0 in all channels.
        spacing: In mm; pixels of pictures count as 1.
        orientation: Axis codes of the file.
        channels: Of the image.
        intensities: Of each channel.
        labels: Size of each label in it but the background, by value.
        image_hash: Of the voxels of the image.
        label_offset: Of the middle of pictures, as `volseg.metrics.label_offset`; None where
            there is no label.
    """

    case: str
    shape: tuple[int, ...]
    content: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    channels: int
    intensities: tuple[Intensities, ...]
    labels: Mapping[int, LabelSize]
    image_hash: str
    label_offset: tuple[float, ...] | None = None

    @property
    def content_share(self) -> float:
        """The part of the voxels that lie in the box of what is not 0."""
        return math.prod(self.content) / math.prod(self.shape)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> CaseFingerprint:
        """Return what `as_json` gave, also after it was JSON."""
        offset = entry.get("label_offset")
        return cls(
            **{
                **entry,
                "label_offset": None if offset is None else tuple(offset),
                **{name: tuple(entry[name]) for name in ("shape", "content", "spacing")},
                "intensities": tuple(Intensities(**found) for found in entry["intensities"]),
                "labels": {int(key): LabelSize(**size) for key, size in entry["labels"].items()},
            }
        )


def fingerprint_case(
    case: str,
    image: ImageSource,
    label: str | Path,
    *,
    values: Collection[int] | None = None,
    ignore: int | None = None,
) -> CaseFingerprint:
    """Return what a case looks like.

    Args:
        case: Name.
        image: Path of the image, or of each of its channels by name.
        label: Path of its label map.
        values: Labels that may occur, background included; any whole numbers without it.
        ignore: Value of voxels that nobody labelled: neither label nor foreground.

    Raises:
        CaseFaultError: The case cannot be used for training; the message says why.
    """
    shown = describe_source(image)
    try:
        read, truth = read_image(image), read_image(label)
        grid = grid_of(read)
        require_same_grid(grid, grid_of(truth), what=f"the image {shown} and its label {label}")
    except GeometryError as error:
        raise CaseFaultError("geometry", str(error)) from error
    except InputError as error:
        raise CaseFaultError("unreadable", str(error)) from error
    pixels = np.asarray(read.as_tensor())
    labels = _label_values(label, np.asarray(truth.as_tensor()), values)
    _require_finite(shown, pixels)
    if ignore is not None:
        labels[labels == ignore] = 0
    foreground = labels > 0
    shape = _on_patient_axes(grid, grid.shape)
    content = _on_patient_axes(grid, _content(pixels))
    # Pictures are not resampled, whatever their files say of mm.
    spacing = (1.0, 1.0) if len(shape) == 2 else _on_patient_axes(grid, grid.spacing)
    return CaseFingerprint(
        case=case,
        shape=tuple(int(side) for side in shape),
        content=tuple(int(side) for side in content),
        spacing=tuple(float(step) for step in spacing),
        orientation="".join(grid.affine.orientation),
        channels=len(pixels),
        intensities=tuple(_intensities(channel, foreground) for channel in pixels),
        labels=_label_sizes(labels),
        image_hash=_hash(pixels),
        label_offset=_label_offset(pixels, foreground),
    )


def _label_values(
    path: Any, stored: npt.NDArray[Any], values: Collection[int] | None
) -> npt.NDArray[np.int32]:
    """Return the labels ``(x, y, z)`` as whole numbers, known ones only."""
    if len(stored) != 1:
        raise CaseFaultError(
            "labels", f"the label {path} has {len(stored)} channels; expected one, of classes."
        )
    found = np.unique(stored)
    if not np.isfinite(found).all() or (found != np.floor(found)).any() or found[0] < 0:
        raise CaseFaultError(
            "labels",
            f"the label {path} holds values from {found[0]:g} to {found[-1]:g} that are not all "
            "whole numbers from 0 on: it was interpolated, or is no label map.",
        )
    strange = [] if values is None else [int(value) for value in found if value not in values]
    if strange:
        raise CaseFaultError(
            "labels",
            f"the label {path} holds {', '.join(map(str, strange[:5]))}, which no class stands "
            f"for; expected {', '.join(map(str, sorted(values or ())))}: name all classes, or "
            "correct the label.",
        )
    labels: npt.NDArray[np.int32] = stored[0].astype(np.int32)
    return labels


def _require_finite(path: Any, pixels: npt.NDArray[Any]) -> None:
    number = int(np.count_nonzero(~np.isfinite(pixels))) if pixels.dtype.kind == "f" else 0
    if number:
        raise CaseFaultError(
            "values", f"the image {path} holds {number} values that are NaN or infinite: repair it."
        )


def _on_patient_axes(grid: Grid, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return one value an axis of the file in the order x, y, z of the patient; pictures as is."""
    if len(grid.shape) == 2:
        return values
    return tuple(values[axis] for axis in reorientation(grid.affine, "RAS").order)


def _content(pixels: npt.NDArray[Any]) -> tuple[int, ...]:
    """Return the size of the box of what is not 0, of the whole image if all is."""
    inside = (pixels != 0).any(axis=0)
    boxes = ndimage.find_objects(inside.astype(np.uint8))
    return tuple(side.stop - side.start for side in boxes[0]) if boxes else inside.shape


def _intensities(channel: npt.NDArray[Any], foreground: npt.NDArray[np.bool_]) -> Intensities:
    lowest, highest = float(channel.min()), float(channel.max())
    inside = channel[foreground].astype(np.float64)
    if inside.size == 0:
        return Intensities(lowest, highest)
    low, median, high = (float(value) for value in np.percentile(inside, _PERCENTS))
    return Intensities(
        lowest, highest, float(inside.mean()), float(inside.std()), low, median, high
    )


def _label_sizes(labels: npt.NDArray[np.int32]) -> dict[int, LabelSize]:
    touching = np.ones((3,) * labels.ndim)
    sizes = {}
    for place, box in enumerate(ndimage.find_objects(labels)):
        if box is not None:
            parts, number = ndimage.label(labels[box] == place + 1, structure=touching)
            counts = np.bincount(parts.ravel())[1:]
            sizes[place + 1] = LabelSize(int(counts.sum()), int(number), int(counts.max()))
    return sizes


def _label_offset(
    pixels: npt.NDArray[Any], foreground: npt.NDArray[np.bool_]
) -> tuple[float, ...] | None:
    """Return by how much labels lie beside a picture; in volumes sides of organs differ."""
    if foreground.ndim != 2:
        return None
    starts = [max(0, side - _SIDE) // 2 for side in foreground.shape]
    middle = tuple(slice(start, start + _SIDE) for start in starts)
    offset = label_offset(pixels[(slice(None), *middle)].mean(axis=0), foreground[middle])
    return offset if all(math.isfinite(step) for step in offset) else None


def _hash(values: npt.NDArray[Any]) -> str:
    """Return a hash of shape and values; headers and compression do not change it."""
    digest = hashlib.blake2b(str(values.shape).encode(), digest_size=16)
    for plane in values.reshape(-1, *values.shape[-2:]):
        digest.update(plane.astype(np.float64).tobytes())
    return digest.hexdigest()
