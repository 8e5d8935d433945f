"""The V-Net of MONAI, which is not the network its authors trained (that one is ``vnet``).

After Milletari, Navab, Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical
Image Segmentation", 3DV 2016, in the layout most PyTorch code shares: fewer convolutions, batch
normalisation, ELU and dropout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from volseg.errors import InputError, UnknownNameError
from volseg.networks.blocks import require_spatial_dims
from volseg.networks.contract import NetworkSpec, require_divisible_sides

_ACTIVATIONS = {
    "elu": ("elu", {"inplace": True}),
    "relu": ("relu", {"inplace": True}),
    "prelu": "prelu",  # MONAI gives it one slope a channel
}
# Convolutions a level: on the way down from full resolution, and up to it.
_DOWN = (1, 2, 3, 2)
_UP = (2, 2, 1, 1)


class MonaiVNet(nn.Module):
    """MONAI's V-Net from its own stages; sides must be multiples of ``2 ** levels``.

    MONAI's class has 16 feature maps at full resolution and drops half of the two shallowest skip
    features whatever its dropout options say; its stages leave both open. Its weights fit in their
    order.

    Args:
        spatial_dims: 3 or 2.
        in_channels: Image channels, at most ``channels``. The image, repeated, is added to the
            first feature maps; where the channels do not divide those evenly, empty channels fill
            the image up to a number that does (MONAI refuses such an image).
        out_channels: Classes, background included.
        channels: Feature maps at full resolution; they double from one level to the next.
        levels: Times the resolution is halved, 1 to 4 (MONAI's).
        activation: ``elu`` (MONAI's default), ``relu`` or ``prelu``.
        dropout: Probability of dropping whole feature maps, in the deeper half of the levels and
            on all skip connections.
        bias: Give the convolutions of encoder and head that stand before a normalisation a bias; in
            the decoder MONAI gives one to the transposed convolutions alone, whatever this is.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 16,
        levels: int = 4,
        activation: str = "elu",
        dropout: float = 0.5,
        bias: bool = False,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if in_channels > channels:
            raise InputError(
                f"monai_vnet adds the image to its first {channels} feature maps, which is too few "
                f"for {in_channels} image channels: set channels to at least {in_channels}."
            )
        if not 1 <= levels <= len(_DOWN):
            raise InputError(f"monai_vnet has 1 to {len(_DOWN)} levels, got levels={levels}.")
        if activation not in _ACTIVATIONS:
            raise UnknownNameError("activation of monai_vnet", activation, _ACTIVATIONS)
        self.divisor = 2**levels
        image_channels = next(n for n in range(in_channels, channels + 1) if channels % n == 0)
        self.filling = [0, 0] * spatial_dims + [0, image_channels - in_channels]

        from monai.networks.nets import vnet as parts  # noqa: PLC0415 - slow to import

        act = _ACTIVATIONS[activation]
        self.first = parts.InputTransition(spatial_dims, image_channels, channels, act, bias=bias)
        self.down = nn.ModuleList(
            parts.DownTransition(
                spatial_dims,
                channels * 2**level,
                convolutions,
                act,
                dropout_prob=dropout if level >= levels // 2 else None,
                dropout_dim=spatial_dims,
                bias=bias,
            )
            for level, convolutions in enumerate(_DOWN[:levels])
        )
        wide_in = channels * 2**levels
        self.up = nn.ModuleList()
        for level, convolutions in zip(range(levels)[::-1], _UP[-levels:], strict=True):
            wide_out = 2 * channels * 2**level
            self.up.append(
                parts.UpTransition(
                    spatial_dims,
                    wide_in,
                    wide_out,
                    convolutions,
                    act,
                    dropout_prob=(dropout if level >= levels // 2 else None, dropout),
                    dropout_dim=spatial_dims,
                )
            )
            wide_in = wide_out
        self.last = parts.OutputTransition(spatial_dims, wide_in, out_channels, act, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides("monai_vnet", x.shape[2:], self.divisor)
        if self.filling[-1] > 0:
            x = functional.pad(x, self.filling)
        skips: list[Tensor] = [self.first(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        features = skips[-1]
        for level, up in enumerate(self.up):
            features = up(features, skips[-2 - level])
        logits: Tensor = self.last(features)
        return logits


SPEC = NetworkSpec(
    name="monai_vnet",
    build=MonaiVNet,
    title="MONAI's V-Net, not the one its authors trained",
    paper="after Milletari, Navab, Ahmadi, 3DV 2016 (arXiv:1606.04797); layout of MONAI",
    presets={
        "reference": {"channels": 16, "dropout": 0.5},
        "tiny": {"channels": 8, "levels": 2, "dropout": 0.0},
    },
    reference_parameters=45_597_898,
    reference_macs=365_764_280_320,
    reference_input={"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    reference_size=(128, 128, 64),
    difference=(
        "Not the authors' V-Net (vnet, 61,982,682): one 256-channel convolution fewer in each of "
        "two stages, batch normalisation, ELU and dropout."
    ),
)
