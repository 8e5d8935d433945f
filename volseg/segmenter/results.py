"""The results of one case, in the formats that were asked for."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from volseg.atomic import require_writable
from volseg.errors import InputError
from volseg.io import (
    ImageSource,
    ReadingOptions,
    StoredVolume,
    first_file,
    image_name,
    meta_tensor,
    open_volume,
    read_image,
)
from volseg.io.block_spool import BlockSpool
from volseg.io.folders import with_a_name
from volseg.pacs import Anonymizer
from volseg.quality import BLOCK_VOXELS, CaseMeasurements, check_case, measure_case
from volseg.segmenter.dicom_results import DicomResults, series_slices
from volseg.segmenter.memory_plan import Afterwards, MemoryPlan
from volseg.segmenter.process_memory import measured_peak
from volseg.segmenter.record import CaseRecord, UsedBundle
from volseg.segmenter.result_formats import DICOM_FORMATS
from volseg.segmenter.segmenter import Planned, Segmenter

_UNCERTAINTY = ("entropy", "disagreement")
_MAPS = ("probabilities", *_UNCERTAINTY)


def segment_to_files(
    segmenter: Segmenter,
    path: ImageSource,
    files: Mapping[str, Path],
    *,
    case: str | None = None,
    stable: bool = False,
    anonymizer: Anonymizer | None = None,
    reading: Mapping[str, Any] | None = None,
    planned: Planned | None = None,
    **options: Any,
) -> CaseRecord:
    """Segment an image file, write the result in each format that was asked for, and measure it.

    For the DICOM formats the label map is held in memory, for probabilities what they are in the
    file; nothing is held for what is measured.

    Args:
        segmenter: what segments.
        path: image file or DICOM folder, or one for each channel of the bundle, by name; the DICOM
            formats need a DICOM series, of channels as the first of the bundle's, and refer to it.
        files: of the results, by format, as `result_files` gives them.
        case: its name; by default that of the image file, or of its first channel.
        stable: whether the same image and bundle give the same DICOM files, with the same UIDs.
        anonymizer: takes out of DICOM results who the patient is; other formats say nothing of it
            but by their names, which are the caller's, and the record by the path of the image.
        reading: how the image is read, as `read_image` takes it.
        planned: called with the plan before the run begins.
        options: further ones of `Segmenter.segment_file`.

    Returns:
        Statistics, quality and how the results were made; not written yet.

    Raises:
        InputError: if the image cannot be read, or a DICOM format be had of it; this is known
            before the network runs.
        OutputError: if a result cannot be written; each file is whole or not there. Where none can
            be written at all, this is known before the network runs.
        VolsegError: what `Segmenter.segment_file` raises.
    """
    path, reading = segmenter.in_order(path), dict(reading or {})
    first, of_first = first_file(path, cast(ReadingOptions, reading))
    plans: list[MemoryPlan] = []

    def note_plan(plan: MemoryPlan) -> None:
        plans.append(plan)
        if planned is not None:
            planned(plan)

    maps = {name: Path(options[name]) for name in _MAPS if options.get(name) is not None}
    for file in files.values():
        require_writable(file)
    room: BlockSpool | None = None
    started = time.perf_counter()
    with measured_peak() as peak, ExitStack() as cleanup:
        dicom: DicomResults | None = None
        if in_dicom := {name: file for name, file in files.items() if name in DICOM_FORMATS}:
            source = series_slices(first, of_first)
            dicom = DicomResults(in_dicom, source, stable, anonymizer)
            room = dicom.room_for_probabilities(segmenter, cleanup)
            if room is not None:
                options = _with_probabilities(options, room)
        labels = files.get("nifti")
        if labels is None:
            folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="volseg-"))
            labels = Path(folder) / "labels.nii"
        then = Afterwards(measures=True, as_dicom=not in_dicom.keys() <= {"dicom-probabilities"})
        segmenter.segment_file(
            path, labels, afterwards=then, planned=note_plan, **reading, **options
        )
        image = cleanup.enter_context(open_volume(path, **reading))
        block_voxels = plans[0].block_voxels if plans else BLOCK_VOXELS
        found = _measured(segmenter, image, labels, options, block_voxels)
        if dicom is not None:
            suv = image.meta.get("unit") == "g/ml"
            dicom.write(segmenter, labels, found.statistics, room, suv=suv)
    channels = path if isinstance(path, Mapping) else {}
    return CaseRecord(
        case=case or image_name(with_a_name(Path(first))),
        image=str(first),
        channels={name: str(one) for name, one in channels.items()},
        grid=image.grid,
        modality=found.modality,
        files={**files, **maps},
        statistics=found.statistics,
        quality=check_case(found, segmenter.bundle.quality, modality=segmenter.bundle.modality),
        bundles=tuple(map(UsedBundle.of, segmenter.bundles)),
        settings=stated_settings(segmenter, reading),
        labels=segmenter.labels,
        seconds=time.perf_counter() - started,
        peak_memory_bytes=peak.resident,
        volseg=version("volseg"),
    )


def stated_settings(segmenter: Segmenter, reading: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says was chosen beside the bundles.

    Args:
        segmenter: what segments.
        reading: how the image is read, as `read_image` takes it.
    """
    return segmenter.choices | {name: value for name, value in reading.items() if value}


def _measured(
    segmenter: Segmenter,
    image: StoredVolume,
    labels_file: Path,
    options: Mapping[str, Any],
    block_voxels: int,
) -> CaseMeasurements:
    stored: Any = labels_file
    if len(image.grid.shape) == 2:  # a picture does not say where its pixels lie
        stored = meta_tensor(read_image(labels_file).as_tensor(), image.grid.affine)
    with ExitStack() as volumes:
        # Maps are read back where volseg reads their format, which Zarr is not.
        maps = {
            name: volumes.enter_context(open_volume(options[name]))
            for name in _UNCERTAINTY
            if options.get(name) and str(options[name]).lower().endswith((".nii", ".nii.gz"))
        }
        return measure_case(
            image,
            volumes.enter_context(open_volume(stored)),
            names={value: name for name, value in segmenter.labels.items()},
            maps=maps,
            block_voxels=block_voxels,
        )


def _with_probabilities(options: Mapping[str, Any], room: BlockSpool) -> dict[str, Any]:
    if options.get("probabilities") is not None:
        raise InputError(
            "probabilities are written as DICOM or as another file: ask for one of them; `volseg "
            "convert` makes the other."
        )
    return {**options, "probabilities": room}
