"""ONNX Runtime: for machines that OpenVINO is not made for."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from volseg.errors import InputError, MissingPackageError
from volseg.predictors.contract import Precision, TileShapes, closed_error

TITLE = "ONNX Runtime"
FILES: tuple[str, ...] = ("network.onnx",)
REVISION = 1


@cache
def runtime() -> Any:
    """Import ONNX Runtime, its telemetry (which only some Windows builds have) off.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - slow to load, and optional
    except ImportError as error:
        package = "onnxruntime"
        raise MissingPackageError("the backend 'onnxruntime'", package, package) from error
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def version() -> str:
    """Return the version of ONNX Runtime."""
    return str(runtime().__version__)


def processor() -> str:
    """Return what the results of a check hold for."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def require(precision: Precision) -> None:
    """Refuse all but f32.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
        InputError: The precision is another one.
    """
    runtime()
    if precision != "f32":
        raise InputError(
            f"the backend 'onnxruntime' computes in f32, got the precision {precision!r}: use "
            "the backend 'openvino', or 'f32'."
        )


def convert(program: ExportedProgram, shapes: TileShapes) -> Callable[[Sequence[Path]], None]:
    """Convert a program; the callable returned writes the `FILES`.

    Raises:
        MissingPackageError: torch's exporter lacks the packages it writes ONNX with.
    """
    del shapes  # any number of tiles of that size
    try:
        import onnxscript  # noqa: F401, PLC0415 - what torch.onnx needs
    except ImportError as error:
        raise MissingPackageError("exporting to ONNX", "onnxscript", "onnxruntime") from error
    # It warns of packages that it could also export, had they been installed.
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
    finally:
        exporter.setLevel(level)
    if exported is None:
        raise InputError("torch gave no ONNX program: use the backend 'openvino' or 'torch'.")

    def write(files: Sequence[Path]) -> None:
        exported.save(str(files[0]), external_data=False)

    return write


class ONNXRuntimePredictor:
    """A converted network on the CPU, with the threads that torch has when it is made.

    Args:
        files: The `FILES`, where they are.
        shapes: Sizes of tiles and logits.
        precision: Always ``f32``.
    """

    device = torch.device("cpu")

    def __init__(self, files: Sequence[Path], shapes: TileShapes, precision: Precision) -> None:
        self.name = f"{TITLE} {version()}"
        self.precision = precision
        self.shapes = shapes
        options = runtime().SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session: Any = runtime().InferenceSession(
            str(files[0]), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the logits of ``tiles``; see `Predictor`."""
        if self._session is None:
            raise closed_error(self.name)
        tiles = self.shapes.plain(tiles).detach().to(self.device).contiguous()
        logits = torch.empty((len(tiles), *self.shapes.logits))
        (image,), (output,) = self._session.get_inputs(), self._session.get_outputs()
        value = runtime().OrtValue.ortvalue_from_numpy
        for tile, result in zip(tiles.split(1), logits.split(1), strict=True):
            binding = self._session.io_binding()
            binding.bind_ortvalue_input(image.name, value(tile.numpy()))
            binding.bind_ortvalue_output(output.name, value(result.numpy()))
            self._session.run_with_iobinding(binding)
        return logits

    def close(self) -> None:
        """Give the memory back."""
        self._session = None


def load(files: Sequence[Path], shapes: TileShapes, precision: Precision) -> ONNXRuntimePredictor:
    """Return the predictor of converted files."""
    return ONNXRuntimePredictor(files, shapes, precision)
