"""Normalisations over whole tiles, written so that a converted network keeps its exactness.

A runtime is free in the order it adds in. OpenVINO adds the voxels of a channel one after the
other in float32; in a U-Net of 18 normalisations and tiles of 96³ that alone makes logits differ
by 0.2 % of their standard deviation. Written as means of means, one axis after the other, no chain
of additions is longer than a side of the tile, and the difference is about torch's own rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram


def with_exact_normalisation(program: ExportedProgram) -> ExportedProgram:
    """Return a program whose instance and group normalisations add in short chains."""
    rewritten = {
        torch.ops.aten.instance_norm.default: _instance_norm,
        torch.ops.aten.group_norm.default: _group_norm,
    }
    if not any(node.target in rewritten for node in program.graph.nodes):
        return program  # tracing it once more would take as long as exporting it did
    exact: ExportedProgram = program.run_decompositions(rewritten)
    return exact


def _instance_norm(  # noqa: PLR0917 - the operator's own signature
    image: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Any:
    """``aten::instance_norm``; running statistics, where tracked, are used as they are."""
    del momentum, cudnn_enabled
    if use_input_stats:
        mean = _mean(image)
        centred = image - mean
        variance = _mean(centred * centred)
    elif running_mean is not None and running_variance is not None:
        mean, variance = _along(image, running_mean), _along(image, running_variance)
    else:
        return NotImplemented
    return _scaled(image, mean, variance, weight=weight, bias=bias, eps=eps)


def _group_norm(  # noqa: PLR0917
    image: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """``aten::group_norm``: the mean of channel means is the group's, as all are equally large."""
    del cudnn_enabled
    mean = _over_groups(_mean(image), groups)
    centred = image - mean
    variance = _over_groups(_mean(centred * centred), groups)
    return _scaled(image, mean, variance, weight=weight, bias=bias, eps=eps)


def _mean(image: Tensor) -> Tensor:
    """Return the mean over all spatial axes, kept with length 1: one axis after the other.

    Sums and means in turn, because OpenVINO would merge neighbours of one kind into one long chain.
    """
    for axis in range(image.ndim - 1, 1, -1):
        if axis % 2:
            image = image.sum(axis, keepdim=True) * (1 / image.shape[axis])
        else:
            image = image.mean(axis, keepdim=True)
    return image


def _over_groups(channel_means: Tensor, groups: int) -> Tensor:
    batch, channels, *ones = channel_means.shape
    grouped = channel_means.reshape(batch, groups, channels // groups).mean(2, keepdim=True)
    spread = grouped.expand(batch, groups, channels // groups)
    return spread.reshape(batch, channels, *ones)


def _scaled(
    image: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * _along(image, weight)
    # One multiplication and one addition a voxel, as torch does it.
    shift = -mean * scale
    if bias is not None:
        shift = shift + _along(image, bias)
    return image * scale + shift


def _along(image: Tensor, per_channel: Tensor) -> Tensor:
    return per_channel.reshape(1, -1, *([1] * (image.ndim - 2)))
