"""The U-Net as it was published: valid convolutions, cropped skips, logits smaller than the input.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015. No convolution is padded, so every logit has seen image only, and a border of the
input (92 pixels a side in the published configuration) gets no logits. The paper segments large
images tile by tile and mirrors the image where the border of a tile leaves it. The U-Net whose
logits lie on the grid of the input is `volseg.networks.unet`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from volseg.errors import InputError, ShapeError
from volseg.networks.blocks import (
    CONVOLUTION,
    MAX_POOL,
    TRANSPOSED,
    initialise_he,
    norm_layer,
    require_spatial_dims,
)
from volseg.networks.contract import NetworkSpec


def valid_border(poolings: int) -> int:
    """Return the voxels at each end of an axis that get no logits.

    Holds for two valid convolutions of kernel 3 a level, down and up again.
    """
    border: int = 6 * 2**poolings - 4
    return border


def require_valid_sides(network: str, sides: Sequence[int], poolings: int) -> None:
    """Refuse spatial sizes that leave nothing over or that a pooling would cut unevenly.

    With two valid convolutions of kernel 3 a level, every pooling sees an even side exactly when
    ``side + 4`` is a multiple of ``2 ** poolings``. Other sides would not fail by themselves: the
    pooling drops a row, and the skips are then cropped off centre.

    Args:
        network: Registry name, for the message.
        sides: Spatial size in voxels.
        poolings: Number of poolings by 2.

    Raises:
        ShapeError: A side does not fit; names the next size that does, and its logits' size.
    """
    stride, lost = 2**poolings, 2 * valid_border(poolings)
    padded = [-(-(max(side, lost + 1) + 4) // stride) * stride - 4 for side in sides]
    if padded == list(sides):
        return
    smallest = -(-(lost + 5) // stride) * stride - 4
    raise ShapeError(
        f"{network} needs spatial sides of at least {smallest} that are {-4 % stride} more than a "
        f"multiple of {stride}, got {' x '.join(map(str, sides))}: for logits of "
        f"{' x '.join(str(side - lost) for side in padded)} "
        f"pad the input to {' x '.join(map(str, padded))}."
    )


def centre_crop(x: Tensor, like: Tensor) -> Tensor:
    """Return the centre of ``x`` ``(batch, channels, ...)`` with the spatial size of ``like``.

    Where the voxels to leave out are odd in number, one more is left out at the end.
    """
    for axis in range(2, x.dim()):
        size = like.size(axis)
        x = x.narrow(axis, (x.size(axis) - size) // 2, size)
    return x


def _two_convolutions(
    spatial_dims: int, in_channels: int, out_channels: int, norm: str
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            # A bias before a normalisation is dead: the normalisation subtracts it again.
            CONVOLUTION[spatial_dims](channels, out_channels, 3, bias=norm == "none"),
            norm_layer(norm, spatial_dims, out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class _Expand(nn.Module):
    """Up-convolution that halves the channels, crop and concatenate, two convolutions."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.up = TRANSPOSED[spatial_dims](in_channels, out_channels, 2, stride=2)
        self.block = _two_convolutions(spatial_dims, 2 * out_channels, out_channels, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        features: Tensor = self.block(torch.cat([centre_crop(skip, x), x], dim=1))
        return features


class UNet2015(nn.Module):
    """U-Net with valid convolutions; each side of the logits is ``2 * border`` shorter.

    With the published five levels sides must be 12 more than a multiple of 16 and at least 188;
    572 x 572 pixels give 388 x 388 logits.

    Args:
        spatial_dims: 2 (the paper) or 3.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps a level, full resolution first.
        norm: ``none`` (the paper), ``batch``, ``instance`` or ``group``.
        dropout: Probability of dropping a value at the end of the contracting path, that is after
            its last two levels. The paper names no probability.

    Attributes:
        border: Voxels at each end of an axis that get no logits.

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
        norm: str = "none",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if len(channels) < 2:
            raise InputError(f"unet2015 needs at least two levels, got channels={list(channels)}.")
        self.poolings = len(channels) - 1
        self.border = valid_border(self.poolings)
        widths = list(channels)
        self.pool = MAX_POOL[spatial_dims](2)
        blocks = [
            _two_convolutions(spatial_dims, wide_in, wide_out, norm)
            for wide_in, wide_out in zip([in_channels, *widths[:-1]], widths, strict=True)
        ]
        for block in blocks[-2:]:
            block.append(nn.Dropout(dropout))
        self.contracting = nn.ModuleList(blocks)
        self.expanding = nn.ModuleList(
            _Expand(spatial_dims, deep, shallow, norm)
            for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = CONVOLUTION[spatial_dims](widths[0], out_channels, 1)
        self.apply(initialise_he)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, out_channels, ...)`` for the centre of ``x``.

        Raises:
            ShapeError: A side of ``x`` is too short or would be cut unevenly by a pooling.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_valid_sides("unet2015", x.shape[2:], self.poolings)
        skips: list[Tensor] = []
        for level, block in enumerate(self.contracting):
            x = block(x if level == 0 else self.pool(x))
            skips.append(x)
        for level, expand in enumerate(self.expanding):
            x = expand(x, skips[-2 - level])
        logits: Tensor = self.head(x)
        return logits


SPEC = NetworkSpec(
    name="unet2015",
    build=UNet2015,
    title="U-Net with valid convolutions, as published",
    paper="Ronneberger, Fischer, Brox, MICCAI 2015 (arXiv:1505.04597)",
    presets={
        "reference": {"channels": (64, 128, 256, 512, 1024)},
        "tiny": {"channels": (4, 8, 16), "norm": "instance", "dropout": 0.0},
    },
    reference_parameters=31_030_658,
    reference_macs=150_428_424_448,
    reference_input={"spatial_dims": 2, "in_channels": 1, "out_channels": 2},
    reference_size=(572, 572),
    valid=True,
)
