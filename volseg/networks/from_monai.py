"""Networks MONAI has right, as they are, behind the contract of this room.

MONAI crashes on, or silently pads, an image whose sides its strides do not divide; here it is
refused with the size to pad to. MONAI's own network is ``.network``: its checkpoints load there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from volseg.errors import InputError, UnknownNameError
from volseg.networks.blocks import require_spatial_dims
from volseg.networks.contract import NetworkSpec, require_divisible_sides

_ACTIVATIONS: dict[str, Any] = {
    "relu": ("relu", {"inplace": True}),
    "leakyrelu": ("leakyrelu", {"negative_slope": 0.01, "inplace": True}),
    "prelu": "prelu",
    "gelu": "gelu",
}


class FromMonai(nn.Module):
    """A MONAI network that refuses sizes it cannot take.

    Args:
        name: Registry name, for messages.
        network: MONAI's network.
        divisor: Its total stride.
        instance_norm: Whether it normalises its lowest resolution over single feature maps.
    """

    def __init__(
        self, name: str, network: nn.Module, divisor: int, *, instance_norm: bool = False
    ) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.divisor = divisor
        self.instance_norm = instance_norm

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides(
                self.name, x.shape[2:], self.divisor, instance_norm=self.instance_norm
            )
        logits: Tensor = self.network(x)
        return logits


def _chosen(kind: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return known[name]


def _require_levels(network: str, channels: Sequence[int]) -> None:
    if len(channels) < 2 or min(channels) < 1:
        raise InputError(
            f"{network} needs at least two levels of at least one feature map, got "
            f"channels={list(channels)}."
        )


def monai_unet(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    *,
    channels: Sequence[int] = (16, 32, 64, 128, 256),
    residual_units: int = 0,
    kernel_size: int = 3,
    norm: str = "instance",
    activation: str = "prelu",
    dropout: float = 0.0,
    bias: bool = True,
) -> FromMonai:
    """Return MONAI's UNet; sides must be multiples of ``2 ** (len(channels) - 1)``.

    Args:
        spatial_dims: 3 or 2.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps a level, half resolution first: the first convolution has a stride.
        residual_units: Convolutions of a residual block; 0 for one plain convolution a level.
        kernel_size: Of all convolutions, odd.
        norm: ``instance`` (without weights, MONAI's default), ``batch`` or ``none``.
        activation: ``prelu`` (MONAI's default), ``relu``, ``leakyrelu`` or ``gelu``.
        dropout: Probability of zeroing single values.
        bias: Give convolutions a bias, although a normalisation removes most of them again.

    Raises:
        InputError: An option is out of range.
    """
    require_spatial_dims(spatial_dims)
    _require_levels("monai_unet", channels)
    if residual_units < 0 or kernel_size % 2 == 0:
        raise InputError(
            "monai_unet needs an odd kernel_size and no negative number of residual units, got "
            f"kernel_size={kernel_size} and residual_units={residual_units}."
        )
    norms = {"instance": "instance", "batch": "batch", "none": None}
    from monai.networks.nets import UNet  # noqa: PLC0415 - slow to import

    network = UNet(
        spatial_dims,
        in_channels,
        out_channels,
        channels=list(channels),
        strides=[2] * (len(channels) - 1),
        kernel_size=kernel_size,
        up_kernel_size=kernel_size,
        num_res_units=residual_units,
        act=_chosen("activation of monai_unet", activation, _ACTIVATIONS),
        norm=_chosen("norm of monai_unet", norm, norms),
        dropout=dropout,
        bias=bias,
    )
    divisor = 2 ** (len(channels) - 1)
    return FromMonai("monai_unet", network, divisor, instance_norm=norm == "instance")


def attention_unet(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    *,
    channels: Sequence[int] = (16, 32, 64, 128, 256),
    kernel_size: int = 3,
    dropout: float = 0.0,
) -> FromMonai:
    """Return MONAI's Attention U-Net; sides must be multiples of ``2 ** (len(channels) - 1)``.

    Args:
        spatial_dims: 3 or 2.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps a level, full resolution first.
        kernel_size: Of the convolutions of the encoder, odd.
        dropout: Probability of zeroing single values.

    Raises:
        InputError: An option is out of range.
    """
    require_spatial_dims(spatial_dims)
    _require_levels("attentionunet", channels)
    if min(channels[:-1]) < 2 or kernel_size % 2 == 0:
        raise InputError(
            "attentionunet needs an odd kernel_size and, for its gates, at least two feature maps "
            f"a level, got kernel_size={kernel_size} and channels={list(channels)}."
        )
    from monai.networks.nets import AttentionUnet  # noqa: PLC0415 - slow to import

    network = AttentionUnet(
        spatial_dims,
        in_channels,
        out_channels,
        channels=list(channels),
        strides=[2] * (len(channels) - 1),
        kernel_size=kernel_size,
        dropout=dropout,
    )
    return FromMonai("attentionunet", network, 2 ** (len(channels) - 1))


def seg_res_net(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    *,
    channels: int = 8,
    blocks: Sequence[int] = (1, 2, 2, 4),
    decoder_blocks: Sequence[int] | None = None,
    norm: str = "group",
    activation: str = "relu",
    dropout: float = 0.0,
    upsampling: str = "interpolated",
) -> FromMonai:
    """Return MONAI's SegResNet; sides must be multiples of ``2 ** (len(blocks) - 1)``.

    Args:
        spatial_dims: 3 or 2.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps at full resolution; they double from one level to the next.
        blocks: Residual blocks an encoder level, full resolution first.
        decoder_blocks: Residual blocks a decoder level, full resolution last; 1 by default.
        norm: ``group`` (the paper, of eight groups), ``batch`` or ``instance``.
        activation: ``relu`` (the paper), ``leakyrelu``, ``prelu`` or ``gelu``.
        dropout: Probability of dropping whole feature maps of the first convolution.
        upsampling: ``interpolated`` (the paper) or ``transposed``.

    Raises:
        InputError: An option is out of range.
    """
    require_spatial_dims(spatial_dims)
    rising = decoder_blocks or [1] * (len(blocks) - 1)
    if len(blocks) < 2 or len(rising) != len(blocks) - 1 or min(*blocks, *rising) < 1:
        raise InputError(
            "segresnet needs at least two encoder levels, one decoder level fewer and at least "
            f"one block a level, got blocks={list(blocks)} and decoder_blocks={list(rising)}."
        )
    if channels < 1 or (norm == "group" and channels % 8):
        raise InputError(
            "segresnet normalises eight groups of feature maps and needs a multiple of 8, got "
            f"channels={channels}: choose another number or norm='batch'."
        )
    norms = {
        "group": ("group", {"num_groups": 8}),
        "batch": "batch",
        "instance": ("instance", {"affine": True}),
    }
    upsamplings = {"interpolated": "nontrainable", "transposed": "deconv"}
    from monai.networks.nets import SegResNet  # noqa: PLC0415 - slow to import

    network = SegResNet(
        spatial_dims,
        channels,
        in_channels,
        out_channels,
        dropout_prob=dropout or None,
        act=_chosen("activation of segresnet", activation, _ACTIVATIONS),
        norm=_chosen("norm of segresnet", norm, norms),
        blocks_down=tuple(blocks),
        blocks_up=tuple(rising),
        upsample_mode=_chosen("upsampling of segresnet", upsampling, upsamplings),
    )
    divisor = 2 ** (len(blocks) - 1)
    return FromMonai("segresnet", network, divisor, instance_norm=norm == "instance")


def swin_unetr(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    *,
    channels: int = 48,
    blocks: Sequence[int] = (2, 2, 2, 2),
    heads: Sequence[int] = (3, 6, 12, 24),
    window_size: int = 7,
    norm: str = "instance",
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    residual_stages: bool = False,
    checkpointing: bool = False,
) -> FromMonai:
    """Return MONAI's Swin UNETR; sides must be multiples of 32.

    Args:
        spatial_dims: 3 or 2.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps at half resolution, a multiple of 12; they double from one of the
            four stages to the next.
        blocks: Transformer blocks a stage.
        heads: Attention heads a stage; each must divide the feature maps of its stage.
        window_size: Side of the attention windows in patches of two voxels.
        norm: ``instance`` (the paper) or ``batch``, of the convolutions.
        dropout: Probability of zeroing single values in the transformer.
        attention_dropout: The same of the attention weights.
        stochastic_depth: Probability of leaving out a transformer block in training.
        residual_stages: A residual convolution before each stage (Swin UNETR V2).
        checkpointing: Compute the transformer a second time in training rather than store it.

    Raises:
        InputError: An option is out of range.
    """
    require_spatial_dims(spatial_dims)
    widths = [channels * 2**stage for stage in range(4)]
    if len(blocks) != 4 or len(heads) != 4 or min(*blocks, *heads, window_size) < 1:
        raise InputError(
            "swinunetr needs at least one block and one head for each of its four stages and "
            f"windows of at least 1, got blocks={list(blocks)}, heads={list(heads)} and "
            f"window_size={window_size}."
        )
    uneven = any(width % head for width, head in zip(widths, heads, strict=True))
    if channels < 1 or channels % 12 or uneven:
        raise InputError(
            "swinunetr needs a multiple of 12 channels and heads that divide the feature maps of "
            f"their stage, {widths}, got channels={channels} and heads={list(heads)}."
        )
    norms = {"instance": "instance", "batch": "batch"}
    from monai.networks.nets import SwinUNETR  # noqa: PLC0415 - slow to import

    # MONAI reads values of a tensor in between, which the meta device has none of.
    device = torch.get_default_device()
    with torch.device("cpu"):
        network = SwinUNETR(
            in_channels=in_channels,
            out_channels=out_channels,
            depths=tuple(blocks),
            num_heads=tuple(heads),
            window_size=window_size,
            feature_size=channels,
            norm_name=_chosen("norm of swinunetr", norm, norms),
            drop_rate=dropout,
            attn_drop_rate=attention_dropout,
            dropout_path_rate=stochastic_depth,
            use_checkpoint=checkpointing,
            spatial_dims=spatial_dims,
            use_v2=residual_stages,
        )
    return FromMonai("swinunetr", network.to(device), 32, instance_norm=norm == "instance")


SPECS = (
    NetworkSpec(
        name="monai_unet",
        build=monai_unet,
        title="MONAI's UNet with strided convolutions, not U-Net 2015",
        paper="Kerfoot et al., STACOM 2018 (doi:10.1007/978-3-030-12029-0_40)",
        presets={
            "reference": {"channels": (16, 32, 64, 128, 256)},
            "residual": {
                "channels": (16, 32, 64, 128, 256),
                "residual_units": 2,
                "norm": "batch",
            },
            "tiny": {"channels": (4, 8, 16)},
        },
        reference_parameters=1_979_610,
        reference_macs=1_481_048_064,
        reference_input={"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
        reference_size=(96, 96, 96),
        difference=(
            "Not U-Net 2015: one strided convolution a level and features at full resolution only "
            "after the last transposed convolution. The reference is the 3D network of MONAI's "
            "tutorials without residual units."
        ),
    ),
    NetworkSpec(
        name="attentionunet",
        build=attention_unet,
        title="Attention U-Net of MONAI, gates on the skip connections",
        paper="Oktay et al., MIDL 2018 (arXiv:1804.03999)",
        presets={
            "reference": {"channels": (16, 32, 64, 128, 256)},
            "tiny": {"channels": (4, 8, 16)},
        },
        reference_parameters=5_909_130,
        reference_macs=41_358_422_016,
        reference_input={"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
        reference_size=(96, 96, 96),
        difference=(
            "MONAI convolves once after joining a skip connection and gates it at its own "
            "resolution."
        ),
    ),
    NetworkSpec(
        name="segresnet",
        build=seg_res_net,
        title="SegResNet of MONAI: deep residual encoder, light decoder",
        paper="Myronenko, BrainLes 2018 (arXiv:1810.11654)",
        presets={
            "reference": {"channels": 32, "blocks": (1, 2, 2, 4)},
            "small": {"channels": 8, "blocks": (1, 2, 2, 4)},
            "tiny": {"channels": 8, "blocks": (1, 1, 1)},
        },
        reference_parameters=18_798_627,
        reference_macs=246_621_929_472,
        reference_input={"spatial_dims": 3, "in_channels": 4, "out_channels": 3},
        reference_size=(96, 96, 96),
        difference=(
            "The paper prints no count; its variational autoencoder, a second loss in training, "
            "is not part of it. MONAI's default of 8 feature maps is the preset small."
        ),
    ),
    NetworkSpec(
        name="swinunetr",
        build=swin_unetr,
        title="Swin UNETR of MONAI: windowed transformer encoder, convolutional decoder",
        paper="Hatamizadeh et al., BrainLes 2021 (arXiv:2201.01266)",
        presets={
            "reference": {"channels": 48},
            "tiny": {"channels": 12, "blocks": (2, 1, 1, 1), "window_size": 4},
        },
        reference_parameters=62_187_296,
        reference_macs=318_524_732_736,
        reference_input={"spatial_dims": 3, "in_channels": 1, "out_channels": 14},
        reference_size=(96, 96, 96),
        published_parameters="62.2 M",
        difference=(
            "11,433,733,440 of the multiply-accumulates are products of queries, keys and values, "
            "which counters of layers leave out (307.1 G)."
        ),
        # MONAI's transformer unpacks sizes of 2D and 3D images in one function.
        scriptable=False,
    ),
)
