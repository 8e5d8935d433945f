"""The shares of all tiles add up to one for every voxel, however the volume is cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.errors import InputError
from volseg.inference import Tiling


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    dims = draw(st.integers(2, 3))
    kind = draw(st.sampled_from(["blended", "valid", "exact"]))
    if kind == "blended":
        margin = draw(st.integers(0, 3))
        tile = [draw(st.integers(2 * margin + 1, 24)) for _ in range(dims)]
        blending = draw(st.sampled_from(["gaussian", "constant"]))
        overlap = draw(st.floats(0, 0.9))
        return Tiling.blended(tile, overlap=overlap, blending=blending, margin=margin)
    if kind == "valid":
        border = draw(st.integers(1, 5))
        return Tiling.valid(
            [draw(st.integers(2 * border + 1, 24)) for _ in range(dims)], border=border
        )
    stride, context = draw(st.integers(1, 4)), draw(st.integers(0, 5))
    least = -(-2 * context // stride) + 1
    tile = [stride * draw(st.integers(least, least + 4)) for _ in range(dims)]
    return Tiling.exact(tile, context=context, stride=stride)


@settings(deadline=None, max_examples=150)
@given(tiling=tilings(), data=st.data())
def test_the_shares_of_a_voxel_add_up_to_one(tiling, data):
    for axis in range(tiling.spatial_dims):
        side = data.draw(st.integers(1, 70))
        total = torch.zeros(side)
        tiles = tiling.along(axis, side)
        for tile in tiles:
            assert 0 <= tile.first < tile.stop <= side
            assert tile.offset >= 0
            assert tile.offset + len(tile.weights) <= tiling.result[axis]
            # The result begins a border behind the first input voxel.
            assert tile.start + tiling.border[axis] + tile.offset == tile.first
            total[tile.first : tile.stop] += tile.weights
        torch.testing.assert_close(total, torch.ones(side), atol=1e-6, rtol=0)
        # Rows in order: what lies before a tile is finished when it comes.
        assert [t.first for t in tiles] == sorted(t.first for t in tiles)
        assert [t.stop for t in tiles] == sorted(t.stop for t in tiles)


@settings(deadline=None, max_examples=60)
@given(
    stride=st.integers(1, 8),
    steps=st.integers(3, 9),
    context=st.integers(0, 7),
    side=st.integers(1, 150),
)
def test_exact_tiles_start_on_the_stride_and_keep_the_context(stride, steps, context, side):
    size = stride * (steps + 2 * context)
    tiles = Tiling.exact([size, size], context=context, stride=stride).along(0, side)
    padding = -tiles[0].start
    assert all((tile.start + padding) % stride == 0 for tile in tiles)
    # The volume is padded to whole strides, evenly.
    end = tiles[-1].start + size - side
    assert (padding + side + end) % stride == 0
    assert 0 <= end - padding <= 1
    for tile in tiles:
        if tile is not tiles[0]:
            assert tile.first - tile.start >= context
        if tile is not tiles[-1]:
            assert tile.start + size - tile.stop >= context


def test_results_of_valid_networks_abut():
    tiling = Tiling.valid([572, 572], border=92)
    tiles = tiling.along(0, 1000)
    assert [tile.first for tile in tiles[1:]] == [tile.stop for tile in tiles[:-1]]
    assert all(torch.equal(tile.weights, torch.ones(len(tile.weights))) for tile in tiles)
    assert tiling.result == (388, 388)


def test_the_axis_that_needs_least_memory_is_streamed():
    tiling = Tiling.blended([32, 32, 32])
    assert tiling.streaming_axis((64, 300, 100)) == 1
    # A shallow tile along a short side may need less than a deep one along a long side.
    assert Tiling.blended([64, 64, 4]).streaming_axis((256, 256, 100)) == 2
    assert tiling.live_depth(1, 300) == 32
    assert tiling.live_depth(1, 20) == 20


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Tiling.valid([16, 16], border=8), "nothing of a tile"),
        (lambda: Tiling.exact([20, 20], stride=8), "multiples of the network's stride"),
        (lambda: Tiling.exact([32, 32], context=13, stride=8), "nothing of a tile"),
        (lambda: Tiling.blended([16, 16], margin=-1), "from 0 up"),
        (lambda: Tiling.exact([16, 16], stride=0), "from 1 up"),
        (lambda: Tiling.valid([16, 16], border=[1, 2, 3]), "2 numbers"),
    ],
)
def test_tilings_that_cannot_be_are_refused(make, word):
    with pytest.raises(InputError, match=word):
        make()
