"""What a DICOM file of segments holds, and how segments become a label map."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError, MissingPackageError
from volseg.io.dicom.segmentations.identity import ALGORITHM_TYPES, NOT_STATED, Algorithm
from volseg.io.dicom.segmentations.segments import Code, Segment
from volseg.io.stored_image import StoredImage

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
CONTOUR_DATA = 0x30060050
OVERLAPS = ("refuse", "last", "channels")
"""What becomes of voxels that lie in several segments: an error, the label of the segment with the
highest number, or one channel a segment."""


@dataclass(frozen=True)
class StoredSegmentation:
    """A label map from a DICOM file, and what its labels stand for.

    Attributes:
        image: labels `(1, x, y, z)` of uint8 or uint16; one mask a segment `(segments, x, y, z)`
            where that was asked for; of a fractional SEG probabilities or shares from 0 to 1.
        segments: by rising number; in the order of the channels.
        spaces: Frame of Reference UIDs of the spaces that its positions are in, as far as stated.
    """

    image: StoredImage
    segments: tuple[Segment, ...]
    spaces: frozenset[str] = frozenset()


def open_dicom(path: str | os.PathLike[str]) -> Any:
    """Return the pydicom dataset of a file, with a sentence where it is none.

    Raises:
        InputError: if it is missing, damaged or not DICOM.
        MissingPackageError: if pydicom is not installed.
    """
    try:
        import pydicom  # noqa: PLC0415 - an optional package, asked for when it is needed
    except ImportError as error:
        raise MissingPackageError("reading DICOM", "pydicom", "dicom") from error

    try:
        with warnings.catch_warnings():  # about value formats; values are checked here
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from error
    except Exception as error:  # pydicom raises many types
        raise InputError(
            f"cannot read {path}: it is damaged or not a DICOM file ({type(error).__name__}); copy "
            "or export it again."
        ) from error


def kind_of_segmentation(path: Path) -> str | None:
    """Return "seg" or "rtstruct" for such a DICOM file, None for any other file.

    Raises:
        MissingPackageError: if it is a DICOM file and pydicom is not installed.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return None
    except OSError:
        return None
    try:
        from pydicom.filereader import read_file_meta_info  # noqa: PLC0415
    except ImportError as error:
        raise MissingPackageError("reading DICOM", "pydicom", "dicom") from error
    try:
        found = str(read_file_meta_info(path).get("MediaStorageSOPClassUID", ""))
    except Exception:  # pydicom raises many types; the reader of images says what is wrong
        return None
    if found in SEG_CLASSES:
        return "seg"
    return "rtstruct" if found == RTSTRUCT_CLASS else None


def stored_code(items: Sequence[Any]) -> Code:
    """Return the first code of a code sequence."""
    item = items[0]
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    return Code(str(value), str(item.get("CodingSchemeDesignator", "")), str(item.CodeMeaning))


def stored_modifiers(items: Sequence[Any]) -> tuple[Code, ...]:
    """Return the codes that modify the first code of a code sequence."""
    modifiers = items[0].get("SegmentedPropertyTypeModifierCodeSequence") or ()
    return tuple(stored_code([modifier]) for modifier in modifiers)


def stored_algorithm(kind: str, name: str, identification: Sequence[Any]) -> Algorithm | None:
    """Return what made a segment, None if the file does not say.

    Args:
        kind: "AUTOMATIC", "SEMIAUTOMATIC", "MANUAL" or something else.
        name: as it is given without a version.
        identification: the sequence that gives name and version apart, which may be empty.
    """
    version = ""
    if identification:
        name = str(identification[0].get("AlgorithmName") or name)
        version = str(identification[0].get("AlgorithmVersion") or "")
    name = "" if name == NOT_STATED else name
    if kind not in ALGORITHM_TYPES:
        return Algorithm(name, version, "SEMIAUTOMATIC") if name else None
    return Algorithm(name, version, kind) if name or kind == "MANUAL" else None


def require_known_overlap(overlap: str) -> None:
    """Raise unless the word says what becomes of voxels in several segments."""
    if overlap not in OVERLAPS:
        raise InputError(f"the overlap {overlap!r} is not known; expected {', '.join(OVERLAPS)}.")


class LabelMapMaker:
    """Masks of slices of segments, put together to a label map or to one channel a segment.

    Args:
        shape: of the label map, (x, y, z).
        numbers: of the segments, rising.
        overlap: one of `OVERLAPS`.
    """

    def __init__(
        self, shape: Sequence[int], numbers: Sequence[int], overlap: str = "refuse"
    ) -> None:
        require_known_overlap(overlap)
        self._numbers = list(numbers)
        self._overlap = overlap
        if overlap == "channels":
            self.values: npt.NDArray[Any] = np.zeros((len(self._numbers), *shape), np.uint8)
        else:
            highest = max(self._numbers, default=1)
            self.values = np.zeros((1, *shape), np.uint8 if highest < 256 else np.uint16)
        self._shared: dict[tuple[int, int], int] = {}

    def add(self, number: int, index: int, mask: npt.NDArray[np.bool_]) -> None:
        """Add the mask `(x, y)` of a segment in a slice."""
        if self._overlap == "channels":
            self.values[self._numbers.index(number), :, :, index] |= mask
            return
        labels = self.values[0, :, :, index]
        if self._overlap == "last":
            mask = mask & (labels <= number)
        else:
            met = labels[mask]
            for other in np.unique(met[(met != 0) & (met != number)]):
                pair = (min(int(other), number), max(int(other), number))
                self._shared[pair] = self._shared.get(pair, 0) + int(np.count_nonzero(met == other))
        labels[mask] = number

    def finish(self, source: str, names: Mapping[int, str]) -> npt.NDArray[Any]:
        """Return the label map.

        Raises:
            InputError: if segments overlap where they may not; names the pairs.
        """
        if self._shared:
            listed = "; ".join(
                f"{names.get(first, '')!r} ({first}) and {names.get(second, '')!r} ({second}) in "
                f"{count} voxels"
                for (first, second), count in list(self._shared.items())[:4]
            )
            raise InputError(
                f"{source} cannot become one label map, because segments overlap: {listed}; choose "
                "what becomes of them with overlap='last' (the higher number wins) or "
                "overlap='channels' (one mask a segment)."
            )
        return self.values
