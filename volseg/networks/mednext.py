"""MedNeXt: a U-Net of ConvNeXt blocks with the expansion ratios of its authors.

Roy et al., "MedNeXt: Transformer-driven Scaling of ConvNets for Medical Image Segmentation",
MICCAI 2023. MONAI has the same blocks, but gives the block that halves the resolution the
expansion ratio of the stage it leaves; the authors give every resampling block that of the stage
it leads into. The two agree for the small network only, all of whose ratios are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.networks.blocks import CONVOLUTION, TRANSPOSED, require_spatial_dims
from volseg.networks.contract import NetworkSpec, require_divisible_sides

_FRONT_PADDING: dict[int, Callable[[], nn.Module]] = {
    2: lambda: nn.ConstantPad2d((1, 0, 1, 0), 0.0),
    3: lambda: nn.ConstantPad3d((1, 0, 1, 0, 1, 0), 0.0),
}


class _Block(nn.Module):
    """Large depthwise convolution, normalisation, expansion, GELU, compression; input added.

    ``resampling`` ``down`` halves and ``up`` doubles the resolution in the depthwise convolution;
    the input then passes a 1x1 convolution of the same stride.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        expansion_ratio: int,
        kernel_size: int,
        resampling: str = "none",
    ) -> None:
        super().__init__()
        pointwise = CONVOLUTION[spatial_dims]
        resample = (TRANSPOSED if resampling == "up" else CONVOLUTION)[spatial_dims]
        stride = 1 if resampling == "none" else 2
        self.depthwise = resample(
            in_channels,
            in_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=in_channels,
        )
        self.norm = nn.GroupNorm(in_channels, in_channels)
        self.expansion = pointwise(in_channels, expansion_ratio * in_channels, 1)
        self.activation = nn.GELU()
        self.compression = pointwise(expansion_ratio * in_channels, out_channels, 1)
        self.shortcut: nn.Module = nn.Identity()
        if resampling != "none":
            self.shortcut = resample(in_channels, out_channels, 1, stride=stride)
        # A transposed convolution of an odd kernel falls one voxel short of twice the size.
        self.front: nn.Module = nn.Identity()
        if resampling == "up":
            self.front = _FRONT_PADDING[spatial_dims]()

    def forward(self, x: Tensor) -> Tensor:
        expanded = self.activation(self.expansion(self.norm(self.depthwise(x))))
        features: Tensor = self.front(self.compression(expanded) + self.shortcut(x))
        return features


