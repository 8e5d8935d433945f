"""The 3D U-Net as it was published: valid convolutions, channels doubled before each pooling.

Cicek, Abdulkadir, Lienkamp, Brox, Ronneberger, "3D U-Net: Learning Dense Volumetric Segmentation
from Sparse Annotation", MICCAI 2016. It differs from the U-Net of 2015 in more than the dimension:
it has four levels, the second convolution of a step doubles the channels (none are squeezed right
before a pooling), the up-convolution keeps them, and a batch normalisation precedes every ReLU.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.networks.blocks import (
    CONVOLUTION,
    MAX_POOL,
    TRANSPOSED,
    initialise_he,
    norm_layer,
    require_spatial_dims,
)
from volseg.networks.contract import NetworkSpec, require_divisible_sides
from volseg.networks.unet2015 import centre_crop, require_valid_sides, valid_border


def _step(
    spatial_dims: int, channels: tuple[int, int, int], *, norm: str, padded: bool
) -> nn.Sequential:
    """Return two convolutions, from the first number of channels over the second to the third."""
    layers: list[nn.Module] = []
    for wide_in, wide_out in pairwise(channels):
        layers += [
            # A bias before a normalisation is dead: the normalisation subtracts it again.
            CONVOLUTION[spatial_dims](
                wide_in, wide_out, 3, padding=int(padded), bias=norm == "none"
            ),
            norm_layer(norm, spatial_dims, wide_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class _Synthesis(nn.Module):
    """Up-convolution that keeps the channels, crop and concatenate, two convolutions."""

    def __init__(
        self, spatial_dims: int, deep: int, shallow: int, *, norm: str, padded: bool
    ) -> None:
        super().__init__()
        self.up = TRANSPOSED[spatial_dims](deep, deep, 2, stride=2, bias=False)
        self.step = _step(
            spatial_dims, (shallow + deep, shallow, shallow), norm=norm, padded=padded
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        features: Tensor = self.step(torch.cat([centre_crop(skip, x), x], dim=1))
        return features


class UNet3D2016(nn.Module):
    """3D U-Net with valid convolutions; each side of the logits is ``2 * border`` shorter.

    With the published four levels sides must be 4 more than a multiple of 8 and at least 92;
    132 x 132 x 116 voxels give 44 x 44 x 28 logits.

    Args:
        spatial_dims: 3 (the paper) or 2.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps at the end of each analysis step, full resolution first; the first
            convolution of the network makes half as many, so the first number must be even.
        norm: ``batch`` (the paper), ``instance`` (statistics of the tile at hand, which suits the
            paper's batches of a single tile), ``group`` or ``none``.
        padded: Pad the convolutions, so that logits lie on the grid of the input (not in the
            paper); sides must then be multiples of ``2 ** (len(channels) - 1)``.

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
        channels: Sequence[int] = (64, 128, 256, 512),
        norm: str = "batch",
        padded: bool = False,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if len(channels) < 2 or channels[0] % 2:
            raise InputError(
                "unet3d2016 needs at least two levels, the first of an even number of channels, "
                f"got channels={list(channels)}."
            )
        self.poolings = len(channels) - 1
        self.padded = padded
        self.instance_norm = norm == "instance"
        self.border = 0 if padded else valid_border(self.poolings)
        widths = list(channels)
        steps = [(in_channels, widths[0] // 2, widths[0])]
        steps += [(half, half, full) for half, full in pairwise(widths)]
        self.pool = MAX_POOL[spatial_dims](2)
        self.analysis = nn.ModuleList(
            _step(spatial_dims, step, norm=norm, padded=padded) for step in steps
        )
        self.synthesis = nn.ModuleList(
            _Synthesis(spatial_dims, deep, shallow, norm=norm, padded=padded)
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
            if self.padded:
                require_divisible_sides(
                    "unet3d2016",
                    x.shape[2:],
                    2**self.poolings,
                    instance_norm=self.instance_norm,
                )
            else:
                require_valid_sides("unet3d2016", x.shape[2:], self.poolings)
        skips: list[Tensor] = []
        for level, step in enumerate(self.analysis):
            x = step(x if level == 0 else self.pool(x))
            skips.append(x)
        for level, synthesis in enumerate(self.synthesis):
            x = synthesis(x, skips[-2 - level])
        logits: Tensor = self.head(x)
        return logits


SPEC = NetworkSpec(
    name="unet3d2016",
    build=UNet3D2016,
    title="3D U-Net with valid convolutions, as published",
    paper="Cicek et al., MICCAI 2016 (arXiv:1606.06650)",
    presets={
        "reference": {"channels": (64, 128, 256, 512), "norm": "batch"},
        "tiny": {"channels": (4, 8, 16), "norm": "instance"},
    },
    reference_parameters=19_072_291,
    reference_macs=266_731_018_496,
    reference_input={"spatial_dims": 3, "in_channels": 3, "out_channels": 3},
    reference_size=(132, 132, 116),
    published_parameters="19,069,955",
    difference=(
        "The paper leaves the normalisations out and counts the biases before them: "
        "norm='none' has exactly its count."
    ),
    valid=True,
)
