"""UNet++ (nested U-Net) in 2D and 3D, with deep supervision and pruning.

Zhou, Siddiquee, Tajbakhsh, Liang, "UNet++: A Nested U-Net Architecture for Medical Image
Segmentation", DLMIA 2018, and "UNet++: Redesigning Skip Connections to Exploit Multiscale Features
in Image Segmentation", IEEE TMI 2020. Node X(i, j) lies on level i (resolution 1 / 2^i) and column
j; it joins all earlier nodes of its level with the upsampled node X(i + 1, j - 1).

Written from the papers. The authors' own code is for non-commercial use only and names a patent
application: look into both before shipping a product with it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.networks.blocks import (
    CONVOLUTION,
    MAX_POOL,
    TRANSPOSED,
    ConvolutionUnit,
    initialise_he,
    require_spatial_dims,
)
from volseg.networks.contract import NetworkSpec, require_divisible_sides


class _Node(nn.Module):
    """Join the earlier nodes of the level and the upsampled node below, convolve."""

    def __init__(self, up: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.up = up
        self.block = block

    def forward(self, level: list[Tensor], below: Tensor) -> Tensor:
        joined = list(level)  # TorchScript cannot unpack a list into another
        joined.append(self.up(below))
        features: Tensor = self.block(torch.cat(joined, dim=1))
        return features


class UNetPlusPlus(nn.Module):
    """UNet++; sides must be multiples of ``2 ** (len(channels) - 1)``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps a level, full resolution first.
        norm: ``none`` (the authors' code), ``batch``, ``instance`` or ``group``.
        activation: ``relu`` (the paper), ``leakyrelu``, ``gelu``, ``silu`` or ``prelu``.
        dropout: Probability of dropping each value after each convolution.
        deep_supervision: A head on every X(0, j), j > 0, not only on the last. All heads have full
            resolution; in training they are a list, the last node's head first.
        inference: What deep supervision gives in evaluation: ``accurate`` (the logits of the mean
            of the heads' probabilities) or ``fast`` (the last node's head).
        overlapping: Classes may overlap (a sigmoid each) instead of excluding each other (softmax);
            one class alone is always a sigmoid. Matters for ``accurate`` only.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        norm: str = "none",
        activation: str = "relu",
        dropout: float = 0.0,
        deep_supervision: bool = False,
        inference: str = "accurate",
        overlapping: bool = False,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if len(channels) < 2:
            raise InputError(
                f"unetplusplus needs at least two levels, got channels={list(channels)}."
            )
        if inference not in ("accurate", "fast"):
            raise InputError(f"inference must be 'accurate' or 'fast', got {inference!r}.")
        depth = len(channels) - 1
        self.divisor = 2**depth
        self.instance_norm = norm == "instance"
        self.deep_supervision = deep_supervision
        self.accurate = inference == "accurate"
        self.sigmoid = overlapping or out_channels == 1

        def block(wide_in: int, wide_out: int) -> nn.Module:
            layers: list[nn.Module] = []
            for width in (wide_in, wide_out):
                layers.append(
                    ConvolutionUnit(spatial_dims, width, wide_out, norm=norm, activation=activation)
                )
                layers.append(nn.Dropout(dropout) if dropout else nn.Identity())
            return nn.Sequential(*layers)

        def node(level: int, column: int) -> _Node:
            width, deep = channels[level], channels[level + 1]
            up = TRANSPOSED[spatial_dims](deep, width, 2, stride=2)
            return _Node(up, block((column + 1) * width, width))

        self.pool = MAX_POOL[spatial_dims](2)
        # Column 0: the encoder, X(i, 0).
        self.encoder = nn.ModuleList(
            block(wide_in, wide_out)
            for wide_in, wide_out in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        # The other columns, X(i, j) with j > 0, diagonal by diagonal: L1 are the nodes of the first
        # diagonal, L2 those of the first two, and so on.
        self.places = [
            (diagonal - column, column)
            for diagonal in range(1, depth + 1)
            for column in range(1, diagonal + 1)
        ]
        self.nodes = nn.ModuleList(node(level, column) for level, column in self.places)
        # Heads on the last nodes of level 0; the last head belongs to the last node.
        self.heads = nn.ModuleList(
            CONVOLUTION[spatial_dims](channels[0], out_channels, 1)
            for _ in range(depth if deep_supervision else 1)
        )
        self.apply(initialise_he)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        In training with deep supervision: a list of logits, all at full resolution, the head of
        X(0, depth) first and that of X(0, 1) last.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides(
                "unetplusplus", x.shape[2:], self.divisor, instance_norm=self.instance_norm
            )
        nodes: list[list[Tensor]] = []  # nodes[i][j] is X(i, j)
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.pool(x))
            nodes.append([x])
        for index, node in enumerate(self.nodes):
            level, column = self.places[index]
            nodes[level].append(node(nodes[level], nodes[level + 1][column - 1]))

        logits: list[Tensor] = []
        for index, head in enumerate(self.heads):
            if self.training or self.accurate or index == len(self.heads) - 1:
                logits.insert(0, head(nodes[0][len(nodes[0]) - len(self.heads) + index]))
        if self.training and self.deep_supervision:
            return logits
        return logits[0] if len(logits) == 1 else self._mean_probability(logits)

    def _mean_probability(self, logits: list[Tensor]) -> Tensor:
        """Return the logits of the mean of the heads' probabilities (not the mean of logits)."""
        heads = torch.stack(logits)
        if self.sigmoid:
            inside = torch.logsumexp(F.logsigmoid(heads), dim=0)
            return inside - torch.logsumexp(F.logsigmoid(-heads), dim=0)
        mean = torch.logsumexp(F.log_softmax(heads, dim=2), dim=0)
        return mean - mean.mean(dim=1, keepdim=True)  # softmax does not see the constant

    def pruned(self, level: int) -> UNetPlusPlus:
        """Return a copy cut down to the nodes X(i, j) with i + j <= ``level`` (L1, L2, ...).

        Its one head is the head of X(0, level): its logits are those of that head in the full
        network. Needs sides that are multiples of ``2 ** level`` only.

        Raises:
            InputError: No such level, or the network has no head there.
        """
        depth = len(self.encoder) - 1
        if not 1 <= level <= depth:
            raise InputError(f"unetplusplus can be pruned to levels 1 to {depth}, got {level}.")
        if level < depth and not self.deep_supervision:
            raise InputError(
                f"this unetplusplus has no head on level {level}: train it with "
                "deep_supervision=True to prune it."
            )
        smaller = copy.deepcopy(self)
        smaller.divisor = 2**level
        smaller.deep_supervision = False
        smaller.encoder = smaller.encoder[: level + 1]
        smaller.nodes = smaller.nodes[: level * (level + 1) // 2]
        smaller.heads = nn.ModuleList([smaller.heads[level - 1 if self.deep_supervision else 0]])
        return smaller


SPEC = NetworkSpec(
    name="unetplusplus",
    build=UNetPlusPlus,
    title="UNet++, nested skip pathways that can be pruned",
    paper="Zhou, Siddiquee, Tajbakhsh, Liang, IEEE TMI 2020 (arXiv:1912.05074)",
    presets={
        "reference": {
            "channels": (32, 64, 128, 256, 512),
            "dropout": 0.5,
            "deep_supervision": True,
        },
        "tiny": {"channels": (4, 8, 16), "norm": "instance"},
    },
    reference_parameters=9_041_700,
    reference_macs=4_184_506_368,
    reference_input={"spatial_dims": 2, "in_channels": 1, "out_channels": 1},
    reference_size=(96, 96),
    published_parameters="9.04 M",
    deep_supervision=True,
)
