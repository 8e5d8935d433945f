"""TensorRT, through MONAI's own export: an engine for one network, one GPU and one precision.

Engines are machine code. They are built for the user at hand and kept in the user's cache, and
never read from a bundle.
"""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from volseg.errors import InputError, MissingPackageError, OutputError
from volseg.predictors.contract import Precision, TileShapes, closed_error, first_line

TITLE = "TensorRT"

_PRECISIONS: dict[Precision, str] = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
_PACKAGES = ("tensorrt", "polygraphy", "onnx")
_MOST_TILES = 8  # at once; an engine is built for a range


def require(device: torch.device) -> None:
    """Refuse where engines cannot be built.

    Raises:
        InputError: The device is no NVIDIA GPU.
        MissingPackageError: A package is not installed.
    """
    if device.type != "cuda":
        raise InputError(
            f"the backend 'tensorrt' computes on an NVIDIA GPU, got the device {str(device)!r}: "
            "use the backend 'auto' there."
        )
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingPackageError("the backend 'tensorrt'", package)


class TensorRTPredictor:
    """An engine, built at the first use of a network on a kind of GPU, which takes minutes.

    Args:
        network: The network; it is copied.
        shapes: Sizes of tiles and logits.
        device: A GPU.
        precision: Of the arithmetic.
        content: What stands for the content of the network (`network_fingerprint`).
        folder: Where engines are kept.

    Raises:
        InputError: The network cannot be converted.
        OutputError: The folder cannot be made.
    """

    def __init__(
        self,
        network: nn.Module,
        shapes: TileShapes,
        *,
        device: torch.device,
        precision: Precision,
        content: str,
        folder: Path,
    ) -> None:
        from monai.networks import trt_compile  # noqa: PLC0415 - looks for CUDA when imported

        self.name = f"{TITLE} {installed_version('tensorrt')}"
        self.device = device
        self.precision = precision
        self.shapes = shapes
        gpu = torch.cuda.get_device_name(device)
        parts = [content, shapes.image, precision, _MOST_TILES, gpu, self.name, torch.__version__]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"engines cannot be kept in {folder} ({first_line(error)}): set VOLSEG_CACHE to a "
                "folder that can be written to."
            ) from error
        options = {"precision": _PRECISIONS[precision], "dynamic_batchsize": [1, 1, _MOST_TILES]}
        engine = copy.deepcopy(network).eval().to(device)
        self._engine: nn.Module | None = trt_compile(engine, str(folder / key), args=options)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of exporters, their own affair
                self(torch.zeros((1, *shapes.image)))
        except Exception as error:  # exporters and TensorRT raise whatever they like
            raise InputError(
                f"{type(network).__name__} cannot be converted for {TITLE} ({first_line(error)}): "
                "use the backend 'torch'."
            ) from error

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the logits of ``tiles``; see `Predictor`."""
        if self._engine is None:
            raise closed_error(self.name)
        tiles = self.shapes.plain(tiles).to(self.device, non_blocking=True).contiguous()
        logits = torch.empty((len(tiles), *self.shapes.logits), device=self.device)
        with torch.cuda.device(self.device), torch.no_grad():
            parts = (one.split(_MOST_TILES) for one in (tiles, logits))
            for part, result in zip(*parts, strict=True):
                result.copy_(self._engine(part))  # which uses its own memory again
        return logits

    def close(self) -> None:
        """Let go of the engine; the GPU's cached memory is returned."""
        self._engine = None
        torch.cuda.empty_cache()
