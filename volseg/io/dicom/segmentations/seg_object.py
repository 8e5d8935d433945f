"""The DICOM SEG object: highdicom's, with what it is given and what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.io.dicom.segmentations.concepts import concept, standard_concept
from volseg.io.dicom.segmentations.identity import (
    MANUFACTURER,
    NOT_STATED,
    Algorithm,
    Identity,
    made_by,
)
from volseg.io.dicom.segmentations.making import making
from volseg.io.dicom.segmentations.segments import Segment
from volseg.io.dicom.segmentations.source import SourceSlices

SERIES_NUMBER = 9001


def segmentation_object(
    frames: npt.NDArray[Any],
    kind: str,
    *,
    source: SourceSlices,
    segments: Sequence[Segment],
    algorithm: Algorithm | None,
    identity: Identity,
) -> Any:
    """Return the dataset of a DICOM SEG; its pixels are not compressed.

    Args:
        frames: of the slices of the source, `(slices, rows, columns)`, or with an axis of segments
            last.
        kind: "BINARY", "LABELMAP" or "FRACTIONAL".
        source: the series.
        segments: by rising number.
        algorithm: what made those segments that name no other.
        identity: of the object.

    Raises:
        InputError: if the headers of the source do not allow it.
        MissingPackageError: if highdicom is not installed.
    """
    if source.frames is not None:  # of a multi-frame file, in the order of its own frames
        own = np.zeros((int(source.headers[0].NumberOfFrames), *frames.shape[1:]), frames.dtype)
        own[np.array(source.frames) - 1] = frames
        frames = own
    model, versions, about = made_by(algorithm)
    with making("DICOM SEG", source):
        import highdicom  # noqa: PLC0415

        dataset = highdicom.seg.Segmentation(
            source_images=list(source.headers),
            pixel_array=np.ascontiguousarray(frames),
            segmentation_type=kind,
            segment_descriptions=[
                _description(segment, segment.algorithm or algorithm, identity)
                for segment in segments
            ],
            series_instance_uid=identity.uid("series"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=identity.uid("instance"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=model,
            software_versions=versions[0],
            device_serial_number="none",
            content_label="SEGMENTATION",
            content_description=about,
            content_creator_name=f"{MANUFACTURER}^",
            series_description=about,
            # All frames of an empty map: a SEG without a frame is none.
            omit_empty_frames=bool(frames.any()),
            specific_character_set="ISO_IR 192",
        )
    for item in dataset.SegmentSequence:
        _take_out_what_is_not_stated(item)
    dataset.SoftwareVersions = versions
    _name_dimensions(dataset, identity.uid("dimensions"))
    identity.stamp(dataset)
    return dataset


def _description(segment: Segment, algorithm: Algorithm | None, identity: Identity) -> Any:
    import highdicom  # noqa: PLC0415

    stated = algorithm or Algorithm("", type="SEMIAUTOMATIC")
    description = highdicom.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.type),
        algorithm_type=stated.type,
        # highdicom requires all of it; see `_take_out_what_is_not_stated`.
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=stated.name[:64] or NOT_STATED,
            family=standard_concept("DCM", "ArtificialIntelligence"),
            version=stated.version[:64] or NOT_STATED,
            source=MANUFACTURER,
        ),
        tracking_uid=identity.uid(f"tracking {segment.number}"),
        tracking_id=f"{segment.number} {segment.label}"[:64],
        anatomic_regions=[concept(region) for region in segment.regions] or None,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.shown_color),
    )
    if segment.modifiers:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [
            concept(modifier) for modifier in segment.modifiers
        ]
    return description


def _take_out_what_is_not_stated(item: Any) -> None:
    """Take out of a segment the version of an algorithm of which only the name is known.

    The name itself is required, except of what was drawn by hand (DICOM PS3.3 C.8.20.2).
    """
    for algorithm in item.get("SegmentationAlgorithmIdentificationSequence") or ():
        if algorithm.AlgorithmVersion == NOT_STATED:
            del item.SegmentationAlgorithmIdentificationSequence
    if item.SegmentAlgorithmType == "MANUAL" and item.SegmentAlgorithmName == NOT_STATED:
        del item.SegmentAlgorithmName


def _name_dimensions(dataset: Any, uid: str) -> None:
    """Give the dimensions the UID, in the place of the one highdicom draws."""
    for item in dataset.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = uid
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid
