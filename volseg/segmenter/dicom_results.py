"""The DICOM results of one case: what they lie on, and how each format is written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.io import FileReading, ImagePath, ImageSource, ReadingOptions, first_file, read_image
from volseg.io.block_spool import BlockSpool
from volseg.io.dicom import open_series
from volseg.io.dicom.segmentations import (
    SegmentMeasurements,
    SourceSlices,
    source_slices,
    write_dicom_preview,
    write_dicom_probabilities,
    write_dicom_seg,
    write_measurement_report,
    write_rtstruct,
)
from volseg.io.formats import ImageFormat, format_of_input
from volseg.metrics import VolumeStatistics
from volseg.pacs import Anonymizer
from volseg.segmenter.segmenter import Segmenter

_RESAMPLING = ("orthogonal", "irregular")


@dataclass(frozen=True)
class DicomResults:
    """Where the DICOM results of a case go, and what they refer to.

    Attributes:
        files: by format.
        source: slices of the series.
        stable: whether the same image and bundle give the same files, with the same UIDs.
        anonymizer: takes out who the patient is before anything is written where it stays.
    """

    files: Mapping[str, Path]
    source: SourceSlices
    stable: bool = False
    anonymizer: Anonymizer | None = None

    def room_for_probabilities(self, segmenter: Segmenter, cleanup: ExitStack) -> BlockSpool | None:
        """Return what takes the probabilities of classes, None if nobody asked for them.

        Raises:
            InputError: if they are those of regions, which a DICOM SEG of classes cannot hold.
            OutputError: if there is no room for them on the disk.
        """
        if "dicom-probabilities" not in self.files:
            return None
        if segmenter.bundle.regions:
            raise InputError(
                f"the bundle {segmenter.bundle.name} gives probabilities of regions "
                f"({', '.join(segmenter.bundle.regions)}), not of classes: have them as "
                "--probabilities nii.gz instead of dicom-probabilities."
            )
        file = tempfile.TemporaryFile(prefix="volseg-")  # noqa: SIM115 - closed with the others
        stream = cleanup.enter_context(file)
        shape = (segmenter.bundle.out_channels, *self.source.grid.shape)
        return BlockSpool(stream, shape, Path(tempfile.gettempdir()))

    def write(
        self,
        segmenter: Segmenter,
        labels_file: Path,
        statistics: VolumeStatistics,
        probabilities: BlockSpool | None,
        *,
        suv: bool = False,
    ) -> None:
        """Write all of them; each is whole or not there.

        Args:
            segmenter: what segmented.
            labels_file: the label map.
            statistics: of its labels.
            probabilities: of classes, where they were asked for.
            suv: whether the intensities in the statistics are SUV, not values of the series.

        Raises:
            InputError: if the headers of the source do not allow it.
            OutputError: if one cannot be written.
        """
        with anonymized(self.files, self.anonymizer) as files:
            self._write(files, segmenter, labels_file, statistics, probabilities, suv=suv)

    def _write(
        self,
        files: Mapping[str, Path],
        segmenter: Segmenter,
        labels_file: Path,
        statistics: VolumeStatistics,
        probabilities: BlockSpool | None,
        *,
        suv: bool,
    ) -> None:
        about: dict[str, Any] = {
            "source": self.source,
            "segments": segmenter.bundle.segments,
            "algorithm": segmenter.bundle.algorithm,
            "stable": self.stable,
        }
        if probabilities is not None:
            write_dicom_probabilities(probabilities, files["dicom-probabilities"], **about)
        if set(files) == {"dicom-probabilities"}:
            return
        labels = read_image(labels_file)
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
            write_measurement_report(
                measurements(statistics), files["sr"], segmentation=segmentation, suv=suv, **about
            )


@contextmanager
def anonymized(
    files: Mapping[str, Path], anonymizer: Anonymizer | None
) -> Iterator[Mapping[str, Path]]:
    """Give where to write DICOM files, which are anonymized on the way to where they stay.

    Raises:
        InputError: if one cannot be anonymized.
        OutputError: if one cannot be written.
    """
    if anonymizer is None:
        yield files
        return
    with tempfile.TemporaryDirectory(prefix="volseg-") as folder:
        drafts = {name: Path(folder) / f"{name}.dcm" for name in files}
        yield drafts
        for name, draft in drafts.items():
            anonymizer.write_copy(draft, files[name])


def write_dicom_picture(
    picture: npt.NDArray[np.uint8],
    target: Path,
    *,
    segmenter: Segmenter,
    image: ImageSource,
    reading: ReadingOptions,
    stable: bool = False,
    anonymizer: Anonymizer | None = None,
) -> None:
    """Write a picture of a result as DICOM Secondary Capture that refers to its series.

    Args:
        picture: `(rows, columns, 3)`.
        target: the file.
        segmenter: what segmented.
        image: its path, or those of its channels, of which the first is referred to.
        reading: how it was read.
        stable: whether the same picture of the same series gives the same file.
        anonymizer: takes out who the patient is.

    Raises:
        InputError: if the image is no DICOM series, or may show a name when it must not.
        OutputError: if it cannot be written.
    """
    source = series_slices(*first_file(segmenter.in_order(image), reading))
    with anonymized({"picture": target}, anonymizer) as files:
        algorithm = segmenter.bundle.algorithm
        write_dicom_preview(
            picture, files["picture"], source=source, algorithm=algorithm, stable=stable
        )


def require_pictures(
    image: ImageSource,
    segmenter: Segmenter,
    reading: ReadingOptions,
    anonymizer: Anonymizer | None,
    *,
    as_dicom: bool,
) -> None:
    """Refuse, before the network runs, an image of which no pictures can be made.

    Args:
        image: its path, or those of its channels, of which the first is shown.
        segmenter: what segments it.
        reading: how it is read.
        anonymizer: knows which images may have a name burnt into them.
        as_dicom: whether one is to be made with `write_dicom_picture`.

    Raises:
        InputError: if it may have a name burnt into it, or a DICOM picture could not refer to it.
    """
    path, of_first = first_file(segmenter.in_order(image), reading)
    if as_dicom:
        series_slices(path, of_first)
    if anonymizer is None or format_of_input(path) is not ImageFormat.DICOM:
        return
    for headers in open_series(path, of_first.get("series")).datasets():
        for header in headers:
            anonymizer.require_possible(header, str(path))


def series_slices(path: ImagePath, reading: FileReading) -> SourceSlices:
    """Return the slices that DICOM results of an image lie on.

    Args:
        path: of the image.
        reading: how it is read, as `read_image` takes it.

    Raises:
        InputError: if it is no DICOM series, or is read on other slices than its own.
    """
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


def measurements(statistics: VolumeStatistics) -> list[SegmentMeasurements]:
    """Return what a structured report says; of several channels no intensities."""
    found = []
    for row in statistics.labels:
        one = row.intensities[0] if len(row.intensities) == 1 else None
        intensities: dict[str, float] = {}
        if one is not None:
            intensities = {
                "mean": one.mean,
                "standard_deviation": one.standard_deviation,
                "minimum": one.minimum,
                "maximum": one.maximum,
                "median": one.percentiles[50],
            }
        found.append(SegmentMeasurements(row.label, row.volume_mm3 or 0.0, **intensities))
    return found
