"""Conversion of files: images and label maps between DICOM, NIfTI, NRRD, MetaImage and pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.geometry import Grid, reorientation_onto
from volseg.io.dicom import DicomOptions, open_series
from volseg.io.dicom.segmentations import (
    Algorithm,
    Segment,
    SourceSlices,
    StoredSegmentation,
    kind_of_segmentation,
    read_segmentation,
    source_slices,
    write_dicom_probabilities,
    write_dicom_seg,
    write_rtstruct,
)
from volseg.io.formats import format_of_name
from volseg.io.meta_tensors import meta_tensor
from volseg.io.read import read_stored
from volseg.io.stored_image import StoredImage
from volseg.io.write import write_image, write_segmentation

DICOM_KINDS = ("dicom-seg", "dicom-labelmap", "dicom-probabilities", "rtstruct")


@dataclass(frozen=True)
class Conversion:
    """What `convert_file` did.

    Attributes:
        source: file or folder read.
        target: file written.
        shape: of what was written, channels first.
        segments: of a label map whose labels have names, by rising number.
        remarks: what is unusual about the source.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    segments: tuple[Segment, ...] = ()
    remarks: tuple[str, ...] = field(default=())


def convert_file(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    kind: str | None = None,
    source: str | os.PathLike[str] | None = None,
    source_series: str | None = None,
    segments: Sequence[Segment] | None = None,
    algorithm: Algorithm | None = None,
    overlap: str = "refuse",
    compression: str | None = None,
    stable: bool = False,
    orientation: str | None = None,
    options: DicomOptions | None = None,
) -> Conversion:
    """Write an image or a label map in another format; nothing is resampled.

    Args:
        path: anything `read_image` reads, a DICOM SEG or an RTSTRUCT.
        target: `.nii`, `.nii.gz`, `.nrrd`, `.mha`, a picture, or `.dcm` for label maps.
        kind: of a `.dcm` target: "dicom-seg", "dicom-labelmap", "dicom-probabilities" (of an image
            with one channel a class, background first) or "rtstruct".
        source: DICOM folder or file with the series that label maps belong to. A `.dcm` target and
            an RTSTRUCT need it; a SEG has a grid of its own without it.
        source_series: Series Instance UID, if the source holds several.
        segments: what the labels stand for; those of a SEG or RTSTRUCT by default.
        algorithm: what made the labels, for a `.dcm` target; without it what a SEG or RTSTRUCT
            says, and others are of unknown origin.
        overlap: what becomes of voxels in several segments: "refuse", "last" or "channels".
        compression: of DICOM label maps and probabilities: "rle", "jpeg-ls" or "jpeg2000".
        stable: whether the same input gives the same DICOM file, with the same UIDs.
        orientation: axis codes the caller vouches for, of a file that states none.
        options: how a DICOM series is read.

    Raises:
        InputError: if a file is missing, damaged or of a kind that does not go together.
        GeometryError: if labels do not lie on the voxels of the source series.
        OutputError: if writing fails; nothing half-written is left.
        MissingPackageError: if an optional package is missing.
    """
    _require_target(Path(target), kind, compression)
    slices = None
    if source is not None:
        slices = source_slices(open_series(source, source_series))
    elif kind is not None:
        raise InputError(
            f"cannot write {target}: a DICOM object of labels refers to the series they belong to; "
            "give its folder (--source FOLDER)."
        )
    if _is_segmentation(path):
        if options is not None:
            options.require_none(str(path))
        grid = None if slices is None else slices.grid
        stored = read_segmentation(path, source=grid, overlap=overlap)
        if slices is not None:
            _note_another_space(stored, slices)
    else:
        stored = StoredSegmentation(read_stored(path, orientation, options), ())
        if slices is not None and kind is None:
            raise InputError(
                f"cannot convert {path} to {target} with the series {source}: only DICOM objects "
                "of labels belong to a series, and neither of the two is one; leave the source out."
            )
    described = tuple(stored.segments if segments is None else segments)
    if algorithm is None:  # what is called by other names was made as before
        described = _keeping_algorithms(described, stored.segments)
    values = stored.image.values
    if kind is None or slices is None:
        _write_plain(stored, target)
    else:
        values = _on_source(stored.image, slices)
        if kind == "dicom-probabilities" and stored.segments:  # a SEG has no background
            values = np.concatenate([np.zeros_like(values[:1]), values])
        _write_dicom(
            values,
            target,
            kind,
            compression=compression,
            source=slices,
            segments=described or None,
            algorithm=algorithm,
            stable=stable,
        )
    return Conversion(
        source=str(path),
        target=str(target),
        shape=tuple(values.shape),
        segments=described,
        remarks=tuple(stored.image.remarks),
    )


