"""The network as it is trained: where, in which order of memory, and by which means."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock
from torch import nn

from volseg.networks.blocks import ConvolutionUnit
from volseg.training.channels_last import CHANNELS_LAST
from volseg.training.fast_convolution import FastConvolution
from volseg.training.fast_layers import FastInstanceNorm, PointwiseConvolution
from volseg.training.recomputing import recompute_levels

_log = logging.getLogger(__name__)

# oneDNN, which torch convolves with on a CPU, computes 16 channels at once.
_FEW_CHANNELS = 16


def network_to_train(
    network: nn.Module,
    *,
    device: str | torch.device = "cpu",
    recompute: bool = False,
    compile: bool = False,
) -> nn.Module:
    """Return a network, changed in place, that computes the same and trains faster.

    Its weights lie channels last. On a CPU, some layers are replaced by faster ones
    (`volseg.training.fast_layers`, `volseg.training.fast_convolution`), under the same names: its
    state is that of the network.

    Args:
        network: The network.
        device: Where it is trained.
        recompute: Forget activations inside of the levels and compute them again on the way
            back: less memory for more time (`recompute_levels`).
        compile: Compile it with torch at the first step, which takes minutes on a CPU. Where there
            is nothing to compile with it is trained as it is, which is logged.
    """
    device = torch.device(device)
    lacking = missing_compiler(device) if compile else None
    if lacking is not None:
        _log.warning("the network is trained without torch.compile: %s.", lacking)
    compiled = compile and lacking is None
    network = network.to(device)
    for parameter in network.parameters():
        if parameter.ndim in CHANNELS_LAST:
            parameter.data = parameter.data.contiguous(memory_format=CHANNELS_LAST[parameter.ndim])
    if device.type == "cpu" and not compiled:
        use_fast_layers(network)
    if recompute:
        recompute_levels(network)
    if compiled:
        network.compile()
    return network


def missing_compiler(device: torch.device) -> str | None:
    """Return what ``torch.compile`` lacks on this machine, in words; None if it lacks nothing."""
    if device.type == "cpu":
        names = [os.environ.get("CXX", "g++"), "clang++", "cl"]
        if any(shutil.which(name) for name in names):
            return None
        return f"there is no C++ compiler ({', '.join(names)}); install one, or set CXX"
    if importlib.util.find_spec("triton") is None:
        return "there is no package 'triton'; install it with: pip install triton"
    return None


def use_fast_layers(network: nn.Module) -> None:
    """Replace the layers of a network that there are faster ones for."""
    for module in list(network.modules()):
        if isinstance(module, ConvolutionUnit):
            _fuse(module, ("norm",), "activation")
        elif type(module) is UnetBasicBlock:
            _fuse(module, ("norm1", "norm2"), "lrelu")
        for name, child in list(module.named_children()):
            if _is_instance_norm(child):
                setattr(module, name, FastInstanceNorm(child))
            elif _is_pointwise(child):
                setattr(module, name, PointwiseConvolution(child))
            elif FastConvolution.is_made_for(child):
                setattr(module, name, FastConvolution(child))


def _fuse(module: nn.Module, norms: tuple[str, ...], activation: str) -> None:
    """Replace normalisations whose results all go through one rectified linear activation."""
    following = getattr(module, activation)
    if isinstance(following, nn.LeakyReLU):
        slope = following.negative_slope
    elif isinstance(following, nn.ReLU):
        slope = 0.0
    else:
        return
    if not all(_is_instance_norm(getattr(module, name)) for name in norms):
        return
    for name in norms:
        setattr(module, name, FastInstanceNorm(getattr(module, name), slope))
    setattr(module, activation, nn.Identity())


def _is_instance_norm(layer: nn.Module) -> bool:
    if not isinstance(layer, (nn.InstanceNorm2d, nn.InstanceNorm3d)):
        return False
    return not layer.track_running_stats


def _is_pointwise(layer: nn.Module) -> bool:
    if not isinstance(layer, (nn.Conv2d, nn.Conv3d)):
        return False
    one_voxel = {*layer.kernel_size, *layer.stride, layer.groups} == {1}
    return one_voxel and set(layer.padding) == {0} and layer.out_channels < _FEW_CHANNELS
