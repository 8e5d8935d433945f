"""MONAI's DynUNet: the plain convolutional U-Net of nnU-Net.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Nature Methods 2021. nnU-Net plans kernels, strides and the number of stages for
each data set; the defaults here are its typical plan for 3D patches of about 128 voxels a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from volseg.errors import InputError, UnknownNameError
from volseg.networks.blocks import require_spatial_dims
from volseg.networks.contract import NetworkSpec, require_divisible_sides, sizes_per_stage

_NORMS = {"instance": ("instance", {"affine": True}), "batch": ("batch", {})}
_ACTIVATIONS = {
    "leakyrelu": ("leakyrelu", {"negative_slope": 0.01, "inplace": True}),
    "relu": ("relu", {"inplace": True}),
    "prelu": ("prelu", {}),
    "gelu": ("gelu", {}),
}


class DynUNet(nn.Module):
    """The parts of MONAI's DynUNet; sides must be multiples of the product of the strides.

    MONAI's own forward pass keeps the logits of its deep supervision heads in the network (a copy
    of it then fails), computes them in evaluation too and stacks them at full resolution. Here the
    same parts run in a plain loop, under MONAI's names: its weights load once the second copy of
    each, ``skip_layers.*``, is left out.

    Args:
        spatial_dims: 3 or 2.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps a stage, full resolution first, at least three stages.
        kernel_sizes: Kernel a stage, each a number or one number an axis (``(1, 3, 3)`` where
            slices are far apart); 3 everywhere by default.
        strides: Step into each stage, likewise; 1 and then 2 by default.
        norm: ``instance`` (nnU-Net) or ``batch``.
        activation: ``leakyrelu`` (nnU-Net), ``relu``, ``prelu`` or ``gelu``.
        residual: Residual instead of plain encoder blocks.
        dropout: Probability of zeroing single values after each convolution; in MONAI, and so
            here, after the last one too.
        transposed_bias: Give the transposed convolutions a bias.
        deep_supervision: A head on every decoder stage; a list in training.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int] = (32, 64, 128, 256, 320, 320),
        kernel_sizes: Sequence[int | Sequence[int]] | None = None,
        strides: Sequence[int | Sequence[int]] | None = None,
        norm: str = "instance",
        activation: str = "leakyrelu",
        residual: bool = False,
        dropout: float = 0.0,
        transposed_bias: bool = False,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        stages = len(channels)
        if stages < 3:
            raise InputError(f"dynunet needs at least three stages, got channels={list(channels)}.")
        if norm not in _NORMS:
            raise UnknownNameError("norm of dynunet", norm, _NORMS)
        if activation not in _ACTIVATIONS:
            raise UnknownNameError("activation of dynunet", activation, _ACTIVATIONS)
        kernels = sizes_per_stage(
            "kernel_sizes of dynunet", kernel_sizes or [3] * stages, stages, spatial_dims
        )
        steps = sizes_per_stage(
            "strides of dynunet", strides or [1] + [2] * (stages - 1), stages, spatial_dims
        )
        # MONAI pads for odd kernels that leave out no voxel between two of their steps.
        pairs = zip(sum(kernels, ()), sum(steps, ()), strict=True)
        if max(steps[0]) > 1 or any(k % 2 == 0 or step > k + 1 for k, step in pairs):
            raise InputError(
                "dynunet needs odd kernel sizes, strides of at most the kernel size and one, and "
                f"no stride into the first stage, got kernel_sizes={kernels} and strides={steps}."
            )
        self.divisors = [math.prod(step) for step in zip(*steps, strict=True)]
        self.instance_norm = norm == "instance"
        self.deep_supervision = deep_supervision

        from monai.networks.nets import DynUNet as MonaiDynUNet  # noqa: PLC0415 - slow to import

        parts = MonaiDynUNet(
            spatial_dims,
            in_channels,
            out_channels,
            kernel_size=kernels,
            strides=steps,
            upsample_kernel_size=steps[1:],
            filters=list(channels),
            dropout=dropout or None,
            norm_name=_NORMS[norm],
            act_name=_ACTIVATIONS[activation],
            deep_supervision=deep_supervision,
            deep_supr_num=stages - 2,
            res_block=residual,
            trans_bias=transposed_bias,
        )
        self.input_block = parts.input_block
        self.downsamples = parts.downsamples
        self.bottleneck = parts.bottleneck
        self.upsamples = parts.upsamples
        self.output_block = parts.output_block
        # Next to full resolution first.
        self.deep_supervision_heads: nn.ModuleList = (
            parts.deep_supervision_heads if deep_supervision else nn.ModuleList()
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        In training with deep supervision: a list of logits, full resolution first, each next one
        at the resolution of the next stage.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride of its axis.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides(
                "dynunet", x.shape[2:], self.divisors, instance_norm=self.instance_norm
            )
        skips: list[Tensor] = [self.input_block(x)]
        for down in self.downsamples:
            skips.append(down(skips[-1]))
        features: list[Tensor] = [self.bottleneck(skips[-1])]
        for stage, up in enumerate(self.upsamples):
            features.append(up(features[-1], skips[-1 - stage]))
        logits: list[Tensor] = [self.output_block(features[-1])]
        if self.training:
            for stage, head in enumerate(self.deep_supervision_heads):
                logits.append(head(features[-2 - stage]))
        if self.training and self.deep_supervision:
            return logits
        return logits[0]


SPEC = NetworkSpec(
    name="dynunet",
    build=DynUNet,
    title="DynUNet, the plain U-Net of nnU-Net in MONAI",
    paper="Isensee et al., Nature Methods 2021 (arXiv:1809.10486)",
    presets={
        "reference": {"channels": (32, 64, 128, 256, 320, 320)},
        "tiny": {"channels": (4, 8, 16)},
    },
    reference_parameters=31_189_410,
    reference_macs=477_231_579_136,
    reference_input={"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    reference_size=(128, 128, 128),
    published_parameters="31.2 M",
    difference=(
        "nnU-Net's own network has 31,195,594: 4,640 biases of convolutions that MONAI leaves out "
        "and 1,544 values of four deep supervision heads, which it always builds."
    ),
    deep_supervision=True,
)
