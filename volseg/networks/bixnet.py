"""BiX-Net in 2D and 3D: BiO-Net+ with the skips and blocks that an architecture search kept.

Wang, Xiang, Zhang, Song, Liu, Huang, Cai, "BiX-NAS: Searching Efficient Bi-directional Architecture
for Medical Image Segmentation", MICCAI 2021; Xiang, Zhang, Wang, Song, Liu, Huang, Cai, "Towards
Bi-directional Skip Connections in Encoder-Decoder Architectures and Beyond", Medical Image Analysis
2022. A gene (see `volseg.networks.gene`) lists what every block of every pass reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from volseg.errors import InputError, ShapeError
from volseg.networks.bionet import NormPerUse, set_batch_momentum
from volseg.networks.blocks import (
    CONVOLUTION,
    INTERPOLATION,
    MAX_POOL,
    ConvolutionUnit,
    activation_layer,
    require_spatial_dims,
)
from volseg.networks.contract import NetworkSpec
from volseg.networks.gene import PUBLISHED_GENE, checked_gene, live_blocks, read_gene


class _Pair(nn.Module):
    """Two shared convolutions, each followed by the normalisation of the use and a ReLU.

    A pair that no use needs has no convolutions, but keeps its normalisations: the published count
    has them.
    """

    def __init__(
        self, spatial_dims: int, width: int, uses: int, *, norm: str, activation: str, needed: bool
    ) -> None:
        super().__init__()

        def convolution() -> nn.Module:
            if not needed:
                return nn.Identity()
            return CONVOLUTION[spatial_dims](width, width, 3, padding=1, bias=norm == "none")

        self.first = convolution()
        self.first_norms = NormPerUse(norm, spatial_dims, width, uses)
        self.second = convolution()
        self.second_norms = NormPerUse(norm, spatial_dims, width, uses)
        self.activation = activation_layer(activation)

    def forward(self, x: Tensor, use: int) -> Tensor:
        x = self.activation(self.first_norms(self.first(x), use))
        features: Tensor = self.activation(self.second_norms(self.second(x), use))
        return features


class _ChannelAttention(nn.Module):
    """Weigh each feature map between 0 and 1 by the means of all maps (squeeze and excitation)."""

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        convolution = CONVOLUTION[spatial_dims]
        narrow = max(1, channels // 8)
        self.spatial = list(range(2, 2 + spatial_dims))
        self.squeeze = convolution(channels, narrow, 1, bias=False)
        self.excite = convolution(narrow, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=self.spatial, keepdim=True)
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))
        return x * gate


class BiXNet(nn.Module):
    """BiX-Net; sides of at least ``2 ** (levels + 1)``, any size above.

    A block takes the mean of its sources, each interpolated to its own resolution. Blocks that
    nothing needs are skipped. The bridge is run even where no block reads it, and unread weights
    stay, as in the published counts.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        out_channels: Classes, background included.
        gene: The sources of every block, or the name of a gene file; gives the numbers of
            iterations and levels.
        width: Feature maps of all blocks and the bridge.
        stem_width: Feature maps at full resolution (stem and head).
        norm: ``batch`` (the paper), ``none``, ``instance`` or ``group``.
        activation: ``relu`` (the paper), ``leakyrelu``, ``gelu``, ``silu`` or ``prelu``.
        batch_momentum: Weight of the newest batch in the running statistics; 0.99 is the original.
        sharing: Which blocks share convolutions over the iterations: ``level`` (the papers: each
            its own) or ``released`` (as the published weights were trained: from the second
            iteration on, all blocks use those of the last decoder block).
        attention: Channel attention before the last convolution (as one of the published weights
            has it). Their files do not load here as they are: the tensors have other names, which
            nothing in volseg translates.

    Raises:
        InputError: An option is out of range, or the gene cannot be read.
    """

    registry_name = "bixnet"

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        gene: Sequence[Sequence[Sequence[int]]] | str | Path = PUBLISHED_GENE,
        width: int = 48,
        stem_width: int = 32,
        norm: str = "batch",
        activation: str = "relu",
        batch_momentum: float = 0.1,
        sharing: str = "level",
        attention: bool = False,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if sharing not in ("level", "released"):
            raise InputError(f"sharing must be 'level' or 'released', got {sharing!r}.")
        topology = read_gene(gene) if isinstance(gene, (str, Path)) else checked_gene(gene)
        live = live_blocks(topology)
        self.sources = [[list(sources) for sources in stage] for stage in topology]
        self.live = [list(stage) for stage in live]
        self.iterations = len(topology) // 2
        self.levels = levels = len(topology[0])
        self.smallest = 2 ** (levels + 1)
        self.instance_norm = norm == "instance"
        self.mode = INTERPOLATION[spatial_dims]
        self.released = sharing == "released"

        def unit(wide_in: int, wide_out: int) -> nn.Module:
            return ConvolutionUnit(
                spatial_dims, wide_in, wide_out, norm=norm, activation=activation
            )

        def pairs(decoder: int) -> nn.ModuleList:
            uses = [self.iterations] * levels
            if self.released:
                uses = [1] * levels
                if decoder:
                    uses[-1] += 2 * levels * (self.iterations - 1)
            return nn.ModuleList(
                _Pair(
                    spatial_dims,
                    width,
                    uses[block],
                    norm=norm,
                    activation=activation,
                    needed=any(stage[block] for stage in live[decoder::2]),
                )
                for block in range(levels)
            )

        self.stem = nn.Sequential(
            unit(in_channels, stem_width), unit(stem_width, stem_width), unit(stem_width, width)
        )
        self.pool = MAX_POOL[spatial_dims](2)
        self.encoder = pairs(0)
        self.bridge = nn.Sequential(unit(width, width), unit(width, width))
        self.decoder = pairs(1)
        self.head = nn.Sequential(
            unit(width, stem_width),
            unit(stem_width, stem_width),
            _ChannelAttention(spatial_dims, stem_width) if attention else nn.Identity(),
            CONVOLUTION[spatial_dims](stem_width, out_channels, 1, bias=False),
        )
        set_batch_momentum(self, batch_momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        Raises:
            ShapeError: A side of ``x`` is too short to be halved that often.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            self._require_sides(x.shape[2:])
        start = self.pool(self.stem(x))
        features = start
        before: list[Tensor] = []  # outputs of the stage before
        for iteration in range(self.iterations):
            stage = 2 * iteration  # of the encoder; the decoder's is the next
            features = start
            outputs: list[Tensor] = []
            for block, pair in enumerate(self.encoder):
                if block > 0:
                    features = self.pool(features)
                if self.live[stage][block]:
                    features = self._read(features, before, stage, block)
                    if self.released and iteration > 0:
                        features = self.decoder[-1](features, self._use(stage, block))
                    else:
                        features = pair(features, iteration)
                outputs.append(features)
            before = outputs
            features = self.bridge(self.pool(features))
            outputs = []
            for block, pair in enumerate(self.decoder):
                features = self._resized(features, before[self.levels - 1 - block])
                if self.live[stage + 1][block]:
                    features = self._read(features, before, stage + 1, block)
                    if self.released and iteration > 0:
                        features = self.decoder[-1](features, self._use(stage + 1, block))
                    else:
                        features = pair(features, iteration)
                outputs.append(features)
            before = outputs
        logits: Tensor = self.head(self._resized(features, x))
        return logits

    def _use(self, stage: int, block: int) -> int:
        """Return the number of this block among the uses of the last pair (``released``)."""
        return 1 + (stage - 2) * self.levels + block

    def _read(self, sequential: Tensor, before: list[Tensor], stage: int, block: int) -> Tensor:
        """Return the input of a block: the mean of its sources on the grid of ``sequential``."""
        sources = self.sources[stage][block]
        total = torch.zeros_like(sequential)
        for source in sources:
            if source == 0:
                total = total + sequential
            else:
                total = total + self._resized(before[source - 1], sequential)
        return total / len(sources)

    def _resized(self, x: Tensor, like: Tensor, align_corners: bool = True) -> Tensor:
        size = like.shape[2:]
        if x.shape[2:] == size:
            return x
        return F.interpolate(x, size=size, mode=self.mode, align_corners=align_corners)

    def _require_sides(self, sides: Sequence[int]) -> None:
        padded = [max(side, self.smallest) for side in sides]
        more = ""
        # The bridge would have one voxel, which an instance normalisation cannot take.
        if self.instance_norm and max(padded) < 2 * self.smallest:
            more = f" and, for its instance normalisation, one of at least {2 * self.smallest}"
            padded[0] = 2 * self.smallest
        if padded != list(sides):
            raise ShapeError(
                f"{self.registry_name} needs spatial sides of at least {self.smallest}{more}, got "
                f"{' x '.join(map(str, sides))}: pad the input to {' x '.join(map(str, padded))}."
            )


SPEC = NetworkSpec(
    name="bixnet",
    build=BiXNet,
    title="BiX-Net, the searched light BiO-Net+",
    paper="Wang et al., MICCAI 2021 (arXiv:2106.14033); Xiang et al., MedIA 2022",
    presets={
        "reference": {"gene": PUBLISHED_GENE, "batch_momentum": 0.99},
        "tiny": {
            # Two levels, two iterations; every block and the bridge are read.
            "gene": (
                ((0,), (0,)),
                ((0,), (1, 0)),
                ((2, 0), (1,)),
                ((2, 0), (0, 1)),
            ),
            "width": 8,
            "stem_width": 8,
            "norm": "instance",
        },
    },
    reference_parameters=383_904,
    reference_macs=27_719_499_776,
    reference_input={"spatial_dims": 2, "in_channels": 3, "out_channels": 1},
    reference_size=(512, 512),
    published_parameters="0.38 M",
    published_macs="28.00 G",
    difference=(
        "28.00 G is this network by ptflops 0.6.4, which adds normalisations, activations, "
        "poolings and resizing to the convolutions."
    ),
    any_size=True,
)
