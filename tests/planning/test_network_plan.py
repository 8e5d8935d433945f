"""Planned networks are nnU-Net's: the same patch, batch, levels, widths and grid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from volseg.errors import InputError, MemoryLimitError, UnknownNameError
from volseg.networks import build_network
from volseg.planning import find_preset, median_shape, plan_network, plan_topology, target_spacing
from volseg.planning.network_plan import convolution_values

GOLDEN = json.loads((Path(__file__).parent / "nnunet_plans.json").read_text())
PLANS = [
    pytest.param(dataset, preset, id=f"{dataset['name']}-{preset}")
    for dataset in GOLDEN["datasets"]
    for preset in dataset["plans"]
]


def all_cases(dataset, name):
    values = dataset[name]
    return values if len(values) > 1 else values * dataset["cases"]


@pytest.mark.parametrize(("dataset", "preset"), PLANS)
def test_plans_are_those_of_nnunet(dataset, preset):
    expected = dataset["plans"][preset]
    spacings, shapes = all_cases(dataset, "spacings"), all_cases(dataset, "shapes")
    spacing = target_spacing(spacings, shapes)
    image = median_shape(spacings, shapes, spacing)
    if len(spacing) == 3:  # nnU-Net gives pictures a third axis
        assert spacing == pytest.approx(expected["spacing"], abs=1e-4)
        assert list(image) == expected["median_shape"]
    chosen = find_preset(preset)
    plan = plan_network(
        spacing,
        image,
        chosen,
        gigabytes=chosen.gigabytes,
        classes=dataset["classes"],
        cases=dataset["cases"],
    )
    topology = plan.topology
    assert list(topology.patch) == expected["patch"]
    assert plan.batch == expected["batch"]
    assert [list(step) for step in topology.strides] == expected["strides"]
    assert [list(kernel) for kernel in topology.kernels] == expected["kernels"]
    assert list(plan.widths) == expected["widths"]


def test_slices_far_apart_are_halved_and_crossed_late():
    topology = plan_topology((0.5, 0.5, 4.0), (128, 128, 20))
    # Their voxels are 0.5, 1, 2 and 4 mm long in the plane of the first four levels.
    assert topology.strides[1:5] == ((2, 2, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert topology.kernels[:4] == ((3, 3, 1), (3, 3, 1), (3, 3, 1), (3, 3, 3))
    assert topology.patch == (128, 128, 20)
    assert topology.total_stride == (32, 32, 4)


def test_a_patch_is_rounded_up_to_the_strides():
    topology = plan_topology((1, 1, 1), (35.5, 50, 33))
    assert topology.patch == (40, 56, 40)
    assert topology.total_stride == (8, 8, 8)


def test_thin_volumes_have_few_levels():
    topology = plan_topology((1, 1, 1), (7, 7, 7))
    assert topology.strides == ((1, 1, 1),)


@pytest.mark.parametrize("preset", ["plain", "M"])
def test_the_size_of_a_network_is_that_of_its_convolutions(preset):
    topology, chosen = plan_topology((1.0, 1.0, 3.0), (48, 32, 8)), find_preset(preset)
    widths = (8, 16, 32, 64)[: len(topology.strides)]
    with torch.device("meta"):
        network = build_network(
            chosen.network,
            spatial_dims=3,
            in_channels=2,
            out_channels=3,
            channels=widths,
            strides=topology.strides,
            kernel_sizes=topology.kernels,
            **({"blocks": chosen.blocks[: len(widths)]} if chosen.blocks else {}),
        )
        sizes = []
        for module in network.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                module.register_forward_hook(lambda _m, _i, result: sizes.append(result.numel()))
        network.eval()(torch.empty(1, 2, *topology.patch))
    assert convolution_values(topology, widths, chosen, 3) == sum(sizes)


def network(gigabytes):
    return plan_network(
        (1, 1, 1),
        (200, 200, 200),
        find_preset("plain"),
        gigabytes=gigabytes,
        classes=2,
        cases=50,
    )


def test_less_memory_makes_the_patch_smaller():
    patches = [network(gigabytes).topology.patch for gigabytes in (8, 4, 1)]
    assert patches[0] > patches[1] > patches[2]
    with pytest.raises(MemoryLimitError, match="no network of 3 levels fits"):
        network(1e-6)


def test_an_axis_of_one_voxel_stays_one():
    assert median_shape([(1, 1, 1)], [(200, 200, 1)], (3, 3, 3)) == (67, 67, 1)
    for spacing, shape in (((1, 1, 1), (512, 512, 1)), ((1, 1, 300), (512, 512, 3))):
        for gigabytes in (8, 0.5, 0.1):
            plan = plan_network(
                spacing, shape, find_preset("plain"), gigabytes=gigabytes, classes=2, cases=50
            )
            assert min(plan.topology.patch) >= 1


def test_pictures_that_are_too_small_are_not_sent_to_another_grid():
    with pytest.raises(InputError, match="is 7 x 7 pixels; enlarge them"):
        plan_network((1, 1), (7, 7), find_preset("M"), gigabytes=8, classes=2, cases=9)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(InputError, match="the median one is 7 x 7 x 7 on a grid of 1 x 1 x 1 mm"):
        plan_network((1, 1, 1), (7, 7, 7), find_preset("M"), gigabytes=8, classes=2, cases=9)


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="known: L, M, XL, plain"):
        find_preset("XXL")
