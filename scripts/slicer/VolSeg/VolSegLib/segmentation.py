"""Label maps as segmentation nodes of the scene."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from .bundles import SegmentKind
from .errors import VolSegError
from .terminology import terminology_entry


def new_segmentation(volume: Any, name: str) -> Any:
    """Return a new segmentation node that belongs to a volume and lies where that does."""
    scene = volume.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    _file_beside(node, volume)
    return node


def _file_beside(node: Any, volume: Any) -> None:
    """Put a node where the volume is in the hierarchy of patients and studies."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volume.GetScene())
    if hierarchy is None:
        return
    items = [hierarchy.GetItemByDataNode(one) for one in (node, volume)]
    if hierarchy.GetInvalidItemID() not in items:
        hierarchy.SetItemParent(items[0], hierarchy.GetItemParent(items[1]))


def require_updatable(node: Any) -> None:
    """Raise unless the segments of a node are label maps: others would be lost in the update.

    Raises:
        VolSegError: with what they are.
    """
    segmentation = node.GetSegmentation()
    binary = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    stored_as = segmentation.GetSourceRepresentationName()
    if segmentation.GetNumberOfSegments() and stored_as != binary:
        raise VolSegError(
            f"the segments of {node.GetName()} are stored as {stored_as}: choose another "
            f"segmentation, or make {binary} its source representation (module Segmentations)."
        )


def require_in_place(node: Any, volume: Any, segments: Iterable[SegmentKind]) -> None:
    """Raise unless the segments that an update leaves as they are stay where they are.

    All segments of a node are under its one transform, which becomes that of the volume.

    Args:
        node: the segmentation node.
        volume: what is segmented.
        segments: those that are updated.

    Raises:
        VolSegError: with what would move.
    """
    left = set(node.GetSegmentation().GetSegmentIDs()) - {kind.name for kind in segments}
    if left and node.GetTransformNodeID() != volume.GetTransformNodeID():
        raise VolSegError(
            f"the segments {', '.join(sorted(left))} of {node.GetName()} would move, as it is not "
            f"under the transform of {volume.GetName()}: harden the transforms, or choose another "
            "segmentation."
        )


def show_labels(
    node: Any, labels: np.ndarray, ijk_to_ras: np.ndarray, segments: Iterable[SegmentKind]
) -> None:
    """Put a label map into a segmentation node.

    A segment that is there already, from an earlier run, gets the new voxels and keeps what the
    user changed of it: name, colour, visibility. All other segments stay.

    Args:
        node: the segmentation node.
        labels: voxels ``(k, j, i)``; all segments share them, each with its value.
        ijk_to_ras: matrix ``(4, 4)`` of the voxels; sheared as it may be.
        segments: what the values stand for. Those that no voxel has become empty segments.

    Raises:
        VolSegError: see `require_updatable`.
    """
    require_updatable(node)
    segmentation = node.GetSegmentation()
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    shown_as_surface = segmentation.ContainsRepresentation(surface)
    segmentation.RemoveRepresentation(surface)
    node.SetSourceRepresentationToBinaryLabelmap()
    image = _oriented_image(labels, ijk_to_ras)
    binary = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    for kind in segments:
        segment = segmentation.GetSegment(kind.name)
        is_new = segment is None
        if is_new:
            segment = slicer.vtkSegment()
            segment.SetName(kind.name)
            segment.SetColor(*kind.color)
            segment.SetTag(segment.GetTerminologyEntryTagName(), terminology_entry(kind))
        segment.SetLabelValue(kind.value)
        segment.AddRepresentation(binary, image)
        if is_new:
            segmentation.AddSegment(segment, kind.name)
    if shown_as_surface:
        segmentation.CreateRepresentation(surface)


def _oriented_image(labels: np.ndarray, ijk_to_ras: np.ndarray) -> Any:
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*labels.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(labels.ravel(), deep=True))
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(ijk_to_ras.ravel())
    image.SetGeometryFromImageToWorldMatrix(matrix)
    return image
