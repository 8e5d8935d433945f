"""What several tests of the Slicer extension do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class InThisProcess:
    """volseg without a program in between, so that many volumes can be tried."""

    def __init__(self, bundle: Path) -> None:
        from volseg import Segmenter

        self.segmenter = Segmenter(bundle)
        self.inputs: list[np.ndarray] = []

    def bundles(self) -> Any:
        from VolSegLib.bundles import read_bundles

        from volseg.bundle import describe_bundle

        yield None
        return read_bundles([describe_bundle(self.segmenter.bundle)])

    def segment(
        self, bundle: Any, images: Mapping[str, Path], folder: Path, options: Mapping[str, str]
    ) -> Any:
        from VolSegLib.errors import VolSegError
        from VolSegLib.results import Result, read_remarks

        from volseg.errors import VolsegError
        from volseg.io import read_image
        from volseg.segmenter import segment_to_files

        yield None
        (image,) = images.values()
        self.inputs.append(np.asarray(read_image(image).affine))
        files = {"nifti": folder / "labels.nii.gz"}
        try:
            record = segment_to_files(self.segmenter, image, files).as_json()
        except VolsegError as error:
            raise VolSegError(str(error)) from error
        return Result(files["nifti"], read_remarks(record["quality"]["flags"]))


def result_of(steps: Any, heard: list[Any] | None = None) -> Any:
    """Take all steps, as a timer would; collect what they say."""
    while True:
        try:
            said = next(steps)
        except StopIteration as end:
            return end.value
        if said is not None and heard is not None:
            heard.append(said)


def matrix_of(node: Any) -> np.ndarray:
    """IJK to RAS of anything that has one."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    getter = getattr(node, "GetIJKToRASMatrix", None) or node.GetImageToWorldMatrix
    getter(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
