"""The residual encoder U-Net of nnU-Net (ResEnc): a deep residual encoder, a light decoder.

Isensee et al., "nnU-Net Revisited: A Call for Rigorous Validation in 3D Medical Image
Segmentation", MICCAI 2024. nnU-Net plans kernels, strides and the number of stages for each data
set; the defaults here are its typical plan for 3D patches of about 128 voxels a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.networks.blocks import (
    CONVOLUTION,
    TRANSPOSED,
    activation_layer,
    initialise_he,
    norm_layer,
    require_spatial_dims,
)
from volseg.networks.contract import NetworkSpec, require_divisible_sides, sizes_per_stage

# One number an axis. Torch types the sizes of its 2D and 3D layers apart, hence no tuple here.
_Sizes = Any

_AVERAGE_POOL: dict[int, type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {
    2: nn.AvgPool2d,
    3: nn.AvgPool3d,
}


def _unit(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel: _Sizes,
    stride: _Sizes,
    *,
    norm: str,
    bias: bool,
) -> nn.Sequential:
    """Return a convolution, padded to keep the size at stride 1, with its normalisation."""
    convolution = CONVOLUTION[spatial_dims](
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=tuple(side // 2 for side in kernel),
        bias=bias,
    )
    return nn.Sequential(convolution, norm_layer(norm, spatial_dims, out_channels))


class _ResidualBlock(nn.Module):
    """Two convolutions, the first with the stride; the input is added before the last activation.

    The input passes an average pooling where the resolution changes and a 1x1 convolution with
    normalisation where the number of channels does.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel: _Sizes,
        stride: _Sizes,
        *,
        norm: str,
        activation: str,
        bias: bool,
    ) -> None:
        super().__init__()
        ones = (1,) * spatial_dims
        self.residual = nn.Sequential(
            _unit(spatial_dims, in_channels, out_channels, kernel, stride, norm=norm, bias=bias),
            activation_layer(activation),
            _unit(spatial_dims, out_channels, out_channels, kernel, ones, norm=norm, bias=bias),
        )
        self.shortcut = nn.Sequential()
        if stride != ones:
            self.shortcut.append(_AVERAGE_POOL[spatial_dims](stride))
        if in_channels != out_channels:
            self.shortcut.append(
                _unit(spatial_dims, in_channels, out_channels, ones, ones, norm=norm, bias=False)
            )
        self.activation = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.activation(self.residual(x) + self.shortcut(x))
        return features


