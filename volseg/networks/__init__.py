"""Networks: plain torch modules behind one contract and one registry.

Every network returns logits ``(batch, out_channels, ...)`` on the grid of its input (of its
middle, with valid convolutions); with deep supervision it returns a list in training (full
resolution first) and one tensor in evaluation.
"""

from volseg.networks.contract import NetworkSpec, require_divisible_sides
from volseg.networks.counting import count_multiply_accumulates, count_parameters
from volseg.networks.ensemble import NetworkEnsemble, ProbabilityMean
from volseg.networks.registry import build_network, list_networks, network_spec
from volseg.networks.unet import UNet
from volseg.networks.weights import load_weights, read_weights, save_tensors, save_weights

__all__ = [
    "NetworkEnsemble",
    "NetworkSpec",
    "ProbabilityMean",
    "UNet",
    "build_network",
    "count_multiply_accumulates",
    "count_parameters",
    "list_networks",
    "load_weights",
    "network_spec",
    "read_weights",
    "require_divisible_sides",
    "save_tensors",
    "save_weights",
]
