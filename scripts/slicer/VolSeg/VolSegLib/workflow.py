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
from .results import Result
from .segmentation import new_segmentation, require_in_place, require_updatable, show_labels
from .steps import Progress, Steps, in_background
from .volumes import ijk_to_ras, require_usable, save_volume


class Service(Protocol):
    """volseg, on this computer (`LocalVolSeg`) or on another (`VolSegServer`)."""

    def bundles(self) -> Steps[list[Bundle]]:
        """Step until the bundles are listed."""

    def segment(
        self, bundle: Bundle, images: Mapping[str, Path], folder: Path, options: Mapping[str, str]
    ) -> Steps[Result]:
        """Step until images are segmented, and return the label map and remarks on it."""


def segment_volumes(
    service: Service,
    bundle: Bundle,
    volumes: Mapping[str, Any],
    output: Any | None = None,
    options: Mapping[str, str] | None = None,
) -> Steps[Any]:
    """Step until volumes are segmented, and return the segmentation node.

    The segmentation lies on the voxels of the volumes and under the same transform. Volumes are
    taken as their nodes hold them: it is the label map of the file that Slicer would save. The node
    keeps, as attributes, which bundle made it (`VolSeg.Bundle`) and what makes it doubtful
    (`VolSeg.Remarks`, a sentence a line).

    Args:
        service: what segments.
        bundle: one of its bundles.
        volumes: volume nodes by the bundle's names of channels, on one grid.
        output: segmentation node to update; a new one by default.
        options: by which volseg is run, such as ``device``.

    Raises:
        VolSegError: the volumes or the output cannot be used, or what volseg says.
    """
    if set(volumes) != set(bundle.channels):
        raise VolSegError(
            f"the bundle {bundle.name} takes volumes for {', '.join(bundle.channels)}, but "
            f"{', '.join(volumes) or 'none'} were given."
        )
    require_usable(volumes)
    first = volumes[bundle.channels[0]]
    if output is not None:
        require_updatable(output)
        require_in_place(output, first, bundle.segments)
    scene = first.GetScene()
    with tempfile.TemporaryDirectory(prefix="VolSeg-") as folder:
        images = {
            channel: Path(folder) / f"image{index}.nrrd"
            for index, channel in enumerate(bundle.channels)
        }
        for channel, path in images.items():
            yield Progress("saving")
            save_volume(volumes[channel], path)
        try:
            result = yield from service.segment(bundle, images, Path(folder), options or {})
        except VolSegError as error:
            raise VolSegError(_with_names(str(error), images, volumes)) from error
        labels, written = yield from in_background(read_label_map, result.labels)
    matrix, shape = ijk_to_ras(first), first.GetImageData().GetDimensions()[::-1]
    same_grid = labels.shape == shape and np.allclose(written, matrix, rtol=1e-5, atol=1e-2)
    if first.GetScene() is not scene or not same_grid:
        raise VolSegError(
            f"the volume {first.GetName()} was changed or removed while it was segmented: the "
            "result does not lie on it, and was dropped."
        )
    if output is None or output.GetScene() is not scene:
        output = new_segmentation(first, f"{first.GetName()} {bundle.name}")
    require_in_place(output, first, bundle.segments)
    show_labels(output, labels, matrix, bundle.segments)
    output.SetReferenceImageGeometryParameterFromVolumeNode(first)
    output.SetAndObserveTransformNodeID(first.GetTransformNodeID())
    output.SetAttribute("VolSeg.Bundle", f"{bundle.name} {bundle.version}")
    output.SetAttribute("VolSeg.Remarks", "\n".join(result.remarks))
    return output


def _with_names(sentence: str, images: Mapping[str, Path], volumes: Mapping[str, Any]) -> str:
    """Return a sentence that calls volumes by their names in place of their temporary files."""
    for channel, path in images.items():
        sentence = sentence.replace(str(path), volumes[channel].GetName())
    return sentence