class MedNeXt(nn.Module):
    """MedNeXt; sides must be multiples of ``2 ** (len(blocks) // 2)``.

    Args:
        spatial_dims: 3 (the paper) or 2.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps at full resolution; they double from one level to the next.
        blocks: Blocks a stage: the encoder's from full resolution, the bottom's, the decoder's to
            full resolution.
        expansion_ratios: Of the blocks of each stage, and of the block that leads into it.
        kernel_size: Of the depthwise convolutions; the paper has 3 and 5.
        deep_supervision: A head on every level below full resolution too; a list in training.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 32,
        blocks: Sequence[int] = (2, 2, 2, 2, 2, 2, 2, 2, 2),
        expansion_ratios: Sequence[int] = (2, 3, 4, 4, 4, 4, 4, 3, 2),
        kernel_size: int = 3,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        stages = len(blocks)
        if stages < 3 or stages % 2 == 0 or len(expansion_ratios) != stages:
            raise InputError(
                "mednext needs an odd number of at least three stages and as many expansion "
                f"ratios, got blocks={list(blocks)} and expansion_ratios={list(expansion_ratios)}."
            )
        if min(channels, *blocks, *expansion_ratios) < 1 or kernel_size % 2 == 0:
            raise InputError(
                "mednext needs an odd kernel_size and channels, blocks and expansion ratios of at "
                f"least 1, got kernel_size={kernel_size}, channels={channels}, "
                f"blocks={list(blocks)} and expansion_ratios={list(expansion_ratios)}."
            )
        levels = stages // 2
        self.divisor = 2**levels
        self.deep_supervision = deep_supervision
        widths = [channels * 2 ** (levels - abs(levels - stage)) for stage in range(stages)]

        def block(stage: int, wide_in: int, resampling: str = "none") -> _Block:
            return _Block(
                spatial_dims,
                wide_in,
                widths[stage],
                expansion_ratio=expansion_ratios[stage],
                kernel_size=kernel_size,
                resampling=resampling,
            )

        def stack(stage: int) -> nn.Sequential:
            return nn.Sequential(*(block(stage, widths[stage]) for _ in range(blocks[stage])))

        encoder, decoder = range(levels), range(levels + 1, stages)
        self.stem = CONVOLUTION[spatial_dims](in_channels, channels, 1)
        self.encoder = nn.ModuleList(stack(stage) for stage in encoder)
        self.down = nn.ModuleList(block(stage + 1, widths[stage], "down") for stage in encoder)
        self.bottom = stack(levels)
        self.up = nn.ModuleList(block(stage, widths[stage - 1], "up") for stage in decoder)
        self.decoder = nn.ModuleList(stack(stage) for stage in decoder)
        # Full resolution first. Transposed, though of kernel 1, for the authors' weights to fit.
        self.heads = nn.ModuleList(
            TRANSPOSED[spatial_dims](width, out_channels, 1)
            for width in (widths[: levels + 1] if deep_supervision else widths[:1])
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        In training with deep supervision: a list of logits, full resolution first, each next one
        at half the resolution.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            # Group normalisation of single feature maps is instance normalisation.
            require_divisible_sides("mednext", x.shape[2:], self.divisor, instance_norm=True)
        x = self.stem(x)
        skips: list[Tensor] = []
        for stage, down in zip(self.encoder, self.down):  # noqa: B905 - TorchScript has no strict
            x = stage(x)
            skips.append(x)
            x = down(x)
        features: list[Tensor] = [self.bottom(x)]
        for level, (up, stage) in enumerate(zip(self.up, self.decoder)):  # noqa: B905 - likewise
            features.append(stage(up(features[-1]) + skips[-1 - level]))
        logits: list[Tensor] = []
        for level, head in enumerate(self.heads):
            if self.training or level == 0:
                logits.append(head(features[-1 - level]))
        if self.training and self.deep_supervision:
            return logits
        return logits[0]


SPEC = NetworkSpec(
    name="mednext",
    build=MedNeXt,
    title="MedNeXt, a U-Net of ConvNeXt blocks (reference: size B, kernel 3)",
    paper="Roy et al., MICCAI 2023 (arXiv:2303.09975)",
    presets={
        "reference": {
            "blocks": (2, 2, 2, 2, 2, 2, 2, 2, 2),
            "expansion_ratios": (2, 3, 4, 4, 4, 4, 4, 3, 2),
        },
        "small": {
            "blocks": (2, 2, 2, 2, 2, 2, 2, 2, 2),
            "expansion_ratios": (2, 2, 2, 2, 2, 2, 2, 2, 2),
        },
        "medium": {
            "blocks": (3, 4, 4, 4, 4, 4, 4, 4, 3),
            "expansion_ratios": (2, 3, 4, 4, 4, 4, 4, 3, 2),
        },
        "large": {
            "blocks": (3, 4, 8, 8, 8, 8, 8, 4, 3),
            "expansion_ratios": (3, 4, 8, 8, 8, 8, 8, 4, 3),
        },
        "tiny": {"channels": 4, "blocks": (1, 1, 1, 1, 1), "expansion_ratios": (2, 3, 4, 3, 2)},
    },
    reference_parameters=10_526_306,
    reference_macs=166_667_137_024,
    reference_input={"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    reference_size=(128, 128, 128),
    published_parameters="10.5 M",
    published_macs="170 GFlops",
    difference=(
        "The authors' code has 10,526,307: one element more that computes nothing. What the paper "
        "calls GFlops are multiply-accumulates, rounded up to tens. MONAI's MedNeXt-B has "
        "10,510,850: its downsampling blocks take the expansion ratio of the stage before them."
    ),
    deep_supervision=True,
)
