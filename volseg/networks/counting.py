"""Parameters and multiply-accumulates of a network, without memory or arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable values; shared ones count once, buffers not at all."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_multiply_accumulates(
    network: nn.Module, in_channels: int, size: Sequence[int], *, training: bool = False
) -> int:
    """Return the multiply-accumulates of one pass of a single image through ``network``.

    Only convolutions, transposed convolutions and matrix products count, without their biases,
    as published figures mostly do; transposed convolutions count at their input positions.

    Args:
        network: A network on the ``meta`` device, so that nothing is computed.
        in_channels: Image channels.
        size: Spatial size of the input in voxels.
        training: Count the pass of the training mode, in which deep supervision runs every head.
    """
    was_training = network.training
    network.train(training)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, in_channels, *size, device="meta"))
    network.train(was_training)
    return int(counter.get_total_flops()) // 2
