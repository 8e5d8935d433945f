"""How far a network looks, and in what steps: measured, for tiles that are exact.

One plane of voxels is made not-a-number, and the outputs that become so are those that depend on
it. Unlike a finite impulse this misses no dependence (a rectifier or a max-pooling may hide one),
and it needs no knowledge of the layers. What normalises over the whole tile (instance and group
normalisation, global attention, squeeze-and-excitation) makes everything depend on everything;
what places its samples by the size of the tile (interpolation with aligned corners, embedded
positions) gives the same image another result elsewhere, which noise shifted by whole strides
shows. Such networks are refused: no tiling of them is exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from volseg.errors import InputError

_LARGEST_STRIDE = 32
_SHORTEST_PROBE, _LONGEST_PROBE = 128, 1024
# What exact tiles may differ by, as a part of the range of the output.
_SAME = 1e-5

Reached = Callable[[int], tuple[int, int]]


@dataclass(frozen=True)
class ReceptiveField:
    """What a voxel of the output depends on.

    Attributes:
        radius: Voxels on each side of it, an axis each.
        stride: Total stride, an axis each: shifting the input by it shifts the output by it.
    """

    radius: tuple[int, ...]
    stride: tuple[int, ...]


def measure_receptive_field(
    network: Callable[..., Any],
    *,
    channels: int,
    spatial_dims: int,
    cross_section: int = 32,
    device: torch.device | str = "cpu",
) -> ReceptiveField:
    """Measure the receptive field of a network of padded convolutions.

    Limits: the network must be in evaluation mode and compute in a way that keeps a not-a-number
    where it is (torch does; an accelerated conversion of the network may not: measure the
    original); the radius must stay below 480 voxels and the stride at most 32. What an input
    reaches is taken to repeat with the stride, which is checked over two strides.

    Args:
        network: Callable from ``(1, channels, ...)`` to logits of the same spatial size.
        channels: Image channels.
        spatial_dims: 2 or 3.
        cross_section: Voxels of the probe across the measured axis; a multiple of the stride.
        device: Where the network lives.

    Raises:
        InputError: The network is in training mode, its outputs depend on the whole input, have
            another size than the input, do not repeat with a stride, or depend on the place of an
            image in its tile.
    """
    if isinstance(network, nn.Module) and network.training:
        raise InputError(
            "a receptive field is measured in evaluation mode only, got a network in training "
            "mode: call .eval() first."
        )
    measured = [
        _along(
            network,
            axis,
            channels=channels,
            dims=spatial_dims,
            cross_section=cross_section,
            device=torch.device(device),
        )
        for axis in range(spatial_dims)
    ]
    return ReceptiveField(tuple(r for r, _ in measured), tuple(s for _, s in measured))


def _along(
    network: Callable[..., Any],
    axis: int,
    *,
    channels: int,
    dims: int,
    cross_section: int,
    device: torch.device,
) -> tuple[int, int]:
    """Return radius and stride along one axis."""
    length = _SHORTEST_PROBE
    while length <= _LONGEST_PROBE:
        sides = [cross_section] * dims
        sides[axis] = length
        probe = torch.zeros((1, channels, *sides), device=device)
        reached = cache(partial(_reached, network, probe, axis))
        start = length // 2 - _LARGEST_STRIDE
        if reached(start)[0] > 0 and reached(start + 2 * _LARGEST_STRIDE)[1] < length - 1:
            radius, stride = _radius_and_stride(reached, start)
            _require_shifts(network, probe, axis, radius, stride)
            return radius, stride
        length *= 2
    raise InputError(
        f"what the network returns depends on all voxels of a probe of {_LONGEST_PROBE}, as with "
        "instance normalisation, global attention or pooling: no tiling of it is exact; blend its "
        "tiles instead."
    )


def _radius_and_stride(reached: Reached, start: int) -> tuple[int, int]:
    """Return radius and stride from the planes that inputs at and behind ``start`` reach.

    Both ends of what a plane reaches are stairs with one step a stride: within a stride the end
    stays where it is, so the radius to the right is largest just behind a step of the right end,
    that to the left just before a step of the left end.
    """
    places = range(start + 1, start + _LARGEST_STRIDE + 1)
    low, high = reached(start)
    step_left = bisect_right(places, low, key=lambda place: reached(place)[0])
    step_right = bisect_right(places, high, key=lambda place: reached(place)[1])
    regular = max(step_left, step_right) < len(places)
    if regular:
        left, right = places[step_left], places[step_right]
        stride = reached(right)[1] - high
        regular = (
            reached(left)[0] == low + stride
            and reached(right + stride - 1)[1] == high + stride
            and reached(right + stride)[1] == high + 2 * stride
        )
    if not regular:
        raise InputError(
            "what a voxel reaches in the network does not repeat with a stride of at most "
            f"{_LARGEST_STRIDE}: give context and stride yourself."
        )
    return max(reached(right)[1] - right, left - 1 - low), stride


def _require_shifts(
    network: Callable[..., Any], probe: Tensor, axis: int, radius: int, stride: int
) -> None:
    """Refuse a network whose output does not move with its input by whole strides."""
    dim, length = axis + 2, probe.shape[axis + 2]
    shift = _LARGEST_STRIDE // stride * stride
    noise = torch.randn(probe.shape, generator=torch.Generator().manual_seed(0)).to(probe)
    with torch.no_grad():
        here, there = network(noise), network(noise.roll(shift, dim))
    size = length - 2 * radius - shift
    here, there = here.narrow(dim, radius, size), there.narrow(dim, radius + shift, size)
    apart, spread = (here - there).abs().max(), (here - here.mean()).abs().max()
    if apart > _SAME * spread:
        raise InputError(
            "what the network returns depends on where in its tile an image lies (by "
            f"{float(apart / spread):.1g} of its range), as with interpolation that aligns "
            "corners or embedded positions: no tiling of it is exact; blend its tiles instead."
        )


def _reached(network: Callable[..., Any], probe: Tensor, axis: int, plane: int) -> tuple[int, int]:
    """Return the first and the last output plane that depend on one input plane."""
    probe.zero_()
    probe.narrow(axis + 2, plane, 1).fill_(torch.nan)
    with torch.no_grad():
        logits = network(probe)
    if not isinstance(logits, Tensor) or logits.shape[2:] != probe.shape[2:]:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            "a receptive field is measured on networks whose output has the size of the input, "
            f"got {found} for {tuple(probe.shape)}: give context, stride and border yourself."
        )
    planes = logits.isnan().movedim(axis + 2, 0).flatten(1).any(1).nonzero()
    if not len(planes):
        raise InputError(
            "what the network returns does not depend on its input, or hides what is not a "
            "number: give context and stride yourself."
        )
    return int(planes[0]), int(planes[-1])
