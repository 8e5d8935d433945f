"""Tiled inference is the untiled computation wherever it can be."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer as MonaiInferer
from torch import nn

from volseg.errors import Cancelled, InputError, ShapeError
from volseg.inference import SlidingWindowInferer, Tiling, gaussian_weights


def pointwise(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x * 2 + 1, x.square()], dim=1)


def three_convolutions(dims: int) -> nn.Module:
    """Receptive-field radius 3."""
    torch.manual_seed(0)
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    return nn.Sequential(
        convolution(1, 4, 3, padding=1),
        nn.ReLU(),
        convolution(4, 4, 3, padding=1),
        nn.ReLU(),
        convolution(4, 2, 3, padding=1),
    ).eval()


@settings(deadline=None, max_examples=60)
@given(
    sides=st.lists(st.integers(1, 90), min_size=2, max_size=3),
    data=st.data(),
)
def test_tiles_cover_every_voxel_with_at_least_the_overlap_asked_for(sides, data):
    tile = [data.draw(st.integers(1, side)) for side in sides]
    overlap = [data.draw(st.floats(0, 0.9)) for _ in sides]
    tiling = Tiling.blended(tile, overlap=overlap)
    for axis, (side, size, share) in enumerate(zip(sides, tile, overlap, strict=True)):
        firsts = [one.start for one in tiling.along(axis, side)]
        assert firsts[0] == 0
        assert firsts[-1] == side - size
        steps = [b - a for a, b in itertools.pairwise(firsts)]
        # Rounding to voxels may move a tile by half a voxel on each side.
        assert all(step <= max(1, size * (1 - share)) + 1 for step in steps)


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
@pytest.mark.parametrize("sides", [(5, 5, 5), (5, 30, 30), (30, 5, 30), (16, 16, 16), (17, 40, 23)])
def test_blending_weights_sum_to_one_everywhere(sides, blending):
    x = torch.randn(1, 1, *sides)
    inferer = SlidingWindowInferer([16, 16, 16], overlap=0.4, blending=blending)
    torch.testing.assert_close(inferer(x, pointwise), pointwise(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dims", "sides"), [(2, (50, 37)), (3, (33, 20, 41))])
@pytest.mark.parametrize("tile_batch", [1, 4])
def test_tiled_equals_whole_where_the_margin_covers_the_receptive_field(dims, sides, tile_batch):
    network = three_convolutions(dims)
    x = torch.randn(2, 1, *sides)
    inferer = SlidingWindowInferer([16] * dims, overlap=0.25, margin=3, tile_batch=tile_batch)
    with torch.no_grad():
        whole, tiled = network(x), inferer(x, network)
        without = SlidingWindowInferer([16] * dims, overlap=0.25)(x, network)
    assert (tiled - whole).abs().max() < 1e-5
    # The margin is what makes it so: blending alone leaves what padding did to tile borders.
    assert (without - whole).abs().max() > 1e-3


def test_agrees_with_monai_where_the_tiles_are_the_same():
    network = three_convolutions(3)
    x = torch.randn(1, 1, 24, 24, 24)
    ours = SlidingWindowInferer([16, 16, 16], overlap=0.5, blending="constant")
    theirs = MonaiInferer([16, 16, 16], overlap=0.5, mode="constant")
    with torch.no_grad():
        torch.testing.assert_close(ours(x, network), theirs(x, network), atol=1e-5, rtol=0)


def test_a_volume_smaller_than_the_tile_is_centred_in_zeros():
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.clone())
        return x

    x = torch.rand(1, 1, 5, 6, 7) + 1
    result = SlidingWindowInferer([8, 8, 8])(x, network)
    torch.testing.assert_close(result, x, atol=1e-6, rtol=0)
    assert torch.equal(seen[0][:, :, 1:6, 1:7, 0:7], x)
    assert seen[0].count_nonzero() == x.numel()


def test_a_meta_tensor_keeps_its_affine():
    affine = torch.tensor([[0, -2.0, 0, 5], [1.5, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    x = MetaTensor(torch.rand(1, 1, 20, 20, 20), affine=affine)
    result = SlidingWindowInferer([16, 16, 16])(x, pointwise)
    assert isinstance(result, MetaTensor)
    assert torch.equal(result.affine, x.affine)


def test_progress_counts_every_tile_and_cancel_stops_at_once():
    x = torch.zeros(1, 1, 32, 32)
    steps = []
    inferer = SlidingWindowInferer([16, 16], overlap=0.5, tile_batch=2)
    inferer(x, pointwise, progress=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == [2, 4, 6, 8, 9]
    assert {total for _, total in steps} == {9}
    calls = []

    def counted(tiles: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return tiles

    with pytest.raises(Cancelled, match="4 of 9"):
        inferer(x, counted, cancelled=lambda: len(calls) >= 2)
    assert len(calls) == 2


def test_the_network_must_return_one_tensor_on_the_tile():
    x = torch.zeros(1, 1, 16, 16)
    inferer = SlidingWindowInferer([16, 16])
    with pytest.raises(ShapeError, match=r"list.*eval"):
        inferer(x, lambda tiles: [tiles])
    with pytest.raises(ShapeError, match="spatial size"):
        inferer(x, lambda tiles: tiles[:, :, ::2])
    with pytest.raises(ShapeError, match="axes"):
        inferer(x[0], pointwise)


@pytest.mark.parametrize(
    ("tile", "options", "word"),
    [
        ([16], {}, "2 or 3"),
        ([16, 16], {"overlap": 1.0}, "overlap"),
        ([16, 16], {"overlap": [0.5]}, "overlap"),
        ([16, 16], {"blending": "hann"}, "blending"),
        ([16, 16], {"tile_batch": 0}, "tile_batch"),
        ([16, 16], {"margin": 8}, "nothing of a tile"),
    ],
)
def test_options_out_of_range_are_refused(tile, options, word):
    with pytest.raises(InputError, match=word):
        SlidingWindowInferer(tile, **options)


def test_gaussian_weights_are_symmetric_and_never_zero():
    weights = gaussian_weights([9, 64, 200])
    assert (weights > 0).all()
    assert torch.equal(weights, weights.flip(0, 1, 2))
    assert weights[4, 32, 100] == weights.max()
