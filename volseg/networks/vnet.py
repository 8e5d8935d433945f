"""V-Net: residual stages of 5x5x5 convolutions, strided convolutions instead of poolings.

Milletari, Navab, Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
Segmentation", 3DV 2016. Three networks carry the name: the diagram of the paper, the network its
authors trained (their Caffe configuration, fewer convolutions) and the one known from MONAI and
most PyTorch code (fewer still, with batch normalisation and ELU). `VNet` builds all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from volseg.errors import InputError, UnknownNameError
from volseg.networks.blocks import (
    CONVOLUTION,
    TRANSPOSED,
    initialise_he,
    norm_layer,
    require_spatial_dims,
)
from volseg.networks.contract import NetworkSpec, require_divisible_sides


@dataclass(frozen=True)
class _Variant:
    encoder: tuple[int, ...]  # convolutions a stage, full resolution first
    decoder: tuple[int, ...]  # convolutions a stage, full resolution last
    wide_head: bool = True  # a 5x5x5 convolution to the classes before the 1x1x1 convolution
    norm: str = "none"
    elu: bool = False  # ELU instead of PReLU with one slope a channel
    activated_sum: bool = False  # activate the last convolution of a stage before the sum too


_VARIANTS = {
    "caffe": _Variant((1, 1, 2, 3, 3), (3, 2, 1, 1)),
    "paper": _Variant((1, 2, 3, 3, 3), (3, 3, 2, 1), wide_head=False),
    "monai": _Variant((1, 1, 2, 3, 2), (2, 2, 1, 1), norm="batch", elu=True, activated_sum=True),
}


def _activation(channels: int, variant: _Variant) -> nn.Module:
    return nn.ELU() if variant.elu else nn.PReLU(channels)


def _unit(
    convolution: nn.Module, spatial_dims: int, channels: int, variant: _Variant
) -> nn.Sequential:
    """Return a convolution to ``channels`` with its normalisation and activation."""
    norm = norm_layer(variant.norm, spatial_dims, channels)
    return nn.Sequential(convolution, norm, _activation(channels, variant))


class _Residual(nn.Module):
    """Convolutions of kernel 5; ``shortcut`` is added before the last activation."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: int,
        convolutions: int,
        variant: _Variant,
        *,
        activated_sum: bool,
    ) -> None:
        super().__init__()
        units: list[nn.Module] = []
        for index in range(convolutions):
            convolution = CONVOLUTION[spatial_dims](
                in_channels if index == 0 else channels,
                channels,
                5,
                padding=2,
                # A bias before a normalisation is dead: the normalisation subtracts it again.
                bias=variant.norm == "none",
            )
            units += _unit(convolution, spatial_dims, channels, variant)
        self.units = nn.Sequential(*(units if activated_sum else units[:-1]))
        self.activation = _activation(channels, variant)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        features: Tensor = self.activation(self.units(x) + shortcut)
        return features


