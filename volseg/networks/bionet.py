"""BiO-Net in 2D and 3D: a U-Net run several times, with skips in both directions.

Xiang, Zhang, Liu, Song, Huang, Cai, "BiO-Net: Learning Recurrent Bi-directional Connections for
Encoder-Decoder Architecture", MICCAI 2020. Forward skips lead from encoder to decoder as in the
U-Net; backward skips lead from the decoder to the encoder of the next iteration. The convolutions
are the same in every iteration, the normalisations are not.
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
    activation_layer,
    initialise_he,
    norm_layer,
    require_spatial_dims,
)
from volseg.networks.contract import NetworkSpec, require_divisible_sides


class NormPerUse(nn.Module):
    """A normalisation of its own for each use of the shared convolution before it."""

    def __init__(self, name: str, spatial_dims: int, channels: int, uses: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm_layer(name, spatial_dims, channels) for _ in range(uses))

    def forward(self, x: Tensor, use: int) -> Tensor:
        """Return ``x`` normalised by the layer of this use."""
        normalised = x
        for index, norm in enumerate(self.norms):  # TorchScript: no module list indexed by variable
            if index == use:
                normalised = norm(x)
        return normalised


def set_batch_momentum(network: nn.Module, momentum: float) -> None:
    """Set the weight of the newest batch in all running statistics (Keras counts the oldest)."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.momentum = momentum


class _Unit(nn.Module):
    """Convolution (normal or transposed) -> ReLU -> normalisation of this iteration."""

    def __init__(self, convolution: nn.Module, activation: str, norms: NormPerUse) -> None:
        super().__init__()
        self.convolution = convolution
        self.activation = activation_layer(activation)
        self.norms = norms

    def forward(self, x: Tensor, iteration: int = 0) -> Tensor:
        features: Tensor = self.norms(self.activation(self.convolution(x)), iteration)
        return features


