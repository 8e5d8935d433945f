"""Normalisations over whole tiles, written so that a converted network keeps its exactness.

A runtime is free in the order it adds in. OpenVINO adds the voxels of a channel one after the
other in float32; in a U-Net of 18 normalisations and tiles of 96³ that alone makes logits differ
by 0.2 % of their standard deviation. Written as means of means, one axis after the other, no chain
of additions is longer than a side of the tile, and the difference is about torch's own rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram


def with_exact_normalisation(program: ExportedProgram) -> ExportedProgram:
    """Return a program whose instance and group normalisations add in short chains."""
    if not any(node.target in EXACT_NORMALISATIONS for node in program.graph.nodes):
        return program  # tracing it once more would take as long as exporting it did
    exact: ExportedProgram = program.run_decompositions(EXACT_NORMALISATIONS)
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
        mean, variance = _mean_and_variance(image)
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
    channel_mean, within = _mean_and_variance(image)
    mean = _over_groups(channel_mean, groups)
    between = channel_mean - mean
    variance = _over_groups(within + between * between, groups)
    return _scaled(image, mean, variance, weight=weight, bias=bias, eps=eps)


def _mean_and_variance(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return both of every channel over all spatial axes, which are kept with length 1.

    The variance is that within rows, from their norms, and that between them: the features are
    read twice, and not once more written centred and squared, which costs a network a twentieth.
    Squares cancel within a row only, and errors of rows average out.
    """
    along = image.ndim - 1
    rows = _mean_along(image, along)
    norms = torch.linalg.vector_norm(image, dim=along, keepdim=True)
    within = (norms * norms * (1 / image.shape[along]) - rows * rows).clamp_min(0)
    mean = _mean_of_rows(rows)
    apart = rows - mean
    return mean, _mean_of_rows(within) + _mean_of_rows(apart * apart)


def _mean_of_rows(rows: Tensor) -> Tensor:
    for axis in range(rows.ndim - 2, 1, -1):
        rows = _mean_along(rows, axis)
    return rows


def _mean_along(image: Tensor, axis: int) -> Tensor:
    """Return the mean along an axis, as sum and mean in turns.

    OpenVINO would merge neighbours of one kind into one long chain.
    """
    if axis % 2:
        return image.sum(axis, keepdim=True) * (1 / image.shape[axis])
    return image.mean(axis, keepdim=True)


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


EXACT_NORMALISATIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.instance_norm.default: _instance_norm,
    torch.ops.aten.group_norm.default: _group_norm,
}
"""What is written in the place of an operator, as torch takes decompositions."""