class _Up(nn.Module):
    """Transposed convolution, concatenation of the encoder features, convolutions."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel: _Sizes,
        stride: _Sizes,
        *,
        convolutions: int,
        norm: str,
        activation: str,
        bias: bool,
    ) -> None:
        super().__init__()
        self.up = TRANSPOSED[spatial_dims](
            in_channels,
            out_channels,
            stride,
            stride=stride,
            bias=bias,
        )
        ones = (1,) * spatial_dims
        self.block = nn.Sequential()
        for index in range(convolutions):
            wide_in = 2 * out_channels if index == 0 else out_channels
            self.block.append(
                _unit(spatial_dims, wide_in, out_channels, kernel, ones, norm=norm, bias=bias)
            )
            self.block.append(activation_layer(activation))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        features: Tensor = self.block(torch.cat([self.up(x), skip], dim=1))
        return features


class ResEncUNet(nn.Module):
    """Residual encoder U-Net; sides must be multiples of the product of the strides.

    Args:
        spatial_dims: 3 or 2.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps a stage, full resolution first.
        blocks: Residual blocks an encoder stage.
        decoder_convolutions: Convolutions a decoder stage.
        kernel_sizes: Kernel a stage, each a number or one number an axis (``(1, 3, 3)`` where
            slices are far apart); 3 everywhere by default.
        strides: Step into each stage, likewise; 1 and then 2 by default.
        norm: ``instance`` (nnU-Net), ``batch``, ``group`` or ``none``.
        activation: ``leakyrelu`` (nnU-Net), ``relu``, ``gelu``, ``silu`` or ``prelu``.
        bias: Give convolutions a bias, although a normalisation removes most of them again.
        deep_supervision: A head on every decoder stage; a list in training.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int] = (32, 64, 128, 256, 320, 320),
        blocks: Sequence[int] = (1, 3, 4, 6, 6, 6),
        decoder_convolutions: int = 1,
        kernel_sizes: Sequence[int | Sequence[int]] | None = None,
        strides: Sequence[int | Sequence[int]] | None = None,
        norm: str = "instance",
        activation: str = "leakyrelu",
        bias: bool = True,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        stages = len(channels)
        if stages < 2 or len(blocks) != stages or min(*blocks, decoder_convolutions) < 1:
            raise InputError(
                "resencunet needs at least two stages, at least one block for each and at least "
                f"one decoder convolution, got channels={list(channels)}, blocks={list(blocks)} "
                f"and decoder_convolutions={decoder_convolutions}."
            )
        kernels = sizes_per_stage(
            "kernel_sizes of resencunet", kernel_sizes or [3] * stages, stages, spatial_dims
        )
        steps = sizes_per_stage(
            "strides of resencunet", strides or [1] + [2] * (stages - 1), stages, spatial_dims
        )
        if any(side % 2 == 0 for kernel in kernels for side in kernel) or max(steps[0]) > 1:
            raise InputError(
                "resencunet needs odd kernels and a first stage of stride 1, got "
                f"kernel_sizes={kernels} and strides={steps}."
            )
        self.divisors = [math.prod(axis) for axis in zip(*steps, strict=True)]
        self.instance_norm = norm == "instance"
        self.deep_supervision = deep_supervision
        widths = list(channels)

        self.stem = nn.Sequential(
            _unit(spatial_dims, in_channels, widths[0], kernels[0], steps[0], norm=norm, bias=bias),
            activation_layer(activation),
        )
        self.encoder = nn.ModuleList()
        for stage in range(stages):
            stack = nn.Sequential()
            for block in range(blocks[stage]):
                stack.append(
                    _ResidualBlock(
                        spatial_dims,
                        widths[max(stage - 1, 0)] if block == 0 else widths[stage],
                        widths[stage],
                        kernels[stage],
                        steps[stage] if block == 0 else (1,) * spatial_dims,
                        norm=norm,
                        activation=activation,
                        bias=bias,
                    )
                )
            self.encoder.append(stack)
        self.decoder = nn.ModuleList(
            _Up(
                spatial_dims,
                widths[stage],
                widths[stage - 1],
                kernels[stage - 1],
                steps[stage],
                convolutions=decoder_convolutions,
                norm=norm,
                activation=activation,
                bias=bias,
            )
            for stage in range(stages - 1, 0, -1)
        )
        # Heads on decoder stages, deepest first; without deep supervision only on the last one.
        self.heads = nn.ModuleList(
            CONVOLUTION[spatial_dims](width, out_channels, 1)
            for width in (widths[-2::-1] if deep_supervision else widths[:1])
        )
        self.apply(initialise_he)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        In training with deep supervision: a list of logits, full resolution first, down to that
        of the last encoder stage but one.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride of its axis.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides(
                "resencunet", x.shape[2:], self.divisors, instance_norm=self.instance_norm
            )
        x = self.stem(x)
        skips: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        features: list[Tensor] = []
        for level, up in enumerate(self.decoder):
            x = up(x, skips[-2 - level])
            features.append(x)
        logits: list[Tensor] = []
        for index, head in enumerate(self.heads):
            if self.training or index == len(self.heads) - 1:
                level = len(features) - len(self.heads) + index
                logits.insert(0, head(features[level]))
        if self.training and self.deep_supervision:
            return logits
        return logits[0]


SPEC = NetworkSpec(
    name="resencunet",
    build=ResEncUNet,
    title="Residual encoder U-Net of nnU-Net",
    paper="Isensee et al., MICCAI 2024 (arXiv:2404.09556)",
    presets={
        "reference": {
            "channels": (32, 64, 128, 256, 320, 320),
            "blocks": (1, 3, 4, 6, 6, 6),
            "deep_supervision": True,
        },
        "tiny": {"channels": (4, 8, 16), "blocks": (1, 2, 2), "bias": False},
    },
    reference_parameters=102_349_770,
    reference_macs=717_403_193_344,
    reference_input={"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    reference_size=(128, 128, 128),
    published_parameters="102.4 M",
    deep_supervision=True,
)
