"""BiO-Net+ in 2D and 3D: a narrow BiO-Net in which every block reads every resolution.

Xiang, Zhang, Wang, Song, Liu, Huang, Cai, "Towards Bi-directional Skip Connections in
Encoder-Decoder Architectures and Beyond", Medical Image Analysis 2022 (BiO-Net++ in 2021). Against
BiO-Net: one width on all levels; skips of all resolutions, averaged instead of joined; two
convolutions a block; interpolation instead of transposed convolutions; convolution ->
normalisation -> ReLU without bias. It is the BiX-Net whose gene holds everything.
"""

from __future__ import annotations

from volseg.networks.bixnet import BiXNet
from volseg.networks.contract import NetworkSpec
from volseg.networks.gene import full_gene


class BiONetPlus(BiXNet):
    """BiO-Net+; sides of at least ``2 ** (levels + 1)``, any size above.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        out_channels: Classes, background included.
        iterations: How often encoder and decoder are run (t of the paper).
        levels: Encoder blocks an iteration, the first at half resolution.
        width: Feature maps of all blocks and the bridge.
        stem_width: Feature maps at full resolution (stem and head).
        norm: ``batch`` (the paper), ``none``, ``instance`` or ``group``.
        activation: ``relu`` (the paper), ``leakyrelu``, ``gelu``, ``silu`` or ``prelu``.
        batch_momentum: Weight of the newest batch in the running statistics; 0.99 is the original.

    Raises:
        InputError: An option is out of range.
    """

    registry_name = "bionetplus"

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        iterations: int = 3,
        levels: int = 4,
        width: int = 48,
        stem_width: int = 32,
        norm: str = "batch",
        activation: str = "relu",
        batch_momentum: float = 0.1,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            out_channels,
            gene=full_gene(iterations, levels),
            width=width,
            stem_width=stem_width,
            norm=norm,
            activation=activation,
            batch_momentum=batch_momentum,
        )


SPEC = NetworkSpec(
    name="bionetplus",
    build=BiONetPlus,
    title="BiO-Net+, light, skips of all resolutions in both directions",
    paper="Xiang et al., Medical Image Analysis 78, 2022 (arXiv:2203.05709)",
    presets={
        "reference": {"iterations": 3, "levels": 4, "batch_momentum": 0.99},
        "tiny": {
            "iterations": 2,
            "levels": 2,
            "width": 8,
            "stem_width": 8,
            "norm": "instance",
        },
    },
    reference_parameters=425_376,
    reference_macs=34_004_664_320,
    reference_input={"spatial_dims": 2, "in_channels": 3, "out_channels": 1},
    reference_size=(512, 512),
    published_parameters="0.43 M",
    published_macs="34.36 G",
    difference=(
        "The published figure adds normalisations, activations, poolings and some resizing to "
        "the convolutions: with them ours comes to 34.31 G; its counter itself is not published."
    ),
    any_size=True,
)
