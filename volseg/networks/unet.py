"""The padded U-Net in 2D and 3D.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, with padded instead of valid convolutions, so that logits lie on the grid of the
input. Normalisation, activation, residual blocks, dropout and deep supervision are options; with
none of them and widths 64 to 1024 it has the paper's weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.networks.blocks import (
    CONVOLUTION,
    INTERPOLATION,
    MAX_POOL,
    TRANSPOSED,
    ConvolutionBlock,
    initialise_he,
    require_spatial_dims,
)
from volseg.networks.contract import NetworkSpec, require_divisible_sides


class _Up(nn.Module):
    """Double the resolution, join the encoder features of that level, convolve."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        upsampling: str,
        convolutions: int,
        norm: str,
        activation: str,
        dropout: float,
        residual: bool,
    ) -> None:
        super().__init__()
        if upsampling == "transposed":
            self.up: nn.Module = TRANSPOSED[spatial_dims](in_channels, out_channels, 2, stride=2)
        else:
            self.up = nn.Sequential(
                nn.Upsample(scale_factor=2, mode=INTERPOLATION[spatial_dims], align_corners=False),
                CONVOLUTION[spatial_dims](in_channels, out_channels, 1),
            )
        self.block = ConvolutionBlock(
            spatial_dims,
            2 * out_channels,
            out_channels,
            convolutions=convolutions,
            norm=norm,
            activation=activation,
            dropout=dropout,
            residual=residual,
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        features: Tensor = self.block(torch.cat([skip, self.up(x)], dim=1))
        return features


class UNet(nn.Module):
    """Padded U-Net; sides must be multiples of ``2 ** (len(channels) - 1)``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps a level, full resolution first.
        convolutions: Convolutions a block.
        norm: ``none`` (the paper), ``batch``, ``instance`` or ``group``.
        activation: ``relu`` (the paper), ``leakyrelu``, ``gelu``, ``silu`` or ``prelu``.
        residual: Add the input of each block before its last activation.
        dropout: Probability of dropping whole feature maps after each unit.
        upsampling: ``transposed`` (the paper) or ``interpolated``.
        deep_supervision: Heads on the decoder levels (of more than two, not on the deepest); a
            list in training.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        convolutions: int = 2,
        norm: str = "none",
        activation: str = "relu",
        residual: bool = False,
        dropout: float = 0.0,
        upsampling: str = "transposed",
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if len(channels) < 2 or convolutions < 1:
            raise InputError(
                "unet needs at least two levels and one convolution a block, got "
                f"channels={list(channels)} and convolutions={convolutions}."
            )
        if upsampling not in ("transposed", "interpolated"):
            raise InputError(
                f"upsampling must be 'transposed' or 'interpolated', got {upsampling!r}."
            )
        self.divisor = 2 ** (len(channels) - 1)
        self.instance_norm = norm == "instance"
        self.deep_supervision = deep_supervision

        def block(channels_in: int, channels_out: int) -> ConvolutionBlock:
            return ConvolutionBlock(
                spatial_dims,
                channels_in,
                channels_out,
                convolutions=convolutions,
                norm=norm,
                activation=activation,
                dropout=dropout,
                residual=residual,
            )

        widths = list(channels)
        self.pool = MAX_POOL[spatial_dims](2)
        self.encoder = nn.ModuleList(
            block(wide_in, wide_out)
            for wide_in, wide_out in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.decoder = nn.ModuleList(
            _Up(
                spatial_dims,
                deep,
                shallow,
                upsampling=upsampling,
                convolutions=convolutions,
                norm=norm,
                activation=activation,
                dropout=dropout,
                residual=residual,
            )
            for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        # Heads on decoder levels, deepest first; without deep supervision only on the last one.
        supervised = widths[-2::-1] if deep_supervision else widths[:1]
        if len(supervised) > 2:
            supervised = supervised[1:]  # the deepest decoder level is too coarse to supervise
        self.heads = nn.ModuleList(
            CONVOLUTION[spatial_dims](width, out_channels, 1) for width in supervised
        )
        self.apply(initialise_he)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        In training with deep supervision: a list of logits, full resolution first, each next one
        at half the resolution.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides(
                "unet", x.shape[2:], self.divisor, instance_norm=self.instance_norm
            )
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.pool(x))
            skips.append(x)
        features: list[Tensor] = []
        for level, up in enumerate(self.decoder):
            x = up(x, skips[-2 - level])
            features.append(x)
        logits: list[Tensor] = []
        for index, head in enumerate(self.heads):
            level = len(features) - len(self.heads) + index
            if self.training or index == len(self.heads) - 1:
                logits.insert(0, head(features[level]))
        if self.training and self.deep_supervision:
            return logits
        return logits[0]


SPEC = NetworkSpec(
    name="unet",
    build=UNet,
    title="U-Net with padded convolutions",
    paper="Ronneberger, Fischer, Brox, MICCAI 2015 (arXiv:1505.04597)",
    presets={
        "reference": {"channels": (64, 128, 256, 512, 1024)},
        "tiny": {"channels": (4, 8, 16), "norm": "instance"},
    },
    reference_parameters=31_030_658,
    reference_macs=192_384_335_872,
    reference_input={"spatial_dims": 2, "in_channels": 1, "out_channels": 2},
    reference_size=(512, 512),
    deep_supervision=True,
)
