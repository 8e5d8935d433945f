"""Tiles that give what one run over the whole volume gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from volseg.errors import InputError
from volseg.inference import (
    ReceptiveField,
    SlidingWindowInferer,
    Tiling,
    measure_receptive_field,
    sliding_window,
    stream_logits,
)
from volseg.networks import build_network, list_networks, network_spec


def tiny(name: str, dims: int, **options: object) -> nn.Module:
    torch.manual_seed(0)
    network = build_network(
        name, spatial_dims=dims, in_channels=1, out_channels=2, preset="tiny", **options
    ).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            # Statistics as after training: shift and scale, the same wherever a tile lies.
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


def convolutions(*kernels: int) -> nn.Module:
    layers = [nn.Conv2d(1, 1, kernel, padding=kernel // 2) for kernel in kernels]
    return nn.Sequential(*layers).eval()


def evenly(side: int, stride: int, least: int) -> tuple[int, int]:
    whole = max(least, -(-side // stride) * stride)
    before = (whole - side) // 2
    return before, whole - side - before


def test_the_radius_of_convolutions_is_the_sum_of_theirs():
    field = measure_receptive_field(convolutions(3, 5, 7), channels=1, spatial_dims=2)
    assert field.radius == (6, 6)
    assert field.stride == (1, 1)


def test_each_axis_is_measured():
    network = nn.Sequential(
        nn.Conv3d(1, 2, (3, 5, 1), padding=(1, 2, 0)),
        nn.MaxPool3d((1, 2, 4)),
        nn.ReLU(),
        nn.Conv3d(2, 1, (3, 1, 1), padding=(1, 0, 0)),
        nn.Upsample(scale_factor=(1, 2, 4)),
    ).eval()
    field = measure_receptive_field(network, channels=1, spatial_dims=3)
    assert field.stride == (1, 2, 4)
    # Along the second axis 2 of the convolution and 1 of the other voxel in a pool; 3 in the last.
    assert field.radius == (2, 3, 3)


def test_the_radius_of_a_u_net_follows_its_levels():
    """Two convolutions a level and side: 2 (1 + ... + 2^(d-1)) down, 2^d · 2, the same up."""
    for levels, expected in ((2, 8 + 1), (3, 20 + 3)):
        network = tiny("unet", 2, channels=(2,) * levels, norm="batch")
        field = measure_receptive_field(network, channels=1, spatial_dims=2)
        assert field.stride == (2 ** (levels - 1),) * 2
        assert field.radius == (expected,) * 2


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_networks_that_normalise_over_the_tile_are_refused(norm):
    network = tiny("unet", 2, norm=norm)
    with pytest.raises(InputError, match="no tiling of it is exact"):
        measure_receptive_field(network, channels=1, spatial_dims=2)
    with pytest.raises(InputError, match="no tiling of it is exact"):
        SlidingWindowInferer([64, 64], exact=True)(torch.zeros(1, 1, 99, 99), network)


def test_networks_that_cannot_be_measured_are_refused():
    with pytest.raises(InputError, match="training mode"):
        measure_receptive_field(convolutions(3).train(), channels=1, spatial_dims=2)
    with pytest.raises(InputError, match="border"):
        measure_receptive_field(nn.Conv2d(1, 1, 3).eval(), channels=1, spatial_dims=2)
    with pytest.raises(InputError, match="does not depend"):
        measure_receptive_field(torch.ones_like, channels=1, spatial_dims=2)


def collected(volume: torch.Tensor, network: nn.Module, tiling: Tiling) -> torch.Tensor:
    slabs = stream_logits(volume[0], network, tiling, axis=0)
    return torch.cat([slab.logits.clone() for slab in slabs], 1)[None]


# Their upsampling aligns the corners of tiles.
PLACED = ("bionetplus", "bixnet", "bixnet_supernet")


@pytest.mark.parametrize("name", PLACED)
def test_networks_that_know_where_they_are_in_the_tile_are_refused(name):
    with pytest.raises(InputError, match="where in its tile"):
        measure_receptive_field(tiny(name, 2, norm="batch"), channels=1, spatial_dims=2)


# Every architecture of the registry that can do without statistics of the tile.
PADDED = [
    name
    for name in list_networks()
    if not network_spec(name).valid
    and name not in ("attentionunet", "mednext", "swinunetr", *PLACED)
]


@pytest.mark.parametrize("name", PADDED)
def test_exact_tiles_equal_the_whole(name):
    options = {} if name == "monai_vnet" else {"norm": "batch"}
    network = tiny(name, 2, **options)
    field = measure_receptive_field(network, channels=1, spatial_dims=2)
    stride = field.stride[0]
    tile = 2 * -(-field.radius[0] // stride) * stride + 4 * stride
    sides = (tile + 6 * stride + 3, tile + 5)
    volume = torch.randn(1, 1, *sides)
    (top, bottom), (left, right) = (evenly(side, stride, tile) for side in sides)
    with torch.no_grad():
        whole = network(functional.pad(volume, [left, right, top, bottom]))
    whole = whole[:, :, top : top + sides[0], left : left + sides[1]]
    tiling = Tiling.exact([tile, tile], context=field.radius, stride=stride)
    scale = whole.abs().max()
    assert (collected(volume, network, tiling) - whole).abs().max() < 1e-5 * scale
    # Not by chance: with a quarter of the context tiles differ.
    less = Tiling.exact([tile, tile], context=field.radius[0] // 4, stride=stride)
    assert (collected(volume, network, less) - whole).abs().max() > 1e-5 * scale


def test_the_inferer_measures_what_exact_tiles_need():
    network = tiny("unet", 2, channels=(3, 4, 5), norm="batch")
    inferer = SlidingWindowInferer([64, 64], exact=True)
    volume = torch.randn(1, 1, 150, 64)
    top, bottom = evenly(150, 4, 64)
    with torch.no_grad():
        whole = network(functional.pad(volume, [0, 0, top, bottom]))[:, :, top : top + 150]
    assert (inferer(volume, network) - whole).abs().max() < 1e-5 * whole.abs().max()
    assert inferer.tiling(network, 1) == Tiling.exact([64, 64], context=23, stride=4)


def test_a_network_is_measured_where_it_is(monkeypatch):
    """No GPU is needed to see where it would be measured."""
    asked = []

    def measured(*_, device="cpu", **__):
        asked.append(device)
        return ReceptiveField((9, 9), (2, 2))

    monkeypatch.setattr(sliding_window, "measure_receptive_field", measured)
    inferer = SlidingWindowInferer([64, 64], exact=True)
    for network in (tiny("unet", 2), tiny("unet", 2).to("meta"), lambda image: image):
        assert inferer.tiling(network, 1) == Tiling.exact([64, 64], context=9, stride=2)
    assert [torch.device(device).type for device in asked] == ["cpu", "meta", "cpu"]


def test_exact_tiles_equal_the_whole_in_3d():
    network = tiny("unet", 3, channels=(3, 4), norm="batch")
    volume = torch.randn(1, 1, 45, 30, 37)
    paddings = [evenly(side, 2, 32) for side in volume.shape[2:]]
    with torch.no_grad():
        whole = network(functional.pad(volume, [p for pair in paddings[::-1] for p in pair]))
    inner = tuple(slice(b, b + s) for (b, _), s in zip(paddings, volume.shape[2:], strict=True))
    whole = whole[(..., *inner)]
    inferer = SlidingWindowInferer([32, 32, 32], exact=True, margin=9, stride=2, tile_batch=2)
    tiled = inferer(volume, network)
    assert (tiled - whole).abs().max() < 1e-5 * whole.abs().max()


def test_the_network_of_2015_segments_a_large_image_by_mirrored_tiles_that_abut():
    network = tiny("unet2015", 2, norm="none")
    border, tile = network.border, 92
    image = torch.randn(1, 1, 131, 117)
    found = SlidingWindowInferer([tile, tile], border=border)(image, network)
    size = tile - 2 * border
    # By hand, from the mirrored image: each part of the result is one tile's alone.
    counts = [-(-side // size) for side in image.shape[2:]]
    pads = [(n * size - side) // 2 for n, side in zip(counts, image.shape[2:], strict=True)]
    ends = [
        n * size - side - pad for n, side, pad in zip(counts, image.shape[2:], pads, strict=True)
    ]
    mirrored = functional.pad(
        image,
        [pads[1] + border, ends[1] + border, pads[0] + border, ends[0] + border],
        mode="reflect",
    )
    rows = []
    for i in range(counts[0]):
        parts = [
            network(mirrored[..., i * size : i * size + tile, j * size : j * size + tile])
            for j in range(counts[1])
        ]
        rows.append(torch.cat(parts, -1))
    expected = torch.cat(rows, -2)[..., pads[0] : pads[0] + 131, pads[1] : pads[1] + 117]
    torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=0)


def test_a_valid_network_on_the_lattice_of_its_stride_equals_the_whole():
    network = tiny("unet2015", 2, norm="none")
    border, stride, tile = network.border, 4, 60
    image = torch.randn(1, 1, 101, 60)
    found = SlidingWindowInferer([tile, tile], border=border, exact=True, stride=stride)(
        image, network
    )
    size = tile - 2 * border
    pads = []
    for side in image.shape[2:]:
        whole = size + max(0, -(-(side - size) // stride)) * stride
        before = (whole - side) // 2
        pads.append((before + border, whole - side - before + border))
    with torch.no_grad():
        whole = network(functional.pad(image, [*pads[1], *pads[0]], mode="reflect"))
    top, left = (pad[0] - border for pad in pads)
    whole = whole[..., top : top + 101, left : left + 60]
    assert (found - whole).abs().max() < 1e-5 * whole.abs().max()


def test_a_network_with_a_border_says_what_is_missing():
    network = tiny("unet2015", 2, norm="none")
    with pytest.raises(Exception, match="border"):
        SlidingWindowInferer([92, 92])(torch.zeros(1, 1, 100, 100), network)
    with pytest.raises(InputError, match="total stride"):
        SlidingWindowInferer([92, 92], border=20, exact=True)
    with pytest.raises(InputError, match="stride belongs"):
        SlidingWindowInferer([92, 92], stride=4)
