"""What the tests of the Slicer extension share: Slicer's scene, volumes in it, ways to volseg."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXTENSION = Path(__file__).resolve().parents[3] / "scripts" / "slicer"
sys.path.insert(0, str(EXTENSION / "VolSeg"))  # as Slicer does for its modules
sys.path.insert(0, str(Path(__file__).parent))

from in_slicer import InThisProcess  # noqa: E402


@pytest.fixture(scope="session")
def extension() -> Path:
    """The folder of the extension."""
    return EXTENSION


@pytest.fixture
def scene() -> Iterator[Any]:
    """A scene of Slicer's own, without its windows."""
    pytest.importorskip("slicer_core", reason="slicer-core has no wheel for this platform")
    import slicer

    scene = slicer.vtkMRMLScene()
    yield scene
    scene.Clear(1)


@pytest.fixture
def add_volume(scene: Any) -> Callable[..., Any]:
    """Adds a volume to the scene: voxels ``(k, j, i)``, IJK to RAS, name."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    import slicer

    def add(voxels: np.ndarray, ijk_to_ras: np.ndarray, name: str = "scan") -> Any:
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetName(name)
        image = vtk.vtkImageData()
        image.SetDimensions(*voxels.shape[::-1])
        image.GetPointData().SetScalars(numpy_to_vtk(voxels.ravel(), deep=True))
        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy(ijk_to_ras.ravel())
        node.SetIJKToRASMatrix(matrix)
        node.SetAndObserveImageData(image)
        scene.AddNode(node)
        return node

    return add


@pytest.fixture
def volseg_program(tmp_path: Path, repository: Path) -> str:
    """A `volseg` as in an environment of its own: nothing of the tests' Python is handed on."""
    program = tmp_path / "environment" / "bin" / "volseg"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(repository)!r})\n"
        "from volseg.cli.main import main\nmain()\n"
    )
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def in_this_process(tiny_bundle: Path) -> InThisProcess:
    return InThisProcess(tiny_bundle)
