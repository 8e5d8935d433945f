"""The convolution unit the networks are built from, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from volseg.errors import InputError, UnknownNameError

CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
MAX_POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
INTERPOLATION = {2: "bilinear", 3: "trilinear"}

_DROPOUT: dict[int, type[nn.Module]] = {2: nn.Dropout2d, 3: nn.Dropout3d}
_BATCH_NORM: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORM: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

_NORMS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda _dims, _channels: nn.Identity(),
    "batch": lambda dims, channels: _BATCH_NORM[dims](channels),
    "instance": lambda dims, channels: _INSTANCE_NORM[dims](channels, affine=True),
    # Eight groups, or as many as the channels allow.
    "group": lambda _dims, channels: nn.GroupNorm(_groups(channels), channels),
}

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leakyrelu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "gelu": nn.GELU,
    "silu": lambda: nn.SiLU(inplace=True),
    "prelu": nn.PReLU,
}


def _groups(channels: int) -> int:
    return next(groups for groups in (8, 4, 2, 1) if channels % groups == 0)


def require_spatial_dims(spatial_dims: int) -> None:
    """Refuse anything but 2D and 3D.

    Raises:
        InputError: ``spatial_dims`` is neither 2 nor 3.
    """
    if spatial_dims not in CONVOLUTION:
        raise InputError(f"spatial_dims must be 2 or 3, got {spatial_dims!r}.")


def norm_layer(name: str, spatial_dims: int, channels: int) -> nn.Module:
    """Return the normalisation called ``name`` for ``channels`` feature maps.

    Raises:
        UnknownNameError: No such normalisation.
    """
    if name not in _NORMS:
        raise UnknownNameError("norm", name, _NORMS)
    return _NORMS[name](spatial_dims, channels)


def activation_layer(name: str) -> nn.Module:
    """Return a new activation module called ``name``.

    Raises:
        UnknownNameError: No such activation.
    """
    if name not in _ACTIVATIONS:
        raise UnknownNameError("activation", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]()


class ConvolutionUnit(nn.Module):
    """Convolution (padded, size kept), normalisation, activation, optional dropout."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        norm: str,
        activation: str | None,
        dropout: float = 0.0,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        # A bias before a normalisation is dead: the normalisation subtracts it again.
        self.convolution = CONVOLUTION[spatial_dims](
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=norm == "none"
        )
        self.norm = norm_layer(norm, spatial_dims, out_channels)
        self.activation = nn.Identity() if activation is None else activation_layer(activation)
        self.dropout = _DROPOUT[spatial_dims](dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``(batch, out_channels, ...)`` on the grid of ``x``."""
        features: Tensor = self.dropout(self.activation(self.norm(self.convolution(x))))
        return features


class ConvolutionBlock(nn.Module):
    """Convolution units in a row; with ``residual`` the input is added before the last activation.

    The residual input passes a 1x1 convolution where the number of channels changes.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        convolutions: int,
        norm: str,
        activation: str,
        dropout: float = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.residual = residual
        units: list[nn.Module] = []
        for index in range(convolutions):
            last = index == convolutions - 1
            units.append(
                ConvolutionUnit(
                    spatial_dims,
                    in_channels if index == 0 else out_channels,
                    out_channels,
                    norm=norm,
                    activation=None if last and residual else activation,
                    dropout=0.0 if last and residual else dropout,
                )
            )
        self.units = nn.Sequential(*units)
        self.shortcut: nn.Module = nn.Identity()
        self.activation: nn.Module = nn.Identity()
        if residual:
            self.activation = activation_layer(activation)
            if in_channels != out_channels:
                self.shortcut = ConvolutionUnit(
                    spatial_dims,
                    in_channels,
                    out_channels,
                    norm=norm,
                    activation=None,
                    kernel_size=1,
                )

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``(batch, out_channels, ...)`` on the grid of ``x``."""
        features: Tensor = self.units(x)
        if self.residual:
            features = self.activation(features + self.shortcut(x))
        return features


def initialise_he(module: nn.Module) -> None:
    """Draw convolution weights as He et al. 2015 (for ReLU-like activations), biases zero."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        with torch.no_grad():
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
