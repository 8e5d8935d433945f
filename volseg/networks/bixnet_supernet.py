"""The supernet of the BiX-Net search: a BiO-Net+ that learns which skips each block should read.

Wang, Xiang, Zhang, Song, Liu, Huang, Cai, "BiX-NAS: Searching Efficient Bi-directional Architecture
for Medical Image Segmentation", MICCAI 2021, phase 1. Every block owns a selection matrix with a
row for each candidate source and two columns fewer, each column a soft choice of one candidate.
The supernet trains like any network; then `BiXNetSupernet.narrowed_gene` keeps what the columns
favour: the skips from which phase 2 draws the genes of its BiX-Nets.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.networks.bionetplus import BiONetPlus
from volseg.networks.contract import NetworkSpec
from volseg.networks.gene import Gene, checked_gene


class BiXNetSupernet(BiONetPlus):
    """Supernet of the BiX-Net search; sides of at least ``2 ** (levels + 1)``, any size above.

    In training the columns draw their candidates with Gumbel noise (from torch's generator), in
    evaluation without, so that logits are deterministic; the authors' code draws in both.

    Attributes:
        selection: Scores ``(stages * blocks, candidates, columns)`` of the sources, numbered as in
            `volseg.networks.gene`. The blocks of stage 0 have one source and hence nothing to
            select: their scores take no part and their gradient is zero. They are here because the
            published network has them.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        out_channels: Classes, background included.
        iterations: How often encoder and decoder are run (t of the paper).
        levels: Encoder blocks an iteration, the first at half resolution; at least 2.
        width: Feature maps of all blocks and the bridge.
        stem_width: Feature maps at full resolution (stem and head).
        norm: ``batch`` (the paper), ``none``, ``instance`` or ``group``.
        activation: ``relu`` (the paper), ``leakyrelu``, ``gelu``, ``silu`` or ``prelu``.
        batch_momentum: Weight of the newest batch in the running statistics; 0.99 is the original.

    Raises:
        InputError: An option is out of range.
    """

    registry_name = "bixnet_supernet"

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
        if levels < 2:
            raise InputError(f"bixnet_supernet needs at least two levels, got levels={levels}.")
        super().__init__(
            spatial_dims,
            in_channels,
            out_channels,
            iterations=iterations,
            levels=levels,
            width=width,
            stem_width=stem_width,
            norm=norm,
            activation=activation,
            batch_momentum=batch_momentum,
        )
        # Stages and blocks share an axis: torch takes four or five axes for those of an image when
        # a network is moved to channels last.
        self.selection = nn.Parameter(torch.empty(2 * iterations * levels, levels + 1, levels - 1))
        for matrix in self.selection:
            nn.init.xavier_uniform_(matrix)

    def narrowed_gene(self) -> Gene:
        """Return for every block the candidates that its columns favour, each once.

        A BiX-Net of this gene is trained from scratch: the supernet always adds the sequential
        input, which the gene has only where a column favours it.
        """
        favoured = self.selection.argmax(dim=1).view(-1, self.levels, self.levels - 1).tolist()
        gene = [[sorted(set(block)) for block in stage] for stage in favoured]
        gene[0] = [[0]] * self.levels
        return checked_gene(gene)

    def _read(self, sequential: Tensor, before: list[Tensor], stage: int, block: int) -> Tensor:
        """Return the input of a block: the mean of its sequential input and its distinct choices.

        Columns that favour the same candidate share the weight of one.
        """
        if stage == 0:
            return sequential
        scores = self.selection[stage * self.levels + block]
        favoured = scores.argmax(dim=0)
        weights = 1.0 / (favoured[:, None] == favoured[None, :]).sum(dim=1)
        # Drawn around the scores, but weighted by the scores themselves, as the authors do.
        choices = F.gumbel_softmax(scores, dim=0) if self.training else F.softmax(scores, dim=0)
        shares = (choices * weights).sum(dim=1)
        total = sequential + shares[0] * sequential
        for skip, features in enumerate(before):
            # Not aligned at the corners, unlike all other resizing: so do the authors.
            aligned = self._resized(features, sequential, align_corners=False)
            total = total + shares[skip + 1] * aligned
        return total / (weights.sum() + 1.0)  # the weights add up to the number of distinct choices


SPEC = NetworkSpec(
    name="bixnet_supernet",
    build=BiXNetSupernet,
    title="Supernet of the BiX-Net search, a BiO-Net+ that weighs its skips",
    paper="Wang et al., MICCAI 2021 (arXiv:2106.14033)",
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
    reference_parameters=425_736,
    reference_macs=34_004_664_320,
    reference_input={"spatial_dims": 2, "in_channels": 3, "out_channels": 1},
    reference_size=(512, 512),
    any_size=True,
)
