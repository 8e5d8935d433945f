"""Convolutions whose gradient of the weights is found faster on a CPU than torch finds it.

oneDNN, which torch convolves with, is near the limit of the processor forward and back to what goes
in; at the weights it takes longer for the same number of products.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from volseg.training import compiled_convolution as loops
from volseg.training.channels_last import CHANNELS_LAST, in_threads, rows_of

_MOST_PIECES = 16  # so that what is read again lies in a near cache
_MOST_SUMS = 1 << 20  # values, of all pieces
_FOR_A_THREAD = 1 << 22  # products


class FastConvolution(nn.Module):
    """A convolution that keeps the grid, with steps of one voxel.

    Takes over the parameters of a torch layer, under their names. What it is not made for (an
    accelerator, 16 bits, compilation) it gives to torch.

    Args:
        layer: The layer it stands for; `is_made_for` says whether it may.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        assert isinstance(layer, (nn.Conv2d, nn.Conv3d))
        self.weight, self.bias = layer.weight, layer.bias

    @staticmethod
    def is_made_for(layer: nn.Module) -> bool:
        """Return whether it may stand for a layer."""
        if not isinstance(layer, (nn.Conv2d, nn.Conv3d)) or layer.padding_mode != "zeros":
            return False
        odd = all(side % 2 for side in layer.kernel_size) and math.prod(layer.kernel_size) > 1
        whole = {*layer.stride, *layer.dilation, layer.groups} == {1}
        kept = layer.padding == tuple(side // 2 for side in layer.kernel_size)
        # Channels that a register has at once.
        channels = layer.out_channels % 8 == 0 and layer.in_channels % 8 == 0
        return odd and whole and kept and channels

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``(batch, out_channels, *spatial)`` on the grid of ``x``."""
        made_for = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        if made_for and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling():
            result: Tensor = _Convolve.apply(x, self.weight, self.bias)
            return result
        return _convolve(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Return what torch prints of it."""
        outputs, inputs, *kernel = self.weight.shape
        return f"{inputs}, {outputs}, kernel_size={tuple(kernel)}, bias={self.bias is not None}"


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    convolve = F.conv3d if x.ndim == 5 else F.conv2d
    return convolve(x, weight, bias, padding=_padding(weight))


def _padding(weight: Tensor) -> list[int]:
    return [side // 2 for side in weight.shape[2:]]


class _Convolve(torch.autograd.Function):
    """The convolution of a tensor ``(batch, channels, *spatial)`` and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad
        ones, none = [1] * (x.ndim - 2), [0] * (x.ndim - 2)
        by_torch = torch.ops.aten.convolution_backward(
            *(gradient, x, weight, [len(weight)] if ctx.biased else None),
            *(ones, _padding(weight), ones, False, none, 1),
            [of_input, False, of_bias],
        )
        return (
            by_torch[0],
            gradient_of_weight(x, gradient, weight) if of_weight else None,
            by_torch[2],
        )


def gradient_of_weight(x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the weights of a convolution that keeps the grid.

    It does not depend on the number of threads.

    Args:
        x: What went in, ``(batch, in_channels, *spatial)``, float32, as the others; the numbers of
            channels are multiples of 8 (`FastConvolution.is_made_for`).
        gradient: Of what came out, ``(batch, out_channels, *spatial)``.
        weight: ``(out_channels, in_channels, *kernel)``.
    """
    _, values = rows_of(x.detach())
    _, flow = rows_of(gradient)
    sides, taps = (
        (shape[2], *([1] if x.ndim == 4 else []), *shape[3:]) for shape in (x.shape, weight.shape)
    )
    planes = len(x) * sides[0]
    pieces = max(1, min(_MOST_PIECES, planes, _MOST_SUMS // weight.numel()))
    sums = np.zeros((pieces, *taps, x.shape[1], gradient.shape[1]), np.float32)
    loop = partial(
        loops.add_products,
        *(values.values, values.sample, values.voxel, flow.values, flow.sample, flow.voxel),
        *(planes, sides, taps, pieces, loops.WIDE),
    )
    products = weight.numel() * gradient[:, 0].numel()
    in_threads(
        lambda first, last: loop(first, last, sums),
        pieces * taps[0] * taps[1],
        products // _FOR_A_THREAD,
    )
    found = torch.from_numpy(sums.sum(axis=0)).movedim((-1, -2), (0, 1)).reshape(weight.shape)
    return found.contiguous(memory_format=CHANNELS_LAST[x.ndim])
