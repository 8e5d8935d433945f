"""What every network promises, and the check of input sizes they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from volseg.errors import InputError, ShapeError


@dataclass(frozen=True)
class NetworkSpec:
    """One entry of the registry.

    Attributes:
        name: Registry name.
        build: Constructor taking ``spatial_dims``, ``in_channels``, ``out_channels`` and options.
        title: One line for tables.
        paper: Where the architecture comes from.
        presets: Named option sets; ``"reference"`` is the published configuration, ``"tiny"`` the
            same architecture small enough for a test or a first try.
        reference_parameters: Parameter count of the published configuration, by our counting: all
            trainable values, normalisations included.
        reference_macs: Its multiply-accumulates, by our counting (`count_multiply_accumulates`).
        reference_input: Keyword arguments (dims and channels) that both counts hold for.
        reference_size: Spatial size of the input in voxels that ``reference_macs`` holds for.
        published_parameters: What the source prints, as it prints it ("31.0 M"); empty if nothing.
        published_macs: The same of its multiply-accumulates.
        difference: Where and why our counts are not the published ones; empty if they agree.
        deep_supervision: Whether the network has that option.
        valid: Whether its convolutions are valid, so that logits are ``2 * network.border``
            shorter than the input along each axis.
        any_size: Whether it takes sides that are no multiple of anything, from a smallest one up.
        training_only: Prefixes of parameters that only the network's own training method reaches.
        scriptable: Whether TorchScript can compile it.
    """

    name: str
    build: Callable[..., nn.Module]
    title: str
    paper: str
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reference_parameters: int | None = None
    reference_macs: int | None = None
    reference_input: Mapping[str, int] = field(default_factory=dict)
    reference_size: tuple[int, ...] = ()
    published_parameters: str = ""
    published_macs: str = ""
    difference: str = ""
    deep_supervision: bool = False
    valid: bool = False
    any_size: bool = False
    training_only: tuple[str, ...] = ()
    scriptable: bool = True


def require_divisible_sides(
    network: str,
    sides: Sequence[int],
    divisor: int | Sequence[int],
    *,
    instance_norm: bool = False,
) -> None:
    """Refuse spatial sizes that the poolings of a network would not divide evenly.

    Args:
        network: Registry name, for the message.
        sides: Spatial size in voxels.
        divisor: Total stride of the network, one for all axes or one an axis.
        instance_norm: Whether the deepest level is normalised over its own voxels: a single voxel
            has no spread, and torch refuses it in training and in evaluation.

    Raises:
        ShapeError: A side is not a positive multiple of its divisor, or one voxel would be left to
            normalise; names the size to pad to.
    """
    divisors = [divisor] * len(sides) if isinstance(divisor, int) else list(divisor)
    axes = list(zip(sides, divisors, strict=True))
    fits = all(side > 0 and side % stride == 0 for side, stride in axes)
    if fits and not (instance_norm and all(side == stride for side, stride in axes)):
        return
    padded = [max(1, -(-side // stride)) * stride for side, stride in axes]
    more = ""
    if instance_norm and padded == divisors:
        more = f" and, for its instance normalisation, not all of them just {_product(divisors)}"
        padded[0] *= 2
    raise ShapeError(
        f"{network} needs spatial sides that are multiples of "
        f"{divisor if isinstance(divisor, int) else _product(divisors)}{more}, got "
        f"{_product(sides)}: pad the input to {_product(padded)}."
    )


def sizes_per_stage(
    option: str, values: Sequence[int | Sequence[int]], stages: int, spatial_dims: int
) -> list[tuple[int, ...]]:
    """Return one size an axis for each stage; a single number stands for every axis.

    Args:
        option: Name of the option and its network, for the message.
        values: One number, or one an axis, for each stage.
        stages: Number of stages.
        spatial_dims: 2 or 3.

    Raises:
        InputError: A stage or an axis lacks its size, or a size is below 1.
    """
    sizes = [
        (value,) * spatial_dims if isinstance(value, int) else tuple(value) for value in values
    ]
    if len(sizes) != stages or any(len(size) != spatial_dims or min(size) < 1 for size in sizes):
        raise InputError(
            f"{option} must hold, for each of {stages} stages, a number or {spatial_dims} numbers "
            f"of at least 1, got {list(values)}."
        )
    return sizes


def _product(sides: Sequence[int]) -> str:
    """Return a size as it is spoken: ``64 x 64 x 32``."""
    return " x ".join(map(str, sides))
