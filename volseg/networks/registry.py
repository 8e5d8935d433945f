"""The networks by name."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from volseg.errors import InputError, UnknownNameError
from volseg.networks import (
    bionet,
    bionetplus,
    bixnet,
    bixnet_supernet,
    dynunet,
    from_monai,
    mednext,
    monai_vnet,
    resencunet,
    resunet,
    stunet,
    unet,
    unet3d2016,
    unet3plus,
    unet2015,
    unetplusplus,
    vnet,
    wnet,
)
from volseg.networks.contract import NetworkSpec

_MODULES = (
    unet,
    unet2015,
    unet3d2016,
    resunet,
    resencunet,
    stunet,
    dynunet,
    mednext,
    vnet,
    monai_vnet,
    unetplusplus,
    unet3plus,
    bionet,
    bionetplus,
    bixnet,
    bixnet_supernet,
    wnet,
)
_SPECS: dict[str, NetworkSpec] = {
    spec.name: spec for spec in (*(module.SPEC for module in _MODULES), *from_monai.SPECS)
}


def list_networks() -> list[str]:
    """Return the names that `build_network` knows."""
    return sorted(_SPECS)


def network_spec(name: str) -> NetworkSpec:
    """Return the registry entry of a network.

    Raises:
        UnknownNameError: No network has this name; the message lists the nearest ones.
    """
    if name not in _SPECS:
        raise UnknownNameError("network", name, _SPECS)
    return _SPECS[name]


def build_network(
    name: str,
    *,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    preset: str | None = None,
    **options: Any,
) -> nn.Module:
    """Return a new network with random weights.

    Args:
        name: One of `list_networks`.
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        out_channels: Classes, background included; the network returns that many logits.
        preset: A named set of options; ``"reference"`` is the published configuration.
        **options: The network's own options; they win over the preset.

    Raises:
        UnknownNameError: Unknown network, preset or option.
        InputError: An option has a value the network cannot use.
    """
    spec = network_spec(name)
    if preset is not None and preset not in spec.presets:
        raise UnknownNameError(f"preset of {name}", preset, spec.presets)
    for label, value in (("in_channels", in_channels), ("out_channels", out_channels)):
        if value < 1:
            raise InputError(f"{label} of {name} must be at least 1, got {value}.")
    common = {"self", "spatial_dims", "in_channels", "out_channels"}
    known = set(inspect.signature(spec.build).parameters) - common
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of {name}", option, known)
    chosen = {**(spec.presets[preset] if preset else {}), **options}
    return spec.build(spatial_dims, in_channels, out_channels, **chosen)