class _Level(nn.Module):
    """Two units, after which the skip is tapped, and one unit that leads to the next level."""

    def __init__(self, first: _Unit, second: _Unit, third: _Unit, pool: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.third = third
        self.pool = pool

    def forward(self, x: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        skip = self.second(self.first(x, iteration), iteration)
        return skip, self.pool(self.third(skip, iteration))


class BiONet(nn.Module):
    """BiO-Net; sides must be multiples of ``2 ** len(channels)``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps at full resolution (stem and head) and of the first level, of each
            next level, and last of the bridge.
        iterations: How often encoder and decoder are run (t of the paper).
        integrate: Give the head the features of all iterations (INT of the paper), not only of the
            last. Without it nothing reads the last normalisation of the earlier iterations; it
            stays, and stays untrained, because the published count has it.
        norm: ``batch`` (the paper), ``none``, ``instance`` or ``group``. After the ReLU a nearly
            silent map has almost no variance, which the latter two blow up, rounding included:
            with ``instance`` logits are certain to about 0.1 percent of their spread only, and
            torch and OpenVINO differ by as much. Prefer ``batch``.
        activation: ``relu`` (the paper), ``leakyrelu``, ``gelu``, ``silu`` or ``prelu``.
        batch_momentum: Weight of the newest batch in the running statistics; 0.99 is the original.
        bridge_norm_per_iteration: As the authors' Keras code has it; their torch code, from which
            the counts are, shares the bridge's normalisations.

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
        iterations: int = 3,
        integrate: bool = False,
        norm: str = "batch",
        activation: str = "relu",
        batch_momentum: float = 0.1,
        bridge_norm_per_iteration: bool = False,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if len(channels) < 2 or iterations < 1:
            raise InputError(
                "bionet needs at least two widths and one iteration, got "
                f"channels={list(channels)} and iterations={iterations}."
            )
        self.divisor = 2 ** len(channels)
        self.instance_norm = norm == "instance"
        self.iterations = iterations
        self.integrate = integrate
        self.bridge_norm_per_iteration = bridge_norm_per_iteration

        def unit(wide_in: int, wide_out: int, uses: int) -> _Unit:
            convolution = CONVOLUTION[spatial_dims](wide_in, wide_out, 3, padding=1)
            return _Unit(convolution, activation, NormPerUse(norm, spatial_dims, wide_out, uses))

        def up(width: int, uses: int) -> _Unit:
            convolution = TRANSPOSED[spatial_dims](
                width, width, 3, stride=2, padding=1, output_padding=1
            )
            return _Unit(convolution, activation, NormPerUse(norm, spatial_dims, width, uses))

        def encode(width: int, deep: int) -> _Level:
            return _Level(
                unit(2 * width, width, iterations),
                unit(width, width, iterations),
                unit(width, deep, iterations),
                MAX_POOL[spatial_dims](2),
            )

        def decode(width: int, deep: int) -> _Level:
            return _Level(
                unit(deep + width, width, iterations),
                unit(width, width, iterations),
                up(width, iterations),
                nn.Identity(),
            )

        base, bottom = channels[0], channels[-1]
        levels = list(pairwise(channels))
        bridge_uses = iterations if bridge_norm_per_iteration else 1
        self.stem = nn.Sequential(
            unit(in_channels, base, 1),
            unit(base, base, 1),
            unit(base, base, 1),
            MAX_POOL[spatial_dims](2),
        )
        self.encoder = nn.ModuleList(encode(width, deep) for width, deep in levels)
        self.bridge = nn.ModuleList(
            [
                unit(bottom, bottom, bridge_uses),
                unit(bottom, bottom, bridge_uses),
                up(bottom, bridge_uses),
            ]
        )
        self.decoder = nn.ModuleList(decode(width, deep) for width, deep in levels[::-1])
        self.head = nn.Sequential(
            unit(base * iterations if integrate else base, base, 1),
            unit(base, base, 1),
            CONVOLUTION[spatial_dims](base, out_channels, 1),
        )
        self.apply(initialise_he)
        set_batch_momentum(self, batch_momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides(
                "bionet", x.shape[2:], self.divisor, instance_norm=self.instance_norm
            )
        start = self.stem(x)
        features = start
        backward: list[Tensor] = []  # skips of the previous decoder, shallow first
        outputs: list[Tensor] = []
        for iteration in range(self.iterations):
            features = start
            forward: list[Tensor] = []
            for level, encode in enumerate(self.encoder):
                # The first iteration has no decoder to hear from: the input stands in twice.
                other = features if iteration == 0 else backward[level]
                skip, features = encode(torch.cat([features, other], dim=1), iteration)
                forward.append(skip)
            for unit in self.bridge:
                features = unit(features, iteration if self.bridge_norm_per_iteration else 0)
            backward = []
            for decode in self.decoder:
                skip, features = decode(torch.cat([features, forward.pop()], dim=1), iteration)
                backward.insert(0, skip)
            if self.integrate:
                outputs.append(features)
        logits: Tensor = self.head(torch.cat(outputs, dim=1) if self.integrate else features)
        return logits


SPEC = NetworkSpec(
    name="bionet",
    build=BiONet,
    title="BiO-Net, recurrent with skips in both directions",
    paper="Xiang et al., MICCAI 2020 (arXiv:2007.00243)",
    presets={
        "reference": {
            "channels": (32, 64, 128, 256, 512),
            "iterations": 3,
            "batch_momentum": 0.99,
        },
        "tiny": {"channels": (4, 8), "iterations": 2, "integrate": True},
    },
    reference_parameters=14_977_857,
    reference_macs=87_811_948_544,
    reference_input={"spatial_dims": 2, "in_channels": 3, "out_channels": 1},
    reference_size=(512, 512),
    published_parameters="14.99 M",
    published_macs="115.67 G",
    difference=(
        "14.99 M lies between ours and 14,996,289 with integrate=True; 115.67 G is this "
        "network by ptflops 0.6.4, which counts transposed convolutions at their output "
        "instead of their input positions and adds normalisations, activations, poolings and "
        "biases."
    ),
)
