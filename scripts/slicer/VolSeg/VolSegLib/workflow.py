"""From volumes of the scene to a segmentation of them, through a volseg somewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .bundles import Bundle
from .errors import VolSegError
from .label_map import read_label_map
from .segmentation import new_segmentation, show_labels
from .steps import Progress, Steps
from .volumes import ijk_to_ras, require_usable, save_volume


class Service(Protocol):
    """volseg, on this computer (`LocalVolSeg`) or on another (`VolSegServer`)."""

    def bundles(self) -> Steps[list[Bundle]]:
        """Step until the bundles are listed."""

    def segment(
        self, bundle: Bundle, images: Mapping[str, Path], folder: Path, options: Mapping[str, str]
    ) -> Steps[Path]:
        """Step until images are segmented, and return the file of the label map."""


def segment_volumes(
    service: Service,
    bundle: Bundle,
    volumes: Mapping[str, Any],
    output: Any | None = None,
    options: Mapping[str, str] | None = None,
) -> Steps[Any]:
    """Step until volumes are segmented, and return the segmentation node.

    The segmentation lies on the voxels of the volumes and under the same transform. Volumes are
    taken as their nodes hold them: it is the label map of the file that Slicer would save.

    Args:
        service: what segments.
        bundle: one of its bundles.
        volumes: volume nodes by the bundle's names of channels, on one grid.
        output: segmentation node to update; a new one by default.
        options: by which volseg is run, such as ``device``.

    Raises:
        VolSegError: the volumes cannot be used, or what volseg says.
    """
    require_usable(volumes)
    first = volumes[bundle.channels[0]]
    matrix, shape = ijk_to_ras(first), first.GetImageData().GetDimensions()[::-1]
    transform, scene = first.GetTransformNodeID(), first.GetScene()
    with tempfile.TemporaryDirectory(prefix="VolSeg-") as folder:
        images = {}
        for index, channel in enumerate(bundle.channels):
            yield Progress("saving")
            images[channel] = Path(folder) / f"image{index}.nrrd"
            save_volume(volumes[channel], images[channel])
        path = yield from service.segment(bundle, images, Path(folder), options or {})
        labels, found = read_label_map(path)
    if labels.shape != shape or not np.allclose(found, matrix, rtol=1e-5, atol=1e-2):
        raise VolSegError(
            "the label map does not lie on the voxels of the volume, which should never happen: "
            "please report it."
        )
    if output is None or output.GetScene() is not scene:
        output = new_segmentation(first, f"{first.GetName()} {bundle.name}")
    show_labels(output, labels, matrix, bundle.segments)
    output.SetReferenceImageGeometryParameterFromVolumeNode(first)
    output.SetAndObserveTransformNodeID(transform)
    return output
