"""The results of one case, in the formats that were asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from volseg.errors import InputError
from volseg.io import read_image, segmentation_suffix
from volseg.io.dicom import open_series
from volseg.io.dicom.segmentations import (
    SourceSlices,
    source_slices,
    write_dicom_seg,
    write_measurement_report,
    write_rtstruct,
)
from volseg.io.formats import ImageFormat, format_of_input
from volseg.segmenter.segmenter import Segmenter

RESULT_FORMATS: dict[str, str] = {
    "nifti": "",  # as `segmentation_suffix` says
    "dicom-seg": "_seg.dcm",
    "dicom-labelmap": "_labelmap.dcm",
    "rtstruct": "_rtstruct.dcm",
    "sr": "_sr.dcm",
}
"""What each format of a result adds to the name of its case."""
_RESAMPLING = ("orthogonal", "irregular")


def result_files(
    folder: Path, case: str, formats: Sequence[str], *, spatial_dims: int
) -> dict[str, Path]:
    """Return the file of each result of a case, by format.

    Args:
        folder: where results are written.
        case: name of the case.
        formats: names in `RESULT_FORMATS`.
        spatial_dims: 2 or 3; pictures have label maps only.

    Raises:
        InputError: if a format is not known, or cannot be had.
    """
    unknown = [name for name in formats if name not in RESULT_FORMATS]
    if unknown or not formats:
        raise InputError(
            f"the format {', '.join(unknown) or 'none'!r} is not known; expected some of "
            f"{', '.join(RESULT_FORMATS)}."
        )
    if "sr" in formats and not {"dicom-seg", "dicom-labelmap"} & set(formats):
        raise InputError(
            "the measurements of the format sr refer to a DICOM SEG: ask for dicom-seg or "
            "dicom-labelmap, too."
        )
    if spatial_dims == 2 and set(formats) != {"nifti"}:
        raise InputError("results in 2D have no place in a patient: DICOM formats need volumes.")
    endings = RESULT_FORMATS | {"nifti": f"_seg{segmentation_suffix(spatial_dims)}"}
    return {name: folder / f"{case}{endings[name]}" for name in RESULT_FORMATS if name in formats}


def segment_to_files(
    segmenter: Segmenter,
    path: str | Path,
    files: Mapping[str, Path],
    *,
    stable: bool = False,
    reading: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Segment an image file, and write the result in each format that was asked for.

    For the DICOM formats the label map is held in memory, and for measurements the image is, too.

    Args:
        segmenter: what segments.
        path: image file or DICOM folder; the DICOM formats need one.
        files: of the results, by format, as `result_files` gives them.
        stable: whether the same image and bundle give the same DICOM files, with the same UIDs.
        reading: how the image is read, as `read_image` takes it.
        options: further ones of `Segmenter.segment_file`.

    Raises:
        InputError: if the image cannot be read, or a DICOM format be had of it; this is known
            before the network runs.
        OutputError: if a result cannot be written; each file is whole or not there.
        VolsegError: what `Segmenter.segment_file` raises.
    """
    reading = dict(reading or {})
    source = None
    if set(files) != {"nifti"}:
        source = _source(path, reading)
    with ExitStack() as cleanup:
        labels = files.get("nifti")
        if labels is None:
            folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="volseg-"))
            labels = Path(folder) / "labels.nii"
        segmenter.segment_file(path, labels, **reading, **options)
        if source is not None:
            _write_dicom(segmenter, path, labels, files, source, stable=stable, reading=reading)


def _source(path: str | Path, reading: Mapping[str, Any]) -> SourceSlices:
    resampling = [name for name in _RESAMPLING if reading.get(name)]
    if resampling:
        raise InputError(
            f"DICOM results lie on the slices of their series, but with {' and '.join(resampling)} "
            "labels lie on others: leave it out, or ask for the format nifti."
        )
    if format_of_input(path) is not ImageFormat.DICOM:
        raise InputError(
            f"DICOM results refer to the DICOM series of their image, and {path} is none: give a "
            "DICOM folder, or ask for the format nifti."
        )
    return source_slices(open_series(path, reading.get("series")))


def _write_dicom(
    segmenter: Segmenter,
    path: str | Path,
    labels_file: Path,
    files: Mapping[str, Path],
    source: SourceSlices,
    *,
    stable: bool,
    reading: Mapping[str, Any],
) -> None:
    labels = read_image(labels_file)
    bundle = segmenter.bundle
    about: dict[str, Any] = {
        "source": source,
        "segments": bundle.segments,
        "algorithm": bundle.algorithm,
        "stable": stable,
    }
    segmentation = None
    if "dicom-labelmap" in files:
        segmentation = write_dicom_seg(
            labels, files["dicom-labelmap"], encoding="labelmap", compression="rle", **about
        )
    if "dicom-seg" in files:
        segmentation = write_dicom_seg(labels, files["dicom-seg"], **about)
    if "rtstruct" in files:
        write_rtstruct(labels, files["rtstruct"], **about)
    if "sr" in files:
        image = read_image(path, **reading).as_tensor().numpy()
        write_measurement_report(
            labels, files["sr"], image=image, segmentation=segmentation, **about
        )
