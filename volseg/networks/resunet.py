"""Deep ResUNet: a U-Net of residual units with full pre-activation.

Zhang, Liu, Wang, "Road Extraction by Deep Residual U-Net", IEEE Geoscience and Remote Sensing
Letters 2018. Normalisation and activation come before each convolution (He et al., "Identity
Mappings in Deep Residual Networks", ECCV 2016), a convolution of stride 2 takes the place of the
pooling, and nearest-neighbour upsampling that of the up-convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.networks.blocks import CONVOLUTION, initialise_he, norm_layer, require_spatial_dims
from volseg.networks.contract import NetworkSpec, require_divisible_sides


class _ResidualUnit(nn.Module):
    """Normalisation, ReLU, convolution, twice; plus the input through a 1x1 convolution.

    The first convolution and the shortcut carry the stride. The unit that reads the image starts
    with the bare convolution.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        norm: str,
        bias: bool,
        stride: int = 1,
        reads_image: bool = False,
    ) -> None:
        super().__init__()
        convolution = CONVOLUTION[spatial_dims]
        layers: list[nn.Module] = []
        if not reads_image:
            # Not in place: without a normalisation that would change the shortcut's input.
            layers += [norm_layer(norm, spatial_dims, in_channels), nn.ReLU()]
        layers += [
            convolution(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias),
            norm_layer(norm, spatial_dims, out_channels),
            nn.ReLU(),
            convolution(out_channels, out_channels, 3, padding=1, bias=bias),
        ]
        self.residual = nn.Sequential(*layers)
        self.shortcut = convolution(in_channels, out_channels, 1, stride=stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.residual(x) + self.shortcut(x)
        return features


class ResUNet(nn.Module):
    """Deep ResUNet; sides must be multiples of ``2 ** (len(channels) - 1)``.

    Args:
        spatial_dims: 2 (the paper) or 3.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps a level, full resolution first; the last level is the bridge.
        norm: ``batch`` (the paper), ``instance``, ``group`` or ``none``.
        bias: Give convolutions a bias, although a normalisation removes most of them again.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int] = (64, 128, 256, 512),
        norm: str = "batch",
        bias: bool = True,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if len(channels) < 2:
            raise InputError(f"resunet needs at least two levels, got channels={list(channels)}.")
        self.divisor = 2 ** (len(channels) - 1)
        self.instance_norm = norm == "instance"
        widths = list(channels)

        def unit(
            wide_in: int, wide_out: int, *, stride: int = 1, reads_image: bool = False
        ) -> _ResidualUnit:
            return _ResidualUnit(
                spatial_dims,
                wide_in,
                wide_out,
                norm=norm,
                bias=bias,
                stride=stride,
                reads_image=reads_image,
            )

        self.encoder = nn.ModuleList(
            [
                unit(in_channels, widths[0], reads_image=True),
                *(unit(shallow, deep, stride=2) for shallow, deep in pairwise(widths)),
            ]
        )
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.decoder = nn.ModuleList(
            unit(shallow + deep, shallow)
            for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = CONVOLUTION[spatial_dims](widths[0], out_channels, 1)
        self.apply(initialise_he)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides(
                "resunet", x.shape[2:], self.divisor, instance_norm=self.instance_norm
            )
        skips: list[Tensor] = []
        for unit in self.encoder:
            x = unit(x)
            skips.append(x)
        for level, unit in enumerate(self.decoder):
            x = unit(torch.cat([skips[-2 - level], self.up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


SPEC = NetworkSpec(
    name="resunet",
    build=ResUNet,
    title="Deep ResUNet with full pre-activation",
    paper="Zhang, Liu, Wang, IEEE GRSL 2018 (arXiv:1711.10684)",
    presets={
        "reference": {"channels": (64, 128, 256, 512)},
        "tiny": {"channels": (4, 8, 16), "norm": "instance", "bias": False},
    },
    reference_parameters=8_220_993,
    reference_macs=34_627_059_712,
    reference_input={"spatial_dims": 2, "in_channels": 3, "out_channels": 1},
    reference_size=(224, 224),
    published_parameters="7.8 M",
    difference=(
        "The paper counts the 3x3 kernels alone, 7,780,096, without shortcuts, biases and "
        "normalisations."
    ),
)
