"""What leaves torch computes what torch computes: ONNX and OpenVINO, in 2D and 3D.

A network is exported once (`torch.export`), and the program is converted as `volseg segment` has it
converted, both ways. OpenVINO runs both results: it reads ONNX too.
"""

from __future__ import annotations

import pytest
import torch

from tests.networks.sides import sides_of
from volseg.networks import build_network, list_networks, network_spec
from volseg.predictors import onnxruntime_backend, openvino_backend
from volseg.predictors.contract import TileShapes

# Of the largest difference to the standard deviation of the logits.
TOLERANCE = 1e-4

pytestmark = pytest.mark.filterwarnings(
    # torch's exporter calls torch's own deprecated functions.
    "ignore:.*isinstance.treespec, LeafSpec.. is deprecated:FutureWarning",
    # OpenVINO's frontend and its decoder import the deprecated TorchScript.
    "ignore:`torch.jit.*` is deprecated:DeprecationWarning",
)


@pytest.mark.parametrize("name", list_networks())
@pytest.mark.parametrize("dims", [2, 3])
def test_converted_networks_give_the_same_logits(name, dims, tmp_path):
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
    program = torch.export.export(network, (image,))
    shapes = TileShapes(tuple(image.shape[1:]), tuple(logits.shape[1:]))
    # By default OpenVINO may compute in half precision where the processor can.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    for backend in (openvino_backend, onnxruntime_backend):
        files = [tmp_path / file for file in backend.FILES]
        backend.convert(program, shapes)(files)
        compiled = openvino_backend.core().compile_model(str(files[0]), "CPU", exact)
        found = torch.from_numpy(compiled(image.numpy())[0])
        assert found.shape == logits.shape
        difference = float((found - logits).abs().max() / logits.std())
        assert difference < TOLERANCE, backend.TITLE