def _require_target(target: Path, kind: str | None, compression: str | None) -> None:
    known = ", ".join(DICOM_KINDS)
    if kind is not None and kind not in DICOM_KINDS:
        raise InputError(f"the kind {kind!r} is not known; expected one of {known}.")
    if target.suffix.lower() == ".dcm":
        if kind is None:
            raise InputError(f"cannot write {target}: say what it shall be, one of {known}.")
    elif kind is not None:
        raise InputError(f"cannot write {target} as {kind}: expected a name that ends in .dcm.")
    elif format_of_name(target) is None:
        raise InputError(
            f"cannot write {target}: the suffix {target.suffix!r} is not known; expected .nii.gz, "
            ".nii, .nrrd, .mha, .png, .tif or .dcm."
        )
    elif compression is not None:
        raise InputError(
            f"cannot write {target} with the compression {compression}, which is one of .dcm "
            "files; leave it out."
        )


def _is_segmentation(path: str | os.PathLike[str]) -> bool:
    file = Path(path)
    return file.is_file() and kind_of_segmentation(file) is not None


def _note_another_space(stored: StoredSegmentation, slices: SourceSlices) -> None:
    """Add a remark if positions are in another space than the series, such as of another scan.

    It is no error, because anonymizers change these UIDs, and not always alike.
    """
    space = str(slices.headers[0].FrameOfReferenceUID)
    others = sorted(stored.spaces - {space})
    if others:
        stored.image.remarks.append(
            f"{stored.image.source} has another frame of reference ({others[0]}) than the series "
            f"({space}): it may belong to another scan, where its positions mean other places"
        )


def _keeping_algorithms(
    segments: Sequence[Segment], stored: Sequence[Segment]
) -> tuple[Segment, ...]:
    known = {segment.number: segment.algorithm for segment in stored}
    return tuple(
        replace(segment, algorithm=segment.algorithm or known.get(segment.number))
        for segment in segments
    )


def _write_plain(stored: StoredSegmentation, target: str | os.PathLike[str]) -> None:
    image = stored.image
    values = meta_tensor(image.values, image.require_affine(), image.source, image.meta)
    if stored.segments and len(values) == 1 and not values.is_floating_point():
        write_segmentation(values, target, like=values)
    else:
        write_image(values, target)


def _on_source(image: StoredImage, slices: SourceSlices) -> npt.NDArray[Any]:
    """Return values with their axes in the order and direction of the source's.

    Converters from DICOM turn axes round, so label maps made of their files have other ones.
    """
    grid = Grid(image.values.shape[1:], image.require_affine())
    series = slices.headers[0].SeriesInstanceUID
    turn = reorientation_onto(
        grid, slices.grid, what=f"the labels {image.source} and their series {series}"
    )
    return np.ascontiguousarray(turn.apply(image.values))


def _write_dicom(
    values: npt.NDArray[Any],
    target: str | os.PathLike[str],
    kind: str,
    *,
    compression: str | None,
    **about: Any,
) -> None:
    if kind == "dicom-probabilities":
        write_dicom_probabilities(values, target, compression=compression or "rle", **about)
        return
    if len(values) != 1:
        raise InputError(
            f"cannot write {target} as {kind}: a label map has one channel, got {len(values)}; "
            "take the most likely class of each voxel first, or write dicom-probabilities."
        )
    if kind == "rtstruct":
        if compression is not None:
            raise InputError("an RTSTRUCT holds no pixels that could be compressed.")
        write_rtstruct(values, target, **about)
        return
    encoding = {"dicom-seg": "binary", "dicom-labelmap": "labelmap"}[kind]
    write_dicom_seg(values, target, encoding=encoding, compression=compression, **about)
