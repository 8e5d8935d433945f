"""What other programs are told of a bundle, so that they can offer it to their users."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from volseg.bundle.folder import Bundle


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """Return what a bundle takes and gives, as JSON can hold it.

    Returns:
        ``name``, ``version``, ``task``, ``description``, ``spatial_dims``, ``channels`` (names, in
        order), ``labels`` (values by name), ``regions`` (names and values of structures that
        contain each other), ``segments`` (by name: ``category`` and ``type``, each
        with value, scheme and meaning, lists of ``modifiers`` and ``regions``), ``colors`` (red,
        green and blue from 0 to 255, by name) and ``trained``.

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
        "regions": {name: list(values) for name, values in bundle.regions.items()},
        "segments": {
            segment.name: {
                "value": segment.number,
                "category": asdict(segment.category),
                "type": asdict(segment.type),
                "modifiers": [asdict(code) for code in segment.modifiers],
                "regions": [asdict(code) for code in segment.regions],
            }
            for segment in bundle.segments
        },
        "colors": {segment.name: list(segment.shown_color) for segment in bundle.segments},
        "trained": bundle.weights.is_file(),
    }
