"""What leaves torch computes what torch computes: ONNX and OpenVINO, in 2D and 3D.

A network is exported once (`torch.export`), and the program is converted on both ways. OpenVINO
runs both results: it reads ONNX too.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest
import torch

from tests.networks.sides import sides_of
from volseg.networks import build_network, list_networks, network_spec
from volseg.predictors.openvino_backend import core, runtime

# Of the largest difference to the standard deviation of the logits.
TOLERANCE = 1e-4

every_network = pytest.mark.parametrize("name", list_networks())
every_dimension = pytest.mark.parametrize("dims", [2, 3])
pytestmark = pytest.mark.filterwarnings(
    # torch's exporter calls torch's own deprecated functions.
    "ignore:.*isinstance.treespec, LeafSpec.. is deprecated:FutureWarning",
    # OpenVINO's frontend and its decoder import the deprecated TorchScript.
    "ignore:`torch.jit.*` is deprecated:DeprecationWarning",
)


class Exported(NamedTuple):
    """A network in evaluation, an image, its logits and the program torch exports."""

    image: torch.Tensor
    logits: torch.Tensor
    program: torch.export.ExportedProgram


@cache
def exported(name: str, dims: int) -> Exported:
    torch.manual_seed(0)
    spec = network_spec(name)
    deep = {"deep_supervision": True} if spec.deep_supervision else {}
    network = build_network(
        name, spatial_dims=dims, in_channels=1, out_channels=2, preset="tiny", **deep
    ).eval()
    # As after training: running statistics that are not those of a new network.
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    image = torch.randn(1, 1, *sides_of(name, dims))
    with torch.no_grad():
        logits = network(image)
    return Exported(image, logits, torch.export.export(network, (image,)))


def difference(model, case: Exported) -> float:
    """The largest difference of the logits, in standard deviations of torch's."""
    # By default OpenVINO may compute in half precision where the processor can.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core().compile_model(model, "CPU", exact)
    found = torch.from_numpy(compiled(case.image.numpy())[0])
    assert found.shape == case.logits.shape
    return float((found - case.logits).abs().max() / case.logits.std())


@every_network
@every_dimension
def test_openvino_gives_the_same_logits(name, dims):
    case = exported(name, dims)
    assert difference(runtime().convert_model(case.program), case) < TOLERANCE


@every_network
@every_dimension
def test_onnx_gives_the_same_logits(name, dims, tmp_path):
    case = exported(name, dims)
    file = tmp_path / "network.onnx"
    torch.onnx.export(case.program, (case.image,), file, dynamo=True, verbose=False)
    assert difference(core().read_model(file), case) < TOLERANCE
