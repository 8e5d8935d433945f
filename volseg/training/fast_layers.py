"""Layers that train faster on a CPU, in place of torch's: the same mathematics, order and names.

torch normalises instances as a batch of channels: for volumes that lie voxel by voxel
(``channels_last``, the order its convolutions are fastest in) it copies every volume into another
order and back, forward and backward. Here they are read where they lie: once for the moments and
once for the result, and likewise backward. A rectified linear activation is done on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from volseg.training import compiled_layers as loops
from volseg.training.channels_last import CHANNELS_LAST, in_threads, rows_of

Array = npt.NDArray[Any]

_LENGTH = 256  # voxels that are summed in float32; their sums are added in float64
_FOR_A_THREAD = 1 << 15  # values; for fewer a second thread is not worth its start


class FastInstanceNorm(nn.Module):
    """Instance normalisation with learned or without weights, then a rectified linear activation.

    Takes over the parameters of a torch layer, under their names. What it is not made for (an
    accelerator, 16 bits, compilation) it gives to torch.

    Args:
        layer: The layer it stands for, without running statistics.
        slope: Of the activation below 0: 0 for ReLU, 1 for none.
    """

    def __init__(self, layer: nn.Module, slope: float = 1.0) -> None:
        super().__init__()
        self.weight, self.bias = _parameters(layer)
        self.eps = float(layer.eps)  # type: ignore[arg-type]
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations ``(batch, channels, *spatial)`` on the grid of ``x``."""
        made_for = x.device.type == "cpu" and x.dtype == torch.float32 and x.ndim in CHANNELS_LAST
        if made_for and x[0, 0].numel() > 1 and not torch.compiler.is_compiling():
            result: Tensor = _Normalise.apply(x, self.weight, self.bias, self.eps, self.slope)
            return result
        normalised = F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        return normalised if self.slope == 1 else F.leaky_relu(normalised, self.slope)

    def extra_repr(self) -> str:
        """Return what torch prints of it."""
        return f"slope={self.slope}"


class PointwiseConvolution(nn.Module):
    """A convolution with a kernel of one voxel, as the matrix product it is.

    Such a convolution to a few channels, as of the heads of a network, is one that torch has only a
    slow way for.

    Args:
        layer: The layer it stands for, whose parameters it takes over.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = _parameters(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``(batch, out_channels, *spatial)`` on the grid of ``x``."""
        assert self.weight is not None
        return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


def _parameters(layer: nn.Module) -> tuple[nn.Parameter | None, nn.Parameter | None]:
    found = dict(layer.named_parameters(recurse=False))
    return found.get("weight"), found.get("bias")


class _Normalise(torch.autograd.Function):
    """The normalisation of a tensor ``(batch, channels, *spatial)`` and its gradients."""

    @staticmethod
    def forward(  # noqa: PLR0917 - torch passes them so
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float
    ) -> Tensor:
        ordered, rows = rows_of(x.detach())
        work = _Work(len(x), x.shape[1], math.prod(x.shape[2:]))
        about = np.ascontiguousarray(ordered.flatten(2)[:, :, 0])
        total, square = work.sums(
            lambda *piece, sums: loops.add_moments(
                rows.values, rows.sample, rows.voxel, about, *piece, sums
            )
        )
        shift = total / work.voxels
        deviation = np.sqrt(np.maximum(square / work.voxels - shift**2, 0) + eps)
        mean = about + shift
        scale = 1.0 if weight is None else weight.detach().numpy().astype(np.float64)
        factor = scale / deviation
        level = np.zeros(x.shape[1]) if bias is None else bias.detach().numpy()
        result = torch.empty_like(x, memory_format=CHANNELS_LAST[x.ndim])
        middle = _single(mean)
        # What rounding takes from the mean comes back with the offset, of each sample its own.
        offset = level - (mean - middle) * factor
        linear = middle, _single(factor), _single(offset)
        flat = rows_of(result)[1].values
        work.run(
            lambda *piece: loops.normalise(
                rows.values, rows.sample, rows.voxel, *linear, np.float32(slope), *piece, flat
            )
        )
        ctx.save_for_backward(ordered)
        ctx.kept = work, mean, deviation, factor, linear, np.float32(slope)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        work, mean, deviation, factor, linear, slope = ctx.kept
        _, rows = rows_of(x)
        _, flow = rows_of(gradient)
        where = (rows.values, rows.sample, rows.voxel, flow.values, flow.sample, flow.voxel)
        total, product = work.sums(
            lambda *piece, sums: loops.add_gradients(*where, *linear, slope, *piece, sums)
        )
        product -= (mean - linear[0]) * total
        tilt = _single(-factor * product / deviation**2 / work.voxels)
        level = _single(-factor * total / work.voxels)
        result = torch.empty_like(x, memory_format=CHANNELS_LAST[x.ndim])
        flat = rows_of(result)[1].values
        work.run(
            lambda *piece: loops.backpropagate(*where, *linear, tilt, level, slope, *piece, flat)
        )
        of_weight = torch.from_numpy(_single((product / deviation).sum(axis=0)))
        of_bias = torch.from_numpy(_single(total.sum(axis=0)))
        needed = ctx.needs_input_grad
        return result, of_weight if needed[1] else None, of_bias if needed[2] else None, None, None


@dataclass(frozen=True)
class _Work:
    """A batch in pieces that threads share."""

    samples: int
    channels: int
    voxels: int

    @property
    def pieces(self) -> int:
        """Pieces of a sample."""
        return -(-self.voxels // _LENGTH)

    def run(self, loop: Callable[..., object]) -> None:
        """Call a loop with its share of the pieces, in as many threads as torch may use."""
        pieces = self.samples * self.pieces
        worth = self.samples * self.voxels * self.channels // _FOR_A_THREAD
        in_threads(partial(loop, self.voxels, self.pieces, _LENGTH), pieces, worth)

    def sums(self, loop: Callable[..., object]) -> tuple[Array, Array]:
        """Return the two sums of a loop, (samples, channels) each."""
        found = np.zeros((self.samples * self.pieces, 2, self.channels), np.float32)
        self.run(lambda *share: loop(*share, sums=found))
        by_sample = found.reshape(self.samples, self.pieces, 2, self.channels)
        both = by_sample.sum(axis=1, dtype=np.float64)
        return both[:, 0], both[:, 1]


def _single(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=np.float32)
