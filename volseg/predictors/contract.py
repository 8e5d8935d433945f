"""What every predictor promises: tiles in, logits out, on one machine's fastest correct way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from volseg.errors import InputError, ShapeError

Precision = Literal["f32", "bf16", "f16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class TileShapes:
    """The sizes a predictor is made for, without the number of tiles.

    Attributes:
        image: ``(channels, *tile)`` of what goes in.
        logits: ``(classes, *tile)`` of what comes out; with valid convolutions the tile is
            smaller than the one that goes in.
    """

    image: tuple[int, ...]
    logits: tuple[int, ...]

    def plain(self, tiles: Tensor) -> Tensor:
        """Return the tiles as a plain tensor, once their size is right.

        Raises:
            ShapeError: They are not float32 ``(tiles, channels, *tile)`` of this size.
        """
        if tuple(tiles.shape[1:]) != self.image or tiles.dtype != torch.float32:
            raise ShapeError(
                f"the predictor was made for float32 tiles of (tiles, "
                f"{', '.join(map(str, self.image))}), got {tiles.dtype} of {tuple(tiles.shape)}: "
                "make another one for this size."
            )
        return tiles.as_subclass(Tensor)  # a MetaTensor would track every operation


class Predictor(Protocol):
    """A callable from float32 tiles to float32 logits.

    It holds the memory it computes with until `close` or until it is collected, is used from one
    thread, and may be interrupted: the next call starts anew.

    Attributes:
        name: What computes and its version, for reports: ``OpenVINO 2026.4``.
        device: Where it computes, and where its logits are.
        precision: What it computes in; logits are float32 whatever it is.
        shapes: The sizes it takes and gives.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102
    @property
    def precision(self) -> Precision: ...  # noqa: D102
    @property
    def shapes(self) -> TileShapes: ...  # noqa: D102

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the logits ``(tiles, classes, *tile)`` of tiles ``(tiles, channels, *tile)``."""
        ...

    def close(self) -> None:
        """Give the memory back; the predictor cannot be used any more."""
        ...


def tile_shapes(network: nn.Module, in_channels: int, tile: Sequence[int]) -> TileShapes:
    """Return what ``network`` makes of a tile, without computing anything.

    Args:
        network: The network; it is put into evaluation mode.
        in_channels: Image channels.
        tile: Tile size in voxels, an entry a spatial axis.

    Raises:
        ShapeError: The network does not take tiles of this size, or does not give one tensor.
    """
    image = (in_channels, *(int(side) for side in tile))
    # Of each module once: torch would put a module that goes by two names in place twice, and back
    # only once.
    nowhere = {
        name: torch.empty_like(value, device="meta")
        for prefix, module in network.named_modules()
        for held in (module.named_parameters, module.named_buffers)
        for name, value in held(prefix, recurse=False, remove_duplicate=False)
    }
    try:
        with torch.inference_mode(False), torch.no_grad():
            empty = torch.empty((1, *image), device="meta")
            logits = torch.func.functional_call(
                network.eval(), nowhere, (empty,), tie_weights=False
            )
    except ShapeError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        raise ShapeError(
            f"{type(network).__name__} does not take tiles of {in_channels} channel(s) and "
            f"{' x '.join(map(str, image[1:]))} voxels ({first_line(error)}): use sides that are "
            "multiples of its total stride."
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != len(image) + 1:
        raise ShapeError(
            f"{type(network).__name__} gives {_described(logits)} for a tile of {image}: a "
            f"predictor needs one tensor of {len(image) + 1} axes."
        )
    return TileShapes(image, tuple(logits.shape[1:]))


def closed_error(name: str) -> InputError:
    """Return the error of a predictor that is used after `Predictor.close`."""
    return InputError(f"this predictor ({name}) was closed: make another one.")


def first_line(error: BaseException) -> str:
    """Return the first line of a message of another library, for a message of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _described(value: object) -> str:
    shape = f" of {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    return f"a {type(value).__name__}{shape}"
