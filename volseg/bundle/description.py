"""What other programs are told of a bundle, so that they can offer it to their users."""

from __future__ import annotations

from typing import Any

from volseg.bundle.folder import Bundle
from volseg.io.dicom.segmentations import Code


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """Return what a bundle takes and gives, as JSON can hold it.

    Returns:
        ``name``, ``version``, ``task``, ``description``, ``spatial_dims``, ``channels`` (names, in
        order), ``labels`` (values by name), ``segments`` (codes by name, with the keys of dcmqi),
        ``colors`` (red, green and blue from 0 to 255, by name) and ``trained``.

    Raises:
        BundleError: The metadata is incomplete or damaged.
    """
    return {
        "name": bundle.name,
        "version": str(bundle.metadata.get("version", "")),
        "task": str(bundle.metadata.get("task", "")),
        "description": str(bundle.metadata.get("description", "")),
        "spatial_dims": bundle.spatial_dims,
        "channels": bundle.channels,
        "labels": bundle.labels,
        "segments": {
            segment.name: {
                "SegmentedPropertyCategoryCodeSequence": _code(segment.category),
                "SegmentedPropertyTypeCodeSequence": _code(segment.type),
                "SegmentedPropertyTypeModifierCodeSequence": [
                    _code(code) for code in segment.modifiers
                ],
                "AnatomicRegionSequence": [_code(code) for code in segment.regions],
            }
            for segment in bundle.segments
        },
        "colors": {segment.name: list(segment.shown_color) for segment in bundle.segments},
        "trained": bundle.weights.is_file(),
    }


def _code(code: Code) -> dict[str, str]:
    return {
        "CodeValue": code.value,
        "CodingSchemeDesignator": code.scheme,
        "CodeMeaning": code.meaning,
    }