class _Down(nn.Module):
    """Halve the resolution and double the channels by a convolution, then the residual stage."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: int,
        convolutions: int,
        variant: _Variant,
    ) -> None:
        super().__init__()
        down = CONVOLUTION[spatial_dims](
            in_channels, channels, 2, stride=2, bias=variant.norm == "none"
        )
        self.down = _unit(down, spatial_dims, channels, variant)
        self.stage = _Residual(
            spatial_dims,
            channels,
            channels,
            convolutions,
            variant,
            activated_sum=variant.activated_sum,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        features: Tensor = self.stage(x, x)
        return features


class _Up(nn.Module):
    """Double the resolution, join the encoder features of that level, then the residual stage."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        skip_channels: int,
        convolutions: int,
        variant: _Variant,
    ) -> None:
        super().__init__()
        up = TRANSPOSED[spatial_dims](in_channels, skip_channels, 2, stride=2)
        self.up = _unit(up, spatial_dims, skip_channels, variant)
        self.stage = _Residual(
            spatial_dims,
            2 * skip_channels,
            2 * skip_channels,
            convolutions,
            variant,
            activated_sum=variant.activated_sum,
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = torch.cat([self.up(x), skip], dim=1)
        features: Tensor = self.stage(x, x)
        return features


class VNet(nn.Module):
    """V-Net; sides must be multiples of ``2 ** (len(channels) - 1)``.

    Args:
        spatial_dims: 3 (the paper) or 2.
        in_channels: Image channels; repeated in turn they are added to the first feature maps.
        out_channels: Classes, background included.
        variant: ``caffe`` (what the authors trained), ``paper`` (what the paper draws) or
            ``monai`` (what MONAI builds, here without its dropout).
        channels: Feature maps an encoder stage, full resolution first, two to five stages. A
            decoder stage has twice those of the encoder stage beside it.
        norm: A normalisation in place of the variant's: ``none``, ``batch``, ``instance`` or
            ``group``.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        variant: str = "caffe",
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        norm: str | None = None,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if variant not in _VARIANTS:
            raise UnknownNameError("variant of vnet", variant, _VARIANTS)
        plan = _VARIANTS[variant]
        if not 2 <= len(channels) <= len(plan.encoder):
            raise InputError(
                f"vnet has two to {len(plan.encoder)} stages, got channels={list(channels)}."
            )
        if norm is not None:
            plan = replace(plan, norm=norm)
        self.divisor = 2 ** (len(channels) - 1)
        self.instance_norm = plan.norm == "instance"
        self.width = channels[0]
        widths = list(channels)
        self.first = _Residual(
            spatial_dims, in_channels, widths[0], plan.encoder[0], plan, activated_sum=False
        )
        self.encoder = nn.ModuleList(
            _Down(spatial_dims, shallow, deep, convolutions, plan)
            for shallow, deep, convolutions in zip(
                widths[:-1], widths[1:], plan.encoder[1 : len(widths)], strict=True
            )
        )
        # The deepest stage keeps its width, the decoder stages have twice that of their skip.
        self.decoder = nn.ModuleList(
            _Up(spatial_dims, deep, shallow, convolutions, plan)
            for deep, shallow, convolutions in zip(
                [widths[-1], *(2 * width for width in widths[-2:0:-1])],
                widths[-2::-1],
                plan.decoder[1 - len(widths) :],
                strict=True,
            )
        )
        wide, convolution = 2 * widths[0], CONVOLUTION[spatial_dims]
        if plan.wide_head:
            wide_head = convolution(wide, out_channels, 5, padding=2, bias=plan.norm == "none")
            self.head = _unit(wide_head, spatial_dims, out_channels, plan)
            self.head.append(convolution(out_channels, out_channels, 1))
        else:
            self.head = nn.Sequential(convolution(wide, out_channels, 1))
        self.apply(initialise_he)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides(
                "vnet", x.shape[2:], self.divisor, instance_norm=self.instance_norm
            )
        repeats = (self.width + x.size(1) - 1) // x.size(1)
        tiled = torch.cat([x for _ in range(repeats)], dim=1)[:, : self.width]
        skips: list[Tensor] = [self.first(x, tiled)]
        for down in self.encoder:
            skips.append(down(skips[-1]))
        x = skips[-1]
        for level, up in enumerate(self.decoder):
            x = up(x, skips[-2 - level])
        logits: Tensor = self.head(x)
        return logits


SPEC = NetworkSpec(
    name="vnet",
    build=VNet,
    title="V-Net, as trained by its authors",
    paper="Milletari, Navab, Ahmadi, 3DV 2016 (arXiv:1606.04797)",
    presets={
        "reference": {"variant": "caffe", "channels": (16, 32, 64, 128, 256)},
        "paper": {"variant": "paper"},
        "monai": {"variant": "monai"},
        "tiny": {"variant": "caffe", "channels": (4, 8, 16)},
    },
    reference_parameters=61_982_682,
    reference_macs=384_638_648_320,
    reference_input={"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    reference_size=(128, 128, 64),
    difference=(
        "The paper prints no count; the 45.6 M often quoted is variant='monai', which has two "
        "256-channel convolutions fewer than the authors' own."
    ),
)
