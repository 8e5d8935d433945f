"""STU-Net in 2D and 3D: a U-Net of residual blocks that grows in width and depth together.

Huang et al., "STU-Net: Scalable and Transferable Medical Image Segmentation Models Empowered by
Large-Scale Supervised Pre-training", 2023. Unlike in nnU-Net, kernels, strides and the number of
stages are the same for every data set, and the up-sampling has no kernel of its own, so that
weights carry over from one data set to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.networks.blocks import (
    CONVOLUTION,
    activation_layer,
    initialise_he,
    norm_layer,
    require_spatial_dims,
)
from volseg.networks.contract import NetworkSpec, require_divisible_sides

_BASE = (32, 64, 128, 256, 512, 512)


class _ResidualBlock(nn.Module):
    """Two convolutions, the first with the stride; the input is added before the last activation.

    The input passes a 1x1 convolution of the same stride, without normalisation, where its
    resolution or number of channels changes.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        norm: str,
        activation: str,
        bias: bool,
    ) -> None:
        super().__init__()
        convolution = CONVOLUTION[spatial_dims]
        self.residual = nn.Sequential(
            convolution(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias),
            norm_layer(norm, spatial_dims, out_channels),
            activation_layer(activation),
            convolution(out_channels, out_channels, 3, padding=1, bias=bias),
            norm_layer(norm, spatial_dims, out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = convolution(in_channels, out_channels, 1, stride=stride)
        self.activation = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.activation(self.residual(x) + self.shortcut(x))
        return features


class _Up(nn.Module):
    """Repeat voxels, narrow by a 1x1 convolution, join the encoder features, residual blocks."""

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, blocks: nn.Module
    ) -> None:
        super().__init__()
        self.narrow = CONVOLUTION[spatial_dims](in_channels, out_channels, 1)
        self.blocks = blocks

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        up = self.narrow(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        features: Tensor = self.blocks(torch.cat([up, skip], dim=1))
        return features


class STUNet(nn.Module):
    """STU-Net; sides must be multiples of ``2 ** (len(channels) - 1)``.

    Args:
        spatial_dims: 3 or 2.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps a stage, full resolution first.
        blocks: Residual blocks a stage, in the encoder and in the decoder.
        norm: ``instance`` (the paper), ``batch``, ``group`` or ``none``.
        activation: ``leakyrelu`` (the paper), ``relu``, ``gelu``, ``silu`` or ``prelu``.
        bias: Give the convolutions of the blocks a bias, although a normalisation removes it again.
        deep_supervision: A head on every decoder stage (the paper); a list in training.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int] = _BASE,
        blocks: int = 1,
        norm: str = "instance",
        activation: str = "leakyrelu",
        bias: bool = True,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if len(channels) < 2 or blocks < 1:
            raise InputError(
                "stunet needs at least two stages and one block for each, got "
                f"channels={list(channels)} and blocks={blocks}."
            )
        self.divisor = 2 ** (len(channels) - 1)
        self.instance_norm = norm == "instance"
        self.deep_supervision = deep_supervision
        widths = list(channels)

        def stage(wide_in: int, wide_out: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    _ResidualBlock(
                        spatial_dims,
                        wide_in if block == 0 else wide_out,
                        wide_out,
                        stride if block == 0 else 1,
                        norm=norm,
                        activation=activation,
                        bias=bias,
                    )
                    for block in range(blocks)
                )
            )

        self.encoder = nn.ModuleList([stage(in_channels, widths[0], 1)])
        for wide_in, wide_out in pairwise(widths):
            self.encoder.append(stage(wide_in, wide_out, 2))
        self.decoder = nn.ModuleList(
            _Up(spatial_dims, deep, shallow, stage(2 * shallow, shallow, 1))
            for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        # Heads on decoder stages, deepest first; without deep supervision only on the last one.
        self.heads = nn.ModuleList(
            CONVOLUTION[spatial_dims](width, out_channels, 1)
            for width in (widths[-2::-1] if deep_supervision else widths[:1])
        )
        self.apply(initialise_he)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        In training with deep supervision: a list of logits, full resolution first, each next one
        at half the resolution, down to that of the last encoder stage but one.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride, or ``x`` is so small
                that one voxel would be left to normalise.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides(
                "stunet", x.shape[2:], self.divisor, instance_norm=self.instance_norm
            )
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


def _preset(base: int, blocks: int) -> dict[str, object]:
    """Return the options of a published size: its narrowest stage and its blocks a stage."""
    channels = tuple(base * factor for factor in (1, 2, 4, 8, 16, 16))
    return {"channels": channels, "blocks": blocks, "deep_supervision": True}


SPEC = NetworkSpec(
    name="stunet",
    build=STUNet,
    title="STU-Net, residual U-Net in four sizes",
    paper="Huang et al., 2023 (arXiv:2304.06716)",
    presets={
        "reference": _preset(32, 1),
        "small": _preset(16, 1),
        "large": _preset(64, 2),
        "huge": _preset(96, 3),
        "tiny": {"channels": (4, 8, 8), "bias": False},
    },
    reference_parameters=58_262_669,
    reference_macs=503_903_682_560,
    reference_input={"spatial_dims": 3, "in_channels": 1, "out_channels": 105},
    reference_size=(128, 128, 128),
    published_parameters="58.26 M",
    published_macs="0.51 T",
    difference=(
        "The published multiply-accumulates (506.2 G) are of all five heads; evaluation runs one."
    ),
    deep_supervision=True,
)
