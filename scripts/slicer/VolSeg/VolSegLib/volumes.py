"""Volumes of the scene, as files for volseg."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from .errors import VolSegError


def ijk_to_ras(volume: Any) -> np.ndarray:
    """Return the matrix ``(4, 4)`` from voxels of a volume node to its own space, in mm."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def require_usable(volumes: Mapping[str, Any]) -> None:
    """Raise unless the volumes hold one value a voxel, and lie on one grid in one place.

    Args:
        volumes: volume nodes by channel.

    Raises:
        VolSegError: with what is wrong.
    """
    for channel, volume in volumes.items():
        if volume is None:
            raise VolSegError(f"choose a volume for {channel}.")
        if volume.GetImageData() is None or 0 in volume.GetImageData().GetDimensions():
            raise VolSegError(f"the volume {volume.GetName()} is empty: load its voxels first.")
        components = volume.GetImageData().GetNumberOfScalarComponents()
        if components != 1:
            raise VolSegError(
                f"the volume {volume.GetName()} has {components} values a voxel: choose one with a "
                "single value (the module Vector to Scalar Volume makes one)."
            )
    first, *others = volumes.values()
    for other in others:
        same_grid = first.GetImageData().GetDimensions() == other.GetImageData().GetDimensions()
        if not same_grid or not np.allclose(ijk_to_ras(first), ijk_to_ras(other), atol=1e-3):
            raise VolSegError(
                f"the volumes {first.GetName()} and {other.GetName()} do not lie on the same grid: "
                "resample one onto the other (module Resample Scalar/Vector/DWI Volume)."
            )
        if first.GetTransformNodeID() != other.GetTransformNodeID():
            raise VolSegError(
                f"the volumes {first.GetName()} and {other.GetName()} are under different "
                "transforms: harden them, and resample one onto the other."
            )


def save_volume(volume: Any, path: Path) -> None:
    """Write a volume as it is in the scene, without the transform it is under.

    Args:
        volume: a volume node with one value a voxel.
        path: ends in ``.nrrd``, which holds the matrix in full, sheared as it may be.

    Raises:
        VolSegError: it cannot be written.
    """
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(0)
    if not storage.WriteData(volume) or not path.is_file():
        raise VolSegError(
            f"the volume {volume.GetName()} cannot be written to {path.parent}: is the disk full?"
        )
