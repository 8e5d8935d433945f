"""OpenVINO: the fastest exact way on a CPU."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from volseg.errors import InputError, MissingPackageError
from volseg.predictors.contract import Precision, TileShapes, closed_error
from volseg.predictors.exact_normalisation import EXACT_NORMALISATIONS, with_exact_normalisation
from volseg.predictors.folded_upsampling import fold_upsampling
from volseg.predictors.idle_padding import without_idle_padding

TITLE = "OpenVINO"
FILES: tuple[str, ...] = ("network.xml", "network.bin")
REVISION = 4

_CAPABILITIES: dict[Precision, str] = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
_TELEMETRY = "openvino_telemetry"
_AT_ONCE = 2  # tiles
_PATIENCE = 100  # ms between two looks for an interruption


@cache
def runtime() -> Any:
    """Import OpenVINO, which then sends nothing to anybody.

    It reports its import and each conversion over the network unless its telemetry package is
    missing; so that is what it is told.

    Raises:
        MissingPackageError: OpenVINO is not installed.
    """
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # import then fails
    try:
        import openvino  # noqa: PLC0415 - slow to load, and not on every machine
        from openvino.tools.ovc import telemetry_stub  # noqa: PLC0415
    except ImportError as error:
        raise MissingPackageError("the backend 'openvino'", "openvino") from error
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]
    # Where the host program had imported OpenVINO before, the converter holds the real one.
    for name, module in list(sys.modules.items()):
        if name.startswith("openvino.tools.ovc") and hasattr(module, "tm"):
            vars(module)["tm"] = telemetry_stub
    return openvino


@cache
def core() -> Any:
    """Return OpenVINO's core, the only one of the process, which it keeps.

    On processors with AMX each core gives the thread that made it another stack for handlers of
    signals, and takes it away at its end. Of two that end in the order they were made in, the first
    one's comes back once it is gone, and the next signal (Ctrl-C, a child that ends) kills the
    process without a word.
    """
    return runtime().Core()


def version() -> str:
    """Return the version of OpenVINO."""
    return str(runtime().__version__)


def processor() -> str:
    """Return what the results of a check hold for."""
    return str(core().get_property("CPU", "FULL_DEVICE_NAME"))


def require(precision: Precision) -> None:
    """Refuse a precision that the processor has no instructions for.

    Raises:
        MissingPackageError: OpenVINO is not installed.
        InputError: The processor lacks it.
    """
    offered = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if _CAPABILITIES[precision] not in offered:
        able = [name for name, capability in _CAPABILITIES.items() if capability in offered]
        raise InputError(
            f"this processor ({processor()}) has no instructions for {precision}: use "
            f"{' or '.join(able)}."
        )


def convert(program: ExportedProgram, shapes: TileShapes) -> Callable[[Sequence[Path]], None]:
    """Convert a program; the callable returned writes the `FILES`."""
    openvino = runtime()
    model = openvino.convert_model(_as_read(without_idle_padding(program)))
    # As converted it takes any size, which OpenVINO pays for at each layer: up to two fifths of
    # the time in bf16.
    model.reshape([1, *shapes.image])
    fold_upsampling(model, openvino.opset15)

    def write(files: Sequence[Path]) -> None:
        graph, weights = files
        openvino.serialize(model, str(graph), str(weights))

    return write


def _as_read(program: ExportedProgram) -> Any:
    """Return what OpenVINO reads of a program, with exact normalisations.

    It would decompose the program itself. Each decomposition traces the whole program once more,
    which takes as long as exporting it did: so both are one.
    """
    try:
        from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder  # noqa: PLC0415
        from openvino.frontend.pytorch.torchdynamo.export_decompositions import (  # noqa: PLC0415
            ops_to_not_decompose,
        )
    except ImportError:  # another version keeps them elsewhere: converting takes longer then
        return with_exact_normalisation(program)
    table = torch.export.default_decompositions()
    for operator in ops_to_not_decompose():
        table.pop(operator, None)
    table.update(EXACT_NORMALISATIONS)
    return TorchFXPythonDecoder(program.run_decompositions(table).module(), dynamic_shapes=True)


class OpenVINOPredictor:
    """A converted network on the CPU, with the threads that torch has when it is made.

    A single tile gets all threads. Tiles of a batch go through two at a time, each on half of the
    threads: they wait less for one another's ends, which saves a twentieth of the time, and hold
    twice the memory.

    Args:
        files: The `FILES`, where they are.
        shapes: Sizes of tiles and logits.
        precision: Of the arithmetic; ``f32`` is exact.
    """

    device = torch.device("cpu")

    def __init__(self, files: Sequence[Path], shapes: TileShapes, precision: Precision) -> None:
        self.name = f"{TITLE} {version()}"
        self.precision = precision
        self.shapes = shapes
        graph, weights = files
        self._threads = torch.get_num_threads()
        self._model: Any = core().read_model(str(graph), str(weights))
        self._compiled: dict[int, Any] = {}
        self._for_tiles(1)

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the logits of ``tiles``; see `Predictor`."""
        if self._model is None:
            raise closed_error(self.name)
        tiles = self.shapes.plain(tiles).detach().to(self.device).contiguous()
        logits = torch.empty((len(tiles), *self.shapes.logits))
        at_once = max(1, min(_AT_ONCE, len(tiles), self._threads))
        compiled = self._for_tiles(at_once)
        # A request holds the memory it was given: new ones each time let go of it.
        requests = [compiled.create_infer_request() for _ in range(at_once)]
        try:
            for group, results in zip(tiles.split(at_once), logits.split(at_once), strict=True):
                running = list(zip(requests, group.split(1), results.split(1), strict=False))
                for request, tile, result in running:
                    request.set_input_tensor(_shared(tile))
                    request.set_output_tensor(_shared(result))
                    request.start_async()
                for request, _, _ in running:
                    while not request.wait_for(_PATIENCE):
                        pass  # Python looks for Ctrl-C here
        except BaseException:
            for request in requests:
                request.cancel()
            for request in requests:
                with contextlib.suppress(RuntimeError):  # it says that it was cancelled
                    request.wait()
            raise
        return logits

    def close(self) -> None:
        """Give the memory back."""
        self._model = None
        self._compiled.clear()

    def _for_tiles(self, at_once: int) -> Any:
        """Return the network compiled for so many tiles at once, which share the threads."""
        if at_once not in self._compiled:
            options = {
                # Without it OpenVINO computes in bfloat16 wherever the processor can.
                "INFERENCE_PRECISION_HINT": self.precision,
                "NUM_STREAMS": at_once,
                "INFERENCE_NUM_THREADS": self._threads,
                # Pinned, two processes would wait for the same cores.
                "ENABLE_CPU_PINNING": False,
            }
            self._compiled[at_once] = core().compile_model(self._model, "CPU", options)
        return self._compiled[at_once]


def load(files: Sequence[Path], shapes: TileShapes, precision: Precision) -> OpenVINOPredictor:
    """Return the predictor of converted files."""
    return OpenVINOPredictor(files, shapes, precision)


def _shared(tensor: Tensor) -> Any:
    return runtime().Tensor(tensor.numpy(), shared_memory=True)
