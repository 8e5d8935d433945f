"""What can be tested inside of Slicer without volseg: from a volume to a file, to segments."""

from __future__ import annotations

import gzip
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from VolSegLib.bundles import Bundle, Code, SegmentKind
from VolSegLib.results import Result
from VolSegLib.workflow import segment_volumes
from vtk.util.numpy_support import numpy_to_vtk

_LIVER = Code("10200004", "SCT", "Liver")
_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
_BUNDLE = Bundle(
    name="bright",
    reference="bright",
    version="1",
    description="",
    channels=("CT",),
    segments=(
        SegmentKind(2, "liver", (0.9, 0.5, 0.4), _STRUCTURE, _LIVER, None, None),
        SegmentKind(7, "none", (0.1, 0.5, 0.4), _STRUCTURE, _LIVER, None, None),
    ),
)


class BrightVoxels:
    """Stands for volseg: voxels above 50 are liver."""

    def segment(self, bundle: Any, images: Any, folder: Path, options: Any) -> Any:
        """Write the label map as volseg does."""
        del bundle, options
        yield None
        storage = slicer.vtkMRMLNRRDStorageNode()
        storage.SetFileName(str(images["CT"]))
        volume = slicer.vtkMRMLScalarVolumeNode()
        storage.ReadData(volume)
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        dimensions = volume.GetImageData().GetDimensions()
        scalars = volume.GetImageData().GetPointData().GetScalars()
        bright = np.array([scalars.GetValue(index) > 50 for index in range(scalars.GetSize())])
        header = np.zeros(352, np.uint8)
        header[:4] = np.array([348], "<i4").view(np.uint8)
        header[40:48] = np.array([3, *dimensions], "<i2").view(np.uint8)
        header[70:74] = np.array([2, 8], "<i2").view(np.uint8)
        header[108:112] = np.array([352], "<f4").view(np.uint8)
        rows = [matrix.GetElement(row, column) for row in range(3) for column in range(4)]
        header[280:328] = np.array(rows, "<f4").view(np.uint8)
        header[344:348] = np.frombuffer(b"n+1\0", np.uint8)
        path = folder / "labels.nii.gz"
        with gzip.open(path, "wb") as file:
            file.write(header.tobytes() + (2 * bright).astype(np.uint8).tobytes())
        return Result(path)


class VolSegLibTest(unittest.TestCase):
    """In the scene of Slicer."""

    def setUp(self) -> None:
        self.scene = getattr(slicer, "mrmlScene", None) or slicer.vtkMRMLScene()
        self.scene.Clear(0)

    def test_segments_lie_where_the_volume_lies(self) -> None:
        voxels = np.zeros((5, 6, 7), np.int16)
        voxels[2, 3, 4] = 100
        volume = self.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
        image = vtk.vtkImageData()
        image.SetDimensions(7, 6, 5)
        image.GetPointData().SetScalars(numpy_to_vtk(voxels.ravel(), deep=True))
        volume.SetAndObserveImageData(image)
        volume.SetSpacing(1, 2, 3)
        volume.SetOrigin(10, 20, 30)
        volume.SetIJKToRASDirections(0, -1, 0, 1, 0, 0, 0, 0, 1)

        steps = segment_volumes(BrightVoxels(), _BUNDLE, {"CT": volume})
        while True:
            try:
                next(steps)
            except StopIteration as end:
                node = end.value
                break

        found = node.GetBinaryLabelmapInternalRepresentation("liver")
        self.assertEqual(found.GetDimensions(), (7, 6, 5))
        self.assertEqual(found.GetScalarComponentAsDouble(4, 3, 2, 0), 2)
        self.assertEqual(found.GetScalarRange(), (0, 2))
        ours, theirs = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
        found.GetImageToWorldMatrix(ours)
        volume.GetIJKToRASMatrix(theirs)
        for row in range(4):
            for column in range(4):
                self.assertAlmostEqual(ours.GetElement(row, column), theirs.GetElement(row, column))
        self.assertEqual(node.GetSegmentation().GetSegment("none").GetLabelValue(), 7)
        with tempfile.TemporaryDirectory() as folder:
            storage = slicer.vtkMRMLSegmentationStorageNode()
            storage.SetFileName(str(Path(folder) / "saved.seg.nrrd"))
            self.scene.AddNode(storage)
            self.assertTrue(storage.WriteData(node))
            again = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
            self.assertTrue(storage.ReadData(again))
        segment = again.GetSegmentation().GetNthSegment(0)
        self.assertEqual(segment.GetName(), "liver")
        terminology = vtk.reference("")
        segment.GetTag(segment.GetTerminologyEntryTagName(), terminology)
        self.assertIn("SCT^10200004^Liver", str(terminology))


if __name__ == "__main__":
    unittest.main()
