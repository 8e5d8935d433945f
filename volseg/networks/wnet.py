"""W-Net in 2D and 3D: a U-Net that segments and a U-Net that rebuilds the image from the segments.

Xia, Kulis, "W-Net: A Deep Model for Fully Unsupervised Image Segmentation", 2017. The first U-Net
(modules 1 to 9 of the paper's figure) gives K soft segments, the second (10 to 18) turns them back
into the image; a soft normalised cut on the segments and the reconstruction error train them
without labels. All modules but 1, 9, 10 and 18 use depthwise separable convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.networks.blocks import (
    CONVOLUTION,
    MAX_POOL,
    TRANSPOSED,
    activation_layer,
    initialise_he,
    norm_layer,
    require_spatial_dims,
)
from volseg.networks.contract import NetworkSpec, require_divisible_sides


class _HalfW(nn.Module):
    """One of the two U-Nets: modules of two convolutions, each convolution -> ReLU -> norm."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int],
        separable: bool,
        norm: str,
        activation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        convolution = CONVOLUTION[spatial_dims]

        def module(wide_in: int, wide_out: int, level: int) -> nn.Module:
            layers: list[nn.Module] = []
            for width in (wide_in, wide_out):
                if separable and level > 0:  # the first and the last module are at full resolution
                    layers.append(convolution(width, width, 3, padding=1, groups=width))
                    layers.append(convolution(width, wide_out, 1))
                else:
                    layers.append(convolution(width, wide_out, 3, padding=1))
                layers.append(activation_layer(activation))
                layers.append(norm_layer(norm, spatial_dims, wide_out))
            if dropout:
                layers.append(nn.Dropout(dropout))
            return nn.Sequential(*layers)

        deepest = len(channels) - 1
        self.pool = MAX_POOL[spatial_dims](2)
        self.encoder = nn.ModuleList(
            module(wide_in, wide_out, level)
            for level, (wide_in, wide_out) in enumerate(
                zip([in_channels, *channels[:-1]], channels, strict=True)
            )
        )
        # Deepest first.
        self.ups = nn.ModuleList(
            TRANSPOSED[spatial_dims](channels[level + 1], channels[level], 2, stride=2)
            for level in range(deepest - 1, -1, -1)
        )
        self.decoder = nn.ModuleList(
            module(2 * channels[level], channels[level], level)
            for level in range(deepest - 1, -1, -1)
        )
        self.head = convolution(channels[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.pool(x))
            skips.append(x)
        for index, (up, block) in enumerate(zip(self.ups, self.decoder)):  # noqa: B905 - TorchScript
            x = block(torch.cat([skips[len(skips) - 2 - index], up(x)], dim=1))
        result: Tensor = self.head(x)
        return result


class WNet(nn.Module):
    """W-Net; sides must be multiples of ``2 ** (len(channels) - 1)``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        out_channels: Segments (K of the paper).
        channels: Feature maps a level, full resolution first, of both U-Nets.
        separable: Depthwise separable convolutions below full resolution (the paper).
        norm: ``batch`` (the paper), ``none``, ``instance`` or ``group``.
        activation: ``relu`` (the paper), ``leakyrelu``, ``gelu``, ``silu`` or ``prelu``.
        dropout: Probability of dropping each value after each module. The paper has 0.65, and does
            not say where.

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
        separable: bool = True,
        norm: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if len(channels) < 2:
            raise InputError(f"wnet needs at least two levels, got channels={list(channels)}.")
        self.divisor = 2 ** (len(channels) - 1)
        self.instance_norm = norm == "instance"
        self.sigmoid = out_channels == 1  # the softmax of one segment is one everywhere

        def half(wide_in: int, wide_out: int) -> _HalfW:
            return _HalfW(
                spatial_dims,
                wide_in,
                wide_out,
                channels=channels,
                separable=separable,
                norm=norm,
                activation=activation,
                dropout=dropout,
            )

        self.segmenting = half(in_channels, out_channels)
        self.rebuilding = half(out_channels, in_channels)
        self.apply(initialise_he)

    def forward(self, x: Tensor) -> Tensor:
        """Return the segments' logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        The second U-Net is not run: it only matters in training, see `segment_and_rebuild`.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides(
                "wnet", x.shape[2:], self.divisor, instance_norm=self.instance_norm
            )
        logits: Tensor = self.segmenting(x)
        return logits

    def segment_and_rebuild(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the segments' logits and the image rebuilt from their probabilities.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
        """
        logits = self.forward(x)
        probabilities = torch.sigmoid(logits) if self.sigmoid else torch.softmax(logits, dim=1)
        return logits, self.rebuilding(probabilities)


SPEC = NetworkSpec(
    name="wnet",
    build=WNet,
    title="W-Net, unsupervised: a segmenting and a rebuilding U-Net",
    paper="Xia, Kulis, 2017 (arXiv:1711.08506)",
    presets={
        "reference": {"channels": (64, 128, 256, 512, 1024), "dropout": 0.65},
        "tiny": {"channels": (4, 8, 16), "norm": "instance"},
    },
    reference_parameters=12_299_331,
    reference_macs=12_534_466_560,
    reference_input={"spatial_dims": 2, "in_channels": 3, "out_channels": 64},
    reference_size=(224, 224),
    difference=(
        "The paper prints no count; the multiply-accumulates are those of the segmenting "
        "U-Net, which alone is run on new images: both U-Nets together have 26,636,029,952."
    ),
    training_only=("rebuilding.",),
)
