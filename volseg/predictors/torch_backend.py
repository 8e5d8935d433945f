"""Torch itself: as it is on any device, or compiled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.predictors.contract import Precision, TileShapes, closed_error, first_line

_REDUCED: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "f16": torch.float16}
_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class TorchPredictor:
    """The network itself.

    Args:
        network: The network; it is moved to ``device`` and put into evaluation mode.
        shapes: Sizes of tiles and logits.
        device: Any device of torch.
        precision: Anything but ``f32`` is torch's automatic mixed precision.
        compiled: Use `torch.compile`. It compiles here, for the batch of one tile, and once more
            for the first batch of several.

    Raises:
        InputError: The device is a CPU and ``precision`` is not ``f32``, or the network cannot be
            compiled.
    """

    def __init__(
        self,
        network: nn.Module,
        shapes: TileShapes,
        *,
        device: torch.device,
        precision: Precision = "f32",
        compiled: bool = False,
    ) -> None:
        if device.type == "cpu" and precision != "f32":
            raise InputError(
                f"torch computes in f32 on a CPU here, got the precision {precision!r}: use the "
                "backend 'openvino', or 'f32'."
            )
        self.name = f"torch {torch.__version__}{', compiled' if compiled else ''}"
        self.device = device
        self.precision = precision
        self.shapes = shapes
        network.eval().to(device)
        if device.type == "cuda":
            # Tensor cores want channels last.
            layout = _CHANNELS_LAST[len(shapes.image) - 1]
            network.to(memory_format=layout)  # type: ignore[call-overload] # torch lacks it
        self._network: nn.Module | None = network
        if compiled:
            self._network = self._compiled(network)

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the logits of ``tiles``; see `Predictor`."""
        if self._network is None:
            raise closed_error(self.name)
        tiles = self.shapes.plain(tiles)
        if self.device.type == "cuda":
            if tiles.device.type == "cpu":
                tiles = tiles.pin_memory()
            tiles = tiles.to(self.device, non_blocking=True)
            tiles = tiles.contiguous(memory_format=_CHANNELS_LAST[tiles.ndim - 2])
        tiles = tiles.to(self.device)
        with torch.no_grad(), self._mixed_precision():
            logits: Tensor = self._network(tiles)
        return logits.float()

    def close(self) -> None:
        """Let go of the network; a GPU's cached memory is returned."""
        self._network = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _mixed_precision(self) -> torch.autocast:
        reduced = _REDUCED.get(self.precision)
        return torch.autocast(self.device.type, dtype=reduced, enabled=reduced is not None)

    def _compiled(self, network: nn.Module) -> nn.Module:
        compiled: nn.Module = torch.compile(network)  # type: ignore[assignment]
        try:
            with torch.no_grad(), self._mixed_precision():
                compiled(torch.zeros((1, *self.shapes.image), device=self.device))
        except Exception as error:  # dynamo, inductor and the compiler each raise their own
            raise InputError(
                f"torch.compile cannot compile {type(network).__name__} ({first_line(error)}): it "
                "needs a C++ compiler (g++, clang++ or MSVC, or the one that the environment "
                "variable CXX names), or use the backend 'torch'."
            ) from error
        return compiled
